//! What is owed to clients: the answers to questions that were taken. The keeper pays before it ends.

use crate::door::patient::Timed;
use std::io::{Read, Result, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections to which something is owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    expected: AtomicUsize,
    begun: AtomicUsize,
}

impl Owed {
    /// Waits until every question that was begun is answered, and what is done after the answer is done; so long at
    /// most. Whoever has connected and asked nothing yet has `grace`: mail servers ask at once.
    pub(super) fn pay(&self, limit: Duration, grace: Duration) {
        let since = Instant::now();
        let is_owed = |waited: Duration| {
            self.begun.load(Ordering::Acquire) > 0
                || (waited < grace && self.expected.load(Ordering::Acquire) > 0)
        };
        while since.elapsed() < limit && is_owed(since.elapsed()) {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn of(&self, stage: Stage) -> Option<&AtomicUsize> {
        match stage {
            Stage::Expected => Some(&self.expected),
            Stage::Begun => Some(&self.begun),
            Stage::Silent => None,
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
}

impl<S> Watched<S> {
    /// Takes the connection.
    pub(super) fn new(stream: S, owed: &Arc<Owed>) -> Watched<S> {
        owed.expected.fetch_add(1, Ordering::AcqRel);
        Watched { stream, owed: owed.clone(), stage: Stage::Expected, answered: false }
    }

    /// Counted for the new stage before it is no more for the old one, so that it is never missed.
    fn go(&mut self, stage: Stage) {
        if stage == self.stage {
            return;
        }
        if let Some(count) = self.owed.of(stage) {
            count.fetch_add(1, Ordering::AcqRel);
        }
        if let Some(count) = self.owed.of(self.stage) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
        self.stage = stage;
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        self.go(Stage::Silent);
    }
}

impl<S: Read> Read for Watched<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.answered {
            self.answered = false;
            self.go(Stage::Silent);
        }
        let n = self.stream.read(buffer)?;
        if n > 0 {
            self.go(Stage::Begun);
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
    use std::os::unix::net::UnixStream;

    const LONG: Duration = Duration::from_secs(600);

    fn owes(owed: &Owed) -> (usize, usize) {
        (owed.expected.load(Ordering::Acquire), owed.begun.load(Ordering::Acquire))
    }

    #[test]
    fn a_connection_is_owed_to_until_it_waits_for_the_next_question_or_ends() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let owed = Arc::new(Owed::default());
        let mut stream = Watched::new(ours, &owed);
        assert_eq!(owes(&owed), (1, 0));
        for _ in 0..2 {
            theirs.write_all(b"?").unwrap();
            assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
            assert_eq!(owes(&owed), (0, 1));
            stream.write_all(b"an answer").unwrap();
            stream.flush().unwrap();
            assert_eq!(owes(&owed), (0, 1), "something may follow");
        }
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(owes(&owed), (0, 0));
        owed.pay(LONG, LONG);
        let other = Watched::new(stream, &owed);
        owed.pay(LONG, Duration::ZERO);
        drop(other);
        assert_eq!(owes(&owed), (0, 0));
    }
}
