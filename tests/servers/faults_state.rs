//! The state in trouble: mail goes on, what is decided without it still holds, the log and `postern status`
//! say what is wrong, and nothing of what was in it is lost.

use crate::clients::Way;
use crate::doing::{BRAZILIAN, GERMAN, allow_germany_alone, limit, send_many, send_one, sendmail};
use crate::rig::{ALICE, BOB, CAROL, DAVE, Doors, Pair, Scene, at_once, mount_in_private, run};
use crate::told;
use fs2::FileExt;
use std::fs;
use std::path::PathBuf;

const STATE: &str = "/var/lib/postern/state/state.db";

fn scene(pair: Pair) -> Scene {
    let doors = if pair == Pair::Bookworm { Doors::BOTH } else { Doors::EXIM };
    let scene = Scene::on(pair).doors(doors).start();
    allow_germany_alone(&scene);
    scene.api(&["add_block", "value=carol@example.test"]);
    limit(&scene, 2);
    send_many(&scene, &ALICE, 1);
    send_many(&scene, &BOB, 2);
    assert!(send_one(&scene, &BOB).says("451"));
    scene
}

/// While the state cannot be used. Where it can still be read, what it knows still holds.
#[track_caller]
fn mail_goes_on_and_the_policy_holds(scene: &Scene, trouble: &str, can_be_read: bool) {
    // Each hook may wait for the state: all at once.
    let tries = [(BRAZILIAN, &ALICE), (GERMAN, &ALICE), (GERMAN, &CAROL)];
    let tries: Vec<_> = tries.iter().flat_map(|who| Way::ALL.map(|way| (way, *who))).collect();
    let replies = at_once(&tries, |(way, (from, who))| {
        if !way.is_smtp() {
            return scene.login(*way, from, who);
        }
        let mut smtp = scene.smtp(from);
        let login = smtp.auth_plain(who.name, who.password);
        if login.yes { smtp.ask(&format!("MAIL FROM:<{}>", who.name)) } else { login }
    });
    for ((way, (from, who)), reply) in tries.iter().zip(&replies) {
        let guarded = way.is_smtp() || scene.pair() == Pair::Bookworm;
        let wanted = !guarded || (*from == GERMAN && who.name == ALICE.name);
        assert_eq!(reply.yes, wanted, "{trouble}: {} by {way:?} from {from}: {reply}", who.name);
    }
    // Nobody is counted, so nobody is stopped.
    let senders = at_once(&[&ALICE, &DAVE], |who| send_many(scene, who, 3));
    assert_eq!(senders.len(), 2);
    let bob = send_one(scene, &BOB);
    assert!(if can_be_read { bob.says("451") } else { bob.yes }, "{trouble}: {bob}");
    let local = at_once(&[(); 3], |()| sendmail(scene, "webuser", &["-t"]).code());
    assert_eq!(local, [Some(0); 3], "{trouble}");
    says(scene, trouble);
}

/// Log and status name the trouble.
#[track_caller]
fn says(scene: &Scene, trouble: &str) {
    let lines = scene.syslog().into_iter().filter(|line| line.contains(&format!("code={trouble} "))).count();
    assert!(lines >= 1, "{trouble} is not in the log:\n{}", scene.syslog().join("\n"));
    let troubles = told::troubles(scene);
    assert!(troubles.contains_key(trouble), "{trouble} is not in the status: {troubles:?}");
}

/// The state works, and it is the one from before.
#[track_caller]
fn is_as_before(scene: &Scene) {
    assert_eq!(scene.api(&["list_blocks"])[0]["value"], BOB.name);
    assert!(send_one(scene, &BOB).says("451"));
    send_many(scene, &ALICE, 1);
    assert!(send_one(scene, &ALICE).says("451"), "the message from before counts");
}

/// The state works, and knows nothing.
#[track_caller]
fn is_new(scene: &Scene) {
    for who in [&ALICE, &BOB] {
        send_many(scene, who, 2);
        assert!(send_one(scene, who).says("451"), "{}", who.name);
    }
}

fn on_each_pair(test: impl Fn(&Scene) + Sync) {
    at_once(&Pair::ALL, |pair| {
        let scene = scene(*pair);
        test(&scene);
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    });
}

fn files(scene: &Scene) -> Vec<PathBuf> {
    ["", "-wal", "-shm"].map(|side| scene.path(&format!("{STATE}{side}"))).to_vec()
}

