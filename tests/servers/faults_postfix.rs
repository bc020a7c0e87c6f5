//! Postfix and a program of ours that is gone, ends, hangs or talks nonsense: mail goes on.

use crate::doing::{OUTSIDE, limit, logged_in, sendmail, with_postfix_doors};
use crate::rig::{ALICE, BOB, Pair, Scene, eventually};
use crate::told;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

const PROGRAM: &str = "/usr/libexec/postern/postern-postfix";

/// What stands in the program's place.
const IN_ITS_PLACE: [(&str, &str); 9] = [
    ("ends at once", "exit 0"),
    ("fails", "exit 111"),
    ("crashes", "kill -SEGV $$"),
    ("hangs", "exec sleep 600"),
    ("closes and hangs", "exec >&- 2>&- <&-; exec sleep 600"),
    ("says nothing", "cat >/dev/null"),
    ("talks nonsense", "yes frob | head -n 5000"),
    ("has an empty answer", "read line; echo; exec cat >/dev/null"),
    ("says half an answer", "read line; printf 'action=550 5.7.1 No'; exit 0"),
];

/// A message of a login, one that comes in and one of a local program.
fn all_goes_on(scene: &Scene, what: &str) {
    let (outside, inside) = (scene.mail_outside().len(), scene.mail_of(&BOB).len());
    let mut smtp = scene.smtp_by(crate::clients::Tls::Starttls, crate::doing::GERMAN);
    assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes, "{what}");
    let sent = smtp.send(ALICE.name, &[OUTSIDE], "x");
    assert!(sent.yes, "{:?}, {what}: {sent}", scene.pair());
    let brought = scene.smtp(crate::doing::BRAZILIAN).send("x@remote.test", &[BOB.name], "x");
    assert!(brought.yes, "{:?}, {what}: {brought}", scene.pair());
    sendmail(scene, "webuser", &["-t"]).succeeded();
    eventually(what, || (scene.mail_outside().len(), scene.mail_of(&BOB).len()) == (outside + 2, inside + 1));
}

#[test]
fn without_a_program_that_answers_mail_goes_on() {
    for pair in Pair::POSTFIX {
        let mut scene = with_postfix_doors(pair).start();
        limit(&scene, 1);
        for (what, script) in IN_ITS_PLACE {
            scene.put_program(PROGRAM, &format!("#!/bin/sh\n{script}\n"));
            scene.restart_servers();
            all_goes_on(&scene, what);
        }
        scene.run_as("root", &["chmod", "644", PROGRAM], "").succeeded();
        scene.restart_servers();
        all_goes_on(&scene, "is not executable");
        scene.run_as("root", &["rm", PROGRAM], "").succeeded();
        scene.restart_servers();
        all_goes_on(&scene, "is missing");
    }
}

#[test]
fn whatever_ends_the_program_lets_mail_go_on() {
    for pair in Pair::POSTFIX {
        let mut scene = with_postfix_doors(pair).start();
        scene.run_as("root", &["mv", PROGRAM, &format!("{PROGRAM}.real")], "").succeeded();
        for fault in ["panic", "overflow", "hang", "1", "6", "9", "11", "13", "14", "15", "31"] {
            scene.put_program(PROGRAM, &format!("#!/bin/sh\nexec $0.real --fault={fault} \"$@\"\n"));
            scene.restart_servers();
            all_goes_on(&scene, fault);
        }
        let troubles = told::troubles(&scene);
        for code in ["signal", "panic", "deadline"] {
            assert!(troubles.contains_key(code), "{pair:?}: {troubles:?}");
        }
    }
}

/// The processes of the scene that answer.
fn answering(scene: &Scene) -> Vec<Pid> {
    let program = scene.path(PROGRAM);
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|at| at == program))
        .map(Pid::from_raw)
        .collect()
}

#[test]
fn a_session_whose_answering_process_was_killed_is_asked_about_anew() {
    for pair in Pair::POSTFIX {
        let scene = with_postfix_doors(pair).start();
        limit(&scene, 1);
        let mut smtp = logged_in(&scene, &ALICE);
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes);
        let before = answering(&scene);
        assert!(!before.is_empty());
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL).unwrap());
        let refused = smtp.send(ALICE.name, &[OUTSIDE], "x");
        assert!(refused.says("451 4.7.1 "), "{pair:?}: {refused}");
    }
}
