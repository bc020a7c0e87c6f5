use super::*;
use crate::store::state::in_memory;

const NOON: Seconds = 1_700_000_000;
const TODAY: i64 = NOON / DAY;

/// A state, and who has logged in well from where.
struct Server {
    db: Connection,
    settings: Settings,
    /// When the last login succeeded.
    got_in: Seconds,
}

impl Server {
    fn new() -> Server {
        Server { db: in_memory(), settings: Settings::default(), got_in: NOON - DAY }
    }

    /// The mailbox was used well from the network around this address, some days ago.
    fn used_well(self, account: &str, address: &str) -> Server {
        let t = Unit::begin(&self.db).unwrap();
        t.execute("INSERT OR IGNORE INTO account(name) VALUES (?1)", [account]).unwrap();
        let id = t.query_row("SELECT id FROM account WHERE name = ?1", [account], |row| row.get(0)).unwrap();
        let network = Network::around(address.parse().unwrap());
        known_networks::add(&t, id, &network, known_networks::Uses::on(TODAY - 3, 1)).unwrap();
        t.commit().unwrap();
        self
    }

    fn fails_at(&mut self, now: Seconds, account: &str, address: &str, guess: Option<u16>) -> News {
        self.fails_by(now, account, address, guess, None)
    }

    fn fails_by(
        &mut self,
        now: Seconds,
        account: &str,
        address: &str,
        guess: Option<u16>,
        mail_service: Option<u32>,
    ) -> News {
        let account: Account = account.parse().unwrap();
        let failed =
            Failed { account: Some(&account), address: address.parse().unwrap(), guess, mail_service };
        let t = Unit::begin(&self.db).unwrap();
        let got_in = self.got_in;
        let news = learn(&t, &failed, &self.settings, now, &|since| got_in >= since).unwrap();
        t.commit().unwrap();
        news
    }

    fn learned(&self, account: Option<&str>, address: &str) -> Learned {
        let account: Option<Account> = account.map(|a| a.parse().unwrap());
        gather(&self.db, account.as_ref(), address.parse().unwrap(), false, &self.settings, NOON + 60)
            .unwrap()
    }

    fn marked(&self) -> Vec<String> {
        let marked = list(&self.db, NOON, 1000).unwrap().into_iter().filter(|s| s.until - s.last >= DAY);
        marked.map(|s| s.network).collect()
    }

    fn count(&self, table: &str) -> i64 {
        self.db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }
}

const ALICE: &str = "alice@example.test";

fn mailbox(n: u16) -> String {
    format!("user{n}@example.test")
}

#[test]
fn one_address_that_guesses_is_refused_after_ten_and_its_network_is_marked_after_thirty() {
    let mut server = Server::new();
    let mut fired = (Vec::new(), Vec::new());
    for guess in 0..30 {
        let news = server.fails_at(NOON, ALICE, "198.51.100.9", Some(guess));
        fired.0.extend(news.burst_until.map(|_| guess + 1));
        fired.1.extend(news.marked.into_iter().map(|s| (guess + 1, s.network)));
    }
    assert_eq!(fired, (vec![10], vec![(30, "198.51.100.0/24".to_string())]));
    let learned = server.learned(Some(ALICE), "198.51.100.9");
    assert_eq!(learned.burst_until, Some(NOON + 3600));
    assert_eq!(learned.attack.unwrap().2, NOON + 7 * DAY);
    let neighbour = server.learned(Some(ALICE), "198.51.100.10");
    assert_eq!((neighbour.burst_until, neighbour.attack.is_some()), (None, true));
    assert_eq!(server.learned(Some(ALICE), "198.51.101.9"), Learned::default());
}

#[test]
fn where_the_server_does_not_tell_what_was_tried_a_mailbox_counts_once_a_minute() {
    let mut server = Server::new();
    for second in 0..600 {
        assert_eq!(
            server.fails_at(NOON + second, ALICE, "198.51.100.9", None).burst_until.is_some(),
            second == 520
        );
    }
}

