//! Dovecot's door: `postern-dovecot gate`, `chain NEXT…` and `failed`, called as a checkpassword passdb
//! (Dovecot 2.3), `postlogin`, called as a post-login script, and `postern-dovecot policy`, which answers one
//! connection of its policy server ([`policy`]).
//!
//! Dovecot speaks through the environment (`TCPREMOTEIP`, `SERVICE`, `AUTH_USER`, `AUTHORIZED`), descriptor 3
//! (name and password) and descriptor 4 (the reply). `gate` has no use for the password and leaves it unread:
//! it stands in front of the real passdb and either passes on or refuses. It must never answer a plain
//! success, which would let any password in; it answers `noauthenticate`, so that the real passdb still checks.
//!
//! | | password login | credentials lookup (`AUTHORIZED=1`: CRAM-MD5, `doveadm auth lookup`) |
//! |---|---|---|
//! | pass on | reply `noauthenticate=y`, exit 0 | the same, exit 2 |
//! | refuse | exit 1 | exit 3 |
//!
//! `chain` stands in front of another checkpassword program: it takes name and password from descriptor 3,
//! lays them back for the next program, and becomes it, also on any trouble of its own.

mod failed;
mod postlogin;

use super::patient::{Patience, Patient};
use super::policy;
use crate::account::Account;
use crate::call::Call;
use crate::error::{Error, Result};
use crate::flow;
use crate::hook::{self, CommandLine, Conversation, Standard};
use crate::request::{Door, Login, Request, Service};
use crate::trouble::{self, Trouble};
use crate::verdict::Verdict;
use crate::wayout::{self, WayOut};
use nix::libc;
use std::ffi::{CString, c_char, c_int};
use std::time::{Duration, Instant};

const PROGRAM: &str = "postern-dovecot";

/// Temporary trouble, in the checkpassword protocol.
const TROUBLE: c_int = 111;

/// Most bytes that Dovecot writes to descriptor 3 (the checkpassword interface says 512).
const MOST_INPUT: usize = 4096;

/// How long `chain` waits for name and password. Dovecot writes them at once; only a starved machine is slow.
const INPUT_WAIT: Duration = Duration::from_secs(10);

const PASS_ON: &[u8] = b"noauthenticate=y\t";

/// The program's `main`.
///
/// # Safety
/// `argv` must be what the C library hands to `main`.
pub unsafe fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: promised by the caller.
    let arguments = unsafe { hook::arguments(argc, argv) };
    let command = match CommandLine::read(&arguments) {
        Ok(command) => command,
        Err(_) => return TROUBLE,
    };
    if command.verb == b"policy" {
        return answer_policy(&command);
    }
    if command.verb == b"postlogin" {
        return postlogin::postlogin(&command);
    }
    // Dovecot leaves its own sockets and second ends of the reply pipe open from 5 on.
    hook::close_descriptors_from(5);
    hook::fill_descriptors_below(5);
    match command.verb {
        b"gate" => gate(&command),
        b"chain" => chain(&command),
        b"failed" => failed::failed(&command),
        verb => {
            let accepted = "gate, chain, failed, policy or postlogin";
            let error = Error::bad_value("The verb", &String::from_utf8_lossy(verb), accepted);
            trouble::mark(&command.call(PROGRAM), Trouble::Call, &error.to_string());
            TROUBLE
        }
    }
}

/// As the keeper's, but that a process is dearer than a thread: every local user can connect, systemd's
/// `MaxConnections` are soon taken, and whoever does not show the key must give his place back. Dovecot sends its
/// first request at once, and keeps an idle connection for ten seconds.
const PATIENCE: Patience = Patience {
    first: Duration::from_secs(1),
    silence: Duration::from_secs(15),
    question: Duration::from_secs(1),
};

/// The policy server on standard input and output.
fn answer_policy(command: &CommandLine) -> c_int {
    hook::close_descriptors_from(3);
    hook::fill_descriptors_below(3);
    hook::ignore_broken_pipes();
    let talk = Conversation::begin(command, PROGRAM, policy::GO_ON);
    let tell = |trouble, error: &Error| trouble::mark(&talk.call(), trouble, &error.to_string());
    let options = policy::Options::read(&command.paths, &tell);
    // A connection that breaks is its client's own affair.
    if let Ok(mut stream) = Patient::new(Standard, PATIENCE) {
        let _ = policy::converse(&mut stream, &options, &mut |request| talk.answer(request, &policy::spoken));
    }
    0
}

