//! One change of the settings, with its row in the trail.

use crate::account::Subject;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::idn;
use crate::settings::Settings;
use crate::store::settings::entries::{self, Grant, ListEntry, ListName};
use rusqlite::{Connection, Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// A change in the making; dropped before it is committed, it never was.
pub struct Change<'a> {
    transaction: Transaction<'a>,
    path: PathBuf,
    who: String,
    now: Seconds,
    generation: i64,
    rows: usize,
    /// Entries and allowances that the reseller who changes has, once that was counted.
    pub(super) made_by_reseller: Option<i64>,
}

/// A row of the trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Its number.
    pub id: i64,
    /// When.
    pub at: Seconds,
    /// Who.
    pub who: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
    /// What was there before; empty: nothing.
    pub before: String,
    /// What is there now; empty: nothing.
    pub after: String,
    /// The generation that the change made.
    pub generation: i64,
}

impl<'a> Change<'a> {
    pub(super) fn begin(
        transaction: Transaction<'a>,
        path: PathBuf,
        who: &str,
        now: Seconds,
        expected: Option<i64>,
    ) -> Result<Change<'a>> {
        let current: i64 = transaction
            .query_row("SELECT value FROM meta WHERE key = 'generation'", [], |row| row.get(0))
            .map_err(Error::database("read", &path))?;
        match expected {
            Some(yours) if yours != current => Err(Error::Conflict { current, yours }),
            _ => Ok(Change {
                transaction,
                path,
                who: who.into(),
                now,
                generation: current + 1,
                rows: 0,
                made_by_reseller: None,
            }),
        }
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        if self.rows > 0 {
            self.transaction
                .execute("UPDATE meta SET value = ?1 WHERE key = 'generation'", [self.generation])?;
        }
        self.transaction.commit()
    }

    /// For `map_err`: what the caller asks of [`Change::connection`] fails as a change does.
    pub fn failed(&self) -> impl FnOnce(rusqlite::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Database { doing: "write to", path, source }
    }

    /// When.
    pub(super) fn now(&self) -> Seconds {
        self.now
    }

    /// Who changes.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// The settings as they are within the change.
    pub fn connection(&self) -> &Connection {
        &self.transaction
    }

    /// The generation that the change makes.
    pub fn generation(&self) -> i64 {
        self.generation
    }

    /// Makes the change a generation after this one at least.
    pub(super) fn go_on_from(&mut self, generation: i64) {
        self.generation = self.generation.max(generation.saturating_add(1));
    }

    /// How many rows the change has in the trail so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn trail(&mut self, action: &str, subject: &str, before: &str, after: &str) -> Result<()> {
        self.rows += 1;
        let failed = self.failed();
        let write = || {
            let sql = "INSERT INTO audit(at, who, action, subject, before, after, generation)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let row = params![self.now, self.who, action, subject, before, after, self.generation];
            self.transaction.prepare_cached(sql)?.execute(row)
        };
        write().map(|_| ()).map_err(failed)
    }

    /// Leaves a row in the trail for something that is not kept in the settings (a released stop).
    pub fn note(&mut self, action: &str, subject: &str, before: &str, after: &str) -> Result<()> {
        self.trail(action, subject, before, after)
    }

    /// Sets one setting; the value is checked by the table.
    pub fn set(&mut self, key: &str, text: &str) -> Result<()> {
        self.must_be_root("a setting")?;
        let mut checked = Settings::default();
        checked.set(key, text)?;
        let value = checked.pairs().remove(key).unwrap_or_default();
        let before = self.setting(key);
        self.transaction
            .execute("INSERT OR REPLACE INTO setting VALUES (?1, ?2)", [key, &value])
            .map_err(self.failed())?;
        self.trail("set_setting", key, &before, &value)
    }

    pub(super) fn setting(&self, key: &str) -> String {
        self.transaction
            .query_row("SELECT value FROM setting WHERE key = ?1", [key], |row| row.get(0))
            .unwrap_or_else(|_| Settings::default().pairs().remove(key).unwrap_or_default())
    }

    /// Adds or replaces an entry of a list, as the caller's own, its value as people write it. One that says the same
    /// already is left as it is, unless it is of somebody of a lower rank: then it becomes the caller's.
    pub fn add(&mut self, list: ListName, entry: &ListEntry) -> Result<()> {
        let value = list.checked(&entry.value)?;
        self.may_change_entry(list, &value)?;
        if list == ListName::UserExemption {
            self.may_lift_countries(&value)?;
        }
        let before = entries::one(&self.transaction, list, &value).map_err(self.failed())?;
        let entry = ListEntry { value, who: self.who.clone(), at: self.now, ..entry.clone() };
        let stands = |there: &ListEntry| there.says_the_same(&entry) && self.is_as_high(&there.who);
        if before.as_ref().is_some_and(stands) {
            return Ok(());
        }
        if before.as_ref().is_none_or(|there| there.who != self.who || !there.holds(self.now)) {
            self.has_room_for_one_more()?;
        }
        if let Some(opposite) = list.opposite()
            && entries::one(&self.transaction, opposite, &entry.value).map_err(self.failed())?.is_some()
        {
            self.remove_key(opposite, &entry.value)?;
        }
        self.put(list, before.as_ref(), &entry)
    }

    /// Lays an entry into a list exactly as it is given.
    pub(super) fn put(
        &mut self,
        list: ListName,
        before: Option<&ListEntry>,
        entry: &ListEntry,
    ) -> Result<()> {
        let failed = self.failed();
        let put = || {
            let sql = "INSERT OR REPLACE INTO entry(list, value, note, who, at, until, sending)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let ListEntry { value, note, who, at, until, sending } = entry;
            self.transaction.prepare_cached(sql)?.execute(params![
                list.name(),
                value,
                note,
                who,
                at,
                until,
                sending
            ])
        };
        put().map_err(failed)?;
        self.trail(&format!("add_{}", list.name()), &entry.value, &as_json(before), &as_json(Some(entry)))
    }

    /// Removes an entry of a list.
    pub fn remove(&mut self, list: ListName, value: &str) -> Result<()> {
        let mut value = list.checked(value)?;
        // One from before domains were kept in ASCII.
        if let Some(other) = idn::other_spelling(&value).filter(|_| list.is_of_subjects())
            && entries::one(&self.transaction, list, &value).map_err(self.failed())?.is_none()
            && entries::one(&self.transaction, list, &other).map_err(self.failed())?.is_some()
        {
            value = other;
        }
        self.may_change_entry(list, &value)?;
        self.remove_key(list, &value)
    }

    /// Removes the entry that stands under this key.
    pub(super) fn remove_key(&mut self, list: ListName, key: &str) -> Result<()> {
        let before = entries::one(&self.transaction, list, key).map_err(self.failed())?;
        if before.is_none() {
            return Err(Error::NotFound(format!("{key} is not on the list {}.", list.title())));
        }
        self.transaction
            .execute("DELETE FROM entry WHERE list = ?1 AND value = ?2", [list.name(), key])
            .map_err(self.failed())?;
        self.trail(&format!("remove_{}", list.name()), key, &as_json(before.as_ref()), "")
    }

    /// Sets the allowed countries of the server (no subject), a domain or a mailbox. `None` removes the
    /// list, so that the next level's holds; an empty one allows no country.
    pub fn set_countries(
        &mut self,
        subject: Option<&Subject>,
        countries: Option<&BTreeSet<Country>>,
    ) -> Result<()> {
        self.may_set_countries(subject, countries.is_some())?;
        if countries.is_some() {
            self.has_room_for_one_more()?;
        }
        let (who, now) = (self.who.clone(), self.now);
        self.set_countries_of(&entries::scope(subject), countries, (&who, now))
    }

    /// Sets the list of a scope as whose it is, and since when.
    pub(super) fn set_countries_of(
        &mut self,
        scope: &str,
        countries: Option<&BTreeSet<Country>>,
        (who, at): (&str, Seconds),
    ) -> Result<()> {
        let before = entries::countries_of(&self.transaction, scope).map_err(self.failed())?;
        self.transaction.execute("DELETE FROM country WHERE scope = ?1", [scope]).map_err(self.failed())?;
        self.transaction
            .execute("DELETE FROM country_list WHERE scope = ?1", [scope])
            .map_err(self.failed())?;
        if let Some(countries) = countries {
            self.transaction
                .execute("INSERT INTO country_list VALUES (?1, ?2, ?3)", params![scope, who, at])
                .map_err(self.failed())?;
            for code in countries {
                self.transaction
                    .execute("INSERT INTO country VALUES (?1, ?2)", [scope, &code.to_string()])
                    .map_err(self.failed())?;
            }
        }
        self.trail("set_countries", scope, &in_trail(before.as_ref()), &in_trail(countries))
    }

    /// Adds a temporary allowance; gives its number.
    pub fn allow(&mut self, grant: &Grant) -> Result<i64> {
        self.may_lift_countries(&grant.subject)?;
        self.has_room_for_allowance(&grant.subject)?;
        let next = "SELECT coalesce(max(id), 0) + 1 FROM
                    (SELECT max(id) AS id FROM allowance UNION SELECT value FROM meta WHERE key = 'last_allowance')";
        let id = self.transaction.query_row(next, [], |row| row.get(0)).map_err(self.failed())?;
        // A number is never given twice, so that whoever undoes something later undoes what he means.
        self.transaction
            .execute("INSERT OR REPLACE INTO meta VALUES ('last_allowance', ?1)", [id])
            .map_err(self.failed())?;
        self.put_grant(&Grant { id, who: self.who.clone(), at: self.now, ..grant.clone() })?;
        Ok(id)
    }

    /// Lays an allowance exactly as it is given.
    pub(super) fn put_grant(&mut self, grant: &Grant) -> Result<()> {
        let Grant { id, subject, source, until, note, who, at } = grant;
        self.transaction
            .execute(
                "INSERT INTO allowance(id, subject, source, until, note, who, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![id, subject, source, until, note, who, at],
            )
            .map_err(self.failed())?;
        self.trail("add_allowance", &grant.subject, "", &as_json(Some(grant)))
    }

    pub(super) fn grant(&self, id: i64) -> Result<Option<Grant>> {
        entries::allowance(&self.transaction, id).map_err(self.failed())
    }

    /// Removes a temporary allowance.
    pub fn disallow(&mut self, id: i64) -> Result<()> {
        let grant = self.grant(id)?;
        let grant = grant.ok_or_else(|| Error::NotFound(format!("There is no temporary allowance {id}.")))?;
        self.must_not_be_above(Some(&grant.who), &format!("Allowance {id}"))?;
        self.transaction.execute("DELETE FROM allowance WHERE id = ?1", [id]).map_err(self.failed())?;
        self.trail("remove_allowance", &grant.subject, &as_json(Some(&grant)), "")
    }
}

