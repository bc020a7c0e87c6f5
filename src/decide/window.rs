//! How much an account sent within the window that ends now; what was refused never enters.
//!
//! Up to an hour the window is exact to the second: each second with messages is one pair (second, count), at most 3600
//! of them. A longer one has sixty slots, each a pair (its first second, count). What lies in the oldest slot counts until
//! the whole slot is too old, so that a window is up to a sixtieth longer than it says and never shorter.

use crate::clock::Seconds;

/// Bytes of one stored pair: four for the second, four for the count.
const PAIR: usize = 8;

/// Most pairs that are kept: one for each second of the longest window that is exact.
const MOST: usize = 3600;

/// Slots of a longer window.
const SLOTS: i64 = 60;

/// The length of a slot of a window of this length, in seconds.
fn slot(length: i64) -> i64 {
    if length <= MOST as i64 { 1 } else { (length + SLOTS - 1) / SLOTS }
}

/// The first second of the slot that a second lies in.
pub fn slot_of(at: Seconds, length: i64) -> u32 {
    let slot = slot(length);
    second(at.div_euclid(slot) * slot)
}

/// Whether what lies in the slot that begins then still counts.
pub fn counts_still(begin: u32, now: Seconds, length: i64) -> bool {
    i64::from(begin) + slot(length) - 1 > i64::from(second(now)) - length
}

/// Seconds with messages, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Window {
    pairs: Vec<(u32, u32)>,
}

impl Window {
    /// Reads what [`Window::stored`] wrote. The state can be written by every mail user, so anything is
    /// taken: half pairs are dropped, the order is put right, what is too much is cut.
    pub fn read(bytes: &[u8]) -> Window {
        let word = |b: &[u8]| u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
        Window::of(bytes.chunks_exact(PAIR).take(MOST).map(|pair| (word(pair), word(&pair[4..]))).collect())
    }

    /// The window as it is stored.
    pub fn stored(&self) -> Vec<u8> {
        self.pairs.iter().flat_map(|(at, n)| [at.to_le_bytes(), n.to_le_bytes()]).flatten().collect()
    }

    /// Forgets what lies before the window; a time in the future counts as now (the clock was set back).
    pub fn advance(&mut self, now: Seconds, length: i64) {
        self.pairs.retain(|(at, _)| counts_still(*at, now, length));
        let now = slot_of(now, length);
        let ahead: u32 =
            self.pairs.iter().filter(|(at, _)| *at > now).fold(0, |sum, (_, n)| sum.saturating_add(*n));
        if ahead > 0 {
            self.pairs.retain(|(at, _)| *at <= now);
            self.add_at(now, ahead);
        }
    }

    /// How many are in it.
    pub fn count(&self) -> i64 {
        self.pairs.iter().map(|(_, n)| i64::from(*n)).sum()
    }

    /// Adds so many at this time, which is not before any other in the window (see [`Window::advance`]).
    pub fn add(&mut self, now: Seconds, weight: u32) {
        self.add_at(second(now), weight);
    }

    /// The same in a window of this length, which may have slots.
    pub fn add_within(&mut self, now: Seconds, length: i64, weight: u32) {
        self.add_at(slot_of(now, length), weight);
    }

    fn add_at(&mut self, begin: u32, weight: u32) {
        match self.pairs.last_mut() {
            Some((at, n)) if *at == begin => *n = n.saturating_add(weight),
            _ => self.pairs.push((begin, weight)),
        }
        if self.pairs.len() > MOST {
            self.pairs.remove(0);
        }
    }

    /// The pairs, in ascending order of their seconds.
    pub fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }

    /// A window of these pairs, whatever their order.
    pub fn of(mut pairs: Vec<(u32, u32)>) -> Window {
        pairs.truncate(MOST);
        pairs.sort_unstable();
        Window { pairs }
    }
}

/// Stored seconds are 32 bits without a sign: enough until 2106.
fn second(at: Seconds) -> u32 {
    u32::try_from(at).unwrap_or(if at < 0 { 0 } else { u32::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The oracle is a plain list of times.
        #[test]
        fn the_window_counts_as_a_plain_list_of_times_does(
            steps in proptest::collection::vec((0i64..40, 1u32..4), 1..300),
            length in 60i64..600,
        ) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), 1_700_000_000i64);
            for (pause, weight) in steps {
                now += pause;
                window = Window::read(&window.stored());
                window.advance(now, length);
                list.retain(|t| *t > now - length);
                prop_assert_eq!(window.count(), list.len() as i64);
                window.add(now, weight);
                list.extend(std::iter::repeat_n(now, weight as usize));
            }
        }

        #[test]
        fn a_long_window_counts_what_is_young_enough_and_at_most_a_sixtieth_more(
            steps in proptest::collection::vec((0i64..40_000, 1u32..9), 1..200),
            length in 3601i64..2_592_000,
        ) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), 1_700_000_000i64);
            for (pause, weight) in steps {
                now += pause;
                window.advance(now, length);
                window.add_within(now, length, weight);
                list.push((now, i64::from(weight)));
                let within = |length: i64| list.iter().filter(|(t, _)| *t > now - length).map(|(_, n)| n).sum();
                let (low, high): (i64, i64) = (within(length), within(length + slot(length)));
                prop_assert!((low..=high).contains(&window.count()), "{low} {} {high}", window.count());
                prop_assert!(window.pairs().len() <= 62);
            }
        }

        #[test]
        fn a_clock_set_back_loses_no_message(back in 1i64..100_000) {
            let mut window = Window::default();
            for n in 0..100 {
                window.add(1_700_000_000 + n, 1);
            }
            window.advance(1_700_000_099 - back, 300);
            prop_assert_eq!(window.count(), 100);
            window.advance(1_700_000_099 - back + 300, 300);
            prop_assert!(window.count() < 100);
        }

        #[test]
        fn any_bytes_are_a_window(bytes: Vec<u8>, now in 0i64..5_000_000_000) {
            let mut window = Window::read(&bytes);
            window.advance(now, 300);
            window.add(now, 1);
            prop_assert!(window.count() >= 1);
            prop_assert_eq!(Window::read(&window.stored()), window);
        }
    }
}
