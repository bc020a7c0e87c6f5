//! The snippets for Exim, with a program that answers what the test wants in the place of the hook: only an
//! explicit word acts, and whatever else happens, mail goes on.

use crate::clients::{Reply, Way};
use crate::rig::{ALICE, BOB, Doors, OnSocket, Pair, Ran, Scene, at_once, eventually};

const GERMAN: &str = "79.192.0.1";
const OUTSIDE: &str = "friend@remote.test";
const MESSAGE: &str = "To: friend@remote.test\nSubject: x\n\nhello\n";

fn on_each_pair(test: impl Fn(&Scene) + Sync) {
    at_once(&Pair::ALL, |pair| {
        let scene = Scene::on(*pair).doors(Doors::EXIM).with_told_answers().start();
        test(&scene);
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    });
}

/// One message of a login that was allowed, with this answer at its end.
fn send_with(scene: &Scene, answer: &str) -> Reply {
    scene.answer("echo allow");
    let mut smtp = scene.smtp(GERMAN);
    assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
    assert!(smtp.ask(&format!("MAIL FROM:<{}>", ALICE.name)).yes);
    scene.answer(answer);
    smtp.ask(&format!("RCPT TO:<{OUTSIDE}>"));
    assert!(smtp.ask("DATA").says("354"));
    smtp.ask("Subject: x\r\n\r\nhello\r\n.")
}

fn sendmail_with(scene: &Scene, answer: &str) -> Ran {
    scene.answer(answer);
    scene.sendmail("webuser", &["-t"], MESSAGE)
}

#[test]
fn auth_refuses_with_the_hooks_own_code_and_text() {
    on_each_pair(|scene| {
        scene.answer("echo 'deny 535 5.7.8 Not from here (ref ab12)'; echo second line");
        for way in Way::SMTP {
            let reply = scene.login(way, GERMAN, &ALICE);
            assert_eq!(reply.text, "535 5.7.8 Not from here (ref ab12)", "{way:?}");
        }
        scene.answer("echo 'defer 451 4.7.1 Come back later'");
        assert_eq!(scene.login(Way::SmtpPlain, GERMAN, &ALICE).text, "451 4.7.1 Come back later");
        eventually("Exim says why", || {
            let log = scene.exim_log();
            log.contains("postern: refused: 535 5.7.8 Not from here")
                && log.contains("postern: refused for now: 451 4.7.1 Come back later")
        });
    });
}

#[test]
fn no_log_and_no_argument_holds_a_password() {
    on_each_pair(|scene| {
        scene.answer("echo 'deny 535 5.7.8 No'");
        for way in Way::SMTP {
            assert!(!scene.login(way, GERMAN, &ALICE).yes);
        }
        scene.answer("echo what");
        assert!(scene.login(Way::SmtpPlain, GERMAN, &ALICE).yes);
        let rejected = std::fs::read_to_string(scene.path("/rig/exim/log/rejectlog")).unwrap();
        let said = scene.exim_log() + &rejected + &scene.asked().join("\n");
        // AUTH PLAIN carries the base64 of NUL alice NUL password; AUTH LOGIN that of the password alone.
        for secret in [ALICE.password, "AGFsaWNl", "c2VjcmV0LW9mLWFsaWNl"] {
            assert!(!said.contains(secret), "{secret} in\n{said}");
        }
    });
}

#[test]
fn long_answers_are_cut_at_200_characters_and_odd_ones_stay_text() {
    on_each_pair(|scene| {
        let text = format!("535 5.7.8 {}", "x".repeat(500));
        scene.answer(&format!("echo 'deny {text}'"));
        assert_eq!(scene.login(Way::SmtpPlain, GERMAN, &ALICE).text, text[..200]);
        scene.answer("printf '%s\\n' 'deny 535 5.7.8 ${run{/bin/false}} $1 \"quoted\" \\t }'");
        let reply = scene.login(Way::SmtpPlain, GERMAN, &ALICE);
        assert_eq!(reply.text, "535 5.7.8 ${run{/bin/false}} $1 \"quoted\" \\t }");
    });
}

