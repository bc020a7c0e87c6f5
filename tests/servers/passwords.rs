//! Passwords stay Dovecot's business: whatever the hook in front of it does, a wrong one gets in nowhere, a
//! right one is lost to no trouble of ours, and Dovecot's own tools go on working.

use crate::clients::Way;
use crate::doing::{BRAZILIAN, GERMAN, allow_germany_alone, doveadm_auth_test};
use crate::rig::{ALICE, BOB, Doors, DovecotDoor, Pair, Scene, at_once};
use crate::told;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

const GATE: &str = "/usr/libexec/postern/postern-dovecot";

/// Lines of shell in the place of the gate. As the gate, it first closes what it inherited and waits for name
/// and password: Dovecot reads the pipe of a child that was killed to its end, which comes when no sibling holds
/// the pipe any more, and everybody would wait for everybody where the siblings wait for Dovecot (seen).
fn put_in_place_of_the_gate(scene: &Scene, script: &str) {
    let first = "for fd in {5..254}; do eval \"exec $fd>&-\"; done; head -c 1 <&3 >/dev/null";
    scene.put_program(GATE, &format!("#!/bin/bash\n{first}\n{script}\n"));
}

/// Every way with the right password, with a wrong one and with the name of nobody, so many at once: the ways by
/// which the right one got in, and by which the others did.
fn who_gets_in_of(scene: &Scene, together: usize) -> [Vec<Way>; 2] {
    let names =
        [(ALICE.name, ALICE.password), (ALICE.name, "guessed"), ("nobody@example.test", ALICE.password)];
    let tries: Vec<_> = names.iter().flat_map(|who| Way::ALL.map(|way| (way, *who))).collect();
    let yes =
        |(way, (name, password)): &(Way, (&str, &str))| scene.login_as(*way, GERMAN, name, password).yes;
    let replies: Vec<bool> = tries.chunks(together).flat_map(|some| at_once(some, yes)).collect();
    let of = |right: bool| {
        let all = tries.iter().zip(&replies);
        all.filter(|((_, who), yes)| **yes && (*who == names[0]) == right).map(|((way, _), _)| *way).collect()
    };
    [of(true), of(false)]
}

fn who_gets_in(scene: &Scene) -> [Vec<Way>; 2] {
    who_gets_in_of(scene, usize::MAX)
}

#[test]
fn no_trouble_of_the_gate_lets_a_wrong_password_in_or_keeps_a_right_one_out() {
    let scene = Scene::on(Pair::Bookworm).doors(Doors::BOTH).start();
    for trouble in [
        "exit 0",
        "exit 2",
        "exit 111",
        "exit 255",
        "printf 'noauthenticate=y\\t' >&4; exit 111",
        "kill -SEGV $$",
        "kill -KILL $$",
        "printf 'noauthenticate=y\\t' >&4; kill -KILL $$",
        "exec /nowhere",
    ] {
        put_in_place_of_the_gate(&scene, trouble);
        // A shell is slow to close what it inherited: those that are killed have no siblings.
        let together = if trouble.contains("kill") { 1 } else { usize::MAX };
        assert_eq!(who_gets_in_of(&scene, together), [Way::ALL.to_vec(), vec![]], "{trouble}");
    }
    fs::set_permissions(scene.path(GATE), Permissions::from_mode(0o644)).unwrap();
    assert_eq!(who_gets_in(&scene), [Way::ALL.to_vec(), vec![]], "not executable");
    fs::remove_file(scene.path(GATE)).unwrap();
    assert_eq!(who_gets_in(&scene), [Way::ALL.to_vec(), vec![]], "missing");
}

#[test]
fn no_answer_of_the_gate_lets_a_wrong_password_in() {
    let scene = Scene::on(Pair::Bookworm).doors(Doors::BOTH).start();
    for answer in [
        "printf 'noauthenticate=y\\t' >&4; [ \"$AUTHORIZED\" = 1 ] && exit 2; exit 0",
        "[ \"$AUTHORIZED\" = 1 ] && exit 3; exit 1",
        "exit 1",
        "exit 3",
        "printf 'nonsense' >&4; exit 111",
        "printf 'reason=no\\t' >&4; exit 1",
    ] {
        put_in_place_of_the_gate(&scene, answer);
        assert_eq!(who_gets_in(&scene)[1], vec![], "{answer}");
    }
}

