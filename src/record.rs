//! What is written down of a decision: in the state what binds, in the tally what is counted, in the log
//! what an administrator looks for.

use crate::account::Account;
use crate::address::{Address, AddressClass, Network};
use crate::call::{self, Call};
use crate::clock::readable;
use crate::country::Country;
use crate::decide::login::LoginFacts;
use crate::decide::send::{Record, SendDecision, Stopped};
use crate::decide::{Decision, Fact};
use crate::error::Result;
use crate::gather;
use crate::log;
use crate::request::{Door, Ended, Login, MessageId, Outcome, Send, Service};
use crate::settings::{LoginsFrom, Settings};
use crate::sources::{self, Told};
use crate::store::state::{self, Unit, activity, held, notices, senders, sightings};
use crate::tally::{self, Kind};
use crate::trouble::{self, Trouble};
use crate::verdict::{Answer, Reason, Reference, Verdict};
use std::borrow::Cow;

/// Records a login or its use; gives the reference of a refusal.
pub fn login(
    call: &Call,
    login: &Login,
    facts: &LoginFacts,
    decision: &Decision,
    kind: Kind,
) -> Option<Reference> {
    let country = gather::known_country(&facts.country);
    let about = About {
        account: login.account.as_ref(),
        address: login.address,
        country,
        service: login.service,
        door: login.door,
        message: None,
        by_mail_service: facts.is_by_mail_service(),
    };
    // Where nobody is asked at AUTH, the use of a login is the only try that is seen.
    let is_only_try = login.door == Door::PostfixMail && is_of_record(login, facts, Told::Tried);
    let kind = if is_only_try { Kind::Try } else { kind };
    if decision.verdict == Verdict::Refuse {
        let tried_before = sources::is_behind_source(&settings_of(facts), login.service, login.door);
        let kind = if kind == Kind::Try && tried_before { Kind::Use } else { kind };
        let reference = keep_event(call, &about, "refuse", &decision.reason);
        about.tally(call, kind, "refuse", &decision.reason);
        about.log(call, "refuse", &decision.reason, Some(&reference));
        return Some(reference);
    }
    let counts = is_of_record(login, facts, Told::Tried);
    // Logs do not know what would have been refused, so whichever door finds it says so.
    let tells = counts || is_told_by_logs(login, facts);
    for reason in decision.would_refuse.iter().filter(|_| tells) {
        let reference = keep_event(call, &about, "would_refuse", reason);
        about.log(call, "would_refuse", reason, Some(&reference));
    }
    match (kind, decision.would_refuse.is_empty()) {
        // Each rule has its own dry run.
        (_, false) if counts => {
            let reasons: Vec<&str> = decision.would_refuse.iter().map(Reason::key).collect();
            about.tally_line(call, kind, "would_refuse", &reasons.join(","));
        }
        (Kind::Use | Kind::Success, _) if is_of_record(login, facts, Told::Succeeded) => {
            about.tally(call, Kind::Success, "allow", &decision.reason);
        }
        (Kind::Use | Kind::Success, _) => {}
        _ if counts => about.tally(call, kind, "allow", &decision.reason),
        _ => {}
    }
    if is_only_try {
        about.tally(call, Kind::Success, "allow", &decision.reason);
    }
    None
}

/// Whether this door's word counts for a login that is not refused.
fn is_of_record(login: &Login, facts: &LoginFacts, told: Told) -> bool {
    login.address.is_some() && sources::is_of_record(&settings_of(facts), login.service, login.door, told)
}

fn is_told_by_logs(login: &Login, facts: &LoginFacts) -> bool {
    login.address.is_some()
        && sources::setting(&settings_of(facts), login.service) == Some(LoginsFrom::Log)
        && login.door != Door::Explain
}

fn settings_of(facts: &LoginFacts) -> Cow<'_, Settings> {
    match &facts.policy {
        Fact::Known(policy) => Cow::Borrowed(&policy.settings),
        Fact::Missing(_) => Cow::Owned(Settings::default()),
    }
}

