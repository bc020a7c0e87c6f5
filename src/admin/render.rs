//! Answers as text for people: lists as tables, objects as lines, times as dates.
//!
//! On a terminal a table fits its width: cells are shortened with `…`, sentences go on below, and where the columns
//! are too many, each row is a block of lines. Elsewhere nothing is shortened, so that scripts see everything.

use super::arguments::steers;
use crate::clock::readable;
use crate::idn;
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::io::IsTerminal;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

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

/// Fields that hold sentences: they are wrapped, not shortened.
const SENTENCES: [&str; 6] = ["says", "meaning", "about", "note", "sentence", "arguments"];

/// The field with what machines read beside the sentences.
const FOR_MACHINES: &str = "figures";

/// Widest column that is filled up with blanks where nothing is shortened, in columns of the screen.
const WIDEST: usize = 60;

/// The first column of a table, which names the row, is not made narrower than this.
const NARROWEST_NAME: usize = 40;

/// A column of sentences is not made narrower than this.
const NARROWEST_SENTENCE: usize = 24;

/// Any other column is not made narrower than this.
const NARROWEST: usize = 8;

/// Between columns.
const GAP: &str = "  ";

/// How an answer is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// How many columns the screen has; none where nothing is to be shortened.
    pub width: Option<usize>,
    /// Whether words of state are coloured.
    pub colour: bool,
}

impl Look {
    /// As standard output takes it: what is no terminal gets everything, and no colours. `COLUMNS` goes before the
    /// terminal's own word; `NO_COLOR` as no-color.org has it.
    pub fn of_standard_output() -> Look {
        if !std::io::stdout().is_terminal() {
            return Look::default();
        }
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let columns = set("COLUMNS").and_then(|n| n.parse().ok()).filter(|n| *n > 0);
        let asked = || terminal_size::terminal_size_of(std::io::stdout()).map(|(w, _)| usize::from(w.0));
        let dumb = set("TERM").is_none_or(|term| term == "dumb");
        Look { width: columns.or_else(asked).filter(|n| *n > 0), colour: set("NO_COLOR").is_none() && !dumb }
    }

    fn narrower(self, by: usize) -> Look {
        Look { width: self.width.map(|w| w.saturating_sub(by).max(1)), ..self }
    }

    /// Colours a word of state; the text may be filled up with blanks.
    fn coloured(self, key: &str, text: &str) -> String {
        let colour = match text.trim_end() {
            _ if !self.colour || key != "state" => return text.into(),
            "TROUBLE" => "1;31",
            "warning" => "33",
            "good" => "32",
            _ => return text.into(),
        };
        format!("\u{1b}[{colour}m{text}\u{1b}[0m")
    }
}

/// The text for any answer.
pub fn text(data: &Value, look: Look) -> String {
    match data {
        Value::Null => String::new(),
        Value::Array(rows) => table(rows, look),
        Value::Object(map) => object(map, look),
        other => format!("{}\n", cell("", other)),
    }
}

fn object(map: &Map<String, Value>, look: Look) -> String {
    let shown = || map.iter().filter(|(key, _)| *key != FOR_MACHINES);
    let mut out = lines(shown().filter(|(_, v)| !is_list(v)), look);
    for (key, value) in shown().filter(|(_, v)| is_list(v)) {
        let _ = write!(out, "\n{}:\n{}", plain(key), indented(&text(value, look.narrower(2))));
    }
    out
}

/// One line for each field; what is too long goes on below.
fn lines<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>, look: Look) -> String {
    let cells: Vec<_> = fields.map(|(key, value)| (key, plain(key), cell(key, value))).collect();
    let width = cells.iter().map(|(_, name, _)| name.width()).max().unwrap_or(0);
    let room = look.width.map(|all| all.saturating_sub(width + GAP.len()).max(NARROWEST));
    let mut out = String::new();
    for (key, name, value) in cells {
        for (n, part) in
            room.map_or_else(|| vec![value.clone()], |room| wrapped(&value, room)).iter().enumerate()
        {
            let name = if n == 0 { name.as_str() } else { "" };
            let _ = writeln!(out, "{}{GAP}{}", filled(name, width), look.coloured(key, part));
        }
    }
    out
}

fn is_list(value: &Value) -> bool {
    matches!(value, Value::Array(items) if items.iter().any(Value::is_object))
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("  {line}\n") }).collect()
}

