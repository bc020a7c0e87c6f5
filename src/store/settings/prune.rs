//! Forgetting: the trail of changes does not grow without an end, nor do lists with what ended long ago.
//!
//! It is no change: nothing that holds is touched, the generation stays, and the trail gets no row. The latest changes
//! are kept however old they are, and so is every change that is as young as the settings say. What was forgotten
//! cannot be undone, and undoing says so.

use super::SettingsStore;
use crate::clock::Seconds;
use crate::error::Result;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

/// Changes that are kept, however old.
pub const LATEST: i64 = 1_000;

/// Rows of the trail, of entries and of allowances that are forgotten at once. A change is forgotten whole, so that one
/// with more rows goes alone.
const PIECE: i64 = 10_000;

/// How often it is looked, in seconds; sooner where the last time left something.
const EVERY: Seconds = 3_600;

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Rows of the trail.
    pub trail: usize,
    /// Entries of lists that had ended.
    pub entries: usize,
    /// Allowances that had ended.
    pub allowances: usize,
}

impl SettingsStore {
    /// Forgets what is older than the settings keep it, if that is due.
    pub fn prune(&mut self, now: Seconds) -> Result<Forgotten> {
        self.prune_to(now, LATEST, PIECE)
    }

    fn prune_to(&mut self, now: Seconds, latest: i64, piece: i64) -> Result<Forgotten> {
        let failed = self.failed("read");
        // A time that is later than now is from before the clock was set back.
        let is_due = |last: Seconds| !(0..EVERY).contains(&now.saturating_sub(last));
        if !number(&self.connection, PRUNED_AT).map_err(failed)?.is_none_or(is_due) {
            return Ok(Forgotten::default());
        }
        let settings = self.settings()?;
        let trail_before = now.saturating_sub(settings.keep_trail_days * 86_400);
        let ended_before = now.saturating_sub(settings.keep_ended_days * 86_400);
        let (failed, failed_too) = (self.failed("write to"), self.failed("write to"));
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let work = || -> rusqlite::Result<Forgotten> {
            let forgotten = Forgotten {
                trail: prune_trail(&transaction, trail_before, latest, piece)?,
                entries: transaction.execute(ENTRIES, params![ended_before, piece])?,
                allowances: transaction.execute(ALLOWANCES, params![ended_before, piece])?,
            };
            let most = usize::try_from(piece).unwrap_or(usize::MAX);
            let is_done = forgotten.trail < most && forgotten.entries < most && forgotten.allowances < most;
            set_number(&transaction, PRUNED_AT, if is_done { now } else { 0 })?;
            Ok(forgotten)
        };
        work().and_then(|forgotten| transaction.commit().map(|()| forgotten)).map_err(failed_too)
    }
}

/// In `meta`: when it was last done, and up to which change the trail is forgotten.
const PRUNED_AT: &str = "pruned_at";
const PRUNED_TO: &str = "pruned_to";

const ENTRIES: &str = "DELETE FROM entry WHERE (list, value) IN
     (SELECT list, value FROM entry WHERE until < ?1 LIMIT ?2)";
const ALLOWANCES: &str =
    "DELETE FROM allowance WHERE id IN (SELECT id FROM allowance WHERE until < ?1 LIMIT ?2)";

