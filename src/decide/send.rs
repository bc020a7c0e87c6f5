//! Messages that leave: may this sender send one more?

use super::Fact;
use super::limits::{self, Answer, Applied, Counted, Weight};
use super::window::Window;
use crate::clock::Seconds;
use crate::limit::{Action, OUTBOUND, QUOTA_ID, QUOTA_WINDOW};
use crate::request::Send;
use crate::settings::{Mode, OverLimit, Settings};
use crate::verdict::{Missing, Reason, Verdict};
use std::sync::Arc;

/// The part of the policy that concerns one message.
#[derive(Clone, Debug, Default)]
pub struct SendPolicy {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The Per-User Rate Limiter Whitelist entry of the sender or its domain.
    pub whitelisted: Option<String>,
    /// The exempt network around the client's address that is marked for sending too.
    pub exempt_address: Option<String>,
    /// The administrator's block of the account: until when, none for ever.
    pub admin_block: Option<Option<Seconds>>,
    /// Handed in by user `postern`: a notice of ours.
    pub by_postern: bool,
    /// How many messages the Outbound Rate Limiter lets pass where that is not the setting; none within: as many as they
    /// like.
    pub messages: Option<Option<i64>>,
    /// Further limits that concern the sender.
    pub limits: Vec<Applied>,
    /// What the message adds to them.
    pub weight: Weight,
}

impl SendPolicy {
    /// Under which keys more is counted than under the account's name.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let mut seen = Vec::new();
        self.limits.iter().filter_map(|applied| applied.key.as_deref()).filter(move |key| {
            let is_new = !seen.contains(key);
            seen.push(*key);
            is_new
        })
    }

    /// How many messages pass within the limiter's window; none: as many as they like.
    fn messages(&self) -> Option<i64> {
        self.messages.unwrap_or(Some(self.settings.rate_limit_messages))
    }

    /// Whether a stop that this limit made holds still: one that was switched off, is gone, only waits or tells by now,
    /// or does not hold for the sender any more, binds nobody.
    fn upholds(&self, limit: &str) -> bool {
        let stops = |applied: &Applied| {
            applied.limit.mode == Mode::Enforce
                && applied.most.is_some()
                && matches!(applied.limit.action, Action::Stop | Action::Slow)
        };
        match limit {
            OUTBOUND => self.settings.rate_limiter == Mode::Enforce && self.messages().is_some(),
            name => self.limits.iter().any(|applied| applied.limit.name == name && stops(applied)),
        }
    }

    /// How long a stop by this limit lasts.
    fn duration_of(&self, limit: &str) -> i64 {
        let found = self.limits.iter().find(|applied| applied.limit.name == limit);
        found.map_or(self.settings.rate_limit_block, |applied| applied.limit.duration)
    }

    /// Of the stops that bind now, the strictest: one that lets nothing pass before one with a quota, then the longest.
    fn binding<'a>(&self, state: &'a SenderState, now: Seconds) -> Option<&'a Stopped> {
        let in_force = |stop: &&Stopped| now < stop.until && self.upholds(&stop.limit);
        state.stops.iter().filter(in_force).max_by_key(|stop| (stop.quota.is_none(), stop.until))
    }
}

/// Longest stop of an account that is watched after a release, in seconds; one that is longer anyway stays so.
pub const LONGEST_AGAIN: i64 = 7 * 86_400;

/// How long a stop lasts that would last so long, where the account was released so many times: twice as long for each.
pub fn lengthened(duration: i64, times: i64) -> i64 {
    let factor = 1 << times.clamp(0, MOST_TIMES);
    duration.saturating_mul(factor).min(LONGEST_AGAIN.max(duration))
}

/// How many releases are counted.
pub const MOST_TIMES: i64 = 8;

/// A stop that is in force, or is over and remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// When it ends.
    pub until: Seconds,
    /// Name of the limit that made it.
    pub limit: String,
    /// Messages an hour that leave all the same; none: none.
    pub quota: Option<i64>,
    /// Who is stopped, where it is not the account alone: `@example.org`.
    pub key: Option<String>,
    /// How many times it was released while it was watched.
    pub times: i64,
    /// Until when it is watched after a release.
    pub watch_until: Option<Seconds>,
}

/// What the shared state knows of the sender.
#[derive(Clone, Debug, Default)]
pub struct SenderState {
    /// The stops, the sender's own and those of who is counted together with it.
    pub stops: Vec<Stopped>,
    /// What was sent lately.
    pub window: Window,
    /// What further limits have counted.
    pub counted: Counted,
    /// Whether a sender that is told about only was told about, until when.
    pub told_until: Option<Seconds>,
    /// How many of its messages are held.
    pub held: i64,
}

