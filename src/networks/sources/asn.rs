//! ASN tables: which autonomous system announces an address, and who owns it.
//!
//! Several tables (one for each family, say) are taken as one. What they hold may overlap; the narrower
//! range then speaks.

mod csv_table;
mod mmdb_table;

use super::SourceFile;
use crate::error::{Error, Result};
use crate::networks::ranges::{Range, disjoint};
use crate::networks::report::AsnReport;
use std::collections::HashMap;

/// Complete tables have 400,000 rows for IPv4 alone.
const FEWEST_ROWS: u64 = 10_000;
/// Owners' names come from registries, where anybody writes; they are for people to read.
const LONGEST_NAME: usize = 120;

/// All tables as one.
pub(crate) struct AsnTable {
    /// Disjoint and sorted; the value leads to [`AsnTable::owner`].
    pub(crate) ranges: Vec<Range<OwnerId>>,
    pub(crate) overlaps: u64,
    pub(crate) reports: Vec<AsnReport>,
    pub(crate) warnings: Vec<String>,
    owners: Owners,
}

/// Place of an owner in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OwnerId(u32);

impl AsnTable {
    /// Number and name. An owner without a name has an empty one.
    pub(crate) fn owner(&self, id: OwnerId) -> (u32, &str) {
        self.owners.list.get(id.0 as usize).map_or((0, ""), |(asn, name)| (*asn, name))
    }

    /// The number of every owner; more than once where it has several names.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.owners.list.iter().map(|(asn, _)| *asn)
    }
}

/// Reads and judges all tables. No table at all is accepted, with a warning.
pub(crate) fn read(sources: &[SourceFile], allow_small: bool) -> Result<AsnTable> {
    let (mut rows, mut owners) = (Vec::new(), Owners::default());
    let mut reports = Vec::new();
    for source in sources {
        let report = if source.is_text() {
            csv_table::read(source, &mut rows, &mut owners)?
        } else {
            mmdb_table::read(source, &mut rows, &mut owners)?
        };
        if report.rows == 0 {
            return Err(
                source.refused("has not one row with a range of addresses and the number of a system")
            );
        }
        reports.push(report);
    }
    let taken: u64 = reports.iter().map(|report| report.rows).sum();
    if !sources.is_empty() && !allow_small && taken < FEWEST_ROWS {
        return Err(Error::Data(format!(
            "The ASN tables are too small for the whole internet ({taken} rows, not {FEWEST_ROWS}): give --allow-small if they are meant to be."
        )));
    }
    let (ranges, overlaps) = disjoint(rows);
    let warnings = warnings(&reports);
    Ok(AsnTable { ranges, overlaps, reports, warnings, owners })
}

fn warnings(reports: &[AsnReport]) -> Vec<String> {
    if reports.is_empty() {
        return vec!["No ASN table was given: networks have neither number nor name.".to_owned()];
    }
    let bad = reports.iter().filter(|report| report.bad_rows > 0);
    bad.map(|report| {
        let (file, count) = (&report.file, report.bad_rows);
        let line = report.first_bad_line.map_or(String::new(), |line| format!(", the first in line {line}"));
        format!("{file} has {count} rows that could not be understood{line}; they were left out.")
    })
    .collect()
}

/// Owners, each kept once.
#[derive(Default)]
struct Owners {
    list: Vec<(u32, Box<str>)>,
    /// A system has mostly one name, seldom a few.
    by_number: HashMap<u32, Vec<OwnerId>>,
}

impl Owners {
    fn id_of(&mut self, asn: u32, name: &str) -> OwnerId {
        let name = readable_name(name);
        let known = self.by_number.entry(asn).or_default();
        let same = |id: &&OwnerId| self.list.get(id.0 as usize).is_some_and(|(_, kept)| **kept == *name);
        if let Some(id) = known.iter().find(same) {
            return *id;
        }
        // A table would need four thousand million distinct owners to overflow this; the size limit forbids it.
        let id = OwnerId(u32::try_from(self.list.len()).unwrap_or(u32::MAX));
        self.list.push((asn, name.into()));
        known.push(id);
        id
    }
}

fn readable_name(name: &str) -> String {
    name.trim().chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect()
}
