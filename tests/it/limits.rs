//! Further limits of sending, through the programs.

use crate::sandbox::*;
use serde_json::json;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@elsewhere.test";
const HOUR: i64 = 3600;

impl Sandbox {
    /// Makes a limit, or changes one.
    fn limit(self, words: &[&str]) -> Sandbox {
        self.postern(&[&["limits", "set"], words].concat()).succeeded();
        self
    }

    /// Sends a message to so many.
    fn send_to(&self, account: &str, recipients: usize) -> String {
        let mut words = Sandbox::message(account);
        for word in &mut words {
            if word.starts_with("--recipients=") {
                *word = format!("--recipients={recipients}");
            }
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        assert!(words.contains(&format!("--recipients={recipients}").as_str()), "{words:?}");
        self.exim(&[], &words)
    }

    fn notices(&self) -> i64 {
        self.in_state("SELECT count(*) FROM notice")
    }
}

#[test]
fn a_new_server_is_told_of_500_recipients_in_an_hour_and_2000_in_a_day_and_lets_them_pass() {
    let sandbox = Sandbox::new();
    let listed = sandbox.api(&["list_limits"]);
    let names: Vec<_> =
        listed["limits"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["outbound", "recipients-hour", "recipients-day"]);
    for _ in 0..5 {
        assert_eq!(sandbox.send_to(ALICE, 100), "allow\n");
    }
    assert_eq!(sandbox.notices(), 0);
    assert_eq!(sandbox.send_to(ALICE, 1), "allow\n");
    assert_eq!(sandbox.notices(), 1);
    for _ in 0..15 {
        assert_eq!(sandbox.send_to(ALICE, 100), "allow\n");
    }
    assert_eq!(sandbox.notices(), 2, "each limit is told of once");
    let told: String = sandbox.in_state("SELECT group_concat(detail, ' ') FROM notice");
    assert!(told.contains("More than 500 recipients in 1 hour (limit recipients-hour)"), "{told}");
    assert!(told.contains("More than 2000 recipients in 1 day (limit recipients-day)"), "{told}");
}

#[test]
fn a_limit_that_stops_does_so_for_its_time_and_a_release_lifts_it() {
    let sandbox = Sandbox::new().limit(&[
        "burst",
        "--most",
        "20",
        "--window",
        "10m",
        "--action",
        "stop",
        "--duration",
        "2h",
    ]);
    assert_eq!(sandbox.send_to(ALICE, 20), "allow\n");
    let said = sandbox.send_to(ALICE, 1);
    assert!(
        said.starts_with("defer 451 4.7.1 More than 20 recipients in 10 minutes: sending is stopped"),
        "{said}"
    );
    let blocks = sandbox.api(&["list_blocks"]);
    assert_eq!((blocks[0]["value"].as_str(), blocks[0]["by"].as_str()), (Some(ALICE), Some("burst")));
    sandbox.wait(2 * HOUR - 1);
    assert!(sandbox.send_to(ALICE, 1).starts_with("defer 451"));
    sandbox.postern(&["blocks", "release", ALICE, "--reason", "password changed"]).succeeded();
    assert_eq!(sandbox.send_to(ALICE, 20), "allow\n");
    assert!(sandbox.send_to(ALICE, 1).starts_with("defer 451"));
    // A limit that is taken away, or watches only, stops nobody any more.
    let sandbox = sandbox.limit(&["burst", "--mode", "monitor"]);
    assert_eq!(sandbox.send_to(ALICE, 1), "allow\n");
}

#[test]
fn an_account_that_is_slowed_down_sends_its_quota_each_hour_until_the_end() {
    let sandbox = Sandbox::new().limit(&[
        "burst",
        "--counts",
        "messages",
        "--most",
        "10",
        "--window",
        "1h",
        "--action",
        "slow",
        "--quota",
        "3",
        "--duration",
        "6h",
    ]);
    sandbox.sends_freely(ALICE, 10);
    assert!(sandbox.send(ALICE).contains("only 3 messages an hour may be sent"));
    for hour in 0..3 {
        sandbox.sends_freely(ALICE, 3);
        let said = sandbox.send(ALICE);
        assert!(
            said.starts_with("defer 451 4.7.1 This account may send 3 messages an hour"),
            "{hour}: {said}"
        );
        sandbox.wait(HOUR);
    }
    sandbox.wait(3 * HOUR);
    sandbox.sends_freely(ALICE, 10);
}

#[test]
fn what_goes_beyond_a_limit_that_waits_passes_when_there_is_room() {
    let sandbox = Sandbox::new().limit(&["steady", "--most", "10", "--window", "1h", "--action", "wait"]);
    assert_eq!(sandbox.send_to(ALICE, 10), "allow\n");
    assert!(sandbox.send_to(ALICE, 1).starts_with("defer 451 4.7.1 More than 10 recipients in 1 hour"));
    assert_eq!(sandbox.api(&["list_blocks"]), json!([]));
    assert_eq!(sandbox.notices(), 1);
    sandbox.wait(HOUR - 1);
    assert!(sandbox.send_to(ALICE, 1).starts_with("defer 451"));
    assert_eq!(sandbox.wait(1).send_to(ALICE, 10), "allow\n");
}

#[test]
fn a_message_that_can_never_pass_is_refused_for_good() {
    let sandbox = Sandbox::new().limit(&["steady", "--most", "10", "--window", "1d", "--action", "wait"]);
    let said = sandbox.send_to(ALICE, 11);
    assert!(said.starts_with("deny 550 5.7.1 Not more than 10 recipients in 1 day are allowed"), "{said}");
    assert_eq!(sandbox.send_to(ALICE, 10), "allow\n", "it was not counted");
}

#[test]
fn a_domain_is_counted_together_and_its_stop_is_released_by_its_name() {
    let sandbox = Sandbox::new().limit(&[
        "domain", "--of", "domain", "--counts", "messages", "--most", "6", "--window", "1h", "--action",
        "stop",
    ]);
    sandbox.sends_freely(ALICE, 3);
    sandbox.sends_freely(BOB, 3);
    sandbox.sends_freely(CAROL, 6);
    assert!(sandbox.send(BOB).contains("from here: sending is stopped"));
    assert!(sandbox.send(ALICE).contains("is stopped until"));
    sandbox.postern(&["blocks", "release", "example.test", "--reason", "told them"]).succeeded();
    sandbox.sends_freely(ALICE, 6);
    // Local users have no domain.
    for n in 1..=9 {
        assert_eq!(sandbox.send_locally("webuser", 1000, &format!("1xW1Xt-0000gl-{n}R")), "allow\n");
    }
}

#[test]
fn everybody_together_waits_and_is_never_stopped() {
    let words = ["all", "--of", "server", "--counts", "messages", "--most", "5", "--window", "1h"];
    let sandbox = Sandbox::new().limit(&[&words[..], &["--action", "wait"]].concat());
    sandbox.sends_freely(ALICE, 3);
    sandbox.sends_freely(CAROL, 2);
    assert!(sandbox.send(BOB).starts_with("defer 451"));
    sandbox.wait(HOUR);
    sandbox.sends_freely(BOB, 5);
    let refused = sandbox.postern(&[&["limits", "set"], &words[..], &["--action", "stop"]].concat()).failed();
    assert!(refused.contains("must not stop everybody"), "{refused}");
}

#[test]
fn another_number_holds_for_a_mailbox_for_a_time_and_for_each_mailbox_of_a_domain() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "5");
    let for_him = |words: &[&str]| sandbox.postern(&[&["limits", "for"], words].concat()).succeeded();
    for_him(&["example.test", "7"]);
    for_him(&[ALICE, "20", "--from", "1h", "--until", "2h", "--note", "newsletter"]);
    sandbox.sends_freely(BOB, 7);
    assert!(sandbox.send(BOB).starts_with("defer 451"));
    sandbox.sends_freely(CAROL, 5);
    assert!(sandbox.send(CAROL).starts_with("defer 451"));
    sandbox.sends_freely(ALICE, 7);
    sandbox.wait(HOUR);
    sandbox.sends_freely(ALICE, 20);
    sandbox.wait(HOUR);
    sandbox.sends_freely(ALICE, 7);
    assert!(sandbox.send(ALICE).starts_with("defer 451"));
    for_him(&["dave@example.test", "unlimited"]);
    sandbox.sends_freely("dave@example.test", 40);
    sandbox.postern(&["limits", "not-for", "dave@example.test"]).succeeded();
    assert!(sandbox.send("dave@example.test").starts_with("defer 451"));
    assert!(sandbox.postern(&["limits", "for", ALICE, "9", "--limit", "none"]).failed().contains("no limit"));
}

