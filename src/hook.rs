//! How a hook program begins: the part that is the same for every mail server.
//!
//! Arguments are taken literally. First come the seams for tests and sandboxes (`--root=DIR`,
//! `--now=EPOCH|+SECONDS|-SECONDS`, `--fault=KIND`), which are refused when the program runs with somebody
//! else's authority; then the verb; then what the mail server says.

use crate::authority::become_owner_of;
use crate::call::Call;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::flow;
use crate::kept::Kept;
use crate::paths::{EXIM_SOCKET, Paths};
use crate::request::Request;
use crate::trouble::{self, Trouble};
use crate::verdict::Answer;
use crate::wayout::{self, WayOut};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use rusqlite::ffi;
use std::ffi::{CStr, OsStr, c_char, c_int};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// A hook's command line, split into what is ours and what the mail server says.
#[derive(Debug)]
pub struct CommandLine<'a> {
    /// Where the files lie.
    pub paths: Paths,
    /// Where the time comes from.
    pub clock: Clock,
    /// A fault to have on purpose, in tests.
    pub fault: Option<&'a [u8]>,
    /// What the program is asked to do.
    pub verb: &'a [u8],
    /// The arguments after the verb.
    pub rest: Vec<&'a CStr>,
}

impl<'a> CommandLine<'a> {
    /// Splits the arguments (without the program's own name).
    pub fn read(arguments: &[&'a CStr]) -> Result<CommandLine<'a>> {
        let mut line = CommandLine {
            paths: Paths::default(),
            clock: Clock::System,
            fault: None,
            verb: b"",
            rest: Vec::new(),
        };
        let mut left = arguments.iter();
        for argument in left.by_ref() {
            let bytes = argument.to_bytes();
            if !bytes.starts_with(b"--") {
                line.verb = bytes;
                break;
            }
            if has_borrowed_authority() {
                return Err(Error::NotAllowed(
                    "The seams --root, --now and --fault are not for programs with borrowed authority."
                        .into(),
                ));
            }
            line.take_seam(bytes)?;
        }
        line.rest = left.copied().collect();
        Ok(line)
    }

    fn take_seam(&mut self, seam: &'a [u8]) -> Result<()> {
        if let Some(root) = seam.strip_prefix(b"--root=") {
            self.paths = Paths::below(OsStr::from_bytes(root));
        } else if let Some(now) = seam.strip_prefix(b"--now=") {
            self.clock = Clock::parse(&String::from_utf8_lossy(now))?;
        } else if let Some(fault) = seam.strip_prefix(b"--fault=") {
            self.fault = Some(fault);
        } else {
            return Err(Error::bad_value(
                "The argument",
                &String::from_utf8_lossy(seam),
                "--root=DIR or --now=TIME may stand before the verb",
            ));
        }
        Ok(())
    }

    /// The value of `--name=value` among what the mail server says; the last one wins, none is empty.
    pub fn value(&self, name: &str) -> String {
        let value = self.rest.iter().rev().find_map(|argument| {
            argument.to_bytes().strip_prefix(b"--")?.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        });
        value.map_or_else(String::new, |v| String::from_utf8_lossy(v).into_owned())
    }

    /// Whether `--name` is among what the mail server says.
    pub fn has(&self, name: &str) -> bool {
        self.rest.iter().any(|argument| argument.to_bytes().strip_prefix(b"--") == Some(name.as_bytes()))
    }

    /// The surroundings of this call.
    pub fn call(&self, program: &'static str) -> Call<'static> {
        Call::new(self.paths.clone(), self.clock.now(), program)
    }

    /// The same for a program that answers once and ends. What it opens it opens once, and nothing is closed:
    /// the system does that faster, all at once, than we piece by piece.
    pub fn call_once(&self, program: &'static str) -> Call<'static> {
        give_sqlite_memory();
        let kept = Box::leak(Box::new(Kept::new(Arc::default())));
        Call { kept: Some(kept), ..self.call(program) }
    }
}

/// Gives SQLite one piece of address space to divide (sqlite.org/malloc.html, "memsys5"): with its schema it asks for a
/// thousand little pieces, for which the C library would ask the system a hundred times. What is not used costs nothing.
/// Where it cannot be had (no room, another SQLite, too late), SQLite asks the C library as ever.
fn give_sqlite_memory() {
    // More than the most that the state may take.
    const BYTES: usize = 128 << 20;
    const SMALLEST: c_int = 64;
    // SAFETY: new memory at no particular place, which stays for the life of the program; SQLite takes it before its first use
    // or not at all.
    unsafe {
        let (access, kind) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        let memory = libc::mmap(std::ptr::null_mut(), BYTES, access, kind, -1, 0);
        if memory != libc::MAP_FAILED {
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_HEAP, memory, BYTES as c_int, SMALLEST);
        }
    }
}

/// Whether the program was given rights that its caller does not have (set-user-id and the like).
pub fn has_borrowed_authority() -> bool {
    // SAFETY: reads a number from the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The arguments of a C `main`, without the program's name.
///
/// # Safety
/// `argv` must be what the C library hands to `main`: `argc` valid C strings that live as long as the
/// process.
pub unsafe fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<&'static CStr> {
    let count = usize::try_from(argc).unwrap_or(0);
    // SAFETY: promised by the caller.
    (1..count).map(|i| unsafe { CStr::from_ptr(*argv.add(i)) }).collect()
}

/// Closes every descriptor from `first` on: mail servers leave their own listening sockets and pipes open in
/// what they start (seen: Dovecot's auth leaves a second copy of the reply pipe), and holding them delays
/// the server.
pub fn close_descriptors_from(first: c_int) {
    close_range(first, c_int::MAX);
}

/// Closes every descriptor but the three of every program and these: a child that is to do work with another
/// user's rights must hold nothing that only its parent may open.
pub fn close_descriptors_but(kept: &[c_int]) {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().filter(|fd| *fd >= 3) {
        if first < fd {
            close_range(first, fd - 1);
        }
        first = fd + 1;
    }
    close_range(first, c_int::MAX);
}

fn close_range(first: c_int, last: c_int) {
    // SAFETY: closing descriptors that nothing of ours goes on using.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) == 0 {
            return;
        }
        // Kernels before 5.9 have no close_range.
        for fd in first..=last.min(1023) {
            libc::close(fd);
        }
    }
}

/// Opens `/dev/null` where one of the first descriptors is closed. Else a file of ours would get its number,
/// and the answer to the mail server would be written into it.
pub fn fill_descriptors_below(count: c_int) {
    // SAFETY: asks about and opens descriptors; nothing of ours is open yet.
    unsafe {
        for fd in 0..count {
            if libc::fcntl(fd, libc::F_GETFD) == -1 && libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) == -1 {
                return;
            }
        }
    }
}

