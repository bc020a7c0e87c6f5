//! Blocks: senders that the limiter stopped, and what the administrator blocked.

use super::arguments::Arguments;
use super::password;
use super::table::Scope;
use super::{Admin, Outcome, bans, lists, looks_like_network, own_service};
use crate::account::{Account, Subject};
use crate::address::{Address, Network};
use crate::error::{Error, Result};
use crate::idn;
use crate::limit::OUTBOUND;
use crate::neighbours::NAMES;
use crate::on_state::on_state;
use crate::store::settings::entries::{self, ListEntry, ListName};
use crate::store::state::senders::{self, Watch};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Why, for whoever may not read the administrator's note.
const BLOCKED_BY_ADMINISTRATOR: &str = "The administrator blocked it.";

/// Everything that is blocked now: by the limiter first, then by the administrator.
pub fn list_blocks(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let now = admin.call.now;
    let stops = on_state(&admin.call.paths, |state| {
        let mut stops = state.read(|db| senders::stops(db, now))?;
        stops.retain(|stop| admin.may_see(&stop.account));
        Ok(stops)
    });
    let mut warning = None;
    let stops = stops.unwrap_or_else(|e| {
        warning = Some(format!("Senders stopped by the limiter cannot be listed: {e}"));
        Vec::new()
    });
    let mut rows: Vec<Value> = stops.iter().map(stop_row).collect();
    let store = admin.settings()?;
    for list in [ListName::AccountBlock, ListName::AddressBlock] {
        let in_force = |e: &&ListEntry| e.holds(now) && admin.may_see(&e.value);
        rows.extend(store.entries(list)?.iter().filter(in_force).map(|entry| entry_row(admin, entry)));
    }
    Ok(Outcome::from(json!(rows)).warn(warning))
}

/// The limit that made the stop.
fn by(stop: &senders::Stop) -> &str {
    if stop.by_limit == OUTBOUND { "Outbound Rate Limiter" } else { stop.by_limit.as_str() }
}

fn stop_row(stop: &senders::Stop) -> Value {
    json!({
        "value": stop.account,
        "by": by(stop),
        "since": stop.since,
        "until": stop.until,
        "reference": stop.reference,
        "refused": stop.refused,
        "why": stop.detail,
    })
}

fn entry_row(admin: &Admin, entry: &ListEntry) -> Value {
    // What the administrator wrote for himself nobody else reads; why it is blocked, he does.
    let why = match admin.note_of(&entry.who, &entry.note) {
        note if note == entry.note => note,
        _ => BLOCKED_BY_ADMINISTRATOR.into(),
    };
    json!({
        "value": entry.value,
        "by": entry.who,
        "since": entry.at,
        "until": entry.until,
        "reference": "",
        "refused": null,
        "why": why,
    })
}

pub(super) fn list_for(value: &str) -> ListName {
    if looks_like_network(value) { ListName::AddressBlock } else { ListName::AccountBlock }
}

/// Blocks an account, an address or a network, for a time or for good.
pub fn add_block(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let value = given.text("value");
    let list = list_for(value);
    list.checked(value)?;
    let what = match value.parse::<Network>() {
        Ok(network) => {
            lists::must_be_meant(given, &network)?;
            value.to_string()
        }
        Err(_) => value.parse::<Subject>()?.words(),
    };
    let entry = ListEntry {
        value: value.into(),
        note: given.note(),
        until: given.until("until", admin.call.now)?,
        ..ListEntry::default()
    };
    admin.change(given, |change| change.add(list, &entry))?;
    let until = match entry.until {
        Some(until) => format!(" until {}", crate::clock::readable(until)),
        None => " until you release it".into(),
    };
    Ok(Outcome::said(format!("{what} is blocked{until}.")).warn(blocks_itself(admin, value)?))
}

