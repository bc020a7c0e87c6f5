//! Messages of local programs: sendmail, scripts, cron, bounces. Their sender is the local user, whatever he
//! writes; over the limit they are held or refused, since no program comes back later.

use crate::doing::{OUTSIDE, limit, on_each_pair, sendmail};
use crate::rig::{ALICE, Ran, Scene, at_once, eventually};
use crate::told;
use std::collections::BTreeMap;

/// What the user hands in by `sendmail -bs`, with this sender.
fn session(scene: &Scene, user: &str, sender: &str) -> String {
    let said = format!(
        "HELO localhost\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{OUTSIDE}>\r\nDATA\r\nSubject: y\r\n\r\nhello\r\n.\r\nQUIT\r\n"
    );
    scene.sendmail(user, &["-bs"], &said).stdout
}

/// As PHP's mail() does: through a shell, with an envelope sender and headers of its own.
fn script(scene: &Scene, user: &str) -> Ran {
    let words = "printf 'From: shop@other.test\\nTo: friend@remote.test\\nSubject: order\\n\\nhi\\n' |
                 /usr/sbin/sendmail -t -i -f shop@other.test";
    scene.run_as(user, &["sh", "-c", words], "")
}

/// The queue: how many messages, how many of them frozen.
fn queue(scene: &Scene) -> (usize, usize) {
    let queue = scene.exim(&["-bp"]).succeeded();
    (queue.matches('<').count(), queue.matches("*** frozen ***").count())
}

