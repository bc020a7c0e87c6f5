//! The login rules on real servers: who gets in, from where, by which service, through which doors.

use crate::clients::{Reply, Way};
use crate::rig::{
    ALICE, BOB, CAROL, DAVE, Doors, DovecotDoor, ERIN, Mailbox, Pair, Scene, at_once, eventually,
};

const GERMANY: &str = "5.9.0.1";
const GERMANY_V6: &str = "2a01:4f8::1";
const GERMANY_MAPPED: &str = "::ffff:5.9.0.1";
const AUSTRIA: &str = "193.170.140.1";
const BRAZIL: &str = "200.160.2.3";
const BRAZIL_MAPPED: &str = "::ffff:200.160.2.3";
const JAPAN: &str = "202.12.27.33";
const SOUTH_AFRICA: &str = "196.216.2.6";
const CHINA_V6: &str = "2400:3200::1";
/// In no country by the try-out data.
const NOWHERE: &str = "240.0.0.1";

/// Dovecot 2.3 with the door, and Exim with and without its own.
const WITH_DOVECOTS_DOOR: [Doors; 4] = [
    Doors::BOTH,
    Doors::DOVECOT,
    Doors::EXIM_AND_CHAIN,
    Doors { exim: false, dovecot: Some(DovecotDoor::Chain) },
];

/// A server in Germany that allows Germany and Austria.
fn scene(pair: Pair, doors: Doors) -> Scene {
    let scene = Scene::on(pair).doors(doors).start();
    scene.api(&["set_setting", "key=default_server_geoip", "value=DE"]);
    scene.api(&["set_countries", "countries=DE,AT"]);
    scene.api(&["set_setting", "key=country_rule", "value=enforce"]);
    scene
}

/// All logins at the same time; each must end as it says.
#[track_caller]
fn check(scene: &Scene, logins: &[(&str, &Mailbox, bool)]) {
    let each: Vec<_> = logins.iter().flat_map(|login| Way::ALL.map(|way| (way, *login))).collect();
    let replies = at_once(&each, |(way, (from, who, _))| scene.login(*way, from, who));
    for ((way, (from, who, wanted)), reply) in each.iter().zip(&replies) {
        assert_eq!(reply.yes, *wanted, "{} by {way:?} from {from}: {reply}", who.name);
        if !wanted {
            let words = if way.is_smtp() { "535" } else { "AUTH" };
            assert!(reply.says(words), "{} by {way:?} from {from}: {reply}", who.name);
        }
    }
}

#[test]
fn countries_decide_by_every_service_from_v4_v6_and_mapped_addresses() {
    for doors in WITH_DOVECOTS_DOOR {
        let scene = scene(Pair::Bookworm, doors);
        check(
            &scene,
            &[
                (GERMANY, &ALICE, true),
                (GERMANY_V6, &ALICE, true),
                (GERMANY_MAPPED, &ALICE, true),
                (AUSTRIA, &ALICE, true),
                (NOWHERE, &ALICE, true),
                ("127.0.0.1", &ALICE, true),
                ("::1", &ALICE, true),
                (BRAZIL, &ALICE, false),
                (BRAZIL_MAPPED, &ALICE, false),
                (CHINA_V6, &ALICE, false),
            ],
        );
        scene.api(&["set_setting", "key=unknown_countries", "value=refuse"]);
        check(&scene, &[(NOWHERE, &ALICE, false), (GERMANY, &ALICE, true)]);
        assert_eq!(scene.exim_panic_log(), "");
    }
}

#[test]
fn exemptions_allowances_and_own_lists_let_in_whom_they_name() {
    for doors in WITH_DOVECOTS_DOOR {
        let scene = scene(Pair::Bookworm, doors);
        scene.api(&["add_ip_exemption", "value=202.12.27.0/24"]);
        scene.api(&["add_user_exemption", "value=bob@example.test"]);
        scene.api(&["add_user_exemption", "value=other.test"]);
        scene.api(&["add_allowance", "for=alice@example.test", "from=ZA", "until=1h"]);
        scene.api(&["set_countries", "countries=CN", "for=carol@example.test", "confirm=1"]);
        check(
            &scene,
            &[
                (JAPAN, &ALICE, true),
                (BRAZIL, &ALICE, false),
                (BRAZIL, &BOB, true),
                (CHINA_V6, &BOB, true),
                (BRAZIL, &DAVE, true),
                (BRAZIL, &ERIN, true),
                (SOUTH_AFRICA, &ALICE, true),
                (SOUTH_AFRICA, &CAROL, false),
                (CHINA_V6, &CAROL, true),
                (BRAZIL, &CAROL, false),
            ],
        );
        scene.clock("+3601");
        check(&scene, &[(SOUTH_AFRICA, &ALICE, false), (SOUTH_AFRICA, &BOB, true)]);
    }
}

