use super::*;
use crate::clock::Clock;
use crate::keeper::owed::Owed;
use crate::paths::Paths;
use crate::store::settings::{Host, SettingsStore};
use crate::store::state;
use nix::libc;
use rusqlite::Connection;
use std::os::unix::fs::{PermissionsExt, chown};

const NOON: i64 = 1_795_608_000;
const POSTERN: u32 = 61000;
const POSTFIX: u32 = 61001;
const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@example.test";
const GO_ON: &str = "action=DUNNO\n\n";
const LONG: Duration = Duration::from_secs(600);

/// The keeper's files, and an event loop that takes its turns when it is told.
struct Scene {
    _dir: tempfile::TempDir,
    paths: Paths,
    owed: Arc<Owed>,
    event_loop: Arc<EventLoop>,
    files: Kept,
}

/// Plays it in a thread that opens files as Postern's user, if this one is root. Two messages of an account are
/// allowed.
fn scene(fault: Option<&str>, play: impl FnOnce(&mut Scene) + Send) {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::below(dir.path());
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for folder in [paths.tally_dir(), paths.trouble()] {
        std::fs::create_dir_all(&folder).unwrap();
    }
    let mut store = SettingsStore::begin(&paths).unwrap();
    store.set_host(&Host { postern_uid: POSTERN, postern_gid: POSTERN, mail_uids: Vec::new() }).unwrap();
    store.change("test", NOON, None, |change| change.set("rate_limit_messages", "2")).unwrap();
    store.publish(NOON, |_| None).unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if is_root {
        for folder in [paths.state_dir(), paths.tally_dir(), paths.trouble()] {
            chown(folder, Some(POSTERN), Some(POSTERN)).unwrap();
        }
    }
    let fault = fault.map(str::to_owned);
    let play = move || {
        if is_root {
            // SAFETY: plain numbers; of this thread alone, and of those that it begins.
            unsafe {
                libc::setfsgid(POSTERN);
                libc::setfsuid(POSTERN);
            }
        }
        state::begin(&paths, NOON).unwrap();
        let engines = Arc::new(Engines::new(paths.clone(), Clock::Fixed(NOON), fault));
        engines.tend_state();
        let patience = Patience { first: LONG, silence: LONG, question: LONG };
        let event_loop = EventLoop::new(&engines, patience, 100).unwrap();
        let files = engines.another_set();
        play(&mut Scene { _dir: dir, paths, owed: Arc::default(), event_loop, files });
    };
    std::thread::scope(|threads| threads.spawn(play).join().unwrap());
}