#[test]
fn limits_are_undone_exported_and_made_so_elsewhere() {
    let sandbox = Sandbox::new().limit(&["burst", "--most", "20", "--window", "10m", "--action", "stop"]);
    sandbox.postern(&["limits", "for", ALICE, "40", "--limit", "burst", "--until", "30d"]).succeeded();
    let before = sandbox.api(&["list_limits"]);
    sandbox.postern(&["limits", "remove", "burst"]).succeeded();
    let without = sandbox.api(&["list_limits"]);
    assert_eq!((without["limits"].as_array().unwrap().len(), &without["for"]), (3, &json!([])));
    sandbox.postern(&["undo"]).succeeded();
    assert_eq!(sandbox.api(&["list_limits"]), before);

    let document = sandbox.postern(&["config", "export"]).succeeded();
    let other = Sandbox::new();
    std::fs::write(other.path("document"), document).unwrap();
    let file = other.path("document");
    let apply = ["config", "apply", file.to_str().unwrap(), "--json", "--confirm"];
    let changed = || other.postern(&apply).json()["data"]["changed"] == true;
    assert_eq!((changed(), changed()), (true, false));
    let told = |all: serde_json::Value| -> Vec<(String, i64)> {
        let rows = all["limits"].as_array().unwrap().clone();
        rows.iter().map(|l| (l["name"].as_str().unwrap().into(), l["most"].as_i64().unwrap())).collect()
    };
    assert_eq!(told(other.api(&["list_limits"])), told(before));
    assert_eq!(other.send_to(ALICE, 40), "allow\n");
    assert!(other.send_to(BOB, 21).starts_with("deny 550"));
}

