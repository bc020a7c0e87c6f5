//! A piece of work on the state that is kept whole or not at all.
//!
//! It is a transaction of its own; where several questions share one transaction, it is a part of it (a savepoint,
//! sqlite.org/lang_savepoint.html), and what becomes of the transaction becomes of it.

use rusqlite::{Connection, Error, Result, ffi};
use std::ops::Deref;

/// The right to write; ends when dropped, and what was not kept is undone then.
pub struct Unit<'a> {
    connection: &'a Connection,
    words: &'static Words,
    kept: bool,
}

/// How SQL says it; nothing has to be said where this is empty.
struct Words {
    begin: &'static str,
    keep: &'static str,
    undo: &'static [&'static str],
}

const ALONE: Words = Words { begin: "BEGIN IMMEDIATE", keep: "COMMIT", undo: &["ROLLBACK"] };

const PART: Words =
    Words { begin: "SAVEPOINT unit", keep: "RELEASE unit", undo: &["ROLLBACK TO unit", "RELEASE unit"] };

const WHOLE: Words = Words { begin: "", keep: "", undo: &["ROLLBACK"] };

/// A transaction that is open already, and whose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// Several questions share it: what one undoes is its own part.
    Several,
    /// One question has it to itself.
    One,
}

impl<'a> Unit<'a> {
    /// Begins a transaction. Others wait from here on, so what is read is what is changed.
    pub(super) fn begin(connection: &'a Connection) -> Result<Unit<'a>> {
        Unit::begin_by(connection, &ALONE)
    }

    /// Begins a part of the transaction that is open.
    pub(super) fn begin_within(connection: &'a Connection, within: Within) -> Result<Unit<'a>> {
        // On a full disk and the like SQLite undoes the whole transaction by itself; then a savepoint would be one
        // of its own, and what came before would seem to be kept.
        if connection.is_autocommit() {
            let said = "the transaction that several questions share was undone".into();
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK), Some(said)));
        }
        Unit::begin_by(
            connection,
            match within {
                Within::Several => &PART,
                Within::One => &WHOLE,
            },
        )
    }

    fn begin_by(connection: &'a Connection, words: &'static Words) -> Result<Unit<'a>> {
        run(connection, words.begin)?;
        Ok(Unit { connection, words, kept: false })
    }

    /// Keeps what was done.
    pub fn commit(mut self) -> Result<()> {
        run(self.connection, self.words.keep)?;
        self.kept = true;
        Ok(())
    }
}

fn run(connection: &Connection, words: &str) -> Result<()> {
    if words.is_empty() {
        return Ok(());
    }
    connection.prepare_cached(words)?.execute([]).map(drop)
}

impl Deref for Unit<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        if self.kept || self.connection.is_autocommit() {
            return;
        }
        if self.words.undo.iter().any(|words| run(self.connection, words).is_err()) {
            // What cannot be undone in part is undone as a whole.
            let _ = run(self.connection, "ROLLBACK");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> Connection {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE t(n)").unwrap();
        db
    }

    fn numbers(db: &Connection) -> Vec<i64> {
        let mut statement = db.prepare("SELECT n FROM t ORDER BY n").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    fn add(unit: &Unit, n: i64) {
        unit.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
    }

    #[test]
    fn what_is_not_committed_is_undone() {
        let db = scene();
        add(&Unit::begin(&db).unwrap(), 1);
        let unit = Unit::begin(&db).unwrap();
        add(&unit, 2);
        unit.commit().unwrap();
        assert_eq!(numbers(&db), [2]);
    }

    #[test]
    fn of_several_in_one_transaction_one_is_undone_alone() {
        let db = scene();
        run(&db, "BEGIN IMMEDIATE").unwrap();
        for n in 1..=3 {
            let unit = Unit::begin_within(&db, Within::Several).unwrap();
            add(&unit, n);
            if n != 2 {
                unit.commit().unwrap();
            }
        }
        run(&db, "COMMIT").unwrap();
        assert_eq!(numbers(&db), [1, 3]);
    }

    #[test]
    fn one_that_has_the_transaction_to_itself_is_undone_with_it_and_nothing_can_follow() {
        let db = scene();
        for within in [Within::One, Within::Several] {
            run(&db, "BEGIN IMMEDIATE").unwrap();
            add(&Unit::begin_within(&db, Within::One).unwrap(), 1);
            assert!(db.is_autocommit());
            assert!(Unit::begin_within(&db, within).is_err());
        }
        assert!(numbers(&db).is_empty());
    }
}
