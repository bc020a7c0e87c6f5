//! The way out: what a hook says when it cannot go on.
//!
//! Before any work a hook registers prepared bytes and an exit status ("let mail go on"), or the next
//! program of a chain. A panic, any signal that can be caught, and the deadline all end there, so that the
//! mail server never sees a death by signal: Exim answers that with 451, and in `acl_not_smtp` with a final
//! refusal. SIGKILL and SIGSTOP cannot be caught.
//!
//! Everything that runs in the handler is async-signal-safe (signal-safety(7)): `open`, `fstat`, `write`,
//! `sendto`, `sigprocmask`, `execve`, `_exit`, on prepared memory only, on a stack of its own so that a
//! stack overflow finds its way out too.

use crate::authority::opens_files_as_root;
use crate::call::Call;
use crate::hook;
use crate::trouble::{CAP, Trouble, is_lately};
use nix::libc;
use std::ffi::{CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The whole time that a hook may take, in milliseconds.
pub const DEADLINE_MS: i64 = 1500;

/// What the hook does when it cannot go on.
pub enum WayOut {
    /// Write these bytes to this descriptor and exit with this status.
    Say(c_int, Vec<u8>, c_int),
    /// Become this program (the first argument is its path), with the environment as it is.
    Become(Vec<CString>),
}

/// A [`WayOut`] in the form that a signal handler can use.
struct Prepared {
    fd: c_int,
    bytes: Vec<u8>,
    status: c_int,
    argv: Vec<*const c_char>,
    /// Owns what `argv` points to.
    _arguments: Vec<CString>,
    /// The signal mask to restore before becoming another program.
    mask: libc::sigset_t,
    marks: [Mark; 3],
    log_address: libc::sockaddr_un,
}

/// A trouble mark and its log line, ready to be written.
struct Mark {
    path: CString,
    line: Vec<u8>,
}

static PREPARED: AtomicPtr<Prepared> = AtomicPtr::new(ptr::null_mut());

const TROUBLES: [Trouble; 3] = [Trouble::Deadline, Trouble::Signal, Trouble::Panic];

/// Registers the way out, catches every signal that can be caught and starts the deadline. Calling it again
/// replaces what was registered. For programs of one thread.
pub fn register(call: &Call, way: WayOut) {
    let mask = current_mask();
    let before = PREPARED.load(Ordering::Acquire);
    // SAFETY: only `register` stores this pointer, from a box, and frees it after it was replaced.
    let mask = unsafe { before.as_ref() }.map_or(mask, |earlier| earlier.mask);
    let prepared = Box::into_raw(Box::new(prepare(call, way, mask)));
    PREPARED.store(prepared, Ordering::Release);
    if !before.is_null() {
        // SAFETY: nobody has it any more: a handler that would still use it never came back to us. Freed,
        // because a program that lives as long as a connection registers with every question.
        drop(unsafe { Box::from_raw(before) });
    } else {
        own_signal_stack();
        std::panic::set_hook(Box::new(|_| leave(Trouble::Panic)));
        start_deadline();
        catch_signals();
    }
}

fn prepare(call: &Call, way: WayOut, mask: libc::sigset_t) -> Prepared {
    let (fd, bytes, status, arguments) = match way {
        WayOut::Say(fd, bytes, status) => (fd, bytes, status, Vec::new()),
        WayOut::Become(arguments) => (-1, Vec::new(), 111, arguments),
    };
    let mut argv: Vec<*const c_char> = arguments.iter().map(|a| a.as_ptr()).collect();
    argv.push(ptr::null());
    let mark = |trouble: Trouble| {
        let path = call.paths.trouble().join(trouble.code());
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        let line =
            format!("<19>{}[{}]: event=trouble code={}", call.program, std::process::id(), trouble.code());
        Mark { path, line: line.into_bytes() }
    };
    let marks = TROUBLES.map(mark);
    Prepared {
        fd,
        bytes,
        status,
        argv,
        _arguments: arguments,
        mask,
        marks,
        log_address: unix_address(call.paths.log_socket().as_os_str().as_bytes()),
    }
}

fn unix_address(path: &[u8]) -> libc::sockaddr_un {
    // SAFETY: an all-zero sockaddr_un is a valid value of that type.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // A path too long to be an address leaves it empty: the line is lost, nothing else.
    if path.len() < address.sun_path.len() {
        for (to, from) in address.sun_path.iter_mut().zip(path) {
            *to = *from as c_char;
        }
    }
    address
}

fn current_mask() -> libc::sigset_t {
    // SAFETY: a zeroed sigset_t is valid memory for the call to fill.
    unsafe {
        let mut mask: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, ptr::null(), &mut mask);
        mask
    }
}

