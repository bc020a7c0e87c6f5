//! A thousand accounts and a million: the decision must not become slower, nor the keeper fat.

use crate::Effort;
use crate::figures::{Bound, Report, in_rounds, percentile, ratios};
use crate::home::{Home, Keeper, MAIL};
use crate::load::Load;
use crate::machine::Machine;

/// How many accounts the state knows.
const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];

/// Questions of one measurement.
const QUESTIONS: usize = 8_000;

/// Memory that the keeper may use with a hundred thousand accounts, in MB.
const MEMORY: f64 = 30.0;

pub(crate) fn measure(effort: &Effort, report: &mut Report, machine: &mut Machine) {
    let homes: Vec<(Home, Keeper)> = SIZES
        .iter()
        .map(|&accounts| {
            let home = Home::new();
            // The keeper begins the state where none is.
            drop(home.keeper());
            home.fill(accounts);
            let keeper = home.keeper();
            (home, keeper)
        })
        .collect();
    let mut worst = vec![0f64; SIZES.len()];
    let mut tails = vec![Vec::new(); SIZES.len()];
    let medians = in_rounds(effort.rounds, SIZES.len(), |size| {
        machine.listen();
        let connect = || homes[size].1.client();
        let whose = |n: usize| n.wrapping_mul(7_919_777) % SIZES[size];
        let found = clients(1).run(effort.of(QUESTIONS), &whose, &connect);
        worst[size] = worst[size].max(percentile(&found.micros, 1.0));
        tails[size].push(percentile(&found.micros, 0.99));
        percentile(&found.micros, 0.5)
    });
    println!("| accounts | median µs | p99 µs | slowest ms | keeper MB |\n|---|---|---|---|---|");
    for (size, accounts) in SIZES.iter().enumerate() {
        println!(
            "| {accounts} | {:.0} | {:.0} | {:.1} | {:.1} |",
            percentile(&medians[size], 0.5),
            percentile(&tails[size], 0.5),
            worst[size] / 1000.0,
            homes[size].1.megabytes()
        );
        report.figure("accounts", &format!("{accounts} accounts"), "µs", &medians[size]);
    }
    let found = ratios(&medians[2], &medians[0]);
    report.target("a million accounts ÷ a thousand, median decision", Bound::AtMost(1.5), &found);
    // All of them are asked about once.
    let (home, keeper) = (&homes[1].0, &homes[1].1);
    let since = crate::home::now();
    let before = home.counted_since(since);
    clients(8).run(SIZES[1] / 8, &|n| n, &|| keeper.client());
    assert_eq!(home.counted_since(since) - before, SIZES[1] as u64, "each is counted once");
    report.target("keeper's memory after 100,000 accounts, MB", Bound::AtMost(MEMORY), &[keeper.megabytes()]);
}

fn clients(clients: usize) -> Load {
    Load { user: MAIL, clients, on: None }
}
