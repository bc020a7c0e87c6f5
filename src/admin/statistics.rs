//! Country Statistics, an account's own, and which countries to choose. All from the roll-ups: nothing here reads
//! what single events left.
//!
//! Days are whole days in UTC, today among them: `days=1` is today.

use super::arguments::Arguments;
use super::effect::{self, Whose};
use super::identity::Theirs;
use super::spreadsheet::rows_or_csv;
use super::{Admin, Outcome};
use crate::country::Country;
use crate::error::{Error, Result};
use crate::logs::batch::INBOUND;
use crate::on_state::on_state;
use crate::server_country;
use crate::store::settings::entries::codes;
use crate::store::state::figures::{self, AccountFigure, Figure, Span};
use crate::store::state::names::{Owned, Seen};
use crate::store::state::places::{self, Logins, Sum};
use crate::store::state::rollups::COLUMNS;
use crate::store::state::{State, names};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Logins that must have been seen before countries are suggested, and on how many days.
const ENOUGH: (i64, usize) = (100, 7);

/// The first of so many days that end today.
pub(super) fn since(admin: &Admin, days: i64) -> i64 {
    admin.call.now / 86_400 - days + 1
}

/// A day as the epoch second at which it begins.
pub(super) fn second(day: i64) -> i64 {
    day.saturating_mul(86_400)
}

/// The days for which figures by account are there, of those asked for.
pub(super) fn days_by_account(admin: &Admin, given: &Arguments) -> Result<i64> {
    let kept = admin.settings()?.settings()?.keep_login_days;
    let days = given.days_or(kept.min(30))?;
    if days <= kept {
        return Ok(days);
    }
    let accepted =
        format!("at most {kept}: figures by account and day are kept for so long (`keep_login_days`)");
    Err(Error::bad_value("The argument days", &days.to_string(), accepted))
}

/// The name of a country by its code, for people.
pub(super) fn name_of(code: &str) -> &'static str {
    code.parse::<Country>().ok().and_then(|c| c.name()).unwrap_or("unknown, private or local")
}

/// How many of a hundred, with two digits.
pub(super) fn share(part: i64, of: i64) -> f64 {
    if of <= 0 { 0.0 } else { (part as f64 * 10_000.0 / of as f64).round() / 100.0 }
}

/// The accounts that the caller may see.
pub(super) fn seen(admin: &Admin, db: &rusqlite::Connection) -> rusqlite::Result<Seen> {
    match &admin.theirs {
        Some(theirs) => Ok(Seen::These(names::accounts_of(db, &owned(theirs, &|key| theirs.owns_key(key)))?)),
        None => Ok(Seen::All),
    }
}

/// What is somebody's, for the state.
fn owned<'a>(theirs: &Theirs, holds: &'a dyn Fn(&str) -> bool) -> Owned<'a> {
    Owned { keys: theirs.few_keys(names::FEW), holds }
}

/// The span that by-account figures have of so many days: days as long as those are kept, else whole months.
fn span_by_account(admin: &Admin, days: i64) -> Result<Span> {
    let settings = admin.settings()?.settings()?;
    let (first, today) = (since(admin, days), admin.call.now / 86_400);
    if days <= settings.keep_login_days {
        return Ok(Span::Days(first, today));
    }
    let this_month = figures::month_of(today);
    let month = figures::month_of(first).max(this_month - settings.keep_login_months + 1);
    Ok(Span::Months(month, this_month))
}

/// What a span means, in a sentence.
fn says_span(span: Option<Span>) -> &'static str {
    match span {
        Some(Span::Months(..)) => {
            "Figures are by whole months, this one among them: by day they are kept for a shorter time."
        }
        _ => "Days are whole days (UTC), today among them.",
    }
}

/// Works on the open state and only reads.
pub(super) fn read<T: serde::Serialize + serde::de::DeserializeOwned>(
    admin: &Admin,
    work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
) -> Result<T> {
    on_state(&admin.call.paths, |state: &mut State| state.read(work))
}

