//! Folding the tally into the roll-ups. Mail users can lay anything into its folder: one file that cannot be
//! folded keeps no other from it.

use super::{Done, retention};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::shared_folder::out_of_the_way;
use crate::store::state::State;
use crate::store::state::rollups::{self, Retention};
use crate::tally;
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a hook may go on writing into a tally that was renamed.
const LATE_WRITERS: Duration = Duration::from_secs(2);

/// Largest tally file that is folded; more is not from hooks.
const LARGEST: u64 = 512 * 1024 * 1024;

/// What is folded at once, in bytes. A large file must neither fill the memory of the keeper, nor keep hooks away from
/// the state until it is folded: on a server with 100,000 accounts this takes about a tenth of a second.
const PIECE: u64 = 96 * 1024;

/// Whoever waits for the state looks again at moments of his own (SQLite's busy handler), so it is left alone for this
/// share of the time.
const PAUSE: u32 = 2;

/// How long is folded in one minute. What is left is done in the next: pieces that were folded are known.
const LONGEST: Duration = Duration::from_secs(120);

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
    let retention = retention(call);
    let mut state = State::open_for_long(&call.paths)?;
    let end = Instant::now() + LONGEST;
    for file in waiting(call)? {
        if Instant::now() < end {
            done.add(fold_file(call, &retention, &mut state, &file, end).map(Done::telling));
        }
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
fn fold_file(
    call: &Call,
    retention: &Retention,
    state: &mut State,
    file: &Path,
    end: Instant,
) -> Result<Option<String>> {
    if let Some(opened) = open_plain(file)? {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // One that grows meanwhile has no end of its own.
        let folded = in_pieces(opened.take(LARGEST), PIECE, |begin, piece| {
            // Each has a name of its own, so that none counts twice where the work was broken off.
            let name = if begin == 0 { name.clone() } else { format!("{name}@{begin}") };
            let piece_begun = Instant::now();
            state.write(|t| rollups::fold(t, &name, &String::from_utf8_lossy(piece), call.now, retention))?;
            std::thread::sleep(piece_begun.elapsed() / PAUSE);
            Ok(if Instant::now() < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })
        .map_err(|broken| match broken {
            Broken::Reading(error) => Error::file("read", file)(error),
            Broken::Working(error) => error,
        })?;
        if folded.is_break() {
            return Ok(None);
        }
    }
    let aside = out_of_the_way(file)?;
    Ok(aside.map(|to| format!("{} is no tally and is now {}.", file.display(), to.display())))
}

/// Why [`in_pieces`] did not come to the end.
enum Broken {
    Reading(std::io::Error),
    Working(Error),
}

/// Reads whole lines, so many bytes at once, and works on each piece until the work breaks off or the file ends;
/// `begin` is where it begins. A line that is longer than a piece is left out.
fn in_pieces(
    mut file: impl Read,
    size: u64,
    mut work: impl FnMut(u64, &[u8]) -> Result<ControlFlow<()>>,
) -> std::result::Result<ControlFlow<()>, Broken> {
    let (mut piece, mut begin) = (Vec::new(), 0);
    loop {
        let wanted = size.saturating_sub(piece.len() as u64);
        let n = file.by_ref().take(wanted).read_to_end(&mut piece).map_err(Broken::Reading)? as u64;
        let is_end = n < wanted;
        let lines = match piece.iter().rposition(|b| *b == b'\n') {
            _ if is_end => piece.len(),
            Some(last) => last + 1,
            None => 0,
        };
        let goes_on = lines == 0 || work(begin, &piece[..lines]).map_err(Broken::Working)?.is_continue();
        if is_end {
            return Ok(ControlFlow::Continue(()));
        }
        if !goes_on {
            return Ok(ControlFlow::Break(()));
        }
        let done = if lines > 0 { lines } else { piece.len() };
        begin += done as u64;
        piece.drain(..done);
    }
}

/// Only plain files of a sane size are read, no link is followed, and no pipe is waited for.
fn open_plain(path: &Path) -> Result<Option<File>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Ok(None) };
    let meta = file.metadata().map_err(Error::file("examine", path))?;
    Ok(Some(file).filter(|_| meta.is_file() && meta.len() <= LARGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn only_plain_files_are_read_and_none_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("plain"), "line").unwrap();
        std::os::unix::fs::symlink(at("plain"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::File::create(at("large")).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(open_plain(&at("plain")).unwrap().is_some());
        for name in ["link", "folder", "pipe", "large", "none"] {
            assert!(open_plain(&at(name)).unwrap().is_none(), "{name}");
        }
    }

    fn pieces(text: &str, size: u64) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        let work = |begin, piece: &[u8]| {
            found.push((begin, String::from_utf8(piece.to_vec()).unwrap()));
            Ok(ControlFlow::Continue(()))
        };
        assert!(in_pieces(text.as_bytes(), size, work).is_ok());
        found
    }

    #[test]
    fn pieces_end_with_a_line_and_what_has_no_line_is_left_out() {
        let piece = |begin, text: &str| (begin, text.to_string());
        assert_eq!(pieces("", 8), []);
        assert_eq!(pieces("one\ntwo\nhalf", 8), [piece(0, "one\ntwo\n"), piece(8, "half")]);
        assert_eq!(
            pieces("one\nthree\nsix\n", 8),
            [piece(0, "one\n"), piece(4, "three\n"), piece(10, "six\n")]
        );
        assert_eq!(pieces("much too long a line\nsix\n", 8), [piece(16, "line\n"), piece(21, "six\n")]);
    }

    #[test]
    fn work_that_breaks_off_is_told_unless_it_was_the_end() {
        let after = |most: usize| {
            let mut n = 0;
            let work = |_, _: &[u8]| {
                n += 1;
                Ok(if n < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            };
            let Ok(end) = in_pieces("one\ntwo\nsix\n".as_bytes(), 5, work) else {
                panic!("no error is made")
            };
            (end.is_break(), n)
        };
        assert_eq!([after(1), after(2), after(3), after(4)], [(true, 1), (true, 2), (false, 3), (false, 3)]);
    }

    proptest! {
        #[test]
        fn no_line_that_is_short_enough_is_lost_or_doubled(lines in vec("[a-z]{0,6}", 0..50), size in 8u64..40) {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let together: String = pieces(&text, size).into_iter().map(|(_, piece)| piece).collect();
            prop_assert_eq!(together, text);
        }
    }
}
