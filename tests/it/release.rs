//! What follows a release: the account is watched, and where the administrator wants that, its password must be new.

use crate::sandbox::*;
use crate::scopes::{allowed, call_as, cpanel, refused};
use serde_json::Value;
use std::fs;

const ALICE: &str = "alice@ann.test";
const SIX_HOURS: i64 = 6 * 3600;

fn scene() -> Sandbox {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    cpanel(&sandbox);
    sandbox
}

#[track_caller]
fn stop(sandbox: &Sandbox, who: &str) {
    assert_eq!(sandbox.send(who), "allow\n");
    assert!(sandbox.send(who).starts_with("defer"));
}

fn release(sandbox: &Sandbox, more: &[&str]) -> Ran {
    sandbox.postern(&[&["blocks", "release", ALICE, "--reason", "talked"], more].concat())
}

/// How long the only stop lasts, and why it stands.
#[track_caller]
fn the_stop(sandbox: &Sandbox) -> (i64, String) {
    let blocks = sandbox.api(&["list_blocks"]);
    assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");
    let seconds = blocks[0]["until"].as_i64().unwrap() - blocks[0]["since"].as_i64().unwrap();
    (seconds, blocks[0]["why"].as_str().unwrap().to_owned())
}

fn watched(answer: &Value) -> Vec<String> {
    answer.as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn who_is_stopped_again_while_watched_is_stopped_for_twice_as_long_each_time() {
    let sandbox = scene();
    let mut lasts = Vec::new();
    for times in 0..7 {
        stop(&sandbox, ALICE);
        let (seconds, why) = the_stop(&sandbox);
        lasts.push(seconds);
        assert_eq!(why.contains("is watched"), times > 0, "{why}");
        assert_eq!(watched(&sandbox.api(&["list_watched"])), Vec::<String>::new(), "it is stopped");
        let said = release(&sandbox, &[]).succeeded();
        assert!(said.contains("It is watched until "), "{said}");
        assert_eq!(watched(&sandbox.api(&["list_watched"])), [ALICE]);
    }
    assert_eq!(lasts, [1, 2, 4, 8, 16, 28, 28].map(|n| n * SIX_HOURS), "up to a week");
    let rows = sandbox.api(&["list_watched"]);
    assert_eq!(
        (&rows[0]["released"], &rows[0]["until"]),
        (&7.into(), &(sandbox.now() + 86_400).into()),
        "{rows}"
    );
    let explained = || sandbox.api(&["explain", &format!("account={ALICE}"), &format!("address={GERMAN}")]);
    assert_eq!(explained()["watched_until"], sandbox.now() + 86_400);
    // A longer stop is no shorter for being asked again, and each was told.
    stop(&sandbox, ALICE);
    sandbox.wait(SIX_HOURS + 9);
    assert!(sandbox.send(ALICE).starts_with("defer"));
    assert_eq!(the_stop(&sandbox).0, 28 * SIX_HOURS);
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM notice WHERE kind = 'stopped'"), 8);
    release(&sandbox, &[]).succeeded();
    // Nobody else is concerned, and after the watch it is as at first.
    stop(&sandbox, "bob@ann.test");
    assert_eq!(the_stop(&sandbox).0, SIX_HOURS);
    sandbox.postern(&["blocks", "release", "bob@ann.test"]).succeeded();
    sandbox.wait(86_400);
    sandbox.postern(&["tick"]);
    assert_eq!(watched(&sandbox.api(&["list_watched"])), Vec::<String>::new());
    assert_eq!(explained()["watched_until"], Value::Null);
    stop(&sandbox, ALICE);
    assert_eq!(the_stop(&sandbox).0, SIX_HOURS);
}

#[test]
fn a_clock_that_is_set_back_stops_nobody_who_was_released() {
    let sandbox = scene();
    stop(&sandbox, ALICE);
    release(&sandbox, &[]).succeeded();
    sandbox.wait(-3600);
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert_eq!(sandbox.api(&["list_blocks"]), serde_json::json!([]));
    assert_eq!(watched(&sandbox.api(&["list_watched"])), [ALICE]);
}

#[test]
fn nobody_is_watched_where_that_is_set_to_no_time() {
    let sandbox = scene().setting("watch_after_release", "0");
    for _ in 0..2 {
        stop(&sandbox, ALICE);
        assert_eq!(the_stop(&sandbox).0, SIX_HOURS);
        let said = release(&sandbox, &[]).succeeded();
        assert!(!said.contains("watched"), "{said}");
        assert_eq!(watched(&sandbox.api(&["list_watched"])), Vec::<String>::new());
    }
}

#[test]
fn an_owner_sees_who_of_his_is_watched_and_nobody_else() {
    let sandbox = scene().setting("owner_release", "on");
    stop(&sandbox, ALICE);
    let value = format!("value={ALICE}");
    allowed(&call_as(&sandbox, "owner:ann", &["release_block", &value]), "release");
    assert_eq!(watched(&call_as(&sandbox, "owner:ann", &["list_watched"])["data"]), [ALICE]);
    assert_eq!(watched(&call_as(&sandbox, "owner:otto", &["list_watched"])["data"]), Vec::<String>::new());
}

/// Alice's line in the file where cPanel has the passwords of ann.test, changed so many days from now.
fn password_changed(sandbox: &Sandbox, days: i64) {
    let folder = sandbox.path("home/ann/etc/ann.test");
    fs::create_dir_all(&folder).unwrap();
    let users = format!(
        "{}\nann:x:1007:1007::/home/ann:/bin/bash\n",
        fs::read_to_string(sandbox.path("etc/passwd")).unwrap_or_default()
    );
    fs::write(sandbox.path("etc/passwd"), users).unwrap();
    let day = sandbox.now() / 86_400 + days;
    fs::write(folder.join("shadow"), format!("alice:$6$salt$hash:{day}::::::\n")).unwrap();
    fs::File::options()
        .write(true)
        .open(folder.join("shadow"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH)
        .unwrap();
}

#[test]
fn a_release_waits_for_a_new_password_where_the_administrator_wants_that() {
    let sandbox = scene().setting("release_needs_password_change", "on").setting("owner_release", "on");
    stop(&sandbox, ALICE);
    let unknown = release(&sandbox, &[]).failed().to_string();
    assert!(
        unknown.contains("It is not known whether the password of alice@ann.test was changed"),
        "{unknown}"
    );
    for days in [-1, 0] {
        password_changed(&sandbox, days);
        let refused = release(&sandbox, &[]).failed().to_string();
        assert!(
            refused.contains("was not changed since it was stopped") && refused.contains("--anyway"),
            "{refused}"
        );
    }
    let value = format!("value={ALICE}");
    for more in ["anyway=off", "anyway=on"] {
        refused(&call_as(&sandbox, "owner:ann", &["release_block", &value, more]), "only the administrator");
    }
    // A release of the whole domain is one of the mailbox, too.
    assert!(sandbox.postern(&["blocks", "release", "ann.test"]).failed().contains("was not changed"));
    assert_eq!(the_stop(&sandbox).0, SIX_HOURS);
    password_changed(&sandbox, 1);
    allowed(&call_as(&sandbox, "owner:ann", &["release_block", &value]), "it is a new one");
    stop(&sandbox, ALICE);
    password_changed(&sandbox, -1);
    let anyway = release(&sandbox, &["--anyway"]);
    assert!(anyway.err.contains("Released all the same."), "{anyway:?}");
    assert_eq!(sandbox.send(ALICE), "allow\n");
    // What the administrator blocked himself has nothing to do with a password.
    sandbox.api(&["add_block", "value=bob@ann.test"]);
    sandbox.postern(&["blocks", "release", "bob@ann.test"]).succeeded();
}
