//! A mail server's user may write the state. Whatever it lays there: root touches nothing beyond, runs nothing
//! of it, and the state heals.

use crate::sandbox::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const ALICE: &str = "alice@example.test";

/// Files that are none of a mail user's business, and must stay as they are.
struct Precious {
    files: Vec<PathBuf>,
    absent: PathBuf,
}

impl Precious {
    /// One of root's, one of user `postern`'s, one that is not there, in a folder that all may enter.
    fn new(sandbox: &Sandbox) -> Precious {
        let folder = sandbox.path("precious");
        fs::create_dir(&folder).unwrap();
        sandbox.give(&folder, POSTERN);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let files = [0, POSTERN].map(|owner| {
            let file = folder.join(format!("of-{owner}"));
            fs::write(&file, "precious").unwrap();
            sandbox.give(&file, owner);
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            file
        });
        Precious { files: files.into(), absent: folder.join("absent") }
    }

    fn targets(&self) -> Vec<PathBuf> {
        self.files.iter().chain([&self.absent]).cloned().collect()
    }

    #[track_caller]
    fn are_untouched(&self, planted: &str) {
        for (file, owner) in self.files.iter().zip([0, POSTERN]) {
            assert_eq!(fs::read(file).unwrap(), b"precious", "{planted}");
            let meta = file.metadata().unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o7777), (owner, 0o600), "{planted}");
        }
        assert!(self.absent.symlink_metadata().is_err(), "{planted}");
        let folder = self.absent.parent().unwrap();
        assert_eq!(fs::read_dir(folder).unwrap().count(), 2, "{planted}");
    }
}

/// Everything that root and the mail servers' users do on a normal day.
fn a_normal_day(sandbox: &Sandbox) {
    sandbox.send(ALICE);
    sandbox.auth(AMERICAN);
    Call::gate(ALICE, AMERICAN).run(sandbox);
    sandbox.exim_as(0, &[], &["auth", "--address=198.51.100.9"]);
    sandbox.exim_as(0, &["--fault=panic"], &["auth", "--address=198.51.100.9"]);
    Call { user: 0, words: vec!["chain", "/bin/true"], ..Call::gate(ALICE, AMERICAN) }.run(sandbox);
    for words in [
        &["tick"][..],
        &["status"],
        &["blocks", "list"],
        &["activity"],
        &["statistics"],
        &["known-networks", ALICE],
        &["held", "list"],
        &["blocks", "release", ALICE],
        &["trouble", "clear"],
        &["init", "--user=61000:61000"],
    ] {
        sandbox.postern(words);
    }
}

/// Puts something in place of a file, as a mail user could.
fn plant(path: &Path, lay: impl FnOnce(&Path)) {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::rename(path, path.with_extension("moved")).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
    lay(path);
}

const PLACES: [&str; 8] = [
    "var/lib/postern/state/state.db",
    "var/lib/postern/state/state.db-wal",
    "var/lib/postern/state/state.db-shm",
    "var/lib/postern/state/state.lock",
    "var/lib/postern/state/state.intent",
    "var/lib/postern/state/tally/current",
    "var/lib/postern/state/tally/fold-0",
    "run/postern/trouble/state-denied",
];

/// For each place at once: most of a day is waiting.
fn in_each_place(test: impl Fn(&str) + Sync) {
    std::thread::scope(|scope| {
        for place in PLACES {
            let test = &test;
            scope.spawn(move || test(place));
        }
    });
}

fn guarded() -> Sandbox {
    Sandbox::new().countries("DE").setting("rate_limit_messages", "3")
}

#[test]
fn links_in_place_of_any_file_lead_nowhere_and_the_state_heals() {
    in_each_place(|place| {
        let sandbox = guarded();
        let precious = Precious::new(&sandbox);
        sandbox.sends_freely(ALICE, 1);
        for target in precious.targets() {
            plant(&sandbox.path(place), |path| symlink(&target, path).unwrap());
            a_normal_day(&sandbox);
            precious.are_untouched(place);
        }
        sandbox.postern(&["tick"]);
        sandbox.sends_freely("carol@example.test", 3);
        assert!(sandbox.send("carol@example.test").starts_with("defer 451 "), "{place}");
    });
}