/// Lets a write fail whose reader has gone, instead of ending the program.
pub fn ignore_broken_pipes() {
    // SAFETY: no handler, a plain setting.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// A hook has no business with root's rights: where a server starts it so, it becomes the owner of the
/// state for good. Where that cannot be (the folder is root's own, or missing), it goes on without the state:
/// what mail users can write is never opened with root's rights.
pub fn drop_root(paths: &Paths) {
    let _ = become_owner_of(&paths.state_dir());
}

/// As [`drop_root`], for a program that stands in front of another which may need root's rights: only files
/// are opened with the owner's rights, until [`open_files_as_before`].
pub fn open_files_as_owner(paths: &Paths) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    if let Ok(owner) = std::fs::metadata(paths.state_dir()) {
        // SAFETY: plain numbers. The group goes first, as in every change of rights.
        unsafe {
            libc::setfsgid(owner.gid());
            libc::setfsuid(owner.uid());
        }
    }
}

/// Takes [`open_files_as_owner`] back. Async-signal-safe.
pub fn open_files_as_before() {
    // SAFETY: plain system calls.
    unsafe {
        libc::setfsuid(libc::geteuid());
        libc::setfsgid(libc::getegid());
    }
}

/// Whether a keeper listens, answering or not: its socket takes the connection, or its queue is full. Never
/// waits. A socket that may not be reached is none for this user.
pub fn keeper_lives(paths: &Paths) -> bool {
    matches!(connect_to_keeper(paths), Ok(_) | Err(Errno::EAGAIN | Errno::EINPROGRESS))
}

/// A connection to the keeper's socket for Exim's questions. Never waits: EAGAIN where the queue is full.
pub(crate) fn connect_to_keeper(paths: &Paths) -> nix::Result<UnixStream> {
    let address = UnixAddr::new(&paths.sockets().join(EXIM_SOCKET))?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), &address)?;
    Ok(socket.into())
}

/// Standard input and output as one connection, which is what inetd and Postfix's spawn(8) make of them.
#[derive(Debug)]
pub struct Standard;

