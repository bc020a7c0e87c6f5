//! A stand-in for the keeper at Exim's socket: the snippets must be right for whatever it does, also for what the
//! real one never does.

use super::Scene;
use nix::libc;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

const SOCKET: &str = "/run/postern/sockets/exim";

/// What the stand-in does with a question.
#[derive(Clone, Debug)]
pub(crate) enum OnSocket {
    /// Answers these bytes and closes.
    Says(Vec<u8>),
    /// Answers them later than Exim waits.
    SaysLate(Vec<u8>),
    /// Answers them and leaves the connection open.
    SaysAndStays(Vec<u8>),
    /// Reads the question and closes without an answer.
    Closes,
    /// Closes before it has read the question.
    Slams,
    /// Accepts nobody, and nobody more can wait in line.
    Full,
    /// Is dead; its socket file is there.
    Dead,
}

/// A stand-in that runs until it is dropped; its socket file goes with it.
pub(crate) struct Standing {
    path: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _in_line: Option<(UnixListener, UnixStream)>,
}

impl Scene {
    /// A keeper's stand-in that does this from now on.
    pub(crate) fn on_socket(&self, how: OnSocket) -> Standing {
        let path = self.path(SOCKET);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        self.run_as("root", &["chmod", "666", SOCKET], "").succeeded();
        let mut standing =
            Standing { path, asked: Arc::default(), ended: Arc::default(), thread: None, _in_line: None };
        match how {
            OnSocket::Dead => drop(listener),
            OnSocket::Full => {
                // SAFETY: a descriptor of our own. Called again, it changes how many may wait: one with 0.
                assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
                let first = UnixStream::connect(&standing.path).unwrap();
                standing._in_line = Some((listener, first));
            }
            how => {
                let (asked, ended) = (standing.asked.clone(), standing.ended.clone());
                standing.thread = Some(std::thread::spawn(move || serve(&listener, &how, &asked, &ended)));
            }
        }
        standing
    }
}

impl Standing {
    /// The questions since the last time, with the words in place of their base64.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It waits for a connection.
            let _ = UnixStream::connect(&self.path);
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(listener: &UnixListener, how: &OnSocket, asked: &Mutex<Vec<String>>, ended: &AtomicBool) {
    let mut open = Vec::new();
    for stream in listener.incoming() {
        let stream = stream.unwrap();
        if ended.load(Ordering::Relaxed) {
            return;
        }
        open.extend(answer(stream, how, asked));
    }
}

/// Answers one question; gives the connection back where it stays open.
fn answer(mut stream: UnixStream, how: &OnSocket, asked: &Mutex<Vec<String>>) -> Option<UnixStream> {
    if matches!(how, OnSocket::Slams) {
        return None;
    }
    let mut question = String::new();
    let _ = BufReader::new(&stream).read_line(&mut question);
    asked.lock().unwrap().push(in_words(&question));
    // Exim may have gone, or may not want all of it.
    match how {
        OnSocket::Says(bytes) => drop(stream.write_all(bytes)),
        OnSocket::SaysLate(bytes) => {
            sleep(Duration::from_millis(1500));
            drop(stream.write_all(bytes));
        }
        OnSocket::SaysAndStays(bytes) => {
            drop(stream.write_all(bytes));
            return Some(stream);
        }
        _ => {}
    }
    None
}

fn in_words(question: &str) -> String {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let line = question.strip_suffix('\n').unwrap_or_else(|| panic!("no line: {question:?}"));
    let mut words: Vec<String> = line.splitn(3, ' ').map(str::to_owned).collect();
    let fields = words.pop().unwrap();
    let decoded = |field: &str| String::from_utf8(STANDARD.decode(field).unwrap()).unwrap();
    words.extend(fields.split(' ').map(decoded));
    words.join("|")
}
