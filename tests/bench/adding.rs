//! Ten thousand exemptions added at once, and decisions meanwhile beside decisions without it.

use crate::figures::{Bound, Report, median, percentile, ratios};
use crate::home::{Home, Keeper, MAIL, now};
use crate::load::{Said, account, as_user};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many are added at once.
const MANY: usize = 10_000;

/// What that may take, in seconds.
const LONGEST: f64 = 2.0;

/// How much slower the median decision may be meanwhile.
const SLOWER: f64 = 1.2;

/// What the slowest decision meanwhile may take, in milliseconds: a mail server waits for a second.
const SLOWEST: f64 = 500.0;

/// The value of an entry.
type Entry = fn(usize) -> String;

/// The lists that are filled.
const LISTS: [(&str, Entry); 2] = [("ip", network), ("user", mailbox)];

fn network(n: usize) -> String {
    format!("10.{}.{}.{}", n / 65_536, n / 256 % 256, n % 256)
}

fn mailbox(n: usize) -> String {
    format!("partner{n}@example.net")
}

pub(crate) fn measure(home: &Home, accounts: usize, rounds: usize, report: &mut Report) {
    let keeper = home.keeper();
    println!("| 10,000 exemptions, {accounts} accounts | s | median µs alone | meanwhile | slowest ms |");
    println!("|---|---|---|---|---|");
    for (list, entry) in LISTS {
        let file = written(home, list, entry);
        let import = || drop(home.postern(&["exemptions", list, "import", file.to_str().unwrap()]));
        let mut found = [const { Vec::new() }; 4];
        for round in 0..=rounds {
            let begun = Instant::now();
            let meanwhile = decisions(home, &keeper, accounts, import);
            let taken = begun.elapsed();
            home.postern(&["undo"]);
            let alone = decisions(home, &keeper, accounts, || std::thread::sleep(taken));
            if round > 0 {
                let figures = [
                    taken.as_secs_f64(),
                    median(&alone),
                    median(&meanwhile),
                    percentile(&meanwhile, 1.0) / 1000.0,
                ];
                found.iter_mut().zip(figures).for_each(|(all, one)| all.push(one));
            }
        }
        let [seconds, alone, meanwhile, slowest] = &found;
        println!(
            "| {list} | {:.2} | {:.0} | {:.0} | {:.1} |",
            median(seconds),
            median(alone),
            median(meanwhile),
            percentile(slowest, 1.0)
        );
        let what = |what: &str| format!("{MANY} exemptions ({list}) at once, {accounts} accounts: {what}");
        report.target(&what("seconds"), Bound::AtMost(LONGEST), seconds);
        let slower = ratios(meanwhile, alone);
        report.target(&what("median decision meanwhile ÷ without"), Bound::AtMost(SLOWER), &slower);
        report.target(&what("slowest decision meanwhile, ms"), Bound::AtMost(SLOWEST), slowest);
    }
    println!();
}

fn written(home: &Home, list: &str, entry: Entry) -> PathBuf {
    let file = home.root().join(format!("exemptions-{list}"));
    let lines: String = (0..MANY).map(|n| format!("{} # partner {n}\n", entry(n))).collect();
    std::fs::write(&file, lines).unwrap();
    file
}

/// What each decision takes, in microseconds, while something is done; each message is counted once.
fn decisions(home: &Home, keeper: &Keeper, accounts: usize, meanwhile: impl FnOnce()) -> Vec<f64> {
    let (since, is_done) = (now(), AtomicBool::new(false));
    let before = home.counted_since(since);
    let micros = std::thread::scope(|scope| {
        let asking = scope.spawn(|| as_user(MAIL, || ask_until(&is_done, keeper, accounts)));
        // Some are on their way before it begins.
        std::thread::sleep(Duration::from_millis(50));
        meanwhile();
        is_done.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert_eq!(home.counted_since(since) - before, micros.len() as u64, "each message is counted once");
    micros
}

fn ask_until(is_done: &AtomicBool, keeper: &Keeper, accounts: usize) -> Vec<f64> {
    let (mut client, mut micros) = (keeper.client(), Vec::new());
    while !is_done.load(Ordering::Relaxed) {
        let whose = account((micros.len() + now() as usize) * 7_919 % accounts);
        let asked = Instant::now();
        let said = client.ask(&whose);
        micros.push(asked.elapsed().as_secs_f64() * 1e6);
        assert_eq!(said, Said::Yes, "{whose}");
    }
    micros
}