/// An own address or trusted proxy that the network holds, or that holds it.
pub(super) fn holds_own_address(admin: &Admin, value: &str) -> Result<Option<Network>> {
    let own = admin.settings()?.settings()?.own_addresses;
    let Ok(network) = value.parse::<Network>() else { return Ok(None) };
    Ok(own.split(',').filter_map(|o| o.parse::<Network>().ok()).find(|o| network.overlaps(o)))
}

/// A block of an own address or trusted proxy stops webmail for everybody.
fn blocks_itself(admin: &Admin, value: &str) -> Result<Option<String>> {
    Ok(holds_own_address(admin, value)?.map(|o| {
        format!("{o} is one of the own addresses and trusted proxies: whoever comes by it is refused now.")
    }))
}

/// Lifts every block of an account, an address or a network: the administrator's and the limiter's; where it is asked
/// for, what other products ban of the address, too.
pub fn release(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let lifts = given.is_on("lift")?;
    let address = given.text("value").parse::<Address>();
    match (&address, admin.scope()) {
        (Err(_), _) if lifts => {
            Err(Error::bad_value("The argument lift", "on", "only with an address: others ban addresses"))
        }
        (Ok(address), Scope::Root) => {
            let ours = release_ours(admin, given);
            with_others(admin, ours, *address, lifts, given.text("reason"))
        }
        _ => release_ours(admin, given),
    }
}

/// Looks after the bans of others, too: what they ban may be all there is.
fn with_others(
    admin: &Admin,
    ours: Result<Outcome>,
    address: Address,
    lifts: bool,
    reason: &str,
) -> Result<Outcome> {
    if !lifts {
        let banned = bans::seen(admin, address).bans;
        let told = banned.first().map(|ban| {
            format!(
                "{} bans {} ({}): `postern bans lift {address}` lifts that.",
                ban.product, ban.banned, ban.place
            )
        });
        return match (ours, told) {
            (Err(Error::NotFound(why)), Some(told)) => Err(Error::NotFound(format!("{why} But {told}"))),
            (ours, told) => ours.map(|outcome| outcome.warn(told)),
        };
    }
    if ours.as_ref().is_err_and(|e| !matches!(e, Error::NotFound(_))) {
        return ours;
    }
    let mut lifted = bans::lift(admin, address, &NAMES, reason)?;
    let did_nothing =
        [&lifted.messages, &lifted.warnings, &lifted.failures].iter().all(|told| told.is_empty());
    match ours {
        Err(error) if did_nothing => Err(error),
        Err(_) => Ok(lifted),
        Ok(mut ours) => {
            ours.messages.append(&mut lifted.messages);
            ours.warnings.append(&mut lifted.warnings);
            ours.failures.append(&mut lifted.failures);
            Ok(ours)
        }
    }
}

fn release_ours(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (value, reason) = (given.text("value"), given.text("reason"));
    let list = list_for(value);
    let keys = keys_meant(admin, list, value)?;
    own_service::may_release(admin)?;
    let watch = watch(admin)?;
    let mut warning = None;
    if list == ListName::AccountBlock {
        warning = password::must_have_changed(admin, &keys, given.is_on("anyway")?)?;
    }
    // The limiter's stop is lifted within the change: a call that is refused changes nothing.
    let (key, stopped) = admin.change(given, |change| {
        let mut failed = None;
        for key in &keys {
            let block = entries::one(change.connection(), list, key).map_err(change.failed())?;
            let block = block.filter(|entry| entry.holds(admin.call.now));
            own_service::may_lift(admin, block.as_ref())?;
            let stopped = match list {
                ListName::AccountBlock => {
                    release_stops_of(admin, std::slice::from_ref(key), watch).map(|n| n > 0)
                }
                _ => Ok(false),
            };
            if block.is_some() {
                change.remove(list, &list.typed(key))?;
            }
            match stopped {
                Ok(true) => change.note("release", key, "stopped by the limiter", reason)?,
                Ok(false) if block.is_none() => continue,
                Err(error) if block.is_none() => {
                    failed = Some(error);
                    continue;
                }
                _ => {}
            }
            return Ok((key.clone(), stopped));
        }
        Err(failed.unwrap_or_else(|| Error::NotFound(format!("{value} is not blocked."))))
    })?;
    let told = own_service::tell(admin, "owner_release", &key, &format!("released {value}: {reason}"));

    let watched = match (&stopped, watch) {
        (Ok(true), Some(watch)) => format!(" It is watched until {}.", crate::clock::readable(watch.until)),
        _ => String::new(),
    };
    let failed = stopped.err().map(|e| format!("The limiter's stop could not be lifted: {e}"));
    let outcome = Outcome::said(format!("{value} is released.{watched}"));
    Ok(outcome.warn(warning).warn(failed).warn(told.err().map(|e| e.to_string())))
}

