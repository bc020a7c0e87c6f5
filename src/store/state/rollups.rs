//! Roll-ups of the tally: by day and account, by hour and country.
//!
//! Sizes are bounded because outsiders choose names and places: names beyond [`MOST_ACCOUNTS`] and rows
//! beyond [`MOST_ROWS_A_DAY`] are counted under "everybody else" (account 0).

use crate::clock::Seconds;
use crate::country::Country;
use crate::request::{Door, Service};
use crate::tally::{self, Entry};
use rusqlite::{Connection, OptionalExtension, Result, Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Names that get a number of their own.
pub const MOST_ACCOUNTS: i64 = 200_000;

/// Rows of one day after which names are no longer told apart.
pub const MOST_ROWS_A_DAY: i64 = 200_000;

/// Days that `login_day` keeps.
const DAYS: i64 = 35;

/// Days that `traffic_hour` keeps.
const TRAFFIC_DAYS: i64 = 400;

type DayKey = (i64, String, String, String, String, String);
type HourKey = (i64, &'static str, String, String, &'static str);

/// Counts of one tally file, in memory.
#[derive(Default)]
struct Counts {
    days: BTreeMap<DayKey, i64>,
    hours: BTreeMap<HourKey, i64>,
    doors: HashMap<(String, String), Seconds>,
}

/// Folds the lines of one file, named so that it is never folded twice. Times outside of what is kept are
/// taken for now.
pub fn fold(t: &Transaction, file: &str, text: &str, now: Seconds) -> Result<()> {
    let fresh = t.execute("INSERT OR IGNORE INTO folded(file, at) VALUES (?1, ?2)", params![file, now])?;
    if fresh == 0 {
        return Ok(());
    }
    let mut counts = Counts::default();
    for entry in text.lines().filter_map(tally::parse).filter(known_words) {
        counts.add(&entry, now);
    }
    counts.write(t)
}

/// Only words that this program itself writes become rows.
fn known_words(entry: &Entry) -> bool {
    let letters = |w: &str| w.len() <= 32 && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    Door::ALL.iter().any(|d| d.name() == entry.door)
        && Service::named(entry.service).name() == entry.service
        && (entry.country.is_empty() || entry.country.parse::<Country>().is_ok())
        && letters(entry.verdict)
        && letters(entry.reason)
}

impl Counts {
    fn add(&mut self, entry: &Entry, now: Seconds) {
        let at = if entry.at > now || entry.at < now - DAYS * 86_400 { now } else { entry.at };
        let seen = self.doors.entry((entry.door.into(), entry.service.into())).or_insert(at);
        *seen = at.max(*seen);
        for (direction, what) in columns(entry) {
            let key = (at / 3600, *direction, entry.service.to_string(), entry.country.to_string(), *what);
            *self.hours.entry(key).or_default() += 1;
            let key = (
                at / 86_400,
                entry.account.to_string(),
                entry.country.to_string(),
                entry.service.to_string(),
                (*what).to_string(),
                entry.reason.to_string(),
            );
            *self.days.entry(key).or_default() += 1;
        }
    }

    fn write(self, t: &Transaction) -> Result<()> {
        let mut accounts = Accounts::load(t)?;
        let mut upsert = t.prepare(
            "INSERT INTO login_day VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET n = n + excluded.n",
        )?;
        for ((day, account, country, service, verdict, reason), n) in self.days {
            let account = accounts.number(t, &account, day)?;
            upsert.execute(params![day, account, country, service, verdict, reason, n])?;
        }
        let mut upsert = t.prepare(
            "INSERT INTO traffic_hour VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET n = n + excluded.n",
        )?;
        for ((hour, direction, service, country, verdict), n) in self.hours {
            upsert.execute(params![hour, direction, service, country, verdict, n])?;
        }
        for ((name, service), last) in self.doors {
            t.execute(
                "INSERT INTO door VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
                params![name, service, last],
            )?;
        }
        Ok(())
    }
}

/// Under which heads a line counts: direction and what happened. A refused try is a try too.
fn columns(entry: &Entry) -> &'static [(&'static str, &'static str)] {
    match (entry.kind, entry.verdict) {
        ("try", "refuse") => &[("login", "tried"), ("login", "refused")],
        ("try", "would_refuse") => &[("login", "tried"), ("login", "would_refuse")],
        ("try", _) => &[("login", "tried")],
        ("use", "refuse") => &[("login", "refused")],
        ("use", "would_refuse") => &[("login", "would_refuse"), ("login", "succeeded")],
        ("success", _) => &[("login", "succeeded")],
        ("send", "allow") => &[("outbound", "sent")],
        ("send", "hold") => &[("outbound", "held")],
        ("send", "refuse") => &[("outbound", "refused")],
        ("send", "would_refuse") => &[("outbound", "sent"), ("outbound", "would_refuse")],
        _ => &[],
    }
}