/// What is to be recorded with the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Nothing that binds; statistics only.
    Nothing,
    /// The window with this message in it.
    Count(Window),
    /// The account, or its domain, is stopped from now on; told once.
    Stop {
        /// How, and until when.
        stop: Stopped,
        /// The window without this message.
        window: Window,
    },
    /// The message has to wait, or can never pass: nothing binds but that it was told of.
    NotNow,
    /// The account is over the limit and told about, not stopped; it counts on.
    TellOnly {
        /// The window with this message in it.
        window: Window,
        /// Until when it is not told about again; none: it was already told.
        told_until: Option<Seconds>,
    },
    /// One more message of a stopped account.
    RefusedAgain {
        /// When sending works again: what was said before, or sooner where the clock was set back.
        until: Seconds,
        /// The window without this message.
        window: Window,
        /// Who is stopped, where it is not the account alone.
        key: Option<String>,
    },
}

/// The outcome for a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct SendDecision {
    /// What is said.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What to record.
    pub record: Record,
    /// What further limits have counted then; none: as before.
    pub counted: Option<Counted>,
    /// What is to be told of further limits.
    pub tells: Vec<Reason>,
    /// The first of them beyond which the message passes, since it only watches or tells.
    pub watched: Option<Reason>,
}

impl SendDecision {
    /// Nothing can be written down, so nothing is told either: it would be told again each time.
    pub fn keeps_nothing(&mut self) {
        self.record = Record::Nothing;
        self.counted = None;
        self.tells.clear();
    }

    fn new(verdict: Verdict, reason: Reason, record: Record) -> SendDecision {
        SendDecision { verdict, reason, record, counted: None, tells: Vec::new(), watched: None }
    }
}

fn plainly(verdict: Verdict, reason: Reason) -> SendDecision {
    SendDecision::new(verdict, reason, Record::Nothing)
}

/// Rules 1 and 2, and the administrator's block: those that need no state. `None`: the state decides, also where
/// the policy is missing ([`decide_without_policy`]).
pub fn decide_without_state(send: &Send, policy: &Fact<SendPolicy>) -> Option<SendDecision> {
    if send.by_mail_server {
        return Some(plainly(Verdict::Allow, Reason::OwnMessage));
    }
    if send.account.is_none() {
        return Some(plainly(Verdict::Allow, Reason::Inbound));
    }
    let policy = match policy {
        Fact::Known(policy) => policy,
        Fact::Missing(_) => return None,
    };
    if policy.by_postern {
        return Some(plainly(Verdict::Allow, Reason::OwnMessage));
    }
    if let Some(until) = policy.admin_block {
        return Some(plainly(Verdict::Refuse, Reason::AccountBlocked(until)));
    }
    let exempt = policy.whitelisted.as_ref().or(policy.exempt_address.as_ref());
    if let Some(entry) = exempt {
        return Some(plainly(Verdict::Allow, Reason::Whitelisted(entry.clone())));
    }
    let is_off = policy.settings.rate_limiter == Mode::Off && policy.limits.is_empty();
    is_off.then(|| plainly(Verdict::Allow, Reason::RuleOff))
}

/// Rules 3, 4 and 5: a stopped account stays stopped, and the message over a limit stops it; for longer, where it was
/// released lately.
pub fn decide_with_state(
    send: &Send,
    policy: &SendPolicy,
    state: &Fact<SenderState>,
    now: Seconds,
) -> SendDecision {
    let mut decision = judge(send, policy, state, now);
    if let (Record::Stop { stop, .. }, Fact::Known(state)) = (&mut decision.record, state) {
        let watched = |old: &&Stopped| old.key == stop.key && old.watch_until.is_some_and(|end| now < end);
        if let Some(old) = state.stops.iter().find(watched) {
            stop.times = old.times;
            stop.watch_until = old.watch_until;
            stop.until = now + lengthened(stop.until - now, old.times);
            decision.reason.ends(stop.until);
        }
    }
    decision
}

