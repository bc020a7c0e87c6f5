//! Postfix asks at MAIL and RCPT, at the end of a message, and before AUTH on the ports for submission.

use crate::clients::{Reply, Tls};
use crate::doing::{
    BRAZILIAN, GERMAN, OUTSIDE, allow_germany_alone, limit, logged_in, on_each_postfix, send_many, send_one,
};
use crate::rig::{
    ALICE, BOB, CAROL, DAVE, Doors, DovecotDoor, ERIN, Mailbox, Pair, Scene, at_once, eventually,
};
use crate::told;
use serde_json::Value;
use std::collections::BTreeMap;

#[track_caller]
fn the_block(scene: &Scene) -> Value {
    let mut blocks = scene.api(&["list_blocks"]);
    assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");
    blocks[0].take()
}

/// One message of a login from Brazil, by the port where nobody is asked before AUTH.
fn send_from_brazil(scene: &Scene, who: &Mailbox) -> Reply {
    let mut smtp = scene.smtp(BRAZILIAN);
    assert!(smtp.auth_plain(who.name, who.password).yes);
    smtp.send(who.name, &[OUTSIDE], "x")
}

#[test]
fn message_150_passes_and_151_stops_the_account() {
    on_each_postfix(|scene| {
        send_many(scene, &ALICE, 150);
        let mut smtp = logged_in(scene, &ALICE);
        let refused = smtp.send(ALICE.name, &[OUTSIDE], "x");
        let block = the_block(scene);
        let until = postern::clock::readable(block["until"].as_i64().unwrap());
        let reference = block["reference"].as_str().unwrap();
        assert_eq!(
            refused.text,
            format!(
                "451 4.7.1 <END-OF-MESSAGE>: End-of-data rejected: More than 150 messages in 5 minutes: \
                 sending is stopped until {until}. Reference {reference}."
            )
        );
        // In the same session as in another, with the same reference and end. Postfix forgets a refused message
        // only when it is told to.
        assert!(smtp.ask("RSET").yes);
        let again = smtp.send(ALICE.name, &[OUTSIDE], "x");
        assert!(again.says("451 4.7.1 "), "{again}");
        assert!(send_one(scene, &ALICE).says(&format!("stopped until {until}. Reference {reference}.")));
        assert_eq!(the_block(scene)["refused"], 3);
        // Logins go on, and so does everybody else.
        assert!(send_one(scene, &BOB).yes);
        eventually("the messages left", || scene.mail_outside().len() == 151);
        let stop = |reason: &str| format!("{} {GERMAN} DE smtp refuse {reason}", ALICE.name);
        let events = BTreeMap::from([(stop("over_limit"), 1), (stop("sending_stopped"), 2)]);
        assert_eq!(told::activity(scene), events);
        let figures = told::statistics(scene);
        assert_eq!((figures["DE messages_sent"], figures["DE messages_refused"]), (151, 3), "{figures:?}");
        scene.api(&["release_block", "value=alice@example.test", "reason=password changed"]);
        send_many(scene, &ALICE, 150);
    });
}

#[test]
fn one_message_to_twenty_recipients_counts_once() {
    on_each_postfix(|scene| {
        limit(scene, 3);
        let recipients: Vec<_> = (0..20).map(|n| format!("friend{n}@remote.test")).collect();
        let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
        let mut smtp = logged_in(scene, &ALICE);
        for _ in 0..3 {
            assert!(smtp.send(ALICE.name, &recipients, "x").yes);
        }
        assert!(smtp.send(ALICE.name, &recipients, "x").says("451 4.7.1"));
        assert!(send_one(scene, &BOB).yes);
        // Each session is one use of a login.
        let figures = told::statistics(scene);
        assert_eq!((figures["DE tried"], figures["DE succeeded"]), (2, 2), "{figures:?}");
    });
}