#[test]
fn whatever_is_no_explicit_word_lets_mail_go_on() {
    const ANSWERS: [&str; 12] = [
        "echo allow",
        "echo undecided",
        "printf allow",
        "echo open state busy",
        "true",
        "echo",
        "echo denying everything",
        "echo ' deny 550 5.7.1 no'",
        "printf 'allow\\ndeny 550 5.7.1 no\\n'",
        "echo 'deny 550 5.7.1 no'; exit 1",
        "echo 'hold it'; exit 111",
        "head -c 100000 /dev/zero | tr '\\0' x",
    ];
    on_each_pair(|scene| {
        for answer in ANSWERS {
            let lines = |log: String| log.matches("postern: no decision on").count();
            let before = lines(scene.exim_log());
            let quiet = ["echo allow", "echo undecided", "printf allow"].contains(&answer);
            scene.answer(answer);
            assert!(scene.login(Way::SmtpPlain, GERMAN, &ALICE).yes, "auth, {answer}");
            let sent = send_with(scene, answer);
            assert!(sent.yes, "data, {answer}: {sent}");
            assert_eq!(sendmail_with(scene, answer).code(), Some(0), "not_smtp, {answer}");
            let after = lines(scene.exim_log());
            assert_eq!(after - before, if quiet { 0 } else { 3 }, "lines in Exim's log, {answer}");
        }
        scene.exim(&["-qff"]).succeeded();
        eventually("all messages leave", || scene.mail_outside().len() == 2 * ANSWERS.len());
    });
}

#[test]
fn a_missing_program_lets_mail_go_on_by_every_acl() {
    on_each_pair(|scene| {
        for change in ["chmod 644", "rm"] {
            let program = "/usr/libexec/postern/postern-exim";
            scene.run_as("root", &["sh", "-c", &format!("{change} {program}")], "").succeeded();
            let mut smtp = scene.smtp(GERMAN);
            assert!(smtp.auth_login(ALICE.name, ALICE.password).yes, "{change}");
            assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes, "{change}");
            assert_eq!(scene.sendmail("webuser", &["-t"], MESSAGE).code(), Some(0), "{change}");
        }
        eventually("all messages leave", || scene.mail_outside().len() == 4);
        let log = scene.exim_log();
        for what in ["a login", "the use of a login", "a message"] {
            let line = format!("postern: no decision on {what}, going on: exit status 127");
            assert_eq!(log.matches(&line).count(), 2, "{what}:\n{log}");
        }
        // The shell tells in its own words.
        let line = "postern: no decision on a message, going on: exit status 111";
        assert_eq!(log.matches(line).count(), 2, "{log}");
    });
}

/// Every question that an ACL asks, in a session that goes on and with a local message: AUTH, MAIL, DATA, the end
/// of a login that was not used, a local program. None may be kept from going on.
fn all_goes_on(scene: &Scene, what: &str) {
    let mut smtp = scene.smtp(GERMAN);
    let auth = smtp.auth_plain(ALICE.name, ALICE.password);
    assert!(auth.yes, "{what}: {auth}");
    let sent = smtp.send(ALICE.name, &[OUTSIDE], "x");
    assert!(sent.yes, "{what}: {sent}");
    let mut unused = scene.smtp(GERMAN);
    assert!(unused.auth_login(BOB.name, BOB.password).yes, "{what}");
    assert!(unused.ask("QUIT").yes, "{what}");
    assert_eq!(scene.sendmail("webuser", &["-t"], MESSAGE).code(), Some(0), "{what}");
}

const ASKED_BY_ALL: [&str; 6] = ["auth", "mail", "send", "auth", "outcome", "send"];

fn verbs(asked: &[String]) -> Vec<&str> {
    asked.iter().map(|line| line.split('|').nth(1).unwrap()).collect()
}

