//! Messages of local programs: sendmail, scripts, cron, clients on loopback.

use crate::rig::{ADMIN, Doors, Pair, Scene, at_once, eventually};

const MESSAGE: &str = "To: friend@remote.test\nSubject: x\n\nhello\n";

/// Both doors' Exim, three messages allowed.
fn scene(pair: Pair, over_limit: &str) -> Scene {
    let scene = Scene::on(pair).doors(Doors::EXIM).start();
    scene.api(&["set_setting", "key=administration_email_address", "value=admin@example.test"]);
    scene.api(&["set_setting", "key=rate_limit_messages", "value=3"]);
    scene.api(&["set_setting", "key=local_over_limit", &format!("value={over_limit}")]);
    scene
}

fn send(scene: &Scene, user: &str, words: &[&str]) -> Option<i32> {
    scene.sendmail(user, words, MESSAGE).code()
}

fn frozen(scene: &Scene) -> usize {
    scene.exim(&["-bp"]).succeeded().matches("*** frozen ***").count()
}

#[test]
fn a_local_user_over_the_limit_is_held_listed_released_and_delivered() {
    for pair in Pair::ALL {
        let scene = scene(pair, "hold");
        for _ in 0..5 {
            assert_eq!(
                send(&scene, "webuser", &["-t"]),
                Some(0),
                "{pair:?}: sendmail succeeds, also when held"
            );
        }
        eventually("three leave", || scene.mail_outside().len() == 3);
        assert_eq!(frozen(&scene), 2, "{pair:?}");
        assert_eq!(send(&scene, "shopuser", &["-t"]), Some(0));
        eventually("another user is not concerned", || scene.mail_outside().len() == 4);

        let held = scene.api(&["list_held"]);
        let held = held["rows"].as_array().or_else(|| held.as_array()).unwrap_or_else(|| panic!("{held}"));
        assert_eq!(held.len(), 2, "{held:?}");
        assert!(held.iter().all(|row| row["account"] == "webuser"), "{held:?}");
        let message = format!("message={}", held[0]["message"].as_str().unwrap());
        scene.api(&["release_held", &message]);
        eventually("the released one leaves", || scene.mail_outside().len() == 5);
        let message = format!("message={}", held[1]["message"].as_str().unwrap());
        scene.api(&["remove_held", &message]);
        assert_eq!(frozen(&scene), 0);
        scene.api(&["tick"]);
        eventually("one notice arrives", || scene.mail_of(&ADMIN).len() == 1);
        assert_eq!(scene.exim_panic_log(), "");
    }
}

#[test]
fn a_refused_local_message_fails_and_its_bounce_passes() {
    for pair in Pair::ALL {
        let scene = scene(pair, "refuse");
        let codes: Vec<_> = (0..5).map(|_| send(&scene, "webuser", &["-t"])).collect();
        assert_eq!(codes, [Some(0), Some(0), Some(0), Some(1), Some(1)], "{pair:?}");
        eventually("both bounces arrive", || scene.mail_of_local("webuser").len() == 2);
        let bounce = &scene.mail_of_local("webuser")[0];
        assert!(bounce.contains("More than 3 messages"), "{bounce}");
        scene.clock("+21601");
        assert_eq!(send(&scene, "webuser", &["-t"]), Some(0), "{pair:?}: six hours are over");
    }
}

#[test]
fn neither_an_empty_sender_nor_another_way_in_escapes() {
    for pair in Pair::ALL {
        let scene = scene(pair, "refuse");
        assert_eq!(send(&scene, "webuser", &["-f", "<>", "-t"]), Some(0));
        assert_eq!(send(&scene, "webuser", &["-f", "someone@else.test", "-t"]), Some(0));
        let session = "HELO localhost\r\nMAIL FROM:<>\r\nRCPT TO:<friend@remote.test>\r\n\
                       DATA\r\nSubject: y\r\n\r\nhello\r\n.\r\nQUIT\r\n";
        assert!(scene.sendmail("webuser", &["-bs"], session).stdout.contains("250 OK"), "{pair:?}");
        assert_eq!(send(&scene, "webuser", &["-f", "<>", "-t"]), Some(1), "{pair:?}: the fourth");
        let refused = scene.sendmail("webuser", &["-bs"], session).stdout;
        assert!(refused.contains("\n451"), "{pair:?}: {refused}");
    }
}

#[test]
fn a_script_counts_by_the_user_that_it_runs_as() {
    let scene = scene(Pair::Bookworm, "refuse");
    // As PHP's mail() does: through a shell, with an envelope sender and headers of its own.
    let script = "printf 'From: shop@other.test\\nTo: friend@remote.test\\n\\nhi\\n' | \
                  /usr/sbin/sendmail -t -i -f shop@other.test";
    let codes: Vec<_> = (0..4).map(|_| scene.run_as("shopuser", &["sh", "-c", script], "").code()).collect();
    assert_eq!(codes, [Some(0), Some(0), Some(0), Some(1)]);
    let blocks = scene.api(&["list_blocks"]).to_string();
    assert!(blocks.contains("shopuser"), "{blocks}");
}

#[test]
fn a_shared_user_is_told_about_once_and_never_stopped() {
    for pair in Pair::ALL {
        let scene = scene(pair, "hold");
        for user in ["www-data", "root"] {
            for _ in 0..8 {
                assert_eq!(send(&scene, user, &["-t"]), Some(0));
            }
        }
        eventually("all leave", || scene.mail_outside().len() == 16);
        for _ in 0..2 {
            scene.api(&["tick"]);
        }
        eventually("a notice for each arrives", || scene.mail_of(&ADMIN).len() == 2);
    }
}

#[test]
fn forty_local_processes_at_once_get_exactly_150_of_400_through() {
    let scene = scene(Pair::Bookworm, "refuse");
    scene.api(&["set_setting", "key=rate_limit_messages", "value=150"]);
    let processes: Vec<u32> = (0..40).collect();
    let passed: usize =
        at_once(&processes, |_| (0..10).filter(|_| send(&scene, "webuser", &["-t"]) == Some(0)).count())
            .iter()
            .sum();
    assert_eq!(passed, 150);
}
