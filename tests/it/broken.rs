//! Files that are locked, damaged, missing, denied, full or too new: mail goes on, decisions whose facts are
//! there still hold, log and `postern status` say what is wrong, and nothing of the old state is lost.

use crate::sandbox::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const ALICE: &str = "alice@example.test";

/// A server whose limit is small and whose country rule is enforced.
fn guarded() -> Sandbox {
    Sandbox::new().countries("DE").setting("rate_limit_messages", "3").blocked("blocked@example.test")
}

/// What must hold without the state: refusals from policy and network data, at every door.
#[track_caller]
fn decides_without_the_state(sandbox: &Sandbox) {
    assert!(sandbox.auth(AMERICAN).starts_with("deny 535 5.7.8 "));
    assert!(sandbox.mail(ALICE, AMERICAN).starts_with("deny 550 5.7.1 "));
    assert_eq!(sandbox.mail(ALICE, GERMAN), "allow\n");
    assert_eq!(Call::gate(ALICE, AMERICAN).run(sandbox).ran.status, Some(1));
    assert_eq!(Call::gate(ALICE, GERMAN).run(sandbox).ran.status, Some(0));
    assert!(sandbox.send("blocked@example.test").starts_with("deny 550 5.7.1 "));
}

/// Mail goes on uncounted, the trouble is logged once, and `status` tells of it.
#[track_caller]
fn mail_goes_on(sandbox: &Sandbox, trouble: &str) {
    sandbox.log();
    sandbox.sends_freely(ALICE, 5);
    assert!(sandbox.send_locally("webuser", 1000, "1xW1Xt-0000gl-1R") == "allow\n");
    decides_without_the_state(sandbox);
    let log = sandbox.log();
    let lines = log.iter().filter(|l| l.contains(&format!("event=trouble code={trouble} "))).count();
    assert_eq!(lines, 1, "{log:#?}");
    sandbox.is_in_trouble(trouble);
}

/// The limiter counts, from nothing.
#[track_caller]
fn counts_again(sandbox: &Sandbox) {
    sandbox.sends_freely("carol@example.test", 3);
    assert!(sandbox.send("carol@example.test").starts_with("defer 451 "));
    sandbox.postern(&["blocks", "release", "carol@example.test"]).succeeded();
}

fn folders_aside(sandbox: &Sandbox) -> Vec<PathBuf> {
    let entries = fs::read_dir(sandbox.path("var/lib/postern/state")).unwrap().map(|e| e.unwrap().path());
    entries.filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("broken-")).collect()
}

/// `tick` sets the state aside and tells so once; gives the old file.
#[track_caller]
fn is_set_aside(sandbox: &Sandbox) -> PathBuf {
    let told = sandbox.postern(&["tick", "--verbose"]).succeeded();
    assert!(told.contains("was set aside as "), "{told}");
    assert!(!sandbox.postern(&["tick", "--verbose"]).succeeded().contains("set aside"));
    let folders = folders_aside(sandbox);
    assert_eq!(folders.len(), 1);
    folders[0].join("state.db")
}

#[test]
fn a_state_that_another_writes_to_for_long() {
    let sandbox = guarded();
    sandbox.sends_freely(ALICE, 2);
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    mail_goes_on(&sandbox, "state-locked");
    db.execute_batch("ROLLBACK").unwrap();
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert!(sandbox.send(ALICE).starts_with("defer 451 "));
}

#[test]
fn a_state_that_somebody_replaces() {
    let sandbox = guarded();
    let lock = fs::File::open(sandbox.path("var/lib/postern/state/state.lock")).unwrap();
    lock.lock().unwrap();
    mail_goes_on(&sandbox, "state-locked");
    drop(lock);
    counts_again(&sandbox);
    fs::write(sandbox.path("var/lib/postern/state/state.intent"), "").unwrap();
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert_eq!(sandbox.in_state::<i64>(&format!("SELECT count(*) FROM sender WHERE account = '{ALICE}'")), 0);
}

