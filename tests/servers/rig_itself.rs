//! The rig's own proof: servers and clients do what the other tests take for granted, with no Postern in
//! between.

use crate::clients::{Tls, Way};
use crate::rig::{ADMIN, ALICE, BOB, DAVE, MailServer, Pair, Scene, at_once, eventually};

const GERMAN: &str = "79.192.0.1";
const GERMAN_V6: &str = "2003::1";

fn on_each_pair(test: impl Fn(&Scene) + Sync) {
    at_once(&Pair::EVERY, |pair| {
        let scene = Scene::on(*pair).start();
        test(&scene);
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
        assert_eq!(scene.postfix_faults(), "", "{pair:?}");
    });
}

#[test]
fn the_right_password_gets_in_by_every_way_from_v4_and_v6() {
    on_each_pair(|scene| {
        for from in [GERMAN, GERMAN_V6, "127.0.0.1", "::1"] {
            for way in Way::ALL {
                let reply = scene.login(way, from, &ALICE);
                assert!(reply.yes, "{way:?} from {from} on {:?}: {reply}", scene.pair());
            }
        }
    });
}

#[test]
fn a_wrong_password_gets_in_by_no_way_and_the_servers_say_so() {
    on_each_pair(|scene| {
        for name in [ALICE.name, "nobody@example.test"] {
            at_once(&Way::ALL, |way| {
                let reply = scene.login_as(*way, GERMAN, name, "wrong");
                let expected = if way.is_smtp() { "535" } else { "AUTH" };
                assert!(!reply.yes && reply.says(expected), "{way:?} on {:?}: {reply}", scene.pair());
            });
        }
    });
}

#[test]
fn every_way_in_is_open_by_tls_too_and_to_the_right_password_only() {
    on_each_pair(|scene| {
        for tls in [Tls::Starttls, Tls::Wrapper] {
            for from in [GERMAN, GERMAN_V6] {
                at_once(&Way::ALL, |way| {
                    let right = scene.login_by(tls, *way, from, ALICE.name, ALICE.password);
                    assert!(right.yes, "{way:?} by {tls:?} from {from} on {:?}: {right}", scene.pair());
                    let wrong = scene.login_by(tls, *way, from, ALICE.name, "wrong");
                    let expected = if way.is_smtp() { "535" } else { "AUTH" };
                    assert!(!wrong.yes && wrong.says(expected), "{way:?} by {tls:?}: {wrong}");
                });
            }
        }
    });
}

#[test]
fn the_submission_port_takes_no_password_in_the_clear() {
    on_each_pair(|scene| {
        let mut smtp = scene.smtp_on(10587, GERMAN);
        assert!(!smtp.greeting.says("AUTH") && smtp.greeting.says("STARTTLS"), "{}", smtp.greeting);
        let refused = smtp.auth_plain(ALICE.name, ALICE.password);
        assert!(!refused.yes, "{refused}");
    });
}

#[test]
fn the_servers_take_the_address_that_the_client_tells() {
    on_each_pair(|scene| {
        for (tls, from) in [
            (Tls::None, GERMAN),
            (Tls::None, GERMAN_V6),
            (Tls::Starttls, "79.192.0.2"),
            (Tls::Starttls, "2003::2"),
            (Tls::Wrapper, "79.192.0.3"),
            (Tls::Wrapper, "2003::3"),
        ] {
            at_once(&[Way::SmtpPlain, Way::Imap, Way::Pop3], |way| {
                scene.login_by(tls, *way, from, ALICE.name, "wrong");
            });
            eventually("the mail server logs the client's address", || {
                scene.mail_server_log().contains(&format!("[{from}]"))
            });
            eventually("Dovecot logs the client's address, also where the mail server asks it", || {
                let log = scene.dovecot_log();
                let asked = log.matches(&format!("({},{from}", ALICE.name)).count();
                asked >= 3
                    && ["imap-login", "pop3-login"].iter().all(|service| {
                        log.lines()
                            .any(|line| line.contains(service) && line.contains(&format!("rip={from},")))
                    })
            });
        }
    });
}

#[test]
fn ports_without_the_proxy_line_serve_real_loopback_clients() {
    on_each_pair(|scene| {
        assert!(scene.smtp_from_loopback().auth_plain(ALICE.name, ALICE.password).yes);
        assert!(scene.imap_from_loopback().login(ALICE.name, ALICE.password).yes);
        assert!(scene.pop3_from_loopback().login(ALICE.name, ALICE.password).yes);
    });
}

#[test]
fn a_message_is_delivered_and_read_by_imap() {
    on_each_pair(|scene| {
        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
        let sent = smtp.send(ALICE.name, &[BOB.name, "friend@remote.test"], "From Alice to Bob");
        assert!(sent.yes, "{sent}");
        eventually("Bob's message arrives", || scene.mail_of(&BOB).len() == 1);
        eventually("the outside message arrives", || scene.mail_outside().len() == 1);
        let mut imap = scene.imap(GERMAN_V6);
        assert!(imap.login(BOB.name, BOB.password).yes);
        let inbox = imap.read_inbox();
        assert!(inbox.yes && inbox.says("Subject: From Alice to Bob"), "{inbox}");
    });
}

#[test]
fn strangers_send_to_our_mailboxes_and_nowhere_else() {
    on_each_pair(|scene| {
        let mut smtp = scene.smtp(GERMAN);
        assert!(smtp.send("friend@remote.test", &[DAVE.name], "From outside").yes);
        let unknown = smtp.send("friend@remote.test", &["nobody@other.test"], "x");
        assert!(unknown.says("550"), "{unknown}");
        smtp.ask("RSET");
        let relayed = smtp.send("friend@remote.test", &["enemy@elsewhere.test"], "x");
        let refusal = match scene.pair().mail_server() {
            MailServer::Exim => "550 relay not permitted",
            MailServer::Postfix => "554 5.7.1 <enemy@elsewhere.test>: Relay access denied",
        };
        assert!(relayed.says(refusal), "{relayed}");
        eventually("Dave's message arrives", || scene.mail_of(&DAVE).len() == 1);
    });
}

