//! Hooks that fail on purpose, on real servers: mail goes on, and nobody is let in by it.

use crate::clients::{Reply, Way};
use crate::rig::{ALICE, BOB, Doors, Pair, Scene, at_once, eventually};

const GERMAN: &str = "5.9.0.1";
const OUTSIDE: &str = "friend@remote.test";

/// Every hook has this fault. Alice is blocked, so that a hook that works would be seen.
fn scene(doors: Doors, fault: &'static str) -> Scene {
    let scene = Scene::on(Pair::Bookworm).doors(doors).with_fault(fault).start();
    scene.api(&["add_block", "value=alice@example.test"]);
    scene
}

/// Right passwords get in, wrong ones do not, messages of logins and of local programs leave.
fn mail_goes_on(scene: &Scene, fault: &str) {
    let who = [(&ALICE, ALICE.password), (&BOB, BOB.password), (&BOB, "wrong")];
    let tries: Vec<_> =
        who.iter().flat_map(|(who, password)| Way::ALL.map(|way| (way, who.name, *password))).collect();
    let replies: Vec<Reply> =
        at_once(&tries, |(way, name, password)| scene.login_as(*way, GERMAN, name, password));
    for ((way, name, password), reply) in tries.iter().zip(replies) {
        assert_eq!(reply.yes, *password != "wrong", "{fault}: {name} by {way:?}: {reply}");
    }
    let mut smtp = scene.smtp(GERMAN);
    assert!(smtp.auth_plain(BOB.name, BOB.password).yes, "{fault}");
    let sent = smtp.send(BOB.name, &[OUTSIDE], "x");
    assert!(sent.yes, "{fault}: {sent}");
    assert_eq!(scene.sendmail("webuser", &[OUTSIDE], "Subject: x\n\nhello\n").code(), Some(0), "{fault}");
    eventually("both messages leave", || scene.mail_outside().len() == 2);
}

/// Trouble of this kind is in the log and in `postern status`.
fn is_told(scene: &Scene, code: &str) {
    let said = scene.syslog().join("\n");
    assert!(said.contains(&format!("event=trouble code={code}")), "{said}");
    let status = scene.postern(&["status"]);
    assert!(status.stdout.contains("ran out of time") || code != "deadline", "{status:?}");
    assert!(status.stdout.contains("by a signal") || code != "signal", "{status:?}");
}

#[test]
fn a_hook_that_panics_overflows_its_stack_or_hangs_lets_mail_go_on_and_is_told_about() {
    for doors in [Doors::BOTH, Doors::EXIM_AND_CHAIN] {
        for (fault, code) in [("panic", "panic"), ("overflow", "signal"), ("hang", "deadline")] {
            let scene = scene(doors, fault);
            mail_goes_on(&scene, fault);
            is_told(&scene, code);
        }
    }
}

#[test]
fn a_hook_ended_by_any_signal_that_can_be_caught_lets_mail_go_on() {
    const SIGNALS: [&str; 25] = [
        "1", "2", "3", "4", "5", "6", "7", "8", "10", "11", "12", "13", "14", "15", "16", "20", "21", "22",
        "24", "25", "26", "27", "29", "30", "31",
    ];
    for signal in SIGNALS {
        let scene = scene(Doors::BOTH, signal);
        // Whoever starts the tests may have set signals to be ignored: the hook then works as ever. Either way
        // mail goes on.
        scene.api(&["release_block", "value=alice@example.test"]);
        mail_goes_on(&scene, signal);
    }
}

#[test]
fn a_hook_that_is_killed_costs_a_network_client_one_try_and_a_local_program_nothing() {
    let scene = scene(Doors::BOTH, "9");
    for way in Way::SMTP {
        let reply = scene.login(way, GERMAN, &BOB);
        assert!(reply.says("451"), "{way:?}: {reply}");
    }
    for way in Way::READING {
        assert!(scene.login(way, GERMAN, &BOB).yes, "{way:?}: Dovecot goes on to the real password stage");
        assert!(!scene.login_as(way, GERMAN, BOB.name, "wrong").yes, "{way:?}");
    }
    assert_eq!(scene.sendmail("webuser", &[OUTSIDE], "Subject: x\n\nhello\n").code(), Some(0));
    eventually("the local message leaves", || scene.mail_outside().len() == 1);
}

#[test]
fn programs_that_are_gone_or_not_executable_let_mail_go_on() {
    for change in ["rm", "chmod 644"] {
        let scene = Scene::on(Pair::Bookworm).doors(Doors::BOTH).start();
        let programs = "/usr/libexec/postern/postern-exim /usr/libexec/postern/postern-dovecot";
        scene.run_as("root", &["sh", "-c", &format!("{change} {programs}")], "").succeeded();
        mail_goes_on(&scene, change);
    }
}
