//! The Outbound Rate Limiter on real servers, for logins.

use crate::clients::{Smtp, Way};
use crate::rig::{ADMIN, ALICE, BOB, Doors, Mailbox, Pair, Scene, at_once, eventually};

const GERMANY: &str = "5.9.0.1";
const OUTSIDE: &str = "friend@remote.test";

fn scene(pair: Pair) -> Scene {
    let doors = if pair == Pair::Bookworm { Doors::BOTH } else { Doors::EXIM };
    let scene = Scene::on(pair).doors(doors).start();
    scene.api(&["set_setting", "key=administration_email_address", "value=admin@example.test"]);
    scene
}

fn limit(scene: &Scene, messages: u32) {
    scene.api(&["set_setting", "key=rate_limit_messages", &format!("value={messages}")]);
}

fn logged_in(scene: &Scene, who: &Mailbox) -> Smtp {
    let mut smtp = scene.smtp(GERMANY);
    let reply = smtp.auth_plain(who.name, who.password);
    assert!(reply.yes, "{}: {reply}", who.name);
    smtp
}

/// Sends so many; how many passed.
fn send(scene: &Scene, who: &Mailbox, count: usize) -> usize {
    let mut smtp = logged_in(scene, who);
    (0..count).filter(|_| smtp.send(who.name, &[OUTSIDE], "x").yes).count()
}

#[test]
fn message_150_passes_and_151_is_refused_for_six_hours_with_one_notice() {
    for pair in Pair::ALL {
        let scene = scene(pair);
        let mut smtp = logged_in(&scene, &ALICE);
        for number in 1..=150 {
            let reply = smtp.send(ALICE.name, &[OUTSIDE], "x");
            assert!(reply.yes, "{pair:?} message {number}: {reply}");
        }
        for _ in 0..3 {
            let reply = smtp.send(ALICE.name, &[OUTSIDE], "x");
            assert!(!reply.yes && reply.says("451") && reply.says("4.7.1"), "{pair:?}: {reply}");
            assert!(reply.says("Reference") && reply.says("until"), "{pair:?}: {reply}");
        }
        assert!(scene.login(Way::Imap, GERMANY, &ALICE).yes, "a stopped sender still reads");
        assert_eq!(send(&scene, &BOB, 1), 1, "others are not concerned");
        for _ in 0..3 {
            scene.api(&["tick"]);
        }
        eventually("the notice arrives", || scene.mail_of(&ADMIN).len() == 1);
        scene.clock("+21000");
        assert_eq!(send(&scene, &ALICE, 1), 0, "{pair:?}: still stopped");
        scene.clock("+21601");
        assert_eq!(send(&scene, &ALICE, 1), 1, "{pair:?}: six hours are over");
        scene.api(&["tick"]);
        eventually("the messages leave", || scene.mail_outside().len() == 152);
        assert_eq!(scene.mail_of(&ADMIN).len(), 1, "exactly one notice");
        assert_eq!(scene.exim_panic_log(), "");
    }
}

#[test]
fn a_release_works_at_once() {
    let scene = scene(Pair::Bookworm);
    limit(&scene, 3);
    assert_eq!(send(&scene, &ALICE, 5), 3);
    scene.api(&["release_block", "value=alice@example.test"]);
    assert!(send(&scene, &ALICE, 1) == 1);
}

#[test]
fn a_whitelisted_account_sends_500() {
    let scene = scene(Pair::Bookworm);
    scene.api(&["add_whitelist", "value=alice@example.test"]);
    assert_eq!(send(&scene, &ALICE, 500), 500);
    eventually("all leave", || scene.mail_outside().len() == 500);
}

#[test]
fn one_message_to_twenty_recipients_counts_once() {
    let scene = scene(Pair::Bookworm);
    limit(&scene, 3);
    let many: Vec<String> = (0..20).map(|number| format!("friend{number}@remote.test")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut smtp = logged_in(&scene, &ALICE);
    let passed = (0..5).filter(|_| smtp.send(ALICE.name, &many, "x").yes).count();
    assert_eq!(passed, 3);
}

#[test]
fn forty_senders_at_once_get_exactly_150_of_400_through() {
    let scene = scene(Pair::Bookworm);
    let senders: Vec<u32> = (0..40).collect();
    let passed: usize = at_once(&senders, |_| send(&scene, &ALICE, 10)).iter().sum();
    assert_eq!(passed, 150);
    scene.api(&["tick"]);
    eventually("one notice arrives", || scene.mail_of(&ADMIN).len() == 1);
    assert_eq!(scene.mail_outside().len(), 150);
}

#[test]
fn an_empty_sender_does_not_escape() {
    let scene = scene(Pair::Bookworm);
    limit(&scene, 3);
    let mut smtp = logged_in(&scene, &ALICE);
    let passed = (0..5).filter(|_| smtp.send("", &[OUTSIDE], "x").yes).count();
    assert_eq!(passed, 3);
}

#[test]
fn inbound_mail_is_never_counted() {
    let scene = scene(Pair::Bookworm);
    limit(&scene, 3);
    let mut smtp = scene.smtp(GERMANY);
    for _ in 0..10 {
        assert!(smtp.send("stranger@remote.test", &[BOB.name], "x").yes);
    }
    eventually("all arrive", || scene.mail_of(&BOB).len() == 10);
    assert_eq!(scene.api(&["list_blocks"]).to_string().matches("value").count(), 0);
}

#[test]
fn monitor_tells_and_stops_nobody() {
    let scene = scene(Pair::Bookworm);
    limit(&scene, 3);
    scene.api(&["set_setting", "key=rate_limiter", "value=monitor"]);
    assert_eq!(send(&scene, &ALICE, 6), 6);
    let activity = scene.api(&["list_activity"]).to_string();
    assert!(activity.contains("would_refuse"), "{activity}");
}
