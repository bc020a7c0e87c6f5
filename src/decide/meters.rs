//! What further limits have counted for one account, one domain or the server: all in one row of the state, so that a
//! message costs one look and one write whatever number of limits there is.

use super::window::{Window, counts_still, slot_of};
use crate::clock::Seconds;

/// Most meters of one row: what is beyond was never written by us.
const MOST_METERS: usize = 64;

/// Most recipients that are remembered as different; beyond, each one counts as new.
pub const MOST_DISTINCT: usize = 20_000;

/// What one limit has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// The limit's number.
    pub id: u16,
    /// Until when it is not told again that the limit was passed.
    pub told_until: Seconds,
    /// How much, when.
    pub window: Window,
    /// Recipients, as hashes, each with the slot in which it was last written to; ascending.
    seen: Vec<(u32, u32)>,
}

impl Meter {
    /// Nothing counted yet.
    pub fn new(id: u16) -> Meter {
        Meter { id, ..Meter::default() }
    }

    /// Forgets what is too old for a window of this length.
    pub fn advance(&mut self, now: Seconds, length: i64) {
        self.window.advance(now, length);
        let newest = slot_of(now, length);
        self.seen.retain_mut(|(_, at)| {
            *at = (*at).min(newest);
            counts_still(*at, now, length)
        });
    }

    /// How much is counted.
    pub fn count(&self) -> i64 {
        self.window.count() + i64::try_from(self.seen.len()).unwrap_or(i64::MAX)
    }

    /// How many of these recipients are new to it. The hashes are ascending and each is there once.
    pub fn new_among(&self, recipients: &[u32]) -> i64 {
        let is_new = |hash: &&u32| self.place(**hash).is_err();
        i64::try_from(recipients.iter().filter(is_new).count()).unwrap_or(i64::MAX)
    }

    fn place(&self, hash: u32) -> Result<usize, usize> {
        self.seen.binary_search_by_key(&hash, |(seen, _)| *seen)
    }

    /// Adds so much.
    pub fn add(&mut self, now: Seconds, length: i64, weight: i64) {
        if weight > 0 {
            self.window.add_within(now, length, u32::try_from(weight).unwrap_or(u32::MAX));
        }
    }

    /// Adds recipients by their hashes, and so many more that have none.
    pub fn add_recipients(&mut self, now: Seconds, length: i64, recipients: &[u32], nameless: i64) {
        let (at, mut beyond) = (slot_of(now, length), nameless);
        for hash in recipients {
            match self.place(*hash) {
                Ok(place) => self.seen[place].1 = at,
                Err(_) if self.seen.len() >= MOST_DISTINCT => beyond += 1,
                Err(place) => self.seen.insert(place, (*hash, at)),
            }
        }
        self.add(now, length, beyond);
    }

    fn is_empty(&self) -> bool {
        self.told_until == 0 && self.window.pairs().is_empty() && self.seen.is_empty()
    }
}

/// The meters of one row, ascending by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meters(Vec<Meter>);

impl Meters {
    /// The meter of this number; an empty one where there is none.
    pub fn of(&self, id: u16) -> Meter {
        self.0.iter().find(|meter| meter.id == id).cloned().unwrap_or_else(|| Meter::new(id))
    }

    /// Lays a meter in.
    pub fn put(&mut self, meter: Meter) {
        self.0.retain(|there| there.id != meter.id);
        if !meter.is_empty() {
            let place = self.0.partition_point(|there| there.id < meter.id);
            self.0.insert(place, meter);
        }
    }

    /// Forgets the meters of limits that are no more.
    pub fn keep(&mut self, exists: impl Fn(u16) -> bool) {
        self.0.retain(|meter| exists(meter.id));
    }

    /// Forgets what was counted, and what was told.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// As stored. Times stand as differences, so that a usual pair takes two to four bytes.
    pub fn stored(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for meter in &self.0 {
            put(&mut bytes, u64::from(meter.id));
            put(&mut bytes, u64::try_from(meter.told_until).unwrap_or(0));
            put_pairs(&mut bytes, meter.window.pairs(), false);
            put_pairs(&mut bytes, &meter.seen, true);
        }
        bytes
    }

    /// Reads what [`Meters::stored`] wrote. The state can be written by every mail user, so anything is taken: what
    /// cannot be read ends the reading.
    pub fn read(mut bytes: &[u8]) -> Meters {
        let mut meters = Meters::default();
        while meters.0.len() < MOST_METERS && !bytes.is_empty() {
            let Some(meter) = read_meter(&mut bytes) else { break };
            meters.put(meter);
        }
        meters
    }
}

fn read_meter(bytes: &mut &[u8]) -> Option<Meter> {
    let id = u16::try_from(take(bytes)?).ok()?;
    let told_until = Seconds::from(u32::try_from(take(bytes)?).ok()?);
    let window = Window::of(take_pairs(bytes, false)?);
    let mut seen = take_pairs(bytes, true)?;
    seen.sort_unstable();
    seen.dedup_by_key(|(hash, _)| *hash);
    Some(Meter { id, told_until, window, seen })
}

