//! Attacks by real clients on real servers: how many tries reach the password, and that owners go on logging in.

use crate::clients::Way;
use crate::doing::{BRAZILIAN, GERMAN};
use crate::publisher::{Publisher, Reply};
use crate::rig::{ALICE, BOB, CAROL, DAVE, Doors, ERIN, Mailbox, Pair, Scene};
use crate::told;
use std::fs;
use std::time::Duration;

/// An address near to [`GERMAN`], in another network.
const OTHER_GERMAN: &str = "79.200.0.1";

const GATE: Doors = Doors { failed: true, postlogin: true, ..Doors::DOVECOT };
const KEEPER: Doors = Doors::POLICY.and_keeper();

/// Each pair with the doors that tell most there.
const SCENES: [(Pair, Doors, &str); 2] = [(Pair::Bookworm, GATE, "gate"), (Pair::Trixie, KEEPER, "policy")];

/// A server whose people have logged in from home for two days, with every rule by what is learned enforced.
fn scene((pair, doors, source): (Pair, Doors, &str)) -> Scene {
    let scene = Scene::on(pair).doors(doors).start();
    for service in ["smtp", "imap", "pop3"] {
        scene.api(&["set_setting", &format!("key={service}_logins_from"), &format!("value={source}")]);
    }
    for rule in ["mailbox_guard", "attack_networks", "burst_rule"] {
        scene.api(&["set_setting", &format!("key={rule}"), "value=enforce"]);
    }
    scene.clock("-172800");
    [&ALICE, &BOB, &CAROL, &DAVE].iter().for_each(|owner| logs_in(&scene, owner));
    told::tick(&scene);
    scene.clock("+0");
    // Today's key.
    told::tick(&scene);
    scene
}

#[track_caller]
fn logs_in(scene: &Scene, owner: &Mailbox) {
    for way in [Way::Imap, Way::Pop3] {
        let reply = scene.login(way, GERMAN, owner);
        assert!(reply.yes, "{:?} {} {way:?}: {reply}", scene.pair(), owner.name);
    }
}

/// Tries each of these: from where, at whose mailbox, with which password; gives how many of them reached the password.
/// Owners log in all the while.
fn attack(scene: &Scene, tries: impl IntoIterator<Item = (String, &'static Mailbox, String)>) -> usize {
    let before = wrong_passwords(scene);
    for (n, (from, target, guess)) in tries.into_iter().enumerate() {
        let way = [Way::Imap, Way::SmtpPlain, Way::Pop3][n % 3];
        assert!(!scene.login_as(way, &from, target.name, &guess).yes);
        if n % 25 == 0 {
            logs_in(scene, target);
            logs_in(scene, &DAVE);
        }
    }
    wrong_passwords(scene) - before
}

/// Passwords that Dovecot found wrong so far. Its log says so, a moment later.
fn wrong_passwords(scene: &Scene) -> usize {
    let mut last = None;
    loop {
        let log = std::fs::read_to_string(scene.path("/rig/dovecot/log")).unwrap();
        let wrong = |line: &&str| line.contains("assword mismatch") || line.contains("unknown user");
        let now = (log.len(), log.lines().filter(wrong).count());
        if last == Some(now) {
            return now.1;
        }
        last = Some(now);
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn one_address_that_guesses_gets_ten_tries_at_any_number_of_mailboxes() {
    for each in SCENES {
        let scene = scene(each);
        let targets = [&ALICE, &BOB, &CAROL];
        let guesses = |from: u16| {
            (from..from + 16)
                .map(move |n| (BRAZILIAN.to_owned(), targets[usize::from(n) % 3], format!("guess {n}")))
        };
        assert_eq!(attack(&scene, guesses(0)), 10, "{each:?}");
        // An hour later, and one more: thirty in a day mark the network.
        scene.clock("+3700");
        assert_eq!(attack(&scene, guesses(100)), 10, "{each:?}");
        scene.clock("+7400");
        assert_eq!(attack(&scene, guesses(200)), 10, "{each:?}");
        scene.clock("+11100");
        assert_eq!(attack(&scene, guesses(300)), 0, "{each:?}");
    }
}

#[test]
fn hundreds_of_networks_with_one_try_each_get_ten_at_a_mailbox_that_is_known_to_be_used() {
    for each in SCENES {
        let scene = scene(each);
        // Hundreds where it takes the least time; each of the others tells the same after some.
        let many = if each.1 == GATE { 40 } else { 150 };
        let tries = (0..many).map(|n| (format!("177.{}.{}.9", n % 10, n), &ALICE, format!("guess {n}")));
        assert_eq!(attack(&scene, tries), 10, "{each:?}");
        let stranger = scene.login(Way::Imap, BRAZILIAN, &ALICE);
        assert!(!stranger.yes, "whoever has her password, from where she never was");
        assert!(scene.login(Way::Imap, BRAZILIAN, &BOB).yes, "no one else is guarded");
    }
}

#[test]
fn a_network_that_is_hopped_through_is_refused_as_a_whole() {
    for each in SCENES {
        let scene = scene(each);
        let targets = [&ALICE, &BOB, &CAROL];
        let reached = attack(
            &scene,
            (0..36).map(|n| (format!("177.1.2.{}", 1 + n), targets[n % 3], format!("guess {n}"))),
        );
        assert_eq!(reached, 30, "{each:?}");
    }
}

#[test]
fn a_telephone_with_an_old_password_keeps_nobody_out() {
    for each in SCENES {
        let scene = scene(each);
        for (from, owner) in [(GERMAN, &ALICE), (BRAZILIAN, &BOB)] {
            let tries = (0..20).map(|_| (from.to_owned(), owner, "an old password".to_owned()));
            assert_eq!(attack(&scene, tries), 20, "{each:?}");
        }
        assert!(scene.login(Way::Imap, BRAZILIAN, &CAROL).yes);
    }
}

#[test]
fn whoever_is_on_a_feed_is_refused_from_the_first_try_on_and_owners_on_it_are_not() {
    for kind in SCENES {
        let (scene, publisher) = (scene(kind), Publisher::new());
        let certificates = scene.path("/etc/ssl/certs/ca-certificates.crt");
        fs::create_dir_all(certificates.parent().unwrap()).unwrap();
        fs::write(&certificates, publisher.authority()).unwrap();
        publisher.answers("/list", Reply::list(format!("{BRAZILIAN}\n{GERMAN}\n")));
        scene.api(&["add_feed", "feed=attackers", &format!("url={}", publisher.url("/list"))]);
        scene.api(&["enable_feed", "feed=attackers"]);
        for way in [Way::Imap, Way::Pop3, Way::SmtpPlain] {
            assert!(!scene.login(way, BRAZILIAN, &ALICE).yes, "{way:?}");
            assert!(scene.login(way, OTHER_GERMAN, &ERIN).yes, "{way:?}");
            assert!(!scene.login(way, GERMAN, &ERIN).yes, "{way:?}: nobody knows her there");
        }
        logs_in(&scene, &ALICE);
        assert_eq!(wrong_passwords(&scene), 0);
        let seen = told::activity(&scene);
        assert_eq!(seen.keys().filter(|what| what.contains("attack_feed")).count(), seen.len(), "{seen:?}");
        scene.api(&["disable_feed", "feed=attackers"]);
        assert!(scene.login(Way::Imap, BRAZILIAN, &ALICE).yes);
        fs::remove_file(&certificates).unwrap();
    }
}
