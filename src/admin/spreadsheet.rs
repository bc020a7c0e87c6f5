//! Lists as CSV, for spreadsheets (RFC 4180, with `\n` at the end of a line).
//!
//! Names come from outside, and a spreadsheet takes a cell that begins with `=` and its like for a formula: such
//! text gets a `'` before it, which spreadsheets show as "this is text" (OWASP, CSV Injection).

use super::Outcome;
use super::arguments::Arguments;
use crate::error::{Error, Result};
use serde_json::Value;

/// The rows as they are; or as one text, where CSV was asked for.
pub fn or_csv(given: &Arguments, rows: Value) -> Result<Outcome> {
    match (given.text("format"), &rows) {
        ("csv", Value::Array(list)) => Ok(Outcome::whole(text(list)?)),
        _ => Ok(rows.into()),
    }
}

/// The same for an answer that has its rows in this field.
pub fn rows_or_csv(given: &Arguments, answer: Value, rows: &str) -> Result<Outcome> {
    match given.text("format") {
        "csv" => or_csv(given, answer.get(rows).cloned().unwrap_or_default()),
        _ => Ok(answer.into()),
    }
}

/// Columns are those of the first row.
fn text(rows: &[Value]) -> Result<String> {
    let columns: Vec<&String> =
        rows.first().and_then(Value::as_object).into_iter().flatten().map(|c| c.0).collect();
    let record = |row: &Value| columns.iter().map(|c| cell(&row[c.as_str()])).collect();
    written(&columns, rows.iter().map(record))
}

/// Records under the names of their columns; nothing where there are no columns.
pub(super) fn written(
    columns: &[impl AsRef<[u8]>],
    records: impl Iterator<Item = Vec<String>>,
) -> Result<String> {
    let failed = |e: csv::Error| Error::State(format!("The rows could not be written as CSV: {e}."));
    if columns.is_empty() {
        return Ok(String::new());
    }
    let records: Vec<Vec<String>> = records.collect();
    // Where a comma parts whole and fraction, spreadsheets part cells at semicolons, unless these stand in quotes.
    let quotes = match records.iter().flatten().any(|cell| cell.contains(';')) {
        true => csv::QuoteStyle::Always,
        false => csv::QuoteStyle::Necessary,
    };
    let mut writer = csv::WriterBuilder::new().quote_style(quotes).from_writer(Vec::new());
    writer.write_record(columns).map_err(failed)?;
    for record in records {
        writer.write_record(record).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|e| failed(e.into_error().into()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => harmless(text),
        Value::Array(items) => harmless(&items.iter().map(within).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

/// One of several things in a cell: a country by its code.
fn within(value: &Value) -> String {
    match value {
        Value::Object(map) => map.get("code").and_then(Value::as_str).unwrap_or_default().into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn harmless(text: &str) -> String {
    guarded(&text.replace(char::is_control, " "))
}

/// The text as a cell that no spreadsheet takes for a formula.
pub(super) fn guarded(text: &str) -> String {
    if is_like_a_formula(text) { format!("'{text}") } else { text.into() }
}

/// What [`guarded`] was given.
pub(super) fn without_guard(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|_| is_like_a_formula(cell)).unwrap_or(cell)
}

/// What begins a formula, in the width of East Asian letters too.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '\u{FF1D}', '\u{FF0B}', '\u{FF0D}', '\u{FF20}'];

/// With or without what guards it.
fn is_like_a_formula(text: &str) -> bool {
    let begins = text.trim_start_matches(|c: char| c == '\'' || c.is_whitespace());
    begins.starts_with(FORMULA)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn csv_of(rows: Value) -> String {
        let given = Arguments::from_words(["format=csv"]).unwrap();
        or_csv(&given, rows).unwrap().text.unwrap()
    }

    #[test]
    fn rows_become_lines_under_the_names_of_their_columns() {
        let rows = json!([
            { "code": "DE", "name": "Germany, \"the\"", "n": 3, "share": 60.5, "last": null },
            { "code": "", "name": "x", "n": -1, "share": 0.0, "last": [{ "code": "BR" }, { "code": "" }] },
        ]);
        assert_eq!(
            csv_of(rows),
            "code,name,n,share,last\nDE,\"Germany, \"\"the\"\"\",3,60.5,\n,x,-1,0.0,BR \n"
        );
        assert_eq!(csv_of(json!([])), "");
    }

    #[test]
    fn no_name_becomes_a_formula() {
        for name in [
            "=1+1",
            "+1",
            "-1@x.test",
            "@SUM(1)",
            "\t=1",
            " =1",
            "\r\n=1",
            "\u{a0}=1",
            "\u{ff1d}1",
            "\u{ff0b}1",
        ] {
            let text = csv_of(json!([{ "account": name }]));
            let cell = text.lines().nth(1).unwrap().trim_matches('"');
            assert!(cell.starts_with('\''), "{name:?}: {text:?}");
        }
        assert_eq!(csv_of(json!([{ "account": "alice@example.test" }])), "account\nalice@example.test\n");
    }

    #[test]
    fn no_name_becomes_a_formula_where_semicolons_part_the_cells() {
        let text = csv_of(json!([{ "account": "x;=1+1@y.test", "n": 1 }]));
        assert_eq!(text, "\"account\",\"n\"\n\"x;=1+1@y.test\",\"1\"\n");
    }

    proptest! {
        #[test]
        fn any_names_read_back_as_one_cell_each(names in prop::collection::vec("\\PC{0,20}", 1..10)) {
            let rows: Vec<Value> = names.iter().map(|n| json!({ "n": 1, "name": n })).collect();
            let text = csv_of(json!(rows));
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            let read: Vec<String> = reader.records().map(|r| r.unwrap()[1].to_string()).collect();
            prop_assert_eq!(read.len(), names.len());
            for (read, name) in read.iter().zip(&names) {
                prop_assert!(!read.trim_start().starts_with(['=', '+', '-', '@']));
                prop_assert_eq!(without_guard(read), name);
            }
        }
    }
}
