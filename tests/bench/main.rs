//! Postern beside its peers, beside the mail servers' own means, and beside programs that do nothing.
//!
//! `scripts/bench` builds what is measured and runs this. Each round asks every contender once, back to back, in
//! an order that rotates, so that a change of the machine's speed meets all alike; a first round is thrown away.
//! A ratio is taken within a round, and told as the median of the rounds with the least and the most. Everybody
//! answers the same question, and what was answered is insisted on, since an error is not a fast answer: on the
//! sockets and inside Exim one account goes over the limit of 150 at the end of each measurement and must be
//! refused; what Postern counted is looked up in its state.
//!
//! Nothing is asserted against time: the table of targets says what was met, and how quiet the machine was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod accounts;
mod adding;
mod admin;
#[path = "../servers/clients/mod.rs"]
mod clients;
mod decisions;
mod figures;
mod home;
mod inside_exim;
mod load;
mod logins;
mod logs;
mod machine;
mod messages;
mod peers;
mod processes;
#[path = "../servers/rig/mod.rs"]
mod rig;

use figures::Report;
use machine::Machine;
use std::path::{Path, PathBuf};

/// How much is measured.
pub(crate) struct Effort {
    /// Rounds that count.
    pub(crate) rounds: usize,
    /// Share of the usual number of questions.
    pub(crate) share: f64,
}

impl Effort {
    /// So many at full effort.
    pub(crate) fn of(&self, usual: usize) -> usize {
        ((usual as f64 * self.share) as usize).max(20)
    }
}

/// What a part measures, and how.
type Part = (&'static str, fn(&Effort, &mut Report, &mut Machine));

const PARTS: [Part; 8] = [
    ("decisions", decisions::measure),
    ("exim", inside_exim::measure),
    ("processes", processes::measure),
    ("accounts", accounts::measure),
    ("admin", admin::measure),
    ("logins", logins::measure),
    ("messages", messages::measure),
    ("logs", logs::measure),
];

fn main() {
    let (mut effort, mut wanted) = (Effort { rounds: 7, share: 1.0 }, Vec::new());
    for word in std::env::args().skip(1) {
        match word.as_str() {
            // Cargo's own word to every such program.
            "--bench" => {}
            "--quick" => effort = Effort { rounds: 3, share: 0.2 },
            name if PARTS.iter().any(|(part, _)| *part == name) => wanted.push(word),
            _ => panic!(
                "unknown word '{word}'; usage: scripts/bench [--quick] [{}]",
                PARTS.map(|p| p.0).join("|")
            ),
        }
    }
    let mut report = Report::begin(&project().join("target/bench-figures.jsonl"));
    let mut machine = Machine::look();
    for (name, measure) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            println!("\n## {name}\n");
            measure(&effort, &mut report, &mut machine);
        }
    }
    machine.look_again();
    report.end(&machine.noise());
}

pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// A program as it was built for measuring.
pub(crate) fn built(below_target: &str) -> PathBuf {
    let path = project().join("target").join(below_target);
    assert!(path.exists(), "{} is missing: run scripts/bench", path.display());
    path
}
