//! All figures of a domain in one row: an entry for each country and service, with its days or months as
//! [`super::packed`] has them.
//!
//! An entry is: the country's length and name, the service's, a number that is twice the length of its days and one
//! more where it is idle, its last day, its days. Lengths are a byte, numbers as in [`super::packed`].

use super::packed::{Bytes, Packed, put};

/// One country and service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) country: String,
    pub(super) service: String,
    /// It tells of no good login and no message, so that anybody can make it.
    pub(super) is_idle: bool,
    pub(super) days: Packed,
}

/// A row, unpacked, in the order of countries and services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ByPlace {
    pub(super) entries: Vec<Entry>,
}

/// An entry as stored.
pub(super) struct Stored<'a> {
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
        let begin = bytes.0;
        let (country, service) = (bytes.short()?, bytes.short()?);
        let names = &begin[..country.len() + service.len() + 2];
        let (length, last) = (bytes.number()?, bytes.number()?);
        let uses = bytes.take(usize::try_from(length / 2).ok()?)?;
        Some(Stored { names, country, service, is_idle: length % 2 == 1, last: last.cast_signed(), uses })
    })
}

impl ByPlace {
    /// As stored; an entry whose names are no text is none.
    pub(super) fn read(blob: &[u8]) -> ByPlace {
        let mut row = ByPlace::default();
        for Stored { country, service, is_idle, last, uses, .. } in stored(blob) {
            let (Ok(country), Ok(service)) = (str::from_utf8(country), str::from_utf8(service)) else {
                continue;
            };
            if let Err(at) = row.place(country, service) {
                let (country, service, days) = (country.into(), service.into(), Packed::read(last, uses));
                row.entries.insert(at, Entry { country, service, is_idle, days });
            }
        }
        row
    }

    /// The same again.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * 48);
        for Entry { country, service, is_idle, days } in &self.entries {
            for name in [country, service] {
                let name = &name.as_bytes()[..name.floor_char_boundary(usize::from(u8::MAX))];
                bytes.push(name.len() as u8);
                bytes.extend(name);
            }
            let uses = days.write();
            put(&mut bytes, uses.len() as u64 * 2 + u64::from(*is_idle));
            put(&mut bytes, days.last.cast_unsigned());
            bytes.extend(uses);
        }
        bytes
    }

    /// Where the entry is, or where it would be.
    pub(super) fn place(&self, country: &str, service: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|e| (&*e.country, &*e.service).cmp(&(country, service)))
    }

    /// The entry of a place that was looked for; a new one, idle as yet, where there is none.
    pub(super) fn entry(&mut self, at: Result<usize, usize>, country: &str, service: &str) -> &mut Entry {
        let at = at.unwrap_or_else(|at| {
            let (country, service) = (country.into(), service.into());
            self.entries.insert(at, Entry { country, service, is_idle: true, days: Packed::default() });
            at
        });
        &mut self.entries[at]
    }

    /// How many entries are idle.
    pub(super) fn idle(&self) -> usize {
        self.entries.iter().filter(|e| e.is_idle).count()
    }

    /// The least last day or month; none where there is no entry.
    pub(super) fn oldest(&self) -> Option<i64> {
        self.entries.iter().map(|e| e.days.last).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(made in prop::collection::vec(("[A-Z]{0,2}", "[a-z]{0,9}", any::<bool>(), any::<i32>(), 1i64..9), 0..9)) {
            let mut row = ByPlace::default();
            for (country, service, is_idle, day, n) in made {
                let mut days = Packed::default();
                days.at(day.into(), day.into(), 35).unwrap()[3] = n;
                if let Err(at) = row.place(&country, &service) {
                    row.entries.insert(at, Entry { country, service, is_idle, days });
                }
            }
            let blob = row.write();
            prop_assert_eq!(stored(&blob).count(), row.entries.len());
            prop_assert_eq!(ByPlace::read(&blob), row);
        }

        #[test]
        fn whatever_lies_in_the_state_makes_some_entries(blob in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200)) {
            let row = ByPlace::read(&blob);
            prop_assert_eq!(ByPlace::read(&row.write()), row);
        }
    }
}
