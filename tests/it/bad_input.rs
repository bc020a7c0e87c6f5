//! Bad input, for every function of the table: a clear error with a stable code, and nothing changed.

use crate::sandbox::{Ran, Sandbox, finish_with_input};
use postern::admin::arguments::{Kind, MOST_INPUT};
use postern::admin::table::{Argument, FUNCTIONS, Function};
use postern::error::CODES;
use serde_json::{Map, Value, json};

/// A value that the argument takes, so that what is bad beside it is what is refused.
fn good(argument: &Argument) -> Value {
    match argument.kind {
        Kind::Account | Kind::Subject | Kind::SubjectOrNetwork => json!("alice@example.test"),
        Kind::Address | Kind::Network => json!("192.0.2.7"),
        Kind::Countries => json!(["DE"]),
        Kind::Until => json!("2027-01-01"),
        Kind::Number(low, _) => json!(low),
        Kind::Switch => json!(true),
        Kind::Word(words) => json!(words[0]),
        Kind::Reference => json!("7K3M-92QX"),
        Kind::File => json!("/nonexistent/file"),
        Kind::Text if argument.name == "key" => json!("administration_email_address"),
        _ => json!("plain"),
    }
}

/// What the function needs, and no more.
fn needed(function: &Function) -> Map<String, Value> {
    let needed = function.arguments.iter().filter(|a| a.required);
    needed.map(|a| (a.name.to_string(), good(a))).collect()
}

/// Everything that a refused call must leave as it was.
fn kept(sandbox: &Sandbox) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let bytes = |below: &str| std::fs::read(sandbox.path(below)).unwrap();
    let networks = bytes("var/lib/postern/data/networks.mmdb");
    (bytes("var/lib/postern/settings.db"), bytes("var/lib/postern/policy.db"), networks)
}

fn call(sandbox: &Sandbox, function: &str, input: &[u8]) -> Ran {
    let mut command = sandbox.program("postern", 0, &[]);
    command.args(["api", function, "-"]);
    finish_with_input(command, input)
}

/// Asks, and insists on a refusal that names the culprit; gives its code.
#[track_caller]
fn refused(sandbox: &Sandbox, function: &str, input: &[u8], names: &str) -> String {
    let ran = call(sandbox, function, input);
    let about = || format!("{function} with {}", String::from_utf8_lossy(&input[..input.len().min(300)]));
    let answer = ran.json();
    assert_eq!((ran.status, &answer["status"]), (Some(1), &json!(0)), "{}: {answer}", about());
    let (code, sentence) =
        (answer["metadata"]["code"].as_str().unwrap(), answer["errors"][0].as_str().unwrap());
    assert!(CODES.iter().any(|(known, _)| *known == code), "{}: {answer}", about());
    assert!(sentence.contains(names), "{}: {names} is not in {sentence}", about());
    assert!(!ran.out.contains(['\u{1b}', '\u{202e}', '\0']), "{}: {}", about(), ran.out);
    code.into()
}

/// For every function of the table, with what it needs.
fn each(mut bad: impl FnMut(&Sandbox, &Function, Map<String, Value>)) {
    let sandbox = Sandbox::new().exempt_ip("198.51.100.9").setting("rate_limit_messages", "20");
    let before = kept(&sandbox);
    for function in FUNCTIONS {
        bad(&sandbox, function, needed(function));
        assert!(kept(&sandbox) == before, "{} changed something", function.name);
    }
}

fn body(object: &Map<String, Value>) -> Vec<u8> {
    serde_json::to_vec(object).unwrap()
}

fn with(object: &Map<String, Value>, name: &str, value: Value) -> Vec<u8> {
    let mut object = object.clone();
    object.insert(name.into(), value);
    body(&object)
}

#[test]
fn a_field_that_a_function_does_not_know_is_refused_by_name() {
    each(|sandbox, function, needed| {
        for name in ["colour", "<b>", "--json", "as", "who", "scope", "theirs"] {
            let input = with(&needed, name, json!("x"));
            assert_eq!(refused(sandbox, function.name, &input, name), "bad_value");
        }
        if !function.changes {
            let input = with(&needed, "generation", json!(1));
            assert_eq!(refused(sandbox, function.name, &input, "generation"), "bad_value");
        }
    });
}

#[test]
fn a_value_of_the_wrong_type_is_refused_by_the_name_of_its_argument() {
    each(|sandbox, function, needed| {
        for argument in function.arguments {
            let mut wrong = vec![json!({ "a": 1 }), json!([["DE"]]), json!([null])];
            if argument.kind != Kind::Entries {
                wrong.push(json!([{ "a": 1 }]));
            }
            if !argument.kind.takes_several() {
                wrong.push(json!(["DE", "AT"]));
            }
            match argument.kind {
                Kind::Number(..) => wrong.extend([json!(true), json!("many"), json!(1.5), json!(1e300)]),
                Kind::Switch => wrong.extend([json!(7), json!("perhaps")]),
                Kind::Text | Kind::Entries => {}
                _ => wrong.extend([json!(7), json!(true)]),
            }
            for value in wrong {
                let input = with(&needed, argument.name, value);
                assert_eq!(refused(sandbox, function.name, &input, argument.name), "bad_value");
            }
        }
    });
}

