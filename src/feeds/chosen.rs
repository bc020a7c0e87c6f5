//! Which feeds the administrator has chosen, and which addresses are the server's own. For root, who alone can read
//! and write the settings: what is connected to stands nowhere else.

use super::{Definition, definition};
use crate::address::{Address, AddressClass, Network};
use crate::clock::Seconds;
use crate::error::Result;
use crate::store::settings::SettingsStore;
use crate::store::settings::entries::{ListEntry, ListName};
use nix::ifaddrs::getifaddrs;
use std::net::IpAddr;

/// What was chosen.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// The feeds in use.
    pub feeds: Vec<Definition>,
    /// The server's own addresses.
    pub own: Vec<Network>,
}

impl Chosen {
    /// Reads the settings.
    pub fn read(store: &SettingsStore, now: Seconds) -> Result<Chosen> {
        let values = |list| -> Result<Vec<String>> {
            let holding = |e: ListEntry| e.holds(now).then_some(e.value);
            Ok(store.entries(list)?.into_iter().filter_map(holding).collect())
        };
        let (names, definitions) = (values(ListName::Feed)?, values(ListName::FeedDefinition)?);
        let feeds = definition::in_use(&names, &definitions)?;
        let set = store.settings()?.own_addresses;
        let mut own: Vec<Network> = set.split(',').filter_map(|text| text.parse().ok()).collect();
        own.extend(of_interfaces());
        Ok(Chosen { feeds, own })
    }
}

/// The public addresses of the machine's interfaces. Private ones no list may have anyway.
fn of_interfaces() -> Vec<Network> {
    let address = |ip: IpAddr| Some(Address::new(ip)).filter(|a| a.class() == AddressClass::Public);
    let found = getifaddrs().into_iter().flatten().filter_map(|interface| interface.address);
    let ips = found.filter_map(|at| {
        let v4 = at.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| at.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    ips.filter_map(address).map(Network::single).collect()
}
