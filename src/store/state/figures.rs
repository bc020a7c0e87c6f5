//! What the roll-ups say: by country, by account, by reason. No query reads what single events left, and each
//! goes along a key, so that a year of a large server is answered at once.

use super::domains;
use super::names::{self, Numbers, Owned, Seen};
use super::places::{self, Met, Refused};
use super::rollups::{COLUMNS, HEADS, Uses};
use chrono::{DateTime, Datelike, NaiveDate};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result, params};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The month in which a day lies, counted from year 0.
pub fn month_of(day: i64) -> i64 {
    let date = DateTime::from_timestamp(day.saturating_mul(86_400), 0).unwrap_or_default();
    i64::from(date.year()) * 12 + i64::from(date.month0())
}

/// The first day of a month.
pub fn first_day(month: i64) -> i64 {
    let year = i32::try_from(month.div_euclid(12)).unwrap_or(1970);
    let number = u32::try_from(month.rem_euclid(12)).unwrap_or(0) + 1;
    let date = NaiveDate::from_ymd_opt(year, number, 1).unwrap_or_default();
    date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp() / 86_400
}

/// Figures of one country.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// `login`, `outbound` or `inbound`.
    pub direction: String,
    /// The service.
    pub service: String,
    /// The country's code; empty where unknown.
    pub country: String,
    /// `tried`, `refused`, `would_refuse`, `succeeded`, `failed`; `sent`, `held`; `received`.
    pub verdict: String,
    /// How many.
    pub n: i64,
}

/// Days that lie in no month of their own, then whole months: first and last of each.
fn parts(since: i64, today: i64) -> ((i64, i64), (i64, i64)) {
    let this_month = month_of(today);
    // The month in which today lies is whole: nothing is later than today.
    let first = match month_of(since) {
        month if first_day(month) == since => month,
        month => month + 1,
    };
    match first <= this_month {
        true => ((since, first_day(first) - 1), (first, this_month)),
        false => ((since, today), (1, 0)),
    }
}

const BY_COUNTRY: &str =
    "SELECT direction, service, country, verdict, n FROM traffic_day WHERE day BETWEEN ?1 AND ?2
     UNION ALL
     SELECT direction, service, country, verdict, n FROM traffic_month WHERE month BETWEEN ?3 AND ?4";

/// Figures by country and service from this day to today.
pub fn by_country(db: &Connection, since: i64, today: i64) -> Result<Vec<Figure>> {
    let (days, months) = parts(since, today);
    let mut statement = db.prepare_cached(BY_COUNTRY)?;
    let mut rows = statement.query([days.0, days.1, months.0, months.1])?;
    // Summed up here: a month of days is some ten thousand rows, which the database would sort.
    let (mut sums, mut names): (hashbrown::HashMap<Vec<u8>, Figure>, _) = Default::default();
    while let Some(row) = rows.next()? {
        let [direction, service, country, verdict] =
            [text(row, 0)?, text(row, 1)?, text(row, 2)?, text(row, 3)?];
        let n = number(row, 4)?;
        joined(&mut names, [direction, service, country, verdict]);
        match sums.get_mut(&names) {
            Some(sum) => sum.n = sum.n.saturating_add(n),
            None => {
                let [direction, service, country, verdict] =
                    [direction, service, country, verdict].map(String::from);
                sums.insert(names.clone(), Figure { direction, service, country, verdict, n });
            }
        }
    }
    let mut figures: Vec<Figure> = sums.into_values().collect();
    figures.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
    Ok(figures)
}

fn text<'a>(row: &'a rusqlite::Row, column: usize) -> Result<&'a str> {
    Ok(row.get_ref(column)?.as_str()?)
}

/// These names as one key: each ends with a byte that is in no text.
fn joined(key: &mut Vec<u8>, names: [&str; 4]) {
    key.clear();
    for name in names {
        key.extend(name.as_bytes());
        key.push(0xff);
    }
}

/// What was counted. A sum of absurd numbers that somebody wrote into the state is no whole number any more.
fn number(row: &rusqlite::Row, column: usize) -> Result<i64> {
    Ok(match row.get_ref(column)? {
        ValueRef::Integer(n) => n,
        ValueRef::Real(n) => whole(n),
        _ => 0,
    })
}

/// A sum. Whoever writes absurd numbers into the state gets an absurd sum, and no error.
pub(super) fn whole(sum: f64) -> i64 {
    sum as i64
}

const SUCCESS_DAYS: &str = "SELECT day FROM traffic_day
     WHERE day BETWEEN ?1 AND ?2 AND direction = 'login' AND verdict = 'succeeded' GROUP BY day";

/// On how many days from this one to today logins succeeded.
pub fn days_with_logins(db: &Connection, since: i64, today: i64) -> Result<usize> {
    let days = db
        .prepare_cached(SUCCESS_DAYS)?
        .query_map([since, today], |row| row.get(0))?
        .collect::<Result<Vec<i64>>>()?;
    Ok(days.len())
}

/// Figures of one account in one country.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFigure {
    /// The country's code; empty where unknown.
    pub country: String,
    /// The service.
    pub service: String,
    /// How often, in the order of [`COLUMNS`].
    pub uses: Uses,
}

/// A span of time for which figures by account are there: first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Days since the epoch.
    Days(i64, i64),
    /// Whole months, counted from year 0.
    Months(i64, i64),
}

impl Span {
    /// The first day of it.
    pub fn since(self) -> i64 {
        match self {
            Span::Days(first, _) => first,
            Span::Months(first, _) => first_day(first),
        }
    }

