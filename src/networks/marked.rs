//! Networks that we mark ourselves: lists in this project, reviewed as their heads say.

use super::ranges::{Overlay, Range, disjoint, key_of};
use super::{Tag, Tags};
use crate::address::Network;
use crate::asn::Asn;
use crate::error::{Error, Result};
use std::collections::{HashMap, HashSet};

/// Mail services that log in for their users.
const CLOUD_MAIL_CLIENTS: &str = include_str!("cloud-mail-clients.txt");

/// Hosting companies, and the exits of VPN services, Tor and relays.
const HOSTING: &str = include_str!("hosting.txt");

/// Tags that the list of hosting networks may give.
const GIVEN: [Tag; 4] = [Tag::Hosting, Tag::Vpn, Tag::Tor, Tag::Relay];

/// What a line of a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Every network that a system announces.
    System(Asn),
    /// One network, whoever announces it.
    Network(Network),
}

/// A line of one of our lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What is marked.
    pub place: Place,
    /// Whose it is, or what service it belongs to.
    pub name: String,
    /// As what.
    pub tags: Tags,
}

/// Everything that our lists mark, ready to be compiled.
pub(crate) struct Marked {
    /// By the number of the system.
    pub(crate) systems: HashMap<u32, Tags>,
    /// By network: sorted and disjoint.
    pub(crate) ranges: Vec<Range<Tags>>,
}

/// Our list of hosting networks.
pub fn hosting() -> Result<Vec<Listed>> {
    listed_hosting(HOSTING)
}

/// Our list of cloud mail clients.
pub fn cloud_mail_clients() -> Result<Vec<Listed>> {
    listed_clients(CLOUD_MAIL_CLIENTS)
}

/// What both lists mark.
pub(crate) fn marked() -> Result<Marked> {
    let hosting = hosting()?;
    let (clients, rented) = (ranges(&cloud_mail_clients()?), ranges(&hosting));
    let both = Overlay::new(clients.into_iter(), rented.into_iter()).map(|range| {
        let (a, b) = range.value;
        Range { first: range.first, last: range.last, value: a.unwrap_or_default().or(b.unwrap_or_default()) }
    });
    let systems = hosting.iter().filter_map(|listed| match listed.place {
        Place::System(asn) => Some((asn.0, listed.tags)),
        Place::Network(_) => None,
    });
    Ok(Marked { systems: systems.collect(), ranges: both.collect() })
}

fn ranges(list: &[Listed]) -> Vec<Range<Tags>> {
    let range = |listed: &Listed| match listed.place {
        Place::Network(network) => range_of(&network, listed.tags),
        Place::System(_) => None,
    };
    disjoint(list.iter().filter_map(range).collect()).0
}

/// The network's keys. An IPv6 network below IPv4's place has none.
pub(super) fn range_of<V>(network: &Network, value: V) -> Option<Range<V>> {
    let net = network.net();
    Some(Range { first: key_of(net.network())?, last: key_of(net.broadcast())?, value })
}

/// The lines that are neither empty nor remarks, with their numbers.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Columns are separated by two spaces or more, so that a name may hold one.
pub(super) fn columns(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|column| !column.is_empty()).collect()
}

fn wrong(list: &str, number: usize, line: &str, why: &str) -> Error {
    Error::Data(format!("Line {number} of the list of {list} is not understood ({why}): {line:?}."))
}

fn listed_hosting(text: &str) -> Result<Vec<Listed>> {
    let mut seen = HashSet::new();
    let read = |(number, line): (usize, &str)| {
        let wrong = |why: &str| wrong("hosting networks", number, line, why);
        let [place, name, tags] = columns(line)[..] else {
            return Err(wrong("system, name and tags are to be separated by two spaces"));
        };
        let place = match (place.parse::<Asn>(), place.parse::<Network>()) {
            (Ok(asn), _) => Place::System(asn),
            (_, Ok(network)) => Place::Network(network),
            _ => return Err(wrong("neither a system nor a network")),
        };
        if !seen.insert(place) {
            return Err(wrong("it is there already"));
        }
        let tag = |word: &str| Tag::named(word).filter(|tag| GIVEN.contains(tag));
        let tags: Option<Tags> = tags.split(' ').map(tag).collect();
        let tags = tags.ok_or_else(|| wrong("its tags are hosting, vpn, tor, relay"))?;
        Ok(Listed { place, name: name.to_owned(), tags })
    };
    lines(text).map(read).collect()
}

