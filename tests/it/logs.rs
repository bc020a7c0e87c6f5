//! The mail servers' logs: what `postern learn` takes of them, and how they are followed.

use crate::sandbox::{AMERICAN, FRENCH, GERMAN, NOON, Sandbox, THIEF};
use flate2::Compression;
use flate2::write::GzEncoder;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use postern::clock::written;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

const DAY: i64 = 86_400;
const HOUR: i64 = 3600;
const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const ID: &str = "1xW1Xt-0000gl-1R";

fn exim(ago: i64, text: &str) -> String {
    format!("{} +0000 {text}\n", written(NOON - ago))
}

fn used(ago: i64, who: &str, address: &str) -> String {
    exim(ago, &format!("{ID} <= {who} H=(c.test) [{address}]:25 P=esmtpsa X=TLS1.3:x:256 A=plain:{who} S=7"))
}

fn wrong(ago: i64, who: &str, address: &str) -> String {
    let says = "535 Incorrect authentication data";
    exim(ago, &format!("plain authenticator failed for (c.test) [{address}]:25: {says} (set_id={who})"))
}

fn arrived(ago: i64, address: &str) -> String {
    exim(ago, &format!("{ID} <= x@other.test H=(mx.test) [{address}]:25 P=esmtps S=7"))
}

fn dovecot(ago: i64, what: &str, who: &str, address: &str) -> String {
    let at = written(NOON - ago).replace(' ', "T");
    format!(
        "{at}+00:00 server dovecot: imap-login: {what}: user=<{who}>, method=PLAIN, rip={address}, lip=203.0.113.1, TLS, session=<a+/b>\n"
    )
}

fn log(sandbox: &Sandbox, name: &str, text: &str) -> PathBuf {
    let path = sandbox.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    // As Debian's logs: for root and a group alone.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    path
}

