//! Arguments of a function: from `key=value` words, from a JSON object, or from the command line.

use crate::account::{Account, Subject};
use crate::address::{Address, Network};
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::verdict::Reference;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest note that is kept, in characters.
const LONGEST_NOTE: usize = 500;

/// What stands in an argument. Each function checks what it takes more closely; this is what the table knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mailbox or a local user.
    Account,
    /// A mailbox, a local user or a domain.
    Subject,
    /// An address.
    Address,
    /// An address or a network.
    Network,
    /// A mailbox, a local user, a domain, an address or a network.
    SubjectOrNetwork,
    /// A system, an address or a network.
    SystemOrNetwork,
    /// Countries by code or name, separated by commas.
    Countries,
    /// When something ends.
    Until,
    /// A whole number within this range.
    Number(i64, i64),
    /// `on` or `off`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The reference that a client was told.
    Reference,
    /// A sentence for people.
    Note,
    /// The path of a file.
    File,
    /// Any text that the function itself makes sense of.
    Text,
}

impl Kind {
    /// Refuses a value that is not of this kind. What was not given is of every kind.
    pub fn check(self, name: &str, given: &Arguments) -> Result<()> {
        let Some(text) = given.given(name) else { return Ok(()) };
        let what = || format!("The argument {name}");
        if let Some(long) = Some(text.chars().count()).filter(|n| *n > self.longest()) {
            let accepted = format!("at most {} characters", self.longest());
            return Err(Error::bad_value(what(), &format!("of {long} characters"), accepted));
        }
        if let Some(bad) = text.chars().find(|c| steers(*c) && !(self == Kind::Text && *c == '\n')) {
            let accepted = "text without control characters";
            return Err(Error::bad_value(what(), &bad.escape_unicode().to_string(), accepted));
        }
        let bad = |accepted: &str| Err(Error::bad_value(what(), text, accepted));
        match self {
            Kind::Account => text.parse::<Account>().map(|_| ()),
            Kind::Subject => text.parse::<Subject>().map(|_| ()),
            Kind::Address => text.parse::<Address>().map(|_| ()),
            Kind::Network => text.parse::<Network>().map(|_| ()),
            Kind::Reference => text.parse::<Reference>().map(|_| ()),
            Kind::Number(low, high) => given.number_within(name, low, high, low).map(|_| ()),
            Kind::Switch => given.is_on(name).map(|_| ()),
            Kind::Word(words) if !words.contains(&text) => bad(&format!("one of {}", words.join(", "))),
            Kind::Note if text.contains(['<', '>']) => bad("plain text without < and >"),
            Kind::SubjectOrNetwork
            | Kind::SystemOrNetwork
            | Kind::Countries
            | Kind::Until
            | Kind::Word(_)
            | Kind::Note
            | Kind::File
            | Kind::Text => Ok(()),
        }
    }

    /// Longest value, in characters.
    fn longest(self) -> usize {
        match self {
            Kind::Note => LONGEST_NOTE,
            Kind::Text => 4 * 1024 * 1024,
            Kind::File => 4096,
            _ => 1024,
        }
    }
}

/// Whether a character could steer a terminal (control characters) or turn text around (bidirectional overrides,
/// Unicode annex 9).
pub fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// Named values as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads `key=value` words.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Arguments> {
        let pair = |word: &str| match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_string(), value.to_string())),
            _ => Err(Error::bad_value("The argument", word, "give it as key=value")),
        };
        words.into_iter().map(pair).collect::<Result<_>>().map(Arguments)
    }

    /// Reads one JSON object; lists become text with commas.
    pub fn from_json(text: &str) -> Result<Arguments> {
        let bad = |what: String| {
            Error::bad_value(
                "The JSON input",
                &what,
                "one object with texts, numbers, switches or lists of them",
            )
        };
        let object: serde_json::Map<String, Value> =
            serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        let mut all = BTreeMap::new();
        for (key, value) in object {
            let text = plain(&value).ok_or_else(|| bad(format!("{key}={value}")))?;
            all.insert(key, text);
        }
        Ok(Arguments(all))
    }

    /// Adds one value.
    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.into(), value.into());
    }

    /// The names that were given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The value of this name; empty where it was not given.
    pub fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", |v| v.trim())
    }

    /// The value where it was given and is not empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|v| !v.is_empty())
    }

    /// The argument `note`.
    pub fn note(&self) -> String {
        self.text("note").into()
    }

    /// The value as a whole number.
    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        self.given(name)
            .map(|v| {
                v.parse().map_err(|_| Error::bad_value(format!("The argument {name}"), v, "a whole number"))
            })
            .transpose()
    }

    /// The value as a whole number within a range, or the default.
    pub fn number_within(&self, name: &str, low: i64, high: i64, default: i64) -> Result<i64> {
        let number = self.number(name)?.unwrap_or(default);
        if (low..=high).contains(&number) {
            return Ok(number);
        }
        let accepted = format!("a whole number from {low} to {high}");
        Err(Error::bad_value(format!("The argument {name}"), &number.to_string(), accepted))
    }

    /// Whether the switch was given as on.
    pub fn is_on(&self, name: &str) -> Result<bool> {
        match self.text(name) {
            "" | "0" | "off" | "no" | "false" => Ok(false),
            "1" | "on" | "yes" | "true" => Ok(true),
            other => Err(Error::bad_value(format!("The argument {name}"), other, "on or off")),
        }
    }

    /// The value as a future time.
    pub fn until(&self, name: &str, now: Seconds) -> Result<Option<Seconds>> {
        self.given(name).map(|text| until(name, text, now)).transpose()
    }
}

