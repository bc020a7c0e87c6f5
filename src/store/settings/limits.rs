//! Further limits of sending, and other numbers for some, as they are stored.

use super::SettingsStore;
use super::changes::{self, Audit, Change};
use super::restore::{check_key, pairs};
use crate::account::Subject;
use crate::error::{Error, Result};
use crate::limit::{HIGHEST_ID, Limit, MOST_LIMITS, OUTBOUND, Override};
use rusqlite::{Connection, OptionalExtension};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Most numbers that one mailbox or domain has for one limit, one after the other.
const MOST_OVERRIDES: usize = 20;

const LIMIT: &str = "SELECT value FROM sending_limit WHERE name = ?1";
const OVERRIDES: &str = "SELECT value FROM limit_override WHERE subject = ?1 AND limit_name = ?2";

/// Actions in the trail.
pub(super) const SET_LIMIT: &str = "set_limit";
pub(super) const SET_OVERRIDE: &str = "set_limit_for";

/// What cannot be read, another version wrote: it is left alone.
fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn limit_text(db: &Connection, name: &str) -> rusqlite::Result<String> {
    let found = db.prepare_cached(LIMIT)?.query_row([name], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or_default())
}

/// The key is the subject's, a blank, and the limit's name: neither has a blank in it.
fn overrides_text(db: &Connection, key: &str) -> rusqlite::Result<String> {
    let found = db.prepare_cached(OVERRIDES)?.query_row(parts(key), |row| row.get(0)).optional()?;
    Ok(found.unwrap_or_default())
}

fn parts(key: &str) -> (&str, &str) {
    key.rsplit_once(' ').unwrap_or((key, OUTBOUND))
}

/// All limits, in the order in which they were made.
pub fn limits(db: &Connection) -> rusqlite::Result<Vec<Limit>> {
    let mut statement = db.prepare("SELECT value FROM sending_limit")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let mut limits: Vec<Limit> =
        rows.filter_map(|text| text.map(|t| read(&t)).transpose()).collect::<rusqlite::Result<_>>()?;
    limits.sort_by_key(|limit| limit.id);
    Ok(limits)
}

/// The other numbers, by the key of a mailbox, a local user or a domain.
pub fn overrides(db: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<Override>>> {
    let mut statement =
        db.prepare("SELECT subject, value FROM limit_override ORDER BY subject, limit_name")?;
    let mut rows = statement.query([])?;
    let mut all: BTreeMap<String, Vec<Override>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let more: Vec<Override> = read(row.get_ref(1)?.as_str()?).unwrap_or_default();
        all.entry(row.get(0)?).or_default().extend(more);
    }
    Ok(all)
}

/// Holds everything that is stored against what could be typed in, for settings out of a backup.
pub(super) fn check_stored(db: &Connection, failed: impl Fn(rusqlite::Error) -> Error) -> Result<()> {
    let mut limits: BTreeMap<String, Limit> = BTreeMap::new();
    for (name, text) in pairs(db, "SELECT name, value FROM sending_limit").map_err(&failed)? {
        let limit: Limit = typed(&text, "a limit as `postern limits list --json` shows it")?;
        limit.check()?;
        let is_taken = limits.values().any(|other| other.id == limit.id);
        if limit.name != name || !(1..=HIGHEST_ID).contains(&limit.id) || is_taken {
            return Err(Error::bad_value("The limit", &name, "one with a name and a number of its own"));
        }
        limits.insert(name, limit);
    }
    if limits.len() > MOST_LIMITS {
        return Err(Error::Data(format!("There are {} limits; at most {MOST_LIMITS} can be.", limits.len())));
    }
    let keyed = "SELECT subject || ' ' || limit_name, value FROM limit_override";
    for (key, text) in pairs(db, keyed).map_err(&failed)? {
        let (subject, name) = parts(&key);
        check_key(subject)?;
        let others: Vec<Override> = typed(&text, "a list of other numbers")?;
        for other in &others {
            other.check()?;
            let limit = limits.get(name);
            if other.limit != name || (name != OUTBOUND && limit.is_none()) || others.len() > MOST_OVERRIDES {
                return Err(Error::bad_value(
                    "Another number for the limit",
                    &key,
                    "one of a limit that there is",
                ));
            }
            if let Some(limit) = limit {
                let is_domain = matches!(Subject::typed(subject).parse()?, Subject::Domain(_));
                other.fits(limit, is_domain)?;
            }
        }
    }
    Ok(())
}