#[test]
fn a_preset_sets_the_numbers_and_leaves_what_happens_beyond() {
    let sandbox = Sandbox::new().limit(&["recipients-day", "--action", "wait"]);
    sandbox.postern(&["limits", "preset", "busy-shop"]).succeeded();
    let limits = sandbox.api(&["list_limits"])["limits"].clone();
    let most: Vec<_> = (0..3).map(|n| limits[n]["most"].as_i64().unwrap()).collect();
    assert_eq!(most, [500, 3000, 20_000]);
    assert_eq!(limits[2]["action"], "wait");
}

#[test]
fn what_cannot_be_meant_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::new();
    let before = sandbox.api(&["list_limits"]);
    for (words, said) in [
        (&["x", "--most", "5"][..], "needs its number and its window"),
        (&["Big", "--most", "5", "--window", "1h"], "small letters"),
        (&["outbound", "--most", "5", "--window", "1h"], "Outbound Rate Limiter"),
        (&["x", "--most", "5", "--window", "30s"], "from 60 to 2592000"),
        (&["x", "--most", "5", "--window", "31d"], "from 60 to 2592000"),
        (&["x", "--most", "5", "--window", "often"], "a span as"),
        (&["x", "--most", "-1", "--window", "1h"], "most"),
    ] {
        let refused = sandbox.postern(&[&["limits", "set"], words].concat()).failed();
        assert!(refused.contains(said), "{words:?}: {refused}");
    }
    assert_eq!(sandbox.api(&["list_limits"]), before);
}