fn is_lookup() -> bool {
    std::env::var_os("AUTHORIZED").is_some_and(|v| v == "1")
}

fn refusal() -> c_int {
    if is_lookup() { 3 } else { 1 }
}

fn gate(command: &CommandLine) -> c_int {
    let passing = if is_lookup() { 2 } else { 0 };
    let call = command.call(PROGRAM);
    wayout::register(&call, WayOut::Say(4, PASS_ON.to_vec(), passing));
    hook::drop_root(&call.paths);
    hook::have_fault(command.fault);
    let refused = refuses(&call, Door::DovecotGate);
    wait_for_input();
    if refused {
        return refusal();
    }
    // SAFETY: descriptor 4 is the reply pipe that Dovecot opened; where it is not, the write fails.
    unsafe { libc::write(4, PASS_ON.as_ptr().cast(), PASS_ON.len()) };
    passing
}

/// Waits until name and password lie in the pipe; they stay there unread.
///
/// A gate that ends before it breaks Dovecot's pipe: Dovecot then takes whatever the gate answered for an
/// internal failure, and a refusal lets in (seen with 60 logins at once on a busy machine). Dovecot writes
/// everything at once, so that it has begun is enough; where it never does, the way out ends the wait.
fn wait_for_input() {
    is_readable_within(3, -1);
}

fn chain(command: &CommandLine) -> c_int {
    let next: Vec<CString> = command.rest.iter().map(|a| (*a).to_owned()).collect();
    let call = command.call(PROGRAM);
    if next.is_empty() {
        trouble::mark(&call, Trouble::Call, "chain needs the next program");
        return TROUBLE;
    }
    // From here on every way out leads to the next program: with descriptor 3 as it came until it is read,
    // as it was laid back from then on; in between, signals wait.
    wayout::register(&call, WayOut::Become(next));
    if let Err(error) = Credentials::take_and_lay_back() {
        trouble::mark(&call, Trouble::Call, &error.to_string());
        return TROUBLE;
    }
    hook::open_files_as_owner(&call.paths);
    hook::have_fault(command.fault);
    if refuses(&call, Door::DovecotChain) {
        return refusal();
    }
    let error = wayout::become_registered();
    trouble::mark(
        &call,
        Trouble::Call,
        &format!("the next program of the chain could not be started: {error}"),
    );
    TROUBLE
}

/// Reads what Dovecot says in the environment and asks.
fn refuses(call: &Call, door: Door) -> bool {
    match login(door, variable) {
        Ok(login) => {
            let refused = || wayout::register(call, WayOut::Say(4, Vec::new(), refusal()));
            flow::answer(call, &Request::Login(login), &|_| refused()).verdict == Verdict::Refuse
        }
        Err(error) => {
            trouble::mark(call, Trouble::Call, &error.to_string());
            false
        }
    }
}

/// A variable of the environment; empty where there is none. A name that is no UTF-8 is a name all the same: one
/// that is on no list.
fn variable(name: &str) -> String {
    std::env::var_os(name).map_or_else(String::new, |v| v.to_string_lossy().into())
}

fn login(door: Door, variable: impl Fn(&str) -> String) -> Result<Login> {
    let address = match variable("TCPREMOTEIP") {
        empty if empty.is_empty() => None,
        text => Some(text.parse()?),
    };
    Ok(Login {
        account: Account::from_server(&variable("AUTH_USER")),
        address,
        service: Service::named(&variable("SERVICE")),
        door,
    })
}

/// What came on descriptor 3.
struct Credentials;

