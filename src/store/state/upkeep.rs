//! Begins the state, checks it, sets it aside where it is damaged. For user `postern` (in a sandbox: the
//! folder's owner) only.

use super::{SCHEMA, State, connect, trouble_of};
use crate::clock::{Clock, Seconds};
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::shared_folder::{identity, out_of_the_way, own_folder};
use crate::store::{lock, schema};
use crate::trouble::{self, Trouble};
use nix::libc;
use nix::unistd::{UnlinkatFlags, unlinkat};
use rusqlite::OptionalExtension;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Damage that a hook met within so many seconds makes the next `tick` read the whole file.
const MET_LATELY: i64 = 600;

/// Makes the state ready: begins it where it is missing, brings its schema up, sets it aside where it is
/// damaged or denied. Tells what it did, if anything.
pub fn begin(paths: &Paths, now: Seconds) -> Result<Option<String>> {
    let path = paths.state();
    // What lies there may be a link that leads nowhere: that is not a missing file, it is in the way.
    let Some(seen) = identity(&path) else {
        make_empty(&path)?;
        upgrade(paths)?;
        return Ok(Some(format!("A new state was begun: {}.", path.display())));
    };
    match upgrade(paths).and_then(|()| check_where_due(paths, now)) {
        Ok(()) => Ok(None),
        // Denied to its own user is as good as damaged: owner, mode or a link in its place are wrong.
        Err(error) if matches!(trouble_of(&error), Trouble::StateBroken | Trouble::StateDenied) => {
            let aside = set_aside(paths, now, seen)?;
            upgrade(paths)?;
            Ok(aside.map(|to| told_aside(&error.to_string(), &to)))
        }
        Err(error) => Err(error),
    }
}

/// The sentence about a state that was set aside.
pub(super) fn told_aside(why: &str, aside: &Path) -> String {
    format!(
        "The state could not be used ({}) and was set aside as {}; a new one was begun. Settings are not touched by this.",
        why.trim_end_matches('.'),
        aside.display()
    )
}

/// SQLite never creates the file (see [`State`]). Another who was faster is as good.
pub(super) fn make_empty(path: &Path) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o660).custom_flags(libc::O_NOFOLLOW);
    match options.open(path) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(Error::file("make", path)(e)),
        _ => Ok(()),
    }
}

pub(super) fn upgrade(paths: &Paths) -> Result<()> {
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
fn check_where_due(paths: &Paths, now: Seconds) -> Result<()> {
    let mut state = State::open(paths)?;
    let day = now / 86_400;
    let sql = "SELECT value FROM meta WHERE key = 'checked_day'";
    let checked: Option<i64> = state.read(|db| db.query_row(sql, [], |row| row.get(0)).optional())?;
    let system_now = Clock::System.now();
    let met_damage = trouble::marks(paths)
        .iter()
        .any(|m| m.trouble == Trouble::StateBroken && system_now - m.last < MET_LATELY);
    if checked == Some(day) && !met_damage {
        return Ok(());
    }
    quick_check(&state)?;
    state.write(|t| t.execute("INSERT OR REPLACE INTO meta VALUES ('checked_day', ?1)", [day]).map(|_| ()))
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

/// Moves the state out of the way while nobody works on it, and lays an empty one. The damage was seen
/// without that right: where another program has mended it meanwhile, another file lies there, and it stays.
fn set_aside(paths: &Paths, now: Seconds, seen: (u64, u64)) -> Result<Option<PathBuf>> {
    let alone = lock::exclusive(paths)?;
    if identity(&paths.state()) != Some(seen) {
        return Ok(None);
    }
    move_aside(paths, now, &alone).map(Some)
}

/// Moves the file with its side files, together, and lays an empty one in its place.
pub(super) fn move_aside(paths: &Paths, now: Seconds, _alone: &lock::Exclusive) -> Result<PathBuf> {
    let path = paths.state();
    let aside = paths.state_dir().join(format!("broken-{now}-{:04x}", crate::call::random_bits() & 0xffff));
    // Nobody else's to write, so that it can be removed again without a look at what lies in it.
    DirBuilder::new().mode(0o700).create(&aside).map_err(Error::file("make", &aside))?;
    for side in SIDES {
        let from = with_suffix(&path, side);
        let to = aside.join(from.file_name().unwrap_or_default());
        match std::fs::rename(&from, &to) {
            // Somebody else's folder can get another name, but not another parent.
            Err(e) if e.kind() != ErrorKind::NotFound => {
                out_of_the_way(&from)?;
            }
            _ => {}
        }
    }
    make_empty(&path)?;
    Ok(aside)
}

/// How many states that were set aside are kept, the newest.
const KEPT_ASIDE: usize = 3;

/// Removes older ones: each is as large as a state. Only folders of the caller's own count, and only what
/// setting aside puts into one is removed, within the open folder: no name is followed.
pub fn remove_old_ones_aside(paths: &Paths) -> Result<()> {
    let folder = paths.state_dir();
    let entries = std::fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
    let mut aside: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    aside.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("broken-")));
    aside.sort();
    let own = aside.into_iter().rev().filter_map(|path| Some((own_folder(&path).ok()?, path)));
    for (opened, path) in own.skip(KEPT_ASIDE) {
        for side in SIDES {
            let name = with_suffix(Path::new("state.db"), side);
            let _ = unlinkat(&opened, &name, UnlinkatFlags::NoRemoveDir);
        }
        // Where something else lies in it, it stays.
        let _ = std::fs::remove_dir(&path);
    }
    Ok(())
}

/// What belongs to a database in WAL mode.
const SIDES: [&str; 3] = ["", "-wal", "-shm"];

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_two_found_damaged_is_set_aside_by_the_first_alone() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.state_dir()).unwrap();
        std::fs::write(paths.state(), "garbage").unwrap();
        std::fs::write(with_suffix(&paths.state(), "-wal"), "of the garbage").unwrap();
        let seen = identity(&paths.state()).unwrap();
        let aside = set_aside(&paths, 1_700_000_000, seen).unwrap().unwrap();
        assert_eq!(set_aside(&paths, 1_700_000_000, seen).unwrap(), None);
        assert_eq!(std::fs::read(aside.join("state.db")).unwrap(), b"garbage");
        assert_eq!(std::fs::read(aside.join("state.db-wal")).unwrap(), b"of the garbage");
        assert_eq!(paths.state().metadata().unwrap().len(), 0);
        let left = std::fs::read_dir(paths.state_dir()).unwrap().count();
        assert_eq!(left, 3, "the new state, the lock, one folder");
    }
}