#[test]
fn the_keeper_is_asked_first_and_told_the_same_as_the_program() {
    on_each_pair(|scene| {
        let keeper = scene.on_socket(OnSocket::Says(b"allow\n".into()));
        all_goes_on(scene, "allow");
        assert_eq!(scene.asked(), Vec::<String>::new(), "no process");
        let asked = keeper.asked();
        assert_eq!(verbs(&asked), ASKED_BY_ALL);
        assert_eq!(asked[0], "postern/1|auth|79.192.0.1");
        assert_eq!(asked[1], "postern/1|mail|79.192.0.1|alice@example.test");
        let start = "postern/1|send|data|79.192.0.1|alice@example.test||";
        assert!(asked[2].starts_with(start) && asked[2].contains("|1|1"), "{}", asked[2]);
        assert_eq!(asked[4], "postern/1|outcome|79.192.0.1|bob@example.test|succeeded");
        let start = "postern/1|send|local||webuser|webuser|2001|1|1";
        assert!(asked[5].starts_with(start), "{}", asked[5]);
        assert!(!scene.exim_log().contains("postern"), "{}", scene.exim_log());
    });
}

#[test]
fn the_keepers_words_act_as_the_programs_do() {
    on_each_pair(|scene| {
        let told = |answer: &str| scene.on_socket(OnSocket::Says(answer.into()));
        {
            let _keeper = told("deny 535 5.7.8 Not from here (ref ab12)\nsecond line\n");
            for way in Way::SMTP {
                assert_eq!(scene.login(way, GERMAN, &ALICE).text, "535 5.7.8 Not from here (ref ab12)");
            }
        }
        {
            let _keeper = told("defer 451 4.7.1 Come back later\n");
            assert_eq!(scene.login(Way::SmtpPlain, GERMAN, &ALICE).text, "451 4.7.1 Come back later");
            assert_eq!(scene.sendmail("webuser", &["-t"], MESSAGE).code(), Some(1));
        }
        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        {
            let _keeper = told("deny 550 5.7.1 Not you\n");
            assert_eq!(smtp.ask(&format!("MAIL FROM:<{}>", ALICE.name)).text, "550 5.7.1 Not you");
        }
        {
            let _keeper = told("hold Too many\n");
            assert_eq!(scene.sendmail("webuser", &["-t"], MESSAGE).code(), Some(0));
            let queue = scene.exim(&["-bp"]).succeeded();
            assert!(queue.contains("frozen"), "{queue}");
        }
    });
}

#[test]
fn a_keeper_that_is_dead_late_or_overrun_gives_way_to_the_program() {
    on_each_pair(|scene| {
        for how in [
            OnSocket::Dead,
            OnSocket::Full,
            OnSocket::SaysLate(b"deny 550 5.7.1 too late\n".into()),
            OnSocket::SaysAndStays(b"deny 550 5.7.1 never ends\n".into()),
        ] {
            scene.answer("echo allow");
            let keeper = scene.on_socket(how.clone());
            scene.asked();
            all_goes_on(scene, &format!("{how:?}"));
            let asked = scene.asked();
            assert_eq!(verbs(&asked), ASKED_BY_ALL, "{how:?}");
            assert!(asked.iter().all(|line| line.contains("|--after-socket|")), "{how:?}: {asked:?}");
            drop(keeper);
        }
        assert!(!scene.exim_log().contains("postern"), "{}", scene.exim_log());
    });
}

#[test]
fn a_connection_that_met_a_dead_keeper_asks_the_next_one() {
    // Exim keeps the number of a socket that it could not connect to; whatever file has that number by then
    // would be written to and closed.
    on_each_pair(|scene| {
        let dead = scene.on_socket(OnSocket::Dead);
        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "one").yes);
        drop(dead);
        let keeper = scene.on_socket(OnSocket::Says(b"allow\n".into()));
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "two").yes);
        assert_eq!(verbs(&keeper.asked()), ["send"]);
        drop(keeper);
        for number in 3..10 {
            assert!(smtp.send(ALICE.name, &[OUTSIDE], "more").yes, "{number}");
        }
        eventually("all messages leave", || scene.mail_outside().len() == 9);
    });
}

