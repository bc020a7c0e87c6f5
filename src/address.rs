//! Addresses and networks as the mail servers report them.
//!
//! Outside text becomes an [`Address`] once, at the door. An IPv4-mapped IPv6 address
//! (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2), as servers on dual-stack sockets report it, is unmapped
//! there, so nothing behind the door ever meets one.

use crate::error::Error;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One IP address, never an IPv4-mapped one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(IpAddr);

/// What kind of place an address is, as far as its number tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressClass {
    /// Loopback or unspecified: this machine itself.
    Loopback,
    /// Private (RFC 1918, RFC 4193), carrier-grade NAT (RFC 6598) or link-local: somewhere near, in no
    /// country. Never "unknown".
    Private,
    /// Anything else: a country can be asked for.
    Public,
}

impl Address {
    /// Takes an address that a server or the system gave as a value; unmaps it.
    pub fn new(ip: IpAddr) -> Self {
        Address(ip.to_canonical())
    }

    /// The address as the standard library's type.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// The class of the address by its number alone.
    pub fn class(self) -> AddressClass {
        match self.0 {
            IpAddr::V4(ip) => class_of_v4(ip),
            IpAddr::V6(ip) => class_of_v6(ip),
        }
    }

    /// The address as 128 bits; IPv4 sits at `::ffff:0:0/96`, so one order holds both families.
    pub fn bits(self) -> u128 {
        match self.0 {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        }
    }
}

fn class_of_v4(ip: Ipv4Addr) -> AddressClass {
    let [a, b, ..] = ip.octets();
    if ip.is_loopback() || ip.is_unspecified() {
        AddressClass::Loopback
    } else if ip.is_private() || ip.is_link_local() || (a == 100 && (64..128).contains(&b)) {
        AddressClass::Private
    } else {
        AddressClass::Public
    }
}