fn own_signal_stack() {
    let stack = Vec::leak(vec![0u8; 64 * 1024]);
    let stack =
        libc::stack_t { ss_sp: stack.as_mut_ptr().cast::<c_void>(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the memory is leaked, so it outlives every handler.
    unsafe { libc::sigaltstack(&stack, ptr::null_mut()) };
}

/// Signals that do not end a process by default need no handler; KILL and STOP take none.
const LEFT_ALONE: [c_int; 6] =
    [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGURG, libc::SIGWINCH, libc::SIGCONT];

/// Signals that the C library keeps to itself (32 and 33 in glibc, 32 to 34 in musl): no handler can be
/// set through it, so they are blocked instead.
const LIBRARY_SIGNALS: std::ops::RangeInclusive<c_int> = 32..=34;

/// Signals that end a process although it ignores them (faults, `abort`), and the deadline's own.
const NEVER_IGNORED: [c_int; 8] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
    libc::SIGSYS,
    libc::SIGABRT,
    libc::SIGALRM,
];

/// A signal that the mail server lets us ignore stays ignored, for the next program of a chain too; one that
/// it blocks is let through, or the deadline would never come.
fn catch_signals() {
    // SAFETY: zeroed sigaction and sigset_t are valid; the handler is an `extern "C"` function of ours.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_ONSTACK;
        libc::sigfillset(&mut action.sa_mask);
        for signal in (1..=64).filter(|s| !LEFT_ALONE.contains(s) && !LIBRARY_SIGNALS.contains(s)) {
            let mut before: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, ptr::null(), &mut before);
            if before.sa_sigaction != libc::SIG_IGN || NEVER_IGNORED.contains(&signal) {
                libc::sigaction(signal, &action, ptr::null_mut());
            }
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut());
        // The kernel's own form, since the library's refuses these numbers: bit n-1 is signal n.
        let blocked: u64 = LIBRARY_SIGNALS.map(|s| 1u64 << (s - 1)).sum();
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &blocked, ptr::null::<u64>(), 8usize);
    }
}

/// Stops the deadline while a hook waits for its caller, who has time of his own.
pub fn pause_deadline() {
    // SAFETY: all zero is a valid value, and stops the timer.
    unsafe {
        let none: libc::itimerval = std::mem::zeroed();
        libc::setitimer(libc::ITIMER_REAL, &none, ptr::null_mut());
    }
}

/// Starts the deadline, anew after [`pause_deadline`].
pub fn start_deadline() {
    let after =
        libc::timeval { tv_sec: (DEADLINE_MS / 1000) as _, tv_usec: ((DEADLINE_MS % 1000) * 1000) as _ };
    let timer = libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: after };
    // SAFETY: plain values, no old timer wanted.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
}

extern "C" fn on_signal(signal: c_int) {
    leave(if signal == libc::SIGALRM { Trouble::Deadline } else { Trouble::Signal });
}

