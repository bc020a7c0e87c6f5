//! Arguments of a function: from `key=value` words, from a JSON object, or from the command line.

use crate::account::{Account, Subject};
use crate::address::{Address, Network};
use crate::clock::{Seconds, seconds_in};
use crate::error::{Error, Result};
use crate::verdict::Reference;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::io::Read;

/// Largest JSON object that is read, in bytes.
pub const MOST_INPUT: usize = 4 * 1024 * 1024;

/// Longest note that is kept, in characters.
const LONGEST_NOTE: usize = 500;

/// What stands in an argument. Each function checks what it takes more closely; this is what the table knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mailbox or a local user to look up, by any name that lists show.
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
    /// How long something is.
    Span,
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
    /// Paths of files, separated by commas; on the command line by blanks.
    Files,
    /// Entries of a list: lines, CSV, or in JSON a list of texts and objects.
    Entries,
    /// Any text that the function itself makes sense of.
    Text,
}

impl Kind {
    /// Refuses a value that is not of this kind. What was not given is of every kind.
    pub fn check(self, name: &str, given: &Arguments) -> Result<()> {
        let what = || format!("The argument {name}");
        if let Some(shape) = given.shapes.get(name).filter(|shape| !self.takes(shape)) {
            return Err(Error::bad_value(what(), shape.words(), self.json_words()));
        }
        let Some(text) = given.given(name) else { return Ok(()) };
        if let Some(long) = Some(text.chars().count()).filter(|n| *n > self.longest()) {
            let accepted = format!("at most {} characters", self.longest());
            return Err(Error::bad_value(what(), &format!("of {long} characters"), accepted));
        }
        if let Some(bad) = text.chars().find(|c| {
            steers(*c) && !(matches!(self, Kind::Text | Kind::Entries) && matches!(c, '\n' | '\r' | '\t'))
        }) {
            let accepted = "text without control characters";
            return Err(Error::bad_value(what(), &bad.escape_unicode().to_string(), accepted));
        }
        let bad = |accepted: &str| Err(Error::bad_value(what(), text, accepted));
        match self {
            Kind::Account => Account::meant(text).map(|_| ()),
            Kind::Subject => text.parse::<Subject>().map(|_| ()),
            Kind::Address => text.parse::<Address>().map(|_| ()),
            Kind::Network => text.parse::<Network>().map(|_| ()),
            Kind::Reference => text.parse::<Reference>().map(|_| ()),
            Kind::Number(low, high) => given.number_within(name, low, high, low).map(|_| ()),
            Kind::Switch => given.is_on(name).map(|_| ()),
            Kind::Span => given.span(name).map(|_| ()),
            Kind::Word(words) if !words.contains(&text) => bad(&format!("one of {}", words.join(", "))),
            Kind::Note if text.contains(['<', '>']) => bad("plain text without < and >"),
            Kind::SubjectOrNetwork
            | Kind::SystemOrNetwork
            | Kind::Countries
            | Kind::Until
            | Kind::Word(_)
            | Kind::Note
            | Kind::Entries
            | Kind::File
            | Kind::Files
            | Kind::Text => Ok(()),
        }
    }

    /// Whether a JSON value of this shape can be one.
    fn takes(self, shape: &Shape) -> bool {
        match shape {
            Shape::Number => matches!(self, Kind::Number(..) | Kind::Span | Kind::Text),
            Shape::Switch => matches!(self, Kind::Switch | Kind::Text),
            Shape::List(_) => self.takes_several(),
            Shape::Entries => self == Kind::Entries,
        }
    }

    /// Whether several values can stand in it, in JSON as a list.
    pub fn takes_several(self) -> bool {
        matches!(self, Kind::Countries | Kind::Entries | Kind::Files | Kind::Text)
    }

