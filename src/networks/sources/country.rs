//! The country source: an MMDB that gives a country code for addresses of both families.

use super::SourceFile;
use super::mmdb::{Found, Mmdb, at_path};
use crate::address::{Address, AddressClass};
use crate::clock::{Seconds, readable};
use crate::country::Country;
use crate::error::Result;
use crate::networks::ranges::{IPV6_BEGINS, Range, push_joined, value_at};
use crate::networks::report::CountryReport;
use maxminddb::MaxMindDbError;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// Where publishers put the code, in the order in which it is looked for. MaxMind and DB-IP nest it; where
/// an address is used in no known country MaxMind still says where it is registered. ip-location-db has one
/// flat key.
const SHAPES: [(&str, &[&str]); 3] = [
    ("country.iso_code", &["country", "iso_code"]),
    ("registered_country.iso_code", &["registered_country", "iso_code"]),
    ("country_code", &["country_code"]),
];

/// Complete sources have over a million nodes; one below this is a sample or a mistake.
const FEWEST_NODES: u32 = 100_000;
/// The complete sources that were tried have an answer for 84 to 99 % of the public unicast addresses.
const LOWEST_COVERAGE_PERCENT: f64 = 60.0;
/// Clocks differ; more than this is no difference of clocks.
const FURTHEST_FUTURE: Seconds = 7 * 86_400;

/// A country source that passed its checks.
pub(crate) struct Countries {
    pub(crate) ranges: Vec<Range<Country>>,
    pub(crate) report: CountryReport,
    pub(crate) warnings: Vec<String>,
}

/// Reads and judges the source. Refuses, each with its own sentence, what is no MMDB, cut off, damaged, for
/// one family only, without codes, dated in the future or too small for the internet.
pub(crate) fn read(source: &SourceFile, allow_small: bool, now: Seconds) -> Result<Countries> {
    let mmdb = Mmdb::read(source)?;
    check_metadata(source, &mmdb, allow_small, now)?;
    let mut report = blank_report(source, &mmdb);
    let ranges = read_ranges(&mmdb, &mut report)?;
    check_families(source, &ranges, allow_small)?;
    report.coverage_percent = coverage_percent(&ranges);
    if !allow_small && report.coverage_percent < LOWEST_COVERAGE_PERCENT {
        let share = report.coverage_percent;
        let why = format!("knows a country for only {share:.1} % of the public IPv4 addresses, not for 60 %");
        return Err(source.refused(&why));
    }
    let warnings = warnings(source, &ranges, now, &report);
    Ok(Countries { ranges, report, warnings })
}

fn check_metadata(source: &SourceFile, mmdb: &Mmdb, allow_small: bool, now: Seconds) -> Result<()> {
    let metadata = mmdb.reader.metadata();
    if metadata.ip_version == 4 {
        return Err(source.refused("covers IPv4 only: take the file for both families"));
    }
    if !allow_small && metadata.node_count < FEWEST_NODES {
        let nodes = metadata.node_count;
        return Err(source.refused(&format!(
            "is too small for the whole internet ({nodes} nodes, not {FEWEST_NODES}): give --allow-small if it is meant to be"
        )));
    }
    let built_at = built_at(mmdb);
    if built_at > now.saturating_add(FURTHEST_FUTURE) {
        let (built_at, now) = (readable(built_at), readable(now));
        return Err(
            source.refused(&format!("says it was built on {built_at}, but now is {now}: check the clock"))
        );
    }
    Ok(())
}

fn built_at(mmdb: &Mmdb) -> Seconds {
    Seconds::try_from(mmdb.reader.metadata().build_epoch).unwrap_or(Seconds::MAX)
}

