//! Notices that wait, sent after the minute's work and outside of its lock: a receiver that is slow holds up nothing but
//! the next notices.

use super::{Done, TURN, only_one};
use crate::call::Call;
use crate::decide::Fact;
use crate::error::Result;
use crate::gather;
use crate::notify::{self, Defined, owners};
use crate::on_state::{as_postern_holding, as_postern_within};
use crate::trouble::{self, Trouble};
use std::os::fd::AsFd;

/// How long marking trouble may take, in seconds, and finding out whose owners wait.
const SHORT: u32 = 5;

/// Sends what waits; marks what went wrong.
pub(super) fn send(call: &Call) -> Done {
    let mut done = Done::default();
    done.add(sent(call));
    if !done.failed.is_empty() {
        let mark = || {
            trouble::mark(call, Trouble::Tick, &done.failed.join(" "));
            Ok(())
        };
        // Root leaves no marks, and logs each time.
        let _ = as_postern_within(&call.paths, SHORT, mark).or_else(|_| mark());
    }
    done
}

/// Root reads what root alone may read; all the rest is done by a child that has become user `postern`.
fn sent(call: &Call) -> Result<Done> {
    // The latest setting, which the policy has as soon as it is published.
    let told_to_owners = matches!(gather::settings(call), Fact::Known(settings) if settings.notify_owners);
    let Some(lock) = only_one::notices(&call.paths, TURN)? else { return Ok(Done::default()) };
    let defined = Defined::read(&call.paths);
    let contacts = told_to_owners.then(|| {
        as_postern_within(&call.paths, SHORT, || owners::waiting_accounts(call))
            .map_err(|error| error.to_string())
            .and_then(|accounts| owners::contacts(&call.paths, &accounts))
    });
    as_postern_holding(&call.paths, &[lock.as_fd()], || {
        notify::send_waiting(call, &defined, contacts.as_ref())
    })
}