#[test]
fn a_generation_that_is_no_number_is_refused() {
    each(|sandbox, function, needed| {
        if function.changes {
            for wrong in [json!("new"), json!(-1), json!([1]), json!({})] {
                let input = with(&needed, "generation", wrong);
                assert_eq!(refused(sandbox, function.name, &input, "generation"), "bad_value");
            }
        }
    });
}

#[test]
fn a_generation_that_is_not_the_settings_own_is_a_conflict_before_anything_is_done() {
    each(|sandbox, function, needed| {
        if function.changes {
            let input = with(&needed, "generation", json!(1));
            assert_eq!(refused(sandbox, function.name, &input, "yours was 1"), "conflict");
        }
    });
}

#[test]
fn what_steers_a_terminal_turns_text_around_or_marks_it_up_is_refused() {
    each(|sandbox, function, needed| {
        for argument in function.arguments {
            let mut wrong = vec!["a\u{1b}[2Jb", "a\u{202e}b", "a\u{2066}b", "a\0b", "a\u{9b}b", "a\u{7f}b"];
            match argument.kind {
                Kind::Note => wrong.extend(["<script>alert(1)</script>", "one\nline"]),
                // What a filter is compared with may be any text; nothing of that kind is ever kept.
                Kind::Text | Kind::Entries if function.changes => {
                    wrong.extend(["<script>alert(1)</script>", "\"><img src=x>"]);
                }
                Kind::Text | Kind::Entries | Kind::File => {}
                // So may the name that somebody looks up, as lists show it: a mail server takes any for an account.
                Kind::Account if !function.changes => wrong.extend(["\"><img src=x>", "one\nline"]),
                _ => wrong.extend(["<script>alert(1)</script>", "\"><img src=x>", "one\nline"]),
            }
            for text in wrong {
                let input = with(&needed, argument.name, json!(text));
                refused(sandbox, function.name, &input, "");
            }
        }
    });
}

#[test]
fn a_value_that_is_too_long_and_a_body_that_is_too_large_are_refused_as_such() {
    each(|sandbox, function, needed| {
        for argument in function.arguments.iter().filter(|a| a.kind.longest() < 100_000) {
            let input = with(&needed, argument.name, json!("a".repeat(argument.kind.longest() + 1)));
            let names = if argument.is_switch() { argument.name } else { "characters" };
            assert_eq!(refused(sandbox, function.name, &input, names), "bad_value");
        }
        let large = [b"{\"note\":\"".as_slice(), &vec![b'a'; MOST_INPUT], b"\"}"].concat();
        assert_eq!(refused(sandbox, function.name, &large, "4 MiB"), "bad_value");
        // Not even begun as JSON.
        assert_eq!(refused(sandbox, function.name, &vec![b' '; MOST_INPUT + 1], "4 MiB"), "bad_value");
    });
}

#[test]
fn what_is_no_single_json_object_is_refused() {
    each(|sandbox, function, needed| {
        let whole = body(&needed);
        let half = &whole[..whole.len() - 1];
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let twice: Vec<u8> = [half, b",\"x\":1,\"x\":2}"].concat().replace_first(b"{,", b"{");
        let not_utf8: Vec<u8> = [half, b",\"note\":\"\xff\xfe\"}"].concat().replace_first(b"{,", b"{");
        for (input, names) in [
            (half, "JSON"),
            (b"", "JSON"),
            (b"null", "JSON"),
            (b"[]", "JSON"),
            (b"\"text\"", "JSON"),
            (b"{} {}", "JSON"),
            (deep.as_bytes(), "JSON"),
            (&twice, "twice"),
            (&not_utf8, "UTF-8"),
        ] {
            assert_eq!(refused(sandbox, function.name, input, names), "bad_value");
        }
    });
}

trait ReplaceFirst {
    fn replace_first(self, from: &[u8], to: &[u8]) -> Vec<u8>;
}

impl ReplaceFirst for Vec<u8> {
    /// For an object that needs nothing: `{` and `,` would follow each other.
    fn replace_first(self, from: &[u8], to: &[u8]) -> Vec<u8> {
        match self.strip_prefix(from) {
            Some(rest) => [to, rest].concat(),
            None => self,
        }
    }
}

#[test]
fn words_that_are_no_text_or_no_pairs_are_refused_in_the_envelope() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let sandbox = Sandbox::new();
    let before = kept(&sandbox);
    let bad = OsStr::from_bytes(b"note=\xff");
    for words in [
        vec![OsStr::new("status"), bad],
        vec![bad],
        vec![OsStr::new("add_whitelist"), OsStr::new("value")],
        vec![OsStr::new("add_whitelist"), OsStr::new("value=a@b.test"), OsStr::new("value=b@b.test")],
        vec![OsStr::new("drop_everything")],
    ] {
        let mut command = sandbox.program("postern", 0, &[]);
        command.arg("api").args(&words);
        let ran = finish_with_input(command, b"");
        assert_eq!(ran.json()["metadata"]["code"], "bad_value", "{words:?}");
    }
    assert!(kept(&sandbox) == before);
}
