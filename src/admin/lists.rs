//! The exemption lists and the whitelist: IP Authentication, User Authentication, Per-User Rate Limiter.

use super::arguments::Arguments;
use super::{Admin, Outcome, blocks};
use crate::account::Subject;
use crate::address::Network;
use crate::error::{Error, Result};
use crate::store::settings::Change;
use crate::store::settings::entries::{self, ListEntry, ListName};
use serde_json::json;

/// A list with its entries.
pub fn list(admin: &Admin, list: ListName) -> Result<Outcome> {
    let mut entries = admin.settings()?.entries(list)?;
    entries.retain(|entry| admin.may_see(&entry.value));
    Ok(json!(entries).into())
}

/// Adds an entry, and lifts what it makes pointless: blocks of what is now exempt.
pub fn add(admin: &Admin, given: &Arguments, list: ListName) -> Result<Outcome> {
    let value = list.checked(given.text("value"))?;
    if let Ok(network) = value.parse::<Network>() {
        must_be_meant(given, &network)?;
    }
    let entry = ListEntry {
        value: value.clone(),
        note: given.note(),
        until: given.until("until", admin.call.now)?,
        sending: given.is_on("sending")?,
        ..ListEntry::default()
    };
    let lifted = admin.change(given, |change| {
        change.add(list, &entry)?;
        lift_blocks(change, list, &value)
    })?;
    let what = value.parse::<Subject>().ok().filter(|_| list != ListName::IpExemption);
    let what = what.map_or_else(|| value.clone(), |subject| subject.words());
    let mut outcome = Outcome::said(format!("{what} is on the list {}.", list.title()));
    outcome.warnings.extend(still_blocked(admin, list, &value)?);
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

/// A network so wide that it holds a good part of everybody needs a confirmation.
pub(super) fn must_be_meant(given: &Arguments, network: &Network) -> Result<()> {
    let net = network.net();
    let narrowest = if net.max_prefix_len() == 32 { 8 } else { 16 };
    if net.prefix_len() >= narrowest || given.is_on("confirm")? {
        return Ok(());
    }
    Err(Error::NeedsConfirmation(format!(
        "{network} was not added: it is wider than /{narrowest} and holds a good part of the whole internet. If that is meant, repeat with confirm=on (`--confirm`)."
    )))
}

/// The administrator's blocks come first, so one that is wider than a new exemption goes on refusing.
fn still_blocked(admin: &Admin, list: ListName, value: &str) -> Result<Option<String>> {
    let store = admin.settings()?;
    let mut blocks = store.entries(match list {
        ListName::IpExemption => ListName::AddressBlock,
        _ => ListName::AccountBlock,
    })?;
    blocks.retain(|e| e.holds(admin.call.now) && admin.may_see(&e.value));
    let concerns = |blocked: &str| match (value.parse::<Network>(), blocked.parse::<Network>()) {
        (Ok(exempt), Ok(blocked)) if list == ListName::IpExemption => blocked.overlaps(&exempt),
        _ => blocked == value || value.ends_with(blocked) || blocked.ends_with(value),
    };
    let found = blocks.iter().find(|e| concerns(&e.value));
    Ok(found.map(|e| format!("{} is blocked by the administrator, and a block comes before this list: release it if that is not meant.", e.value)))
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
