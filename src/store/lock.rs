//! The lock beside the state.
//!
//! Who works with the state holds `state.lock` shared; who replaces, repairs or restores it first leaves an
//! intent file, at which newcomers abstain, and then holds the lock exclusively. SQLite's own locks keep
//! single writes apart; an exclusive lock of ours around each write would make it three times slower.
//!
//! Limits: flock is not fair and a lock cannot be upgraded; hence the intent file.

use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::shared_folder::{identity, out_of_the_way};
use fs2::FileExt;
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a hook waits for the lock.
const WAIT: Duration = Duration::from_millis(300);

/// How long a replacer waits for those who work to end.
const REPLACER_WAITS: Duration = Duration::from_secs(10);

/// After this an intent file counts as left behind by a program that died.
const STALE_INTENT: Duration = Duration::from_secs(60);

/// The right to work with the state; ends when dropped.
#[derive(Debug)]
pub struct Shared(#[allow(dead_code, reason = "held for its lock")] File);

/// The right to replace the state; ends when dropped.
#[derive(Debug)]
pub struct Exclusive {
    _file: File,
    _intent: Intent,
}

impl Exclusive {
    /// Lays the lock file anew, as the caller's own and with the folder's access list. Who holds the old one
    /// is this caller alone, and newcomers abstain until it is done.
    pub fn lay_anew(&self, paths: &Paths) -> Result<()> {
        out_of_the_way(&paths.state_lock())?;
        open(paths).map(|_| ())
    }
}

/// The intent file while it lies there.
#[derive(Debug)]
struct Intent {
    path: PathBuf,
    /// Kept open, so that no other file can have its number meanwhile.
    file: File,
}

impl Drop for Intent {
    fn drop(&mut self) {
        // Another that was laid there meanwhile is another's to remove.
        let own = self.file.metadata().ok().map(|m| (m.dev(), m.ino()));
        if own.is_some() && identity(&self.path) == own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn open(paths: &Paths) -> Result<File> {
    let path = paths.state_lock();
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    match options.open(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            options.write(true).create(true).mode(0o660).open(&path).map_err(Error::file("make", &path))
        }
        other => other.map_err(Error::file("open", &path)),
    }
}

fn poll(limit: Duration, mut attempt: impl FnMut() -> std::io::Result<()>) -> bool {
    let begun = Instant::now();
    loop {
        if attempt().is_ok() {
            return true;
        }
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An intent from the future is from before the clock was set back: it is stale too. What is no plain file
/// is none of ours.
pub(crate) fn somebody_intends(paths: &Paths) -> bool {
    let Ok(meta) = std::fs::symlink_metadata(paths.state_intent()) else { return false };
    let age = meta.modified().ok().and_then(|at| at.elapsed().ok());
    meta.is_file() && age.is_some_and(|age| age < STALE_INTENT)
}

/// Leaves the intent file. Mail users can write this folder: what lies there under that name is taken out of
/// the way, never followed or emptied.
fn intend(paths: &Paths) -> Result<Intent> {
    let path = paths.state_intent();
    out_of_the_way(&path)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o660);
    let file = options.open(&path).map_err(Error::file("write", &path))?;
    Ok(Intent { path, file })
}

/// What a newcomer is told meanwhile.
pub(crate) fn being_replaced() -> Error {
    Error::State("The state is being replaced; nothing is counted for the moment.".into())
}

/// Takes the lock for working, waiting 0.3 seconds at most.
pub fn shared(paths: &Paths) -> Result<Shared> {
    if somebody_intends(paths) {
        return Err(being_replaced());
    }
    let file = open(paths)?;
    if poll(WAIT, || FileExt::try_lock_shared(&file)) {
        return Ok(Shared(file));
    }
    Err(Error::State(format!(
        "The state is held by a program that replaces it (lock {}); nothing was counted.",
        paths.state_lock().display()
    )))
}

/// Takes the lock for replacing: leaves the intent file, then waits for those who work to end.
pub fn exclusive(paths: &Paths) -> Result<Exclusive> {
    let intent = intend(paths)?;
    // A lock that cannot be opened (a link, another owner's) locks nobody: it is laid anew.
    let file = open(paths).or_else(|_| {
        out_of_the_way(&paths.state_lock())?;
        open(paths)
    })?;
    if poll(REPLACER_WAITS, || FileExt::try_lock_exclusive(&file)) {
        return Ok(Exclusive { _file: file, _intent: intent });
    }
    Err(Error::State(format!(
        "The state {} is in use and was not given free within {} seconds; try again.",
        paths.state().display(),
        REPLACER_WAITS.as_secs()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.state_dir()).unwrap();
        (dir, paths)
    }

    #[test]
    fn many_work_at_once_and_a_replacer_is_alone() {
        let (_dir, paths) = scene();
        let (first, second) = (shared(&paths).unwrap(), shared(&paths).unwrap());
        drop((first, second));
        let alone = exclusive(&paths).unwrap();
        assert!(shared(&paths).is_err());
        drop(alone);
        assert!(shared(&paths).is_ok());
    }

    #[test]
    fn an_intent_keeps_newcomers_away_and_an_old_one_does_not() {
        let (_dir, paths) = scene();
        std::fs::write(paths.state_intent(), b"").unwrap();
        assert!(shared(&paths).is_err());
        let long_ago = std::time::SystemTime::now() - STALE_INTENT * 2;
        File::options().write(true).open(paths.state_intent()).unwrap().set_modified(long_ago).unwrap();
        assert!(shared(&paths).is_ok());
    }

    #[test]
    fn an_intent_from_the_future_is_stale() {
        let (_dir, paths) = scene();
        std::fs::write(paths.state_intent(), b"").unwrap();
        let ahead = std::time::SystemTime::now() + Duration::from_secs(86_400);
        File::options().write(true).open(paths.state_intent()).unwrap().set_modified(ahead).unwrap();
        assert!(shared(&paths).is_ok());
    }

    #[test]
    fn an_intent_that_is_a_link_is_replaced_and_its_target_is_not_touched() {
        let (dir, paths) = scene();
        let target = dir.path().join("elsewhere");
        std::fs::write(&target, b"precious").unwrap();
        std::os::unix::fs::symlink(&target, paths.state_intent()).unwrap();
        drop(exclusive(&paths).unwrap());
        assert_eq!(std::fs::read(&target).unwrap(), b"precious");
        assert!(std::fs::symlink_metadata(paths.state_intent()).is_err());
    }

    #[test]
    fn a_folder_in_place_of_the_intent_or_lock_is_moved_out_of_the_way() {
        let (_dir, paths) = scene();
        for place in [paths.state_intent(), paths.state_lock()] {
            let _ = std::fs::remove_file(&place);
            std::fs::create_dir_all(place.join("with something in it")).unwrap();
            let long_ago = std::time::SystemTime::now() - STALE_INTENT * 2;
            File::open(&place).unwrap().set_modified(long_ago).unwrap();
            drop(exclusive(&paths).unwrap());
            assert!(shared(&paths).is_ok());
        }
        assert!(std::fs::symlink_metadata(paths.state_intent()).is_err());
    }

    #[test]
    fn only_the_own_intent_is_removed() {
        let (_dir, paths) = scene();
        let first = exclusive(&paths).unwrap();
        let second = intend(&paths).unwrap();
        drop(first);
        assert!(shared(&paths).is_err(), "the second still intends");
        drop(second);
        assert!(shared(&paths).is_ok());
    }

    #[test]
    fn a_lock_that_is_laid_anew_locks_as_before() {
        let (_dir, paths) = scene();
        let alone = exclusive(&paths).unwrap();
        let before = identity(&paths.state_lock());
        alone.lay_anew(&paths).unwrap();
        assert_ne!(identity(&paths.state_lock()), before);
        assert!(shared(&paths).is_err());
        drop(alone);
        let working = shared(&paths).unwrap();
        assert!(File::open(paths.state_lock()).unwrap().try_lock().is_err());
        drop(working);
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let (dir, paths) = scene();
        let target = dir.path().join("elsewhere");
        std::os::unix::fs::symlink(&target, paths.state_lock()).unwrap();
        assert!(shared(&paths).is_err());
        assert!(!target.exists());
    }
}
