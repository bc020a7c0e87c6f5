//! The keeper, running in the sandbox, and who asks it.

use super::{Sandbox, process};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use postern::door::line::question;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A keeper that runs. Dropped: it has ended.
pub(crate) struct Keeper {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Sandbox {
    /// Starts the keeper and waits until it listens. It sees the sandbox's time from its start on, standing
    /// still; [`Sandbox::tell_time`] moves it.
    pub(crate) fn keeper(&self, words: &[&str]) -> Keeper {
        let socket = self.path("run/postern/sockets/exim");
        let keeper = self.begin_keeper(words);
        eventually("the keeper listens", || UnixStream::connect(&socket).is_ok());
        keeper
    }

    /// The same without waiting.
    pub(crate) fn begin_keeper(&self, words: &[&str]) -> Keeper {
        self.tell_time();
        let mut command = std::process::Command::new(self.path("bin/postern"));
        command.arg(format!("--root={}", self.root().display()));
        command.arg(format!("--now=@{}", self.path("clock").display()));
        // The standard port is one for the whole machine.
        let at =
            if words.iter().any(|word| word.starts_with("--policy-at=")) { "" } else { "--policy-at=none" };
        command
            .arg("keeper")
            .args(words)
            .args(Some(at).filter(|word| !word.is_empty()))
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Keeper { child, socket: self.path("run/postern/sockets/exim") }
    }

    /// Tells the keeper what time it is in the sandbox by now.
    pub(crate) fn tell_time(&self) {
        let draft = self.path("clock.new");
        std::fs::write(&draft, self.now().to_string()).unwrap();
        std::fs::rename(draft, self.path("clock")).unwrap();
    }
}

impl Keeper {
    /// Asks in the line protocol, as this user.
    pub(crate) fn ask(&self, user: u32, verb: &str, fields: &[&str]) -> std::io::Result<String> {
        ask(&self.socket, user, question(verb, fields).as_bytes())
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
        if signal == Signal::SIGSTOP {
            eventually("every thread has stopped", || self.states().all(|state| state == 'T'));
        }
    }

    /// What each of its threads does, as `/proc` tells it.
    fn states(&self) -> impl Iterator<Item = char> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.map(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?')
        })
    }

    /// Ends it as a service manager does; what it said and with which status it ended.
    pub(crate) fn end(mut self) -> process::Ran {
        self.signal(Signal::SIGTERM);
        let mut said = String::new();
        let status = self.child.wait().unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        process::Ran { status: status.code(), signal: None, out: String::new(), err: said }
    }

    /// Waits for its end after a signal.
    pub(crate) fn end_of_its_own(mut self) {
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }

    /// Whether it has this very file open.
    pub(crate) fn has_open(&self, file: &Path) -> bool {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
        open.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|at| at == file))
    }

    /// Whether a thread of this name runs in it.
    pub(crate) fn has_thread(&self, name: &str) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let name_of = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("comm"));
        threads.flatten().any(|thread| name_of(thread).is_ok_and(|found| found.trim_end() == name))
    }

    /// What the kernel says of it: a line of `/proc/PID/status`, in numbers.
    pub(crate) fn figure(&self, name: &str) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends these bytes as this user and hears the answer to its end.
pub(crate) fn ask(socket: &Path, user: u32, question: &[u8]) -> std::io::Result<String> {
    as_user(user, || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(question)?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    })
}

/// Does it in a thread that has this user's rights; the kernel keeps them for each thread.
pub(crate) fn as_user<T: Send>(user: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            // SAFETY: plain numbers; by the system's own call, so that this thread alone changes.
            let done = unsafe {
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>())
                    + libc::syscall(libc::SYS_setresgid, user, user, user)
                    + libc::syscall(libc::SYS_setresuid, user, user, user)
            };
            assert_eq!(done, 0);
            work()
        });
        thread.join().unwrap()
    })
}

/// Waits until it is so.
#[track_caller]
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < process::FOREVER, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
