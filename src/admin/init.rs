//! `postern init`: makes folders, owners and access lists, and begins settings, policy and state. Safe to run
//! again: it puts right what it finds wrong and keeps what is there.

use super::arguments::Arguments;
use super::on_state::as_postern;
use super::{Admin, Outcome};
use crate::acl;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::store::settings::{Host, SettingsStore};
use crate::store::state;
use nix::unistd::{Group, User, geteuid};
use serde_json::json;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::Path;

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
    make_folders(paths, &host)?;
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

/// The folders, each with its owner, mode and access list.
fn make_folders(paths: &Paths, host: &Host) -> Result<()> {
    for path in [paths.etc(), paths.lib()] {
        folder(&path, 0o755, Some((0, 0)))?;
    }
    let postern = Some((host.postern_uid, host.postern_gid));
    folder(&paths.data(), 0o755, postern)?;
    for path in [paths.state_dir(), paths.tally_dir()] {
        folder(&path, 0o2770, postern)?;
        acl::set_shared_folder(&path, &host.mail_uids)?;
    }
    make_run(paths, host)
}

/// `/run/postern`, which is gone after each start of the machine.
pub fn make_run(paths: &Paths, host: &Host) -> Result<()> {
    folder(&paths.run(), 0o755, Some((0, 0)))?;
    folder(&paths.trouble(), 0o2770, Some((host.postern_uid, host.postern_gid)))?;
    acl::set_shared_folder(&paths.trouble(), &host.mail_uids)
}

fn folder(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<()> {
    let found = std::fs::symlink_metadata(path);
    match found {
        Ok(meta) if !meta.is_dir() => {
            return Err(Error::State(format!("{} is in the way: it is no folder.", path.display())));
        }
        Ok(_) => {}
        Err(_) => {
            DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(Error::file("make", path))?
        }
    }
    if let Some((uid, gid)) = owner {
        chown(path, Some(uid), Some(gid)).map_err(Error::file("give away", path))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::file("set the mode of", path))
}
