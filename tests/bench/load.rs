//! The load: clients that ask one question after the other on kept connections, the same for everybody who
//! speaks the protocol.

use nix::libc;
use nix::poll::{PollFd, PollFlags, poll};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// A measurement ends after this, however little was done.
const LONGEST: Duration = Duration::from_secs(20);

/// What was answered. Whoever says anything else has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Yes,
    No,
}

/// A client.
pub(crate) trait Asks: Send {
    /// May this account send this message?
    fn ask(&mut self, account: &str) -> Said;
}

/// Makes a client.
pub(crate) type Connect<'a> = &'a (dyn Fn() -> Box<dyn Asks> + Sync);

/// What a measurement found.
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    /// Of each question.
    pub(crate) micros: Vec<f64>,
}

/// Accounts as `user0000042@example.org`.
pub(crate) fn account(number: usize) -> String {
    format!("user{number:07}@example.org")
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) user: u32,
    pub(crate) clients: usize,
    /// The processor on which they stay; none: wherever the kernel puts them.
    pub(crate) on: Option<usize>,
}

impl Load {
    /// All clients at once ask so many questions each. `whose` names the account of a question. Every answer
    /// must be yes.
    pub(crate) fn run(
        self,
        each: usize,
        whose: &(dyn Fn(usize) -> usize + Sync),
        connect: Connect,
    ) -> Measured {
        let (ready, go) = (AtomicUsize::new(0), AtomicBool::new(false));
        let one = |number: usize| {
            become_user(self.user);
            keep_on(0, self.on);
            let mut client = connect();
            let accounts: Vec<String> = (0..each).map(|n| account(whose(number * each + n))).collect();
            ready.fetch_add(1, Ordering::AcqRel);
            while !go.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            ask_all(client.as_mut(), &accounts)
        };
        std::thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = (0..self.clients).map(|number| scope.spawn(move || one(number))).collect();
            // One that cannot connect has ended before it is ready.
            while ready.load(Ordering::Acquire) < self.clients
                && !threads.iter().any(ScopedJoinHandle::is_finished)
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            let begun = Instant::now();
            go.store(true, Ordering::Release);
            let micros: Vec<f64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            Measured { per_second: micros.len() as f64 / begun.elapsed().as_secs_f64(), micros }
        })
    }
}

/// What each question took, in microseconds.
fn ask_all(client: &mut dyn Asks, accounts: &[String]) -> Vec<f64> {
    let mut micros = Vec::with_capacity(accounts.len());
    let begun = Instant::now();
    for account in accounts {
        let asked = Instant::now();
        let said = client.ask(account);
        micros.push(asked.elapsed().as_secs_f64() * 1e6);
        assert_eq!(said, Said::Yes, "{account}");
        if begun.elapsed() > LONGEST {
            break;
        }
    }
    micros
}

/// One account asks so often; how often it was refused.
pub(crate) fn refused(user: u32, account: &str, times: usize, connect: Connect) -> usize {
    as_user(user, || {
        let mut client = connect();
        (0..times).filter(|_| client.ask(account) == Said::No).count()
    })
}

/// Does it in a thread with this user's rights.
pub(crate) fn as_user<T: Send>(user: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user(user);
            work()
        });
        thread.join().unwrap()
    })
}

/// This thread alone: the kernel keeps rights for each.
fn become_user(user: u32) {
    // SAFETY: plain numbers; by the system's own call, so that no other thread changes.
    let done = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>())
            + libc::syscall(libc::SYS_setresgid, user, user, user)
            + libc::syscall(libc::SYS_setresuid, user, user, user)
    };
    assert_eq!(done, 0, "cannot become user {user}");
}

