//! What a hook costs: whole processes, from start to exit, side by side with programs that do nothing.
//!
//! `scripts/bench-hooks` builds what is measured and runs this. Each round starts every program once, in an
//! order that rotates, so that a change of the machine's speed meets all alike; what is printed is the median,
//! with the tenth percentile as the undisturbed cost, and the ratio to the no-op on musl taken round by round.
//! Nothing here is asserted against time; that the work was done is asserted (counts, answers).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

#[path = "../servers/clients/mod.rs"]
mod clients;
mod exim;
#[path = "../servers/rig/mod.rs"]
mod rig;

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// How often each program is started.
const ROUNDS: usize = 500;

/// User `postern`, and a mail server's user, in a folder of our own: numbers that nobody has.
const POSTERN: u32 = 61_000;
const MAIL: u32 = 61_001;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

struct Candidate {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    /// What it must print; empty: not looked at.
    prints: &'static str,
    microseconds: Vec<f64>,
}

impl Candidate {
    fn new(name: &'static str, program: PathBuf, arguments: &[&str], prints: &'static str) -> Candidate {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        assert!(program.exists(), "{} is missing: run scripts/bench-hooks", program.display());
        Candidate { name, program, arguments, prints, microseconds: Vec::new() }
    }

    fn start_once(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().stdin(Stdio::null()).uid(MAIL).gid(MAIL);
        let begun = Instant::now();
        let output = command.output().unwrap();
        self.microseconds.push(begun.elapsed().as_secs_f64() * 1e6);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.starts_with(self.prints), "{}: {said}", self.name);
    }
}

fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}

/// A folder with settings, policy, state and the try-out network data.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    postern(root, &["init", "--user", &POSTERN.to_string(), "--mail-users", &MAIL.to_string()]);
    let data = project().join("target/try-data");
    let file = |name: &str| data.join(name).to_str().unwrap().to_string();
    let country = file("geo-whois-asn-country.mmdb");
    let asn = format!("{},{}", file("asn-ipv4.csv"), file("asn-ipv6.csv"));
    postern(root, &["data", "build", "--country", &country, "--asn", &asn]);
    postern(root, &["settings", "set", "default_server_geoip", "DE"]);
    postern(root, &["countries", "allow", "AT,CH"]);
    postern(root, &["settings", "set", "country_rule", "enforce"]);
    postern(root, &["settings", "set", "rate_limit_messages", "100000"]);
    folder
}

fn postern(root: &str, words: &[&str]) {
    let program = project().join("target/static/postern");
    let output = Command::new(program).arg(format!("--root={root}")).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn candidates(root: &str) -> Vec<Candidate> {
    let built = |name: &str| project().join("target/static").join(name);
    let seam = format!("--root={root}");
    let exim = |name, words: &[&str], prints| {
        Candidate::new(name, built("postern-exim"), &[&[seam.as_str()], words].concat(), prints)
    };
    vec![
        Candidate::new("no-op, Rust on musl, static", built("noop"), &[], ""),
        Candidate::new("no-op, Rust on glibc", project().join("target/release/examples/noop"), &[], ""),
        exim("login decision (address only)", &["auth", "--address=5.9.0.1"], "undecided"),
        exim(
            "login decision (account, tally line)",
            &["mail", "--address=5.9.0.1", "--account=alice@example.test"],
            "allow",
        ),
        exim(
            "counted send, alone",
            &["send", "--from=data", "--address=5.9.0.1", "--account=alice@example.test"],
            "allow",
        ),
    ]
}

/// The same send while another process holds the state open, as a standing process will.
fn held_open(root: &str) -> rusqlite::Connection {
    let db = rusqlite::Connection::open(Path::new(root).join("var/lib/postern/state/state.db")).unwrap();
    let _: i64 = db.query_row("SELECT count(*) FROM sender", [], |row| row.get(0)).unwrap();
    db
}

fn rounds(candidates: &mut [Candidate]) {
    for candidate in candidates.iter_mut() {
        candidate.start_once();
        candidate.microseconds.clear();
    }
    for round in 0..ROUNDS {
        for i in 0..candidates.len() {
            candidates[(round + i) % candidates.len()].start_once();
        }
    }
}

/// Prints all from this one on; the first is the floor.
fn print(candidates: &[Candidate], from: usize) {
    let floor = &candidates[0].microseconds;
    for candidate in &candidates[from..] {
        let ratios: Vec<f64> = candidate.microseconds.iter().zip(floor).map(|(a, b)| a / b).collect();
        println!(
            "| {} | {:.0} | {:.0} | {:.1} |",
            candidate.name,
            percentile(&candidate.microseconds, 0.5),
            percentile(&candidate.microseconds, 0.1),
            percentile(&ratios, 0.5)
        );
    }
}

fn main() {
    let folder = folder();
    let root = folder.path().to_str().unwrap();
    println!("| program, whole process ({ROUNDS} starts) | median µs | p10 µs | × no-op on musl |");
    println!("|---|---|---|---|");
    let mut all = candidates(root);
    rounds(&mut all);
    print(&all, 0);
    let holder = held_open(root);
    let mut with_holder = candidates(root);
    with_holder.retain(|c| c.name.starts_with("no-op, Rust on musl") || c.name.starts_with("counted"));
    with_holder.last_mut().unwrap().name = "counted send, state held open by another process";
    rounds(&mut with_holder);
    print(&with_holder, 1);
    drop(holder);
    println!();
    for name in ["postern", "postern-exim", "postern-dovecot"] {
        let size = fs::metadata(project().join("target/static").join(name)).unwrap().len();
        println!("{name}: {} kB", size / 1000);
    }
    println!();
    exim::measure();
}
