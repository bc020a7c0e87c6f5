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

pub mod activity;
pub mod held;
pub mod notices;
pub mod rollups;
pub mod senders;

use super::{lock, schema};
use crate::authority::opens_files_as_root;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::trouble::{self, Trouble};
use nix::libc;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a writer waits for another.
const BUSY: Duration = Duration::from_secs(1);

/// Damage that a hook met within so many seconds makes the next `tick` read the whole file.
const MET_LATELY: i64 = 600;

/// The version of this program as `min_version` counts.
pub const VERSION: i64 = 1;

/// The schema; append only.
pub const SCHEMA: &[&str] = &[include_str!("schema-1.sql")];

/// The open state, with the right to work on it.
pub struct State {
    connection: Connection,
    path: PathBuf,
    _lock: lock::Shared,
}

impl State {
    /// Opens the state for a hook: never creates, never migrates.
    pub fn open(paths: &Paths) -> Result<State> {
        refuse_root(paths)?;
        let lock = lock::shared(paths)?;
        let path = paths.state();
        let connection = connect(&path)?;
        let state = State { connection, path, _lock: lock };
        state.refuse_newer()?;
        Ok(state)
    }

    fn refuse_newer(&self) -> Result<()> {
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
        move |source| Error::Database { doing, path, source }
    }

    /// Begins a transaction that writes. Others wait from here on, so what is read is what is changed.
    pub fn begin(&mut self) -> Result<Transaction<'_>> {
        let failed = self.failed("write to");
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)
    }

    /// The connection, for reading.
    pub fn connection(&self) -> &Connection {
        &self.connection
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
        .execute_batch("PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=1000;")
        .map_err(failed())?;
    Ok(connection)
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
            _ => Trouble::StateBroken,
        },
        _ => Trouble::StateBroken,
    }
}

/// Marks what keeps the state from being used.
pub fn mark_trouble(call: &Call, error: &Error) {
    trouble::mark(call, trouble_of(error), &error.to_string());
}

/// Makes the state ready: begins it where it is missing, brings its schema up, sets it aside where it is
/// damaged or denied. For user `postern` (or in a sandbox, the folder's owner) only. Tells what it did, if anything.
pub fn begin(paths: &Paths, now: crate::clock::Seconds) -> Result<Option<String>> {
    let path = paths.state();
    // What lies there may be a link that leads nowhere: that is not a missing file, it is in the way.
    if std::fs::symlink_metadata(&path).is_err() {
        create(paths)?;
        return Ok(Some(format!("A new state was begun: {}.", path.display())));
    }
    match upgrade(paths).and_then(|()| check_where_due(paths, now)) {
        Ok(()) => Ok(None),
        // Denied to its own user is as good as damaged: owner, mode or a link in its place are wrong.
        Err(error) if matches!(trouble_of(&error), Trouble::StateBroken | Trouble::StateDenied) => {
            let aside = set_aside(paths, now)?;
            create(paths)?;
            Ok(Some(format!(
                "The state could not be used ({error}) and was set aside as {}; a new one was begun. Settings are not touched by this.",
                aside.display()
            )))
        }
        Err(error) => Err(error),
    }
}

fn create(paths: &Paths) -> Result<()> {
    let path = paths.state();
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o660)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(Error::file("make", &path))?;
    upgrade(paths)
}

fn upgrade(paths: &Paths) -> Result<()> {
    let _lock = lock::shared(paths)?;
    let path = paths.state();
    let mut connection = connect(&path)?;
    connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))
        .map_err(Error::database("open", &path))?;
    schema::migrate(&mut connection, &path, SCHEMA)
}

/// Reading the whole file each minute would be too much: it is done once a day, and where a hook lately met
/// damage.
fn check_where_due(paths: &Paths, now: crate::clock::Seconds) -> Result<()> {
    let mut state = State::open(paths)?;
    let day = now / 86_400;
    let checked: Option<i64> = state
        .connection
        .query_row("SELECT value FROM meta WHERE key = 'checked_day'", [], |row| row.get(0))
        .optional()
        .map_err(state.failed("read"))?;
    let system_now = crate::clock::Clock::System.now();
    let met_damage = trouble::marks(paths)
        .iter()
        .any(|m| m.trouble == Trouble::StateBroken && system_now - m.last < MET_LATELY);
    if checked == Some(day) && !met_damage {
        return Ok(());
    }
    quick_check(&state)?;
    let (failed, failed_too) = (state.failed("write to"), state.failed("write to"));
    let transaction = state.begin()?;
    transaction.execute("INSERT OR REPLACE INTO meta VALUES ('checked_day', ?1)", [day]).map_err(failed)?;
    transaction.commit().map_err(failed_too)
}

fn quick_check(state: &State) -> Result<()> {
    let mut statement = state.connection.prepare("PRAGMA quick_check(1)").map_err(state.failed("check"))?;
    let said: String = statement.query_row([], |row| row.get(0)).map_err(state.failed("check"))?;
    if said == "ok" {
        return Ok(());
    }
    let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(state.failed("check")(rusqlite::Error::SqliteFailure(corrupt, Some(said))))
}

/// Moves the file with its side files out of the way, together, while nobody works on it.
fn set_aside(paths: &Paths, now: crate::clock::Seconds) -> Result<PathBuf> {
    let _alone = lock::exclusive(paths)?;
    let path = paths.state();
    let aside = paths.state_dir().join(format!("broken-{now}-{:04x}", crate::call::random_bits() & 0xffff));
    std::fs::create_dir(&aside).map_err(Error::file("make", &aside))?;
    for side in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(side);
        let from = PathBuf::from(name);
        let to = aside.join(from.file_name().unwrap_or_default());
        match std::fs::rename(&from, &to) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file("move", &from)(e)),
            _ => {}
        }
    }
    Ok(aside)
}

/// An empty state in memory.
#[cfg(test)]
fn in_memory() -> Connection {
    let mut db = Connection::open_in_memory().unwrap();
    schema::migrate(&mut db, Path::new("memory"), SCHEMA).unwrap();
    db
}
