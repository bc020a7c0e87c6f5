//! Kept connections that wait for their next question: one thread waits for all of them (epoll(7)).
//!
//! What comes at the same time is decided together: one transaction on the state, one look at policy and state, one
//! write to the tally. So a decision costs the less the more there is to do.
//!
//! Nothing waits on this thread. A question that did not come whole, one for which the state is not free at once, and
//! whatever else is unusual goes with its connection to a thread of its own, which has patience and does as with
//! the first question of a connection.

use super::crew::STACK;
use super::engines::{AskedBy, Engines};
use super::owed::Watched;
use crate::door::patient::{Patience, Patient};
use crate::door::postfix::{Asked, Heard, Talk};
use crate::door::say;
use crate::error::{Error, Result};
use crate::kept::Kept as Set;
use crate::trouble::{self, Trouble};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// So many questions are decided together at most.
const TOGETHER: usize = 32;

/// How often connections are looked for that were silent for too long.
const SWEEP: Duration = Duration::from_secs(5);

/// Who is connected, and what was said.
pub(super) struct Client {
    pub(super) uid: u32,
    pub(super) admitted: bool,
    pub(super) talk: Talk,
}

type Stream = Watched<UnixStream>;

/// A connection whose question was answered.
struct Kept {
    stream: Stream,
    client: Box<Client>,
    since: Instant,
}

/// The thread that waits, and the connections that it waits for.
pub(super) struct EventLoop {
    engines: Arc<Engines>,
    patience: Patience,
    /// Connections that are kept here at most.
    most: usize,
    epoll: Epoll,
    kept: Mutex<HashMap<RawFd, Kept>>,
}

/// A stream that gives what has come, and never waits.
struct AtOnce<'a> {
    stream: &'a mut Watched<UnixStream>,
    emptied: bool,
}

impl Read for AtOnce<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.emptied {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = self.stream.read(buffer)?;
        self.emptied = n < buffer.len();
        Ok(n)
    }
}

impl EventLoop {
    /// Begins to wait, for connections that are given to it.
    pub(super) fn begin(engines: &Arc<Engines>, patience: Patience, most: usize) -> Result<Arc<EventLoop>> {
        let event_loop = EventLoop::new(engines, patience, most)?;
        let works = event_loop.clone();
        thread::Builder::new()
            .name("event-loop".into())
            .spawn(move || works.work())
            .map_err(Error::system("begin a thread"))?;
        Ok(event_loop)
    }

