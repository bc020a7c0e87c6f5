//! Figures by domain, for whoever has many accounts: an owner's or a reseller's statistics are sums over his domains
//! (a local user counts as one), and a domain's one row holds all countries, services and days.
//!
//! Outsiders choose names and places here as they do for accounts: domains beyond those that [`names`] remembers have
//! no row, and a country or service that a domain has not had yet gets an entry only while there is room. What gets
//! none is counted for nobody here, and in the figures by country all the same.

use super::by_place::{self, About, ByPlace};
use super::figures::{AccountFigure, Span, Sums};
use super::names::{self, Numbers};
use super::packed::{Packed, add_span};
use super::rollups::{COLUMNS, Retention, Room, SENT, SUCCEEDED, Uses};
use super::{State, Unit, account_places, figures};
use crate::clock::Seconds;
use crate::error;
use hashbrown::HashMap;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Entries of each of the two tables.
pub(super) const MOST_ENTRIES: i64 = 400_000;

/// Of these, entries that tell of no good login and no message, so that anybody can make them.
pub(super) const MOST_IDLE_ENTRIES: i64 = 100_000;

/// All the room there is.
pub(super) const ROOM: Room = Room { all: MOST_ENTRIES, idle: MOST_IDLE_ENTRIES };

/// The same for one domain: its row is written anew each time.
const ROOM_OF_ONE: Room = Room { all: 1_000, idle: 700 };

/// Longest row, in bytes. Nothing real is half as long; what would be longer stays as it was.
const LONGEST_ROW: usize = 800_000;

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
            Table::Days => "domain_by_day",
            Table::Months => "domain_by_month",
        }
    }

    /// The table of an older form, a row for each country and service.
    fn older(self) -> &'static str {
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

/// Puts figures into the rows; those of entries for which there is no room are left out.
pub(super) fn put(t: &Unit, table: Table, news: &News, how: Put, kept: (i64, i64), room: Room) -> Result<()> {
    let (mut counted, has_older) = (None, has_older(t, table)?);
    let news: Vec<(&Key, &BTreeMap<i64, Uses>)> = news.iter().collect();
    for of_one in news.chunk_by(|(a, _), (b, _)| a.0 == b.0) {
        let domain = of_one[0].0.0;
        let mut row = read(t, table, domain)?;
        let before = row.about();
        if has_older {
            take_older(t, table, domain, &mut row, kept)?;
        }
        for ((_, country, service), days) in of_one {
            let is_used = days.values().any(|uses| uses[SUCCEEDED] > 0 || uses[SENT] > 0);
            if !row.has(country, service) && !takes(t, table, &row, &mut counted, !is_used, room)? {
                continue;
            }
            row.change(country, service, |packed, is_idle| {
                *is_idle &= !is_used;
                for (at, uses) in *days {
                    let Some(there) = packed.at(*at, kept.0, kept.1) else { continue };
                    if how == Put::Set {
                        *there = Uses::default();
                    }
                    add(there, uses);
                }
            });
        }
        write(t, table, domain, &row, before)?;
    }
    Ok(())
}

fn add(sum: &mut Uses, more: &Uses) {
    sum.iter_mut().zip(more).for_each(|(sum, n)| *sum = sum.saturating_add(*n));
}

fn read(t: &Unit, table: Table, domain: i64) -> Result<ByPlace> {
    let row = t
        .prepare_cached(&format!("SELECT uses FROM {} WHERE domain = ?1", table.name()))?
        .query_row([domain], |row| Ok(ByPlace::read(row.get_ref(0)?.as_blob().unwrap_or_default())))
        .optional()?;
    Ok(row.unwrap_or_default())
}

/// Writes a row; `before` is what stood beside it, if there was one.
fn write(t: &Unit, table: Table, domain: i64, row: &ByPlace, before: Option<About>) -> Result<()> {
    let name = table.name();
    let Some(about) = row.about() else {
        t.prepare_cached(&format!("DELETE FROM {name} WHERE domain = ?1"))?.execute([domain])?;
        return Ok(());
    };
    let uses = row.blob();
    if uses.len() > LONGEST_ROW {
        return Ok(());
    }
    // Nearly always the index stays as it is.
    if before == Some(about) {
        t.prepare_cached(&format!("UPDATE {name} SET uses = ?2 WHERE domain = ?1"))?
            .execute(params![domain, uses])?;
        return Ok(());
    }
    t.prepare_cached(&format!(
        "INSERT INTO {name} VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET oldest = excluded.oldest, entries = excluded.entries, idle = excluded.idle,
         uses = excluded.uses"
    ))?
    .execute(params![domain, about.oldest, about.entries, about.idle, uses])?;
    Ok(())
}

/// Whether there is room for one more entry, which is counted then. How many there are is counted along an index, and
/// only where a new one comes.
fn takes(
    t: &Unit,
    table: Table,
    row: &ByPlace,
    counted: &mut Option<Room>,
    is_idle: bool,
    room: Room,
) -> Result<bool> {
    let there = match counted {
        Some(there) => there,
        None => {
            let sql = format!("SELECT total(entries), total(idle) FROM {}", table.name());
            let count = |row: &rusqlite::Row| {
                Ok(Room { all: figures::whole(row.get(0)?), idle: figures::whole(row.get(1)?) })
            };
            counted.insert(t.query_row(&sql, [], count)?)
        }
    };
    let of_one = row.about().map_or(Room { all: 0, idle: 0 }, |a| Room { all: a.entries, idle: a.idle });
    let fits = |there: &Room, room: Room| there.all < room.all && (!is_idle || there.idle < room.idle);
    let fits = fits(there, room) && fits(&of_one, ROOM_OF_ONE);
    there.all += i64::from(fits);
    there.idle += i64::from(fits && is_idle);
    Ok(fits)
}

