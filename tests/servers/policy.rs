//! Dovecot's policy server: what Dovecot 2.3 and 2.4 make of Postern's answers, and that logins go on whatever
//! becomes of it.

use crate::clients::{Reply, Way};
use crate::doing::{BRAZILIAN, GERMAN, allow_germany_alone, doveadm_auth_test};
use crate::rig::{ALICE, BOB, Doors, OnPort, Pair, Scene, at_once, eventually};
use crate::told;
use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

const PROGRAM: &str = "/usr/libexec/postern/postern-dovecot";
const SENTENCE: &str = "Logins from this country are not allowed here.";

/// Logins from Germany alone, told by the policy server and by nobody else.
fn scene(pair: Pair) -> Scene {
    set(Scene::on(pair).doors(Doors::POLICY).start())
}

fn set(scene: Scene) -> Scene {
    allow_germany_alone(&scene);
    for service in ["smtp", "imap", "pop3"] {
        scene.api(&["set_setting", &format!("key={service}_logins_from"), "value=policy"]);
    }
    scene
}

/// What Dovecot waited for in vain. (A port that is opened anew breaks off reports that are still under way.)
fn waited_in_vain(scene: &Scene) -> String {
    let log = scene.dovecot_log();
    let lines = log.lines().filter(|line| line.contains("Policy server") && line.contains("timeout"));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Where nobody answered for a while, Dovecot asks nobody for about as long, a minute at most; a new one asks.
fn asked_anew(scene: &mut Scene) {
    scene.restart_servers();
}

/// Every way with the right password, with a wrong one and with the name of nobody: the ways by which the right one
/// got in, and by which the others did. Whoever does not is told of his password in Dovecot's own words.
fn who_gets_in(scene: &Scene) -> [Vec<Way>; 2] {
    let names =
        [(ALICE.name, ALICE.password), (ALICE.name, "guessed"), ("nobody@example.test", ALICE.password)];
    let tries: Vec<_> = names.iter().flat_map(|who| Way::ALL.map(|way| (way, *who))).collect();
    let replies = at_once(&tries, |(way, (name, password))| scene.login_as(*way, GERMAN, name, password));
    for ((way, who), reply) in tries.iter().zip(&replies) {
        assert!(reply.yes || is_wrong_password(*way, reply), "{way:?} {who:?}: {reply}");
    }
    let of = |right: bool| {
        let all = tries.iter().zip(&replies);
        let these = all.filter(|((_, who), reply)| reply.yes && (*who == names[0]) == right);
        these.map(|((way, _), _)| *way).collect()
    };
    [of(true), of(false)]
}

fn is_wrong_password(way: Way, reply: &Reply) -> bool {
    reply.text
        == match way {
            Way::Pop3 => "-ERR [AUTH] Authentication failed.",
            way if way.is_smtp() => "535 Incorrect authentication data",
            _ => "a NO [AUTHENTICATIONFAILED] Authentication failed.",
        }
}

#[track_caller]
fn only_the_right_password_gets_in(scene: &Scene, case: &str) {
    assert_eq!(who_gets_in(scene), [Way::ALL.to_vec(), vec![]], "{:?} {case}", scene.pair());
}

/// What becomes of the figures, once all was told.
#[track_caller]
fn figures_become(scene: &Scene, expected: &[(&str, i64)]) {
    let expected: BTreeMap<String, i64> = expected.iter().map(|(what, n)| ((*what).into(), *n)).collect();
    let lines: i64 = expected.iter().filter(|(what, _)| !what.ends_with("refused")).map(|(_, n)| n).sum();
    eventually("Dovecot told of every login", || told::tally_lines(scene) as i64 >= lines);
    assert_eq!(told::statistics(scene), expected, "{:?}", scene.pair());
}

#[test]
fn each_login_is_counted_once_however_it_ends_and_a_refusal_is_no_failure() {
    for pair in Pair::ALL {
        let scene = scene(pair);
        for way in Way::ALL {
            assert!(scene.login(way, GERMAN, &ALICE).yes, "{pair:?} {way:?}");
            assert!(is_wrong_password(way, &scene.login_as(way, GERMAN, ALICE.name, "guessed")));
            assert!(!scene.login(way, BRAZILIAN, &ALICE).yes, "{pair:?} {way:?}");
        }
        assert!(!scene.login_as(Way::Imap, BRAZILIAN, ALICE.name, "guessed").yes);
        figures_become(
            &scene,
            &[("BR refused", 7), ("BR tried", 7), ("DE failed", 6), ("DE succeeded", 6), ("DE tried", 12)],
        );
        let state = rusqlite::Connection::open(scene.path("/var/lib/postern/state/state.db")).unwrap();
        let known = "SELECT network || ' ' || n FROM known_network";
        let known: String = state.query_row(known, [], |row| row.get(0)).unwrap();
        assert_eq!(known, "79.192.0.0/24 6", "{pair:?}");
        for part in ["SMTP logins", "IMAP logins", "POP3 logins"] {
            let says = told::status_of(&scene, part);
            assert!(says.starts_with("Guarded; last asked: dovecot-policy "), "{pair:?} {part}: {says}");
        }
        assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?}");
    }
}