fn judge(send: &Send, policy: &SendPolicy, state: &Fact<SenderState>, now: Seconds) -> SendDecision {
    let state = match state {
        Fact::Known(state) => state,
        Fact::Missing(what) => return plainly(Verdict::Allow, Reason::FactMissing(*what)),
    };
    let settings = &policy.settings;
    let no = over_limit_verdict(send, settings, state.held);
    let binds = !is_shared(send, settings);
    let mut window = state.window.clone();
    window.advance(now, settings.rate_limit_window);
    let stop = policy.binding(state, now).filter(|_| binds);
    let mut quota = None;
    if let Some(stop) = stop {
        // A stop never outlasts its duration, whatever the clock did since; so that it does end then, what
        // is left of it is recorded.
        let until = stop.until.min(now + lengthened(policy.duration_of(&stop.limit), stop.times));
        let again = |reason| {
            let record = Record::RefusedAgain { until, window: window.clone(), key: stop.key.clone() };
            SendDecision::new(no, reason, record)
        };
        let Some(an_hour) = stop.quota else { return again(Reason::SendingStopped(until)) };
        let mut meter = state.counted.own.of(QUOTA_ID);
        meter.advance(now, QUOTA_WINDOW);
        if meter.count() >= an_hour {
            return again(Reason::SendingSlowed(an_hour, until));
        }
        quota = Some((meter, an_hour));
    }
    let outbound = judge_outbound(policy, state, binds, window.clone(), no, now);
    if outbound.verdict != Verdict::Allow {
        return outbound;
    }
    let but = stop.map(|stop| stop.limit.as_str());
    let judged = limits::judge(&policy.limits, but, &state.counted, &policy.weight, binds, now);
    let (mut counted, tells, watched) = (judged.counted, judged.tells, judged.watched);
    let (verdict, mut reason, record) = match judged.answer {
        None => (Verdict::Allow, outbound.reason, outbound.record),
        // Held, it could never be released either.
        Some(Answer::Never(reason)) => (Verdict::Refuse, reason, Record::NotNow),
        Some(Answer::Wait(reason)) => (no, reason, Record::NotNow),
        Some(Answer::Stop { reason, until, limit, quota, key }) => (
            no,
            reason,
            Record::Stop { stop: Stopped { until, limit, quota, key, ..Stopped::default() }, window },
        ),
    };
    if let Some((mut meter, an_hour)) = quota.filter(|_| verdict == Verdict::Allow) {
        meter.add(now, QUOTA_WINDOW, 1);
        reason = Reason::WithinLimit(meter.count(), an_hour);
        counted.own.put(meter);
    }
    SendDecision { verdict, reason, record, counted: Some(counted), tells, watched }
}

/// Rule 4, the Outbound Rate Limiter.
fn judge_outbound(
    policy: &SendPolicy,
    state: &SenderState,
    binds: bool,
    mut window: Window,
    no: Verdict,
    now: Seconds,
) -> SendDecision {
    let settings = &policy.settings;
    let limit = policy.messages().unwrap_or(i64::MAX);
    let count = window.count() + 1;
    if settings.rate_limiter == Mode::Off || count <= limit {
        window.add(now, 1);
        let reason = match (settings.rate_limiter, policy.messages()) {
            (Mode::Off, _) => Reason::RuleOff,
            (_, None) => Reason::NothingAgainst,
            (_, Some(limit)) => Reason::WithinLimit(count, limit),
        };
        return SendDecision::new(Verdict::Allow, reason, Record::Count(window));
    }
    let (until, length) = (now + settings.rate_limit_block, settings.rate_limit_window);
    if binds && settings.rate_limiter == Mode::Enforce {
        let reason = Reason::OverLimit { limit, window: length, until };
        let stop = Stopped { until, limit: OUTBOUND.into(), ..Stopped::default() };
        return SendDecision::new(no, reason, Record::Stop { stop, window });
    }
    window.add(now, 1);
    // An end that lies too far ahead is from before the clock was set back.
    let told = state.told_until.is_some_and(|told| now < told && told <= until);
    let told_until = (!told).then_some(until);
    let reason = match settings.rate_limiter {
        Mode::Monitor => Reason::WouldStop { limit, window: length },
        _ => Reason::SharedUser(limit),
    };
    SendDecision::new(Verdict::Allow, reason, Record::TellOnly { window, told_until })
}

/// Rule 3 alone: who is stopped stays stopped while the policy is missing. The stop stands in the state and was made by
/// a policy that enforced it; exemptions that came later have lifted it, and whatever an administrator changes
/// publishes a policy. Nothing is counted and nobody is stopped anew, since limit and window are not known.
pub fn decide_without_policy(
    send: &Send,
    missing: Missing,
    state: &Fact<SenderState>,
    now: Seconds,
) -> SendDecision {
    let missing = || plainly(Verdict::Allow, Reason::FactMissing(missing));
    let Fact::Known(state) = state else { return missing() };
    // How much of a quota is used up hangs on limits that are not known.
    let in_force = |stop: &&Stopped| now < stop.until && stop.quota.is_none();
    let stop = state.stops.iter().filter(in_force).max_by_key(|stop| stop.until);
    let Some(Stopped { until, key, .. }) = stop else { return missing() };
    let verdict = over_limit_verdict(send, &Settings::default(), state.held);
    let record = Record::RefusedAgain { until: *until, window: state.window.clone(), key: key.clone() };
    SendDecision::new(verdict, Reason::SendingStopped(*until), record)
}

/// Only a program on this machine can be one of the shared users; a login of that name is an account like any
/// other.
fn is_shared(send: &Send, settings: &Settings) -> bool {
    send.address.is_none() && send.account.as_ref().is_some_and(|a| settings.is_shared_user(a.name()))
}

/// A local message is held while there is room, as the setting says; every other is refused.
fn over_limit_verdict(send: &Send, settings: &Settings, held: i64) -> Verdict {
    let holds = send.local && settings.local_over_limit == OverLimit::Hold && held < settings.held_ceiling;
    if holds { Verdict::Hold } else { Verdict::Refuse }
}

#[cfg(test)]
#[path = "send_tests.rs"]
mod tests;