impl Read for Standard {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(nix::unistd::read(std::io::stdin(), buffer)?)
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(nix::unistd::write(std::io::stdout(), bytes)?)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// How a door says an answer.
pub type Spoken<'a> = &'a dyn Fn(&Request, &Answer) -> Vec<u8>;

/// A program that answers one question after the other, on standard input and output.
#[derive(Debug)]
pub struct Conversation<'a> {
    command: &'a CommandLine<'a>,
    program: &'static str,
    go_on: &'static [u8],
}

impl<'a> Conversation<'a> {
    /// Begins it: catches signals and drops root's rights. `go_on` is what the way out says to a question;
    /// between two questions it says nothing, and no deadline runs: the mail server has time of its own.
    pub fn begin(command: &'a CommandLine, program: &'static str, go_on: &'static [u8]) -> Self {
        let conversation = Conversation { command, program, go_on };
        conversation.rest(&conversation.call());
        drop_root(&command.paths);
        conversation
    }

    /// The surroundings of one question: each has a time of its own.
    pub fn call(&self) -> Call<'static> {
        self.command.call(self.program)
    }

    /// Answers one question within its deadline.
    pub fn answer(&self, request: &Request, spoken: Spoken) -> Answer {
        let call = self.call();
        let way_out = |bytes: Vec<u8>| wayout::register(&call, WayOut::Say(1, bytes, 0));
        way_out(self.go_on.to_vec());
        wayout::start_deadline();
        have_fault(self.command.fault);
        let answer = flow::answer(&call, request, &|answer| way_out(spoken(request, answer)));
        self.rest(&call);
        answer
    }

    fn rest(&self, call: &Call) {
        wayout::register(call, WayOut::Say(1, Vec::new(), 0));
        wayout::pause_deadline();
    }

    /// Marks what the door did not understand.
    pub fn end(&self, outcome: std::io::Result<Result<()>>) {
        if let Ok(Err(error)) = outcome {
            trouble::mark(&self.call(), Trouble::Call, &error.to_string());
        }
    }
}

/// Has the fault that a test asks for.
pub fn have_fault(fault: Option<&[u8]>) {
    match fault {
        None => {}
        Some(b"panic") => fault_panic(),
        Some(b"overflow") => {
            std::hint::black_box(overflow(0));
        }
        Some(b"hang") => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        Some(signal) => {
            let number = std::str::from_utf8(signal).ok().and_then(|s| s.parse().ok()).unwrap_or(0);
            // SAFETY: sends a signal to ourselves.
            unsafe { libc::raise(number) };
        }
    }
}

#[allow(clippy::panic, reason = "the fault that a test asks for")]
fn fault_panic() {
    panic!("asked for by --fault=panic");
}

#[allow(unconditional_recursion, reason = "the fault that a test asks for")]
fn overflow(depth: u64) -> u64 {
    let block = std::hint::black_box([depth; 512]);
    overflow(depth + 1) + block[(depth % 512) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_descriptor_is_closed_but_those_that_are_kept() {
        let open = || std::fs::File::open("/").unwrap();
        let files = [open(), open(), open(), open()].map(std::os::fd::OwnedFd::from);
        let numbers = files.map(std::os::fd::IntoRawFd::into_raw_fd);
        // In a child of its own: the tests beside this one have files open, too.
        // SAFETY: the child makes system calls only and leaves by `_exit`.
        let status = unsafe {
            let child = libc::fork();
            if child == 0 {
                close_descriptors_but(&[numbers[2], numbers[0]]);
                let is_open = numbers.map(|fd| libc::fcntl(fd, libc::F_GETFD) >= 0);
                libc::_exit(if is_open == [true, false, true, false] { 0 } else { 1 });
            }
            let mut status = 0;
            libc::waitpid(child, &mut status, 0);
            status
        };
        assert_eq!(status, 0);
    }

    #[test]
    fn seams_come_first_and_the_rest_is_taken_literally() {
        let arguments =
            [c"--root=/x", c"--now=7", c"send", c"--account=--root=/y", c"--sender=a=b", c"--account=z"];
        let line = CommandLine::read(&arguments).unwrap();
        assert_eq!((line.paths.root().to_str(), line.clock.now(), line.verb), (Some("/x"), 7, &b"send"[..]));
        assert_eq!((line.value("account"), line.value("sender")), ("z".into(), "a=b".into()));
        assert_eq!(line.value("root"), "");
        assert!(CommandLine::read(&[c"--rot=/x", c"send"]).is_err());
    }
}
