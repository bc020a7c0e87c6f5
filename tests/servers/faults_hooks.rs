//! Hooks that fail: ended by a signal, by a fault of their own, or hanging. Mail goes on, passwords are still
//! checked, and the log and `postern status` say that it happened.

use crate::clients::{Reply, Way};
use crate::doing::OUTSIDE;
use crate::rig::{ALICE, Doors, Pair, Scene, at_once};
use crate::told;

/// Faults by number, so that a client's address can name its own: the signals, then these.
const PANIC: u32 = 101;
const OVERFLOW: u32 = 102;
const HANG: u32 = 103;

/// Each program has the fault that the last number of a client's address 79.192.0.x names; of a local message
/// that of the recipient count; 200 is none.
const WRAPPER: &str = r#"#!/bin/sh
fault=200
case $TCPREMOTEIP$IP in 79.192.0.*) fault=${TCPREMOTEIP##*.}${IP##*.} ;; esac
for word; do
    case $word in
    --address=79.192.0.*) fault=${word##*.} ;;
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

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Does {
    Sends,
    LogsIn(Way),
    Guesses(Way),
}
use Does::{Guesses, LogsIn, Sends};

/// Does it from the address that names the fault; what was answered, and whether that is as it should be.
fn does(scene: &Scene, fault: u32, what: Does) -> (Reply, bool) {
    let from = format!("79.192.0.{fault}");
    let reply = match what {
        Sends => {
            let mut smtp = scene.smtp(&from);
            let login = smtp.auth_plain(ALICE.name, ALICE.password);
            if login.yes { smtp.send(ALICE.name, &[OUTSIDE], "x") } else { login }
        }
        LogsIn(way) => scene.login(way, &from, &ALICE),
        Guesses(way) => scene.login_as(way, &from, ALICE.name, "guessed"),
    };
    let good = match what {
        Sends | LogsIn(_) => reply.yes,
        Guesses(Way::Pop3) => reply.text == "-ERR [AUTH] Authentication failed.",
        Guesses(way) if way.is_smtp() => reply.text == "535 Incorrect authentication data",
        Guesses(_) => reply.text == "a NO [AUTHENTICATIONFAILED] Authentication failed.",
    };
    (reply, good)
}

/// Every fault with what shows it best; some by every way.
fn plays(doors: Doors) -> Vec<(u32, Does)> {
    // 11 is SEGV, 13 is PIPE.
    let by_every_way = [11, 13, PANIC, OVERFLOW, HANG];
    let mut plays = Vec::new();
    for fault in faults() {
        plays.push((fault, Sends));
        let ways: &[Way] = match () {
            () if doors.dovecot.is_none() && !doors.postlogin => &[],
            () if by_every_way.contains(&fault) => &Way::ALL,
            () => &[Way::Imap],
        };
        plays.extend(ways.iter().flat_map(|way| [(fault, LogsIn(*way)), (fault, Guesses(*way))]));
    }
    plays
}

#[test]
fn whatever_ends_a_hook_lets_mail_go_on_and_passwords_be_checked() {
    for (pair, doors) in [
        (Pair::Bookworm, Doors { failed: true, postlogin: true, ..Doors::BOTH }),
        (Pair::Bookworm, Doors::EXIM_AND_CHAIN),
        (Pair::Trixie, Doors { postlogin: true, ..Doors::EXIM }),
    ] {
        let scene = scene(pair, doors);
        for some in plays(doors).chunks(50) {
            let replies = at_once(some, |(fault, what)| does(&scene, *fault, *what));
            for ((fault, what), (reply, good)) in some.iter().zip(replies) {
                assert!(good, "{pair:?} {doors:?}, fault {fault}, {what:?}: {reply}");
            }
        }
        let troubles = told::troubles(&scene);
        for code in ["signal", "panic", "deadline"] {
            assert!(troubles.contains_key(code), "{pair:?} {doors:?}: {troubles:?}");
            let line = format!(": event=trouble code={code}");
            let lines = scene.syslog().iter().filter(|said| said.ends_with(&line)).count();
            assert_eq!(lines, 1, "{code} is told once");
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
        let killed = "79.192.0.9";
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
        assert!(scene.login(Way::SmtpPlain, "79.192.0.200", &ALICE).yes);
    }
}