#[test]
fn what_a_keeper_says_without_sense_lets_mail_go_on_with_a_line_each() {
    on_each_pair(|scene| {
        let long = |word: &str| [word.as_bytes(), &[b'x'; 300_000][..], b"\n"].concat();
        for how in [
            OnSocket::Closes,
            OnSocket::Says(b"\n".into()),
            OnSocket::Says(b"open busy\n".into()),
            OnSocket::Says(b"denying everything\n".into()),
            OnSocket::Says(b" deny 550 5.7.1 no\n".into()),
            OnSocket::Says(b"allow\ndeny 550 5.7.1 no\n".into()),
            OnSocket::Says(b"\0\xff\xfe$1${run{/bin/false}}\r\n".into()),
            OnSocket::Says(long("")),
            OnSocket::Says(long("allow")),
        ] {
            // The program would refuse; it is not asked.
            scene.answer("echo 'deny 550 5.7.1 by the program'");
            let lines = |log: String| log.matches("postern: ").count();
            let before = lines(scene.exim_log());
            let keeper = scene.on_socket(how.clone());
            let shown: String = format!("{how:?}").chars().take(200).collect();
            all_goes_on(scene, &shown);
            assert_eq!(verbs(&keeper.asked()), ASKED_BY_ALL, "{shown}");
            assert_eq!(lines(scene.exim_log()) - before, ASKED_BY_ALL.len(), "{shown}");
        }
        assert_eq!(scene.asked(), Vec::<String>::new());
        // Closed before the question was read: whether Exim could write it is a matter of luck.
        scene.answer("echo allow");
        let _keeper = scene.on_socket(OnSocket::Slams);
        all_goes_on(scene, "slams");
    });
}

#[test]
fn mail_asks_once_for_each_login_on_a_connection_and_keeps_its_refusal() {
    on_each_pair(|scene| {
        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        assert_eq!(scene.asked().len(), 1, "auth");
        for _ in 0..3 {
            assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes);
        }
        let asked: Vec<_> = scene.asked().into_iter().filter(|line| line.contains("|mail|")).collect();
        assert_eq!(asked, ["--now=+0|mail|--after-socket|--address=79.192.0.1|--account=alice@example.test"]);

        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.auth_plain(BOB.name, BOB.password).yes);
        scene.asked();
        scene.answer("echo 'deny 550 5.7.1 Not from here'");
        for _ in 0..3 {
            assert_eq!(smtp.send(BOB.name, &[OUTSIDE], "x").text, "550 5.7.1 Not from here");
        }
        assert_eq!(scene.asked().len(), 1);
    });
}

#[test]
fn the_message_itself_is_refused_deferred_or_held() {
    on_each_pair(|scene| {
        assert_eq!(send_with(scene, "echo 'deny 550 5.7.1 No more'").text, "550 5.7.1 No more");
        assert_eq!(send_with(scene, "echo 'defer 451 4.7.1 Later'").text, "451 4.7.1 Later");
        assert!(send_with(scene, "echo 'hold Too many'").yes);
        let queue = scene.exim(&["-bp"]).succeeded();
        assert!(queue.contains("frozen"), "{queue}");
        assert!(scene.exim_log().contains("postern: held"));
        assert_eq!(scene.mail_outside().len(), 0);
    });
}