#[test]
fn who_is_slowed_down_is_held_to_the_other_limits_too() {
    let sandbox = Sandbox::new()
        .setting("rate_limit_messages", "15")
        .limit(&["slow", "--most", "10", "--window", "1h", "--action", "slow", "--quota", "100"])
        .limit(&["many", "--most", "50", "--window", "1h", "--action", "stop"]);
    sandbox.sends_freely(ALICE, 10);
    assert!(sandbox.send(ALICE).contains("only 100 messages an hour"));
    assert_eq!(sandbox.send_to(ALICE, 30), "allow\n", "within its quota and the limit of 50");
    assert!(sandbox.send_to(ALICE, 11).contains("More than 50 recipients in 1 hour: sending is stopped"));
    assert!(sandbox.send(ALICE).contains("is stopped until"));
    // The Outbound Rate Limiter as well.
    sandbox.sends_freely(CAROL, 10);
    assert!(sandbox.send(CAROL).contains("only 100 messages an hour"));
    sandbox.sends_freely(CAROL, 5);
    assert!(sandbox.send(CAROL).contains("More than 15 messages in 5 minutes: sending is stopped"));
}

#[test]
fn of_two_stops_the_one_that_binds_holds_whatever_becomes_of_the_other() {
    let domain = ["domain", "--of", "domain", "--counts", "messages", "--most", "8", "--window", "1h"];
    let sandbox = Sandbox::new()
        .setting("rate_limit_messages", "5")
        .limit(&[&domain[..], &["--action", "slow", "--quota", "3", "--duration", "24h"]].concat());
    sandbox.sends_freely(ALICE, 5);
    assert!(sandbox.send(ALICE).contains("is stopped until"));
    sandbox.sends_freely(BOB, 3);
    assert!(sandbox.send(BOB).contains("only 3 messages an hour"));
    sandbox.sends_freely(BOB, 1);
    assert!(sandbox.send(ALICE).contains("is stopped until"), "her own stop is the stricter one");
    let sandbox = sandbox.limit(&["domain", "--mode", "monitor"]);
    assert!(sandbox.send(ALICE).contains("is stopped until"));
    assert_eq!(sandbox.send(BOB), "allow\n");
    assert_eq!(sandbox.api(&["list_blocks"]).as_array().unwrap().len(), 1, "what stops nobody is not listed");
}

#[test]
fn local_messages_beyond_a_limit_that_waits_are_held_up_to_the_ceiling() {
    let sandbox = Sandbox::new()
        .setting("held_ceiling", "2")
        .limit(&["steady", "--counts", "messages", "--most", "1", "--window", "1h", "--action", "wait"]);
    let said: Vec<String> =
        (1..=4).map(|n| sandbox.send_locally("webuser", 1000, &format!("1xW1Xt-0000gl-{n}R"))).collect();
    let words: Vec<&str> = said.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(words, ["allow", "hold", "hold", "deny"], "{said:?}");
}

#[test]
fn nobody_keeps_a_number_of_a_limit_that_was_undone() {
    let sandbox = Sandbox::new().limit(&["burst", "--most", "20", "--window", "10m"]);
    let made = sandbox.api(&["get_settings"])["generation"].to_string();
    sandbox.postern(&["limits", "for", ALICE, "40", "--limit", "burst"]).succeeded();
    sandbox.postern(&["undo", &made]).succeeded();
    assert_eq!(sandbox.api(&["list_limits"])["for"], json!([]));
}

#[test]
fn what_lets_nothing_pass_must_be_confirmed_and_a_number_that_would_never_hold_is_refused() {
    let sandbox = Sandbox::new().limit(&["all", "--of", "server", "--most", "5", "--window", "1h"]);
    let closes = ["limits", "set", "all", "--most", "0", "--action", "wait"];
    assert!(sandbox.postern(&closes).failed().contains("would let nothing pass"));
    assert!(sandbox.postern(&["limits", "for", ALICE, "0"]).failed().contains("would let nothing pass"));
    assert!(
        sandbox
            .postern(&["limits", "for", ALICE, "9", "--limit", "all"])
            .failed()
            .contains("everybody together")
    );
    sandbox.postern(&[&closes[..], &["--confirm"]].concat()).succeeded();
    assert!(sandbox.send(ALICE).starts_with("defer 451"));
    for (bad, said) in [
        (json!({ "for": ALICE, "limit": "outbound", "most": -5 }), "whole number"),
        (json!({ "for": ALICE, "limit": "none", "most": 5 }), "limits that there are"),
        (
            json!({ "for": ALICE, "limit": "outbound", "most": 5, "from": "2030-01-02", "until": "2030-01-01" }),
            "after",
        ),
    ] {
        let document = json!({ "postern_config": 1, "limits_for": [bad] }).to_string();
        let refused = sandbox.api_says("apply_config", &json!({ "entries": document }));
        assert!(refused.to_string().contains(said), "{refused}");
    }
}

