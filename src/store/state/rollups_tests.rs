//! Folding and forgetting: figures computed by hand, floods, times outside of what is kept.

use super::*;
use crate::store::state::figures::{AccountFigure, Figure, Span, by_country, by_country_of, of_accounts};
use crate::store::state::in_memory;
use crate::store::state::names::{Numbers, Owned};

const NOON: Seconds = 1_700_000_000; // 2023-11-14 22:13 UTC

const TODAY: i64 = NOON / 86_400;

fn kept() -> Retention {
    Retention::from(&Settings::default())
}

/// A line of the tally, as `tally` writes it.
fn line(at: Seconds, rest: &str) -> String {
    format!("2 {at} {rest}\n")
}

fn login(account: &str) -> String {
    line(NOON, &format!("try dovecot-gate imap DE - allow country_allowed {account}"))
}

fn fold_one(db: &mut Connection, file: &str, text: &str, caps: Caps) {
    let t = Unit::begin(db).unwrap();
    fold_within(&t, file, text, NOON, &kept(), caps).unwrap();
    t.commit().unwrap();
}

fn figures(db: &Connection) -> Vec<(String, String, String, String, i64)> {
    let all = by_country(db, TODAY - 10, TODAY).unwrap().into_iter();
    all.map(|f| (f.direction, f.service, f.country, f.verdict, f.n)).collect()
}

