//! Messages that leave: may this sender send one more?

use super::Fact;
use super::window::Window;
use crate::clock::Seconds;
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
}

/// What the shared state knows of the sender.
#[derive(Clone, Debug, Default)]
pub struct SenderState {
    /// When the stop ends, if there is one.
    pub stopped_until: Option<Seconds>,
    /// What was sent lately.
    pub window: Window,
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
    /// The account is stopped from now until then; told once.
    Stop {
        /// When sending works again.
        until: Seconds,
        /// The window without this message.
        window: Window,
    },
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
}

fn plainly(verdict: Verdict, reason: Reason) -> SendDecision {
    SendDecision { verdict, reason, record: Record::Nothing }
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
    (policy.settings.rate_limiter == Mode::Off).then(|| plainly(Verdict::Allow, Reason::RuleOff))
}

/// Rules 3 and 4: a stopped account stays stopped, and the message over the limit stops it.
pub fn decide_with_state(
    send: &Send,
    settings: &Settings,
    state: &Fact<SenderState>,
    now: Seconds,
) -> SendDecision {
    let state = match state {
        Fact::Known(state) => state,
        Fact::Missing(what) => return plainly(Verdict::Allow, Reason::FactMissing(*what)),
    };
    let no = over_limit_verdict(send, settings, state.held);
    let enforced = settings.rate_limiter == Mode::Enforce && !is_shared(send, settings);
    let longest = now + settings.rate_limit_block;
    let mut window = state.window.clone();
    window.advance(now, settings.rate_limit_window);
    if let Some(until) = state.stopped_until.filter(|until| enforced && now < *until) {
        // A stop never outlasts its duration, whatever the clock did since; so that it does end then, what
        // is left of it is recorded.
        let until = until.min(longest);
        let reason = Reason::SendingStopped(until);
        return SendDecision { verdict: no, reason, record: Record::RefusedAgain { until, window } };
    }
    let count = window.count() + 1;
    let limit = settings.rate_limit_messages;
    if count <= limit {
        window.add(now, 1);
        let reason = Reason::WithinLimit(count, limit);
        return SendDecision { verdict: Verdict::Allow, reason, record: Record::Count(window) };
    }
    if enforced {
        let until = longest;
        let reason = Reason::OverLimit { limit, window: settings.rate_limit_window, until };
        return SendDecision { verdict: no, reason, record: Record::Stop { until, window } };
    }
    window.add(now, 1);
    // An end that lies too far ahead is from before the clock was set back.
    let told = state.told_until.is_some_and(|until| now < until && until <= longest);
    let told_until = (!told).then_some(longest);
    let record = Record::TellOnly { window, told_until };
    let reason = match settings.rate_limiter {
        Mode::Monitor => Reason::WouldStop { limit, window: settings.rate_limit_window },
        _ => Reason::SharedUser(limit),
    };
    SendDecision { verdict: Verdict::Allow, reason, record }
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
    let stopped = match state {
        Fact::Known(state) => state.stopped_until.filter(|until| now < *until).map(|until| (state, until)),
        Fact::Missing(_) => None,
    };
    let Some((state, until)) = stopped else {
        return plainly(Verdict::Allow, Reason::FactMissing(missing));
    };
    let verdict = over_limit_verdict(send, &Settings::default(), state.held);
    let record = Record::RefusedAgain { until, window: state.window.clone() };
    SendDecision { verdict, reason: Reason::SendingStopped(until), record }
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