/// Keeps a thread (0: this one) on one processor, or lets it run on any.
pub(crate) fn keep_on(thread: i32, processor: Option<usize>) {
    let all = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: a set of ours, zeroed as the macro wants it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        all.filter(|one| processor.is_none_or(|p| p == *one)).for_each(|one| libc::CPU_SET(one, &mut set));
        // A thread that has ended meanwhile, or a machine without that processor: nothing to keep.
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// How one server wants to be asked in Postfix's policy protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// The state of the SMTP session at which it counts.
    pub(crate) protocol_state: &'static str,
    /// How its yes begins.
    pub(crate) yes: &'static str,
    /// How its no begins.
    pub(crate) no: &'static str,
}

/// Postfix's policy protocol (SMTPD_POLICY_README), with the attributes that Postfix 3.7 sends.
pub(crate) struct Policy {
    stream: UnixStream,
    manner: Manner,
    asked: u64,
    question: Vec<u8>,
    answer: Vec<u8>,
}

impl Policy {
    pub(crate) fn connect(socket: &Path, manner: Manner) -> Policy {
        let stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        Policy { stream, manner, asked: 0, question: Vec::new(), answer: Vec::new() }
    }
}

impl Asks for Policy {
    fn ask(&mut self, account: &str) -> Said {
        self.asked += 1;
        self.question.clear();
        write!(
            self.question,
            "request=smtpd_access_policy\nprotocol_state={state}\nprotocol_name=ESMTP\nhelo_name=client.example.org\n\
             queue_id=4XyZ{asked:08x}\nsender={account}\nrecipient=friend@remote.test\nrecipient_count=1\n\
             client_address=79.192.0.1\nclient_name=client.example.org\nreverse_client_name=client.example.org\n\
             instance=1a2b.67891234.{asked:x}.0\nsasl_method=plain\nsasl_username={account}\nsasl_sender=\nsize=12345\n\
             ccert_subject=\nccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\n\
             encryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\nencryption_keysize=256\n\
             etrn_domain=\nstress=\nclient_port=54321\npolicy_context=\nserver_address=192.0.2.1\nserver_port=587\n\n",
            state = self.manner.protocol_state,
            asked = self.asked,
        )
        .unwrap();
        self.stream.write_all(&self.question).unwrap();
        self.answer.clear();
        let mut part = [0; 512];
        while !self.answer.ends_with(b"\n\n") {
            // As Postfix waits (timed_read.c). A thread that sleeps in read itself is woken once more, by the server
            // that takes the question.
            let mut waits = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut waits, 10_000u16), Ok(1), "no answer within ten seconds");
            let n = self.stream.read(&mut part).unwrap();
            assert!(n > 0, "the server hung up after {:?}", String::from_utf8_lossy(&self.answer));
            self.answer.extend(&part[..n]);
        }
        if self.answer.starts_with(self.manner.yes.as_bytes()) {
            return Said::Yes;
        }
        let said = String::from_utf8_lossy(&self.answer);
        assert!(said.starts_with(self.manner.no), "{said}");
        Said::No
    }
}

/// rspamd's `/checkv2`: a connection for each question, since rspamd closes it after its answer.
pub(crate) struct Rspamd {
    pub(crate) address: SocketAddr,
}

const MESSAGE: &str = "From: user@example.org\r\nTo: friend@remote.test\r\nSubject: hello\r\n\
                       Date: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHello!\r\n";

impl Asks for Rspamd {
    fn ask(&mut self, account: &str) -> Said {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let question = format!(
            "POST /checkv2 HTTP/1.1\r\nHost: rspamd\r\nConnection: close\r\nContent-Length: {}\r\nIP: 79.192.0.1\r\n\
             User: {account}\r\nFrom: {account}\r\nRcpt: friend@remote.test\r\nSettings: {{\"symbols_enabled\":\
             [\"RATELIMIT_CHECK\",\"RATELIMIT_UPDATE\"]}}\r\n\r\n{MESSAGE}",
            MESSAGE.len()
        );
        stream.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        if answer.contains("\"action\":\"no action\"") {
            return Said::Yes;
        }
        assert!(answer.contains("\"action\":\"soft reject\""), "{answer}");
        Said::No
    }
}