fn figure(
    direction: &str,
    service: &str,
    country: &str,
    verdict: &str,
    n: i64,
) -> (String, String, String, String, i64) {
    (direction.into(), service.into(), country.into(), verdict.into(), n)
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_message_that_was_held_and_not_recorded_is_listed_and_no_other_word_is_taken_for_one() {
    let mut db = in_memory();
    let line = |rest: &str| format!("2 {NOON} held exim-local local - - {rest}\n");
    let text = line("1xW1Xt-0000gn-1R 3 webuser")
        + &line("--option 3 webuser")
        + &line("1xW1Xt-0000go-1R -3 webuser")
        + &line("1xW1Xt-0000gp-1R 3 -")
        + &line("1xW1Xt-0000gq-1R 1 webuser").replacen("2 1", "2 9", 1);
    fold_one(&mut db, "fold-1", &text, CAPS);
    let held = held::list(&db, "").unwrap();
    let told: Vec<_> = held.iter().map(|h| (h.message.as_str(), h.recipients, h.at)).collect();
    assert_eq!(told, [("1xW1Xt-0000gn-1R", 3, NOON), ("1xW1Xt-0000gq-1R", 1, NOON)]);
    assert_eq!(figures(&db), []);
}

/// Whom a table of one span counts, in one column.
fn counted(db: &Connection, table: &str, column: &str) -> Vec<(String, i64)> {
    let sql = format!(
        "SELECT coalesce(a.name, ''), sum({column}) AS n FROM {table} t LEFT JOIN account a ON a.id = t.account
         GROUP BY t.account ORDER BY n DESC, a.name"
    );
    let mut statement = db.prepare(&sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn figures_are_kept_by_account_day_and_month() {
    let mut db = in_memory();
    let good = |day: i64, account: &str| {
        line(NOON - day * 86_400, &format!("success exim-mail smtp DE - allow ended {account}"))
    };
    // The 14th, twice; the 1st; the last of October.
    let text = good(0, "alice").repeat(2) + &good(13, "alice") + &good(14, "alice") + &good(0, "-");
    fold_one(&mut db, "fold-1", &(text + &login("alice").repeat(3)), CAPS);
    assert_eq!(counted(&db, "account_day", "succeeded"), [("alice".into(), 4), (String::new(), 1)]);
    let alice = number(&db, "SELECT id FROM account WHERE name = 'alice'");
    let row = |service: &str, tried, succeeded| {
        let uses = [tried, 0, 0, succeeded, 0, 0, 0, 0, 0];
        AccountFigure { country: "DE".into(), service: service.into(), uses }
    };
    let days = |since| of_accounts(&db, &Numbers::from_iter([alice]), Span::Days(since, TODAY)).unwrap();
    assert_eq!(days(TODAY), [row("imap", 3, 0), row("smtp", 0, 2)]);
    assert_eq!(days(TODAY - 13)[1], row("smtp", 0, 3));
    assert_eq!(days(TODAY - 14)[1], row("smtp", 0, 4));
    let november = figures::month_of(TODAY);
    assert_eq!(november, 2023 * 12 + 10);
    let months =
        |since| of_accounts(&db, &Numbers::from_iter([alice]), Span::Months(since, november)).unwrap();
    assert_eq!(months(november)[1], row("smtp", 0, 3));
    assert_eq!(months(november - 1)[1], row("smtp", 0, 4));
}

#[test]
fn figures_of_the_accounts_that_may_be_seen_are_those_of_all_where_all_may_be_seen() {
    let mut db = in_memory();
    let of = |account: &str| -> String {
        [
            "try dovecot-gate imap US - refuse country_not_allowed",
            "success exim-mail smtp DE - allow country_allowed",
            "send exim-data smtp DE - allow within_limit",
            "send exim-data smtp DE - refuse over_limit",
            "send exim-data smtp FR - refuse sending_stopped",
            "send exim-data smtp DE - would_refuse would_stop",
            "send exim-local local - - hold sending_stopped",
        ]
        .map(|l| line(NOON, &format!("{l} {account}")))
        .concat()
    };
    // Names that are not proven have no months of their own.
    let proven = |account: &str| line(NOON, &format!("success exim-mail smtp DE - allow ended {account}"));
    fold_one(&mut db, "fold-1", &(proven("alice@example.test") + &proven("web").repeat(2)), CAPS);
    fold_one(&mut db, "fold-2", &(of("alice@example.test") + &of("web").repeat(2)), CAPS);
    let (all, month) = (by_country(&db, TODAY, TODAY).unwrap(), figures::month_of(TODAY));
    let of = |db: &Connection, names: &[&str], span: Span| {
        let holds = |key: &str| names.contains(&key);
        let keys = || Some(names.iter().map(|name| names::domain_of(name).to_string()).collect());
        let few = by_country_of(db, &Owned { keys: keys(), holds: &|k| holds(k) }, span).unwrap();
        // The same by a walk through all domains.
        let walk = |key: &str| names.iter().any(|name| names::domain_of(name) == key);
        assert_eq!(by_country_of(db, &Owned { keys: None, holds: &walk }, span).unwrap(), few);
        few
    };
    let both = ["web", "alice@example.test"];
    for span in [Span::Days(TODAY, TODAY), Span::Days(TODAY - 34, TODAY), Span::Months(month, month)] {
        assert_eq!(of(&db, &both, span), all);
        let of_web = of(&db, &["web"], span);
        assert_eq!(of_web, all.iter().map(|f| Figure { n: f.n / 3 * 2, ..f.clone() }).collect::<Vec<_>>());
        assert_eq!(of(&db, &["nobody"], span), []);
        // By account it is the same, however many there are.
        let ids = |name: &&str| names::number_of(&db, name).unwrap();
        let accounts: Numbers = both.iter().filter_map(ids).collect();
        let many: Numbers = accounts.iter().chain(1_000_000..1_020_000).collect();
        let sum = of_accounts(&db, &accounts, span).unwrap();
        assert_eq!(sum, of_accounts(&db, &many, span).unwrap());
        assert_eq!(
            sum.iter().map(|f| f.uses.iter().sum::<i64>()).sum::<i64>(),
            all.iter().map(|f| f.n).sum::<i64>()
        );
    }
    assert_eq!(of(&db, &both, Span::Days(TODAY - 2, TODAY - 1)), []);
}

#[test]
fn each_rule_that_would_have_refused_counts_and_the_login_counts_once() {
    let mut db = in_memory();
    let rest =
        "try dovecot-gate imap US - would_refuse country_not_allowed,network_hosting,network_hosting alice";
    fold_one(&mut db, "fold-1", &line(NOON, rest).repeat(2), CAPS);
    let reasons = "SELECT group_concat(reason || ' ' || n, ', ' ORDER BY reason) FROM login_day";
    let told: String = db.query_row(reasons, [], |row| row.get(0)).unwrap();
    assert_eq!(told, "country_not_allowed 2, network_hosting 2");
    assert_eq!(number(&db, "SELECT would_refuse FROM account_day"), 2);
    // Mail users can write any line: a word that no rule has makes no row, nor do more reasons than there are rules.
    let forged = "try dovecot-gate imap US - would_refuse country_not_allowed,X alice";
    let many = format!(
        "try dovecot-gate imap US - would_refuse {} bob",
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].join(",")
    );
    fold_one(&mut db, "fold-2", &(line(NOON, forged) + &line(NOON, &many)), CAPS);
    assert_eq!(number(&db, "SELECT count(*) FROM login_day"), 2 + 8);
}

#[test]
fn tried_refused_and_succeeded_are_told_apart() {
    let mut db = in_memory();
    let lines = [
        "try dovecot-gate imap DE - allow country_allowed alice@example.test",
        "try dovecot-gate imap US - refuse country_not_allowed alice@example.test",
        "try dovecot-gate imap FR - would_refuse country_not_allowed alice@example.test",
        "use exim-mail smtp US - refuse country_not_allowed alice@example.test",
        "use exim-mail smtp FR - would_refuse country_not_allowed alice@example.test",
        "success exim-mail smtp DE - allow country_allowed alice@example.test",
        "send exim-data smtp DE - allow within_limit alice@example.test",
        "send exim-local local - - hold sending_stopped web",
        "send exim-data smtp DE - refuse over_limit alice@example.test",
        "send exim-data smtp DE - would_refuse would_stop alice@example.test",
    ];
    let text: String = lines.iter().map(|l| line(NOON, l)).collect();
    fold_one(&mut db, "fold-1", &text, CAPS);
    assert_eq!(
        figures(&db),
        [
            figure("login", "imap", "DE", "tried", 1),
            figure("login", "smtp", "DE", "succeeded", 1),
            figure("login", "imap", "FR", "tried", 1),
            figure("login", "imap", "FR", "would_refuse", 1),
            figure("login", "smtp", "FR", "succeeded", 1),
            figure("login", "smtp", "FR", "would_refuse", 1),
            figure("login", "imap", "US", "refused", 1),
            figure("login", "imap", "US", "tried", 1),
            figure("login", "smtp", "US", "refused", 1),
            figure("outbound", "local", "", "held", 1),
            figure("outbound", "smtp", "DE", "refused", 1),
            figure("outbound", "smtp", "DE", "sent", 2),
            figure("outbound", "smtp", "DE", "would_refuse", 1),
        ]
    );
    let doors: Vec<_> = doors(&db).unwrap().into_iter().map(|(name, service, _)| (name, service)).collect();
    let expected =
        [("dovecot-gate", "imap"), ("exim-data", "smtp"), ("exim-local", "local"), ("exim-mail", "smtp")];
    assert_eq!(doors, expected.map(|(name, service)| (name.to_string(), service.to_string())));
}

#[test]
fn a_file_is_folded_once_however_often_it_is_met() {
    let mut db = in_memory();
    for _ in 0..3 {
        fold_one(&mut db, "fold-1", &login("alice@example.test"), CAPS);
    }
    assert_eq!(figures(&db), [figure("login", "imap", "DE", "tried", 1)]);
    fold_one(&mut db, "fold-2", &login("alice@example.test"), CAPS);
    assert_eq!(figures(&db), [figure("login", "imap", "DE", "tried", 2)]);
}

#[test]
fn successes_make_networks_known_and_failures_do_not() {
    let mut db = in_memory();
    let lines = [
        "success dovecot-policy imap DE 5.9.0.0/24 allow ended alice@example.test",
        "success dovecot-policy imap DE 5.9.0.0/24 allow ended alice@example.test",
        "failure dovecot-policy imap BR - failed ended alice@example.test",
        "success dovecot-policy imap DE nonsense allow ended alice@example.test",
        "success dovecot-policy imap DE 5.9.1.0/24 allow ended -",
    ];
    let text: String = lines.iter().map(|l| line(NOON, l)).collect();
    fold_one(&mut db, "fold-1", &text, CAPS);
    let known = known_networks::of(&db, &"alice@example.test".parse().unwrap()).unwrap();
    let known: Vec<_> = known.iter().map(|k| (k.network.as_str(), k.n)).collect();
    assert_eq!(known, [("5.9.0.0/24", 2)]);
    assert!(figures(&db).contains(&figure("login", "imap", "BR", "failed", 1)), "{:?}", figures(&db));
}

#[test]
fn half_lines_and_foreign_lines_are_left_out_and_the_rest_counts() {
    let mut db = in_memory();
    let good = login("alice@example.test");
    let broken = [
        &good[..good.len() / 2],
        "",
        "1",
        "\0\0\0",
        "3 1700000000 try dovecot-gate imap DE - allow country_allowed alice",
        "2 soon try dovecot-gate imap DE - allow country_allowed alice",
        "2 1700000000 try thiefs-door imap DE - allow country_allowed alice",
        "2 1700000000 try dovecot-gate gopher DE - allow country_allowed alice",
        "2 1700000000 try dovecot-gate imap DEU - allow country_allowed alice",
        "2 1700000000 try dovecot-gate imap DE - ALLOW country_allowed alice",
        "2 1700000000 try dovecot-gate imap DE - allow <script> alice",
        "2 1700000000 try dovecot-gate imap DE - allow country_allowed alice and bob",
        "2 1700000000 fly dovecot-gate imap DE - allow country_allowed alice",
        &format!("2 1700000000 try dovecot-gate imap DE - allow country_allowed {}", "a".repeat(600)),
    ];
    let text: String = broken.iter().map(|l| format!("{l}\n{good}")).collect();
    fold_one(&mut db, "fold-1", &text, CAPS);
    assert_eq!(figures(&db), [figure("login", "imap", "DE", "tried", broken.len() as i64)]);
}

#[test]
fn a_time_outside_of_what_is_kept_counts_as_now() {
    let mut db = in_memory();
    let at = |at| line(at, "try dovecot-gate imap DE - allow country_allowed alice");
    let text = [at(0), at(-5), at(i64::MAX), at(NOON + 1), at(NOON - 36 * 86_400), at(NOON)].concat();
    fold_one(&mut db, "fold-1", &text, CAPS);
    assert_eq!(number(&db, "SELECT count(DISTINCT day) FROM account_day"), 1);
    assert_eq!(number(&db, "SELECT tried FROM account_day"), 6);
}

/// Caps that nothing in a test reaches, but for what it sets.
const ROOM: Room = Room { all: 1_000_000, idle: 1_000_000 };

fn success(account: &str) -> String {
    line(NOON, &format!("success dovecot-policy imap DE 5.9.0.0/24 allow ended {account}"))
}

#[test]
fn a_flood_of_names_is_counted_under_everybody_else_and_keeps_no_mailbox_from_its_figures() {
    let mut db = in_memory();
    let most = names::Most { all: 20, unproven: 10 };
    let caps = Caps { names: most, domains: most, day: ROOM, month: ROOM, ..CAPS };
    let names = |from: i64, to: i64| (from..to).map(|n| login(&format!("user{n}"))).collect::<String>();
    fold_one(&mut db, "fold-1", &names(0, 300), caps);
    fold_one(&mut db, "fold-2", &names(300, 600), caps);
    assert_eq!(number(&db, "SELECT count(*) FROM account"), 10);
    assert_eq!(number(&db, "SELECT count(*) FROM account_day"), 11);
    assert_eq!(number(&db, "SELECT tried FROM account_day WHERE account = 0"), 590);
    assert_eq!(counted(&db, "account_month", "tried"), [(String::new(), 600)], "nobody of them is proven");
    // Whoever has a number keeps it.
    let known: String = db.query_row("SELECT name FROM account LIMIT 1", [], |row| row.get(0)).unwrap();
    fold_one(&mut db, "fold-3", &login(&known), caps);
    assert_eq!(number(&db, "SELECT tried FROM account_day WHERE account = 0"), 590);
    // Who logs in well gets one although the names of a flood have none left, up to the cap.
    let good: String = (0..30).map(|n| success(&format!("mailbox{n:02}"))).collect();
    fold_one(&mut db, "fold-4", &good, caps);
    assert_eq!(number(&db, "SELECT count(*) FROM account WHERE proven > 0"), 10);
    assert_eq!(counted(&db, "account_day", "succeeded")[..2], [(String::new(), 20), ("mailbox00".into(), 1)]);
    // Local users count as domains of their own.
    assert_eq!(number(&db, "SELECT count(*) FROM domain"), 20);
    assert_eq!(number(&db, "SELECT count(*) FROM domain_by_day"), 20);
    assert_eq!(number(&db, "SELECT count(*) FROM domain_by_month"), 10);
}

#[test]
fn a_flood_of_rows_is_counted_under_everybody_else_and_leaves_room_for_good_logins() {
    let mut db = in_memory();
    let room = Room { all: 50, idle: 25 };
    let caps = Caps { day: room, month: room, rows_by_domain: room, reasons: 10, ..CAPS };
    for file in 0..4 {
        let refused = |n| {
            let rest = format!("try exim-auth smtp US - refuse country_not_allowed user{file}x{n}");
            login(&format!("user{file}x{n}")) + &line(NOON, &rest)
        };
        let text: String = (0..100).map(refused).collect();
        fold_one(&mut db, &format!("fold-{file}"), &text, caps);
    }
    assert!(number(&db, "SELECT count(*) FROM account_day") <= 27);
    assert_eq!(number(&db, "SELECT sum(entries) FROM domain_by_day"), 25);
    assert_eq!(number(&db, "SELECT sum(tried) FROM account_day"), 800);
    assert_eq!(number(&db, "SELECT sum(tried) FROM account_month"), 800);
    assert_eq!(number(&db, "SELECT sum(refused) FROM account_day"), 400);
    assert!(number(&db, "SELECT count(*) FROM login_day") <= 11);
    assert_eq!(number(&db, "SELECT sum(n) FROM login_day"), 400);
    for file in 0..4 {
        let good: String = (0..20).map(|n| success(&format!("mailbox{file}x{n}"))).collect();
        fold_one(&mut db, &format!("good-{file}"), &good, caps);
    }
    let good = "SELECT count(*) FROM account_day WHERE succeeded > 0 AND account > 0";
    assert_eq!(number(&db, good), 25);
    assert_eq!(number(&db, "SELECT count(*) FROM domain_by_day WHERE idle = 0"), 25);
    assert!(number(&db, "SELECT count(*) FROM account_month") <= 52);
    assert_eq!(number(&db, "SELECT sum(succeeded) FROM account_month"), 80);
}

#[test]
fn what_is_older_than_it_is_kept_for_is_forgotten_with_the_names_that_only_it_knew() {
    let mut db = in_memory();
    fold_one(&mut db, "fold-1", &(login("alice@example.test") + &success("carol@example.test")), CAPS);
    let later = |days: i64| NOON + days * 86_400;
    let t = Unit::begin(&db).unwrap();
    prune(&t, later(35), &kept()).unwrap();
    assert_eq!(number(&t, "SELECT count(*) FROM account"), 2);
    assert_eq!(number(&t, "SELECT count(*) FROM account_day"), 2);
    let bob = line(later(38), "try dovecot-gate imap DE - allow country_allowed bob");
    fold(&t, "fold-2", &bob, later(38), &kept()).unwrap();
    prune(&t, later(38), &kept()).unwrap();
    let names: String =
        t.query_row("SELECT group_concat(name ORDER BY name) FROM account", [], |row| row.get(0)).unwrap();
    assert_eq!(names, "bob,carol@example.test", "who logged in well is known by the month");
    assert_eq!(number(&t, "SELECT count(*) FROM account_day"), 1);
    assert_eq!(number(&t, "SELECT count(*) FROM account_place"), 0);
    assert_eq!(number(&t, "SELECT count(*) FROM login_network"), 0);
    assert_eq!(number(&t, "SELECT count(*) FROM traffic_hour"), 3);
    // Thirteen months: November of the next year is the first without this one.
    prune(&t, later(365), &kept()).unwrap();
    assert_eq!(number(&t, "SELECT sum(succeeded) FROM account_month"), 1);
    prune(&t, later(383), &kept()).unwrap();
    assert_eq!(number(&t, "SELECT sum(succeeded) FROM account_month"), 0);
    assert_eq!(number(&t, "SELECT count(*) FROM traffic_hour"), 3);
    prune(&t, later(401), &kept()).unwrap();
    assert_eq!(number(&t, "SELECT count(*) FROM traffic_hour"), 1);
    assert_eq!(number(&t, "SELECT count(*) FROM traffic_day"), 1);
    assert_eq!(number(&t, "SELECT count(*) FROM folded"), 0);
    prune(&t, later(1000), &kept()).unwrap();
    for table in [
        "account",
        "account_day",
        "account_month",
        "domain",
        "domain_by_day",
        "domain_by_month",
        "traffic_hour",
        "traffic_day",
        "traffic_month",
    ] {
        assert_eq!(number(&t, &format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
}

#[test]
fn the_settings_say_how_long_figures_are_kept() {
    let mut db = in_memory();
    let refused = "try exim-auth smtp US - refuse country_not_allowed alice@example.test";
    fold_one(&mut db, "fold-1", &(success("alice@example.test") + &line(NOON, refused)), CAPS);
    let short = Retention { activity_days: 3, login_days: 7, login_months: 1, traffic_days: 10 };
    let left = |days: i64, db: &mut Connection| {
        let t = Unit::begin(db).unwrap();
        prune(&t, NOON + days * 86_400, &short).unwrap();
        let tables = ["account_day", "login_day", "account_place", "account_month", "traffic_hour"];
        tables.map(|table| number(&t, &format!("SELECT count(*) > 0 FROM {table}")))
    };
    assert_eq!(left(7, &mut db), [1, 1, 1, 1, 1]);
    assert_eq!(left(8, &mut db), [0, 0, 0, 1, 1]);
    assert_eq!(left(11, &mut db), [0, 0, 0, 1, 0]);
    assert_eq!(left(17, &mut db), [0, 0, 0, 0, 0], "the first of December");
}

#[test]
fn a_minute_removes_a_piece_and_the_next_one_the_rest() {
    let mut db = in_memory();
    let text: String = (0..100).map(|n| success(&format!("user{n}"))).collect();
    fold_one(&mut db, "fold-1", &text, CAPS);
    let t = Unit::begin(&db).unwrap();
    for left in [70, 40, 10, 0, 0] {
        prune_piece(&t, NOON + 36 * 86_400, &kept(), 30).unwrap();
        assert_eq!(number(&t, "SELECT count(*) FROM account_day"), left);
        // Its rows hold 32 accounts each.
        assert_eq!(number(&t, "SELECT count(*) FROM account_place"), 0);
    }
}

#[test]
fn a_number_is_not_given_away_while_rows_speak_of_it() {
    let mut db = in_memory();
    fold_one(&mut db, "fold-1", &login("nobody@example.test"), CAPS);
    let t = Unit::begin(&db).unwrap();
    for day in 0..=60 {
        prune(&t, NOON + day * 86_400, &kept()).unwrap();
        let orphans = "SELECT count(*) FROM account_day WHERE account NOT IN (SELECT id FROM account)";
        assert_eq!(number(&t, orphans), 0, "day {day}");
    }
    assert_eq!(number(&t, "SELECT count(*) FROM account"), 0);
}

fn from_logs<'a>(account: &'a str, day: i64, succeeded: i64, failed: i64) -> FromLogs<'a> {
    let network = Some("192.0.2.0/24".parse().unwrap());
    FromLogs { account, day, service: "imap", country: "DE", network, succeeded, failed, known: succeeded }
}

fn add_logs(db: &mut Connection, logins: &[FromLogs], hours: &[HourFromLogs], caps: Caps) {
    let t = Unit::begin(db).unwrap();
    add_within(&t, logins, hours, NOON, &kept(), caps).unwrap();
    t.commit().unwrap();
}

#[test]
fn what_logs_tell_of_several_days_is_the_sum_of_them() {
    let mut db = in_memory();
    let all: Vec<FromLogs> = (0..3).map(|ago| from_logs("alice", TODAY - ago, 2, 1)).collect();
    let hours = [(NOON / 3600, ("inbound", "received"), "smtp", "FR", 7)];
    add_logs(&mut db, &all, &hours, CAPS);
    add_logs(&mut db, &[from_logs("alice", TODAY - 100, 5, 5)], &[], CAPS);
    assert_eq!(figures(&db), [figure("inbound", "smtp", "FR", "received", 7)]);
    assert_eq!(counted(&db, "account_day", "tried"), [("alice".into(), 9)]);
    assert_eq!(counted(&db, "account_month", "failed"), [("alice".into(), 3)]);
    let known = "SELECT n * 1000000 + (last - first) FROM known_network";
    assert_eq!(number(&db, known), 11 * 1_000_000 + 100, "the older day makes the network known for longer");
    let places = places::countries_of(&db, number_of(&db, "alice"), TODAY - 40).unwrap();
    assert_eq!((places[0].n, places[0].last), (6, TODAY));
    assert_eq!(number(&db, "SELECT count(*) FROM good_network"), 1);
}

fn number_of(db: &Connection, name: &str) -> i64 {
    names::number_of(db, name).unwrap().unwrap()
}

#[test]
fn a_flood_of_names_in_a_log_stays_within_the_caps_and_keeps_nobody_out() {
    let mut db = in_memory();
    let most = names::Most { all: 20, unproven: 10 };
    let caps = Caps { names: most, day: Room { all: 50, idle: 25 }, month: ROOM, ..CAPS };
    let invented: Vec<String> = (0..500).map(|n| format!("user{n}@invented.test")).collect();
    let flood: Vec<FromLogs> = invented.iter().map(|name| from_logs(name, TODAY, 0, 1)).collect();
    flood.chunks(100).for_each(|piece| add_logs(&mut db, piece, &[], caps));
    assert_eq!(number(&db, "SELECT count(*) FROM account"), 10);
    assert_eq!(number(&db, "SELECT sum(failed) FROM account_day"), 500);
    assert_eq!(number(&db, "SELECT count(*) FROM account_day"), 11);
    assert_eq!(number(&db, "SELECT count(*) FROM known_network"), 0);
    add_logs(&mut db, &[from_logs("alice", TODAY, 1, 0)], &[], caps);
    assert_eq!(
        number(&db, "SELECT succeeded FROM account_day JOIN account ON id = account WHERE name = 'alice'"),
        1
    );
}
