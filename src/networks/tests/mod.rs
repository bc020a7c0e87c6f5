//! Compiled files against their sources.

mod property;
mod refused;

use super::testing::{Mmdb, NOW, SOME_OWNERS, Scene, Shape, opened, some_countries};
use super::{NetworkInfo, Networks, Report, compile};
use mmdb_writer::{IpVersion, Ipv4Aliasing};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

fn compiled(scene: &Scene, country: &[u8], tables: &[&str]) -> (Networks, Report) {
    let country = scene.file("country.mmdb", country);
    let named = |(n, table)| scene.file(&format!("asn-{n}.csv"), table);
    let tables: Vec<PathBuf> = tables.iter().enumerate().map(named).collect();
    let out = scene.path("networks.mmdb");
    let report = compile(&opened(&country, &tables), &out, NOW).unwrap();
    (Networks::open(&out).unwrap(), report)
}

/// Country, number and name as one line.
fn ask(networks: &Networks, address: &str) -> String {
    let info = networks.look_up(address.parse().unwrap()).unwrap();
    info.map_or("-".to_owned(), |NetworkInfo { country, asn, name, .. }| {
        let country = country.map_or("-".to_owned(), |c| c.to_string());
        format!("{country} {} {}", asn.unwrap_or_default(), name.unwrap_or_default())
    })
}

#[test]
fn country_and_owner_are_laid_over_each_other() {
    let scene = Scene::new();
    let (networks, report) = compiled(&scene, &some_countries(), &[SOME_OWNERS]);
    for (address, expected) in [
        ("192.0.1.255", "-"),
        ("192.0.2.127", "DE 0 "),
        ("192.0.2.128", "DE 64500 Example, \"Inc.\""),
        ("192.0.3.0", "- 64500 Example, \"Inc.\""),
        ("192.0.4.0", "-"),
        ("2001:db8:0:ffff::", "US 64501 Other"),
        ("2001:db8:1::", "US 0 "),
        ("2001:db9::", "-"),
    ] {
        assert_eq!(ask(&networks, address), expected, "{address}");
    }
    let marked = super::marked::marked().unwrap().ranges.len() as u64;
    assert_eq!((report.ranges, report.records), (6 + marked, 8));
    let outlook = networks.look_up("52.125.3.4".parse().unwrap()).unwrap().unwrap();
    assert!(outlook.tags.contains(super::Tag::CloudMailClient) && outlook.country.is_none());
    assert_eq!(report.bytes, scene.path("networks.mmdb").metadata().unwrap().len());
    assert_eq!(networks.built_at(), NOW - 86_400);
    assert!(networks.description().contains("country.mmdb"), "{}", networks.description());
}

#[test]
fn a_listed_system_is_marked_wherever_the_table_has_it_beside_country_and_name() {
    let scene = Scene::new();
    let table = "192.0.2.0,192.0.2.127,24940,Hetzner Online GmbH\n192.0.2.128,192.0.2.255,64500,Other\n\
                 2001:db8::,2001:db8::ffff,39351,31173 Services AB\n104.64.0.0,104.64.0.255,20940,Akamai\n\
                 52.125.0.0,52.125.0.255,8075,Microsoft Corporation\n";
    let (networks, report) = compiled(&scene, &some_countries(), &[table]);
    let tags = |address: &str| {
        let info = networks.look_up(address.parse().unwrap()).unwrap().unwrap();
        info.tags.iter().map(super::Tag::key).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ask(&networks, "192.0.2.1"), "DE 24940 Hetzner Online GmbH");
    assert_eq!((tags("192.0.2.1"), tags("192.0.2.200")), ("hosting".into(), String::new()));
    assert_eq!(tags("2001:db8::7"), "hosting vpn");
    assert_eq!(tags("104.64.0.7"), "hosting", "by its network, not by its system");
    assert_eq!(tags("52.125.0.7"), "hosting cloud_mail_client");
    assert_eq!(report.listed_systems_found, 3);
    assert!(networks.marks_systems(super::Tag::Hosting).unwrap());
    assert!(!networks.marks_systems(super::Tag::Feed).unwrap());
    let (without, _) = compiled(&Scene::new(), &some_countries(), &[]);
    assert!(!without.marks_systems(super::Tag::Hosting).unwrap());
}

#[test]
fn each_shape_is_read_and_reported() {
    for (shape, told) in [
        (Shape::Nested, "country.iso_code"),
        (Shape::RegisteredOnly, "registered_country.iso_code"),
        (Shape::Flat, "country_code"),
    ] {
        let scene = Scene::new();
        let country = Mmdb::new()
            .country("192.0.2.0/24", shape, "DE")
            .country("2001:db8::/32", shape, "AT")
            .country("203.0.113.0/24", Shape::NoCode, "nowhere");
        let (networks, report) = compiled(&scene, &country.bytes(), &[]);
        assert_eq!(report.country.shapes, BTreeMap::from([(told, 2)]));
        assert_eq!(report.country.networks_without_country, 1);
        assert_eq!([ask(&networks, "192.0.2.1"), ask(&networks, "203.0.113.1")], ["DE 0 ", "-"]);
        assert!(report.warnings.iter().any(|warning| warning.contains("No ASN table")));
    }
}

#[test]
fn copies_of_ipv4_inside_ipv6_are_left_out() {
    let scene = Scene::new();
    let country = Mmdb::built(NOW, IpVersion::V6, Ipv4Aliasing::Enabled)
        .country("192.0.2.0/24", Shape::Flat, "DE")
        .country("2400::/12", Shape::Flat, "JP");
    let (networks, report) = compiled(&scene, &country.bytes(), &[]);
    assert_eq!(report.country.networks, 2);
    assert_eq!(ask(&networks, "2002:c000:0201::1"), "-");
    assert_eq!(ask(&networks, "::ffff:192.0.2.1"), "DE 0 ");
}

