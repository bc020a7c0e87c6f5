//! A year of figures of five thousand accounts and of a hundred thousand: how large the state is, and how long
//! every list and statistic takes, the whole program from its start to its end.
//!
//! Six accounts in ten are used on a day, by IMAP and by SMTP, one in twenty from a second country; networks
//! change. Five accounts have a domain. One reseller has a thousand of the accounts, one ten thousand, one half of
//! them, one nearly all. Rows come in no order within a day, as they do on a server, so that pages are as full as there.

use crate::Effort;
use crate::adding;
use crate::figures::{Bound, Report, median};
use crate::home::{Home, POSTERN, now};
use crate::load::as_user;
use crate::machine::Machine;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many accounts the state knows.
const SIZES: [usize; 2] = [5_000, 100_000];

/// What a list or a statistic may take, in milliseconds.
const LONGEST: f64 = 50.0;

const DAYS: i64 = 35;
const MONTHS: i64 = 13;
const TRAFFIC_DAYS: i64 = 400;

/// The calls that are timed.
const CALLS: [&[&str]; 24] = [
    &["country_statistics", "days=1"],
    &["country_statistics"],
    &["country_statistics", "days=365"],
    &["country_statistics", "days=400", "direction=logins", "service=imap"],
    &["country_statistics", "country=DE"],
    &["country_statistics", "country=DE", "by=network"],
    &["country_statistics", "country=BR"],
    &["account_statistics", "account=user0000042@d00008.example.org"],
    &["account_statistics", "account=user0000042@d00008.example.org", "days=365"],
    &["suggest_countries"],
    &["suggest_countries", "percent=50"],
    &["dry_run"],
    &["dry_run", "countries=DE,AT"],
    &["dry_run", "countries=DE", "for=user0000042@d00008.example.org"],
    &["dry_run", "rule=country_rule", "mode=off"],
    &["dry_run", "rule=rate_limiter"],
    &["list_activity"],
    &["list_activity", "account=user0000042@d00008.example.org"],
    &["list_activity", "address=198.51.100.9"],
    &["list_known_networks", "account=user0000042@d00008.example.org"],
    &["list_blocks"],
    &["list_held"],
    &["list_audit"],
    &["list_countries"],
];

/// The same for somebody below the administrator: whose, and what of theirs is asked.
const CALLS_FOR_OTHERS: [&[&str]; 7] = [
    &["country_statistics", "days=1"],
    &["country_statistics"],
    &["country_statistics", "days=365"],
    &["country_statistics", "country=DE"],
    &["dry_run"],
    &["list_activity"],
    &["list_blocks"],
];

/// Whose the accounts are.
const OTHERS: [(&str, &str); 5] = [
    ("reseller:rex", "a reseller with 1,000 accounts (of 5,000: 500)"),
    ("reseller:sam", "a reseller with a tenth of all accounts"),
    ("reseller:max", "a reseller with nearly all accounts"),
    ("owner:otto", "an owner with nearly all accounts"),
    ("reseller:hal", "a reseller with half of all accounts"),
];

/// The worst that can be asked: a list that would lock everybody out.
const ALL_REFUSED: &[&str] = &["dry_run", "countries=FR"];

/// Accounts of a domain.
const OF_DOMAIN: usize = 5;

fn domain(n: usize) -> String {
    format!("d{:05}.example.org", n / OF_DOMAIN)
}

fn account(n: usize) -> String {
    format!("user{n:07}@{}", domain(n))
}

