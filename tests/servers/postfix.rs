//! Postfix asks at MAIL and RCPT, at the end of a message, and before AUTH on the ports for submission.

use crate::clients::{Smtp, Tls};
use crate::doing::{
    BRAZILIAN, GERMAN, OUTSIDE, allow_germany_alone, limit, logged_in, on_each_postfix, send_many, send_one,
};
use crate::rig::{ALICE, BOB, CAROL, DAVE, ERIN, Scene, at_once, eventually};
use crate::told;
use serde_json::Value;
use std::collections::BTreeMap;

#[track_caller]
fn the_block(scene: &Scene) -> Value {
    let mut blocks = scene.api(&["list_blocks"]);
    assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");
    blocks[0].take()
}

#[test]
fn message_150_passes_and_151_stops_the_account() {
    on_each_postfix(|scene| {
        send_many(scene, &ALICE, 150);
        let mut smtp = logged_in(scene, &ALICE);
        let refused = smtp.send(ALICE.name, &[OUTSIDE], "x");
        let block = the_block(scene);
        let until = postern::clock::readable(block["until"].as_i64().unwrap());
        let reference = block["reference"].as_str().unwrap();
        assert_eq!(
            refused.text,
            format!(
                "451 4.7.1 <END-OF-MESSAGE>: End-of-data rejected: More than 150 messages in 5 minutes: sending is \
                 stopped until {until}. Reference {reference}."
            )
        );
        // In the same session as in another, with the same reference and end.
        // Postfix forgets a refused message only when it is told to.
        assert!(smtp.ask("RSET").yes);
        let again = smtp.send(ALICE.name, &[OUTSIDE], "x");
        assert!(again.says("451 4.7.1 "), "{again}");
        assert!(send_one(scene, &ALICE).says(&format!("stopped until {until}. Reference {reference}.")));
        assert_eq!(the_block(scene)["refused"], 3);
        // Logins go on, and so does everybody else.
        assert!(send_one(scene, &BOB).yes);
        eventually("the messages left", || scene.mail_outside().len() == 151);
        let stop = |reason: &str| format!("{} {GERMAN} DE smtp refuse {reason}", ALICE.name);
        let events = BTreeMap::from([(stop("over_limit"), 1), (stop("sending_stopped"), 2)]);
        assert_eq!(told::activity(scene), events);
        let figures = told::statistics(scene);
        assert_eq!((figures["DE messages_sent"], figures["DE messages_refused"]), (151, 3), "{figures:?}");
        scene.api(&["release_block", "value=alice@example.test", "reason=password changed"]);
        send_many(scene, &ALICE, 150);
    });
}

#[test]
fn one_message_to_twenty_recipients_counts_once() {
    on_each_postfix(|scene| {
        limit(scene, 3);
        let recipients: Vec<_> = (0..20).map(|n| format!("friend{n}@remote.test")).collect();
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        let mut smtp = logged_in(scene, &ALICE);
        for _ in 0..3 {
            assert!(smtp.send(ALICE.name, &recipients, "x").yes);
        }
        assert!(smtp.send(ALICE.name, &recipients, "x").says("451 4.7.1"));
        // One session, one use of the login.
        let figures = told::statistics(scene);
        assert_eq!((figures["DE tried"], figures["DE succeeded"]), (1, 1), "{figures:?}");
    });
}

#[test]
fn the_use_of_a_login_is_refused_by_country_and_a_refused_address_is_greeted_with_554() {
    on_each_postfix(|scene| {
        allow_germany_alone(scene);
        let mut smtp = scene.smtp(BRAZILIAN);
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes, "nobody is asked on this port");
        let refused = smtp.send(ALICE.name, &[OUTSIDE], "x");
        let reference = told::reference(&refused.text).unwrap();
        let text = format!(
            "550 5.7.1 <{}>: Sender address rejected: Logins from this country are not allowed here. Reference \
             {reference}.",
            ALICE.name
        );
        assert_eq!(refused.text, text);
        let event = told::under_reference(scene, reference);
        assert_eq!((&event["door"], &event["country"]), (&"postfix-mail".into(), &"BR".into()));
        for tls in [Tls::Starttls, Tls::Wrapper] {
            let shut = scene.smtp_by(tls, BRAZILIAN);
            println!("{tls:?}: {}", shut.greeting);
        }
    });
}
