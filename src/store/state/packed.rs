//! Figures of many days or months in one short row: how often, on each, from the last one backwards.
//!
//! A day takes a number that says which of the figures are not 0, and then those; numbers are seven bits a byte, the
//! lowest first, the highest bit says that another byte follows. A day of logins and messages takes some five bytes.

use super::rollups::{COLUMNS, Uses};

/// Most days or months that one row tells apart.
const MOST: usize = 100;

/// A row, unpacked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Packed {
    /// The last day or month.
    pub(super) last: i64,
    uses: Vec<Uses>,
}

impl Packed {
    /// As stored. Whatever lies in the state makes some figures.
    pub(super) fn read(last: i64, blob: &[u8]) -> Packed {
        let mut uses = Vec::new();
        let mut bytes = Bytes(blob);
        while let Some(of_one) = bytes.uses().filter(|_| uses.len() < MOST) {
            uses.push(of_one);
        }
        Packed { last, uses }
    }

    /// The same again.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.uses.len() * 6);
        for uses in &self.uses {
            let mask = uses.iter().zip(0..).fold(0u64, |mask, (n, bit)| mask | u64::from(*n > 0) << bit);
            put(&mut bytes, mask);
            uses.iter().filter(|n| **n > 0).for_each(|n| put(&mut bytes, n.unsigned_abs()));
        }
        bytes
    }

    /// Each day or month, from the last one backwards.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &Uses)> {
        self.uses.iter().zip(0..).map(|(uses, ago)| (self.last.saturating_sub(ago), uses))
    }

    /// The figures of a day (or month), to change them; none for one that is older than the oldest of `kept`. A
    /// day in the future counts as today: a clock that went ahead, or a last day from before it was set back.
    pub(super) fn at(&mut self, at: i64, today: i64, kept: i64) -> Option<&mut Uses> {
        let kept = usize::try_from(kept).unwrap_or(0).clamp(1, MOST);
        let at = at.min(today);
        self.last = if self.uses.is_empty() { at } else { self.last.min(today) };
        let later = usize::try_from(at.saturating_sub(self.last)).unwrap_or(0);
        if later > 0 {
            self.uses.splice(0..0, std::iter::repeat_n(Uses::default(), later.min(kept)));
            self.last = at;
        }
        self.uses.truncate(kept);
        let ago = usize::try_from(self.last.saturating_sub(at)).unwrap_or(usize::MAX);
        if ago >= kept {
            return None;
        }
        if self.uses.len() <= ago {
            self.uses.resize(ago + 1, Uses::default());
        }
        Some(&mut self.uses[ago])
    }
}

pub(super) fn put(bytes: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

/// Adds the figures from `first` to `until` of a row as stored, without unpacking the others.
pub(super) fn add_span(sum: &mut Uses, last: i64, blob: &[u8], (first, until): (i64, i64)) {
    let (mut bytes, mut at) = (Bytes(blob), last);
    for _ in 0..MOST {
        if at < first {
            return;
        }
        let Some(mask) = bytes.number() else { return };
        let mut left = mask & ((1 << COLUMNS.len()) - 1);
        while left != 0 {
            let Some(more) = bytes.number() else { return };
            if at <= until {
                let n = &mut sum[left.trailing_zeros() as usize];
                *n = n.saturating_add(i64::try_from(more).unwrap_or(i64::MAX));
            }
            left &= left - 1;
        }
        at = at.saturating_sub(1);
    }
}

/// What is left of a row.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    /// So many bytes.
    pub(super) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// As many bytes as the first one says.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        // Nearly all are short.
        if let [byte @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Some((*byte).into());
        }
        let (mut n, mut shift) = (0u64, 0);
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            n |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(n);
            }
            shift += 7;
        }
    }

    fn uses(&mut self) -> Option<Uses> {
        let (mask, mut uses) = (self.number()?, Uses::default());
        for column in (0..COLUMNS.len()).filter(|column| mask >> column & 1 == 1) {
            uses[column] = i64::try_from(self.number()?).unwrap_or(i64::MAX);
        }
        Some(uses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn sum(packed: &Packed, span: (i64, i64)) -> Uses {
        let mut sum = Uses::default();
        add_span(&mut sum, packed.last, &packed.write(), span);
        sum
    }

    proptest! {
        #[test]
        fn any_days_sum_as_a_list_of_them_does(
            adds in prop::collection::vec((0i64..60, 0..COLUMNS.len(), 1i64..1_000_000), 1..60),
            kept in 1i64..50, first in 0i64..60, until in 0i64..60,
        ) {
            let (mut packed, mut list, mut today) = (Packed::default(), BTreeMap::new(), 0);
            for (day, column, n) in adds {
                today = today.max(day);
                packed = Packed::read(packed.last, &packed.write());
                if let Some(uses) = packed.at(day, today, kept) {
                    uses[column] += n;
                    list.entry(day).or_insert_with(Uses::default)[column] += n;
                }
                list.retain(|d, _| *d > packed.last - kept);
                let mut expected = Uses::default();
                for uses in list.iter().filter(|(day, _)| (first..=until).contains(*day)).map(|(_, uses)| uses) {
                    expected.iter_mut().zip(uses).for_each(|(sum, n)| *sum += n);
                }
                prop_assert_eq!(sum(&packed, (first, until)), expected);
                prop_assert!(packed.uses.len() as i64 <= kept);
            }
        }

        #[test]
        fn whatever_lies_in_the_state_makes_some_figures(last in any::<i64>(), blob in prop::collection::vec(any::<u8>(), 0..300), at in any::<i64>()) {
            let mut packed = Packed::read(last, &blob);
            let _ = sum(&packed, (at, i64::MAX));
            if let Some(uses) = packed.at(at, 20_000, 35) {
                uses[0] = uses[0].saturating_add(1);
            }
            prop_assert!(packed.uses.len() <= MOST);
            let again = Packed::read(packed.last, &packed.write());
            prop_assert_eq!(again, packed);
        }
    }

    #[test]
    fn a_last_day_in_the_future_counts_as_today() {
        let mut packed = Packed { last: 21_000, uses: vec![[3; 9]] };
        packed.at(20_000, 20_000, 35).unwrap()[0] += 1;
        assert_eq!((packed.last, sum(&packed, (20_000, 20_000))[0]), (20_000, 4));
    }

    #[test]
    fn a_day_ahead_of_today_counts_as_today_and_moves_no_other() {
        let mut packed = Packed::default();
        packed.at(19_999, 20_000, 35).unwrap()[0] += 1;
        packed.at(20_001, 20_000, 35).unwrap()[0] += 1;
        packed.at(20_000, 20_000, 35).unwrap()[0] += 1;
        let days = [19_999, 20_000, 20_001].map(|day| sum(&packed, (day, day))[0]);
        assert_eq!((packed.last, days), (20_000, [1, 2, 0]));
        let mut first = Packed::default();
        first.at(20_001, 20_000, 35).unwrap()[0] += 1;
        assert_eq!(first.last, 20_000);
    }

    #[test]
    fn a_day_of_logins_and_messages_is_short() {
        let mut packed = Packed::default();
        for day in 0..35 {
            *packed.at(day, day, 35).unwrap() = [30, 0, 0, 30, 0, 12, 0, 0, 0];
        }
        assert_eq!(packed.write().len(), 35 * 4);
    }
}