#[test]
fn a_state_of_garbage() {
    for garbage in [b"garbage".repeat(3000), vec![0; 40_000], b"SQLite format 3\0".repeat(100)] {
        let sandbox = guarded();
        sandbox.sends_freely(ALICE, 2);
        // Everything is in the file itself then, and nothing in the file beside it.
        sandbox.postern(&["tick"]).succeeded();
        fs::write(sandbox.state(), &garbage).unwrap();
        mail_goes_on(&sandbox, "state-broken");
        assert_eq!(fs::read(is_set_aside(&sandbox)).unwrap(), garbage);
        counts_again(&sandbox);
    }
}

#[test]
fn a_state_that_was_cut_or_has_a_damaged_page() {
    let damages: [fn(&Path); 2] = [
        |path| fs::File::options().write(true).open(path).unwrap().set_len(5000).unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[4096 * 2..4096 * 9].fill(0x5a);
            fs::write(path, bytes).unwrap();
        },
    ];
    for damage in damages {
        let sandbox = guarded();
        sandbox.sends_freely(ALICE, 2);
        sandbox.postern(&["tick"]).succeeded();
        damage(&sandbox.state());
        let damaged = fs::read(sandbox.state()).unwrap();
        // Whether a hook meets the damage depends on where it is; mail goes on either way.
        sandbox.sends_freely("bob@example.test", 1);
        decides_without_the_state(&sandbox);
        sandbox.wait(86_400);
        assert_eq!(fs::read(is_set_aside(&sandbox)).unwrap().len(), damaged.len());
        counts_again(&sandbox);
    }
}

#[test]
fn a_state_that_was_deleted_mid_run() {
    for side_files in [false, true] {
        let sandbox = guarded();
        sandbox.sends_freely(ALICE, 2);
        fs::remove_file(sandbox.state()).unwrap();
        if side_files {
            for side in ["state.db-wal", "state.db-shm"] {
                let _ = fs::remove_file(sandbox.path("var/lib/postern/state").join(side));
            }
        }
        mail_goes_on(&sandbox, "state-missing");
        assert!(sandbox.postern(&["tick", "--verbose"]).succeeded().contains("A new state was begun"));
        assert_eq!((owner_of(&sandbox.state()), mode_of(&sandbox.state())), ((POSTERN, POSTERN), 0o660));
        counts_again(&sandbox);
    }
}

#[test]
fn a_state_that_is_empty() {
    let sandbox = guarded();
    for side in ["state.db-wal", "state.db-shm"] {
        let _ = fs::remove_file(sandbox.path("var/lib/postern/state").join(side));
    }
    fs::write(sandbox.state(), "").unwrap();
    mail_goes_on(&sandbox, "state-broken");
    sandbox.postern(&["tick"]).succeeded();
    counts_again(&sandbox);
}

#[test]
fn a_state_of_another_owner_or_mode() {
    for (owner, mode) in [(0, 0o600), (THIEF, 0o600), (POSTERN, 0)] {
        let sandbox = guarded();
        sandbox.sends_freely(ALICE, 2);
        sandbox.give(&sandbox.state(), owner);
        fs::set_permissions(sandbox.state(), fs::Permissions::from_mode(mode)).unwrap();
        mail_goes_on(&sandbox, "state-denied");
        let aside = is_set_aside(&sandbox);
        assert_eq!(owner_of(&aside).0, owner);
        counts_again(&sandbox);
    }
}

#[test]
fn a_state_on_a_disk_that_can_only_be_read() {
    let sandbox = guarded();
    sandbox.sends_freely(ALICE, 2);
    let mounted = Mounted::read_only(&sandbox.path("var/lib/postern/state"));
    mail_goes_on(&sandbox, "state-denied");
    sandbox.is_in_trouble("tally");
    let told = sandbox.postern(&["tick", "--verbose"]).failed();
    assert!(told.contains("cannot be worked on"), "{told}");
    drop(mounted);
    // Nothing was lost: the two from before still count.
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert!(sandbox.send(ALICE).starts_with("defer 451 "));
}

