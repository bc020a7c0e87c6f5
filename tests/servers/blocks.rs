//! What the administrator blocks stays out by every door and every way; what a rule in monitor mode would
//! refuse gets in and is noted.

use crate::clients::{Reply, Way};
use crate::rig::{ALICE, BOB, Doors, Mailbox, Pair, Scene, at_once};
use crate::told;
use std::collections::BTreeMap;

const GERMAN: &str = "79.192.0.1";
const BRAZILIAN: &str = "200.160.2.3";
const EVERYWHERE: [&str; 6] = [GERMAN, BRAZILIAN, "2003::1", "10.1.2.3", "127.0.0.1", "::1"];
const DOORS: [(Pair, Doors); 4] = [
    (Pair::Bookworm, Doors::BOTH),
    (Pair::Bookworm, Doors::DOVECOT),
    (Pair::Bookworm, Doors::EXIM_AND_CHAIN),
    (Pair::Trixie, Doors::EXIM),
];

/// The first answer that is no yes: to the login, or to a message that it begins; else the last yes.
fn log_in_and_begin_a_message(scene: &Scene, way: Way, from: &str, who: &Mailbox) -> Reply {
    if !way.is_smtp() {
        return scene.login(way, from, who);
    }
    let mut smtp = scene.smtp(from);
    let login = match way {
        Way::SmtpLogin => smtp.auth_login(who.name, who.password),
        Way::SmtpCramMd5 => smtp.auth_cram_md5(who.name, who.password),
        _ => smtp.auth_plain(who.name, who.password),
    };
    if login.yes { smtp.ask(&format!("MAIL FROM:<{}>", who.name)) } else { login }
}

/// Every way from every place; those that ended with a yes.
fn let_in(scene: &Scene, who: &Mailbox) -> Vec<(Way, &'static str)> {
    let tries: Vec<_> = Way::ALL.iter().flat_map(|way| EVERYWHERE.map(|from| (*way, from))).collect();
    let replies = at_once(&tries, |(way, from)| log_in_and_begin_a_message(scene, *way, from, who));
    tries.into_iter().zip(replies).filter(|(_, reply)| reply.yes).map(|(which, _)| which).collect()
}

/// Every way that is guarded, from every place.
fn guarded(doors: Doors) -> Vec<(Way, &'static str)> {
    let ways = Way::ALL.iter().filter(|way| doors.dovecot.is_some() || way.is_smtp());
    ways.flat_map(|way| EVERYWHERE.map(|from| (*way, from))).collect()
}

fn not_guarded(doors: Doors) -> Vec<(Way, &'static str)> {
    let all = Way::ALL.iter().flat_map(|way| EVERYWHERE.map(|from| (*way, from)));
    all.filter(|which| !guarded(doors).contains(which)).collect()
}

#[test]
fn a_blocked_account_gets_in_from_nowhere_not_even_loopback() {
    for (pair, doors) in DOORS {
        let scene = Scene::on(pair).doors(doors).start();
        // An exemption from the rules lifts no block that comes after it.
        scene.api(&["add_user_exemption", "value=alice@example.test"]);
        scene.api(&["add_ip_exemption", &format!("value={GERMAN}")]);
        scene.api(&["add_block", "value=alice@example.test", "note=does not pay"]);
        assert_eq!(let_in(&scene, &ALICE), not_guarded(doors), "{pair:?} {doors:?}");
        for way in Way::ALL {
            assert!(scene.login(way, "127.0.0.1", &BOB).yes, "{pair:?} {doors:?}: nobody else is blocked");
        }
        assert!(told::activity(&scene).keys().all(|event| event.ends_with(" refuse account_blocked")));
        // Real loopback clients, not only those that say so.
        let imap = scene.imap_from_loopback().login(ALICE.name, ALICE.password).yes;
        let mut smtp = scene.smtp_from_loopback();
        let smtp =
            smtp.auth_plain(ALICE.name, ALICE.password).yes && smtp.ask("MAIL FROM:<x@example.test>").yes;
        assert_eq!((imap, smtp), (doors.dovecot.is_none(), false), "{pair:?} {doors:?}");

        scene.api(&["release_block", "value=alice@example.test"]);
        assert_eq!(let_in(&scene, &ALICE).len(), 36, "{pair:?} {doors:?}: released");
    }
}

