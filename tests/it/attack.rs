//! What failed logins teach, by every door that tells of them, and whom the rules refuse for it.

use crate::sandbox::*;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const DAY: i64 = 86_400;

/// A login that failed at the last of Dovecot's stages.
pub(crate) fn fails(sandbox: &Sandbox, account: &str, address: &str, password: &str) {
    let input = format!("{account}\0{password}\0{NOON}\0").into_bytes();
    let failed = Call { words: vec!["failed"], input, ..Call::gate(account, address) }.run(sandbox);
    assert_eq!(failed.said(), (Some(1), ""));
}

/// Whether the gate passes this login on to where the password is checked.
pub(crate) fn passes(sandbox: &Sandbox, account: &str, address: &str) -> bool {
    Call::gate(account, address).run(sandbox).ran.status == Some(0)
}

/// A login that succeeded, by Dovecot's post-login script.
pub(crate) fn succeeds(sandbox: &Sandbox, account: &str, address: &str) {
    let mut command = sandbox.program("postern-dovecot", DOVECOT, &[]);
    command.args(["postlogin", "imap", "/bin/true"]).envs([("USER", account), ("IP", address)]);
    assert_eq!(run(&mut command).status, Some(0));
}

/// With the key by which guesses are told apart.
pub(crate) fn scene() -> Sandbox {
    let sandbox = Sandbox::new().setting("attack_networks", "enforce").setting("mailbox_guard", "enforce");
    sandbox.postern(&["tick"]).succeeded();
    sandbox
}

#[test]
fn the_tenth_guess_from_an_address_refuses_it_for_an_hour_and_an_old_password_does_not() {
    let sandbox = scene();
    for _ in 0..30 {
        fails(&sandbox, BOB, AMERICAN, "an old password");
    }
    for n in 1..=9 {
        assert!(passes(&sandbox, ALICE, AMERICAN), "after {n} guesses");
        fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}"));
    }
    assert!(!passes(&sandbox, ALICE, AMERICAN) && !passes(&sandbox, BOB, AMERICAN));
    assert_eq!(sandbox.auth(AMERICAN).split(' ').next(), Some("deny"), "also where nobody knows the account");
    assert!(passes(&sandbox, ALICE, "198.51.100.10"), "a neighbour");
    assert_eq!(sandbox.logged("event=burst "), 1);
    sandbox.wait(3599);
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    sandbox.wait(1);
    assert!(passes(&sandbox, ALICE, AMERICAN));
}

#[test]
fn without_a_key_a_mailbox_counts_once_a_minute() {
    let sandbox = Sandbox::new();
    for n in 0..30 {
        fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}"));
    }
    assert!(passes(&sandbox, ALICE, AMERICAN));
}

#[test]
fn what_exim_tells_of_failures_is_learned_where_it_is_of_record() {
    let sandbox = Sandbox::new().setting("smtp_logins_from", "exim");
    let outcome = |account: &str, address: &str| {
        let words = [format!("--address={address}"), format!("--account={account}")];
        sandbox.exim(&[], &["outcome", &words[0], &words[1], "--ended=failed"]);
    };
    (0..10).for_each(|n| outcome(&format!("user{n}@example.test"), AMERICAN));
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    let sandbox = Sandbox::new().setting("smtp_logins_from", "policy");
    let words = |n: i32| format!("--account=user{n}@example.test");
    (0..10).for_each(|n| {
        drop(sandbox.exim(&[], &["outcome", &format!("--address={AMERICAN}"), &words(n), "--ended=failed"]));
    });
    assert!(passes(&sandbox, ALICE, AMERICAN), "the policy server is the source");
}