/// The oldest changes, from the first on: the trail has no gaps.
fn prune_trail(db: &Connection, before: Seconds, latest: i64, piece: i64) -> rusqlite::Result<usize> {
    let kept = "SELECT DISTINCT generation FROM audit ORDER BY generation DESC LIMIT 1 OFFSET ?1";
    let first_kept: Option<i64> =
        db.query_row(kept, [latest.saturating_sub(1)], |row| row.get(0)).optional()?;
    let Some(first_kept) = first_kept else { return Ok(0) };
    let oldest = "SELECT generation, max(at), count(*) FROM audit WHERE generation < ?1
         GROUP BY generation ORDER BY generation LIMIT ?2";
    let mut statement = db.prepare(oldest)?;
    let mut rows = statement.query(params![first_kept, piece])?;
    let (mut to, mut n) = (None, 0i64);
    while let Some(row) = rows.next()? {
        let (generation, at, of_one): (i64, Seconds, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if at >= before || (n > 0 && n + of_one > piece) {
            break;
        }
        to = Some(generation);
        n += of_one;
    }
    let Some(to) = to else { return Ok(0) };
    set_number(db, PRUNED_TO, to)?;
    db.execute("DELETE FROM audit WHERE generation <= ?1", [to])
}

/// Up to which change the trail is forgotten; 0: nothing is.
pub(super) fn forgotten_to(db: &Connection) -> rusqlite::Result<i64> {
    Ok(number(db, PRUNED_TO)?.unwrap_or(0))
}

fn number(db: &Connection, key: &str) -> rusqlite::Result<Option<i64>> {
    db.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

fn set_number(db: &Connection, key: &str, value: i64) -> rusqlite::Result<()> {
    db.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![key, value]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::store::settings::entries::{Grant, ListEntry, ListName};
    use crate::store::settings::new_store;

    const NOON: Seconds = 1_700_000_000;
    const DAY: Seconds = 86_400;

    fn count(store: &SettingsStore, sql: &str) -> i64 {
        store.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn old_changes_are_forgotten_whole_and_from_the_first_on_and_the_latest_never() {
        let (_folder, mut store) = new_store();
        let add = |store: &mut SettingsStore, at: Seconds, n: i64, rows: i64| {
            store
                .change("root", at, None, |c| {
                    (0..rows).try_for_each(|row| {
                        let value = format!("u{n}r{row}@b.test");
                        c.add(ListName::Whitelist, &ListEntry { value, ..ListEntry::default() })
                    })
                })
                .unwrap();
        };
        // Ten changes of three rows, then ten young ones.
        (0..10).for_each(|n| add(&mut store, NOON - 1200 * DAY + n, n, 3));
        (10..20).for_each(|n| add(&mut store, NOON - 1000 * DAY + n, n, 1));
        let generation = store.generation().unwrap();
        // A piece has room for two changes of three rows.
        assert_eq!(store.prune_to(NOON, 5, 8).unwrap().trail, 6);
        assert_eq!(count(&store, "SELECT min(generation) FROM audit"), 3);
        // It filled no piece, so that the next time is in an hour.
        assert_eq!(store.prune_to(NOON + 60, 5, 8).unwrap(), Forgotten::default());
        assert_eq!(store.prune_to(NOON + EVERY, 15, 100).unwrap().trail, 9, "15 changes are kept");
        assert_eq!(store.prune_to(NOON + 2 * EVERY, 15, 100).unwrap().trail, 0);
        assert_eq!(store.prune_to(NOON + 3 * EVERY, 5, 100).unwrap().trail, 15, "the others are young");
        assert_eq!(count(&store, "SELECT count(*) FROM audit"), 10);
        assert_eq!(store.generation().unwrap(), generation);
        assert_eq!(count(&store, "SELECT count(*) FROM entry"), 40, "what holds is not touched");
        let mut undo = |generation| {
            store.change("root", NOON, None, |c| c.undo(Some(generation)).map(|_| ())).unwrap_err()
        };
        let said = undo(4).to_string();
        assert!(said.contains("no longer kept") && said.contains("keep_trail_days"), "{said}");
        assert!(matches!(undo(4), Error::NotFound(_)));
        assert!(undo(99).to_string().contains("There is no change 99"));
        store.change("root", NOON, None, |c| c.undo(Some(15)).map(|_| ())).unwrap();
    }

    #[test]
    fn a_change_with_more_rows_than_a_piece_goes_alone() {
        let (_folder, mut store) = new_store();
        for rows in [20, 2] {
            store
                .change("root", NOON - 2000 * DAY, None, |c| {
                    (0..rows).try_for_each(|n| c.note("release", &format!("a{n}"), "", ""))
                })
                .unwrap();
        }
        store.change("root", NOON, None, |c| c.note("release", "b", "", "")).unwrap();
        assert_eq!(store.prune_to(NOON, 1, 8).unwrap().trail, 20);
        assert_eq!(store.prune_to(NOON + 1, 1, 8).unwrap().trail, 2, "more was waiting");
    }

    #[test]
    fn what_ended_long_ago_is_forgotten_and_its_undoing_says_so() {
        let (_folder, mut store) = new_store();
        let entry = |value: &str, until| ListEntry { value: value.into(), until, ..ListEntry::default() };
        let grant =
            |until| Grant { subject: "a@b.test".into(), source: "BR".into(), until, ..Grant::default() };
        let (old, young) = (NOON - 91 * DAY, NOON - 89 * DAY);
        let made = NOON - 100 * DAY;
        store
            .change("root", made, None, |c| c.add(ListName::AccountBlock, &entry("old@b.test", Some(old))))
            .unwrap();
        store.change("root", made, None, |c| c.allow(&grant(old))).unwrap();
        store
            .change("root", made, None, |c| {
                c.add(ListName::AccountBlock, &entry("young@b.test", Some(young)))?;
                c.add(ListName::UserExemption, &entry("always@b.test", None))?;
                c.allow(&grant(young))
            })
            .unwrap();
        let expected = Forgotten { trail: 0, entries: 1, allowances: 1 };
        assert_eq!((store.prune(NOON).unwrap(), store.generation().unwrap()), (expected, 3));
        let left: Vec<String> =
            store.entries(ListName::AccountBlock).unwrap().into_iter().map(|e| e.value).collect();
        assert_eq!((left, store.allowances().unwrap().len()), (vec!["young@b.test".into()], 1));
        for generation in [1, 2] {
            let undone = store.change("root", NOON, None, |c| c.undo(Some(generation)).map(|_| ()));
            let said = undone.unwrap_err().to_string();
            assert!(said.contains("ended") && said.contains("keep_ended_days"), "{said}");
        }
        // A number is never given twice.
        assert_eq!(store.change("root", NOON, None, |c| c.allow(&grant(NOON + 60))).unwrap(), 3);
    }

    #[test]
    fn a_clock_that_was_wrong_keeps_nothing_from_being_forgotten() {
        let (_folder, mut store) = new_store();
        store.prune(NOON + 5000 * DAY).unwrap();
        let entry =
            ListEntry { value: "a@b.test".into(), until: Some(NOON - 99 * DAY), ..ListEntry::default() };
        store.change("root", NOON, None, |c| c.add(ListName::Whitelist, &entry)).unwrap();
        assert_eq!(store.prune(NOON).unwrap().entries, 1);
    }
}