#[test]
fn an_attacker_in_a_network_with_honest_customers_is_marked_alone_and_they_are_not() {
    let mut server = Server::new().used_well("bob@example.test", "198.51.100.20");
    for guess in 0..30 {
        for attacker in ["198.51.100.9", "198.51.100.10", "198.51.100.11", "198.51.100.12"] {
            server.fails_at(NOON, ALICE, attacker, Some(guess));
        }
    }
    assert_eq!(server.marked(), ["198.51.100.10", "198.51.100.11", "198.51.100.12", "198.51.100.9"]);
    assert_eq!(server.learned(Some("bob@example.test"), "198.51.100.20"), Learned::default());
    let same = server.learned(Some("bob@example.test"), "198.51.100.9");
    assert!(same.attack.is_some() && same.known_here && same.good_here, "the owner passes even from there");
    let nobody = server.learned(None, "198.51.100.9");
    assert!(nobody.good_here && !nobody.known_here);
}

#[test]
fn three_attacking_addresses_mark_their_network() {
    let mut server = Server::new();
    for attacker in ["198.51.100.9", "198.51.100.10", "198.51.100.11"] {
        assert_eq!(server.marked(), Vec::<String>::new(), "{attacker}");
        (0..10).for_each(|guess| drop(server.fails_at(NOON, ALICE, attacker, Some(guess))));
    }
    assert_eq!(server.marked(), ["198.51.100.0/24"]);
}

#[test]
fn an_attack_that_hops_through_a_network_is_seen_as_a_whole() {
    let mut server = Server::new();
    for n in 0..30 {
        server.fails_at(NOON, &mailbox(n), &format!("198.51.100.{n}"), Some(n));
    }
    assert_eq!(server.marked(), ["198.51.100.0/24"]);
    for n in 0..30 {
        server.fails_at(NOON, &mailbox(n), &format!("2001:db8:7:{:x}::1", u32::from(n) * 0x300), Some(n));
    }
    assert_eq!(server.marked(), ["198.51.100.0/24", "2001:db8:7::/48"]);
    assert!(server.learned(Some(ALICE), "2001:db8:7:ffff::9").attack.is_some());
}

#[test]
fn a_slow_attack_is_seen_after_five_mailboxes_in_a_week() {
    let mut server = Server::new();
    for day in 0..5 {
        assert_eq!(server.marked(), Vec::<String>::new());
        server.fails_at(NOON + i64::from(day) * DAY, &mailbox(day), "198.51.100.9", Some(1));
    }
    assert_eq!(server.marked(), ["198.51.100.9"], "the address alone");
}

#[test]
fn many_networks_against_one_mailbox_guard_it_for_networks_that_it_does_not_know() {
    let mut server = Server::new().used_well(ALICE, "192.0.2.7");
    let mut guarded = Vec::new();
    for n in 0..12 {
        let news = server.fails_at(NOON + i64::from(n), ALICE, &format!("198.51.{n}.9"), Some(n));
        guarded.extend(news.guarded_until.map(|until| (n + 1, until)));
    }
    assert_eq!(guarded, [(10, NOON + 9 + 3600)], "told once");
    assert!(server.marked().is_empty(), "one try each is no attack of any network");
    let stranger = server.learned(Some(ALICE), "203.0.113.9");
    assert!(stranger.guarded_until.is_some() && stranger.knows_networks && !stranger.known_here);
    assert!(server.learned(Some(ALICE), "192.0.2.99").known_here);
    assert_eq!(server.learned(Some("bob@example.test"), "203.0.113.9"), Learned::default());
}

#[test]
fn a_mailbox_that_nobody_was_ever_used_well_is_not_guarded_and_takes_no_row() {
    let mut server = Server::new();
    for n in 0..100 {
        server.fails_at(NOON, ALICE, &format!("198.51.{n}.9"), Some(n));
    }
    assert_eq!(server.count("guard"), 0);
}

