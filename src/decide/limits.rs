//! Further limits of sending: how much of what may leave, for one account, a domain or the server.
//!
//! Every limit is asked, in the order in which they were made. The first one that answers decides; those that only tell
//! or watch are told of beside it. What is refused is counted by none.

use super::meters::{Meter, Meters};
use crate::clock::Seconds;
use crate::limit::{Action, Counts, Limit, Of, QUOTA_ID, SERVER_KEY};
use crate::settings::Mode;
use crate::verdict::{Beyond, Effect, Reason};
use std::sync::Arc;

/// How long nothing more is told of a limit that was passed, at least: a day's newsletter is one piece of news.
const TOLD_ONCE_IN: i64 = 86_400;

/// A limit as it holds for one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The limit.
    pub limit: Arc<Limit>,
    /// How much passes here, after all overrides; none: as much as they like.
    pub most: Option<i64>,
    /// Under which key it is counted; none: under the account itself.
    pub key: Option<String>,
}

/// What one message adds to the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Recipients of other servers.
    pub recipients: i64,
    /// Recipients on this server.
    pub local: i64,
    /// Hashes of the recipients of other servers, as far as the door names them; ascending, each once.
    pub hashes: Vec<u32>,
    /// Recipients of other servers that it does not name.
    pub nameless: i64,
}

/// What the limits have counted, as it stands in the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// For the account.
    pub own: Meters,
    /// For its domain (`@example.org`) and for the server ([`SERVER_KEY`]), by key.
    pub shared: Vec<(String, Meters)>,
}

impl Counted {
    /// Forgets what was counted for limits that are no more.
    fn forget_others(&mut self, limits: &[Applied]) {
        let there = |key: Option<&str>, id: u16| {
            limits.iter().any(|applied| applied.limit.id == id && applied.key.as_deref() == key)
        };
        self.own.keep(|id| id == QUOTA_ID || there(None, id));
        for (key, meters) in &mut self.shared {
            meters.keep(|id| there(Some(key.as_str()), id));
        }
    }

    fn at(&mut self, key: Option<&str>) -> &mut Meters {
        let Some(key) = key else { return &mut self.own };
        match self.shared.iter().position(|(of, _)| of == key) {
            Some(place) => &mut self.shared[place].1,
            None => {
                self.shared.push((key.to_owned(), Meters::default()));
                let last = self.shared.len() - 1;
                &mut self.shared[last].1
            }
        }
    }
}

/// What a limit that was passed does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message can never pass, whenever it is sent.
    Never(Reason),
    /// It waits until there is room.
    Wait(Reason),
    /// Nothing leaves until then, or a quota an hour: for whom this key stands, or none for the account.
    Stop {
        /// Why.
        reason: Reason,
        /// Until when.
        until: Seconds,
        /// The limit's name.
        limit: String,
        /// Messages an hour that leave all the same; none: none.
        quota: Option<i64>,
        /// Who is stopped; none: the account.
        key: Option<String>,
    },
}

/// What the limits find.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// What the first limit that answers says; none: the message passes.
    pub answer: Option<Answer>,
    /// What is counted afterwards.
    pub counted: Counted,
    /// What is to be told, now.
    pub tells: Vec<Reason>,
    /// The first limit beyond which the message passes, since it only watches or tells.
    pub watched: Option<Reason>,
}

/// Asks every limit but the one of this name, which has slowed the sender down already.
///
/// `binds`: whether the sender may be stopped at all. One that stands for many is only told of, and has no part in what
/// is counted together: whoever cannot be stopped would keep everybody else waiting.
pub fn judge(
    limits: &[Applied],
    but: Option<&str>,
    counted: &Counted,
    weight: &Weight,
    binds: bool,
    now: Seconds,
) -> Judged {
    let mut judged = Judged { counted: counted.clone(), ..Judged::default() };
    judged.counted.forget_others(limits);
    let concerns = |applied: &&Applied| but != Some(&applied.limit.name) && (binds || applied.key.is_none());
    let asked: Vec<&Applied> = limits.iter().filter(concerns).collect();
    let mut all: Vec<Asked> = Vec::with_capacity(asked.len());
    for applied in &asked {
        let meter = judged.counted.at(applied.key.as_deref()).of(applied.limit.id);
        all.push(ask(applied, meter, weight, binds, now));
    }
    judged.answer = all.iter_mut().find_map(|asked| asked.answer.take());
    for (Asked { mut meter, tells, watched, .. }, applied) in all.into_iter().zip(asked) {
        if judged.answer.is_none() {
            count(&mut meter, &applied.limit, weight, now);
            judged.watched = judged.watched.or(watched);
        }
        judged.tells.extend(tells);
        judged.counted.at(applied.key.as_deref()).put(meter);
    }
    judged
}

