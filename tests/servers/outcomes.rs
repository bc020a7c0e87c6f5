//! How logins end, as each source of record tells it: every login is counted once, by every way in, and what we
//! refused ourselves is nobody's wrong password.

use crate::clients::{Reply, Way};
use crate::doing::{BRAZILIAN, GERMAN, OUTSIDE, allow_germany_alone};
use crate::rig::{ALICE, BOB, Doors, Pair, Scene, at_once, eventually};
use crate::told;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

const PROGRAM: &str = "/usr/libexec/postern/postern-dovecot";
const SENTENCE: &str = "Logins from this country are not allowed here. Reference ";
const GATE_AND_FAILED: Doors = Doors { failed: true, postlogin: true, ..Doors::BOTH };
const POSTLOGIN: Doors = Doors { postlogin: true, ..Doors::NONE };

/// Logins from Germany alone, counted as these settings say.
fn scene(pair: Pair, doors: Doors, sources: &[(&str, &str)]) -> Scene {
    let scene = Scene::on(pair).doors(doors).start();
    allow_germany_alone(&scene);
    for (service, from) in sources {
        scene.api(&["set_setting", &format!("key={service}_logins_from"), &format!("value={from}")]);
    }
    scene
}

/// Waits until so many lines are in the tally: a connection that breaks off tells after it is gone. Then the figures.
#[track_caller]
fn figures(scene: &Scene, lines: usize) -> Vec<(String, i64)> {
    eventually("every end is told", || told::tally_lines(scene) >= lines);
    let figures = told::statistics(scene).into_iter().collect();
    assert_eq!(told::troubles(scene), BTreeMap::new(), "{:?}", scene.pair());
    figures
}

fn are(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(what, n)| ((*what).to_owned(), *n)).collect()
}

/// `network n` of a mailbox.
fn known(scene: &Scene, account: &str) -> Vec<String> {
    let rows = scene.api(&["list_known_networks", &format!("account={account}")]);
    let row = |row: &serde_json::Value| format!("{} {}", row["network"].as_str().unwrap(), row["n"]);
    rows.as_array().unwrap().iter().map(row).collect()
}

fn is_wrong_password(way: Way, reply: &Reply) -> bool {
    reply.text
        == match way {
            Way::Pop3 => "-ERR [AUTH] Authentication failed.",
            way if way.is_smtp() => "535 Incorrect authentication data",
            _ => "a NO [AUTHENTICATIONFAILED] Authentication failed.",
        }
}

#[test]
fn with_the_gate_each_login_is_counted_once_by_every_way() {
    let scene = scene(Pair::Bookworm, GATE_AND_FAILED, &[]);
    for way in Way::ALL {
        assert!(scene.login(way, GERMAN, &ALICE).yes, "{way:?}");
        assert!(is_wrong_password(way, &scene.login_as(way, GERMAN, ALICE.name, "guessed")), "{way:?}");
        assert!(!scene.login(way, BRAZILIAN, &ALICE).yes, "{way:?}");
        assert!(!scene.login_as(way, BRAZILIAN, ALICE.name, "guessed").yes, "{way:?}");
    }
    // Used to send: one success, told by the use and not by its end.
    assert!(crate::doing::send_one(&scene, &BOB).yes);
    // Wrong passwords of CRAM-MD5 are Dovecot's own secret.
    let expected = are(&[
        ("BR refused", 12),
        ("BR tried", 12),
        ("DE failed", 4),
        ("DE messages_sent", 1),
        ("DE succeeded", 7),
        ("DE tried", 13),
    ]);
    assert_eq!(figures(&scene, 12 + 13 + 4 + 7 + 1), expected);
    assert_eq!(known(&scene, ALICE.name), ["79.192.0.0/24 6"]);
    assert_eq!(known(&scene, BOB.name), ["79.192.0.0/24 1"]);
    for part in ["IMAP logins", "POP3 logins"] {
        let says = told::status_of(&scene, part);
        assert!(says.contains("dovecot-gate 2") && says.contains("dovecot-postlogin 2"), "{part}: {says}");
    }
    let says = told::status_of(&scene, "POP3 logins: source of record");
    assert!(says.contains("failures by dovecot-failed (last 2"), "{says}");
}

