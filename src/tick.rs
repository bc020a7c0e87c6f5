//! The minute's work, where no keeper does it: begins or sets aside the state, folds the tally, lifts stops
//! of who is on the whitelist, sends notices, prunes.
//!
//! Root's part is small: it makes `/run/postern` and publishes the policy where that is missing. All the rest
//! is done by a child that has become user `postern`. Two ticks at once would send a notice twice, so there
//! is never more than one.

mod feeds;
mod fold;
mod notices;
pub(crate) mod only_one;

use crate::account::Account;
use crate::call::Call;
use crate::decide::Fact;
use crate::error::Result;
use crate::folders;
use crate::gather;
use crate::guess;
use crate::kept::Kept;
use crate::log::{Line, Severity};
use crate::logs::follow::{self, Followed};
use crate::logs::learn::sources_since;
use crate::on_state::{as_postern_holding, end_after};
use crate::policy::Policy;
use crate::recipients;
use crate::server_country;
use crate::settings::Settings;
use crate::store::settings::SettingsStore;
use crate::store::settings::prune::Forgotten;
use crate::store::state::rollups::{self, Retention};
use crate::store::state::{self, State, domains, held, senders, sightings};
use crate::trouble::{self, Trouble};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::time::Duration;

/// Trouble that nobody met for a week is forgotten.
const FORGET_TROUBLE: i64 = 7 * 86_400;

/// Stops that are compared with the whitelist in one minute, the newest first. Mail users can write the state.
const MOST_STOPS: i64 = 1000;

/// How long a tick waits for another. The keeper's own work takes two seconds at least, and without the notices:
/// where both begin in the same second of each minute, none would ever be sent.
const TURN: Duration = Duration::from_secs(10);

/// How long the work may take, in seconds: one that hangs would keep every later tick away.
const LONGEST: u32 = 300;

/// What a tick did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// What deserves to be told, as sentences.
    pub told: Vec<String>,
    /// What did not work.
    pub failed: Vec<String>,
}

impl Done {
    /// Adds what a part did.
    pub(crate) fn add(&mut self, part: Result<Done>) {
        match part {
            Ok(done) => {
                self.told.extend(done.told);
                self.failed.extend(done.failed);
            }
            Err(error) => self.failed.push(error.to_string()),
        }
    }

    /// What a part has to tell.
    fn telling(told: impl IntoIterator<Item = String>) -> Done {
        Done { told: told.into_iter().collect(), ..Done::default() }
    }
}

/// Does it all; each part is tried although another failed. What was done and what failed is logged too.
pub fn tick(call: &Call) -> Done {
    only_this(call).unwrap_or_else(|error| {
        trouble::mark(call, Trouble::Tick, &error.to_string());
        Done { failed: vec![error.to_string()], ..Done::default() }
    })
}

fn only_this(call: &Call) -> Result<Done> {
    let Some(lock) = only_one::lock(&call.paths, TURN)? else {
        return Ok(Done::telling(["Another tick is at work; this one does nothing.".into()]));
    };
    let mut done = Done::default();
    if geteuid().is_root() {
        done.add(as_root(call));
    }
    let followed = followed(call, &mut done);
    let of_root = done.failed.clone();
    let files: Vec<_> =
        std::iter::once(lock.as_fd()).chain(followed.iter().flat_map(Followed::descriptors)).collect();
    match as_postern_holding(&call.paths, &files, || Ok(work(call, of_root, &followed))) {
        Ok(of_child) => done.add(Ok(of_child)),
        Err(error) => {
            trouble::mark(call, Trouble::Tick, &error.to_string());
            done.failed.push(error.to_string());
        }
    }
    drop(lock);
    let sent = notices::send(call);
    done.add(Ok(sent));
    tell(call, &done);
    // What became of feeds is logged by them.
    done.add(Ok(feeds::fetch_due(call)));
    Ok(done)
}

/// Opens the logs that are followed, which root may be alone to read.
fn followed(call: &Call, done: &mut Done) -> Vec<Followed> {
    let Fact::Known(settings) = gather::settings(call) else { return Vec::new() };
    let mut open = Vec::new();
    for log in follow::open(call, &settings) {
        match log {
            Ok(log) => open.push(log),
            Err(error) => done.failed.push(error.to_string()),
        }
    }
    open
}

/// Reads what was added to them.
fn read_followed(call: &Call, followed: &[Followed]) -> Result<Done> {
    let Fact::Known(settings) = gather::settings(call) else { return Ok(Done::default()) };
    let mut done = Done::default();
    for read in follow::read(call, &settings, followed) {
        done.add(read.map(|summary| {
            let told = format!(
                "{}: {} lines were read; {} logins and messages are counted.",
                summary.file, summary.lines, summary.counted
            );
            let changed = format!(
                "{} begins like the log that was followed, and what was read last is not in it: it is followed from its end.",
                summary.file
            );
            let told = Some(told).filter(|_| summary.counted > 0);
            Done::telling(told.into_iter().chain(Some(changed).filter(|_| summary.is_changed)))
        }));
    }
    Ok(done)
}

fn tell(call: &Call, done: &Done) {
    for sentence in &done.told {
        Line::new(Severity::Notice, "tick").field("did", sentence).send(&call.paths, call.program);
    }
}

/// One part of the work.
type Part = fn(&Call) -> Result<Done>;

/// Begins the state where that is needed, then does the parts; each is tried although another failed.
fn parts(call: &Call, parts: &[Part]) -> Done {
    let mut done = Done::default();
    match state::begin(&call.paths, call.now) {
        Ok(begun) => {
            done.told.extend(begun);
            for part in parts {
                done.add(part(call));
            }
        }
        Err(error) => {
            state::mark_trouble(call, &error);
            done.failed.push(format!("The state cannot be worked on: {error}"));
        }
    }
    done
}

