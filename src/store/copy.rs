//! Copies of databases as of one moment, and what is looked at before a copy is believed.

use super::schema;
use crate::error::{Error, Result};
use nix::libc;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pages that are copied at a stretch.
const PAGES: i32 = 1024;

/// How often a writer that is about to end is waited for: 5 seconds in all.
const TRIES: usize = 500;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A file that goes when this is dropped.
#[derive(Debug)]
pub struct Draft(pub PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

impl Draft {
    /// Makes an empty file for nobody else's eyes; it must not be there yet.
    pub fn begin(path: PathBuf) -> Result<(Draft, File)> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(Error::file("make", &path))?;
        Ok((Draft(path), file))
    }

    /// It is no draft any more.
    pub fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

/// Copies a database that others go on writing into an empty file, by SQLite's online backup: whole, as of the moment
/// at which it begins. A read transaction is held meanwhile: without it every write of theirs would make the copying
/// begin anew (sqlite.org/backup.html), and under load it would never end.
pub fn copy(source: &Connection, from: &Path, to: &Path) -> Result<()> {
    let reading = || Error::database("read", from);
    let moment = source.unchecked_transaction().map_err(reading())?;
    moment.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())).map_err(reading())?;
    let writing = || Error::database("write to", to);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(to, flags).map_err(writing())?;
    {
        let backup = Backup::new(source, &mut copy).map_err(writing())?;
        let mut waited = 0;
        loop {
            match backup.step(PAGES).map_err(writing())? {
                StepResult::Done => break,
                StepResult::More => {}
                _ if waited < TRIES => {
                    waited += 1;
                    std::thread::sleep(PAUSE);
                }
                _ => {
                    let path = from.display();
                    return Err(Error::State(format!("{path} is in use, so it was not copied: try again.")));
                }
            }
        }
    }
    drop(moment);
    // One file without side files, whatever the source was.
    copy.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(())).map_err(writing())?;
    copy.close().map_err(|(_, e)| writing()(e))?;
    let file = File::open(to).map_err(Error::file("open", to))?;
    file.sync_all().map_err(Error::file("write", to))
}

/// Opens a copy as something that a stranger may have made: no trigger, view or function of its own runs.
pub fn open(path: &Path) -> Result<Connection> {
    let failed = || Error::database("open", path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed())?;
    for (option, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(option, on).map_err(failed())?;
    }
    Ok(connection)
}

/// Refuses a database that is damaged, newer than the list of schemas, or of another schema than that list makes.
pub fn check(connection: &Connection, path: &Path, list: &[&str], what: &str) -> Result<()> {
    let refused = |why: String| Error::Data(format!("{what} cannot be used: {why}."));
    let version = schema::version(connection, path).map_err(|e| refused(e.to_string()))?;
    let known = list.get(..version).ok_or_else(|| {
        refused(format!("it is from a newer Postern (schema {version}, this one knows {})", list.len()))
    })?;
    if version == 0 {
        return Err(refused("it is empty, or no database of Postern's".into()));
    }
    let said: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(|e| refused(e.to_string()))?;
    if said != "ok" {
        return Err(refused(format!("it is damaged ({said})")));
    }
    let mut fresh = Connection::open_in_memory().map_err(Error::database("begin", path))?;
    schema::migrate(&mut fresh, path, known)?;
    let found = shape(connection).map_err(|e| refused(e.to_string()))?;
    if found != shape(&fresh).map_err(Error::database("read", path))? {
        return Err(refused("its tables are not those of Postern".into()));
    }
    Ok(())
}

type Shape = Vec<(String, String, Option<String>)>;

fn shape(connection: &Connection) -> rusqlite::Result<Shape> {
    connection
        .prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &Path, list: &[&str]) -> Connection {
        let mut db = Connection::open(path).unwrap();
        schema::migrate(&mut db, path, list).unwrap();
        db
    }

    #[test]
    fn a_copy_under_writes_of_another_is_whole_and_of_one_moment() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let source = database(&from, &["CREATE TABLE pair(a, b, filling)"]);
        source.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        source.execute_batch("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO pair SELECT 0, 0, randomblob(500) FROM n").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let writes = std::thread::scope(|threads| {
            let writer = threads.spawn(|| {
                let other = Connection::open(&from).unwrap();
                let mut n = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    n += 1;
                    // Far apart, so that a copy of two moments would have one without the other.
                    let sql = "UPDATE pair SET a = ?1, b = ?1 WHERE rowid IN (1, 10000, 20000)";
                    other.execute(sql, [n]).unwrap();
                }
                n
            });
            for _ in 0..5 {
                let (_draft, _) = Draft::begin(to.clone()).unwrap();
                copy(&source, &from, &to).unwrap();
                let copied = Connection::open(&to).unwrap();
                let count = |sql: &str| copied.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
                assert_eq!(count("SELECT count(DISTINCT a) FROM pair WHERE rowid IN (1, 10000, 20000)"), 1);
                assert_eq!(count("SELECT count(*) FROM pair WHERE a = b"), 20_000);
                check(&copied, &to, &["CREATE TABLE pair(a, b, filling)"], "The copy").unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap()
        });
        assert!(writes > 5, "nobody wrote meanwhile");
        assert!(!to.exists());
    }

    #[test]
    fn what_is_damaged_newer_foreign_or_empty_is_refused_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let refused =
            |db: &Connection| check(db, &path, &["CREATE TABLE a(b)"], "It").unwrap_err().to_string();
        for (sql, why) in [
            ("PRAGMA user_version=2", "newer Postern"),
            ("PRAGMA user_version=0", "empty"),
            ("CREATE TABLE more(a)", "tables are not"),
            ("CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END", "tables are not"),
            ("CREATE VIEW v AS SELECT 1", "tables are not"),
            ("ALTER TABLE a ADD c", "tables are not"),
        ] {
            let _ = std::fs::remove_file(&path);
            let db = database(&path, &["CREATE TABLE a(b)"]);
            check(&db, &path, &["CREATE TABLE a(b)"], "It").unwrap();
            db.execute_batch(sql).unwrap();
            assert!(refused(&db).contains(why), "{sql}: {}", refused(&db));
        }
        std::fs::write(&path, "no database at all, but long enough to be taken for one").unwrap();
        assert!(refused(&open(&path).unwrap()).contains("not a database"));
    }
}
