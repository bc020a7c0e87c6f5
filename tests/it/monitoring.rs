//! `postern status` as monitoring programs call it.

use crate::sandbox::Sandbox;
use std::collections::{BTreeMap, BTreeSet};

/// A sample of Prometheus's text: labels and value.
type Sample = (BTreeMap<String, String>, f64);

/// Reads text format 0.0.4 more strictly than Prometheus does: each family has HELP, then TYPE, then its samples in one
/// piece; names have their letters, labels their escapes; no series stands twice; the last line ends.
fn prometheus(text: &str) -> BTreeMap<String, Vec<Sample>> {
    assert!(text.ends_with('\n') && !text.contains('\r'));
    let mut families: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let (mut current, mut typed) = (String::new(), false);
    let mut series = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(
                is_name(name) && !help.is_empty() && families.insert(name.into(), vec![]).is_none(),
                "{line}"
            );
            (current, typed) = (name.into(), false);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest, format!("{current} gauge"), "{line}");
            assert!(!typed, "{line}");
            typed = true;
        } else {
            let (name, rest) = line.split_at(line.find([' ', '{']).unwrap());
            assert!(typed && name == current, "{line}");
            let (labels, value) = labels(rest);
            assert!(series.insert((name.to_string(), labels.clone())), "twice: {line}");
            families.get_mut(name).unwrap().push((labels, value.parse().unwrap()));
        }
    }
    families
}

fn is_name(name: &str) -> bool {
    name.starts_with("postern_")
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The labels, and what stands behind them.
fn labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut found = BTreeMap::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (found, text.strip_prefix(' ').unwrap()) };
    loop {
        let (name, value) = rest.split_once("=\"").unwrap();
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{text}");
        let (mut chars, mut read) = (value.char_indices(), String::new());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => read.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("no such escape: {c} in {text}"),
                }),
                (_, c) => read.push(c),
            }
        };
        assert!(found.insert(name.to_string(), read).is_none(), "{text}");
        rest = &value[end + 1..];
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return (found, rest.strip_prefix("} ").unwrap()),
        }
    }
}

/// Nagios's line: its word, its text, its performance data by label.
fn nagios(line: &str) -> (String, String, BTreeMap<String, String>) {
    assert_eq!((line.matches('\n').count(), line.ends_with('\n')), (1, true), "{line}");
    let (text, data) = line.trim_end().split_once(" | ").unwrap();
    let (word, text) = text.strip_prefix("POSTERN ").unwrap().split_once(" - ").unwrap();
    let mut figures = BTreeMap::new();
    for one in data.split(' ') {
        let (label, value) = one.split_once('=').unwrap();
        assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_') && label.len() <= 19, "{one}");
        let parts: Vec<&str> = value.split(';').collect();
        assert_eq!(parts.len(), 4, "value;warning;critical;least in {one}");
        let number = parts[0].strip_suffix('s').unwrap_or(parts[0]);
        assert!(number.parse::<i64>().is_ok(), "{one}");
        figures.insert(label.to_string(), number.to_string());
    }
    (word.into(), text.into(), figures)
}

#[test]
fn nagios_gets_one_line_and_the_exit_status_of_the_worst_part() {
    let sandbox = Sandbox::new().countries("DE");
    let ran = sandbox.postern(&["status", "--format", "nagios"]);
    let (word, text, figures) = nagios(&ran.out);
    assert_eq!((ran.status, word.as_str()), (Some(1), "WARNING"), "{text}");
    assert!(text.contains("NOT COVERED") && figures["warnings"] != "0" && figures["troubles"] == "0");
    assert_eq!(figures["data_age"], "86400");

    std::fs::remove_file(sandbox.path("var/lib/postern/data/networks.mmdb")).unwrap();
    let ran = sandbox.postern(&["status", "--format=nagios"]);
    let (word, text, figures) = nagios(&ran.out);
    assert_eq!((ran.status, word.as_str()), (Some(2), "CRITICAL"));
    assert!(
        text.starts_with("network data: ") && figures["troubles"] == "1" && !figures.contains_key("data_age")
    );
}

#[test]
fn who_may_not_look_gets_unknown_and_is_told_how_to_look() {
    let sandbox = Sandbox::new();
    let ran = sandbox.postern_as(crate::sandbox::THIEF, &["status", "--format", "nagios"]);
    assert_eq!(ran.status, Some(3), "{ran:?}");
    assert!(ran.out.starts_with("POSTERN UNKNOWN - ") && ran.out.contains("as root"), "{ran:?}");
}