    fn new(engines: &Arc<Engines>, patience: Patience, most: usize) -> Result<Arc<EventLoop>> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(|e| Error::system("make an epoll set")(e.into()))?;
        let engines = engines.clone();
        Ok(Arc::new(EventLoop { engines, patience, most, epoll, kept: Mutex::default() }))
    }

    /// Serves a connection until it is silent, and keeps it then. For a thread that may wait.
    pub(super) fn serve(&self, stream: Stream, client: Client) {
        if let Ok(stream) = Patient::new(stream, self.patience) {
            self.attend(stream, Box::new(client), None);
        }
    }

    /// Answers what was asked, and on until nothing is left that was read; then the connection is kept.
    fn attend(&self, mut stream: Patient<Stream>, mut client: Box<Client>, mut asked: Option<Asked>) {
        loop {
            let heard = match asked.take() {
                Some(asked) => Ok(Heard::Asks(asked)),
                None => client.talk.hear(&mut stream),
            };
            let action = match heard {
                Ok(Heard::Asks(asked)) => {
                    let answer = self.engines.answer_to(client.uid, client.admitted, &asked.request);
                    client.talk.action(asked, &answer)
                }
                Ok(Heard::Knows(action)) => action,
                Ok(Heard::End) => return self.end(*client),
                // A connection that broke is its client's own affair.
                Err(_) => return,
            };
            if say(&mut stream, &action).is_err() {
                return;
            }
            // Beyond the bound a connection costs a thread.
            if client.talk.is_between_questions() && self.kept.lock().len() < self.most {
                // Where it cannot be kept, the client connects anew.
                let _ = self.keep(stream.into_stream(), client);
                return;
            }
        }
    }

    /// Marks what was not understood.
    fn end(&self, client: Client) {
        if let Err(error) = client.talk.end() {
            trouble::mark(&self.engines.call(), Trouble::Call, &error.to_string());
        }
    }

    fn keep(&self, mut stream: Stream, client: Box<Client>) -> std::io::Result<()> {
        stream.stream().set_nonblocking(true)?;
        stream.rest();
        let fd = stream.as_fd().as_raw_fd();
        // Whoever is told that something came finds the connection among those that are kept.
        let mut kept = self.kept.lock();
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, fd.unsigned_abs().into()))?;
        kept.insert(fd, Kept { stream, client, since: Instant::now() });
        Ok(())
    }

    /// Gives the connection to a thread that may wait.
    fn hand_over(self: &Arc<Self>, stream: Stream, client: Box<Client>, asked: Option<Asked>) {
        let event_loop = self.clone();
        let attend = move || {
            let _ = event_loop.epoll.delete(&stream);
            let waits = stream.stream().set_nonblocking(false);
            if let Ok(stream) = waits.and_then(|()| Patient::within_a_question(stream, event_loop.patience)) {
                event_loop.attend(stream, client, asked);
            }
        };
        // Without memory for a thread the connection ends, and Postfix asks anew.
        let _ =
            thread::Builder::new().stack_size(STACK).spawn(move || catch_unwind(AssertUnwindSafe(attend)));
    }

    fn work(self: &Arc<Self>) {
        let mut set = self.engines.another_set();
        let mut swept = Instant::now();
        loop {
            if catch_unwind(AssertUnwindSafe(|| self.turn(&mut set))).is_err() {
                set = self.engines.another_set();
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.kept.lock().retain(|_, kept| kept.since.elapsed() < self.patience.silence);
            }
        }
    }

    /// Waits until something comes, and answers it.
    fn turn(self: &Arc<Self>, set: &mut Set) {
        let mut asked = Vec::new();
        for (mut stream, mut client) in self.wait() {
            match client.talk.hear(&mut AtOnce { stream: &mut stream, emptied: false }) {
                Ok(Heard::Asks(question)) => asked.push((stream, client, question)),
                Ok(Heard::Knows(action)) => self.say(stream, client, &action),
                Ok(Heard::End) => self.end(*client),
                Err(e) if e.kind() == ErrorKind::WouldBlock => match client.talk.is_between_questions() {
                    true => self.keep_on(stream, client),
                    false => self.hand_over(stream, client, None),
                },
                Err(_) => {}
            }
        }
        if asked.is_empty() {
            return;
        }
        let by: Vec<AskedBy> = asked
            .iter()
            .map(|(_, client, question)| AskedBy {
                uid: client.uid,
                admitted: client.admitted,
                request: &question.request,
            })
            .collect();
        let answers = self.engines.answer_together(set, &by);
        match answers {
            Some(answers) => {
                for ((stream, mut client, question), answer) in asked.into_iter().zip(answers) {
                    let action = client.talk.action(question, &answer);
                    self.say(stream, client, &action);
                }
            }
            None => asked
                .into_iter()
                .for_each(|(stream, client, question)| self.hand_over(stream, client, Some(question))),
        }
    }

    /// Connections on which something came.
    fn wait(&self) -> Vec<(Stream, Box<Client>)> {
        let mut events = [EpollEvent::empty(); TOGETHER];
        let limit = EpollTimeout::try_from(SWEEP).unwrap_or(EpollTimeout::NONE);
        let n = match self.epoll.wait(&mut events, limit) {
            Ok(n) => n,
            Err(error) => {
                if error != Errno::EINTR {
                    thread::sleep(Duration::from_millis(20));
                }
                0
            }
        };
        let mut kept = self.kept.lock();
        let of = |event: &EpollEvent| RawFd::try_from(event.data()).ok();
        events[..n]
            .iter()
            .filter_map(|event| kept.remove(&of(event)?))
            .map(|kept| (kept.stream, kept.client))
            .collect()
    }

    /// Says an answer. Whoever does not take his answers any more loses the connection.
    fn say(self: &Arc<Self>, mut stream: Stream, client: Box<Client>, action: &[u8]) {
        if say(&mut stream, action).is_err() {
            return;
        }
        match client.talk.is_between_questions() {
            true => self.keep_on(stream, client),
            false => self.hand_over(stream, client, None),
        }
    }

    /// Keeps a connection of which the kernel knows that it is kept.
    fn keep_on(&self, mut stream: Stream, client: Box<Client>) {
        stream.rest();
        self.kept.lock().insert(stream.as_fd().as_raw_fd(), Kept { stream, client, since: Instant::now() });
    }
}