#[test]
fn hard_links_in_place_of_the_state_lead_nowhere() {
    in_each_place(|place| {
        let sandbox = guarded();
        let precious = Precious::new(&sandbox);
        let of_root = &precious.files[0];
        // Kernels let nobody but the owner make such a link; root does it here for the worst case.
        plant(&sandbox.path(place), |path| fs::hard_link(of_root, path).unwrap());
        a_normal_day(&sandbox);
        precious.are_untouched(place);
    });
}

#[test]
fn folders_in_place_of_any_file_and_links_in_place_of_folders_lead_nowhere() {
    in_each_place(|place| {
        let sandbox = guarded();
        plant(&sandbox.path(place), |path| fs::create_dir(path).unwrap());
        a_normal_day(&sandbox);
        assert!(sandbox.auth(AMERICAN).starts_with("deny "), "{place}");
    });
    for target in ["precious", "etc", "var/lib/postern"] {
        let sandbox = guarded();
        let precious = Precious::new(&sandbox);
        let before = (owner_of(&sandbox.path(target)), mode_of(&sandbox.path(target)));
        plant(&sandbox.path("var/lib/postern/state/tally"), |path| {
            symlink(sandbox.path(target), path).unwrap()
        });
        a_normal_day(&sandbox);
        let after = (owner_of(&sandbox.path(target)), mode_of(&sandbox.path(target)));
        assert_eq!(after, before, "{target}");
        assert!(precious.files.iter().all(|f| fs::read(f).unwrap() == b"precious"));
        // `init` makes a folder again.
        sandbox.postern(&["init"]).succeeded();
        let tally = sandbox.path("var/lib/postern/state/tally");
        assert_eq!((owner_of(&tally), mode_of(&tally)), ((POSTERN, POSTERN), 0o2770));
    }
}

#[test]
fn pipes_in_place_of_any_file_hold_up_nobody() {
    in_each_place(|place| {
        let sandbox = guarded();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
        plant(&sandbox.path(place), |path| nix::unistd::mkfifo(path, mode).unwrap());
        a_normal_day(&sandbox);
        assert!(sandbox.auth(AMERICAN).starts_with("deny "), "{place}");
    });
}

fn forge(sandbox: &Sandbox, sql: &str) {
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    db.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
}

#[test]
fn a_forged_trigger_never_fires_and_a_forged_view_is_never_read() {
    let sandbox = guarded();
    sandbox.sends_freely(ALICE, 3);
    assert!(sandbox.send(ALICE).starts_with("defer "));
    forge(
        &sandbox,
        "CREATE TRIGGER a AFTER DELETE ON stop BEGIN INSERT INTO notice(at, kind, account, detail) VALUES (1, 'x', 'forged', ''); END;
         CREATE TRIGGER b BEFORE INSERT ON stop BEGIN SELECT RAISE(IGNORE); END;
         CREATE TRIGGER c AFTER INSERT ON activity BEGIN DELETE FROM activity; END;",
    );
    sandbox.postern(&["blocks", "release", ALICE]).succeeded();
    sandbox.sends_freely(ALICE, 3);
    assert!(sandbox.send(ALICE).starts_with("defer "), "the stop was ignored by a trigger");
    assert!(sandbox.send(ALICE).starts_with("defer "));
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM notice WHERE account = 'forged'"), 0);
    assert!(sandbox.in_state::<i64>("SELECT count(*) FROM activity") > 0);

    forge(
        &sandbox,
        "ALTER TABLE stop RENAME TO elsewhere;
         CREATE VIEW stop AS SELECT 'victim@example.test' account, 1 since, 9e12 until, '' reason, '' detail, '' reference, 0 refused, 0 last;",
    );
    assert_eq!(sandbox.send("victim@example.test"), "allow\n");
    let told = sandbox.postern(&["blocks", "list"]);
    assert!(!told.out.contains("victim"), "{told:?}");
}