#[test]
fn local_messages_are_refused_for_good_or_held_and_the_bounce_of_a_refused_one_passes() {
    on_each_pair(|scene| {
        let only_users =
            "case $* in *--account=webuser*) echo 'deny 550 5.7.1 No more';; *) echo allow;; esac";
        let refused = sendmail_with(scene, only_users);
        assert_eq!(refused.code(), Some(1), "{refused:?}");
        eventually("the bounce arrives", || scene.mail_of_local("webuser").len() == 1);
        assert!(scene.mail_of_local("webuser")[0].contains("No more"));
        assert_eq!(
            sendmail_with(scene, &only_users.replace("deny 550 5.7.1", "defer 451 4.7.1")).code(),
            Some(1)
        );

        assert_eq!(sendmail_with(scene, "echo 'hold Too many'").code(), Some(0));
        let queue = scene.exim(&["-bp"]).succeeded();
        assert!(queue.contains("frozen"), "{queue}");
        assert_eq!(scene.mail_outside().len(), 0);
        scene.exim(&["-q"]).succeeded();
        assert_eq!(scene.mail_outside().len(), 0, "an ordinary queue run leaves it");
        let held = queue.lines().find(|line| line.contains("frozen")).unwrap();
        let id = held.split_whitespace().nth(2).unwrap();
        scene.exim(&["-Mt", id]).succeeded();
        scene.exim(&["-M", id]).succeeded();
        eventually("the released message leaves", || scene.mail_outside().len() == 1);
    });
}

#[test]
fn a_hook_killed_by_a_signal_costs_a_login_one_try_and_a_local_message_nothing() {
    on_each_pair(|scene| {
        for signal in ["SEGV", "KILL"] {
            let killed = format!("kill -{signal} $$");
            scene.answer(&killed);
            let reply = scene.login(Way::SmtpPlain, GERMAN, &ALICE);
            assert!(reply.says("451"), "{signal}: {reply}");
            assert!(send_with(scene, &killed).says("451"), "{signal}");
            assert_eq!(sendmail_with(scene, &killed).code(), Some(0), "{signal}");
        }
        eventually("the local messages leave", || scene.mail_outside().len() == 2);
    });
}

#[test]
fn the_hook_is_told_what_the_contract_says() {
    on_each_pair(|scene| {
        send_with(scene, "echo allow");
        let asked = scene.asked();
        assert_eq!(asked[0], "--now=+0|auth|--after-socket|--address=79.192.0.1");
        assert_eq!(
            asked[1],
            "--now=+0|mail|--after-socket|--address=79.192.0.1|--account=alice@example.test"
        );
        let send = "--now=+0|send|--after-socket|--from=data|--address=79.192.0.1|--account=alice@example.test|--uid=";
        assert!(asked[2].starts_with(send) && asked[2].contains("|--recipients=1|--id="), "{}", asked[2]);

        scene.clock("+21601");
        let odd = r#""a b 'c' $(id) {x} \$1"@remote.test"#;
        scene.sendmail("webuser", &["-f", "<>", OUTSIDE, BOB.name], "Subject: x\n\nhello\n").succeeded();
        scene.sendmail("root", &["-f", odd, OUTSIDE], "Subject: x\n\nhello\n");
        let asked = scene.asked();
        let local = "--now=+21601|send|--after-socket|--from=local|--address=|--account=webuser|--caller=webuser|--uid=2001|--recipients=2|--id=1";
        assert!(asked[0].starts_with(local), "{}", asked[0]);
        // Whom Exim trusts, it gives no account to where -f is used; the caller stays.
        assert!(asked[1].contains("|--account=|--caller=root|--uid=0|--recipients=1|"), "{}", asked[1]);
    });
}

#[test]
fn sendmail_bs_is_asked_about_as_local_and_strangers_mail_is_not_asked_about() {
    on_each_pair(|scene| {
        let session = "HELO localhost\r\nMAIL FROM:<someone@else.test>\r\nRCPT TO:<bob@example.test>\r\n\
                       DATA\r\nSubject: y\r\n\r\nhello\r\n.\r\nQUIT\r\n";
        scene.sendmail("webuser", &["-bs"], session).succeeded();
        let asked = scene.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let start = "--now=+0|send|--after-socket|--from=data|--address=|--account=webuser|--uid=2001|--recipients=1|";
        assert!(asked[0].starts_with(start), "{}", asked[0]);

        // Who did not log in is no account of ours, on loopback either.
        for stranger in [GERMAN, "127.0.0.1", "::1"] {
            assert!(scene.smtp(stranger).send("stranger@remote.test", &[BOB.name], "x").yes);
            assert_eq!(scene.asked(), Vec::<String>::new(), "{stranger}");
        }
    });
}

