//! What an account has in the queue of a real server: listed, frozen, thawed, removed; everybody else's stays.

use crate::doing::{GERMAN, OUTSIDE, limit, on_each_pair, on_each_postfix, send_many, send_one, sendmail};
use crate::rig::{ALICE, BOB, MailServer, Mailbox, Ran, Scene, eventually};
use crate::told;
use serde_json::Value;
use std::collections::BTreeMap;

/// The world outside takes nothing for a while, or everything again.
fn outside_is_open(scene: &Scene, is_open: bool) {
    let owner = if is_open { "vmail" } else { "root" };
    let mode = if is_open { "755" } else { "000" };
    scene.run_as("root", &["chown", owner, "/rig/mail/outside"], "").succeeded();
    scene.run_as("root", &["chmod", mode, "/rig/mail/outside"], "").succeeded();
}

fn run_the_queue(scene: &Scene) {
    match scene.pair().mail_server() {
        MailServer::Exim => scene.exim(&["-qf"]),
        MailServer::Postfix => scene.run_as("root", &["/usr/sbin/postqueue", "-f"], ""),
    }
    .succeeded();
}

/// How many messages wait, in the server's own words.
fn waiting(scene: &Scene) -> usize {
    match scene.pair().mail_server() {
        MailServer::Exim => scene.exim(&["-bpc"]).succeeded().trim().parse().unwrap(),
        MailServer::Postfix => scene.queue().lines().count(),
    }
}

/// What Postern says of an account's queue.
fn queue_of(scene: &Scene, account: &str) -> Vec<Value> {
    scene.api(&["list_queue", &format!("account={account}")]).as_array().unwrap().clone()
}

fn frozen(scene: &Scene, account: &str) -> (usize, usize) {
    let rows = queue_of(scene, account);
    (rows.len(), rows.iter().filter(|row| row["frozen"] == true).count())
}

/// A message by a login that says to be somebody else's.
fn send_as(scene: &Scene, who: &Mailbox, sender: &str) {
    let mut smtp = scene.smtp(GERMAN);
    assert!(smtp.auth_plain(who.name, who.password).yes);
    let reply = smtp.send(sender, &[OUTSIDE, "second@remote.test"], "x");
    assert!(reply.yes, "{reply}");
}

fn queue(scene: &Scene, words: &[&str]) -> Ran {
    scene.postern(&[&["queue"], words].concat())
}

