//! Days as short rows, whom a proposal refuses, caps.

use super::*;
use crate::settings::Settings;
use crate::store::state::in_memory;
use crate::store::state::names::{Owned, accounts_of, domain_of};
use proptest::prelude::*;
use std::collections::BTreeMap;

const TODAY: i64 = 20_000;

fn sum(days: &Days, since: i64) -> u64 {
    since_in(days.last, &days.write(), since)
}

fn read_again(days: &Days) -> Days {
    Days::read(days.last, &days.write())
}

#[test]
fn days_are_counted_from_the_last_one_backwards() {
    let mut days = Days::default();
    for (day, n) in [(TODAY - 40, 100), (TODAY - 5, 1), (TODAY, 7), (TODAY - 5, 2), (TODAY - 34, 4)] {
        days.add(day, n, TODAY, 35);
    }
    assert_eq!((sum(&days, TODAY), sum(&days, TODAY - 5), sum(&days, TODAY - 34)), (7, 10, 14));
    assert_eq!(sum(&days, 0), 14, "what is older than it is kept for is gone");
    assert_eq!(sum(&days, TODAY + 1), 0);
    assert_eq!(read_again(&days), days);
    days.add(TODAY + 100, 1, TODAY + 100, 35);
    assert_eq!(days.counts, [1]);
}

#[test]
fn a_last_day_in_the_future_counts_as_today() {
    let mut days = Days { last: TODAY + 1000, counts: vec![3] };
    days.add(TODAY, 1, TODAY, 35);
    assert_eq!((days.last, sum(&days, TODAY)), (TODAY, 4));
}

proptest! {
    #[test]
    fn any_days_sum_as_a_list_of_them_does(
        adds in prop::collection::vec((0i64..60, 1i64..5), 1..60), kept in 1i64..50, asked in 0i64..60,
    ) {
        let (mut days, mut list, mut today) = (Days::default(), BTreeMap::new(), 0);
        for (day, n) in adds {
            // Time goes on; a file that waited long may tell of earlier days.
            today = today.max(day);
            days = read_again(&days);
            days.add(day, n, today, kept);
            if day > days.last - kept {
                *list.entry(day).or_insert(0) += n;
            }
            list.retain(|d, _| *d > days.last - kept);
            let expected: i64 = list.range(asked..).map(|(_, n)| n).sum();
            prop_assert_eq!(sum(&days, asked), expected.unsigned_abs());
            prop_assert!(days.counts.len() as i64 <= kept);
        }
    }

    #[test]
    fn whatever_lies_in_the_state_makes_days(
        blob in prop::collection::vec(any::<u8>(), 0..600), last in any::<i64>(), day in any::<i64>(),
    ) {
        let mut days = Days::read(last, &blob);
        let _ = since_in(last, &blob, day);
        days.add(TODAY, 1, TODAY, 35);
        prop_assert!(sum(&days, TODAY) >= 1);
        prop_assert!(days.counts.len() <= 35);
    }
}

/// Accounts with numbers from 1, and where they logged in: account, country, days ago, how often.
fn scene(names: &[&str], logins: &[(i64, &str, i64, i64)]) -> Connection {
    let db = in_memory();
    for name in names {
        db.execute("INSERT INTO account(name) VALUES (?1)", [name]).unwrap();
    }
    let t = Unit::begin(&db).unwrap();
    for (account, country, ago, n) in logins {
        let news = account_places::News::from([((*country, *account), vec![(TODAY - ago, *n)])]);
        account_places::add(&t, &news, (TODAY, 35)).unwrap();
    }
    t.commit().unwrap();
    db
}

const NAMES: [&str; 4] = ["alice@a.test", "bob@a.test", "carol@b.test", "web"];

/// Alice travels, Bob lives in Brazil, Carol was in France long ago, `web` and others sit in Germany.
const LOGINS: [(i64, &str, i64, i64); 8] = [
    (1, "DE", 0, 10),
    (1, "BR", 3, 2),
    (2, "BR", 0, 5),
    (2, "", 1, 4),
    (3, "DE", 2, 1),
    (3, "FR", 33, 9),
    (4, "DE", 0, 50),
    (0, "BR", 1, 1),
];

fn list(codes: &str) -> BTreeSet<Country> {
    codes.split(',').filter(|c| !c.is_empty()).map(|c| c.parse().unwrap()).collect()
}

fn server(codes: &str) -> Proposal {
    Proposal { server: Some(list(codes)), ..Proposal::default() }
}

/// Who is refused, as `name country n`, and the sum.
fn refused(db: &Connection, proposal: &Proposal, days: i64) -> (Vec<String>, u64, u64) {
    let found = refused_by(db, proposal, TODAY - days + 1, 100, &Seen::All).unwrap();
    let mut told: Vec<String> = Vec::new();
    for Refusal { account: who, n, places, .. } in &found.accounts {
        assert_eq!(places.iter().map(|p| p.n).sum::<u64>(), *n);
        told.extend(places.iter().map(|place| format!("{who} {} {}", place.who, place.n)));
    }
    assert_eq!(found.countries.iter().map(|(_, sum)| sum.logins).sum::<u64>(), found.sum.logins);
    (told, found.sum.who, found.sum.logins)
}

