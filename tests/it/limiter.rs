//! The Outbound Rate Limiter, through the programs.

use crate::sandbox::*;
use std::sync::atomic::{AtomicUsize, Ordering};

const ALICE: &str = "alice@example.test";
const SIX_HOURS: i64 = 6 * 3600;

#[track_caller]
fn is_stopped(said: &str) {
    assert!(said.starts_with("defer 451 4.7.1 ") && said.contains("stopped until"), "{said:?}");
}

fn blocks(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.api(&["list_blocks"]);
    rows.as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap().to_string()).collect()
}

fn notices(sandbox: &Sandbox) -> i64 {
    sandbox.in_state("SELECT count(*) FROM notice")
}

#[test]
fn message_151_is_stopped_for_six_hours_and_told_once() {
    let sandbox = Sandbox::new();
    sandbox.sends_freely(ALICE, 150);
    let first = sandbox.send(ALICE);
    is_stopped(&first);
    assert!(first.contains("More than 150 messages in 5 minutes"), "{first}");
    let reference = |said: &str| said.split("Reference ").nth(1).unwrap().trim_end_matches(".\n").to_string();
    let again = sandbox.wait(60).send(ALICE);
    assert_eq!(reference(&first), reference(&again));
    assert_eq!((blocks(&sandbox), notices(&sandbox)), (vec![ALICE.to_string()], 1));
    // Others send, and the account still logs in.
    assert_eq!(sandbox.send("bob@example.test"), "allow\n");
    assert_eq!(Call::gate(ALICE, GERMAN).run(&sandbox).ran.status, Some(0));
    sandbox.wait(SIX_HOURS - 61);
    is_stopped(&sandbox.send(ALICE));
    sandbox.wait(1);
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert_eq!((blocks(&sandbox), notices(&sandbox)), (vec![], 1));
}

#[test]
fn a_release_works_at_once_with_the_whole_limit() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "5");
    sandbox.sends_freely(ALICE, 5);
    is_stopped(&sandbox.send(ALICE));
    sandbox.postern(&["blocks", "release", ALICE, "--reason", "password changed"]).succeeded();
    sandbox.sends_freely(ALICE, 5);
    is_stopped(&sandbox.send(ALICE));
    let trail = sandbox.api(&["list_audit"]).to_string();
    assert!(trail.contains("password changed"), "{trail}");
    assert!(sandbox.postern(&["blocks", "release", "bob@example.test"]).failed().contains("not blocked"));
}

#[test]
fn forty_processes_at_once_admit_exactly_150_of_400() {
    let sandbox = Sandbox::new();
    let (admitted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                for _ in 0..10 {
                    match sandbox.send(ALICE).split(' ').next().unwrap() {
                        "allow\n" => admitted.fetch_add(1, Ordering::Relaxed),
                        "defer" => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}"),
                    };
                }
            });
        }
    });
    assert_eq!((admitted.into_inner(), refused.into_inner()), (150, 250));
    assert_eq!(sandbox.in_state::<i64>("SELECT refused FROM stop"), 250);
    assert_eq!(notices(&sandbox), 1);
}

#[test]
fn a_whitelisted_account_sends_500_and_an_entry_lifts_a_stop() {
    let sandbox = Sandbox::new().whitelisted("example.test");
    sandbox.sends_freely(ALICE, 500);
    let sandbox = Sandbox::new().setting("rate_limit_messages", "5");
    sandbox.sends_freely(ALICE, 5);
    is_stopped(&sandbox.send(ALICE));
    let sandbox = sandbox.whitelisted(ALICE);
    assert_eq!(blocks(&sandbox), Vec::<String>::new());
    sandbox.sends_freely(ALICE, 10);
    sandbox.api(&["remove_whitelist", &format!("value={ALICE}")]);
    sandbox.sends_freely(ALICE, 5);
    is_stopped(&sandbox.send(ALICE));
}

