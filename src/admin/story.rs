//! The story of one refusal: what was recorded, what would be answered now, and what changed since.

use super::activity::shown;
use super::arguments::Arguments;
use super::explain::{knowing_the_state, step_row};
use super::{Admin, Outcome};
use crate::account::Account;
use crate::clock::{Seconds, readable};
use crate::decide::send::{decide_with_state, decide_without_state};
use crate::decide::{Decision, Fact};
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::request::{Door, Login, Send, Service};
use crate::sources::sees_logins;
use crate::store::settings::Audit;
use crate::store::state::State;
use crate::store::state::activity::{self, Event, Filter, MOST};
use crate::store::state::senders;
use crate::verdict::{Reason, Reference};
use crate::{flow, gather};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Changes that are told, the newest first.
const MOST_CHANGES: usize = 20;

/// Rows of the trail that are looked through for them.
const TRAIL: i64 = 1000;

/// What would be answered now.
#[derive(Serialize, Deserialize)]
struct Now {
    verdict: String,
    reason: String,
    why: String,
    /// Keys of what rules in monitor mode would refuse.
    would_refuse: Vec<String>,
    country: String,
    steps: Vec<Value>,
}

impl Now {
    /// Whether the answer is still the recorded one.
    fn is_as(&self, event: &Event) -> bool {
        match event.verdict.as_str() {
            "would_refuse" => self.reason == event.reason || self.would_refuse.contains(&event.reason),
            verdict => self.verdict == verdict && self.reason == event.reason,
        }
    }
}

/// Tells the story of the refusal with this reference.
pub fn tell_story(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let settings = admin.settings()?.settings()?;
    let reference = given.text("reference").parse::<Reference>()?.to_string();
    let filter = Filter { reference: reference.clone(), limit: 100, ..Filter::default() };
    let events = on_state(&admin.call.paths, |state| state.read(|db| activity::list(db, &filter)))?;
    // What is not there and what is not his is the same to a caller.
    let seen = events.into_iter().filter(|event| admin.may_see(&event.account));
    let events: Vec<Event> = seen.map(|event| shown(admin, event)).collect();
    let Some(event) = events.first() else {
        return Err(Error::NotFound(format!(
            "Nothing with the reference {reference} is in Activity: it keeps the latest {MOST} rows of {} days. The log may still have it.",
            settings.keep_activity_days
        )));
    };
    let now = match Door::named(&event.door) {
        Some(door) if sees_logins(door) => login_now(admin, event, door)?,
        door => message_now(admin, event, door.unwrap_or(Door::EximData))?,
    };
    let same = now.is_as(event);
    let answer = json!({
        "reference": reference,
        "account": event.account,
        "address": event.address,
        "verdict_then": event.verdict,
        "why_then": event.detail,
        "last": event.last,
        "verdict_now": now.verdict,
        "why_now": now.why,
        "is_the_same": same,
        "changed": if same { Vec::new() } else { changed(admin, event, &now)? },
        "events": events,
        "steps": now.steps,
        "says": if same { "The same would be answered now." } else { "Something else would be answered now." },
    });
    Ok(answer.into())
}

fn login_now(admin: &Admin, event: &Event, door: Door) -> Result<Now> {
    let address = Some(event.address.as_str()).filter(|a| !a.is_empty()).map(str::parse).transpose()?;
    let login = Login {
        account: Account::from_server(&event.account),
        address,
        service: Service::named(&event.service),
        door,
    };
    Ok(knowing_the_state(admin, || answered_now(admin, event, &login)))
}

fn answered_now(admin: &Admin, event: &Event, login: &Login) -> Now {
    let (facts, Decision { verdict, reason, would_refuse }, steps) = flow::explain(&admin.call, login);
    let country = match facts.country {
        Fact::Known(country) => country.map_or_else(String::new, |c| c.to_string()),
        Fact::Missing(_) => event.country.clone(),
    };
    Now {
        verdict: verdict.name().into(),
        reason: reason.key().into(),
        why: admin.told(&reason),
        would_refuse: would_refuse.iter().map(|r| r.key().into()).collect(),
        country,
        steps: steps.iter().map(|step| step_row(admin, step)).collect(),
    }
}

