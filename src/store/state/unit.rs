//! A piece of work on the state that is kept whole or not at all.
//!
//! It is a transaction of its own; where several questions share one transaction, it is a part of it (a savepoint,
//! sqlite.org/lang_savepoint.html), and what becomes of the transaction becomes of it.

use rusqlite::{Connection, Error, Result, ffi};
use std::cell::Cell;
use std::ops::Deref;

/// The right to write; ends when dropped, and what was not kept is undone then.
pub struct Unit<'a> {
    connection: &'a Connection,
    is: Cell<Is>,
    kept: bool,
}

/// What a piece of work is to SQLite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    /// A transaction of its own.
    Alone,
    /// All of a transaction that somebody else keeps.
    Whole,
    /// One statement in a transaction of several, which SQLite keeps whole or not at all.
    Single,
    /// A savepoint in a transaction of several.
    Part,
}

impl Is {
    /// Nothing has to be said where this is empty.
    fn begin(self) -> &'static str {
        match self {
            Is::Alone => "BEGIN IMMEDIATE",
            Is::Part => "SAVEPOINT unit",
            Is::Whole | Is::Single => "",
        }
    }

    fn keep(self) -> &'static str {
        match self {
            Is::Alone => "COMMIT",
            Is::Part => "RELEASE unit",
            Is::Whole | Is::Single => "",
        }
    }

    fn undo(self) -> &'static [&'static str] {
        match self {
            Is::Alone | Is::Whole => &["ROLLBACK"],
            Is::Part => &["ROLLBACK TO unit", "RELEASE unit"],
            Is::Single => &[],
        }
    }
}

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
        Unit::begin_as(connection, Is::Alone)
    }

    /// Begins a part of the transaction that is open.
    pub(super) fn begin_within(connection: &'a Connection, within: Within) -> Result<Unit<'a>> {
        let unit = Unit::begin_single_within(connection, within)?;
        unit.make_room()?;
        Ok(unit)
    }

    /// The same for work that writes by one statement at most, unless it makes room for more.
    pub(super) fn begin_single_within(connection: &'a Connection, within: Within) -> Result<Unit<'a>> {
        // On a full disk and the like SQLite undoes the whole transaction by itself; then a savepoint would be one
        // of its own, and what came before would seem to be kept.
        if connection.is_autocommit() {
            let said = "the transaction that several questions share was undone".into();
            return Err(Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ABORT_ROLLBACK), Some(said)));
        }
        Unit::begin_as(
            connection,
            match within {
                Within::Several => Is::Single,
                Within::One => Is::Whole,
            },
        )
    }

    fn begin_as(connection: &'a Connection, is: Is) -> Result<Unit<'a>> {
        run(connection, is.begin())?;
        Ok(Unit { connection, is: Cell::new(is), kept: false })
    }

    /// Makes room for more than one statement, before the first of them. In a transaction of several that has a price (a
    /// copy of each page that is written), which most messages need not pay.
    pub fn make_room(&self) -> Result<()> {
        if self.is.get() == Is::Single {
            run(self.connection, Is::Part.begin())?;
            self.is.set(Is::Part);
        }
        Ok(())
    }

    /// Keeps what was done.
    pub fn commit(mut self) -> Result<()> {
        run(self.connection, self.is.get().keep())?;
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
        if self.is.get().undo().iter().any(|words| run(self.connection, words).is_err()) {
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
