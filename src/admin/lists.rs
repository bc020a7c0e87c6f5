//! The exemption lists and the whitelist: IP Authentication, User Authentication, Per-User Rate Limiter.

use super::arguments::Arguments;
use super::{Admin, Outcome, blocks};
use crate::address::Network;
use crate::error::Result;
use crate::store::settings::Change;
use crate::store::settings::entries::{self, ListEntry, ListName};
use serde_json::json;

/// A list with its entries.
pub fn list(admin: &Admin, list: ListName) -> Result<Outcome> {
    Ok(json!(admin.settings()?.entries(list)?).into())
}

/// Adds an entry, and lifts what it makes pointless: blocks of what is now exempt.
pub fn add(admin: &Admin, given: &Arguments, list: ListName) -> Result<Outcome> {
    let value = list.checked(given.text("value"))?;
    let entry = ListEntry {
        value: value.clone(),
        note: given.text("note").chars().take(500).collect(),
        until: given.until("until", admin.call.now)?,
        sending: given.is_on("sending")?,
        ..ListEntry::default()
    };
    let lifted = admin.change(given, |change| {
        change.add(list, &entry)?;
        lift_blocks(change, list, &value)
    })?;
    let mut outcome = Outcome::said(format!("{value} is on the list {}.", list.title()));
    outcome.messages.extend(lifted.iter().map(|b| format!("The block of {b} was lifted with it.")));
    if list == ListName::Whitelist {
        let released = blocks::release_stops_of(admin, &value);
        return Ok(outcome.warn(released.err().map(|e| {
            format!(
                "The stop of {value} could not be lifted now ({e}); `postern tick` does it as soon as it can."
            )
        })));
    }
    Ok(outcome)
}

/// Removes an entry.
pub fn remove(admin: &Admin, given: &Arguments, list: ListName) -> Result<Outcome> {
    let value = given.text("value");
    admin.change(given, |change| change.remove(list, value))?;
    Ok(Outcome::said(format!("{value} is no longer on the list {}.", list.title())))
}

/// Removes the administrator's blocks that the new exemption contradicts; names them.
fn lift_blocks(change: &mut Change, list: ListName, value: &str) -> Result<Vec<String>> {
    let covers = |net: &Network, blocked: &str| {
        blocked.parse::<Network>().is_ok_and(|blocked| net.net().contains(&blocked.net()))
    };
    let (blocks, exempt) = match list {
        ListName::IpExemption => (ListName::AddressBlock, value.parse::<Network>().ok()),
        ListName::UserExemption => (ListName::AccountBlock, None),
        _ => return Ok(Vec::new()),
    };
    let covered = |blocked: &str| exempt.as_ref().map_or(blocked == value, |net| covers(net, blocked));
    let entries = entries::all(change.connection(), blocks).unwrap_or_default();
    let lifted: Vec<String> = entries.into_iter().map(|e| e.value).filter(|v| covered(v)).collect();
    lifted.iter().try_for_each(|v| change.remove(blocks, v))?;
    Ok(lifted)
}
