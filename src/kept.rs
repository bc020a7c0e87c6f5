//! What a program that lives long keeps open between requests: the published policy, the network data, the
//! shared state, the tally.
//!
//! Policy and data are published by rename: each request looks whether the names of policy and state lead to
//! other files by now (requests that are decided together look once), and every fifth of a second one looks at
//! the other names. The state is let go as soon as somebody intends to replace it (see [`lock`]); there is one
//! for all threads, since there is one writer at a time anyway.

use crate::error::{Error, Result};
use crate::feeds::Feeds;
use crate::networks::Networks;
use crate::paths::Paths;
use crate::policy::Policy;
use crate::recipients::Recipients;
use crate::shared_folder::identity;
use crate::store::lock;
use crate::store::state::{State, Within};
use parking_lot::{Mutex, MutexGuard};
use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a thread waits for another that works with the state.
const TURN: Duration = Duration::from_millis(300);

/// How long those wait that others wait for.
const AT_ONCE: Duration = Duration::from_millis(5);

/// How often names are looked at that need not be looked at each time. A tally that was renamed is written to for
/// as long, which who folds it has to wait.
pub const LOOK: Duration = Duration::from_millis(200);

/// A file that is open, and which one it is: device and number. As long as it is open, no other can have both.
struct Open<T> {
    identity: (u64, u64),
    looked: Instant,
    what: T,
}

/// The state that is open, and which file it is.
struct OpenState {
    identity: (u64, u64),
    state: State,
}

/// What one thread at a time works with.
pub struct Kept {
    policy: RefCell<Option<Open<Policy>>>,
    networks: RefCell<Option<Open<Networks>>>,
    feeds: RefCell<Option<Open<Option<Feeds>>>>,
    recipients: RefCell<Option<Open<Option<Recipients>>>>,
    tally: RefCell<Option<Open<File>>>,
    state: Arc<KeptState>,
    shared: Shared,
    /// How often the policy's name is looked at.
    look: Duration,
}

/// What several questions share that are decided together; nothing otherwise.
#[derive(Default)]
struct Shared {
    state: RefCell<Option<OpenState>>,
    /// Lines for the tally.
    lines: RefCell<Option<String>>,
}

/// What comes of work that was done together.
pub(crate) struct Together<T> {
    pub(crate) done: T,
    /// Whether what was written to the state is kept.
    pub(crate) kept: Result<()>,
    /// Lines that the tally is owed.
    pub(crate) lines: String,
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}

impl Kept {
    /// Nothing is open yet; the state is shared with others.
    pub fn new(state: Arc<KeptState>) -> Kept {
        let (policy, networks, feeds) = (RefCell::default(), RefCell::default(), RefCell::default());
        let (recipients, tally, shared) = (RefCell::default(), RefCell::default(), Shared::default());
        Kept { policy, networks, feeds, recipients, tally, state, shared, look: Duration::ZERO }
    }

    /// For what is past, of which many thousands are asked about at once: no name is looked at each time.
    pub fn for_the_past() -> Kept {
        Kept { look: LOOK, ..Kept::new(Arc::default()) }
    }

    pub(crate) fn with_policy<T>(&self, paths: &Paths, read: impl FnOnce(&Policy) -> Result<T>) -> Result<T> {
        let mut slot = self.policy.try_borrow_mut().map_err(|_| asked_within("policy"))?;
        // What an administrator changes holds from the next request on. Those that are decided together have come
        // before the first of them looks.
        let look = if self.shared.lines.borrow().is_some() { LOOK } else { self.look };
        read(up_to_date(&mut slot, || paths.policy(), look, Policy::open)?.0)
    }

    pub(crate) fn with_networks<T>(
        &self,
        paths: &Paths,
        read: impl FnOnce(&Networks) -> Result<T>,
    ) -> Result<T> {
        let mut slot = self.networks.try_borrow_mut().map_err(|_| asked_within("network data"))?;
        read(up_to_date(&mut slot, || paths.networks(), LOOK, Networks::open)?.0)
    }

