//! Activity, the trail of changes, and statistics.

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::account::Account;
use crate::address::Address;
use crate::country::Country;
use crate::error::Result;
use crate::on_state::on_state;
use crate::store::state::activity::{self, Filter};
use crate::store::state::known_networks;
use crate::store::state::rollups::{self, Figure};
use crate::verdict::Reference;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What was refused, held, or would have been, newest first.
pub fn list_activity(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let days = given.number_within("days", 1, 400, 30)?;
    let filter = Filter {
        account: given.text("account").to_lowercase(),
        address: given
            .given("address")
            .map_or(Ok(String::new()), |a| a.parse::<Address>().map(|a| a.to_string()))?,
        reference: given
            .given("reference")
            .map_or(Ok(String::new()), |r| r.parse::<Reference>().map(|r| r.to_string()))?,
        reason: given.text("reason").into(),
        since: admin.call.now - days * 86_400,
        limit: given.number_within("limit", 1, 10_000, 100)?,
    };
    let rows = on_state(&admin.call.paths, |state| {
        state.read(|db| match &admin.theirs {
            Some(theirs) => activity::list_of(db, &filter, &|account| theirs.owns_key(account)),
            None => activity::list(db, &filter),
        })
    })?;
    Ok(json!(rows).into())
}

/// Who changed what, newest first.
pub fn list_audit(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let limit = given.number_within("limit", 1, 10_000, 100)?;
    Ok(json!(admin.settings()?.audit(limit)?).into())
}

fn figures(admin: &Admin, days: i64) -> Result<Vec<Figure>> {
    let since = admin.call.now - days * 86_400;
    on_state(&admin.call.paths, |state| {
        state.read(|db| match &admin.theirs {
            Some(theirs) => rollups::by_country_of(db, since, &|account| theirs.owns_key(account)),
            None => rollups::by_country(db, since),
        })
    })
}

/// Who is behind one country's figures, by account.
fn accounts_in(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let country = Country::from_name_or_code(given.text("country"))?.to_string();
    let since = admin.call.now - given.number_within("days", 1, 35, 30)? * 86_400;
    let limit = given.number_within("limit", 1, 10_000, 100)?;
    let rows = on_state(&admin.call.paths, |state| {
        state.read(|db| rollups::accounts_in(db, &country, since, limit, &|account| admin.may_see(account)))
    })?;
    Ok(json!(rows).into())
}

/// Figures by country: logins tried, refused and succeeded, messages sent, by service and in all.
pub fn country_statistics(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    if given.given("country").is_some() {
        return accounts_in(admin, given);
    }
    let figures = figures(admin, given.number_within("days", 1, 400, 30)?)?;
    let service = given.text("service");
    let mut rows: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for figure in figures.iter().filter(|f| service.is_empty() || f.service == service) {
        let row = rows.entry(figure.country.clone()).or_insert_with(|| first_columns(&figure.country));
        let column = match (figure.direction.as_str(), figure.verdict.as_str()) {
            ("outbound", "refused") => "messages_refused",
            ("outbound", "sent") => "messages_sent",
            ("outbound", "held") => "messages_held",
            ("outbound", _) => "messages_would_refuse",
            (_, other) => other,
        };
        let before = row.get(column).and_then(Value::as_i64).unwrap_or(0);
        row.insert(column.into(), json!(before + figure.n));
    }
    let mut rows: Vec<Map<String, Value>> = rows.into_values().collect();
    let weight = |row: &Map<String, Value>| -> i64 { row.values().filter_map(Value::as_i64).sum() };
    rows.sort_by_key(|row| std::cmp::Reverse(weight(row)));
    let data = json!({
        "rows": rows,
        "says": "tried, refused, would_refuse, succeeded and failed are logins; whose word counts for them is shown by `postern status`.",
    });
    Ok(data.into())
}

fn first_columns(code: &str) -> Map<String, Value> {
    let name = code.parse::<Country>().ok().and_then(|c| c.name()).unwrap_or("unknown, private or local");
    let mut row = Map::new();
    row.insert("country".into(), json!(code));
    row.insert("name".into(), json!(name));
    for column in
        ["tried", "refused", "would_refuse", "succeeded", "failed", "messages_sent", "messages_refused"]
    {
        row.insert(column.into(), json!(0));
    }
    row
}

/// From which networks a mailbox is used well, the latest first.
pub fn list_known_networks(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let account: Account = given.text("account").parse()?;
    let rows = on_state(&admin.call.paths, |state| state.read(|db| known_networks::of(db, &account)))?;
    Ok(json!(rows).into())
}

/// Successful logins by country.
pub fn successes(admin: &Admin, days: i64) -> Result<Vec<(String, i64)>> {
    let figures = figures(admin, days)?;
    let good = figures.into_iter().filter(|f| f.direction == "login" && f.verdict == "succeeded");
    Ok(good.map(|f| (f.country, f.n)).collect())
}