fn table(rows: &[Value], look: Look) -> String {
    if rows.is_empty() {
        return "(none)\n".into();
    }
    let Some(Value::Object(first)) = rows.first() else {
        return rows.iter().map(|row| format!("{}\n", cell("", row))).collect();
    };
    let keys: Vec<&str> = first.keys().map(String::as_str).collect();
    let mut all = vec![keys.iter().map(|key| plain(&key.replace('_', " "))).collect::<Vec<_>>()];
    all.extend(rows.iter().map(|row| keys.iter().map(|key| cell(key, &row[*key])).collect()));
    let natural: Vec<usize> =
        (0..keys.len()).map(|i| all.iter().map(|cells| cells[i].width()).max().unwrap_or(0)).collect();
    let Some(width) = look.width else {
        let widths: Vec<usize> = natural.iter().map(|w| (*w).min(WIDEST)).collect();
        return all.iter().map(|cells| row(&keys, cells, &widths, look)).collect();
    };
    match fit(&keys, &natural, width) {
        Some(widths) => all
            .iter()
            .flat_map(|cells| below(&keys, cells, &widths))
            .map(|cells| row(&keys, &cells, &widths, look))
            .collect(),
        None => {
            let blocks = rows.iter().filter_map(Value::as_object).map(|map| lines(map.iter(), look));
            blocks.collect::<Vec<_>>().join("\n")
        }
    }
}

/// The widths at which all columns fit; none where they cannot. Wide columns give first.
fn fit(keys: &[&str], natural: &[usize], width: usize) -> Option<Vec<usize>> {
    let room = width.checked_sub(GAP.len() * keys.len().saturating_sub(1))?;
    let least = |i: usize| match keys[i] {
        key if SENTENCES.contains(&key) => NARROWEST_SENTENCE,
        _ if i == 0 => NARROWEST_NAME,
        _ => NARROWEST,
    };
    let at = |most: usize| -> Vec<usize> {
        natural.iter().enumerate().map(|(i, w)| (*w).min(most.max(least(i)))).collect()
    };
    (0..=room).rev().map(at).find(|widths| widths.iter().sum::<usize>() <= room)
}

/// The lines of one row: sentences go on below, other cells are shortened.
fn below(keys: &[&str], cells: &[String], widths: &[usize]) -> Vec<Vec<String>> {
    let parts: Vec<Vec<String>> = keys
        .iter()
        .zip(cells)
        .zip(widths)
        .map(|((key, cell), width)| match SENTENCES.contains(key) {
            true => wrapped(cell, *width),
            false => vec![shortened(cell, *width)],
        })
        .collect();
    let height = parts.iter().map(Vec::len).max().unwrap_or(0);
    (0..height).map(|n| parts.iter().map(|p| p.get(n).cloned().unwrap_or_default()).collect()).collect()
}

fn row(keys: &[&str], cells: &[String], widths: &[usize], look: Look) -> String {
    // Nothing is filled up at the end of the line.
    let last = cells.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
    let cell = |i: usize| match i < last {
        true => look.coloured(keys[i], &filled(&cells[i], widths[i])),
        false => look.coloured(keys[i], &cells[i]),
    };
    let cells: Vec<String> = (0..=last).map(cell).collect();
    format!("{}\n", cells.join(GAP).trim_end())
}

/// Filled up with blanks.
fn filled(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Cut to so many columns, its end told by `…`.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.into();
    }
    let (mut out, mut left) = (String::new(), width.saturating_sub(1));
    for c in text.chars() {
        let wide = c.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        out.push(c);
    }
    out + "…"
}

/// Broken at blanks into lines of so many columns; a longer word is broken where it must be.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let (n, used) = (lines.len() - 1, lines[lines.len() - 1].width());
        if used > 0 && used + 1 + word.width() <= width {
            lines[n].push(' ');
            lines[n].push_str(word);
            continue;
        }
        if used > 0 {
            lines.push(String::new());
        }
        for c in word.chars() {
            let n = lines.len() - 1;
            if lines[n].width() + c.width().unwrap_or(0) > width && !lines[n].is_empty() {
                lines.push(String::new());
            }
            let n = lines.len() - 1;
            lines[n].push(c);
        }
    }
    lines
}

/// Names come from outside: nothing in them may steer the administrator's terminal.
fn plain(text: &str) -> String {
    text.replace(steers, " ")
}

/// Columns that name an account or a domain, of which people read the one spelling and programs the other.
const NAMES: [&str; 5] = ["value", "account", "subject", "for", "scope"];

fn domain_in(name: &str) -> &str {
    name.rsplit_once('@').map_or(name, |(_, domain)| domain)
}

fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(on) => if *on { "yes" } else { "no" }.into(),
        Value::Number(n) if TIMES.contains(&key) => n.as_i64().map_or_else(|| n.to_string(), readable),
        Value::Number(n) => n.to_string(),
        Value::String(text) if text.is_empty() => "-".into(),
        Value::String(text) if NAMES.contains(&key) && idn::readable(domain_in(text)).is_some() => {
            let readable = idn::readable(domain_in(text)).unwrap_or_default();
            plain(&format!("{text} ({readable})"))
        }
        Value::String(text) => plain(text),
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
#[path = "render_tests.rs"]
mod tests;