/// Figures by country: logins tried, refused and succeeded, messages sent, by service and in all.
pub fn country_statistics(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    if given.given("country").is_some() {
        return of_country(admin, given);
    }
    let days = given.days_or(30)?;
    let (first, today) = (since(admin, days), admin.call.now / 86_400);
    let (direction, service) = (given.text("direction"), given.text("service"));
    // Figures by country alone say nothing of whose they are.
    let span = admin.theirs.as_ref().map(|_| span_by_account(admin, days)).transpose()?;
    let all = read(admin, |db| match (span, &admin.theirs) {
        (Some(span), Some(theirs)) => {
            figures::by_country_of(db, &owned(theirs, &|key| theirs.owns_key(key)), span)
        }
        _ => figures::by_country(db, first, today),
    })?;
    let wanted = |f: &&Figure| {
        (service.is_empty() || f.service == service)
            && match direction {
                "" | "all" => true,
                "logins" => f.direction == "login",
                other => f.direction == other,
            }
    };
    let figures: Vec<&Figure> = all.iter().filter(wanted).collect();
    let answer = json!({
        "days": days,
        "since": second(span.map_or(first, Span::since)),
        "logins": total(&figures, "login", "succeeded"),
        "messages": total(&figures, "outbound", "sent"),
        "inbound": total(&figures, INBOUND.0, INBOUND.1),
        "rows": by_country(&figures, direction),
        "says": says(direction, says_span(span)),
    });
    let mut outcome = rows_or_csv(given, answer, "rows")?;
    outcome.warnings = without_successes(&figures);
    Ok(outcome)
}

fn total(figures: &[&Figure], direction: &str, verdict: &str) -> i64 {
    let these = figures.iter().filter(|f| f.direction == direction && f.verdict == verdict);
    these.fold(0i64, |sum, f| sum.saturating_add(f.n))
}

const LOGINS: [&str; 5] = ["tried", "refused", "would_refuse", "succeeded", "failed"];
/// Messages: the verdict, the column of an account's figures, and the name in an answer.
const MESSAGES: [(&str, &str, &str); 4] = [
    ("sent", "sent", "messages_sent"),
    ("refused", "sending_refused", "messages_refused"),
    ("held", "held", "messages_held"),
    ("would_refuse", "sending_would_refuse", "messages_would_refuse"),
];

fn by_country(figures: &[&Figure], direction: &str) -> Vec<Value> {
    let (logins, messages) = (total(figures, "login", "succeeded"), total(figures, "outbound", "sent"));
    let inbound = total(figures, INBOUND.0, INBOUND.1);
    let mut countries: BTreeMap<&str, BTreeMap<(&str, &str), i64>> = BTreeMap::new();
    for figure in figures {
        let row = countries.entry(&figure.country).or_default();
        let n = row.entry((&figure.direction, &figure.verdict)).or_default();
        *n = n.saturating_add(figure.n);
    }
    let mut rows: Vec<([i64; 4], Value)> = Vec::new();
    for (code, counts) in countries {
        let n = |direction: &str, verdict: &str| counts.get(&(direction, verdict)).copied().unwrap_or(0);
        let mut row = Map::new();
        row.insert("code".into(), json!(code));
        row.insert("name".into(), json!(name_of(code)));
        if direction != "outbound" && direction != "inbound" {
            row.insert("share".into(), json!(share(n("login", "succeeded"), logins)));
            row.extend(LOGINS.map(|verdict| (verdict.to_string(), json!(n("login", verdict)))));
        }
        if direction == "inbound" {
            row.insert("inbound_share".into(), json!(share(n(INBOUND.0, INBOUND.1), inbound)));
        }
        if direction != "logins" && direction != "outbound" {
            row.insert("inbound".into(), json!(n(INBOUND.0, INBOUND.1)));
        }
        if direction != "logins" && direction != "inbound" {
            let sent = share(n("outbound", "sent"), messages);
            row.insert("messages_share".into(), json!(sent));
            row.extend(MESSAGES.map(|(verdict, _, name)| (name.to_string(), json!(n("outbound", verdict)))));
        }
        let weight =
            [("login", "succeeded"), ("outbound", "sent"), INBOUND, ("login", "tried")].map(|(d, v)| n(d, v));
        rows.push((weight, row.into()));
    }
    rows.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    rows.into_iter().map(|(_, row)| row).collect()
}

