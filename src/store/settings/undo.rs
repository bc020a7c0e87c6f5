//! Undoing: a change is taken back by its rows in the trail, as a change of its own.
//!
//! Each row says what was there before and what was there after. What is there now must be what the change left:
//! else somebody has changed it since, and taking this one back would take back his too.

use super::changes::{self, Audit, Change, NONE_ALLOWED};
use super::limits;
use super::prune;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::store::settings::entries::{self, Grant, ListEntry, ListName};
use rusqlite::OptionalExtension;
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashSet};

/// Action of the row that says which change was undone.
const UNDO: &str = "undo";

/// Every change, and where it is an undoing, which one it undid.
const NEWEST_FIRST: &str = "SELECT generation, max(CASE action WHEN ?1 THEN CAST(subject AS INTEGER) END)
     FROM audit GROUP BY generation ORDER BY generation DESC";

/// The index for undoings is found by their word alone, so it stands here.
pub(super) const WHO_SET: &str =
    "SELECT who, at FROM audit a WHERE action = ?1 AND subject = ?2 AND after = ?3
     AND id < ?4 AND NOT EXISTS (SELECT 1 FROM audit WHERE action = 'undo' AND generation = a.generation)
     ORDER BY id DESC LIMIT 1";

impl Change<'_> {
    /// Takes back the change that made this generation, or where none is named the latest that stands: it is no undoing,
    /// and none that stands took it back. Gives its generation and its rows.
    ///
    /// Fails with [`Error::NotFound`] where there is none, with [`Error::NotAllowed`] where it cannot be taken back:
    /// somebody changed the same again since, or it changed something that is not kept here.
    pub fn undo(&mut self, generation: Option<i64>) -> Result<(i64, Vec<Audit>)> {
        let generation = match generation {
            Some(generation) => generation,
            None => self.latest()?.ok_or_else(|| Error::NotFound("There is no change to undo.".into()))?,
        };
        let rows = changes::audit_of(self.connection(), generation).map_err(self.failed())?;
        if rows.is_empty() && generation <= prune::forgotten_to(self.connection()).map_err(self.failed())? {
            return Err(Error::NotFound(format!(
                "Change {generation} is no longer kept in the trail (`keep_trail_days`), so it cannot be undone; set what you want."
            )));
        }
        if rows.is_empty() {
            let sentence =
                format!("There is no change {generation}; `postern audit` lists them by generation.");
            return Err(Error::NotFound(sentence));
        }
        let mut kept_elsewhere = None;
        for row in rows.iter().rev().filter(|row| row.changes_something()) {
            if !self.take_back(row)? {
                kept_elsewhere = Some(&row.action);
            }
        }
        if let Some(action) = kept_elsewhere {
            return Err(Error::NotAllowed(format!(
                "Change {generation} cannot be undone: {action} changed something that is not kept in the settings."
            )));
        }
        self.trail(UNDO, &generation.to_string(), "", "")?;
        Ok((generation, rows))
    }

    fn latest(&self) -> Result<Option<i64>> {
        let mut undone = HashSet::new();
        let mut found = || -> rusqlite::Result<Option<i64>> {
            let mut statement = self.connection().prepare(NEWEST_FIRST)?;
            let mut rows = statement.query([UNDO])?;
            while let Some(row) = rows.next()? {
                let (generation, undoes): (i64, Option<i64>) = (row.get(0)?, row.get(1)?);
                match undoes {
                    // An undoing that was itself undone takes nothing back any more.
                    Some(undoes) if !undone.contains(&generation) => drop(undone.insert(undoes)),
                    None if !undone.contains(&generation) => return Ok(Some(generation)),
                    _ => {}
                }
            }
            Ok(None)
        };
        found().map_err(self.failed())
    }

    /// Whether the row could be taken back.
    fn take_back(&mut self, row: &Audit) -> Result<bool> {
        match row.action.as_str() {
            "set_setting" => {
                self.must_be(row, self.setting(&row.subject) == row.after)?;
                self.set(&row.subject, &row.before)?;
            }
            "set_countries" => {
                let now = entries::countries_of(self.connection(), &row.subject).map_err(self.failed())?;
                self.must_be(row, changes::in_trail(now.as_ref()) == row.after)?;
                let list = countries(&row.before);
                // Where no list comes back, it is nobody's.
                let set = list.as_ref().map(|_| self.who_set(row)).transpose()?;
                let (who, at) = set.unwrap_or_default();
                self.set_countries_of(&row.subject, list.as_ref(), (&who, at))?;
            }
            "add_allowance" => {
                let grant: Grant = stored(row, &row.after)?;
                let there = self.grant(grant.id)?;
                if there.is_none() {
                    self.must_not_have_ended(row, Some(grant.until))?;
                }
                self.must_be(row, there.as_ref() == Some(&grant))?;
                self.disallow(grant.id)?;
            }
            "remove_allowance" => {
                let grant: Grant = stored(row, &row.before)?;
                self.must_be(row, self.grant(grant.id)?.is_none())?;
                self.put_grant(&grant)?;
            }
            limits::SET_LIMIT | limits::SET_OVERRIDE => self.take_back_limit(row)?,
            action => match list_of(action) {
                Some(list) => self.take_back_entry(row, list)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// Who had set the list of countries that this row replaced, and when: a list that comes back binds whom it bound
    /// before. Where the trail does not tell, it is the caller's.
    fn who_set(&self, row: &Audit) -> Result<(String, Seconds)> {
        let values = (&row.action, &row.subject, &row.before, row.id);
        let found = || -> rusqlite::Result<Option<(String, Seconds)>> {
            let mut statement = self.connection().prepare_cached(WHO_SET)?;
            statement.query_row(values, |set| Ok((set.get(0)?, set.get(1)?))).optional()
        };
        let found = found().map_err(self.failed())?;
        Ok(found.unwrap_or_else(|| (self.who().into(), self.now())))
    }

    fn take_back_entry(&mut self, row: &Audit, list: ListName) -> Result<()> {
        let now = entries::one(self.connection(), list, &row.subject).map_err(self.failed())?;
        if now.is_none() && !row.after.is_empty() {
            self.must_not_have_ended(row, stored::<ListEntry>(row, &row.after)?.until)?;
        }
        self.must_be(row, changes::as_json(now.as_ref()) == row.after)?;
        match row.before.is_empty() {
            true => self.remove_key(list, &row.subject),
            false => self.put(list, now.as_ref(), &stored::<ListEntry>(row, &row.before)?),
        }
    }

    /// What has ended is forgotten after a while: of what is gone then, there is nothing to take back.
    fn must_not_have_ended(&self, row: &Audit, until: Option<Seconds>) -> Result<()> {
        if until.is_none_or(|until| until > self.now()) {
            return Ok(());
        }
        Err(Error::NotAllowed(format!(
            "Change {} cannot be undone: what it set for {} has ended, and is no longer on the list (`keep_ended_days`).",
            row.generation, row.subject
        )))
    }

    /// The latest change of the same after this one: its generation, and whose.
    fn later(&self, row: &Audit) -> Result<Option<(i64, String)>> {
        let since =
            "SELECT generation, who FROM audit WHERE id > ?1 AND subject = ?2 ORDER BY id DESC LIMIT 1";
        let found = self
            .connection()
            .query_row(since, (row.id, &row.subject), |found| Ok((found.get(0)?, found.get(1)?)));
        found.optional().map_err(self.failed())
    }

    pub(super) fn must_be(&self, row: &Audit, is_so: bool) -> Result<()> {
        if is_so {
            return Ok(());
        }
        let by = self.later(row)?.map_or_else(String::new, |(n, who)| format!(" (change {n}, by {who})"));
        Err(Error::NotAllowed(format!(
            "Change {} cannot be undone: {} was changed again since{by}. Undo that first, or set what you want.",
            row.generation, row.subject
        )))
    }
}

impl Audit {
    /// Whether something is otherwise since: the row that says which change was undone only names it.
    pub fn changes_something(&self) -> bool {
        self.action != UNDO
    }

    /// Whether the subject is the key of an account or a domain, so that its owner may hear of it.
    pub fn names_an_account(&self) -> bool {
        match self.action.as_str() {
            "set_countries" => self.subject != entries::scope(None),
            "add_allowance" | "remove_allowance" | "release" => true,
            action => list_of(action).is_some_and(|list| list.is_of_subjects()),
        }
    }
}

fn list_of(action: &str) -> Option<ListName> {
    let name = action.strip_prefix("add_").or_else(|| action.strip_prefix("remove_"))?;
    ListName::ALL.into_iter().find(|list| list.name() == name)
}

/// The opposite of [`changes::in_trail`].
fn countries(text: &str) -> Option<BTreeSet<Country>> {
    match text {
        "" => None,
        NONE_ALLOWED => Some(BTreeSet::new()),
        codes => Some(codes.split(',').filter_map(|code| code.parse().ok()).collect()),
    }
}

fn stored<T: DeserializeOwned>(row: &Audit, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        Error::Data(format!(
            "Row {} of the trail of changes cannot be read ({e}): it cannot be undone.",
            row.id
        ))
    })
}

#[cfg(test)]
#[path = "undo_tests.rs"]
mod tests;
