//! Makes small sources for tests, with another writer than the one that is tested.

use super::Sources;
use ipnet::IpNet;
use mmdb_writer::{IpVersion, Ipv4Aliasing, Writer};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

/// 2026-11-25, the "now" of these tests; sources are built a day before.
pub(crate) const NOW: i64 = 1_795_600_000;

/// How a country record looks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    Nested,
    RegisteredOnly,
    Flat,
    NoCode,
}

/// An MMDB in the making.
pub(crate) struct Mmdb(Writer);

impl Mmdb {
    pub(crate) fn new() -> Mmdb {
        Mmdb::built(NOW - 86_400, IpVersion::V6, Ipv4Aliasing::Disabled)
    }

    pub(crate) fn built(at: i64, ip_version: IpVersion, aliasing: Ipv4Aliasing) -> Mmdb {
        let writer = Writer::builder("Test-Country")
            .ip_version(ip_version)
            .ipv4_aliasing(aliasing)
            .build_epoch(UNIX_EPOCH + Duration::from_secs(at.try_into().unwrap()));
        Mmdb(writer.build())
    }

    pub(crate) fn put(mut self, network: &str, record: impl Serialize) -> Mmdb {
        self.0.insert(network.parse::<IpNet>().unwrap(), &record).unwrap();
        self
    }

    pub(crate) fn country(self, network: &str, shape: Shape, code: &str) -> Mmdb {
        let place = BTreeMap::from([("iso_code", code)]);
        let elsewhere = BTreeMap::from([("iso_code", "AQ")]);
        match shape {
            Shape::Nested => {
                self.put(network, BTreeMap::from([("country", place), ("registered_country", elsewhere)]))
            }
            Shape::RegisteredOnly => {
                let continent = BTreeMap::from([("code", "EU")]);
                self.put(network, BTreeMap::from([("continent", continent), ("registered_country", place)]))
            }
            Shape::Flat => self.put(network, BTreeMap::from([("country_code", code)])),
            Shape::NoCode => self.put(network, BTreeMap::from([("city", code)])),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.to_bytes().unwrap()
    }
}

/// A folder with source files.
pub(crate) struct Scene(pub(crate) tempfile::TempDir);

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene(tempfile::TempDir::new().unwrap())
    }

    pub(crate) fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A country source that the small tests share.
pub(crate) fn some_countries() -> Vec<u8> {
    let shape = Shape::Nested;
    Mmdb::new()
        .country("192.0.2.0/24", shape, "DE")
        .country("198.51.100.0/25", shape, "FR")
        .country("2001:db8::/32", shape, "US")
        .bytes()
}

pub(crate) const SOME_OWNERS: &str = "192.0.2.128,192.0.3.255,64500,\"Example, \"\"Inc.\"\"\"\n\
                                      2001:db8::,2001:db8:0:ffff:ffff:ffff:ffff:ffff,64501,Other\n";

pub(crate) fn opened(country: &Path, asn: &[PathBuf]) -> Sources {
    Sources::open(country, asn, true).unwrap()
}