#[test]
fn a_status_that_is_good_is_ok_for_nagios() {
    let systems = "192.0.2.128,192.0.2.191,24940,Hetzner Online GmbH\n";
    let sandbox = Sandbox::new().with_systems(systems).countries("DE").setting("source_rule", "enforce");
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    for (door, service) in [
        ("dovecot-gate", "smtp"),
        ("dovecot-gate", "imap"),
        ("dovecot-gate", "pop3"),
        ("exim-data", "smtp"),
        ("exim-local", "local"),
    ] {
        db.execute("INSERT INTO door VALUES (?1, ?2, ?3)", (door, service, sandbox.now())).unwrap();
    }
    drop(db);
    let ran = sandbox.postern(&["status", "--format", "nagios"]);
    assert_eq!(ran.status, Some(0), "{ran:?}\n{}", sandbox.postern(&["status"]).out);
    assert!(ran.out.starts_with("POSTERN OK - "), "{ran:?}");
}

#[test]
fn prometheus_gets_every_family_with_help_type_and_stable_names() {
    let sandbox = Sandbox::new().countries("DE");
    sandbox.send("alice@example.test");
    sandbox.postern(&["tick"]).succeeded();
    let ran = sandbox.postern(&["status", "--format", "prometheus"]);
    let families = prometheus(&ran.out);
    assert_eq!(ran.status, Some(0));
    let names: Vec<&str> = families.keys().map(String::as_str).collect();
    // Never change one of these: dashboards and alerts hang on them.
    assert_eq!(
        names,
        [
            "postern_build_info",
            "postern_data_built_timestamp_seconds",
            "postern_door_asked_timestamp_seconds",
            "postern_health",
            "postern_keeper_up",
            "postern_notices_waiting",
            "postern_part_health",
            "postern_policy_generation",
            "postern_policy_published_timestamp_seconds",
            "postern_report_timestamp_seconds",
            "postern_rule_mode",
            "postern_settings_generation",
            "postern_stopped_senders",
            "postern_trouble_last_timestamp_seconds",
            "postern_trouble_marks",
        ]
    );
    let single = |name: &str| families[name][0].1;
    assert_eq!(single("postern_settings_generation"), single("postern_policy_generation"));
    assert_eq!(single("postern_report_timestamp_seconds") as i64, sandbox.now());
    let enforced = families["postern_rule_mode"]
        .iter()
        .find(|(l, _)| l["rule"] == "country_rule" && l["mode"] == "enforce");
    assert_eq!(enforced.unwrap().1, 1.0);
    let (door, at) = &families["postern_door_asked_timestamp_seconds"][0];
    assert_eq!((door["door"].as_str(), door["service"].as_str()), ("exim-data", "smtp"));
    assert_eq!(*at as i64, sandbox.now());
}

#[test]
fn what_mail_users_write_into_the_state_makes_no_series() {
    let sandbox = Sandbox::new();
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    for n in 0..100 {
        db.execute("INSERT INTO door(name, service, last) VALUES (?1, 'smtp', 1)", [format!("x\"}} 1\n{n}")])
            .unwrap();
    }
    drop(db);
    let families = prometheus(&sandbox.postern(&["status", "--format", "prometheus"]).out);
    assert!(families["postern_door_asked_timestamp_seconds"].is_empty());
}

#[test]
fn text_and_json_tell_the_same_and_exit_with_0() {
    let sandbox = Sandbox::new();
    let (text, json) = (sandbox.postern(&["status"]), sandbox.postern(&["status", "--format", "json"]));
    assert_eq!((text.status, json.status), (Some(0), Some(0)));
    assert_eq!(json.json()["data"]["state"], "warning");
    assert_eq!(json.json()["data"], sandbox.postern(&["status", "--json"]).json()["data"]);
    assert_eq!(json.json()["data"], sandbox.api(&["status"]));
    for part in json.json()["data"]["parts"].as_array().unwrap() {
        assert!(text.out.contains(part["part"].as_str().unwrap()), "{part}");
    }
    assert!(!text.out.contains("figures"));
    let refused = sandbox.postern(&["status", "--format", "xml"]);
    assert!(refused.err.contains("nagios") && refused.status == Some(1), "{refused:?}");
}
