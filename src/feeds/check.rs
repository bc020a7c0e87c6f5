//! Whether a list may take the place of the one from before. A publisher's mistake, or somebody who has taken his
//! place, must not lock a server's customers out, nor the server itself.

use super::formats::{Format, MOST_ENTRIES, Read, range_of};
use super::lookup::Feeds;
use crate::address::Network;
use crate::networks::ranges::{IPV6_BEGINS, Range, disjoint};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// Broken lines that a short list may have; a long one may have a hundredth of its entries.
const FEW: usize = 3;

/// A list may become so many times as large within a day, or from one fetch to the next where that is longer.
const GROWTH: u64 = 3;

/// No list counts as smaller than this when its growth is judged: so many networks, IPv4 addresses, and IPv6 networks of
/// the length 48.
const FLOOR: Size = Size { networks: 1000, v4: 1 << 16, v6: 1 << 16 };

/// More than a sixteenth of what each family has is no list of attackers.
const MOST: Size = Size { networks: u64::MAX, v4: 1 << 28, v6: 1 << 41 };

/// The first list, with nothing before it to be compared with, holds no more than a quarter of that.
const FIRST: Size = Size { networks: u64::MAX, v4: 1 << 26, v6: 1 << 39 };

/// The shortest prefixes that are believed; what is wider is a whole registry's.
const WIDEST: (u8, u8) = (8, 19);

/// Entries as narrow as this may name the server itself: somebody on it has attacked others, or seemed to. They are
/// left out. What is wider and holds the server is no list of attackers.
const NARROW: (u8, u8) = (24, 48);

/// What to do about a list that is right and large.
const ACCEPT: &str =
    "(where that is right, `postern feeds update` takes it with its name and --accept-growth)";

/// Space in which no client of the internet sits, or that is everybody's at home: RFC 6890 and its successors, and
/// multicast. Documentation networks are left out: nobody logs in from there, so they do no harm.
const RESERVED: [&str; 12] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23",
];

/// Where IPv6 addresses of the internet lie (RFC 4291 §2.4): all else is reserved.
const GLOBAL_V6: &str = "2000::/3";

/// These, parsed: a list has many entries to be compared with them.
static SPACE: LazyLock<(Vec<Network>, Option<Network>)> = LazyLock::new(|| {
    (RESERVED.iter().filter_map(|text| text.parse().ok()).collect(), GLOBAL_V6.parse().ok())
});

/// How much a list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Size {
    /// Networks, after those that adjoin are joined.
    pub(super) networks: u64,
    /// IPv4 addresses.
    pub(super) v4: u64,
    /// IPv6 networks of the length 48, rounded up.
    pub(super) v6: u64,
}

impl Size {
    pub(super) fn of(ranges: &[Range<()>]) -> Size {
        let mut size = Size { networks: ranges.len() as u64, ..Size::default() };
        for range in ranges {
            let wide = range.last - range.first;
            if range.first < IPV6_BEGINS {
                size.v4 = size.v4.saturating_add(u64::try_from(wide).unwrap_or(u64::MAX).saturating_add(1));
            } else {
                size.v6 =
                    size.v6.saturating_add(u64::try_from(wide >> 80).unwrap_or(u64::MAX).saturating_add(1));
            }
        }
        size
    }

    /// Each part with what it counts and how much of it there is.
    fn parts(self) -> [(&'static str, u64); 3] {
        [
            ("networks", self.networks),
            ("IPv4 addresses", self.v4),
            ("IPv6 networks of the length 48", self.v6),
        ]
    }
}

/// The server's own addresses, ready to be found among many entries.
pub(super) struct Own<'a> {
    given: &'a [Network],
    ranges: Vec<Range<()>>,
}

