//! What is made from the table of functions: the OpenAPI document, manual pages, completions.

use crate::sandbox::{Sandbox, run};
use postern::admin::table::{FUNCTIONS, GROUPS};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

fn document(sandbox: &Sandbox) -> Value {
    let document = sandbox.postern(&["api", "--openapi"]);
    assert_eq!(document.status, Some(0), "{document:?}");
    document.json()
}

/// Every `$ref` below.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

#[test]
fn the_openapi_document_keeps_its_rules() {
    let document = document(&Sandbox::bare());
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["info"]["title"].is_string() && document["info"]["version"].is_string());
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > FUNCTIONS.len());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    let tags: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        assert!(path.starts_with('/') && item.as_object().unwrap().keys().eq(["post"]), "{path}");
        let operation = &item["post"];
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
        assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{path}");
        assert!(operation["summary"].as_str().is_some_and(|s| !s.is_empty()), "{path}");
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(status == "200" && response["description"].is_string(), "{path}");
        }
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(
            (&body["type"], &body["additionalProperties"]),
            (&json!("object"), &json!(false)),
            "{path}"
        );
        let known: BTreeSet<&String> = body["properties"].as_object().unwrap().keys().collect();
        for name in body["required"].as_array().into_iter().flatten() {
            assert!(known.iter().any(|k| *k == name), "{path} needs {name} and does not describe it");
        }
    }
    assert_eq!(ids, FUNCTIONS.iter().map(|f| f.name).collect());
}

#[test]
fn every_argument_of_every_function_is_described() {
    let document = document(&Sandbox::bare());
    for function in FUNCTIONS {
        let body = &document["paths"][format!("/{}", function.name)]["post"]["requestBody"]["content"]["application/json"]
            ["schema"];
        let mut names: BTreeSet<&str> = function.arguments.iter().map(|a| a.name).collect();
        if function.changes {
            names.insert("generation");
        }
        let properties = body["properties"].as_object().unwrap();
        assert_eq!(
            properties.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            names,
            "{}",
            function.name
        );
        for argument in function.arguments {
            let property = &properties[argument.name];
            assert!(!property["type"].is_null() && property["description"] == argument.meaning, "{property}");
            let required = body["required"].as_array().is_some_and(|all| all.contains(&json!(argument.name)));
            assert_eq!(required, argument.required, "{} of {}", argument.name, function.name);
        }
    }
}

/// Checks a value as far as the schemas of answers go.
fn matches(document: &Value, schema: &Value, value: &Value) -> bool {
    if let Some(reference) = schema["$ref"].as_str() {
        return matches(document, document.pointer(&reference[1..]).unwrap(), value);
    }
    if let Some(each) = schema["oneOf"].as_array() {
        return each.iter().filter(|one| matches(document, one, value)).count() == 1;
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        other => panic!("{other}"),
    };
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().map(|t| t.as_str().unwrap()).collect(),
        _ => vec![],
    };
    let of_type = types.is_empty() || types.iter().any(|t| is(t));
    let is_const = schema.get("const").is_none_or(|c| c == value);
    let in_enum = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    let required =
        schema["required"].as_array().into_iter().flatten().all(|n| value.get(n.as_str().unwrap()).is_some());
    let inner = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .all(|(name, schema)| value.get(name).is_none_or(|v| matches(document, schema, v)));
    let items = value
        .as_array()
        .into_iter()
        .flatten()
        .all(|item| schema.get("items").is_none_or(|s| matches(document, s, item)));
    of_type && is_const && in_enum && required && inner && items
}

#[test]
fn answers_are_as_the_document_says() {
    let sandbox = Sandbox::new();
    let document = document(&sandbox);
    let answer = json!({ "$ref": "#/components/schemas/Answer" });
    for words in [
        &["status"][..],
        &["list_functions"],
        &["add_whitelist", "value=a@b.test"],
        &["add_whitelist", "value="],
        &["remove_whitelist", "value=nobody@b.test"],
        &["set_countries", "countries="],
        &["set_setting", "key=rate_limit_messages", "value=5", "generation=0"],
        &["import_whitelist", "entries=a@b.test\nnobody here", "on_bad=keep"],
        &["no_function"],
    ] {
        let said = sandbox.postern(&[&["api"], words].concat()).json();
        assert!(matches(&document, &answer, &said), "{words:?}: {said}");
    }
    assert!(!matches(&document, &answer, &json!({ "status": 1 })));
    let mut wrong = sandbox.postern(&["api", "no_function"]).json();
    wrong["metadata"]["code"] = json!("unheard_of");
    assert!(!matches(&document, &answer, &wrong));
}

