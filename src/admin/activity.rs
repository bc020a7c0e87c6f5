//! Activity, the trail of changes, and networks that are known.

use super::arguments::Arguments;
use super::{Admin, Outcome, first_found, spreadsheet};
use crate::address::Address;
use crate::country::Country;
use crate::error::Result;
use crate::on_state::on_state;
use crate::store::state::activity::{self, Event, Filter};
use crate::store::state::known_networks;
use crate::verdict::{ADDRESS_BLOCKED, ADDRESS_BLOCKED_WORDS, Reference};
use serde_json::json;

/// What was refused, held, or would have been, newest first.
pub fn list_activity(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let days = given.days_or(30)?;
    let filter = Filter {
        account: String::new(),
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
        limit: given.limit()?.into(),
    };
    let look = |filter: &Filter| -> Result<Vec<Event>> {
        on_state(&admin.call.paths, |state| {
            state.read(|db| match &admin.theirs {
                Some(theirs) => activity::list_of(db, filter, &|account| theirs.owns_key(account)),
                None => activity::list(db, filter),
            })
        })
    };
    let rows = match given.given("account") {
        Some(_) => first_found(&admin.meant(given, "account")?, |account| {
            look(&Filter { account: account.name().into(), ..filter.clone() })
        })?,
        None => look(&filter)?,
    };
    let rows: Vec<Event> = rows.into_iter().map(|event| shown(admin, event)).collect();
    spreadsheet::or_csv(given, json!(rows))
}

/// The event as the caller may see it: the administrator's networks are named to nobody else.
pub(super) fn shown(admin: &Admin, event: Event) -> Event {
    match event.reason == ADDRESS_BLOCKED && admin.theirs.is_some() {
        true => Event { detail: ADDRESS_BLOCKED_WORDS.into(), ..event },
        false => event,
    }
}

/// Who changed what, newest first.
pub fn list_audit(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    Ok(json!(admin.settings()?.audit(given.limit()?.into())?).into())
}

/// From which networks a mailbox is used well, the latest first.
pub fn list_known_networks(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let rows = first_found(&admin.meant(given, "account")?, |account| {
        on_state(&admin.call.paths, |state| state.read(|db| known_networks::of(db, account)))
    })?;
    Ok(json!(rows).into())
}
