//! Folding the tally into the roll-ups. Mail users can lay anything into its folder: one file that cannot be
//! folded keeps no other from it.

use super::Done;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::shared_folder::out_of_the_way;
use crate::store::state::{State, rollups};
use crate::tally;
use nix::libc;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a hook may go on writing into a tally that was renamed.
const LATE_WRITERS: Duration = Duration::from_secs(2);

/// Largest tally file that is folded; more is not from hooks.
const LARGEST: u64 = 512 * 1024 * 1024;

/// Files that are folded in one minute, the oldest first; a tick leaves one.
const MOST_FILES: usize = 200;

/// Renames the current tally, waits for late writers, folds it and what earlier calls left.
pub(super) fn fold_tally(call: &Call) -> Result<Done> {
    let mut done = Done::default();
    match tally::close_current(&call.paths, call.now) {
        Ok(true) => std::thread::sleep(LATE_WRITERS),
        Ok(false) => {}
        Err(error) => done.failed.push(error.to_string()),
    }
    let mut state = State::open(&call.paths)?;
    for file in waiting(call)? {
        done.add(fold_file(call, &mut state, &file).map(Done::telling));
    }
    Ok(done)
}

fn waiting(call: &Call) -> Result<Vec<PathBuf>> {
    let folder = call.paths.tally_dir();
    let entries = std::fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("fold-")));
    files.sort();
    files.truncate(MOST_FILES);
    Ok(files)
}

/// Folds the file and takes it away. What could not be read is taken away too; a folder gets a name at which
/// nobody looks again, and is told about this once.
fn fold_file(call: &Call, state: &mut State, file: &Path) -> Result<Option<String>> {
    if let Some(bytes) = read_plain(file)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        state.write(|t| rollups::fold(t, &name, &String::from_utf8_lossy(&bytes), call.now))?;
    }
    let aside = out_of_the_way(file)?;
    Ok(aside.map(|to| format!("{} is no tally and is now {}.", file.display(), to.display())))
}

/// Only plain files of a sane size are read, no link is followed, and no pipe is waited for.
fn read_plain(path: &Path) -> Result<Option<Vec<u8>>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Ok(None) };
    let meta = file.metadata().map_err(Error::file("examine", path))?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    // One that grows meanwhile has no end of its own.
    file.take(LARGEST).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_files_are_read_and_none_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("plain"), "line").unwrap();
        std::os::unix::fs::symlink(at("plain"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::File::create(at("large")).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(read_plain(&at("plain")).unwrap().as_deref(), Some(&b"line"[..]));
        for name in ["link", "folder", "pipe", "large", "none"] {
            assert_eq!(read_plain(&at(name)).unwrap(), None, "{name}");
        }
    }
}
