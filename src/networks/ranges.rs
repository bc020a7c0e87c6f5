//! Ranges of addresses: made disjoint, laid over each other, cut into prefixes.
//!
//! Everything here counts in *keys*: 128 bits in which IPv4 lies at `::/96`, as the MMDB format has it, so
//! that one order and one pass serve both families. No input or output, no clock.

use crate::address::Address;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Keys below this are IPv4.
pub(crate) const IPV6_BEGINS: u128 = 1 << 32;

/// Addresses from `first` to `last`, both included, and what is said of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range<V> {
    pub(crate) first: u128,
    pub(crate) last: u128,
    pub(crate) value: V,
}

/// The key of an address. An IPv6 address below [`IPV6_BEGINS`] has none: its place is IPv4's.
pub(crate) fn key_of(ip: IpAddr) -> Option<u128> {
    match ip {
        IpAddr::V4(v4) => Some(u128::from(v4.to_bits())),
        IpAddr::V6(v6) => Some(v6.to_bits()).filter(|key| *key >= IPV6_BEGINS),
    }
}

/// The address with this key. None for IPv4-mapped keys, which no look-up ever asks for.
pub(crate) fn address_of(key: u128) -> Option<Address> {
    match u32::try_from(key) {
        Ok(v4) => Some(Address::new(IpAddr::V4(Ipv4Addr::from_bits(v4)))),
        Err(_) => {
            let ip = Ipv6Addr::from_bits(key);
            ip.to_ipv4_mapped().is_none().then(|| Address::new(IpAddr::V6(ip)))
        }
    }
}

/// Appends a range to sorted disjoint ones; one that continues the last with the same value is joined to it.
pub(crate) fn push_joined<V: PartialEq>(ranges: &mut Vec<Range<V>>, next: Range<V>) {
    match ranges.last_mut() {
        Some(last) if last.value == next.value && last.last.checked_add(1) == Some(next.first) => {
            last.last = next.last;
        }
        _ => ranges.push(next),
    }
}

/// What sorted disjoint ranges say of a key.
pub(crate) fn value_at<V: Copy>(ranges: &[Range<V>], key: u128) -> Option<V> {
    let after = ranges.partition_point(|range| range.first <= key);
    ranges[..after].last().filter(|range| range.last >= key).map(|range| range.value)
}

/// Makes ranges disjoint and sorted. Where several hold an address the narrowest speaks for it; of equally
/// narrow ones the one that begins first, then the first given. Also says how many began inside another.
pub(crate) fn disjoint<V: Copy + PartialEq>(mut ranges: Vec<Range<V>>) -> (Vec<Range<V>>, u64) {
    ranges.sort_by_key(|range| range.first); // stable: "first given" survives
    let mut result: Vec<Range<V>> = Vec::with_capacity(ranges.len());
    let mut open: BinaryHeap<Reverse<(u128, usize)>> = BinaryHeap::new(); // by width, then as given
    let (mut position, mut next, mut overlaps) = (0u128, 0, 0);
    loop {
        while open.peek().is_some_and(|Reverse((_, i))| ranges[*i].last < position) {
            open.pop();
        }
        if open.is_empty() {
            let Some(begin) = ranges.get(next) else { return (result, overlaps) };
            position = begin.first;
        }
        while let Some(range) = ranges.get(next).filter(|range| range.first <= position) {
            overlaps += u64::from(!open.is_empty());
            open.push(Reverse((range.last - range.first, next)));
            next += 1;
        }
        let Some(Reverse((_, speaker))) = open.peek() else { continue };
        let speaker = ranges[*speaker];
        let until_next = ranges.get(next).map_or(u128::MAX, |range| range.first - 1);
        let last = speaker.last.min(until_next);
        push_joined(&mut result, Range { first: position, last, value: speaker.value });
        let Some(after) = last.checked_add(1) else { return (result, overlaps) };
        position = after;
    }
}

/// Two layers of sorted disjoint ranges as one: wherever either says something, what both say.
pub(crate) struct Overlay<A: Iterator, B: Iterator> {
    a: Peekable<A>,
    b: Peekable<B>,
    /// The next key to speak of; none when the last key has been.
    position: Option<u128>,
}

impl<X, Y, A, B> Overlay<A, B>
where
    A: Iterator<Item = Range<X>>,
    B: Iterator<Item = Range<Y>>,
{
    pub(crate) fn new(a: A, b: B) -> Self {
        Overlay { a: a.peekable(), b: b.peekable(), position: Some(0) }
    }
}

impl<X: Copy, Y: Copy, A, B> Iterator for Overlay<A, B>
where
    A: Iterator<Item = Range<X>>,
    B: Iterator<Item = Range<Y>>,
{
    type Item = Range<(Option<X>, Option<Y>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let position = self.position?;
        while self.a.next_if(|range| range.last < position).is_some() {}
        while self.b.next_if(|range| range.last < position).is_some() {}
        let (a, b) = (self.a.peek().copied(), self.b.peek().copied());
        let begins = [a.map(|r| r.first), b.map(|r| r.first)];
        let first = begins.into_iter().flatten().min()?.max(position);
        let (x, a_until) = seen_from(first, a);
        let (y, b_until) = seen_from(first, b);
        let last = a_until.min(b_until);
        self.position = last.checked_add(1);
        Some(Range { first, last, value: (x, y) })
    }
}

