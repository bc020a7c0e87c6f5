//! Activity, the trail of changes, and networks that are known.

use super::arguments::Arguments;
use super::{Admin, Outcome, spreadsheet};
use crate::account::Account;
use crate::address::Address;
use crate::country::Country;
use crate::error::Result;
use crate::on_state::on_state;
use crate::store::state::activity::{self, Filter};
use crate::store::state::known_networks;
use crate::verdict::Reference;
use serde_json::json;

/// What was refused, held, or would have been, newest first.
pub fn list_activity(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let days = given.number_within("days", 1, 400, 30)?;
    let filter = Filter {
        account: given.text("account").to_lowercase(),
        address: given
            .given("address")
            .map_or(Ok(String::new()), |a| a.parse::<Address>().map(|a| a.to_string()))?,
        country: given
            .given("country")
            .map_or(Ok(String::new()), |c| Country::from_name_or_code(c).map(|c| c.to_string()))?,
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
    spreadsheet::or_csv(given, json!(rows))
}

/// Who changed what, newest first.
pub fn list_audit(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let limit = given.number_within("limit", 1, 10_000, 100)?;
    Ok(json!(admin.settings()?.audit(limit)?).into())
}

/// From which networks a mailbox is used well, the latest first.
pub fn list_known_networks(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let account: Account = given.text("account").parse()?;
    let rows = on_state(&admin.call.paths, |state| state.read(|db| known_networks::of(db, &account)))?;
    Ok(json!(rows).into())
}