#[test]
fn a_servers_list_refuses_who_logged_in_from_elsewhere() {
    let db = scene(&NAMES, &LOGINS);
    assert_eq!(
        refused(&db, &server("DE"), 30),
        (vec!["bob@a.test BR 5".into(), "alice@a.test BR 2".into(), " BR 1".into()], 3, 8)
    );
    assert_eq!(refused(&db, &server("DE"), 1), (vec!["bob@a.test BR 5".into()], 1, 5));
    assert_eq!(refused(&db, &server("DE,BR"), 30), (vec![], 0, 0));
    assert_eq!(refused(&db, &server("DE,BR"), 35), (vec!["carol@b.test FR 9".into()], 1, 9));
    let all = refused_by(&db, &server("BR"), TODAY - 29, 1, &Seen::All).unwrap();
    assert_eq!((all.sum, all.accounts.len()), (Sum { who: 3, logins: 61 }, 1));
    let places = vec![Logins { who: "DE".into(), n: 50, last: TODAY }];
    assert_eq!(all.accounts[0], Refusal { account: "web".into(), n: 50, last: TODAY, places });
    assert_eq!(all.unknown, 4, "an unknown or private address is told apart from those that are refused");
}

#[test]
fn who_has_an_own_list_an_exemption_or_an_allowance_is_not_refused_by_the_servers() {
    let db = scene(&NAMES, &LOGINS);
    let own = |key: &str, codes: &str, asked| Proposal {
        lists: vec![(key.into(), list(codes), asked)],
        ..server("DE")
    };
    let bob_alone = (vec!["bob@a.test BR 5".to_string(), " BR 1".into()], 2, 6);
    assert_eq!(refused(&db, &own("alice@a.test", "BR", false), 30), bob_alone);
    assert_eq!(refused(&db, &own("@a.test", "", false), 30), (vec![" BR 1".into()], 1, 1));
    let exempt = Proposal { exempt: vec!["alice@a.test".into(), "@b.test".into()], ..server("DE") };
    assert_eq!(refused(&db, &exempt, 35), bob_alone);
    let allowed = |code: &str| Proposal {
        allowances: vec![("alice@a.test".into(), code.parse().unwrap())],
        ..server("DE")
    };
    assert_eq!(refused(&db, &allowed("BR"), 30), bob_alone);
    assert_eq!(refused(&db, &allowed("FR"), 30).1, 3);
}

#[test]
fn a_domains_list_refuses_its_own_mailboxes_but_those_that_have_one_themselves() {
    let db = scene(&NAMES, &LOGINS);
    let mut proposal = Proposal { lists: vec![("@a.test".into(), list("DE"), true)], ..Proposal::default() };
    assert_eq!(
        refused(&db, &proposal, 30),
        (vec!["bob@a.test BR 5".into(), "alice@a.test BR 2".into()], 2, 7)
    );
    proposal.lists.push(("bob@a.test".into(), list("BR"), false));
    assert_eq!(refused(&db, &proposal, 30), (vec!["alice@a.test BR 2".into()], 1, 2));
    let mailbox = Proposal { lists: vec![("alice@a.test".into(), list("BR"), true)], ..Proposal::default() };
    assert_eq!(refused(&db, &mailbox, 30), (vec!["alice@a.test DE 10".into()], 1, 10));
}