/// What the range says at `first`, and how far that holds.
fn seen_from<V>(first: u128, range: Option<Range<V>>) -> (Option<V>, u128) {
    match range {
        None => (None, u128::MAX),
        Some(range) if range.first > first => (None, range.first - 1),
        Some(range) => (Some(range.value), range.last),
    }
}

/// The fewest prefixes that together are the range: key and length, in order.
pub(crate) fn prefixes(first: u128, last: u128) -> impl Iterator<Item = (u128, u32)> {
    let mut begin = Some(first).filter(|first| *first <= last);
    std::iter::from_fn(move || {
        let key = begin?;
        let fits = match (last - key).checked_add(1) {
            Some(size) => size.ilog2(),
            None => 128, // everything: the size itself does not fit
        };
        let host_bits = fits.min(key.trailing_zeros());
        begin = 1u128.checked_shl(host_bits).and_then(|size| key.checked_add(size));
        begin = begin.filter(|next| *next <= last);
        Some((key, 128 - host_bits))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Small numbers at both ends of the space, so that ranges meet, overlap and touch the ends.
    fn keys() -> impl Strategy<Value = u128> {
        prop_oneof![0u128..64, (0u128..64).prop_map(|n| u128::MAX - n)]
    }

    fn ranges() -> impl Strategy<Value = Vec<Range<u8>>> {
        let one = (keys(), keys(), 0u8..4).prop_map(|(x, y, value)| Range {
            first: x.min(y),
            last: x.max(y),
            value,
        });
        vec(one, 0..12)
    }

    fn all_keys() -> impl Iterator<Item = u128> {
        (0..70).chain(u128::MAX - 70..=u128::MAX)
    }

    fn assert_sorted<V>(ranges: &[Range<V>]) {
        assert!(ranges.iter().all(|range| range.first <= range.last));
        assert!(ranges.windows(2).all(|pair| pair[0].last < pair[1].first));
    }

    #[test]
    fn the_narrowest_range_speaks_and_of_equals_the_first() {
        let given = vec![
            Range { first: 10, last: 20, value: 'w' },
            Range { first: 12, last: 13, value: 'n' },
            Range { first: 12, last: 13, value: 'x' },
            Range { first: 18, last: 25, value: 'p' },
        ];
        let (ranges, overlaps) = disjoint(given);
        let said: String = (9..27).map(|key| value_at(&ranges, key).unwrap_or('-')).collect();
        assert_eq!(said, "-wwnnwwwwpppppppp-");
        assert_eq!(overlaps, 3);
    }

    #[test]
    fn the_whole_space_is_one_prefix() {
        assert_eq!(prefixes(0, u128::MAX).collect::<Vec<_>>(), [(0, 0)]);
    }

    #[test]
    fn mapped_keys_have_no_address_and_ipv6_over_ipv4_has_no_key() {
        assert_eq!(address_of("::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().to_bits()), None);
        assert_eq!(key_of("::1".parse().unwrap()), None);
        for text in ["192.0.2.1", "2001:db8::1", "255.255.255.255", "::1:0:0"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address_of(key_of(address.ip()).unwrap()), Some(address));
        }
    }

    proptest! {
        #[test]
        fn disjoint_ranges_say_what_the_narrowest_given_range_says(given in ranges()) {
            let (result, _) = disjoint(given.clone());
            assert_sorted(&result);
            for key in all_keys() {
                let holding = given.iter().filter(|range| (range.first..=range.last).contains(&key));
                // Ties go to the range that begins first, then to the one given first.
                let narrowest = holding.min_by_key(|range| (range.last - range.first, range.first));
                prop_assert_eq!(value_at(&result, key), narrowest.map(|range| range.value));
            }
        }

        #[test]
        fn an_overlay_says_what_both_layers_say(a in ranges(), b in ranges()) {
            let (a, b) = (disjoint(a).0, disjoint(b).0);
            let both: Vec<_> = Overlay::new(a.iter().copied(), b.iter().copied()).collect();
            assert_sorted(&both);
            for key in all_keys() {
                let expected = (value_at(&a, key), value_at(&b, key));
                prop_assert_eq!(value_at(&both, key).unwrap_or((None, None)), expected);
            }
        }

        #[test]
        fn prefixes_are_the_range_without_gap_or_overlap(x: u128, y: u128, near in 0u128..200) {
            for (first, last) in [(x.min(y), x.max(y)), (x, x.saturating_add(near))] {
                let mut expected = Some(first);
                for (key, length) in prefixes(first, last) {
                    prop_assert_eq!(Some(key), expected);
                    let end = key + (1u128.checked_shl(128 - length).map_or(u128::MAX, |size| size - 1));
                    prop_assert!(end <= last);
                    expected = end.checked_add(1);
                }
                prop_assert_eq!(expected, last.checked_add(1));
            }
        }
    }
}
