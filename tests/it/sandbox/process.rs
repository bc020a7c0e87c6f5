//! Starting programs and hearing what they said.

use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// No program of ours may take longer, whatever happens to it. A net for the test, not a promise.
pub(crate) const FOREVER: Duration = Duration::from_secs(60);

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: Option<i32>,
    #[allow(dead_code, reason = "shown where a test fails")]
    pub(crate) signal: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Ran {
        Ran {
            status: output.status.code(),
            signal: output.status.signal(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What it said, if it ended well.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.status, Some(1), "{self:?}");
        format!("{}{}", self.out, self.err)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// As this user, in its own group alone (root's further groups go with root).
pub(crate) fn become_user(command: &mut Command, user: u32) {
    if user != 0 {
        command.uid(user).gid(user);
    }
}

/// Runs it to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    finish(child.unwrap_or_else(|e| panic!("{command:?}: {e}")))
}

/// Waits for its end; a program that does not come to one is a failure. What it says is read meanwhile: a pipe holds
/// only so much.
#[track_caller]
pub(crate) fn finish(mut child: Child) -> Ran {
    let (out, err) = (child.stdout.take().map(read), child.stderr.take().map(read));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > FOREVER {
            child.kill().unwrap();
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let said = |reader: Option<JoinHandle<Vec<u8>>>| reader.map_or_else(Vec::new, |r| r.join().unwrap());
    let (stdout, stderr) = (said(out), said(err));
    match status {
        Some(status) => Ran::of(Output { status, stdout, stderr }),
        None => panic!("a program did not end: {}", String::from_utf8_lossy(&stderr)),
    }
}

fn read(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

/// Copies a program by another process. Had this one written it, a test in another thread that starts a
/// program meanwhile would hold it open for writing, and it could not be started ("text file busy").
pub(crate) fn copy(from: &Path, to: &Path) {
    let mut command = Command::new("/bin/cp");
    command.arg(from).arg(to);
    run(&mut command).succeeded();
}

/// Runs it to its end with this on its standard input; a program that stops reading is no failure.
#[track_caller]
pub(crate) fn finish_with_input(mut command: Command, input: &[u8]) -> Ran {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut to_it = child.stdin.take().unwrap();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let _ = to_it.write_all(input);
        });
        finish(child)
    })
}
