//! Notices to owners of accounts, where the administrator has switched that on: a short word about what is held back, at
//! the address that the panel's records have for the owner, never by a mailbox that may be the thief's by now.
//!
//! The records are root's to read; what is written to is looked for there each time and never kept in the state but as the
//! time of the last message.

use super::channels::by_mail;
use super::plan::{Group, HOUR, grouped};
use super::{Turn, words};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::panel;
use crate::paths::Paths;
use crate::store::state::State;
use crate::store::state::notices::{self, Channel};
use crate::store::state::senders;
use hashbrown::HashSet;
use std::collections::BTreeMap;

/// Notices to owners that are looked at in one turn.
const MOST: i64 = 1000;

/// Addresses of owners, by account; an account without one is not in it. Fails with a sentence where the records cannot be
/// believed.
pub(crate) type Contacts = std::result::Result<BTreeMap<String, String>, String>;

/// The accounts whose owners wait to be told. For user `postern`.
pub(crate) fn waiting_accounts(call: &Call) -> Result<Vec<String>> {
    let mut state = State::open(&call.paths)?;
    let progress = state.write(|t| notices::begin(t, Channel::Owner))?;
    if progress.memory.rests(call.now) {
        return Ok(Vec::new());
    }
    let waiting = state.read(|db| notices::waiting(db, Channel::Owner, progress.base, MOST))?;
    let accounts: HashSet<String> = waiting.into_iter().map(|notice| notice.account).collect();
    Ok(accounts.into_iter().collect())
}

/// Looks in the panel's records for where their owners read mail. For root.
pub(crate) fn contacts(paths: &Paths, accounts: &[String]) -> Contacts {
    if accounts.is_empty() {
        return Ok(BTreeMap::new());
    }
    let read = || -> Result<BTreeMap<String, String>> {
        let panel = panel::of_this_server(paths);
        let records = panel.records(paths)?;
        let owners = panel.owners(&records)?;
        let (domains, users): (HashSet<_>, HashSet<_>) = accounts
            .iter()
            .map(|a| domain_of(a).unwrap_or(a).to_owned())
            .partition(|name| name.contains('.'));
        let (of_domains, of_users) = (owners.owners_of_domains(&domains), owners.owners_of_users(&users));
        let mut addresses: BTreeMap<&str, Option<String>> = BTreeMap::new();
        let mut found = BTreeMap::new();
        for account in accounts {
            let name = domain_of(account).unwrap_or(account);
            let Some(owner) = of_domains.get(name).or_else(|| of_users.get(name)) else { continue };
            if !addresses.contains_key(owner) {
                addresses.insert(owner, panel.contact(paths, &records, owner)?);
            }
            let Some(address) = addresses.get(owner).cloned().flatten() else { continue };
            // A local user that is taken over reads the mailboxes of its domains.
            let theirs = owners.domains_of(&HashSet::from([(*owner).into()]));
            let of_address = domain_of(&address).map(crate::account::lower_case).unwrap_or_default();
            let is_same = match domain_of(account) {
                Some(domain) => domain == of_address,
                None => theirs.contains(&of_address),
            };
            if !is_same {
                found.insert(account.clone(), address);
            }
        }
        Ok(found)
    };
    read().map_err(|error: Error| error.to_string())
}

fn domain_of(account: &str) -> Option<&str> {
    account.rsplit_once('@').map(|(_, domain)| domain).filter(|domain| !domain.is_empty())
}

/// Whether the limiter has stopped a mailbox, or all of its domain.
fn is_stopped(state: &State, address: &str, now: i64) -> Result<bool> {
    let name = crate::account::lower_case(address);
    let of_domain = format!("@{}", domain_of(&name).unwrap_or_default());
    state.read(|db| {
        let stops = [senders::stop_of(db, &name)?, senders::stop_of(db, &of_domain)?];
        Ok(stops.into_iter().flatten().any(|stop| stop.until > now))
    })
}

/// Writes to each owner once an hour at most, about all that happened since.
pub(super) fn send(turn: &mut Turn, contacts: &Contacts, administrator: &str) -> Result<()> {
    let call = turn.call;
    let progress = turn.progress(Channel::Owner)?;
    let mut memory = progress.memory;
    let waiting = turn.state.read(|db| notices::waiting(db, Channel::Owner, progress.base, MOST))?;
    if waiting.is_empty() || memory.rests(call.now) {
        return Ok(());
    }
    let contacts = match contacts {
        Ok(contacts) => contacts,
        Err(why) => return turn.failed(Channel::Owner, memory, &[], why.clone()),
    };
    memory.owners.retain(|_, last| (*last..last.saturating_add(HOUR)).contains(&call.now));
    let mut by_owner: BTreeMap<&str, Vec<Group>> = BTreeMap::new();
    let mut nobodys = Vec::new();
    for group in grouped(waiting) {
        match contacts.get(&group.first.account) {
            Some(address) => by_owner.entry(address).or_default().push(group),
            None => nobodys.extend(group.ids),
        }
    }
    for (address, groups) in by_owner {
        let ids: Vec<i64> = groups.iter().flat_map(|group| group.ids.clone()).collect();
        if memory.owners.contains_key(address) || turn.is_late() {
            continue;
        }
        if is_stopped(&turn.state, address, call.now)? {
            nobodys.extend(ids);
            continue;
        }
        let text = words::to_owner(address, &turn.server, &groups, administrator);
        if let Err(why) = by_mail(call, address, &text) {
            turn.took(Channel::Owner, &memory, &nobodys, 0)?;
            return turn.failed(Channel::Owner, memory, &[], why);
        }
        memory.owners.insert(address.to_owned(), call.now);
        memory = super::went_well(&memory, call.now);
        turn.took(Channel::Owner, &memory, &ids, 0)?;
        turn.told(format!("{address} was told about accounts of its owner ({}).", groups.len()));
    }
    turn.took(Channel::Owner, &memory, &nobodys, 0)
}
