//! The exemption lists and the whitelist: IP Authentication, User Authentication, Per-User Rate Limiter.

use super::arguments::Arguments;
use super::{Admin, Outcome, blocks, import};
use crate::account::Subject;
use crate::address::Network;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::store::settings::Change;
use crate::store::settings::entries::{self, ListEntry, ListName};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};

/// A list with its entries.
pub fn list(admin: &Admin, list: ListName) -> Result<Outcome> {
    let mut entries = admin.settings()?.entries(list)?;
    entries.retain(|entry| admin.may_see(&entry.value));
    entries.iter_mut().for_each(|entry| entry.note = admin.note_of(&entry.who, &entry.note));
    Ok(json!(entries).into())
}

/// Adds an entry, and lifts what it makes pointless: blocks of what is now exempt.
pub fn add(admin: &Admin, given: &Arguments, list: ListName) -> Result<Outcome> {
    let value = list.checked(given.text("value"))?;
    if let Ok(network) = value.parse::<Network>() {
        must_be_meant(given, &network)?;
    }
    let entry = ListEntry {
        value: given.text("value").into(),
        note: given.note(),
        until: given.until("until", admin.call.now)?,
        sending: given.is_on("sending")?,
        ..ListEntry::default()
    };
    let lifted = admin.change(given, |change| {
        change.add(list, &entry)?;
        lift_blocks(change, list, std::slice::from_ref(&value), admin.call.now)
    })?;
    let what = value.parse::<Subject>().ok().filter(|_| list.is_of_subjects());
    let what = what.map_or_else(|| list.typed(&value), |subject| subject.words());
    let mut outcome = Outcome::said(format!("{what} is on the list {}.", list.title()));
    outcome.warnings.extend(still_blocked(admin, list, &value)?);
    outcome.messages.extend(lifted.iter().map(|b| format!("The block of {b} was lifted with it.")));
    Ok(outcome.warn(release_stops(admin, list, &[value])))
}

/// Whoever is whitelisted is not stopped any more.
pub(super) fn release_stops(admin: &Admin, list: ListName, values: &[String]) -> Option<String> {
    if list != ListName::Whitelist {
        return None;
    }
    let released = blocks::release_stops_of(admin, values, None).err()?;
    let whose = if let [one] = values { one.clone() } else { "some of them".into() };
    Some(format!(
        "The stop of {whose} could not be lifted now ({released}); `postern tick` does it as soon as it can."
    ))
}

/// Fields of an entry as many are read and written at once.
pub(super) fn fields(list: ListName) -> &'static [&'static str] {
    match list {
        ListName::IpExemption => &["value", "until", "note", "sending"],
        _ => &["value", "until", "note"],
    }
}

fn entry(admin: &Admin, given: &Arguments, fields: &Arguments, list: ListName) -> Result<ListEntry> {
    import::check_common(fields)?;
    let value = fields.text("value");
    admin.may_name(value)?;
    if let Ok(network) = list.checked(value)?.parse::<Network>() {
        must_be_meant(given, &network)?;
    }
    Ok(ListEntry {
        value: value.into(),
        note: fields.note(),
        until: fields.until("until", admin.call.now)?,
        sending: fields.is_on("sending")?,
        ..ListEntry::default()
    })
}

/// Adds many entries at once.
pub fn import(admin: &Admin, given: &Arguments, list: ListName) -> Result<Outcome> {
    import_into(admin, given, fields(list), &|_| list)
}

/// The same for blocks, which are two lists.
pub fn import_blocks(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    import_into(admin, given, fields(ListName::AccountBlock), &blocks::list_for)
}