    /// What JSON values it takes, in words.
    fn json_words(self) -> &'static str {
        match self {
            Kind::Number(..) => "a number or a text",
            Kind::Switch => "true, false or a text",
            Kind::Countries | Kind::Files => "a text or a list of texts",
            Kind::Entries => "a text, or a list of texts and objects",
            Kind::Text => "a text, a number, a switch or a list of them",
            _ => "a text",
        }
    }

    /// Longest value, in characters.
    pub fn longest(self) -> usize {
        match self {
            Kind::Note => LONGEST_NOTE,
            Kind::Entries | Kind::Text | Kind::Files => MOST_INPUT,
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

/// What a value was in JSON, where it was no text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Number,
    Switch,
    /// With its JSON.
    List(String),
    /// A list with objects in it.
    Entries,
}

impl Shape {
    fn words(&self) -> &'static str {
        match self {
            Shape::Number => "a number",
            Shape::Switch => "true or false",
            Shape::List(_) => "a list",
            Shape::Entries => "a list of objects",
        }
    }
}

/// Named values as text.
#[derive(Clone, Debug, Default)]
pub struct Arguments {
    values: BTreeMap<String, String>,
    shapes: BTreeMap<String, Shape>,
}

/// What a value was written as is no part of what it says.
impl PartialEq for Arguments {
    fn eq(&self, other: &Arguments) -> bool {
        self.values == other.values
    }
}

impl Eq for Arguments {}

/// Reads JSON in which no key of an object stands twice: of two values, another reader might take the other one.
pub(super) fn strict_json(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str::<Strict>(text).map(|Strict(value)| value)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Strict, D::Error> {
        deserializer.deserialize_any(EachOnce).map(Strict)
    }
}

struct EachOnce;

