//! What people see: on a terminal, and where it is none.

use crate::sandbox::{Ran, Sandbox, on_terminal, on_watched_terminal, run};
use std::process::Command;

const LONG_NOTE: &str = "a note of one hundred letters, or of rather more than that, so that no screen of eighty columns holds it in a line";

fn scene() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox
        .postern(&["exemptions", "ip", "add", "2001:db8:1:2:3:4:5:6/128", "--note", LONG_NOTE])
        .succeeded();
    sandbox
}

fn shown(sandbox: &Sandbox, columns: u16, environment: &[(&str, &str)], words: &[&str]) -> Ran {
    let mut command = sandbox.program("postern", 0, &[]);
    command.env("TERM", "xterm").envs(environment.iter().copied()).args(words);
    on_terminal(command, columns)
}

#[track_caller]
fn fits(shown: &str, columns: usize) {
    for line in shown.lines() {
        assert!(line.chars().count() <= columns, "{} columns: {line:?}", line.chars().count());
    }
}

#[test]
fn a_table_fits_the_terminal_and_is_whole_elsewhere() {
    let sandbox = scene();
    let words = ["exemptions", "ip", "list"];
    for columns in [60, 80, 100, 132] {
        let seen = shown(&sandbox, columns, &[], &words).succeeded();
        fits(&seen, columns.into());
        assert!(seen.contains("2001:db8:1:2:3:4:5:6"), "{seen}");
    }
    let whole = sandbox.postern(&words).succeeded();
    assert!(whole.contains(LONG_NOTE) && whole.lines().any(|line| line.len() > 150), "{whole}");
    // The environment's word goes before the terminal's, and counts on a terminal alone.
    fits(&shown(&sandbox, 200, &[("COLUMNS", "70")], &words).succeeded(), 70);
    let mut command = sandbox.program("postern", 0, &[]);
    let piped = run(command.env("COLUMNS", "40").args(words)).succeeded();
    assert_eq!(piped, whole);
}

#[test]
fn a_terminal_of_thirty_columns_gets_blocks_in_which_nothing_is_lost() {
    let sandbox = scene();
    let seen = shown(&sandbox, 30, &[], &["exemptions", "ip", "list"]).succeeded();
    fits(&seen, 30);
    assert!(!seen.contains('…'), "{seen}");
    let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
    assert!(words(LONG_NOTE).iter().all(|word| words(&seen).contains(word)), "{seen}");
}

