//! What a server cannot do, as data, and what happens there instead.

use super::{NOT_ALLOWED, POSTLOGIN};
use crate::clients::Way;
use crate::doing::{BRAZILIAN, OUTSIDE, allow_germany_alone, sendmail};
use crate::logins::GERMAN;
use crate::rig::{ALICE, BOB, Doors, MailServer, Pair, Scene, at_once};
use crate::told;
use std::fs;

struct Cannot {
    what: &'static str,
    pairs: &'static [Pair],
    /// The doors by which it is seen.
    doors: Doors,
    instead: fn(&mut Scene),
}

const TABLE: &[Cannot] = &[
    Cannot {
        what: "Dovecot 2.4 has no checkpassword: no gate, no chain, no failed stage.",
        pairs: &[Pair::Trixie, Pair::TrixiePostfix],
        doors: Doors::NONE,
        instead: a_stage_of_2_3_breaks_every_login_and_doveconf_is_content,
    },
    Cannot {
        what: "Postfix can neither refuse an address before AUTH on port 25 nor hide AUTH there from it.",
        pairs: &Pair::POSTFIX,
        doors: Doors::POSTFIX,
        instead: a_thief_logs_in_and_is_stopped_at_mail,
    },
    Cannot {
        what: "Exim does not know the account at AUTH: one exempt mailbox, and it can refuse nobody there.",
        pairs: &Pair::ALL,
        doors: Doors::EXIM,
        instead: a_thief_logs_in_and_is_stopped_at_mail,
    },
    Cannot {
        what: "Exim keeps the text of Dovecot's policy server to itself.",
        pairs: &Pair::ALL,
        doors: Doors::EXIM_AND_POLICY,
        instead: the_refusal_looks_like_a_wrong_password_and_is_found_by_the_mailbox,
    },
    Cannot {
        what: "Dovecot's gate can show no text.",
        pairs: &[Pair::Bookworm, Pair::BookwormPostfix],
        doors: Doors::DOVECOT,
        instead: the_refusal_looks_like_a_wrong_password_and_is_found_by_the_mailbox,
    },
    Cannot {
        what: "Postfix tells nobody of wrong passwords.",
        pairs: &Pair::POSTFIX,
        doors: Doors::POSTFIX,
        instead: nobody_tells_of_failures_by_smtp,
    },
    Cannot {
        what: "Behind the password nobody is told of wrong ones.",
        pairs: &Pair::EVERY,
        doors: POSTLOGIN,
        instead: nobody_tells_of_failures_by_imap,
    },
    Cannot {
        what: "Without the mail server's door nobody counts messages, nor looks at mail of local programs.",
        pairs: &Pair::EVERY,
        doors: Doors::POLICY,
        instead: status_says_that_messages_are_not_covered,
    },
];

fn a_stage_of_2_3_breaks_every_login_and_doveconf_is_content(scene: &mut Scene) {
    assert!(scene.login(Way::Imap, GERMAN, &ALICE).yes);
    // gate-2.3.conf as far as 2.4 can read it: it has no word for the program.
    let stage = "passdb checkpassword {
        result_success = return-ok
        result_failure = return-fail
        result_internalfail = continue
    }\n";
    fs::write(scene.path("/rig/policy.conf"), stage).unwrap();
    let content = scene.run_as("root", &["/usr/bin/doveconf", "-n", "-c", "/rig/dovecot.conf"], "");
    assert_eq!((content.code(), content.stderr.as_str()), (Some(0), ""));
    scene.restart_servers();
    let replies = at_once(&Way::ALL, |way| scene.login(*way, GERMAN, &ALICE));
    for (way, reply) in Way::ALL.iter().zip(replies) {
        assert!(!reply.yes, "{:?} {way:?}: {reply}", scene.pair());
    }
    assert!(scene.dovecot_log().contains("checkpassword"), "{}", scene.dovecot_log());
}

/// From a refused country, by port 25: AUTH is offered, and a wrong password is refused as ever.
fn a_thief_logs_in_and_is_stopped_at_mail(scene: &mut Scene) {
    allow_germany_alone(scene);
    if scene.pair().mail_server() == MailServer::Exim {
        scene.api(&["add_user_exemption", &format!("value={}", BOB.name)]);
    }
    let mut smtp = scene.smtp(BRAZILIAN);
    assert!(smtp.greeting.says("AUTH PLAIN"), "{}", smtp.greeting);
    assert!(smtp.auth_plain(ALICE.name, "guessed").text.starts_with("535 "));
    assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
    let refused = smtp.begin(ALICE.name, OUTSIDE);
    let is_ours = refused.text.starts_with("550") && refused.says("not allowed here. Reference");
    assert!(is_ours, "{:?}: {refused}", scene.pair());
}

fn the_refusal_looks_like_a_wrong_password_and_is_found_by_the_mailbox(scene: &mut Scene) {
    allow_germany_alone(scene);
    // Exim's AUTH leaves everybody to Dovecot's door.
    scene.api(&["add_user_exemption", &format!("value={}", BOB.name)]);
    let refused = scene.login(Way::SmtpPlain, BRAZILIAN, &ALICE);
    let wrong = scene.login_as(Way::SmtpPlain, GERMAN, ALICE.name, "guessed");
    assert_eq!(refused, wrong, "{:?}", scene.pair());
    let found = scene.api(&["list_activity", &format!("account={}", ALICE.name)]);
    assert_eq!(found[0]["reason"], NOT_ALLOWED, "{:?}: {found}", scene.pair());
}

fn nobody_tells_of_failures_by_smtp(scene: &mut Scene) {
    nobody_tells_of_failures(scene, "smtp", "postfix", Way::SmtpPlain);
}

fn nobody_tells_of_failures_by_imap(scene: &mut Scene) {
    nobody_tells_of_failures(scene, "imap", "postlogin", Way::Imap);
}

/// And status says so.
fn nobody_tells_of_failures(scene: &Scene, service: &str, from: &str, way: Way) {
    scene.api(&["set_setting", &format!("key={service}_logins_from"), &format!("value={from}")]);
    assert!(!scene.login_as(way, GERMAN, ALICE.name, "guessed").yes);
    let says = told::status_of(scene, &format!("{} logins: source of record", service.to_uppercase()));
    assert!(says.ends_with("failures by nobody."), "{:?}: {says}", scene.pair());
}

fn status_says_that_messages_are_not_covered(scene: &mut Scene) {
    scene.api(&["set_setting", "key=smtp_logins_from", "value=policy"]);
    let mut smtp = scene.smtp(GERMAN);
    assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
    assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes);
    sendmail(scene, "webuser", &["-t"]).succeeded();
    told::tick(scene);
    assert!(told::status_of(scene, "SMTP logins").starts_with("Guarded"));
    for part in ["messages by SMTP", "messages of local programs"] {
        let says = told::status_of(scene, part);
        assert!(says.starts_with("NOT COVERED: "), "{:?} {part}: {says}", scene.pair());
    }
}

#[test]
fn what_a_server_cannot_do_is_known_and_so_is_what_happens_instead() {
    at_once(&Pair::EVERY, |pair| {
        for row in TABLE.iter().filter(|row| row.pairs.contains(pair)) {
            println!("{pair:?}: {}", row.what);
            (row.instead)(&mut Scene::on(*pair).doors(row.doors).start());
        }
    });
}
