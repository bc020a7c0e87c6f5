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