fn says(direction: &str, days: &str) -> String {
    let logins =
        "Shares are of the logins that succeeded; whose word counts for logins is shown by `postern status`.";
    let messages = "Shares of messages are of those sent; their country is that of the address from which the sender was logged in, and messages of local programs have none.";
    let inbound = "Inbound messages are those that came from outside without a login, by the country of the machine that handed them in; they are counted in the logs that `follow_logs` names and those that `postern learn` was given, and for nobody in particular.";
    match direction {
        "logins" => format!("{logins} {days}"),
        "outbound" => format!("{messages} {days}"),
        "inbound" => format!("{inbound} {days}"),
        _ => format!("{logins} {messages} {inbound} {days}"),
    }
}

/// Services whose logins were tried and not refused, and none of which is known to have succeeded.
fn without_successes(figures: &[&Figure]) -> Vec<String> {
    let mut services: BTreeMap<&str, [i64; 3]> = BTreeMap::new();
    for figure in figures.iter().filter(|f| f.direction == "login") {
        let place = ["tried", "refused", "succeeded"].iter().position(|v| *v == figure.verdict);
        if let Some(place) = place {
            let row = services.entry(&figure.service).or_default();
            row[place] = row[place].saturating_add(figure.n);
        }
    }
    let silent = services.into_iter().filter(|(_, [tried, refused, good])| tried > refused && *good == 0);
    silent
        .map(|(service, [tried, refused, _])| {
            format!(
                "{} logins of {service} were tried and not refused, and of none is it known that it succeeded: `postern status` shows whose word counts.",
                tried - refused
            )
        })
        .collect()
}

/// Who logged in well from one country, or from which networks there.
fn of_country(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let country = Country::from_name_or_code(given.text("country"))?;
    let days = days_by_account(admin, given)?;
    let since = since(admin, days);
    let limit = given.limit()? as usize;
    let by_network = given.text("by") == "network";
    if by_network && admin.theirs.is_some() {
        return Err(Error::NotAllowed(
            "Networks are told of all accounts together, and so to the administrator alone; `by=account` tells of accounts."
                .into(),
        ));
    }
    let (code, what) = (country.to_string(), if by_network { "network" } else { "account" });
    let (found, sum): (Vec<Logins<String>>, Sum) = read(admin, |db| match by_network {
        true => places::networks_in(db, &code, since, limit),
        false => places::accounts_in(db, &code, since, limit, &seen(admin, db)?),
    })?;
    let all = i64::try_from(sum.logins).unwrap_or(i64::MAX);
    let row = |l: &Logins<String>| {
        let share = share(i64::try_from(l.n).unwrap_or(i64::MAX), all);
        json!({ what: l.who, "logins": l.n, "share": share, "last": second(l.last) })
    };
    let answer = json!({
        "code": code,
        "name": country.name(),
        "days": days,
        "since": second(since),
        "logins": sum.logins,
        format!("{what}s"): sum.who,
        "rows": found.iter().map(row).collect::<Vec<_>>(),
        "says": format!(
            "Logins that succeeded, the most first; `last` is a day. Who was refused from there: `postern activity --country {code}`."
        ),
    });
    rows_or_csv(given, answer, "rows")
}

