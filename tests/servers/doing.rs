//! What many tests do to the servers.

use crate::clients::{Reply, Smtp};
use crate::rig::{ALICE, Doors, Mailbox, Pair, Ran, Scene, at_once};
use crate::told;
use std::collections::BTreeMap;

pub(crate) const GERMAN: &str = "79.192.0.1";
pub(crate) const BRAZILIAN: &str = "200.160.2.3";
pub(crate) const OUTSIDE: &str = "friend@remote.test";

/// The test on each pair, with Exim's door; on both at the same time.
pub(crate) fn on_each_pair(test: impl Fn(&Scene) + Sync) {
    at_once(&Pair::ALL, |pair| on_pair(*pair, &test));
}

/// The test on each pair, with Exim's door; on one after the other, for a crowd that needs the whole machine.
pub(crate) fn on_each_pair_in_turn(test: impl Fn(&Scene)) {
    Pair::ALL.into_iter().for_each(|pair| on_pair(pair, &test));
}

fn on_pair(pair: Pair, test: impl Fn(&Scene)) {
    let scene = Scene::on(pair).doors(Doors::EXIM).start();
    test(&scene);
    assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
}

/// The test on each pair with Postfix, with Postfix's doors; on both at the same time.
pub(crate) fn on_each_postfix(test: impl Fn(&Scene) + Sync) {
    at_once(&Pair::POSTFIX, |pair| {
        let scene = Scene::on(*pair).doors(Doors::POSTFIX).start();
        scene.api(&["set_setting", "key=smtp_logins_from", "value=postfix"]);
        test(&scene);
        assert_eq!(scene.postfix_faults(), "", "{pair:?}");
        assert_eq!(told::troubles(&scene), BTreeMap::new(), "{pair:?}");
    });
}

/// The country rule enforced: logins from Germany alone.
pub(crate) fn allow_germany_alone(scene: &Scene) {
    scene.api(&["set_setting", "key=default_server_geoip", "value=DE"]);
    scene.api(&["set_countries", "countries=DE"]);
    scene.api(&["set_setting", "key=country_rule", "value=enforce"]);
}

/// So many messages pass, the next one stops.
pub(crate) fn limit(scene: &Scene, messages: u32) {
    scene.api(&["set_setting", "key=rate_limit_messages", &format!("value={messages}")]);
}

/// A session from Germany, logged in.
#[track_caller]
pub(crate) fn logged_in(scene: &Scene, who: &Mailbox) -> Smtp {
    let mut smtp = scene.smtp(GERMAN);
    let reply = smtp.auth_plain(who.name, who.password);
    assert!(reply.yes, "{}: {reply}", who.name);
    smtp
}

/// One message to the world outside, in a session of its own.
#[track_caller]
pub(crate) fn send_one(scene: &Scene, who: &Mailbox) -> Reply {
    logged_in(scene, who).send(who.name, &[OUTSIDE], "x")
}

/// So many messages in one session, each of which must pass.
#[track_caller]
pub(crate) fn send_many(scene: &Scene, who: &Mailbox, messages: u32) {
    let mut smtp = logged_in(scene, who);
    for number in 1..=messages {
        let reply = smtp.send(who.name, &[OUTSIDE], "x");
        assert!(reply.yes, "{}, message {number}: {reply}", who.name);
    }
}

/// One message to the world outside by a local user's sendmail.
pub(crate) fn sendmail(scene: &Scene, user: &str, words: &[&str]) -> Ran {
    scene.sendmail(user, words, "To: friend@remote.test\nSubject: x\n\nhello\n")
}

/// Dovecot's own tool tries a password of Alice's: her own or a guessed one, as if from this address.
pub(crate) fn doveadm_auth_test(scene: &Scene, address: Option<&str>, right: bool) -> Ran {
    let rip = address.map(|a| format!("rip={a}"));
    let mut words = vec!["auth", "test"];
    words.extend(rip.iter().flat_map(|rip| ["-x", rip]));
    words.extend([ALICE.name, if right { ALICE.password } else { "guessed" }]);
    scene.doveadm(&words)
}
