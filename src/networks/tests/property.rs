//! A compiled file against a plain reading of random sources.

use super::compiled;
use crate::address::Address;
use crate::networks::testing::{Mmdb, Scene, Shape};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses close together, so that ranges meet, nest and overlap; and the ends of both spaces.
fn ips() -> impl Strategy<Value = IpAddr> {
    let v4 = prop_oneof![0xc000_0200u32..0xc000_0300, 0u32..4, any::<u32>(), Just(u32::MAX)];
    let v6_base = 0x2400_0000_0000_0000_0000_0000_0000_0000u128;
    let v6 = prop_oneof![v6_base..v6_base + 64, v6_base..v6_base + (1 << 100), Just(u128::MAX)];
    prop_oneof![
        v4.prop_map(|n| Ipv4Addr::from_bits(n).into()),
        v6.prop_map(|n| Ipv6Addr::from_bits(n).into())
    ]
}

fn networks() -> impl Strategy<Value = IpNet> {
    (ips(), 0u8..=32, 4u8..=128).prop_map(|(ip, v4_length, v6_length)| match ip {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new(ip, v4_length).unwrap().trunc()),
        IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new(ip, v6_length).unwrap().trunc()),
    })
}

type Row = (IpAddr, IpAddr, u32);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (ips(), ips(), 1u32..5).prop_filter_map("of two families", |(a, b, asn)| {
        (a.is_ipv4() == b.is_ipv4()).then(|| (a.min(b), a.max(b), asn))
    });
    vec(row, 1..12)
}

fn bits(ip: IpAddr) -> u128 {
    Address::new(ip).bits()
}

fn neighbours(ip: IpAddr) -> Vec<IpAddr> {
    let near = |n: i8| match ip {
        IpAddr::V4(ip) => ip.to_bits().checked_add_signed(n.into()).map(|b| Ipv4Addr::from_bits(b).into()),
        IpAddr::V6(ip) => ip.to_bits().checked_add_signed(n.into()).map(|b| Ipv6Addr::from_bits(b).into()),
    };
    (-1..=1).filter_map(near).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_compiled_file_answers_as_its_sources_do(
        countries in vec((networks(), "[A-D]{2}"), 1..12),
        rows in rows(),
        random in vec(ips(), 20),
        flat: bool,
    ) {
        let shape = if flat { Shape::Flat } else { Shape::Nested };
        let needed = [("192.0.2.0/32".parse().unwrap(), "ZY".to_owned())]; // a source without IPv4 is refused
        let countries: Vec<(IpNet, String)> = needed.into_iter().chain(countries).collect();
        let source = countries.iter().fold(Mmdb::new(), |source, (network, code)| {
            source.country(&network.to_string(), shape, code)
        });
        let table: String = rows.iter().map(|(a, b, asn)| format!("{a},{b},{asn},\"The \"\"{asn}\"\"\"\n")).collect();
        let scene = Scene::new();
        let (compiled, _) = compiled(&scene, &source.bytes(), &[&table]);

        let borders = countries.iter().flat_map(|(network, _)| [network.network(), network.broadcast()]);
        let borders = borders.chain(rows.iter().flat_map(|(a, b, _)| [*a, *b])).flat_map(neighbours);
        for ip in borders.chain(random) {
            let country = countries.iter().rev().find(|(network, _)| network.contains(&ip));
            let holding = rows.iter().filter(|(a, b, _)| a.is_ipv4() == ip.is_ipv4() && (*a..=*b).contains(&ip));
            let owner = holding.min_by_key(|(a, b, _)| (bits(*b) - bits(*a), bits(*a))).map(|row| row.2);
            let expected = (country.map(|c| c.1.clone()), owner, owner.map(|asn| format!("The \"{asn}\"")));
            let info = compiled.look_up(Address::new(ip)).unwrap().unwrap_or_default();
            let found = (info.country.map(|c| c.to_string()), info.asn, info.name);
            prop_assert_eq!(found, expected, "{}", ip);
        }
    }
}
