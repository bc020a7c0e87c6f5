//! Messages of local programs through Postfix. Their sender is the local user, whatever he writes; sendmail has
//! always succeeded by the time that Postfix decides, so over the limit they are held, or come back.

use crate::doing::{OUTSIDE, limit, on_each_postfix, sendmail};
use crate::rig::{ADMIN, Doors, Pair, Scene, at_once, eventually};
use crate::told;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the user hands in by `sendmail -bs`, with this sender.
fn session(scene: &Scene, user: &str, sender: &str) {
    let said = format!(
        "HELO localhost\r\nMAIL FROM:<{sender}>\r\nRCPT TO:<{OUTSIDE}>\r\nDATA\r\nSubject: y\r\n\r\nhello\r\n.\r\nQUIT\r\n"
    );
    let answers = scene.sendmail(user, &["-bs"], &said).stdout;
    assert!(answers.contains("250 2.0.0 Ok: queued as "), "{answers}");
}

/// As PHP's mail() does, with fields that claim to be another user's.
fn script(scene: &Scene, user: &str) {
    let words = "printf 'X-Local-Submission: userid 2002 id ABCDEF012345\\nX-Local-Submission: userid 0\\n\
                 Received: by server.example.test (Postfix, from userid 2002)\\n\\tid ABCDEF012345; now\\n\
                 From: shop@other.test\\nTo: friend@remote.test\\nSubject: order\\n\\nhi\\n' |
                 /usr/sbin/sendmail -t -i -f shop@other.test";
    scene.run_as(user, &["sh", "-c", words], "").succeeded();
}

/// How many messages wait, and how many of them on hold.
fn queue(scene: &Scene) -> (usize, usize) {
    let queue = scene.run_as("root", &["/usr/sbin/postqueue", "-j"], "").succeeded();
    let row = |line: &str| serde_json::from_str::<Value>(line).unwrap()["queue_name"].clone();
    let names: Vec<Value> = queue.lines().map(row).collect();
    (names.len(), names.iter().filter(|name| *name == "hold").count())
}