#[test]
fn a_refusal_by_the_gate_is_no_failed_password_although_exim_takes_it_for_one() {
    let scene = scene(Pair::Bookworm, GATE_AND_FAILED, &[("smtp", "exim")]);
    // One exempt mailbox, and Exim's AUTH door leaves everybody to the gate.
    scene.api(&["add_user_exemption", &format!("value={}", BOB.name)]);
    for way in Way::SMTP {
        let mut smtp = scene.smtp(BRAZILIAN);
        let reply = match way {
            Way::SmtpPlain => smtp.auth_plain(ALICE.name, ALICE.password),
            Way::SmtpLogin => smtp.auth_login(ALICE.name, ALICE.password),
            _ => smtp.auth_cram_md5(ALICE.name, ALICE.password),
        };
        assert_eq!(reply.text, "535 Incorrect authentication data", "{way:?}");
        // Minutes later.
        scene.clock("+300");
        assert!(smtp.ask("QUIT").yes);
        scene.clock("+0");
        assert!(is_wrong_password(way, &scene.login_as(way, GERMAN, ALICE.name, "guessed")), "{way:?}");
    }
    assert!(scene.login(Way::SmtpPlain, BRAZILIAN, &BOB).yes);
    let expected =
        are(&[("BR refused", 3), ("BR succeeded", 1), ("BR tried", 4), ("DE failed", 3), ("DE tried", 3)]);
    assert_eq!(figures(&scene, 4 + 3 + 3 + 3 + 1), expected);
    let refused = format!("{} {BRAZILIAN} BR smtp refuse country_not_allowed", ALICE.name);
    assert_eq!(told::activity(&scene), BTreeMap::from([(refused, 3)]));
}

#[test]
fn exim_alone_tells_of_tries_successes_and_failures_once_each() {
    for pair in Pair::ALL {
        let scene = scene(pair, Doors::EXIM, &[("smtp", "exim")]);
        for way in Way::SMTP {
            assert!(scene.login(way, GERMAN, &ALICE).yes, "{pair:?} {way:?}");
            assert!(is_wrong_password(way, &scene.login_as(way, GERMAN, ALICE.name, "guessed")));
            let refused = told::one_line(&scene.login(way, BRAZILIAN, &ALICE));
            assert!(refused.starts_with(&format!("535 5.7.8 {SENTENCE}")), "{pair:?} {way:?}: {refused}");
        }
        // Three guesses, then the password, used for two messages.
        let mut smtp = scene.smtp(GERMAN);
        for name in [BOB.name, BOB.name, "nobody@example.test"] {
            assert!(!smtp.auth_plain(name, "guessed").yes);
        }
        assert!(smtp.auth_plain(BOB.name, BOB.password).yes);
        for _ in 0..2 {
            assert!(smtp.send(BOB.name, &[OUTSIDE], "x").yes);
        }
        assert!(smtp.ask("QUIT").yes);
        let expected = are(&[
            ("BR refused", 3),
            ("BR tried", 3),
            ("DE failed", 6),
            ("DE messages_sent", 2),
            ("DE succeeded", 4),
            ("DE tried", 10),
        ]);
        assert_eq!(figures(&scene, 3 + 6 + 2 + 4 + 10), expected, "{pair:?}");
        assert_eq!(known(&scene, ALICE.name), ["79.192.0.0/24 3"], "{pair:?}");
        let says = told::status_of(&scene, "SMTP logins: source of record");
        assert!(says.contains("failures by exim-outcome (last 2"), "{says}");
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    }
}