#[test]
fn the_gate_and_the_failed_stage_stay_until_dovecot_has_written_name_and_password() {
    let scene = Scene::on(Pair::Bookworm).doors(Doors::DOVECOT).start();
    allow_germany_alone(&scene);
    for (address, lookup, words, status, reply) in [
        (GERMAN, "", "gate", 0, "noauthenticate=y\t"),
        (GERMAN, "AUTHORIZED=1", "gate", 2, "noauthenticate=y\t"),
        (BRAZILIAN, "", "gate", 1, ""),
        (BRAZILIAN, "AUTHORIZED=1", "gate", 3, ""),
        (GERMAN, "", "failed", 1, ""),
        // A fault is met no earlier, either: the way out would break the pipe.
        (GERMAN, "", "--fault=panic gate", 0, "noauthenticate=y\t"),
        (BRAZILIAN, "", "--fault=11 gate", 0, "noauthenticate=y\t"),
        (GERMAN, "AUTHORIZED=1", "--fault=11 gate", 2, "noauthenticate=y\t"),
        (GERMAN, "", "--fault=panic failed", 1, ""),
        (GERMAN, "AUTHORIZED=1", "--fault=11 failed", 3, ""),
    ] {
        // The first command of the pipe is a Dovecot that is late. Its write fails where nobody holds the
        // other end any more.
        let script = format!(
            "{{ sleep 0.4; printf 'alice\\0secret\\0' || echo broken >&5; }} 5>&2 | {{
             env {lookup} SERVICE=imap AUTH_USER={} TCPREMOTEIP={address} {GATE} {words} 3<&0 4>&1; echo \"exit $?\"; }}",
            ALICE.name
        );
        let ran = scene.run_as("dovecot", &["sh", "-c", &script], "");
        assert_eq!(ran.stderr, "", "{words} {address} {lookup}");
        assert_eq!(ran.succeeded(), format!("{reply}exit {status}\n"), "{words} {address} {lookup}");
    }
}

#[test]
fn dovecots_own_tools_look_up_and_test_accounts_as_before() {
    for door in [DovecotDoor::Gate, DovecotDoor::Chain] {
        let scene = Scene::on(Pair::Bookworm).doors(Doors { dovecot: Some(door), ..Doors::NONE }).start();
        allow_germany_alone(&scene);

        let found = scene.doveadm(&["auth", "lookup", ALICE.name]).succeeded();
        assert!(found.contains("alice@example.test"), "{door:?}: {found}");
        for (address, right, code) in [
            (None, true, 0),
            (Some(GERMAN), true, 0),
            (Some(BRAZILIAN), true, 77),
            (None, false, 77),
            (Some(GERMAN), false, 77),
        ] {
            let tested = doveadm_auth_test(&scene, address, right);
            assert_eq!(tested.code(), Some(code), "{door:?} {address:?} right: {right}: {tested:?}");
        }
        // What is refused for its address is refused to a lookup on its behalf too, and says so in Activity.
        let refused = scene.doveadm(&["auth", "lookup", "-x", &format!("rip={BRAZILIAN}"), BOB.name]);
        assert!(!refused.stdout.contains(BOB.password), "{door:?}: {refused:?}");
        let event = |who: &str| (format!("{who} {BRAZILIAN} BR doveadm refuse country_not_allowed"), 1);
        assert_eq!(told::activity(&scene), BTreeMap::from([event(ALICE.name), event(BOB.name)]), "{door:?}");
        let refused = BTreeMap::from([("BR refused".to_owned(), 2), ("BR tried".to_owned(), 2)]);
        assert_eq!(told::statistics(&scene), refused, "{door:?}: what a tool is not refused is no try");
    }
}
