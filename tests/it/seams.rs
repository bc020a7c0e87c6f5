//! The seams for tests are not for programs that run with rights which their caller does not have.

use crate::sandbox::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A copy of the program that runs with its owner's rights.
fn set_user_id_copy(sandbox: &Sandbox, name: &str) -> std::path::PathBuf {
    let copy = sandbox.path(&format!("set-user-id-{name}"));
    sandbox.copy_program(&sandbox.path("bin").join(name), &copy);
    sandbox.give(&copy, POSTERN);
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    copy
}

fn ask(sandbox: &Sandbox, name: &str, words: &[&str]) -> Ran {
    let copy = sandbox.path(&format!("set-user-id-{name}"));
    let copy = if copy.exists() { copy } else { set_user_id_copy(sandbox, name) };
    let mut command = Command::new(copy);
    command.args(words);
    sandbox.run_as(&mut command, THIEF)
}

#[test]
fn no_seam_is_taken_with_borrowed_authority() {
    let sandbox = Sandbox::new().countries("DE");
    let root = format!("--root={}", sandbox.root().display());
    sandbox.log();
    for seam in [root.as_str(), "--now=+9", "--fault=panic"] {
        let said = ask(&sandbox, "postern-exim", &[seam, "auth", "--address=198.51.100.9"]).succeeded();
        assert!(
            said.starts_with("open ") && said.contains("not for programs with borrowed authority"),
            "{said}"
        );
        let gate = ask(&sandbox, "postern-dovecot", &[seam, "gate", "reply"]);
        assert_eq!((gate.status, gate.out.as_str()), (Some(111), ""), "{seam}");
    }
    for seam in [root.as_str(), "--now=+9"] {
        let said = ask(&sandbox, "postern", &[seam, "settings", "list"]).failed();
        assert!(said.contains("borrowed authority"), "{said}");
    }
    assert_eq!(sandbox.log(), Vec::<String>::new());
}

#[test]
fn who_has_rights_of_his_own_may_use_them_and_gains_nothing() {
    let sandbox = Sandbox::new().countries("DE");
    // A thief may ask as he likes; he just cannot read the policy or touch the state.
    let said = sandbox.exim_as(THIEF, &[], &["auth", "--address=198.51.100.9"]);
    assert_eq!(said, "undecided\n");
    for file in ["var/lib/postern/settings.db", "var/lib/postern/policy.db", "var/lib/postern/state"] {
        let mut command = Command::new("/bin/cat");
        command.arg(sandbox.path(file));
        let ran = sandbox.run_as(&mut command, THIEF);
        assert!(ran.status != Some(0) && ran.err.contains("Permission denied"), "{file}: {ran:?}");
    }
    for user in [THIEF, EXIM, DOVECOT, POSTERN] {
        let said = sandbox.postern_as(user, &["settings", "set", "country_rule", "off"]).failed();
        assert!(said.contains("settings.db"), "{said}");
    }
    assert!(sandbox.auth(AMERICAN).starts_with("deny "));
}

#[test]
fn files_have_the_owners_and_modes_of_the_design() {
    let sandbox = Sandbox::new().countries("DE");
    sandbox.send("alice@example.test");
    sandbox.auth(AMERICAN);
    for (path, owner, mode) in [
        ("etc/postern", (0, 0), 0o755),
        ("var/lib/postern", (0, 0), 0o755),
        ("var/lib/postern/settings.db", (0, 0), 0o600),
        ("var/lib/postern/policy.db", (0, POSTERN), 0o640),
        ("var/lib/postern/data", (POSTERN, POSTERN), 0o755),
        ("var/lib/postern/data/networks.mmdb", (POSTERN, POSTERN), 0o644),
        ("var/lib/postern/state", (POSTERN, POSTERN), 0o2770),
        ("var/lib/postern/state/state.db", (POSTERN, POSTERN), 0o660),
        ("var/lib/postern/state/tally", (POSTERN, POSTERN), 0o2770),
        ("run/postern", (0, 0), 0o755),
        ("run/postern/trouble", (POSTERN, POSTERN), 0o2770),
    ] {
        let path = sandbox.path(path);
        assert_eq!((owner_of(&path), mode_of(&path)), (owner, mode), "{}", path.display());
    }
    // What hooks of either server make, the other can use: postern's group owns it and the list lets both in.
    for user in [EXIM, DOVECOT, POSTERN] {
        for file in ["state.db", "state.db-wal", "state.db-shm", "state.lock", "tally/current"] {
            let path = sandbox.path("var/lib/postern/state").join(file);
            if path.exists() {
                let mut command = Command::new("/usr/bin/test");
                command.arg("-r").arg(&path).arg("-a").arg("-w").arg(&path);
                assert_eq!(sandbox.run_as(&mut command, user).status, Some(0), "{user} {file}");
            }
        }
    }
}

#[test]
fn init_puts_right_what_it_finds_wrong_and_keeps_what_is_there() {
    let sandbox = Sandbox::new().countries("DE");
    sandbox.sends_freely("alice@example.test", 3);
    let state = sandbox.path("var/lib/postern/state");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    sandbox.give(&state, 0);
    fs::remove_dir_all(sandbox.path("run/postern")).unwrap();
    sandbox.postern(&["init", "--user=61000:61000"]).succeeded();
    assert_eq!((owner_of(&state), mode_of(&state)), ((POSTERN, POSTERN), 0o2770));
    assert!(sandbox.auth(AMERICAN).starts_with("deny "));
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM sender"), 1);
    assert!(sandbox.postern_as(EXIM, &["init"]).failed().contains("as root"));
}
