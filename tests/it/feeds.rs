//! Feeds, from a publisher's HTTPS server to a login that is refused.

use crate::publisher::{Publisher, Reply};
use crate::sandbox::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const HOUR: i64 = 3600;

/// A server that trusts a publisher, whose list is a feed of its own, switched on.
fn scene(list: &str) -> (Sandbox, Publisher) {
    let (sandbox, publisher) = (Sandbox::new(), Publisher::new());
    trust(&sandbox, &publisher);
    publisher.answers("/list", Reply::list(list));
    let url = format!("url={}", publisher.url("/list"));
    sandbox.api(&["add_feed", "feed=attackers", &url, "every=12h", "age=48h"]);
    sandbox.api(&["set_setting", "key=attack_networks", "value=enforce"]);
    sandbox.api(&["enable_feed", "feed=attackers"]);
    (sandbox, publisher)
}

fn trust(sandbox: &Sandbox, publisher: &Publisher) {
    let file = sandbox.path("etc/ssl/certs/ca-certificates.crt");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, publisher.authority()).unwrap();
}

/// Whether the gate passes this login on to where the password is checked.
fn passes(sandbox: &Sandbox, account: &str, address: &str) -> bool {
    Call::gate(account, address).run(sandbox).ran.status == Some(0)
}

fn explained(sandbox: &Sandbox, account: &str, address: &str) -> Value {
    sandbox.api(&["explain", &format!("account={account}"), &format!("address={address}")])
}

fn listed(sandbox: &Sandbox, feed: &str) -> Value {
    let all = sandbox.api(&["list_feeds"]);
    all.as_array().unwrap().iter().find(|row| row["feed"] == feed).unwrap().clone()
}

#[test]
fn an_address_on_a_feed_is_refused_by_every_door_and_the_reason_names_the_feed() {
    let (sandbox, _publisher) = scene(&format!("{AMERICAN}\n{AMERICAN_V6}/64\n"));
    assert!(!passes(&sandbox, ALICE, AMERICAN) && !passes(&sandbox, ALICE, AMERICAN_V6));
    assert!(passes(&sandbox, ALICE, "198.51.100.10") && passes(&sandbox, ALICE, GERMAN));
    assert_eq!(sandbox.auth(AMERICAN).split(' ').next(), Some("deny"));
    assert_eq!(sandbox.mail(ALICE, AMERICAN).split(' ').next(), Some("deny"));
    let said = explained(&sandbox, ALICE, AMERICAN);
    assert_eq!((&said["verdict"], &said["reason"]), (&json!("refuse"), &json!("attack_feed")));
    assert_eq!(said["feeds"], json!(["attackers"]));
    assert!(said["why"].as_str().unwrap().ends_with("that others publish: attackers."), "{said}");
    let seen = sandbox.api(&["list_activity", "reason=attack_feed"]);
    assert_eq!(seen.as_array().unwrap().len(), 4, "{seen}");
    assert_eq!(sandbox.logged("event=refuse "), 4);
}