/// Whether rows of the older form are there: from before, or from a program that knows no other.
fn has_older(db: &Connection, table: Table) -> Result<bool> {
    let sql = format!("SELECT EXISTS (SELECT 1 FROM {})", table.older());
    db.prepare_cached(&sql)?.query_row([], |row| row.get(0))
}

/// Adds a domain's rows of the older form to its row, and removes them.
fn take_older(t: &Unit, table: Table, domain: i64, row: &mut ByPlace, kept: (i64, i64)) -> Result<()> {
    let name = table.older();
    let mut statement = t.prepare_cached(&format!(
        "SELECT country, service, last, uses, idle FROM {name} WHERE domain = ?1"
    ))?;
    let mut rows = statement.query([domain])?;
    while let Some(older) = rows.next()? {
        let (country, service): (String, String) = (older.get(0)?, older.get(1)?);
        let days = Packed::read(older.get(2)?, older.get_ref(3)?.as_blob().unwrap_or_default());
        let is_full = row.about().is_some_and(|about| about.entries >= ROOM_OF_ONE.all);
        if is_full && !row.has(&country, &service) {
            continue;
        }
        let was_idle: bool = older.get(4)?;
        row.change(&country, &service, |packed, is_idle| {
            *is_idle &= was_idle;
            for (at, uses) in days.iter() {
                if let Some(there) = packed.at(at, kept.0, kept.1) {
                    add(there, uses);
                }
            }
        });
    }
    drop(rows);
    t.prepare_cached(&format!("DELETE FROM {name} WHERE domain = ?1"))?.execute([domain])?;
    Ok(())
}

/// Domains up to which the row of each is looked up; more are met on a walk through all rows.
const FEW: usize = 2_000;

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
    if to_fill(db, table)?.is_some() || has_older(db, table)? {
        return Ok(None);
    }
    // By the two names as they are stored: there are many entries, and few countries and services.
    let mut sums: HashMap<Vec<u8>, (String, String, Uses)> = HashMap::new();
    let mut add_row = |blob: &[u8]| {
        for entry in by_place::stored(blob) {
            let sum = match sums.get_mut(entry.names) {
                Some(sum) => sum,
                None => {
                    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let new = (name(entry.country), name(entry.service), Uses::default());
                    sums.entry(entry.names.into()).or_insert(new)
                }
            };
            add_span(&mut sum.2, entry.last, entry.uses, first_last);
        }
    };
    let name = table.name();
    if domains.len() > FEW {
        let mut statement = db.prepare_cached(&format!("SELECT domain, uses FROM {name}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if domains.contains(row.get(0)?) {
                add_row(row.get_ref(1)?.as_blob().unwrap_or_default());
            }
        }
    } else {
        let mut statement = db.prepare_cached(&format!("SELECT uses FROM {name} WHERE domain = ?1"))?;
        for domain in domains.iter() {
            let mut rows = statement.query([domain])?;
            while let Some(row) = rows.next()? {
                add_row(row.get_ref(0)?.as_blob().unwrap_or_default());
            }
        }
    }
    // An entry may have nothing within the span.
    let mut figures = Sums::default();
    for (country, service, uses) in sums.values().filter(|(_, _, uses)| uses.iter().any(|n| *n > 0)) {
        add(figures.of(country, service), uses);
    }
    Ok(Some(figures.sorted()))
}

/// Forgets entries of which nothing was heard for as long as figures are kept; in a `piece` of each table's rows at
/// most.
pub(super) fn prune(t: &Unit, now: Seconds, retention: &Retention, piece: i64) -> Result<()> {
    for table in [Table::Days, Table::Months] {
        let (today, kept) = table.kept(now, retention);
        let sql = format!("SELECT domain FROM {} WHERE oldest < ?1 LIMIT ?2", table.name());
        // A row takes longer than one that is removed as it is.
        for domain in numbers(t, &sql, &[today - kept + 1, (piece / 4).max(1)])? {
            let mut row = read(t, table, domain)?;
            row.retain(|last| last > today - kept);
            write(t, table, domain, &row, None)?;
        }
    }
    Ok(())
}

fn numbers(t: &Unit, sql: &str, values: &[i64]) -> Result<Vec<i64>> {
    t.prepare_cached(sql)?.query_map(rusqlite::params_from_iter(values), |row| row.get(0))?.collect()
}

fn to_fill(db: &Connection, table: Table) -> Result<Option<i64>> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    db.prepare_cached(sql)?.query_row([table.to_fill()], |row| row.get(0)).optional()
}

/// Names of a step of [`fill`].
const PIECE: i64 = 5_000;

/// How long is filled in one minute. What is left is done in the next.
const LONGEST: Duration = Duration::from_secs(60);

/// Takes the figures by account that were there before there were any by domain, a day at a time, and the rows of the
/// older form, some at a time; others wait for the state no longer than that takes, and have it for as long in
/// between. Tells whether all are there now.
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
    for table in [Table::Days, Table::Months] {
        let sql = format!("SELECT DISTINCT domain FROM {} LIMIT ?1", table.older());
        let domains = numbers(t, &sql, &[(piece / 4).max(1)])?;
        for domain in &domains {
            let (mut row, kept) = (read(t, table, *domain)?, table.kept(now, retention));
            take_older(t, table, *domain, &mut row, kept)?;
            write(t, table, *domain, &row, None)?;
        }
        if !domains.is_empty() {
            return Ok(true);
        }
    }
    account_places::take_older(t, Table::Days.kept(now, retention), piece)
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