/// Records how a login ended, where this door's word counts. What we refused ourselves is no failure: some
/// servers tell a refusal of ours as a wrong password.
pub fn outcome(call: &Call, outcome: &Outcome, settings: &Settings) {
    let told = match outcome.ended {
        Ended::Succeeded => Told::Succeeded,
        Ended::Failed => Told::Failed,
        Ended::Refused => return,
    };
    let Some(address) = outcome.address else { return };
    let counts = sources::is_of_record(settings, outcome.service, outcome.door, told);
    if !counts || (told == Told::Failed && was_refused(call, outcome)) {
        return;
    }
    let place = gather::place(call, address);
    let about = About {
        account: outcome.account.as_ref(),
        address: outcome.address,
        country: place.country,
        service: outcome.service,
        door: outcome.door,
        message: None,
        by_mail_service: place.mail_service.is_some(),
    };
    match told {
        Told::Failed => {
            about.tally(call, Kind::Failure, "failed", &Reason::Ended);
            let (account, guess) = (outcome.account.as_ref(), outcome.guess);
            let failed = sightings::Failed { account, address, guess, mail_service: place.mail_service };
            learn(call, outcome, &failed, settings);
        }
        _ => about.tally(call, Kind::Success, "allow", &Reason::Ended),
    }
}

/// Learns from a login that failed.
fn learn(call: &Call, outcome: &Outcome, failed: &sightings::Failed, settings: &Settings) {
    if !call.records || !gather::teaches(call, settings, failed.address) {
        return;
    }
    let got_in_since = |since| tally::somebody_succeeded_since(&call.paths, since);
    let learned = call
        .with_state(|state| state.write(|t| sightings::learn(t, failed, settings, call.now, &got_in_since)));
    match learned {
        Ok(news) => tell_news(call, outcome, &news),
        Err(error) => state::mark_trouble(call, &error),
    }
}

/// What was learned is told in the log; the administrator finds it in the lists, too.
fn tell_news(call: &Call, outcome: &Outcome, news: &sightings::News) {
    let line = |event| {
        log::Line::new(log::Severity::Notice, event)
            .field("service", outcome.service.name())
            .maybe("address", outcome.address)
            .maybe("account", outcome.account.as_ref())
    };
    for sighting in &news.marked {
        let line = line("attack_network").field("network", &sighting.network).field("why", &sighting.why);
        line.field("until", readable(sighting.until)).send(&call.paths, call.program);
    }
    if let Some(until) = news.burst_until {
        line("burst").field("until", readable(until)).send(&call.paths, call.program);
    }
    if let Some(until) = news.guarded_until {
        line("mailbox_guarded").field("until", readable(until)).send(&call.paths, call.program);
    }
    if news.outage {
        trouble::mark(call, Trouble::LoginsFail, "owners fail from where they are known, and nobody gets in");
    }
}

/// Doors whose refusal the server tells as a wrong password afterwards. One at Exim's AUTH leaves nothing, and one
/// at MAIL comes after a password that was right.
const TOLD_AS_FAILED: [Door; 3] = [Door::DovecotGate, Door::DovecotChain, Door::DovecotPolicy];

/// For so many seconds a refusal of ours explains a failure of the same account from the same address. Exim
/// tells only when the client tries again or leaves, for which it gives him five minutes a command.
fn explains(door: Door) -> i64 {
    if door == Door::EximOutcome { 600 } else { 10 }
}

fn was_refused(call: &Call, outcome: &Outcome) -> bool {
    let (Some(account), Some(address)) = (&outcome.account, outcome.address) else { return false };
    let since = call.now - explains(outcome.door);
    let found = call.with_state(|state| {
        state.read(|db| activity::refused_since(db, account, address, since, &TOLD_AS_FAILED))
    });
    found.unwrap_or_else(|error| {
        state::mark_trouble(call, &error);
        false
    })
}

/// What an event, a tally line and a log line have in common.
pub struct About<'a> {
    account: Option<&'a Account>,
    address: Option<Address>,
    country: Option<Country>,
    service: Service,
    door: Door,
    message: Option<(&'a MessageId, u32)>,
    /// Whether a mail service logs in for its users from there.
    by_mail_service: bool,
}