#[test]
fn the_post_login_script_refuses_with_its_text_before_any_mail_and_counts_who_gets_in() {
    for pair in Pair::ALL {
        let scene = scene(pair, POSTLOGIN, &[("imap", "postlogin"), ("pop3", "postlogin")]);
        for way in Way::READING {
            assert!(scene.login(way, GERMAN, &ALICE).yes, "{pair:?} {way:?}");
            assert!(scene.login(way, "2003::1", &ALICE).yes, "{pair:?} {way:?}");
            assert!(is_wrong_password(way, &scene.login_as(way, GERMAN, ALICE.name, "guessed")), "{way:?}");
            let refused = scene.login(way, BRAZILIAN, &ALICE);
            let line = refused.text.lines().next().unwrap();
            let begins = if way == Way::Pop3 { "-ERR [SYS/PERM] " } else { "* BYE [ALERT] " };
            assert!(line.starts_with(&format!("{begins}{SENTENCE}")), "{pair:?} {way:?}: {refused}");
            let reference = told::reference(line).unwrap();
            let row = told::under_reference(&scene, reference);
            assert_eq!(row["door"], "dovecot-postlogin", "{pair:?} {way:?}: {row}");
            assert!(!refused.yes && !refused.says("CAPABILITY"), "{pair:?} {way:?}: {refused}");
        }
        // A wrong password never comes this far, and is nobody's.
        assert!(!scene.login_as(Way::Imap, BRAZILIAN, ALICE.name, "guessed").yes);
        let expected = are(&[("BR refused", 3), ("BR tried", 3), ("DE succeeded", 6), ("DE tried", 6)]);
        assert_eq!(figures(&scene, 15), expected, "{pair:?}");
        assert_eq!(known(&scene, ALICE.name), ["2003::/64 3", "79.192.0.0/24 3"], "{pair:?}");
        for part in ["IMAP logins", "POP3 logins"] {
            let says = told::status_of(&scene, part);
            assert!(says.starts_with("Guarded; last asked: dovecot-postlogin "), "{pair:?} {part}: {says}");
        }
        // A block by hand holds here too, and a session that is let in is whole.
        scene.api(&["add_block", &format!("value={}", BOB.name)]);
        assert!(!scene.login(Way::Imap, GERMAN, &BOB).yes, "{pair:?}");
        let mut imap = scene.imap(GERMAN);
        assert!(imap.login(ALICE.name, ALICE.password).yes && imap.read_inbox().yes, "{pair:?}");
    }
}

#[test]
fn what_the_post_login_script_refuses_behind_the_gate_is_one_try() {
    let scene = scene(Pair::Bookworm, GATE_AND_FAILED, &[]);
    // A gate that is gone for the moment.
    let pass =
        "#!/bin/sh\ncase $2 in gate) printf 'noauthenticate=y\\t' >&4; exit 0;; esac\nexec $0.real \"$@\"\n";
    assert!(scene.login(Way::Pop3, GERMAN, &ALICE).yes);
    scene.run_as("root", &["mv", PROGRAM, &format!("{PROGRAM}.real")], "").succeeded();
    scene.put_program(PROGRAM, pass);
    assert!(scene.login(Way::Pop3, BRAZILIAN, &ALICE).says(SENTENCE));
    let expected = are(&[("BR refused", 1), ("DE succeeded", 1), ("DE tried", 1)]);
    assert_eq!(figures(&scene, 3), expected);
}

#[test]
fn without_its_state_the_post_login_script_lets_in() {
    for pair in Pair::ALL {
        let scene = scene(pair, POSTLOGIN, &[("imap", "postlogin"), ("pop3", "postlogin")]);
        scene.run_as("root", &["mv", "/var/lib/postern", "/var/lib/away"], "").succeeded();
        for way in Way::READING {
            assert!(scene.login(way, BRAZILIAN, &ALICE).yes, "{pair:?} {way:?}: nobody knows who may");
        }
        scene.run_as("root", &["mv", "/var/lib/away", "/var/lib/postern"], "").succeeded();
        assert!(!scene.login(Way::Imap, BRAZILIAN, &ALICE).yes, "{pair:?}");
        assert!(told::troubles(&scene).contains_key("policy"), "{pair:?}");
    }
}