#[test]
fn a_mail_service_counts_as_one_network_and_its_machines_are_never_marked() {
    let mut server = Server::new().used_well(ALICE, "192.0.2.7");
    for n in 0..60 {
        let news = server.fails_by(NOON, ALICE, &format!("52.98.{n}.9"), Some(n), Some(8075));
        assert_eq!(news, News::default());
    }
    for n in 0..49 {
        let news = server.fails_by(NOON, &mailbox(n), "52.98.200.9", Some(n), Some(8075));
        assert_eq!(news, News::default());
    }
    assert!(server.marked().is_empty());
}

#[test]
fn who_guesses_where_the_owner_is_known_is_a_stranger_from_the_fourth_guess_on() {
    let mut server = Server::new().used_well(ALICE, "192.0.2.7").used_well("bob@example.test", "192.0.2.8");
    let fired: Vec<u16> = (1..=20)
        .filter(|guess| server.fails_at(NOON, ALICE, "192.0.2.7", Some(*guess)).burst_until.is_some())
        .collect();
    assert_eq!(fired, [13], "three weigh a fifth each, ten in full");
    assert!(!server.learned(Some(ALICE), "192.0.2.7").known_here);
    assert!(
        server.learned(Some("bob@example.test"), "192.0.2.7").known_here,
        "his neighbour is known all the same"
    );
    assert_eq!(server.learned(Some(ALICE), "192.0.2.9"), Learned::default(), "from another address she is");
}

#[test]
fn when_owners_fail_at_home_and_nobody_gets_in_nothing_is_learned() {
    let mut server = Server::new();
    for n in 0..20 {
        server = server.used_well(&mailbox(n), &format!("192.0.{n}.7"));
    }
    let outage: Vec<bool> = (0..20)
        .map(|n| server.fails_at(NOON + i64::from(n), &mailbox(n), &format!("192.0.{n}.7"), Some(n)).outage)
        .collect();
    assert_eq!(outage.iter().position(|o| *o), Some(4));
    assert!(outage[4..].iter().all(|o| *o));
    for guess in 0..40 {
        let news = server.fails_at(NOON + 60, ALICE, "198.51.100.9", Some(guess));
        assert_eq!(news, News { outage: true, ..News::default() });
    }
    assert!(server.marked().is_empty());
    server.got_in = NOON + 90;
    let after: Vec<bool> = (0..10)
        .map(|guess| server.fails_at(NOON + 91, ALICE, "198.51.100.9", Some(guess)).burst_until.is_some())
        .collect();
    assert_eq!(after.iter().position(|b| *b), Some(9), "somebody got in: it is learned again");
}

#[test]
fn a_success_that_is_folded_already_is_remembered() {
    let mut server = Server::new();
    for n in 0..20 {
        server = server.used_well(&mailbox(n), &format!("192.0.{n}.7"));
    }
    let t = Unit::begin(&server.db).unwrap();
    note_success(&t, NOON - 100).unwrap();
    note_success(&t, NOON - 9000).unwrap();
    t.commit().unwrap();
    assert!((0..20).all(|n| !server.fails_at(NOON, &mailbox(n), &format!("192.0.{n}.7"), Some(n)).outage));
}

#[test]
fn one_person_with_many_mailboxes_is_no_outage() {
    let mut server = Server::new();
    for n in 0..20 {
        server = server.used_well(&mailbox(n), "192.0.2.7");
    }
    assert!((0..20).all(|n| !server.fails_at(NOON, &mailbox(n), "192.0.2.7", Some(n)).outage));
}

#[test]
fn owners_who_fail_while_others_get_in_are_no_outage() {
    let mut server = Server::new();
    server.got_in = NOON;
    for n in 0..20 {
        server = server.used_well(&mailbox(n), &format!("192.0.{n}.7"));
    }
    for n in 0..20 {
        assert!(!server.fails_at(NOON + i64::from(n), &mailbox(n), &format!("192.0.{n}.7"), Some(n)).outage);
    }
}