pub(super) fn import_into(
    admin: &Admin,
    given: &Arguments,
    fields: &[&str],
    list_for: &dyn Fn(&str) -> ListName,
) -> Result<Outcome> {
    let rows = import::rows(&import::text_of(given)?, fields)?;
    let (entries, bad) = import::sorted(rows, |fields| {
        let list = list_for(fields.text("value"));
        let entry = entry(admin, given, fields, list)?;
        Ok((list, list.checked(&entry.value)?, entry))
    });
    let mut lifted = Vec::new();
    let mut outcome = import::take(admin, given, entries.len(), &bad, |change| {
        entries.iter().try_for_each(|(list, _, entry)| change.add(*list, entry))?;
        for list in ListName::ALL {
            let values = values_for(&entries, list);
            if !values.is_empty() {
                lifted.extend(lift_blocks(change, list, &values, admin.call.now)?);
            }
        }
        Ok(())
    })?;
    if outcome.failures.is_empty() && !given.is_on("dry_run")? {
        outcome.messages.extend(lifted.iter().map(|b| format!("The block of {b} was lifted with it.")));
        let stops = release_stops(admin, ListName::Whitelist, &values_for(&entries, ListName::Whitelist));
        outcome = outcome.warn(stops);
    }
    Ok(outcome)
}

fn values_for(entries: &[(ListName, String, ListEntry)], list: ListName) -> Vec<String> {
    entries.iter().filter(|(of, _, _)| *of == list).map(|(_, value, _)| value.clone()).collect()
}

/// The entries that hold and that the caller may see, as CSV that can be imported.
pub fn export(admin: &Admin, lists: &[ListName]) -> Result<Outcome> {
    let (store, mut rows) = (admin.settings()?, Vec::new());
    for list in lists {
        let is_meant = |e: &ListEntry| e.holds(admin.call.now) && admin.may_see(&e.value);
        for entry in store.entries(*list)?.into_iter().filter(is_meant) {
            rows.push(BTreeMap::from([
                ("value", list.typed(&entry.value)),
                ("until", import::end(entry.until)),
                ("note", admin.note_of(&entry.who, &entry.note)),
                ("sending", if entry.sending { "on".into() } else { String::new() }),
            ]));
        }
    }
    import::csv_of(fields(lists[0]), &rows).map(Outcome::whole)
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
    if list.opposite().is_some() {
        return Ok(None);
    }
    let store = admin.settings()?;
    let mut blocks = store.entries(match list {
        ListName::IpExemption => ListName::AddressBlock,
        _ => ListName::AccountBlock,
    })?;
    blocks.retain(|e| e.holds(admin.call.now) && admin.may_see(&e.value));
    let concerns = |blocked: &str| match list {
        ListName::IpExemption => {
            let networks = (value.parse::<Network>(), blocked.parse::<Network>());
            matches!(networks, (Ok(exempt), Ok(blocked)) if blocked.overlaps(&exempt))
        }
        _ => {
            let holds = |domain: &str, key: &str| domain.starts_with('@') && key.ends_with(domain);
            blocked == value || holds(blocked, value) || holds(value, blocked)
        }
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

/// Removes the administrator's blocks that new exemptions contradict; names them. What has ended contradicts nothing.
fn lift_blocks(change: &mut Change, list: ListName, values: &[String], now: Seconds) -> Result<Vec<String>> {
    let blocks = match list {
        ListName::IpExemption => ListName::AddressBlock,
        ListName::UserExemption => ListName::AccountBlock,
        _ => return Ok(Vec::new()),
    };
    let names: HashSet<&str> = values.iter().map(String::as_str).collect();
    let exempt: Vec<Network> = values.iter().filter_map(|value| value.parse().ok()).collect();
    let covered = |blocked: &str| match blocked.parse::<Network>() {
        Ok(blocked) if list == ListName::IpExemption => {
            exempt.iter().any(|exempt| exempt.net().contains(&blocked.net()))
        }
        _ => names.contains(blocked),
    };
    let entries = entries::all(change.connection(), blocks).map_err(change.failed())?;
    let in_force = entries.into_iter().filter(|e| e.holds(now)).map(|e| e.value);
    let lifted: Vec<String> = in_force.filter(|value| covered(value)).collect();
    lifted.iter().try_for_each(|v| change.remove(blocks, &blocks.typed(v)))?;
    Ok(lifted)
}