#[test]
fn postfix_shows_the_text_to_a_client_that_is_refused() {
    for pair in Pair::POSTFIX {
        let scene = scene(pair);
        for way in Way::SMTP {
            let reply = scene.login(way, BRAZILIAN, &ALICE);
            let begins = format!("535 5.7.8 Error: authentication failed: {SENTENCE} Reference ");
            assert!(reply.text.starts_with(&begins), "{pair:?} {way:?}: {reply}");
            let reference = told::reference(&reply.text).unwrap();
            assert_eq!(told::under_reference(&scene, reference)["service"], "smtp", "{pair:?} {way:?}");
            assert!(scene.login(way, GERMAN, &ALICE).yes, "{pair:?} {way:?}");
            let wrong = scene.login_as(way, GERMAN, ALICE.name, "guessed");
            assert!(
                wrong.text.starts_with("535 5.7.8 ") && !wrong.says(SENTENCE),
                "{pair:?} {way:?}: {wrong}"
            );
        }
        figures_become(
            &scene,
            &[("BR refused", 3), ("BR tried", 3), ("DE failed", 3), ("DE succeeded", 3), ("DE tried", 6)],
        );
    }
}

#[test]
fn dovecots_own_tools_look_up_and_test_accounts_as_before() {
    for pair in Pair::ALL {
        let scene = scene(pair);
        let found = scene.doveadm(&["auth", "lookup", ALICE.name]).succeeded();
        assert!(found.contains(ALICE.name), "{pair:?}: {found}");
        for (address, right, code) in [
            (None, true, 0),
            (Some(GERMAN), true, 0),
            (Some("::1"), true, 0),
            (Some(BRAZILIAN), true, 77),
            (Some("2001:12ff::1"), true, 77),
            (None, false, 77),
            (Some(GERMAN), false, 77),
        ] {
            let tested = doveadm_auth_test(&scene, address, right);
            assert_eq!(tested.code(), Some(code), "{pair:?} {address:?} right: {right}: {tested:?}");
        }
        assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?}");
    }
}

