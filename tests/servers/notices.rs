//! What the administrator is told: once for each stop, by a message that nothing counts or stops.

use crate::doing::{GERMAN, limit, on_each_pair, send_many, send_one, sendmail};
use crate::rig::{ADMIN, ALICE, Scene, eventually};
use crate::told;
use std::collections::BTreeMap;

/// The notices in the administrator's mailbox, as a mail client reads them: the line of the subject of each. Sorted:
/// the mail server delivers in any order.
fn subjects(scene: &Scene) -> Vec<String> {
    let mut imap = scene.imap(GERMAN);
    assert!(imap.login(ADMIN.name, ADMIN.password).yes);
    let inbox = imap.read_inbox();
    assert!(inbox.yes, "{inbox}");
    let mut subjects: Vec<String> =
        inbox.text.lines().filter(|line| line.starts_with("Subject: ")).map(str::to_owned).collect();
    subjects.sort();
    subjects
}

#[test]
fn exactly_one_notice_arrives_and_what_it_advises_works() {
    on_each_pair(|scene| {
        scene.api(&["set_setting", "key=administration_email_address", "value=admin@example.test"]);
        limit(scene, 2);
        // Postern's own user sends more than anybody may, and is even blocked: its notices leave.
        for _ in 0..4 {
            assert_eq!(sendmail(scene, "postern", &["-t"]).code(), Some(0));
        }
        scene.api(&["add_block", "value=postern"]);
        send_many(scene, &ALICE, 2);
        for _ in 0..3 {
            assert!(send_one(scene, &ALICE).says("451"));
        }
        for _ in 0..3 {
            told::tick(scene);
        }
        eventually("the notice arrives", || scene.mail_of(&ADMIN).len() == 1);
        assert_eq!(subjects(scene), ["Subject: Postern stopped alice@example.test from sending"]);

        let notice = &scene.mail_of(&ADMIN)[0];
        let stop = &scene.api(&["list_blocks"])[0].take();
        assert!(notice.contains(&format!("Reference {}.", stop["reference"].as_str().unwrap())), "{notice}");
        let advised: Vec<_> = notice.lines().filter_map(|line| line.strip_prefix("    postern ")).collect();
        assert_eq!(advised.len(), 2, "{notice}");
        for command in &advised {
            scene
                .run_as("root", &["sh", "-c", &format!("/rig/at-clock /usr/sbin/postern {command}")], "")
                .succeeded();
        }
        send_many(scene, &ALICE, 5);
        let figures = told::statistics(scene);
        assert_eq!(figures.get("- messages_sent"), None, "Postern's own messages count nowhere: {figures:?}");
        assert_eq!(scene.mail_of(&ADMIN).len(), 1);
    });
}

#[test]
fn the_address_is_root_unless_told_and_one_that_does_not_work_is_tried_again() {
    on_each_pair(|scene| {
        limit(scene, 1);
        send_many(scene, &ALICE, 1);
        assert!(send_one(scene, &ALICE).says("451"));
        scene.run_as("root", &["mv", "/usr/sbin/sendmail", "/usr/sbin/sendmail.away"], "").succeeded();
        let told = scene.postern(&["tick", "--verbose"]);
        let told = told.stdout + &told.stderr;
        let marked = told::troubles(scene);
        scene.run_as("root", &["mv", "/usr/sbin/sendmail.away", "/usr/sbin/sendmail"], "").succeeded();
        assert!(told.contains("sendmail"), "{told}");
        assert!(marked.contains_key("notice"), "{marked:?}");
        let told = told::tick(scene);
        assert!(told.contains("root was told about alice@example.test."), "{told}");
        eventually("root's mail arrives", || scene.mail_of(&ADMIN).len() == 1);
    });
}

#[test]
fn shared_users_are_told_about_once_and_never_stopped() {
    on_each_pair(|scene| {
        limit(scene, 2);
        for user in ["www-data", "root"] {
            for number in 0..6 {
                // Whom Exim trusts may write any sender.
                let words: &[&str] = if number % 2 == 0 { &["-t"] } else { &["-f", "shop@other.test", "-t"] };
                assert_eq!(sendmail(scene, user, words).code(), Some(0), "{user} {number}");
            }
        }
        eventually("all leave", || scene.mail_outside().len() == 12);
        for _ in 0..2 {
            told::tick(scene);
        }
        eventually("a notice for each arrives", || scene.mail_of(&ADMIN).len() == 2);
        let subject = |user: &str| format!("Subject: Postern saw {user} send more than the limit");
        assert_eq!(subjects(scene), ["root", "www-data"].map(subject));
        assert_eq!(scene.api(&["list_blocks"]).as_array().map(Vec::len), Some(0));
        let event = |user: &str| (format!("{user} - - local would_refuse shared_user_over_limit"), 1);
        assert_eq!(told::activity(scene), BTreeMap::from(["www-data", "root"].map(event)));
    });
}
