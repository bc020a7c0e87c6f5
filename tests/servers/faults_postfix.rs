//! Postfix and a program of ours that is gone, ends, hangs or talks nonsense: mail goes on.

use crate::clients::Tls;
use crate::doing::{BRAZILIAN, GERMAN, OUTSIDE, limit, logged_in, sendmail};
use crate::rig::{ALICE, BOB, Doors, Pair, Scene, at_once, eventually};
use crate::told;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

const PROGRAM: &str = "/usr/libexec/postern/postern-postfix";

/// What stands in the program's place.
const IN_ITS_PLACE: [(&str, &str); 5] = [
    ("ends at once", "exit 0"),
    ("crashes", "kill -SEGV $$"),
    ("hangs", "exec sleep 600"),
    ("talks nonsense", "yes frob | head -n 5000"),
    ("says half an answer", "read line; printf 'action=550 5.7.1 No'; exit 0"),
];

/// A message of a login, one that comes in and one of a local program.
fn all_goes_on(scene: &Scene, what: &str) {
    let (outside, inside) = (scene.mail_outside().len(), scene.mail_of(&BOB).len());
    let mut smtp = scene.smtp_by(Tls::Starttls, GERMAN);
    assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes, "{what}");
    let sent = smtp.send(ALICE.name, &[OUTSIDE], "x");
    assert!(sent.yes, "{:?}, {what}: {sent}", scene.pair());
    let brought = scene.smtp(BRAZILIAN).send("x@remote.test", &[BOB.name], "x");
    assert!(brought.yes, "{:?}, {what}: {brought}", scene.pair());
    sendmail(scene, "webuser", &["-t"]).succeeded();
    eventually(what, || (scene.mail_outside().len(), scene.mail_of(&BOB).len()) == (outside + 2, inside + 1));
}

#[test]
fn without_a_program_that_answers_mail_goes_on() {
    at_once(&Pair::POSTFIX, |pair| {
        let mut scene = Scene::on(*pair).doors(Doors::POSTFIX).start();
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
    });
}

#[test]
fn whatever_ends_the_program_lets_mail_go_on() {
    at_once(&Pair::POSTFIX, |pair| {
        let mut scene = Scene::on(*pair).doors(Doors::POSTFIX).start();
        scene.run_as("root", &["mv", PROGRAM, &format!("{PROGRAM}.real")], "").succeeded();
        for fault in ["panic", "overflow", "hang", "9", "11", "13", "15"] {
            scene.put_program(PROGRAM, &format!("#!/bin/sh\nexec $0.real --fault={fault} \"$@\"\n"));
            scene.restart_servers();
            all_goes_on(&scene, fault);
        }
        let troubles = told::troubles(&scene);
        for code in ["signal", "panic", "deadline"] {
            assert!(troubles.contains_key(code), "{pair:?}: {troubles:?}");
        }
    });
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
        let scene = Scene::on(pair).doors(Doors::POSTFIX).start();
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

/// The keeper in the place of the programs that spawn(8) starts.
const BY_KEEPER: &str = "
postern_policy = check_policy_service { unix:/run/postern/sockets/postfix, timeout=3s, try_limit=2, default_action=DUNNO, policy_context=postern }
non_smtpd_milters = { unix:/run/postern/sockets/milter, connect_timeout=3s, command_timeout=3s, content_timeout=3s, default_action=accept }";

#[test]
fn the_keeper_counts_as_the_programs_do_and_mail_goes_on_while_it_is_gone() {
    for pair in Pair::POSTFIX {
        let scene = Scene::on(pair).doors(Doors::POSTFIX).postfix(BY_KEEPER).start();
        limit(&scene, 2);
        let keeper = || {
            let keeper = scene.start_as("root", &["/usr/sbin/postern", "keeper"]);
            eventually("the keeper listens", || {
                std::os::unix::net::UnixStream::connect(scene.path("/run/postern/sockets/milter")).is_ok()
            });
            keeper
        };
        let end = |mut keeper: std::process::Child| {
            keeper.kill().unwrap();
            keeper.wait().unwrap();
        };
        let mut running = keeper();
        let mut smtp = logged_in(&scene, &ALICE);
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes);
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes);
        end(running);
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes, "{pair:?}: nobody counts");
        sendmail(&scene, "webuser", &["-t"]).succeeded();
        eventually("four left", || scene.mail_outside().len() == 4);
        running = keeper();
        let refused = smtp.send(ALICE.name, &[OUTSIDE], "x");
        assert!(refused.says("451 4.7.1 "), "{pair:?}: {refused}");
        (0..3).for_each(|_| drop(sendmail(&scene, "webuser", &["-t"]).succeeded()));
        eventually("two left and one is held", || {
            (scene.mail_outside().len(), scene.api(&["list_held"]).as_array().unwrap().len()) == (6, 1)
        });
        end(running);
    }
}