#[test]
fn a_state_on_a_disk_that_is_full() {
    let sandbox = guarded();
    let folder = sandbox.path("var/lib/postern/state");
    let _mounted = Mounted::small(&folder, "2m");
    sandbox.postern(&["init", "--user=61000:61000"]).succeeded();
    sandbox.sends_freely(ALICE, 2);
    let filler = folder.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    let told = |sandbox: &Sandbox| {
        ["state-full", "state-denied"].iter().any(|part| sandbox.status_of(part).is_some())
    };
    for n in 0..20 {
        let account = format!("user{n}@example.test");
        for _ in 0..5 {
            let said = sandbox.send(&account);
            assert!(said == "allow\n" || said.starts_with("defer 451 "), "{said}");
        }
    }
    decides_without_the_state(&sandbox);
    for n in 0..300 {
        sandbox.mail(&format!("user{n}@example.test"), AMERICAN);
        if told(&sandbox) {
            break;
        }
    }
    assert!(told(&sandbox), "{}", sandbox.api(&["status"]));
    drop(file);
    fs::remove_file(&filler).unwrap();
    counts_again(&sandbox);
    assert_eq!(sandbox.send(ALICE), "allow\n");
}

#[test]
fn a_state_of_a_newer_version_is_left_alone() {
    let sandbox = guarded();
    sandbox.sends_freely(ALICE, 2);
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    db.execute_batch("UPDATE meta SET value = 99 WHERE key = 'min_version'; PRAGMA user_version = 99;")
        .unwrap();
    drop(db);
    mail_goes_on(&sandbox, "state-newer");
    let told = sandbox.postern(&["tick", "--verbose"]).failed();
    assert!(told.contains("newer Postern"), "{told}");
    assert!(folders_aside(&sandbox).is_empty());
    assert_eq!(sandbox.in_state::<i64>("SELECT value FROM meta WHERE key = 'min_version'"), 99);
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM sender"), 1);
}

#[test]
fn a_folder_of_the_state_that_is_gone() {
    let sandbox = guarded();
    fs::remove_dir_all(sandbox.path("var/lib/postern/state")).unwrap();
    sandbox.sends_freely(ALICE, 5);
    decides_without_the_state(&sandbox);
    sandbox.is_in_trouble("state");
    let told = sandbox.postern(&["tick", "--verbose"]).failed();
    assert!(told.contains("is missing") && told.contains("postern init"), "{told}");
    sandbox.postern(&["init", "--user=61000:61000"]).succeeded();
    counts_again(&sandbox);
}

#[test]
fn a_policy_that_is_missing_or_garbage() {
    let damages: [fn(&Path); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::write(path, b"garbage".repeat(3000)).unwrap(),
        |path| fs::File::options().write(true).open(path).unwrap().set_len(3000).unwrap(),
    ];
    for damage in damages {
        let sandbox = guarded();
        damage(&sandbox.path("var/lib/postern/policy.db"));
        sandbox.log();
        assert_eq!(sandbox.auth(AMERICAN), "undecided\n");
        assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
        sandbox.sends_freely(ALICE, 5);
        assert_eq!(Call::gate(ALICE, AMERICAN).run(&sandbox).said(), (Some(0), "noauthenticate=y\t"));
        assert_eq!(sandbox.logged("event=trouble code=policy "), 1);
        sandbox.is_in_trouble("policy");
        assert!(sandbox.postern(&["tick", "--verbose"]).succeeded().contains("published anew"));
        decides_without_the_state(&sandbox);
        counts_again(&sandbox);
    }
}

#[test]
fn a_policy_that_a_mail_user_may_not_read() {
    let sandbox = guarded();
    fs::set_permissions(sandbox.path("var/lib/postern/policy.db"), fs::Permissions::from_mode(0o600))
        .unwrap();
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    assert_eq!(sandbox.logged("event=trouble code=policy "), 1);
}

