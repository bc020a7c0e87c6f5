//! Many entries at once: from a file or a text of lines, CSV or JSON, into a list; and out again.
//!
//! | form | known by | an entry |
//! |---|---|---|
//! | JSON | `[` at the beginning | a text, or an object with the fields of the list |
//! | CSV (RFC 4180) | a first line that names fields | a line |
//! | lines | neither | `VALUE`, or `VALUE # note` with a blank before `#`; `#` at the beginning is a remark |
//!
//! Fields are `value, until, note` and for addresses `sending`; for temporary allowances `for, from, until, note`.
//! What [`csv_of`] writes is read again as it was. A field there that a spreadsheet would take for a formula is
//! written with `'` before it, and read without.

use super::arguments::{Arguments, Kind, strict_json};
use super::spreadsheet::{self, guarded, without_guard};
use super::{Admin, Outcome};
use crate::clock::{Seconds, written};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::store::settings::Change;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Most entries that are taken at once.
const MOST: usize = 100_000;

/// Bad lines that are named in sentences; the data name all.
const MOST_NAMED: usize = 20;

/// One entry as it was written: its fields by name, and where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Line of the text, or number of the entry in JSON; from 1.
    pub(super) line: usize,
    /// The fields, or what is wrong with the line.
    pub(super) fields: std::result::Result<Arguments, String>,
}

/// What is to be read: the argument `entries`, or the file that `file` names (`-` is standard input).
pub(super) fn text_of(given: &Arguments) -> Result<String> {
    match (given.given_whole("entries"), given.given("file")) {
        (Some(text), None) => Ok(text.into()),
        (None, Some("-")) => read(std::io::stdin(), "standard input"),
        (None, Some(path)) => {
            read(std::fs::File::open(path).map_err(Error::file("open", path.as_ref()))?, path)
        }
        _ => Err(Error::bad_value(
            "What is to be read",
            given.text("file"),
            "give either a file, or the argument entries; - is standard input",
        )),
    }
}

pub(super) fn read(from: impl Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let read = from.take(LARGEST + 1).read_to_end(&mut bytes);
    read.map_err(Error::system(format!("read {name}")))?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::bad_value("The size of", name, format!("at most {} MB", LARGEST >> 20)));
    }
    let text = String::from_utf8(bytes);
    text.map_err(|_| Error::bad_value("The text of", name, "UTF-8"))
}

/// Takes the text apart. `fields` are those of the list, the first is the one that a plain line holds.
pub(super) fn rows(text: &str, fields: &[&str]) -> Result<Vec<Row>> {
    let text = &text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let first_line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let names_fields = first_line.split(',').map(unquoted).any(|word| word == fields[0]);
    let rows = match () {
        () if first_line.starts_with('[') => from_json(text, fields)?,
        () if names_fields => from_csv(text, fields)?,
        () if fields.len() > 1 && fields[1] == "from" => {
            let accepted = format!("CSV with a first line that names its fields: {}", fields.join(","));
            return Err(Error::bad_value("The first line", first_line, accepted));
        }
        () => from_lines(text, fields[0]),
    };
    match rows.len() {
        0 => Err(Error::bad_value("What was to be read", "", "one entry at least")),
        n if n > MOST => {
            Err(Error::bad_value("The number of entries", &n.to_string(), format!("at most {MOST} at once")))
        }
        _ => Ok(rows),
    }
}

fn unquoted(word: &str) -> &str {
    word.trim().trim_matches('"')
}

fn from_lines(text: &str, field: &str) -> Vec<Row> {
    let entry = |(number, line): (usize, &str)| {
        let (value, note) = without_remark(line);
        let pairs = [(field, value.trim()), ("note", note.trim())];
        (!value.trim().is_empty()).then(|| Row { line: number + 1, fields: Ok(arguments(pairs)) })
    };
    text.lines().enumerate().filter_map(entry).collect()
}

/// The line, and the remark at its end. A `#` within a word is a letter of it: names of mailboxes may have one.
fn without_remark(line: &str) -> (&str, &str) {
    let begins = |(at, _): &(usize, &str)| line[..*at].chars().next_back().is_none_or(char::is_whitespace);
    match line.match_indices('#').find(begins) {
        Some((at, sign)) => (&line[..at], &line[at + sign.len()..]),
        None => (line, ""),
    }
}