/// What one limit says, and its meter without the message.
struct Asked {
    meter: Meter,
    answer: Option<Answer>,
    tells: Option<Reason>,
    watched: Option<Reason>,
}

fn ask(applied: &Applied, mut meter: Meter, weight: &Weight, binds: bool, now: Seconds) -> Asked {
    let Applied { limit, most, key } = applied;
    meter.advance(now, limit.window);
    let adds = adds(&meter, limit, weight);
    let Some(most) = most.filter(|most| adds > 0 && meter.count() + adds > *most) else {
        return Asked { meter, answer: None, tells: None, watched: None };
    };
    let reason = |effect| Reason::BeyondLimit(Box::new(Beyond::new(limit, most, key.as_deref(), effect)));
    let answers = binds && limit.mode == Mode::Enforce && limit.action != Action::Notify;
    let answer = answers.then(|| answer_of(applied, most, adds, now, &reason));
    let told_until = now + TOLD_ONCE_IN.max(limit.window);
    // An end that lies too far ahead is from before the clock was set back.
    let is_told = now < meter.told_until && meter.told_until <= told_until;
    let effect = match &answer {
        // A stop is told of by itself, and a message that is too large is its sender's affair.
        Some(Answer::Stop { .. } | Answer::Never(_)) => None,
        Some(Answer::Wait(_)) => Some(Effect::Waits),
        None if limit.mode == Mode::Monitor => Some(Effect::Watched),
        None => Some(Effect::Told),
    };
    let tells = effect.filter(|_| !is_told).map(reason);
    let watched = effect.filter(|_| answer.is_none()).map(reason);
    if tells.is_some() {
        meter.told_until = told_until;
    }
    Asked { meter, answer, tells, watched }
}

fn answer_of(
    applied: &Applied,
    most: i64,
    adds: i64,
    now: Seconds,
    reason: &dyn Fn(Effect) -> Reason,
) -> Answer {
    let limit = &applied.limit;
    // A limit of nothing closes the account for as long as it holds; that is not the message's fault.
    if adds > most && most > 0 {
        return Answer::Never(reason(Effect::Never(adds)));
    }
    let until = now + limit.duration;
    let stop = |effect, quota| Answer::Stop {
        reason: reason(effect),
        until,
        limit: limit.name.clone(),
        quota,
        key: applied.key.clone(),
    };
    match limit.action {
        Action::Stop => stop(Effect::Stopped(until), None),
        Action::Slow => stop(Effect::Slowed(limit.quota, until), Some(limit.quota)),
        Action::Wait | Action::Notify => Answer::Wait(reason(Effect::Waits)),
    }
}

/// How much the message adds to what this limit counts.
fn adds(meter: &Meter, limit: &Limit, weight: &Weight) -> i64 {
    match limit.counts {
        Counts::Messages => 1,
        Counts::Recipients => weight.recipients,
        Counts::LocalRecipients => weight.local,
        Counts::DistinctRecipients => meter.new_among(&weight.hashes) + weight.nameless,
    }
}

fn count(meter: &mut Meter, limit: &Limit, weight: &Weight, now: Seconds) {
    match limit.counts {
        Counts::DistinctRecipients => {
            meter.add_recipients(now, limit.window, &weight.hashes, weight.nameless);
        }
        Counts::Messages => meter.add(now, limit.window, 1),
        Counts::Recipients => meter.add(now, limit.window, weight.recipients),
        Counts::LocalRecipients => meter.add(now, limit.window, weight.local),
    }
}

/// Under which key a limit counts what this account sends; none where it does not concern it.
pub fn key_of(of: Of, domain: Option<&str>) -> Option<Option<String>> {
    match of {
        Of::Account => Some(None),
        Of::Domain => domain.map(|domain| Some(format!("@{domain}"))),
        Of::Server => Some(Some(SERVER_KEY.to_owned())),
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
