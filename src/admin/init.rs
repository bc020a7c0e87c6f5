//! `postern init`: makes folders, owners and access lists, and begins settings, policy and state. Safe to run
//! again: it puts right what it finds wrong and keeps what is there.

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::error::{Error, Result};
use crate::folders;
use crate::on_state::as_postern;
use crate::store::settings::{Host, SettingsStore};
use crate::store::state;
use nix::unistd::{Group, User, geteuid};
use serde_json::json;

/// Makes everything ready for the hooks of these users.
pub fn init(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    if !geteuid().is_root() {
        return Err(Error::NotAllowed("`postern init` gives files to several users: run it as root.".into()));
    }
    let paths = &admin.call.paths;
    let (postern_uid, postern_gid) = user_and_group(given.given("user").unwrap_or("postern"))?;
    let before = SettingsStore::open(paths).and_then(|store| store.host()).unwrap_or_default();
    let named: Vec<&str> = given.text("mail_users").split(',').filter(|n| !n.is_empty()).collect();
    let mail_uids = match named.is_empty() {
        true => before.mail_uids,
        false => named.iter().map(|name| user_and_group(name).map(|(uid, _)| uid)).collect::<Result<_>>()?,
    };
    let host = Host { postern_uid, postern_gid, mail_uids };
    folders::make_all(paths, &host)?;
    folders::mend_state(paths, &host)?;
    SettingsStore::begin(paths)?.set_host(&host)?;
    let now = admin.call.now;
    let begun = as_postern(paths, || state::begin(paths, now))?;
    let generation = admin.publish()?;
    let data = json!({ "user": postern_uid, "mail_users": host.mail_uids, "generation": generation });
    let mut outcome = Outcome { data, ..Outcome::said("Postern's files are in place.") };
    outcome.messages.extend(begun);
    Ok(outcome)
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