fn class_of_v6(ip: Ipv6Addr) -> AddressClass {
    if ip.is_loopback() || ip.is_unspecified() {
        AddressClass::Loopback
    } else if ip.is_unique_local() || ip.is_unicast_link_local() {
        AddressClass::Private
    } else {
        AddressClass::Public
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Reads an address in any form that the servers write: plain, in brackets (`[2001:db8::1]`), with a
    /// zone (`fe80::1%eth0`, the zone is dropped), IPv4-mapped.
    fn from_str(text: &str) -> Result<Self, Error> {
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let bare = bare.split_once('%').map_or(bare, |(address, _zone)| address);
        bare.parse().map(Address::new).map_err(|_| Error::not_an_address(text))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range of addresses with one prefix: `192.0.2.0/24`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(IpNet);

impl Network {
    /// The network with its host bits cleared.
    pub fn new(net: IpNet) -> Self {
        Network(net.trunc())
    }

    /// The network that holds just this address.
    pub fn single(address: Address) -> Self {
        Network(IpNet::from(address.ip()))
    }

    /// The network of neighbours around the address: its /24, or /64 for IPv6. Who logs in from there today
    /// may have another address of it tomorrow.
    pub fn around(address: Address) -> Self {
        match address.ip() {
            IpAddr::V4(ip) => Network::new(IpNet::V4(Ipv4Net::new_assert(ip, 24))),
            IpAddr::V6(ip) => Network::new(IpNet::V6(Ipv6Net::new_assert(ip, 64))),
        }
    }

    /// The wide network around the address: its /16, or /32 for IPv6.
    pub fn widely_around(address: Address) -> Self {
        match address.ip() {
            IpAddr::V4(ip) => Network::new(IpNet::V4(Ipv4Net::new_assert(ip, 16))),
            IpAddr::V6(ip) => Network::new(IpNet::V6(Ipv6Net::new_assert(ip, 32))),
        }
    }

    /// Whether the address lies in the network.
    pub fn contains(&self, address: Address) -> bool {
        self.0.contains(&address.ip())
    }

    /// Whether every address of `other` lies in this network, or the other way round.
    pub fn overlaps(&self, other: &Network) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// Prefix length counted over 128 bits (IPv4 lies at `::ffff:0:0/96`): 24 of IPv4 is 120.
    pub fn length_of_128(&self) -> u8 {
        match self.0 {
            IpNet::V4(net) => net.prefix_len() + 96,
            IpNet::V6(net) => net.prefix_len(),
        }
    }

    /// The first address as 128 bits, in the same order as [`Address::bits`].
    pub fn first_bits(&self) -> u128 {
        Address(self.0.network()).bits()
    }

    /// The network as ipnet's type.
    pub fn net(&self) -> IpNet {
        self.0
    }

    /// Whether the network touches loopback, so that a block on it would lock the server's own programs out.
    pub fn touches_loopback(&self) -> bool {
        match self.0 {
            IpNet::V4(net) => {
                let loopback = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);
                loopback.contains(&net) || net.contains(&loopback)
            }
            IpNet::V6(net) => net.contains(&Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        }
    }
}

impl FromStr for Network {
    type Err = Error;

    /// Reads `address/length` or a bare address. Host bits are cleared; an IPv4-mapped network of length
    /// 96 or more becomes its IPv4 self.
    fn from_str(text: &str) -> Result<Self, Error> {
        if !text.contains('/') {
            return text.parse().map(Network::single).map_err(|_| Error::not_a_network(text));
        }
        let net: IpNet = text.parse().map_err(|_| Error::not_a_network(text))?;
        if let IpNet::V6(v6) = net
            && v6.prefix_len() >= 96
            && let Some(v4) = v6.addr().to_ipv4_mapped()
        {
            return Ok(Network::new(IpNet::V4(Ipv4Net::new_assert(v4, v6.prefix_len() - 96))));
        }
        Ok(Network::new(net))
    }
}

impl fmt::Display for Network {
    /// A single address is written without its length, as administrators write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn a_mapped_address_is_its_ipv4_self() {
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert_eq!(address("[::ffff:192.0.2.7]").to_string(), "192.0.2.7");
        assert_eq!("::ffff:192.0.2.0/120".parse::<Network>().unwrap().to_string(), "192.0.2.0/24");
    }

    #[test]
    fn classes_end_where_the_standards_say() {
        for (text, class) in [
            ("127.255.255.255", AddressClass::Loopback),
            ("::1", AddressClass::Loopback),
            ("::ffff:127.0.0.1", AddressClass::Loopback),
            ("10.0.0.1", AddressClass::Private),
            ("172.31.255.255", AddressClass::Private),
            ("172.32.0.0", AddressClass::Public),
            ("100.63.255.255", AddressClass::Public),
            ("100.64.0.0", AddressClass::Private),
            ("100.127.255.255", AddressClass::Private),
            ("100.128.0.0", AddressClass::Public),
            ("fe80::1%eth0", AddressClass::Private),
            ("fd00::1", AddressClass::Private),
            ("2001:db8::1", AddressClass::Public),
        ] {
            assert_eq!(address(text).class(), class, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_address_is_refused_with_its_value() {
        for text in ["", "mail", "1.2.3", "1.2.3.4.5", "::g", "1.2.3.4/33", "1.2.3.4/", "[1.2.3.4"] {
            let error = text.parse::<Network>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_network_that_holds_loopback_is_known() {
        for text in ["127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "::/0", "::1", "::ffff:127.0.0.1"] {
            assert!(text.parse::<Network>().unwrap().touches_loopback(), "{text}");
        }
        assert!(!"128.0.0.0/8".parse::<Network>().unwrap().touches_loopback());
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_an_error_and_never_a_panic(text in "\\PC*") {
            let _ = text.parse::<Address>();
            let _ = text.parse::<Network>();
        }

        #[test]
        fn an_address_survives_writing_and_reading(bits: u128, v4: u32) {
            for ip in [IpAddr::from(Ipv6Addr::from_bits(bits)), IpAddr::from(Ipv4Addr::from_bits(v4))] {
                let a = Address::new(ip);
                prop_assert_eq!(a.to_string().parse::<Address>().unwrap(), a);
            }
        }

        #[test]
        fn a_network_holds_exactly_the_addresses_between_its_edges(v4: u32, length in 0u8..=32, probe: u32) {
            let net = Network::new(IpNet::V4(Ipv4Net::new(Ipv4Addr::from_bits(v4), length).unwrap()));
            let probe = Address::new(IpAddr::from(Ipv4Addr::from_bits(probe)));
            let size = 1u128 << (32 - length);
            let inside = (net.first_bits()..net.first_bits() + size).contains(&probe.bits());
            prop_assert_eq!(net.contains(probe), inside);
            let mask = u128::MAX.checked_shl(u32::from(128 - net.length_of_128())).unwrap_or(0);
            prop_assert_eq!(probe.bits() & mask == net.first_bits(), inside);
        }
    }
}
