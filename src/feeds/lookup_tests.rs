use super::super::compile::publish;
use super::super::formats::{Format, read};
use super::*;
use crate::address::Network;
use proptest::prelude::*;
use std::path::PathBuf;
use tempfile::TempDir;

const NOW: Seconds = 1_795_600_000;

fn heading(name: &str, ends: Seconds) -> Heading {
    Heading { name: name.into(), as_of: NOW, ends }
}

fn written(folder: &TempDir, lists: &[(&str, Seconds, &str)]) -> PathBuf {
    let path = folder.path().join("feeds.bin");
    let list = |(name, ends, text): &(&str, Seconds, &str)| {
        (heading(name, *ends), read(Format::Plain, 1, text.as_bytes()).ranges())
    };
    publish(&path, lists.iter().map(list).collect()).unwrap();
    path
}

fn ask(feeds: &Feeds, address: &str, now: Seconds) -> Vec<String> {
    feeds.look_up(address.parse().unwrap(), now).into_iter().map(|listed| listed.feed).collect()
}

#[test]
fn an_address_is_on_every_feed_that_names_it_until_the_feed_ends() {
    let folder = TempDir::new().unwrap();
    let feeds = Feeds::open(&written(
        &folder,
        &[
            ("wide", NOW + 100, "20.0.0.0/8\n2a00::/32\n"),
            ("narrow", NOW + 50, "20.1.2.0/24\n20.9.9.9\n2a00:0:1::/48\n"),
            ("empty", NOW + 100, ""),
        ],
    ));
    let feeds = feeds.unwrap().unwrap();
    for (address, now, on) in [
        ("20.1.2.3", NOW, &["wide", "narrow"][..]),
        ("::ffff:20.1.2.3", NOW, &["wide", "narrow"]),
        ("20.1.2.3", NOW + 49, &["wide", "narrow"]),
        ("20.1.2.3", NOW + 50, &["wide"]),
        ("20.1.2.3", NOW + 100, &[]),
        ("20.1.1.255", NOW, &["wide"]),
        ("20.9.9.9", NOW, &["wide", "narrow"]),
        ("19.255.255.255", NOW, &[]),
        ("21.0.0.0", NOW, &[]),
        ("2a00:0:1::7", NOW, &["wide", "narrow"]),
        ("2a00:0:2::7", NOW, &["wide"]),
        ("2a01::", NOW, &[]),
        ("::1", NOW, &[]),
        ("255.255.255.255", NOW, &[]),
    ] {
        assert_eq!(ask(&feeds, address, now), on, "{address}");
    }
    let names: Vec<String> = feeds.headings().into_iter().map(|h| h.name).collect();
    assert_eq!(names, ["wide", "narrow", "empty"]);
}

#[test]
fn where_no_feed_is_in_use_there_is_no_file_and_that_is_no_trouble() {
    let folder = TempDir::new().unwrap();
    assert!(Feeds::open(&folder.path().join("feeds.bin")).unwrap().is_none());
    assert!(ask(&Feeds::open(&written(&folder, &[])).unwrap().unwrap(), "20.0.0.1", NOW).is_empty());
}

#[test]
fn a_file_that_is_none_of_ours_or_not_whole_is_an_error() {
    let folder = TempDir::new().unwrap();
    let path = written(&folder, &[("own", NOW, "20.0.0.0/8\n2a00::/32\n")]);
    let good = std::fs::read(&path).unwrap();
    let longer = [&good[..], b"x"].concat();
    for bad in [&b""[..], b"garbage", &[0; 4096], &good[..good.len() - 1], &longer, &good[1..]] {
        std::fs::write(&path, bad).unwrap();
        assert_eq!(Feeds::open(&path).unwrap_err().code(), "data");
    }
    assert_eq!(Feeds::open(folder.path()).unwrap_err().code(), "data");
}

#[test]
fn a_byte_that_flipped_anywhere_never_panics() {
    let folder = TempDir::new().unwrap();
    let path = written(&folder, &[("one", NOW, "20.0.0.0/8\n2a00::/32\n"), ("two", NOW, "20.0.0.0/9\n")]);
    let good = std::fs::read(&path).unwrap();
    for (at, bit) in (0..good.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << bit;
        std::fs::write(&path, bytes).unwrap();
        if let Ok(Some(feeds)) = Feeds::open(&path) {
            for address in ["20.0.0.7", "2a00::7", "255.255.255.255", "ffff::"] {
                let _ = feeds.look_up(address.parse().unwrap(), NOW - 1);
            }
        }
    }
}

/// Networks near to each other, so that they overlap.
fn any_lists() -> impl Strategy<Value = Vec<Vec<Network>>> {
    let v4 = (0u32..1024, 22u8..=32)
        .prop_map(|(ip, n)| format!("{}/{n}", std::net::Ipv4Addr::from_bits(0x1400_0000 + ip)));
    let v6 = (0u128..1024, 118u8..=128)
        .prop_map(|(ip, n)| format!("{}/{n}", std::net::Ipv6Addr::from_bits((0x2a00 << 112) + ip)));
    let network = prop_oneof![v4, v6].prop_map(|text| text.parse::<Network>().unwrap());
    prop::collection::vec(prop::collection::vec(network, 0..12), 0..5)
}

proptest! {
    #[test]
    fn a_look_up_says_what_reading_every_list_from_end_to_end_says(lists in any_lists()) {
        let folder = TempDir::new().unwrap();
        let named: Vec<String> = (0..lists.len()).map(|n| format!("feed-{n}")).collect();
        let texts: Vec<String> =
            lists.iter().map(|list| list.iter().map(|n| format!("{n}\n")).collect()).collect();
        let given: Vec<(&str, Seconds, &str)> =
            named.iter().zip(&texts).map(|(name, text)| (name.as_str(), NOW + 1, text.as_str())).collect();
        let feeds = Feeds::open(&written(&folder, &given)).unwrap().unwrap();
        for offset in 0..1032u32 {
            let v4 = std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(0x1400_0000 + offset - 4));
            let v6 = std::net::IpAddr::from(std::net::Ipv6Addr::from_bits((0x2a00 << 112) + u128::from(offset)));
            for address in [v4, v6].map(Address::new) {
                let found: Vec<String> = feeds.look_up(address, NOW).into_iter().map(|l| l.feed).collect();
                let naive = |(_, list): &(&String, &Vec<Network>)| list.iter().any(|n| n.contains(address));
                let expected: Vec<String> =
                    named.iter().zip(&lists).filter(naive).map(|(name, _)| name.clone()).collect();
                prop_assert_eq!(found, expected, "{}", address);
            }
        }
    }
}