#[test]
fn a_large_domain_is_met_on_a_walk_and_told_as_if_each_was_looked_up() {
    let names: Vec<String> = (0..=FEW).map(|n| format!("user{n}@a.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let few = scene(&names[..FEW], &LOGINS);
    // One mailbox more, which logs in from Turkey.
    let logins = [&LOGINS[..], &[(FEW as i64 + 1, "TR", 0, 7)]].concat();
    let many = scene(&names, &logins);
    for codes in ["DE", "BR", ""] {
        for server in [None, Some(list("FR"))] {
            let lists = vec![("@a.test".to_string(), list(codes), true)];
            let proposal = Proposal { server, lists, ..Proposal::default() };
            let [few, mut many] = [&few, &many]
                .map(|db| refused_by(db, &proposal, TODAY - 29, usize::MAX, &Seen::All).unwrap());
            assert!(many.countries.contains(&("TR".into(), Sum { who: 1, logins: 7 })), "{many:?}");
            many.accounts.retain(|refusal| refusal.account != names[FEW]);
            assert_eq!(many.accounts, few.accounts, "{proposal:?}");
            assert_eq!((many.of_lists, many.unknown), (few.of_lists + 7, few.unknown));
            assert_eq!((many.sum.who, many.sum.logins), (few.sum.who + 1, few.sum.logins + 7));
        }
    }
}

#[test]
fn the_most_logins_come_first_and_only_so_many_are_named() {
    let db = scene(&NAMES, &LOGINS);
    let (found, sum) = accounts_in(&db, "DE", TODAY - 29, 2, &Seen::All).unwrap();
    let told: Vec<_> = found.iter().map(|l| (l.who.as_str(), l.n, l.last)).collect();
    assert_eq!(told, [("web", 50, TODAY), ("alice@a.test", 10, TODAY)]);
    assert_eq!(sum, Sum { who: 3, logins: 61 });
    let alice: Vec<_> = countries_of(&db, 1, TODAY - 29).unwrap().into_iter().map(|l| (l.who, l.n)).collect();
    assert_eq!(alice, [("DE".into(), 10), ("BR".into(), 2)]);
    assert_eq!(accounts_in(&db, "FR", TODAY - 29, 2, &Seen::All).unwrap(), (vec![], Sum::default()));
}

#[test]
fn whoever_may_see_a_few_accounts_alone_is_told_of_as_many_of_them_as_there_are() {
    let db = scene(&NAMES, &LOGINS);
    let seen = |keys: &[&str]| {
        let owns =
            |name: &str| keys.iter().any(|key| name == *key || (key.starts_with('@') && name.ends_with(key)));
        let looked_up = Owned { keys: Some(keys.iter().map(ToString::to_string).collect()), holds: &owns };
        let few = accounts_of(&db, &looked_up).unwrap();
        // Nobody owns a single mailbox; domains and local users are met on a walk through all.
        if keys.iter().all(|key| domain_of(key) == *key) {
            let walked = accounts_of(&db, &Owned { keys: None, holds: &owns }).unwrap();
            assert_eq!(few, walked, "looked up or walked through, they are the same");
        }
        Seen::These(few)
    };
    let of_a = seen(&["@a.test"]);
    let (found, sum) = accounts_in(&db, "DE", TODAY - 29, 1, &of_a).unwrap();
    assert_eq!((found[0].who.as_str(), found.len(), sum), ("alice@a.test", 1, Sum { who: 1, logins: 10 }));
    let all = refused_by(&db, &server("FR"), TODAY - 29, 1, &seen(&["bob@a.test"])).unwrap();
    assert_eq!((all.sum, all.accounts[0].account.as_str()), (Sum { who: 1, logins: 5 }, "bob@a.test"));
    let lists = vec![("@a.test".to_string(), list("FR"), true)];
    let own = Proposal { lists, ..Proposal::default() };
    let of_web = refused_by(&db, &own, TODAY - 29, 100, &seen(&["web"])).unwrap();
    assert_eq!((of_web.sum, of_web.of_lists), (Sum::default(), 0), "nobody hears of others by their lists");
    // Looked up one by one, or met on a walk through all.
    let Seen::These(few) = seen(&["@a.test", "carol@b.test"]) else { panic!("not all") };
    let many = Seen::These(few.iter().chain(1_000..2_000).collect());
    for proposal in [&server("DE"), &server(""), &own, &Proposal { server: Some(list("DE")), ..own.clone() }]
    {
        let [few, many] =
            [&Seen::These(few.clone()), &many].map(|seen| refused_by(&db, proposal, 0, 100, seen).unwrap());
        assert_eq!(few, many, "{proposal:?}");
        assert_eq!(few.of_seen, 10 + 2 + 5 + 4 + 1 + 9, "{few:?}");
    }
    let nobody = refused_by(&db, &server("FR"), TODAY - 29, 100, &seen(&["@c.test"])).unwrap();
    assert_eq!(nobody, Refused::default(), "not even what has no name");
}

#[test]
fn a_flood_of_networks_pushes_out_the_oldest_and_never_stays_over_the_cap() {
    let db = in_memory();
    let t = Unit::begin(&db).unwrap();
    for n in 0..100i64 {
        let network = format!("10.0.{n}.0/24");
        add_network(&t, ("DE", &network), &[(TODAY - 100 + n, 1)], (TODAY, 35)).unwrap();
    }
    let left = |t: &Unit| -> (i64, i64) {
        let sql = "SELECT count(*), min(last) FROM login_network";
        t.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let kept = Retention::from(&Settings::default());
    prune(&t, TODAY * 86_400, &kept, 1000).unwrap();
    assert_eq!(left(&t), (35, TODAY - 35));
    prune_networks(&t, 0, 20, 10).unwrap();
    assert_eq!(left(&t), (25, TODAY - 25));
    prune_networks(&t, 0, 20, 10).unwrap();
    assert_eq!(left(&t), (20, TODAY - 20));
}

proptest! {
    #[test]
    fn the_most_logins_of_a_country_are_those_of_all_when_they_are_sorted(
        logins in prop::collection::btree_map(0i64..300, 1u64..6, 0..120), limit in 0usize..9, in_order in any::<bool>(),
    ) {
        let mut most = Most::of(limit);
        let mut met: Vec<_> = logins.iter().collect();
        if !in_order {
            met.reverse();
        }
        for (who, n) in met {
            if most.takes(*n, in_order) {
                most.take(Logins { who: *who, n: *n, last: 0 });
            }
        }
        let mut all: Vec<_> = logins.into_iter().map(|(who, n)| (std::cmp::Reverse(n), who)).collect();
        all.sort_unstable();
        all.truncate(limit);
        let found: Vec<_> = most.sorted().into_iter().map(|l| (std::cmp::Reverse(l.n), l.who)).collect();
        prop_assert_eq!(found, all);
    }
}
