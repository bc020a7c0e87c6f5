//! The state that all hooks share: windows, stops, refusals, held messages, notices, roll-ups.
//!
//! **Sharing.** One SQLite file in WAL mode, `synchronous=NORMAL`: a power cut may lose the last seconds of
//! counters, never the file. Writers begin with `BEGIN IMMEDIATE` and wait a second at most. SQLite never
//! creates the file: [`begin`] makes it empty with mode 0660 first, since what SQLite creates under default
//! ACLs would shut the other mail users out.
//!
//! **Trust.** Every mail user can write it, so nothing in it is believed by root: administrators' programs
//! work on it only after having become user `postern` for good, and whatever is read is checked again.
//!
//! **Compatibility.** `user_version` counts the schema's entries; `min_version` in table `meta` is the oldest
//! program version that may still write. A program below it treats the state as missing.

mod access;
mod account_places;
pub mod activity;
pub mod backup;
mod by_place;
pub mod domains;
pub mod figures;
pub mod held;
pub mod known_networks;
pub mod logs;
pub mod names;
pub mod notices;
mod numbers;
mod packed;
pub mod places;
pub mod rollups;
pub mod senders;
pub mod sightings;
mod unit;
mod upkeep;

pub use access::give_access;
pub use unit::Unit;
pub(crate) use unit::Within;
pub use upkeep::{begin, remove_old_ones_aside};

use super::lock;
use crate::authority::opens_files_as_root;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::trouble::{self, Trouble};
use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, ffi};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long a writer waits for another.
const BUSY: Duration = Duration::from_secs(1);

/// What SQLite may allocate in this process, in bytes. A forged file can have keys that are as long as itself.
const MOST_MEMORY: i64 = 64 << 20;

/// Longest value and row, in bytes. The longest of ours, the window of a sender, is far below; mail users can lay
/// longer ones into the file, and make expressions that grow without a bound.
const LONGEST: i32 = 1 << 20;

/// Memory for what a standing program has read of the state, in KiB: the windows of some 50,000 accounts that send
/// now and then.
const CACHE: u32 = 12 * 1024;

/// After how many pages in the WAL a standing program writes them back into the file. A page that holds many accounts is
/// then written once for all their messages; the WAL stays below 17 MB and its index in one part (4,062 pages;
/// sqlite.org/walformat.html), beyond which looking up a page takes longer.
const OFTEN: u32 = 4_000;

/// Statements that a standing program has ready: more than it uses at once.
const STATEMENTS: usize = 64;

/// The version of this program as `min_version` counts.
pub const VERSION: i64 = 1;

/// The schema; append only.
pub const SCHEMA: &[&str] = &[
    include_str!("schema-1.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
    include_str!("schema-5.sql"),
    include_str!("schema-6.sql"),
    include_str!("schema-7.sql"),
    include_str!("schema-8.sql"),
    include_str!("schema-9.sql"),
    include_str!("schema-10.sql"),
];

/// The open state, with the right to work on it.
pub struct State {
    connection: Connection,
    path: Arc<Path>,
    /// The transaction that is open, if one was begun for work to come.
    within: Option<Within>,
    _lock: lock::Shared,
}

impl State {
    /// Opens the state for a hook: never creates, never migrates.
    pub fn open(paths: &Paths) -> Result<State> {
        refuse_root(paths)?;
        let lock = lock::shared(paths)?;
        let path = paths.state();
        let connection = connect(&path)?;
        let state = State { connection, path: path.into(), within: None, _lock: lock };
        state.refuse_newer()?;
        Ok(state)
    }

    /// Opens the state for a program that works with it again and again: what it read stays in memory, as far as
    /// that suffices, and so does what a part of a transaction would have to undo (else in a file, for which SQLite lays
    /// out 64 KiB each time).
    pub fn open_for_long(paths: &Paths) -> Result<State> {
        let state = State::open(paths)?;
        make_room_for_small_pieces(&state.connection);
        state.connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let sql = format!(
            "PRAGMA cache_size=-{CACHE}; PRAGMA temp_store=MEMORY; PRAGMA wal_autocheckpoint={OFTEN};"
        );
        state.connection.execute_batch(&sql).map_err(state.failed("prepare"))?;
        Ok(state)
    }

    /// Fails where the state belongs to a version that this program cannot follow.
    pub(crate) fn refuse_newer(&self) -> Result<()> {
        let least: Option<i64> = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = 'min_version'", [], |row| row.get(0))
            .optional()
            .map_err(self.failed("read"))?;
        if least.unwrap_or(0) > VERSION {
            return Err(Error::State(NEWER.into()));
        }
        Ok(())
    }

    /// For `map_err`.
    pub fn failed(&self, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::database(doing, &path)(source)
    }

    /// Begins a piece of work that writes: others wait from here on, so what is read is what is changed.
    pub fn begin(&mut self) -> Result<Unit<'_>> {
        let unit = match self.within {
            Some(within) => Unit::begin_within(&self.connection, within),
            None => Unit::begin(&self.connection),
        };
        unit.map_err(self.failed("write to"))
    }

    /// The same for work that writes by one statement at most, unless it makes room for more ([`Unit::make_room`]).
    pub(crate) fn begin_single(&mut self) -> Result<Unit<'_>> {
        let unit = match self.within {
            Some(within) => Unit::begin_single_within(&self.connection, within),
            None => Unit::begin(&self.connection),
        };
        unit.map_err(self.failed("write to"))
    }

    /// Does work that writes, all of it or nothing.
    pub fn write<T>(&mut self, work: impl FnOnce(&Unit) -> rusqlite::Result<T>) -> Result<T> {
        let (failed, failed_too) = (self.failed("write to"), self.failed("write to"));
        let unit = self.begin()?;
        let done = work(&unit).map_err(failed)?;
        unit.commit().map_err(failed_too)?;
        Ok(done)
    }

    /// Begins a transaction for all work until [`end_shared`](State::end_shared). Others are waited for no longer
    /// than this.
    pub(crate) fn begin_shared(&mut self, within: Within, wait: Duration) -> Result<()> {
        let begun = self
            .connection
            .busy_timeout(wait)
            .and_then(|()| self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]));
        let reset = self.connection.busy_timeout(BUSY);
        begun.and(reset).map_err(self.failed("write to"))?;
        self.within = Some(within);
        Ok(())
    }

    /// Keeps what was done since, all of it or nothing. Who found that it is undone already has been told.
    pub(crate) fn end_shared(&mut self) -> Result<()> {
        self.within = None;
        if self.connection.is_autocommit() {
            return Ok(());
        }
        let kept = self.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if kept.is_err() && !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        kept.map(drop).map_err(self.failed("write to"))
    }

    /// Does work that reads.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.connection).map_err(self.failed("read"))
    }

    /// Writes the WAL back into the file as far as nobody reads it.
    pub fn checkpoint(&self) -> Result<()> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .map_err(self.failed("checkpoint"))
    }
}

