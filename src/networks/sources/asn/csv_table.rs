//! The table as CSV: first address, last address, number, name, as ip-location-db publishes it. Addresses
//! may also be written as decimal numbers (its `-num` files). Quoting follows RFC 4180.

use super::{OwnerId, Owners};
use crate::error::{Error, Result};
use crate::networks::ranges::{IPV6_BEGINS, Range, key_of};
use crate::networks::report::AsnReport;
use crate::networks::sources::SourceFile;
use csv::{ByteRecord, ReaderBuilder};
use std::io::BufReader;
use std::net::IpAddr;

/// Appends the rows of one table. Refuses a table of which more than one row in a hundred is bad.
pub(super) fn read(
    source: &SourceFile,
    rows: &mut Vec<Range<OwnerId>>,
    owners: &mut Owners,
) -> Result<AsnReport> {
    let file = BufReader::with_capacity(1 << 16, source.rewound()?);
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).comment(Some(b'#')).from_reader(file);
    let mut report = AsnReport::blank(source.shown(), "csv");
    let mut record = ByteRecord::new();
    let mut is_first = true;
    while reader.read_byte_record(&mut record).map_err(|e| Error::file("read", &source.path)(e.into()))? {
        let line = record.position().map_or(0, csv::Position::line);
        // A quotation mark that is never closed would swallow the rest of the table as one name.
        if record.iter().any(|field| field.contains(&b'\n')) {
            return Err(
                source.refused(&format!("has a quotation mark in line {line} that is not closed there"))
            );
        }
        match row(&record) {
            Some((_, _, 0)) => report.rows_without_number += 1,
            Some((first, last, asn)) => {
                let name = String::from_utf8_lossy(record.get(3).unwrap_or_default());
                rows.push(Range { first, last, value: owners.id_of(asn, &name) });
                report.rows += 1;
            }
            None if is_first => {} // the names of the columns
            None => {
                report.bad_rows += 1;
                report.first_bad_line.get_or_insert(line);
            }
        }
        is_first = false;
    }
    check(source, &report)?;
    Ok(report)
}

fn check(source: &SourceFile, report: &AsnReport) -> Result<()> {
    let all = report.rows + report.rows_without_number + report.bad_rows;
    if report.rows > 0 && report.bad_rows * 100 > all {
        let (bad, line) = (report.bad_rows, report.first_bad_line.unwrap_or_default());
        return Err(source.refused(&format!(
            "has {bad} rows of {all} that could not be understood, the first in line {line}: it is not a table of first address, last address, number, name"
        )));
    }
    Ok(())
}

/// First key, last key and number. None for a row that makes no sense, as one that begins in one family and
/// ends in the other.
fn row(record: &ByteRecord) -> Option<(u128, u128, u32)> {
    let text = |column| std::str::from_utf8(record.get(column)?).ok().map(str::trim);
    let (first, last) = (key(text(0)?)?, key(text(1)?)?);
    let asn = text(2)?;
    let asn = asn.strip_prefix("AS").unwrap_or(asn).parse().ok()?;
    let one_family = (first < IPV6_BEGINS) == (last < IPV6_BEGINS);
    (first <= last && one_family).then_some((first, last, asn))
}

fn key(text: &str) -> Option<u128> {
    match text.parse::<IpAddr>() {
        Ok(ip) => key_of(ip.to_canonical()),
        Err(_) => text.parse().ok(),
    }
}