fn arguments<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Arguments {
    let mut all = Arguments::default();
    pairs.into_iter().for_each(|(name, value)| all.set(name, value));
    all
}

fn from_csv(text: &str, known: &[&str]) -> Result<Vec<Row>> {
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let bad = |e: csv::Error| Error::bad_value("The CSV", &e.to_string(), "fields as RFC 4180 says");
    let names = reader.headers().map_err(bad)?.clone();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(Error::bad_value("The field", unknown, format!("one of {}", known.join(", "))));
    }
    if let Some(twice) = names.iter().enumerate().find(|(n, name)| names.iter().take(*n).any(|n| n == *name))
    {
        return Err(Error::bad_value("The field", twice.1, "each field once in the first line"));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(bad)?;
        let line = record.position().map_or(0, |p| usize::try_from(p.line()).unwrap_or(0));
        let fields = match record.len() <= names.len() {
            true => Ok(arguments(names.iter().zip(record.iter().map(without_guard)))),
            false => Err(format!("it has {} fields, and the first line names {}", record.len(), names.len())),
        };
        rows.push(Row { line, fields });
    }
    Ok(rows)
}

fn from_json(text: &str, known: &[&str]) -> Result<Vec<Row>> {
    let bad =
        |what: &str| Error::bad_value("The JSON list", what, "a list of texts or of objects with fields");
    let Value::Array(entries) = strict_json(text).map_err(|e| bad(&e.to_string()))? else {
        return Err(bad(text));
    };
    let entry =
        |(number, value): (usize, &Value)| Row { line: number + 1, fields: one_of_json(value, known) };
    Ok(entries.iter().enumerate().map(entry).collect())
}

fn one_of_json(value: &Value, known: &[&str]) -> std::result::Result<Arguments, String> {
    let object = match value {
        Value::String(text) => return Ok(arguments([(known[0], text.as_str())])),
        Value::Object(object) => object,
        other => return Err(format!("{other} is neither a text nor an object")),
    };
    if let Some(unknown) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!("the field {unknown:?} is not one of {}", known.join(", ")));
    }
    Arguments::from_json(&value.to_string()).map_err(|e| e.to_string())
}

/// Reads each row; those that are not accepted, with their sentences.
pub(super) fn sorted<T>(rows: Vec<Row>, mut read: impl FnMut(&Arguments) -> Result<T>) -> (Vec<T>, Vec<Bad>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    let mut progress = Progress::default();
    for row in rows {
        progress.tick();
        let entry = row.fields.and_then(|fields| read(&fields).map_err(|e| e.to_string()));
        match entry {
            Ok(entry) => good.push(entry),
            Err(why) => bad.push(Bad { line: row.line, why }),
        }
    }
    (good, bad)
}

/// A line that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Bad {
    pub(super) line: usize,
    pub(super) why: String,
}

impl Bad {
    pub(super) fn sentence(&self) -> String {
        format!("Line {}: {}", self.line, self.why)
    }
}

/// Makes the change with the good entries, if all are good or the good ones are to be kept, and says what came of it.
pub(super) fn take(
    admin: &Admin,
    given: &Arguments,
    good: usize,
    bad: &[Bad],
    make: impl FnOnce(&mut Change) -> Result<()>,
) -> Result<Outcome> {
    let data = |changed: usize| json!({ "read": good + bad.len(), "changed": changed, "bad": bad });
    let named = bad.iter().take(MOST_NAMED).map(Bad::sentence);
    let more = bad.len().checked_sub(MOST_NAMED).filter(|n| *n > 0).map(|n| format!("And {n} lines more."));
    let sentences = named.chain(more);
    if !bad.is_empty() && given.text("on_bad") != "keep" {
        let first = format!(
            "Nothing was changed: {} of {} entries are not accepted. Mend them, or take the others alone with on_bad=keep (`--on-bad keep`).",
            bad.len(),
            good + bad.len()
        );
        let failures = std::iter::once(first).chain(sentences).collect();
        // The sentences say it all.
        let text = Some(String::new());
        return Ok(Outcome { data: data(0), failures, text, refused: true, ..Outcome::default() });
    }
    let warnings = sentences.collect();
    if given.is_on("dry_run")? {
        let said = Outcome::said(format!("{good} entries would be taken. Nothing was changed."));
        return Ok(Outcome { data: data(0), warnings, ..said });
    }
    let changed = admin.change(given, |change| {
        make(change)?;
        Ok(change.rows())
    })?;
    let said = Outcome::said(format!("{good} entries were taken; {changed} changes were made."));
    Ok(Outcome { data: data(changed), warnings, ..said })
}