impl<'de> Visitor<'de> for EachOnce {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, on: bool) -> std::result::Result<Value, E> {
        Ok(on.into())
    }

    fn visit_i64<E>(self, number: i64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> std::result::Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> std::result::Result<Value, S::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> std::result::Result<Value, M::Error> {
        let mut object = Map::new();
        while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
            if object.contains_key(&key) {
                return Err(M::Error::custom(format!("the key {key:?} stands twice")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

fn bad_json(what: &str) -> Error {
    let accepted = "one object with texts, numbers, switches or lists of them, each key once";
    Error::bad_value("The JSON input", what, accepted)
}

impl Arguments {
    /// Reads `key=value` words.
    pub fn from_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Arguments> {
        let mut all = Arguments::default();
        for word in words {
            match word.split_once('=') {
                Some((key, _)) if all.values.contains_key(key) => {
                    return Err(Error::bad_value("The argument", word, format!("give {key} once")));
                }
                Some((key, value)) if !key.is_empty() => all.set(key, value),
                _ => return Err(Error::bad_value("The argument", word, "give it as key=value")),
            }
        }
        Ok(all)
    }

    /// Reads one JSON object from a stream, to its end or to [`MOST_INPUT`].
    pub fn from_reader(input: impl Read) -> Result<Arguments> {
        let mut bytes = Vec::new();
        let most = u64::try_from(MOST_INPUT).unwrap_or(u64::MAX);
        input.take(most + 1).read_to_end(&mut bytes).map_err(Error::system("read the JSON input"))?;
        if bytes.len() > MOST_INPUT {
            let accepted = format!("at most {MOST_INPUT} bytes; send it in parts");
            return Err(Error::bad_value("The size of the JSON input", "more than 4 MiB", accepted));
        }
        let text = std::str::from_utf8(&bytes)
            .map_err(|e| bad_json(&format!("no UTF-8 from byte {} on", e.valid_up_to())))?;
        Arguments::from_json(text)
    }

    /// Reads one JSON object; lists become text with commas, lists of entries stay JSON.
    pub fn from_json(text: &str) -> Result<Arguments> {
        let Value::Object(object) = strict_json(text).map_err(|e| bad_json(&e.to_string()))? else {
            return Err(bad_json(text));
        };
        let mut all = Arguments::default();
        for (key, value) in object {
            let text = plain(&value).ok_or_else(|| bad_json(&format!("{key}={value}")))?;
            let shape = match &value {
                Value::Array(items) if items.iter().all(is_item) => Some(Shape::List(value.to_string())),
                Value::Array(_) => Some(Shape::Entries),
                Value::Number(_) => Some(Shape::Number),
                Value::Bool(_) => Some(Shape::Switch),
                Value::Null | Value::String(_) | Value::Object(_) => None,
            };
            all.shapes.extend(shape.map(|shape| (key.clone(), shape)));
            all.values.insert(key, text);
        }
        Ok(all)
    }

    /// The value where it was given and is not empty; a list as it was written in JSON.
    pub fn given_whole(&self, name: &str) -> Option<&str> {
        match self.shapes.get(name) {
            Some(Shape::List(json)) => Some(json),
            _ => self.given(name),
        }
    }

    /// Adds one value.
    pub fn set(&mut self, key: &str, value: &str) {
        self.values.insert(key.into(), value.into());
    }

    /// The names that were given.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of this name; empty where it was not given.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |v| v.trim())
    }

    /// The value where it was given and is not empty.
    pub fn given(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|v| !v.is_empty())
    }

    /// The argument `limit`, whose bounds stand in the table of functions.
    pub fn limit(&self) -> Result<u32> {
        Ok(self.number("limit")?.and_then(|n| u32::try_from(n).ok()).unwrap_or(100))
    }

    /// The argument `days`, whose bounds stand in the table of functions, or so many.
    pub fn days_or(&self, days: i64) -> Result<i64> {
        Ok(self.number("days")?.unwrap_or(days))
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

    /// The value as a number of seconds.
    pub fn span(&self, name: &str) -> Result<Option<i64>> {
        let read = |text: &str| {
            seconds_in(text).or_else(|| text.parse().ok().filter(|n| (0..=1 << 40).contains(n))).ok_or_else(
                || {
                    let accepted = "a span as 300s, 5m, 24h, 30d";
                    Error::bad_value(format!("The argument {name}"), text, accepted)
                },
            )
        };
        self.given(name).map(read).transpose()
    }

    /// The value as a future time.
    pub fn until(&self, name: &str, now: Seconds) -> Result<Option<Seconds>> {
        self.given(name).map(|text| until(name, text, now)).transpose()
    }

    /// The value as a time from which something holds: a date, whose day counts whole, or a span from now. One that lies
    /// behind us is as good as now.
    pub fn beginning(&self, name: &str, now: Seconds) -> Result<Option<Seconds>> {
        let Some(text) = self.given(name) else { return Ok(None) };
        let accepted = "a date as 2026-12-01 or 2026-12-01 18:00 (UTC), or a span as 90m, 6h, 7d";
        let at = seconds_in(text).map(|s| now.saturating_add(s)).or_else(|| beginning_of(text));
        at.map(Some).ok_or_else(|| Error::bad_value(format!("The argument {name}"), text, accepted))
    }

    /// The value as a time that lies behind us: a date, whose day counts whole, or a span back from now.
    pub fn since(&self, name: &str, now: Seconds) -> Result<Option<Seconds>> {
        let Some(text) = self.given(name) else { return Ok(None) };
        let accepted =
            "a date as 2026-11-01 or 2026-11-01 18:00 (UTC), or a span as 6h, 30d, which is not ahead";
        let at = seconds_in(text)
            .map(|s| now.saturating_sub(s))
            .or_else(|| beginning_of(text))
            .filter(|at| *at <= now);
        at.map(Some).ok_or_else(|| Error::bad_value(format!("The argument {name}"), text, accepted))
    }
}

/// What can stand in a list; a comma within would make two of it.
fn is_item(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains(','),
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// A value as text; none for what no argument holds.
pub(super) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Bool(on) => Some(if *on { "on" } else { "off" }.into()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.iter().all(is_item) => {
            items.iter().map(plain).collect::<Option<Vec<_>>>().map(|v| v.join(","))
        }
        // A list of entries with fields of their own is for whoever takes such a list.
        Value::Array(items) if items.iter().any(Value::is_object) && !items.iter().any(Value::is_array) => {
            Some(value.to_string())
        }
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// Reads an end: `2026-12-01`, `2026-12-01 18:00` (UTC), or a span from now as `90m`, `6h`, `7d`.
fn until(name: &str, text: &str, now: Seconds) -> Result<Seconds> {
    let bad = |accepted: &str| Error::bad_value(format!("The argument {name}"), text, accepted);
    let at = seconds_in(text).map(|s| now.saturating_add(s)).or_else(|| date(text));
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

/// A date whose day counts from its first second.
fn beginning_of(text: &str) -> Option<Seconds> {
    Some(date(text)? + i64::from(!text.contains(':')) * (1 - 86_400))
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
    fn a_time_behind_us_is_a_date_from_its_begin_or_a_span() {
        let since = |text: &str| {
            let given = Arguments::from_words([format!("since={text}").as_str()]).unwrap();
            given.since("since", NOW).map_err(|e| e.to_string())
        };
        assert_eq!(since(""), Ok(None));
        assert_eq!(since("2025-11-24"), Ok(Some(NOW - 16 * 3600)));
        assert_eq!(since("2025-11-24 15:00"), Ok(Some(NOW - 3600)));
        assert_eq!(since("2d"), Ok(Some(NOW - 2 * 86_400)));
        for bad in ["2025-11-25", "yesterday"] {
            assert!(since(bad).unwrap_err().contains("not ahead"), "{bad}");
        }
    }

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
        assert!(
            Arguments::from_words(["nothing"]).is_err() && Arguments::from_words(["a=1", "a=1"]).is_err()
        );
    }

    #[test]
    fn json_that_two_readers_might_read_in_two_ways_is_refused() {
        for bad in [
            r#"{"a":"1","a":"2"}"#,
            r#"{"a":"1"} {"a":"2"}"#,
            r#"{"a":["x,y"]}"#,
            r#"{"a":[["x"]]}"#,
            r#"{"a":[{"b":"1","b":"2"}]}"#,
            "[]",
            r#"{"a":[null]}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":1e999}"#,
            "",
        ] {
            assert_eq!(Arguments::from_json(bad).unwrap_err().code(), "bad_value", "{bad}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(Arguments::from_json(&deep).unwrap_err().code(), "bad_value");
    }

    #[test]
    fn a_shape_that_a_kind_does_not_have_is_refused() {
        let given = Arguments::from_json(r#"{"list":["a"],"number":5,"switch":true,"text":"x"}"#).unwrap();
        for (kind, taken) in [
            (Kind::Note, vec!["text"]),
            (Kind::Number(1, 9), vec!["number"]),
            (Kind::Switch, vec!["switch"]),
            (Kind::Text, vec!["list", "number", "switch", "text"]),
            (Kind::Countries, vec!["list", "text"]),
        ] {
            let names = ["list", "number", "switch", "text"];
            let found: Vec<_> = names.into_iter().filter(|n| kind.check(n, &given).is_ok()).collect();
            assert_eq!(found, taken, "{kind:?}");
        }
    }

    #[test]
    fn input_that_is_too_large_says_so_and_what_is_no_text_says_where() {
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(MOST_INPUT));
        assert!(Arguments::from_reader(large.as_bytes()).unwrap_err().to_string().contains("4 MiB"));
        let said = Arguments::from_reader(&b"{\"a\":\"\xff\"}"[..]).unwrap_err().to_string();
        assert!(said.contains("no UTF-8 from byte 6"), "{said}");
        let full = format!("{{\"a\":\"{}\"}}", "x".repeat(MOST_INPUT - 8));
        assert_eq!(Arguments::from_reader(full.as_bytes()).unwrap().text("a").len(), MOST_INPUT - 8);
    }

    proptest! {
        #[test]
        fn any_text_is_an_end_or_an_error(text in "\\PC*") {
            let _ = until("until", &text, NOW);
            let _ = Arguments::from_json(&text);
        }
    }
}
