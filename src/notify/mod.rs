//! Notices: to the *Administration Email Address* through the local sendmail, to a web server and a program of root's
//! choice, and to owners of accounts; sent as user `postern`.
//!
//! Addresses come from the published policy, from root's own folder and from the panel's records, never from the state. A
//! notice is known as ours by its sender's user number, so it is neither counted nor stopped. Each channel has its own
//! progress: one that fails is tried again, holds up no other, and loses nothing.

mod channels;
mod defined;
pub(crate) mod owners;
mod plan;
pub(crate) mod standing;
mod words;

pub(crate) use defined::Defined;

use crate::call::Call;
use crate::error::{Error, Result};
use crate::log::{Line, Severity};
use crate::policy::Policy;
use crate::settings::Settings;
use crate::store::state::State;
use crate::store::state::notices::{self, Channel, Memory, Progress};
use crate::tick::Done;
use crate::trouble::{self, Trouble};
use channels::Way;
use owners::Contacts;
use plan::{Plan, plan, rest};
use std::sync::Arc;
use std::time::{Duration, Instant};
use words::Told;

/// How long a channel may fail until it is trouble, in seconds.
pub(crate) const MAY_FAIL: i64 = 3600;

/// After so long in one turn a channel begins nothing more: the rest waits for the next minute.
const A_TURN: Duration = Duration::from_secs(20);

/// Longest reason of a failure that is remembered, in characters.
const LONGEST_ERROR: usize = 400;

/// A turn of the channels.
struct Turn<'a> {
    call: &'a Call<'a>,
    state: State,
    /// The server's name; empty where it is not known.
    server: String,
    /// When the channel whose turn it is began.
    begun: Instant,
    done: Done,
}

/// Sends what waits, by every channel that is in use. For user `postern`; what is executed, connected to and written to
/// was read by root before.
pub(crate) fn send_waiting(call: &Call, defined: &Defined, contacts: Option<&Contacts>) -> Result<Done> {
    let state = State::open(&call.paths)?;
    let mut turn = Turn { call, state, server: server(call), begun: Instant::now(), done: Done::default() };
    let settings = settings(call)?;
    let to = settings.administration_email_address.as_str();
    for channel in Channel::ALL {
        turn.begun = Instant::now();
        let way = match channel {
            Channel::Mail => Some(Way::Mail(to)),
            Channel::Webhook => Way::webhook(defined),
            Channel::Command => Way::command(defined),
            Channel::Owner => None,
        };
        let ceiling = usize::try_from(settings.notices_an_hour).unwrap_or(1);
        let sent = match (channel, way, contacts) {
            // What waits is kept until there is an address; `postern status` says that there is none.
            (Channel::Mail, ..) if to.is_empty() => turn.progress(channel).map(drop),
            (Channel::Owner, _, Some(contacts)) => owners::send(&mut turn, contacts, to),
            (_, Some(way), _) => turn.send(channel, &way, ceiling),
            (_, None, _) => turn.close(channel),
        };
        turn.done.add(sent.map(|()| Done::default()));
    }
    Ok(turn.done)
}

/// Sends a test by every channel but the owners'; says of each whether it went.
pub(crate) fn send_test(call: &Call, defined: &Defined, who: &str) -> Result<Vec<(Channel, Option<String>)>> {
    let (settings, told) = (settings(call)?, words::test(&server(call), who, call.now));
    let to = settings.administration_email_address.as_str();
    let none = || Way::None("The setting administration_email_address is empty.");
    let mail = if to.is_empty() { none() } else { Way::Mail(to) };
    let ways = [
        (Channel::Mail, Some(mail)),
        (Channel::Webhook, Way::webhook(defined)),
        (Channel::Command, Way::command(defined)),
    ];
    let used = ways.into_iter().filter_map(|(channel, way)| way.map(|way| (channel, way)));
    Ok(used.map(|(channel, way)| (channel, way.take(call, &told).err())).collect())
}

fn settings(call: &Call) -> Result<Arc<Settings>> {
    Ok(Policy::open(&call.paths.policy())?.ask()?.head()?.settings.clone())
}

/// The server's name.
fn server(call: &Call) -> String {
    let name = std::fs::read_to_string(call.paths.at("/proc/sys/kernel/hostname"));
    name.map(|name| words::one_line(name.trim())).unwrap_or_default()
}