#[test]
fn the_use_of_a_login_is_refused_by_country() {
    on_each_postfix(|scene| {
        allow_germany_alone(scene);
        let refused = send_from_brazil(scene, &ALICE);
        let reference = told::reference(&refused.text).unwrap();
        assert_eq!(
            refused.text,
            format!(
                "550 5.7.1 <{}>: Sender address rejected: Logins from this country are not allowed here. \
                 Reference {reference}.",
                ALICE.name
            )
        );
        let event = told::under_reference(scene, reference);
        assert_eq!((&event["door"], &event["country"]), (&"postfix-mail".into(), &"BR".into()));
        assert!(send_one(scene, &ALICE).yes);
        let figures = told::statistics(scene);
        let of = |row: &str| figures.get(row).copied().unwrap_or(0);
        assert_eq!((of("BR tried"), of("BR refused"), of("BR succeeded")), (1, 1, 0), "{figures:?}");
        assert_eq!((of("DE tried"), of("DE succeeded")), (1, 1), "{figures:?}");

        scene.api(&["set_setting", "key=country_rule", "value=monitor"]);
        assert!(send_from_brazil(scene, &BOB).yes);
        let figures = told::statistics(scene);
        assert_eq!((figures["BR tried"], figures["BR would_refuse"]), (2, 1), "{figures:?}");
    });
}

#[test]
fn on_the_ports_for_submission_a_refused_address_is_greeted_with_554() {
    on_each_postfix(|scene| {
        allow_germany_alone(scene);
        let mut shut = scene.smtp_on(10587, BRAZILIAN);
        let greeting = shut.greeting.text.lines().next().unwrap().to_owned();
        let reference = told::reference(&greeting).unwrap();
        assert_eq!(
            greeting,
            format!(
                "554 5.7.1 <unknown[{BRAZILIAN}]>: Client host rejected: Logins from this country are not allowed \
                 here. Reference {reference}."
            )
        );
        let event = told::under_reference(scene, reference);
        assert_eq!((&event["door"], &event["account"]), (&"postfix-auth".into(), &"".into()));
        let mut by_tls = scene.smtp_by(Tls::Wrapper, BRAZILIAN);
        assert!(by_tls.greeting.text.starts_with("554 5.7.1 "), "{}", by_tls.greeting);
        for smtp in [&mut shut, &mut by_tls] {
            for command in ["EHLO x", "AUTH PLAIN AGFsaWNlAHg=", "MAIL FROM:<x@remote.test>"] {
                let reply = smtp.ask(command);
                assert!(reply.text.starts_with("503 5.7.0 Error: access denied"), "{command}: {reply}");
            }
        }
        for tls in [Tls::Starttls, Tls::Wrapper] {
            let mut smtp = scene.smtp_by(tls, GERMAN);
            assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
            assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes, "{tls:?}");
        }

        // One exempt mailbox, and the address alone decides no longer: the login is judged at MAIL.
        scene.api(&["add_user_exemption", &format!("value={}", BOB.name)]);
        for (who, yes) in [(&BOB, true), (&ALICE, false)] {
            let mut smtp = scene.smtp_by(Tls::Starttls, BRAZILIAN);
            assert!(smtp.auth_plain(who.name, who.password).yes);
            let reply = smtp.ask(&format!("MAIL FROM:<{}>", who.name));
            assert_eq!((reply.yes, reply.says("550 5.7.1 ")), (yes, !yes), "{}: {reply}", who.name);
        }
    });
}

#[test]
fn mail_that_strangers_bring_in_is_neither_refused_nor_counted() {
    on_each_postfix(|scene| {
        allow_germany_alone(scene);
        limit(scene, 1);
        scene.api(&["add_block", "value=200.160.2.0/24"]);
        send_many(scene, &ALICE, 1);
        assert!(send_one(scene, &ALICE).says("451"));
        // From a refused country and a blocked network, to a stopped account too, and also in its name.
        for sender in ["stranger@remote.test", ALICE.name, ""] {
            for _ in 0..3 {
                let reply = scene.smtp(BRAZILIAN).send(sender, &[ALICE.name, BOB.name], "From outside");
                assert!(reply.yes, "{sender}: {reply}");
            }
        }
        eventually("the messages arrive", || {
            scene.mail_of(&ALICE).len() == 9 && scene.mail_of(&BOB).len() == 9
        });
        let relayed = scene.smtp(BRAZILIAN).send("x@remote.test", &[OUTSIDE], "x");
        assert!(relayed.says("Relay access denied"), "an answer of ours opens no relay: {relayed}");
        let figures = told::statistics(scene);
        assert!(!figures.keys().any(|row| row.starts_with("BR")), "{figures:?}");
    });
}