/// Checks the fields that every list has as the arguments of the same names are checked.
pub(super) fn check_common(fields: &Arguments) -> Result<()> {
    Kind::Note.check("note", fields)?;
    Kind::Switch.check("sending", fields)?;
    ["value", "for", "from", "until"].iter().try_for_each(|name| Kind::Text.check(name, fields))
}

/// The same entries as CSV with a first line.
pub(super) fn csv_of(fields: &[&str], rows: &[BTreeMap<&str, String>]) -> Result<String> {
    let record = |row: &BTreeMap<&str, String>| -> Vec<String> {
        fields.iter().map(|name| guarded(row.get(name).map_or("", String::as_str))).collect()
    };
    spreadsheet::written(fields, rows.iter().map(record))
}

/// An end as it is read again.
pub(super) fn end(until: Option<Seconds>) -> String {
    until.map_or_else(String::new, written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIELDS: [&str; 3] = ["value", "until", "note"];

    fn read(text: &str) -> Vec<(usize, String, String)> {
        let fields = |row: Row| {
            let fields = row.fields.unwrap();
            (row.line, fields.text("value").to_string(), fields.text("note").to_string())
        };
        rows(text, &FIELDS).unwrap().into_iter().map(fields).collect()
    }

    #[test]
    fn three_forms_say_the_same() {
        let expected = |first: usize, second: usize| {
            vec![
                (first, "a@b.test".to_string(), "the boss".to_string()),
                (second, "c.test".to_string(), String::new()),
            ]
        };
        assert_eq!(read("# who may\n\na@b.test # the boss\n c.test \n"), expected(3, 4));
        assert_eq!(read("note,value\r\nthe boss,a@b.test\r\n,c.test\r\n"), expected(2, 3));
        assert_eq!(read(r#"[{"value":"a@b.test","note":"the boss"},"c.test"]"#), expected(1, 2));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let bad = |text: &str| rows(text, &FIELDS).unwrap_err().to_string();
        assert!(bad("value,colour\na,b\n").contains("\"colour\""));
        assert!(bad("value,note,value\na,b,c\n").contains("\"value\""));
        assert!(bad("\n# nothing\n").contains("one entry at least"));
        assert!(bad("[1,").contains("JSON list"));
        let one = |text: &str| rows(text, &FIELDS).unwrap().remove(0).fields.unwrap_err();
        assert!(one("[7]").contains("neither a text nor an object"));
        assert!(one(r#"[{"value":"a","colour":1}]"#).contains("colour"));
        assert!(one("value\na,b\n").contains("it has 2 fields"));
    }

    proptest! {
        #[test]
        fn any_text_is_rows_or_an_error(text in "\\PC*|[\\[\\]{}\",:#\\n=@a-z]{0,80}") {
            let _ = rows(&text, &FIELDS);
        }

        #[test]
        fn what_is_written_is_read_again(values in prop::collection::vec(("[!-~][ -~]{0,20}", "[ -~]{0,20}"), 1..5)) {
            let table: Vec<BTreeMap<&str, String>> = values
                .iter()
                .map(|(value, note)| BTreeMap::from([("value", value.trim().into()), ("note", note.trim().into())]))
                .collect();
            let again = read(&csv_of(&FIELDS, &table).unwrap());
            let pairs: Vec<(String, String)> = again.into_iter().map(|(_, value, note)| (value, note)).collect();
            let before: Vec<(String, String)> =
                values.iter().map(|(value, note)| (value.trim().into(), note.trim().into())).collect();
            prop_assert_eq!(pairs, before);
        }
    }
}