#[test]
fn local_messages_over_the_limit_are_held_listed_and_counted_against_the_ceiling() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "3").setting("held_ceiling", "2");
    let send = |n: i64| sandbox.send_locally("webuser", 1000, &format!("1xW1Xt-0000gl-{n}R"));
    (1..=3).for_each(|n| assert_eq!(send(n), "allow\n"));
    for n in 4..=5 {
        let said = send(n);
        assert!(said.starts_with("hold ") && said.contains("stopped until"), "{said}");
    }
    let beyond = send(6);
    assert!(beyond.starts_with("deny 550 5.7.1 "), "{beyond}");
    let held = sandbox.api(&["list_held", "account=webuser"]);
    let names: Vec<_> = held.as_array().unwrap().iter().map(|h| h["message"].as_str().unwrap()).collect();
    assert_eq!(names, ["1xW1Xt-0000gl-4R", "1xW1Xt-0000gl-5R"]);
    let sandbox = sandbox.setting("local_over_limit", "refuse");
    let said = sandbox.send_locally("webuser", 1000, "1xW1Xt-0000gl-7R");
    assert!(said.starts_with("deny 550 5.7.1 "), "{said}");
}

#[test]
fn bounces_and_notices_pass_shared_users_are_told_about_and_an_empty_sender_is_no_escape() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "3");
    for n in 0..10 {
        assert_eq!(sandbox.send_locally("", EXIM, "1xW1Xt-0000gl-1R"), "allow\n", "bounce {n}");
        assert_eq!(sandbox.send_locally("postern", POSTERN, "1xW1Xt-0000gl-1R"), "allow\n", "notice {n}");
        assert_eq!(sandbox.send_locally("www-data", 33, "1xW1Xt-0000gl-1R"), "allow\n", "shared {n}");
        assert_eq!(sandbox.send(""), "allow\n", "inbound {n}");
    }
    assert_eq!((blocks(&sandbox), notices(&sandbox)), (vec![], 1));
    // An ordinary user without a login name is his number, and the sender that he claims is not asked for.
    let said: Vec<_> = (0..5).map(|_| sandbox.send_locally("", 1000, "1xW1Xt-0000gl-1R")).collect();
    assert!(said[..3].iter().all(|s| s == "allow\n") && said[3].starts_with("hold "), "{said:?}");
    assert_eq!(blocks(&sandbox), ["uid-1000"]);
}

#[test]
fn a_limiter_that_watches_lets_all_go_and_tells_once() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "3").setting("rate_limiter", "monitor");
    sandbox.sends_freely(ALICE, 20);
    assert_eq!((blocks(&sandbox), notices(&sandbox)), (vec![], 1));
    assert_eq!(sandbox.logged("event=would_refuse"), 1);
    let sandbox = sandbox.setting("rate_limiter", "off");
    sandbox.sends_freely("bob@example.test", 20);
    assert_eq!(notices(&sandbox), 1);
}

#[test]
fn the_administrator_is_told_by_the_local_sendmail_exactly_once() {
    let sandbox = Sandbox::new()
        .setting("rate_limit_messages", "3")
        .setting("administration_email_address", "admin@example.test");
    let (program, mails) = (sandbox.path("usr/sbin/sendmail"), sandbox.path("mails"));
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::create_dir(&mails).unwrap();
    sandbox.give(&mails, POSTERN);
    let script = format!(
        "#!/bin/sh\necho \"$(/usr/bin/id -u) $*\" > {0}/$$\nexec /bin/cat >> {0}/$$\n",
        mails.display()
    );
    sandbox.install(&program, &script);
    sandbox.sends_freely(ALICE, 3);
    (0..5).for_each(|_| is_stopped(&sandbox.send(ALICE)));
    for _ in 0..3 {
        sandbox.postern(&["tick"]).succeeded();
    }
    let sent: Vec<_> = std::fs::read_dir(&mails).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(sent.len(), 1);
    let mail = std::fs::read_to_string(&sent[0]).unwrap();
    assert!(mail.starts_with("61000 -oi -f <> -- admin@example.test\nTo: admin@example.test\n"), "{mail}");
    assert!(mail.contains(ALICE) && mail.contains("Reference "), "{mail}");
}

#[test]
fn a_notice_that_sendmail_does_not_take_waits_and_is_told() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "3");
    sandbox.sends_freely(ALICE, 3);
    is_stopped(&sandbox.send(ALICE));
    let said = sandbox.postern(&["tick", "--verbose"]).failed();
    assert!(said.contains("sendmail"), "{said}");
    sandbox.is_in_trouble("notice");
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM notice WHERE sent IS NULL AND tries = 1"), 1);
}
