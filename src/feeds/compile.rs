//! All lists in use as one file, `feeds.bin`: sorted disjoint ranges, each with the feeds that name it.
//!
//! Numbers are little-endian; a range's keys are those of [`ranges`](crate::networks::ranges), so IPv4 comes first.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 4, 4, 4 | how many feeds, IPv4 ranges, IPv6 ranges |
//! | 4 | 0 |
//! | 48 for each feed | name (32, filled up with 0), as of (8), ends (8): epoch seconds |
//! | 16 for each IPv4 range | first (4), last (4), feeds (8): bit n is feed n |
//! | 40 for each IPv6 range | first (16), last (16), feeds (8) |

use crate::clock::Seconds;
use crate::error::Result;
use crate::kept_file::replace;
use crate::networks::ranges::{IPV6_BEGINS, Overlay, Range};
use std::io::{BufWriter, Write};
use std::path::Path;

/// What the file begins with; the last byte counts its forms.
pub(super) const MAGIC: [u8; 8] = *b"PSTNFDS1";

/// Bytes of the head, of a feed, of an IPv4 range, of an IPv6 range.
pub(super) const WIDTHS: (usize, usize, usize, usize) = (24, 48, 16, 40);

/// Longest name.
pub(super) const NAME: usize = 32;

/// A feed in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heading {
    pub(super) name: String,
    pub(super) as_of: Seconds,
    pub(super) ends: Seconds,
}

/// Writes the file and publishes it, mode 0644. Each list's ranges are sorted and disjoint; there are
/// [`MOST`](super::MOST) lists at most.
pub(super) fn publish(path: &Path, lists: Vec<(Heading, Vec<Range<()>>)>) -> Result<()> {
    let (headings, lists): (Vec<Heading>, Vec<_>) = lists.into_iter().unzip();
    let mut all: Vec<Range<u64>> = Vec::new();
    for (bit, list) in lists.into_iter().enumerate() {
        let over = Overlay::new(all.into_iter(), list.into_iter()).map(|range| {
            let (feeds, this) = range.value;
            let feeds = feeds.unwrap_or(0) | this.map_or(0, |()| 1 << bit);
            Range { first: range.first, last: range.last, value: feeds }
        });
        all = over.collect();
    }
    let (v4, v6) = all.split_at(all.partition_point(|range| range.first < IPV6_BEGINS));
    replace(path, 0o644, |file| {
        let mut out = BufWriter::new(file);
        out.write_all(&MAGIC)?;
        for count in [headings.len(), v4.len(), v6.len(), 0] {
            out.write_all(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes())?;
        }
        for heading in &headings {
            let mut name = [0; NAME];
            name.iter_mut().zip(heading.name.bytes()).for_each(|(to, from)| *to = from);
            out.write_all(&name)?;
            out.write_all(&heading.as_of.to_le_bytes())?;
            out.write_all(&heading.ends.to_le_bytes())?;
        }
        for range in v4 {
            let edge = |key: u128| u32::try_from(key).unwrap_or(u32::MAX).to_le_bytes();
            out.write_all(&edge(range.first))?;
            out.write_all(&edge(range.last))?;
            out.write_all(&range.value.to_le_bytes())?;
        }
        for range in v6 {
            out.write_all(&range.first.to_le_bytes())?;
            out.write_all(&range.last.to_le_bytes())?;
            out.write_all(&range.value.to_le_bytes())?;
        }
        out.flush()
    })
}