#[test]
fn logins_go_on_whatever_answers_in_posterns_place() {
    for pair in Pair::ALL {
        let mut scene = scene(pair);
        for how in [
            OnPort::Absent,
            OnPort::Hangs,
            OnPort::Bytes(""),
            OnPort::Bytes("nonsense"),
            OnPort::Bytes("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
            OnPort::Bytes("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
            OnPort::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{\"status\":-1"),
            OnPort::Json("nonsense"),
            OnPort::Json(""),
            OnPort::Json("{}"),
            OnPort::Json(r#"{"status":"-1","msg":""}"#),
        ] {
            scene.on_policy_port(how);
            asked_anew(&mut scene);
            only_the_right_password_gets_in(&scene, &format!("{how:?}"));
            let heard = scene.policy_heard().iter().any(|request| request.contains("?command=allow "));
            assert_eq!(heard, !matches!(how, OnPort::Absent), "{pair:?} {how:?}");
        }
        scene.on_policy_port(OnPort::Postern(&[]));
        asked_anew(&mut scene);
        assert!(!scene.login(Way::Imap, BRAZILIAN, &ALICE).yes, "{pair:?}: all is well again");
    }
}

#[test]
fn logins_go_on_without_the_program_and_with_another_key() {
    for pair in Pair::ALL {
        let mut scene = scene(pair);
        let key = scene.path("/etc/postern/policy-key");
        let right = fs::read_to_string(&key).unwrap();
        fs::write(&key, "0".repeat(64)).unwrap();
        only_the_right_password_gets_in(&scene, "another key");
        assert!(scene.login(Way::Imap, BRAZILIAN, &ALICE).yes, "{pair:?}: nobody is asked");
        let troubles = told::troubles(&scene);
        let parts = ["policy server for Dovecot", "policy-key"];
        assert_eq!(troubles.keys().collect::<Vec<_>>(), parts, "{pair:?}: {troubles:?}");
        fs::write(&key, right).unwrap();
        assert!(!scene.login(Way::Imap, BRAZILIAN, &ALICE).yes, "{pair:?}: at once");
        scene.run_as("root", &["mv", PROGRAM, "/rig/away"], "").succeeded();
        asked_anew(&mut scene);
        only_the_right_password_gets_in(&scene, "no program");
        scene.run_as("root", &["mv", "/rig/away", PROGRAM], "").succeeded();
        fs::remove_file(scene.path("/etc/postern/dovecot-policy.conf")).unwrap();
        asked_anew(&mut scene);
        only_the_right_password_gets_in(&scene, "no secrets");
        assert!(scene.login(Way::Imap, BRAZILIAN, &ALICE).yes, "{pair:?}: Dovecot has no policy server");
    }
}

#[test]
fn a_program_that_fails_answers_in_time_that_logins_go_on() {
    for pair in Pair::ALL {
        let mut scene = scene(pair);
        for (fault, code) in [
            ("--fault=panic", "panic"),
            ("--fault=11", "signal"),
            ("--fault=overflow", "signal"),
            ("--fault=hang", "deadline"),
        ] {
            let fault: &'static [&'static str] = Box::leak(Box::new([fault]));
            scene.on_policy_port(OnPort::Postern(fault));
            asked_anew(&mut scene);
            only_the_right_password_gets_in(&scene, fault[0]);
            assert!(told::troubles(&scene).contains_key(code), "{pair:?} {code}");
        }
        // Also the one that hangs was heard: it says what it has to say before Dovecot gives up.
        assert_eq!(waited_in_vain(&scene), "", "{pair:?}");
        scene.on_policy_port(OnPort::Postern(&["--fault=9"]));
        asked_anew(&mut scene);
        only_the_right_password_gets_in(&scene, "killed");
    }
}

#[test]
fn a_refusal_comes_in_time_although_it_cannot_be_recorded() {
    for pair in Pair::ALL {
        let scene = scene(pair);
        let lock = rusqlite::Connection::open(scene.path("/var/lib/postern/state/state.db")).unwrap();
        lock.execute_batch("BEGIN IMMEDIATE").unwrap();
        let replies = at_once(&Way::ALL, |way| (*way, scene.login(*way, BRAZILIAN, &ALICE)));
        for (way, reply) in replies {
            assert!(!reply.yes, "{pair:?} {way:?}: {reply}");
            assert!(way.is_smtp() || reply.says(SENTENCE), "{pair:?} {way:?}: {reply}");
        }
        lock.execute_batch("ROLLBACK").unwrap();
        assert!(told::troubles(&scene).contains_key("state-locked"), "{pair:?}");
    }
}

#[test]
fn an_ordinary_user_reads_dovecots_configuration_and_no_secret() {
    for pair in Pair::ALL {
        let scene = scene(pair);
        let doveconf = |user: &str| {
            let ran = scene.run_as(user, &["/usr/bin/doveconf", "-P", "-c", "/rig/dovecot.conf"], "");
            assert!(!ran.stderr.contains("rror"), "{pair:?} {user}: {ran:?}");
            ran.succeeded()
        };
        let key = fs::read_to_string(scene.path("/etc/postern/policy-key")).unwrap();
        let (by_root, by_user) = (doveconf("root"), doveconf("webuser"));
        assert!(by_root.contains(key.trim()) && !by_user.contains(key.trim()), "{pair:?}");
        assert!(!by_user.contains("10301"), "{pair:?}: for him there is no policy server");
    }
}

/// Logins one after the other, each with its report, so that the other server's memory is in order.
fn some_logins(scene: &Scene) {
    for way in [Way::Imap, Way::ImapCramMd5, Way::Pop3, Way::SmtpPlain, Way::SmtpCramMd5] {
        for (from, password) in [(GERMAN, ALICE.password), (GERMAN, "guessed"), ("2003::1", ALICE.password)] {
            scene.login_as(way, from, ALICE.name, password);
        }
    }
}

/// A request without what is another one each time: when it was sent, and Dovecot's name for the session (2.4).
fn timeless(request: &str) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let head: String = head.split_inclusive("\r\n").filter(|line| !line.starts_with("Date: ")).collect();
    let session = "\"session_id\":\"";
    let body = match body.split_once(session) {
        Some((before, after)) => {
            let (name, after) = after.split_once('"').unwrap();
            format!("{before}{session}{} letters\"{after}", name.len())
        }
        None => body.to_owned(),
    };
    format!("{head}\r\n\r\n{body}")
}

/// What the other server heard: all of it.
fn heard(scene: &Scene, requests: usize) -> Vec<String> {
    let mut all = Vec::new();
    let all = &std::cell::RefCell::new(&mut all);
    eventually("the other policy server hears of every login", || {
        all.borrow_mut().extend(scene.other_policy_heard());
        all.borrow().len() >= requests
    });
    let mut all: Vec<String> = all.borrow().iter().map(|request| timeless(request)).collect();
    all.sort();
    all
}

#[test]
fn a_policy_server_that_was_there_before_hears_every_byte_that_it_heard_without_postern() {
    for pair in Pair::ALL {
        let scene_without = Scene::on(pair).with_other_policy_server().start();
        some_logins(&scene_without);
        let without = heard(&scene_without, 30);
        drop(scene_without);
        let scene = set(Scene::on(pair).doors(Doors::POLICY).with_other_policy_server().start());
        some_logins(&scene);
        let with = heard(&scene, 30);
        for (with, without) in with.iter().zip(&without) {
            assert_eq!(with, without, "{pair:?}");
        }
        assert_eq!(with.len(), without.len(), "{pair:?}");
        assert!(
            with[0].contains("X-API-Key:  key-of-the-other\r\n") && with[0].contains("authtoken_hash"),
            "{}",
            with[0]
        );
        assert!(!with.concat().contains("postern"), "{pair:?}");
        figures_become(&scene, &[("DE failed", 5), ("DE succeeded", 10), ("DE tried", 15)]);
        assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?}");
    }
}

