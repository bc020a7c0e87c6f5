//! Commands inside the scene's system, and waiting for what they bring about.

use super::Scene;
use super::root::Root;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How a command inside the scene's system ended.
#[derive(Debug)]
pub(crate) struct Ran {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The exit status; none after a death by signal.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that it died of.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Insists on exit status 0; what the command wrote.
    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        assert!(self.status.success(), "ended with {}:\n{}{}", self.status, self.stdout, self.stderr);
        self.stdout
    }

    /// What the command wrote, read as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}):\n{}{}", self.stdout, self.stderr))
    }
}

impl Scene {
    /// Runs a command as this user of the scene's system.
    pub(crate) fn run_as(&self, user: &str, words: &[&str], input: &str) -> Ran {
        run(&self.root, user, words, input)
    }

    /// Starts a command as this user of the scene's system; the caller waits for it.
    pub(crate) fn start_as(&self, user: &str, words: &[&str]) -> Child {
        command(&self.root, user, words).spawn().unwrap()
    }

    /// Puts a script in the place of a program.
    pub(crate) fn put_program(&self, path: &str, script: &str) {
        put_program(&self.root, path, script);
    }

    /// `sendmail` with these words and this message on its standard input.
    pub(crate) fn sendmail(&self, user: &str, words: &[&str], message: &str) -> Ran {
        self.run_as(user, &[&["/usr/sbin/sendmail"], words].concat(), message)
    }

    /// The Exim program as root: `-bp`, `-M ID`, `-qff`.
    pub(crate) fn exim(&self, words: &[&str]) -> Ran {
        self.run_as("root", &[&["/usr/sbin/exim4"], words].concat(), "")
    }

    /// The doveadm program as root.
    pub(crate) fn doveadm(&self, words: &[&str]) -> Ran {
        self.run_as("root", &[&["/usr/bin/doveadm", "-c", "/rig/dovecot.conf"], words].concat(), "")
    }
}

/// Puts a script in place that can be run at once. By another process: a child that a thread of ours starts
/// meanwhile would hold the file open for writing, and it could not be run. What is there is replaced.
pub(super) fn put_program(root: &Root, path: &str, script: &str) {
    let put = format!("cat >{path}.new && chmod 755 {path}.new && mv {path}.new {path}");
    run(root, "root", &["sh", "-c", &put], script).succeeded();
}

pub(super) fn run(root: &Root, user: &str, words: &[&str], input: &str) -> Ran {
    let mut child =
        command(root, user, words).spawn().unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // From a thread of its own: a command that writes much before it reads must not stop both.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    // A command that does not read its input is no fault.
    let _ = writer.join();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ran { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn command(root: &Root, user: &str, words: &[&str]) -> Command {
    let mut command = Command::new("chroot");
    command
        .arg(format!("--userspec={user}"))
        .arg(root.folder())
        .args(words)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Waits until this holds; fails after ten seconds.
#[track_caller]
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "waited ten seconds in vain: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// Does this to all items at the same time, one thread each; the results in the order of the items. Dovecot
/// 2.3 answers a refused login only after half a second, so a table of refusals is asked at once.
pub(crate) fn at_once<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.iter().map(|item| scope.spawn(|| work(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
