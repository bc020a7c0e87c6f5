//! Feeds that are due, fetched at the end of the minute's work and outside of its lock: a publisher who is slow holds
//! nothing up but the next of these.

use super::Done;
use crate::call::Call;
use crate::error::Result;
use crate::feeds::{Asked, Chosen, Job, tell, update};
use crate::on_state::as_postern_within;
use crate::store::settings::SettingsStore;
use crate::trouble::{self, Trouble};
use nix::unistd::geteuid;
use std::time::Duration;

/// How long one list may take, and all: where systemd starts the ticks, the next one waits for this one's end.
const LIMITS: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(45));

/// How long the work may take in all, in seconds: a net below those limits.
const LONGEST: u32 = 58;

/// How long marking trouble may take, in seconds.
const TO_MARK: u32 = 5;

/// Fetches what is due; marks what went wrong here. What publishers do is no trouble of ours.
pub(super) fn fetch_due(call: &Call) -> Done {
    let mut done = Done::default();
    done.add(fetched(call));
    if !done.failed.is_empty() {
        let mark = || {
            trouble::mark(call, Trouble::Tick, &done.failed.join(" "));
            Ok(())
        };
        // Root leaves no marks, and logs each time.
        let _ = as_postern_within(&call.paths, TO_MARK, mark).or_else(|_| mark());
    }
    done
}

/// What is connected to stands in the settings, which root alone can read: a tick of another user fetches nothing.
fn fetched(call: &Call) -> Result<Done> {
    let store = match SettingsStore::open(&call.paths) {
        Err(_) if !geteuid().is_root() => return Ok(Done::default()),
        opened => opened?,
    };
    let Chosen { feeds, own } = Chosen::read(&store, call.now)?;
    if feeds.is_empty() && !call.paths.feeds().exists() {
        return Ok(Done::default());
    }
    let job = Job { feeds, own, asked: Asked::Due, may_grow: false, limits: LIMITS };
    let done = as_postern_within(&call.paths, LONGEST, || update(&call.paths, &job, call.now))?;
    tell(call, &done);
    let (ours, rest): (Vec<_>, Vec<_>) = done.into_iter().partition(|done| done.is_ours);
    let news = rest.into_iter().filter(|done| done.did == "taken" || done.is_news);
    Ok(Done {
        told: news.map(|done| done.says).collect(),
        failed: ours.into_iter().map(|done| done.says).collect(),
    })
}
