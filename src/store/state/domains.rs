//! Figures by domain, for whoever has many accounts: an owner's or a reseller's statistics are sums over his domains
//! (a local user counts as one), and each domain's rows hold all days in one place.
//!
//! Outsiders choose names and places here as they do for accounts: domains beyond those that [`names`] remembers have
//! no rows, and a country or service that a domain has not had yet gets one only while there is room. What gets none
//! is counted for nobody here, and in the figures by country all the same.

use super::figures::{AccountFigure, Span, Sums};
use super::names::{self, Numbers};
use super::packed::{Packed, add_span};
use super::rollups::{COLUMNS, Retention, Room, SENT, SUCCEEDED, Uses};
use super::{State, Unit, figures};
use crate::clock::Seconds;
use crate::error;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Rows of each of the two tables.
pub(super) const MOST_ROWS: i64 = 400_000;

/// Of these, rows that tell of no good login and no message, so that anybody can make them.
pub(super) const MOST_IDLE_ROWS: i64 = 100_000;

/// All the room there is.
pub(super) const ROOM: Room = Room { all: MOST_ROWS, idle: MOST_IDLE_ROWS };

/// A table by domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// By days.
    Days,
    /// By months.
    Months,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Table::Days => "domain_days",
            Table::Months => "domain_months",
        }
    }

    /// The table by account that it sums up, and its column of time.
    fn of_accounts(self) -> (&'static str, &'static str) {
        match self {
            Table::Days => ("account_day", "day"),
            Table::Months => ("account_month", "month"),
        }
    }

    /// In `meta`: from which day or month on figures by account are to be taken over.
    fn to_fill(self) -> &'static str {
        match self {
            Table::Days => "domain_days_from",
            Table::Months => "domain_months_from",
        }
    }

    /// The present day or month, and how many are kept.
    pub(super) fn kept(self, now: Seconds, retention: &Retention) -> (i64, i64) {
        let today = now / 86_400;
        match self {
            Table::Days => (today, retention.login_days),
            Table::Months => (figures::month_of(today), retention.login_months),
        }
    }
}

/// A row's key: domain, country, service.
pub(super) type Key<'a> = (i64, Cow<'a, str>, Cow<'a, str>);

/// What is to be put into rows: for each, figures by day or month.
pub(super) type News<'a> = BTreeMap<Key<'a>, BTreeMap<i64, Uses>>;

/// How the figures of a day come into a row that may have some of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// They are more of them.
    Add,
    /// They are all of them.
    Set,
}

/// Puts figures into the rows; those of rows for which there is no room are left out.
pub(super) fn put(t: &Unit, table: Table, news: &News, how: Put, kept: (i64, i64), room: Room) -> Result<()> {
    let name = table.name();
    let find =
        format!("SELECT last, uses, idle FROM {name} WHERE domain = ?1 AND country = ?2 AND service = ?3");
    let write = format!(
        "INSERT INTO {name} VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET last = excluded.last, idle = excluded.idle, uses = excluded.uses"
    );
    let mut rows = None;
    for ((domain, country, service), days) in news {
        let key = params![domain, country, service];
        let stored = t
            .prepare_cached(&find)?
            .query_row(key, |row| {
                let packed = Packed::read(row.get(0)?, row.get_ref(1)?.as_blob().unwrap_or_default());
                Ok((packed, row.get::<_, bool>(2)?))
            })
            .optional()?;
        let is_used = days.values().any(|uses| uses[SUCCEEDED] > 0 || uses[SENT] > 0);
        if stored.is_none() && !takes(t, name, &mut rows, !is_used, room)? {
            continue;
        }
        let (mut packed, was_idle) = stored.unwrap_or((Packed::default(), true));
        for (at, uses) in days {
            let Some(there) = packed.at(*at, kept.0, kept.1) else { continue };
            if how == Put::Set {
                *there = Uses::default();
            }
            there.iter_mut().zip(uses).for_each(|(sum, n)| *sum = sum.saturating_add(*n));
        }
        t.prepare_cached(&write)?.execute(params![
            domain,
            country,
            service,
            packed.last,
            was_idle && !is_used,
            packed.write()
        ])?;
    }
    Ok(())
}

/// Whether there is room for one more row, which is counted then. How many there are is counted along an index, and
/// only where a new row comes.
fn takes(t: &Unit, name: &str, rows: &mut Option<Room>, is_idle: bool, room: Room) -> Result<bool> {
    let count = |sql: String| t.query_row(&sql, [], |row| row.get::<_, i64>(0));
    let there = match rows {
        Some(there) => there,
        None => rows.insert(Room {
            all: count(format!("SELECT count(*) FROM {name}"))?,
            idle: count(format!("SELECT count(*) FROM {name} WHERE idle = 1"))?,
        }),
    };
    let fits = there.all < room.all && (!is_idle || there.idle < room.idle);
    there.all += i64::from(fits);
    there.idle += i64::from(fits && is_idle);
    Ok(fits)
}

/// Domains up to which the rows of each are looked up; more are met on a walk through all rows.
const FEW: usize = 2_000;

const OF_ONE: &str = "SELECT country, service, last, uses FROM";

