//! Numbers of accounts and of domains in the roll-ups, and how many names outsiders can make it remember.
//!
//! A name is *proven* by a login that succeeded or a message that left. Others may be anybody's invention: they
//! have a smaller share of the numbers and are forgotten with their days, so that no flood of them keeps a
//! mailbox from having its figures.

use super::rollups::Retention;
use super::{Unit, known_networks};
use crate::clock::Seconds;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::collections::HashMap;

pub use super::numbers::Numbers;

/// Names that get a number of their own.
pub const MOST: i64 = 300_000;

/// Of these, names that are not proven.
pub const MOST_UNPROVEN: i64 = 100_000;

/// The same for domains, and local users, who count as one each.
pub const MOST_DOMAINS: i64 = 150_000;

/// Of these, domains that are not proven.
pub const MOST_UNPROVEN_DOMAINS: i64 = 50_000;

/// How many names get numbers: all of them, and those that are not proven.
#[derive(Clone, Copy)]
pub(super) struct Most {
    pub(super) all: i64,
    pub(super) unproven: i64,
}

/// As many accounts as get numbers.
pub(super) const ACCOUNTS: Most = Most { all: MOST, unproven: MOST_UNPROVEN };

/// As many domains as get numbers.
pub(super) const DOMAINS: Most = Most { all: MOST_DOMAINS, unproven: MOST_UNPROVEN_DOMAINS };

/// What an account belongs to, as a key: its domain as `@example.org`; a local user stands for himself. The same as
/// [`crate::account::Account`] and a panel's owners have it.
pub(super) fn domain_of(name: &str) -> &str {
    match name.rfind('@') {
        Some(at) if at + 1 < name.len() => &name[at..],
        _ => name,
    }
}

/// What is known of a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Its number; 0 where it gets none.
    pub(super) id: i64,
    last: i64,
    proven: i64,
}

impl Known {
    const NONE: Known = Known { id: 0, last: 0, proven: 0 };

    /// Whether the name is no invention.
    pub(super) fn is_proven(self) -> bool {
        self.proven > 0
    }
}

/// The numbers, while a file is folded.
pub(super) struct Names {
    accounts: Numbered,
    domains: Numbered,
}

impl Names {
    /// With room for so many names.
    pub(super) fn load(t: &Unit, accounts: Most, domains: Most) -> Result<Names> {
        Ok(Names {
            accounts: Numbered::load(t, "account", accounts)?,
            domains: Numbered::load(t, "domain", domains)?,
        })
    }

    /// The account of this name, which was heard of on this day, and its domain.
    pub(super) fn number(&mut self, t: &Unit, name: &str, day: i64, proves: bool) -> Result<(Known, Known)> {
        if name.is_empty() {
            return Ok((Known::NONE, Known::NONE));
        }
        let domain = self.domains.number(t, domain_of(name), day, proves, &|name, day, proven| {
            let sql = "INSERT INTO domain(name, last, proven) VALUES (?1, ?2, ?3)";
            t.prepare_cached(sql)?.execute(params![name, day, proven])
        })?;
        let account = self.accounts.number(t, name, day, proves, &|name, day, proven| {
            let sql = "INSERT INTO account(name, last, proven, domain) VALUES (?1, ?2, ?3, ?4)";
            t.prepare_cached(sql)?.execute(params![name, day, proven, domain.id])
        })?;
        Ok((account, domain))
    }
}

/// Lays a new name: with its day, and the day that proves it or 0.
type Lay<'a> = &'a dyn Fn(&str, i64, i64) -> Result<usize>;

/// One table of names.
struct Numbered {
    find: String,
    update: String,
    left: Most,
    known: HashMap<String, Known>,
}