/// Takes the way out at once, marking this trouble. Async-signal-safe.
fn leave(trouble: Trouble) -> ! {
    // SAFETY: the pointer comes from a box that lives until it is replaced, or is null.
    let Some(prepared) = (unsafe { PREPARED.load(Ordering::Acquire).as_ref() }) else {
        // SAFETY: nothing was registered: 111 is "temporary trouble" for every caller that we have.
        unsafe { libc::_exit(111) }
    };
    if let Some(place) = TROUBLES.iter().position(|t| *t == trouble) {
        say_trouble(prepared, &prepared.marks[place]);
    }
    // SAFETY: prepared memory, async-signal-safe calls only.
    unsafe {
        if prepared.argv.len() > 1 {
            become_next(prepared);
        }
        libc::write(prepared.fd, prepared.bytes.as_ptr().cast(), prepared.bytes.len());
        libc::_exit(prepared.status)
    }
}

/// # Safety
/// `prepared` must hold a null-terminated vector of C strings.
unsafe fn become_next(prepared: &Prepared) {
    // SAFETY: see above; a pending timer would end the next program, so it is stopped first.
    unsafe {
        pause_deadline();
        forget_library_signals();
        libc::sigprocmask(libc::SIG_SETMASK, &prepared.mask, ptr::null_mut());
        hook::open_files_as_before();
        libc::execve(prepared.argv[0], prepared.argv.as_ptr(), environ);
    }
}

/// A signal that was blocked and came waits across `execve` and would end the next program: ignoring it for a
/// moment makes the kernel forget it. Async-signal-safe.
fn forget_library_signals() {
    // The kernel's own form (handler, flags, restorer, mask), since the library's refuses these numbers.
    let (ignored, as_before) = ([libc::SIG_IGN, 0, 0, 0], [libc::SIG_DFL, 0, 0, 0]);
    for signal in LIBRARY_SIGNALS {
        for action in [&ignored, &as_before] {
            // SAFETY: the kernel reads four words at most of what is ours, and writes nothing.
            unsafe {
                libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), ptr::null::<usize>(), 8usize)
            };
        }
    }
}

unsafe extern "C" {
    /// The environment as the C library keeps it (environ(7)).
    static environ: *const *const c_char;
}

/// Becomes the next program of a chain: the ordinary end of a hook that stands in front of one. Returns
/// only where the system could not start it.
pub fn become_registered() -> std::io::Error {
    // SAFETY: the pointer comes from a box that lives until it is replaced, or is null; `argv` was prepared by `prepare`.
    unsafe {
        if let Some(prepared) = PREPARED.load(Ordering::Acquire).as_ref() {
            become_next(prepared);
        }
    }
    std::io::Error::last_os_error()
}

/// Appends to the mark; logs where the mark is new or an hour old (or cannot be kept), as
/// [`trouble::mark`](crate::trouble::mark) does. Async-signal-safe.
fn say_trouble(prepared: &Prepared, mark: &Mark) {
    // SAFETY: prepared memory, async-signal-safe calls only.
    unsafe {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        // As root it would write where others can lay something in the mark's place.
        let fd = if opens_files_as_root() { -1 } else { libc::open(mark.path.as_ptr(), flags, 0o660) };
        if fd >= 0 {
            let mut meta: libc::stat = std::mem::zeroed();
            let examined = libc::fstat(fd, &mut meta) == 0;
            let age = libc::time(ptr::null_mut()) - meta.st_mtime;
            if u64::try_from(meta.st_size).is_ok_and(|size| size < CAP) {
                libc::write(fd, c".".as_ptr().cast(), 1);
            } else {
                libc::futimens(fd, ptr::null());
            }
            let is_first = libc::lseek(fd, 0, libc::SEEK_CUR) == 1;
            let news = examined && (is_first || (meta.st_size > 0 && !is_lately(age)));
            libc::close(fd);
            if !news {
                return;
            }
        }
        let socket =
            libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
        libc::sendto(
            socket,
            mark.line.as_ptr().cast(),
            mark.line.len(),
            libc::MSG_NOSIGNAL,
            ptr::from_ref(&prepared.log_address).cast(),
            std::mem::size_of::<libc::sockaddr_un>() as libc::socklen_t,
        );
        libc::close(socket);
    }
}