#[test]
fn thirty_guesses_mark_the_network_for_a_week_and_owners_who_are_known_there_pass() {
    let sandbox = scene();
    sandbox.api(&["set_setting", "key=imap_logins_from", "value=postlogin"]);
    succeeds(&sandbox, BOB, "203.0.113.77");
    sandbox.postern(&["tick"]).succeeded();
    sandbox.api(&["set_setting", "key=imap_logins_from", "value=gate"]);
    sandbox.wait(2 * DAY).postern(&["tick"]).succeeded();
    for n in 0..30 {
        fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}"));
        fails(&sandbox, ALICE, FRENCH, &format!("guess {n}"));
    }
    sandbox.wait(2 * 3600);
    assert!(!passes(&sandbox, ALICE, "198.51.100.200"), "the whole network");
    assert!(
        !passes(&sandbox, ALICE, FRENCH) && passes(&sandbox, ALICE, "203.0.113.200"),
        "bob's has honest people"
    );
    assert!(passes(&sandbox, BOB, FRENCH), "he is known there");
    assert_eq!(sandbox.logged("event=attack_network "), 2);
    let list = sandbox.api(&["list_attack_networks"]);
    let listed: Vec<&str> =
        list.as_array().unwrap().iter().map(|row| row["network"].as_str().unwrap()).collect();
    assert_eq!(listed, ["198.51.100.0/24", FRENCH]);
    assert_eq!(list[0]["why"], "30 different passwords or mailboxes failed within a day");
    sandbox.wait(DAY);
    assert!(passes(&sandbox, ALICE, FRENCH), "an address where honest people are stays marked for a day");
    let undone =
        sandbox.postern(&["attack-networks", "remove", "198.51.100.0/24", "--reason", "our own scanner"]);
    undone.succeeded();
    assert!(passes(&sandbox, ALICE, "198.51.100.200"));
    assert!(
        sandbox.postern(&["attack-networks", "remove", "198.51.100.0/24"]).failed().contains("is not marked")
    );
    assert_eq!(sandbox.api(&["list_audit"])[0]["action"], "remove_attack_network");
}

#[test]
fn an_exempt_address_teaches_nothing_and_a_refusal_of_ours_is_no_failure() {
    let sandbox = scene().exempt_ip(AMERICAN);
    (0..40).for_each(|n| fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}")));
    (0..40).for_each(|n| fails(&sandbox, ALICE, "127.0.0.1", &format!("guess {n}")));
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM source"), 0);
    let sandbox = scene().blocked(ALICE);
    for n in 0..40 {
        assert!(!passes(&sandbox, ALICE, AMERICAN));
        fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}"));
    }
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM source"), 0);
}

#[test]
fn a_rule_that_watches_records_what_it_would_have_refused() {
    let sandbox = Sandbox::new().setting("burst_rule", "monitor");
    sandbox.postern(&["tick"]).succeeded();
    (0..10).for_each(|n| fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}")));
    assert!(passes(&sandbox, ALICE, AMERICAN));
    let activity = sandbox.api(&["list_activity"]);
    let row = &activity[0];
    assert_eq!((row["verdict"].as_str(), row["reason"].as_str()), (Some("would_refuse"), Some("burst")));
    sandbox.postern(&["tick"]).succeeded();
    let effect = sandbox.api(&["dry_run", "rule=burst_rule"]);
    assert_eq!((&effect["logins_refused"], &effect["mode_now"]), (&1.into(), &"monitor".into()), "{effect}");
    let off = Sandbox::new()
        .setting("burst_rule", "off")
        .setting("attack_networks", "off")
        .setting("mailbox_guard", "off");
    (0..10).for_each(|n| fails(&off, ALICE, AMERICAN, &format!("guess {n}")));
    assert_eq!(off.in_state::<i64>("SELECT count(*) FROM source"), 0);
}

#[test]
fn the_administrator_is_told_of_a_burst_by_explain_and_by_the_story_of_its_refusal() {
    let sandbox = scene();
    // More than ten: two of sixteen bits may be alike.
    for n in 0..14 {
        fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}"));
    }
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    let said = sandbox.api(&["explain", &format!("account={ALICE}"), &format!("address={AMERICAN}")]);
    assert_eq!(said["reason"], "burst", "{said}");
    let reference = sandbox.api(&["list_activity"])[0]["reference"].as_str().unwrap().to_owned();
    let story = sandbox.api(&["tell_story", &format!("reference={reference}")]);
    assert_eq!(story["is_the_same"], true, "{story}");
    assert_eq!(sandbox.logged("event=trouble"), 0);
}
