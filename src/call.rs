//! What one call of a program knows of its surroundings: where the files lie, what time it is, who it is.

use crate::clock::Seconds;
use crate::error::Result;
use crate::feeds::Feeds;
use crate::kept::Kept;
use crate::networks::Networks;
use crate::paths::Paths;
use crate::policy::Policy;
use crate::recipients::Recipients;
use crate::store::state::State;

/// The surroundings of one call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Where Postern's files lie.
    pub paths: Paths,
    /// The time, read once.
    pub now: Seconds,
    /// The program's name, for log lines.
    pub program: &'static str,
    /// What the program keeps open between calls; none: each call opens what it needs.
    pub kept: Option<&'a Kept>,
    /// Whether this call may write anything down. Not where another program of ours may have counted the same
    /// request already, or has no time: then refusals that need no record still hold, and nothing else is done.
    pub records: bool,
}

impl<'a> Call<'a> {
    /// The surroundings of a program that opens what it needs.
    pub fn new(paths: Paths, now: Seconds, program: &'static str) -> Call<'a> {
        Call { paths, now, program, kept: None, records: true }
    }

    /// Reads in the published policy.
    pub fn with_policy<T>(&self, read: impl FnOnce(&Policy) -> Result<T>) -> Result<T> {
        match self.kept {
            Some(kept) => kept.with_policy(&self.paths, read),
            None => read(&Policy::open(&self.paths.policy())?),
        }
    }

    /// Looks up in the network data.
    pub fn with_networks<T>(&self, read: impl FnOnce(&Networks) -> Result<T>) -> Result<T> {
        match self.kept {
            Some(kept) => kept.with_networks(&self.paths, read),
            None => read(&Networks::open(&self.paths.networks())?),
        }
    }

    /// Looks up in the feeds; there are none where none is in use.
    pub fn with_feeds<T>(&self, read: impl FnOnce(Option<&Feeds>) -> Result<T>) -> Result<T> {
        match self.kept {
            Some(kept) => kept.with_feeds(&self.paths, read),
            None => read(Feeds::open(&self.paths.feeds())?.as_ref()),
        }
    }

    /// Looks recipients up; there is nothing where nothing was published yet.
    pub fn with_recipients<T>(&self, read: impl FnOnce(Option<&Recipients>) -> Result<T>) -> Result<T> {
        match self.kept {
            Some(kept) => kept.with_recipients(&self.paths, read),
            None => read(Recipients::open(&self.paths.recipients())?.as_ref()),
        }
    }

    /// Works with the shared state.
    pub fn with_state<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        match self.kept {
            Some(kept) => kept.with_state(&self.paths, work),
            None => work(&mut State::open(&self.paths)?),
        }
    }
}

/// Forty random bits for a reference. Without the system's random source (never seen on Linux once booted)
/// time and process number serve: a reference names, it does not protect.
pub fn random_bits() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer is ours and as long as we say.
    let got =
        unsafe { nix::libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), nix::libc::GRND_NONBLOCK) };
    if got == 8 {
        return u64::from_ne_bytes(bytes);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    (now as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ u64::from(std::process::id())
}
