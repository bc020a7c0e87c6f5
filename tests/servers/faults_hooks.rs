//! Hooks that fail: ended by a signal, by a fault of their own, or hanging. Mail goes on, passwords are still
//! checked, and the log and `postern status` say that it happened.

use crate::clients::Way;
use crate::doing::OUTSIDE;
use crate::rig::{ALICE, Doors, Pair, Scene, at_once};
use crate::told;

/// Faults by number, so that a client's address can name its own: the signals, then these.
const PANIC: u32 = 101;
const OVERFLOW: u32 = 102;
const HANG: u32 = 103;

/// Each program has the fault that the last number of a client's address 5.9.0.x names; of a local message
/// that of the recipient count; 200 is none.
const WRAPPER: &str = r#"#!/bin/sh
fault=200
case $TCPREMOTEIP in 5.9.0.*) fault=${TCPREMOTEIP##*.} ;; esac
for word; do
    case $word in
    --address=5.9.0.*) fault=${word##*.} ;;
    --from=local) fault=$(cat /rig/fault) ;;
    esac
done
case $fault in
200) exec "$0.real" "$@" ;;
101) fault=panic ;;
102) fault=overflow ;;
103) fault=hang ;;
esac
exec "$0.real" --fault=$fault "$@"
"#;

fn scene(pair: Pair, doors: Doors) -> Scene {
    let scene = Scene::on(pair).doors(doors).start();
    for program in ["/usr/libexec/postern/postern-exim", "/usr/libexec/postern/postern-dovecot"] {
        scene.run_as("root", &["mv", program, &format!("{program}.real")], "").succeeded();
        scene.put_program(program, WRAPPER);
    }
    scene
}

/// Every signal that ends or stops a process and can be caught; KILL and STOP cannot.
fn faults() -> Vec<u32> {
    let caught = (1..=64).filter(|signal| ![9, 19].contains(signal));
    caught.chain([PANIC, OVERFLOW, HANG]).collect()
}

/// A login, a message and a login with a wrong password, from the address that names the fault.
fn play(scene: &Scene, fault: u32) -> Vec<(String, bool)> {
    let from = format!("5.9.0.{fault}");
    let mut smtp = scene.smtp(&from);
    let login = smtp.auth_plain(ALICE.name, ALICE.password);
    let sent = smtp.send(ALICE.name, &[OUTSIDE], "x");
    let mut played = vec![(format!("AUTH: {login}"), login.yes), (format!("message: {sent}"), sent.yes)];
    for way in [Way::Imap, Way::ImapCramMd5, Way::Pop3] {
        let right = scene.login(way, &from, &ALICE);
        played.push((format!("{way:?}: {right}"), right.yes));
    }
    for way in [Way::Imap, Way::ImapCramMd5, Way::SmtpPlain] {
        let wrong = scene.login_as(way, &from, ALICE.name, "guessed");
        let refused = wrong.says(if way.is_smtp() { "535" } else { "[AUTHENTICATIONFAILED]" });
        played.push((format!("{way:?}, wrong password: {wrong}"), !wrong.yes && refused));
    }
    played
}

#[test]
fn whatever_ends_a_hook_lets_mail_go_on_and_passwords_be_checked() {
    for (pair, doors) in
        [(Pair::Bookworm, Doors::BOTH), (Pair::Bookworm, Doors::EXIM_AND_CHAIN), (Pair::Trixie, Doors::EXIM)]
    {
        let scene = scene(pair, doors);
        for some in faults().chunks(22) {
            for (fault, played) in some.iter().zip(at_once(some, |fault| play(&scene, *fault))) {
                let against: Vec<_> = played.iter().filter(|(_, good)| !good).collect();
                assert!(against.is_empty(), "{pair:?} {doors:?}, fault {fault}: {against:?}");
            }
        }
        let troubles = told::troubles(&scene);
        for (code, program) in
            [("signal", "postern-exim"), ("panic", "postern-exim"), ("deadline", "postern-exim")]
        {
            assert!(troubles.contains_key(code), "{pair:?} {doors:?}: {troubles:?}");
            let line = |line: &&String| {
                line.contains(&format!("event=trouble code={code}")) && line.contains("postern-")
            };
            assert_eq!(scene.syslog().iter().filter(line).count(), 1, "{program} {code}: told once");
        }
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    }
}

#[test]
fn whatever_ends_a_hook_lets_local_messages_go_on() {
    for pair in Pair::ALL {
        let scene = scene(pair, Doors::EXIM);
        for fault in [1, 2, 6, 9, 11, 13, 14, 15, 31, PANIC, OVERFLOW, HANG, 200] {
            std::fs::write(scene.path("/rig/fault"), fault.to_string()).unwrap();
            let sent = crate::doing::sendmail(&scene, "webuser", &["-t"]);
            assert_eq!(sent.code(), Some(0), "{pair:?}, fault {fault}: {sent:?}");
        }
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    }
}

#[test]
fn a_hook_that_is_killed_costs_a_mail_client_one_try_and_lets_no_wrong_password_in() {
    for (pair, doors) in [(Pair::Bookworm, Doors::BOTH), (Pair::Trixie, Doors::EXIM)] {
        let scene = scene(pair, doors);
        let killed = "5.9.0.9";
        for (password, yes) in [(ALICE.password, doors.dovecot.is_none()), ("guessed", false)] {
            for way in Way::SMTP {
                let reply = scene.login_as(way, killed, ALICE.name, password);
                assert!(reply.says("451"), "{pair:?} {way:?}: {reply}");
            }
            for way in Way::READING {
                let reply = scene.login_as(way, killed, ALICE.name, password);
                let expected = yes || password == ALICE.password;
                assert_eq!(reply.yes, expected, "{pair:?} {way:?}: {reply}");
            }
        }
        // The next try is an ordinary one.
        assert!(scene.login(Way::SmtpPlain, "5.9.0.200", &ALICE).yes);
    }
}
