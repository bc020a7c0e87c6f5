use super::*;
use proptest::prelude::*;
use serde_json::json;

fn plainly(data: &Value) -> String {
    text(data, Look::default())
}

fn within(data: &Value, width: usize) -> String {
    text(data, Look { width: Some(width), colour: false })
}

#[test]
fn rows_become_a_table_with_dates() {
    let text = plainly(&json!([{ "value": "a@b.test", "until": 0 }, { "value": "c", "until": null }]));
    assert_eq!(text, "value     until\na@b.test  1970-01-01 00:00 UTC\nc         -\n");
}

#[test]
fn what_steers_a_terminal_does_not_reach_it() {
    let data = json!([{ "a\u{1b}": "x\u{1b}[2J\u{202e}y\n" }]);
    for shown in [plainly(&data), within(&data, 20)] {
        assert!(!shown.contains(|c: char| steers(c) && c != '\n'), "{shown:?}");
    }
}

#[test]
fn a_table_fits_the_screen_and_sentences_go_on_below() {
    let data = json!([{ "part": "state", "value": "a long value of the state", "says": "One two three four five six seven." }]);
    assert_eq!(
        within(&data, 42),
        "part   value      says\nstate  a long v…  One two three four five\n                  six seven.\n"
    );
    assert!(plainly(&data).contains("a long value of the state"));
}

#[test]
fn columns_that_cannot_fit_become_blocks_and_nothing_is_lost() {
    let row = json!({ "key": "default_server_geoip", "value": "DE", "meaning": "The server's own country." });
    let shown = within(&json!([row, row]), 30);
    assert_eq!(
        shown,
        "key      default_server_geoip\nvalue    DE\nmeaning  The server's own\n         country.\n"
            .repeat(2)
            .replacen("country.\nkey", "country.\n\nkey", 1)
    );
}

#[test]
fn wide_letters_take_two_columns() {
    assert_eq!(shortened("東京東京", 5), "東京…");
    assert_eq!(wrapped("東京東京", 5), ["東京", "東京"]);
    assert_eq!(
        within(&json!([{ "name": "東京", "n": 1 }, { "name": "abc", "n": 2 }]), 40),
        "name  n\n東京  1\nabc   2\n"
    );
}

#[test]
fn words_of_state_are_coloured_where_that_is_wanted_and_nothing_else() {
    let data = json!([{ "part": "TROUBLE", "state": "TROUBLE" }, { "part": "a", "state": "good" }]);
    let shown = text(&data, Look { width: None, colour: true });
    assert_eq!(
        shown,
        "part     state\nTROUBLE  \u{1b}[1;31mTROUBLE\u{1b}[0m\na        \u{1b}[32mgood\u{1b}[0m\n"
    );
}

proptest! {
    #[test]
    fn no_line_of_a_table_is_wider_than_the_screen(
        cells in prop::collection::vec("\\PC{0,40}", 4..12), width in 30usize..200,
    ) {
        let rows: Vec<Value> =
            cells.chunks_exact(4).map(|c| json!({ "a": c[0], "b": c[1], "says": c[2], "d": c[3] })).collect();
        let shown = within(&json!(rows), width);
        for line in shown.lines() {
            prop_assert!(line.width() <= width, "{:?} is {} wide", line, line.width());
        }
    }
}
