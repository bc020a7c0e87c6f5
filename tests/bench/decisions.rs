//! Decisions on a socket: our keeper and its peers, over the same connections, from the same clients.

use crate::Effort;
use crate::figures::{Bound, Report, in_rounds, median, percentile, ratios};
use crate::home::{Home, MAIL, MANNER, now};
use crate::load::{Load, Measured, keep_on, refused};
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
    /// Targets: decisions a second, ours ÷ theirs, for one client and for eight.
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
    println!("| {ACCOUNTS} accounts | decisions a second | median µs | p99 µs |\n|---|---|---|---|");
    let mut turn = 0;
    for how in HOW {
        let mut times = vec![(Vec::new(), Vec::new()); all.len()];
        let rates = in_rounds(effort.rounds, all.len(), |n| {
            turn += 1;
            machine.listen();
            let (counted_from, counted_before) = (now(), home.counted_since(now()));
            let (found, asked) = one(effort, &all[n], how, turn);
            if n == 0 {
                let counted = home.counted_since(counted_from) - counted_before;
                assert_eq!(counted, asked as u64, "each message is counted once");
            }
            times[n].0.push(percentile(&found.micros, 0.5));
            times[n].1.push(percentile(&found.micros, 0.99));
            found.per_second
        });
        for (n, contender) in all.iter().enumerate() {
            let name = format!("{}, {}", contender.name, how.says);
            let (middle, tail) = (median(&times[n].0), median(&times[n].1));
            println!("| {name} | {:.0} | {middle:.0} | {tail:.0} |", median(&rates[n]));
            report.figure("decisions", &name, "1/s", &rates[n]);
            if let (1.., Some(target)) = (n, how.target) {
                let what = format!("decisions a second, {}: keeper ÷ {}", how.says, contender.name);
                let bound = Bound::AtLeast(contender.targets[target]);
                report.target(&what, bound, &ratios(&rates[0], &rates[n]));
            }
        }
    }
}

/// How many ask, and where.
#[derive(Clone, Copy)]
struct How {
    says: &'static str,
    clients: usize,
    /// Client and server each on a processor of its own, as they may come to lie on a machine with many: each
    /// question then wakes another processor, and so does each answer. Else the kernel puts them where it likes.
    apart: bool,
    /// Which of the targets this is held against.
    target: Option<usize>,
}

const HOW: [How; 3] = [
    How { says: "1 client", clients: 1, apart: false, target: Some(0) },
    How { says: "1 client, apart", clients: 1, apart: true, target: None },
    How { says: "8 clients", clients: 8, apart: false, target: Some(1) },
];

/// One measurement; what was found, and how many messages passed in it, the hot account's with them.
fn one(effort: &Effort, contender: &Contender, how: How, turn: usize) -> (Measured, usize) {
    let Contender { name, questions, peer, .. } = contender;
    let connect = || peer.way.connect();
    let on = |processor: usize| how.apart.then_some(processor);
    threads_of(&peer.pids).into_iter().for_each(|thread| keep_on(thread, on(1)));
    let whose = |n: usize| (turn * 1_237 + n * 7_919) % ACCOUNTS;
    let load = Load { user: MAIL, clients: how.clients, on: on(0) };
    let found = load.run(effort.of(*questions) / how.clients, &whose, &connect);
    let refused = refused(MAIL, &format!("hot{turn}@example.org"), HOT, &connect);
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
