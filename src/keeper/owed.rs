//! What is owed to clients: the answers to questions that were taken. The keeper pays before it ends.
//!
//! Dovecot sends a request once: where its connection breaks before the answer, the login goes on unasked (seen with 2.3
//! and 2.4). So a connection that is between two questions is closed as soon as the keeper is to end, and no
//! question is taken that would not be answered.

use crate::door::patient::Timed;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;
use std::cell::Cell;
use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Result, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections to which something is owed.
#[derive(Debug)]
pub(super) struct Owed {
    expected: AtomicUsize,
    begun: AtomicUsize,
    silent: AtomicUsize,
    /// Comes to its end when the keeper is to end.
    end: PipeReader,
    not_yet: Mutex<Option<PipeWriter>>,
    /// No question is taken any more.
    closed: AtomicBool,
}

impl Owed {
    /// Nothing is owed yet.
    pub(super) fn new() -> Result<Arc<Owed>> {
        let (end, not_yet) = std::io::pipe()?;
        let (expected, begun, silent) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let (not_yet, closed) = (Mutex::new(Some(not_yet)), AtomicBool::new(false));
        Ok(Arc::new(Owed { expected, begun, silent, end, not_yet, closed }))
    }

    /// Waits until every question that was begun is answered, and what is done after the answer is done; so long at
    /// most. Whoever has connected and asked nothing yet has `grace`: mail servers ask at once.
    pub(super) fn pay(&self, limit: Duration, grace: Duration) {
        *self.not_yet.lock() = None;
        let since = Instant::now();
        let are = |count: &AtomicUsize| count.load(Ordering::SeqCst) > 0;
        let until = |is_owed: &dyn Fn() -> bool| {
            while since.elapsed() < limit && is_owed() {
                thread::sleep(Duration::from_millis(2));
            }
        };
        let may_ask = || since.elapsed() < grace && (are(&self.expected) || are(&self.silent));
        until(&|| are(&self.begun) || may_ask());
        self.closed.store(true, Ordering::SeqCst);
        // Of a question that came in this moment either we learn here, or its thread learns that it is too late.
        until(&|| are(&self.begun));
    }

    fn of(&self, stage: Stage) -> &AtomicUsize {
        match stage {
            Stage::Expected => &self.expected,
            Stage::Begun => &self.begun,
            Stage::Silent => &self.silent,
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Taken; nothing has come.
    Expected,
    /// A question has begun, and what follows from it has not ended.
    Begun,
    /// Answered; the next question may come or not.
    Silent,
}

/// A connection that counts as owed to from when it is taken.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    owed: Arc<Owed>,
    stage: Stage,
    answered: bool,
    limit: Cell<Option<Duration>>,
}

impl<S> Watched<S> {
    /// Takes the connection.
    pub(super) fn new(stream: S, owed: &Arc<Owed>) -> Watched<S> {
        owed.expected.fetch_add(1, Ordering::SeqCst);
        let (owed, stage, limit) = (owed.clone(), Stage::Expected, Cell::new(None));
        Watched { stream, owed, stage, answered: false, limit }
    }

    /// Counted for the new stage before it is no more for the old one, so that it is never missed.
    fn go(&mut self, stage: Stage) {
        self.owed.of(stage).fetch_add(1, Ordering::SeqCst);
        self.owed.of(self.stage).fetch_sub(1, Ordering::SeqCst);
        self.stage = stage;
    }
}

impl<S: AsFd> Watched<S> {
    /// Waits for the next question; false where the keeper is to end and none has come.
    fn is_asked(&self) -> Result<bool> {
        let limit = self.limit.get().and_then(|limit| PollTimeout::try_from(limit).ok());
        let mut fds = [
            PollFd::new(self.stream.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.owed.end.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, limit.unwrap_or(PollTimeout::NONE)) {
            Ok(0) => Err(ErrorKind::TimedOut.into()),
            // A connection that is over is found out by who reads from it.
            Ok(_) => Ok(fds[0].any().unwrap_or(true)),
            Err(Errno::EINTR) => Err(ErrorKind::Interrupted.into()),
            Err(error) => Err(error.into()),
        }
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.owed.of(self.stage).fetch_sub(1, Ordering::SeqCst);
    }
}

impl<S: Read + AsFd> Read for Watched<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.answered {
            self.answered = false;
            self.go(Stage::Silent);
        }
        if self.stage == Stage::Silent && !self.is_asked()? {
            return Ok(0);
        }
        let n = self.stream.read(buffer)?;
        if n > 0 && self.stage != Stage::Begun {
            self.go(Stage::Begun);
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

impl<S: Timed + AsFd> Timed for Watched<S> {
    fn wait_at_most(&self, limit: Duration) -> Result<()> {
        self.limit.set(Some(limit));
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
    use std::os::unix::net::UnixStream;

    const LONG: Duration = Duration::from_secs(600);

    fn scene() -> (Arc<Owed>, Watched<UnixStream>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let owed = Owed::new().unwrap();
        let stream = Watched::new(ours, &owed);
        (owed, stream, theirs)
    }

    fn owes(owed: &Owed) -> [usize; 3] {
        [&owed.expected, &owed.begun, &owed.silent].map(|count| count.load(Ordering::SeqCst))
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
            theirs.write_all(b"?").unwrap();
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0, "too late");
        }
    }

    #[test]
    fn a_silent_connection_is_given_up_after_its_time() {
        let (_owed, mut stream, mut theirs) = scene();
        asked_and_answered(&mut stream, &mut theirs);
        stream.wait_at_most(Duration::from_millis(20)).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
