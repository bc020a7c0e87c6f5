//! Calling `postern-dovecot` as Dovecot 2.3 does: name and password on descriptor 3, the reply on
//! descriptor 4, the rest in the environment.

use super::process::{Ran, finish};
use super::{DOVECOT, Sandbox};
use nix::libc;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// One call in the making.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) user: u32,
    pub(crate) seams: Vec<&'a str>,
    pub(crate) words: Vec<&'a str>,
    pub(crate) account: &'a str,
    pub(crate) address: &'a str,
    pub(crate) service: &'a str,
    /// A lookup of credentials (CRAM-MD5, `doveadm auth lookup`) instead of a password.
    pub(crate) lookup: bool,
    /// What stands on descriptor 3.
    pub(crate) input: Vec<u8>,
    /// Signals that the server blocks and ignores.
    pub(crate) blocked: Vec<i32>,
    pub(crate) ignored: Vec<i32>,
}

/// How the call ended, and what stood on descriptor 4.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) ran: Ran,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    /// Exit status and reply, for comparing.
    pub(crate) fn said(&self) -> (Option<i32>, &str) {
        (self.ran.status, std::str::from_utf8(&self.bytes).unwrap())
    }
}

/// A call that was started.
pub(crate) struct Started {
    child: Child,
    reply: File,
}

impl Started {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> Reply {
        let ran = finish(self.child);
        let mut bytes = Vec::new();
        self.reply.read_to_end(&mut bytes).unwrap();
        Reply { ran, bytes }
    }
}

impl<'a> Call<'a> {
    /// A password login by IMAP.
    pub(crate) fn gate(account: &'a str, address: &'a str) -> Call<'a> {
        Call {
            user: DOVECOT,
            seams: Vec::new(),
            words: vec!["gate", "/usr/lib/dovecot/checkpassword-reply"],
            account,
            address,
            service: "imap",
            lookup: false,
            input: format!("{account}\0a secret\0{}\0", super::NOON).into_bytes(),
            blocked: Vec::new(),
            ignored: Vec::new(),
        }
    }

    pub(crate) fn chain(account: &'a str, address: &'a str, next: &'a str) -> Call<'a> {
        Call { words: vec!["chain", next, "a reply program"], ..Call::gate(account, address) }
    }

    pub(crate) fn lookup(self) -> Call<'a> {
        Call { lookup: true, ..self }
    }

    pub(crate) fn fault(mut self, fault: &'a str) -> Call<'a> {
        self.seams.push(fault);
        self
    }

    #[track_caller]
    pub(crate) fn run(&self, sandbox: &Sandbox) -> Reply {
        self.start(sandbox).finish()
    }

    pub(crate) fn start(&self, sandbox: &Sandbox) -> Started {
        let (input_read, input_write) = nix::unistd::pipe().unwrap();
        let (reply_read, reply_write) = nix::unistd::pipe().unwrap();
        let mut command = sandbox.program("postern-dovecot", self.user, &self.seams);
        command.args(&self.words).envs([("AUTH_USER", self.account), ("SERVICE", self.service)]);
        // What a sandbox adds of its own, as Dovecot does with its own variables.
        command.env("OUT", sandbox.path("out")).env("PATH", "/usr/bin:/bin");
        if !self.address.is_empty() {
            command.env("TCPREMOTEIP", self.address);
        }
        if self.lookup {
            command.env("AUTHORIZED", "1");
        }
        let (blocked, ignored) = (self.blocked.clone(), self.ignored.clone());
        hand_over(&mut command, &input_read, &reply_write, blocked, ignored);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((input_read, reply_write));
        let mut input = File::from(input_write);
        // A hook that does not read its input may have ended already.
        match input.write_all(&self.input) {
            Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => panic!("{e}"),
            _ => drop(input),
        }
        Started { child, reply: File::from(reply_read) }
    }
}

/// Lays the two pipes on 3 and 4 of the child, and sets its signals.
fn hand_over(command: &mut Command, input: &OwnedFd, reply: &OwnedFd, blocked: Vec<i32>, ignored: Vec<i32>) {
    let (input, reply) = (input.as_raw_fd(), reply.as_raw_fd());
    // SAFETY: async-signal-safe calls only, on descriptors that live until the child is started.
    unsafe {
        command.pre_exec(move || {
            let (high_input, high_reply) = (
                libc::fcntl(input, libc::F_DUPFD_CLOEXEC, 200),
                libc::fcntl(reply, libc::F_DUPFD_CLOEXEC, 200),
            );
            if libc::dup2(high_input, 3) < 0 || libc::dup2(high_reply, 4) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            for signal in &ignored {
                libc::signal(*signal, libc::SIG_IGN);
            }
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut mask);
            blocked.iter().for_each(|signal| {
                libc::sigaddset(&mut mask, *signal);
            });
            libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut());
            Ok(())
        });
    }
}
