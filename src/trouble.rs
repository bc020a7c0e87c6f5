//! Trouble of our own: told once, visible in health, never in the way of mail.
//!
//! A process that serves one call has no memory, so each kind of trouble appends one byte to
//! `/run/postern/trouble/<code>`: the size is how often (capped), the time of change is when last. A log
//! line is written only where the mark is new or an hour old.

use crate::acl;
use crate::authority::opens_files_as_root;
use crate::call::Call;
use crate::clock::Seconds;
use crate::error::Result;
use crate::log::{Line, Severity};
use crate::paths::Paths;
use crate::shared_folder::{Found, out_of_the_way, own_file};
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// How often a mark counts at most.
pub(crate) const CAP: u64 = 100_000;

/// After so many seconds a trouble that goes on is logged again.
const SAY_AGAIN: i64 = 3600;

/// Whether a mark of this age, in seconds, was made lately. A file's time may run a little ahead of the clock
/// that programs read; one that lies further ahead is from before the clock was set back.
pub(crate) fn is_lately(age: i64) -> bool {
    (-60..SAY_AGAIN).contains(&age)
}

/// The kinds of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The published policy is missing or unreadable.
    Policy,
    /// The network data are missing or unreadable.
    Networks,
    /// The compiled feeds are damaged.
    Feeds,
    /// The state file is not there.
    StateMissing,
    /// The state file is damaged.
    StateBroken,
    /// The state is locked for longer than a hook waits.
    StateLocked,
    /// The state may not be opened or written by this user.
    StateDenied,
    /// The disk of the state is full.
    StateFull,
    /// The state was written by a newer version that this program cannot follow.
    StateNewer,
    /// The tally could not be appended to.
    Tally,
    /// A hook took its way out because its time was up.
    Deadline,
    /// A hook took its way out because of a signal.
    Signal,
    /// A hook took its way out because of a fault of its own, or the keeper met one.
    Panic,
    /// A hook was called in a way that it does not understand.
    Call,
    /// The keeper had more to do than it could.
    KeeperBusy,
    /// Somebody asked the keeper who is no mail server's user.
    NotAdmitted,
    /// The keeper could not listen where it should.
    Keeper,
    /// A policy request without the key.
    PolicyKey,
    /// The policy server that was there before us did not answer.
    ChainedPolicy,
    /// Every login fails, also of those who are known where they come from.
    LoginsFail,
    /// A notice could not be sent.
    Notice,
    /// A part of the minute's work failed.
    Tick,
}

/// Every kind, with its code and what the administrator is told.
pub const TABLE: &[(Trouble, &str, &str)] = &[
    (
        Trouble::Policy,
        "policy",
        "The published policy is missing or damaged: no rule is asked, and only accounts that are stopped stay so. `postern publish` writes it anew.",
    ),
    (
        Trouble::Networks,
        "networks",
        "The network data are missing or damaged: the country rule is not asked. `postern data build` makes them.",
    ),
    (
        Trouble::Feeds,
        "feeds",
        "The file of feeds is damaged, so feeds refuse nobody. `postern feeds update` makes it anew.",
    ),
    (
        Trouble::StateMissing,
        "state-missing",
        "The state file is missing: nothing is counted. `postern tick` begins a new one.",
    ),
    (
        Trouble::StateBroken,
        "state-broken",
        "The state file is damaged: nothing is counted. `postern tick` sets it aside and begins a new one.",
    ),
    (Trouble::StateLocked, "state-locked", "The state was locked for too long: some calls were not counted."),
    (
        Trouble::StateDenied,
        "state-denied",
        "A mail server's user may not use the state. `postern init` puts owners and rights back.",
    ),
    (Trouble::StateFull, "state-full", "The disk of the state is full: nothing is counted. Make room."),
    (
        Trouble::StateNewer,
        "state-newer",
        "The state belongs to a newer Postern: this one counts nothing. Install the newer version.",
    ),
    (Trouble::Tally, "tally", "The tally could not be written: statistics are incomplete."),
    (Trouble::Deadline, "deadline", "A hook ran out of time and let mail go on."),
    (Trouble::Signal, "signal", "A hook was ended by a signal and let mail go on."),
    (
        Trouble::Panic,
        "panic",
        "A program of ours met a fault of its own and let mail go on. Please report it.",
    ),
    (
        Trouble::Call,
        "call",
        "A hook was called in a way that it does not understand: compare the snippets with those of this version.",
    ),
    (
        Trouble::KeeperBusy,
        "keeper-busy",
        "The keeper had more to do than it could: some messages went on uncounted.",
    ),
    (
        Trouble::NotAdmitted,
        "not-admitted",
        "Somebody asked the keeper who is none of the mail servers' users. Where that is a mail server: `postern init --mail-users USER`.",
    ),
    (Trouble::Keeper, "keeper", "The keeper could not listen where it should; its log says where and why."),
    (
        Trouble::PolicyKey,
        "policy-key",
        "Somebody asked Dovecot's policy door without the key. Where that was Dovecot itself, logins go on unchecked: `postern init`, then reload Dovecot.",
    ),
    (
        Trouble::ChainedPolicy,
        "chained-policy",
        "The policy server that was there before Postern does not answer: Postern's answer holds alone.",
    ),
    (
        Trouble::LoginsFail,
        "logins-fail",
        "Every login failed, also of mailboxes from where they are known: is the server's database of passwords down? Nothing was learned from these failures.",
    ),
    (
        Trouble::Notice,
        "notice",
        "A notice could not be sent; it is tried again. `postern notices list` says by which way, and why.",
    ),
    (
        Trouble::Tick,
        "tick-failed",
        "A part of the minute's work did not succeed; `postern tick --verbose` says which.",
    ),
];