/// Codes of a list of countries; `-` for one that allows none, nothing where there is no list.
pub(super) fn in_trail(list: Option<&BTreeSet<Country>>) -> String {
    match list {
        None => String::new(),
        Some(list) if list.is_empty() => NONE_ALLOWED.into(),
        Some(list) => entries::codes(list),
    }
}

/// In the trail: a list that allows no country.
pub(super) const NONE_ALLOWED: &str = "-";

pub(super) fn as_json<T: Serialize>(value: Option<&T>) -> String {
    value.and_then(|v| serde_json::to_string(v).ok()).unwrap_or_default()
}

fn read_audit(row: &rusqlite::Row) -> rusqlite::Result<Audit> {
    Ok(Audit {
        id: row.get("id")?,
        at: row.get("at")?,
        who: row.get("who")?,
        action: row.get("action")?,
        subject: row.get("subject")?,
        before: row.get("before")?,
        after: row.get("after")?,
        generation: row.get("generation")?,
    })
}

pub(super) fn audit(db: &Connection, limit: i64) -> rusqlite::Result<Vec<Audit>> {
    db.prepare("SELECT * FROM audit ORDER BY id DESC LIMIT ?1")?.query_map([limit], read_audit)?.collect()
}

/// The rows of one change, in the order in which they were made.
pub(super) fn audit_of(db: &Connection, generation: i64) -> rusqlite::Result<Vec<Audit>> {
    let sql = "SELECT * FROM audit WHERE generation = ?1 ORDER BY id";
    db.prepare(sql)?.query_map([generation], read_audit)?.collect()
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
