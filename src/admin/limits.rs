//! Limits of sending: the further ones beside the Outbound Rate Limiter, and other numbers for some.

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::account::Subject;
use crate::clock::readable;
use crate::error::{Error, Result};
use crate::limit::{Action, Limit, OUTBOUND, Override};
use crate::on_state::on_state;
use crate::settings::{Mode, Settings};
use crate::store::state::senders;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Words for what a limit counts.
pub const COUNTS: &[&str] = &["messages", "recipients", "distinct_recipients", "local_recipients"];
/// Words for whose messages it counts together.
pub const OF: &[&str] = &["account", "domain", "server"];
/// Words for what happens beyond it.
pub const ACTIONS: &[&str] = &["stop", "slow", "wait", "notify"];
/// Names of sets of limits.
pub const PRESETS: &[&str] = &["quiet", "default", "busy-shop"];

/// The number that means: as much as they like.
const UNLIMITED: &str = "unlimited";

/// What a set of limits says: messages of the Outbound Rate Limiter, then recipients in an hour and in a day.
fn preset(name: &str) -> [i64; 3] {
    match name {
        // A server of people who write letters.
        "quiet" => [60, 200, 800],
        // Shops that confirm orders, and their newsletters.
        "busy-shop" => [500, 3000, 20_000],
        _ => [150, 500, 2000],
    }
}

/// Every limit, the Outbound Rate Limiter first, and whom other numbers hold for.
pub fn list_limits(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let store = admin.settings()?;
    let limits: Vec<Value> =
        std::iter::once(outbound_row(&store.settings()?)).chain(store.limits()?.iter().map(row)).collect();
    let all = store.overrides()?;
    let others =
        all.iter().flat_map(|(key, others)| others.iter().map(move |other| override_row(key, other)));
    let holding = others.filter(|row| row["until"].as_i64().is_none_or(|until| admin.call.now < until));
    Ok(json!({ "limits": limits, "for": holding.collect::<Vec<_>>() }).into())
}

fn outbound_row(settings: &Settings) -> Value {
    json!({
        "name": OUTBOUND,
        "counts": "messages",
        "of": "account",
        "most": settings.rate_limit_messages,
        "window": settings.rate_limit_window,
        "action": "stop",
        "duration": settings.rate_limit_block,
        "quota": null,
        "mode": settings.rate_limiter,
        "note": "Outbound Rate Limiter (settings rate_limiter, rate_limit_…)",
        "who": "",
        "at": null,
    })
}

fn row(limit: &Limit) -> Value {
    let mut row = json!(limit);
    row["quota"] = if limit.action == Action::Slow { json!(limit.quota) } else { Value::Null };
    if matches!(limit.action, Action::Wait | Action::Notify) {
        row["duration"] = Value::Null;
    }
    if let Some(row) = row.as_object_mut() {
        row.remove("id");
    }
    row
}

fn override_row(key: &str, other: &Override) -> Value {
    json!({
        "for": Subject::typed(key),
        "limit": other.limit,
        "most": other.most,
        "from": other.from,
        "until": other.until,
        "note": other.note,
        "who": other.who,
    })
}

/// Makes a limit, or changes what is given of one that is there.
pub fn set_limit(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let name = given.text("name");
    let limit = admin.change(given, |change| {
        let before = change.limits()?.into_iter().find(|limit| limit.name == name);
        let limit = changed(before, given)?;
        if limit.closes() {
            must_be_meant(given, &format!("the limit {name}"))?;
        }
        change.set_limit(&limit)
    })?;
    let stops = matches!(limit.action, Action::Stop | Action::Slow) && limit.mode == Mode::Enforce;
    let warning = if stops { None } else { release_stops_by(admin, name) };
    let then = match limit.mode {
        Mode::Off => "It is off.".to_string(),
        Mode::Monitor => "It only watches.".to_string(),
        Mode::Enforce => format!("Beyond it: {}.", limit.action.word()),
    };
    Ok(Outcome {
        data: row(&limit),
        ..Outcome::said(format!("Limit {name}: {} for each {}. {then}", limit.spoken(), limit.of.word()))
    }
    .warn(warning))
}

/// What lets nothing pass may be a slip of the pen.
fn must_be_meant(given: &Arguments, what: &str) -> Result<()> {
    if given.is_on("confirm")? {
        return Ok(());
    }
    Err(Error::NeedsConfirmation(format!(
        "Nothing was changed: {what} would let nothing pass. If that is meant, repeat with confirm=on (`--confirm`)."
    )))
}

/// Whom a limit stopped that stops nobody any more may send again. Gives what is to be told where that cannot be
/// written; the stops bind nobody all the same.
fn release_stops_by(admin: &Admin, name: &str) -> Option<String> {
    let by_it = |stop: &senders::Stop| stop.by_limit == name;
    let released = on_state(&admin.call.paths, |state| senders::release_matching(state, &by_it, None));
    released.err().map(|e| format!("Stops by the limit {name} are still listed; they bind nobody. {e}"))
}