/// For how long whoever is released now is watched.
fn watch(admin: &Admin) -> Result<Option<Watch>> {
    let (now, seconds) = (admin.call.now, admin.settings()?.settings()?.watch_after_release);
    Ok((seconds > 0).then_some(Watch { now, until: now + seconds }))
}

/// Accounts that were released lately and are watched.
pub fn list_watched(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let watched = on_state(&admin.call.paths, |state| {
        let mut watched = state.read(|db| senders::watched(db, admin.call.now))?;
        watched.retain(|stop| admin.may_see(&stop.account));
        Ok(watched)
    })?;
    let row = |stop: &senders::Stop| {
        json!({
            "value": stop.account,
            "until": stop.watch_until,
            "released": stop.times,
            "by": by(stop),
            "stopped": stop.since,
            "why": stop.detail,
        })
    };
    Ok(json!(watched.iter().map(row).collect::<Vec<_>>()).into())
}

/// The keys that may be meant by what somebody types to release it, the likeliest first: as lists keep entries, and as
/// they show accounts that the limiter stopped, whose names can be any text.
fn keys_meant(admin: &Admin, list: ListName, value: &str) -> Result<Vec<String>> {
    if list == ListName::AddressBlock {
        return Ok(vec![list.checked(value)?]);
    }
    let (checked, meant) = (list.checked(value), Account::meant(value));
    let mut keys: Vec<String> = checked.iter().cloned().collect();
    let other = keys.first().and_then(|key| idn::other_spelling(key));
    keys.extend(other);
    keys.extend(meant.unwrap_or_default().iter().map(|account| account.name().to_string()));
    keys.retain(|key| admin.may_see(key));
    let mut seen = HashSet::new();
    keys.retain(|key| seen.insert(key.clone()));
    match (keys.is_empty(), checked) {
        (true, Err(error)) => Err(error),
        _ => Ok(keys),
    }
}

/// Lifts the limiter's stops of whom these keys of a list name: accounts, or all of a domain.
pub fn release_stops_of(admin: &Admin, keys: &[String], watch: Option<Watch>) -> Result<usize> {
    if keys.is_empty() {
        return Ok(0);
    }
    let matches = matcher(keys);
    on_state(&admin.call.paths, |state| senders::release_matching(state, &matches, watch))
}

/// Whether a stop is of whom these keys name: accounts, or all of a domain.
fn matcher(keys: &[String]) -> impl Fn(&senders::Stop) -> bool {
    let keys: HashSet<&str> = keys.iter().map(String::as_str).collect();
    move |stop| {
        // A domain that is stopped stands under its key.
        keys.contains(stop.account.as_str())
            || Account::from_server(&stop.account)
                .is_some_and(|account| Subject::keys_of(&account).any(|k| keys.contains(k.as_str())))
    }
}

/// Leaves the stops of whom these keys name.
pub(super) fn stops_of(stops: &mut Vec<senders::Stop>, keys: &[String]) {
    let matches = matcher(keys);
    stops.retain(|stop| matches(stop));
}