impl Numbered {
    fn load(t: &Unit, table: &'static str, most: Most) -> Result<Numbered> {
        let count = |which: &str| {
            t.query_row(&format!("SELECT count(*) FROM {table} {which}"), [], |row| row.get::<_, i64>(0))
        };
        let left = Most { all: most.all - count("")?, unproven: most.unproven - count("WHERE proven = 0")? };
        let find = format!("SELECT id, last, proven FROM {table} WHERE name = ?1");
        let update = format!("UPDATE {table} SET last = ?2, proven = ?3 WHERE id = ?1");
        Ok(Numbered { find, update, left, known: HashMap::new() })
    }

    fn number(&mut self, t: &Unit, name: &str, day: i64, proves: bool, lay: Lay) -> Result<Known> {
        let remembered = self.known.get(name).copied();
        let known = match remembered {
            Some(known) => Some(known),
            None => self.read(t, name)?,
        };
        let proven = if proves { day } else { 0 };
        let now = match known {
            Some(known) => {
                let now = Known { last: day.max(known.last), proven: proven.max(known.proven), ..known };
                if now != known {
                    t.prepare_cached(&self.update)?.execute([now.id, now.last, now.proven])?;
                }
                now
            }
            None if self.left.all <= 0 || (!proves && self.left.unproven <= 0) => return Ok(Known::NONE),
            None => {
                self.left.all -= 1;
                self.left.unproven -= i64::from(!proves);
                lay(name, day, proven)?;
                Known { id: t.last_insert_rowid(), last: day, proven }
            }
        };
        if remembered != Some(now) {
            self.known.insert(name.into(), now);
        }
        Ok(now)
    }

    fn read(&self, t: &Unit, name: &str) -> Result<Option<Known>> {
        t.prepare_cached(&self.find)?
            .query_row([name], |row| Ok(Known { id: row.get(0)?, last: row.get(1)?, proven: row.get(2)? }))
            .optional()
    }
}

/// Finds the domains of accounts of which nobody looked for it yet, so many at once; whether there were any. They are
/// from before there were figures by domain, or from a program that knows nothing of them.
pub(super) fn find_domains(t: &Unit, piece: i64) -> Result<bool> {
    let sql = "SELECT id, name, last, proven FROM account WHERE domain IS NULL LIMIT ?1";
    let found: Vec<(i64, String, i64, i64)> = t
        .prepare_cached(sql)?
        .query_map([piece], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_>>()?;
    if found.is_empty() {
        return Ok(false);
    }
    let mut names = Names::load(t, ACCOUNTS, DOMAINS)?;
    for (id, name, last, proven) in found {
        let (_, domain) = names.number(t, &name, last, false)?;
        if proven > 0 {
            names.number(t, &name, proven, true)?;
        }
        t.prepare_cached("UPDATE account SET domain = ?2 WHERE id = ?1")?.execute([id, domain.id])?;
    }
    Ok(true)
}

/// The number of an account, where it has one.
pub fn number_of(db: &Connection, name: &str) -> Result<Option<i64>> {
    db.prepare_cached("SELECT id FROM account WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()
}

/// The accounts that a key means: one, or those of a domain (`@example.org`), by the index that is made for it.
pub(super) fn numbers(db: &Connection, key: &str) -> Result<Vec<i64>> {
    if !key.starts_with('@') {
        return Ok(number_of(db, key)?.into_iter().collect());
    }
    let mut of_domain = db.prepare_cached(DOMAIN)?;
    let mut all = of_domain.query_map([key], |row| row.get(0))?.collect::<Result<Vec<i64>>>()?;
    without_domain(db, &|name| domain_of(name) == key, |id| all.push(id))?;
    Ok(all)
}

pub(super) const DOMAIN: &str =
    "SELECT id FROM account WHERE domain = (SELECT id FROM domain WHERE name = ?1)";

/// Tells of each account that is meant and has no domain's number: hardly any.
fn without_domain(db: &Connection, is_meant: &dyn Fn(&str) -> bool, mut tell: impl FnMut(i64)) -> Result<()> {
    for sql in WITHOUT_DOMAIN {
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if row.get_ref(1)?.as_str().is_ok_and(is_meant) {
                tell(row.get(0)?);
            }
        }
    }
    Ok(())
}

pub(super) const WITHOUT_DOMAIN: [&str; 2] =
    ["SELECT id, name FROM account WHERE domain IS NULL", "SELECT id, name FROM account WHERE domain = 0"];

/// Keys up to which each is looked up; more are met on a walk through all domains.
pub const FEW: usize = 500;

/// What somebody owns.
pub struct Owned<'a> {
    /// Every key (accounts, and `@` with a domain), where they are [`FEW`] at most.
    pub keys: Option<Vec<String>>,
    /// Whether an account, or such a key, is his.
    pub holds: &'a dyn Fn(&str) -> bool,
}