#[test]
fn connect_conf_makes_the_snippets_work_where_variables_must_have_values() {
    for pair in Pair::ALL {
        let mut scene = Scene::on(pair).doors(Doors::EXIM).with_told_answers().start();
        let config = scene.path("/etc/exim4/exim4.conf");
        let strict = std::fs::read_to_string(&config).unwrap().replace(
            "keep_environment =\n",
            "keep_environment =\nstrict_acl_vars = true\nacl_smtp_connect = acl_connect\n",
        );
        let connect = "begin acl\n\nacl_connect:\n.include /rig/hooks/connect.conf\n  accept\n";
        std::fs::write(&config, strict.replace("begin acl\n", connect)).unwrap();
        scene.restart_servers();
        all_goes_on(&scene, "strict");
        assert_eq!(verbs(&scene.asked()), ASKED_BY_ALL, "{pair:?}");
        assert!(!scene.login_as(Way::SmtpPlain, GERMAN, ALICE.name, "guessed").yes);
        assert!(!scene.exim_log().contains("strict_acl_vars"), "{}", scene.exim_log());
    }
}

/// What was told of the ends of logins since the last time: `account how`.
fn ends(scene: &Scene) -> Vec<String> {
    let asked = scene.asked();
    let start = "--now=+0|outcome|--after-socket|--address=79.192.0.1|--account=";
    let told = asked.iter().filter(|line| line.contains("|outcome|"));
    told.map(|line| line.strip_prefix(start).unwrap_or(line).replace("|--ended=", " ")).collect()
}

#[test]
fn every_failed_login_of_a_connection_is_told_once() {
    on_each_pair(|scene| {
        for way in Way::SMTP {
            let mut smtp = scene.smtp(GERMAN);
            let mut fail = |name: &str| {
                let reply = match way {
                    Way::SmtpPlain => smtp.auth_plain(name, "guessed"),
                    Way::SmtpLogin => smtp.auth_login(name, "guessed"),
                    _ => smtp.auth_cram_md5(name, "guessed"),
                };
                assert!(reply.says("535"), "{way:?} {name}: {reply}");
            };
            for name in [ALICE.name, ALICE.name, BOB.name, "nobody@example.test"] {
                fail(name);
            }
            assert!(smtp.ask("QUIT").yes);
            let failed = |name: &str| format!("{name} failed");
            let all = [ALICE.name, ALICE.name, BOB.name, "nobody@example.test"].map(failed);
            assert_eq!(ends(scene), all, "{way:?}");
        }
    });
}

#[test]
fn a_login_that_was_not_used_for_mail_is_told_as_a_success_and_one_that_was_is_not() {
    on_each_pair(|scene| {
        let mut smtp = scene.smtp(GERMAN);
        assert!(!smtp.auth_plain(BOB.name, "guessed").yes);
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        // Logged in already: no try.
        assert!(!smtp.auth_plain(ALICE.name, "guessed").yes);
        assert!(smtp.ask("NOOP").yes && smtp.ask("RSET").yes && smtp.ask("QUIT").yes);
        assert_eq!(ends(scene), [format!("{} failed", BOB.name), format!("{} succeeded", ALICE.name)]);

        let mut smtp = scene.smtp(GERMAN);
        assert!(!smtp.auth_plain(ALICE.name, "guessed").yes);
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        assert!(smtp.ask(&format!("MAIL FROM:<{}>", ALICE.name)).yes && smtp.ask("QUIT").yes);
        assert_eq!(ends(scene), [format!("{} failed", ALICE.name)]);

        // Strangers' mail and a session without any login have nothing to tell.
        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.send("stranger@remote.test", &[BOB.name], "x").yes && smtp.ask("QUIT").yes);
        assert!(scene.smtp(GERMAN).ask("QUIT").yes);
        assert_eq!(scene.asked(), Vec::<String>::new());
    });
}

