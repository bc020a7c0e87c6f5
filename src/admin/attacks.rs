//! Networks that were seen attacking: the list, taking a mark off; networks that the administrator pins as attacking, or
//! never wants marked.
//!
//! The latter are two lists in the settings; where many are read and written at once, `not:` stands before the values of
//! the second one.

use super::arguments::Arguments;
use super::clouds::list_for;
use super::{Admin, Outcome, blocks, lists};
use crate::address::Network;
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::store::settings::entries::{ListEntry, ListName};
use crate::store::state::sightings;
use serde_json::{Value, json};

/// The lists of pinned networks, and of those that are never marked.
pub const PINS: [ListName; 2] = [ListName::AttackNetwork, ListName::NoAttackNetwork];

/// Networks that are pinned, then those that are marked now and addresses that are refused for a while, the last seen
/// first.
pub fn list_attack_networks(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (now, most) = (admin.call.now, given.limit()?);
    let found = on_state(&admin.call.paths, |state| state.read(|db| sightings::list(db, now, most.into())))?;
    let mut rows = pins(admin, PINS[0])?;
    rows.extend(found.iter().map(|sighting| json!(sighting)));
    Ok(json!(rows).into())
}

fn pins(admin: &Admin, list: ListName) -> Result<Vec<Value>> {
    let row = |entry: &ListEntry| {
        let what = if list == PINS[0] { "pinned" } else { "never marked" };
        json!({
            "network": entry.value,
            "since": entry.at,
            "last": null,
            "until": entry.until,
            "why": format!("{what} by {}: {}", entry.who, entry.note).trim_end_matches([' ', ':']),
        })
    };
    let entries = admin.settings()?.entries(list)?;
    Ok(entries.iter().filter(|entry| entry.holds(admin.call.now)).map(row).collect())
}

/// Networks that the administrator pinned, and those that he never wants marked.
pub fn list_pins(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let mut rows = pins(admin, PINS[0])?;
    rows.extend(pins(admin, PINS[1])?);
    Ok(json!(rows).into())
}

/// Pins a network as attacking, until it is unpinned.
pub fn pin(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let own = blocks::holds_own_address(admin, given.text("value"))?;
    let warning = own.map(|own| {
        format!("{own} is one of the own addresses and trusted proxies: the rules by address skip it all the same.")
    });
    Ok(lists::add(admin, given, PINS[0])?.warn(warning))
}

/// Never marks a network as attacking, and learns nothing from failures there. What was learned so far stays.
pub fn never(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    lists::add(admin, given, PINS[1])
}

/// Takes a network off whichever of the two lists it is on.
pub fn unpin(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let key = given.text("value").parse::<Network>()?.to_string();
    let store = admin.settings()?;
    let is_on = |list: ListName| Ok(store.entries(list)?.iter().any(|entry| entry.value == key));
    let list = if is_on(PINS[1])? { PINS[1] } else { PINS[0] };
    if list == PINS[0] && !is_on(PINS[0])? {
        let shows = "`postern attack-networks pins` shows what is, as it is written there";
        return Err(Error::NotFound(format!("{key} is not pinned; {shows}.")));
    }
    lists::remove(admin, given, list)
}

/// Pins many at once; what has `not:` before it is never marked.
pub fn import_pins(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    lists::import_into(admin, given, lists::fields(PINS[0]), &|value| list_for(&PINS, value))
}

/// Takes the mark off a network or an address, and forgets the failures that made it.
pub fn remove_attack_network(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (network, reason) = (given.text("value").parse::<Network>()?, given.text("reason"));
    let key = network.to_string();
    admin.change(given, |change| {
        let found = on_state(&admin.call.paths, |state| state.write(|t| sightings::remove(t, &network)))?;
        if !found {
            return Err(Error::NotFound(format!(
                "{key} is not marked by what was learned; `postern attack-networks list` shows what is, as it is written there."
            )));
        }
        change.note("remove_attack_network", &key, "marked", reason)
    })?;
    Ok(Outcome::said(format!("{key} is no longer marked; what failed from there is forgotten.")))
}
