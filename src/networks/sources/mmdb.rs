//! Reading a foreign MMDB file (format 2.0) network by network.
//!
//! The reader's own `verify()` is not used: it refuses good files of several publishers for an empty
//! description, and it promises nothing about the answers.

use super::SourceFile;
use crate::error::{Error, Result};
use crate::networks::lookup::edges;
use crate::networks::ranges::Range;
use maxminddb::{LookupResult, MaxMindDbError, PathElement, Reader, WithinOptions};
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;

/// A tree may share its nodes, so that a small file unfolds without end. Real ones stay far below this.
const MOST_NETWORKS: u64 = 50_000_000;

/// An MMDB in memory.
pub(super) struct Mmdb<'s> {
    source: &'s SourceFile,
    pub(super) reader: Reader<Vec<u8>>,
}

/// Handle on one record while it is looked at.
pub(super) type Found<'r> = LookupResult<'r, Vec<u8>>;

impl<'s> Mmdb<'s> {
    pub(super) fn read(source: &'s SourceFile) -> Result<Mmdb<'s>> {
        let reader = Reader::from_source(source.contents()?).map_err(|e| {
            if source.head.starts_with(&[0, 0, 1]) || source.head.starts_with(&[0, 0, 0, 1]) {
                let why = "begins like an MMDB file but cannot be read to its end: it was probably cut off \
                           on its way here, fetch it again";
                source.refused(&format!("{why} ({e})"))
            } else {
                source.refused(&format!("is not an MMDB file ({e})"))
            }
        })?;
        Ok(Mmdb { source, reader })
    }

    /// Calls `each` for every network that has a record, in the order of their keys, with what `read` made
    /// of the record. Records are shared by many networks and read once.
    pub(super) fn for_each<V: Copy>(
        &self,
        mut read: impl FnMut(&Found) -> std::result::Result<V, MaxMindDbError>,
        mut each: impl FnMut(Range<V>),
    ) -> Result<()> {
        let mut known: HashMap<usize, V> = HashMap::new();
        let networks = self.reader.networks(self.options()).map_err(|e| self.damaged(&e))?;
        for (count, found) in (0..).zip(networks) {
            let found = found.map_err(|e| self.damaged(&e))?;
            if count >= MOST_NETWORKS {
                return Err(self.source.refused("unfolds into more networks than any real source has"));
            }
            let Some(offset) = found.offset() else { continue };
            let value = match known.get(&offset) {
                Some(value) => *value,
                None => *known.entry(offset).or_insert(read(&found).map_err(|e| self.damaged(&e))?),
            };
            let (first, last) = edges(&found).map_err(|e| self.damaged(&e))?;
            each(Range { first, last, value });
        }
        Ok(())
    }

    /// Publishers hang the IPv4 part into the tree a second time at IPv6 places (RFC 4291 mapped, 6to4,
    /// Teredo); those copies are left out. Where all of IPv4 is one record there is no part to hang in, and
    /// the reader would take every network with that record for a copy.
    fn options(&self) -> WithinOptions {
        let all_of_ipv4 = self.reader.lookup(IpAddr::from([0, 0, 0, 0])).and_then(|found| edges(&found));
        match all_of_ipv4 {
            Ok((0, last)) if last >= u128::from(u32::MAX) => {
                WithinOptions::default().include_aliased_networks()
            }
            _ => WithinOptions::default(),
        }
    }

    fn damaged(&self, e: &MaxMindDbError) -> Error {
        self.source.refused(&format!("is damaged ({e})"))
    }
}

/// The value at the path; none where the record has no such path or something of another kind there.
pub(super) fn at_path<'r, T: Deserialize<'r>>(
    found: &Found<'r>,
    path: &[&str],
) -> std::result::Result<Option<T>, MaxMindDbError> {
    let path: Vec<PathElement<'_>> = path.iter().map(|key| PathElement::Key(key)).collect();
    match found.decode_path(&path) {
        Err(MaxMindDbError::Decoding { .. }) => Ok(None),
        other => other,
    }
}
