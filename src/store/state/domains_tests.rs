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

#[test]
fn a_state_from_before_tells_by_account_until_all_is_there_by_domain() {
    let mut db = Connection::open_in_memory().unwrap();
    let path = std::path::Path::new("memory");
    crate::store::schema::migrate(&mut db, path, &SCHEMA[..SCHEMA.len() - 1]).unwrap();
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
    db.execute_batch("DELETE FROM account; DELETE FROM domain_months;").unwrap();
    write(&db, |t| names::prune(t, NOON, &kept(), 100));
    assert_eq!(number(&db, "SELECT count(*) FROM domain"), 2, "both have rows by day");
    db.execute_batch("DELETE FROM domain_days").unwrap();
    write(&db, |t| names::prune(t, NOON, &kept(), 100));
    assert_eq!(number(&db, "SELECT count(*) FROM domain"), 0);
}

#[test]
fn absurd_figures_in_the_state_make_no_error() {
    let db = in_memory();
    fold(&db, "fold-1", &line(0, "success", "DE", "a@a.test"));
    let huge = i64::MAX;
    db.execute("UPDATE domain_days SET last = ?1, uses = randomblob(500)", [huge]).unwrap();
    db.execute("UPDATE account_day SET tried = ?1, succeeded = ?1", [huge]).unwrap();
    db.execute("INSERT OR REPLACE INTO meta VALUES ('domain_days_from', 0)", []).unwrap();
    fold(&db, "fold-2", &line(0, "success", "DE", "a@a.test"));
    assert_eq!(all_steps(&db, 10), 2);
    let [by_domain, _] = both_ways(&db, &["@a.test"], Span::Days(TODAY, TODAY));
    assert_eq!(by_domain[0].uses[0], huge);
}