fn typed<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| Error::bad_value("The limit", text, what))
}

fn no_limit(name: &str) -> Error {
    Error::NotFound(format!("There is no limit {name:?}; `postern limits list` shows them."))
}

impl SettingsStore {
    /// All further limits of sending, in the order in which they are asked.
    pub fn limits(&self) -> Result<Vec<Limit>> {
        limits(&self.connection).map_err(self.failed("read"))
    }

    /// For whom other numbers hold.
    pub fn overrides(&self) -> Result<BTreeMap<String, Vec<Override>>> {
        overrides(&self.connection).map_err(self.failed("read"))
    }
}

impl Change<'_> {
    /// All limits as they are within the change.
    pub fn limits(&self) -> Result<Vec<Limit>> {
        limits(self.connection()).map_err(self.failed())
    }

    fn limit(&self, name: &str) -> Result<Option<Limit>> {
        Ok(read(&limit_text(self.connection(), name).map_err(self.failed())?))
    }

    /// Makes a limit, or changes the one of its name; one that says the same stays as it is. Gives it as it is then.
    pub fn set_limit(&mut self, limit: &Limit) -> Result<Limit> {
        self.must_be_root("the limits of sending")?;
        limit.check()?;
        let all = self.limits()?;
        let before = all.iter().find(|there| there.name == limit.name);
        if before.is_none() && all.len() >= MOST_LIMITS {
            return Err(Error::NotAllowed(format!(
                "There are {MOST_LIMITS} limits already, which is as many as there can be: remove one first."
            )));
        }
        let id = match before {
            Some(before) if before.counts_as(limit) => before.id,
            _ => self.next_limit_id(&all)?,
        };
        let says = |l: &Limit| Limit { id: 0, who: String::new(), at: 0, ..l.clone() };
        if let Some(before) = before.filter(|before| says(before) == says(limit)) {
            return Ok(before.clone());
        }
        let limit = Limit { id, who: self.who().into(), at: self.now(), ..limit.clone() };
        self.put_limit(&limit.name, &changes::as_json(Some(&limit)))?;
        Ok(limit)
    }

    /// Numbers are not given twice while there are others: what was counted for one must not hold for another.
    fn next_limit_id(&mut self, all: &[Limit]) -> Result<u16> {
        let sql = "SELECT coalesce((SELECT value FROM meta WHERE key = 'last_limit'), 0)";
        let last: i64 = self.connection().query_row(sql, [], |row| row.get(0)).map_err(self.failed())?;
        let is_free = |id: &u16| all.iter().all(|limit| limit.id != *id);
        let after = u16::try_from(last + 1).unwrap_or(1).clamp(1, HIGHEST_ID);
        let id = (after..=HIGHEST_ID).chain(1..=HIGHEST_ID).find(is_free).unwrap_or(1);
        self.connection()
            .execute("INSERT OR REPLACE INTO meta VALUES ('last_limit', ?1)", [id])
            .map_err(self.failed())?;
        Ok(id)
    }

    /// Removes a limit, and what is set otherwise for some.
    pub fn remove_limit(&mut self, name: &str) -> Result<()> {
        self.must_be_root("the limits of sending")?;
        if self.limit(name)?.is_none() {
            return Err(no_limit(name));
        }
        self.take_limit(name)
    }

    /// Nobody keeps a number of a limit that is no more.
    fn take_limit(&mut self, name: &str) -> Result<()> {
        let all = overrides(self.connection()).map_err(self.failed())?;
        for (subject, others) in all {
            if others.iter().any(|other| other.limit == name) {
                self.put_overrides(&format!("{subject} {name}"), "")?;
            }
        }
        self.put_limit(name, "")
    }

    fn put_limit(&mut self, name: &str, value: &str) -> Result<()> {
        let before = limit_text(self.connection(), name).map_err(self.failed())?;
        let done = match value {
            "" => self.connection().execute("DELETE FROM sending_limit WHERE name = ?1", [name]),
            _ => self
                .connection()
                .execute("INSERT OR REPLACE INTO sending_limit VALUES (?1, ?2)", [name, value]),
        };
        done.map_err(self.failed())?;
        self.trail(SET_LIMIT, name, &before, value)
    }

    /// Sets another number for a mailbox, a local user or a domain. One for the same times is replaced.
    pub fn set_override(&mut self, subject: &Subject, other: &Override) -> Result<()> {
        self.must_be_root("the limits of sending")?;
        other.check()?;
        if other.limit != OUTBOUND {
            let limit = self.limit(&other.limit)?.ok_or_else(|| no_limit(&other.limit))?;
            other.fits(&limit, matches!(subject, Subject::Domain(_)))?;
        }
        let key = format!("{} {}", subject.key(), other.limit);
        let mut others = self.overrides_at(&key)?;
        let now = self.now();
        others.retain(|there| {
            (there.from, there.until) != (other.from, other.until)
                && there.until.is_none_or(|until| now < until)
        });
        if others.len() >= MOST_OVERRIDES {
            return Err(Error::NotAllowed(format!(
                "{subject} has {MOST_OVERRIDES} numbers for the limit {} already: remove some first.",
                other.limit
            )));
        }
        others.push(Override { who: self.who().into(), at: now, ..other.clone() });
        self.put_overrides(&key, &changes::as_json(Some(&others)))
    }

    /// Makes these all the other numbers that stand under a subject's key for a limit.
    pub fn set_overrides(&mut self, key: &str, limit: &str, others: &[Override]) -> Result<()> {
        let subject: Subject = Subject::typed(key).parse()?;
        if !self.overrides_at(&format!("{key} {limit}"))?.is_empty() {
            self.remove_overrides(&subject, limit)?;
        }
        others.iter().try_for_each(|other| self.set_override(&subject, other))
    }

    /// Removes every other number of a mailbox, a local user or a domain for a limit.
    pub fn remove_overrides(&mut self, subject: &Subject, limit: &str) -> Result<()> {
        self.must_be_root("the limits of sending")?;
        let key = format!("{} {limit}", subject.key());
        if self.overrides_at(&key)?.is_empty() {
            return Err(Error::NotFound(format!(
                "{subject} has no number of its own for the limit {limit}."
            )));
        }
        self.put_overrides(&key, "")
    }

    fn overrides_at(&self, key: &str) -> Result<Vec<Override>> {
        Ok(read(&overrides_text(self.connection(), key).map_err(self.failed())?).unwrap_or_default())
    }

    fn put_overrides(&mut self, key: &str, value: &str) -> Result<()> {
        let before = overrides_text(self.connection(), key).map_err(self.failed())?;
        let (subject, limit) = parts(key);
        let done = match value {
            "" => self.connection().execute(
                "DELETE FROM limit_override WHERE subject = ?1 AND limit_name = ?2",
                [subject, limit],
            ),
            _ => self.connection().execute(
                "INSERT OR REPLACE INTO limit_override VALUES (?1, ?2, ?3)",
                [subject, limit, value],
            ),
        };
        done.map_err(self.failed())?;
        self.trail(SET_OVERRIDE, key, &before, value)
    }

    /// Takes back a row of the trail that is about limits.
    pub(super) fn take_back_limit(&mut self, row: &Audit) -> Result<()> {
        let text = if row.action == SET_LIMIT { limit_text } else { overrides_text };
        let now = text(self.connection(), &row.subject).map_err(self.failed())?;
        self.must_be(row, now == row.after)?;
        match row.action.as_str() {
            SET_LIMIT if row.before.is_empty() => self.take_limit(&row.subject),
            SET_LIMIT => self.put_limit(&row.subject, &row.before),
            _ => self.put_overrides(&row.subject, &row.before),
        }
    }
}

/// Lays the limits into new settings that a new server begins with: nobody chose them yet, so no change is in the trail.
pub(super) fn bring(db: &Connection) -> rusqlite::Result<()> {
    let brought = Limit::brought();
    for limit in &brought {
        let value = changes::as_json(Some(limit));
        db.execute("INSERT INTO sending_limit VALUES (?1, ?2)", [&limit.name, &value])?;
    }
    db.execute("INSERT INTO meta VALUES ('last_limit', ?1)", [i64::try_from(brought.len()).unwrap_or(0)])?;
    Ok(())
}