#[test]
fn a_connection_that_breaks_off_tells_how_its_login_ended() {
    on_each_pair(|scene| {
        for (password, how) in [("guessed", "failed"), (ALICE.password, "succeeded")] {
            let mut smtp = scene.smtp(GERMAN);
            smtp.auth_plain(ALICE.name, password);
            drop(smtp);
            eventually(how, || {
                let asked = std::fs::read_to_string(scene.path("/rig/asked")).unwrap();
                asked.lines().count() == 2
            });
            assert_eq!(ends(scene), [format!("{} {how}", ALICE.name)]);
        }
    });
}

#[test]
fn whom_the_auth_snippet_refuses_and_who_gives_up_leave_nothing_to_tell() {
    on_each_pair(|scene| {
        for refusal in ["echo 'deny 535 5.7.8 No'", "echo 'defer 451 4.7.1 Later'"] {
            scene.answer("echo allow");
            let mut smtp = scene.smtp(GERMAN);
            assert!(!smtp.auth_plain(ALICE.name, "guessed").yes);
            scene.answer(&format!("case $* in *--ended*) echo allow;; *) {refusal};; esac"));
            for _ in 0..2 {
                assert!(!smtp.auth_plain(BOB.name, BOB.password).yes);
            }
            assert!(smtp.ask("QUIT").yes);
            assert_eq!(ends(scene), [format!("{} failed", ALICE.name)], "{refusal}");
        }
        scene.answer("echo allow");
        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.ask("AUTH LOGIN").says("334") && smtp.ask("*").says("501"));
        assert!(!smtp.ask("AUTH PLAIN not-base64!").yes && smtp.ask("QUIT").yes);
        assert_eq!(ends(scene), Vec::<String>::new());
    });
}

#[test]
fn names_of_failed_logins_arrive_as_one_word_whatever_is_in_them() {
    on_each_pair(|scene| {
        for name in
            ["a b --ended=succeeded", "x' \"$(id)\" ${run{/bin/false}} \\1 }", " (set_id=alice@example.test)"]
        {
            let mut smtp = scene.smtp(GERMAN);
            assert!(!smtp.auth_plain(name, "guessed").yes);
            assert!(smtp.ask("QUIT").yes);
            assert_eq!(ends(scene), [format!("{name} failed")]);
        }
    });
}

#[test]
fn no_trouble_at_the_end_of_a_session_is_told_to_the_client() {
    on_each_pair(|scene| {
        for trouble in ["exit 111", "true", "echo what", "kill -SEGV $$", "kill -KILL $$"] {
            scene.answer(&format!("case $* in *--ended*) {trouble};; *) echo allow;; esac"));
            let mut smtp = scene.smtp(GERMAN);
            assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
            let bye = smtp.ask("QUIT");
            assert!(bye.says("221"), "{trouble}: {bye}");
        }
        eventually("a line each", || {
            let log = scene.exim_log();
            log.matches("postern: the end of a login is not counted").count() == 5
        });
    });
}

#[test]
fn the_snippets_for_exim_keep_to_what_panels_can_paste() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/hooks/exim")).unwrap() {
        let file = entry.unwrap().path();
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let shown = format!("{}: {line}", file.display());
            // cPanel's builder reads a line that is only `word:` as a new ACL, and `[% %]` as a template; upper
            // case after an underscore slows Exim's own reading.
            assert!(!line.chars().any(char::is_uppercase), "{shown}");
            assert!(!(line.trim_end().ends_with(':') && line.split_whitespace().count() == 1), "{shown}");
            assert!(!line.contains("[%"), "{shown}");
        }
    }
}
