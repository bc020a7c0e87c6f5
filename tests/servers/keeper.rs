//! The keeper behind the real servers: what they are told is the same; whatever becomes of it, mail and logins go
//! on and nothing counts twice.

use crate::doing::{
    BRAZILIAN, OUTSIDE, allow_germany_alone, limit, logged_in, send_many, send_one, sendmail,
};
use crate::rig::{ALICE, BOB, CAROL, Doors, Mailbox, Pair, Scene, at_once, eventually};
use crate::told;
use nix::sys::signal::Signal;
use postern::decide::window::Window;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const SOCKETS: &str = "/run/postern/sockets";

fn scene(pair: Pair) -> Scene {
    Scene::on(pair).doors(Doors::EXIM.and_keeper()).start()
}

fn on_each_pair(test: impl Fn(&Scene) + Sync) {
    at_once(&Pair::ALL, |pair| {
        let scene = scene(*pair);
        test(&scene);
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    });
}

/// How often Exim noted that nobody decided.
fn undecided(scene: &Scene) -> usize {
    scene.exim_log().matches("postern: no decision").count()
}

/// How many messages of this account the state has counted.
fn counted(scene: &Scene, who: &Mailbox) -> usize {
    let state = rusqlite::Connection::open(scene.path("/var/lib/postern/state/state.db")).unwrap();
    let sql = "SELECT window FROM sender WHERE account = ?1";
    let window: Vec<u8> = state.query_row(sql, [who.name], |row| row.get(0)).unwrap_or_default();
    usize::try_from(Window::read(&window).count()).unwrap()
}

/// What the programs log of troubles, by code.
fn trouble(scene: &Scene, code: &str) -> bool {
    told::troubles(scene).contains_key(code)
}

#[test]
fn forty_sessions_at_once_send_exactly_150_of_400() {
    Pair::ALL.into_iter().for_each(|pair| {
        let scene = &scene(pair);
        let sent = at_once(&[10u32; 40], |messages| {
            let mut smtp = logged_in(scene, &ALICE);
            (0..*messages).map(|_| smtp.send(ALICE.name, &[OUTSIDE], "x")).collect::<Vec<_>>()
        });
        let replies = sent.concat();
        let passed = replies.iter().filter(|reply| reply.yes).count();
        let stopped = replies.iter().filter(|reply| reply.says("451")).count();
        let troubles = told::troubles(scene);
        assert_eq!(passed + stopped, 400, "{pair:?}: {troubles:?}");
        // However busy the machine is, exactly as many are counted as may pass. One whose answer came too late passes,
        // counted or not, and Exim notes it; one that could not be counted in time passes, and that is told.
        assert_eq!(counted(scene, &ALICE), 150, "{pair:?}: {troubles:?}");
        let late = scene.exim_log().matches("postern: no decision on a message").count();
        assert!(passed >= 150, "{pair:?}: {passed} passed");
        assert!(
            passed <= 150 + late || told::was_too_busy(scene),
            "{pair:?}: {passed} passed, Exim noted {late}: {troubles:?}"
        );
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    });
}

#[test]
fn local_messages_are_counted_held_and_released_as_by_the_hook() {
    on_each_pair(|scene| {
        limit(scene, 2);
        let codes = [(); 4].map(|()| sendmail(scene, "webuser", &["-t"]).code());
        assert_eq!(codes, [Some(0); 4]);
        let held = scene.api(&["list_held"]);
        assert_eq!(held.as_array().map(Vec::len), Some(2), "{held}");
        scene.postern(&["held", "release", held[0]["message"].as_str().unwrap()]).succeeded();
        eventually("three have left", || scene.mail_outside().len() == 3);
        assert_eq!(undecided(scene), 0);
    });
}

/// Five hundred times on each pair, so a thousand in all. A message whose question was in flight can be counted
/// and not answered, or neither; Exim notes each that nobody answered.
#[test]
fn a_thousand_deaths_under_load_stop_no_mail_and_lose_no_count_but_those_in_flight() {
    let deaths = |pair: Pair| {
        let scene = scene(pair);
        limit(&scene, 100_000);
        let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|threads| {
            for _ in 0..4 {
                threads.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        send_many(&scene, &ALICE, 5);
                        sent.fetch_add(5, Ordering::Relaxed);
                    }
                });
            }
            for number in 0..500 {
                scene.signal_keeper(if number % 5 == 4 { Signal::SIGTERM } else { Signal::SIGKILL });
                scene.start_keeper();
            }
            over.store(true, Ordering::Relaxed);
        });
        let (sent, counted, lost) = (sent.into_inner(), counted(&scene, &ALICE), undecided(&scene));
        assert!(
            counted <= sent && sent <= counted + lost,
            "{pair:?}: {sent} sent, {counted} counted, {lost} lost"
        );
        assert!(sent > 500, "{sent} messages are no load");
        assert_eq!(scene.exim_panic_log(), "");
        assert_eq!(told::troubles(&scene).keys().filter(|code| code.starts_with("state")).count(), 0);
    };
    at_once(&Pair::ALL, |pair| deaths(*pair));
}

