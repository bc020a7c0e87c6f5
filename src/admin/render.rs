//! Answers as text for people: lists as tables, objects as lines, times as dates.

use crate::clock::readable;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Fields that hold epoch seconds.
const TIMES: [&str; 10] = [
    "at",
    "since",
    "until",
    "first",
    "last",
    "sent",
    "built_at",
    "published",
    "last_asked",
    "countries_since",
];

/// Widest column but the last, in characters.
const WIDEST: usize = 60;

/// The text for any answer.
pub fn text(data: &Value) -> String {
    match data {
        Value::Null => String::new(),
        Value::Array(rows) => table(rows),
        Value::Object(map) => object(map),
        other => format!("{}\n", cell("", other)),
    }
}

fn object(map: &Map<String, Value>) -> String {
    let mut out = String::new();
    let width = map.iter().filter(|(_, v)| !is_list(v)).map(|(k, _)| k.len()).max().unwrap_or(0);
    for (key, value) in map.iter().filter(|(_, v)| !is_list(v)) {
        let _ = writeln!(out, "{key:width$}  {}", cell(key, value));
    }
    for (key, value) in map.iter().filter(|(_, v)| is_list(v)) {
        let _ = write!(out, "\n{key}:\n{}", indented(&text(value)));
    }
    out
}

fn is_list(value: &Value) -> bool {
    matches!(value, Value::Array(items) if items.iter().any(Value::is_object))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

fn table(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "(none)\n".into();
    }
    let Some(Value::Object(first)) = rows.first() else {
        return rows.iter().map(|row| format!("{}\n", cell("", row))).collect();
    };
    let columns: Vec<&String> = first.keys().collect();
    let mut lines = vec![columns.iter().map(|c| c.replace('_', " ")).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|c| cell(c, &row[c.as_str()])).collect()));
    let width = |i: usize| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0).min(WIDEST);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:w$}", w = *w)).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(on) => if *on { "yes" } else { "no" }.into(),
        Value::Number(n) if TIMES.contains(&key) => n.as_i64().map_or_else(|| n.to_string(), readable),
        Value::Number(n) => n.to_string(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) => text.replace(char::is_control, " "),
        Value::Array(items) => {
            let cells: Vec<String> = items.iter().map(|i| cell("", i)).collect();
            if cells.is_empty() { "-".into() } else { cells.join(", ") }
        }
        Value::Object(map) => match map.get("code") {
            Some(code) => cell("", code),
            None => map.values().map(|v| cell("", v)).collect::<Vec<_>>().join(" "),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_become_a_table_with_dates() {
        let text = text(&json!([{ "value": "a@b.test", "until": 0 }, { "value": "c", "until": null }]));
        assert_eq!(text, "value     until\na@b.test  1970-01-01 00:00 UTC\nc         -\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!text(&json!([{ "a": "x\u{1b}[2Jy\n" }])).contains('\u{1b}'));
    }
}