#[test]
fn the_list_of_functions_is_for_people_and_for_programs() {
    let sandbox = Sandbox::bare();
    let (list, json) =
        (sandbox.postern(&["api", "--list"]), sandbox.postern(&["api", "--list", "--json"]).json());
    for (n, function) in FUNCTIONS.iter().enumerate() {
        assert!(
            list.out.lines().any(|line| line.starts_with(&format!("{} ", function.name))),
            "{}",
            list.out
        );
        assert_eq!(json["data"][n]["function"], function.name);
    }
}

#[test]
fn every_command_has_a_manual_page_and_each_names_the_ones_below() {
    let sandbox = Sandbox::bare();
    let folder = sandbox.path("man8");
    fs::create_dir(&folder).unwrap();
    let words = ["man", folder.to_str().unwrap()];
    sandbox.postern(&words).succeeded();
    let page = |words: &[&str]| {
        let name = [&["postern"], words].concat().join("-");
        fs::read_to_string(folder.join(format!("{name}.8"))).unwrap_or_else(|e| panic!("{name}: {e}"))
    };
    let plain = |text: &str| {
        text.replace("\\-", "-")
            .replace("\\*(Aq", "'")
            .replace("\\fB", "")
            .replace("\\fI", "")
            .replace("\\fR", "")
    };
    for function in FUNCTIONS {
        let text = plain(&page(function.words));
        assert!(text.contains(".TH ") && text.contains(function.about), "{}", function.name);
        for argument in function.arguments {
            let shown = if argument.positional {
                argument.name.to_uppercase()
            } else {
                format!("--{}", argument.name.replace('_', "-"))
            };
            assert!(text.contains(&shown), "{shown} of {}: {text}", function.name);
        }
        let above = plain(&page(&function.words[..function.words.len() - 1]));
        let name = format!("postern-{}(8)", function.words.join("-"));
        assert!(above.contains(&name), "{name} is not in the page above: {above}");
    }
    for (group, about) in GROUPS {
        assert!(plain(&page(&group.split(' ').collect::<Vec<_>>())).contains(about), "{group}");
    }
    assert!(!folder.join("postern-man.8").exists(), "what is hidden has none");
    let first: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
    sandbox.postern(&words).succeeded();
    let second: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|e| fs::read(e.unwrap().path()).unwrap()).collect();
    assert!(first == second, "the same program makes the same pages");
}

#[test]
fn shells_complete_the_commands() {
    let sandbox = Sandbox::bare();
    let file = |shell: &str| {
        let path = sandbox.path(&format!("completion.{shell}"));
        fs::write(&path, sandbox.postern(&["completions", shell]).succeeded()).unwrap();
        path
    };
    let ask = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "source {}; COMP_WORDS=({line} ''); COMP_CWORD={}; _postern postern '' {}; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file("bash").display(),
            words.len(),
            words[words.len() - 1],
        );
        run(Command::new("/bin/bash").args(["--norc", "-c", &script])).succeeded()
    };
    let has = |shown: &str, word: &str| assert!(shown.lines().any(|line| line == word), "{word}: {shown}");
    for word in ["status", "exemptions", "backup", "completions"] {
        has(&ask("postern"), word);
    }
    assert!(!ask("postern").lines().any(|line| line == "man"));
    has(&ask("postern exemptions"), "ip");
    has(&ask("postern exemptions ip"), "add");
    for shell in ["zsh", "fish"] {
        assert!(fs::read_to_string(file(shell)).unwrap().contains("exemptions"), "{shell}");
        // Only where the shell is here can it say whether it understands.
        if run(Command::new("/bin/sh").args(["-c", &format!("command -v {shell}")])).status == Some(0) {
            run(Command::new(shell).arg("-n").arg(file(shell))).succeeded();
        }
    }
    assert_eq!(sandbox.postern(&["completions", "cmd.exe"]).status, Some(2));
}
