//! What the administrator chose: settings, lists, countries, allowances, and the trail of every change.
//!
//! Root's alone (mode 0600), `synchronous=FULL`: an answered change survives a power cut. Every change raises
//! the generation, leaves a row in the trail, and is then [`publish`]ed for the hooks. A caller may name the
//! generation that it had read; if somebody changed anything since, the change is refused.

mod changes;
pub mod entries;
pub mod limits;
pub mod prune;
pub mod publish;
pub mod rank;
pub mod restore;
mod undo;

pub use changes::{Audit, Change};

use super::schema;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::settings::Settings;
use nix::libc;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The schema; append only.
pub const SCHEMA: &[&str] = &[
    include_str!("schema-1.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
];

/// The open settings.
pub struct SettingsStore {
    connection: Connection,
    paths: Paths,
}

/// Numbers of the users that share the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Host {
    /// User `postern`.
    pub postern_uid: u32,
    /// Its group.
    pub postern_gid: u32,
    /// Users as which the mail servers run hooks.
    pub mail_uids: Vec<u32>,
}

impl Host {
    fn from_pairs(pairs: &[(String, String)]) -> Host {
        let value = |key: &str| pairs.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v.as_str());
        Host {
            postern_uid: value("postern_uid").parse().unwrap_or(0),
            postern_gid: value("postern_gid").parse().unwrap_or(0),
            mail_uids: value("mail_uids").split(',').filter_map(|uid| uid.parse().ok()).collect(),
        }
    }
}

impl SettingsStore {
    /// Opens the settings; they must have been begun by [`SettingsStore::begin`].
    pub fn open(paths: &Paths) -> Result<SettingsStore> {
        let path = paths.settings();
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        std::fs::metadata(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound(format!(
                "There are no settings yet ({}): run `postern init` as root.",
                path.display()
            )),
            _ => Error::file("open", &path)(e),
        })?;
        let failed = || Error::database("open", &path);
        let mut connection = Connection::open_with_flags(&path, flags).map_err(failed())?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(failed())?;
        connection.execute_batch("PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;").map_err(failed())?;
        // An emptied file is damage, not a beginning: taken for new settings, it would be published in the
        // place of everything that the administrator had set.
        if schema::version(&connection, &path)? == 0 {
            return Err(Error::Data(format!(
                "The settings {} are empty. Put a copy back; or begin new ones: remove the file and run `postern init`.",
                path.display()
            )));
        }
        schema::migrate(&mut connection, &path, SCHEMA)?;
        Ok(SettingsStore { connection, paths: paths.clone() })
    }

    /// Opens the settings, beginning them where there are none. They come into place whole.
    pub fn begin(paths: &Paths) -> Result<SettingsStore> {
        let path = paths.settings();
        if !path.exists() {
            let new = path.with_extension("new");
            let _ = std::fs::remove_file(&new);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&new)
                .map_err(Error::file("make", &new))?;
            let mut connection = Connection::open(&new).map_err(Error::database("open", &new))?;
            schema::migrate(&mut connection, &new, SCHEMA)?;
            drop(connection);
            std::fs::rename(&new, &path).map_err(Error::file("make", &path))?;
        }
        SettingsStore::open(paths)
    }

    /// For `map_err`.
    fn failed(&self, doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Error + use<> {
        let path: PathBuf = self.paths.settings();
        move |source| Error::Database { doing, path, source }
    }

    /// Counts the changes.
    pub fn generation(&self) -> Result<i64> {
        self.connection
            .query_row("SELECT value FROM meta WHERE key = 'generation'", [], |row| row.get(0))
            .map_err(self.failed("read"))
    }

    /// The value of each setting.
    pub fn settings(&self) -> Result<Settings> {
        let pairs = self.pairs("SELECT key, value FROM setting")?;
        Ok(Settings::from_pairs(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str()))))
    }

    /// Who shares the files.
    pub fn host(&self) -> Result<Host> {
        self.pairs("SELECT key, value FROM host").map(|pairs| Host::from_pairs(&pairs))
    }

    /// Stores who shares the files.
    pub fn set_host(&mut self, host: &Host) -> Result<()> {
        let mail_uids: Vec<String> = host.mail_uids.iter().map(u32::to_string).collect();
        for (key, value) in [
            ("postern_uid", host.postern_uid.to_string()),
            ("postern_gid", host.postern_gid.to_string()),
            ("mail_uids", mail_uids.join(",")),
        ] {
            self.connection
                .execute("INSERT OR REPLACE INTO host VALUES (?1, ?2)", [key, &value])
                .map_err(self.failed("write to"))?;
        }
        Ok(())
    }

    fn pairs(&self, sql: &str) -> Result<Vec<(String, String)>> {
        let read = || {
            let mut statement = self.connection.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(self.failed("read"))
    }

    /// Makes one change: all of it or nothing. `expected` is the generation that the caller had read.
    pub fn change<T>(
        &mut self,
        who: &str,
        now: Seconds,
        expected: Option<i64>,
        make: impl FnOnce(&mut Change) -> Result<T>,
    ) -> Result<T> {
        let (failed, failed_too) = (self.failed("write to"), self.failed("write to"));
        let path = self.paths.settings();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut change = Change::begin(transaction, path, who, now, expected)?;
        let made = make(&mut change)?;
        change.commit().map_err(failed_too)?;
        Ok(made)
    }

    /// The rows of one change in the trail, as they were made.
    pub fn audit_of(&self, generation: i64) -> Result<Vec<Audit>> {
        changes::audit_of(&self.connection, generation).map_err(self.failed("read"))
    }

    /// The trail of changes, newest first.
    pub fn audit(&self, limit: i64) -> Result<Vec<Audit>> {
        changes::audit(&self.connection, limit).map_err(self.failed("read"))
    }
}

/// New settings, in a folder that is gone with the first of the two.
#[cfg(test)]
fn new_store() -> (tempfile::TempDir, SettingsStore) {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::below(folder.path());
    std::fs::create_dir_all(paths.lib()).unwrap();
    let store = SettingsStore::begin(&paths).unwrap();
    (folder, store)
}