pub(crate) fn measure(effort: &Effort, report: &mut Report, machine: &mut Machine) {
    let rounds = effort.rounds.max(3);
    println!(
        "| accounts | state MB | slowest call | ms | fold of 8,000 lines ms | hooks waited ms | pruning ms |"
    );
    println!("|---|---|---|---|---|---|---|");
    for accounts in SIZES {
        let home = Home::new();
        home.postern(&["tick"]);
        fill(&home, accounts);
        own(&home, accounts);
        let filled = tick(&home);
        println!("(Figures by domain came out of those by account in {filled:.0} ms.)");
        let megabytes = size(&home);
        machine.listen();
        let mut timed: Vec<(String, f64)> =
            CALLS.iter().map(|words| (words.join(" "), median(&times(&home, words, rounds)))).collect();
        let (fold, wait) = fold(&home, accounts);
        let prune = prune(&home);
        timed.sort_by(|a, b| b.1.total_cmp(&a.1));
        let (slowest, milliseconds) = &timed[0];
        println!(
            "| {accounts} | {megabytes:.0} | {slowest} | {milliseconds:.0} | {fold:.0} | {wait:.0} | {prune:.0} |"
        );
        for (call, milliseconds) in &timed {
            report.figure("admin", &format!("{accounts} accounts: {call}"), "ms", &[*milliseconds]);
        }
        report.figure("admin", &format!("{accounts} accounts: size of the state"), "MB", &[megabytes]);
        report.target(
            &format!("slowest of {} lists and statistics, {accounts} accounts and a year, ms", CALLS.len()),
            Bound::AtMost(LONGEST),
            &[*milliseconds],
        );
        report.target(
            &format!(
                "folding a busy minute of {accounts} accounts: longest wait of a hook for the state, ms"
            ),
            Bound::AtMost(500.0),
            &[wait],
        );
        for (who, says) in OTHERS {
            if who == "reseller:hal" {
                owned_by(&home, accounts, &|n| if n % 2 == 0 { "hanna" } else { "otto" });
            }
            let all: Vec<(String, f64)> = CALLS_FOR_OTHERS
                .iter()
                .map(|words| (words.join(" "), median(&times_as(&home, Some(who), words, rounds))))
                .collect();
            for (call, milliseconds) in &all {
                println!("- {milliseconds:.1} ms {call}, {says}");
                report.figure(
                    "admin",
                    &format!("{accounts} accounts: {call}, {says}"),
                    "ms",
                    &[*milliseconds],
                );
            }
            let slowest = all.iter().map(|(_, ms)| *ms).fold(0.0, f64::max);
            report.target(
                &format!("slowest of {} lists and statistics for {says}, {accounts} accounts, ms", all.len()),
                Bound::AtMost(LONGEST),
                &[slowest],
            );
        }
        println!();
        let worst = times(&home, ALL_REFUSED, rounds);
        report.target(
            &format!("a dry run that would lock all of {accounts} accounts out, ms"),
            Bound::AtMost(LONGEST),
            &worst,
        );
        if accounts == SIZES[1] {
            home.fill(accounts);
            adding::measure(&home, accounts, rounds, report);
        }
        println!("\n{}\n", tables(&home));
        for (call, milliseconds) in timed.iter().take(8) {
            println!("- {milliseconds:.1} ms {call}");
        }
        println!();
    }
}

/// Milliseconds of a whole call; what it says must be an answer.
fn times(home: &Home, words: &[&str], rounds: usize) -> Vec<f64> {
    times_as(home, None, words, rounds)
}

/// The same, for somebody else than the administrator.
fn times_as(home: &Home, who: Option<&str>, words: &[&str], rounds: usize) -> Vec<f64> {
    let one = |_| {
        let begun = Instant::now();
        let whose = who.map(|who| format!("--as={who}"));
        let output =
            home.command().args(whose).arg("api").args(words).stderr(Stdio::null()).output().unwrap();
        let taken = begun.elapsed().as_secs_f64() * 1000.0;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with(r#"{"status":1,"#), "{words:?}: {said:.300}");
        taken
    };
    // The first one reads what is not in memory yet.
    (0..=rounds).map(one).skip(1).collect()
}

/// A tally of one busy minute, folded: milliseconds, without the wait for late writers; and the longest that a hook
/// had to wait for the state meanwhile.
fn fold(home: &Home, accounts: usize) -> (f64, f64) {
    let lines: String = (0..8_000)
        .map(|n| {
            let who = account(n * 7_919 % accounts);
            let kind = if n % 2 == 0 { "try" } else { "success" };
            format!(
                "2 {} {kind} dovecot-policy imap DE 10.{}.{}.0/24 allow ended {who}\n",
                now(),
                n % 200,
                n % 7
            )
        })
        .collect();
    let folder = home.root().join("var/lib/postern/state/tally");
    as_user(POSTERN, || std::fs::write(folder.join("fold-1-bench"), lines).unwrap());
    let (is_done, mut waited) = (AtomicBool::new(false), 0.0);
    let ticked = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| as_user(POSTERN, || longest_wait(home, &is_done)));
        let ticked = tick(home);
        is_done.store(true, Ordering::Relaxed);
        waited = waiting.join().unwrap();
        ticked
    });
    let left = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(left, 0, "the tally was folded");
    (ticked, waited)
}

/// What a hook would have waited for the state at most, in milliseconds; it gives up after a second.
fn longest_wait(home: &Home, is_done: &AtomicBool) -> f64 {
    let mut db = state(home);
    db.busy_timeout(Duration::from_secs(1)).unwrap();
    let mut longest = 0f64;
    while !is_done.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let got = db.transaction_with_behavior(TransactionBehavior::Immediate).map(|t| t.commit().is_ok());
        let taken = begun.elapsed().as_secs_f64() * 1000.0;
        longest = longest.max(if got == Ok(true) { taken } else { f64::INFINITY });
        std::thread::sleep(Duration::from_millis(3));
    }
    longest
}