#[test]
fn the_sentences_of_status_are_not_cut() {
    let sandbox = scene();
    let seen = shown(&sandbox, 80, &[("NO_COLOR", "1")], &["status"]).succeeded();
    fits(&seen, 80);
    let (flat, says) =
        (seen.replace(['\n', ' '], ""), sandbox.status_of("webmail and panel logins").unwrap().1);
    let end: String = says.split_whitespace().last().unwrap().into();
    assert!(flat.contains(&end) && !seen.contains('…'), "{seen}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let sandbox = scene();
    let coloured = |environment: &[(&str, &str)], words: &[&str]| {
        shown(&sandbox, 100, environment, words).succeeded().contains('\u{1b}')
    };
    assert!(coloured(&[], &["status"]));
    assert!(coloured(&[("NO_COLOR", "")], &["status"]), "empty is not set, as no-color.org has it");
    assert!(!coloured(&[("NO_COLOR", "1")], &["status"]));
    assert!(!coloured(&[("TERM", "dumb")], &["status"]));
    assert!(!coloured(&[], &["status", "--json"]));
    assert!(!coloured(&[], &["status", "--format", "prometheus"]));
    assert!(!sandbox.postern(&["status"]).succeeded().contains('\u{1b}'));
}

#[test]
fn json_is_for_every_command_and_the_same_on_a_terminal() {
    let sandbox = scene();
    for words in [
        &["status", "--json"][..],
        &["exemptions", "ip", "list", "--json"],
        &["countries", "unset", "a@b.test", "--json"],
    ] {
        let (seen, piped) = (shown(&sandbox, 40, &[], words), sandbox.postern(words));
        assert!(seen.json()["status"].is_number(), "{seen:?}");
        assert_eq!((seen.status, seen.json()), (piped.status, piped.json()), "{words:?}");
    }
}

#[test]
fn an_error_names_the_next_command() {
    let sandbox = Sandbox::new();
    for (words, next) in [
        (&["exemptions", "ip", "remove", "192.0.2.1"][..], "`postern exemptions ip list`"),
        (&["whitelist", "add", "nobody here"], "`postern whitelist add --help`"),
        (&["settings", "set", "rate_limit_messages", "0"], "`postern settings set --help`"),
        (&["settings", "set", "rate_limit_messages", "5", "--generation", "0"], "`postern audit`"),
        (&["countries", "set", "--confirm", "Atlantis"], "`postern countries"),
    ] {
        let said = sandbox.postern(words);
        assert!(said.status == Some(1) && said.err.contains(next), "{words:?}: {said:?}");
        assert!(said.err.lines().count() <= 2, "{said:?}");
    }
    let said = sandbox.postern_as(crate::sandbox::THIEF, &["settings", "list"]);
    assert!(said.err.contains("as root"), "{said:?}");
    let said = Sandbox::bare().postern(&["settings", "list"]);
    assert!(said.err.contains("`postern init`"), "{said:?}");
}

/// A restore that waits for somebody who works with the state: the file that is held open for that, to be dropped.
fn slow_restore(sandbox: &Sandbox) -> (Command, std::fs::File) {
    let file = sandbox.path("backup.tar");
    sandbox.postern(&["backup", file.to_str().unwrap()]).succeeded();
    let working = std::fs::File::open(sandbox.path("var/lib/postern/state/state.lock")).unwrap();
    working.lock_shared().unwrap();
    let mut command = sandbox.program("postern", 0, &[]);
    command.env("TERM", "xterm").args(["restore", file.to_str().unwrap(), "--state", "--confirm"]);
    (command, working)
}

#[test]
fn what_goes_on_for_longer_than_a_second_says_so_on_a_terminal() {
    let sandbox = Sandbox::new();
    let (command, working) = slow_restore(&sandbox);
    let mut working = Some(working);
    let seen = on_watched_terminal(command, 100, move |shown| {
        if shown.contains("at work for 2 s") {
            working.take();
        }
    });
    let shown = seen.succeeded();
    assert!(
        shown.contains("\rpostern restore: at work for 1 s …\rpostern restore: at work for 2 s …"),
        "{shown:?}"
    );
    let (_, after) = shown.rsplit_once("\r\u{1b}[K").expect("the line goes away");
    assert!(after.starts_with("The settings are those of"), "{shown:?}");
}

#[test]
fn nothing_of_that_is_told_to_who_is_no_terminal() {
    let sandbox = Sandbox::new();
    let (mut command, working) = slow_restore(&sandbox);
    let holder = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        drop(working);
    });
    let ran = run(&mut command);
    holder.join().unwrap();
    assert_eq!((ran.err.as_str(), ran.status), ("", Some(0)), "{ran:?}");
}

#[test]
fn whoever_asks_for_json_gets_it_for_a_slip_of_the_pen_too() {
    let sandbox = Sandbox::new();
    for words in [
        &["api"][..],
        &["api", "list_blocks", "--as"],
        &["--as", "owner:ann", "api", "--as", "root:x", "list_blocks"],
        &["api", "--as", "owner:ann", "list_blocks", "--as=root:x"],
        &["--json", "blocks", "add"],
        &["blocks", "list", "--nothing", "--json"],
        &["--json", "nothing"],
        &["--json", "man", "/nonexistent/folder"],
        &["--json", "--now=never", "status"],
    ] {
        let ran = sandbox.postern(words);
        let answer = ran.json();
        assert!(ran.status != Some(0) && answer["status"] == 0, "{words:?}: {ran:?}");
        assert!(answer["metadata"]["code"].is_string() && answer["errors"][0].is_string(), "{answer}");
        assert_eq!(ran.err, "", "{words:?}");
    }
    let help = sandbox.postern(&["--json", "blocks", "--help"]).succeeded();
    assert!(help.contains("Usage:"), "help is for people: {help}");
    let said = sandbox.postern(&["blocks", "add"]);
    assert!(said.status == Some(2) && said.err.contains("Usage:"), "{said:?}");
}
