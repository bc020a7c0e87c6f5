//! The Outbound Rate Limiter, by mail clients that log in.

use crate::clients::Way;
use crate::doing::{BRAZILIAN, GERMAN, OUTSIDE, limit, logged_in, on_each_pair, send_many, send_one};
use crate::rig::{ALICE, BOB, CAROL, DAVE, ERIN, Mailbox, Scene, at_once, eventually};
use crate::told;
use serde_json::Value;
use std::collections::BTreeMap;

/// The only block that is in force.
#[track_caller]
fn the_block(scene: &Scene) -> Value {
    let mut blocks = scene.api(&["list_blocks"]);
    assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");
    blocks[0].take()
}

/// The refusal of a stopped account's next message, with the block's own end and reference.
#[track_caller]
fn is_stopped(scene: &Scene, who: &Mailbox) {
    let text = told::one_line(&send_one(scene, who));
    let block = the_block(scene);
    let until = postern::clock::readable(block["until"].as_i64().unwrap());
    let reference = block["reference"].as_str().unwrap();
    let expected =
        format!("451 4.7.1 Sending from this account is stopped until {until}. Reference {reference}.");
    assert_eq!((text, &block["value"]), (expected, &who.name.into()));
}

#[test]
fn message_150_passes_and_151_stops_the_account_for_six_hours() {
    on_each_pair(|scene| {
        let begun = now();
        send_many(scene, &ALICE, 150);
        let mut smtp = logged_in(scene, &ALICE);
        let text = told::one_line(&smtp.send(ALICE.name, &[OUTSIDE], "x"));
        let block = the_block(scene);
        let until = block["until"].as_i64().unwrap();
        assert!((begun + 21_600..=now() + 21_600).contains(&until), "{block}");
        assert_eq!(
            text,
            format!(
                "451 4.7.1 More than 150 messages in 5 minutes: sending is stopped until {}. Reference {}.",
                postern::clock::readable(until),
                block["reference"].as_str().unwrap()
            )
        );
        // In the same session as in another, with the same reference and end.
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").says("451"));
        is_stopped(scene, &ALICE);
        assert_eq!(the_block(scene)["refused"], 3, "151, 152 and 153");

        // Reading goes on, and so does everybody else.
        for way in Way::ALL {
            assert!(scene.login(way, GERMAN, &ALICE).yes, "{way:?}");
        }
        assert!(send_one(scene, &BOB).yes);
        eventually("the messages left", || scene.mail_outside().len() == 151);

        let stop = |reason: &str| format!("{} {GERMAN} DE smtp refuse {reason}", ALICE.name);
        let events = BTreeMap::from([(stop("over_limit"), 1), (stop("sending_stopped"), 2)]);
        assert_eq!(told::activity(scene), events);
        let figures = told::statistics(scene);
        assert_eq!((figures["DE messages_sent"], figures["DE messages_refused"]), (151, 3), "{figures:?}");

        // A retry moves no end.
        scene.clock("+21500");
        is_stopped(scene, &ALICE);
        assert_eq!(the_block(scene)["until"], until);
        scene.clock("+21640");
        assert_eq!(scene.api(&["list_blocks"]).as_array().map(Vec::len), Some(0));
        send_many(scene, &ALICE, 3);
    });
}

#[test]
fn the_window_slides() {
    on_each_pair(|scene| {
        limit(scene, 3);
        send_many(scene, &ALICE, 2);
        scene.clock("+200");
        send_many(scene, &ALICE, 1);
        // The first two are older than five minutes now, the third is not.
        scene.clock("+320");
        send_many(scene, &ALICE, 2);
        assert!(send_one(scene, &ALICE).says("451"));
    });
}

#[test]
fn a_released_account_sends_its_whole_limit_at_once() {
    on_each_pair(|scene| {
        limit(scene, 3);
        for _ in 0..2 {
            send_many(scene, &ALICE, 3);
            assert!(send_one(scene, &ALICE).says("451"));
            is_stopped(scene, &ALICE);
            scene.api(&["release_block", "value=alice@example.test", "reason=password changed"]);
            assert_eq!(scene.api(&["list_blocks"]).as_array().map(Vec::len), Some(0));
        }
        send_many(scene, &ALICE, 3);
        let again = scene.postern(&["blocks", "release", BOB.name]);
        assert_eq!(again.code(), Some(1));
        assert!(again.stderr.starts_with("bob@example.test is not blocked."), "{}", again.stderr);
        let trail = scene.api(&["list_audit", "limit=1"]);
        assert_eq!(trail[0]["after"], "password changed", "{trail}");
    });
}