/// One account's own figures.
pub fn account_statistics(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let meant = admin.meant(given, "account")?;
    let account = admin.one_meant(given, "account")?;
    let settings = admin.settings()?.settings()?;
    let days = given.days_or(30)?;
    let span = span_by_account(admin, days)?;
    let oldest = admin.call.now / 86_400 - settings.keep_login_days + 1;
    let places_since = since(admin, days).max(oldest);
    let (rows, places): (Vec<AccountFigure>, Vec<Logins<String>>) = read(admin, |db| {
        let numbers = meant.iter().map(|account| names::number_of(db, account.name()));
        let Some(number) = numbers.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().next() else {
            return Ok(Default::default());
        };
        let rows = figures::of_accounts(db, &[number].into_iter().collect(), span)?;
        Ok((rows, places::countries_of(db, number, places_since)?))
    })?;
    let place = |l: &Logins<String>| json!({ "code": l.who, "name": name_of(&l.who), "logins": l.n, "last": second(l.last) });
    let answer = json!({
        "account": account.to_string(),
        "since": second(span.since()),
        "rows": rows.iter().map(account_row).collect::<Vec<_>>(),
        "countries_since": second(places_since),
        "countries": places.iter().map(place).collect::<Vec<_>>(),
        "says": format!("{} Countries are those of logins that succeeded; `last` is a day.", says_span(Some(span))),
    });
    rows_or_csv(given, answer, "rows")
}

fn account_row(figure: &AccountFigure) -> Value {
    let mut row = Map::new();
    row.insert("code".into(), json!(figure.country));
    row.insert("name".into(), json!(name_of(&figure.country)));
    row.insert("service".into(), json!(figure.service));
    let name = |column: &str| {
        MESSAGES.iter().find(|(_, of, _)| *of == column).map_or(column.into(), |m| m.2.to_string())
    };
    row.extend(COLUMNS.iter().zip(figure.uses).map(|(column, n)| (name(column), json!(n))));
    row.into()
}

/// The fewest countries that cover nearly all successful logins, and whom restricting to them would have refused.
pub fn suggest_countries(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let wanted = percent(given.given("percent").unwrap_or("99.5"))?;
    let days = days_by_account(admin, given)?;
    let (first, today) = (since(admin, days), admin.call.now / 86_400);
    let (figures, seen) = read(admin, |db| {
        Ok((figures::by_country(db, first, today)?, figures::days_with_logins(db, first, today)?))
    })?;
    let mut countries = successes(&figures);
    let unknown = countries.iter().filter(|(code, _)| code.is_none()).map(|(_, n)| n).sum::<i64>();
    countries.retain(|(code, _)| code.is_some());
    let all = countries.iter().fold(0i64, |sum, (_, n)| sum.saturating_add(*n));
    let (mut chosen, covered) = fewest(&countries, all, wanted);
    let settings = admin.settings()?.settings()?;
    let own = server_country::find(&admin.call.paths, &settings);
    let added = own.country.filter(|own| chosen.insert(*own));
    let enough = all >= ENOUGH.0 && seen >= ENOUGH.1;
    let (whose, limit) = (Whose::Server(chosen.clone()), given.limit()? as usize);
    let effect = effect::of_known(admin, &whose, days, limit, Some(&figures))?;
    let rows: Vec<Value> = countries
        .iter()
        .filter_map(|(code, n)| Some((code.as_ref()?, n)))
        .filter(|(code, _)| chosen.contains(code))
        .map(|(code, n)| json!({ "code": code, "name": code.name(), "logins": n, "share": share(*n, all) }))
        .chain(
            added
                .filter(|a| !countries.iter().any(|(c, _)| c.as_ref() == Some(a)))
                .map(|code| json!({ "code": code, "name": code.name(), "logins": 0, "share": 0.0 })),
        )
        .collect();
    let answer = json!({
        "enough": enough,
        "days": days,
        "since": second(first),
        "days_with_logins": seen,
        "logins": all,
        "logins_of_unknown_countries": unknown,
        "wanted_percent": wanted as f64 / 1000.0,
        "covered_percent": share(covered, all),
        "server_country": own.country,
        "countries": rows,
        "mailboxes_refused": effect.refused.sum.who,
        "logins_refused": effect.refused.sum.logins,
        "mailboxes": effect::mailbox_rows(&effect.refused),
        "command": enough.then(|| format!("postern countries set {}", codes(&chosen))),
        "says": match enough {
            true => said(&chosen, added, &effect, &own.sentence),
            false => format!(
                "Too few logins were seen to suggest countries: {all} that succeeded, on {seen} of the last {days} days; at least {} on {} days are wanted. Ask again later.",
                ENOUGH.0, ENOUGH.1
            ),
        },
    });
    rows_or_csv(given, answer, "mailboxes")
}

