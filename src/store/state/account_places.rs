//! In which countries accounts log in well, with how often on each of the last days: one row for a country and
//! [`OF_ROW`] accounts whose numbers follow each other, so that a walk through all accounts meets few rows.
//!
//! An entry of a row is: the account's place in it (a byte), its last day, the length of what follows, how often from
//! that day backwards; numbers as in [`super::packed`]. Entries stand in the order of accounts.

use super::Unit;
use super::packed::{Bytes, put};
use super::places::{Days, since_in};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use std::collections::{BTreeMap, BTreeSet};

/// Accounts of a row.
const OF_ROW: i64 = 32;

/// Countries that are walked through: more than there are, so that a forged state is no work without an end.
const MOST_COUNTRIES: usize = 1000;

/// An entry as stored: its first byte and the one after it, what it tells.
struct Stored<'a> {
    bytes: std::ops::Range<usize>,
    place: u8,
    last: i64,
    counts: &'a [u8],
}

/// The entries of a row. Whatever lies in the state makes some.
fn stored(blob: &[u8]) -> impl Iterator<Item = Stored<'_>> {
    let mut bytes = Bytes(blob);
    std::iter::from_fn(move || {
        let from = blob.len() - bytes.0.len();
        let place = bytes.take(1)?[0];
        let (last, length) = (bytes.number()?.cast_signed(), bytes.number()?);
        let counts = bytes.take(usize::try_from(length).ok()?)?;
        Some(Stored { bytes: from..blob.len() - bytes.0.len(), place, last, counts })
    })
}

impl Stored<'_> {
    /// How often since this day.
    fn since(&self, day: i64) -> u64 {
        let days = usize::try_from(self.last.saturating_sub(day).saturating_add(1)).unwrap_or(0);
        let mut counts = Bytes(self.counts);
        let counts = std::iter::from_fn(|| counts.number()).take(days.min(Days::MOST));
        counts.fold(0u64, u64::saturating_add)
    }

    fn days(&self) -> Days {
        let mut counts = Bytes(self.counts);
        let counts = std::iter::from_fn(|| counts.number()).take(Days::MOST);
        Days { last: self.last, counts: counts.map(|n| u32::try_from(n).unwrap_or(u32::MAX)).collect() }
    }
}

/// A row: which one, and its entries as stored.
struct Part<'a> {
    country: &'a str,
    part: i64,
    blob: Vec<u8>,
    /// Its number, and what stands beside it: the least last day, and how many entries.
    before: Option<(i64, i64, i64)>,
}

impl<'a> Part<'a> {
    fn read(t: &Unit, country: &'a str, part: i64) -> Result<Part<'a>> {
        let sql = "SELECT id, oldest, entries, days FROM account_place WHERE country = ?1 AND part = ?2";
        let mut statement = t.prepare_cached(sql)?;
        let found = statement
            .query_row(params![country, part], |row| {
                let blob = row.get_ref(3)?.as_blob().unwrap_or_default().to_vec();
                Ok((blob, (row.get(0)?, row.get(1)?, row.get(2)?)))
            })
            .optional()?;
        let (blob, before) = found.unzip();
        Ok(Part { country, part, blob: blob.unwrap_or_default(), before })
    }

    /// Changes the days of an account.
    fn change(&mut self, account: i64, make: impl FnOnce(&mut Days)) {
        let place = account.rem_euclid(OF_ROW) as u8;
        let end = stored(&self.blob).last().map_or(0, |entry| entry.bytes.end);
        self.blob.truncate(end);
        let found = stored(&self.blob).find(|entry| entry.place >= place);
        let (bytes, mut days) = match found {
            Some(entry) if entry.place == place => (entry.bytes.clone(), entry.days()),
            Some(next) => (next.bytes.start..next.bytes.start, Days::default()),
            None => (end..end, Days::default()),
        };
        make(&mut days);
        let mut counts = Vec::with_capacity(days.counts.len() + 8);
        days.counts.iter().for_each(|n| put(&mut counts, (*n).into()));
        let mut entry = vec![place];
        put(&mut entry, days.last.cast_unsigned());
        put(&mut entry, counts.len() as u64);
        entry.extend(counts);
        self.blob.splice(bytes, entry);
    }

    /// Drops the entries whose last day is not wanted; how many these are.
    fn drop_all(&mut self, is_wanted: impl Fn(i64) -> bool) -> i64 {
        let (mut left, mut n) = (Vec::with_capacity(self.blob.len()), 0);
        for entry in stored(&self.blob) {
            match is_wanted(entry.last) {
                true => left.extend(&self.blob[entry.bytes]),
                false => n += 1,
            }
        }
        self.blob = left;
        n
    }

    fn write(self, t: &Unit) -> Result<()> {
        let Some(oldest) = stored(&self.blob).map(|entry| entry.last).min() else {
            t.prepare_cached("DELETE FROM account_place WHERE country = ?1 AND part = ?2")?
                .execute(params![self.country, self.part])?;
            return Ok(());
        };
        let entries = stored(&self.blob).count() as i64;
        // Nearly always the index stays as it is.
        if let Some((id, ..)) = self.before.filter(|(_, was, n)| (*was, *n) == (oldest, entries)) {
            t.prepare_cached("UPDATE account_place SET days = ?2 WHERE id = ?1")?
                .execute(params![id, self.blob])?;
            return Ok(());
        }
        t.prepare_cached(
            "INSERT INTO account_place(country, part, oldest, entries, days) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET oldest = excluded.oldest, entries = excluded.entries, days = excluded.days",
        )?
        .execute(params![self.country, self.part, oldest, entries, self.blob])?;
        Ok(())
    }
}

/// Good logins: how many on which days, by country and account.
pub(super) type News<'a> = BTreeMap<(&'a str, i64), Vec<(i64, i64)>>;

