//! Temporary allowances: a mailbox or domain may log in from one more country or network until a date.

use super::arguments::Arguments;
use super::{Admin, Outcome, own_service};
use crate::account::Subject;
use crate::address::Network;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::store::settings::entries::Grant;
use serde_json::{Value, json};

/// Every allowance; ended ones are marked.
pub fn list_allowances(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let row = |grant: Grant| {
        let mut row = json!(grant);
        row["running"] = Value::Bool(admin.call.now < grant.until);
        row
    };
    let mut grants = admin.settings()?.allowances()?;
    grants.retain(|grant| admin.may_see(&grant.subject));
    let rows: Vec<Value> = grants.into_iter().map(row).collect();
    Ok(json!(rows).into())
}

/// Adds an allowance. It needs an end.
pub fn add_allowance(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let subject: Subject = given.text("for").parse()?;
    let source = source(given.text("from"))?;
    let until = given.until("until", admin.call.now)?;
    let until = until
        .ok_or_else(|| Error::bad_value("The argument until", "", "an allowance needs an end, as 14d"))?;
    own_service::may_allow(admin, &source, until)?;
    let grant = Grant {
        subject: subject.key(),
        source: source.clone(),
        until,
        note: given.note(),
        ..Grant::default()
    };
    let end = crate::clock::readable(until);
    let id = admin.change(given, |change| {
        let id = change.allow(&grant)?;
        // Within the change: nobody gives himself an allowance of which the administrator hears nothing.
        let what =
            format!("allowed logins of {subject} from {source} until {end} (allowance {id}): {}", grant.note);
        own_service::tell(admin, "owner_allowance", &grant.subject, &what)?;
        Ok(id)
    })?;
    let said = Outcome::said(format!("{subject} may log in from {source} until {end} (allowance {id})."));
    Ok(Outcome { data: json!({ "id": id, "until": until }), ..said })
}

fn source(text: &str) -> Result<String> {
    if let Ok(network) = text.parse::<Network>() {
        return Ok(network.to_string());
    }
    Country::from_name_or_code(text).map(|c| c.to_string()).map_err(|_| {
        Error::bad_value("The argument from", text, "a country's code or name, an address or a network")
    })
}

/// Ends an allowance at once.
pub fn remove_allowance(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let id = given.number("id")?.unwrap_or_default();
    own_service::may_end(admin, id)?;
    admin.change(given, |change| change.disallow(id))?;
    Ok(Outcome::said(format!("Allowance {id} has ended.")))
}