#[test]
fn a_mailbox_with_its_own_countries_is_not_let_in_by_the_servers_list() {
    let scene = scene(Pair::Bookworm, Doors::BOTH);
    scene.api(&["set_countries", "countries=CN", "for=carol@example.test", "confirm=1"]);
    scene.api(&["set_setting", "key=allow_server_country", "value=off", "confirm=1"]);
    check(&scene, &[(AUSTRIA, &CAROL, false), (AUSTRIA, &ALICE, true), (CHINA_V6, &CAROL, true)]);
}

#[test]
fn wrong_passwords_get_in_by_no_door_whatever_the_rules_say() {
    for doors in WITH_DOVECOTS_DOOR.into_iter().chain([Doors::EXIM]) {
        let scene = scene(Pair::Bookworm, doors);
        scene.api(&["add_user_exemption", "value=bob@example.test"]);
        scene.api(&["add_ip_exemption", "value=202.12.27.33"]);
        let tries: Vec<_> = [GERMANY, BRAZIL, JAPAN, NOWHERE, "127.0.0.1"]
            .iter()
            .flat_map(|from| Way::ALL.map(|way| (way, *from)))
            .flat_map(|(way, from)| [ALICE.name, BOB.name, "nobody@example.test"].map(|who| (way, from, who)))
            .collect();
        for some in tries.chunks(45) {
            for (reply, tried) in
                at_once(some, |(way, from, who)| scene.login_as(*way, from, who, "wrong")).iter().zip(some)
            {
                assert!(!reply.yes, "{tried:?}: {reply}");
            }
        }
    }
}

#[test]
fn exims_door_alone_refuses_at_auth_what_no_account_could_be_allowed() {
    for pair in Pair::ALL {
        let scene = scene(pair, Doors::EXIM);
        for way in Way::SMTP {
            assert!(scene.login(way, GERMANY, &ALICE).yes, "{pair:?} {way:?}");
            assert!(scene.login(way, GERMANY_V6, &ALICE).yes, "{pair:?} {way:?}");
            for from in [BRAZIL, BRAZIL_MAPPED, CHINA_V6] {
                let reply = scene.login(way, from, &ALICE);
                assert!(
                    !reply.yes && reply.says("535") && reply.says("Reference"),
                    "{way:?} {from}: {reply}"
                );
            }
        }
        // Dovecot does not ask here: what has no door is not covered.
        assert!(scene.login(Way::Imap, BRAZIL, &ALICE).yes);
    }
}

#[test]
fn with_one_exempt_mailbox_exims_door_alone_lets_in_and_refuses_at_mail() {
    for pair in Pair::ALL {
        let scene = scene(pair, Doors::EXIM);
        scene.api(&["add_user_exemption", "value=bob@example.test"]);
        for (who, wanted) in [(&ALICE, false), (&BOB, true)] {
            let mut smtp = scene.smtp(BRAZIL);
            assert!(smtp.auth_plain(who.name, who.password).yes, "{pair:?} {}: AUTH passes", who.name);
            let sent = smtp.send(who.name, &["friend@remote.test"], "x");
            assert_eq!(sent.yes, wanted, "{pair:?} {}: {sent}", who.name);
            assert!(wanted || (sent.says("550") && sent.says("5.7.1") && sent.says("Reference")), "{sent}");
        }
    }
}