impl<'a> Own<'a> {
    pub(super) fn new(given: &'a [Network]) -> Own<'a> {
        Own { given, ranges: disjoint(given.iter().filter_map(range_of).collect()).0 }
    }

    /// One that lies in this network, or in which it lies.
    fn on(&self, network: &Network) -> Option<&'a Network> {
        let wanted = range_of(network)?;
        let before = self.ranges.partition_point(|range| range.first <= wanted.last);
        self.ranges[..before].last().filter(|range| range.last >= wanted.first)?;
        self.given.iter().find(|own| own.overlaps(network))
    }

    /// Whether one is named by what is compiled.
    pub(super) fn is_named_by(&self, feeds: &Feeds) -> bool {
        self.ranges.iter().any(|range| feeds.is_any(range))
    }

    /// Takes the narrow entries that hold one of these out of the list.
    pub(super) fn leave_out(&self, read: &mut Read) {
        let (own, rest) = std::mem::take(&mut read.networks)
            .into_iter()
            .partition(|network| is_narrow(network) && self.on(network).is_some());
        (read.own, read.networks) = (own, rest);
    }
}

fn is_narrow(network: &Network) -> bool {
    let net = network.net();
    net.prefix_len() >= if matches!(net, IpNet::V4(_)) { NARROW.0 } else { NARROW.1 }
}

/// What is known beside the list itself.
pub(super) struct Known<'a> {
    /// How much the list held that its growth is measured by.
    pub(super) before: Option<Size>,
    /// The server's own addresses.
    pub(super) own: &'a Own<'a>,
    /// Whether the administrator wants it however much it has grown.
    pub(super) may_grow: bool,
}

/// Why the list is refused, as the end of a sentence; none: it may be used. What holds the server itself and is narrow
/// has been [left out](Own::leave_out).
pub(super) fn refusal(read: &Read, format: Format, size: Size, known: &Known) -> Option<String> {
    let entries = read.networks.len() + read.own.len();
    if entries > MOST_ENTRIES {
        return Some(format!("it has more than {MOST_ENTRIES} entries"));
    }
    let broken = &read.broken;
    if broken.count > FEW.max(entries / 100) || (broken.count > 0 && broken.count >= entries) {
        let words = broken.words();
        return Some(format!(
            "{} of its lines are not understood as {format}, too many to believe the others: {words}",
            broken.count
        ));
    }
    if entries == 0 {
        return Some("it has no entry".into());
    }
    // One more: the line in which the list says so may be counted, too.
    if let Some(promised) = read.promised.filter(|promised| entries + broken.count + 1 < *promised) {
        return Some(format!("it says that it has {promised} entries, and {entries} came: it is not whole"));
    }
    if let Some(bad) = unfit_entry(read, known.own) {
        return Some(bad);
    }
    let too_much = size.parts().into_iter().zip(MOST.parts()).find(|((_, n), (_, most))| n > most);
    if let Some(((what, n), _)) = too_much {
        return Some(format!("it holds {n} {what}, a good part of all there are"));
    }
    if known.may_grow {
        return None;
    }
    let Some(before) = known.before else {
        let mut parts = size.parts().into_iter().zip(FIRST.parts());
        let ((what, n), (_, most)) = parts.find(|((_, n), (_, most))| n > most)?;
        return Some(format!(
            "it holds {n} {what}, more than {most}, and there is no list before it to compare it with {ACCEPT}"
        ));
    };
    let grown = size.parts().into_iter().zip(before.parts()).zip(FLOOR.parts());
    let grown = grown.map(|(((what, n), (_, old)), (_, floor))| (what, n, old, old.max(floor)));
    let mut grown = grown.filter(|(_, n, _, base)| *n > base.saturating_mul(GROWTH));
    grown.next().map(|(what, n, old, _)| {
        format!(
            "it has grown from {old} to {n} {what}, more than threefold within a day or since the last list {ACCEPT}"
        )
    })
}

/// Why an entry of the list costs all of it.
pub(super) fn unfit_entry(read: &Read, own: &Own) -> Option<String> {
    read.networks.iter().find_map(|network| unfit(network, own))
}

