//! Sources that are not taken, and what protects the file in use from them.

use crate::networks::sources::country;
use crate::networks::testing::{Mmdb, NOW, SOME_OWNERS, Scene, Shape, opened, some_countries};
use crate::networks::{Sources, compile};
use mmdb_writer::{IpVersion, Ipv4Aliasing};
use std::net::Ipv4Addr;

/// Everything that makes 100,000 nodes: scattered small networks; whether they cover the internet is chosen.
fn large(covers: &[&str]) -> Mmdb {
    let mut country = Mmdb::new();
    for n in 0..60_000u32 {
        let network = format!("{}/24", Ipv4Addr::from_bits((1 << 24) + n * 512));
        country = country.country(&network, Shape::Flat, ["DE", "FR"][n as usize % 2]);
    }
    covers.iter().fold(country, |country, network| country.country(network, Shape::Flat, "US"))
}

fn many_rows() -> String {
    (0..10_000u32).map(|n| format!("{n},{n},{},Owner\n", n + 1)).collect()
}

#[test]
fn sources_that_cover_the_internet_need_no_leave_to_be_small() {
    let scene = Scene::new();
    let country = large(&["16.0.0.0/4", "32.0.0.0/3", "64.0.0.0/2", "128.0.0.0/1", "2000::/3"]);
    let country = scene.file("country.mmdb", country.bytes());
    let sources = Sources::open(&country, &[scene.file("asn.csv", many_rows())], false).unwrap();
    let report = compile(&sources, &scene.path("networks.mmdb"), NOW).unwrap();
    assert!((90.0..97.0).contains(&report.country.coverage_percent), "{}", report.country.coverage_percent);
}

/// A country source, an ASN table, whether they may be small, and what the refusal says.
fn refused() -> Vec<(Vec<u8>, Vec<u8>, bool, &'static str)> {
    let good = some_countries();
    let owners = SOME_OWNERS.as_bytes().to_vec();
    let country = |bytes: Vec<u8>, small, says| (bytes, SOME_OWNERS.as_bytes().to_vec(), small, says);
    let asn = |bytes: &[u8], says| (some_countries(), bytes.to_vec(), true, says);
    let mut cyclic = good.clone();
    cyclic[..6].fill(0);
    let v4 =
        Mmdb::built(NOW, IpVersion::V4, Ipv4Aliasing::Disabled).country("192.0.2.0/24", Shape::Flat, "DE");
    let v6 = Mmdb::new().country("2001:db8::/32", Shape::Flat, "DE");
    let future = Mmdb::built(NOW + 30 * 86_400, IpVersion::V6, Ipv4Aliasing::Disabled);
    let future = future.country("192.0.2.0/24", Shape::Flat, "DE");
    let codeless = Mmdb::new().country("192.0.2.0/24", Shape::NoCode, "DE");
    let bad_rows = format!("{SOME_OWNERS}what,is,this\n");
    vec![
        country(Vec::new(), true, "is empty"),
        country(b"\x1f\x8b\x08 packed".to_vec(), true, "is compressed"),
        country(b"garbage".to_vec(), true, "is not an MMDB file"),
        country(vec![0xff; 100_000], true, "is not an MMDB file"),
        country(good[..good.len() / 2].to_vec(), true, "was probably cut off"),
        country(good[..good.len() - 9].to_vec(), true, "was probably cut off"),
        country(cyclic, true, "is damaged"),
        country(v4.bytes(), true, "covers IPv4 only"),
        country(v6.bytes(), true, "answers for IPv6 only"),
        country(future.bytes(), true, "check the clock"),
        country(codeless.bytes(), true, "holds no country codes"),
        country(good.clone(), false, "is too small for the whole internet"),
        country(large(&["2000::/3"]).bytes(), false, "knows a country for only"),
        country(large(&[]).bytes(), false, "has no IPv6 network"),
        asn(b"", "is empty"),
        asn(b"PK\x03\x04 packed", "is compressed"),
        asn(b"some words\nand more\n", "has not one row"),
        asn(&[0; 5000], "is not an MMDB file"),
        asn(&good, "has not one row"),
        asn(bad_rows.as_bytes(), "has 1 rows of 3 that could not be understood, the first in line 3"),
        asn(b"192.0.2.0,192.0.2.1,1,\"open\n192.0.2.2,192.0.2.3,2,x\n", "quotation mark in line 1"),
        (
            large(&["16.0.0.0/4", "32.0.0.0/3", "64.0.0.0/2", "128.0.0.0/2", "2000::/3"]).bytes(),
            owners,
            false,
            "ASN tables are too small",
        ),
    ]
}

#[test]
fn a_refused_source_says_why_and_leaves_the_file_in_use_as_it_was() {
    for (country, asn, allow_small, says) in refused() {
        let scene = Scene::new();
        let out = scene.file("networks.mmdb", "the file in use");
        let (country, asn) = (scene.file("country", country), scene.file("asn", asn));
        let outcome =
            Sources::open(&country, &[asn], allow_small).and_then(|sources| compile(&sources, &out, NOW));
        let error = outcome.expect_err(says);
        assert_eq!(error.code(), "data", "{error}");
        assert!(error.to_string().contains(says), "{error} / {says}");
        assert_eq!(std::fs::read(&out).unwrap(), b"the file in use", "{says}");
        assert!(!scene.path("networks.mmdb.new").exists(), "{says}");
    }
}

#[test]
fn a_byte_that_flipped_anywhere_in_a_source_never_panics() {
    let scene = Scene::new();
    let good = some_countries();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0xff;
        let sources = opened(&scene.file("country.mmdb", bytes), &[]);
        let _ = country::read(&sources.country, true, NOW);
    }
}