fn listed_clients(text: &str) -> Result<Vec<Listed>> {
    let read = |(number, line): (usize, &str)| {
        let (network, name) = line.split_once(' ').unwrap_or((line, ""));
        let network = network.parse();
        let network = network.map_err(|_| wrong("cloud mail clients", number, line, "no network"))?;
        let tags = Tags::NONE.with(Tag::CloudMailClient);
        Ok(Listed { place: Place::Network(network), name: name.trim().to_owned(), tags })
    };
    lines(text).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::ranges::value_at;
    use proptest::prelude::*;

    fn tags_of(address: &str) -> Tags {
        let ranges = marked().unwrap().ranges;
        value_at(&ranges, key_of(address.parse().unwrap()).unwrap()).unwrap_or(Tags::NONE)
    }

    #[test]
    fn the_list_of_cloud_mail_clients_marks_the_services_only() {
        assert!(tags_of("52.125.3.4").contains(Tag::CloudMailClient));
        assert!(tags_of("2a00:1450:4000::1").contains(Tag::CloudMailClient));
        for rented in ["52.95.255.255", "52.104.0.0", "20.50.2.1", "34.90.1.1", "2a01:111::1"] {
            assert_eq!(tags_of(rented), Tags::NONE, "{rented}");
        }
    }

    #[test]
    fn the_list_of_hosting_networks_knows_the_large_clouds_and_no_transit() {
        let marked = marked().unwrap();
        let tags = |asn: u32| marked.systems.get(&asn).copied().unwrap_or_default();
        for cloud in [16_509, 14_618, 8075, 15_169, 396_982, 31_898, 14_061, 63_949, 20_473, 24_940, 16_276] {
            assert_eq!(tags(cloud), Tags::NONE.with(Tag::Hosting), "AS{cloud}");
        }
        assert_eq!(tags(36_183), Tags::NONE.with(Tag::Relay));
        assert_eq!(tags(209_103), Tags::NONE.with(Tag::Vpn));
        assert_eq!(tags(60_729), Tags::NONE.with(Tag::Tor));
        for other in [6939, 3561, 4323, 20_940, 3320, 7922] {
            assert_eq!(tags(other), Tags::NONE, "AS{other}");
        }
        assert_eq!(tags_of("172.235.103.7"), Tags::NONE.with(Tag::Hosting));
    }

    #[test]
    fn names_are_short_and_fit_for_a_terminal() {
        for listed in hosting().unwrap().iter().chain(&cloud_mail_clients().unwrap()) {
            let name = &listed.name;
            assert!((1..=42).contains(&name.len()) && !name.contains(char::is_control), "{name:?}");
        }
    }

    #[test]
    fn a_broken_line_is_refused_with_its_number() {
        let good = "# a remark\n\nAS64500  Example, Inc.  hosting vpn\n192.0.2.0/24   Other    relay\n";
        let list = listed_hosting(good).unwrap();
        assert_eq!((list.len(), list[0].name.as_str()), (2, "Example, Inc."));
        assert_eq!(list[0].tags, [Tag::Hosting, Tag::Vpn].into_iter().collect());
        for bad in [
            "AS64501 Example hosting",
            "AS64501  Example",
            "AS64501  Example  ",
            "AS64501  Example  hosting  vpn",
            "AS64501  Example  hosted",
            "AS64501  Example  cloud_mail_client",
            "64501  Example  hosting",
            "AS64500  Again  hosting",
            "192.0.2.0/33  Example  hosting",
            "nonsense",
        ] {
            let error = listed_hosting(&format!("{good}{bad}\n")).unwrap_err().to_string();
            assert!(error.starts_with("Line 5 of the list of hosting networks"), "{error}");
        }
        let error = listed_clients("192.0.2.0/24 x\n\nnonsense").unwrap_err().to_string();
        assert!(error.starts_with("Line 3 of the list of cloud mail clients"), "{error}");
    }

    fn any_line() -> impl Strategy<Value = String> {
        let place = prop_oneof!["AS[0-9]{1,6}", "10\\.[0-9]{1,2}\\.0\\.0/16", "[ -~]{0,8}"];
        let tags = prop_oneof!["hosting|vpn|tor|relay|hosting vpn", "[ -~]{0,12}"];
        prop_oneof![(place, "[ -~]{0,12}", tags).prop_map(|(a, b, c)| format!("{a}  {b}  {c}")), "\\PC*"]
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_an_error_that_names_its_first_bad_line(
            lines in proptest::collection::vec(any_line(), 0..6)
        ) {
            let alone = |n: usize| listed_hosting(&lines[..n].join("\n"));
            match alone(lines.len()) {
                Ok(list) => prop_assert!(list.iter().all(|l| !l.tags.is_empty() && !l.name.is_empty())),
                Err(error) => {
                    let bad = (1..=lines.len()).find(|n| alone(*n).is_err()).unwrap();
                    prop_assert!(error.to_string().starts_with(&format!("Line {bad} of ")), "{}", error);
                }
            }
            let _ = listed_clients(&lines.join("\n"));
        }
    }
}