impl<'a> About<'a> {
    /// What is common to all that is written down of a message. Looks the address up: not for within a
    /// transaction, in which others wait.
    pub fn message(call: &Call, send: &'a Send) -> About<'a> {
        About {
            account: send.account.as_ref(),
            address: send.address,
            country: gather::known_country(&gather::country(call, send.address)),
            service: if send.address.is_none() { Service::Local } else { Service::Smtp },
            door: send.door,
            message: send.message.as_ref().map(|message| (message, send.recipients)),
            by_mail_service: false,
        }
    }

    /// Whoever is late holds a message too, and counts nothing: noted twice, it is one.
    fn note_held(&self, call: &Call, decision: &SendDecision) {
        if decision.verdict == Verdict::Hold
            && decision.record == Record::Nothing
            && let (Some(account), Some((message, recipients))) = (self.account, self.message)
        {
            tally::append_held(call, self.door, self.service, &tally::Held { message, recipients, account });
        }
    }

    fn event(&self, call: &Call, verdict: &str, reason: &Reason) -> activity::Event {
        activity::Event {
            last: call.now,
            account: self.account.map_or_else(String::new, |a| a.name().into()),
            address: self.address.map_or_else(String::new, |a| a.to_string()),
            country: self.country.map_or_else(String::new, |c| c.to_string()),
            service: self.service.name().into(),
            door: self.door.name().into(),
            verdict: verdict.into(),
            reason: reason.key().into(),
            detail: reason.for_admin(),
            ..activity::Event::default()
        }
    }

    fn tally(&self, call: &Call, kind: Kind, verdict: &str, reason: &Reason) {
        self.tally_line(call, kind, verdict, reason.key());
    }

    fn tally_line(&self, call: &Call, kind: Kind, verdict: &str, reason: &str) {
        if !call.records {
            return;
        }
        let line = tally::Line {
            kind,
            door: self.door,
            service: self.service,
            country: self.country,
            network: self.network_to_know(kind),
            verdict,
            reason,
            account: self.account,
        };
        tally::append(call, &line);
    }

    /// A success makes the network known as one of the account's. Networks near by are everybody's; of a mail service
    /// that logs in for its users only the wide one counts, since each login may come from another of its machines.
    fn network_to_know(&self, kind: Kind) -> Option<Network> {
        let public = self.address.filter(|a| a.class() == AddressClass::Public && kind == Kind::Success);
        let known = if self.by_mail_service { Network::widely_around } else { Network::around };
        public.map(known)
    }

    fn log(&self, call: &Call, event: &str, reason: &Reason, reference: Option<&Reference>) {
        log::Line::new(log::Severity::Notice, event)
            .field("door", self.door.name())
            .field("service", self.service.name())
            .maybe("account", self.account)
            .maybe("address", self.address)
            .maybe("country", self.country)
            .field("reason", reason.key())
            .maybe("reference", reference)
            .send(&call.paths, call.program);
    }
}

/// Keeps the event in the state. Where that cannot be, the refusal stands all the same, with a reference
/// that only the log knows.
fn keep_event(call: &Call, about: &About, verdict: &str, reason: &Reason) -> Reference {
    if !call.records {
        return Reference::from_bits(call::random_bits());
    }
    let event = about.event(call, verdict, reason);
    match write_event(call, &event) {
        Ok(reference) => reference,
        Err(error) => {
            state::mark_trouble(call, &error);
            Reference::from_bits(call::random_bits())
        }
    }
}

fn write_event(call: &Call, event: &activity::Event) -> Result<Reference> {
    call.with_state(|state| state.write(|t| activity::record(t, event)))
}

/// Records a message that was decided without the state.
pub fn send_without_state(call: &Call, send: &Send, decision: &SendDecision) -> Option<Reference> {
    if matches!(decision.reason, Reason::Inbound | Reason::OwnMessage) {
        return None;
    }
    let about = About::message(call, send);
    about.tally(call, Kind::Send, decision.verdict.name(), &decision.reason);
    if decision.verdict == Verdict::Allow {
        return None;
    }
    let reference = keep_event(call, &about, decision.verdict.name(), &decision.reason);
    about.log(call, decision.verdict.name(), &decision.reason, Some(&reference));
    Some(reference)
}

/// Counts the message in the tally, notes there what is held and not recorded, and logs what was not simply allowed.
pub fn send_line(call: &Call, about: &About, decision: &SendDecision, reference: Option<&Reference>) {
    let (verdict, reason) = match (&decision.reason, &decision.watched) {
        (Reason::WouldStop { .. }, _) => ("would_refuse", &decision.reason),
        (_, Some(watched)) => ("would_refuse", watched),
        _ => (decision.verdict.name(), &decision.reason),
    };
    about.tally(call, Kind::Send, verdict, reason);
    about.note_held(call, decision);
    let tells = matches!(decision.record, Record::TellOnly { told_until: Some(_), .. });
    let tells = tells || !decision.tells.is_empty();
    if decision.verdict != Verdict::Allow || tells {
        about.log(call, verdict, reason, reference);
    }
}

/// Whether [`send`] writes by one statement at most: the message passes, and counts for nobody else.
fn writes_once(decision: &SendDecision) -> bool {
    decision.verdict == Verdict::Allow
        && matches!(decision.record, Record::Nothing | Record::Count(_))
        && decision.tells.is_empty()
        && decision.counted.as_ref().is_none_or(|counted| counted.shared.is_empty())
}

/// Writes what binds.
pub fn send(
    t: &Unit,
    call: &Call,
    send: &Send,
    about: &About,
    decision: &SendDecision,
    reference: Option<&Reference>,
) -> rusqlite::Result<()> {
    let Some(account) = &send.account else { return Ok(()) };
    let counted = decision.counted.as_ref();
    if !writes_once(decision) {
        t.make_room()?;
    }
    let keep = |window| senders::keep(t, account, window, counted.map(|counted| &counted.own), call.now);
    match &decision.record {
        Record::Nothing => {}
        Record::NotNow => {
            if let Some(counted) = counted {
                senders::keep_meters(t, account.name(), &counted.own, call.now)?;
            }
        }
        Record::Count(window) => keep(window)?,
        Record::Stop { stop, window } => {
            keep(window)?;
            keep_stop(t, call, account, stop, decision, reference)?;
        }
        Record::TellOnly { window, told_until } => {
            keep(window)?;
            if let Some(until) = told_until {
                senders::keep_told(t, account, *until)?;
                notices::queue(t, call.now, "over_limit", account.name(), &decision.reason.for_admin())?;
                keep_send_event(t, call, about, "would_refuse", &decision.reason, None)?;
            }
        }
        Record::RefusedAgain { until, window, key } => {
            keep(window)?;
            senders::count_refused(t, key.as_deref().unwrap_or(account.name()), *until, call.now)?;
        }
    }
    for (key, meters) in counted.iter().flat_map(|counted| &counted.shared) {
        senders::keep_meters(t, key, meters, call.now)?;
    }
    for reason in &decision.tells {
        let whose = match reason {
            Reason::BeyondLimit(beyond) => beyond.together.as_deref(),
            _ => None,
        };
        let kind = if decision.verdict == Verdict::Allow { "beyond_limit" } else { "limit_waits" };
        notices::queue(t, call.now, kind, whose.unwrap_or(account.name()), &reason.for_admin())?;
        if decision.verdict == Verdict::Allow {
            keep_send_event(t, call, about, "would_refuse", reason, None)?;
        }
    }
    if decision.verdict != Verdict::Allow {
        keep_send_event(t, call, about, decision.verdict.name(), &decision.reason, reference)?;
    }
    match (decision.verdict, &send.message) {
        (Verdict::Hold, Some(message)) => {
            let (message, account) = (message.to_string(), account.to_string());
            held::keep(t, &held::Held { message, account, at: call.now, recipients: send.recipients.into() })
        }
        _ => Ok(()),
    }
}

fn keep_stop(
    t: &Unit,
    call: &Call,
    account: &Account,
    stop: &Stopped,
    decision: &SendDecision,
    reference: Option<&Reference>,
) -> rusqlite::Result<()> {
    let stop = senders::Stop {
        account: stop.key.clone().unwrap_or_else(|| account.to_string()),
        since: call.now,
        until: stop.until,
        reason: decision.reason.key().into(),
        detail: with_its_past(decision.reason.for_admin(), stop),
        reference: reference.map_or_else(String::new, ToString::to_string),
        refused: 1,
        last: call.now,
        by_limit: stop.limit.clone(),
        quota: stop.quota,
        times: stop.times,
        watch_until: stop.watch_until,
    };
    senders::keep_stop(t, &stop)?;
    let told = format!("{} Reference {}.", stop.detail, stop.reference);
    let kind = if stop.quota.is_some() { "slowed" } else { "stopped" };
    notices::queue(t, call.now, kind, &stop.account, &told)
}

/// The reason, and why the stop is longer than others.
fn with_its_past(detail: String, stop: &Stopped) -> String {
    match stop.times {
        0 => detail,
        1 => format!("{detail} It was released lately and is watched, so the stop is longer than the first."),
        n => format!(
            "{detail} It was released {n} times lately and is watched, so the stop is longer than before."
        ),
    }
}

fn keep_send_event(
    t: &Unit,
    call: &Call,
    about: &About,
    verdict: &str,
    reason: &Reason,
    reference: Option<&Reference>,
) -> rusqlite::Result<()> {
    let mut event = about.event(call, verdict, reason);
    event.reference = reference.map_or_else(String::new, ToString::to_string);
    activity::record(t, &event).map(|_| ())
}

/// The sentence for a client, with the reference where there is one.
pub fn client_text(answer: &Answer) -> String {
    let sentence = answer.reason.for_client();
    match &answer.reference {
        Some(reference) => format!("{sentence} Reference {reference}."),
        None => sentence,
    }
}
