//! A set of numbers that the state gave away: small ones, close together, so that a bit for each is the cheapest to
//! fill and to ask. Mail users can write any number into the state; those far away are kept one by one.

use std::collections::BTreeSet;

/// Numbers from which on each is kept by itself. A bit for each below takes half a megabyte.
const FAR: i64 = 1 << 22;

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// A bit for each number; the last word is never empty.
    near: Vec<u64>,
    far: BTreeSet<i64>,
    n: usize,
}

/// The word and the bit of a number that is near.
fn place(number: i64) -> Option<(usize, u64)> {
    let near = usize::try_from(number).ok().filter(|_| number < FAR)?;
    Some((near / 64, 1 << (near % 64)))
}

impl Numbers {
    /// Adds a number.
    pub fn insert(&mut self, number: i64) {
        let is_new = match place(number) {
            None => self.far.insert(number),
            Some((word, bit)) => {
                if self.near.len() <= word {
                    self.near.resize(word + 1, 0);
                }
                let is_new = self.near[word] & bit == 0;
                self.near[word] |= bit;
                is_new
            }
        };
        self.n += usize::from(is_new);
    }

    /// Whether the number is among them.
    pub fn contains(&self, number: i64) -> bool {
        match place(number) {
            None => self.far.contains(&number),
            Some((word, bit)) => self.near.get(word).is_some_and(|w| w & bit != 0),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.n
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Each of them: the near ones in their order, then the others.
    pub fn iter(&self) -> impl Iterator<Item = i64> + '_ {
        let bits = |(place, word): (usize, &u64)| {
            let (first, word) = (place as i64 * 64, *word);
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit)
        };
        self.near
            .iter()
            .enumerate()
            .filter(|(_, word)| **word != 0)
            .flat_map(bits)
            .chain(self.far.iter().copied())
    }
}

impl Extend<i64> for Numbers {
    fn extend<T: IntoIterator<Item = i64>>(&mut self, numbers: T) {
        numbers.into_iter().for_each(|number| self.insert(number));
    }
}

impl FromIterator<i64> for Numbers {
    fn from_iter<T: IntoIterator<Item = i64>>(numbers: T) -> Numbers {
        let mut set = Numbers::default();
        set.extend(numbers);
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn they_hold_what_a_set_holds(
            numbers in prop::collection::vec(prop_oneof![-3i64..200, FAR - 2..FAR + 2, any::<i64>()], 0..80),
        ) {
            let (ours, set): (Numbers, BTreeSet<i64>) = (numbers.iter().copied().collect(), numbers.iter().copied().collect());
            prop_assert_eq!(ours.len(), set.len());
            prop_assert_eq!(ours.iter().collect::<BTreeSet<_>>(), set.clone());
            for number in numbers.iter().flat_map(|n| [n.wrapping_sub(1), *n, n.wrapping_add(1)]) {
                prop_assert_eq!(ours.contains(number), set.contains(&number));
            }
        }
    }
}