    pub(crate) fn with_feeds<T>(
        &self,
        paths: &Paths,
        read: impl FnOnce(Option<&Feeds>) -> Result<T>,
    ) -> Result<T> {
        let mut slot = self.feeds.try_borrow_mut().map_err(|_| asked_within("feeds"))?;
        read(up_to_date(&mut slot, || paths.feeds(), LOOK, Feeds::open)?.0.as_ref())
    }

    pub(crate) fn with_recipients<T>(
        &self,
        paths: &Paths,
        read: impl FnOnce(Option<&Recipients>) -> Result<T>,
    ) -> Result<T> {
        let mut slot = self.recipients.try_borrow_mut().map_err(|_| asked_within("recipients"))?;
        read(up_to_date(&mut slot, || paths.recipients(), LOOK, Recipients::open)?.0.as_ref())
    }

    /// Writes to the file of this name, which is given another name when it is to be read: then a later line
    /// begins a new one. `write` is told whether the name was looked at, and is to look at the file then.
    pub(crate) fn with_tally(
        &self,
        path: &Path,
        open: impl FnOnce(&Path) -> Result<File>,
        write: impl FnOnce(&File, bool) -> Result<()>,
    ) -> Result<()> {
        let mut slot = self.tally.try_borrow_mut().map_err(|_| asked_within("tally"))?;
        let (file, looked) = up_to_date(&mut slot, || path.to_owned(), LOOK, open)?;
        write(file, looked)
    }

    pub(crate) fn with_state<T>(
        &self,
        paths: &Paths,
        work: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let mut shared = self.shared.state.try_borrow_mut().map_err(|_| asked_within("state"))?;
        match &mut *shared {
            Some(open) => work(&mut open.state),
            None => self.state.with(paths, work),
        }
    }

    /// Takes a line for the tally, where several are written at once; tells whether it did.
    pub(crate) fn takes_line(&self, line: &str) -> bool {
        let mut lines = self.shared.lines.borrow_mut();
        lines.as_mut().map(|lines| lines.push_str(line)).is_some()
    }

    /// Does work of several questions that share one transaction on the state, one look at what may have been
    /// replaced, and one write to the tally, which is the caller's to make. Fails where the state is not open and free
    /// at once; nothing is done then.
    pub(crate) fn together<T>(
        &self,
        paths: &Paths,
        within: Within,
        work: impl FnOnce() -> T,
    ) -> Result<Together<T>> {
        let mut slot = self.state.turn(AT_ONCE)?;
        let Some(mut open) = self.state.take_open(paths, &mut slot)? else {
            return Err(Error::State("The state is not open yet.".into()));
        };
        if let Err(error) = open.state.begin_shared(within, AT_ONCE) {
            *slot = Some(open);
            return Err(error);
        }
        // One look for all; where there is no policy, each says so.
        let _ = self.with_policy(paths, |_| Ok(()));
        self.shared.state.replace(Some(open));
        self.shared.lines.replace(Some(String::new()));
        let done = work();
        let lines = self.shared.lines.take().unwrap_or_default();
        let Some(mut open) = self.shared.state.take() else { return Err(asked_within("state")) };
        let kept = open.state.end_shared();
        *slot = Some(open);
        Ok(Together { done, kept, lines })
    }
}

/// The open file, opened anew where its name leads to another by now, as far as that was looked at: every `look`.
/// Where it cannot be opened, it is missing, as it is for a hook. Tells whether the name was looked at.
fn up_to_date<T>(
    slot: &mut Option<Open<T>>,
    path: impl FnOnce() -> PathBuf,
    look: Duration,
    open: impl FnOnce(&Path) -> Result<T>,
) -> Result<(&T, bool)> {
    let looks = slot.as_ref().is_none_or(|open| open.looked.elapsed() >= look);
    if !looks && let Some(open) = slot {
        return Ok((&open.what, false));
    }
    let path = path();
    let now = identity(&path);
    let looked = Instant::now();
    let still = slot.take().filter(|open| Some(open.identity) == now);
    let open = match still {
        Some(open) => Open { looked, ..open },
        None => Open { what: open(&path)?, identity: now.unwrap_or_default(), looked },
    };
    Ok((&slot.insert(open).what, true))
}

