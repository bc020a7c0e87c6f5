//! A set of names that is filled and asked a hundred thousand times in a call: all in one text, none with memory of its
//! own.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Names, each once.
#[derive(Clone, Debug, Default)]
pub struct Names {
    text: String,
    /// Where each begins in the text, and where it ends.
    places: HashTable<(usize, usize)>,
    hasher: DefaultHashBuilder,
}

impl Names {
    /// With room for so many, of some length.
    fn with_room(names: usize) -> Names {
        Names {
            text: String::with_capacity(names * 24),
            places: HashTable::with_capacity(names),
            ..Names::default()
        }
    }

    fn insert(&mut self, name: &str) {
        let Names { text, places, hasher } = self;
        let is_same = |(from, to): &(usize, usize)| &text[*from..*to] == name;
        let hash_of = |(from, to): &(usize, usize)| hasher.hash_one(&text[*from..*to]);
        if let hashbrown::hash_table::Entry::Vacant(new) =
            places.entry(hasher.hash_one(name), is_same, hash_of)
        {
            new.insert((text.len(), text.len() + name.len()));
            text.push_str(name);
        }
    }

    /// Whether the name is among them.
    pub fn contains(&self, name: &str) -> bool {
        self.places.find(self.hasher.hash_one(name), |(from, to)| &self.text[*from..*to] == name).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Each of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|(from, to)| &self.text[*from..*to])
    }

    /// Drops those that are not wanted.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        self.places.retain(|(from, to)| is_wanted(&self.text[*from..*to]));
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<T: IntoIterator<Item = &'a str>>(names: T) -> Names {
        let names = names.into_iter();
        let mut set = Names::with_room(names.size_hint().1.unwrap_or(0));
        names.for_each(|name| set.insert(name));
        set
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Names) -> bool {
        self.len() == other.len() && self.iter().all(|name| other.contains(name))
    }
}

impl Eq for Names {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn they_hold_what_a_set_holds(names in prop::collection::vec("[ab]{0,3}", 0..20), asked in "[ab]{0,3}") {
            let mut ours: Names = names.iter().map(String::as_str).collect();
            let mut set: BTreeSet<&str> = names.iter().map(String::as_str).collect();
            for _ in 0..2 {
                prop_assert_eq!((ours.len(), ours.is_empty()), (set.len(), set.is_empty()));
                prop_assert_eq!(ours.iter().collect::<BTreeSet<_>>(), set.clone());
                prop_assert_eq!(ours.contains(&asked), set.contains(asked.as_str()));
                prop_assert_eq!(&ours, &set.iter().copied().collect::<Names>());
                ours.retain(|name| name.starts_with('a'));
                set.retain(|name| name.starts_with('a'));
            }
        }
    }
}
