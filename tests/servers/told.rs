//! What Postern itself says of what the servers did.

use crate::clients::Reply;
use crate::rig::Scene;
use serde_json::Value;
use std::collections::BTreeMap;

/// Activity: `account address country service verdict reason`, with `-` for what is empty, and how often. An
/// event that came in two hours stands in two rows and is counted together here.
pub(crate) fn activity(scene: &Scene) -> BTreeMap<String, i64> {
    let mut events = BTreeMap::new();
    for row in scene.api(&["list_activity", "limit=10000"]).as_array().unwrap() {
        let words = ["account", "address", "country", "service", "verdict", "reason"].map(|key| {
            let word = row[key].as_str().unwrap();
            if word.is_empty() { "-" } else { word }
        });
        *events.entry(words.join(" ")).or_default() += row["n"].as_i64().unwrap();
    }
    events
}

/// An SMTP answer as one line: Exim breaks long ones at a blank and repeats the codes.
pub(crate) fn one_line(reply: &Reply) -> String {
    let mut lines =
        reply.text.lines().map(|line| line.split_at_checked("535 5.7.8 ".len()).unwrap_or((line, "")));
    let (codes, mut text) =
        lines.next_back().map_or((String::new(), String::new()), |(c, t)| (c.into(), t.into()));
    while let Some((_, before)) = lines.next_back() {
        text = format!("{before} {text}");
    }
    codes + &text
}

/// The reference that a client's text ends with: `… Reference 7K3M-92QX.`
pub(crate) fn reference(text: &str) -> Option<&str> {
    let (_, reference) = text.rsplit_once(" Reference ")?;
    reference.strip_suffix('.').filter(|r| r.len() == 9)
}

/// What Activity says under this reference: exactly one row.
#[track_caller]
pub(crate) fn under_reference(scene: &Scene, reference: &str) -> Value {
    let mut rows = scene.api(&["list_activity", &format!("reference={reference}")]);
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{reference}: {rows}");
    rows[0].take()
}

/// Country Statistics after the tally was folded: `country column`, with `-` for no country; no zeros.
pub(crate) fn statistics(scene: &Scene) -> BTreeMap<String, i64> {
    tick(scene);
    let mut figures = BTreeMap::new();
    for row in scene.api(&["country_statistics"])["rows"].as_array().unwrap() {
        let country = row["code"].as_str().filter(|c| !c.is_empty()).unwrap_or("-");
        for (column, n) in row.as_object().unwrap() {
            if let Some(n) = n.as_i64().filter(|n| *n != 0) {
                figures.insert(format!("{country} {column}"), n);
            }
        }
    }
    figures
}

/// Lines that nobody has folded yet: one for each login that was tried or ended, and each message.
pub(crate) fn tally_lines(scene: &Scene) -> usize {
    let current = scene.path("/var/lib/postern/state/tally/current");
    std::fs::read_to_string(current).unwrap_or_default().lines().count()
}

/// The minute's work; what it told.
#[track_caller]
pub(crate) fn tick(scene: &Scene) -> String {
    scene.postern(&["tick", "--verbose"]).succeeded()
}

/// What `postern status` says of a part.
#[track_caller]
pub(crate) fn status_of(scene: &Scene, part: &str) -> String {
    let status = scene.api(&["status"]);
    let row = status["parts"].as_array().unwrap().iter().find(|row| row["part"] == part);
    row.unwrap_or_else(|| panic!("no {part} in {status}"))["says"].as_str().unwrap().to_owned()
}

/// Whether a message passed uncounted because the machine was too busy, which has to be told.
pub(crate) fn was_too_busy(scene: &Scene) -> bool {
    let troubles = troubles(scene);
    ["keeper-busy", "state-locked", "deadline"].iter().any(|code| troubles.contains_key(*code))
}

/// The parts of `postern status` that are in trouble, with what is said of them.
pub(crate) fn troubles(scene: &Scene) -> BTreeMap<String, String> {
    let status = scene.api(&["status"]);
    let parts = status["parts"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rows = parts.iter().filter(|part| part["state"] == "TROUBLE");
    rows.map(|part| (text(&part["part"]), text(&part["says"]))).collect()
}
