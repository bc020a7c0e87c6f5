//! Bans of an address by other products on this server, and what those ask before they count a failed login.

use super::arguments::Arguments;
use super::table::Scope;
use super::{Admin, Outcome};
use crate::address::Address;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::neighbours::{self, Ban, Found, NAMES};
use crate::on_state::on_state;
use crate::request::Door;
use crate::sources::sees_logins;
use crate::store::state::activity::{self, Event, Filter};
use crate::store::state::sightings;
use serde_json::{Value, json};

/// Genuine failures of an address within an hour from which on no line about it is spared.
const FAILURES_TO_SPEAK_OF: i64 = 3;

/// How long before the line in the log the refusal was, if nothing else is said, in seconds: Dovecot delays its answers.
const WITHIN: Seconds = 15;

/// Bans of this address by other products.
pub fn find_bans(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let found = neighbours::find(&admin.call.paths, address(given)?, &products(given)?, admin.call.now);
    Ok(told(found))
}

fn told(found: Found) -> Outcome {
    Outcome { warnings: found.troubles, ..Outcome::from(rows(&found.bans)) }
}

fn address(given: &Arguments) -> Result<Address> {
    given.text("address").parse()
}

/// The products that were named; all where none was.
fn products(given: &Arguments) -> Result<Vec<&str>> {
    let Some(named) = given.given("products") else { return Ok(NAMES.to_vec()) };
    let named: Vec<&str> = named.split(',').map(str::trim).collect();
    match named.iter().find(|name| !NAMES.contains(name)) {
        Some(unknown) => {
            Err(Error::bad_value("The product", unknown, format!("one of {}", NAMES.join(", "))))
        }
        None => Ok(named),
    }
}

fn rows(bans: &[Ban]) -> Value {
    let row = |ban: &Ban| {
        json!({
            "product": ban.product,
            "place": ban.place,
            "banned": ban.banned,
            "until": ban.until,
            "by_hand": ban.by_hand,
            "says": ban.says,
        })
    };
    json!(bans.iter().map(row).collect::<Vec<_>>())
}

/// Lifts bans of this address by other products, those apart that somebody made by hand.
pub fn lift_bans(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (address, products) = (address(given)?, products(given)?);
    let outcome = lift(admin, address, &products, given.text("reason"))?;
    if outcome.messages.is_empty() && outcome.warnings.is_empty() && outcome.failures.is_empty() {
        return Err(Error::NotFound(format!("No other product bans {address}.")));
    }
    Ok(outcome)
}

/// Lifts them and looks again; says what was lifted, what stands still, and what people put there.
pub(super) fn lift(admin: &Admin, address: Address, products: &[&str], reason: &str) -> Result<Outcome> {
    let paths = &admin.call.paths;
    let find = || neighbours::find(paths, address, products, admin.call.now);
    let before = find();
    let mut outcome = Outcome { warnings: before.troubles.clone(), ..Outcome::default() };
    for ban in before.bans.iter().filter(|ban| !ban.by_hand) {
        if let Err(e) = neighbours::lift(paths, address, ban) {
            outcome.warnings.push(e.to_string());
        }
    }
    let after = if before.bans.iter().any(|ban| !ban.by_hand) { find() } else { before.clone() };
    for ban in &before.bans {
        let Ban { product, place, banned, .. } = ban;
        let stands = after.bans.iter().any(|b| (b.product, &b.place, &b.banned) == (product, place, banned));
        if ban.by_hand {
            outcome.warnings.push(format!(
                "{product} bans {banned} because somebody wrote it into {place} ({}): take it off there.",
                ban.says
            ));
        } else if stands {
            outcome.failures.push(format!("{product} still bans {banned} ({place})."));
        } else {
            admin.note("lift_ban", &address.to_string(), &format!("{product} {place}: {banned}"), reason)?;
            outcome.messages.push(format!("{product} no longer bans {banned} ({place})."));
        }
    }
    Ok(Outcome { data: rows(&after.bans), ..outcome })
}

/// What other products ban of an address, for whoever may know it; nothing to others, and where there is no such product.
pub(super) fn seen(admin: &Admin, address: Address) -> Found {
    match admin.scope() {
        Scope::Root => neighbours::find(&admin.call.paths, address, &NAMES, admin.call.now),
        Scope::Reseller | Scope::Owner => Found::default(),
    }
}

/// Rows for an answer that has them in it.
pub(super) fn rows_of(found: &Found) -> Value {
    rows(&found.bans)
}

/// Whether a failed login in a log was a refusal of ours, told by the exit status: 0 yes, 1 no. For products that count
/// failed logins: what we refuse is no wrong password.
///
/// It was, where a login from this address was refused shortly before the line. But an address from which wrong
/// passwords came as well, three different ones within an hour, is spared nothing: else who is refused for one mailbox
/// could guess at another's.
pub fn was_refused(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (address, at) = (address(given)?, at(given, admin.call.now)?);
    let since = at - given.number("within")?.unwrap_or(WITHIN);
    let filter = Filter { address: address.to_string(), since, limit: 1000, ..Filter::default() };
    let now = admin.call.now;
    let (events, failures) = on_state(&admin.call.paths, |state| {
        state.read(|db| Ok((activity::list(db, &filter)?, sightings::failures_lately(db, address, now)?)))
    })?;
    // The log has whole seconds, and its clock is read after ours.
    let refused = events.iter().any(|event| is_refused_login(event) && event.first <= at + 1);
    let spared = refused && failures < FAILURES_TO_SPEAK_OF;
    let data = json!({ "refused": refused, "failures": failures, "spared": spared });
    Ok(Outcome { exit: Some(u8::from(!spared)), quiet: true, ..Outcome::from(data) })
}

/// The time of the line; fail2ban writes it with a fraction.
fn at(given: &Arguments, now: Seconds) -> Result<Seconds> {
    let Some(text) = given.given("at") else { return Ok(now) };
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    let bad = |_| Error::bad_value("The time", text, "give it in seconds since 1970, as 1795608000");
    whole.parse::<u32>().map(Seconds::from).map_err(bad)
}

fn is_refused_login(event: &Event) -> bool {
    event.verdict == "refuse" && Door::named(&event.door).is_some_and(sees_logins)
}
