//! The state out to a backup and back from one. For user `postern`.
//!
//! Root holds backups; the bytes go through a descriptor that root has opened, so that no program opens what belongs to
//! the other. Drafts lie in the folder of the network data: it is user `postern`'s alone, and mail users cannot exchange
//! a name in it for another.

use super::upkeep::{make_empty, move_aside, upgrade};
use super::{NEWER, SCHEMA, State, VERSION, connect};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::store::copy::{self, Draft};
use crate::store::lock;
use rusqlite::OptionalExtension;
use std::fs::File;
use std::io::Seek;
use std::path::{Path, PathBuf};

/// How drafts of ours begin.
const DRAFT: &str = "state-draft-";

/// What the state is called in sentences about a copy of it.
const WHAT: &str = "The state";

/// Writes a copy of the state, as of this moment, to where root keeps it. Hooks go on counting meanwhile.
pub fn copy_out(paths: &Paths, mut to: &File) -> Result<()> {
    let state = State::open(paths)?;
    let (draft, mut file) = draft(paths)?;
    copy::copy(&state.connection, &state.path, &draft.0)?;
    check(&draft.0)?;
    std::io::copy(&mut file, &mut to).map(|_| ()).map_err(Error::system("write the copy of the state"))
}

/// Fails where a copy is no state that this program can work with.
pub fn verify(paths: &Paths, from: &File) -> Result<()> {
    taken_in(paths, from).map(|_| ())
}

/// Puts a copy in the place of the state: everything is made ready beside it, then nobody works on it for as long as
/// two names take to change. Gives where the state from before lies.
pub fn put_back(paths: &Paths, from: &File, now: Seconds) -> Result<PathBuf> {
    let draft = taken_in(paths, from)?;
    let new = paths.state_dir().join(format!("restored-{:010x}", crate::call::random_bits() >> 24));
    // Begun as the state itself is, so that the folder's access list holds for it.
    make_empty(&new)?;
    let new = Draft(new);
    let source = copy::open(&draft.0)?;
    copy::copy(&source, &draft.0, &new.0)?;
    let alone = lock::exclusive(paths)?;
    let aside = move_aside(paths, now, &alone)?;
    let state = paths.state();
    std::fs::rename(&new.0, &state).map_err(Error::file("put back", &state))?;
    drop(alone);
    upgrade(paths)?;
    Ok(aside)
}

fn taken_in(paths: &Paths, mut from: &File) -> Result<Draft> {
    let (draft, mut file) = draft(paths)?;
    from.rewind()
        .and_then(|()| std::io::copy(&mut from, &mut file))
        .map_err(Error::file("write", &draft.0))?;
    check(&draft.0)?;
    Ok(draft)
}

/// Drafts of a program that was killed are removed.
fn draft(paths: &Paths) -> Result<(Draft, File)> {
    let folder = paths.data();
    for entry in std::fs::read_dir(&folder).map_err(Error::file("read", &folder))?.flatten() {
        let is_old = entry
            .metadata()
            .ok()
            .and_then(|m| m.modified().ok()?.elapsed().ok())
            .is_some_and(|age| age.as_secs() > 3600);
        if is_old && entry.file_name().to_string_lossy().starts_with(DRAFT) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Draft::begin(folder.join(format!("{DRAFT}{:010x}", crate::call::random_bits() >> 24)))
}

fn check(path: &Path) -> Result<()> {
    let connection = connect(path)?;
    copy::check(&connection, path, SCHEMA, WHAT)?;
    let sql = "SELECT value FROM meta WHERE key = 'min_version'";
    let least: Option<i64> =
        connection.query_row(sql, [], |row| row.get(0)).optional().map_err(Error::database("read", path))?;
    if least.unwrap_or(0) > VERSION {
        return Err(Error::State(NEWER.into()));
    }
    Ok(())
}
