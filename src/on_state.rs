//! Root's work on the shared state, done without root's rights.
//!
//! Every mail user can write the state, so nothing in it is trusted by root: a short-lived child becomes user
//! `postern` for good, does the work, and tells the result as JSON through a pipe. Root only ever sees that
//! text.

use crate::authority::become_owner_of;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::store::state::State;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, geteuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

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

/// Does the work in a child that has become the owner of the state for good; directly where the caller is
/// not root anyway.
pub fn as_postern<T: Serialize + DeserializeOwned>(
    paths: &Paths,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    in_child(|| become_owner_of(&paths.state_dir()).and_then(|()| work()))
}

/// Does work that gives up root's rights in a child, so that the caller keeps them; directly where the
/// caller is not root anyway.
pub fn in_child<T: Serialize + DeserializeOwned>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    if !geteuid().is_root() {
        return work();
    }
    let failed = |doing: &'static str| move |e: nix::Error| Error::system(doing)(e.into());
    let (read, write) = nix::unistd::pipe().map_err(failed("make a pipe"))?;
    // SAFETY: this program has one thread; the child leaves by `_exit`.
    match unsafe { fork() }.map_err(failed("start a child"))? {
        ForkResult::Child => {
            drop(read);
            tell(write, work());
        }
        ForkResult::Parent { child } => {
            drop(write);
            let mut text = String::new();
            let heard = File::from(read).read_to_string(&mut text);
            let _ = waitpid(child, None);
            heard.map_err(Error::system("hear what the child did"))?;
            understand(&text)
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