#[test]
fn a_day_as_beginning_counts_whole() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "5");
    let day = |ahead: i64| {
        chrono::DateTime::from_timestamp(sandbox.now() + ahead * 86_400, 0)
            .unwrap()
            .format("%Y-%m-%d")
            .to_string()
    };
    let words = ["limits", "for", ALICE, "20", "--from", &day(0), "--until", &day(0)];
    sandbox.postern(&words).succeeded();
    sandbox.sends_freely(ALICE, 20);
    assert!(sandbox.send(ALICE).starts_with("defer 451"));
}

impl Sandbox {
    /// Sends a message to these, as Exim names them.
    fn send_naming(&self, account: &str, to: &[&str]) -> String {
        let mut words: Vec<String> = Sandbox::message(account).into();
        words.retain(|word| !word.starts_with("--recipients="));
        words.extend([format!("--recipients={}", to.len()), format!("--to={}", to.join(", "))]);
        self.exim(&[], &words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

#[test]
fn different_recipients_count_once_each_within_the_window() {
    let sandbox = Sandbox::new().limit(&[
        "spray",
        "--counts",
        "distinct_recipients",
        "--most",
        "3",
        "--window",
        "10m",
        "--action",
        "wait",
    ]);
    for _ in 0..20 {
        assert_eq!(sandbox.send_naming(ALICE, &["a@far.test", "A@FAR.test", "b@far.test"]), "allow\n");
    }
    assert_eq!(sandbox.send_naming(BOB, &["c@far.test", "d@far.test", "e@far.test"]), "allow\n");
    let said = sandbox.send_naming(ALICE, &["c@far.test", "d@far.test"]);
    assert!(said.starts_with("defer 451 4.7.1 More than 3 different recipients in 10 minutes"), "{said}");
    assert_eq!(sandbox.send_naming(ALICE, &["c@far.test"]), "allow\n", "what was refused is not counted");
    assert!(sandbox.send_naming(ALICE, &["d@far.test"]).starts_with("defer 451"));
    assert!(sandbox.send_to(ALICE, 1).starts_with("defer 451"), "one that is not named is a new one");
    sandbox.wait(601);
    assert_eq!(sandbox.send_naming(ALICE, &["d@far.test", "e@far.test", "f@far.test"]), "allow\n");
}

#[test]
fn recipients_on_this_server_are_counted_apart_by_the_domains_that_are_known() {
    let sandbox = Sandbox::new()
        .limit(&["far", "--counts", "recipients", "--most", "2", "--window", "10m", "--action", "wait"])
        .limit(&[
            "near",
            "--counts",
            "local_recipients",
            "--most",
            "3",
            "--window",
            "10m",
            "--action",
            "wait",
        ]);
    let near = ["x@example.test", "y@Example.TEST", "z@example.test"];
    assert!(sandbox.send_naming(ALICE, &near).starts_with("deny 550"), "nobody told which domains are here");
    std::fs::write(sandbox.path("etc/postern/owners"), "example.test: ann\n").unwrap();
    sandbox.postern(&["tick"]).succeeded();
    assert_eq!(sandbox.send_naming(ALICE, &near), "allow\n");
    assert_eq!(sandbox.send_naming(ALICE, &["a@far.test", "b@far.test"]), "allow\n");
    assert!(
        sandbox
            .send_naming(ALICE, &["x@example.test"])
            .starts_with("defer 451 4.7.1 More than 3 recipients on this")
    );
    assert!(sandbox.send_naming(BOB, &["a@far.test", "b@far.test", "x@example.test"]).starts_with("allow"));
    assert!(
        sandbox.send_naming(BOB, &["c@far.test"]).starts_with("defer 451 4.7.1 More than 2 recipients in")
    );
}
