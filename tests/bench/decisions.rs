//! Decisions on a socket: our keeper and its peers, over the same connections, from the same clients.

use crate::Effort;
use crate::figures::{Bound, Report, in_rounds, median, percentile, ratios};
use crate::home::{Home, MAIL, MANNER, now};
use crate::load::{self, pin, unpin};
use crate::machine::Machine;
use crate::peers::{self, Peer, Way};
use crate::rig::{Doors, Pair, Scene};
use std::fs;

/// Accounts that send.
const ACCOUNTS: usize = 10_000;

/// One more than this and an account is over the limit.
const LIMIT: usize = 150;

/// Messages of the account that goes over it, at the end of each measurement.
const HOT: usize = LIMIT + 10;

struct Contender {
    name: &'static str,
    /// Questions of one measurement.
    questions: usize,
    peer: Peer,
    /// Targets: decisions a second, ours ÷ theirs, for one client and for many.
    targets: [f64; 2],
}

pub(crate) fn measure(effort: &Effort, report: &mut Report, machine: &mut Machine) {
    let home = Home::new();
    drop(home.keeper());
    home.fill(ACCOUNTS);
    let keeper = home.keeper();
    let scene = Scene::on(Pair::BookwormPeers).doors(Doors::NONE).start();
    let contender = |name, questions, peer, targets| Contender { name, questions, peer, targets };
    let ours = Peer { way: Way::Policy(keeper.postfix(), MANNER), pids: vec![keeper.pid()] };
    let all = [
        contender("Postern's keeper", 16_000, ours, [1.0, 1.0]),
        contender("policyd-rate-limit", 800, peers::policyd_rate_limit(&scene), [10.0, 20.0]),
        contender("postfwd", 1_600, peers::postfwd(&scene), [6.0, 6.0]),
        contender("rspamd, ratelimit only", 1_600, peers::rspamd(&scene), [6.0, 6.0]),
    ];
    println!(
        "| {ACCOUNTS} accounts | clients | decisions a second | median µs | p99 µs |\n|---|---|---|---|---|"
    );
    let mut turn = 0;
    for (column, clients) in [1, 8].into_iter().enumerate() {
        let mut times = vec![(Vec::new(), Vec::new()); all.len()];
        let rates = in_rounds(effort.rounds, all.len(), |n| {
            turn += 1;
            machine.listen();
            let (counted_from, counted_before) = (now(), home.counted_since(now()));
            let (found, asked) = one(effort, &all[n], clients, turn);
            if n == 0 {
                let counted = home.counted_since(counted_from) - counted_before;
                assert_eq!(counted, asked as u64, "each message is counted once");
            }
            times[n].0.push(percentile(&found.micros, 0.5));
            times[n].1.push(percentile(&found.micros, 0.99));
            found.per_second
        });
        for (n, contender) in all.iter().enumerate() {
            println!(
                "| {} | {clients} | {:.0} | {:.0} | {:.0} |",
                contender.name,
                median(&rates[n]),
                median(&times[n].0),
                median(&times[n].1)
            );
            report.figure("decisions", &format!("{}, {clients} clients", contender.name), "1/s", &rates[n]);
            if n > 0 {
                let what = format!("decisions a second, {clients} clients: keeper ÷ {}", contender.name);
                report.target(
                    &what,
                    Bound::AtLeast(contender.targets[column]),
                    &ratios(&rates[0], &rates[n]),
                );
            }
        }
    }
}

/// One measurement; what was found, and how many messages passed in it, the hot account's with them.
fn one(effort: &Effort, contender: &Contender, clients: usize, turn: usize) -> (load::Measured, usize) {
    let Contender { name, questions, peer, .. } = contender;
    let connect = || peer.way.connect();
    // Client on the first processor, server on the second: else much depends on where the kernel puts them.
    if clients == 1 {
        threads_of(&peer.pids).into_iter().for_each(|thread| pin(thread, 1));
    }
    let whose = |n: usize| (turn * 1_237 + n * 7_919) % ACCOUNTS;
    let found = load::run(MAIL, clients, effort.of(*questions) / clients, &whose, &connect);
    threads_of(&peer.pids).into_iter().for_each(unpin);
    let refused = load::refused(MAIL, &format!("hot{turn}@example.org"), HOT, &connect);
    assert_eq!(refused, HOT - LIMIT, "{name} refused {refused} messages of {HOT}");
    let passed = found.micros.len() + LIMIT;
    (found, passed)
}

/// The threads of these processes and of all that they started.
fn threads_of(pids: &[i32]) -> Vec<i32> {
    let mut family = pids.to_vec();
    let parents: Vec<(i32, i32)> = numbers("/proc").filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut seen = 0;
    while seen < family.len() {
        let of = family[seen];
        family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        seen += 1;
    }
    family.iter().flat_map(|pid| numbers(&format!("/proc/{pid}/task"))).collect()
}

fn numbers(folder: &str) -> impl Iterator<Item = i32> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, a closing bracket too.
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}
