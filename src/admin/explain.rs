//! What would happen to a login, and why, rule by rule.

use super::arguments::Arguments;
use super::{Admin, Outcome, bans};
use crate::account::Account;
use crate::address::Address;
use crate::decide::login::Source;
use crate::decide::{Fact, Finding, Step};
use crate::error::Result;
use crate::feeds::Feeds;
use crate::flow;
use crate::on_state::{as_postern, on_state};
use crate::request::{Door, Login, Service};
use crate::settings::Mode;
use crate::store::state::senders;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Explains a login of an account from an address. Records nothing.
pub fn explain(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    // Who may not see the settings would be told about missing facts instead.
    admin.settings()?;
    let address: Address = given.text("address").parse()?;
    let account: Account = admin.one_meant(given, "account")?;
    let login = Login {
        account: Some(account.clone()),
        address: Some(address),
        service: Service::named(given.given("service").unwrap_or("imap")),
        door: Door::Explain,
    };
    let mut data = knowing_the_state(admin, || explained(admin, &account, address, &login));
    let watched = on_state(&admin.call.paths, |state| {
        state.read(|db| Ok(senders::stop_of(db, account.name())?.and_then(|stop| stop.watch_until)))
    });
    data["watched_until"] = json!(watched.ok().flatten().filter(|until| *until > admin.call.now));
    let banned = bans::seen(admin, address);
    let mut warnings = banned.troubles.clone();
    if !banned.bans.is_empty() {
        data["bans"] = bans::rows_of(&banned);
        warnings.push(format!(
            "Another product keeps {address} out, whatever we answer; `postern bans lift {address}` lifts that."
        ));
    }
    Ok(Outcome { warnings, ..Outcome::from(data) })
}

/// Makes it as user `postern`, who can open the state, which root does not; where that cannot be, without the state.
pub(super) fn knowing_the_state<T: Serialize + DeserializeOwned>(admin: &Admin, make: impl Fn() -> T) -> T {
    as_postern(&admin.call.paths, || Ok(make())).unwrap_or_else(|_| make())
}

fn explained(admin: &Admin, account: &Account, address: Address, login: &Login) -> Value {
    let (facts, decision, steps) = flow::explain(&admin.call, login);
    let country = match facts.country {
        Fact::Known(country) => country,
        Fact::Missing(_) => None,
    };
    let source = match facts.source {
        Fact::Known(source) => source,
        Fact::Missing(_) => Source::default(),
    };
    json!({
        "account": account.to_string(),
        "address": address.to_string(),
        "country": country.map(|c| c.to_string()),
        "country_name": country.and_then(|c| c.name()),
        "asn": source.asn,
        "network_name": source.name,
        "feeds": feeds(admin, address),
        "verdict": decision.verdict.name(),
        "reason": decision.reason.key(),
        "why": admin.told(&decision.reason),
        "would_refuse": decision.would_refuse.iter().map(|r| admin.told(r)).collect::<Vec<_>>(),
        "steps": steps.iter().map(|step| step_row(admin, step)).collect::<Vec<_>>(),
    })
}

/// The feeds that name the address, whether the rule that asks them is on or off.
fn feeds(admin: &Admin, address: Address) -> Vec<String> {
    let on = |feeds: Option<&Feeds>| feeds.map_or_else(Vec::new, |f| f.look_up(address, admin.call.now));
    // Damage is told by the rule itself.
    let listed = admin.call.with_feeds(|feeds| Ok(on(feeds))).unwrap_or_default();
    listed.into_iter().map(|listed| listed.feed).collect()
}

pub(super) fn step_row(admin: &Admin, step: &Step) -> Value {
    let (found, why) = match &step.finding {
        None if step.mode == Mode::Off => ("not asked", "The rule is off.".into()),
        None => ("not asked", "An earlier rule skips it.".into()),
        Some(Finding::Pass(reason)) => ("passes on", admin.told(reason)),
        Some(Finding::SkipAddressRules(reason) | Finding::SkipPlaceRules(reason)) => {
            ("passes on", admin.told(reason))
        }
        Some(Finding::Allow(reason)) => ("allows", admin.told(reason)),
        Some(Finding::Refuse(reason)) if step.mode == Mode::Monitor => ("would refuse", admin.told(reason)),
        Some(Finding::Refuse(reason)) => ("refuses", admin.told(reason)),
        Some(Finding::Undecided(reason)) => ("undecided", admin.told(reason)),
    };
    json!({ "number": step.number, "rule": step.rule, "mode": step.mode, "found": found, "why": why })
}
