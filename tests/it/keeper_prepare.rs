//! `postern keeper --prepare`, root's part before the keeper, where a disk is full or can only be read: it goes on,
//! or fails with a sentence that says why. Mail goes on and counts all the same, and the next try puts all right.

use crate::sandbox::{AMERICAN, EXIM, GERMAN, Keeper, Mounted, Sandbox, eventually, mode_of, owner_of};
use std::fs;
use std::path::Path;

const ALICE: &str = "alice@example.test";

/// Logins from Germany alone, and two messages.
fn guarded() -> Sandbox {
    Sandbox::new().countries("DE").setting("rate_limit_messages", "2")
}

/// Exim starts hooks where no keeper answers.
#[track_caller]
fn hooks_decide_and_count(sandbox: &Sandbox, account: &str) {
    let address = format!("--address={AMERICAN}");
    assert!(sandbox.exim(&[], &["auth", "--after-socket", &address]).starts_with("deny "));
    for n in 1..=3 {
        let mut words = Sandbox::message(account).to_vec();
        words.insert(1, "--after-socket".into());
        let said = sandbox.exim(&[], &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(said == "allow\n", n <= 2, "message {n}: {said}");
    }
}

fn send(keeper: &Keeper, account: &str) -> String {
    let message = ["data", GERMAN, account, "", "", "1", "1xW1Xt-0000gl-1R"];
    keeper.ask(EXIM, "send", &message).unwrap()
}

/// All is made, and the keeper answers Exim's user, who was stopped by the hooks.
#[track_caller]
fn then_all_is_right(sandbox: &Sandbox, account: &str) {
    assert_eq!(sandbox.postern(&["keeper", "--prepare"]).succeeded(), "");
    let sockets = sandbox.path("run/postern/sockets");
    assert_eq!((owner_of(&sockets), mode_of(&sockets) & 0o777), ((61000, 61000), 0o750));
    assert_eq!(mode_of(&sandbox.path("run/postern/trouble")), 0o2770);
    let keeper = sandbox.keeper(&[]);
    assert!(keeper.ask(EXIM, "auth", &[AMERICAN]).unwrap().starts_with("deny "));
    assert!(send(&keeper, account).starts_with("defer "), "what was counted counts");
    keeper.end();
    eventually("it has gone", || !sockets.join("exim").exists());
}

#[test]
fn run_can_only_be_read() {
    let sandbox = guarded();
    for (is_made, failed_to) in [(true, "give away"), (false, "make")] {
        if !is_made {
            fs::remove_dir_all(sandbox.path("run/postern")).unwrap();
        }
        let mounted = Mounted::read_only(&sandbox.path("run"));
        let said = sandbox.postern(&["keeper", "--prepare"]).failed();
        let folder = sandbox.path("run/postern");
        let expected = format!("Could not {failed_to} {}: Read-only file system", folder.display());
        assert!(said.starts_with(&expected), "{said}");
        let account = format!("{failed_to}@example.test").replace(' ', "-");
        hooks_decide_and_count(&sandbox, &account);
        drop(mounted);
        then_all_is_right(&sandbox, &account);
    }
}

#[test]
fn run_is_full_at_any_point() {
    let sandbox = guarded();
    let run = sandbox.path("run");
    let mut failures = 0;
    // One file is the folder itself; each that is made takes one more.
    for files in 1..=5 {
        let mounted = Mounted::tmpfs(&run, &format!("mode=755,nr_inodes={files}"));
        let ran = sandbox.postern(&["keeper", "--prepare"]);
        if ran.status != Some(0) {
            let said = ran.failed();
            assert!(said.starts_with("Could not make ") && said.contains("No space left"), "{files}: {said}");
            failures += 1;
        }
        let account = format!("user{files}@example.test");
        hooks_decide_and_count(&sandbox, &account);
        mounted.remount("mode=755,nr_inodes=100");
        then_all_is_right(&sandbox, &account);
    }
    assert_eq!(failures, 3, "the folder, and two in it");
}

/// A disk of its own for settings, policy and state, and nothing in `/run`, as after a start of the machine.
fn on_small_disk(sandbox: &Sandbox) -> Mounted {
    fs::create_dir_all(sandbox.path("before")).unwrap();
    let lib = sandbox.path("var/lib/postern");
    let mounted = Mounted::copied(&lib, &sandbox.path("before"), "size=2m,mode=755");
    fs::remove_dir_all(sandbox.path("run/postern")).unwrap();
    mounted
}

fn fill(folder: &Path) {
    assert!(fs::write(folder.join("fill"), vec![0; 3 << 20]).is_err(), "it is full");
}

#[test]
fn a_full_disk_keeps_the_keeper_from_nothing_that_needs_no_room() {
    let sandbox = guarded();
    let _mounted = on_small_disk(&sandbox);
    fill(&sandbox.path("var/lib/postern"));
    assert_eq!(sandbox.postern(&["keeper", "--prepare"]).succeeded(), "");
    let keeper = sandbox.keeper(&[]);
    assert!(keeper.ask(EXIM, "auth", &[AMERICAN]).unwrap().starts_with("deny "));
    assert_eq!(send(&keeper, ALICE), "allow\n");
}

#[test]
fn a_policy_that_cannot_be_published_on_a_full_disk_leaves_the_one_from_before() {
    let sandbox = guarded();
    let _mounted = on_small_disk(&sandbox);
    let lib = sandbox.path("var/lib/postern");
    // Changed, and not published: that change was told as failed.
    let settings = rusqlite::Connection::open(lib.join("settings.db")).unwrap();
    settings.execute_batch("UPDATE meta SET value = value + 1 WHERE key = 'generation'").unwrap();
    drop(settings);
    let before = fs::read(lib.join("policy.db")).unwrap();
    fill(&lib);
    let ran = sandbox.postern(&["keeper", "--prepare"]);
    assert!(
        ran.err.contains("policy.db: database or disk is full. The keeper begins all the same."),
        "{ran:?}"
    );
    assert_eq!((ran.status, ran.out.as_str()), (Some(0), ""));
    assert_eq!(sandbox.logged("event=trouble code=keeper"), 1);
    assert_eq!(fs::read(lib.join("policy.db")).unwrap(), before);
    assert!(!lib.join("policy.new").exists());
    let keeper = sandbox.keeper(&[]);
    assert!(keeper.ask(EXIM, "auth", &[AMERICAN]).unwrap().starts_with("deny "));

    fs::remove_file(lib.join("fill")).unwrap();
    sandbox.postern(&["tick"]).succeeded();
    assert_ne!(fs::read(lib.join("policy.db")).unwrap(), before, "with room the tick publishes");
    assert!(keeper.ask(EXIM, "auth", &[AMERICAN]).unwrap().starts_with("deny "));
    for n in 1..=3 {
        assert_eq!(send(&keeper, ALICE) == "allow\n", n <= 2, "message {n}");
    }
}

#[test]
fn without_any_policy_and_room_for_one_the_keeper_lets_all_go_on_until_there_is_room() {
    let sandbox = guarded();
    let _mounted = on_small_disk(&sandbox);
    let lib = sandbox.path("var/lib/postern");
    fs::remove_file(lib.join("policy.db")).unwrap();
    fill(&lib);
    let ran = sandbox.postern(&["keeper", "--prepare"]);
    assert!(ran.status == Some(0) && ran.err.contains("disk is full"), "{ran:?}");
    let keeper = sandbox.keeper(&[]);
    let as_root = |verb: &str, fields: &[&str]| keeper.ask(0, verb, fields).unwrap();
    // Nobody knows whom to admit, or what is allowed.
    assert_eq!(as_root("auth", &[AMERICAN]), sandbox.auth(AMERICAN));
    assert!(!as_root("auth", &[AMERICAN]).starts_with("deny"));
    fs::remove_file(lib.join("fill")).unwrap();
    sandbox.postern(&["tick"]).succeeded();
    assert!(keeper.ask(EXIM, "auth", &[AMERICAN]).unwrap().starts_with("deny "));
}

#[test]
fn a_folder_for_postfix_that_cannot_be_made_keeps_nobody_else_from_being_answered() {
    let sandbox = guarded().setting("postfix_folder", "/var/spool/postfix/postern");
    let spool = sandbox.path("var/spool/postfix");
    fs::create_dir_all(&spool).unwrap();
    let _mounted = Mounted::read_only(&spool);
    let ran = sandbox.postern(&["keeper", "--prepare"]);
    assert!(ran.status == Some(0) && ran.err.contains("Read-only file system"), "{ran:?}");
    let keeper = sandbox.keeper(&[]);
    assert!(keeper.ask(EXIM, "auth", &[AMERICAN]).unwrap().starts_with("deny "));
    let status = sandbox.api(&["status"]).to_string();
    assert!(status.contains("The keeper could not listen where it should"), "{status}");
}

#[test]
fn the_tick_publishes_the_policy_although_run_is_full() {
    let sandbox = guarded();
    let policy = sandbox.path("var/lib/postern/policy.db");
    fs::remove_file(&policy).unwrap();
    // Room for the folder itself, Postern's own and the lock of the tick.
    let _mounted = Mounted::tmpfs(&sandbox.path("run"), "mode=755,nr_inodes=3");
    let said = sandbox.postern(&["tick", "--verbose"]).failed();
    assert!(said.contains("No space left"), "{said}");
    assert!(policy.exists(), "{said}");
    assert!(sandbox.auth(AMERICAN).starts_with("deny "));
}
