//! One tick at a time.

use crate::error::{Error, Result};
use crate::folders;
use crate::on_state::stored_user;
use crate::paths::Paths;
use fs2::FileExt;
use nix::libc;
use nix::unistd::geteuid;
use std::fs::{File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;
use std::time::{Duration, Instant};

/// Takes the right to tick, waiting for it so long at most; none where another has it then. It ends with the last process that holds the file open.
pub(super) fn lock(paths: &Paths, wait: Duration) -> Result<Option<File>> {
    locked(opened(paths, &paths.tick_lock())?, wait, "lock the file by which there is one tick at a time")
}

/// The same for sending notices, which the next tick's work does not wait for.
pub(super) fn notices(paths: &Paths, wait: Duration) -> Result<Option<File>> {
    let file = opened(paths, &paths.notices_lock())?;
    locked(file, wait, "lock the file by which notices are sent by one at a time")
}

fn opened(paths: &Paths, path: &Path) -> Result<File> {
    if geteuid().is_root() { of_root(paths, path) } else { of_others(paths, path) }
}

/// The same for reading logs, which `postern learn` does beside the tick: two at once would count the same lines. For
/// user `postern`.
pub(crate) fn reader_of_logs(paths: &Paths, wait: Duration) -> Result<Option<File>> {
    let path = paths.data().join("logs.lock");
    let file = open(OpenOptions::new().read(true).write(true).create(true), &path)?;
    locked(file, wait, "lock the file by which logs are read by one at a time")
}

fn locked(file: File, wait: Duration, what: &'static str) -> Result<Option<File>> {
    let until = Instant::now() + wait;
    loop {
        match FileExt::try_lock_exclusive(&file) {
            Ok(()) => return Ok(Some(file)),
            Err(e) if e.kind() != ErrorKind::WouldBlock => {
                return Err(Error::system(what)(e));
            }
            Err(_) if Instant::now() >= until => return Ok(None),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// In a folder of root's own; user `postern` may open it, mail users may not: whoever can open it can keep
/// every tick away.
fn of_root(paths: &Paths, path: &Path) -> Result<File> {
    folders::make_run_itself(paths)?;
    let file = open(OpenOptions::new().read(true).write(true).create(true), path)?;
    if let Ok((_, group)) = stored_user(paths) {
        fchown(&file, Some(0), Some(group)).map_err(Error::file("give away", path))?;
        file.set_permissions(Permissions::from_mode(0o640)).map_err(Error::file("set the mode of", path))?;
    }
    Ok(file)
}

/// Where root never ticked since the machine was started, `postern`'s own folder has the file.
fn of_others(paths: &Paths, path: &Path) -> Result<File> {
    open(OpenOptions::new().read(true), path).or_else(|_| {
        let path = paths.data().join(path.file_name().unwrap_or_default());
        open(OpenOptions::new().read(true).write(true).create(true), &path)
    })
}

fn open(options: &mut OpenOptions, path: &Path) -> Result<File> {
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path).map_err(Error::file("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_at_a_time_and_then_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.data()).unwrap();
        let first = lock(&paths, Duration::ZERO).unwrap();
        assert!(first.is_some() && lock(&paths, Duration::ZERO).unwrap().is_none());
        let also_held = first.as_ref().unwrap().try_clone().unwrap();
        drop(first);
        assert!(lock(&paths, Duration::ZERO).unwrap().is_none(), "a child that goes on keeps it");
        drop(also_held);
        assert!(lock(&paths, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn logs_are_read_by_one_at_a_time_whoever_ticks() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.data()).unwrap();
        let first = reader_of_logs(&paths, Duration::ZERO).unwrap();
        assert!(first.is_some() && reader_of_logs(&paths, Duration::ZERO).unwrap().is_none());
        assert!(lock(&paths, Duration::ZERO).unwrap().is_some());
        drop(first);
        assert!(reader_of_logs(&paths, Duration::ZERO).unwrap().is_some());
    }
}
