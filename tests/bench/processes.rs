//! What a hook costs: whole processes, from start to exit, beside programs that do nothing.

use crate::figures::{Bound, Report, in_rounds, median, percentile, ratios};
use crate::home::{Home, MAIL, now};
use crate::load::{account, as_user};
use crate::machine::Machine;
use crate::{Effort, built};
use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Starts of a program in one turn.
const STARTS: usize = 60;

/// Accounts that send.
const ACCOUNTS: usize = 10_000;

/// A program that is started.
pub(crate) struct Candidate {
    name: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    /// What it must print.
    prints: &'static str,
}

impl Candidate {
    /// `@` in an argument stands for the account.
    pub(crate) fn new(
        name: &'static str,
        program: PathBuf,
        arguments: &[&str],
        prints: &'static str,
    ) -> Candidate {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Candidate { name, program, arguments, prints }
    }

    /// Microseconds from start to exit. The same user as the caller: to become another one would cost a fork.
    pub(crate) fn start_once(&mut self, account: &str) -> f64 {
        let mut command = Command::new(&self.program);
        command.args(self.arguments.iter().map(|a| a.replace('@', account))).env_clear();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let begun = Instant::now();
        let mut child = command.spawn().unwrap();
        let status = child.wait().unwrap();
        let micros = begun.elapsed().as_secs_f64() * 1e6;
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.success() && said == self.prints, "{}: {status} {said}", self.name);
        micros
    }
}

pub(crate) fn measure(effort: &Effort, report: &mut Report, machine: &mut Machine) {
    let home = Home::new();
    let keeper = home.keeper();
    println!("| program, whole process | median µs | p99 µs | × no-op on musl | × no-op on glibc |");
    println!("|---|---|---|---|---|");
    let mut all = floors();
    all.extend(questions(&home));
    home.fill(ACCOUNTS);
    let (found, _) = in_turns(effort, machine, &home, &mut all, 0);
    report.target("hook, counted send, keeper up ÷ no-op, Rust on glibc", Bound::AtMost(0.6), &found);
    drop(keeper);
    let mut alone = floors();
    alone.push(send(&home, "hook: counted send, alone"));
    let floors = alone.len() - 1;
    let (found, of_musl) = in_turns(effort, machine, &home, &mut alone, floors);
    report.target("hook, counted send, no keeper ÷ no-op, Rust on glibc", Bound::AtMost(2.0), &found);
    report.figure("processes", "alone ÷ no-op on musl", "", &of_musl);
    println!();
    for name in ["postern", "postern-exim", "postern-dovecot", "postern-postfix"] {
        let size = std::fs::metadata(built("static").join(name)).unwrap().len();
        println!("{name}: {} kB", size / 1000);
    }
}

fn floors() -> Vec<Candidate> {
    vec![
        Candidate::new("no-op, Rust on musl, static", built("static/noop"), &[], ""),
        Candidate::new("no-op, Rust on glibc", built("release/examples/noop"), &[], ""),
    ]
}

fn exim(home: &Home, name: &'static str, words: &[&str], prints: &'static str) -> Candidate {
    let seam = home.seam();
    Candidate::new(name, built("static/postern-exim"), &[&[seam.as_str()], words].concat(), prints)
}

fn send(home: &Home, name: &'static str) -> Candidate {
    exim(home, name, &["send", "--from=data", "--address=79.192.0.1", "--account=@"], "allow\n")
}

fn questions(home: &Home) -> Vec<Candidate> {
    vec![
        exim(home, "hook: login, address only", &["auth", "--address=79.192.0.1"], "undecided\n"),
        exim(home, "hook: login, account", &["mail", "--address=79.192.0.1", "--account=@"], "allow\n"),
        send(home, "hook: counted send, keeper up"),
    ]
}

/// The last of the candidates counts. Its ratios to the no-op on glibc, and to the one on musl. Prints all from
/// this one on.
fn in_turns(
    effort: &Effort,
    machine: &mut Machine,
    home: &Home,
    all: &mut [Candidate],
    from: usize,
) -> (Vec<f64>, Vec<f64>) {
    let (since, before) = (now(), home.counted_since(now()));
    let (starts, last) = (effort.of(STARTS), all.len() - 1);
    let mut number = 0;
    let mut slowest = vec![Vec::new(); all.len()];
    let medians = in_rounds(effort.rounds, all.len(), |n| {
        machine.listen();
        let micros: Vec<f64> = as_user(MAIL, || {
            let once = |_| {
                number += 1;
                all[n].start_once(&account(number * 7919 % ACCOUNTS))
            };
            (0..starts).map(once).collect()
        });
        slowest[n].push(percentile(&micros, 0.99));
        median(&micros)
    });
    let counted = home.counted_since(since) - before;
    assert_eq!(counted, (starts * (effort.rounds + 1)) as u64, "each message is counted once");
    for n in from..=last {
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} |",
            all[n].name,
            median(&medians[n]),
            median(&slowest[n]),
            median(&ratios(&medians[n], &medians[0])),
            median(&ratios(&medians[n], &medians[1]))
        );
    }
    (ratios(&medians[last], &medians[1]), ratios(&medians[last], &medians[0]))
}
