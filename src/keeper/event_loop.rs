//! Kept connections of Postfix's that wait for their next question: one thread waits for all of them (epoll(7)).
//!
//! What has come by the time is decided together: one transaction on the state, one look at what may have been
//! replaced, one write to the tally. So the more there is to do, the less each decision costs.
//!
//! Nothing waits on this thread. A question that has not come whole, those for which the state is not free at
//! once, and an answer that is not taken go with their connections to threads of their own, which have patience
//! (see [`patient`](crate::door::patient)) and do as with the first question of a connection.

use super::crew::STACK;
use super::engines::{AskedBy, Engines};
use super::owed::Watched;
use crate::door::patient::{Patience, Patient};
use crate::door::postfix::{Asked, Heard, Talk};
use crate::door::say;
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::trouble::{self, Trouble};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Questions that are decided together, at most.
const TOGETHER: usize = 32;

/// Who asks again sooner than this after an answer is waited for awake: to be woken takes longer than to decide.
const SOON: Duration = Duration::from_micros(100);

/// So many times in a row.
const IN_A_ROW: u32 = 8;

/// How often connections are looked for that were silent for too long.
const SWEEP: Duration = Duration::from_secs(5);

type Stream = Watched<UnixStream>;

/// Who is connected, and what was said.
struct Client {
    uid: u32,
    admitted: bool,
    talk: Talk,
    /// None yet before the first answer.
    place: Option<Place>,
}