fn an_accounts_queue_is_dealt_with_and_nobody_elses(scene: &Scene) {
    outside_is_open(scene, false);
    send_many(scene, &ALICE, 2);
    send_as(scene, &ALICE, BOB.name);
    send_as(scene, &BOB, ALICE.name);
    sendmail(scene, "webuser", &["-f", ALICE.name, "-t"]).succeeded();
    // Nobody logged in: the sender is all there is.
    scene.smtp_from_loopback().send(ALICE.name, &[OUTSIDE], "x");
    eventually("six wait", || waiting(scene) == 6);
    scene.api(&["add_block", "value=alice@example.test", "note=taken over"]);

    let by = |account: &str| {
        let rows = queue_of(scene, account);
        rows.iter().map(|row| row["by"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((by(BOB.name), by("webuser")), (vec!["login".into()], vec!["local user".into()]));
    let mut of_alice = by(ALICE.name);
    of_alice.sort();
    assert_eq!(of_alice, ["login", "login", "login", "sender"]);
    let rows = queue_of(scene, ALICE.name);
    let posed = rows.iter().find(|row| row["sender"] == BOB.name).unwrap();
    assert_eq!(
        (&posed["recipients"], &posed["frozen"], &posed["held"]),
        (&2.into(), &false.into(), &false.into())
    );
    assert!(rows.iter().all(|row| row["size"].as_i64().unwrap() > 0 && row["since"].as_i64().unwrap() > 0));

    queue(scene, &["freeze", ALICE.name, "--reason", "taken over"]).succeeded();
    assert_eq!((frozen(scene, ALICE.name), frozen(scene, BOB.name)), ((4, 4), (1, 0)));
    let again = queue(scene, &["freeze", ALICE.name]).succeeded();
    assert!(again.contains("nothing of alice@example.test to be frozen"), "{again}");
    outside_is_open(scene, true);
    // Of the others Bob's goes to two.
    run_the_queue(scene);
    eventually("the others' leave", || (waiting(scene), scene.mail_outside().len()) == (4, 3));

    let one = posed["message"].as_str().unwrap();
    queue(scene, &["thaw", ALICE.name, "--message", one]).succeeded();
    run_the_queue(scene);
    eventually("one leaves", || (waiting(scene), scene.mail_outside().len()) == (3, 5));

    let unconfirmed = queue(scene, &["remove", ALICE.name]);
    assert_eq!((unconfirmed.code(), waiting(scene)), (Some(1), 3), "{unconfirmed:?}");
    assert!(
        unconfirmed.stderr.contains("3 messages of alice@example.test would be removed"),
        "{unconfirmed:?}"
    );
    let one = queue_of(scene, ALICE.name)[0]["message"].as_str().unwrap().to_owned();
    let not_his = queue(scene, &["remove", BOB.name, "--message", &one, "--confirm"]);
    assert_eq!((not_his.code(), waiting(scene)), (Some(1), 3), "{not_his:?}");
    queue(scene, &["remove", ALICE.name, "--message", &one, "--confirm"]).succeeded();
    assert_eq!(waiting(scene), 2);
    queue(scene, &["remove", ALICE.name, "--confirm", "--reason", "spam"]).succeeded();
    assert_eq!((waiting(scene), scene.mail_outside().len()), (0, 5));
    let trail = scene.api(&["list_audit", "limit=1"]);
    assert_eq!(
        (&trail[0]["action"], &trail[0]["subject"]),
        (&"remove_from_queue".into(), &ALICE.name.into()),
        "{trail}"
    );
    assert_eq!(trail[0]["after"], "spam", "{trail}");
    assert!(!trail.to_string().contains(&one), "the second call removed the others: {trail}");
}

#[test]
fn what_an_account_has_in_exims_queue_is_listed_frozen_thawed_and_removed() {
    on_each_pair(an_accounts_queue_is_dealt_with_and_nobody_elses);
}

#[test]
fn what_an_account_has_in_postfixs_queue_is_listed_frozen_thawed_and_removed() {
    on_each_postfix(an_accounts_queue_is_dealt_with_and_nobody_elses);
}

fn hostile_names_do_no_harm(scene: &Scene) {
    outside_is_open(scene, false);
    send_many(scene, &ALICE, 1);
    let mut taken = 2;
    for sender in [
        "\"a b'; touch /rig/harm\"@remote.test",
        "-Mrm@remote.test",
        "\"$(touch /rig/harm)\"@remote.test",
        "\"1xW3sF-000000-AA <x>\"@remote.test",
    ] {
        let reply = scene.smtp_from_loopback().send(
            sender,
            &[OUTSIDE, "\"  1 2 1xW3sF-000000-AA\"@remote.test"],
            "x",
        );
        // A server may take no such name.
        taken += usize::from(reply.yes);
    }
    let body = "To: friend@remote.test\n-auth_id: alice@example.test\nSubject: x\n -auth_id alice@example.test\n\
                \tnamed_attribute: sasl_username=alice@example.test\n\n-auth_id alice@example.test\n\
                named_attribute: sasl_username=alice@example.test\n";
    scene.sendmail(
        "webuser",
        &["-F", "x\n-auth_id alice@example.test\nnamed_attribute: sasl_username=alice@example.test", "-t"],
        body,
    );
    eventually("they wait", || waiting(scene) == taken);
    let rows = (queue_of(scene, ALICE.name), queue_of(scene, "webuser"));
    assert_eq!((rows.0.len(), rows.1.len()), (1, 1), "{rows:?}");
    let odd = ["a b'; touch /rig/harm", "-Mrm", "--", "$(touch /rig/harm)", "* -d ALL", "ALL", "\u{1b}[2J"];
    for account in odd {
        for words in [["freeze_queue", ""], ["remove_from_queue", "confirm=on"]] {
            scene.postern(&["api", words[0], &format!("account={account}"), words[1]]);
        }
    }
    for message in ["-Mrm", "ALL", "ALL hold", "../../etc/passwd", "1xW1Xt-0000gl-1R;x", ""] {
        for account in [ALICE.name, "webuser"] {
            let words = ["remove", account, "--confirm", &format!("--message={message}")];
            assert_eq!(queue(scene, &words).code(), Some(1), "{message:?}");
        }
    }
    let nobody = queue(scene, &["remove", "nobody@example.test", "--confirm"]).succeeded();
    assert!(nobody.contains("nothing of nobody@example.test"), "{nobody}");
    assert_eq!((waiting(scene), scene.path("/rig/harm").exists()), (taken, false));
    // Only root is shown a queue.
    let other = scene.postern_as("webuser", &["queue", "remove", ALICE.name, "--confirm"]);
    assert_ne!(other.code(), Some(0), "{other:?}");
    // As lists show it: blanks stand as question marks.
    let odd_sender = "\"a?b';?touch?/rig/harm\"@remote.test";
    assert_eq!(frozen(scene, odd_sender), (1, 0));
    queue(scene, &["freeze", odd_sender]).succeeded();
    queue(scene, &["remove", odd_sender, "--confirm"]).succeeded();
    assert_eq!((waiting(scene), scene.path("/rig/harm").exists()), (taken - 1, false));
    outside_is_open(scene, true);
}

#[test]
fn names_that_are_made_to_do_harm_in_a_queue_do_none() {
    on_each_pair(hostile_names_do_no_harm);
    on_each_postfix(hostile_names_do_no_harm);
}

fn a_retry_counts_nothing(scene: &Scene) {
    limit(scene, 3);
    outside_is_open(scene, false);
    send_many(scene, &ALICE, 3);
    for _ in 0..3 {
        sendmail(scene, "webuser", &["-t"]).succeeded();
    }
    eventually("six wait", || waiting(scene) == 6);
    for _ in 0..3 {
        run_the_queue(scene);
    }
    eventually("they wait still", || waiting(scene) == 6);
    let before = told::statistics(scene);
    assert_eq!((before["DE messages_sent"], before["- messages_sent"]), (3, 3), "{before:?}");
    assert_eq!(scene.api(&["list_blocks"]).as_array().map(Vec::len), Some(0));
    // The fourth stops the account; what waits of it is retried, refused to nobody, and moves no end.
    assert!(send_one(scene, &ALICE).says("451"));
    let block = scene.api(&["list_blocks"]);
    let events = told::activity(scene);
    for _ in 0..3 {
        run_the_queue(scene);
    }
    outside_is_open(scene, true);
    run_the_queue(scene);
    eventually("all leave", || (waiting(scene), scene.mail_outside().len()) == (0, 6));
    assert_eq!((scene.api(&["list_blocks"]), told::activity(scene)), (block, events));
    let sent = told::statistics(scene);
    assert_eq!(
        (sent["DE messages_sent"], sent["DE messages_refused"], sent["- messages_sent"]),
        (3, 1, 3),
        "{sent:?}"
    );
    assert_eq!(
        told::activity(scene),
        BTreeMap::from([(format!("{} {GERMAN} DE smtp refuse over_limit", ALICE.name), 1)])
    );
}

#[test]
fn retries_of_deferred_messages_are_no_new_incidents() {
    on_each_pair(a_retry_counts_nothing);
    on_each_postfix(a_retry_counts_nothing);
}

fn what_postern_holds_is_shown_and_not_thawed(scene: &Scene) {
    limit(scene, 1);
    for _ in 0..3 {
        sendmail(scene, "webuser", &["-t"]).succeeded();
    }
    eventually("two are held", || (waiting(scene), scene.mail_outside().len()) == (2, 1));
    let rows = queue_of(scene, "webuser");
    assert!(
        rows.len() == 2 && rows.iter().all(|row| row["held"] == true && row["frozen"] == true),
        "{rows:?}"
    );
    let said = queue(scene, &["thaw", "webuser"]);
    assert!(said.stderr.contains("2 of them Postern holds"), "{said:?}");
    run_the_queue(scene);
    assert_eq!(waiting(scene), 2);
    queue(scene, &["remove", "webuser", "--confirm"]).succeeded();
    assert_eq!((waiting(scene), scene.api(&["list_held"]).as_array().map(Vec::len)), (0, Some(0)));
}

#[test]
fn what_postern_holds_is_shown_as_such_and_released_by_its_own_command_alone() {
    on_each_pair(what_postern_holds_is_shown_and_not_thawed);
    on_each_postfix(what_postern_holds_is_shown_and_not_thawed);
}
