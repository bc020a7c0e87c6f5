//! The one page that runs a request: gather, decide, record, answer.
//!
//! What must bind is written in the same piece of work on the state, for which others wait, in which the state is
//! gathered and decided, so that two hooks can never both be the 150th. A record that cannot be written never softens
//! a refusal, nor does one that takes too long: who asks is told of a refusal as soon as it is decided, so that the
//! program's way out is that refusal from then on.

use crate::account::Account;
use crate::call::{self, Call};
use crate::decide::login::LoginFacts;
use crate::decide::send::{
    Record, SendDecision, SenderState, decide_with_state, decide_without_policy, decide_without_state,
};
use crate::decide::{Decision, Fact, Step, login as rules};
use crate::error::{Error, Result};
use crate::gather;
use crate::record;
use crate::request::{Door, Login, Outcome, Request, Send};
use crate::store::state::{self, State, senders};
use crate::tally::Kind;
use crate::trouble::Trouble;
use crate::verdict::{Answer, Missing, Reason, Reference, Verdict};

/// Called with a refusal that is decided and not yet recorded.
pub type Decided<'a> = &'a dyn Fn(&Answer);

/// Decides from the state, where the policy does not do so alone.
type Decide<'a> = &'a dyn Fn(&Fact<SenderState>) -> SendDecision;

/// Answers one request of a mail server.
pub fn answer(call: &Call, request: &Request, decided: Decided) -> Answer {
    match request {
        Request::Login(login) => answer_login(call, login, Kind::Try, decided),
        Request::Use(login) => answer_login(call, login, Kind::Use, decided),
        Request::Send(send) => answer_send(call, send, decided),
        Request::Outcome(outcome) => hear(call, outcome),
    }
}

/// Nothing is asked, so nothing can be refused.
fn hear(call: &Call, outcome: &Outcome) -> Answer {
    if let Fact::Known(settings) = gather::settings(call) {
        record::outcome(call, outcome, &settings);
    }
    Answer { verdict: Verdict::Allow, reason: Reason::Ended, reference: None }
}

fn tell(decided: Decided, verdict: Verdict, reason: &Reason, reference: Option<&Reference>) {
    if matches!(verdict, Verdict::Refuse | Verdict::Hold) {
        decided(&Answer { verdict, reason: reason.clone(), reference: reference.cloned() });
    }
}

fn answer_login(call: &Call, login: &Login, kind: Kind, decided: Decided) -> Answer {
    let facts = gather::login(call, login);
    let decision = rules::decide(login, &facts, call.now, &mut |_| {});
    tell(decided, decision.verdict, &decision.reason, None);
    let noted =
        login.door == Door::EximMail && !decision.would_refuse.is_empty() && auth_door_noted(call, login);
    let kind = if noted { Kind::Success } else { kind };
    let reference = record::login(call, login, &facts, &decision, kind);
    Answer { verdict: decision.verdict, reason: decision.reason, reference }
}

/// Whether the door that knew the address alone would have refused this login too: in monitor mode it has
/// counted that then, and let it go on to where we are.
fn auth_door_noted(call: &Call, login: &Login) -> bool {
    let nobody = Login { account: None, door: Door::EximAuth, ..login.clone() };
    let facts = gather::login(call, &nobody);
    !rules::decide(&nobody, &facts, call.now, &mut |_| {}).would_refuse.is_empty()
}

/// What would be answered and why, rule by rule. Records nothing.
pub fn explain(call: &Call, login: &Login) -> (LoginFacts, Decision, Vec<Step>) {
    let facts = gather::login(call, login);
    let mut steps = Vec::new();
    let decision = rules::decide(login, &facts, call.now, &mut |step| steps.push(step));
    (facts, decision, steps)
}