/// Numbers of accounts, with the caps.
struct Accounts {
    left: i64,
    rows: HashMap<i64, i64>,
}

impl Accounts {
    fn load(t: &Transaction) -> Result<Accounts> {
        let known: i64 = t.query_row("SELECT count(*) FROM account", [], |row| row.get(0))?;
        Ok(Accounts { left: MOST_ACCOUNTS - known, rows: HashMap::new() })
    }

    fn number(&mut self, t: &Transaction, name: &str, day: i64) -> Result<i64> {
        if !self.rows.contains_key(&day) {
            let n = t.query_row("SELECT count(*) FROM login_day WHERE day = ?1", [day], |row| row.get(0))?;
            self.rows.insert(day, n);
        }
        let rows = self.rows.entry(day).or_default();
        *rows += 1;
        if name.is_empty() || *rows > MOST_ROWS_A_DAY {
            return Ok(0);
        }
        let known = t
            .prepare_cached("SELECT id FROM account WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        match known {
            Some(id) => Ok(id),
            None if self.left <= 0 => Ok(0),
            None => {
                self.left -= 1;
                t.execute("INSERT INTO account(name) VALUES (?1)", [name])?;
                Ok(t.last_insert_rowid())
            }
        }
    }
}

/// Forgets what is older than it is kept for, and names that no row speaks of any more.
pub fn prune(t: &Transaction, now: Seconds) -> Result<()> {
    let old_days = t.execute("DELETE FROM login_day WHERE day < ?1", [now / 86_400 - DAYS])?;
    t.execute("DELETE FROM traffic_hour WHERE hour < ?1", [(now / 86_400 - TRAFFIC_DAYS) * 24])?;
    t.execute("DELETE FROM folded WHERE at < ?1", [now - 86_400])?;
    if old_days > 0 {
        t.execute("DELETE FROM account WHERE id NOT IN (SELECT account FROM login_day)", [])?;
    }
    Ok(())
}

/// Figures of one country.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// `login` or `outbound`.
    pub direction: String,
    /// The service.
    pub service: String,
    /// The country's code; empty where unknown.
    pub country: String,
    /// `tried`, `refused`, `would_refuse`, `succeeded`; `sent`, `held`.
    pub verdict: String,
    /// How many.
    pub n: i64,
}

/// Figures by country and service since this time.
pub fn by_country(db: &Connection, since: Seconds) -> Result<Vec<Figure>> {
    db.prepare(
        "SELECT direction, service, country, verdict, sum(n) FROM traffic_hour WHERE hour >= ?1
         GROUP BY direction, service, country, verdict ORDER BY direction, country, service, verdict",
    )?
    .query_map([since / 3600], |row| {
        Ok(Figure {
            direction: row.get(0)?,
            service: row.get(1)?,
            country: row.get(2)?,
            verdict: row.get(3)?,
            n: row.get(4)?,
        })
    })?
    .collect()
}

/// When each door asked last: name, service, time.
pub fn doors(db: &Connection) -> Result<Vec<(String, String, Seconds)>> {
    db.prepare("SELECT name, service, last FROM door ORDER BY name, service")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}
