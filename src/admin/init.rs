//! `postern init`: makes folders, owners and access lists, and begins settings, policy and state. Safe to run
//! again: it puts right what it finds wrong and keeps what is there.

use super::arguments::Arguments;
use super::{Admin, Outcome, policy_secrets};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::folders;
use crate::on_state::as_postern;
use crate::paths::Paths;
use crate::recipients;
use crate::store::settings::{Host, SettingsStore};
use crate::store::state;
use crate::trouble;
use nix::unistd::{Group, User, geteuid};
use serde_json::json;

/// Makes everything ready for the hooks of these users. The policy is published before anything is done in
/// folders that others can write: trouble there must not keep the rules from being asked.
pub fn init(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    if !geteuid().is_root() {
        return Err(Error::NotAllowed("`postern init` gives files to several users: run it as root.".into()));
    }
    let (paths, now) = (&admin.call.paths, admin.call.now);
    folders::make_own(paths)?;
    let mut store = SettingsStore::begin(paths)?;
    let host = users(&store.host()?, given)?;
    store.set_host(&host)?;
    drop(store);
    let generation = admin.publish()?;
    let recipients = recipients::publish(paths, &host);
    let secrets = policy_secrets::make(paths, &host);
    let mended = folders::make_given(paths, &host)
        .and_then(|()| as_postern(paths, || mend(paths, &host.mail_uids, now)))
        .map_err(|e| Error::State(format!("The policy is published, but not everything is in place. {e}")))?;
    let data = json!({ "user": host.postern_uid, "mail_users": host.mail_uids, "generation": generation });
    let mut outcome = Outcome { data, ..Outcome::said("Postern's files are in place.") };
    outcome.messages.extend(mended);
    if let Err(error) = recipients {
        outcome.messages.push(format!("The domains of this server are not known: {error}"));
    }
    outcome.messages.extend(secrets.map_err(|e| {
        Error::State(format!("Everything is in place but the secrets of Dovecot's policy door. {e}"))
    })?);
    Ok(outcome)
}

/// What lies in folders that mail users can write. As user `postern`.
fn mend(paths: &Paths, mail_uids: &[u32], now: Seconds) -> Result<Vec<String>> {
    let mut told = Vec::new();
    told.extend(folders::make_tally(paths, mail_uids)?);
    trouble::give_access(paths, mail_uids)?;
    told.extend(state::give_access(paths, mail_uids, now)?);
    told.extend(state::begin(paths, now)?);
    Ok(told)
}

/// Who shares the files from now on: what was stored, changed by what is given.
fn users(stored: &Host, given: &Arguments) -> Result<Host> {
    let (postern_uid, postern_gid) = match (given.given("user"), stored.postern_uid) {
        (None, 0) => user_and_group("postern")?,
        (None, _) => (stored.postern_uid, stored.postern_gid),
        (Some(name), _) => user_and_group(name)?,
    };
    if postern_uid == 0 || postern_gid == 0 {
        let accepted = "a user and a group of Postern's own, and not root's";
        return Err(Error::bad_value("The argument user", given.text("user"), accepted));
    }
    let without = numbers(given.text("without_mail_users"))?;
    let mut mail_uids = stored.mail_uids.clone();
    mail_uids.extend(numbers(given.text("mail_users"))?);
    mail_uids.retain(|uid| !without.contains(uid));
    mail_uids.sort_unstable();
    mail_uids.dedup();
    Ok(Host { postern_uid, postern_gid, mail_uids })
}

fn numbers(names: &str) -> Result<Vec<u32>> {
    let names = names.split(',').map(str::trim).filter(|n| !n.is_empty());
    names.map(|name| user_and_group(name).map(|(uid, _)| uid)).collect()
}

/// Number of a user and of its group; `61000` or `61000:61000` are taken as they are.
fn user_and_group(name: &str) -> Result<(u32, u32)> {
    let (uid, gid) = name.split_once(':').unwrap_or((name, name));
    if let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) {
        return Ok((uid, gid));
    }
    let unknown = |what: &str| {
        Error::NotFound(format!(
            "There is no {what} {name:?}. Make it first, as with: useradd --system --no-create-home --shell /usr/sbin/nologin {name}"
        ))
    };
    let user = User::from_name(name).ok().flatten().ok_or_else(|| unknown("user"))?;
    let group = Group::from_gid(user.gid).ok().flatten().ok_or_else(|| unknown("group of user"))?;
    Ok((user.uid.as_raw(), group.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Host {
        Host { postern_uid: 61000, postern_gid: 61000, mail_uids: vec![61001, 61002] }
    }

    fn after(words: &[&str]) -> Result<Host> {
        users(&stored(), &Arguments::from_words(words.iter().copied()).unwrap())
    }

    #[test]
    fn what_is_stored_stays_and_mail_users_are_added_or_taken_away() {
        assert_eq!(after(&[]).unwrap(), stored());
        let of = |words: &[&str]| after(words).unwrap().mail_uids;
        assert_eq!(of(&["mail_users=61003, 61001"]), [61001, 61002, 61003]);
        assert_eq!(of(&["without_mail_users=61001"]), [61002]);
        assert_eq!(of(&["mail_users=61003", "without_mail_users=61003,61002"]), [61001]);
        assert_eq!(after(&["user=61009:61010"]).unwrap().postern_uid, 61009);
    }

    #[test]
    fn root_is_no_user_for_it() {
        for user in ["root", "0", "0:61000", "61000:0"] {
            assert_eq!(after(&[&format!("user={user}")]).unwrap_err().code(), "bad_value", "{user}");
        }
    }
}
