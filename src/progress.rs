//! What goes on for more than a second says so: one line on standard error that changes each second and goes away.
//!
//! Only where standard error is a terminal. Nothing is written where a program reads.

use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// After so long it is told, and told anew.
const EACH: Duration = Duration::from_secs(1);

/// What is being done: the words of the command.
static DOING: OnceLock<String> = OnceLock::new();

/// Says what this process does, for as long as it lives. Whoever does not say it shows no progress.
pub fn doing(words: &str) {
    if std::io::stderr().is_terminal() {
        let _ = DOING.set(words.into());
    }
}

/// Shows that something goes on; dropped, the line is gone.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    shown: Option<u64>,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { begun: Instant::now(), shown: None }
    }
}

impl Progress {
    /// How long the caller may wait before it asks again; none where nothing is shown.
    pub fn patience() -> Option<Duration> {
        DOING.get().map(|_| EACH)
    }

    /// Shows how long it has gone on, where that is a second more than is shown.
    pub fn tick(&mut self) {
        let seconds = self.begun.elapsed().as_secs();
        let Some(words) = DOING.get().filter(|_| seconds > 0 && self.shown != Some(seconds)) else { return };
        let _ = write!(std::io::stderr(), "\r{words}: at work for {seconds} s …");
        self.shown = Some(seconds);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            // The line goes: back to its beginning, then nothing to its end (ECMA-48, EL).
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}
