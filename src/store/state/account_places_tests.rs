//! Rows of many accounts beside a list of logins, rows of the older form, what is forgotten.

use super::*;
use crate::store::state::in_memory;
use proptest::prelude::*;
use std::collections::BTreeMap;

const TODAY: i64 = 20_000;
const KEPT: (i64, i64) = (TODAY, 35);

fn write<T>(db: &Connection, work: impl FnOnce(&Unit) -> Result<T>) -> T {
    let t = Unit::begin(db).unwrap();
    let done = work(&t).unwrap();
    t.commit().unwrap();
    done
}

/// One account's good logins.
fn add_one(t: &Unit, key: (&str, i64), days: &[(i64, i64)], kept: (i64, i64)) -> Result<()> {
    add(t, &News::from([(key, days.to_vec())]), kept)
}

/// A row as a program that knew no other form wrote it.
fn older(db: &Connection, country: &str, account: i64, logins: &[(i64, i64)]) {
    let mut days = Days::default();
    logins.iter().for_each(|(day, n)| days.add(*day, *n, KEPT.0, KEPT.1));
    let values = params![country, account, days.last, days.write()];
    db.execute("INSERT INTO login_place VALUES (?1, ?2, ?3, ?4)", values).unwrap();
}

type Told = Vec<(String, i64, u64, i64)>;

