//! Temporary allowances: a mailbox or domain may log in from one more country or network until a date.

use super::arguments::Arguments;
use super::{Admin, Outcome, import, own_service};
use crate::account::Subject;
use crate::address::Network;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::store::settings::entries::{self, Grant};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// Every allowance; ended ones are marked.
pub fn list_allowances(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let row = |grant: Grant| {
        let mut row = json!(grant);
        row["running"] = Value::Bool(admin.call.now < grant.until);
        row
    };
    let mut grants = admin.settings()?.allowances()?;
    grants.retain(|grant| admin.may_see(&grant.subject));
    grants.iter_mut().for_each(|grant| grant.note = admin.note_of(&grant.who, &grant.note));
    let rows: Vec<Value> = grants.into_iter().map(row).collect();
    Ok(json!(rows).into())
}

/// Adds an allowance. It needs an end.
pub fn add_allowance(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (subject, grant) = grant(admin, given)?;
    let (source, until) = (&grant.source, grant.until);
    own_service::may_allow(admin, source, until)?;
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

/// Fields of an allowance as many are read and written at once.
const FIELDS: [&str; 4] = ["for", "from", "until", "note"];

/// Adds many at once. One that runs already with the same end is left as it is.
pub fn import_allowances(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let rows = import::rows(&import::text_of(given)?, &FIELDS)?;
    let (grants, bad) = import::sorted(rows, |fields| {
        let (_, grant) = grant(admin, fields)?;
        admin.may_name(fields.text("for"))?;
        Ok(grant)
    });
    import::take(admin, given, grants.len(), &bad, |change| {
        let there = entries::allowances(change.connection()).map_err(change.failed())?;
        let there: HashSet<_> = there.iter().map(Grant::says).collect();
        let new = grants.iter().filter(|grant| !there.contains(&grant.says()));
        new.map(|grant| change.allow(grant)).try_for_each(|id| id.map(|_| ()))
    })
}

/// The running ones that the caller may see, as CSV that can be imported.
pub fn export_allowances(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let is_meant = |g: &Grant| admin.call.now < g.until && admin.may_see(&g.subject);
    let running = admin.settings()?.allowances()?.into_iter().filter(is_meant);
    let row = |grant: Grant| {
        BTreeMap::from([
            ("for", Subject::typed(&grant.subject)),
            ("from", grant.source),
            ("until", import::end(Some(grant.until))),
            ("note", admin.note_of(&grant.who, &grant.note)),
        ])
    };
    import::csv_of(&FIELDS, &running.map(row).collect::<Vec<_>>()).map(Outcome::whole)
}

fn grant(admin: &Admin, given: &Arguments) -> Result<(Subject, Grant)> {
    let until = given.until("until", admin.call.now)?;
    let until = until
        .ok_or_else(|| Error::bad_value("The argument until", "", "an allowance needs an end, as 14d"))?;
    Ok((given.text("for").parse()?, grant_of(given, until)?))
}

/// An allowance with this end, as these fields say it.
pub(super) fn grant_of(fields: &Arguments, until: Seconds) -> Result<Grant> {
    import::check_common(fields)?;
    let subject: Subject = fields.text("for").parse()?;
    let source = source(fields.text("from"))?;
    Ok(Grant { subject: subject.key(), source, until, note: fields.note(), ..Grant::default() })
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