impl Turn<'_> {
    fn progress(&mut self, channel: Channel) -> Result<Progress> {
        match self.state.read(|db| notices::progress(db, channel))? {
            Some(progress) => Ok(progress),
            None => self.state.write(|t| notices::begin(t, channel)),
        }
    }

    fn close(&mut self, channel: Channel) -> Result<()> {
        if self.state.read(|db| notices::progress(db, channel))?.is_some() {
            self.state.write(|t| notices::close(t, channel))?;
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        self.begun.elapsed() > A_TURN
    }

    fn told(&mut self, sentence: String) {
        self.done.told.push(sentence);
    }

    /// Sends what one channel is to send now, up to the first that it does not take.
    fn send(&mut self, channel: Channel, way: &Way, ceiling: usize) -> Result<()> {
        let now = self.call.now;
        let progress = self.progress(channel)?;
        let (waiting, gone) = self.state.read(|db| {
            Ok((notices::all_waiting(db, channel, progress.base)?, notices::fallen(db, channel, &progress)?))
        })?;
        let mut memory = progress.memory;
        if (waiting.is_empty() && gone == 0) || memory.rests(now) {
            return Ok(());
        }
        let Plan { digest, ones, is_new_hour } = plan(waiting, gone, &memory, ceiling, now);
        if let Some(digest) = digest {
            let ids: Vec<i64> = digest.groups.iter().flat_map(|group| group.ids.clone()).collect();
            let told = words::digest(&self.server, &digest, now);
            if let Err(why) = way.take(self.call, &told) {
                return self.failed(channel, memory, &ids, why);
            }
            memory = went_well(&memory, now);
            (memory.hour, memory.told) = (None, Vec::new());
            self.took(channel, &memory, &ids, digest.gone)?;
            self.said(way, &told);
        }
        for group in ones {
            if self.is_late() {
                break;
            }
            let told = words::one(&self.server, &group);
            if let Err(why) = way.take(self.call, &told) {
                return self.failed(channel, memory, &group.ids, why);
            }
            memory = went_well(&memory, now);
            if memory.hour.is_none() || (is_new_hour && memory.hour != Some(now)) {
                (memory.hour, memory.told) = (Some(now), Vec::new());
            }
            memory.told.push(group.key());
            self.took(channel, &memory, &group.ids, 0)?;
            self.said(way, &told);
        }
        Ok(())
    }

    fn said(&mut self, way: &Way, told: &Told) {
        self.told(format!("{} was told about {}.", way.whom(), told.of_whom()));
    }

    fn took(&mut self, channel: Channel, memory: &Memory, ids: &[i64], gone: i64) -> Result<()> {
        let now = self.call.now;
        self.state.write(|t| {
            notices::took(t, channel, ids, gone, now)?;
            notices::remember(t, channel, memory)
        })
    }

    /// Remembers that a channel failed. Of mail the administrator's own server did not take it: that is trouble at once;
    /// of others after an hour.
    fn failed(&mut self, channel: Channel, mut memory: Memory, ids: &[i64], why: String) -> Result<()> {
        let now = self.call.now;
        let since = *memory.failing_since.get_or_insert(now);
        memory.failing_since = Some(since.min(now));
        memory.tries = memory.tries.saturating_add(1);
        memory.next = now + rest(memory.tries);
        memory.error = words::one_line(&why).chars().take(LONGEST_ERROR).collect();
        self.state.write(|t| {
            if channel == Channel::Mail {
                notices::not_taken(t, ids)?;
            }
            notices::remember(t, channel, &memory)
        })?;
        if channel == Channel::Mail || now - since.min(now) >= MAY_FAIL {
            trouble::mark(self.call, Trouble::Notice, &why);
            return Err(Error::State(why));
        }
        let line =
            Line::new(Severity::Warning, "notice").field("channel", channel.name()).field("detail", &why);
        line.send(&self.call.paths, self.call.program);
        self.told(why);
        Ok(())
    }
}

/// What is remembered once it worked again; what an hour told stays.
fn went_well(memory: &Memory, now: i64) -> Memory {
    let Memory { hour, told, owners, .. } = memory.clone();
    Memory { hour, told, owners, last: Some(now), ..Memory::default() }
}
