//! Settings out of a backup: copied, checked, taken over.
//!
//! What belongs to the machine stays (the users' numbers); so does the trail of changes, unless there is none yet: then
//! that of the backup is taken over. Taking over is a change like any other: one transaction, one row in the trail, a
//! generation of its own.

use super::entries::{self, ListName};
use super::{Change, Host, SCHEMA, SettingsStore, limits};
use crate::account::Subject;
use crate::address::Network;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::idn;
use crate::paths::Paths;
use crate::policy::SERVER;
use crate::progress::Progress;
use crate::settings::{Settings, TABLE};
use crate::store::{copy, schema};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use std::path::{Path, PathBuf};

/// Tables that are not taken over as they are.
const KEPT: [&str; 3] = ["meta", "host", "audit"];

impl SettingsStore {
    /// Copies the settings as of this moment into an empty file; gives their generation.
    pub fn copy_to(&self, to: &Path) -> Result<i64> {
        copy::copy(&self.connection, &self.paths.settings(), to)?;
        let copied = copy::open(to)?;
        copy::check(&copied, to, SCHEMA, "The copy of the settings")?;
        generation(&copied, to)
    }

    /// Fails where the file is damaged, as far as SQLite sees.
    pub fn check(&self) -> Result<()> {
        copy::check(&self.connection, &self.paths.settings(), SCHEMA, "The settings")
    }
}

/// Settings out of a backup that were found good.
pub struct Checked {
    connection: Connection,
    path: PathBuf,
    /// The generation that they were.
    pub generation: i64,
    /// What is good but deserves a look.
    pub warnings: Vec<String>,
}

impl Checked {
    /// The users that shared the files where the backup was made.
    pub fn host(&self) -> Result<Host> {
        let pairs = pairs(&self.connection, "SELECT key, value FROM host");
        Ok(Host::from_pairs(&pairs.map_err(Error::database("read", &self.path))?))
    }
}

/// Checks settings out of a backup: file, version, tables, and every value as if somebody typed it in. The file is
/// brought to this program's schema.
pub fn check(path: &Path) -> Result<Checked> {
    let mut connection = copy::open(path)?;
    copy::check(&connection, path, SCHEMA, "The backup's settings")?;
    schema::migrate(&mut connection, path, SCHEMA)?;
    let warnings = check_values(&connection, path).map_err(|error| {
        Error::Data(
            format!("The backup's settings cannot be used: {}", error.to_string().trim_end_matches('.'))
                + ".",
        )
    })?;
    let generation = generation(&connection, path)?;
    Ok(Checked { connection, path: path.into(), generation, warnings })
}

fn generation(connection: &Connection, path: &Path) -> Result<i64> {
    let sql = "SELECT value FROM meta WHERE key = 'generation'";
    connection.query_row(sql, [], |row| row.get(0)).map_err(Error::database("read", path))
}

fn check_values(db: &Connection, path: &Path) -> Result<Vec<String>> {
    let failed = || Error::database("read", path);
    let mut warnings = Vec::new();
    for (key, value) in pairs(db, "SELECT key, value FROM setting").map_err(failed())? {
        match TABLE.iter().any(|setting| setting.key == key) {
            true => Settings::default().set(&key, &value)?,
            false => warnings.push(format!("This version knows no setting {key:?}; it is not asked.")),
        }
    }
    for (list, value) in pairs(db, "SELECT list, value FROM entry").map_err(failed())? {
        let known = ListName::ALL.into_iter().find(|known| known.name() == list);
        let of = known.ok_or_else(|| Error::bad_value("The list", &list, "a list of this version"))?;
        stands_as(&value, &of.checked(&of.typed(&value))?)?;
    }
    for (scope, code) in pairs(db, "SELECT scope, code FROM country").map_err(failed())? {
        code.parse::<Country>()?;
        check_scope(&scope)?;
    }
    for (scope, _) in pairs(db, "SELECT scope, who FROM country_list").map_err(failed())? {
        check_scope(&scope)?;
    }
    for grant in entries::allowances(db).map_err(failed())? {
        check_scope(&grant.subject)?;
        if grant.source.parse::<Country>().is_err() {
            grant.source.parse::<Network>()?;
        }
    }
    limits::check_stored(db, |error| Error::database("read", path)(error))?;
    // Read as they will be read, so that a value of another type is found.
    for list in ListName::ALL {
        entries::all(db, list).map_err(failed())?;
    }
    Ok(warnings)
}

