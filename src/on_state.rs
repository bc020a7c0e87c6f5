//! Root's work on the shared state, done without root's rights.
//!
//! Every mail user can write the state, so nothing in it is trusted by root: a short-lived child becomes user
//! `postern` for good, does the work, and tells the result as JSON through a pipe. Root only ever sees that
//! text.
//!
//! Which user that is stands in root's own files, not on the folder: one that was given to somebody else, or
//! to root, is refused.

use crate::authority::become_user;
use crate::error::{Error, Result};
use crate::hook::close_descriptors_but;
use crate::paths::Paths;
use crate::policy::Policy;
use crate::progress::Progress;
use crate::store::settings::SettingsStore;
use crate::store::state::State;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, geteuid, pipe2};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// How long the work may take, in seconds; a forged file must not hold a tick for ever.
const LONGEST: u32 = 300;

/// Most bytes of an answer. Mail users can write the state, so what is read from it has no size of its own.
const MOST_ANSWER: u64 = 64 * 1024 * 1024;

/// What the child tells.
#[derive(Serialize, Deserialize)]
enum Told<T> {
    Done(T),
    Failed { code: String, sentence: String },
}

/// Does the work on the open state as user `postern`.
pub fn on_state<T: Serialize + DeserializeOwned>(
    paths: &Paths,
    work: impl FnOnce(&mut State) -> Result<T>,
) -> Result<T> {
    as_postern(paths, || work(&mut State::open(paths)?))
}

/// Does the work in a child that has become user `postern` for good; directly where the caller is not root
/// anyway.
pub fn as_postern<T: Serialize + DeserializeOwned>(
    paths: &Paths,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    as_postern_holding(paths, &[], work)
}

/// The same, with open files that the child needs, or holds on to although its parent may be ended.
pub fn as_postern_holding<T: Serialize + DeserializeOwned>(
    paths: &Paths,
    files: &[BorrowedFd],
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if !geteuid().is_root() {
        return work();
    }
    let (user, group) = stored_user(paths)?;
    belongs_to(paths, user)?;
    fork_and_hear(files, Some(LONGEST), || become_user(user, group).and_then(|()| work()))
}

/// Work that needs the state neither whole nor at all, in a child that has become user `postern` for good and is ended
/// after so many seconds; directly where the caller is not root anyway.
pub fn as_postern_within<T: Serialize + DeserializeOwned>(
    paths: &Paths,
    seconds: u32,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if !geteuid().is_root() {
        return work();
    }
    let (user, group) = stored_user(paths)?;
    fork_and_hear(&[], Some(seconds), || become_user(user, group).and_then(|()| work()))
}

/// Does work that gives up root's rights in a child, so that the caller keeps them; directly where the
/// caller is not root anyway.
pub fn in_child<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    if geteuid().is_root() { fork_and_hear(&[], None, work) } else { work() }
}

/// User `postern` and its group, from the settings; where those are gone, from the policy that was published.
/// Both are root's alone to write.
pub fn stored_user(paths: &Paths) -> Result<(u32, u32)> {
    let stored = SettingsStore::open(paths).and_then(|store| store.host());
    if let Ok(host) = &stored
        && host.postern_uid != 0
    {
        return Ok((host.postern_uid, host.postern_gid));
    }
    let path = paths.policy();
    let head = Policy::open(&path).and_then(|policy| policy.ask()?.head());
    match (head, std::fs::metadata(&path)) {
        (Ok(head), Ok(file)) if head.postern_uid != 0 => Ok((head.postern_uid, file.gid())),
        _ => Err(stored.err().unwrap_or_else(|| {
            Error::NotFound("It is not known which user is Postern's: run `postern init` as root.".into())
        })),
    }
}

/// Refuses a state whose folder was given away: root would become whoever has it, or stay root.
fn belongs_to(paths: &Paths, user: u32) -> Result<()> {
    let folder = paths.state_dir();
    let owner = std::fs::metadata(&folder)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::NotFound(format!(
                "The folder of the state is missing ({}): run `postern init` as root.",
                folder.display()
            )),
            _ => Error::file("examine", &folder)(e),
        })?
        .uid();
    if owner == user {
        return Ok(());
    }
    Err(Error::NotAllowed(format!(
        "{} belongs to user {owner}, not to Postern's user {user}, so nothing was done there: run `postern init` as root.",
        folder.display()
    )))
}

/// Ends this process after so many seconds, whatever it does then; 0 takes that back.
pub fn end_after(seconds: u32) {
    // SAFETY: plain calls; the signal's own action ends the process.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(seconds);
    }
}