    /// The table, and its column of time.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Span::Days(..) => ("account_day", "day"),
            Span::Months(..) => ("account_month", "month"),
        }
    }

    /// One account's rows of one day or month: one step along the table's key.
    fn sql_of_one(self) -> String {
        let (table, at) = self.names();
        format!(
            "SELECT country, service, {} FROM {table} WHERE {at} = ?1 AND account = ?2",
            COLUMNS.join(", ")
        )
    }

    /// All rows of it.
    fn sql_of_all(self) -> String {
        let (table, at) = self.names();
        format!(
            "SELECT country, service, {}, account FROM {table} WHERE {at} BETWEEN ?1 AND ?2",
            COLUMNS.join(", ")
        )
    }
}

/// Accounts up to which the rows of each are looked up; more are met on a walk through all rows.
const FEW: usize = 10_000;

/// Figures by country and service, in the making.
#[derive(Default)]
pub(super) struct Sums {
    places: HashMap<String, HashMap<String, usize>>,
    sums: Vec<(String, String, Uses)>,
}

impl Sums {
    /// The sum of a country and service.
    pub(super) fn of(&mut self, country: &str, service: &str) -> &mut Uses {
        // A name is copied once alone: there are many rows, and few countries and services.
        let place = match self.places.get(country).and_then(|services| services.get(service)) {
            Some(place) => *place,
            None => {
                self.sums.push((country.into(), service.into(), Uses::default()));
                let services = self.places.entry(country.into()).or_default();
                services.insert(service.into(), self.sums.len() - 1);
                self.sums.len() - 1
            }
        };
        &mut self.sums[place].2
    }

    /// Adds a row that begins with country, service and [`COLUMNS`].
    fn add(&mut self, row: &rusqlite::Row) -> Result<()> {
        let uses = self.of(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        for (n, use_) in uses.iter_mut().enumerate() {
            *use_ = use_.saturating_add(number(row, n + 2)?);
        }
        Ok(())
    }

    /// In the order of countries and services.
    pub(super) fn sorted(mut self) -> Vec<AccountFigure> {
        self.sums.sort_unstable();
        self.sums
            .into_iter()
            .map(|(country, service, uses)| AccountFigure { country, service, uses })
            .collect()
    }
}

/// These accounts' figures together, by country and service.
pub fn of_accounts(db: &Connection, accounts: &Numbers, span: Span) -> Result<Vec<AccountFigure>> {
    let (Span::Days(first, last) | Span::Months(first, last)) = span;
    let mut sums = Sums::default();
    if accounts.len() > FEW {
        let mut statement = db.prepare_cached(&span.sql_of_all())?;
        let mut rows = statement.query([first, last])?;
        while let Some(row) = rows.next()? {
            if accounts.contains(row.get(COLUMNS.len() + 2)?) {
                sums.add(row)?;
            }
        }
    } else {
        // In the order of the key, so that the next row is on the same page more often than not.
        let mut statement = db.prepare_cached(&span.sql_of_one())?;
        for at in first..=last {
            for account in accounts.iter() {
                let mut rows = statement.query([at, account])?;
                while let Some(row) = rows.next()? {
                    sums.add(row)?;
                }
            }
        }
    }
    Ok(sums.sorted())
}

/// The same as [`by_country`] of what somebody owns alone.
pub fn by_country_of(db: &Connection, owned: &Owned, span: Span) -> Result<Vec<Figure>> {
    let all = match domains::of_domains(db, &names::domains_of(db, owned)?, span)? {
        Some(figures) => figures,
        None => of_accounts(db, &names::accounts_of(db, owned)?, span)?,
    };
    let mut figures = Vec::new();
    for AccountFigure { country, service, uses } in all {
        for ((direction, verdict), n) in HEADS.into_iter().zip(uses).filter(|(_, n)| *n > 0) {
            let (direction, verdict) = (direction.into(), verdict.into());
            let (country, service) = (country.clone(), service.clone());
            figures.push(Figure { direction, service, country, verdict, n });
        }
    }
    figures.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(figures)
}

fn key(figure: &Figure) -> [&str; 4] {
    [&figure.direction, &figure.country, &figure.service, &figure.verdict]
}

const BY_REASON: &str = "SELECT account, country, n, day FROM login_day
     WHERE verdict = ?1 AND reason = ?2 AND day BETWEEN ?3 AND ?4";

/// Whom of those that may be seen these reasons refused (each with one of [`COLUMNS`], which says in which way) from
/// this day to today; `limit` of the accounts by name.
pub fn by_reasons(
    db: &Connection,
    reasons: &[(&str, &str)],
    (since, today): (i64, i64),
    limit: usize,
    seen: &Seen,
) -> Result<Refused> {
    let (mut met, mut countries, mut known) = (Vec::new(), Vec::new(), HashMap::new());
    let mut statement = db.prepare_cached(BY_REASON)?;
    for (verdict, reason) in reasons {
        let mut rows = statement.query(params![verdict, reason, since, today])?;
        while let Some(row) = rows.next()? {
            let account = row.get(0)?;
            if !seen.holds(account) {
                continue;
            }
            let code = row.get_ref(1)?.as_str().unwrap_or_default();
            let country = *known.entry(code.to_string()).or_insert_with_key(|code: &String| {
                countries.push(code.clone());
                countries.len() - 1
            });
            let n = row.get::<_, i64>(2)?.unsigned_abs();
            met.push(Met { account, country, n, last: row.get(3)? });
        }
    }
    places::sum_up(db, met, &countries, limit)
}

#[cfg(test)]
#[path = "figures_tests.rs"]
mod tests;