/// One of the places that there are for kept connections; free again when dropped.
struct Place(#[allow(dead_code, reason = "held for its count")] Arc<()>);

/// What is left to be done for a client.
enum Left {
    /// To hear the rest of a question, or the next.
    Hear,
    Decide(Box<Asked>),
    /// To say this.
    Say(Vec<u8>),
}

/// A connection on which the next question is waited for.
struct Silent {
    stream: Stream,
    client: Box<Client>,
    since: Instant,
}

/// The thread that waits, and the connections that it waits for.
pub(super) struct EventLoop {
    engines: Arc<Engines>,
    patience: Patience,
    most: usize,
    places: Arc<()>,
    epoll: Epoll,
    silent: Mutex<HashMap<RawFd, Silent>>,
}

impl EventLoop {
    /// Begins to wait for connections that are given to it; so many are kept at most.
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
        let (engines, places, silent) = (engines.clone(), Arc::default(), Mutex::default());
        Ok(Arc::new(EventLoop { engines, patience, most, places, epoll, silent }))
    }

    /// Serves a connection until it is silent, and keeps it then. For a thread that may wait.
    pub(super) fn serve(&self, stream: Stream, uid: u32, admitted: bool) {
        let client = Client { uid, admitted, talk: Talk::default(), place: None };
        if let Ok(stream) = Patient::new(stream, self.patience) {
            self.attend(stream, Box::new(client), Left::Hear);
        }
    }

    /// Does what is left, and on until nothing is left; then the connection is kept. Beyond the bound of those it
    /// keeps its thread.
    fn attend(&self, mut stream: Patient<Stream>, mut client: Box<Client>, mut left: Left) {
        loop {
            let action = match left {
                Left::Say(action) => action,
                Left::Decide(asked) => {
                    let answer = self.engines.answer_to(client.uid, client.admitted, &asked.request);
                    client.talk.action(*asked, &answer)
                }
                Left::Hear => match client.talk.hear(&mut stream) {
                    Ok(Heard::Asks(asked)) => {
                        left = Left::Decide(asked);
                        continue;
                    }
                    Ok(Heard::Knows(action)) => action,
                    Ok(Heard::End) => return self.end(*client),
                    // A connection that broke is its client's own affair.
                    Err(_) => return,
                },
            };
            if say(&mut stream, &action).is_err() {
                return;
            }
            if client.talk.is_between_questions() {
                client.place = client.place.take().or_else(|| self.place());
                if client.place.is_some() {
                    // Where it cannot be kept it ends, and Postfix connects anew.
                    let _ = self.keep(stream.into_stream(), client);
                    return;
                }
            }
            left = Left::Hear;
        }
    }

    fn place(&self) -> Option<Place> {
        let place = Place(self.places.clone());
        (Arc::strong_count(&self.places) <= self.most + 1).then_some(place)
    }

    /// Marks what was not understood.
    fn end(&self, client: Client) {
        if let Err(error) = client.talk.end() {
            trouble::mark(&self.engines.call(), Trouble::Call, &error.to_string());
        }
    }

    /// Waits for the next question from now on.
    fn keep(&self, stream: Stream, client: Box<Client>) -> std::io::Result<()> {
        stream.stream().set_nonblocking(true)?;
        let fd = stream.as_fd().as_raw_fd();
        // Whoever learns that something has come finds the connection.
        let mut silent = self.silent.lock();
        self.epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, fd.unsigned_abs().into()))?;
        silent.insert(fd, Silent::now(stream, client));
        Ok(())
    }

    /// The same for a connection that the kernel watches already.
    fn keep_on(&self, stream: Stream, client: Box<Client>) {
        self.silent.lock().insert(stream.as_fd().as_raw_fd(), Silent::now(stream, client));
    }

    /// Gives the connection to a thread that may wait. Without memory for one the connection ends, and Postfix asks
    /// anew.
    fn hand_over(self: &Arc<Self>, stream: Stream, client: Box<Client>, left: Left) {
        let blocks = self.epoll.delete(&stream).is_ok() && stream.stream().set_nonblocking(false).is_ok();
        let event_loop = self.clone();
        let attend = move || {
            if let Ok(stream) = Patient::within_a_question(stream, event_loop.patience) {
                event_loop.attend(stream, client, left);
            }
        };
        if blocks {
            let guarded = move || catch_unwind(AssertUnwindSafe(attend));
            let _ = thread::Builder::new().stack_size(STACK).spawn(guarded);
        }
    }

    fn work(self: &Arc<Self>) {
        let mut files = self.engines.another_set();
        let mut pace = Pace::new();
        let mut swept = Instant::now();
        loop {
            if catch_unwind(AssertUnwindSafe(|| self.turn(&mut files, &mut pace))).is_err() {
                files = self.engines.another_set();
            }
            if swept.elapsed() >= SWEEP {
                swept = Instant::now();
                self.silent.lock().retain(|_, silent| silent.since.elapsed() < self.patience.silence);
            }
        }
    }

    /// Waits until something comes, and answers it.
    fn turn(self: &Arc<Self>, files: &mut Kept, pace: &mut Pace) {
        let mut asked = Vec::new();
        for Silent { mut stream, mut client, .. } in self.ready(pace) {
            match client.talk.hear(&mut AtOnce { stream: &mut stream, emptied: false }) {
                Ok(Heard::Asks(question)) => asked.push((stream, client, question)),
                Ok(Heard::Knows(action)) => self.say(stream, client, &action),
                Ok(Heard::End) => self.end(*client),
                Err(e) if e.kind() == ErrorKind::WouldBlock && client.talk.is_between_questions() => {
                    self.keep_on(stream, client);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.hand_over(stream, client, Left::Hear),
                Err(_) => {}
            }
        }
        if !asked.is_empty() {
            self.decide(files, asked);
            pace.answered = Instant::now();
        }
    }

    /// The connections on which something has come.
    fn ready(&self, pace: &mut Pace) -> Vec<Silent> {
        let mut events = [EpollEvent::empty(); TOGETHER];
        let limit = EpollTimeout::try_from(SWEEP).unwrap_or(EpollTimeout::NONE);
        let mut came = Ok(0);
        // Whoever is to ask may need this processor for it.
        while pace.is_quick() && came == Ok(0) && pace.answered.elapsed() < SOON {
            thread::yield_now();
            came = self.epoll.wait(&mut events, EpollTimeout::ZERO);
        }
        if came == Ok(0) {
            came = self.epoll.wait(&mut events, limit);
        }
        pace.heard(came.unwrap_or(0));
        let n = came.unwrap_or_else(|error| {
            if error != Errno::EINTR {
                thread::sleep(Duration::from_millis(20));
            }
            0
        });
        let mut silent = self.silent.lock();
        let of = |event: &EpollEvent| RawFd::try_from(event.data()).ok();
        events[..n].iter().filter_map(|event| silent.remove(&of(event)?)).collect()
    }

    fn decide(self: &Arc<Self>, files: &mut Kept, asked: Vec<(Stream, Box<Client>, Box<Asked>)>) {
        let questions: Vec<AskedBy> = asked
            .iter()
            .map(|(_, client, asked)| AskedBy {
                uid: client.uid,
                admitted: client.admitted,
                request: &asked.request,
            })
            .collect();
        match self.engines.answer_together(files, &questions) {
            Some(answers) => {
                for ((stream, mut client, asked), answer) in asked.into_iter().zip(answers) {
                    let action = client.talk.action(*asked, &answer);
                    self.say(stream, client, &action);
                }
            }
            None => {
                for (stream, client, asked) in asked {
                    self.hand_over(stream, client, Left::Decide(asked));
                }
            }
        }
    }

    /// Says an answer.
    fn say(self: &Arc<Self>, mut stream: Stream, client: Box<Client>, action: &[u8]) {
        let said = match stream.write(action) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
            Err(_) => return,
            Ok(said) => said,
        };
        if said < action.len() {
            return self.hand_over(stream, client, Left::Say(action[said..].into()));
        }
        match client.talk.is_between_questions() {
            true => self.keep_on(stream, client),
            // The next has come in the same piece.
            false => self.hand_over(stream, client, Left::Hear),
        }
    }
}

/// How soon after an answer the next question comes.
struct Pace {
    answered: Instant,
    /// How often in a row a single one came [`SOON`].
    quick: u32,
}

impl Pace {
    fn new() -> Pace {
        Pace { answered: Instant::now(), quick: 0 }
    }

    fn heard(&mut self, questions: usize) {
        let quick = questions == 1 && self.answered.elapsed() < SOON;
        self.quick = if quick { self.quick.saturating_add(1) } else { 0 };
    }

    /// Whether a single client asks on and on. Where several do, they need the processor more.
    fn is_quick(&self) -> bool {
        self.quick >= IN_A_ROW
    }
}

impl Silent {
    fn now(mut stream: Stream, client: Box<Client>) -> Silent {
        stream.rest();
        Silent { stream, client, since: Instant::now() }
    }
}

/// A stream that gives what has come, and does not ask for more.
struct AtOnce<'a> {
    stream: &'a mut Stream,
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

#[cfg(test)]
#[path = "event_loop_tests.rs"]
mod tests;
