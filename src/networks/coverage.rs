//! How good the marks in the data in use are: how much of what providers publish as theirs is marked as hosting, and
//! whether networks are marked in which nobody but people at home sits.

use super::lookup::Networks;
use super::marked::{self, Listed, Place, columns, lines, range_of};
use super::ranges::{IPV6_BEGINS, Overlay, Range, disjoint, push_joined};
use super::{Tag, Tags};
use crate::address::Network;
use crate::asn::Asn;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Networks in which people read their mail.
const ACCESS_NETWORKS: &str = include_str!("access-networks.txt");

/// Space that is nobody's, whoever announces it and whoever lists it (RFC 6890; 6to4: RFC 7526). It has crept into
/// providers' lists, and in routing tables it belongs to relays.
const NOBODYS: [&str; 6] =
    ["2002::/16", "2001::/23", "2001:db8::/32", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"];

/// Tags that keep somebody out, where the rule is enforced.
const RESTRICTED: [Tag; 4] = [Tag::Hosting, Tag::Vpn, Tag::Tor, Tag::Relay];

/// The prefixes that a provider publishes as its own.
#[derive(Clone, Debug, Default)]
pub struct Provider {
    name: String,
    ranges: Vec<Range<()>>,
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Coverage {
    /// When the country data were built, epoch seconds.
    pub built_at: Seconds,
    /// What the data were compiled from.
    pub description: String,
    /// Systems on our list of hosting networks.
    pub listed_systems: usize,
    /// Those of which the data hold no network: they mark nothing, or the data have no ASN table.
    pub not_announced: Vec<String>,
    /// Those that are announced under another name than ours: the number may be somebody else's by now.
    pub renamed: Vec<Renamed>,
    /// One row for each provider and family.
    pub providers: Vec<Share>,
    /// Well-known access networks that were looked at.
    pub access_networks: usize,
    /// Those that the data hold.
    pub access_networks_found: usize,
    /// Those of which a part is marked.
    pub access_networks_hit: Vec<Hit>,
}

/// A listed system under another name.
#[derive(Clone, Debug, Serialize)]
pub struct Renamed {
    /// Its number.
    pub system: String,
    /// Its name on our list.
    pub listed: String,
    /// Its name in the data.
    pub now: String,
}

/// How much of a provider's space is marked as hosting.
#[derive(Clone, Debug, Serialize)]
pub struct Share {
    /// The provider.
    pub provider: String,
    /// `IPv4` or `IPv6`.
    pub family: &'static str,
    /// The part of the published space that any system announces, in per cent.
    pub routed_percent: f64,
    /// The part of that which is marked, in per cent.
    pub marked_percent: f64,
}

/// An access network that is marked.
#[derive(Clone, Debug, Serialize)]
pub struct Hit {
    /// Its number.
    pub system: String,
    /// Where it is.
    pub country: String,
    /// Whose it is.
    pub name: String,
    /// The part of its networks that is marked, in per cent of the addresses of the family with the larger part.
    pub marked_percent: f64,
}

impl Provider {
    /// Reads what a provider publishes: a prefix at the beginning of each line, alone or before a comma or space (as in
    /// geofeeds, RFC 8805); `#` begins a remark. `name` is what to call it. Refuses a line without a prefix by its number.
    pub fn read(name: &str, text: &str) -> Result<Provider> {
        let network = |(number, line): (usize, &str)| {
            let word = line.split([',', ' ', '\t']).next().unwrap_or_default().trim_matches('"');
            word.parse::<Network>().map_err(|_| {
                Error::Data(format!(
                    "Line {number} of what {name} publishes has no network at its beginning: {line:?}."
                ))
            })
        };
        let networks = lines(text).map(network).collect::<Result<Vec<_>>>()?;
        let ranges = networks.iter().filter_map(|network| range_of(network, ())).collect();
        Ok(Provider { name: name.to_owned(), ranges: disjoint(ranges).0 })
    }
}

/// Walks through the data in use and compares.
pub fn coverage(networks: &Networks, providers: &[Provider]) -> Result<Coverage> {
    let (listed, access) = (marked::hosting()?, access_networks(ACCESS_NETWORKS)?);
    let mut seen = Seen::new(&listed, &access);
    for record in networks.records()? {
        let record = record?;
        let tags = Tags::from_bits(record.value.tags);
        seen.see(record.first, record.last, record.value.asn, record.value.name, tags);
    }
    Ok(Coverage {
        built_at: networks.built_at(),
        description: networks.description().to_owned(),
        listed_systems: systems(&listed).count(),
        not_announced: seen.not_announced(&listed),
        renamed: seen.renamed(&listed),
        providers: joined(providers).iter().flat_map(|provider| seen.shares(provider)).collect(),
        access_networks: access.len(),
        access_networks_found: access.iter().filter(|a| seen.by_system.contains_key(&a.asn.0)).count(),
        access_networks_hit: access.iter().filter_map(|access| seen.hit(access)).collect(),
    })
}

/// Several files of one provider are one.
fn joined(providers: &[Provider]) -> Vec<Provider> {
    let mut by_name: BTreeMap<&str, Vec<Range<()>>> = BTreeMap::new();
    for provider in providers {
        by_name.entry(&provider.name).or_default().extend(&provider.ranges);
    }
    let one =
        |(name, ranges): (&str, Vec<Range<()>>)| Provider { name: name.into(), ranges: disjoint(ranges).0 };
    by_name.into_iter().map(one).collect()
}

fn systems(listed: &[Listed]) -> impl Iterator<Item = (Asn, &str)> {
    listed.iter().filter_map(|listed| match listed.place {
        Place::System(asn) => Some((asn, listed.name.as_str())),
        Place::Network(_) => None,
    })
}

/// A line of the list of access networks.
struct Access {
    asn: Asn,
    country: Country,
    name: String,
}

fn access_networks(text: &str) -> Result<Vec<Access>> {
    let read = |(number, line): (usize, &str)| {
        let wrong = || {
            Error::Data(format!("Line {number} of the list of access networks is not understood: {line:?}."))
        };
        let [asn, country, name] = columns(line)[..] else { return Err(wrong()) };
        let (Ok(asn), Ok(country)) = (asn.parse(), country.parse()) else { return Err(wrong()) };
        Ok(Access { asn, country, name: name.to_owned() })
    };
    lines(text).map(read).collect()
}

/// Addresses of both families.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    v4: u128,
    v6: u128,
}

impl Size {
    fn add(&mut self, first: u128, last: u128) {
        let family = if last < IPV6_BEGINS { &mut self.v4 } else { &mut self.v6 };
        *family = family.saturating_add(last - first).saturating_add(1);
    }
}

/// What is known of a system that is on one of the lists.
#[derive(Default)]
struct System {
    name: String,
    all: Size,
    marked: Size,
}

/// What the walk through the data leaves.
struct Seen {
    /// Systems on the lists that were met; the others are not kept.
    by_system: HashMap<u32, System>,
    wanted: HashSet<u32>,
    /// Announced space, and whether it is marked as hosting; sorted and disjoint.
    routed: Vec<Range<bool>>,
}

impl Seen {
    fn new(listed: &[Listed], access: &[Access]) -> Seen {
        let wanted = systems(listed).map(|(asn, _)| asn.0).chain(access.iter().map(|access| access.asn.0));
        Seen { by_system: HashMap::new(), wanted: wanted.collect(), routed: Vec::new() }
    }

    fn see(&mut self, first: u128, last: u128, asn: Option<u32>, name: Option<&str>, tags: Tags) {
        let Some(asn) = asn else { return };
        push_joined(&mut self.routed, Range { first, last, value: tags.contains(Tag::Hosting) });
        if self.wanted.contains(&asn) {
            let system = self.by_system.entry(asn).or_default();
            if system.name.is_empty() {
                system.name = name.unwrap_or_default().to_owned();
            }
            system.all.add(first, last);
            if RESTRICTED.iter().any(|tag| tags.contains(*tag)) {
                system.marked.add(first, last);
            }
        }
    }

    fn not_announced(&self, listed: &[Listed]) -> Vec<String> {
        let missing = systems(listed).filter(|(asn, _)| !self.by_system.contains_key(&asn.0));
        missing.map(|(asn, _)| asn.to_string()).collect()
    }

    fn renamed(&self, listed: &[Listed]) -> Vec<Renamed> {
        let renamed = |(asn, listed): (Asn, &str)| {
            let now = &self.by_system.get(&asn.0)?.name;
            let other = !now.is_empty() && !have_a_word_in_common(listed, now);
            other.then(|| Renamed { system: asn.to_string(), listed: listed.into(), now: now.clone() })
        };
        systems(listed).filter_map(renamed).collect()
    }

    fn hit(&self, access: &Access) -> Option<Hit> {
        let System { all, marked, .. } = self.by_system.get(&access.asn.0)?;
        let marked_percent = percent(marked.v4, all.v4).max(percent(marked.v6, all.v6));
        (marked_percent > 0.0).then(|| Hit {
            system: access.asn.to_string(),
            country: access.country.to_string(),
            name: access.name.clone(),
            marked_percent,
        })
    }

    fn shares(&self, provider: &Provider) -> Vec<Share> {
        let (mut published, mut routed, mut marked) = (Size::default(), Size::default(), Size::default());
        let nobodys = nobodys();
        let of_somebody = Overlay::new(provider.ranges.iter().copied(), nobodys.iter().copied())
            .filter(|range| range.value == (Some(()), None))
            .map(|Range { first, last, .. }| Range { first, last, value: () });
        for range in Overlay::new(of_somebody, self.routed.iter().copied()) {
            let (first, last) = (range.first, range.last);
            match range.value {
                (None, _) => continue,
                (Some(()), None) => {}
                (Some(()), Some(is_marked)) => {
                    routed.add(first, last);
                    if is_marked {
                        marked.add(first, last);
                    }
                }
            }
            published.add(first, last);
        }
        let share = |family, published, routed, marked| Share {
            provider: provider.name.clone(),
            family,
            routed_percent: percent(routed, published),
            marked_percent: percent(marked, routed),
        };
        let v4 = (published.v4 > 0).then(|| share("IPv4", published.v4, routed.v4, marked.v4));
        let v6 = (published.v6 > 0).then(|| share("IPv6", published.v6, routed.v6, marked.v6));
        v4.into_iter().chain(v6).collect()
    }
}

fn nobodys() -> Vec<Range<()>> {
    let networks = NOBODYS.iter().filter_map(|text| text.parse::<Network>().ok());
    disjoint(networks.filter_map(|network| range_of(&network, ())).collect()).0
}

/// Hundredths are enough; shares of nothing are nothing.
#[allow(clippy::cast_precision_loss)] // a share of 2^128 addresses needs no more digits than f64 has
fn percent(part: u128, whole: u128) -> f64 {
    if whole == 0 { 0.0 } else { (part as f64 / whole as f64 * 10_000.0).round() / 100.0 }
}

/// Registries write the same owner in many ways; a word is enough.
fn have_a_word_in_common(listed: &str, now: &str) -> bool {
    let squeezed = |text: &str| text.to_lowercase().replace(|c: char| !c.is_alphanumeric(), "");
    let now = squeezed(now);
    listed.split(|c: char| !c.is_alphanumeric()).any(|word| word.len() > 1 && now.contains(&squeezed(word)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::networks::compile;
    use crate::networks::testing::{NOW, Scene, opened, some_countries};

    /// Amazon announces 3.0.0.0/24 and 2600:1f00::/40, somebody else 3.0.1.0/25; the table gives 6to4 to a relay.
    const TABLE: &str = "3.0.0.0,3.0.0.255,16509,Amazon.com\n\
                         3.0.1.0,3.0.1.127,64500,Example\n\
                         4.0.0.0,4.0.0.255,6939,Hurricane Electric\n\
                         5.0.0.0,5.0.0.255,24940,Another company\n\
                         104.64.0.0,104.64.255.255,20940,Akamai\n\
                         2002::,2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff,6939,Hurricane Electric\n\
                         2600:1f00::,2600:1f00:ff:ffff:ffff:ffff:ffff:ffff,16509,Amazon.com\n";

    fn report(providers: &[(&str, &str)]) -> Coverage {
        let scene = Scene::new();
        let out = scene.path("networks.mmdb");
        let sources = opened(&scene.file("country.mmdb", some_countries()), &[scene.file("asn.csv", TABLE)]);
        compile(&sources, &out, NOW).unwrap();
        let read = |(name, text): &(&str, &str)| Provider::read(name, text).unwrap();
        let providers: Vec<Provider> = providers.iter().map(read).collect();
        coverage(&Networks::open(&out).unwrap(), &providers).unwrap()
    }

    fn shares(coverage: &Coverage) -> Vec<(&str, &str, f64, f64)> {
        let row = |s: &Share| (s.routed_percent, s.marked_percent);
        coverage.providers.iter().map(|s| (s.provider.as_str(), s.family, row(s).0, row(s).1)).collect()
    }

    #[test]
    fn a_share_is_of_what_is_published_and_announced() {
        // 512 addresses, of which 384 are announced, of which 256 by Amazon.
        let coverage = report(&[("AWS", "3.0.0.0/23\n")]);
        assert_eq!(shares(&coverage), [("AWS", "IPv4", 75.0, 66.67)]);
        // What overlaps or is told twice counts once, as do several files of one name.
        let files = [("AWS", "3.0.0.0/24\n3.0.0.0/25\n# a remark\n\n"), ("AWS", "3.0.0.0/23,US,,,\n")];
        assert_eq!(shares(&report(&files)), [("AWS", "IPv4", 75.0, 66.67)]);
        let nowhere = report(&[("X", "9.9.9.0/24")]);
        assert_eq!(shares(&nowhere), [("X", "IPv4", 0.0, 0.0)]);
    }

    #[test]
    fn families_are_told_apart_and_space_that_is_nobodys_is_left_out() {
        let coverage = report(&[("V", "2600:1f00::/39\n2002::/16\n2001:db8::/32\n3.0.0.0/24")]);
        assert_eq!(shares(&coverage), [("V", "IPv4", 100.0, 100.0), ("V", "IPv6", 50.0, 100.0)]);
    }

    #[test]
    fn a_network_on_the_list_is_marked_whoever_announces_it() {
        assert_eq!(shares(&report(&[("L", "104.64.0.0/15")])), [("L", "IPv4", 50.0, 100.0)]);
    }

    #[test]
    fn a_listed_system_that_is_not_announced_or_has_another_name_is_named() {
        let coverage = report(&[]);
        assert_eq!(coverage.not_announced.len(), coverage.listed_systems - 2);
        assert!(!coverage.not_announced.contains(&"AS16509".to_owned()));
        let renamed: Vec<_> = coverage.renamed.iter().map(|r| (r.system.as_str(), r.now.as_str())).collect();
        assert_eq!(renamed, [("AS24940", "Another company")]);
    }

    #[test]
    fn access_networks_are_looked_for_and_one_that_is_marked_is_told() {
        let coverage = report(&[]);
        assert_eq!((coverage.access_networks, coverage.access_networks_found), (57, 1));
        assert!(coverage.access_networks_hit.is_empty());
        let access = access_networks("AS6939  US  Hurricane Electric").unwrap();
        let mut seen = Seen::new(&[], &access);
        let hosting = Tags::NONE.with(Tag::Hosting);
        seen.see(0x0400_0000, 0x0400_00ff, Some(6939), Some("HE"), Tags::NONE);
        seen.see(0x0400_0100, 0x0400_01ff, Some(6939), Some("HE"), hosting);
        seen.see(0x0400_0200, 0x0400_02ff, Some(64_500), None, hosting);
        assert_eq!(seen.hit(&access[0]).unwrap().marked_percent, 50.0);
    }

    #[test]
    fn a_line_without_a_prefix_is_refused_by_its_number() {
        let error = Provider::read("AWS", "3.0.0.0/24\nprefix,country\n").unwrap_err().to_string();
        assert!(error.starts_with("Line 2 of what AWS publishes"), "{error}");
        assert!(access_networks("AS1  XX\n").is_err() && access_networks("AS1  USA  Name").is_err());
    }
}