#[test]
fn local_users_send_with_sendmail() {
    on_each_pair(|scene| {
        for (number, user) in ["webuser", "www-data", "root"].iter().enumerate() {
            let to_outside = "To: friend@remote.test\nSubject: x\n\nhello\n";
            scene.sendmail(user, &["-t"], to_outside).succeeded();
            eventually("the message leaves", || scene.mail_outside().len() == number + 1);
        }
        let session = "HELO localhost\r\nMAIL FROM:<webuser@server.example.test>\r\nRCPT TO:<bob@example.test>\r\n\
                       DATA\r\nSubject: y\r\n\r\nhello\r\n.\r\nQUIT\r\n";
        scene.sendmail("webuser", &["-bs"], session).succeeded();
        eventually("the message of sendmail -bs arrives", || scene.mail_of(&BOB).len() == 1);
        scene.sendmail("webuser", &["webuser", "postmaster"], "Subject: z\n\nhello\n").succeeded();
        eventually("the local message arrives", || scene.mail_of_local("webuser").len() == 1);
        eventually("the postmaster's message arrives", || scene.mail_of(&ADMIN).len() == 1);
    });
}

#[test]
fn the_mail_server_notes_which_user_sent_with_sendmail() {
    on_each_pair(|scene| {
        scene.sendmail("webuser", &["-t"], "To: friend@remote.test\nSubject: x\n\nhello\n").succeeded();
        eventually("the message leaves", || scene.mail_outside().len() == 1);
        let noted = match scene.pair().mail_server() {
            MailServer::Exim => "from webuser by server.example.test",
            MailServer::Postfix => "(Postfix, from userid 2001)",
        };
        let message = scene.mail_outside().remove(0);
        assert!(message.contains(noted), "{message}");
    });
}

#[test]
fn postfix_obeys_what_a_test_sets() {
    for pair in Pair::POSTFIX {
        let scene = Scene::on(pair)
            .postfix(
                "# A comment, and a setting of two lines.
                 smtpd_data_restrictions = check_client_access
                   inline:{ { 79.192.0.1 = REJECT from_main } }",
            )
            .postfix("myhostname = other.example.test")
            .postfix_service("outside unix - - n - - discard")
            .postfix_service("extra unix - n n - 0 spawn\n  user=nobody argv=/bin/true")
            .postfix_on(
                10465,
                "smtpd_recipient_restrictions = check_client_access inline:{79.192.0.2=reject}",
            )
            .start();
        let refused = scene.smtp(GERMAN).send("friend@remote.test", &[BOB.name], "x");
        assert!(refused.says("from_main") && refused.text.starts_with("554"), "{refused}");
        assert!(scene.smtp(GERMAN_V6).greeting.says("220 other.example.test"));
        assert!(scene.smtp("79.192.0.2").ask("MAIL FROM:<friend@remote.test>").yes);
        let mut by_tls = scene.smtp_by(Tls::Wrapper, "79.192.0.2");
        assert!(by_tls.auth_plain(ALICE.name, ALICE.password).yes);
        let refused = by_tls.send(ALICE.name, &[BOB.name], "x");
        assert!(refused.says("Client host rejected: Access denied"), "{refused}");
        scene.sendmail("webuser", &["friend@remote.test"], "Subject: x\n\nhello\n").succeeded();
        eventually("the message is thrown away", || scene.postfix_log().contains("postfix/discard"));
        assert_eq!(scene.mail_outside().len(), 0);
        let services = scene.run_as("root", &["/usr/sbin/postconf", "-M", "extra/unix"], "").succeeded();
        assert!(services.contains("spawn user=nobody argv=/bin/true"), "{services}");
        assert_eq!(scene.postfix_faults(), "", "{pair:?}");
    }
}

#[test]
fn mail_stays_and_logins_go_on_when_the_servers_start_again() {
    for pair in Pair::EVERY {
        let mut scene = Scene::on(pair).start();
        scene.sendmail("webuser", &[BOB.name], "Subject: x\n\nhello\n").succeeded();
        eventually("the message arrives", || scene.mail_of(&BOB).len() == 1);
        scene.restart_servers();
        assert_eq!(scene.mail_of(&BOB).len(), 1);
        for way in [Way::SmtpPlain, Way::Imap] {
            let reply = scene.login(way, GERMAN, &ALICE);
            assert!(reply.yes, "{way:?} on {pair:?}: {reply}");
        }
    }
}

#[test]
fn an_undeliverable_message_bounces_to_its_local_sender() {
    on_each_pair(|scene| {
        scene.sendmail("webuser", &["nobody@example.test"], "Subject: x\n\nhello\n").succeeded();
        eventually("the bounce arrives", || scene.mail_of_local("webuser").len() == 1);
        eventually("the queue is empty", || scene.queue().is_empty());
    });
}

#[test]
fn doveadm_looks_accounts_up() {
    on_each_pair(|scene| {
        let tested = scene.doveadm(&["auth", "test", ALICE.name, ALICE.password]);
        assert_eq!(tested.code(), Some(0), "{tested:?}");
        let found = scene.doveadm(&["auth", "lookup", ALICE.name]).succeeded();
        assert!(found.contains("alice@example.test"), "{found}");
    });
}