/// Never happens: no question is asked from within another.
fn asked_within(what: &str) -> Error {
    Error::Data(format!("The {what} is being read by this very request."))
}

/// The shared state, open for all threads of a program.
#[derive(Default)]
pub struct KeptState {
    slot: Mutex<Option<OpenState>>,
    for_long: bool,
}

type Slot<'a> = MutexGuard<'a, Option<OpenState>>;

impl KeptState {
    /// For a program that works with the state again and again.
    pub fn for_long() -> KeptState {
        KeptState { for_long: true, ..KeptState::default() }
    }

    /// Works with the state, when it is this thread's turn; after 0.3 seconds of waiting it is locked.
    fn with<T>(&self, paths: &Paths, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut slot = self.turn(TURN)?;
        // Out of its place meanwhile: a panic costs it.
        let mut open = self.take(paths, &mut slot)?;
        let done = work(&mut open.state);
        *slot = Some(open);
        done
    }

    fn turn(&self, wait: Duration) -> Result<Slot<'_>> {
        self.slot
            .try_lock_for(wait)
            .ok_or_else(|| Error::State("Others work with the state; nothing was counted.".into()))
    }

    /// The state, taken out of its place; opened where it is not open.
    fn take(&self, paths: &Paths, slot: &mut Slot) -> Result<OpenState> {
        if let Some(open) = self.take_open(paths, slot)? {
            return Ok(open);
        }
        // Looked at before it is opened, so that one that is replaced meanwhile is opened anew next time.
        let identity = identity(&paths.state()).unwrap_or_default();
        let state = if self.for_long { State::open_for_long(paths) } else { State::open(paths) }?;
        Ok(OpenState { identity, state })
    }

    /// The state, taken out of its place, where it is open. It is let go where somebody intends to replace it, and
    /// where its name leads to another file by now.
    fn take_open(&self, paths: &Paths, slot: &mut Slot) -> Result<Option<OpenState>> {
        let open = slot.take();
        if lock::somebody_intends(paths) {
            return Err(lock::being_replaced());
        }
        let now = open.as_ref().and_then(|_| identity(&paths.state()));
        Ok(open.filter(|open| Some(open.identity) == now))
    }

    /// Lets the state go where somebody intends to replace it, or has; holds it open otherwise, since a hook that
    /// is alone with it has to read the whole WAL first. For a thread that looks now and then, so that neither
    /// who waits for the state nor a hook depends on the next request. A state of a newer version is let go,
    /// too. What cannot be opened is for the next request to tell.
    pub fn tend(&self, paths: &Paths) {
        let Ok(mut slot) = self.turn(TURN) else { return };
        let open = self.take(paths, &mut slot).ok();
        *slot = open.filter(|open| open.state.refuse_newer().is_ok());
    }

    /// Lets the state go, whatever else.
    pub fn let_go(&self) {
        *self.slot.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_is_opened_anew_and_one_that_was_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let mut slot = None;
        let mut read = |look: Duration, expected_opens: usize, opens: &std::cell::Cell<usize>| {
            let found = up_to_date(
                &mut slot,
                || path.clone(),
                look,
                |path| {
                    opens.set(opens.get() + 1);
                    std::fs::read_to_string(path).map_err(Error::file("read", path))
                },
            );
            let found = found.map(|(text, _)| text.clone()).map_err(|e| e.code());
            assert_eq!(opens.get(), expected_opens);
            found
        };
        let opens = std::cell::Cell::new(0);
        let (always, seldom) = (Duration::ZERO, Duration::from_secs(600));
        assert_eq!(read(seldom, 1, &opens), Err("file"));
        std::fs::write(&path, "one").unwrap();
        assert_eq!(read(seldom, 2, &opens), Ok("one".into()));
        assert_eq!(read(always, 2, &opens), Ok("one".into()));
        std::fs::write(dir.path().join("new"), "two").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(read(seldom, 2, &opens), Ok("one".into()));
        assert_eq!(read(always, 3, &opens), Ok("two".into()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(seldom, 3, &opens), Ok("two".into()));
        assert_eq!(read(always, 4, &opens), Err("file"));
    }
}
