//! What is owed to clients: the answers to questions that were taken. The keeper pays before it ends.
//!
//! Dovecot sends a request once: where its connection breaks before the answer, the login goes on unasked (seen with 2.3
//! and 2.4). So a connection that is between two questions is closed as soon as the keeper is to end, and no
//! question is taken that would not be answered.

use crate::door::patient::Timed;
use nix::sys::socket::{Shutdown, shutdown};
use parking_lot::Mutex;
use std::io::{Read, Result, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections to which something may be owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    all: Mutex<Vec<Arc<Connection>>>,
    /// No question is taken any more.
    closed: AtomicBool,
}

/// A connection, as whoever ends the keeper sees it.
#[derive(Debug)]
struct Connection {
    /// Open for as long as this is among all.
    fd: RawFd,
    stage: AtomicU8,
}

/// Taken; nothing has come.
const EXPECTED: u8 = 0;
/// A question has begun, and what follows from it has not ended.
const BEGUN: u8 = 1;
/// Answered; the next question may come or not.
const SILENT: u8 = 2;

impl Owed {
    /// Waits until every question that was begun is answered, and what is done after the answer is done; so long at
    /// most. Whoever has connected and asked nothing yet has `grace`: mail servers ask at once.
    pub(super) fn pay(&self, limit: Duration, grace: Duration) {
        let since = Instant::now();
        let until = |is_owed: &dyn Fn() -> bool| {
            while since.elapsed() < limit && is_owed() {
                thread::sleep(Duration::from_millis(2));
            }
        };
        until(&|| {
            self.dismiss_silent();
            let may_ask = since.elapsed() < grace && (self.has(EXPECTED) || self.has(SILENT));
            self.has(BEGUN) || may_ask
        });
        self.closed.store(true, Ordering::SeqCst);
        // Of a question that came in this moment either we learn here, or its thread learns that it is too late.
        until(&|| self.has(BEGUN));
    }

    fn has(&self, stage: u8) -> bool {
        self.all.lock().iter().any(|connection| connection.stage.load(Ordering::SeqCst) == stage)
    }

    /// Whoever waits for a silent client's next question finds the end of the connection.
    fn dismiss_silent(&self) {
        for connection in self.all.lock().iter().filter(|c| c.stage.load(Ordering::SeqCst) == SILENT) {
            // One that the client has ended meanwhile needs no more.
            let _ = shutdown(connection.fd, Shutdown::Read);
        }
    }
}

/// A connection that counts as owed to from when it is taken.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    owed: Arc<Owed>,
    connection: Arc<Connection>,
    answered: bool,
}

impl<S: AsFd> Watched<S> {
    /// Takes the connection.
    pub(super) fn new(stream: S, owed: &Arc<Owed>) -> Watched<S> {
        let fd = stream.as_fd().as_raw_fd();
        let connection = Arc::new(Connection { fd, stage: AtomicU8::new(EXPECTED) });
        owed.all.lock().push(connection.clone());
        Watched { stream, owed: owed.clone(), connection, answered: false }
    }
}

impl<S> Watched<S> {
    /// All that follows from the question that was answered has ended, and nobody reads for the moment.
    pub(super) fn rest(&mut self) {
        self.answered = false;
        self.go(SILENT);
    }

    /// The stream itself, for what is no reading and no writing.
    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    fn go(&self, stage: u8) {
        self.connection.stage.store(stage, Ordering::SeqCst);
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        // Before the descriptor is closed, and may be another's.
        self.owed.all.lock().retain(|connection| !Arc::ptr_eq(connection, &self.connection));
    }
}

impl<S: Read> Read for Watched<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.answered {
            self.answered = false;
            self.go(SILENT);
        }
        let n = self.stream.read(buffer)?;
        if n > 0 && self.connection.stage.load(Ordering::Relaxed) != BEGUN {
            self.go(BEGUN);
            if self.owed.closed.load(Ordering::SeqCst) {
                return Ok(0);
            }
        }
        Ok(n)
    }
}

impl<S: Write> Write for Watched<S> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.answered = true;
        self.stream.flush()
    }
}

impl<S: Timed> Timed for Watched<S> {
    fn wait_at_most(&self, limit: Duration) -> Result<()> {
        self.stream.wait_at_most(limit)
    }

    fn write_at_most(&self, limit: Duration) -> Result<()> {
        self.stream.write_at_most(limit)
    }
}

impl<S: AsFd> AsFd for Watched<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::os::unix::net::UnixStream;

    const LONG: Duration = Duration::from_secs(600);

    fn scene() -> (Arc<Owed>, Watched<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let owed = Arc::<Owed>::default();
        let stream = Watched::new(ours, &owed);
        (owed, stream, theirs)
    }

    fn owes(owed: &Owed) -> [usize; 3] {
        let stages: Vec<u8> = owed.all.lock().iter().map(|c| c.stage.load(Ordering::SeqCst)).collect();
        [EXPECTED, BEGUN, SILENT].map(|stage| stages.iter().filter(|s| **s == stage).count())
    }

    fn asked_and_answered(stream: &mut Watched<UnixStream>, theirs: &mut UnixStream) {
        theirs.write_all(b"?").unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(owes(&stream.owed), [0, 1, 0]);
        stream.write_all(b"an answer").unwrap();
        stream.flush().unwrap();
        assert_eq!(owes(&stream.owed), [0, 1, 0], "something may follow");
    }

    #[test]
    fn a_connection_is_owed_to_until_it_waits_for_the_next_question_or_ends() {
        let (owed, mut stream, mut theirs) = scene();
        assert_eq!(owes(&owed), [1, 0, 0]);
        asked_and_answered(&mut stream, &mut theirs);
        asked_and_answered(&mut stream, &mut theirs);
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(owes(&owed), [0, 0, 1]);
        drop(stream);
        assert_eq!(owes(&owed), [0, 0, 0]);
        owed.pay(LONG, LONG);
    }

    #[test]
    fn at_the_end_a_silent_connection_ends_and_what_comes_too_late_is_not_taken() {
        let (owed, mut stream, mut theirs) = scene();
        asked_and_answered(&mut stream, &mut theirs);
        let (ours, mut late) = UnixStream::pair().unwrap();
        let mut expected = Watched::new(ours, &owed);
        let waits = thread::spawn(move || {
            let n = stream.read(&mut [0; 8]).unwrap();
            (n, stream)
        });
        owed.pay(LONG, Duration::ZERO);
        let (n, mut stream) = waits.join().unwrap();
        assert_eq!(n, 0);
        for (stream, theirs) in [(&mut stream, &mut theirs), (&mut expected, &mut late)] {
            // The silent one's client may learn already that nobody listens.
            let _ = theirs.write_all(b"?");
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "too late");
        }
    }

    #[test]
    fn a_silent_connection_is_given_up_after_its_time() {
        let (_owed, mut stream, mut theirs) = scene();
        asked_and_answered(&mut stream, &mut theirs);
        stream.wait_at_most(Duration::from_millis(20)).unwrap();
        let kind = stream.read(&mut [0; 8]).unwrap_err().kind();
        assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::WouldBlock), "{kind}");
    }
}