fn prune(home: &Home) -> f64 {
    as_user(POSTERN, || {
        let db = state(home);
        // Nobody was heard of since: a whole day has to go.
        db.execute("UPDATE account_day SET day = day - 40 WHERE day = ?1", [today() - DAYS + 1]).unwrap();
    });
    let taken = tick(home);
    let left: i64 = as_user(POSTERN, || {
        let sql = "SELECT count(*) FROM account_day WHERE day < ?1";
        state(home).query_row(sql, [today() - DAYS], |row| row.get(0)).unwrap()
    });
    println!("(Of a day's rows, {left} are left for the next minutes.)");
    taken
}

fn tick(home: &Home) -> f64 {
    let begun = Instant::now();
    home.postern(&["tick"]);
    begun.elapsed().as_secs_f64() * 1000.0
}

fn state(home: &Home) -> Connection {
    Connection::open(home.root().join("var/lib/postern/state/state.db")).unwrap()
}

fn today() -> i64 {
    now() / 86_400
}

fn size(home: &Home) -> f64 {
    home.root().join("var/lib/postern/state/state.db").metadata().unwrap().len() as f64 / 1e6
}

/// Rows of each table, and how much room each takes with its indexes.
fn tables(home: &Home) -> String {
    as_user(POSTERN, || {
        let db = state(home);
        let mut told = String::from("| table | rows |\n|---|---|\n");
        for table in [
            "account_day",
            "account_month",
            "domain_by_day",
            "domain_by_month",
            "domain",
            "login_day",
            "account_place",
            "login_network",
            "known_network",
            "account",
            "traffic_hour",
            "traffic_day",
            "traffic_month",
            "activity",
        ] {
            let rows: i64 =
                db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
            told += &format!("| {table} | {rows} |\n");
        }
        told
    })
}

fn fill(home: &Home, accounts: usize) {
    as_user(POSTERN, || {
        let mut db = state(home);
        db.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=-200000;").unwrap();
        let t = db.transaction().unwrap();
        let accounts = accounts as i64;
        names(&t, accounts);
        for ago in 0..DAYS {
            span(&t, "account_day", today() - ago, accounts, 60);
        }
        let this_month = month(&t);
        for ago in 0..MONTHS {
            span(&t, "account_month", this_month - ago, accounts, 100);
        }
        places(&t, accounts);
        traffic(&t, this_month);
        events(&t, accounts);
        t.commit().unwrap();
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    });
}

fn month(t: &Transaction) -> i64 {
    let sql = "SELECT strftime('%Y', 'now') * 12 + strftime('%m', 'now') - 1";
    t.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn names(t: &Transaction, accounts: i64) {
    let mut insert =
        t.prepare("INSERT INTO account(id, name, last, proven) VALUES (?1, ?2, ?3, ?3)").unwrap();
    for n in 0..accounts {
        insert.execute(params![n + 1, account(n as usize), today()]).unwrap();
    }
    // Figures by domain are made of those by account, as in a state from before there were any.
    t.execute("INSERT INTO meta VALUES ('domain_days_from', 0), ('domain_months_from', 0)", []).unwrap();
}

/// Whose the accounts are, as the administrator of a server without a panel says it: every domain is somebody's, and
/// no two that stand together are the same one's.
fn own(home: &Home, accounts: usize) {
    owned_by(home, accounts, &|n| match n % 10 {
        3 => "sara",
        7 if n < 2_000 => "ann",
        _ => "otto",
    });
}

fn owned_by(home: &Home, accounts: usize, owner: &dyn Fn(usize) -> &'static str) {
    let domains = accounts / OF_DOMAIN;
    let lines: String = (0..domains).map(|n| format!("{}: {}\n", domain(n * OF_DOMAIN), owner(n))).collect();
    let owners = lines + "ann: rex\nsara: sam\notto: max\nhanna: hal\n";
    std::fs::write(home.root().join("etc/postern/owners"), owners).unwrap();
}

/// The other countries in which accounts are now and then.
const ELSEWHERE: [&str; 8] = ["AT", "CH", "FR", "ES", "IT", "US", "BR", "TR"];

fn country(n: i64) -> &'static str {
    ELSEWHERE[(n % 8) as usize]
}

/// Accounts in no order, each once; the number of accounts has no 7,919 in it.
fn shuffled(accounts: i64) -> impl Iterator<Item = i64> {
    (0..accounts).map(move |n| n * 7_919 % accounts + 1)
}