/// Adds good logins.
pub(super) fn add(t: &Unit, news: &News, (today, kept): (i64, i64)) -> Result<()> {
    let has_older: bool = t.query_row("SELECT EXISTS (SELECT 1 FROM login_place)", [], |row| row.get(0))?;
    let news: Vec<_> = news.iter().map(|((country, account), days)| (*country, *account, days)).collect();
    let part_of = |account: i64| account.div_euclid(OF_ROW);
    for of_part in news.chunk_by(|a, b| a.0 == b.0 && part_of(a.1) == part_of(b.1)) {
        let (country, first, _) = of_part[0];
        let mut part = Part::read(t, country, part_of(first))?;
        for (_, account, of_days) in of_part {
            let older = if has_older { take_one_older(t, country, *account)? } else { None };
            part.change(*account, |days| {
                if let Some(older) = &older {
                    merge(days, older, (today, kept));
                }
                of_days.iter().for_each(|(day, n)| days.add(*day, *n, today, kept));
            });
        }
        part.write(t)?;
    }
    Ok(())
}

/// Removes a row of the older form; what it told.
fn take_one_older(t: &Unit, country: &str, account: i64) -> Result<Option<Days>> {
    let sql = "DELETE FROM login_place WHERE country = ?1 AND account = ?2 RETURNING last, days";
    t.prepare_cached(sql)?.query_row(params![country, account], older_days).optional()
}

/// A row of the older form, that begins with last day and days.
fn older_days(row: &Row) -> Result<Days> {
    Ok(Days::read(row.get(0)?, row.get_ref(1)?.as_blob().unwrap_or_default()))
}

/// Adds days to others.
fn merge(days: &mut Days, more: &Days, (today, kept): (i64, i64)) {
    if days.counts.is_empty() {
        *days = more.clone();
        return;
    }
    for (n, ago) in more.counts.iter().zip(0..).filter(|(n, _)| **n > 0) {
        days.add(more.last.saturating_sub(ago).min(today), (*n).into(), today, kept);
    }
}