#[test]
fn what_was_fetched_belongs_to_postern_and_hooks_may_read_the_compiled_feeds_alone() {
    let (sandbox, _publisher) = scene(&format!("{AMERICAN}\n"));
    let compiled = sandbox.path("var/lib/postern/data/feeds.bin");
    assert_eq!((owner_of(&compiled).0, mode_of(&compiled)), (POSTERN, 0o644));
    let folder = sandbox.path("var/lib/postern/data/feeds");
    assert_eq!((owner_of(&folder).0, mode_of(&folder)), (POSTERN, 0o700));
    assert_eq!(sandbox.files_of(0, "var/lib/postern/data/feeds"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn owners_exempt_addresses_and_mail_services_pass_although_they_are_on_a_feed() {
    let outlook = "52.125.3.4";
    let (sandbox, _publisher) = scene(&format!("198.51.100.0/24\n{FRENCH}\n52.125.0.0/16\n"));
    sandbox.api(&["set_setting", "key=imap_logins_from", "value=postlogin"]);
    let mut command = sandbox.program("postern-dovecot", DOVECOT, &[]);
    command.args(["postlogin", "imap", "/bin/true"]).envs([("USER", BOB), ("IP", FRENCH)]);
    // From before the feed was switched on.
    sandbox.api(&["disable_feed", "feed=attackers"]);
    assert_eq!(run(&mut command).status, Some(0));
    sandbox.postern(&["tick"]).succeeded();
    sandbox.api(&["set_setting", "key=imap_logins_from", "value=gate"]);
    sandbox.wait(48 * HOUR).postern(&["tick"]).succeeded();
    sandbox.api(&["enable_feed", "feed=attackers"]);
    assert!(passes(&sandbox, BOB, FRENCH) && !passes(&sandbox, ALICE, FRENCH));
    assert_eq!(sandbox.auth(FRENCH).trim(), "undecided", "it may be bob");
    sandbox.api(&["add_ip_exemption", &format!("value={AMERICAN}")]);
    assert!(passes(&sandbox, ALICE, AMERICAN) && !passes(&sandbox, ALICE, "198.51.100.10"));
    sandbox.build_data_of(&[("52.0.0.0/8", "US")], &[]);
    assert!(passes(&sandbox, ALICE, outlook));
    sandbox.api(&["add_cloud_mail_client", "value=not:52.125.0.0/16"]);
    assert!(!passes(&sandbox, ALICE, outlook));
}

#[test]
fn a_feed_that_nobody_renews_refuses_nobody_after_its_age_and_status_says_so() {
    let (sandbox, publisher) = scene(&format!("{AMERICAN}\n"));
    let status = || sandbox.status_of("feed attackers").unwrap();
    assert_eq!(status().0, "good", "{}", status().1);
    publisher.answers("/list", Reply::status(500));
    sandbox.wait(47 * HOUR).postern(&["tick"]).succeeded();
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    assert!(status().0 == "warning" && status().1.contains("answered 500"), "{}", status().1);
    sandbox.wait(2 * HOUR);
    assert!(passes(&sandbox, ALICE, AMERICAN), "49 hours");
    assert!(status().0 == "warning" && status().1.contains("too old"), "{}", status().1);
    assert_eq!(listed(&sandbox, "attackers")["state"], "warning");
    publisher.answers("/list", Reply::list(format!("{AMERICAN}\n")));
    sandbox.postern(&["tick"]).succeeded();
    assert!(!passes(&sandbox, ALICE, AMERICAN) && status().0 == "good");
}

#[test]
fn the_minutes_work_fetches_what_is_due_and_tells_of_a_refusal_once() {
    let (sandbox, publisher) = scene(&format!("{AMERICAN}\n"));
    assert_eq!(sandbox.logged("event=feed name=attackers did=taken"), 1);
    publisher.asked();
    sandbox.wait(HOUR).postern(&["tick"]).succeeded();
    assert!(publisher.asked().is_empty());
    publisher.answers("/list", Reply::list("10.0.0.0/8\n"));
    for hours in [14, 14] {
        assert_eq!(sandbox.wait(hours * HOUR).postern(&["tick"]).succeeded(), "");
    }
    assert_eq!(publisher.asked().len(), 2);
    assert_eq!(sandbox.logged("event=feed name=attackers did=refused"), 1);
    let (state, says) = sandbox.status_of("feed attackers").unwrap();
    assert!(state == "warning" && says.contains("10.0.0.0/8, which is private or reserved"), "{says}");
    assert!(!passes(&sandbox, ALICE, AMERICAN), "the old list");
    let said = sandbox.postern(&["feeds", "update", "attackers"]);
    assert!(said.err.contains("may be asked once in") && said.status == Some(0), "{said:?}");
    sandbox.wait(HOUR);
    let said = sandbox.postern(&["feeds", "update"]).failed();
    assert!(said.contains("private or reserved"), "{said}");
}

#[test]
fn what_goes_wrong_here_with_one_feed_is_trouble_and_the_others_are_fetched_and_logged_once() {
    let (sandbox, publisher) = scene(&format!("{AMERICAN}\n"));
    publisher.answers("/other", Reply::list(format!("{FRENCH}\n")));
    sandbox.api(&["add_feed", "feed=other", &format!("url={}", publisher.url("/other")), "every=1h"]);
    sandbox.api(&["enable_feed", "feed=other"]);
    let record = sandbox.path("var/lib/postern/data/feeds/attackers.json");
    fs::remove_file(&record).unwrap();
    fs::create_dir_all(record.join("full")).unwrap();
    sandbox.log();
    let said = sandbox.wait(2 * HOUR).postern(&["tick", "--verbose"]).failed();
    assert!(said.contains("The feed attackers could not be worked on"), "{said}");
    sandbox.is_in_trouble("tick-failed");
    let log = sandbox.log();
    let logged = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!(logged("event=feed name=other did=taken"), 1, "{log:?}");
    assert_eq!(logged("has%20a%20new%20list"), 1, "{log:?}");
    assert_eq!(logged("code=tick-failed "), 1, "{log:?}");
    assert!(!passes(&sandbox, ALICE, FRENCH));
}

#[test]
fn an_own_address_on_a_feed_is_left_out_with_a_warning_and_a_wide_network_around_it_refuses_the_list() {
    let (sandbox, publisher) = (Sandbox::new().setting("own_addresses", AMERICAN), Publisher::new());
    trust(&sandbox, &publisher);
    publisher.answers("/list", Reply::list("198.51.0.0/16\n"));
    sandbox.api(&["add_feed", "feed=attackers", &format!("url={}", publisher.url("/list"))]);
    let said = sandbox.postern(&["feeds", "enable", "attackers"]);
    assert!(said.err.contains("own address 198.51.100.9"), "{said:?}");
    assert!(!sandbox.path("var/lib/postern/data/feeds/attackers.list").exists());
    sandbox.api(&["set_setting", "key=attack_networks", "value=enforce"]);
    publisher.answers("/list", Reply::list(format!("{AMERICAN}\n{FRENCH}\n")));
    sandbox.wait(HOUR).postern(&["feeds", "update"]).succeeded();
    assert!(passes(&sandbox, ALICE, AMERICAN) && !passes(&sandbox, ALICE, FRENCH));
    let (state, says) = sandbox.status_of("feed attackers").unwrap();
    assert!(state == "warning" && says.contains(&format!("left out: {AMERICAN}.")), "{says}");
}

#[test]
fn feeds_are_offered_off_with_their_terms_and_what_is_chosen_can_be_undone_and_copied() {
    let sandbox = Sandbox::new();
    let all = sandbox.api(&["list_feeds"]);
    let rows = all.as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        assert_eq!(row["state"], "off", "{row}");
        assert!(row["about"].as_str().unwrap().len() > 80, "{row}");
    }
    assert_eq!(sandbox.status_of("feeds").unwrap().0, "note");
    // Nothing is fetched: this server trusts nobody.
    let said = sandbox.postern(&["feeds", "enable", "spamhaus-drop"]);
    assert!(said.err.contains("ca-certificates") && said.out.contains("terms of use"), "{said:?}");
    assert!(said.err.contains("attack_networks is in monitor"), "{said:?}");
    assert_eq!(listed(&sandbox, "spamhaus-drop")["state"], "warning");
    sandbox.api(&[
        "add_feed",
        "feed=own",
        "url=https://lists.example.org/{key}",
        "format=counted",
        "least=3",
        "minimum=2h",
    ]);
    let copy: Value = serde_json::from_str(&sandbox.postern(&["config", "export"]).succeeded()).unwrap();
    assert_eq!(copy["feeds"].as_array().unwrap().len(), 2, "{copy}");
    let other = Sandbox::new();
    assert_eq!(other.api_says("apply_config", &json!({ "entries": copy.to_string() }))["status"], 1);
    assert_eq!(listed(&other, "spamhaus-drop")["state"], "warning");
    assert!(
        listed(&other, "own")["definition"].as_str().unwrap().ends_with("every=6h minimum=2h age=1w least=3")
    );
    sandbox.api(&["undo"]);
    assert_eq!(sandbox.api(&["list_feeds"]).as_array().unwrap().len(), 3);
    sandbox.api(&["disable_feed", "feed=spamhaus-drop"]);
    assert_eq!(listed(&sandbox, "spamhaus-drop")["state"], "off");
}

#[test]
fn what_is_no_feed_is_refused_with_what_to_do() {
    let sandbox = Sandbox::new();
    for (words, why) in [
        (&["feeds", "enable", "nonsense"][..], "postern feeds list"),
        (&["feeds", "disable", "spamhaus-drop"], "not on the list"),
        (&["feeds", "update", "spamhaus-drop"], "not switched on"),
        (&["feeds", "remove", "spamhaus-drop"], "no feed \"spamhaus-drop\" of your own"),
        (&["feeds", "add", "own", "--url=http://example.org/"], "https://"),
        (&["feeds", "add", "own", "--url=https://example.org/ x"], "one word"),
        (&["feeds", "add", "own", "--url=https://example.org/", "--age=1h"], "accepted"),
        (&["feeds", "add", "own", "--url=https://example.org/", "--key-header=Host"], "header"),
        (&["feeds", "add", "spamhaus-drop", "--url=https://example.org/"], "offered already"),
        (&["feeds", "add", "Own", "--url=https://example.org/"], "small letters"),
    ] {
        let said = sandbox.postern(words).failed();
        assert!(said.contains(why), "{words:?}: {said}");
    }
    assert_eq!(sandbox.postern(&["--as", "reseller:rex", "feeds", "list"]).status, Some(1));
}

#[test]
fn a_damaged_file_of_feeds_lets_logins_go_on_is_told_and_made_anew() {
    let (sandbox, _publisher) = scene(&format!("{AMERICAN}\n"));
    let compiled = sandbox.path("var/lib/postern/data/feeds.bin");
    let whole = fs::read(&compiled).unwrap();
    for bad in [&whole[..whole.len() - 1], b"garbage", b""] {
        fs::write(&compiled, bad).unwrap();
        assert!(passes(&sandbox, ALICE, AMERICAN));
        assert!(explained(&sandbox, ALICE, AMERICAN).to_string().contains("the file of feeds is missing"));
        assert_eq!(sandbox.status_of("compiled feeds").unwrap().0, "warning");
    }
    sandbox.is_in_trouble("feeds");
    sandbox.postern(&["tick"]).succeeded();
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    fs::remove_file(&compiled).unwrap();
    assert!(passes(&sandbox, ALICE, AMERICAN));
    let (state, says) = sandbox.status_of("compiled feeds").unwrap();
    assert!(state == "warning" && says.contains("is missing, so they refuse nobody"), "{says}");
    sandbox.postern(&["tick"]).succeeded();
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    assert!(sandbox.status_of("compiled feeds").is_none());
}

#[test]
fn where_the_state_is_missing_nobody_is_refused_for_what_others_tell() {
    let (sandbox, _publisher) = scene(&format!("{AMERICAN}\n"));
    fs::remove_file(sandbox.state()).unwrap();
    assert!(passes(&sandbox, BOB, AMERICAN), "it may be where he is known");
}

#[test]
fn in_monitor_a_feed_refuses_nobody_and_a_dry_run_counts_what_it_would_have() {
    let (sandbox, _publisher) = scene(&format!("{AMERICAN}\n"));
    sandbox.api(&["set_setting", "key=attack_networks", "value=monitor"]);
    assert!(passes(&sandbox, ALICE, AMERICAN));
    assert!(explained(&sandbox, ALICE, AMERICAN)["would_refuse"][0].as_str().unwrap().contains("attackers"));
    sandbox.postern(&["tick"]).succeeded();
    let run = sandbox.api(&["dry_run", "rule=attack_networks"]);
    assert!(run.to_string().contains("alice@example.test"), "{run}");
    sandbox.api(&["set_setting", "key=attack_networks", "value=off"]);
    assert!(passes(&sandbox, ALICE, AMERICAN));
    assert_eq!(explained(&sandbox, ALICE, AMERICAN)["feeds"], json!(["attackers"]));
}

#[test]
fn the_keeper_answers_by_a_new_list_within_a_moment() {
    let (sandbox, publisher) = scene("203.0.113.5\n");
    let keeper = sandbox.keeper(&[]);
    let auth = |address: &str| keeper.ask(EXIM, "auth", &[address]).unwrap();
    eventually("the old list holds", || auth(FRENCH).starts_with("deny"));
    assert!(!auth(AMERICAN).starts_with("deny"));
    publisher.answers("/list", Reply::list(format!("{AMERICAN}\n")));
    sandbox.wait(HOUR).postern(&["feeds", "update"]).succeeded();
    eventually("the new one holds", || {
        auth(AMERICAN).starts_with("deny") && !auth(FRENCH).starts_with("deny")
    });
    sandbox.postern(&["feeds", "disable", "attackers"]).succeeded();
    eventually("none holds", || !auth(AMERICAN).starts_with("deny"));
}

#[test]
fn a_key_that_others_may_read_is_the_administrators_to_mend() {
    let (sandbox, publisher) = (Sandbox::new(), Publisher::new());
    trust(&sandbox, &publisher);
    publisher.answers("/list", Reply::list(format!("{AMERICAN}\n")));
    let url = format!("--url={}", publisher.url("/list"));
    let said = sandbox.postern(&["feeds", "add", "own", &url, "--key-header=Key"]).succeeded();
    assert!(said.contains("etc/postern/feed-keys/own"), "{said}");
    let file = sandbox.path("etc/postern/feed-keys/own");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "s3cret\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let said = sandbox.postern(&["feeds", "enable", "own"]);
    assert!(said.err.contains("readable for user postern"), "{said:?}");
    sandbox.give(&file, POSTERN);
    sandbox.wait(2 * HOUR).postern(&["feeds", "update"]).succeeded();
    assert!(publisher.asked()[0].contains("\r\nkey: s3cret\r\n"));
}
