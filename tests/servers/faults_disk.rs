//! The disk of the state is full behind the keeper, on which the real servers lean: mail and logins go on, what is
//! known still holds, `postern status` tells, and with room it counts on.

use crate::clients::{Tls, Way};
use crate::doing::{BRAZILIAN, GERMAN, OUTSIDE, allow_germany_alone, limit, logged_in, sendmail};
use crate::rig::{
    ADMIN, ALICE, BOB, CAROL, DAVE, Doors, ERIN, Mailbox, Pair, Scene, at_once, eventually, mount_in_private,
};
use crate::told;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;

/// So many messages in a session of each: how many of them passed.
fn passed(scene: &Scene, who: &Mailbox, messages: u32) -> usize {
    let mut smtp = logged_in(scene, who);
    let mut one = || {
        let reply = smtp.send(who.name, &[OUTSIDE], "x");
        assert!(reply.yes || reply.says("451"), "{:?} {}: {reply}", scene.pair(), who.name);
        smtp.ask("RSET");
        reply.yes
    };
    (0..messages).filter(|_| one()).count()
}

/// Everything there is to do, each as the policy says, by senders who may send two messages. A third passes as long as
/// nobody can count it.
fn all_goes_on(scene: &Scene, senders: [&Mailbox; 2]) {
    eventually("what was sent before left", || scene.queue().is_empty());
    let outside = scene.mail_outside().len();
    let routes =
        Way::ALL.iter().flat_map(|way| [Tls::None, Tls::Starttls, Tls::Wrapper].map(|tls| (*way, tls)));
    let tries: Vec<_> = routes.flat_map(|(way, tls)| [(way, tls, GERMAN), (way, tls, BRAZILIAN)]).collect();
    let replies = at_once(&tries, |(way, tls, from)| {
        if !way.is_smtp() {
            return scene.login_by(*tls, *way, from, ALICE.name, ALICE.password);
        }
        let mut smtp = scene.smtp_by(*tls, from);
        if smtp.greeting.yes { smtp.auth_plain(ALICE.name, ALICE.password) } else { smtp.greeting }
    });
    for ((way, tls, from), reply) in tries.iter().zip(replies) {
        assert_eq!(reply.yes, *from == GERMAN, "{:?} {way:?} {tls:?} {from}: {reply}", scene.pair());
    }
    assert!(!scene.login_as(Way::Imap, GERMAN, ALICE.name, "guessed").yes);
    assert_eq!(at_once(&senders, |who| passed(scene, who, 3)), [3, 3], "{:?}", scene.pair());
    let brought = scene.smtp(BRAZILIAN).send("x@remote.test", &[ADMIN.name], "x");
    assert!(brought.yes, "{:?}: {brought}", scene.pair());
    sendmail(scene, "webuser", &["-t"]).succeeded();
    eventually("what was sent left", || scene.mail_outside().len() == outside + 7);
}

/// The tally need not be in trouble: its lines are short, and the page that it begun has room for dozens.
#[track_caller]
fn is_told(scene: &Scene) {
    let troubles = told::troubles(scene);
    let says = troubles.get("state-full").unwrap_or_else(|| panic!("{troubles:?}"));
    assert!(says.contains("Make room."), "{says}");
}

fn a_full_disk_stops_nothing(pair: Pair, doors: Doors) {
    let scene = Scene::on(pair).doors(doors).start();
    let mut disk = scene.on_small_disk();
    scene.start_keeper();
    for service in ["smtp", "imap", "pop3"] {
        scene.api(&["set_setting", &format!("key={service}_logins_from"), "value=policy"]);
    }
    allow_germany_alone(&scene);
    limit(&scene, 2);
    assert_eq!((passed(&scene, &BOB, 3), passed(&scene, &ALICE, 1)), (2, 1));
    disk.fill();
    all_goes_on(&scene, [&ALICE, &DAVE]);
    assert_eq!(passed(&scene, &BOB, 1), 0, "{pair:?}: he is stopped as before");
    is_told(&scene);
    disk.make_room();
    let more = passed(&scene, &ALICE, 2);
    assert!(
        more == 1 || told::was_too_busy(&scene),
        "{pair:?}: the message from before counts, {more} more passed"
    );

    // One that begins on a full disk has nothing open yet, and here the index of the state is gone, too.
    scene.signal_keeper(Signal::SIGTERM);
    let socket = scene.path("/run/postern/sockets/exim");
    eventually("it has ended", || !socket.exists());
    std::fs::remove_file(scene.path("/var/lib/postern/state/state.db-shm")).unwrap();
    disk.fill();
    scene.start_keeper();
    all_goes_on(&scene, [&CAROL, &ERIN]);
    assert_eq!(passed(&scene, &BOB, 1), 1, "{pair:?}: nobody can read that he is stopped");
    is_told(&scene);
    disk.make_room();
    assert_eq!((passed(&scene, &DAVE, 3), passed(&scene, &BOB, 1)), (2, 0), "{pair:?}");
    let before = told::statistics(&scene);
    assert!(scene.login(Way::Imap, GERMAN, &DAVE).yes);
    eventually("it is counted again", || told::statistics(&scene)["DE tried"] == before["DE tried"] + 1);
    assert_eq!(scene.exim_panic_log() + &scene.postfix_faults(), "", "{pair:?}");
    scene.postern(&["trouble", "clear"]).succeeded();
    assert_eq!((passed(&scene, &DAVE, 1), told::troubles(&scene)), (0, BTreeMap::new()), "{pair:?}");
}

#[test]
fn a_full_disk_behind_the_keeper_stops_nothing_with_exim() {
    mount_in_private();
    at_once(&Pair::ALL, |pair| a_full_disk_stops_nothing(*pair, Doors::EXIM_AND_POLICY.and_keeper()));
}

#[test]
fn a_full_disk_behind_the_keeper_stops_nothing_with_postfix() {
    mount_in_private();
    at_once(&Pair::POSTFIX, |pair| {
        a_full_disk_stops_nothing(*pair, Doors::POSTFIX_BY_KEEPER.and(Doors::POLICY))
    });
}
