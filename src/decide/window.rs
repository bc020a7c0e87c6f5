//! How many messages an account sent within the window that ends now.
//!
//! Exact to the second: each second with messages is one pair (second, count). Up to an hour that is at
//! most 3600 pairs; messages that were refused never enter.

use crate::clock::Seconds;

/// Bytes of one stored pair: four for the second, four for the count.
const PAIR: usize = 8;

/// Most pairs that are kept: one for each second of the longest window.
const MOST: usize = 3600;

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
        let mut pairs: Vec<(u32, u32)> =
            bytes.chunks_exact(PAIR).take(MOST).map(|pair| (word(pair), word(&pair[4..]))).collect();
        pairs.sort_unstable();
        Window { pairs }
    }

    /// The window as it is stored.
    pub fn stored(&self) -> Vec<u8> {
        self.pairs.iter().flat_map(|(at, n)| [at.to_le_bytes(), n.to_le_bytes()]).flatten().collect()
    }

    /// Forgets what lies before the window; a time in the future counts as now (the clock was set back).
    pub fn advance(&mut self, now: Seconds, length: i64) {
        let now = second(now);
        let oldest = i64::from(now) - length;
        self.pairs.retain(|(at, _)| i64::from((*at).min(now)) > oldest);
        let ahead: u32 =
            self.pairs.iter().filter(|(at, _)| *at > now).fold(0, |sum, (_, n)| sum.saturating_add(*n));
        if ahead > 0 {
            self.pairs.retain(|(at, _)| *at <= now);
            self.add(i64::from(now), ahead);
        }
    }

    /// How many are in it.
    pub fn count(&self) -> i64 {
        self.pairs.iter().map(|(_, n)| i64::from(*n)).sum()
    }

    /// Adds so many at this time, which is not before any other in the window (see [`Window::advance`]).
    pub fn add(&mut self, now: Seconds, weight: u32) {
        match self.pairs.last_mut() {
            Some((at, n)) if *at == second(now) => *n = n.saturating_add(weight),
            _ => self.pairs.push((second(now), weight)),
        }
        if self.pairs.len() > MOST {
            self.pairs.remove(0);
        }
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