#[test]
fn a_network_that_was_used_well_today_for_the_first_time_is_not_known_yet() {
    let mut server = Server::new();
    let t = Unit::begin(&server.db).unwrap();
    t.execute("INSERT INTO account(id, name) VALUES (1, ?1)", [ALICE]).unwrap();
    known_networks::add(&t, 1, &"198.51.100.0/24".parse().unwrap(), known_networks::Uses::on(TODAY, 1))
        .unwrap();
    t.commit().unwrap();
    (0..30).for_each(|guess| drop(server.fails_at(NOON, ALICE, "198.51.100.9", Some(guess))));
    let learned = server.learned(Some(ALICE), "198.51.100.9");
    assert!(learned.attack.is_some() && !learned.known_here && !learned.good_here);
}

#[test]
fn a_mark_that_is_taken_off_is_forgotten_with_the_failures_that_made_it() {
    let mut server = Server::new();
    (0..30).for_each(|guess| drop(server.fails_at(NOON, ALICE, "198.51.100.9", Some(guess))));
    let network: Network = "198.51.100.0/24".parse().unwrap();
    let t = Unit::begin(&server.db).unwrap();
    assert!(remove(&t, &network).unwrap());
    assert!(!remove(&t, &network).unwrap());
    t.commit().unwrap();
    assert_eq!(server.learned(Some(ALICE), "198.51.100.9"), Learned::default());
    server.fails_at(NOON, ALICE, "198.51.100.9", Some(99));
    assert!(server.marked().is_empty());
}

#[test]
fn a_flood_of_addresses_and_names_is_cut_to_the_caps_and_the_latest_stay() {
    let mut server = Server::new().used_well(ALICE, "192.0.2.7");
    for n in 0..500u16 {
        server.fails_at(
            NOON + i64::from(n),
            &mailbox(n),
            &format!("198.{}.{}.9", 18 + n / 250, n % 250),
            Some(n),
        );
    }
    assert_eq!(server.count("source"), 1000);
    let t = Unit::begin(&server.db).unwrap();
    prune_to(&t, NOON + 500, [100, 5, 5]).unwrap();
    let oldest: i64 = t.query_row("SELECT min(last) FROM source", [], |row| row.get(0)).unwrap();
    t.commit().unwrap();
    assert_eq!((server.count("source"), oldest), (100, NOON + 450));
    let t = Unit::begin(&server.db).unwrap();
    prune(&t, NOON + 8 * DAY).unwrap();
    t.commit().unwrap();
    assert_eq!(server.count("source"), 0, "a week is over");
}

#[test]
fn forged_rows_are_an_error_or_a_value_and_never_a_panic() {
    for forged in [
        "INSERT INTO source VALUES ('198.51.100.9', 'x', 'text', 'never', 'y', 'z')",
        "INSERT INTO source VALUES ('198.51.100.9', '198.51.100.0/24', zeroblob(99999), 1e300, 9223372036854775807, 9223372036854775807)",
        "INSERT INTO sighting VALUES ('198.51.100.0/24', 'a', 'b', 9223372036854775807, x'ff')",
        "INSERT INTO sighting VALUES ('198.51.100.0/24', -1, 9223372036854775807, 9223372036854775807, '')",
        "INSERT INTO guard VALUES ('alice@example.test', 5, 'x', 9223372036854775807)",
        "INSERT OR REPLACE INTO meta VALUES ('hash_key', 5), ('owners_failed', 'x'), ('outage_until', 9223372036854775807)",
        "INSERT OR REPLACE INTO meta VALUES ('hash_key', x'00'), ('outage_until', 'x')",
    ] {
        let mut server = Server::new().used_well(ALICE, "192.0.2.7");
        server.db.execute(forged, []).unwrap();
        for guess in 0..40 {
            server.fails_at(NOON, ALICE, "198.51.100.9", Some(guess));
            server.fails_at(NOON, ALICE, "192.0.2.7", Some(guess));
        }
        let _ = server.learned(Some(ALICE), "198.51.100.9");
        let _ = list(&server.db, NOON, 10);
    }
}
