//! A connection whose client has only so much time for each question.

use crate::hook::Standard;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a client may take to take an answer.
const ANSWER: Duration = Duration::from_secs(1);

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// To send the first question, from the connection on. Who has been answered has shown who he is.
    pub(crate) first: Duration,
    /// To begin another question.
    pub(crate) silence: Duration,
    /// To send one, from its first byte.
    pub(crate) question: Duration,
}

/// A stream that can stop waiting.
pub(crate) trait Timed: Read + Write + Send + 'static {
    fn wait_at_most(&self, limit: Duration) -> Result<()>;
    fn write_at_most(&self, limit: Duration) -> Result<()>;
}

macro_rules! timed {
    ($($stream:ty),*) => {$(
        impl Timed for $stream {
            fn wait_at_most(&self, limit: Duration) -> Result<()> {
                self.set_read_timeout(Some(limit))
            }
            fn write_at_most(&self, limit: Duration) -> Result<()> {
                self.set_write_timeout(Some(limit))
            }
        }
    )*};
}

timed!(UnixStream, TcpStream);

/// Where these are no socket, whoever holds the other end ends the wait.
impl Timed for Standard {
    fn wait_at_most(&self, limit: Duration) -> Result<()> {
        let _ = setsockopt(&std::io::stdin(), sockopt::ReceiveTimeout, &time_val(limit));
        Ok(())
    }

    fn write_at_most(&self, limit: Duration) -> Result<()> {
        let _ = setsockopt(&std::io::stdout(), sockopt::SendTimeout, &time_val(limit));
        Ok(())
    }
}

fn time_val(limit: Duration) -> TimeVal {
    // None at all would be no limit.
    TimeVal::microseconds(i64::try_from(limit.as_micros()).unwrap_or(i64::MAX).max(1))
}

/// The connection. Between two questions it may stay silent for a while; a question that was begun must come
/// to its end soon, however small its pieces are.
pub(crate) struct Patient<S> {
    stream: S,
    patience: Patience,
    begun: Option<Instant>,
    /// For the question that was begun.
    limit: Duration,
    waits: Option<Duration>,
}

impl<S: Timed> Patient<S> {
    /// Takes the connection.
    pub(crate) fn new(stream: S, patience: Patience) -> Result<Patient<S>> {
        stream.write_at_most(ANSWER)?;
        Ok(Patient { stream, patience, begun: Some(Instant::now()), limit: patience.first, waits: None })
    }

    /// Takes a connection on which a question was begun just now.
    pub(crate) fn within_a_question(stream: S, patience: Patience) -> Result<Patient<S>> {
        Ok(Patient { limit: patience.question, ..Patient::new(stream, patience)? })
    }

    /// Gives the connection back.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    fn wait(&mut self, limit: Duration) -> Result<()> {
        if self.waits != Some(limit) {
            self.stream.wait_at_most(limit)?;
            self.waits = Some(limit);
        }
        Ok(())
    }
}

impl<S: Timed> Read for Patient<S> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self.begun {
            None => self.wait(self.patience.silence)?,
            Some(begun) => {
                let left = self.limit.saturating_sub(begun.elapsed());
                if left.is_zero() {
                    return Err(Error::new(
                        ErrorKind::TimedOut,
                        "the question did not come to its end in time",
                    ));
                }
                self.wait(left)?;
            }
        }
        let n = self.stream.read(buffer)?;
        self.begun.get_or_insert_with(Instant::now);
        Ok(n)
    }
}

impl<S: Timed> Write for Patient<S> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.stream.write(bytes)
    }

    /// A whole answer ends the question. What is said before it ("100 Continue") does not: anybody is told that.
    fn flush(&mut self) -> Result<()> {
        (self.begun, self.limit) = (None, self.patience.question);
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_that_was_never_answered_is_soon_given_up_although_it_is_silent() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let patience = Patience { first: Duration::from_millis(50), silence: LONG, question: LONG };
        let error = Patient::new(ours, patience).unwrap().read(&mut [0; 16]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    }

    #[test]
    fn what_is_said_before_the_answer_gives_a_client_no_more_time() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let patience = Patience { first: Duration::from_millis(50), silence: LONG, question: LONG };
        let mut patient = Patient::new(ours, patience).unwrap();
        patient.write_all(b"go on").unwrap();
        let error = patient.read(&mut [0; 16]).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
    }

    #[test]
    fn a_question_in_drops_without_an_end_is_given_up_and_a_silent_client_is_not() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let patience = Patience { first: LONG, silence: LONG, question: SHORT };
        let mut patient = Patient::new(ours, patience).unwrap();
        patient.write_all(b"answered").unwrap();
        patient.flush().unwrap();
        let dripping = std::thread::spawn(move || {
            std::thread::sleep(patience.question + Duration::from_millis(200));
            while theirs.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let mut buffer = [0; 16];
        let error = loop {
            match patient.read(&mut buffer) {
                Ok(n) => assert!(n > 0),
                Err(error) => break error,
            }
        };
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock), "{error}");
        drop(patient);
        dripping.join().unwrap();
    }
}