fn said(chosen: &BTreeSet<Country>, added: Option<Country>, effect: &effect::Effect, own: &str) -> String {
    let server = match added {
        Some(own) => format!(" {own} is the server's own country, and on the list for that."),
        None if own.starts_with("not known") => format!(" The server's own country is {own}"),
        None => String::new(),
    };
    format!(
        "These are the fewest countries: {}.{server} {} Set them with `postern countries set {}`, then watch with `postern settings set country_rule monitor`.",
        codes(chosen),
        effect.sentence(),
        codes(chosen)
    )
}

/// Successful logins by country, the most first; none for an address without a country.
fn successes(figures: &[Figure]) -> Vec<(Option<Country>, i64)> {
    let mut sums: BTreeMap<Option<Country>, i64> = BTreeMap::new();
    for figure in figures.iter().filter(|f| f.direction == "login" && f.verdict == "succeeded") {
        let sum = sums.entry(figure.country.parse().ok()).or_default();
        *sum = sum.saturating_add(figure.n);
    }
    let mut all: Vec<_> = sums.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all
}

/// As few countries as cover this share of the logins, in thousandths of a hundredth; and how many they cover.
/// The largest first is the fewest.
fn fewest(countries: &[(Option<Country>, i64)], all: i64, wanted: i64) -> (BTreeSet<Country>, i64) {
    let (mut chosen, mut covered) = (BTreeSet::new(), 0i64);
    for (country, n) in countries {
        if i128::from(covered) * 100_000 >= i128::from(all) * i128::from(wanted) {
            break;
        }
        chosen.extend(country);
        covered = covered.saturating_add(*n);
    }
    (chosen, covered)
}

/// A share in thousandths of a hundredth: 99.5 is 99,500.
fn percent(text: &str) -> Result<i64> {
    let number = text.trim_end_matches('%').trim().parse::<f64>().ok().filter(|p| (50.0..=100.0).contains(p));
    let number = number
        .ok_or_else(|| Error::bad_value("The argument percent", text, "a number from 50 to 100, as 99.5"))?;
    Ok((number * 1000.0).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn countries(list: &[(&str, i64)]) -> Vec<(Option<Country>, i64)> {
        list.iter().map(|(code, n)| (code.parse().ok(), *n)).collect()
    }

    #[test]
    fn the_fewest_countries_are_the_largest_ones() {
        let list = countries(&[("DE", 900), ("AT", 95), ("CH", 4), ("BR", 1)]);
        let chosen = |wanted| {
            let (chosen, covered) = fewest(&list, 1000, wanted);
            (codes(&chosen), covered)
        };
        assert_eq!(chosen(90_000), ("DE".into(), 900));
        assert_eq!(chosen(90_001), ("AT,DE".into(), 995));
        assert_eq!(chosen(99_500), ("AT,DE".into(), 995));
        assert_eq!(chosen(99_501), ("AT,CH,DE".into(), 999));
        assert_eq!(chosen(100_000), ("AT,BR,CH,DE".into(), 1000));
        assert_eq!(fewest(&[], 0, 99_500), (BTreeSet::new(), 0));
    }

    #[test]
    fn percentages_are_read_as_people_write_them() {
        for (text, wanted) in [("99.5", 99_500), ("100", 100_000), ("99.95 %", 99_950), ("50", 50_000)] {
            assert_eq!(percent(text).unwrap(), wanted, "{text}");
        }
        for bad in ["", "0", "49.9", "100.1", "NaN", "inf", "many", "-99"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_have_two_digits_and_nothing_is_divided_by_nothing() {
        assert_eq!((share(1, 3), share(2, 3), share(1, 1), share(5, 0)), (33.33, 66.67, 100.0, 0.0));
    }
}
