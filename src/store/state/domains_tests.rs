//! Sums by domain beside sums by account, what was there before, what is forgotten.

use super::*;
use crate::settings::Settings;
use crate::store::state::figures::{Figure, by_country_of, month_of, of_accounts};
use crate::store::state::names::{Owned, accounts_of, domain_of, domains_of};
use crate::store::state::{SCHEMA, in_memory, rollups};
use proptest::prelude::*;
use std::collections::HashSet;

const NOON: Seconds = 1_700_000_000; // 2023-11-14 22:13 UTC
const TODAY: i64 = NOON / 86_400;

fn kept() -> Retention {
    Retention::from(&Settings::default())
}

fn write<T>(db: &Connection, work: impl FnOnce(&Unit) -> Result<T>) -> T {
    let t = Unit::begin(db).unwrap();
    let done = work(&t).unwrap();
    t.commit().unwrap();
    done
}

fn fold(db: &Connection, file: &str, text: &str) {
    write(db, |t| rollups::fold(t, file, text, NOON, &kept()));
}

fn number(db: &Connection, sql: &str) -> i64 {
    db.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn line(ago: i64, kind: &str, country: &str, account: &str) -> String {
    let at = NOON - ago * 86_400;
    let rest = match kind {
        "send" => format!("send exim-data smtp {country} - allow within_limit {account}"),
        "failure" => format!("failure dovecot-policy imap {country} - failed ended {account}"),
        kind => format!("{kind} dovecot-policy imap {country} - allow ended {account}"),
    };
    format!("2 {at} {rest}\n")
}

fn all_steps(db: &Connection, piece: i64) -> usize {
    let mut n = 0;
    while write(db, |t| fill_step(t, NOON, &kept(), piece)) {
        n += 1;
    }
    n
}

const OWNERS: [&[&str]; 5] =
    [&["@a.test"], &["@a.test", "@b.test", "web"], &["web"], &["@c.test"], &["@b.test@c.test"]];

/// What somebody owns, in figures by domain and by account.
fn both_ways(db: &Connection, keys: &[&str], span: Span) -> [Vec<AccountFigure>; 2] {
    let set: HashSet<&str> = keys.iter().copied().collect();
    let holds = |name: &str| set.contains(domain_of(name));
    let owned = Owned { keys: None, holds: &holds };
    let by_domain = of_domains(db, &domains_of(db, &owned).unwrap(), span).unwrap().unwrap();
    [by_domain, of_accounts(db, &accounts_of(db, &owned).unwrap(), span).unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn sums_by_domain_are_the_sums_by_account(lines in prop::collection::vec(
        (0i64..35, "try|success|failure|send", "DE|BR|-", "[ab]@[ab]\\.test|web|x@b\\.test@c\\.test|nobody"), 1..40,
    ), files in 1usize..4) {
        let db = in_memory();
        // Months are kept for who is proven alone, so everybody is, at first.
        let names = ["a@a.test", "b@a.test", "a@b.test", "b@b.test", "web", "x@b.test@c.test", "nobody"];
        fold(&db, "first", &names.map(|name| line(0, "success", "AT", name)).concat());
        for (n, piece) in lines.chunks(lines.len().div_ceil(files)).enumerate() {
            let text: String = piece.iter().map(|(ago, kind, country, name)| line(*ago, kind, country, name)).collect();
            fold(&db, &format!("fold-{n}"), &text);
        }
        let month = month_of(TODAY);
        for keys in OWNERS {
            for span in [Span::Days(TODAY, TODAY), Span::Days(TODAY - 9, TODAY), Span::Days(TODAY - 34, TODAY), Span::Months(month - 12, month)] {
                let [by_domain, by_account] = both_ways(&db, keys, span);
                prop_assert_eq!(by_domain, by_account, "{:?} {:?}", keys, span);
            }
        }
    }
}

/// Steps of the schema before there were figures by domain.
const BEFORE_DOMAINS: usize = 4;

#[test]
fn a_state_from_before_tells_by_account_until_all_is_there_by_domain() {
    let mut db = Connection::open_in_memory().unwrap();
    let path = std::path::Path::new("memory");
    crate::store::schema::migrate(&mut db, path, &SCHEMA[..BEFORE_DOMAINS]).unwrap();
    for (id, name) in [(1, "a@a.test"), (2, "b@a.test"), (3, "c@b.test"), (4, "web"), (5, "x@a.test@b.test")]
    {
        let sql = "INSERT INTO account(id, name, last, proven) VALUES (?1, ?2, ?3, ?3)";
        db.execute(sql, params![id, name, TODAY]).unwrap();
        for ago in 0..40 {
            let (figures, month) = (format!("{id}, 0, 0, 1, 0, 0, 0, 0, 0"), month_of(TODAY) - ago);
            let day = TODAY - ago;
            db.execute(&format!("INSERT INTO account_day VALUES ({day}, {id}, 'DE', 'imap', {figures})"), [])
                .unwrap();
            if ago < 13 {
                db.execute(
                    &format!("INSERT INTO account_month VALUES ({month}, {id}, 'DE', 'imap', {figures})"),
                    [],
                )
                .unwrap();
            }
        }
    }
    crate::store::schema::migrate(&mut db, path, SCHEMA).unwrap();
    let (holds, month) = (|key: &str| domain_of(key) == "@a.test", month_of(TODAY));
    let spans = [Span::Days(TODAY - 29, TODAY), Span::Months(month - 12, month)];
    let told = |db: &Connection| -> Vec<Vec<Figure>> {
        let figures = |keys| {
            let owned = Owned { keys, holds: &holds };
            spans.map(|span| by_country_of(db, &owned, span).unwrap())
        };
        let (few, many) = (figures(Some(vec!["@a.test".to_string()])), figures(None));
        assert_eq!(few, many);
        many.to_vec()
    };
    let before = told(&db);
    let tried = |figures: &[Figure]| figures.iter().find(|f| f.verdict == "tried").map(|f| f.n);
    assert_eq!((tried(&before[0]), tried(&before[1])), (Some(30 * 3), Some(13 * 3)));
    // A hook's tally comes between.
    fold(&db, "fold-1", &line(0, "try", "DE", "a@a.test"));
    let steps = all_steps(&db, 2);
    assert_eq!(steps, 3 + 41 + 14, "five names by two, each day and month once, and one that finds none");
    let after = told(&db);
    assert_eq!((tried(&after[0]), tried(&after[1])), (Some(30 * 3 + 1), Some(13 * 3 + 1)));
    assert_eq!(number(&db, "SELECT count(*) FROM meta WHERE key LIKE 'domain%'"), 0);
    for keys in OWNERS {
        for span in spans {
            let [by_domain, by_account] = both_ways(&db, keys, span);
            assert_eq!(by_domain, by_account, "{keys:?}");
        }
    }
    assert_eq!(number(&db, "SELECT count(*) FROM domain WHERE name = '@b.test'"), 1);
    assert_eq!(number(&db, "SELECT count(*) FROM account WHERE domain IS NULL"), 0);
}

/// Steps of the schema before a domain had one row.
const BEFORE_ONE_ROW: usize = 7;

/// A row of the older form, as the program that knew no other wrote it.
fn older(
    db: &Connection,
    table: &str,
    (domain, country, service): (i64, &str, &str),
    last: i64,
    uses: &[Uses],
) {
    let mut days = Packed::default();
    for (ago, uses) in uses.iter().enumerate().rev() {
        *days.at(last - ago as i64, last, 35).unwrap() = *uses;
    }
    let is_idle = uses.iter().all(|uses| uses[SUCCEEDED] == 0);
    let sql = format!("INSERT INTO {table} VALUES (?1, ?2, ?3, ?4, ?5, ?6)");
    db.execute(&sql, params![domain, country, service, last, is_idle, days.write()]).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
    #[test]
    fn rows_of_the_older_form_come_into_one_row_whenever_they_were_written(
        lines in prop::collection::vec((0i64..30, "try|success|send", "DE|BR|-", "[ab]@[ab]\\.test|web"), 1..30),
        were_older in prop::collection::vec((1i64..4, "DE|BR|", "imap|smtp", 0i64..30, prop::collection::vec(0i64..9, 1..5)), 0..12),
        late in prop::collection::vec((1i64..4, "DE|FR", "imap", 0i64..3, 1i64..9), 0..3),
    ) {
        let mut db = Connection::open_in_memory().unwrap();
        let path = std::path::Path::new("memory");
        crate::store::schema::migrate(&mut db, path, &SCHEMA[..BEFORE_ONE_ROW]).unwrap();
        for (id, name) in [(1, "@a.test"), (2, "@b.test"), (3, "web")] {
            db.execute("INSERT INTO domain VALUES (?1, ?2, ?3, ?3)", params![id, name, TODAY]).unwrap();
        }
        let mut expected: BTreeMap<(i64, i64, String, String), Uses> = BTreeMap::new();
        let mut expect = |domain, day, country: &str, service: &str, uses: &Uses| {
            add(expected.entry((domain, day, country.into(), service.into())).or_default(), uses);
        };
        let mut laid = std::collections::BTreeSet::new();
        for (domain, country, service, ago, tried) in &were_older {
            if !laid.insert((domain, country, service)) {
                continue;
            }
            let uses: Vec<Uses> = tried.iter().map(|n| [*n, 0, 0, n / 2, 0, 0, 0, 0, 0]).collect();
            older(&db, "domain_days", (*domain, country, service), TODAY - ago, &uses);
            for (more, uses) in uses.iter().enumerate() {
                expect(*domain, TODAY - ago - more as i64, country, service, uses);
            }
        }
        crate::store::schema::migrate(&mut db, path, SCHEMA).unwrap();
        let mut text = String::new();
        for (ago, kind, country, name) in &lines {
            text += &line(*ago, kind, country, name);
            let domain = match domain_of(name) { "@a.test" => 1, "@b.test" => 2, _ => 3 };
            let (column, service) = match kind.as_str() { "send" => (SENT, "smtp"), "try" => (0, "imap"), _ => (SUCCEEDED, "imap") };
            let mut uses = Uses::default();
            uses[column] = 1;
            expect(domain, TODAY - ago, if country == "-" { "" } else { country }, service, &uses);
        }
        fold(&db, "fold-1", &text);
        prop_assert_eq!(of_domains(&db, &Numbers::default(), Span::Days(0, TODAY)).unwrap().is_none(), has_older(&db, Table::Days).unwrap());
        all_steps(&db, 4);
        // A program of an older version is still at work.
        let mut laid = std::collections::BTreeSet::new();
        for (domain, country, service, ago, n) in &late {
            if laid.insert((domain, country)) {
                let uses = [*n, 0, 0, *n, 0, 0, 0, 0, 0];
                older(&db, "domain_days", (*domain, country, service), TODAY - ago, &[uses]);
                expect(*domain, TODAY - ago, country, service, &uses);
            }
        }
        all_steps(&db, 4);
        for domains in [vec![1], vec![2, 3], vec![1, 2, 3], vec![4]] {
            for span in [(TODAY, TODAY), (TODAY - 9, TODAY), (TODAY - 34, TODAY), (TODAY - 20, TODAY - 10)] {
                let mut sums = Sums::default();
                for ((_, _, country, service), uses) in expected.iter().filter(|((domain, day, ..), uses)| {
                    domains.contains(domain) && (span.0..=span.1).contains(day) && uses.iter().any(|n| *n > 0)
                }) {
                    add(sums.of(country, service), uses);
                }
                let found = of_domains(&db, &domains.iter().copied().collect(), Span::Days(span.0, span.1)).unwrap();
                prop_assert_eq!(found.unwrap(), sums.sorted(), "{:?} {:?}", domains, span);
            }
        }
    }
}

#[test]
fn a_walk_through_all_domains_and_a_look_at_each_tell_the_same() {
    let db = in_memory();
    for domain in 1..=i64::try_from(FEW).unwrap() + 10 {
        let news = News::from([
            (
                (domain, "DE".into(), "imap".into()),
                BTreeMap::from([(TODAY, [domain, 0, 0, 0, 0, 0, 0, 0, 0])]),
            ),
            (
                (domain, "AT".into(), "smtp".into()),
                BTreeMap::from([(TODAY - domain % 40, [0, 0, 0, 1, 0, 0, 0, 0, 0])]),
            ),
        ]);
        write(&db, |t| put(t, Table::Days, &news, Put::Add, (TODAY, 35), ROOM));
    }
    let all: Vec<i64> = (1..=i64::try_from(FEW).unwrap() + 10).collect();
    let span = Span::Days(TODAY - 20, TODAY);
    let sum = |domains: &[i64]| of_domains(&db, &domains.iter().copied().collect(), span).unwrap().unwrap();
    let mut sums = Sums::default();
    for piece in all.chunks(500) {
        sum(piece).iter().for_each(|f| add(sums.of(&f.country, &f.service), &f.uses));
    }
    assert_eq!(sum(&all), sums.sorted());
    assert_eq!(sum(&all)[1].uses[0], all.iter().sum::<i64>());
}

#[test]
fn the_countries_of_one_domain_are_bounded_and_leave_room_for_good_logins() {
    let db = in_memory();
    let place = |n: i64, used: i64| {
        let letter = |n: i64| char::from(b'A' + u8::try_from(n % 26).unwrap());
        let country: String = [letter(n / 26), letter(n)].iter().collect();
        let uses = [1, 0, 0, used, 0, 0, 0, 0, 0];
        ((1, country.into(), format!("s{}", n / 676).into()), BTreeMap::from([(TODAY, uses)]))
    };
    for (from, used, expected) in [(0, 0, 700), (2_000, 1, 1_000), (4_000, 1, 1_000)] {
        let news: News = (from..from + 1_500).map(|n| place(n, used)).collect();
        write(&db, |t| put(t, Table::Days, &news, Put::Add, (TODAY, 35), ROOM));
        assert_eq!(number(&db, "SELECT entries FROM domain_by_day"), expected);
    }
    assert_eq!(number(&db, "SELECT idle FROM domain_by_day"), 700);
    // What nobody was heard of is forgotten, entry by entry.
    let later = NOON + 10 * 86_400;
    let more = News::from([((1, "AA".into(), "s0".into()), BTreeMap::from([(TODAY + 10, [1; 9])]))]);
    write(&db, |t| put(t, Table::Days, &more, Put::Add, (TODAY + 10, 35), ROOM));
    write(&db, |t| prune(t, later + 25 * 86_400, &kept(), 100));
    assert_eq!(number(&db, "SELECT entries FROM domain_by_day"), 1);
    write(&db, |t| prune(t, later + 35 * 86_400, &kept(), 100));
    assert_eq!(number(&db, "SELECT count(*) FROM domain_by_day"), 0);
}

#[test]
fn a_row_that_would_be_too_long_stays_as_it_was() {
    let db = in_memory();
    let of_day = |day: i64, n: i64| -> News<'static> {
        let place = |n: i64| (1, format!("{n}").into(), "imap".into());
        (0..1_000).map(|place_of| (place(place_of), BTreeMap::from([(day, [n; 9])]))).collect()
    };
    for ago in (0..35).rev() {
        let news = of_day(TODAY - ago, i64::MAX);
        write(&db, |t| put(t, Table::Days, &news, Put::Add, (TODAY, 35), ROOM));
        assert!(number(&db, "SELECT length(uses) FROM domain_by_day") as usize <= LONGEST_ROW);
    }
    assert_eq!(number(&db, "SELECT entries FROM domain_by_day"), 1_000);
}

#[test]
fn accounts_of_a_program_that_knows_nothing_of_domains_are_seen_at_once_and_found_later() {
    let db = in_memory();
    db.execute("INSERT INTO account(name, last, proven) VALUES ('a@a.test', ?1, ?1)", [TODAY]).unwrap();
    let seen = |db: &Connection| {
        let owned = Owned { keys: None, holds: &|key| domain_of(key) == "@a.test" };
        accounts_of(db, &owned).unwrap().iter().collect::<Vec<_>>()
    };
    assert_eq!(seen(&db), [1]);
    assert_eq!(all_steps(&db, 10), 1);
    assert_eq!((seen(&db), number(&db, "SELECT domain FROM account")), (vec![1], 1));
}

#[test]
fn a_domains_number_is_given_away_again_when_nothing_has_it() {
    let db = in_memory();
    fold(&db, "fold-1", &(line(0, "success", "DE", "a@a.test") + &line(0, "try", "DE", "b@b.test")));
    db.execute("UPDATE domain SET last = 1, proven = 0", []).unwrap();
    write(&db, |t| names::prune(t, NOON, &kept(), 100));
    assert_eq!(number(&db, "SELECT count(*) FROM domain"), 2, "both have accounts and rows");
    db.execute_batch("DELETE FROM account; DELETE FROM domain_by_month;").unwrap();
    write(&db, |t| names::prune(t, NOON, &kept(), 100));
    assert_eq!(number(&db, "SELECT count(*) FROM domain"), 2, "both have rows by day");
    db.execute_batch("DELETE FROM domain_by_day").unwrap();
    write(&db, |t| names::prune(t, NOON, &kept(), 100));
    assert_eq!(number(&db, "SELECT count(*) FROM domain"), 0);
}

#[test]
fn absurd_figures_in_the_state_make_no_error() {
    let db = in_memory();
    fold(&db, "fold-1", &line(0, "success", "DE", "a@a.test"));
    let huge = i64::MAX;
    // One entry whose last day is far ahead, and what is none.
    let mut odd = vec![2, b'D', b'E', 4, b'i', b'm', b'a', b'p', 0xff, 0xff, 3];
    odd.extend([0xff; 300]);
    db.execute("UPDATE domain_by_day SET oldest = ?1, entries = ?1, uses = ?2", params![huge, odd]).unwrap();
    assert_eq!(both_ways(&db, &["@a.test"], Span::Days(TODAY, TODAY))[0], []);
    odd = vec![
        2, b'D', b'E', 4, b'i', b'm', b'a', b'p', 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1,
        1, 1, 1,
    ];
    db.execute("UPDATE domain_by_day SET entries = 1, uses = ?1", [odd]).unwrap();
    db.execute("UPDATE account_day SET tried = ?1, succeeded = ?1", [huge]).unwrap();
    db.execute("INSERT OR REPLACE INTO meta VALUES ('domain_days_from', 0)", []).unwrap();
    fold(&db, "fold-2", &line(0, "success", "DE", "a@a.test"));
    assert_eq!(all_steps(&db, 10), 2);
    let [by_domain, _] = both_ways(&db, &["@a.test"], Span::Days(TODAY, TODAY));
    assert_eq!(by_domain[0].uses[0], huge);
}