#[test]
fn stopped_it_is_late_and_not_dead_so_nothing_counts_twice_and_known_refusals_hold() {
    on_each_pair(|scene| {
        allow_germany_alone(scene);
        limit(scene, 2);
        send_many(scene, &BOB, 2);
        assert!(send_one(scene, &BOB).says("451"));
        scene.api(&["add_block", &format!("value={}", CAROL.name)]);
        let mut alice = logged_in(scene, &ALICE);
        scene.signal_keeper(Signal::SIGSTOP);
        for _ in 0..3 {
            assert!(alice.send(ALICE.name, &[OUTSIDE], "x").yes, "over the limit, and nobody counts");
        }
        assert!(send_one(scene, &BOB).says("451"), "the hook reads that BOB is stopped");
        let mut carol = logged_in(scene, &CAROL);
        assert!(carol.ask(&format!("MAIL FROM:<{}>", CAROL.name)).says("550"));
        assert!(!scene.smtp(BRAZILIAN).auth_plain(ALICE.name, ALICE.password).yes);
        assert!(trouble(scene, "keeper"), "{:?}", told::troubles(scene));
        scene.signal_keeper(Signal::SIGCONT);
        // What it was asked meanwhile it counts now, once each; Exim has gone on without it.
        eventually("it is up to date", || {
            scene.api(&["status"]).to_string().contains("Answers on its sockets")
        });
        assert!(counted(scene, &ALICE) <= 3, "{}", counted(scene, &ALICE));
    });
}

#[test]
fn a_socket_that_is_stale_gone_or_a_strangers_costs_nothing() {
    on_each_pair(|scene| {
        limit(scene, 100_000);
        send_many(scene, &ALICE, 2);
        scene.signal_keeper(Signal::SIGKILL);
        eventually("it is dead", || !scene.api(&["status"]).to_string().contains("Answers on its sockets"));
        assert!(scene.path(SOCKETS).join("exim").exists());
        send_many(scene, &ALICE, 2);
        std::fs::remove_dir_all(scene.path(SOCKETS)).unwrap();
        send_many(scene, &ALICE, 2);
        // A folder that the mail server may not enter.
        let folder = "mkdir /run/postern/sockets && chmod 700 /run/postern/sockets";
        scene.run_as("root", &["sh", "-c", folder], "").succeeded();
        send_many(scene, &ALICE, 2);
        assert_eq!((counted(scene, &ALICE), undecided(scene)), (8, 0));
        // The next keeper puts it right.
        scene.start_keeper();
        send_many(scene, &ALICE, 2);
        assert_eq!((counted(scene, &ALICE), undecided(scene)), (10, 0));
    });
}

#[test]
fn local_users_cannot_ask_it_nor_fill_its_queue() {
    on_each_pair(|scene| {
        let connect = "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); \
                       exit(connect($s, pack_sockaddr_un('/run/postern/sockets/exim')) ? 0 : 1)";
        for user in ["webuser", "www-data"] {
            assert_eq!(scene.run_as(user, &["perl", "-e", connect], "").code(), Some(1), "{user}");
        }
        assert_eq!(scene.run_as("Debian-exim", &["perl", "-e", connect], "").code(), Some(0));
        assert!(send_one(scene, &ALICE).yes);
    });
}

#[test]
fn names_with_newlines_blanks_and_quotes_stay_one_field() {
    on_each_pair(|scene| {
        limit(scene, 1);
        let mut smtp = logged_in(scene, &ALICE);
        // The client chooses these; none of them becomes a word or a line of the question.
        smtp.ask("RSET");
        smtp.ask("EHLO x\ty postern/1 auth");
        for sender in ["\"a b\\\"c\"@example.test", "a=b@example.test", "postern/1@example.test"] {
            smtp.ask(&format!("MAIL FROM:<{sender}>"));
            smtp.ask("RSET");
        }
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").yes);
        assert!(smtp.send(ALICE.name, &[OUTSIDE], "x").says("451"));
        assert_eq!(undecided(scene), 0, "{}", scene.exim_log());
        assert!(!trouble(scene, "call"), "{:?}", told::troubles(scene));
    });
}

#[test]
fn while_the_state_is_locked_broken_or_gone_mail_goes_on_and_then_it_counts_again() {
    on_each_pair(|scene| {
        limit(scene, 2);
        send_many(scene, &BOB, 2);
        assert!(send_one(scene, &BOB).says("451"));
        let path = scene.path("/var/lib/postern/state/state.db");
        let holder = rusqlite::Connection::open(&path).unwrap();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let replies = at_once(&[&ALICE, &ALICE, &ALICE, &ALICE, &BOB], |who| send_one(scene, who));
        assert!(replies[..4].iter().all(|reply| reply.yes), "{replies:?}");
        assert!(replies[4].says("451"), "{}", replies[4]);
        holder.execute_batch("ROLLBACK").unwrap();
        drop(holder);
        std::fs::write(&path, "garbage".repeat(2000)).unwrap();
        assert!(send_one(scene, &ALICE).yes);
        scene.postern(&["tick"]);
        send_many(scene, &ALICE, 2);
        assert!(send_one(scene, &ALICE).says("451"), "{:?}", told::troubles(scene));
        std::fs::remove_file(&path).unwrap();
        // It looks for the name a few times a second.
        eventually("the keeper misses it", || send_one(scene, &ALICE).yes);
        assert!(trouble(scene, "state-missing"), "{:?}", told::troubles(scene));
    });
}