#[test]
fn the_stricter_of_two_policy_servers_holds() {
    for pair in Pair::ALL {
        let scene = set(Scene::on(pair).doors(Doors::POLICY).with_other_policy_server().start());
        scene.on_other_policy_port(OnPort::Json(r#"{"status":-1,"msg":"Go away, says the other"}"#));
        for way in Way::ALL {
            let reply = scene.login(way, GERMAN, &ALICE);
            assert!(!reply.yes, "{pair:?} {way:?}");
            assert!(way.is_smtp() || reply.says("Go away, says the other"), "{pair:?} {way:?}: {reply}");
        }
        let asked = scene.other_policy_heard();
        assert!(asked.iter().all(|request| request.contains("?command=allow ")), "{asked:?}");
        for way in Way::ALL {
            let reply = scene.login(way, BRAZILIAN, &ALICE);
            assert!(!reply.yes && (way.is_smtp() || reply.says(SENTENCE)), "{pair:?} {way:?}: {reply}");
        }
        scene.on_other_policy_port(OnPort::Json(r#"{"status":1,"msg":""}"#));
        only_the_right_password_gets_in(&scene, "tarpit");
        assert!(scene.dovecot_log().contains("tarpit 1 second(s)"), "{pair:?}");
        scene.other_policy_heard();
        assert!(!scene.login(Way::Imap, BRAZILIAN, &ALICE).yes);
        assert!(!scene.login_as(Way::Pop3, BRAZILIAN, ALICE.name, "guessed").yes);
        assert!(scene.login(Way::Imap, GERMAN, &BOB).yes);
        eventually("the report of the last", || {
            scene.other_policy_heard().last().is_some_and(|last| last.contains("?command=report "))
        });
        assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?}");
        let refused: i64 =
            told::activity(&scene).iter().filter(|(what, _)| what.contains(" refuse ")).map(|(_, n)| n).sum();
        assert_eq!(refused, 8, "{pair:?}: what the other refuses is not ours");
    }
}

#[test]
fn what_postern_refuses_the_other_policy_server_never_hears_of() {
    for pair in Pair::ALL {
        let scene = set(Scene::on(pair).doors(Doors::POLICY).with_other_policy_server().start());
        for way in Way::ALL {
            assert!(!scene.login(way, BRAZILIAN, &ALICE).yes, "{pair:?} {way:?}");
            assert!(!scene.login_as(way, BRAZILIAN, ALICE.name, "guessed").yes, "{pair:?} {way:?}");
        }
        assert!(scene.login(Way::Imap, GERMAN, &BOB).yes);
        let heard = heard(&scene, 2);
        assert!(heard.iter().all(|request| request.contains(BOB.name)), "{pair:?}: {heard:?}");
    }
}

#[test]
fn logins_go_on_and_postern_decides_alone_whatever_becomes_of_the_other_policy_server() {
    for pair in Pair::ALL {
        let scene = set(Scene::on(pair).doors(Doors::POLICY).with_other_policy_server().start());
        for how in [
            OnPort::Absent,
            OnPort::Hangs,
            OnPort::Bytes(""),
            OnPort::Bytes("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
            OnPort::Json("nonsense"),
        ] {
            scene.on_other_policy_port(how);
            only_the_right_password_gets_in(&scene, &format!("{how:?}"));
            assert!(told::troubles(&scene).contains_key("chained-policy"), "{pair:?} {how:?}");
            assert!(scene.login(Way::Imap, BRAZILIAN, &ALICE).says(SENTENCE), "{pair:?} {how:?}");
            scene.postern(&["trouble", "clear"]).succeeded();
        }
        assert_eq!(waited_in_vain(&scene), "", "{pair:?}: Dovecot was answered in time");
    }
}

/// How often Dovecot had no answer: it asks once, and then the login goes on, or a report is lost.
fn unanswered(scene: &Scene) -> i64 {
    scene.dovecot_log().matches("Policy server HTTP error").count() as i64
}

/// Twenty times in a row, and clients log in all the while.
#[test]
fn a_restart_of_the_keeper_fails_no_login_and_what_it_was_asked_is_counted() {
    for pair in Pair::ALL {
        let scene = set(Scene::on(pair).doors(Doors::POLICY.and_keeper()).start());
        let (over, logins) = (AtomicBool::new(false), AtomicI64::new(0));
        std::thread::scope(|threads| {
            for way in [Way::Imap, Way::Pop3, Way::Imap, Way::Pop3] {
                let (scene, over, logins) = (&scene, &over, &logins);
                threads.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        let reply = scene.login(way, GERMAN, &ALICE);
                        assert!(reply.yes, "{pair:?} {way:?}: {reply}");
                        logins.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for _ in 0..20 {
                let before = logins.load(Ordering::Relaxed);
                eventually("there is load", || logins.load(Ordering::Relaxed) > before + 10);
                scene.restart_keeper();
            }
            over.store(true, Ordering::Relaxed);
        });
        // Each login is asked about and reported; what had no answer was not counted.
        let (logins, counted) = (logins.into_inner(), AtomicI64::new(0));
        eventually("every report has come", || {
            let figures = told::statistics(&scene);
            counted.store(figures["DE tried"] + figures["DE succeeded"], Ordering::Relaxed);
            counted.load(Ordering::Relaxed) + unanswered(&scene) >= 2 * logins
        });
        let (counted, unanswered) = (counted.into_inner(), unanswered(&scene));
        assert_eq!(counted + unanswered, 2 * logins, "{pair:?}: {unanswered} had no answer");
        eventually("Dovecot asks again", || !scene.login(Way::Imap, BRAZILIAN, &ALICE).yes);
        assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?}");
    }
}