impl Credentials {
    /// Reads descriptor 3 to its end and lays the same bytes back there for the next program. Signals wait
    /// meanwhile, and the deadline: between the two, nobody could go on. Where Dovecot never ends its input,
    /// [`INPUT_WAIT`] ends the wait, and this one login fails instead of hanging.
    fn take_and_lay_back() -> Result<()> {
        wayout::pause_deadline();
        let blocked = BlockedSignals::all();
        let mut bytes = [0u8; MOST_INPUT];
        let length = read_to_end(3, &mut bytes);
        let laid = length.and_then(|length| lay_on_3(&bytes[..length]));
        bytes.fill(0);
        std::hint::black_box(&bytes);
        drop(blocked);
        wayout::start_deadline();
        laid.map_err(Error::system("hand name and password on to the next program of the chain"))
    }
}

fn read_to_end(fd: c_int, bytes: &mut [u8]) -> std::io::Result<usize> {
    let (mut length, begun) = (0, Instant::now());
    while length < bytes.len() {
        let left = INPUT_WAIT.saturating_sub(begun.elapsed()).as_millis();
        if !is_readable_within(fd, c_int::try_from(left).unwrap_or(c_int::MAX)) {
            return Err(std::io::Error::other("it did not come to its end"));
        }
        // SAFETY: the buffer is ours; the descriptor is whatever Dovecot gave.
        let n = unsafe { libc::read(fd, bytes[length..].as_mut_ptr().cast(), bytes.len() - length) };
        match n {
            0 => return Ok(length),
            n if n > 0 => length += n.unsigned_abs(),
            _ => match std::io::Error::last_os_error() {
                e if e.kind() == std::io::ErrorKind::Interrupted => {}
                e => return Err(e),
            },
        }
    }
    Err(std::io::Error::other("it is longer than any name and password may be"))
}

/// Waits so many milliseconds, or without end (-1). An end of input, an error and a closed descriptor count as
/// readable.
fn is_readable_within(fd: c_int, limit: c_int) -> bool {
    let mut input = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid pollfd.
    unsafe { libc::poll(&mut input, 1, limit) != 0 }
}

fn lay_on_3(bytes: &[u8]) -> std::io::Result<()> {
    let mut ends = [0; 2];
    // SAFETY: plain calls on descriptors of our own; a pipe takes 4096 bytes without a reader (PIPE_BUF).
    unsafe {
        if libc::pipe(ends.as_mut_ptr()) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let wrote = libc::write(ends[1], bytes.as_ptr().cast(), bytes.len());
        libc::close(ends[1]);
        if usize::try_from(wrote) != Ok(bytes.len()) || libc::dup2(ends[0], 3) != 3 {
            return Err(std::io::Error::last_os_error());
        }
        if ends[0] != 3 {
            libc::close(ends[0]);
        }
    }
    Ok(())
}

/// All signals wait while this lives.
struct BlockedSignals(u64);

impl BlockedSignals {
    fn all() -> BlockedSignals {
        let mut before = 0;
        set_signal_mask(u64::MAX, &mut before);
        BlockedSignals(before)
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        set_signal_mask(self.0, std::ptr::null_mut());
    }
}

/// In the kernel's own form: the C library leaves its own signals out of every set that it reads or gives, so
/// that restoring a set of its making would let those through that the way out keeps blocked.
fn set_signal_mask(mask: u64, before: *mut u64) {
    // SAFETY: eight bytes of ours to read, and eight to write or none.
    unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, before, 8usize) };
}

#[cfg(test)]
fn asked(pairs: &[(&str, &str)]) -> Result<Login> {
    login(Door::DovecotGate, |name| {
        pairs.iter().find(|(n, _)| *n == name).map_or_else(String::new, |(_, v)| (*v).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_without_an_address_is_asked_for_without_one() {
        let login = asked(&[("AUTH_USER", "alice@example.test"), ("SERVICE", "doveadm")]).unwrap();
        assert_eq!((login.address, login.service), (None, Service::Doveadm));
    }

    #[test]
    fn service_address_and_account_come_from_the_environment() {
        let pairs =
            [("AUTH_USER", "Alice@Example.test"), ("SERVICE", "imap"), ("TCPREMOTEIP", "::ffff:192.0.2.1")];
        let login = asked(&pairs).unwrap();
        assert_eq!(login.account.unwrap().name(), "alice@example.test");
        assert_eq!((login.address, login.service), ("192.0.2.1".parse().ok(), Service::Imap));
        assert!(asked(&[("TCPREMOTEIP", "x")]).is_err());
    }
}