#[test]
fn who_is_on_the_whitelist_sends_500() {
    on_each_pair(|scene| {
        scene.api(&["add_whitelist", "value=alice@example.test"]);
        let all = at_once(&[125; 4], |messages| send_many(scene, &ALICE, *messages));
        assert_eq!(all.len(), 4);

        // A domain, and an account that was stopped before.
        limit(scene, 3);
        send_many(scene, &DAVE, 3);
        assert!(send_one(scene, &DAVE).says("451"));
        scene.api(&["add_whitelist", "value=other.test"]);
        assert_eq!(scene.api(&["list_blocks"]).as_array().map(Vec::len), Some(0));
        send_many(scene, &DAVE, 5);
        send_many(scene, &ERIN, 5);

        // An address that is exempt for sending too, and one that is exempt for logins alone.
        scene.api(&["add_ip_exemption", &format!("value={GERMAN}"), "sending=on"]);
        send_many(scene, &BOB, 5);
        scene.api(&["remove_ip_exemption", &format!("value={GERMAN}")]);
        scene.api(&["add_ip_exemption", &format!("value={GERMAN}")]);
        send_many(scene, &CAROL, 3);
        assert!(send_one(scene, &CAROL).says("451"));
    });
}

#[test]
fn one_message_to_twenty_recipients_counts_once() {
    on_each_pair(|scene| {
        limit(scene, 3);
        let recipients: Vec<_> = (0..20).map(|n| format!("friend{n}@remote.test")).collect();
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        let mut smtp = logged_in(scene, &ALICE);
        for _ in 0..3 {
            assert!(smtp.send(ALICE.name, &recipients, "x").yes);
        }
        assert!(smtp.send(ALICE.name, &recipients, "x").says("451"));
    });
}

#[test]
fn an_empty_or_foreign_sender_escapes_nothing() {
    on_each_pair(|scene| {
        limit(scene, 3);
        let mut smtp = logged_in(scene, &ALICE);
        for sender in ["", "boss@example.test", ALICE.name] {
            assert!(smtp.send(sender, &[OUTSIDE], "x").yes, "{sender}");
        }
        for sender in ["", "boss@example.test", ALICE.name] {
            assert!(smtp.send(sender, &[OUTSIDE], "x").says("451"), "{sender}");
        }
        assert_eq!(the_block(scene)["value"], ALICE.name);
        // The login as the client spells it is no second account.
        let mut smtp = scene.smtp(GERMAN);
        if smtp.auth_plain("ALICE@Example.Test", ALICE.password).yes {
            assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").says("451"));
        }
    });
}

#[test]
fn mail_that_strangers_bring_in_is_neither_counted_nor_stopped() {
    on_each_pair(|scene| {
        limit(scene, 1);
        send_many(scene, &ALICE, 1);
        assert!(send_one(scene, &ALICE).says("451"));
        // To a stopped account too, and also in its name.
        for sender in ["stranger@remote.test", ALICE.name, ""] {
            for _ in 0..3 {
                let mut smtp = scene.smtp(BRAZILIAN);
                let reply = smtp.send(sender, &[ALICE.name, BOB.name], "From outside");
                assert!(reply.yes, "{sender}: {reply}");
            }
        }
        eventually("the messages arrive", || {
            scene.mail_of(&ALICE).len() == 9 && scene.mail_of(&BOB).len() == 9
        });
        let figures = told::statistics(scene);
        assert!(!figures.keys().any(|row| row.starts_with("BR")), "{figures:?}");
        assert_eq!((figures["DE messages_sent"], figures["DE messages_refused"]), (1, 1), "{figures:?}");
    });
}

#[test]
fn monitor_tells_and_stops_nobody() {
    on_each_pair(|scene| {
        limit(scene, 3);
        scene.api(&["set_setting", "key=rate_limiter", "value=monitor"]);
        send_many(scene, &ALICE, 6);
        assert_eq!(scene.api(&["list_blocks"]).as_array().map(Vec::len), Some(0));
        let event = format!("{} {GERMAN} DE smtp would_refuse would_stop", ALICE.name);
        assert_eq!(told::activity(scene), BTreeMap::from([(event, 1)]), "told once");
        let figures = told::statistics(scene);
        assert_eq!((figures["DE messages_sent"], figures["DE messages_would_refuse"]), (6, 3), "{figures:?}");
    });
}

fn now() -> i64 {
    postern::clock::Clock::System.now()
}
