//! The rig's own proof: servers and clients do what the other tests take for granted, with no Postern in
//! between.

use crate::clients::{Tls, Way};
use crate::rig::{ADMIN, ALICE, BOB, DAVE, MailServer, Pair, Scene, at_once, eventually};

const GERMAN: &str = "5.9.0.1";
const GERMAN_V6: &str = "2a01:4f8::1";

fn on_each_pair(test: impl Fn(&Scene)) {
    for pair in Pair::EVERY {
        let scene = Scene::on(pair).start();
        test(&scene);
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    }
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
        for way in Way::ALL {
            for name in [ALICE.name, "nobody@example.test"] {
                let reply = scene.login_as(way, GERMAN, name, "wrong");
                let expected = if way.is_smtp() { "535" } else { "AUTH" };
                assert!(!reply.yes && reply.says(expected), "{way:?} on {:?}: {reply}", scene.pair());
            }
        }
    });
}

#[test]
fn every_way_in_is_open_by_tls_too_and_to_the_right_password_only() {
    on_each_pair(|scene| {
        for tls in [Tls::StartTls, Tls::Wrapper] {
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
        for from in [GERMAN, GERMAN_V6] {
            scene.login_as(Way::SmtpPlain, from, ALICE.name, "wrong");
            scene.login_as(Way::Imap, from, ALICE.name, "wrong");
            scene.login_as(Way::Pop3, from, ALICE.name, "wrong");
            eventually("the mail server logs the client's address", || {
                scene.mail_server_log().contains(&format!("[{from}]"))
            });
            eventually("Dovecot logs the client's address", || {
                let log = scene.dovecot_log();
                ["imap-login", "pop3-login"].iter().all(|service| {
                    log.lines().any(|line| line.contains(service) && line.contains(&format!("rip={from}")))
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