/// Why this network can stand in no list.
fn unfit(network: &Network, own: &Own) -> Option<String> {
    let net = network.net();
    let (is_v4, length) = (matches!(net, IpNet::V4(_)), net.prefix_len());
    let widest = if is_v4 { WIDEST.0 } else { WIDEST.1 };
    if length < widest {
        return Some(format!("it holds {network}, which is wider than /{widest}"));
    }
    let (reserved, global) = &*SPACE;
    let is_global = is_v4 || global.is_some_and(|global| global.net().contains(&net));
    if !is_global || reserved.iter().any(|reserved| reserved.overlaps(network)) {
        return Some(format!("it holds {network}, which is private or reserved"));
    }
    let own = own.on(network)?;
    Some(format!("it holds {network}, where this server's own address {own} lies"))
}

#[cfg(test)]
mod tests {
    use super::super::formats::read;
    use super::*;

    const NOBODY: Own = Own { given: &[], ranges: Vec::new() };
    const NOTHING: Known = Known { before: None, own: &NOBODY, may_grow: false };

    fn said(text: &str, known: &Known) -> Option<String> {
        let mut read = read(Format::Plain, 1, text.as_bytes());
        known.own.leave_out(&mut read);
        refusal(&read, Format::Plain, Size::of(&read.ranges()), known)
    }

    #[test]
    fn a_list_with_private_reserved_or_far_too_much_space_is_refused_by_the_entry() {
        for bad in [
            "10.1.2.3",
            "192.168.0.0/24",
            "172.16.0.0/12",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "fd00::/32",
            "ff02::1",
            "64:ff9b::1.2.3.4",
            "0.0.0.0/0",
            "::/0",
            "192.0.0.0/7",
            "2a00::/18",
            "::1.2.3.4",
        ] {
            let why = said(&format!("198.51.100.7\n{bad}\n"), &NOTHING).unwrap_or_default();
            let named = bad.parse::<Network>().unwrap().to_string();
            assert!(why.starts_with(&format!("it holds {named}, which is")), "{bad}: {why}");
        }
        for good in ["192.0.2.7", "100.63.255.255", "100.128.0.0/10", "8.0.0.0/8", "2a00::/19", "2001:db8::1"]
        {
            assert_eq!(said(good, &NOTHING), None, "{good}");
        }
        let halves: String = (1..=240)
            .filter(|n| ![10, 127].contains(n) && *n < 224)
            .map(|n| format!("{n}.0.0.0/9\n"))
            .collect();
        let why = said(&halves, &NOTHING).unwrap();
        assert!(why.contains("private or reserved") || why.contains("good part of all"), "{why}");
        let many: String = (20..60).map(|n| format!("{n}.0.0.0/8\n")).collect();
        assert!(said(&many, &NOTHING).unwrap().contains("good part of all"));
    }

    #[test]
    fn a_narrow_entry_with_an_own_address_is_left_out_and_a_wide_one_costs_the_list() {
        let own = ["203.0.113.5".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()];
        let known = Known { own: &Own::new(&own), ..NOTHING };
        for listed in ["203.0.112.0/23", "203.0.0.0/16", "2001:db8::/47", "2001:db8::/32"] {
            let why = said(&format!("198.51.100.7\n{listed}"), &known).unwrap();
            assert!(why.contains(&format!("{listed}, where this server's own address")), "{why}");
        }
        for listed in ["203.0.113.5", "203.0.113.0/24", "2001:db8:1::9", "2001:db8:1::/48"] {
            let text = format!("198.51.100.7\n{listed}\n203.0.113.6\n2001:db8:2::/48\n");
            let mut read = read(Format::Plain, 1, text.as_bytes());
            known.own.leave_out(&mut read);
            assert_eq!((read.networks.len(), read.own.as_slice()), (3, &[listed.parse().unwrap()][..]));
            assert_eq!(said(&text, &known), None);
        }
        assert_eq!(said("203.0.113.5\n", &known), None, "it has an entry");
    }

