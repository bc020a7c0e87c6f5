//! The table as MMDB, for one family or both.

use super::{OwnerId, Owners};
use crate::error::Result;
use crate::networks::ranges::Range;
use crate::networks::report::AsnReport;
use crate::networks::sources::SourceFile;
use crate::networks::sources::mmdb::{Found, Mmdb, at_path};
use maxminddb::MaxMindDbError;
use serde::Deserialize;

/// Where publishers put the number, and where the name. MaxMind, DB-IP and ip-location-db use the long words;
/// IPinfo the short ones, with the number as text (`AS64500`).
const SHAPES: [(&str, &[&str]); 2] =
    [("autonomous_system_number", &["autonomous_system_organization"]), ("asn", &["as_name", "name"])];

/// A number as publishers write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number<'a> {
    Plain(u32),
    Text(&'a str),
}

impl Number<'_> {
    fn value(&self) -> Option<u32> {
        match self {
            Number::Plain(number) => Some(*number),
            Number::Text(text) => text.strip_prefix("AS").unwrap_or(text).parse().ok(),
        }
    }
}

/// Appends the networks of one table.
pub(super) fn read(
    source: &SourceFile,
    rows: &mut Vec<Range<OwnerId>>,
    owners: &mut Owners,
) -> Result<AsnReport> {
    let mmdb = Mmdb::read(source)?;
    let mut report = AsnReport::blank(source.shown(), SHAPES[0].0);
    let mut shape = SHAPES[0].0;
    let read = |found: &Found| {
        let Some((seen, asn, name)) = owner_in(found)? else { return Ok(None) };
        shape = seen;
        Ok(Some(owners.id_of(asn, name)))
    };
    mmdb.for_each(read, |network| match network.value {
        Some(value) => {
            report.rows += 1;
            rows.push(Range { first: network.first, last: network.last, value });
        }
        None => report.rows_without_number += 1,
    })?;
    report.shape = shape;
    Ok(report)
}

/// Where the number stood, the number, the name.
fn owner_in<'r>(
    found: &Found<'r>,
) -> std::result::Result<Option<(&'static str, u32, &'r str)>, MaxMindDbError> {
    for (number_key, name_keys) in SHAPES {
        let number = at_path::<Number>(found, &[number_key])?.and_then(|number| number.value());
        let Some(asn) = number.filter(|asn| *asn != 0) else { continue };
        for name_key in name_keys {
            if let Some(name) = at_path(found, &[name_key])? {
                return Ok(Some((number_key, asn, name)));
            }
        }
        return Ok(Some((number_key, asn, "")));
    }
    Ok(None)
}
