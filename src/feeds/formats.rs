//! How lists are read. Any bytes are read: what is no line of the format is counted, and the first such lines are named.

use crate::address::Network;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::networks::ranges::{Range, disjoint, key_of};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Broken lines that are named.
const NAMED: usize = 5;

/// No more entries than this are read: no list that is meant for a server's logins has so many.
pub(super) const MOST_ENTRIES: usize = 1_000_000;

/// How much of a broken line, or of what a list says of itself, is kept; in characters.
const SHOWN: usize = 80;

/// Longest line that is looked at, in bytes: no entry comes near it.
const LONGEST_LINE: usize = 4096;

/// The form of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An address or a network a line, which may be followed by a remark after `#` or `;`.
    Plain,
    /// Spamhaus DROP: a JSON object a line with the network as `cidr`, and one that tells of the list itself
    /// (`"type":"metadata"`).
    DropJson,
    /// An address or a network and a count, separated by blanks; only those with a count that is large enough.
    Counted,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 3] = [Format::Plain, Format::DropJson, Format::Counted];

    /// Words for them, for the table of functions.
    pub const WORDS: &'static [&'static str] = &["plain", "drop-json", "counted"];

    fn word(self) -> &'static str {
        match self {
            Format::Plain => "plain",
            Format::DropJson => "drop-json",
            Format::Counted => "counted",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Format> {
        let found = Format::ALL.into_iter().find(|format| format.word() == text);
        let accepted = format!("one of {}", Format::WORDS.join(", "));
        found.ok_or_else(|| Error::bad_value("The feed's format", text, accepted))
    }
}

/// Lines that are no entries of the format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// How many.
    pub count: usize,
    /// The first of them, each with its number.
    pub first: Vec<(usize, String)>,
}

impl Broken {
    fn add(&mut self, number: usize, line: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push((number, shown(line)));
        }
    }

    /// In words, as "line 3 (\"nonsense\"), line 9 (…) and 4 more".
    pub fn words(&self) -> String {
        let named: Vec<String> = self.first.iter().map(|(n, line)| format!("line {n} ({line:?})")).collect();
        match self.count - self.first.len().min(self.count) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }
}

/// What a list says.
#[derive(Clone, Debug, Default)]
pub(super) struct Read {
    /// Its networks, as they stand there; one more than [`MOST_ENTRIES`] of a list that has too many.
    pub(super) networks: Vec<Network>,
    /// Those that were taken out of them, since they hold the server itself.
    pub(super) own: Vec<Network>,
    /// What is no entry.
    pub(super) broken: Broken,
    /// When it was made, as it says itself.
    pub(super) made: Option<Seconds>,
    /// How many entries it has, as it says itself: fewer are a part of it.
    pub(super) promised: Option<usize>,
    /// Whose it is, as it says itself: to be shown with it.
    pub(super) credit: Option<String>,
}

impl Read {
    /// The networks as keys: sorted, disjoint, joined.
    pub(super) fn ranges(&self) -> Vec<Range<()>> {
        disjoint(self.networks.iter().filter_map(range_of).collect()).0
    }
}

/// A network that overlaps IPv4's place among the keys has none.
pub(super) fn range_of(network: &Network) -> Option<Range<()>> {
    let net = network.net();
    Some(Range { first: key_of(net.network())?, last: key_of(net.broadcast())?, value: () })
}

/// Reads a list.
pub(super) fn read(format: Format, least: u32, body: &[u8]) -> Read {
    let mut read = Read::default();
    let text = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
        let line = String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]);
        let line = line.trim();
        let understood = match format {
            Format::Plain => plain(&mut read, line),
            Format::DropJson => drop_json(&mut read, line),
            Format::Counted => counted(&mut read, line, least),
        };
        if understood.is_none() {
            read.broken.add(number, line);
        }
        if read.networks.len() > MOST_ENTRIES {
            break;
        }
    }
    read
}

/// The line without its remark.
fn without_remark(line: &str) -> &str {
    line.split(['#', ';']).next().unwrap_or_default().trim()
}

fn plain(read: &mut Read, line: &str) -> Option<()> {
    let entry = without_remark(line);
    if !entry.is_empty() {
        read.networks.push(network(entry)?);
    }
    Some(())
}

fn counted(read: &mut Read, line: &str, least: u32) -> Option<()> {
    let mut words = without_remark(line).split_ascii_whitespace();
    let Some(entry) = words.next() else { return Some(()) };
    let (network, count) = (network(entry)?, words.next()?.parse::<u32>().ok()?);
    if words.next().is_some() {
        return None;
    }
    if count >= least {
        read.networks.push(network);
    }
    Some(())
}

/// A line of Spamhaus DROP; other fields than these are not needed.
#[derive(Deserialize)]
struct DropLine {
    cidr: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    timestamp: Option<Seconds>,
    records: Option<usize>,
    copyright: Option<String>,
    terms: Option<String>,
}

fn drop_json(read: &mut Read, line: &str) -> Option<()> {
    if line.is_empty() {
        return Some(());
    }
    let line: DropLine = serde_json::from_str(line).ok()?;
    if let Some(cidr) = line.cidr {
        read.networks.push(network(&cidr)?);
        return Some(());
    }
    if line.kind.as_deref() != Some("metadata") {
        return None;
    }
    read.made = line.timestamp.or(read.made);
    read.promised = line.records.or(read.promised);
    let said: Vec<String> = [line.copyright, line.terms].into_iter().flatten().map(|t| shown(&t)).collect();
    if !said.is_empty() {
        read.credit = Some(said.join(", "));
    }
    Some(())
}

/// Stricter than [`Network`]'s own reading: what servers write otherwise (brackets, zones) stands in no list.
fn network(text: &str) -> Option<Network> {
    let address = text.split('/').next()?;
    address.parse::<IpAddr>().ok()?;
    text.parse().ok()
}

/// Fit for a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
#[path = "formats_tests.rs"]
mod tests;