#[test]
fn a_source_with_one_answer_for_all_of_ipv4_loses_no_ipv6_network() {
    let scene = Scene::new();
    let country = Mmdb::new().country("0.0.0.0/0", Shape::Flat, "DE").country("2400::/12", Shape::Flat, "DE");
    let (networks, _) = compiled(&scene, &country.bytes(), &[]);
    assert_eq!([ask(&networks, "203.0.113.1"), ask(&networks, "2400::1")], ["DE 0 ", "DE 0 "]);
}

#[test]
fn an_asn_table_may_be_an_mmdb_of_either_family_or_both() {
    let short: BTreeMap<&str, &str> = BTreeMap::from([("asn", "AS64502"), ("as_name", "Y")]);
    let scene = Scene::new();
    let v4 = Mmdb::built(NOW, IpVersion::V4, Ipv4Aliasing::Disabled).put("192.0.2.0/24", Owner::new(64500));
    let v6 = Mmdb::new().put("2001:db8::/32", &short).put("2001:db9::/32", Owner::new(0));
    let tables = [scene.file("v4.mmdb", v4.bytes()), scene.file("v6.mmdb", v6.bytes())];
    let out = scene.path("networks.mmdb");
    let report = compile(&opened(&scene.file("c.mmdb", some_countries()), &tables), &out, NOW).unwrap();
    let networks = Networks::open(&out).unwrap();
    assert_eq!(ask(&networks, "192.0.2.1"), "DE 64500 X");
    assert_eq!(ask(&networks, "2001:db8::1"), "US 64502 Y");
    assert_eq!(ask(&networks, "2001:db9::1"), "-");
    let shapes: Vec<_> = report.asn.iter().map(|table| table.shape).collect();
    assert_eq!(shapes, ["autonomous_system_number", "asn"]);
    assert_eq!(report.asn[1].rows_without_number, 1);
}

#[derive(serde::Serialize)]
struct Owner {
    autonomous_system_number: u32,
    autonomous_system_organization: &'static str,
}

impl Owner {
    fn new(number: u32) -> Owner {
        Owner { autonomous_system_number: number, autonomous_system_organization: "X" }
    }
}

#[test]
fn rows_of_every_written_form_are_understood_and_the_rest_is_counted() {
    let mut table = "start,end,asn,name\n# a remark\n".to_owned();
    table += "3221225984,3221225999,64500,By number\n"; // 192.0.2.0 to 192.0.2.15
    table += "192.0.2.16,192.0.2.31,AS64501\n";
    table += "::ffff:192.0.2.32,::ffff:192.0.2.47,64502,Mapped\n";
    table += "192.0.2.48,192.0.2.63,0,Not routed\n";
    for n in 0..200 {
        table += &format!("198.51.100.{n},198.51.100.{n},64503,Many\n");
    }
    table += "192.0.2.99,192.0.2.98,64504,Backwards\n192.0.2.0,2001:db8::,64504,Two families\n";
    let scene = Scene::new();
    let (networks, report) = compiled(&scene, &some_countries(), &[&table]);
    assert_eq!(ask(&networks, "192.0.2.15"), "DE 64500 By number");
    assert_eq!(ask(&networks, "192.0.2.16"), "DE 64501 ");
    assert_eq!(ask(&networks, "192.0.2.32"), "DE 64502 Mapped");
    assert_eq!(ask(&networks, "192.0.2.48"), "DE 0 ");
    let told = &report.asn[0];
    assert_eq!((told.rows, told.rows_without_number, told.bad_rows), (203, 1, 2));
    assert_eq!(told.first_bad_line, Some(207));
    assert!(report.warnings.iter().any(|warning| warning.contains("2 rows")), "{:?}", report.warnings);
}

#[test]
fn the_same_sources_give_the_same_bytes_readable_for_all_and_nothing_else() {
    let scene = Scene::new();
    scene.file("networks.mmdb.new", "rest of a build that was killed");
    compiled(&scene, &some_countries(), &[SOME_OWNERS]);
    let first = std::fs::read(scene.path("networks.mmdb")).unwrap();
    let (before, _) = compiled(&scene, &some_countries(), &[SOME_OWNERS]);
    assert_eq!(std::fs::read(scene.path("networks.mmdb")).unwrap(), first);
    assert_eq!(scene.path("networks.mmdb").metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(scene.names(), ["asn-0.csv", "country.mmdb", "networks.mmdb", "networks.mmdb.lock"]);

    let other =
        Mmdb::new().country("192.0.2.0/24", Shape::Flat, "PL").country("2400::/12", Shape::Flat, "PL");
    let (after, _) = compiled(&scene, &other.bytes(), &[]);
    assert_eq!([ask(&before, "192.0.2.1"), ask(&after, "192.0.2.1")], ["DE 0 ", "PL 0 "]);
}

#[test]
fn two_builds_of_one_file_do_not_run_at_once() {
    let scene = Scene::new();
    let country = scene.file("country.mmdb", some_countries());
    let other = std::fs::File::create(scene.path("networks.mmdb.lock")).unwrap();
    other.lock().unwrap();
    let error = compile(&opened(&country, &[]), &scene.path("networks.mmdb"), NOW).unwrap_err();
    assert!(error.to_string().contains("Another build"), "{error}");
    drop(other);
    compile(&opened(&country, &[]), &scene.path("networks.mmdb"), NOW).unwrap();
}