fn blank_report(source: &SourceFile, mmdb: &Mmdb) -> CountryReport {
    let metadata = mmdb.reader.metadata();
    CountryReport {
        file: source.shown(),
        database_type: metadata.database_type.chars().take(64).collect(),
        built_at: built_at(mmdb),
        shapes: BTreeMap::new(),
        nodes: u64::from(metadata.node_count),
        networks: 0,
        networks_without_country: 0,
        countries: 0,
        coverage_percent: 0.0,
    }
}

fn read_ranges(mmdb: &Mmdb, report: &mut CountryReport) -> Result<Vec<Range<Country>>> {
    let mut ranges = Vec::new();
    let mut countries = BTreeSet::new();
    mmdb.for_each(code_in, |network| {
        report.networks += 1;
        let Some((country, shape)) = network.value else {
            report.networks_without_country += 1;
            return;
        };
        *report.shapes.entry(shape).or_default() += 1;
        countries.insert(country);
        push_joined(&mut ranges, Range { first: network.first, last: network.last, value: country });
    })?;
    report.countries = countries.len() as u64;
    Ok(ranges)
}

/// The code in a record, and where it stood.
fn code_in(found: &Found) -> std::result::Result<Option<(Country, &'static str)>, MaxMindDbError> {
    for (shape, path) in SHAPES {
        let code = at_path::<&str>(found, path)?;
        if let Some(country) = code.and_then(|code| code.parse().ok()) {
            return Ok(Some((country, shape)));
        }
    }
    Ok(None)
}

fn check_families(source: &SourceFile, ranges: &[Range<Country>], allow_small: bool) -> Result<()> {
    let ipv4 = ranges.iter().any(|range| range.first < IPV6_BEGINS);
    let ipv6 = ranges.iter().any(|range| range.last >= IPV6_BEGINS);
    match (ipv4, ipv6) {
        (false, false) => {
            let shapes = SHAPES.map(|(shape, _)| shape).join(", ");
            Err(source.refused(&format!("holds no country codes in any known place ({shapes})")))
        }
        (false, true) => Err(source.refused("answers for IPv6 only: take the file for both families")),
        (true, false) if !allow_small => {
            Err(source.refused("has no IPv6 network in it: take the file for both families"))
        }
        _ => Ok(()),
    }
}

/// Share of 10,000 public addresses with an answer. They are spread by a fixed step through the whole space,
/// so that the same file always gets the same figure.
fn coverage_percent(ranges: &[Range<Country>]) -> f64 {
    let golden = 0x9e37_79b9_u32; // odd, so its multiples meet every address once
    let spread = (1u32..).map(|n| Ipv4Addr::from_bits(n.wrapping_mul(golden)));
    let answered = spread
        .filter(|ip| is_unicast_and_public(*ip))
        .take(10_000)
        .filter(|ip| value_at(ranges, u128::from(ip.to_bits())).is_some())
        .count();
    answered as f64 / 100.0
}

fn is_unicast_and_public(ip: Ipv4Addr) -> bool {
    let first = ip.octets()[0];
    (1..224).contains(&first) && Address::new(IpAddr::V4(ip)).class() == AddressClass::Public
}

fn warnings(
    source: &SourceFile,
    ranges: &[Range<Country>],
    now: Seconds,
    report: &CountryReport,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let days = (now - report.built_at) / 86_400;
    if days > crate::networks::STALE_AFTER_DAYS {
        warnings.push(format!("The country data in {} are {days} days old.", source.shown()));
    }
    let unassigned: BTreeSet<_> = ranges.iter().map(|r| r.value).filter(|c| c.name().is_none()).collect();
    if !unassigned.is_empty() {
        let codes: Vec<String> = unassigned.iter().take(10).map(Country::to_string).collect();
        warnings.push(format!(
            "{} uses codes that stand for no country ({}): such addresses match no chosen country.",
            source.shown(),
            codes.join(", ")
        ));
    }
    if ranges.iter().all(|range| range.last < IPV6_BEGINS) {
        warnings.push(format!("{} has no IPv6 network in it.", source.shown()));
    }
    warnings
}