/// Pairs whose first words ascend: the first one, what all differences are multiples of (the slots of a long window are
/// far apart), and the differences. `whole`: the second words are times, and stand as four bytes each.
fn put_pairs(bytes: &mut Vec<u8>, pairs: &[(u32, u32)], whole: bool) {
    put(bytes, pairs.len() as u64);
    let Some(&(begin, _)) = pairs.first() else { return };
    let unit = pairs.iter().fold(0, |unit, (first, _)| divisor(unit, first - begin)).max(1);
    put(bytes, u64::from(begin));
    put(bytes, u64::from(unit));
    let mut before = begin;
    for (first, second) in pairs {
        put(bytes, u64::from((first - before) / unit));
        before = *first;
        match whole {
            true => bytes.extend(second.to_le_bytes()),
            false => put(bytes, u64::from(*second)),
        }
    }
}

fn take_pairs(bytes: &mut &[u8], whole: bool) -> Option<Vec<(u32, u32)>> {
    let many = usize::try_from(take(bytes)?).ok()?;
    // Each takes two bytes at least: a forged number makes no large allocation.
    let mut pairs = Vec::with_capacity(many.min(bytes.len() / 2).min(MOST_DISTINCT));
    if many == 0 {
        return Some(pairs);
    }
    let word = |bytes: &mut &[u8]| u32::try_from(take(bytes)?).ok();
    let (mut before, unit) = (word(bytes)?, word(bytes)?);
    for _ in 0..many.min(MOST_DISTINCT) {
        before = before.saturating_add(word(bytes)?.saturating_mul(unit));
        let second = match whole {
            true => {
                let (word, rest) = bytes.split_first_chunk::<4>()?;
                *bytes = rest;
                u32::from_le_bytes(*word)
            }
            false => u32::try_from(take(bytes)?).ok()?,
        };
        pairs.push((before, second));
    }
    Some(pairs)
}

/// The greatest common divisor; of nothing and a number the number.
fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const DAY: i64 = 86_400;
    const NOON: Seconds = 1_700_000_000;

    proptest! {
        /// The oracle is a plain map from recipient to the time of its last message.
        #[test]
        fn distinct_recipients_count_as_in_a_plain_map(
            steps in proptest::collection::vec((0i64..600, proptest::collection::btree_set(0u32..40, 1..6)), 1..80),
            length in 60i64..3600,
        ) {
            let (mut meters, mut map, mut now) = (Meters::default(), BTreeMap::new(), NOON);
            for (pause, recipients) in steps {
                now += pause;
                let mut meter = Meters::read(&meters.stored()).of(7);
                meter.advance(now, length);
                map.retain(|_, at| *at > now - length);
                let hashes: Vec<u32> = recipients.iter().copied().collect();
                prop_assert_eq!(meter.count(), map.len() as i64);
                prop_assert_eq!(meter.new_among(&hashes), hashes.iter().filter(|h| !map.contains_key(*h)).count() as i64);
                meter.add_recipients(now, length, &hashes, 0);
                map.extend(hashes.iter().map(|hash| (*hash, now)));
                meters.put(meter);
            }
        }

        #[test]
        fn any_bytes_are_meters(bytes: Vec<u8>, now in 0i64..5_000_000_000, length in 60i64..2_592_000) {
            let mut meters = Meters::read(&bytes);
            let mut meter = meters.of(1);
            meter.advance(now, length);
            meter.add_recipients(now, length, &[3, 5], 1);
            prop_assert!(meter.count() >= 1);
            meters.put(meter);
            prop_assert_eq!(Meters::read(&meters.stored()), meters);
        }
    }

    #[test]
    fn a_clock_set_back_forgets_no_recipient_and_keeps_none_longer_than_the_window() {
        let mut meter = Meter::new(1);
        meter.add_recipients(NOON, DAY, &[1, 2, 3], 0);
        meter.advance(NOON - 5 * DAY, DAY);
        assert_eq!(meter.count(), 3);
        meter.advance(NOON - 4 * DAY + DAY / 60, DAY);
        assert_eq!(meter.count(), 0);
    }

    #[test]
    fn beyond_its_memory_each_recipient_counts_as_new_and_the_row_stays_small() {
        let mut meter = Meter::new(1);
        let hashes: Vec<u32> = (0..30_000).map(|n| n * 7).collect();
        meter.add_recipients(NOON, DAY, &hashes, 0);
        assert_eq!(meter.count(), 30_000);
        meter.add_recipients(NOON, DAY, &hashes[29_000..], 0);
        assert_eq!(meter.count(), 31_000);
        let mut meters = Meters::default();
        meters.put(meter);
        assert!(meters.stored().len() < 150_000);
    }

    #[test]
    fn a_day_of_usual_sending_takes_little_room() {
        let mut meters = Meters::default();
        for id in [1, 2] {
            let mut meter = Meter::new(id);
            for n in 0..20 {
                meter.add(NOON + n * 2000, DAY, 3);
            }
            meters.put(meter);
        }
        assert!(meters.stored().len() < 110, "{}", meters.stored().len());
    }

    #[test]
    fn meters_of_limits_that_are_gone_are_forgotten_and_empty_ones_are_not_kept() {
        let mut meters = Meters::default();
        for id in [3, 1, 2] {
            let mut meter = Meter::new(id);
            meter.add(NOON, 60, 1);
            meters.put(meter);
        }
        meters.put(Meter::new(2));
        meters.keep(|id| id != 3);
        assert_eq!(meters.0.iter().map(|meter| meter.id).collect::<Vec<_>>(), [1]);
    }
}