    #[test]
    fn a_list_may_grow_threefold_and_small_ones_as_they_like() {
        let addresses = |n: u32| -> String {
            (0..n).map(|i| format!("{}\n", std::net::Ipv4Addr::from_bits(0x1400_0000 + 2 * i))).collect()
        };
        let before = |n: u32| {
            let ranges = read(Format::Plain, 1, addresses(n).as_bytes()).ranges();
            Known { before: Some(Size::of(&ranges)), ..NOTHING }
        };
        assert_eq!(said(&addresses(3000), &before(1)), None);
        assert!(said(&addresses(3001), &before(1)).unwrap().contains("from 1 to 3001 networks, more"));
        assert_eq!(said(&addresses(6000), &before(2000)), None);
        assert!(said(&addresses(6001), &before(2000)).unwrap().contains("from 2000 to 6001 networks"));
        assert_eq!(said(&addresses(6001), &Known { may_grow: true, ..before(2000) }), None);
        assert_eq!(said(&addresses(10), &before(5000)), None);
        // Few networks, and wide ones.
        let why = said("20.0.0.0/8\n", &before(5)).unwrap();
        assert!(why.contains("from 5 to 16777216 IPv4 addresses"), "{why}");
        let why = said("2a00::/24\n", &before(5)).unwrap();
        assert!(why.contains("IPv6 networks of the length 48"), "{why}");
    }

    #[test]
    fn a_first_list_has_a_bound_of_its_own() {
        let four: String = (20..24).map(|n| format!("{n}.0.0.0/8\n")).collect();
        assert_eq!(said(&four, &NOTHING), None);
        let more = format!("{four}30.0.0.1\n");
        let why = said(&more, &NOTHING).unwrap();
        assert!(why.contains("67108865 IPv4 addresses, more than 67108864"), "{why}");
        assert_eq!(said(&more, &Known { may_grow: true, ..NOTHING }), None);
    }

    #[test]
    fn a_list_of_more_than_a_million_entries_is_refused() {
        let list = |n: usize| "20.0.0.1\n".repeat(n);
        assert_eq!(said(&list(MOST_ENTRIES), &NOTHING), None);
        let why = said(&list(MOST_ENTRIES + 1), &NOTHING);
        assert_eq!(why.as_deref(), Some("it has more than 1000000 entries"));
    }

    #[test]
    fn a_few_broken_lines_cost_themselves_and_many_the_list() {
        let good: String = (0..600).map(|n| format!("20.0.{}.{}\n", n / 250, n % 250)).collect();
        for (list, broken, refused) in [
            (good.as_str(), 6, false),
            (good.as_str(), 7, true),
            ("198.51.100.7\n198.51.100.9\n", 1, false),
            ("198.51.100.7\n198.51.100.9\n", 2, true),
            ("198.51.100.7\n", 1, true),
            ("", 1, true),
        ] {
            let text = format!("{list}{}", "nonsense\n".repeat(broken));
            let why = said(&text, &NOTHING);
            assert_eq!(why.is_some(), refused, "{broken} of {}: {why:?}", list.len());
        }
        assert!(said("", &NOTHING).unwrap().contains("no entry"));
        let page = "<html>\n<body>\nToo many requests\n</body>\n</html>\n";
        assert!(said(page, &NOTHING).unwrap().contains("line 1 (\"<html>\")"));
    }

    #[test]
    fn a_list_that_says_that_it_has_more_is_not_whole() {
        let said = |promised: usize| {
            let text = "{\"cidr\":\"20.0.0.0/24\"}\n{\"type\":\"metadata\",\"records\":N}\n";
            let read = read(Format::DropJson, 1, text.replace('N', &promised.to_string()).as_bytes());
            refusal(&read, Format::DropJson, Size::of(&read.ranges()), &NOTHING)
        };
        assert_eq!((said(0), said(1), said(2)), (None, None, None));
        assert!(said(3).unwrap().contains("it says that it has 3 entries, and 1 came: it is not whole"));
    }
}
