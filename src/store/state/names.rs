//! Numbers of accounts in the roll-ups, and how many names outsiders can make it remember.
//!
//! A name is *proven* by a login that succeeded or a message that left. Others may be anybody's invention: they
//! have a smaller share of the numbers and are forgotten with their days, so that no flood of them keeps a
//! mailbox from having its figures.

use super::known_networks;
use super::rollups::Retention;
use crate::clock::Seconds;
use rusqlite::{Connection, OptionalExtension, Result, Transaction, params};
use std::collections::{HashMap, HashSet};

/// Names that get a number of their own.
pub const MOST: i64 = 300_000;

/// Of these, names that are not proven.
pub const MOST_UNPROVEN: i64 = 100_000;

/// What is known of a name.
#[derive(Clone, Copy)]
struct Known {
    id: i64,
    last: i64,
    proven: i64,
}

/// The numbers, while a file is folded.
pub(super) struct Names {
    left: i64,
    left_unproven: i64,
    known: HashMap<String, Known>,
}

impl Names {
    /// With room for so many names, and so many that are not proven.
    pub(super) fn load(t: &Transaction, most: i64, most_unproven: i64) -> Result<Names> {
        let count = |sql: &str| t.query_row(sql, [], |row| row.get::<_, i64>(0));
        let all = count("SELECT count(*) FROM account")?;
        let unproven = count("SELECT count(*) FROM account WHERE proven = 0")?;
        Ok(Names { left: most - all, left_unproven: most_unproven - unproven, known: HashMap::new() })
    }

    /// The number of this name, which was heard of on this day, and whether the name is proven; 0 where it gets
    /// none.
    pub(super) fn number(
        &mut self,
        t: &Transaction,
        name: &str,
        day: i64,
        proves: bool,
    ) -> Result<(i64, bool)> {
        if name.is_empty() {
            return Ok((0, false));
        }
        let known = match self.known.get(name) {
            Some(known) => Some(*known),
            None => read(t, name)?,
        };
        let proven = if proves { day } else { 0 };
        let now = match known {
            Some(known) => {
                let now = Known { last: day.max(known.last), proven: proven.max(known.proven), ..known };
                if (now.last, now.proven) != (known.last, known.proven) {
                    t.prepare_cached("UPDATE account SET last = ?2, proven = ?3 WHERE id = ?1")?
                        .execute([now.id, now.last, now.proven])?;
                }
                now
            }
            None if self.left <= 0 || (!proves && self.left_unproven <= 0) => return Ok((0, false)),
            None => {
                self.left -= 1;
                self.left_unproven -= i64::from(!proves);
                t.prepare_cached("INSERT INTO account(name, last, proven) VALUES (?1, ?2, ?3)")?
                    .execute(params![name, day, proven])?;
                Known { id: t.last_insert_rowid(), last: day, proven }
            }
        };
        self.known.insert(name.into(), now);
        Ok((now.id, now.proven > 0))
    }
}

fn read(t: &Transaction, name: &str) -> Result<Option<Known>> {
    t.prepare_cached("SELECT id, last, proven FROM account WHERE name = ?1")?
        .query_row([name], |row| Ok(Known { id: row.get(0)?, last: row.get(1)?, proven: row.get(2)? }))
        .optional()
}

/// The number of an account, where it has one.
pub fn number_of(db: &Connection, name: &str) -> Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM account WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// The accounts that a key means: one, or those of a domain (`@example.org`), by the index that is made for it.
pub(super) fn numbers(db: &Connection, key: &str) -> Result<Vec<i64>> {
    let (sql, value) = match key.strip_prefix('@') {
        Some(domain) => (DOMAIN, domain),
        None => ("SELECT id FROM account WHERE name = ?1", key),
    };
    db.prepare_cached(sql)?.query_map([value], |row| row.get(0))?.collect()
}

pub(super) const DOMAIN: &str =
    "SELECT id FROM account WHERE substr(name, instr(name, '@') + 1) = ?1 AND instr(name, '@') > 0";

/// Keys up to which the accounts of each are looked up; more are found on a walk through all names.
const FEW: usize = 200;

/// Accounts that a caller may see, by number.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Every one, and everybody else too.
    All,
    /// These.
    These(HashSet<i64>),
}

impl Seen {
    /// Those of these keys (accounts, and `@` with a domain), of whose names `may_see` says the same.
    pub fn of(db: &Connection, keys: &[String], may_see: &dyn Fn(&str) -> bool) -> Result<Seen> {
        let mut these = HashSet::new();
        if keys.len() <= FEW {
            for key in keys {
                these.extend(numbers(db, key)?);
            }
            return Ok(Seen::These(these));
        }
        let mut statement = db.prepare("SELECT id, name FROM account")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if row.get_ref(1)?.as_str().is_ok_and(may_see) {
                these.insert(row.get(0)?);
            }
        }
        Ok(Seen::These(these))
    }

    /// Whether this account may be seen.
    pub fn holds(&self, account: i64) -> bool {
        match self {
            Seen::All => true,
            Seen::These(these) => these.contains(&account),
        }
    }
}

/// Forgets names that no row speaks of any more, `piece` of each kind at once. Two days more than the rows are
/// kept: a number that is given away again must not find any.
pub(super) fn prune(t: &Transaction, now: Seconds, retention: &Retention, piece: i64) -> Result<()> {
    let today = now / 86_400;
    // A program of an older version knows nothing of these columns.
    t.execute("UPDATE account SET last = ?1 WHERE last = 0 AND proven = 0", [today])?;
    t.execute(
        "DELETE FROM account WHERE id IN (SELECT id FROM account WHERE proven = 0 AND last < ?1 LIMIT ?2)",
        [today - retention.login_days - 2, piece],
    )?;
    let kept = (retention.login_months * 31).max(known_networks::DAYS).max(retention.login_days);
    t.execute(
        "DELETE FROM account WHERE id IN (SELECT id FROM account WHERE last < ?1 LIMIT ?2)",
        [today - kept - 2, piece],
    )?;
    Ok(())
}
