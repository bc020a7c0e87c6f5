//! What a build found and made, for people and for JSON.

use crate::clock::Seconds;
use serde::Serialize;
use std::collections::BTreeMap;

/// The account of one build.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The country source.
    pub country: CountryReport,
    /// The ASN tables, in the order given.
    pub asn: Vec<AsnReport>,
    /// Rows or networks of the ASN tables that lie inside others; the narrower one was taken.
    pub asn_overlaps: u64,
    /// Systems on our list of hosting networks.
    pub listed_systems: u64,
    /// Those of them that the ASN tables hold: the others mark nothing.
    pub listed_systems_found: u64,
    /// Disjoint ranges after all sources were laid over each other.
    pub ranges: u64,
    /// Prefixes that were written.
    pub prefixes: u64,
    /// Distinct answers that were written.
    pub records: u64,
    /// Size of the compiled file in bytes.
    pub bytes: u64,
    /// How long the build took, in seconds.
    pub seconds: f64,
    /// What the administrator should know, as sentences.
    pub warnings: Vec<String>,
}

/// What was found in the country source.
#[derive(Clone, Debug, Serialize)]
pub struct CountryReport {
    /// The file, as it was given.
    pub file: String,
    /// Its own word for its kind.
    pub database_type: String,
    /// When its publisher built it, epoch seconds.
    pub built_at: Seconds,
    /// Where in its records the codes stood (as `country.iso_code`), and in how many networks.
    pub shapes: BTreeMap<&'static str, u64>,
    /// Nodes of its search tree.
    pub nodes: u64,
    /// Networks in it.
    pub networks: u64,
    /// Networks without a usable code.
    pub networks_without_country: u64,
    /// Distinct countries.
    pub countries: u64,
    /// Share of 10,000 public IPv4 addresses, spread evenly, for which it has a country, in per cent.
    pub coverage_percent: f64,
}

/// What was found in one ASN table.
#[derive(Clone, Debug, Serialize)]
pub struct AsnReport {
    /// The file, as it was given.
    pub file: String,
    /// `csv`, or where in an MMDB's records the numbers stood.
    pub shape: &'static str,
    /// Rows or networks that were taken.
    pub rows: u64,
    /// Rows or networks that name no system (number 0, as tables write "not routed"), left out.
    pub rows_without_number: u64,
    /// Rows that could not be understood, left out.
    pub bad_rows: u64,
    /// Line of the first of them.
    pub first_bad_line: Option<u64>,
}

impl AsnReport {
    pub(super) fn blank(file: String, shape: &'static str) -> AsnReport {
        AsnReport { file, shape, rows: 0, rows_without_number: 0, bad_rows: 0, first_bad_line: None }
    }
}