#[test]
fn a_client_of_a_blocked_account_is_told_so_where_the_server_can_tell_it() {
    for pair in Pair::ALL {
        let scene = Scene::on(pair).doors(Doors::EXIM).start();
        scene.api(&["add_block", "value=alice@example.test", "until=1h"]);
        let reply = log_in_and_begin_a_message(&scene, Way::SmtpPlain, GERMAN, &ALICE);
        let text = told::one_line(&reply);
        let reference = told::reference(&text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            text,
            format!("550 5.7.1 This account is closed for the time being. Reference {reference}.")
        );
        let event = told::under_reference(&scene, reference);
        assert_eq!((&event["account"], &event["door"]), (&ALICE.name.into(), &"exim-mail".into()));

        scene.clock("+3601");
        assert!(
            log_in_and_begin_a_message(&scene, Way::SmtpPlain, GERMAN, &ALICE).yes,
            "the block has ended"
        );
    }
}

#[test]
fn a_blocked_address_is_refused_and_loopback_cannot_be_blocked() {
    for (pair, doors) in DOORS {
        let scene = Scene::on(pair).doors(doors).start();
        // An exempt account does not make its address less blocked.
        scene.api(&["add_block", "value=200.160.0.0/16"]);
        let out: Vec<_> = guarded(doors).into_iter().filter(|(_, from)| *from == BRAZILIAN).collect();
        let in_still = let_in(&scene, &ALICE);
        assert!(out.iter().all(|which| !in_still.contains(which)), "{pair:?} {doors:?}: {in_still:?}");
        assert_eq!(in_still.len() + out.len(), 36, "{pair:?} {doors:?}: {in_still:?}");
        if doors.exim {
            let text = told::one_line(&scene.login(Way::SmtpPlain, BRAZILIAN, &ALICE));
            let start = "535 5.7.8 Logins from this address are not allowed here. Reference ";
            assert!(text.starts_with(start), "{text}");
        }
        for loopback in ["127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "::1", "::/0", "::ffff:127.0.0.1"] {
            let refused = scene.postern(&["blocks", "add", loopback]);
            assert_eq!(refused.code(), Some(1), "{loopback}: {refused:?}");
            assert!(refused.stderr.contains("loopback"), "{loopback}: {refused:?}");
        }
    }
}

#[test]
fn monitor_lets_in_and_notes_what_it_would_have_refused() {
    for (pair, doors) in DOORS {
        let scene = Scene::on(pair).doors(doors).start();
        let counted_by = if doors.dovecot.is_some() { "gate" } else { "exim" };
        scene.api(&["set_setting", "key=smtp_logins_from", &format!("value={counted_by}")]);
        scene.api(&["set_setting", "key=default_server_geoip", "value=DE"]);
        scene.api(&["set_countries", "countries=DE"]);
        scene.api(&["set_setting", "key=country_rule", "value=monitor"]);
        assert_eq!(let_in(&scene, &ALICE).len(), 36, "{pair:?} {doors:?}");

        let said = scene.api(&["explain", "account=alice@example.test", &format!("address={BRAZILIAN}")]);
        assert_eq!(said["verdict"], "allow", "{said}");
        assert_eq!(said["would_refuse"].as_array().unwrap().len(), 1, "{said}");
        assert!(
            said["steps"].as_array().unwrap().iter().any(|step| step["found"] == "would refuse"),
            "{said}"
        );

        let event = |who: &str, service: &str| {
            format!("{who} {BRAZILIAN} BR {service} would_refuse country_not_allowed")
        };
        let mut events = BTreeMap::new();
        if doors.dovecot.is_some() {
            events.insert(event(ALICE.name, "imap"), 2);
            events.insert(event(ALICE.name, "pop3"), 1);
            events.insert(event(ALICE.name, "smtp"), 3);
        } else {
            // The AUTH door knows the address, the MAIL door the account too.
            events.insert(event("-", "smtp"), 3);
            events.insert(event(ALICE.name, "smtp"), 3);
        }
        assert_eq!(told::activity(&scene), events, "{pair:?} {doors:?}");
        let figures = told::statistics(&scene);
        let of = |key: &str| figures.get(key).copied().unwrap_or(0);
        let tried = if doors.dovecot.is_some() { 6 } else { 3 };
        assert_eq!(
            (of("BR tried"), of("BR would_refuse")),
            (tried, tried),
            "{pair:?} {doors:?}: {figures:?}"
        );
        assert_eq!(
            (of("BR refused"), of("BR succeeded")),
            (0, if doors.exim { 3 } else { 0 }),
            "{figures:?}"
        );
    }
}
