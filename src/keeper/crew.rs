//! Threads that take connections from one listener: as many as are needed, up to a bound.
//!
//! Each thread takes a connection, serves it to its end, and takes the next. Whoever takes one while no other
//! waits for the next begins another thread; where many wait, those that come back end. So a connection costs a
//! thread for as long as it is served, and a short one costs none; what comes beyond the bound waits in the listener's
//! queue. Kept connections of Postfix's are given away between two questions ([`event_loop`](super::event_loop)).

use super::owed::{Owed, Watched};
use crate::door::patient::Timed;
use std::io::{ErrorKind, Result};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that wait although others wait already.
const WAITING: usize = 4;

/// Stack of a thread. A decision needs less than a tenth of it.
pub(super) const STACK: usize = 256 * 1024;

/// How long threads that wait for a connection may take to learn that there is none to wait for.
const WAKE: Duration = Duration::from_millis(200);

/// A socket that connections are taken from.
pub(super) trait Listener: AsRawFd + Send + Sync + 'static {
    type Stream: Timed + AsFd;
    fn take(&self) -> Result<Self::Stream>;
    fn stop_waiting(&self) -> Result<()>;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    fn take(&self) -> Result<UnixStream> {
        let stream = self.accept()?.0;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    fn stop_waiting(&self) -> Result<()> {
        self.set_nonblocking(true)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn take(&self) -> Result<TcpStream> {
        let stream = self.accept()?.0;
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn stop_waiting(&self) -> Result<()> {
        self.set_nonblocking(true)
    }
}

/// What is done with a connection, and whether many others are served at the moment.
type Serve<S> = Box<dyn Fn(Watched<S>, bool) + Send + Sync>;

/// The threads of one listener.
pub(super) struct Crew<L: Listener> {
    listener: L,
    most: usize,
    serve: Serve<L::Stream>,
    owed: Arc<Owed>,
    all: AtomicUsize,
    waiting: AtomicUsize,
    ending: AtomicBool,
}

impl<L: Listener> Crew<L> {
    /// Begins to take connections, with so many threads at most.
    pub(super) fn begin(
        listener: L,
        most: usize,
        owed: &Arc<Owed>,
        serve: Serve<L::Stream>,
    ) -> Result<Arc<Crew<L>>> {
        let owed = owed.clone();
        let (all, waiting, ending) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        let crew = Arc::new(Crew { listener, most, serve, owed, all, waiting, ending });
        crew.another()?;
        Ok(crew)
    }

    fn another(self: &Arc<Self>) -> Result<()> {
        if self.all.fetch_add(1, Ordering::AcqRel) >= self.most {
            self.all.fetch_sub(1, Ordering::AcqRel);
            return Ok(());
        }
        let crew = self.clone();
        let begun = thread::Builder::new().stack_size(STACK).spawn(move || crew.work());
        if begun.is_err() {
            self.all.fetch_sub(1, Ordering::AcqRel);
        }
        begun.map(|_| ())
    }

    fn work(self: &Arc<Self>) {
        while self.waiting.load(Ordering::Acquire) < WAITING {
            self.waiting.fetch_add(1, Ordering::AcqRel);
            let taken = self.take();
            let others = self.waiting.fetch_sub(1, Ordering::AcqRel) - 1;
            match taken {
                Ok(stream) => {
                    if others == 0 && !self.ending.load(Ordering::Acquire) {
                        // Without memory for another thread, this one comes back in its time.
                        let _ = self.another();
                    }
                    self.serve(stream);
                }
                // The queue is empty, and nobody is to wait for more.
                Err(_) if self.ending.load(Ordering::Acquire) => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // Out of descriptors, or a client that was gone at once.
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
        self.all.fetch_sub(1, Ordering::AcqRel);
    }

    fn take(&self) -> Result<Watched<L::Stream>> {
        self.listener.take().map(|stream| Watched::new(stream, &self.owed))
    }

    /// A panic costs its connection, and the thread goes on: else the crew would become smaller with each.
    fn serve(&self, stream: Watched<L::Stream>) {
        let crowded = self.all.load(Ordering::Acquire) * 2 > self.most;
        let _ = catch_unwind(AssertUnwindSafe(|| (self.serve)(stream, crowded)));
    }

    /// Takes what waits in the queue and nothing more; what is taken by then is counted as owed.
    pub(super) fn end(self: &Arc<Self>) {
        self.ending.store(true, Ordering::Release);
        let _ = self.listener.stop_waiting();
        self.empty_queue();
        // Whoever sleeps in accept(2) wakes up and finds the queue empty.
        // SAFETY: a plain call on a descriptor of ours that stays open.
        unsafe { nix::libc::shutdown(self.listener.as_raw_fd(), nix::libc::SHUT_RD) };
        let since = Instant::now();
        while self.waiting.load(Ordering::Acquire) > 0 && since.elapsed() < WAKE {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The kernel resets what is left in the queue of a TCP listener that ends.
    fn empty_queue(self: &Arc<Self>) {
        for _ in 0..self.most {
            match self.take() {
                Ok(stream) => {
                    let crew = self.clone();
                    let _ = thread::Builder::new().stack_size(STACK).spawn(move || crew.serve(stream));
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn scene(most: usize) -> (tempfile::TempDir, Arc<Crew<UnixListener>>, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let echo = |mut stream: Watched<UnixStream>, _| {
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|n| n == 1) && stream.write_all(&byte).is_ok() {
                assert_ne!(byte, *b"!", "the fault that a test asks for");
            }
        };
        (dir, Crew::begin(listener, most, &Arc::default(), Box::new(echo)).unwrap(), path)
    }

    fn echoes(stream: &mut UnixStream) -> bool {
        let mut byte = [0];
        stream.write_all(b"x").is_ok() && stream.read(&mut byte).is_ok_and(|n| n == 1)
    }

    #[test]
    fn many_kept_connections_are_served_side_by_side_and_their_threads_end_with_them() {
        let (_dir, crew, path) = scene(100);
        let mut kept: Vec<_> = (0..60).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert!(kept.iter_mut().all(echoes) && kept.iter_mut().rev().all(echoes));
        drop(kept);
        while crew.all.load(Ordering::Acquire) > WAITING + 1 {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(echoes(&mut UnixStream::connect(&path).unwrap()));
    }

    #[test]
    fn beyond_the_bound_a_connection_waits_for_its_turn() {
        let (_dir, _crew, path) = scene(2);
        let mut kept: Vec<_> = (0..2).map(|_| UnixStream::connect(&path).unwrap()).collect();
        assert!(kept.iter_mut().all(echoes));
        let mut third = UnixStream::connect(&path).unwrap();
        third.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        assert!(!echoes(&mut third));
        kept.pop();
        third.set_read_timeout(None).unwrap();
        let mut byte = [0];
        assert_eq!(third.read(&mut byte).unwrap(), 1);
    }

    #[test]
    fn however_many_connections_panic_the_next_is_served() {
        let (_dir, crew, path) = scene(2);
        for _ in 0..10 {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.write_all(b"!").unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 1, "it was served");
        }
        assert!(crew.all.load(Ordering::Acquire) <= 2);
        assert!(echoes(&mut UnixStream::connect(&path).unwrap()));
    }

    #[test]
    fn at_the_end_the_queue_is_served_and_nothing_more() {
        let (_dir, crew, path) = scene(8);
        assert!(echoes(&mut UnixStream::connect(&path).unwrap()));
        crew.end();
        while crew.all.load(Ordering::Acquire) > 0 {
            thread::sleep(Duration::from_millis(5));
        }
        let refused = UnixStream::connect(&path).map(|mut stream| echoes(&mut stream));
        assert!(!refused.unwrap_or(false));
    }
}
