//! What the reader makes of the lines that real servers write, while clients choose names and HELOs that look like
//! parts of them.

use crate::clients::{Imap, Pop3, Smtp};
use crate::doing::{BRAZILIAN, GERMAN, OUTSIDE};
use crate::rig::{ALICE, BOB, Doors, MailServer, Mailbox, Pair, Scene, eventually};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Postern is there, and has no part in what is tried.
const DOORS: Doors = Doors { postlogin: true, ..Doors::NONE };

/// The one whom all the tricks are to accuse, and from where.
const VICTIM: &Mailbox = &BOB;
const ELSEWHERE: &str = "198.51.100.9";

/// Names that look like the end of a line, and the begin of another one.
fn tricks() -> Vec<String> {
    let victim = VICTIM.name;
    [
        format!("x>, method=PLAIN, rip={ELSEWHERE}, lip=192.0.2.10, session=<a"),
        format!("x>, method=PLAIN, rip={ELSEWHERE}, lip=192.0.2.10, session=<a>: user=<{victim}"),
        format!("x) [{ELSEWHERE}]:25: 535 Incorrect authentication data (set_id={victim}"),
        format!("x, sasl_username={victim}"),
        format!("x: SASL PLAIN authentication failed: , sasl_username={victim}"),
        format!("x]: warning: unknown[{ELSEWHERE}]"),
        format!("{victim}>"),
        format!("x {victim}"),
        format!("x\n2026-11-25 12:00:00 plain authenticator failed for [{ELSEWHERE}]: 535 Incorrect authentication data (set_id={victim})"),
        format!("x\tuser=<{victim}>"),
    ]
    .into()
}

fn mail_log(scene: &Scene) -> &'static str {
    match scene.pair().mail_server() {
        MailServer::Exim => "/rig/exim/log/mainlog",
        MailServer::Postfix => "/rig/postfix/log",
    }
}

fn learned(scene: &Scene, files: &[&str]) -> Value {
    scene.api(&["learn_logs", &format!("files={}", files.join(","))])
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn sums(said: &Value) -> [u64; 4] {
    ["successes", "failures", "inbound", "foreign"].map(|key| said[key].as_u64().unwrap_or(0))
}

/// Logins that end well and badly by every way, a message that comes in and one that leaves.
fn a_day(scene: &Scene) {
    let mut imap: Imap = scene.imap(GERMAN);
    assert!(imap.login(ALICE.name, ALICE.password).yes);
    assert!(imap.ask("LOGOUT").yes);
    let mut pop3: Pop3 = scene.pop3(GERMAN);
    pop3.login(ALICE.name, "wrong");
    drop(pop3);
    let mut smtp: Smtp = scene.smtp(GERMAN);
    assert!(!smtp.auth_plain(ALICE.name, "wrong").yes);
    assert!(smtp.auth_plain(ALICE.name, ALICE.password).yes);
    assert!(smtp.send(ALICE.name, &[OUTSIDE], "A=plain:bob@example.test P=esmtpa").yes);
    let mut smtp = scene.smtp(BRAZILIAN);
    assert!(smtp.send("news@other.test.example", &[ALICE.name], "hello").yes);
}

#[test]
fn what_happened_is_read_in_the_logs_of_each_pair() {
    for pair in Pair::EVERY {
        let scene = Scene::on(pair).doors(DOORS).start();
        a_day(&scene);
        let files = [mail_log(&scene), "/rig/dovecot/log"];
        let ended =
            || scene.dovecot_log().contains("pop3-login") && scene.dovecot_log().contains("auth failed");
        eventually("Dovecot tells how the connection ended", ended);
        let said = learned(&scene, &files);
        let of = |n: usize| sums(&said["files"][n]);
        let seen = || format!("{pair:?} {said:#}\n{}\n{}", scene.mail_server_log(), scene.dovecot_log());
        assert_eq!((of(0)[0], of(0)[1], of(0)[2]), (1, 1, 1), "{}", seen());
        assert_eq!((of(1)[0], of(1)[1], of(1)[2]), (1, 1, 0), "{}", seen());
        assert_eq!((&said["total"]["ambiguous"], of(0)[3], of(1)[3]), (&Value::from(0), 0, 0), "{}", seen());
        let known = scene.api(&["list_known_networks", &format!("account={}", ALICE.name)]);
        assert_eq!((known[0]["network"].as_str(), known[0]["n"].as_i64()), (Some("79.192.0.0/24"), Some(2)));
        let statistics = scene.api(&["country_statistics", "direction=inbound", "days=2"]);
        assert_eq!((&statistics["rows"][0]["code"], &statistics["inbound"]), (&"BR".into(), &1.into()));
        // The servers may have gone on with what they began.
        let again = learned(&scene, &files);
        assert_eq!(
            (&again["total"]["counted"], &again["total"]["taught"]),
            (&0.into(), &0.into()),
            "{again:#}"
        );
    }
}

#[test]
fn no_name_and_no_helo_of_a_client_accuses_another() {
    for pair in Pair::EVERY {
        let scene = Scene::on(pair).doors(DOORS).start();
        for name in tricks() {
            scene.smtp(BRAZILIAN).auth_plain(&name, "wrong");
            scene.imap(BRAZILIAN).authenticate_plain(&name, "wrong");
            let mut smtp = scene.smtp(BRAZILIAN);
            smtp.ask(&format!("EHLO {}", name.replace('\n', " ")));
            smtp.auth_plain("nobody@example.test", "wrong");
            smtp.send(
                &format!("\"{}\"@x.test", name.replace(['"', '\n'], "")),
                &[ALICE.name],
                &name.replace('\n', " "),
            );
        }
        let files = [mail_log(&scene), "/rig/dovecot/log"];
        // The past is what was before the second in which it is learned.
        let second = unix_now();
        eventually("the second is over", || unix_now() > second);
        let said = learned(&scene, &files);
        let seen = || format!("{pair:?} {said:#}\n{}\n{}", scene.mail_server_log(), scene.dovecot_log());
        assert!(said["total"]["failures"].as_u64().unwrap() >= 10, "{}", seen());
        assert_eq!(said["total"]["successes"], 0, "{}", seen());
        // All of it came from Brazil, and none of it is the victim's.
        let statistics = scene.api(&["country_statistics", "days=2"]);
        let rows = statistics["rows"].as_array().unwrap();
        let codes: Vec<_> = rows.iter().map(|r| r["code"].as_str().unwrap()).collect();
        assert_eq!(codes, ["BR"], "{statistics:#}\n{}", seen());
        let own = scene.api(&["account_statistics", &format!("account={}", VICTIM.name), "days=2"]);
        assert_eq!(own["rows"], Value::Array(Vec::new()), "{}", seen());
    }
}
