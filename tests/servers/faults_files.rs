//! Policy, settings, network data and the run folder in trouble: the rules that need them are silent, the
//! others still decide, log and status say so, and what `postern tick` can make anew is there a minute later.

use crate::clients::Way;
use crate::doing::{BRAZILIAN, GERMAN, allow_germany_alone, limit, send_many, send_one, sendmail};
use crate::rig::{ALICE, BOB, CAROL, Doors, Pair, Scene, at_once};
use crate::told;
use std::fs;

const POLICY: &str = "/var/lib/postern/policy.db";
const NETWORKS: &str = "/var/lib/postern/data/networks.mmdb";
const SETTINGS: &str = "/var/lib/postern/settings.db";

fn on_each_pair(test: impl Fn(&Scene) + Sync) {
    at_once(&Pair::ALL, |pair| {
        let doors = if *pair == Pair::Bookworm { Doors::BOTH } else { Doors::EXIM };
        let scene = Scene::on(*pair).doors(doors).start();
        allow_germany_alone(&scene);
        scene.api(&["add_block", "value=carol@example.test"]);
        limit(&scene, 2);
        test(&scene);
        assert_eq!(scene.exim_panic_log(), "", "{pair:?}");
    });
}

/// What can be wrong with a file, as lines of shell.
const WRONGS: [(&str, &str); 4] = [
    ("missing", "rm $f"),
    ("empty", ": >$f"),
    ("garbage", "head -c 30000 /dev/urandom >$f"),
    ("cut short", "head -c 3000 $f.good >$f"),
];

fn spoil(scene: &Scene, file: &str, script: &str) {
    let script = format!("f={file}; rm -rf $f; cp -a $f.good $f; {script}");
    scene.run_as("root", &["sh", "-c", &script], "").succeeded();
}

fn keep_good(scene: &Scene, file: &str) {
    scene.run_as("root", &["cp", "-a", file, &format!("{file}.good")], "").succeeded();
}

fn put_back(scene: &Scene, file: &str) {
    spoil(scene, file, "");
}

/// Which of these get in by every way that the pair guards: from Brazil, the blocked one, anybody from Germany.
#[track_caller]
fn who_gets_in(scene: &Scene) -> [bool; 3] {
    let ways = if scene.pair() == Pair::Bookworm { &Way::ALL[..] } else { &Way::SMTP[..] };
    let who = [(BRAZILIAN, &ALICE), (GERMAN, &CAROL), (GERMAN, &ALICE)];
    let tries: Vec<_> = who.iter().flat_map(|who| ways.iter().map(|way| (*way, *who))).collect();
    let replies = at_once(&tries, |(way, (from, who))| {
        if !way.is_smtp() {
            return scene.login(*way, from, who).yes;
        }
        let mut smtp = scene.smtp(from);
        smtp.auth_plain(who.name, who.password).yes && smtp.ask(&format!("MAIL FROM:<{}>", who.name)).yes
    });
    let mut each = replies.chunks(ways.len()).map(|same| {
        assert!(same.iter().all(|yes| yes == &same[0]), "the same by every way: {replies:?}");
        same[0]
    });
    [(); 3].map(|()| each.next().unwrap())
}

#[track_caller]
fn says(scene: &Scene, trouble: &str, case: &str) {
    let log = scene.syslog();
    assert!(log.iter().any(|line| line.contains(&format!("code={trouble} "))), "{case}: {}", log.join("\n"));
    let troubles = told::troubles(scene);
    assert!(troubles.contains_key(trouble), "{case}: {troubles:?}");
}

#[test]
fn without_a_policy_everything_goes_on_and_tick_publishes_it_anew() {
    on_each_pair(|scene| {
        keep_good(scene, POLICY);
        for (case, script) in WRONGS {
            spoil(scene, POLICY, script);
            assert_eq!(who_gets_in(scene), [true; 3], "{case}");
            send_many(scene, &ALICE, 4);
            assert_eq!(sendmail(scene, "webuser", &["-t"]).code(), Some(0), "{case}");
            says(scene, "policy", case);
            let status = told::troubles(scene);
            assert!(status["policy"].contains("policy"), "{case}: {status:?}");
            let told = told::tick(scene);
            assert!(told.contains("The policy was published anew"), "{case}: {told}");
            assert_eq!(who_gets_in(scene), [false, false, true], "{case}");
            scene.postern(&["trouble", "clear"]).succeeded();
        }
    });
}

#[test]
fn without_network_data_the_country_rule_alone_is_silent() {
    on_each_pair(|scene| {
        keep_good(scene, NETWORKS);
        for (case, script) in WRONGS {
            spoil(scene, NETWORKS, script);
            assert_eq!(who_gets_in(scene), [true, false, true], "{case}");
            says(scene, "networks", case);
            assert!(told::troubles(scene).contains_key("network data"), "{case}");
            // The limiter needs no network data.
            send_many(scene, &BOB, 2);
            assert!(send_one(scene, &BOB).says("451"), "{case}");
            scene.api(&["release_block", "value=bob@example.test"]);
            put_back(scene, NETWORKS);
            assert_eq!(who_gets_in(scene), [false, false, true], "{case}");
            scene.postern(&["trouble", "clear"]).succeeded();
        }
    });
}

#[test]
fn without_settings_what_was_published_holds_and_no_change_is_taken() {
    on_each_pair(|scene| {
        keep_good(scene, SETTINGS);
        for (case, script) in WRONGS {
            spoil(scene, SETTINGS, script);
            assert_eq!(who_gets_in(scene), [false, false, true], "{case}");
            assert!(told::troubles(scene).contains_key("settings"), "{case}: {:?}", told::troubles(scene));
            let refused = scene.postern(&["blocks", "add", BOB.name]);
            assert_eq!(refused.code(), Some(1), "{case}: {refused:?}");
            assert!(refused.stderr.contains("settings.db"), "{case}: {refused:?}");
            // The minute's work does not publish what it cannot read.
            let _ = scene.postern(&["tick"]);
            assert_eq!(who_gets_in(scene), [false, false, true], "{case}");
            put_back(scene, SETTINGS);
            scene.api(&["add_block", "value=bob@example.test"]);
            scene.api(&["release_block", "value=bob@example.test"]);
            keep_good(scene, SETTINGS);
        }
    });
}

#[test]
fn without_the_run_folder_everything_holds_and_tick_makes_it() {
    on_each_pair(|scene| {
        fs::remove_dir_all(scene.path("/run/postern")).unwrap();
        assert_eq!(who_gets_in(scene), [false, false, true]);
        send_many(scene, &BOB, 2);
        assert!(send_one(scene, &BOB).says("451"));
        // Trouble has no mark then, and is in the log each time.
        keep_good(scene, NETWORKS);
        spoil(scene, NETWORKS, "rm $f");
        assert_eq!(who_gets_in(scene), [true, false, true]);
        assert!(scene.syslog().iter().filter(|line| line.contains("code=networks ")).count() > 1);
        told::tick(scene);
        assert_eq!(who_gets_in(scene), [true, false, true]);
        says(scene, "networks", "after tick");
    });
}