pub(super) fn pairs(db: &Connection, sql: &str) -> rusqlite::Result<Vec<(String, String)>> {
    db.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn check_scope(scope: &str) -> Result<()> {
    if scope == SERVER {
        return Ok(());
    }
    check_key(scope)
}

/// The key of a mailbox, a local user or a domain, as lists keep it.
pub(super) fn check_key(key: &str) -> Result<()> {
    stands_as(key, &Subject::typed(key).parse::<Subject>()?.key())
}

/// A value stands in the one form in which lists keep it, or no look-up finds it.
fn stands_as(found: &str, should: &str) -> Result<()> {
    // One from before domains were kept in ASCII.
    if found == should || idn::other_spelling(found).is_some_and(|other| other == should) {
        return Ok(());
    }
    Err(Error::bad_value("An entry", found, format!("it should stand as {should}")))
}

/// Takes the settings over within a change; `from` says which backup they are from, for the trail.
pub fn take_over(change: &mut Change, checked: &Checked, from: &str) -> Result<()> {
    let before = change.generation() - 1;
    let failed = Error::database("restore to", &checked.path);
    replace(change.connection(), &checked.connection).map_err(failed)?;
    let is_first: bool = change
        .connection()
        .query_row("SELECT NOT EXISTS (SELECT 1 FROM audit)", [], |row| row.get(0))
        .map_err(change.failed())?;
    if is_first {
        copy_rows(change.connection(), &checked.connection, "audit")
            .map_err(Error::database("restore to", &checked.path))?;
        change.go_on_from(checked.generation);
    }
    change.note(
        "restore_settings",
        from,
        &format!("generation {before}"),
        &format!("generation {}", checked.generation),
    )
}

fn replace(to: &Connection, from: &Connection) -> rusqlite::Result<()> {
    let tables: Vec<String> = from
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for table in tables.iter().filter(|table| !KEPT.contains(&table.as_str())) {
        to.execute(&format!("DELETE FROM {table}"), [])?;
        copy_rows(to, from, table)?;
    }
    // Numbers that are given once (`last_allowance`) go on from the larger one.
    let mut numbers =
        from.prepare("SELECT key, value FROM meta WHERE key != 'generation' AND typeof(value) = 'integer'")?;
    let mut rows = numbers.query([])?;
    while let Some(row) = rows.next()? {
        let (key, value): (String, i64) = (row.get(0)?, row.get(1)?);
        to.execute(
            "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT(key) DO UPDATE SET value = max(value, excluded.value)",
            (key, value),
        )?;
    }
    Ok(())
}

/// Both have the same tables, so the names come from this program's own schema.
fn copy_rows(to: &Connection, from: &Connection, table: &str) -> rusqlite::Result<()> {
    let mut read = from.prepare(&format!("SELECT * FROM {table}"))?;
    let width = read.column_count();
    let places = vec!["?"; width].join(",");
    let mut write = to.prepare(&format!("INSERT INTO {table} VALUES ({places})"))?;
    let mut rows = read.query([])?;
    let mut progress = Progress::default();
    while let Some(row) = rows.next()? {
        progress.tick();
        let values = (0..width).map(|i| row.get(i)).collect::<rusqlite::Result<Vec<Value>>>()?;
        write.execute(params_from_iter(values))?;
    }
    Ok(())
}

/// Settings that were set aside because they cannot be read; dropped, they are put back.
#[derive(Debug)]
pub struct SetAside {
    moved: Vec<(PathBuf, PathBuf)>,
}

impl SetAside {
    /// Moves the settings out of the way, with the journal that belongs to them, and begins new ones for these users.
    pub fn begin(paths: &Paths, host: &Host, now: i64) -> Result<SetAside> {
        let settings = paths.settings();
        let mut aside = SetAside { moved: Vec::new() };
        for side in ["", "-journal"] {
            let from = PathBuf::from(format!("{}{side}", settings.display()));
            let to = PathBuf::from(format!("{}.damaged-{now}{side}", settings.display()));
            if from.exists() {
                std::fs::rename(&from, &to).map_err(Error::file("set aside", &from))?;
                aside.moved.push((from, to));
            }
        }
        SettingsStore::begin(paths)?.set_host(host)?;
        Ok(aside)
    }

    /// Leaves them aside; where they are now.
    pub fn keep(mut self) -> Option<PathBuf> {
        std::mem::take(&mut self.moved).into_iter().next().map(|(_, to)| to)
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        for (from, to) in self.moved.drain(..).rev() {
            let _ = std::fs::rename(to, from);
        }
    }
}
