//! The minute's work: one at a time, one part's trouble is not another's, nothing hangs, nothing piles up.

use crate::sandbox::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

const ALICE: &str = "alice@example.test";

const STATE: &str = "var/lib/postern/state";

/// A sendmail that runs this; gives the folder into which it may write.
fn sendmail(sandbox: &Sandbox, script: &str) -> PathBuf {
    let (program, mails) = (sandbox.path("usr/sbin/sendmail"), sandbox.path("mails"));
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let _ = fs::create_dir(&mails);
    sandbox.give(&mails, POSTERN);
    sandbox.install(&program, &format!("#!/bin/sh\ncd {}\n{script}\n", mails.display()));
    mails
}

/// A sandbox with a notice that waits.
fn with_a_notice() -> Sandbox {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "3");
    sandbox.sends_freely(ALICE, 3);
    assert!(sandbox.send(ALICE).starts_with("defer 451 "));
    sandbox
}

#[test]
fn ticks_at_once_send_a_notice_once() {
    let sandbox = with_a_notice();
    let mails = sendmail(&sandbox, "/bin/cat > /dev/null; /bin/sleep 0.2; echo x > $$");
    for round in 1..=3 {
        let command = || sandbox.program("postern", 0, &[]);
        let ticks: Vec<_> = (0..4)
            .map(|_| command().args(["tick", "--verbose"]).stdout(Stdio::piped()).spawn().unwrap())
            .collect();
        let said: Vec<_> = ticks.into_iter().map(|child| sandbox.finish(child).succeeded()).collect();
        assert_eq!(fs::read_dir(&mails).unwrap().count(), 1, "round {round}: {said:?}");
    }
}

#[test]
fn ticks_at_once_set_a_damaged_state_aside_once() {
    for round in 1..=5 {
        let sandbox = Sandbox::new();
        damage(&sandbox);
        // `init` knows nothing of the ticks' own lock.
        let init = ["init", "--user=61000:61000"];
        let words: [&[&str]; 6] = [&["tick"], &init, &["tick"], &init, &init, &["tick"]];
        let start = |words: &[&str]| {
            let mut command = sandbox.program("postern", 0, &[]);
            command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        };
        let all: Vec<_> = words.iter().map(|words| start(words)).collect();
        for child in all {
            sandbox.finish(child);
        }
        assert_eq!(aside(&sandbox).len(), 1, "round {round}");
        sandbox.postern(&["tick"]).succeeded();
    }
}

fn damage(sandbox: &Sandbox) {
    // Everything is in the file itself then, and nothing in the file beside it.
    sandbox.postern(&["tick"]);
    fs::write(sandbox.state(), b"garbage".repeat(3000)).unwrap();
}