fn append(path: &Path, text: &str) {
    File::options().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn compressed(from: &Path, to: &Path) {
    let mut encoder = GzEncoder::new(File::create(to).unwrap(), Compression::fast());
    encoder.write_all(&fs::read(from).unwrap()).unwrap();
    encoder.finish().unwrap();
}

#[track_caller]
fn learn(sandbox: &Sandbox, files: &[&Path]) -> Value {
    let files: Vec<&str> = files.iter().map(|f| f.to_str().unwrap()).collect();
    sandbox.api(&["learn_logs", &format!("files={}", files.join(","))])
}

/// Figures of one country: its row.
fn country(sandbox: &Sandbox, code: &str) -> Value {
    let all = sandbox.api(&["country_statistics", "days=60"]);
    all["rows"].as_array().unwrap().iter().find(|r| r["code"] == code).cloned().unwrap_or_default()
}

fn figures(sandbox: &Sandbox, code: &str) -> [i64; 4] {
    let row = country(sandbox, code);
    ["tried", "succeeded", "failed", "inbound"].map(|key| row[key].as_i64().unwrap_or(0))
}

fn known(sandbox: &Sandbox, who: &str) -> Vec<String> {
    let rows = sandbox.api(&["list_known_networks", &format!("account={who}")]);
    rows.as_array().unwrap().iter().map(|r| r["network"].as_str().unwrap().to_string()).collect()
}

#[test]
fn the_past_is_learned_once_whatever_name_and_form_the_file_has() {
    let sandbox = Sandbox::new();
    let text = [
        used(3 * DAY, ALICE, GERMAN),
        used(3 * DAY, ALICE, GERMAN),
        used(2 * DAY, BOB, AMERICAN),
        wrong(2 * DAY, ALICE, FRENCH),
        arrived(DAY, FRENCH),
        exim(DAY, "Start queue run: pid=7"),
    ]
    .concat();
    let path = log(&sandbox, "var/log/exim4/mainlog", &text);
    let said = learn(&sandbox, &[&path]);
    let total = &said["total"];
    let sums =
        ["lines", "successes", "failures", "inbound", "counted", "taught"].map(|key| total[key].clone());
    assert_eq!(sums, [6, 3, 1, 1, 5, 3].map(|n| json!(n)), "{said}");
    let all = || [figures(&sandbox, "DE"), figures(&sandbox, "US"), figures(&sandbox, "FR")];
    let expected = [[2, 2, 0, 0], [1, 1, 0, 0], [1, 0, 1, 1]];
    assert_eq!(all(), expected);
    assert_eq!(
        (known(&sandbox, ALICE), known(&sandbox, BOB)),
        (vec!["192.0.2.0/24".into()], vec!["198.51.100.0/24".into()])
    );
    let own = sandbox.api(&["account_statistics", &format!("account={ALICE}")]);
    assert_eq!(own["countries"][0]["logins"], 2, "{own}");

    // Again; under the name that rotation gives it; compressed; as a copy that was emptied since.
    assert_eq!(learn(&sandbox, &[&path])["total"]["lines"], 0);
    let rotated = path.with_extension("1");
    fs::rename(&path, &rotated).unwrap();
    let packed = path.with_extension("2.gz");
    compressed(&rotated, &packed);
    log(&sandbox, "var/log/exim4/mainlog", &used(HOUR, BOB, GERMAN));
    let said = learn(&sandbox, &[&packed, &rotated, &path]);
    assert_eq!((&said["total"]["lines"], &said["total"]["successes"]), (&json!(1), &json!(1)), "{said}");
    assert_eq!(all(), [[3, 3, 0, 0], expected[1], expected[2]]);
    // What was added to the end is learned, and half a line waits.
    append(&rotated, &(used(HOUR, BOB, FRENCH) + "2026-11-25 11:59:59 +0000 half"));
    assert_eq!(learn(&sandbox, &[&rotated])["total"]["lines"], 1);
    compressed(&rotated, &packed);
    assert_eq!(learn(&sandbox, &[&packed])["total"]["lines"], 0);
    assert_eq!(figures(&sandbox, "FR"), [2, 1, 1, 1]);
    assert_eq!(learn(&sandbox, &[&path])["files"][0]["was_known"], true);
}

#[test]
fn two_logs_that_begin_alike_are_told_apart() {
    let sandbox = Sandbox::new();
    let first = arrived(DAY, GERMAN);
    let one = log(&sandbox, "one", &(first.clone() + &arrived(DAY, FRENCH)));
    let other = log(&sandbox, "other", &(first + &arrived(DAY, AMERICAN) + &arrived(DAY, AMERICAN)));
    assert_eq!(learn(&sandbox, &[&one])["total"]["inbound"], 2);
    assert_eq!(learn(&sandbox, &[&other])["total"]["inbound"], 3);
    assert_eq!(learn(&sandbox, &[&one, &other])["total"]["lines"], 0);
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let sandbox = Sandbox::new();
    let path =
        log(&sandbox, "log", &(used(DAY, ALICE, GERMAN) + &wrong(DAY, "x y\" [198.51.100.9]", GERMAN)));
    let path = path.to_str().unwrap();
    for _ in 0..2 {
        let said = sandbox.postern(&["learn", "--dry-run", path]).succeeded();
        assert!(said.contains("2 lines of exim") && said.contains("1 logins succeeded, 1 failed"), "{said}");
        assert!(said.contains("Nothing was changed"), "{said}");
    }
    assert_eq!((figures(&sandbox, "DE"), known(&sandbox, ALICE)), ([0; 4], vec![]));
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM log_part"), 0);
    let later = sandbox.postern(&["learn", path, "--since", "2h"]);
    assert!(later.err.contains("2 events were left out"), "{later:?}");
    assert_eq!(figures(&sandbox, "DE"), [0; 4]);
}

#[test]
fn what_is_none_of_our_logs_says_so_and_the_others_are_read() {
    let sandbox = Sandbox::new();
    let good = log(&sandbox, "good", &used(DAY, ALICE, GERMAN));
    let bad = log(&sandbox, "bad", "192.0.2.7 - - \"GET /\u{1b}[31m HTTP/1.1\"\n");
    let said = sandbox.postern(&["learn", bad.to_str().unwrap()]).failed();
    assert!(said.contains("none of Exim's, Dovecot's or Postfix's logs") && said.contains("GET /"), "{said}");
    let link = sandbox.path("link");
    std::os::unix::fs::symlink(&good, &link).unwrap();
    let words = [bad.as_path(), &link, &sandbox.path("none"), &good].map(|p| p.to_str().unwrap().to_string());
    let words: Vec<&str> = std::iter::once("learn").chain(words.iter().map(String::as_str)).collect();
    let said = sandbox.postern(&words);
    assert_eq!(said.status, Some(1), "{said:?}");
    for part in ["none of Exim's", "is a link", "No such file"] {
        assert!(said.err.contains(part), "{part}: {said:?}");
    }
    assert_eq!(figures(&sandbox, "DE")[1], 1, "the good one is read");
    assert_eq!(learn(&sandbox, &[&log(&sandbox, "empty", "")])["total"]["lines"], 0);
}

#[test]
fn what_doors_count_is_not_counted_from_the_past_again() {
    let sandbox = Sandbox::new().setting("smtp_logins_from", "exim");
    sandbox.auth(GERMAN);
    sandbox.mail(ALICE, GERMAN);
    sandbox.postern(&["tick"]).succeeded();
    assert_eq!(figures(&sandbox, "DE")[1], 1);
    let text = used(DAY, BOB, GERMAN) + &used(0, ALICE, AMERICAN);
    let said = learn(&sandbox, &[&log(&sandbox, "log", &text)]);
    assert_eq!((&said["total"]["successes"], &said["total"]["counted"]), (&json!(2), &json!(1)), "{said}");
    assert_eq!((figures(&sandbox, "DE")[1], figures(&sandbox, "US")[1]), (2, 0));
    assert_eq!(known(&sandbox, ALICE).len(), 2, "the network is known all the same");
    // What IMAP did is IMAP's own past.
    let said = learn(&sandbox, &[&log(&sandbox, "imap", &dovecot(HOUR, "Login", BOB, AMERICAN))]);
    assert_eq!(said["total"]["counted"], 1);
}

#[test]
fn what_is_older_than_figures_are_kept_is_left_out_and_makes_a_network_known_as_long_as_those_are() {
    let sandbox = Sandbox::new();
    let text =
        [used(500 * DAY, ALICE, FRENCH), used(300 * DAY, ALICE, AMERICAN), used(100 * DAY, ALICE, GERMAN)];
    let said = learn(&sandbox, &[&log(&sandbox, "log", &text.concat())]);
    let sums = ["left_out", "counted", "taught"].map(|key| said["total"][key].clone());
    assert_eq!(sums, [1, 2, 1].map(|n| json!(n)), "{said}");
    assert_eq!(known(&sandbox, ALICE), ["192.0.2.0/24"]);
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM account_day"), 0);
    assert_eq!(sandbox.in_state::<i64>("SELECT sum(n) FROM traffic_day WHERE verdict = 'succeeded'"), 2);
}

fn followed(settings: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new().setting("follow_logs", "/var/log/mainlog,/var/log/mail.log");
    log(&sandbox, "var/log/mainlog", &(arrived(HOUR, FRENCH) + &used(HOUR, BOB, FRENCH)));
    log(&sandbox, "var/log/mail.log", &dovecot(HOUR, "Login", BOB, FRENCH));
    settings.iter().fold(sandbox, |sandbox, (key, value)| sandbox.setting(key, value))
}

fn tick(sandbox: &Sandbox) {
    sandbox.wait(60).postern(&["tick", "--verbose"]).succeeded();
}

#[test]
fn a_log_that_is_followed_counts_what_is_added_through_every_rotation() {
    let sandbox = followed(&[]);
    let path = sandbox.path("var/log/mainlog");
    tick(&sandbox);
    assert_eq!(figures(&sandbox, "FR"), [0; 4], "what was there before is not its business");
    append(&path, &(arrived(0, GERMAN) + &arrived(0, "127.0.0.1") + &used(0, ALICE, GERMAN)));
    tick(&sandbox);
    tick(&sandbox);
    assert_eq!(figures(&sandbox, "DE"), [0, 0, 0, 1]);
    assert_eq!(known(&sandbox, ALICE), [""; 0], "doors tell of logins here");
    // Renamed: the last lines are in the old file.
    append(&path, &arrived(0, AMERICAN));
    fs::rename(&path, path.with_file_name("mainlog.1")).unwrap();
    tick(&sandbox);
    log(&sandbox, "var/log/mainlog", &(arrived(-5, GERMAN) + &arrived(-6, GERMAN)));
    append(&path.with_file_name("mainlog.1"), &arrived(0, AMERICAN));
    tick(&sandbox);
    tick(&sandbox);
    assert_eq!((figures(&sandbox, "DE")[3], figures(&sandbox, "US")[3]), (3, 2));
    // Copied and emptied, with lines between the last look and the copy.
    append(&path, &arrived(0, FRENCH));
    fs::copy(&path, path.with_file_name("mainlog.1")).unwrap();
    fs::write(&path, arrived(-70, FRENCH)).unwrap();
    tick(&sandbox);
    tick(&sandbox);
    assert_eq!((figures(&sandbox, "FR")[3], figures(&sandbox, "DE")[3]), (2, 3));
    // The past that following left out is there to be learned, once.
    let first = fs::read_to_string(path.with_file_name("mainlog.1")).unwrap();
    assert_eq!(first.lines().count(), 3);
    assert_eq!(learn(&sandbox, &[&path, &path.with_file_name("mainlog.1")])["total"]["inbound"], 0);
    assert_eq!(figures(&sandbox, "FR")[3], 2);
}

#[test]
fn a_log_that_is_missing_is_trouble_where_it_was_not_rotated_away() {
    let sandbox = followed(&[]);
    tick(&sandbox);
    let path = sandbox.path("var/log/mainlog");
    let status = |sandbox: &Sandbox| sandbox.status_of("log /var/log/mainlog").unwrap();
    append(&path, &arrived(0, GERMAN));
    fs::rename(&path, path.with_file_name("mainlog.1")).unwrap();
    tick(&sandbox);
    assert_eq!(figures(&sandbox, "DE")[3], 1, "what was rotated away is read");
    assert_eq!(status(&sandbox).0, "good", "{:?}", status(&sandbox));
    fs::remove_file(path.with_file_name("mainlog.1")).unwrap();
    let said = sandbox.wait(60).postern(&["tick", "--verbose"]).failed();
    assert!(said.contains("/var/log/mainlog cannot be followed"), "{said}");
    let (state, says) = status(&sandbox);
    assert!(state == "TROUBLE" && says.contains("No such file"), "{state} {says}");
}

#[test]
fn following_begins_at_the_end_and_learning_takes_what_was_before() {
    let sandbox = followed(&[]);
    let path = sandbox.path("var/log/mainlog");
    tick(&sandbox);
    append(&path, &arrived(0, GERMAN));
    tick(&sandbox);
    let said = learn(&sandbox, &[&path]);
    let sums = ["inbound", "successes", "lines"].map(|key| said["total"][key].clone());
    // The last line is read again for its logins alone.
    assert_eq!(sums, [1, 1, 3].map(|n| json!(n)), "{said}");
    assert_eq!((figures(&sandbox, "FR"), figures(&sandbox, "DE")), ([1, 1, 0, 1], [0, 0, 0, 1]));
    append(&path, &arrived(0, GERMAN));
    tick(&sandbox);
    assert_eq!(figures(&sandbox, "DE")[3], 2);
    assert_eq!(learn(&sandbox, &[&path])["total"]["inbound"], 0);
}

#[test]
fn where_the_source_is_log_logins_count_from_it_and_from_no_door() {
    let sandbox = followed(&[("smtp_logins_from", "log"), ("imap_logins_from", "log")]);
    tick(&sandbox);
    append(&sandbox.path("var/log/mainlog"), &(used(0, ALICE, GERMAN) + &wrong(0, ALICE, AMERICAN)));
    let three = "Disconnected: Connection closed (auth failed, 3 attempts in 9 secs)";
    append(
        &sandbox.path("var/log/mail.log"),
        &(dovecot(0, "Login", BOB, GERMAN) + &dovecot(0, three, BOB, AMERICAN)),
    );
    sandbox.auth(GERMAN);
    sandbox.mail(ALICE, GERMAN);
    sandbox.exim(
        &[],
        &["outcome", &format!("--address={AMERICAN}"), &format!("--account={ALICE}"), "--ended=failed"],
    );
    tick(&sandbox);
    assert_eq!(figures(&sandbox, "DE"), [2, 2, 0, 0]);
    assert_eq!(figures(&sandbox, "US"), [4, 0, 4, 0]);
    let own = sandbox.api(&["account_statistics", &format!("account={BOB}")]);
    let failed: i64 = own["rows"].as_array().unwrap().iter().map(|r| r["failed"].as_i64().unwrap()).sum();
    assert_eq!(failed, 1, "of three names the log has the last alone: {own}");
    assert_eq!(known(&sandbox, BOB), ["192.0.2.0/24"]);
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM source"), 0, "a log teaches no attack rule");
    let (state, says) = sandbox.status_of("IMAP logins: source of record").unwrap();
    assert!(state == "note" && says.contains("logs that are followed"), "{says}");
}

#[test]
fn a_service_that_is_counted_from_logs_from_now_on_does_not_count_the_morning_again() {
    let sandbox = followed(&[]);
    let path = sandbox.path("var/log/mainlog");
    tick(&sandbox);
    append(&path, &used(0, ALICE, GERMAN));
    tick(&sandbox);
    let sandbox = sandbox.setting("smtp_logins_from", "log");
    tick(&sandbox);
    append(&path, &(used(0, BOB, AMERICAN) + &used(-190, BOB, GERMAN)));
    tick(&sandbox);
    assert_eq!((figures(&sandbox, "DE")[1], known(&sandbox, ALICE).len()), (1, 0));
    assert_eq!(figures(&sandbox, "US")[1], 0, "a line from before is the doors'");
}

#[test]
fn what_doors_counted_while_the_source_was_another_is_not_counted_from_the_log_later() {
    let sandbox = followed(&[("smtp_logins_from", "log")]);
    let path = sandbox.path("var/log/mainlog");
    tick(&sandbox);
    append(&path, &used(-50, ALICE, GERMAN));
    tick(&sandbox);
    let sandbox = sandbox.setting("smtp_logins_from", "exim");
    tick(&sandbox);
    append(&path, &used(-170, ALICE, AMERICAN));
    tick(&sandbox);
    let sandbox = sandbox.setting("smtp_logins_from", "log");
    tick(&sandbox);
    append(&path, &used(-310, ALICE, GERMAN));
    tick(&sandbox);
    assert_eq!(["DE", "US"].map(|code| figures(&sandbox, code)[1]), [2, 0]);
    learn(&sandbox, &[&path]);
    assert_eq!(["DE", "US"].map(|code| figures(&sandbox, code)[1]), [2, 0]);
    // A change of the source is seen by `learn` too.
    let other = log(&sandbox, "other", &dovecot(0, "Login", BOB, AMERICAN));
    let sandbox = sandbox.setting("imap_logins_from", "log");
    let said = learn(&sandbox, &[&other]);
    assert_eq!(said["total"]["successes"], 1);
    let since = "SELECT count(*) FROM meta WHERE key = 'log_since_imap' AND value > 0";
    assert_eq!(sandbox.in_state::<i64>(since), 1);
}

#[test]
fn a_name_with_signs_of_the_tally_is_one_account_through_both_ways() {
    let sandbox = Sandbox::new().setting("smtp_logins_from", "exim");
    let name = "a=b@example.test";
    sandbox.mail(name, GERMAN);
    sandbox.postern(&["tick"]).succeeded();
    let path = log(&sandbox, "log", &used(2 * DAY, name, GERMAN));
    assert_eq!(learn(&sandbox, &[&path])["total"]["counted"], 1);
    let names = "SELECT group_concat(DISTINCT name) FROM account WHERE name LIKE 'a%b@%'";
    assert_eq!(sandbox.in_state::<String>(names), name);
}

#[test]
fn status_says_what_is_followed_and_warns_of_a_log_that_is_silent() {
    let sandbox = followed(&[("smtp_logins_from", "exim")]);
    let status = |sandbox: &Sandbox| sandbox.status_of("log /var/log/mainlog").unwrap();
    assert!(status(&sandbox).1.contains("Not read yet"));
    tick(&sandbox);
    append(&sandbox.path("var/log/mainlog"), &arrived(0, GERMAN));
    tick(&sandbox);
    assert_eq!(status(&sandbox).0, "good", "{:?}", status(&sandbox));
    sandbox.wait(2 * DAY).auth(GERMAN);
    tick(&sandbox);
    let (state, says) = status(&sandbox);
    assert!(state == "warning" && says.contains("another log"), "{says}");
    let sandbox = sandbox.setting("follow_logs", "").setting("pop3_logins_from", "log");
    let (state, says) = sandbox.status_of("POP3 logins: source of record").unwrap();
    assert!(state == "warning" && says.contains("follow_logs"), "{says}");
    assert!(sandbox.status_of("log /var/log/mainlog").is_none());
}

#[test]
fn a_followed_log_whose_end_was_changed_is_followed_from_its_end_and_counts_nothing_again() {
    let sandbox = followed(&[]);
    let path = sandbox.path("var/log/mainlog");
    tick(&sandbox);
    append(&path, &[arrived(0, GERMAN), arrived(0, GERMAN), arrived(0, AMERICAN)].concat());
    tick(&sandbox);
    let text = fs::read_to_string(&path).unwrap();
    let cut = &text[..text.trim_end().rfind('\n').unwrap() + 1];
    for text in [cut.to_string(), cut.replace(GERMAN, FRENCH)] {
        fs::write(&path, text).unwrap();
        let said = sandbox.wait(60).postern(&["tick", "--verbose"]).succeeded();
        assert!(said.contains("followed from its end"), "{said}");
        let said = sandbox.wait(60).postern(&["tick", "--verbose"]).succeeded();
        assert!(!said.contains("followed from its end"), "{said}");
        assert_eq!(["DE", "US", "FR"].map(|code| figures(&sandbox, code)[3]), [2, 1, 0]);
    }
    append(&path, &arrived(0, FRENCH));
    tick(&sandbox);
    append(&path, &arrived(0, FRENCH));
    tick(&sandbox);
    assert_eq!(["DE", "US", "FR"].map(|code| figures(&sandbox, code)[3]), [2, 1, 2]);
}

#[test]
fn while_one_reads_logs_no_other_does() {
    use fs2::FileExt;
    let sandbox = followed(&[]);
    tick(&sandbox);
    let path = sandbox.path("var/log/mainlog");
    append(&path, &arrived(0, GERMAN));
    let lock = File::open(sandbox.path("var/lib/postern/data/logs.lock")).unwrap();
    lock.lock_exclusive().unwrap();
    tick(&sandbox);
    let mut command = sandbox.program("postern", 0, &[]);
    let mut learning = command.args(["learn", path.to_str().unwrap()]).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(learning.try_wait().unwrap().is_none(), "it waits for the other");
    assert_eq!(figures(&sandbox, "DE")[3], 0);
    fs2::FileExt::unlock(&lock).unwrap();
    assert!(learning.wait().unwrap().success());
    tick(&sandbox);
    assert_eq!((figures(&sandbox, "DE")[3], figures(&sandbox, "FR")[3]), (1, 1));
}

#[test]
fn root_alone_can_read_the_log_and_user_postern_does() {
    let sandbox = Sandbox::new();
    let path = log(&sandbox, "log", &used(DAY, ALICE, GERMAN));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let said = sandbox.postern_as(THIEF, &["learn", path.to_str().unwrap()]).failed();
    assert!(said.contains("Permission denied"), "{said}");
    assert_eq!(learn(&sandbox, &[&path])["total"]["taught"], 1);
    // A pipe in its place is not waited for.
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(sandbox.postern(&["learn", path.to_str().unwrap()]).failed().contains("no ordinary file"));
}

#[test]
fn work_that_is_broken_off_goes_on_where_it_was() {
    let sandbox = Sandbox::new();
    let mut text = String::new();
    for n in 0..6000 {
        text += &used(
            DAY * (n % 20) + 1,
            &format!("u{}@example.test", n / 2),
            if n % 2 == 0 { GERMAN } else { AMERICAN },
        );
        text += &wrong(DAY, &format!("x{n}@example.test"), FRENCH);
    }
    let path = log(&sandbox, "log", &text);
    let mut broken = 0;
    for n in 0.. {
        let mut command = sandbox.program("postern", 0, &[]);
        command.args(["learn", path.to_str().unwrap()]).process_group(0);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(150 + 100 * n));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        broken += 1;
    }
    assert!(broken > 0, "the first one was to be broken off");
    assert_eq!(learn(&sandbox, &[&path])["total"]["lines"], 0);
    let sums = ["DE", "US", "FR"].map(|code| figures(&sandbox, code));
    assert_eq!(sums, [[3000, 3000, 0, 0], [3000, 3000, 0, 0], [6000, 0, 6000, 0]]);
    let known = "SELECT sum(n) FROM known_network";
    assert_eq!(sandbox.in_state::<i64>(known), 6000);
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM log_writing"), 0);
}