#[test]
fn network_data_that_are_missing_or_garbage() {
    let damages: [fn(&Path); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| fs::write(path, b"garbage".repeat(3000)).unwrap(),
        |path| fs::set_permissions(path, fs::Permissions::from_mode(0o0)).unwrap(),
    ];
    for damage in damages {
        let sandbox = guarded().blocked("203.0.113.0/24").exempt_ip("198.51.100.8");
        damage(&sandbox.path("var/lib/postern/data/networks.mmdb"));
        sandbox.log();
        // The country rule abstains.
        assert_eq!(
            (sandbox.auth(AMERICAN), sandbox.mail(ALICE, AMERICAN)),
            ("undecided\n".into(), "allow\n".into())
        );
        assert_eq!(Call::gate(ALICE, AMERICAN).run(&sandbox).ran.status, Some(0));
        // The others decide.
        assert!(sandbox.auth(FRENCH).starts_with("deny 535 5.7.8 Logins from this address"));
        assert!(sandbox.mail("blocked@example.test", GERMAN).starts_with("deny 550 "));
        counts_again(&sandbox);
        assert_eq!(sandbox.logged("event=trouble code=networks "), 1);
        sandbox.is_in_trouble("networks");
    }
}

#[test]
fn settings_that_are_gone_or_garbage_leave_the_published_policy_in_force() {
    let damages: [fn(&Path); 2] =
        [|path| fs::remove_file(path).unwrap(), |path| fs::write(path, b"garbage".repeat(3000)).unwrap()];
    for damage in damages {
        let sandbox = guarded();
        damage(&sandbox.path("var/lib/postern/settings.db"));
        decides_without_the_state(&sandbox);
        counts_again_without_release(&sandbox);
        sandbox.is_in_trouble("settings");
        // The rest of the minute's work is done all the same.
        sandbox.postern(&["tick"]);
        assert!(!sandbox.path("var/lib/postern/state/tally/current").exists());
        assert!(sandbox.auth(AMERICAN).starts_with("deny "));
    }
}

#[track_caller]
fn counts_again_without_release(sandbox: &Sandbox) {
    sandbox.sends_freely("dora@example.test", 3);
    assert!(sandbox.send("dora@example.test").starts_with("defer 451 "));
}

#[test]
fn a_tally_that_cannot_be_written() {
    let sandbox = guarded();
    let tally = sandbox.path("var/lib/postern/state/tally");
    let _ = fs::remove_file(tally.join("current"));
    fs::create_dir(tally.join("current")).unwrap();
    sandbox.log();
    assert_eq!(sandbox.mail(ALICE, GERMAN), "allow\n");
    counts_again(&sandbox);
    decides_without_the_state(&sandbox);
    assert_eq!(sandbox.logged("event=trouble code=tally "), 1);
    sandbox.is_in_trouble("tally");
    // The folder is moved out of the way at the next tick.
    sandbox.postern(&["tick"]);
    assert_eq!(sandbox.mail(ALICE, GERMAN), "allow\n");
    assert!(tally.join("current").is_file());
}

#[test]
fn a_log_that_is_away_or_full() {
    let sandbox = guarded();
    // Nobody reads: the socket fills up.
    for _ in 0..400 {
        assert!(sandbox.auth(AMERICAN).starts_with("deny "));
    }
    fs::remove_file(sandbox.path("dev/log")).unwrap();
    decides_without_the_state(&sandbox);
    assert_eq!(sandbox.exim(&["--fault=panic"], &["auth", "--address=192.0.2.7"]), "open way-out\n");
}

#[test]
fn a_server_where_nothing_was_set_up_yet() {
    let sandbox = Sandbox::bare();
    assert_eq!(sandbox.auth(AMERICAN), "undecided\n");
    assert_eq!(sandbox.mail(ALICE, AMERICAN), "allow\n");
    sandbox.sends_freely(ALICE, 3);
    assert_eq!(Call::gate(ALICE, AMERICAN).run(&sandbox).said(), (Some(0), "noauthenticate=y\t"));
    let said = sandbox.postern(&["settings", "list"]).failed();
    assert!(said.contains("postern init"), "{said}");
    assert!(sandbox.postern(&["status"]).out.contains("TROUBLE"));
}
