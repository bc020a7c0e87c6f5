//! The lines in the log are as they are documented: programs that read logs hang on them.

use crate::sandbox::{AMERICAN, GERMAN, Sandbox, UNKNOWN};
use postern::log::EVENTS;
use std::collections::BTreeSet;

/// Takes a line apart as a program would: at the blanks, then at the first `=`.
fn fields(line: &str) -> Vec<(&str, &str)> {
    let (head, rest) = line.split_once(": ").unwrap();
    let (priority, program) = head.strip_prefix('<').unwrap().split_once('>').unwrap();
    let priority: u8 = priority.parse().unwrap();
    assert!(priority / 8 == 2 && (3..=6).contains(&(priority % 8)), "facility mail, error to info: {line}");
    let (name, pid) = program.strip_suffix(']').unwrap().split_once('[').unwrap();
    assert!(name.starts_with("postern") && pid.parse::<u32>().is_ok(), "{line}");
    rest.split(' ')
        .map(|field| field.split_once('=').unwrap_or_else(|| panic!("{field} in {line}")))
        .collect()
}

/// Insists on the documented fields in their order; gives the event.
#[track_caller]
fn documented(line: &str) -> String {
    let found = fields(line);
    assert_eq!(found[0].0, "event", "{line}");
    let (_, says) = EVENTS.iter().find(|(name, _)| *name == found[0].1).unwrap_or_else(|| panic!("{line}"));
    let mut names = found[1..].iter().map(|(name, _)| *name).peekable();
    for word in says.split(' ') {
        let optional = word.strip_prefix('[').and_then(|w| w.strip_suffix(']'));
        let is_here = names.next_if_eq(&optional.unwrap_or(word)).is_some();
        assert!(is_here || optional.is_some(), "{word} is missing in {line}");
    }
    assert_eq!(names.next(), None, "{line}");
    found[0].1.into()
}

#[test]
fn every_event_has_its_documented_fields() {
    let sandbox = Sandbox::new();
    let mut seen = BTreeSet::new();
    let mut hear = |sandbox: &Sandbox| seen.extend(sandbox.log().iter().map(|line| documented(line)));
    hear(&sandbox);
    let sandbox = sandbox.setting("rate_limit_messages", "2").countries("DE");
    hear(&sandbox);
    sandbox.mail("alice@example.test", AMERICAN);
    hear(&sandbox);
    (0..4).for_each(|_| drop(sandbox.send("alice@example.test")));
    hear(&sandbox);
    (0..4).for_each(|n| drop(sandbox.send_locally("web", 1000, &format!("1xW1Xt-0000gl-1{n}"))));
    hear(&sandbox);
    let sandbox = sandbox.setting("country_rule", "monitor").setting("smtp_logins_from", "exim");
    hear(&sandbox);
    sandbox.mail("alice@example.test", AMERICAN);
    hear(&sandbox);
    sandbox.exim(&[], &["auth", "--address=nonsense"]);
    hear(&sandbox);
    // Guesses at a mailbox that was used well from another network before, until everything is marked.
    sandbox.api(&["set_setting", "key=smtp_logins_from", "value=exim"]);
    let outcome = |address: &str, ended: &str| {
        let words = [format!("--address={address}"), "--account=alice@example.test".into()];
        sandbox.exim(&[], &["outcome", &words[0], &words[1], &format!("--ended={ended}")]);
    };
    outcome(GERMAN, "succeeded");
    sandbox.postern(&["tick"]);
    sandbox.wait(2 * 86_400);
    for n in 0..31 {
        outcome(UNKNOWN, "failed");
        outcome(&format!("203.0.{n}.5"), "failed");
        sandbox.wait(60);
    }
    hear(&sandbox);
    // Nothing is asked: the sandbox trusts no certificate.
    sandbox.api(&["enable_feed", "feed=spamhaus-drop"]);
    hear(&sandbox);
    let file = sandbox.path("backup.tar");
    sandbox.postern(&["backup", file.to_str().unwrap()]).succeeded();
    sandbox.postern(&["restore", file.to_str().unwrap(), "--confirm"]).succeeded();
    hear(&sandbox);
    std::fs::remove_file(sandbox.state()).unwrap();
    sandbox.postern(&["tick"]);
    hear(&sandbox);
    sandbox.keeper(&[]).end();
    hear(&sandbox);
    let all: BTreeSet<String> = EVENTS.iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(seen, all);
}

#[test]
fn no_name_from_outside_makes_a_field_or_a_line_of_its_own() {
    let sandbox = Sandbox::new().countries("DE");
    sandbox.log();
    let account = "a event=trouble code=state\nevent=refuse@example.test";
    sandbox.mail(account, AMERICAN);
    sandbox.exim(&[], &["mail", &format!("--address={GERMAN}\nx=y z=1"), &format!("--account={account}")]);
    let lines = sandbox.log();
    assert!(!lines.is_empty());
    for line in &lines {
        documented(line);
        assert!(!line.contains('\n'), "{line:?}");
    }
}

#[test]
fn the_readme_tells_of_every_event_with_its_fields() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    for (event, fields) in EVENTS {
        let row = format!("| `event={event}` | `{fields}` |");
        assert!(readme.contains(&row), "{row}");
    }
}
