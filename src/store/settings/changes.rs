//! One change of the settings, with its row in the trail.

use crate::account::Subject;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
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
    changed: bool,
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
                changed: false,
            }),
        }
    }

    pub(super) fn commit(self) -> rusqlite::Result<()> {
        if self.changed {
            self.transaction
                .execute("UPDATE meta SET value = ?1 WHERE key = 'generation'", [self.generation])?;
        }
        self.transaction.commit()
    }

    pub(super) fn failed(&self) -> impl FnOnce(rusqlite::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Database { doing: "write to", path, source }
    }

    /// Who changes.
    pub fn who(&self) -> &str {
        &self.who
    }

    /// The settings as they are within the change.
    pub fn connection(&self) -> &Connection {
        &self.transaction
    }

    fn trail(&mut self, action: &str, subject: &str, before: &str, after: &str) -> Result<()> {
        self.changed = true;
        self.transaction
            .execute(
                "INSERT INTO audit(at, who, action, subject, before, after, generation)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![self.now, self.who, action, subject, before, after, self.generation],
            )
            .map_err(self.failed())?;
        Ok(())
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
        let before: String = self
            .transaction
            .query_row("SELECT value FROM setting WHERE key = ?1", [key], |row| row.get(0))
            .unwrap_or_else(|_| Settings::default().pairs().remove(key).unwrap_or_default());
        self.transaction
            .execute("INSERT OR REPLACE INTO setting VALUES (?1, ?2)", [key, &value])
            .map_err(self.failed())?;
        self.trail("set_setting", key, &before, &value)
    }

    /// Adds or replaces an entry of a list.
    pub fn add(&mut self, list: ListName, entry: &ListEntry) -> Result<()> {
        let value = list.checked(&entry.value)?;
        self.may_change_entry(list, &value)?;
        if list == ListName::UserExemption {
            self.may_lift_countries(&value)?;
        }
        let before = entries::one(&self.transaction, list, &value).map_err(self.failed())?;
        let entry = ListEntry { value, who: self.who.clone(), at: self.now, ..entry.clone() };
        self.transaction
            .execute(
                "INSERT OR REPLACE INTO entry(list, value, note, who, at, until, sending)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    list.name(),
                    entry.value,
                    entry.note,
                    entry.who,
                    entry.at,
                    entry.until,
                    entry.sending
                ],
            )
            .map_err(self.failed())?;
        let action = format!("add_{}", list.name());
        self.trail(&action, &entry.value, &as_json(&before), &as_json(&Some(&entry)))
    }

    /// Removes an entry of a list.
    pub fn remove(&mut self, list: ListName, value: &str) -> Result<()> {
        let value = list.checked(value)?;
        self.may_change_entry(list, &value)?;
        let before = entries::one(&self.transaction, list, &value).map_err(self.failed())?;
        if before.is_none() {
            return Err(Error::NotFound(format!("{value} is not on the list {}.", list.title())));
        }
        self.transaction
            .execute("DELETE FROM entry WHERE list = ?1 AND value = ?2", [list.name(), &value])
            .map_err(self.failed())?;
        self.trail(&format!("remove_{}", list.name()), &value, &as_json(&before), "")
    }

    /// Sets the allowed countries of the server (no subject), a domain or a mailbox. `None` removes the
    /// list, so that the next level's holds; an empty one allows no country.
    pub fn set_countries(
        &mut self,
        subject: Option<&Subject>,
        countries: Option<&BTreeSet<Country>>,
    ) -> Result<()> {
        self.may_set_countries(subject, countries.is_some())?;
        let scope = entries::scope(subject);
        let before = entries::countries_of(&self.transaction, &scope).map_err(self.failed())?;
        self.transaction.execute("DELETE FROM country WHERE scope = ?1", [&scope]).map_err(self.failed())?;
        self.transaction
            .execute("DELETE FROM country_list WHERE scope = ?1", [&scope])
            .map_err(self.failed())?;
        if let Some(countries) = countries {
            self.transaction
                .execute("INSERT INTO country_list VALUES (?1, ?2, ?3)", params![scope, self.who, self.now])
                .map_err(self.failed())?;
            for code in countries {
                self.transaction
                    .execute("INSERT INTO country VALUES (?1, ?2)", [&scope, &code.to_string()])
                    .map_err(self.failed())?;
            }
        }
        let text = |list: Option<&BTreeSet<Country>>| list.map_or_else(String::new, entries::codes);
        self.trail("set_countries", &scope, &text(before.as_ref()), &text(countries))
    }

    /// Adds a temporary allowance; gives its number.
    pub fn allow(&mut self, grant: &Grant) -> Result<i64> {
        self.may_lift_countries(&grant.subject)?;
        let grant = Grant { who: self.who.clone(), at: self.now, ..grant.clone() };
        self.transaction
            .execute(
                "INSERT INTO allowance(subject, source, until, note, who, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![grant.subject, grant.source, grant.until, grant.note, grant.who, grant.at],
            )
            .map_err(self.failed())?;
        let id = self.transaction.last_insert_rowid();
        self.trail("add_allowance", &grant.subject, "", &as_json(&Some(&Grant { id, ..grant.clone() })))?;
        Ok(id)
    }

    /// Removes a temporary allowance.
    pub fn disallow(&mut self, id: i64) -> Result<()> {
        let all = entries::allowances(&self.transaction).map_err(self.failed())?;
        let grant = all.into_iter().find(|g| g.id == id);
        let grant = grant.ok_or_else(|| Error::NotFound(format!("There is no temporary allowance {id}.")))?;
        self.must_not_be_above(Some(&grant.who), &format!("Allowance {id}"))?;
        self.transaction.execute("DELETE FROM allowance WHERE id = ?1", [id]).map_err(self.failed())?;
        self.trail("remove_allowance", &grant.subject, &as_json(&Some(&grant)), "")
    }
}

fn as_json<T: Serialize>(value: &Option<T>) -> String {
    value.as_ref().and_then(|v| serde_json::to_string(v).ok()).unwrap_or_default()
}

pub(super) fn audit(db: &Connection, limit: i64) -> rusqlite::Result<Vec<Audit>> {
    db.prepare("SELECT * FROM audit ORDER BY id DESC LIMIT ?1")?
        .query_map([limit], |row| {
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
        })?
        .collect()
}

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