impl Trouble {
    /// The stable code; also the name of its mark.
    pub fn code(self) -> &'static str {
        TABLE.iter().find(|(t, ..)| *t == self).map_or("unknown", |(_, code, _)| code)
    }

    /// What the administrator is told.
    pub fn sentence(self) -> &'static str {
        TABLE.iter().find(|(t, ..)| *t == self).map_or("", |(_, _, sentence)| sentence)
    }
}

/// Marks the trouble, and logs it where it is news. The detail goes to the log only.
///
/// Root leaves no mark: the folder belongs to others, and root writes nothing where they could have laid
/// something.
pub fn mark(call: &Call, trouble: Trouble, detail: &str) {
    if opens_files_as_root() || append_mark(&call.paths, trouble).unwrap_or(true) {
        Line::new(Severity::Error, "trouble")
            .field("code", trouble.code())
            .field("detail", detail)
            .send(&call.paths, call.program);
    }
}

/// Appends one byte; tells whether it is worth a log line. Without `/run/postern` each is. Of hooks that meet
/// the same trouble at the same moment one wrote the first byte, and that one tells.
fn append_mark(paths: &Paths, trouble: Trouble) -> std::io::Result<bool> {
    let mut file: File = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o660)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
        .open(paths.trouble().join(trouble.code()))?;
    let before = file.metadata()?;
    let age = crate::clock::Clock::System.now() - before.mtime();
    if before.len() < CAP {
        file.write_all(b".")?;
    } else {
        // A full mark still says when last.
        file.set_modified(std::time::SystemTime::now())?;
    }
    let is_first = file.stream_position()? == 1;
    Ok(is_first || (before.len() > 0 && !is_lately(age)))
}

/// Removes the marks: all of them, or those that nobody added to for so many seconds. For user `postern`.
pub fn clear(paths: &Paths, quiet_for: i64) -> usize {
    let now = crate::clock::Clock::System.now();
    let old = marks(paths).into_iter().filter(|m| now - m.last >= quiet_for);
    old.filter(|m| std::fs::remove_file(paths.trouble().join(m.trouble.code())).is_ok()).count()
}

/// Gives these users, and nobody else, access to the marks that are there. Those of other users than the
/// caller are removed: trouble that goes on is marked again. For user `postern`.
pub fn give_access(paths: &Paths, uids: &[u32]) -> Result<()> {
    for path in TABLE.iter().map(|(_, code, _)| paths.trouble().join(code)) {
        match own_file(&path) {
            Found::Nothing => {}
            Found::Own(file) => acl::set_sharers(&file, &path, uids)?,
            Found::Foreign => out_of_the_way(&path).map(|_| ())?,
        }
    }
    Ok(())
}

/// A mark as found.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// The kind.
    pub trouble: Trouble,
    /// How often, capped.
    pub count: u64,
    /// When last, by the system's clock.
    pub last: Seconds,
}

/// All marks that are there.
pub fn marks(paths: &Paths) -> Vec<Mark> {
    let found = |(trouble, code, _): &(Trouble, &str, &str)| {
        let meta = std::fs::symlink_metadata(paths.trouble().join(code)).ok().filter(|m| m.is_file())?;
        Some(Mark { trouble: *trouble, count: meta.len(), last: meta.mtime() })
    };
    TABLE.iter().filter_map(found).filter(|m| m.count > 0).collect()
}