/// Takes over so many rows of the older form; whether there were any. They are from before, or from a program that
/// knows no other.
pub(super) fn take_older(t: &Unit, kept: (i64, i64), piece: i64) -> Result<bool> {
    let sql = "SELECT last, days, country, account FROM login_place ORDER BY country, account LIMIT ?1";
    let found: Vec<(Days, String, i64)> = t
        .prepare_cached(sql)?
        .query_map([piece], |row| Ok((older_days(row)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_>>()?;
    let part_of = |(_, country, account): &(Days, String, i64)| (country.clone(), account.div_euclid(OF_ROW));
    for of_part in found.chunk_by(|a, b| part_of(a) == part_of(b)) {
        let (_, country, first) = &of_part[0];
        let mut part = Part::read(t, country, first.div_euclid(OF_ROW))?;
        for (older, _, account) in of_part {
            part.change(*account, |days| merge(days, older, kept));
        }
        part.write(t)?;
        let last = of_part.last().map_or(*first, |(_, _, account)| *account);
        t.prepare_cached("DELETE FROM login_place WHERE country = ?1 AND account BETWEEN ?2 AND ?3")?
            .execute(params![country, first, last])?;
    }
    Ok(!found.is_empty())
}

/// Tells of each account that logged in well from a country since this day: which, how many, the last day. Each once.
pub(super) fn visit(
    db: &Connection,
    country: &str,
    since: i64,
    mut tell: impl FnMut(i64, u64, i64),
) -> Result<()> {
    let mut statement = db.prepare_cached(BY_COUNTRY)?;
    let mut rows = statement.query([country])?;
    while let Some(row) = rows.next()? {
        let first = row.get::<_, i64>(0)?.saturating_mul(OF_ROW);
        for entry in stored(row.get_ref(1)?.as_blob().unwrap_or_default()) {
            let n = entry.since(since);
            if n > 0 {
                tell(first.saturating_add(entry.place.into()), n, entry.last);
            }
        }
    }
    let mut statement =
        db.prepare_cached("SELECT account, last, days FROM login_place WHERE country = ?1")?;
    let mut rows = statement.query([country])?;
    while let Some(row) = rows.next()? {
        let last = row.get(1)?;
        let n = since_in(last, row.get_ref(2)?.as_blob().unwrap_or_default(), since);
        if n > 0 {
            tell(row.get(0)?, n, last);
        }
    }
    Ok(())
}

pub(super) const BY_COUNTRY: &str = "SELECT part, days FROM account_place WHERE country = ?1 ORDER BY part";

/// Tells of each country in which an account logged in well since this day: which, how many, the last day. Each once.
pub(super) fn of_account(
    db: &Connection,
    account: i64,
    since: i64,
    mut tell: impl FnMut(String, u64, i64),
) -> Result<()> {
    let place = account.rem_euclid(OF_ROW);
    let mut statement = db.prepare_cached(BY_PART)?;
    let mut rows = statement.query([account.div_euclid(OF_ROW)])?;
    while let Some(row) = rows.next()? {
        let blob = row.get_ref(1)?.as_blob().unwrap_or_default();
        let found = stored(blob).find(|entry| i64::from(entry.place) == place);
        if let Some((n, last)) = found.map(|entry| (entry.since(since), entry.last)).filter(|(n, _)| *n > 0) {
            tell(row.get(0)?, n, last);
        }
    }
    let mut statement =
        db.prepare_cached("SELECT country, last, days FROM login_place WHERE account = ?1")?;
    let mut rows = statement.query([account])?;
    while let Some(row) = rows.next()? {
        let last = row.get(1)?;
        let n = since_in(last, row.get_ref(2)?.as_blob().unwrap_or_default(), since);
        if n > 0 {
            tell(row.get(0)?, n, last);
        }
    }
    Ok(())
}

pub(super) const BY_PART: &str = "SELECT country, days FROM account_place WHERE part = ?1";

/// The countries that have rows, each found by one step into the key; the unknown one comes last.
pub(super) fn countries(db: &Connection) -> Result<Vec<String>> {
    let (mut all, mut has_unknown) = (BTreeSet::new(), false);
    for (next, unknown) in NEXT_COUNTRY.into_iter().zip(UNKNOWN_COUNTRY) {
        let (mut next, mut at) = (db.prepare_cached(next)?, String::new());
        for _ in 0..MOST_COUNTRIES {
            let found: Option<String> = next.query_row([&at], |row| row.get(0)).optional()?;
            let Some(country) = found else { break };
            at.clone_from(&country);
            all.insert(country);
        }
        has_unknown |= db.query_row(unknown, [], |row| row.get::<_, bool>(0))?;
    }
    Ok(all.into_iter().chain(has_unknown.then(String::new)).collect())
}

pub(super) const NEXT_COUNTRY: [&str; 2] = [
    "SELECT country FROM account_place WHERE country > ?1 ORDER BY country LIMIT 1",
    "SELECT country FROM login_place WHERE country > ?1 ORDER BY country LIMIT 1",
];

const UNKNOWN_COUNTRY: [&str; 2] = [
    "SELECT EXISTS (SELECT 1 FROM account_place WHERE country = '')",
    "SELECT EXISTS (SELECT 1 FROM login_place WHERE country = '')",
];

/// Forgets accounts that were not used since this day, and those not used for the longest time beyond so many; in
/// `piece` rows at most.
pub(super) fn prune(t: &Unit, oldest: i64, most: i64, piece: i64) -> Result<()> {
    let rows = |sql: &str, values: [i64; 2]| -> Result<Vec<(String, i64, i64)>> {
        t.prepare_cached(sql)?.query_map(values, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
    };
    let old = "SELECT country, part, oldest FROM account_place WHERE oldest < ?1 ORDER BY oldest LIMIT ?2";
    // A row takes longer than one that is removed as it is.
    for (country, part, _) in rows(old, [oldest, (piece / 4).max(1)])? {
        let mut part = Part::read(t, &country, part)?;
        part.drop_all(|last| last >= oldest);
        part.write(t)?;
    }
    let entries = "SELECT total(entries) FROM account_place";
    let mut beyond = super::figures::whole(t.query_row(entries, [], |row| row.get(0))?) - most;
    for _ in 0..(piece / 4).max(1) {
        if beyond <= 0 {
            break;
        }
        for (country, part, least) in rows(old, [i64::MAX, 1])? {
            let mut part = Part::read(t, &country, part)?;
            // Where the number beside the row is forged, it is mended by the way.
            beyond -= part.drop_all(|last| last > least);
            part.write(t)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "account_places_tests.rs"]
mod tests;
