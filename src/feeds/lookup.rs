//! The look-up of an address in the feeds, made by every hook process whose rule asks, and often by the keeper: the
//! file is mapped, and two searches by halves are all.
//!
//! Opening checks that the file is of our form and as long as it says. A flipped byte further in answers wrongly and
//! never panics, as in the network data.

use super::compile::{Heading, MAGIC, NAME, WIDTHS};
use super::{Definition, MOST};
use crate::address::Address;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::networks::map_file;
use crate::networks::ranges::{IPV6_BEGINS, Range, key_of};
use maxminddb::Mmap;
use std::io::ErrorKind;
use std::path::Path;

/// The compiled feeds, mapped into memory.
#[derive(Debug)]
pub struct Feeds {
    map: Mmap,
    counts: (usize, usize, usize),
}

/// A feed that names an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub feed: String,
    /// When its list stops refusing.
    pub ends: Seconds,
}

impl Feeds {
    /// Opens the compiled feeds; none where there are none, as where none is in use.
    ///
    /// Fails with [`Error::File`] where the file is there and cannot be opened, with [`Error::Data`] where it is not
    /// Postern's file of feeds, or is not whole.
    pub fn open(path: &Path) -> Result<Option<Feeds>> {
        let map = match map_file(path, "The file of feeds") {
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let counts = shape(&map).ok_or_else(|| {
            Error::Data(format!(
                "The file of feeds {} is damaged: `postern feeds update` makes it anew.",
                path.display()
            ))
        })?;
        Ok(Some(Feeds { map, counts }))
    }

    /// The feeds that name the address, those that have ended by now apart.
    pub fn look_up(&self, address: Address, now: Seconds) -> Vec<Listed> {
        let bits = key_of(address.ip()).map_or(0, |key| self.bits_at(key));
        let listed = (0..self.counts.0).filter(|n| bits >> n & 1 == 1);
        let listed = listed.filter_map(|n| self.heading(n)).filter(|heading| now < heading.ends);
        // A list from the future, since the clock was set back, ends as if it were from now.
        let ends = |heading: &Heading| {
            heading.ends.min(now.saturating_add(heading.ends.saturating_sub(heading.as_of)))
        };
        listed.map(|heading| Listed { ends: ends(&heading), feed: heading.name }).collect()
    }

    /// What is in the file.
    pub(super) fn headings(&self) -> Vec<Heading> {
        (0..self.counts.0).filter_map(|n| self.heading(n)).collect()
    }

    /// Whether a feed names one of these keys, which are of one family.
    pub(super) fn is_any(&self, range: &Range<()>) -> bool {
        self.last_bits(range.first, range.last) != 0
    }

    /// The feeds that name this key, as bits.
    fn bits_at(&self, key: u128) -> u64 {
        self.last_bits(key, key)
    }

    /// The feeds that name the last of these keys that any names, as bits.
    fn last_bits(&self, from: u128, key: u128) -> u64 {
        let (head, feed, wide4, wide6) = WIDTHS;
        let (feeds, v4, v6) = self.counts;
        let (begin, count, width) = match key < IPV6_BEGINS {
            true => (head + feeds * feed, v4, wide4),
            false => (head + feeds * feed + v4 * wide4, v6, wide6),
        };
        let edge = (width - 8) / 2;
        let row = |n: usize| self.map.get(begin + n * width..begin + (n + 1) * width).unwrap_or_default();
        let first = |n: usize| number(row(n).get(..edge));
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if first(middle) <= key { low = middle + 1 } else { high = middle }
        }
        let Some(found) = low.checked_sub(1).map(row) else { return 0 };
        if number(found.get(edge..2 * edge)) < from {
            return 0;
        }
        u64::try_from(number(found.get(2 * edge..))).unwrap_or(0)
    }

    fn heading(&self, n: usize) -> Option<Heading> {
        let (head, width, ..) = WIDTHS;
        let row = self.map.get(head + n * width..head + (n + 1) * width)?;
        let name = row.get(..NAME)?.split(|b| *b == 0).next()?;
        let name = std::str::from_utf8(name).ok().filter(|name| Definition::is_name(name))?;
        let time = |from: usize| Some(Seconds::from_le_bytes(row.get(from..from + 8)?.try_into().ok()?));
        Some(Heading { name: name.to_owned(), as_of: time(NAME)?, ends: time(NAME + 8)? })
    }
}

/// A number of up to 16 bytes.
fn number(bytes: Option<&[u8]>) -> u128 {
    bytes.unwrap_or_default().iter().rev().take(16).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
}

/// How many feeds and ranges there are, where that is what the file is long enough for, and not longer.
fn shape(bytes: &[u8]) -> Option<(usize, usize, usize)> {
    let (head, feed, wide4, wide6) = WIDTHS;
    let begins = bytes.strip_prefix(&MAGIC)?;
    let count = |n: usize| {
        let bytes = begins.get(4 * n..4 * n + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let (feeds, v4, v6, zero) = (count(0)?, count(1)?, count(2)?, count(3)?);
    let long = head + feeds.checked_mul(feed)? + v4.checked_mul(wide4)? + v6.checked_mul(wide6)?;
    (zero == 0 && feeds <= MOST && long == bytes.len()).then_some((feeds, v4, v6))
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