fn changed(before: Option<Limit>, given: &Arguments) -> Result<Limit> {
    if before.is_none() && (given.given("most").is_none() || given.given("window").is_none()) {
        let accepted = "a new limit needs its number and its window: --most 500 --window 1h";
        return Err(Error::bad_value("The limit", given.text("name"), accepted));
    }
    let mut limit = before
        .unwrap_or_else(|| Limit { name: given.text("name").into(), ..Limit::brought().swap_remove(0) });
    limit.counts = chosen(given, "counts", limit.counts)?;
    limit.of = chosen(given, "of", limit.of)?;
    limit.action = chosen(given, "action", limit.action)?;
    limit.mode = chosen(given, "mode", limit.mode)?;
    limit.most = given.number("most")?.unwrap_or(limit.most);
    limit.quota = given.number("quota")?.unwrap_or(limit.quota);
    limit.window = given.span("window")?.unwrap_or(limit.window);
    limit.duration = given.span("duration")?.unwrap_or(limit.duration);
    if given.given("note").is_some() {
        limit.note = given.note();
    }
    Ok(limit)
}

/// What one of the words of an argument stands for; where it is not given, what is there.
fn chosen<T: DeserializeOwned>(given: &Arguments, name: &str, there: T) -> Result<T> {
    let Some(word) = given.given(name) else { return Ok(there) };
    serde_json::from_value(json!(word))
        .map_err(|e| Error::bad_value(format!("The argument {name}"), word, e.to_string()))
}

/// Removes a limit. What it stopped may send again.
pub fn remove_limit(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let name = given.text("name");
    admin.change(given, |change| change.remove_limit(name))?;
    let warning = release_stops_by(admin, name);
    Ok(Outcome::said(format!("The limit {name} is removed, and whom it stopped may send again."))
        .warn(warning))
}

/// Sets another number of a limit for a mailbox, a domain or a local user.
pub fn set_limit_for(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let subject: Subject = given.text("for").parse()?;
    let (most, until) = (most(given)?, given.until("until", admin.call.now)?);
    let from = given.beginning("from", admin.call.now)?;
    if most == Some(0) {
        must_be_meant(given, "that number")?;
    }
    let limit = given.given("limit").unwrap_or(OUTBOUND);
    let other =
        Override { limit: limit.into(), most, from, until, note: given.note(), ..Override::default() };
    admin.change(given, |change| change.set_override(&subject, &other))?;
    let number = most.map_or_else(|| "as much as they like".to_string(), |most| most.to_string());
    let begins = from.map_or_else(String::new, |from| format!(" from {}", readable(from)));
    let ends = until.map_or_else(String::new, |until| format!(" until {}", readable(until)));
    Ok(Outcome {
        data: override_row(&subject.key(), &other),
        ..Outcome::said(format!("Limit {limit} for {subject}: {number}{begins}{ends}."))
    })
}

fn most(given: &Arguments) -> Result<Option<i64>> {
    let text = given.text("most");
    if text == UNLIMITED {
        return Ok(None);
    }
    let number = text.parse::<i64>().ok().filter(|n| (0..=crate::limit::MOST).contains(n));
    number.map(Some).ok_or_else(|| {
        let accepted = format!("a whole number from 0 to {}, or {UNLIMITED}", crate::limit::MOST);
        Error::bad_value("The argument most", text, accepted)
    })
}

/// Takes the other numbers back: the limit's own holds again.
pub fn unset_limit_for(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let subject: Subject = given.text("for").parse()?;
    let limit = given.given("limit").unwrap_or(OUTBOUND);
    admin.change(given, |change| change.remove_overrides(&subject, limit))?;
    Ok(Outcome::said(format!("The limit {limit} holds for {subject} as for everybody.")))
}

/// Sets the numbers of the Outbound Rate Limiter and of the limits that Postern brings, for a kind of server. What they
/// do beyond stays as it is; those that were removed come back.
pub fn use_preset(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let name = given.text("preset");
    let [messages, hour, day] = preset(name);
    admin.change(given, |change| {
        change.set("rate_limit_messages", &messages.to_string())?;
        let there = change.limits()?;
        for (brought, most) in Limit::brought().into_iter().zip([hour, day]) {
            let before = there.iter().find(|limit| limit.name == brought.name).cloned();
            change.set_limit(&Limit { most, ..before.unwrap_or(brought) })?;
        }
        Ok(())
    })?;
    let window = crate::verdict::span(admin.settings()?.settings()?.rate_limit_window);
    Ok(Outcome::said(format!(
        "Limits for a {name} server: {messages} messages in {window}, {hour} recipients in an hour and {day} in a day."
    )))
}