fn span(t: &Transaction, table: &str, at: i64, accounts: i64, used: i64) {
    let sql = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?5, 0, ?6, 0, 0, 0)");
    let mut insert = t.prepare(&sql).unwrap();
    for account in shuffled(accounts).filter(|n| (n + at) % 100 < used) {
        insert.execute(params![at, account, "DE", "imap", 12, 0]).unwrap();
        insert.execute(params![at, account, "DE", "smtp", 3, 3]).unwrap();
        if (account + at) % 20 == 0 {
            insert.execute(params![at, account, country(account), "imap", 2, 0]).unwrap();
        }
    }
}

/// So many of each of the last days, as they are stored.
fn days(each: u32, of: usize) -> Vec<u8> {
    (0..of).flat_map(|_| each.to_le_bytes()).collect()
}

fn places(t: &Transaction, accounts: i64) {
    let mut place = t.prepare("INSERT INTO login_place VALUES (?1, ?2, ?3, ?4)").unwrap();
    let mut network = t.prepare("INSERT OR IGNORE INTO login_network VALUES (?1, ?2, ?3, ?4)").unwrap();
    let mut known = t.prepare("INSERT OR IGNORE INTO known_network VALUES (?1, ?2, ?3, ?4, 9)").unwrap();
    let net = |n: i64| format!("{}.{}.{}.0/24", 11 + n / 65_536 % 200, n / 256 % 256, n % 256);
    for account in shuffled(accounts) {
        place.execute(params!["DE", account, today(), days(15, 35)]).unwrap();
        if account % 20 == 0 {
            place.execute(params![country(account), account, today() - account % 30, days(2, 3)]).unwrap();
        }
        for n in 0..10 {
            let n = account * 7 + n * n * 31;
            let last = today() - n % 180;
            known.execute(params![account, net(n), last - 20, last]).unwrap();
        }
        network.execute(params!["DE", net(account * 7), today() - account % 30, days(4, 20)]).unwrap();
        if account % 2 == 0 {
            network.execute(params![country(account), net(account * 11 + 3), today(), days(1, 2)]).unwrap();
        }
    }
}

/// Sixty rows an hour, four hundred a day, five hundred a month: thirty countries and more that try.
fn traffic(t: &Transaction, this_month: i64) {
    let lay = |table: &str, at: i64, rows: i64| {
        let sql = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
        let mut insert = t.prepare_cached(&sql).unwrap();
        for n in 0..rows {
            let code = match n / 5 {
                0 => "DE".to_string(),
                other => format!(
                    "{}{}",
                    char::from(b'A' + (other % 26) as u8),
                    char::from(b'A' + (other / 26) as u8)
                ),
            };
            let verdict = ["succeeded", "tried", "failed", "refused", "sent"][(n % 5) as usize];
            let direction = if verdict == "sent" { "outbound" } else { "login" };
            let n = if code == "DE" { 400_000 } else { 7 };
            insert.execute(params![at, direction, "imap", code, verdict, n]).unwrap();
        }
    };
    for ago in 0..TRAFFIC_DAYS {
        for hour in 0..24 {
            lay("traffic_hour", (today() - ago) * 24 + hour, 60);
        }
        lay("traffic_day", today() - ago, 400);
    }
    for ago in 0..MONTHS {
        lay("traffic_month", this_month - ago, 500);
    }
}

/// A full ring of Activity, and what has a reason.
fn events(t: &Transaction, accounts: i64) {
    let mut event = t
        .prepare(
            "INSERT INTO activity(hour, first, last, n, account, address, country, service, door, verdict, reason, detail, reference)
             VALUES (?1 / 3600, ?1, ?1, 3, ?2, ?3, 'BR', 'smtp', 'exim-auth', 'refuse', 'country_not_allowed',
                     'Brazil (BR) is not among the countries allowed by the server''s list.', ?4)",
        )
        .unwrap();
    for n in 0..50_000i64 {
        let (a, b) = (n / 256 % 256, n % 256);
        let who = account((n * 7_919 % accounts) as usize);
        let reference = format!("{:04X}-{:04X}", n / 65_536, n % 65_536);
        event.execute(params![now() - (50_000 - n) * 60, who, format!("200.7.{a}.{b}"), reference]).unwrap();
    }
    let mut reason = t.prepare("INSERT OR IGNORE INTO login_day VALUES (?1, ?2, 'BR', 'smtp', 'refused', 'country_not_allowed', 3)").unwrap();
    for ago in 0..DAYS {
        for n in 0..1_000 {
            reason.execute([today() - ago, n * 97 % accounts + 1]).unwrap();
        }
    }
}

impl Home {
    /// The administrator's program in this folder.
    fn command(&self) -> Command {
        let mut command = Command::new(crate::built("static/postern"));
        command.arg(self.seam());
        command
    }
}
