use super::*;
use proptest::prelude::*;

const NOON: Seconds = 1_700_000_000;

fn failure(at: Seconds, what: u16, guess: u16) -> Failure {
    Failure { at, what, guess, known: false }
}

fn all(failures: impl IntoIterator<Item = Failure>) -> Failures {
    let mut all = Failures::default();
    for failure in failures {
        all.add(failure);
    }
    all
}

fn settings() -> Settings {
    Settings::default()
}

#[test]
fn a_telephone_with_an_old_password_is_one_failure_a_day_however_often_it_tries() {
    let mut telephone = Failures::default();
    let days = 5;
    let new = (0..days * 288).filter(|n| telephone.add(failure(NOON + n * 300, 7, 9))).count();
    assert_eq!(new, 5, "one a day");
    let findings = of_address(&telephone, false, &settings(), NOON + days * DAY);
    assert_eq!(findings, Findings { is_burst: false, is_attacking: false, attack: None });
}

#[test]
fn the_tenth_distinct_failure_within_an_hour_is_a_burst_and_the_ninth_is_not() {
    let guesses = |n| all((0..n).map(|g| failure(NOON, 7, g)));
    assert!(!of_address(&guesses(9), false, &settings(), NOON).is_burst);
    assert!(of_address(&guesses(10), false, &settings(), NOON).is_burst);
    assert!(of_address(&guesses(10), false, &settings(), NOON + HOUR - 1).is_burst);
    assert!(!of_address(&guesses(10), false, &settings(), NOON + HOUR).is_burst);
}

#[test]
fn owners_who_fail_where_they_are_known_weigh_a_fifth() {
    let known = |n| all((0..n).map(|g| Failure { known: true, ..failure(NOON, g, g) }));
    assert_eq!(known(49).within(HOUR, NOON), 9);
    assert!(!of_address(&known(49), true, &settings(), NOON).is_burst);
    assert!(of_address(&known(50), true, &settings(), NOON).is_burst);
    assert_eq!(known(50).different_within(DAY, NOON), 0, "they are no mailboxes under attack");
}

#[test]
fn thirty_failures_in_a_day_make_an_attack_wherever_they_come_from() {
    let spread = |n: i64| all((0..n).map(|g| failure(NOON + g * 2800, 7, g as u16)));
    let end = NOON + 29 * 2800;
    assert_eq!(of_address(&spread(29), false, &settings(), end).attack, None);
    for good_there in [false, true] {
        let found = of_address(&spread(30), good_there, &settings(), end);
        assert_eq!((found.attack, found.is_attacking), (Some(Attack::Failures(30)), true));
    }
}

#[test]
fn five_mailboxes_in_a_week_are_a_slow_attack_but_not_where_somebody_was_used_well() {
    let slow = |n: i64| all((0..n).map(|d| failure(NOON + d * DAY, d as u16, 1)));
    let at = NOON + 4 * DAY;
    assert_eq!(of_address(&slow(4), false, &settings(), at).attack, None);
    assert_eq!(of_address(&slow(5), false, &settings(), at).attack, Some(Attack::Mailboxes(5)));
    assert_eq!(of_address(&slow(5), true, &settings(), at).attack, None);
    assert_eq!(of_address(&slow(5), false, &settings(), at + 3 * DAY).attack, None, "a week has passed");
}

#[test]
fn a_network_is_marked_for_three_attacking_addresses_or_for_all_of_them_together() {
    let none = Failures::default();
    let found =
        |failures: &Failures, attacking, good| of_network(failures, attacking, good, &settings(), NOON);
    assert_eq!(found(&none, 2, false), None);
    assert_eq!(found(&none, 3, false), Some(Attack::Addresses(3)));
    assert_eq!(found(&none, 200, true), None, "a carrier's network has honest customers");
    let hopping = all((0..30).map(|g| failure(NOON, 7, g)));
    assert_eq!(found(&hopping, 0, false), Some(Attack::Failures(30)));
    assert_eq!(found(&hopping, 0, true), None);
}

#[test]
fn a_mailbox_is_under_attack_from_ten_networks_in_an_hour_or_thirty_in_a_day() {
    let from = |n: i64, every| all((0..n).map(|net| failure(NOON + net * every, net as u16, net as u16)));
    assert!(!is_under_attack(&from(9, 1), &settings(), NOON + 9));
    assert!(is_under_attack(&from(10, 1), &settings(), NOON + 9));
    let seldom = 2000;
    assert!(!is_under_attack(&from(29, seldom), &settings(), NOON + 28 * seldom));
    assert!(is_under_attack(&from(30, seldom), &settings(), NOON + 29 * seldom));
}

#[test]
fn five_owners_at_once_who_fail_at_home_may_be_an_outage() {
    let owners = |n: u16, every| all((0..n).map(|w| failure(NOON + i64::from(w) * every, w, 0)));
    assert!(!may_be_an_outage(&owners(4, 1), NOON + 4));
    assert!(may_be_an_outage(&owners(5, 1), NOON + 4));
    assert!(!may_be_an_outage(&owners(5, 60), NOON + 240));
}

#[test]
fn an_address_is_its_own_source_and_its_networks_are_wider_ones() {
    let of = |address: &str| -> Vec<String> {
        sources(address.parse().unwrap()).iter().map(ToString::to_string).collect()
    };
    assert_eq!(of("192.0.2.7"), ["192.0.2.7", "192.0.2.0/24"]);
    assert_eq!(of("2001:db8:1:2345::9"), ["2001:db8:1:2345::/64", "2001:db8:1:2300::/56", "2001:db8:1::/48"]);
}

proptest! {
    #[test]
    fn whatever_is_kept_reads_back_as_itself(given in prop::collection::vec((0u32.., any::<u16>(), any::<u16>(), any::<bool>()), 0..MOST)) {
        let entry = |(at, what, guess, known): (u32, u16, u16, bool)| Failure { at: at.into(), what, guess, known };
        let failures = Failures(given.into_iter().map(entry).collect());
        prop_assert_eq!(Failures::read(&failures.to_bytes()), failures);
    }

    #[test]
    fn forged_bytes_are_read_and_never_grow(bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0u32..) {
        let mut failures = Failures::read(&bytes);
        let now = i64::from(at);
        failures.add(failure(now, 1, 1));
        prop_assert!(failures.0.len() <= MOST);
        prop_assert!(failures.0.iter().all(|f| f.at <= now && now - f.at < REMEMBERED));
    }

    #[test]
    fn counts_are_those_of_a_naive_count(given in prop::collection::vec((0i64..200_000, 0u16..4, 0u16..4), 1..MOST)) {
        let mut times: Vec<_> = given;
        times.sort_unstable();
        let mut failures = Failures::default();
        let mut kept: Vec<(i64, u16, u16)> = Vec::new();
        for (at, what, guess) in times {
            let at = NOON + at;
            let is_new = !kept.iter().any(|k| (k.1, k.2) == (what, guess) && at - k.0 < DAY);
            prop_assert_eq!(failures.add(failure(at, what, guess)), is_new);
            if is_new {
                kept.push((at, what, guess));
            }
            let lately: Vec<_> = kept.iter().filter(|k| at - k.0 < DAY).collect();
            prop_assert_eq!(failures.within(DAY, at), lately.len() as i64);
            let different: std::collections::BTreeSet<_> = lately.iter().map(|k| k.1).collect();
            prop_assert_eq!(failures.different_within(DAY, at), different.len() as i64);
        }
    }
}