#[test]
fn the_administrators_blocks_hold_at_every_door() {
    on_each_postfix(|scene| {
        scene.api(&["add_block", &format!("value={}", ALICE.name)]);
        let reply = send_one(scene, &ALICE);
        assert!(reply.says("550 5.7.1 ") && reply.says("This account is closed"), "{reply}");
        scene.api(&["add_block", &format!("value={BRAZILIAN}")]);
        let reply = send_from_brazil(scene, &BOB);
        assert!(reply.says("550 5.7.1 ") && reply.says("Logins from this address"), "{reply}");
        assert!(scene.smtp_by(Tls::Wrapper, BRAZILIAN).greeting.says("554 5.7.1 "));
        scene.api(&["release_block", &format!("value={BRAZILIAN}")]);
        assert!(send_from_brazil(scene, &BOB).yes);
    });
}

#[test]
fn who_is_on_the_whitelist_sends_on_and_monitor_stops_nobody() {
    on_each_postfix(|scene| {
        limit(scene, 3);
        scene.api(&["add_whitelist", "value=alice@example.test"]);
        send_many(scene, &ALICE, 6);
        send_many(scene, &DAVE, 3);
        assert!(send_one(scene, &DAVE).says("451"));
        scene.api(&["add_whitelist", "value=other.test"]);
        send_many(scene, &DAVE, 5);
        send_many(scene, &ERIN, 5);
        scene.api(&["add_ip_exemption", &format!("value={GERMAN}"), "sending=on"]);
        send_many(scene, &BOB, 5);
        scene.api(&["remove_ip_exemption", &format!("value={GERMAN}")]);
        scene.api(&["set_setting", "key=rate_limiter", "value=monitor"]);
        send_many(scene, &CAROL, 6);
        assert_eq!(scene.api(&["list_blocks"]).as_array().map(Vec::len), Some(0));
    });
}

#[test]
fn an_empty_or_foreign_sender_escapes_nothing() {
    on_each_postfix(|scene| {
        limit(scene, 3);
        let mut smtp = logged_in(scene, &ALICE);
        for sender in ["", "boss@example.test", ALICE.name] {
            assert!(smtp.send(sender, &[OUTSIDE], "x").yes, "{sender}");
        }
        for sender in ["", "boss@example.test", ALICE.name] {
            assert!(smtp.send(sender, &[OUTSIDE], "x").says("451"), "{sender}");
            smtp.ask("RSET");
        }
        assert_eq!(the_block(scene)["value"], ALICE.name);
    });
}

#[test]
fn forty_sessions_at_once_send_exactly_150_of_400() {
    on_each_postfix(|scene| {
        let sent = at_once(&[10; 40], |messages| {
            let mut smtp = logged_in(scene, &ALICE);
            let one = |_| {
                let reply = smtp.send(ALICE.name, &[OUTSIDE], "x");
                smtp.ask("RSET");
                reply
            };
            (0..*messages).map(one).collect::<Vec<_>>()
        });
        let replies = sent.concat();
        let passed = replies.iter().filter(|reply| reply.yes).count();
        let stopped = replies.iter().filter(|reply| reply.says("451 4.7.1 ")).count();
        assert_eq!((passed, stopped), (150, 250), "{:?}: {:?}", scene.pair(), told::troubles(scene));
        assert_eq!(the_block(scene)["refused"], 250);
    });
}

#[test]
fn status_says_what_postfix_guards() {
    on_each_postfix(|scene| {
        send_many(scene, &ALICE, 1);
        crate::doing::sendmail(scene, "webuser", &["-t"]).succeeded();
        eventually("both left", || scene.mail_outside().len() == 2);
        told::tick(scene);
        let status = scene.api(&["status"]);
        let says = |part: &str| {
            let parts = status["parts"].as_array().unwrap();
            parts.iter().find(|row| row["part"] == part).unwrap()["says"].as_str().unwrap().to_owned()
        };
        for (part, door) in [
            ("SMTP logins", "postfix-mail"),
            ("messages by SMTP", "postfix-data"),
            ("messages of local programs", "postfix-local"),
        ] {
            let says = says(part);
            assert!(says.starts_with("Guarded") && says.contains(door), "{part}: {says}");
        }
        let of_record = says("SMTP logins: source of record");
        assert!(of_record.contains("successes by postfix-mail (last 2"), "{of_record}");
        assert!(of_record.ends_with("failures by nobody."), "{of_record}");
    });
}