/// A message of the same sender, by the same door.
fn message_now(admin: &Admin, event: &Event, door: Door) -> Result<Now> {
    let address = Some(event.address.as_str()).filter(|a| !a.is_empty()).map(str::parse).transpose()?;
    let send = Send {
        account: Account::from_server(&event.account),
        address,
        by_mail_server: false,
        uid: None,
        recipients: 1,
        named: Vec::new(),
        message: None,
        local: matches!(door, Door::EximLocal | Door::PostfixLocal),
        door,
    };
    let call = &admin.call;
    on_state(&call.paths, |state: &mut State| {
        let policy = gather::send(call, &send);
        let decision = match (decide_without_state(&send, &policy), &send.account, &policy) {
            (Some(decision), ..) => decision,
            (None, Some(account), Fact::Known(policy)) => {
                let keys: Vec<&str> = policy.keys().collect();
                let (facts, _) = state.read(|db| senders::gather(db, account, &keys, send.local))?;
                decide_with_state(&send, policy, &Fact::Known(facts), call.now)
            }
            (None, ..) => return Err(Error::State("The published policy cannot be read.".into())),
        };
        let would = matches!(decision.reason, Reason::WouldStop { .. } | Reason::SharedUser(_));
        Ok(Now {
            verdict: decision.verdict.name().into(),
            reason: decision.reason.key().into(),
            why: admin.told(&decision.reason),
            would_refuse: would.then(|| decision.reason.key().into()).into_iter().collect(),
            country: event.country.clone(),
            steps: Vec::new(),
        })
    })
}

/// What may be why another answer is given now, as sentences.
fn changed(admin: &Admin, event: &Event, now: &Now) -> Result<Vec<String>> {
    let mut told = Vec::new();
    if now.country != event.country {
        let place = |code: &str| if code.is_empty() { "no country".to_string() } else { code.to_string() };
        told.push(format!(
            "The network data place the address in {} now; then it was {}.",
            place(&now.country),
            place(&event.country)
        ));
    }
    let trail = admin.settings()?.audit(TRAIL)?;
    let (theirs, others): (Vec<_>, Vec<_>) =
        trail.iter().filter(|audit| audit.at >= event.last).partition(|audit| may_see(admin, audit));
    for audit in theirs.iter().take(MOST_CHANGES) {
        let what = [audit.action.as_str(), &audit.subject].join(" ");
        told.push(format!(
            "{}: {} by {}{}.",
            readable(audit.at),
            what.trim(),
            audit.who,
            values(&audit.before, &audit.after)
        ));
    }
    if theirs.len() > MOST_CHANGES {
        told.push(format!("{} earlier changes are in the trail.", theirs.len() - MOST_CHANGES));
    }
    if others.iter().any(|audit| !audit.names_an_account()) {
        told.push("The administrator changed what holds for the whole server.".into());
    }
    if told.is_empty() {
        told.push(time_went_by(event.last, admin.call.now));
    }
    Ok(told)
}

/// Whether the caller may see this row of the trail: the administrator each, others what is about theirs.
fn may_see(admin: &Admin, audit: &Audit) -> bool {
    admin.theirs.is_none() || (audit.names_an_account() && admin.may_see(&audit.subject))
}

/// What was there and what is, where that is short: an entry of a list is named already.
fn values(before: &str, after: &str) -> String {
    let value = |text: &str| if text.is_empty() { "nothing".to_string() } else { text.to_string() };
    match before.starts_with('{') || after.starts_with('{') {
        true => String::new(),
        false => format!(" (was {}, is {})", value(before), value(after)),
    }
}

fn time_went_by(then: Seconds, now: Seconds) -> String {
    let minutes = now.saturating_sub(then) / 60;
    format!(
        "Nobody changed a setting or list since; {minutes} minutes went by: a block, a stop, an exemption or an allowance may have ended."
    )
}