/// `longest`: after so many seconds the child is ended.
fn fork_and_hear<T: Serialize + DeserializeOwned>(
    files: &[BorrowedFd],
    longest: Option<u32>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let failed = |doing: &'static str| move |e: nix::Error| Error::system(doing)(e.into());
    // Closed on exec: what the child starts (sendmail) may live longer than it, and must not hold the pipe.
    let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed("make a pipe"))?;
    // SAFETY: this program has one thread; the child leaves by `_exit`.
    match unsafe { fork() }.map_err(failed("start a child"))? {
        ForkResult::Child => {
            drop(read);
            let kept: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).chain([write.as_raw_fd()]).collect();
            close_descriptors_but(&kept);
            longest.map(end_after).unwrap_or_default();
            tell(write, work());
        }
        ForkResult::Parent { child } => {
            drop(write);
            let heard = hear(read);
            match waitpid(child, None) {
                Ok(WaitStatus::Signaled(_, Signal::SIGALRM, _)) => Err(Error::State(format!(
                    "The work as user postern took longer than {} seconds and was ended.",
                    longest.unwrap_or_default()
                ))),
                _ => understand(&heard?),
            }
        }
    }
}

/// Reads the answer to its end or to its bound; a child that would say more finds the pipe closed and ends.
fn hear(read: OwnedFd) -> Result<String> {
    wait_for_words(read.as_fd());
    let mut text = String::new();
    let mut answer = File::from(read).take(MOST_ANSWER + 1);
    answer.read_to_string(&mut text).map_err(Error::system("hear what the child did"))?;
    if answer.limit() == 0 {
        return Err(Error::State(format!(
            "The answer from the state is larger than {} MB: somebody may have filled it with rows; ask for less.",
            MOST_ANSWER >> 20
        )));
    }
    Ok(text)
}

/// Shows an administrator at a terminal that the child is at work.
fn wait_for_words(read: BorrowedFd) {
    let mut progress = Progress::default();
    while let Some(patience) = Progress::patience() {
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(read, PollFlags::POLLIN)], patience) {
            Ok(0) => progress.tick(),
            _ => return,
        }
    }
}

fn tell<T: Serialize>(write: OwnedFd, done: Result<T>) -> ! {
    let told = match done {
        Ok(value) => Told::Done(value),
        Err(error) => Told::Failed { code: error.code().into(), sentence: error.to_string() },
    };
    let text = serde_json::to_vec(&told).unwrap_or_default();
    let sent = File::from(write).write_all(&text);
    // SAFETY: leaves without running what belongs to the parent.
    unsafe { libc::_exit(if sent.is_ok() { 0 } else { 1 }) }
}

fn understand<T: DeserializeOwned>(text: &str) -> Result<T> {
    match serde_json::from_str(text) {
        Ok(Told::Done(value)) => Ok(value),
        Ok(Told::Failed { code, sentence }) => Err(Error::told(&code, sentence)),
        Err(_) => {
            Err(Error::State("The work on the state ended without an answer; look into the log.".into()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::settings::Host;
    use std::os::unix::fs::{PermissionsExt, chown};

    const POSTERN: u32 = 61000;

    /// Settings that name user `postern`, and the folder of the state as this owner's.
    fn scene(owner: u32) -> Option<(tempfile::TempDir, Paths)> {
        if !geteuid().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.state_dir()).unwrap();
        chown(paths.state_dir(), Some(owner), Some(owner)).unwrap();
        let host = Host { postern_uid: POSTERN, postern_gid: POSTERN, mail_uids: Vec::new() };
        SettingsStore::begin(&paths).unwrap().set_host(&host).unwrap();
        Some((dir, paths))
    }

    #[test]
    fn root_works_as_the_stored_user_and_without_its_own_open_files() {
        let Some((_dir, paths)) = scene(POSTERN) else { return };
        let secret = File::open(paths.settings()).unwrap();
        let fd = secret.as_raw_fd();
        let told = as_postern(&paths, || {
            // SAFETY: asks about a descriptor.
            let is_open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
            Ok((geteuid().as_raw(), nix::unistd::getegid().as_raw(), is_open))
        });
        assert_eq!(told.unwrap(), (POSTERN, POSTERN, false));
    }

    #[test]
    fn a_folder_of_roots_or_a_strangers_is_refused_with_what_to_do() {
        for owner in [0, 61009] {
            let Some((_dir, paths)) = scene(owner) else { return };
            let said = as_postern(&paths, || Ok(())).unwrap_err().to_string();
            assert!(said.contains(&format!("belongs to user {owner}")), "{said}");
            assert!(said.contains("postern init"), "{said}");
        }
    }

    #[test]
    fn root_opens_no_state_that_others_can_write() {
        let Some((_dir, paths)) = scene(POSTERN) else { return };
        assert_eq!(State::open(&paths).err().unwrap().code(), "not_allowed");
        assert_eq!(std::fs::read_dir(paths.state_dir()).unwrap().count(), 0);
    }

    #[test]
    fn an_answer_without_an_end_is_an_error_and_not_a_full_memory() {
        let Some((_dir, paths)) = scene(POSTERN) else { return };
        let answer = as_postern(&paths, || Ok("x".repeat(MOST_ANSWER as usize)));
        assert!(answer.unwrap_err().to_string().contains("64 MB"));
    }
}