#[test]
fn forged_rows_reach_neither_the_terminal_nor_a_command_line() {
    let sandbox = guarded();
    let evil = "x'||char(27)||'[2J'||char(10)||'Bcc: thief@example.test'||char(10)||char(0)||'-bd";
    forge(
        &sandbox,
        &format!(
            "INSERT INTO stop(account, since, until, reason, detail, reference, refused, last) VALUES ('{evil}', 1, 99999999999, '{evil}', '{evil}', '{evil}', 1, 1);
             INSERT INTO held VALUES ('{evil}', '{evil}', 1, 1);
             INSERT INTO notice(at, kind, account, detail) VALUES (1, 'stopped', '{evil}', '{evil}');
             INSERT INTO activity(hour, first, last, n, account, address, country, service, door, verdict, reason, detail, reference)
                VALUES (1, 1, 99999999999, 1, '{evil}', '{evil}', '{evil}', '{evil}', '{evil}', '{evil}', '{evil}', '{evil}', '{evil}');
             INSERT INTO door VALUES ('{evil}', '{evil}', 99999999999);"
        ),
    );
    let (program, mail) = (sandbox.path("usr/sbin/sendmail"), sandbox.path("mail"));
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::create_dir(&mail).unwrap();
    sandbox.give(&mail, POSTERN);
    sandbox.install(
        &program,
        &format!("#!/bin/sh\nprintf '%s|' \"$@\" >{0}/words\nexec /bin/cat >{0}/text\n", mail.display()),
    );
    for words in [
        &["blocks", "list"][..],
        &["held", "list"],
        &["activity"],
        &["status"],
        &["tick", "--verbose"],
        &["statistics"],
        &["known-networks", ALICE],
    ] {
        let ran = sandbox.postern(words);
        let said = format!("{}{}", ran.out, ran.err);
        assert!(!said.contains(['\u{1b}', '\0']), "{words:?}: {said:?}");
        assert!(!said.lines().any(|line| line.starts_with("Bcc:")), "{words:?}: {said:?}");
    }
    assert_eq!(fs::read_to_string(mail.join("words")).unwrap(), "-oi|-f|<>|--|root|");
    let text = fs::read_to_string(mail.join("text")).unwrap();
    let (headers, _) = text.split_once("\n\n").unwrap();
    assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
    // What is not a message's name never becomes an argument.
    for bad in ["-bd", "x y", "../../etc/passwd"] {
        assert!(
            sandbox.postern(&["api", "release_held", &format!("message={bad}")]).out.contains("bad_value")
        );
    }
}

#[test]
fn forged_rows_block_nobody_for_longer_than_the_duration() {
    let sandbox = guarded();
    forge(
        &sandbox,
        "INSERT INTO stop(account, since, until, reason, detail, reference, refused, last) VALUES ('alice@example.test', 1, 9223372036854775807, '', '', '', 1, 1);
         INSERT INTO sender(account, window, last) VALUES ('bob@example.test', zeroblob(80000), 1);",
    );
    assert!(sandbox.send(ALICE).starts_with("defer 451 "));
    assert_eq!(sandbox.send("bob@example.test"), "allow\n");
    sandbox.wait(6 * 3600);
    assert_eq!(sandbox.send(ALICE), "allow\n");
}

#[test]
fn a_forged_tally_becomes_no_more_than_figures() {
    let sandbox = guarded();
    let tally = sandbox.path("var/lib/postern/state/tally");
    let lines: Vec<String> = vec![
        "2 1795608000 try dovecot-gate imap DE - allow country_allowed '; DROP TABLE stop; --".into(),
        "2 1795608000 try dovecot-gate imap DE - allow country_allowed x\u{1b}[2J".into(),
        "2 9223372036854775807 try dovecot-gate imap DE - allow country_allowed alice".into(),
        "garbage".into(),
        "\0".repeat(100_000),
    ];
    fs::write(tally.join("current"), lines.join("\n")).unwrap();
    fs::write(tally.join("fold-\n\u{1b}"), "2 1795608000 try dovecot-gate imap US - allow x alice\n")
        .unwrap();
    std::os::unix::fs::chown(tally.join("current"), Some(EXIM), None).unwrap();
    let said = sandbox.postern(&["tick", "--verbose"]).succeeded();
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM stop"), 0);
    assert_eq!(sandbox.in_state::<i64>("SELECT sum(tried + sent) FROM account_day"), 3);
    let said = sandbox.postern(&["statistics"]).succeeded();
    assert!(!said.contains('\u{1b}'), "{said:?}");
    assert_eq!(fs::read_dir(&tally).unwrap().count(), 0);
}