#[test]
fn a_blocked_account_does_not_get_in_from_loopback_either() {
    let scene = scene(Pair::Bookworm, Doors::BOTH);
    scene.api(&["add_block", "value=alice@example.test"]);
    check(&scene, &[("127.0.0.1", &ALICE, false), ("::1", &ALICE, false), (GERMANY, &ALICE, false)]);
    assert!(!scene.smtp_from_loopback().auth_plain(ALICE.name, ALICE.password).yes);
    assert!(!scene.imap_from_loopback().login(ALICE.name, ALICE.password).yes);
    assert!(!scene.pop3_from_loopback().login(ALICE.name, ALICE.password).yes);
    check(&scene, &[("127.0.0.1", &BOB, true)]);
    scene.api(&["release_block", "value=alice@example.test"]);
    check(&scene, &[("127.0.0.1", &ALICE, true), (GERMANY, &ALICE, true)]);
}

#[test]
fn a_blocked_address_stays_out_and_loopback_can_never_be_blocked() {
    let scene = scene(Pair::Bookworm, Doors::BOTH);
    scene.api(&["add_block", "value=5.9.0.0/24", "until=1h"]);
    check(&scene, &[(GERMANY, &ALICE, false), (AUSTRIA, &ALICE, true)]);
    for loopback in ["127.0.0.1", "127.0.0.0/8", "::1"] {
        let refused = scene.postern(&["api", "add_block", &format!("value={loopback}")]).json();
        assert_eq!(refused["status"], 0, "{loopback}");
    }
    scene.clock("+3601");
    check(&scene, &[(GERMANY, &ALICE, true)]);
}

#[test]
fn monitor_lets_in_and_records_that_it_would_have_refused() {
    let scene = scene(Pair::Bookworm, Doors::BOTH);
    scene.api(&["set_setting", "key=country_rule", "value=monitor"]);
    check(&scene, &[(BRAZIL, &ALICE, true), (GERMANY, &ALICE, true)]);
    let activity = scene.api(&["list_activity", "account=alice@example.test"]).to_string();
    assert!(activity.contains("country_not_allowed") && activity.contains(BRAZIL), "{activity}");
    assert!(activity.contains("would_refuse"), "{activity}");
}

#[test]
fn credentials_lookups_and_auth_tests_keep_working_behind_the_gate() {
    for doors in WITH_DOVECOTS_DOOR {
        let scene = scene(Pair::Bookworm, doors);
        assert_eq!(scene.doveadm(&["auth", "test", ALICE.name, ALICE.password]).code(), Some(0));
        assert_ne!(scene.doveadm(&["auth", "test", ALICE.name, "wrong"]).code(), Some(0));
        let found = scene.doveadm(&["auth", "lookup", ALICE.name]).succeeded();
        assert!(found.contains(ALICE.name), "{doors:?}: {found}");
        let from_brazil = format!("rip={BRAZIL}");
        let refused = scene.doveadm(&["auth", "test", "-x", &from_brazil, ALICE.name, ALICE.password]);
        assert_ne!(refused.code(), Some(0), "{doors:?}: {refused:?}");
    }
}

#[test]
fn refusals_are_found_by_account_address_and_reference_and_counted_by_country() {
    let scene = scene(Pair::Bookworm, Doors::BOTH);
    let refused = scene.login(Way::SmtpPlain, BRAZIL, &ALICE);
    let reference = last_word(&refused);
    scene.login(Way::Imap, CHINA_V6, &ALICE);
    scene.login(Way::Imap, GERMANY, &ALICE);
    let by_reference = scene.api(&["list_activity", &format!("reference={reference}")]).to_string();
    assert!(by_reference.contains(BRAZIL) && !by_reference.contains(CHINA_V6), "{by_reference}");
    let by_account = scene.api(&["list_activity", "account=alice@example.test"]).to_string();
    assert!(by_account.contains(CHINA_V6), "{by_account}");
    let by_address = scene.api(&["list_activity", &format!("address={BRAZIL}")]).to_string();
    assert!(by_address.contains(&reference), "{by_address}");
    eventually("the figures are folded", || {
        scene.api(&["tick"]);
        let figures = scene.api(&["country_statistics"]).to_string();
        ["Germany", "Brazil", "China"].iter().all(|country| figures.contains(country))
    });
    let said = scene.syslog().join("\n");
    assert!(said.contains("event=refuse") && said.contains(&reference), "{said}");
    assert!(!said.contains(ALICE.password), "{said}");
}

/// `… Reference 7K3M-92QX.`: what the client was told to name.
fn last_word(reply: &Reply) -> String {
    reply.text.split_whitespace().last().unwrap().trim_end_matches('.').to_owned()
}
