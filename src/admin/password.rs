//! Whether mailboxes that the limiter stopped have another password by now, where a release needs that.

use super::Admin;
use super::blocks::stops_of;
use super::table::Scope;
use crate::account::Account;
use crate::clock::readable;
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::panel::{self, Password};
use crate::store::state::senders;

/// Refuses the release of mailboxes whose password is not known to be another one than at their stop. `anyway` lets the
/// administrator, and nobody else, do it all the same; gives what is to be said then.
pub(super) fn must_have_changed(admin: &Admin, keys: &[String], anyway: bool) -> Result<Option<String>> {
    if !admin.settings()?.settings()?.release_needs_password_change {
        return Ok(None);
    }
    let now = admin.call.now;
    let stops = on_state(&admin.call.paths, |state| {
        let mut stops = state.read(|db| senders::stops(db, now))?;
        stops_of(&mut stops, keys);
        Ok(stops)
    })?;
    let panel = panel::of_this_server(&admin.call.paths);
    for stop in stops {
        // A local user has no password that a mail client sends, and a domain has none either.
        let mailbox = Account::from_server(&stop.account).filter(|account| account.domain().is_some());
        let Some(mailbox) = mailbox else { continue };
        let why = match panel.password_since(&admin.call.paths, &mailbox, stop.since) {
            Password::Changed => continue,
            Password::NotChanged => {
                format!(
                    "The password of {mailbox} was not changed since it was stopped ({}).",
                    readable(stop.since)
                )
            }
            Password::NotKnown(why) => {
                format!(
                    "It is not known whether the password of {mailbox} was changed since it was stopped: {why}"
                )
            }
        };
        if admin.scope() != Scope::Root {
            return Err(Error::NotAllowed(format!(
                "Nothing was released. {why} Change it; what cannot be seen the administrator alone releases."
            )));
        }
        if !anyway {
            return Err(Error::NeedsConfirmation(format!(
                "Nothing was released. {why} Change it first, or repeat with anyway=on (`--anyway`)."
            )));
        }
        return Ok(Some(format!("Released all the same. {why}")));
    }
    Ok(None)
}