/// The numbers of somebody's domains and local users.
pub fn domains_of(db: &Connection, owned: &Owned) -> Result<Numbers> {
    let mut these = Numbers::default();
    if let Some(keys) = &owned.keys {
        let mut one = db.prepare_cached("SELECT id FROM domain WHERE name = ?1")?;
        for key in keys {
            these.extend(one.query_row([key], |row| row.get(0)).optional()?);
        }
        return Ok(these);
    }
    let mut statement = db.prepare_cached("SELECT id, name FROM domain")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if row.get_ref(1)?.as_str().is_ok_and(owned.holds) {
            these.insert(row.get(0)?);
        }
    }
    Ok(these)
}

/// Domains up to which the accounts of each are looked up; more are met on a walk along the index.
const FEW_DOMAINS: usize = 2_000;

/// Accounts that a caller may see, by number.
#[derive(Clone, Debug)]
pub enum Seen {
    /// Every one, and everybody else too.
    All,
    /// These.
    These(Numbers),
}

/// The numbers of somebody's accounts.
pub fn accounts_of(db: &Connection, owned: &Owned) -> Result<Numbers> {
    let mut these = Numbers::default();
    if let Some(keys) = &owned.keys {
        for key in keys {
            these.extend(numbers(db, key)?);
        }
        return Ok(these);
    }
    let domains = domains_of(db, owned)?;
    if domains.len() <= FEW_DOMAINS {
        let mut statement = db.prepare_cached("SELECT id FROM account WHERE domain = ?1")?;
        for domain in domains.iter() {
            let mut rows = statement.query([domain])?;
            while let Some(row) = rows.next()? {
                these.insert(row.get(0)?);
            }
        }
    } else {
        let mut statement =
            db.prepare_cached("SELECT domain, id FROM account WHERE domain > 0 ORDER BY domain")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if domains.contains(row.get(0)?) {
                these.insert(row.get(1)?);
            }
        }
    }
    without_domain(db, owned.holds, |id| these.insert(id))?;
    Ok(these)
}

impl Seen {
    /// Whether this account may be seen.
    pub fn holds(&self, account: i64) -> bool {
        match self {
            Seen::All => true,
            Seen::These(these) => these.contains(account),
        }
    }
}

/// Forgets names that no row speaks of any more, `piece` of each kind at once. Two days more than the rows are
/// kept: a number that is given away again must not find any.
pub(super) fn prune(t: &Unit, now: Seconds, retention: &Retention, piece: i64) -> Result<()> {
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
    // A domain's number must not be given away while anything has it: it may become somebody else's.
    let unused = "NOT EXISTS (SELECT 1 FROM account WHERE domain = d.id)
         AND NOT EXISTS (SELECT 1 FROM domain_by_day WHERE domain = d.id)
         AND NOT EXISTS (SELECT 1 FROM domain_by_month WHERE domain = d.id)
         AND NOT EXISTS (SELECT 1 FROM domain_days WHERE domain = d.id)
         AND NOT EXISTS (SELECT 1 FROM domain_months WHERE domain = d.id)";
    for (which, oldest) in [("proven = 0 AND", today - retention.login_days - 2), ("", today - kept - 2)] {
        let sql = format!(
            "DELETE FROM domain WHERE id IN
             (SELECT id FROM domain d WHERE {which} last < ?1 AND {unused} LIMIT ?2)"
        );
        t.execute(&sql, [oldest, piece])?;
    }
    Ok(())
}