#[test]
fn a_state_that_somebody_keeps_locked() {
    on_each_pair(|scene| {
        let other = rusqlite::Connection::open(scene.path(STATE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        mail_goes_on_and_the_policy_holds(scene, "state-locked", true);
        other.execute_batch("ROLLBACK").unwrap();
        is_as_before(scene);
    });
}

#[test]
fn a_state_that_is_being_replaced() {
    on_each_pair(|scene| {
        let lock = fs::File::open(scene.path("/var/lib/postern/state/state.lock")).unwrap();
        lock.lock_exclusive().unwrap();
        mail_goes_on_and_the_policy_holds(scene, "state-locked", false);
        drop(lock);
        is_as_before(scene);
    });
}

#[test]
fn a_damaged_state_is_set_aside_whole() {
    on_each_pair(|scene| {
        for file in files(scene) {
            fs::write(file, [0x5a; 20_000]).unwrap();
        }
        mail_goes_on_and_the_policy_holds(scene, "state-broken", false);
        let told = told::tick(scene);
        let (_, aside) = told.split_once("was set aside as ").unwrap_or_else(|| panic!("{told}"));
        let (aside, _) = aside.split_once(';').unwrap();
        for file in ["state.db", "state.db-wal"] {
            let kept = fs::read(scene.path(&format!("{aside}/{file}"))).unwrap();
            assert!(kept == [0x5a; 20_000], "{file} as it was, in {aside}");
        }
        is_new(scene);
        assert!(!told::tick(scene).contains("set aside"), "told once");
    });
}

#[test]
fn a_state_that_is_deleted_while_the_servers_run() {
    on_each_pair(|scene| {
        for file in files(scene) {
            let _ = fs::remove_file(file);
        }
        mail_goes_on_and_the_policy_holds(scene, "state-missing", false);
        let told = told::tick(scene);
        assert!(told.contains("A new state was begun"), "{told}");
        is_new(scene);
    });
}

#[test]
fn a_state_of_a_newer_version() {
    on_each_pair(|scene| {
        let set =
            |sql: &str| rusqlite::Connection::open(scene.path(STATE)).unwrap().execute_batch(sql).unwrap();
        set("INSERT OR REPLACE INTO meta VALUES ('min_version', 99)");
        mail_goes_on_and_the_policy_holds(scene, "state-newer", false);
        let told = scene.postern(&["tick", "--verbose"]);
        assert!(
            !(told.stdout + &told.stderr).contains("set aside"),
            "the newer version's state is not ours to replace"
        );
        set("DELETE FROM meta WHERE key = 'min_version'");
        is_as_before(scene);
    });
}

/// Root gives nothing away in a folder where mail users can write, so a state that is not user `postern`'s own
/// is kept aside, whole, and a new one begins.
#[test]
fn a_state_of_the_wrong_owner_is_set_aside_whole_by_init() {
    on_each_pair(|scene| {
        let spoil = format!("chown root:root {STATE}* && chmod 600 {STATE}*");
        scene.run_as("root", &["sh", "-c", &spoil], "").succeeded();
        let before = fs::read(scene.path(STATE)).unwrap();
        mail_goes_on_and_the_policy_holds(scene, "state-denied", false);
        let told = scene.postern(&["init"]).succeeded();
        let (_, aside) = told.split_once("was set aside as ").unwrap_or_else(|| panic!("{told}"));
        let (aside, _) = aside.split_once([';', ' ']).unwrap();
        assert!(fs::read(scene.path(&format!("{aside}/state.db"))).unwrap() == before, "{told}");
        is_new(scene);
    });
}

#[test]
fn a_state_on_a_full_disk() {
    mount_in_private();
    on_each_pair(|scene| {
        let mut disk = scene.on_small_disk();
        // Who opens the state alone makes its index anew, which needs room: somebody has it open, as ever on a
        // busy server.
        let open = rusqlite::Connection::open(scene.path(STATE)).unwrap();
        let _: i64 = open.query_row("SELECT count(*) FROM stop", [], |row| row.get(0)).unwrap();
        disk.fill();
        mail_goes_on_and_the_policy_holds(scene, "state-full", true);
        says(scene, "tally");
        disk.make_room();
        is_as_before(scene);
        drop(open);
        disk.take_away();
    });
}

#[test]
fn a_state_that_can_only_be_read() {
    mount_in_private();
    on_each_pair(|scene| {
        let folder = scene.path("/var/lib/postern/state");
        let folder = folder.to_str().unwrap();
        run("mount", &["--bind", folder, folder]);
        run("mount", &["-o", "remount,bind,ro", folder]);
        mail_goes_on_and_the_policy_holds(scene, "state-denied", true);
        run("umount", &[folder]);
        is_as_before(scene);
    });
}