/// The same work in a program that lives long and is user `postern`, without the notices: sendmail needs rights
/// (set-group-id) that a service which can gain none has not, so the minute's tick sends them.
pub fn in_keeper(call: &Call) -> Done {
    let work = || -> Result<Done> {
        let Some(_lock) = only_one::lock(&call.paths, Duration::ZERO)? else {
            return Ok(Done::default());
        };
        Ok(parts(call, &[renew_key, fold::fold_tally, fill_domains, release_whitelisted, tidy]))
    };
    let mut done = Done::default();
    done.add(work());
    if !done.failed.is_empty() {
        trouble::mark(call, Trouble::Tick, &done.failed.join(" "));
    }
    tell(call, &done);
    done
}

/// What only root can do; each part is tried although another failed.
fn as_root(call: &Call) -> Result<Done> {
    let host = SettingsStore::open(&call.paths)?.host()?;
    let mut done = Done::default();
    done.add(folders::make_run(&call.paths, &host).map(|()| Done::default()));
    done.add(publish_where_needed(call));
    done.add(recipients::publish(&call.paths, &host).map(|_| Done::default()));
    done.add(forget_old_changes(call));
    Ok(done)
}

/// The trail of changes, and what ended long ago. Nothing of what holds is touched, so nothing is published.
fn forget_old_changes(call: &Call) -> Result<Done> {
    let Forgotten { trail, entries, allowances } = SettingsStore::open(&call.paths)?.prune(call.now)?;
    let told = format!(
        "{trail} old rows of the trail of changes, {entries} entries and {allowances} allowances that ended long ago were forgotten."
    );
    Ok(Done::telling(Some(told).filter(|_| trail + entries + allowances > 0)))
}

/// Publishes the policy where it is missing, or not that of the settings. For root.
pub fn publish_where_needed(call: &Call) -> Result<Done> {
    let store = SettingsStore::open(&call.paths)?;
    let published = Policy::open(&call.paths.policy()).and_then(|policy| policy.ask()?.head());
    let current = store.generation()?;
    if published.is_ok_and(|head| head.generation == current) {
        return Ok(Done::default());
    }
    let generation = server_country::publish(call, &store)?;
    Ok(Done::telling([format!("The policy was published anew (generation {generation}).")]))
}

/// As user `postern`; marks what failed, also of root's part, since root leaves no marks.
fn work(call: &Call, of_root: Vec<String>, logs: &[Followed]) -> Done {
    end_after(LONGEST);
    let mut done =
        parts(call, &[renew_key, fold::fold_tally, note_sources, release_whitelisted, fill_domains, tidy]);
    if !logs.is_empty() {
        let kept = Kept::for_the_past();
        done.add(read_followed(&Call { kept: Some(&kept), ..call.clone() }, logs));
    }
    let all: Vec<String> = of_root.into_iter().chain(done.failed.iter().cloned()).collect();
    if !all.is_empty() {
        trouble::mark(call, Trouble::Tick, &all.join(" "));
    }
    end_after(0);
    done
}

/// Notes since when logs are the source of logins, also while none is read.
fn note_sources(call: &Call) -> Result<Done> {
    let Fact::Known(settings) = gather::settings(call) else { return Ok(Done::default()) };
    call.with_state(|state| sources_since(state, &settings, call.now, false)).map(|_| Done::default())
}

/// A whitelist entry lifts the stop of its accounts; where that failed when it was saved, it is done here.
fn release_whitelisted(call: &Call) -> Result<Done> {
    let mut state = State::open(&call.paths)?;
    let stops = state.read(|db| senders::newest_stops(db, call.now, MOST_STOPS))?;
    let accounts: Vec<Account> = stops.iter().filter_map(|s| Account::from_server(&s.account)).collect();
    if accounts.is_empty() {
        return Ok(Done::default());
    }
    let listed = gather::whitelisted(call, accounts)?;
    if listed.is_empty() {
        return Ok(Done::default());
    }
    let n =
        senders::release_matching(&mut state, &|stop| listed.iter().any(|a| a.name() == stop.account), None)?;
    Ok(Done::telling([format!("{n} stops were lifted, since their accounts are on the whitelist.")]))
}

/// How long figures are kept; where the policy is missing, as long as by default.
fn retention(call: &Call) -> Retention {
    match gather::settings(call) {
        Fact::Known(settings) => Retention::from(&*settings),
        Fact::Missing(_) => Retention::from(&Settings::default()),
    }
}

fn renew_key(call: &Call) -> Result<Done> {
    guess::renew_key(&call.paths, call.now).map(|()| Done::default())
}

/// Figures by domain from before there were any.
fn fill_domains(call: &Call) -> Result<Done> {
    let retention = retention(call);
    domains::fill(&mut State::open_for_long(&call.paths)?, call.now, &retention).map(|_| Done::default())
}

fn tidy(call: &Call) -> Result<Done> {
    let (retention, longest_window) = (retention(call), gather::longest_window(call));
    let mut state = State::open(&call.paths)?;
    let forgotten = state.write(|t| {
        senders::prune(t, call.now, longest_window)?;
        state::notices::prune(t, call.now)?;
        rollups::prune(t, call.now, &retention)?;
        sightings::prune(t, call.now)?;
        held::prune(t, call.now)
    })?;
    trouble::clear(&call.paths, FORGET_TROUBLE);
    state.checkpoint()?;
    state::remove_old_ones_aside(&call.paths)?;
    let told = format!("{forgotten} messages that were held for 14 days were taken off the list.");
    Ok(Done::telling(Some(told).filter(|_| forgotten > 0)))
}