impl Scene {
    /// A connection that is kept.
    fn connected(&self) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let client = Client { uid: POSTFIX, admitted: true, talk: Talk::default(), place: None };
        self.event_loop.keep(Watched::new(ours, &self.owed), Box::new(client)).unwrap();
        theirs
    }

    fn turn(&mut self) {
        self.event_loop.turn(&mut self.files, &mut Pace::new());
    }

    fn state(&self) -> Connection {
        Connection::open(self.paths.state()).unwrap()
    }

    /// Stops this account.
    fn stop(&self, account: &str) {
        let sql = "INSERT INTO stop(account, since, until, reason, detail, reference, refused, last)
                   VALUES (?1, ?2, ?2 + 3600, 'over_limit', '', '0123456789', 1, ?2)";
        self.state().execute(sql, (account, NOON)).unwrap();
    }

    /// Whose messages are counted.
    fn counted(&self) -> String {
        let sql = "SELECT coalesce(group_concat(account), '') FROM sender";
        self.state().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn marks(&self, trouble: &str) -> u64 {
        std::fs::metadata(self.paths.trouble().join(trouble)).map_or(0, |file| file.len())
    }

    /// Waits until so many connections are kept.
    fn keeps(&self, many: usize) {
        while self.event_loop.silent.lock().len() != many {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn message(account: &str) -> String {
    format!(
        "request=smtpd_access_policy\nprotocol_state=END-OF-MESSAGE\nclient_address=192.0.2.7\n\
         sasl_username={account}\nrecipient_count=1\n\n"
    )
}

fn send(stream: &mut UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

/// The next answer.
fn hear(stream: &mut UnixStream) -> String {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"\n\n") && stream.read(&mut byte).unwrap() == 1 {
        said.push(byte[0]);
    }
    String::from_utf8(said).unwrap()
}

fn is_over_limit(said: &str) -> bool {
    said.starts_with("action=451 4.7.1 More than 2 messages")
}

fn is_stopped(said: &str) -> bool {
    said.starts_with("action=451 4.7.1 Sending from this account is stopped")
}

#[test]
fn what_is_decided_together_is_counted_as_if_it_came_one_after_the_other() {
    scene(None, |scene| {
        let mut clients: Vec<_> = (0..6).map(|_| scene.connected()).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            send(client, &message(if n < 5 { ALICE } else { BOB }));
        }
        scene.turn();
        let said: Vec<String> = clients.iter_mut().map(hear).collect();
        assert_eq!(said.iter().filter(|said| *said == GO_ON).count(), 3, "{said:?}");
        assert_eq!(said.iter().filter(|said| is_over_limit(said)).count(), 1, "{said:?}");
        assert_eq!(said.iter().filter(|said| is_stopped(said)).count(), 2, "{said:?}");
        assert_eq!(said[5], GO_ON);
        assert_eq!(scene.counted(), format!("{ALICE},{BOB}"));
        let tally = std::fs::read_to_string(crate::tally::current(&scene.paths)).unwrap();
        let entries: Vec<_> = tally.lines().map(|line| crate::tally::parse(line).unwrap()).collect();
        assert_eq!(entries.iter().filter(|entry| entry.account == ALICE).count(), 5, "{tally}");
        assert_eq!(entries.len(), 6, "{tally}");
    });
}

#[test]
fn each_connection_hears_its_own_answers_in_order() {
    scene(None, |scene| {
        let mut clients: Vec<_> = (0..4).map(|_| scene.connected()).collect();
        for round in 0..4 {
            for (n, client) in clients.iter_mut().enumerate() {
                send(client, &message(&format!("sender{n}@example.test")));
            }
            scene.turn();
            for client in &mut clients {
                let said = hear(client);
                let expected = [GO_ON, GO_ON, "action=451 4.7.1 More", "action=451 4.7.1 Sending"][round];
                assert!(said.starts_with(expected), "{round}: {said}");
            }
        }
    });
}

#[test]
fn a_panic_costs_its_own_question_of_those_that_are_decided_together() {
    scene(Some(BOB), |scene| {
        scene.stop(BOB);
        let mut clients: Vec<_> = (0..3).map(|_| scene.connected()).collect();
        for _ in 0..2 {
            for (client, account) in clients.iter_mut().zip([ALICE, BOB, CAROL]) {
                send(client, &message(account));
            }
            scene.turn();
            let said: Vec<String> = clients.iter_mut().map(hear).collect();
            // What was decided before the fault stands, and is not recorded.
            assert!(said[0] == GO_ON && is_stopped(&said[1]) && said[2] == GO_ON, "{said:?}");
        }
        assert_eq!(scene.counted(), format!("{ALICE},{CAROL}"));
        let refused: i64 = scene.state().query_row("SELECT refused FROM stop", [], |row| row.get(0)).unwrap();
        assert_eq!(refused, 1, "as before");
        for client in [0, 2] {
            send(&mut clients[client], &message([ALICE, BOB, CAROL][client]));
        }
        scene.turn();
        assert!([0, 2].iter().all(|n| is_over_limit(&hear(&mut clients[*n]))), "both were counted twice");
    });
}

#[test]
fn an_error_costs_its_own_question_of_those_that_are_decided_together() {
    scene(None, |scene| {
        // As a mail user could lay it there: what is counted of this one account breaks a rule of the table.
        let sql = format!(
            "DROP TABLE sender;
             CREATE TABLE sender(account TEXT PRIMARY KEY CHECK (account <> '{BOB}'), window BLOB, last INTEGER,
                                 told_until INTEGER, meters BLOB) WITHOUT ROWID"
        );
        scene.state().execute_batch(&sql).unwrap();
        let mut clients: Vec<_> = (0..3).map(|_| scene.connected()).collect();
        for (client, account) in clients.iter_mut().zip([ALICE, BOB, CAROL]) {
            send(client, &message(account));
        }
        scene.turn();
        assert!(clients.iter_mut().all(|client| hear(client) == GO_ON));
        assert_eq!(scene.counted(), format!("{ALICE},{CAROL}"));
        assert_eq!(scene.marks("state-broken"), 1);
        // The same for one that has the transaction to itself.
        send(&mut clients[1], &message(BOB));
        scene.turn();
        assert_eq!((hear(&mut clients[1]).as_str(), scene.marks("state-broken")), (GO_ON, 2));
    });
}

#[test]
fn where_nothing_can_be_kept_in_the_end_refusals_hold_and_it_is_told_once() {
    scene(None, |scene| {
        // As a mail user could lay it there: what is counted refers to what is missing, which SQLite finds at COMMIT.
        let sql = "DROP TABLE sender;
             CREATE TABLE sender(account TEXT PRIMARY KEY REFERENCES meta(key) DEFERRABLE INITIALLY DEFERRED,
                                 window BLOB, last INTEGER, told_until INTEGER, meters BLOB) WITHOUT ROWID";
        scene.state().execute_batch(sql).unwrap();
        scene.stop(BOB);
        let mut clients: Vec<_> = (0..3).map(|_| scene.connected()).collect();
        for turn in 1..=2 {
            for (client, account) in clients.iter_mut().zip([ALICE, BOB, CAROL]) {
                send(client, &message(account));
            }
            scene.turn();
            let said: Vec<String> = clients.iter_mut().map(hear).collect();
            assert!(said[0] == GO_ON && is_stopped(&said[1]) && said[2] == GO_ON, "{said:?}");
            assert_eq!((scene.counted(), scene.marks("state-broken")), (String::new(), turn));
        }
    });
}

#[test]
fn half_a_question_keeps_nobody_waiting_and_is_answered_when_it_is_whole() {
    scene(None, |scene| {
        let (mut slow, mut quick) = (scene.connected(), scene.connected());
        let question = message(ALICE);
        send(&mut slow, &question[..40]);
        send(&mut quick, &message(BOB));
        scene.turn();
        assert_eq!(hear(&mut quick), GO_ON);
        send(&mut slow, &question[40..]);
        assert_eq!(hear(&mut slow), GO_ON);
        scene.keeps(2);
        send(&mut slow, &question);
        scene.turn();
        assert_eq!(hear(&mut slow), GO_ON);
    });
}

#[test]
fn questions_that_come_in_one_piece_are_answered_in_order() {
    scene(None, |scene| {
        scene.stop(BOB);
        let mut client = scene.connected();
        send(&mut client, &[message(ALICE), message(BOB), message(CAROL)].concat());
        scene.turn();
        let said = [hear(&mut client), hear(&mut client), hear(&mut client)];
        assert!(said[0] == GO_ON && is_stopped(&said[1]) && said[2] == GO_ON, "{said:?}");
        scene.keeps(1);
    });
}

#[test]
fn a_question_that_is_too_long_is_answered_and_the_connection_ends() {
    scene(None, |scene| {
        let mut client = scene.connected();
        send(&mut client, &format!("request={}\n", "x".repeat(crate::door::postfix::LONGEST_LINE)));
        scene.turn();
        let mut said = String::new();
        // What lies unread when a connection is closed is told as an error after the answer.
        let _ = client.read_to_string(&mut said);
        assert_eq!(said, GO_ON);
        while scene.marks("call") == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn while_another_holds_the_state_the_loop_goes_on_and_the_question_is_counted_afterwards() {
    scene(None, |scene| {
        let (mut client, mut nothing_to_decide) = (scene.connected(), scene.connected());
        let holder = scene.state();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        send(&mut client, &message(ALICE));
        scene.turn();
        send(&mut nothing_to_decide, "request=smtpd_access_policy\nprotocol_state=VRFY\n\n");
        scene.turn();
        assert_eq!(hear(&mut nothing_to_decide), GO_ON);
        holder.execute_batch("ROLLBACK").unwrap();
        assert_eq!(hear(&mut client), GO_ON);
        // On a machine so busy that a second was over meanwhile, it is told.
        assert!(scene.counted() == ALICE || scene.marks("state-locked") > 0);
    });
}

#[test]
fn beyond_the_bound_a_connection_is_not_kept_and_is_served_all_the_same() {
    scene(None, |scene| {
        let serve = |scene: &Scene| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let (event_loop, stream) = (scene.event_loop.clone(), Watched::new(ours, &scene.owed));
            (theirs, thread::spawn(move || event_loop.serve(stream, POSTFIX, true)))
        };
        let places: Vec<Place> = (0..100).map(|_| scene.event_loop.place().unwrap()).collect();
        let (mut theirs, serving) = serve(scene);
        // Nobody takes a turn, and the second is answered, too.
        for _ in 0..2 {
            send(&mut theirs, &message(ALICE));
            assert_eq!(hear(&mut theirs), GO_ON);
        }
        drop(theirs);
        serving.join().unwrap();
        drop(places);
        let (mut theirs, serving) = serve(scene);
        send(&mut theirs, &message(BOB));
        assert_eq!(hear(&mut theirs), GO_ON);
        serving.join().unwrap();
        scene.keeps(1);
    });
}

#[test]
fn at_the_end_of_the_keeper_kept_connections_end() {
    scene(None, |scene| {
        let mut client = scene.connected();
        send(&mut client, &message(ALICE));
        scene.turn();
        assert_eq!(hear(&mut client), GO_ON);
        let owed = scene.owed.clone();
        let ends = thread::spawn(move || owed.pay(LONG, LONG));
        scene.turn();
        ends.join().unwrap();
        assert_eq!(hear(&mut client), "");
    });
}