/// Country, account, how many, last day; by country, and by account.
fn told(db: &Connection, since: i64, accounts: std::ops::Range<i64>) -> [Told; 2] {
    let (mut by_country, mut by_account) = (Vec::new(), Vec::new());
    for country in countries(db).unwrap() {
        visit(db, &country, since, |account, n, last| by_country.push((country.clone(), account, n, last)))
            .unwrap();
    }
    for account in accounts {
        of_account(db, account, since, |country, n, last| by_account.push((country, account, n, last)))
            .unwrap();
    }
    by_country.sort();
    by_account.sort();
    [by_country, by_account]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn rows_of_many_accounts_tell_what_a_list_of_logins_does(
        were_older in prop::collection::vec(("DE|BR|", 0i64..70, 0i64..34, 1i64..300), 0..20),
        logins in prop::collection::vec(("DE|BR|FR|", 0i64..70, 0i64..34, 1i64..300), 1..60),
        late in prop::collection::vec(("DE|AT", 0i64..70, 0i64..34, 1i64..300), 0..4),
        piece in 1i64..20, since in 0i64..36,
    ) {
        let db = in_memory();
        let mut expected: BTreeMap<(String, i64), BTreeMap<i64, i64>> = BTreeMap::new();
        let mut older_rows: BTreeMap<(String, i64), Vec<(i64, i64)>> = BTreeMap::new();
        for (country, account, ago, n) in &were_older {
            older_rows.entry((country.clone(), *account)).or_default().push((TODAY - ago, *n));
        }
        let expect = |expected: &mut BTreeMap<(String, i64), BTreeMap<i64, i64>>, key: (String, i64), day: i64, n: i64| {
            *expected.entry(key).or_default().entry(day).or_default() += n;
        };
        for ((country, account), days) in &older_rows {
            older(&db, country, *account, days);
            days.iter().for_each(|(day, n)| expect(&mut expected, (country.clone(), *account), *day, *n));
        }
        let since = TODAY - since;
        let compare = |expected: &BTreeMap<(String, i64), BTreeMap<i64, i64>>| -> std::result::Result<(), TestCaseError> {
            let all: Told = expected.iter().filter_map(|((country, account), days)| {
                let n: i64 = days.range(since..).map(|(_, n)| n).sum();
                (n > 0).then(|| (country.clone(), *account, n.unsigned_abs(), *days.keys().max().unwrap()))
            }).collect();
            let found = told(&db, since, 0..70);
            prop_assert_eq!(&found[0], &all);
            prop_assert_eq!(&found[1], &all);
            Ok(())
        };
        compare(&expected)?;
        for at_once in logins.chunks(7) {
            let mut news = News::new();
            for (country, account, ago, n) in at_once {
                news.entry((country, *account)).or_default().push((TODAY - ago, *n));
                expect(&mut expected, (country.clone(), *account), TODAY - ago, *n);
            }
            write(&db, |t| add(t, &news, KEPT));
        }
        compare(&expected)?;
        // A program of an older version is still at work.
        for (country, account, ago, n) in &late {
            let key = (country.clone(), *account);
            let is_there: bool = db.query_row("SELECT EXISTS (SELECT 1 FROM login_place WHERE country = ?1 AND account = ?2)", params![country, account], |row| row.get(0)).unwrap();
            if !is_there && !expected.contains_key(&key) {
                older(&db, country, *account, &[(TODAY - ago, *n)]);
                expect(&mut expected, key, TODAY - ago, *n);
            }
        }
        compare(&expected)?;
        while write(&db, |t| take_older(t, KEPT, piece)) {
            compare(&expected)?;
        }
        compare(&expected)?;
        let rows = "SELECT (SELECT count(*) FROM login_place), total(entries) FROM account_place";
        let (left, entries): (i64, f64) = db.query_row(rows, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        prop_assert_eq!((left, entries as usize), (0, expected.len()));
        // The oldest are forgotten, whole days of them.
        let oldest = TODAY - 20;
        write(&db, |t| prune(t, oldest, i64::MAX, 10_000));
        expected.retain(|_, days| *days.keys().max().unwrap() >= oldest);
        compare(&expected)?;
    }

    #[test]
    fn whatever_lies_in_the_state_makes_some_entries(
        blob in prop::collection::vec(prop_oneof![0u8..40, any::<u8>()], 0..200), account in 0i64..32, day in any::<i64>(),
    ) {
        let mut part = Part { country: "DE", part: 0, blob: blob.clone(), before: None };
        stored(&blob).for_each(|entry| drop((entry.since(day), entry.days())));
        part.change(account, |days| days.add(TODAY, 1, TODAY, 35));
        let place = u8::try_from(account).unwrap();
        let found = stored(&part.blob).find(|entry| entry.place == place);
        prop_assert!(found.is_some_and(|entry| entry.since(TODAY) >= 1));
        let n = stored(&part.blob).count() as i64;
        prop_assert_eq!(part.drop_all(|_| false), n);
        prop_assert!(part.blob.is_empty());
    }
}

#[test]
fn a_row_of_both_forms_is_one_when_the_older_is_taken() {
    let db = in_memory();
    write(&db, |t| add_one(t, ("DE", 7), &[(TODAY, 2)], KEPT));
    older(&db, "DE", 7, &[(TODAY, 1), (TODAY - 3, 4)]);
    write(&db, |t| take_older(t, KEPT, 10));
    assert_eq!(told(&db, 0, 0..10)[0], [("DE".to_string(), 7, 7, TODAY)]);
}

#[test]
fn a_flood_of_places_pushes_out_those_that_were_not_used_for_the_longest_time() {
    let db = in_memory();
    for n in 0..100i64 {
        write(&db, |t| add_one(t, (["DE", "BR"][n as usize % 2], n), &[(TODAY - n, 1)], (TODAY, 90)));
    }
    let left = || -> (usize, i64) {
        let all = told(&db, 0, 0..100)[0].clone();
        (all.len(), all.iter().map(|(.., last)| *last).min().unwrap())
    };
    write(&db, |t| prune(t, TODAY - 49, i64::MAX, 1_000));
    assert_eq!(left(), (50, TODAY - 49));
    write(&db, |t| prune(t, 0, 20, 40));
    assert_eq!(left(), (40, TODAY - 39), "ten at once");
    write(&db, |t| prune(t, 0, 20, 1_000));
    assert_eq!(left(), (20, TODAY - 19));
}