/// These domains' figures together, by country and service. None where the figures are not all there yet: then those
/// by account tell.
pub(super) fn of_domains(
    db: &Connection,
    domains: &Numbers,
    span: Span,
) -> Result<Option<Vec<AccountFigure>>> {
    let (table, first_last) = match span {
        Span::Days(first, last) => (Table::Days, (first, last)),
        Span::Months(first, last) => (Table::Months, (first, last)),
    };
    if to_fill(db, table)?.is_some() {
        return Ok(None);
    }
    let mut sums = Sums::default();
    let mut add = |row: &rusqlite::Row| -> Result<()> {
        let sum = sums.of(row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        add_span(sum, row.get(2)?, row.get_ref(3)?.as_blob().unwrap_or_default(), first_last);
        Ok(())
    };
    let name = table.name();
    if domains.len() > FEW {
        let mut statement =
            db.prepare_cached(&format!("SELECT country, service, last, uses, domain FROM {name}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if domains.contains(row.get(4)?) {
                add(row)?;
            }
        }
    } else {
        let mut statement = db.prepare_cached(&format!("{OF_ONE} {name} WHERE domain = ?1"))?;
        for domain in domains.iter() {
            let mut rows = statement.query([domain])?;
            while let Some(row) = rows.next()? {
                add(row)?;
            }
        }
    }
    let mut figures = sums.sorted();
    // A row may have nothing within the span.
    figures.retain(|figure| figure.uses.iter().any(|n| *n > 0));
    Ok(Some(figures))
}

/// Forgets rows of which nothing was heard for as long as figures are kept; `piece` of each table at once.
pub(super) fn prune(t: &Unit, now: Seconds, retention: &Retention, piece: i64) -> Result<()> {
    for table in [Table::Days, Table::Months] {
        let ((today, kept), name) = (table.kept(now, retention), table.name());
        let sql = format!(
            "DELETE FROM {name} WHERE (domain, country, service) IN
             (SELECT domain, country, service FROM {name} WHERE last < ?1 LIMIT ?2)"
        );
        t.execute(&sql, [today - kept + 1, piece])?;
    }
    Ok(())
}

fn to_fill(db: &Connection, table: Table) -> Result<Option<i64>> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    db.prepare_cached(sql)?.query_row([table.to_fill()], |row| row.get(0)).optional()
}

/// Names of a step of [`fill`].
const PIECE: i64 = 5_000;

/// How long is filled in one minute. What is left is done in the next.
const LONGEST: Duration = Duration::from_secs(60);

/// Takes the figures by account that were there before there were any by domain, a day at a time; others wait for the
/// state no longer than that takes, and have it for as long in between. Tells whether all are there now.
///
/// A day's figures are set, not added: what is broken off is done again.
pub fn fill(state: &mut State, now: Seconds, retention: &Retention) -> error::Result<bool> {
    let end = Instant::now() + LONGEST;
    while Instant::now() < end {
        let begun = Instant::now();
        let goes_on = state.write(|t| fill_step(t, now, retention, PIECE))?;
        if !goes_on {
            return Ok(true);
        }
        std::thread::sleep(begun.elapsed());
    }
    Ok(false)
}

/// One step; whether there was anything to do.
fn fill_step(t: &Unit, now: Seconds, retention: &Retention, piece: i64) -> Result<bool> {
    if names::find_domains(t, piece)? {
        return Ok(true);
    }
    for table in [Table::Days, Table::Months] {
        let Some(from) = to_fill(t, table)? else { continue };
        let (name, at) = table.of_accounts();
        let sql = format!("SELECT min({at}) FROM {name} WHERE {at} >= ?1");
        match t.query_row(&sql, [from], |row| row.get::<_, Option<i64>>(0))? {
            Some(next) => {
                fill_one(t, table, next, table.kept(now, retention))?;
                t.execute("UPDATE meta SET value = ?2 WHERE key = ?1", params![table.to_fill(), next + 1])?;
            }
            None => {
                t.execute("DELETE FROM meta WHERE key = ?1", [table.to_fill()])?;
            }
        }
        return Ok(true);
    }
    Ok(false)
}

/// One day or month.
fn fill_one(t: &Unit, table: Table, at: i64, kept: (i64, i64)) -> Result<()> {
    let (name, column) = table.of_accounts();
    let sums: Vec<String> = COLUMNS.iter().map(|column| format!("total(f.{column})")).collect();
    let sql = format!(
        "SELECT a.domain, f.country, f.service, {} FROM {name} f JOIN account a ON a.id = f.account
         WHERE f.{column} = ?1 AND a.domain > 0 GROUP BY 1, 2, 3",
        sums.join(", ")
    );
    let mut news = News::new();
    let mut statement = t.prepare_cached(&sql)?;
    let mut rows = statement.query([at])?;
    while let Some(row) = rows.next()? {
        let mut uses = Uses::default();
        let text = |i| row.get::<_, String>(i).map(Cow::Owned);
        for (n, sum) in uses.iter_mut().enumerate() {
            *sum = figures::whole(row.get(n + 3)?);
        }
        news.entry((row.get(0)?, text(1)?, text(2)?)).or_default().insert(at, uses);
    }
    drop(rows);
    put(t, table, &news, Put::Set, kept, ROOM)
}

#[cfg(test)]
#[path = "domains_tests.rs"]
mod tests;
