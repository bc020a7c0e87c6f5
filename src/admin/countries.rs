//! Allowed countries of the server, a domain or a mailbox.

use super::arguments::Arguments;
use super::effect::{self, Whose};
use super::table::Scope;
use super::{Admin, Outcome};
use crate::account::Subject;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::server_country;
use crate::settings::Mode;
use crate::store::settings::entries::{self, codes};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Entries of others that are named; the lists have all.
const MOST_NAMED: usize = 10;

fn subject(given: &Arguments) -> Result<Option<Subject>> {
    given.given("for").map(str::parse).transpose()
}

/// Names or codes separated by commas.
pub(super) fn chosen(given: &Arguments) -> Result<BTreeSet<Country>> {
    given
        .text("countries")
        .split(',')
        .map(str::trim)
        .filter(|t| !t.is_empty())
        .map(Country::from_name_or_code)
        .collect()
}

fn named(list: &BTreeSet<Country>) -> Vec<Value> {
    list.iter().map(|c| json!({ "code": c.to_string(), "name": c.name() })).collect()
}

/// The lists that are set, and the server's own country.
pub fn list_countries(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let store = admin.settings()?;
    let settings = store.settings()?;
    let own = server_country::find(&admin.call.paths, &settings);
    let lists: Vec<Value> = store
        .countries()?
        .iter()
        .filter(|(scope, _)| admin.may_see(scope))
        .map(|(scope, list)| {
            let whose = if scope == "*" { "the server" } else { scope.as_str() };
            json!({ "for": whose, "countries": named(list) })
        })
        .collect();
    Ok(json!({
        "mode": settings.country_rule,
        "server_country": own.country,
        "server_country_from": own.sentence,
        "server_country_is_allowed": settings.allow_server_country,
        "lists": lists,
        "generation": store.generation()?,
    })
    .into())
}

/// Every country with code and name.
pub fn known_countries(_: &Admin, _: &Arguments) -> Result<Outcome> {
    let all: Vec<Value> = Country::all()
        .into_iter()
        .map(|(code, name)| json!({ "code": code.to_string(), "name": name }))
        .collect();
    Ok(json!(all).into())
}

/// Sets a whole list.
pub fn set_countries(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let list = chosen(given)?;
    change(admin, given, |_| list.clone())
}

/// Adds countries to a list, which begins where there was none.
pub fn allow_countries(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let more = chosen(given)?;
    change(admin, given, |before| before.union(&more).copied().collect())
}

/// Takes countries off a list.
pub fn disallow_countries(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let fewer = chosen(given)?;
    change(admin, given, |before| before.difference(&fewer).copied().collect())
}

/// Removes a list, so that the next level's holds.
pub fn unset_countries(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let subject = subject(given)?;
    let Some(subject) = subject else {
        return Err(Error::bad_value(
            "The argument for",
            "",
            "a mailbox or domain: the server's list cannot be unset, only set",
        ));
    };
    admin.change(given, |change| change.set_countries(Some(&subject), None))?;
    Ok(Outcome::said(format!("{subject} has no list of its own any more; the next level's holds.")))
}

fn change(
    admin: &Admin,
    given: &Arguments,
    make: impl FnOnce(&BTreeSet<Country>) -> BTreeSet<Country>,
) -> Result<Outcome> {
    let subject = subject(given)?;
    let scope = entries::scope(subject.as_ref());
    // Within the change: of two who add to a list at once, none loses what the other added.
    let (list, warning, round) = admin.change(given, |change| {
        let before = entries::countries_of(change.connection(), &scope).map_err(change.failed())?;
        let list = make(&before.unwrap_or_default());
        let warning = must_be_confirmed(admin, given, subject.as_ref(), &list)?;
        change.set_countries(subject.as_ref(), Some(&list))?;
        let round = match (&subject, admin.scope()) {
            (Some(_), Scope::Root) => change.goes_round(&scope)?,
            _ => Vec::new(),
        };
        Ok((list, warning, round))
    })?;
    let whose = subject.map_or_else(|| "the server".into(), |s| s.to_string());
    let said = if list.is_empty() { "no country".into() } else { codes(&list) };
    Ok(Outcome {
        data: json!({ "for": whose, "countries": named(&list) }),
        ..Outcome::said(format!("Allowed for {whose}: {said}."))
    }
    .warn(warning)
    .warn(still_round(&round)))
}

/// What others set before holds still.
fn still_round(round: &[String]) -> Option<String> {
    let more = round.len().checked_sub(MOST_NAMED).filter(|n| *n > 0).map(|n| format!(", and {n} more"));
    let named = round.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    (!round.is_empty()).then(|| {
        format!(
            "Set by others before, this lets mailboxes go round the list, and holds still: {named}{}. Remove it if that is not meant.",
            more.unwrap_or_default()
        )
    })
}

/// An empty list refuses every country: it must be confirmed, except for the server while the rule is off.
fn must_be_confirmed(
    admin: &Admin,
    given: &Arguments,
    subject: Option<&Subject>,
    list: &BTreeSet<Country>,
) -> Result<Option<String>> {
    let settings = admin.settings()?.settings()?;
    let own = server_country::find(&admin.call.paths, &settings).country;
    let mut effective = list.clone();
    if subject.is_none() {
        effective.extend(own.filter(|_| settings.allow_server_country));
    }
    let harmless = settings.country_rule == Mode::Off && subject.is_none();
    if list.is_empty() && !harmless && !given.is_on("confirm")? {
        let whose = match subject {
            Some(subject) => Whose::Of(subject.clone(), list.clone()),
            None => Whose::Server(effective.clone()),
        };
        return Err(Error::NeedsConfirmation(format!(
            "The list was not changed: it would be empty, and then logins work from {} alone. {} To do it all the same, repeat with confirm=on (`--confirm`).",
            if effective.is_empty() { "no country".into() } else { codes(&effective) },
            effect::sentence(admin, &whose)
        )));
    }
    let missing = own.filter(|own| !effective.contains(own));
    Ok(missing.map(|own| format!("The server's own country {own} is not on this list: programs that log in over the server's public address are refused.")))
}