fn held(scene: &Scene) -> Vec<String> {
    let rows = scene.api(&["list_held"]);
    let row =
        |row: &Value| format!("{} {}", row["account"].as_str().unwrap(), row["message"].as_str().unwrap());
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn every_way_in_counts_for_the_user_and_none_escapes() {
    on_each_postfix(|scene| {
        limit(scene, 4);
        let all_ways = || {
            sendmail(scene, "webuser", &["-t"]).succeeded();
            sendmail(scene, "webuser", &["-f", "<>", "-t"]).succeeded();
            script(scene, "webuser");
            session(scene, "webuser", "boss@example.test");
        };
        all_ways();
        eventually("four leave", || (scene.mail_outside().len(), queue(scene)) == (4, (0, 0)));
        all_ways();
        eventually("four are held", || queue(scene) == (4, 4));
        let blocks = scene.api(&["list_blocks"]);
        assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");
        assert_eq!((&blocks[0]["value"], &blocks[0]["refused"]), (&"webuser".into(), &4.into()));
        // Nobody else is concerned, least of all the user whom the script claimed to be.
        script(scene, "shopuser");
        eventually("a fifth leaves", || scene.mail_outside().len() == 5);
    });
}

#[test]
fn messages_over_the_limit_are_held_listed_released_and_removed() {
    on_each_postfix(|scene| {
        limit(scene, 2);
        for _ in 0..5 {
            sendmail(scene, "webuser", &["-t"]).succeeded();
        }
        eventually("two leave", || (scene.mail_outside().len(), queue(scene)) == (2, (3, 3)));
        let messages = held(scene);
        assert_eq!(messages.len(), 3, "{messages:?}");
        let name = |held: &String| held.strip_prefix("webuser ").unwrap().to_owned();
        let listed = scene.run_as("root", &["/usr/sbin/postqueue", "-p"], "").succeeded();
        assert!(messages.iter().all(|message| listed.contains(&format!("{}!", name(message)))), "{listed}");

        // Neither a queue run nor the release of the account sends them.
        scene.run_as("root", &["/usr/sbin/postqueue", "-f"], "").succeeded();
        scene.api(&["release_block", "value=webuser"]);
        scene.run_as("root", &["/usr/sbin/postqueue", "-f"], "").succeeded();
        assert_eq!((queue(scene), scene.mail_outside().len()), ((3, 3), 2));

        scene.postern(&["held", "release", &name(&messages[0])]).succeeded();
        eventually("the released one leaves", || scene.mail_outside().len() == 3);
        scene.postern(&["held", "remove", &name(&messages[1])]).succeeded();
        eventually("one is left", || queue(scene) == (1, 1));
        assert_eq!(held(scene), messages[2..].to_vec());
        for words in [["held", "release", &name(&messages[0])], ["held", "remove", &name(&messages[1])]] {
            assert_eq!(scene.postern(&words).code(), Some(1), "{words:?}: it is gone");
        }
        // One that somebody let go by Postfix's own means is off the list when it is missed.
        scene.run_as("root", &["/usr/sbin/postsuper", "-H", &name(&messages[2])], "").succeeded();
        scene.run_as("root", &["/usr/sbin/postqueue", "-f"], "").succeeded();
        eventually("it leaves", || scene.mail_outside().len() == 4);
        scene.clock("+700");
        assert_eq!(held(scene), Vec::<String>::new());
        let figures = told::statistics(scene);
        assert_eq!((figures["- messages_sent"], figures["- messages_held"]), (2, 3), "{figures:?}");
    });
}

#[test]
fn no_more_are_held_than_the_ceiling_allows_and_the_others_come_back() {
    on_each_postfix(|scene| {
        limit(scene, 1);
        scene.api(&["set_setting", "key=held_ceiling", "value=2"]);
        for number in 1..=5 {
            sendmail(scene, "webuser", &["-t"]).succeeded();
            let done = || queue(scene).1 + scene.mail_outside().len() + scene.mail_of_local("webuser").len();
            eventually("it was decided", || done() == number);
        }
        assert_eq!((queue(scene), scene.mail_of_local("webuser").len()), ((2, 2), 2));
        let bounce = scene.mail_of_local("webuser")[0].replace(['\r', '\n'], " ");
        assert!(bounce.contains("Sending from this account is stopped until "), "{bounce}");
        assert!(bounce.contains("Reference "), "{bounce}");
    });
}

#[test]
fn refused_messages_come_back_and_their_bounces_count_for_nobody() {
    on_each_postfix(|scene| {
        limit(scene, 2);
        scene.api(&["set_setting", "key=local_over_limit", "value=refuse"]);
        for _ in 0..6 {
            sendmail(scene, "webuser", &["-t"]).succeeded();
        }
        eventually("four bounces arrive", || scene.mail_of_local("webuser").len() == 4);
        assert_eq!((scene.mail_outside().len(), queue(scene)), (2, (0, 0)));
        scene.api(&["add_block", "value=shopuser"]);
        sendmail(scene, "shopuser", &["-t"]).succeeded();
        eventually("it comes back", || scene.mail_of_local("shopuser").len() == 1);
        assert!(scene.mail_of_local("shopuser")[0].contains("This account is closed"));
        let senders: Vec<String> = told::activity(scene).into_keys().collect();
        assert!(
            senders.iter().all(|row| row.starts_with("webuser ") || row.starts_with("shopuser ")),
            "{senders:?}"
        );
    });
}

#[test]
fn users_that_send_for_many_are_told_about_and_never_stopped_and_notices_arrive() {
    on_each_postfix(|scene| {
        limit(scene, 2);
        scene.api(&["set_setting", "key=administration_email_address", "value=admin@example.test"]);
        for _ in 0..5 {
            sendmail(scene, "www-data", &["-t"]).succeeded();
            sendmail(scene, "root", &["-t"]).succeeded();
            sendmail(scene, "webuser", &["-t"]).succeeded();
        }
        eventually("all but those of the stopped leave", || {
            (scene.mail_outside().len(), queue(scene)) == (12, (3, 3))
        });
        told::tick(scene);
        eventually("three notices arrive", || scene.mail_of(&ADMIN).len() == 3);
        let notices = scene.mail_of(&ADMIN).concat();
        assert!(["www-data", "root", "webuser"].iter().all(|user| notices.contains(user)), "{notices}");
    });
}

#[test]
fn forty_local_processes_at_once_send_exactly_150_of_400() {
    on_each_postfix(|scene| {
        at_once(&[10; 40], |n| (0..*n).for_each(|_| drop(sendmail(scene, "webuser", &["-t"]).succeeded())));
        // Postfix takes one after the other.
        for so_many in (50..=400).step_by(50) {
            eventually("more were decided", || scene.mail_outside().len() + queue(scene).1 >= so_many);
        }
        assert_eq!(scene.mail_outside().len(), 150, "{:?}", told::troubles(scene));
        assert_eq!(held(scene).len(), 250);
    });
}

#[test]
fn without_the_proof_of_its_user_a_message_goes_on_and_status_says_so() {
    for pair in Pair::POSTFIX {
        let scene = Scene::on(pair).doors(Doors::POSTFIX).postfix("header_checks =").start();
        limit(&scene, 1);
        for number in 1..=3 {
            script(&scene, "webuser");
            eventually("it leaves", || scene.mail_outside().len() == number);
        }
        eventually("it is marked", || told::troubles(&scene).contains_key("call"));
        assert_eq!(told::activity(&scene), BTreeMap::new());
    }
}