#[test]
fn postfix_that_begins_anew_or_ends_marks_no_trouble() {
    for pair in Pair::POSTFIX {
        let scene = Scene::on(pair).doors(Doors::POSTFIX).start();
        send_many(&scene, &ALICE, 2);
        scene.run_as("root", &["/usr/sbin/postfix", "reload"], "").succeeded();
        eventually("it began anew", || scene.postfix_log().contains("reload -- version"));
        send_many(&scene, &ALICE, 2);
        scene.run_as("root", &["/usr/sbin/postfix", "stop"], "").succeeded();
        assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?}");
    }
}

#[test]
fn with_dovecots_gate_a_login_is_refused_at_auth_and_counts_once() {
    let scene = Scene::on(Pair::BookwormPostfix)
        .doors(Doors { dovecot: Some(DovecotDoor::Gate), ..Doors::POSTFIX })
        .start();
    allow_germany_alone(&scene);
    let refused = scene.smtp(BRAZILIAN).auth_plain(ALICE.name, ALICE.password);
    assert!(refused.text.starts_with("535 5.7.8 Error: authentication failed"), "{refused}");
    send_many(&scene, &ALICE, 2);
    let figures = told::statistics(&scene);
    let of = |row: &str| figures.get(row).copied().unwrap_or(0);
    assert_eq!((of("DE tried"), of("DE succeeded"), of("DE messages_sent")), (1, 1, 2), "{figures:?}");
    assert_eq!((of("BR tried"), of("BR refused"), of("BR succeeded")), (1, 1, 0), "{figures:?}");
}

/// Cyrus SASL in the place of Dovecot's, as Plesk has it: only Postfix and Cyrus see a login.
const BY_CYRUS: &str = "
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = example.test";

/// Cyrus's own password file, with Alice in it.
fn put_cyrus_passwords(scene: &Scene) {
    let script = "set -e
        mkdir -p /etc/postfix/sasl
        printf '%s\n' 'pwcheck_method: auxprop' 'auxprop_plugin: sasldb' 'mech_list: PLAIN LOGIN' >/etc/postfix/sasl/smtpd.conf
        rm -f /etc/sasldb2
        saslpasswd2 -p -c -u example.test alice
        chown postfix /etc/sasldb2";
    scene.run_as("root", &["sh", "-c", script], ALICE.password).succeeded();
}

#[test]
fn with_cyrus_sasl_a_login_is_judged_by_address_before_auth_and_by_account_at_mail() {
    at_once(&Pair::POSTFIX, |pair| {
        let scene = Scene::on(*pair).doors(Doors::POSTFIX).postfix(BY_CYRUS).start();
        put_cyrus_passwords(&scene);
        scene.api(&["set_setting", "key=smtp_logins_from", "value=postfix"]);
        allow_germany_alone(&scene);
        limit(&scene, 2);
        assert!(scene.smtp_on(10587, BRAZILIAN).greeting.text.starts_with("554 5.7.1 "));
        assert!(send_from_brazil(&scene, &ALICE).text.starts_with("550 5.7.1 "));
        // Nobody but Postfix's log knows of a wrong password.
        assert!(!scene.smtp(GERMAN).auth_plain(ALICE.name, "guessed").yes);
        send_many(&scene, &ALICE, 2);
        assert!(send_one(&scene, &ALICE).says("451 4.7.1 "));
        let figures = told::statistics(&scene);
        let of = |row: &str| figures.get(row).copied().unwrap_or(0);
        assert_eq!((of("DE tried"), of("DE succeeded"), of("DE failed")), (2, 2, 0), "{figures:?}");
        assert_eq!((of("BR tried"), of("BR refused")), (2, 2), "{figures:?}");
        assert_eq!(scene.postfix_faults(), "", "{pair:?}");
    });
}