/// A value as text; none for what no argument holds.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(on) => Some(if *on { "on" } else { "off" }.into()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        // A list of entries with fields of their own is for whoever takes such a list.
        Value::Array(items) if items.iter().any(Value::is_object) => Some(value.to_string()),
        Value::Array(items) => items.iter().map(plain).collect::<Option<Vec<_>>>().map(|v| v.join(",")),
        Value::Object(_) => None,
    }
}

/// Reads an end: `2026-12-01`, `2026-12-01 18:00` (UTC), or a span from now as `90m`, `6h`, `7d`.
fn until(name: &str, text: &str, now: Seconds) -> Result<Seconds> {
    let bad = |accepted: &str| Error::bad_value(format!("The argument {name}"), text, accepted);
    let at = span(text).map(|s| now.saturating_add(s)).or_else(|| date(text));
    match at {
        Some(at) if at > now => Ok(at),
        Some(_) => Err(bad("a time in the future")),
        None => Err(bad("a date as 2026-12-01 or 2026-12-01 18:00 (UTC), or a span as 90m, 6h, 7d")),
    }
}

/// Reads a time as [`written`](crate::clock::written) writes it, or as people do.
pub(super) fn moment(text: &str) -> Result<Seconds> {
    let accepted = "a time as 2026-12-01 or 2026-12-01 18:00 (UTC)";
    date(text).ok_or_else(|| Error::bad_value("The time", text, accepted))
}

fn span(text: &str) -> Option<i64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = digits.parse().ok().filter(|n| (1..=100_000).contains(n))?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    Some(number * seconds)
}

fn date(text: &str) -> Option<Seconds> {
    let text = text.trim_end_matches("UTC").trim();
    let with_time = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S"]
        .iter()
        .find_map(|form| chrono::NaiveDateTime::parse_from_str(text, form).ok());
    let whole_day = || chrono::NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(23, 59, 59);
    with_time.or_else(whole_day).map(|t| t.and_utc().timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Seconds = 1_764_000_000; // 2025-11-24 16:00 UTC

    #[test]
    fn ends_are_read_as_people_write_them() {
        for (text, at) in [
            ("90m", NOW + 5400),
            ("+6h", NOW + 21_600),
            ("7d", NOW + 604_800),
            ("2025-11-24 16:01", NOW + 60),
            ("2025-11-24T16:01", NOW + 60),
            ("2025-11-25", NOW + 8 * 3600 + 86_399),
        ] {
            assert_eq!(until("until", text, NOW).unwrap(), at, "{text}");
        }
        for bad in ["", "h", "-1h", "0h", "2025-11-24 15:59", "2025-02-30", "tomorrow", "9999999d", "ä"] {
            assert!(until("until", bad, NOW).is_err(), "{bad}");
        }
    }

    #[test]
    fn json_and_words_give_the_same_arguments() {
        let json = Arguments::from_json(r#"{"codes":["DE","AT"],"confirm":true,"n":5}"#).unwrap();
        assert_eq!(json, Arguments::from_words(["codes=DE,AT", "confirm=on", "n=5"]).unwrap());
        assert!(Arguments::from_json("[]").is_err() && Arguments::from_json(r#"{"a":{}}"#).is_err());
        assert!(Arguments::from_words(["nothing"]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_an_end_or_an_error(text in "\\PC*") {
            let _ = until("until", &text, NOW);
            let _ = Arguments::from_json(&text);
        }
    }
}
