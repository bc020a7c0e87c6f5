//! Networks that were seen attacking: the list, and taking a mark off.

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::address::Network;
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::store::state::sightings;
use serde_json::json;

/// Networks that are marked now, and addresses that are refused for a while, the last seen first.
pub fn list_attack_networks(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (now, most) = (admin.call.now, given.limit()?);
    let found = on_state(&admin.call.paths, |state| state.read(|db| sightings::list(db, now, most.into())))?;
    Ok(json!(found).into())
}

/// Takes the mark off a network or an address, and forgets the failures that made it.
pub fn remove_attack_network(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (network, reason) = (given.text("value").parse::<Network>()?, given.text("reason"));
    let key = network.to_string();
    admin.change(given, |change| {
        let found = on_state(&admin.call.paths, |state| state.write(|t| sightings::remove(t, &network)))?;
        if !found {
            return Err(Error::NotFound(format!(
                "{key} is not marked; `postern attack-networks list` shows what is, as it is written there."
            )));
        }
        change.note("remove_attack_network", &key, "marked", reason)
    })?;
    Ok(Outcome::said(format!("{key} is no longer marked; what failed from there is forgotten.")))
}