/// Mail users can write the folder: nothing in it is opened, made or locked with root's rights. A hook that
/// was started as root and could not give them up does without the state.
fn refuse_root(paths: &Paths) -> Result<()> {
    if !opens_files_as_root() {
        return Ok(());
    }
    Err(Error::NotAllowed(format!(
        "The state is not opened with root's rights, and {} belongs to nobody else: run `postern init` as root.",
        paths.state_dir().display()
    )))
}

/// The sentence by which a newer state is known.
const NEWER: &str =
    "The state belongs to a newer Postern: this one counts nothing. Install the newer version.";

fn connect(path: &Path) -> Result<Connection> {
    let failed = || Error::database("open", path);
    let missing = std::fs::symlink_metadata(path).map_err(Error::file("find", path))?;
    if !missing.is_file() {
        return Err(Error::Data(format!("{} is no ordinary file.", path.display())));
    }
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    // NOFOLLOW refuses a link anywhere in the path, and `/var` may be one: the folder is resolved, the file
    // itself is not.
    let folder = path.parent().unwrap_or(path);
    let resolved = folder
        .canonicalize()
        .map_err(Error::file("find", folder))?
        .join(path.file_name().unwrap_or_default());
    let connection = Connection::open_with_flags(&resolved, flags).map_err(failed())?;
    connection.busy_timeout(BUSY).map_err(failed())?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, LONGEST).map_err(failed())?;
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
        (DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true),
    ] {
        connection.set_db_config(option, on).map_err(failed())?;
    }
    connection
        .execute_batch(&format!(
            "PRAGMA synchronous=NORMAL; PRAGMA hard_heap_limit={MOST_MEMORY}; PRAGMA wal_autocheckpoint=1000;"
        ))
        .map_err(failed())?;
    Ok(connection)
}

/// Lays memory out for the small pieces that each statement takes (sqlite.org/malloc.html, "lookaside"). A hook, which is
/// done after a few, has little of it; a program that goes on and on would ask the allocator for most of them.
fn make_room_for_small_pieces(connection: &Connection) {
    let (size, count): (std::ffi::c_int, std::ffi::c_int) = (1200, 100);
    // SAFETY: the handle is open; null has SQLite lay the memory out itself. Where it cannot, all stays as it is.
    unsafe {
        let nothing = std::ptr::null_mut::<std::ffi::c_void>();
        ffi::sqlite3_db_config(connection.handle(), ffi::SQLITE_DBCONFIG_LOOKASIDE, nothing, size, count);
    }
}

/// What kind of trouble an error of the state is.
pub fn trouble_of(error: &Error) -> Trouble {
    match error {
        Error::File { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound => Trouble::StateMissing,
            std::io::ErrorKind::StorageFull => Trouble::StateFull,
            _ => Trouble::StateDenied,
        },
        Error::NotAllowed(_) => Trouble::StateDenied,
        Error::State(sentence) if sentence == NEWER => Trouble::StateNewer,
        Error::State(_) => Trouble::StateLocked,
        Error::Database { source, .. } => match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Trouble::StateLocked,
            Some(ErrorCode::DiskFull) => Trouble::StateFull,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                Trouble::StateDenied
            }
            Some(ErrorCode::SystemIoFailure) => Trouble::StateFull,
            // A transaction that SQLite undid by itself, for want of room (sqlite.org/lang_transaction.html).
            Some(ErrorCode::OperationAborted) => Trouble::StateFull,
            _ => Trouble::StateBroken,
        },
        _ => Trouble::StateBroken,
    }
}

/// Marks what keeps the state from being used.
pub fn mark_trouble(call: &Call, error: &Error) {
    trouble::mark(call, trouble_of(error), &error.to_string());
}

/// An empty state in memory.
#[cfg(test)]
fn in_memory() -> Connection {
    let mut db = Connection::open_in_memory().unwrap();
    super::schema::migrate(&mut db, Path::new("memory"), SCHEMA).unwrap();
    db
}