#[test]
fn a_post_login_script_that_is_gone_or_killed_ends_the_session_and_shows_nobody_any_mail() {
    for pair in Pair::ALL {
        let scene = Scene::on(pair).doors(POSTLOGIN).start();
        for script in ["#!/bin/sh\nkill -KILL $$\n", "#!/nowhere\n", "#!/bin/sh\nexit 111\n"] {
            scene.put_program(PROGRAM, script);
            for way in Way::READING {
                let reply = scene.login(way, GERMAN, &ALICE);
                assert_eq!(reply.text, "(the server closed the connection)", "{pair:?} {way:?} {script}");
            }
        }
    }
}

/// Every way with a wrong password and with the name of nobody: what was answered.
fn guesses(scene: &Scene) -> Vec<(Way, &'static str, Reply)> {
    let names = [ALICE.name, "nobody@example.test"];
    let tries: Vec<_> = names.iter().flat_map(|name| Way::ALL.map(|way| (way, *name))).collect();
    let replies = at_once(&tries, |(way, name)| scene.login_as(*way, GERMAN, name, "guessed"));
    tries.into_iter().zip(replies).map(|((way, name), reply)| (way, name, reply)).collect()
}

#[test]
fn no_trouble_of_the_failed_stage_lets_anybody_in_or_keeps_a_right_password_out() {
    let scene = Scene::on(Pair::Bookworm).doors(Doors { failed: true, ..Doors::NONE }).start();
    // As the program itself, each first closes what it inherited and waits for name and password.
    let first = "for fd in {5..254}; do eval \"exec $fd>&-\"; done; head -c 1 <&3 >/dev/null";
    for trouble in [
        "exit 0",
        "exit 2",
        "exit 111",
        "printf 'user=alice@example.test\\t' >&4; exit 0",
        "printf 'user=alice@example.test\\t' >&4; exit 2",
        "printf 'noauthenticate=y\\t' >&4; exit 0",
        "printf 'noauthenticate=y\\t' >&4; exit 2",
        "kill -SEGV $$",
        "exec /nowhere",
    ] {
        scene.put_program(PROGRAM, &format!("#!/bin/bash\n{first}\n{trouble}\n"));
        for (way, name, reply) in guesses(&scene) {
            assert!(!reply.yes, "{trouble}, {way:?} {name}: {reply}");
        }
        assert!(at_once(&Way::ALL, |way| scene.login(*way, GERMAN, &ALICE).yes).iter().all(|yes| *yes));
    }
    let mut permissions = std::fs::metadata(scene.path(PROGRAM)).unwrap().permissions();
    permissions.set_mode(0o644);
    std::fs::set_permissions(scene.path(PROGRAM), permissions).unwrap();
    assert!(guesses(&scene).iter().all(|(_, _, reply)| !reply.yes), "not executable");
    std::fs::remove_file(scene.path(PROGRAM)).unwrap();
    assert!(guesses(&scene).iter().all(|(_, _, reply)| !reply.yes), "missing");
}

#[test]
fn with_the_failed_stage_clients_and_tools_are_answered_as_without_it() {
    let scene = Scene::on(Pair::Bookworm).doors(Doors { failed: true, ..Doors::NONE }).start();
    for (way, name, reply) in guesses(&scene) {
        assert!(is_wrong_password(way, &reply), "{way:?} {name}: {reply}");
    }
    for (words, code) in [
        (&["auth", "lookup", ALICE.name][..], 0),
        (&["auth", "lookup", "nobody@example.test"], 67),
        (&["auth", "test", ALICE.name, ALICE.password], 0),
        (&["auth", "test", ALICE.name, "guessed"], 77),
        (&["auth", "test", "-x", "rip=79.192.0.1", "nobody@example.test", "guessed"], 77),
    ] {
        let ran = scene.doveadm(words);
        assert_eq!(ran.code(), Some(code), "{words:?}: {ran:?}");
        assert!(!ran.stdout.contains("temp_fail") && ran.stderr.is_empty(), "{words:?}: {ran:?}");
    }
    // What the tools try is no login; lookups for CRAM-MD5 that find nobody are no passwords.
    assert_eq!(figures(&scene, 8), are(&[("DE failed", 8)]));
}