fn aside(sandbox: &Sandbox) -> Vec<String> {
    let names =
        fs::read_dir(sandbox.path(STATE)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut broken: Vec<_> = names.filter(|n| n.starts_with("broken-")).collect();
    broken.sort();
    broken
}

#[test]
fn the_newest_three_states_that_were_set_aside_are_kept() {
    let sandbox = Sandbox::new();
    let precious = sandbox.path("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("state.db"), "precious").unwrap();
    sandbox.give(&precious, POSTERN);
    sandbox.give(&precious.join("state.db"), POSTERN);
    let mut seen = Vec::new();
    for _ in 0..6 {
        damage(&sandbox);
        sandbox.wait(60).postern(&["tick"]).succeeded();
        seen = aside(&sandbox);
        assert!(seen.len() <= 3, "{seen:?}");
    }
    // Neither links nor what others made counts, and nothing in them is touched.
    for name in ["broken-0", "broken-9999999999-ffff"] {
        symlink(&precious, sandbox.path(STATE).join(name)).unwrap();
    }
    let foreign = sandbox.path(STATE).join("broken-1");
    fs::create_dir_all(foreign.join("state.db")).unwrap();
    sandbox.give(&foreign, EXIM);
    sandbox.postern(&["tick"]).succeeded();
    assert_eq!(fs::read(precious.join("state.db")).unwrap(), b"precious");
    let left = aside(&sandbox);
    assert!(seen.iter().all(|name| left.contains(name)), "{seen:?} {left:?}");
    assert!(foreign.join("state.db").is_dir());
}

#[test]
fn what_is_no_tally_is_moved_away_once_and_keeps_nothing_from_being_folded() {
    let sandbox = Sandbox::new();
    let tally = sandbox.path(STATE).join("tally");
    sandbox.mail(ALICE, GERMAN);
    fs::create_dir_all(tally.join("fold-0/with something")).unwrap();
    let said = sandbox.postern(&["tick", "--verbose"]).succeeded();
    assert!(said.contains("fold-0 is no tally"), "{said}");
    assert_eq!(sandbox.in_state::<i64>("SELECT sum(succeeded) FROM account_day"), 1);
    assert_eq!(sandbox.postern(&["tick", "--verbose"]).succeeded(), "");
    let names: Vec<_> = fs::read_dir(&tally).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.len() == 1 && names[0].to_str().unwrap().starts_with("in-the-way-"), "{names:?}");
}

#[test]
fn a_folder_in_place_of_the_intent_does_not_keep_a_damaged_state_for_ever() {
    let sandbox = Sandbox::new();
    let intent = sandbox.path(STATE).join("state.intent");
    fs::create_dir_all(intent.join("with something")).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    fs::File::open(&intent).unwrap().set_modified(long_ago).unwrap();
    damage(&sandbox);
    assert!(sandbox.postern(&["tick", "--verbose"]).succeeded().contains("was set aside as "));
    sandbox.sends_freely(ALICE, 1);
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM sender"), 1);
}

#[test]
fn a_sendmail_that_hangs_is_ended_and_the_notice_waits() {
    let sandbox = with_a_notice();
    let mails = sendmail(&sandbox, "echo $$ > hangs; exec /bin/sleep 600");
    let begun = Instant::now();
    let said = sandbox.postern(&["tick", "--verbose"]).failed();
    assert!(said.contains("within 30 seconds") && begun.elapsed() < Duration::from_secs(60), "{said}");
    let hanging = fs::read_to_string(mails.join("hangs")).unwrap();
    assert!(!Path::new("/proc").join(hanging.trim()).exists());
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM notice WHERE sent IS NULL AND tries = 1"), 1);
    sandbox.is_in_trouble("notice");
    sendmail(&sandbox, "/bin/cat > mail");
    sandbox.postern(&["tick"]).succeeded();
    assert!(fs::read_to_string(mails.join("mail")).unwrap().contains(ALICE));
}

#[test]
fn a_tick_whose_part_fails_says_nothing_unless_asked_and_ends_with_1() {
    let sandbox = with_a_notice();
    sandbox.mail(ALICE, GERMAN);
    sandbox.log();
    let words = |words: &[&str]| {
        let ran = sandbox.postern(words);
        (ran.status, ran.out, ran.err)
    };
    // There is no sendmail.
    for _ in 0..3 {
        assert_eq!(words(&["tick"]), (Some(1), String::new(), String::new()));
    }
    assert_eq!(sandbox.logged("code=tick-failed "), 1, "in the log once an hour");
    sandbox.is_in_trouble("tick-failed");
    let sent = "SELECT sum(n) FROM traffic_hour WHERE verdict = 'sent'";
    assert_eq!(sandbox.in_state::<i64>(sent), 3, "the other parts are done");
    let (status, _, err) = words(&["tick", "--verbose"]);
    assert!(status == Some(1) && err.contains("sendmail"), "{err}");
    let answer = sandbox.postern(&["api", "tick"]).json();
    assert_eq!((&answer["status"], &answer["metadata"]["code"]), (&0.into(), &"incomplete".into()));
    sendmail(&sandbox, "/bin/cat > mail");
    assert_eq!(words(&["tick"]), (Some(0), String::new(), String::new()));
}

#[test]
fn a_flood_of_stops_holds_up_no_tick_and_the_whitelist_still_lifts_one() {
    let sandbox = with_a_notice();
    sendmail(&sandbox, "/bin/cat > mail");
    let mut db = rusqlite::Connection::open(sandbox.state()).unwrap();
    let t = db.transaction().unwrap();
    let sql = "INSERT INTO stop VALUES (?1, 1, 99999999999, '', '', '', 1, 1)";
    for n in 0..20_000 {
        t.execute(sql, [format!("user{n}@example.test")]).unwrap();
    }
    t.commit().unwrap();
    drop(db);
    // As where the stop could not be lifted when the entry was saved.
    fs::rename(sandbox.state(), sandbox.path(STATE).join("away")).unwrap();
    let sandbox = sandbox.whitelisted(ALICE);
    fs::rename(sandbox.path(STATE).join("away"), sandbox.state()).unwrap();
    let begun = Instant::now();
    let said = sandbox.postern(&["tick", "--verbose"]).succeeded();
    assert!(said.contains("1 stops were lifted") && begun.elapsed() < Duration::from_secs(15), "{said}");
}

#[test]
fn a_tick_forgets_what_ended_long_ago_and_old_changes_and_undoing_them_says_so() {
    let sandbox = Sandbox::new().setting("keep_trail_days", "30");
    sandbox.postern(&["allowances", "add", "alice@example.test", "BR", "--until", "2d"]).succeeded();
    sandbox.postern(&["whitelist", "add", "news@example.test", "--until", "2d"]).succeeded();
    let ended = sandbox.api(&["get_settings"])["generation"].as_i64().unwrap();
    for value in ["200", "300", "400"] {
        sandbox.postern(&["settings", "set", "held_ceiling", value]).succeeded();
    }
    let policy = std::fs::read(sandbox.path("var/lib/postern/policy.db")).unwrap();
    sandbox.wait(91 * 86_400);
    assert_eq!(sandbox.api(&["list_whitelist"]).as_array().unwrap().len(), 1);
    sandbox.wait(86_400 * 2).postern(&["tick"]);
    assert_eq!(sandbox.api(&["list_whitelist"]), serde_json::json!([]));
    assert_eq!(sandbox.api(&["list_allowances"]), serde_json::json!([]));
    assert_eq!(sandbox.api(&["get_settings"])["generation"], ended + 3, "it is no change");
    assert_eq!(std::fs::read(sandbox.path("var/lib/postern/policy.db")).unwrap(), policy);
    assert!(sandbox.logged("1%20entries%20and%201%20allowances") == 1, "{:?}", sandbox.log());
    let said = sandbox.postern(&["undo", &ended.to_string()]).failed();
    assert!(said.contains("has ended") && said.contains("keep_ended_days"), "{said}");
    // The latest thousand changes stay, however old they are.
    assert!(sandbox.api(&["list_audit"]).as_array().unwrap().len() >= 6);
    sandbox.postern(&["undo"]).succeeded();
    for (key, bad) in [("keep_trail_days", "0"), ("keep_ended_days", "0")] {
        assert!(sandbox.postern(&["settings", "set", key, bad]).failed().contains("accepted"));
    }
}