fn answer_send(call: &Call, send: &Send, decided: Decided) -> Answer {
    let policy = gather::send(call, send);
    if let Some(decision) = decide_without_state(send, &policy) {
        tell(decided, decision.verdict, &decision.reason, None);
        let reference = record::send_without_state(call, send, &decision);
        return Answer { verdict: decision.verdict, reason: decision.reason, reference };
    }
    let decide: Decide = &|state| match &policy {
        Fact::Known(policy) => decide_with_state(send, policy, state, call.now),
        Fact::Missing(what) => decide_without_policy(send, *what, state, call.now),
    };
    let about = record::About::message(call, send);
    let keys = gather::keys(&policy);
    let counted = match call.records {
        true => call.with_state(|state| decide_and_record(call, send, &about, &keys, decide, state, decided)),
        false => Err(Error::State("Another program of ours may have counted the message already.".into())),
    };
    let (decision, reference) = counted.unwrap_or_else(|error| {
        if call.records {
            state::mark_trouble(call, &error);
        }
        (decide_from_what_is_read(call, send, &keys, decide, &error), None)
    });
    record::send_line(call, &about, &decision, reference.as_ref());
    Answer { verdict: decision.verdict, reason: decision.reason, reference }
}

/// Nothing can be counted; who is stopped already is stopped all the same, as far as the state can be read.
fn decide_from_what_is_read(
    call: &Call,
    send: &Send,
    keys: &[&str],
    decide: Decide,
    why: &Error,
) -> SendDecision {
    let read = || {
        let account = send.account.as_ref()?;
        // Read beside whoever writes at the moment.
        let state = may_be_read(why).then(|| State::open(&call.paths).ok()).flatten()?;
        state.read(|db| senders::gather(db, account, keys, send.local)).ok()
    };
    let facts = read().map_or(Fact::Missing(Missing::State), |(facts, _)| Fact::Known(facts));
    let mut decision = decide(&facts);
    if !call.records && decision.verdict == Verdict::Allow {
        decision.reason = Reason::NotCounted;
    }
    decision.keeps_nothing();
    decision
}

/// Whether the state is held by others rather than missing or broken.
fn may_be_read(why: &Error) -> bool {
    matches!(state::trouble_of(why), Trouble::StateLocked | Trouble::StateFull)
}

/// One piece of work: nobody else counts or stops this sender between what is read and what is written. Fails
/// where nothing was decided.
fn decide_and_record(
    call: &Call,
    send: &Send,
    about: &record::About,
    keys: &[&str],
    decide: Decide,
    state: &mut State,
    decided: Decided,
) -> Result<(SendDecision, Option<Reference>)> {
    let (Some(account), failed) = (&send.account, state.failed("read")) else {
        return Ok((decide(&Fact::Missing(Missing::State)), None));
    };
    let write_failed = state.failed("write to");
    let unit = state.begin_single()?;
    let (facts, stops) = senders::gather(&unit, account, keys, send.local).map_err(failed)?;
    let mut decision = decide(&Fact::Known(facts));
    let reference = reference_of(&decision, account, &stops);
    tell(decided, decision.verdict, &decision.reason, reference.as_ref());
    let written =
        record::send(&unit, call, send, about, &decision, reference.as_ref()).and_then(|()| unit.commit());
    if let Err(error) = written {
        state::mark_trouble(call, &write_failed(error));
        decision.keeps_nothing();
    }
    Ok((decision, reference))
}

/// A stop keeps its reference for as long as it lasts, so that a client is told the same each time.
fn reference_of(decision: &SendDecision, account: &Account, stops: &[senders::Stop]) -> Option<Reference> {
    match &decision.record {
        Record::Stop { .. } => Some(Reference::from_bits(call::random_bits())),
        Record::RefusedAgain { key, .. } => {
            let whose = key.as_deref().unwrap_or(account.name());
            stops.iter().find(|stop| stop.account == whose)?.reference.parse().ok()
        }
        _ if decision.verdict == Verdict::Refuse => Some(Reference::from_bits(call::random_bits())),
        _ => None,
    }
}