fn held(scene: &Scene) -> Vec<String> {
    let rows = scene.api(&["list_held"]);
    let row = |row: &serde_json::Value| {
        format!("{} {}", row["account"].as_str().unwrap(), row["message"].as_str().unwrap())
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn every_way_in_counts_for_the_user_and_none_escapes() {
    on_each_pair(|scene| {
        limit(scene, 4);
        scene.api(&["set_setting", "key=local_over_limit", "value=refuse"]);
        let ways = |scene: &Scene| {
            [
                sendmail(scene, "webuser", &["-t"]).code() == Some(0),
                sendmail(scene, "webuser", &["-f", "<>", "-t"]).code() == Some(0),
                script(scene, "webuser").code() == Some(0),
                session(scene, "webuser", "").matches("250 OK id=").count() == 1,
            ]
        };
        assert_eq!(ways(scene), [true; 4]);
        eventually("four leave", || scene.mail_outside().len() == 4);
        assert_eq!(ways(scene), [false; 4]);
        let blocks = scene.api(&["list_blocks"]);
        assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");
        assert_eq!((&blocks[0]["value"], &blocks[0]["refused"]), (&"webuser".into(), &4.into()));
        // A program that speaks SMTP to sendmail can be told to come back later.
        let said = session(scene, "webuser", "boss@example.test");
        assert!(said.contains("\n451-4.7.1 Sending from this account is stopped until "), "{said}");
        // Nobody else is concerned.
        assert_eq!(script(scene, "shopuser").code(), Some(0));
        eventually("a fifth leaves", || scene.mail_outside().len() == 5);
    });
}

#[test]
fn messages_over_the_limit_are_held_listed_released_and_removed() {
    on_each_pair(|scene| {
        limit(scene, 2);
        for number in 1..=5 {
            assert_eq!(sendmail(scene, "webuser", &["-t"]).code(), Some(0), "message {number}");
        }
        eventually("two leave", || (scene.mail_outside().len(), queue(scene)) == (2, (3, 3)));
        let messages = held(scene);
        assert_eq!(messages.len(), 3, "{messages:?}");
        let name = |held: &String| held.strip_prefix("webuser ").unwrap().to_owned();
        let listed = scene.exim(&["-bp"]).succeeded();
        assert!(messages.iter().all(|message| listed.contains(&name(message))), "{messages:?}\n{listed}");
        assert!(scene.exim_log().contains(&format!("postern: held {}: ", name(&messages[0]))));

        // Neither a queue run nor the release of the account sends them.
        scene.exim(&["-q"]).succeeded();
        scene.api(&["release_block", "value=webuser"]);
        scene.exim(&["-q"]).succeeded();
        assert_eq!((queue(scene), scene.mail_outside().len()), ((3, 3), 2));

        scene.postern(&["held", "release", &name(&messages[0])]).succeeded();
        eventually("the released one leaves", || scene.mail_outside().len() == 3);
        scene.postern(&["held", "remove", &name(&messages[1])]).succeeded();
        eventually("one is left", || queue(scene) == (1, 1));
        assert_eq!(held(scene), messages[2..].to_vec());
        for words in [["held", "release", &name(&messages[0])], ["held", "remove", &name(&messages[1])]] {
            assert_eq!(scene.postern(&words).code(), Some(1), "{words:?}: it is gone");
        }
        assert_eq!(scene.mail_outside().len(), 3);
        let events = told::activity(scene);
        let held = |reason: &str| format!("webuser - - local hold {reason}");
        assert_eq!(events, BTreeMap::from([(held("over_limit"), 1), (held("sending_stopped"), 2)]));
        let figures = told::statistics(scene);
        assert_eq!((figures["- messages_sent"], figures["- messages_held"]), (2, 3), "{figures:?}");
    });
}

#[test]
fn no_more_are_held_than_the_ceiling_allows() {
    on_each_pair(|scene| {
        limit(scene, 1);
        scene.api(&["set_setting", "key=held_ceiling", "value=2"]);
        let codes: Vec<_> = (0..5).map(|_| sendmail(scene, "webuser", &["-t"]).code().unwrap()).collect();
        assert_eq!(codes, [0, 0, 0, 1, 1]);
        eventually("the two bounces arrived", || scene.mail_of_local("webuser").len() == 2);
        eventually("two are left, both held", || (queue(scene), held(scene).len()) == ((2, 2), 2));
    });
}

#[test]
fn a_refused_message_comes_back_to_its_sender_and_its_bounce_counts_for_nobody() {
    on_each_pair(|scene| {
        limit(scene, 2);
        scene.api(&["set_setting", "key=local_over_limit", "value=refuse"]);
        let codes: Vec<_> = (0..4).map(|_| sendmail(scene, "webuser", &["-t"]).code().unwrap()).collect();
        assert_eq!(codes, [0, 0, 1, 1]);
        eventually("both bounces arrive", || scene.mail_of_local("webuser").len() == 2);
        // Exim breaks long lines at blanks; which of the two arrives first is its own affair.
        let bounce = scene.mail_of_local("webuser").join(" ").replace(['\r', '\n'], " ");
        assert!(bounce.contains("More than 2 messages in 5 minutes: sending is stopped until "), "{bounce}");
        assert!(bounce.contains("Reference "), "{bounce}");

        // Those for messages that cannot be delivered, too: more of them than anybody may send.
        for _ in 0..4 {
            scene.smtp_from_loopback().send("webuser@server.example.test", &["nobody@example.test"], "x");
        }
        eventually("six bounces arrived", || scene.mail_of_local("webuser").len() == 6);
        let blocks = scene.api(&["list_blocks"]);
        assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");

        scene.clock("+21601");
        assert_eq!(sendmail(scene, "webuser", &["-t"]).code(), Some(0), "six hours are over");
    });
}

#[test]
fn a_user_whom_the_administrator_blocked_sends_nothing() {
    on_each_pair(|scene| {
        scene.api(&["add_block", "value=webuser"]);
        let refused = sendmail(scene, "webuser", &["-t"]);
        assert_eq!(refused.code(), Some(1), "refused for good, not held: {refused:?}");
        let said = session(scene, "webuser", "x@example.test");
        assert!(said.replace("550-", "550 ").contains("\n550 5.7.1 This account is closed"), "{said}");
        // The refused message's bounce is on its way for a moment.
        eventually("nothing is left", || queue(scene) == (0, 0));
        assert_eq!(scene.mail_outside().len(), 0);
        assert_eq!(sendmail(scene, "shopuser", &["-t"]).code(), Some(0));
    });
}

#[test]
fn forty_local_processes_at_once_send_exactly_150_of_400() {
    on_each_pair(|scene| {
        scene.api(&["set_setting", "key=local_over_limit", "value=refuse"]);
        let sent = at_once(&[10; 40], |n| {
            (0..*n).filter(|_| sendmail(scene, "webuser", &["-t"]).code() == Some(0)).count()
        });
        assert_eq!(sent.iter().sum::<usize>(), 150, "{:?}: {:?}", scene.pair(), told::troubles(scene));
    });
}

#[test]
fn a_login_is_stopped_by_its_own_messages_and_not_by_those_of_a_local_user() {
    on_each_pair(|scene| {
        limit(scene, 1);
        for _ in 0..2 {
            sendmail(scene, "webuser", &["-f", ALICE.name, "-t"]);
        }
        assert!(crate::doing::send_one(scene, &ALICE).yes);
    });
}
