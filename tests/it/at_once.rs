//! Several administrators at once: nothing of anybody's is lost, nothing is done twice, and what is refused because
//! somebody was faster was not done.

use crate::sandbox::*;
use serde_json::{Value, json};
use std::fs;
use std::process::{Child, Stdio};

const ALICE: &str = "alice@example.test";

/// Starts all of these calls before the first has ended; each must succeed.
fn at_once(sandbox: &Sandbox, calls: &[Vec<&str>]) {
    let start = |words: &Vec<&str>| -> Child {
        let mut command = sandbox.program("postern", 0, &[]);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let started: Vec<Child> = calls.iter().map(start).collect();
    started.into_iter().for_each(|child| drop(sandbox.finish(child).succeeded()));
}

fn written(sandbox: &Sandbox, text: &str) -> String {
    let path = sandbox.path("written");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

#[test]
fn countries_that_are_allowed_at_once_are_all_allowed() {
    let sandbox = Sandbox::new();
    let codes = ["BE", "ES", "FR", "IT", "LU", "NL", "PL", "PT"];
    let calls: Vec<Vec<&str>> = codes.iter().map(|code| vec!["countries", "allow", *code]).collect();
    at_once(&sandbox, &calls);
    let found = sandbox.api(&["list_countries"]);
    let list = found["lists"][0]["countries"].as_array().unwrap();
    assert_eq!(list.iter().map(|c| c["code"].clone()).collect::<Vec<Value>>(), codes, "{found}");
}

#[test]
fn what_is_applied_or_imported_several_times_at_once_is_there_once() {
    let sandbox = Sandbox::new();
    let allowance = json!({ "for": ALICE, "from": "BR", "until": "2027-01-01" });
    let file = written(&sandbox, &json!({ "postern_config": 1, "allowances": [allowance] }).to_string());
    at_once(&sandbox, &vec![vec!["config", "apply", file.as_str()]; 8]);
    let numbers = |sandbox: &Sandbox| sandbox.api(&["list_allowances"]).as_array().unwrap().len();
    assert_eq!(numbers(&sandbox), 1);
    let file = written(&sandbox, "for,from,until\nbob@example.test,BR,2027-01-01\n");
    at_once(&sandbox, &vec![vec!["allowances", "import", file.as_str()]; 8]);
    assert_eq!(numbers(&sandbox), 2);
}

#[test]
fn a_release_that_is_refused_because_somebody_was_faster_lifts_nothing() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    sandbox.sends_freely(ALICE, 1);
    assert!(sandbox.send(ALICE).starts_with("defer "));
    let blocks = sandbox.api(&["list_blocks"]);
    let refused = sandbox.postern(&["blocks", "release", ALICE, "--generation", "1"]).failed();
    assert!(refused.contains("changed by somebody else"), "{refused}");
    assert_eq!(sandbox.api(&["list_blocks"]), blocks);
    assert!(sandbox.send(ALICE).starts_with("defer "));
}

#[test]
fn a_held_message_stays_where_the_call_is_refused_because_somebody_was_faster() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    let program = sandbox.path("usr/sbin/exim4");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let asked = sandbox.path("asked");
    sandbox.install(&program, &format!("#!/bin/sh\necho \"$@\" >> {}\n", asked.display()));
    let id = "1xW1Xt-0000gl-1R";
    assert_eq!(sandbox.send_locally("web", 1000, "a-b-0"), "allow\n");
    assert!(sandbox.send_locally("web", 1000, id).starts_with("hold "));
    for deed in ["release", "remove"] {
        let refused = sandbox.postern(&["held", deed, id, "--generation", "1"]).failed();
        assert!(refused.contains("changed by somebody else"), "{refused}");
    }
    assert!(!asked.exists(), "Exim was asked: {:?}", fs::read_to_string(&asked));
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM held"), 1);
    sandbox.postern(&["held", "remove", id]).succeeded();
    assert_eq!(fs::read_to_string(&asked).unwrap(), format!("-Mrm {id}\n"));
}

#[test]
fn a_call_that_changes_nothing_is_not_logged_as_the_change_before_it() {
    let sandbox = Sandbox::new().exempt_user(ALICE);
    sandbox.log();
    sandbox.postern(&["--as", "root:ben", "exemptions", "user", "add", ALICE]).succeeded();
    assert_eq!(sandbox.logged("event=change"), 0);
    sandbox.postern(&["--as", "root:ben", "exemptions", "user", "add", ALICE, "--note", "new"]).succeeded();
    assert_eq!(sandbox.logged("event=change who=root%20(ben)"), 1);
}
