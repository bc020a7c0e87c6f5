//! All figures of a domain in one row: an entry for each country and service, with its days or months as
//! [`super::packed`] has them.
//!
//! An entry is: the country's length and name, the service's, a number that is twice the length of its days and one
//! more where it is idle, its last day, its days. Lengths are a byte, numbers as in [`super::packed`]. An entry is idle
//! that tells of no good login and no message, so that anybody can make it.

use super::packed::{Bytes, Packed, put};

/// A row as stored. Only an entry that is changed is unpacked: most rows have many, of which one is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ByPlace {
    blob: Vec<u8>,
}

/// What stands beside a row, so that it is found by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct About {
    /// The least last day or month.
    pub(super) oldest: i64,
    /// Countries and services.
    pub(super) entries: i64,
    /// Those of them that are idle.
    pub(super) idle: i64,
}

/// An entry as stored.
pub(super) struct Stored<'a> {
    bytes: std::ops::Range<usize>,
    /// Both names, with their lengths.
    pub(super) names: &'a [u8],
    pub(super) country: &'a [u8],
    pub(super) service: &'a [u8],
    pub(super) is_idle: bool,
    /// The last day or month.
    pub(super) last: i64,
    /// For [`super::packed::add_span`].
    pub(super) uses: &'a [u8],
}

/// The entries of a row as stored, without unpacking their days. Whatever lies in the state makes some.
pub(super) fn stored(blob: &[u8]) -> impl Iterator<Item = Stored<'_>> {
    let mut bytes = Bytes(blob);
    std::iter::from_fn(move || {
        let (begin, from) = (bytes.0, blob.len() - bytes.0.len());
        let (country, service) = (bytes.short()?, bytes.short()?);
        let names = &begin[..country.len() + service.len() + 2];
        let (length, last) = (bytes.number()?, bytes.number()?);
        let uses = bytes.take(usize::try_from(length / 2).ok()?)?;
        let (is_idle, last, bytes) = (length % 2 == 1, last.cast_signed(), from..blob.len() - bytes.0.len());
        Some(Stored { bytes, names, country, service, is_idle, last, uses })
    })
}

impl ByPlace {
    /// As stored. What is no entry is left out.
    pub(super) fn read(blob: &[u8]) -> ByPlace {
        let end = stored(blob).last().map_or(0, |entry| entry.bytes.end);
        ByPlace { blob: blob[..end].to_vec() }
    }

    /// To be stored.
    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// Whether there is an entry of this place.
    pub(super) fn has(&self, country: &str, service: &str) -> bool {
        self.find(country, service).is_some()
    }

    fn find(&self, country: &str, service: &str) -> Option<Stored<'_>> {
        let is_it = |e: &Stored| e.country == country.as_bytes() && e.service == service.as_bytes();
        stored(&self.blob).find(is_it)
    }

    /// Changes the days of an entry, and whether it is idle; a new one is idle at first.
    pub(super) fn change(&mut self, country: &str, service: &str, make: impl FnOnce(&mut Packed, &mut bool)) {
        let end = self.blob.len();
        let (bytes, mut days, mut is_idle) = match self.find(country, service) {
            Some(found) => (found.bytes.clone(), Packed::read(found.last, found.uses), found.is_idle),
            None => (end..end, Packed::default(), true),
        };
        make(&mut days, &mut is_idle);
        let uses = days.write();
        let mut entry = Vec::with_capacity(uses.len() + country.len() + service.len() + 16);
        for name in [country, service] {
            let name = &name.as_bytes()[..name.floor_char_boundary(usize::from(u8::MAX))];
            entry.push(name.len() as u8);
            entry.extend(name);
        }
        put(&mut entry, uses.len() as u64 * 2 + u64::from(is_idle));
        put(&mut entry, days.last.cast_unsigned());
        entry.extend(uses);
        self.blob.splice(bytes, entry);
    }

    /// Keeps the entries whose last day or month is wanted.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(i64) -> bool) {
        let mut left = Vec::with_capacity(self.blob.len());
        for entry in stored(&self.blob).filter(|entry| is_wanted(entry.last)) {
            left.extend(&self.blob[entry.bytes]);
        }
        self.blob = left;
    }

    /// What is to stand beside it; none where there is no entry.
    pub(super) fn about(&self) -> Option<About> {
        let one = |e: Stored| About { oldest: e.last, entries: 1, idle: i64::from(e.is_idle) };
        stored(&self.blob).map(one).reduce(|a, b| About {
            oldest: a.oldest.min(b.oldest),
            entries: a.entries + b.entries,
            idle: a.idle + b.idle,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(
            made in prop::collection::vec(("[A-Z]{0,2}", "[a-z]{0,3}", any::<bool>(), 0i64..30, 1i64..400), 0..20), wanted in 0i64..30,
        ) {
            let (mut row, mut expected) = (ByPlace::default(), BTreeMap::new());
            for (country, service, is_used, day, n) in made {
                row.change(&country, &service, |days, is_idle| {
                    days.at(day, 30, 35).unwrap()[3] += n;
                    *is_idle &= !is_used;
                });
                prop_assert!(row.has(&country, &service));
                let (days, is_idle) = expected.entry((country, service)).or_insert((Packed::default(), true));
                days.at(day, 30, 35).unwrap()[3] += n;
                *is_idle &= !is_used;
            }
            for _ in 0..2 {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let all = stored(row.blob()).map(|e| ((text(e.country), text(e.service)), (Packed::read(e.last, e.uses), e.is_idle)));
                prop_assert_eq!(all.collect::<BTreeMap<_, _>>(), expected.clone());
                let (n, idle) = (expected.len() as i64, expected.values().filter(|(_, is_idle)| *is_idle).count() as i64);
                let oldest = expected.values().map(|(days, _)| days.last).min();
                prop_assert_eq!(row.about(), oldest.map(|oldest| About { oldest, entries: n, idle }));
                row.retain(|last| last >= wanted);
                expected.retain(|_, (days, _)| days.last >= wanted);
            }
        }

        #[test]
        fn whatever_lies_in_the_state_makes_some_entries(blob in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200)) {
            let mut row = ByPlace::read(&blob);
            prop_assert_eq!(stored(row.blob()).count(), stored(&blob).count());
            row.change("DE", "imap", |days, _| days.at(20_000, 20_000, 35).unwrap()[0] = 7);
            prop_assert!(row.has("DE", "imap"));
            prop_assert_eq!(ByPlace::read(row.blob()), row);
        }
    }
}
