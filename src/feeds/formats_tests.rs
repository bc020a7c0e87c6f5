use super::*;
use crate::address::Address;
use crate::networks::ranges::value_at;
use proptest::prelude::*;

fn networks(format: Format, text: &str) -> Vec<String> {
    let read = read(format, 3, text.as_bytes());
    assert_eq!(read.broken.count, 0, "{}", read.broken.words());
    read.networks.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plain_list_has_addresses_and_networks_with_remarks() {
    let text = "\u{feff}# a list\r\n\r\n192.0.2.7\r\n198.51.100.0/24 ; SBL1\n ; nothing\n2001:db8::/32 # v6\n::ffff:192.0.2.9";
    assert_eq!(networks(Format::Plain, text), ["192.0.2.7", "198.51.100.0/24", "2001:db8::/32", "192.0.2.9"]);
}

#[test]
fn a_counted_list_has_those_that_were_counted_often_enough() {
    let text = "# counted\n192.0.2.7\t3\n192.0.2.8\t2\n192.0.2.9 10\n";
    assert_eq!(networks(Format::Counted, text), ["192.0.2.7", "192.0.2.9"]);
}

#[test]
fn drop_tells_of_itself_in_a_line_of_its_own() {
    let text = r#"{"cidr":"192.0.2.0/24","sblid":"SBL1","rir":"ripencc"}
{"cidr":"2001:db8::/32","sblid":"SBL2","rir":"ripencc"}
{"type":"metadata","timestamp":1795600000,"size":120,"records":2,"copyright":"(c) 2026 Somebody","terms":"https://example.org/terms"}
"#;
    let read = read(Format::DropJson, 1, text.as_bytes());
    assert_eq!((read.networks.len(), read.broken.count), (2, 0));
    assert_eq!((read.made, read.promised), (Some(1_795_600_000), Some(2)));
    assert_eq!(read.credit.as_deref(), Some("(c) 2026 Somebody, https://example.org/terms"));
}

#[test]
fn broken_lines_are_counted_and_the_first_are_named_with_their_numbers() {
    let mut text = String::from("192.0.2.7\n");
    for n in 2..12 {
        text += &format!("<b>\u{1b}[31m{n}</b>\n");
    }
    let broken = read(Format::Plain, 1, text.as_bytes()).broken;
    assert_eq!(broken.count, 10);
    let words = broken.words();
    assert!(words.starts_with("line 2 (\"<b>[31m2</b>\"), line 3"), "{words}");
    assert!(words.ends_with("and 5 more") && !words.contains('\u{1b}'), "{words}");
}

#[test]
fn what_only_nearly_is_an_entry_is_none() {
    for (format, line) in [
        (Format::Plain, "192.0.2.0/33"),
        (Format::Plain, "192.0.2.0/"),
        (Format::Plain, "192.0.2"),
        (Format::Plain, "192.0.2.7 bad"),
        (Format::Plain, "192.0.2.7,192.0.2.8"),
        (Format::Plain, "192.0.2.1-192.0.2.9"),
        (Format::Plain, "[2001:db8::1]"),
        (Format::Plain, "fe80::1%eth0"),
        (Format::Plain, "example.org"),
        (Format::Counted, "192.0.2.7"),
        (Format::Counted, "192.0.2.7\tmany"),
        (Format::Counted, "192.0.2.7\t-3"),
        (Format::Counted, "192.0.2.7\t3\t4"),
        (Format::DropJson, "192.0.2.0/24"),
        (Format::DropJson, r#"{"cidr":"192.0.2.0"#),
        (Format::DropJson, r#"{"cidr":7}"#),
        (Format::DropJson, r#"{"asn":64500}"#),
        (Format::DropJson, "[]"),
        (Format::DropJson, "null"),
    ] {
        let read = read(format, 1, line.as_bytes());
        assert_eq!((read.networks.len(), read.broken.count), (0, 1), "{format}: {line}");
    }
}

/// A line that the format has, or one that it has not, or anything.
fn any_line(format: Format) -> impl Strategy<Value = String> {
    let v4 =
        (any::<u32>(), 0u8..=32).prop_map(|(ip, n)| format!("{}/{n}", std::net::Ipv4Addr::from_bits(ip)));
    let v6 =
        (any::<u128>(), 0u8..=128).prop_map(|(ip, n)| format!("{}/{n}", std::net::Ipv6Addr::from_bits(ip)));
    let entry = prop_oneof![v4, v6, "[0-9a-f.:/]{1,20}"];
    let dressed = (entry, "[ -~]{0,8}", 0u32..9).prop_map(move |(entry, more, n)| match format {
        Format::Plain => format!("{entry} # {more}"),
        Format::Counted => format!("{entry}\t{n}"),
        Format::DropJson => format!("{{\"cidr\":\"{entry}\"}}"),
    });
    prop_oneof![4 => dressed, 1 => "[^\n]{0,40}", 1 => Just(String::new())]
}

fn any_list() -> impl Strategy<Value = (Format, Vec<String>)> {
    prop::sample::select(Format::ALL.to_vec())
        .prop_flat_map(|format| (Just(format), prop::collection::vec(any_line(format), 0..30)))
}

proptest! {
    #[test]
    fn any_bytes_are_read_and_never_a_panic(bytes: Vec<u8>, least in 1u32..9) {
        for format in Format::ALL {
            let read = read(format, least, &bytes);
            prop_assert!(read.networks.len() + read.broken.count <= bytes.split(|b| *b == b'\n').count());
            let _ = (read.ranges(), read.broken.words());
        }
    }

    #[test]
    fn each_line_counts_by_itself((format, lines) in any_list()) {
        // A mark of the byte order is none but at the beginning of the whole.
        let alone = |(n, line): (usize, &String)| match n {
            0 => read(format, 3, line.as_bytes()),
            _ => read(format, 3, format!("\n{line}").as_bytes()),
        };
        let whole = read(format, 3, lines.join("\n").as_bytes());
        let apart: Vec<Read> = lines.iter().enumerate().map(alone).collect();
        let networks: Vec<Network> = apart.iter().flat_map(|r| r.networks.clone()).collect();
        prop_assert_eq!(whole.networks, networks);
        prop_assert_eq!(whole.broken.count, apart.iter().map(|r| r.broken.count).sum::<usize>());
        let first: Vec<usize> =
            (1..).zip(&apart).filter(|(_, r)| r.broken.count > 0).map(|(n, _)| n).take(NAMED).collect();
        prop_assert_eq!(whole.broken.first.iter().map(|(n, _)| *n).collect::<Vec<_>>(), first);
    }

    #[test]
    fn the_ranges_hold_exactly_what_some_network_holds((format, lines) in any_list(), probes: [u32; 8]) {
        let read = read(format, 1, lines.join("\n").as_bytes());
        let ranges = read.ranges();
        let edges = read.networks.iter().flat_map(|n| [n.net().network(), n.net().broadcast()]);
        let probes = probes.map(|bits| IpAddr::from(std::net::Ipv4Addr::from_bits(bits)));
        for ip in edges.chain(probes) {
            let Some(key) = key_of(ip) else { continue };
            // Networks over IPv4's place have no keys; such a list is refused whole.
            let placed = read.networks.iter().filter(|n| range_of(n).is_some());
            let held = placed.clone().any(|n| n.contains(Address::new(ip)) || n.net().contains(&ip));
            prop_assert_eq!(value_at(&ranges, key).is_some(), held, "{}", ip);
        }
    }
}
