//! The server's own country: from the setting *Default Server GeoIP*, else from its public addresses; and the
//! publishing of the policy, which allows it.

use crate::address::{Address, AddressClass};
use crate::call::Call;
use crate::country::Country;
use crate::error::Result;
use crate::networks::Networks;
use crate::paths::Paths;
use crate::settings::Settings;
use crate::store::settings::SettingsStore;
use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What is known of the server's own country.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerCountry {
    /// The country, where it is certain.
    pub country: Option<Country>,
    /// Where it comes from, or why it is not certain, as a sentence.
    pub sentence: String,
}

/// Finds it. Addresses that disagree make it uncertain: then nobody guesses.
pub fn find(paths: &Paths, settings: &Settings) -> ServerCountry {
    if let Ok(country) = settings.default_server_geoip.parse::<Country>() {
        let sentence = format!("{country}, as Default Server GeoIP says.");
        return ServerCountry { country: Some(country), sentence };
    }
    let found = public_addresses();
    let Ok(networks) = Networks::open(&paths.networks()) else {
        return uncertain("there are no usable network data");
    };
    let countries: BTreeSet<Country> =
        found.iter().filter_map(|a| networks.look_up(*a).ok().flatten()?.country).collect();
    let mut sure = countries.iter();
    match (sure.next(), sure.next()) {
        (Some(country), None) => ServerCountry {
            country: Some(*country),
            sentence: format!("{country}, from the server's public addresses."),
        },
        (Some(_), Some(_)) => uncertain("the server's addresses lie in different countries"),
        (None, _) => uncertain("the server has no public address of its own that the data know"),
    }
}

/// Publishes the policy as the settings are now; gives its generation.
pub fn publish(call: &Call, store: &SettingsStore) -> Result<i64> {
    store.publish(call.now, |settings| find(&call.paths, settings).country)
}

fn uncertain(why: &str) -> ServerCountry {
    ServerCountry { country: None, sentence: format!("not known: {why}. Set Default Server GeoIP.") }
}

fn public_addresses() -> Vec<Address> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    all.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let v6 = || address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        v4.or_else(v6).map(Address::new)
    })
    .filter(|a| a.class() == AddressClass::Public)
    .collect()
}
