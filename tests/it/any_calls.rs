//! Whatever is called, in whatever order, with calls made from the table of functions: export and apply give another
//! server the same policy, and undoing gives back each policy on the way.

use crate::lists::{policy, written};
use crate::sandbox::Sandbox;
use postern::admin::arguments::Kind;
use postern::admin::table::{Argument, FUNCTIONS, Function};
use postern::settings::TABLE;
use proptest::prelude::*;

const SUBJECTS: [&str; 5] = ["a@b.test", "b.test", "user:web.user", "c@d.test", "web"];
const NETWORKS: [&str; 4] = ["192.0.2.7", "192.0.2.0/24", "2001:db8::/48", "0.0.0.0/0"];
const SYSTEMS: [&str; 4] = ["AS64500", "not:AS64500", "not:192.0.2.0/24", "AS0"];
const CODES: [&str; 4] = ["DE", "AT,Germany", "FR", ""];
const ENDS: [&str; 4] = ["", "6h", "9d", "2030-01-01 12:00"];
const VALUES: [&str; 12] =
    ["77", "on", "off", "monitor", "enforce", "policy", "DE", "", "a@b.test", "192.0.2.9", "hold", "nobody"];

/// Documents that leave something out, and one that is none.
const DOCUMENTS: [&str; 5] = [
    r#"{"postern_config":1,"whitelist":[{"value":"a@b.test","note":"x"},{"value":"d.test"}]}"#,
    r#"{"postern_config":1,"countries":{"server":["DE"],"b.test":["FR","BR"]},"settings":{"held_ceiling":5}}"#,
    r#"{"postern_config":1,"blocks":[],"ip_exemptions":[{"value":"192.0.2.7","sending":true}]}"#,
    r#"{"postern_config":1,"allowances":[{"for":"c@d.test","from":"TR","until":"2029-01-01 00:00"}]}"#,
    r#"{"postern_config":1,"whitelists":[]}"#,
];

fn one_of(values: &'static [&'static str]) -> BoxedStrategy<String> {
    prop::sample::select(values).prop_map(Into::into).boxed()
}

fn either(a: &'static [&'static str], b: &'static [&'static str]) -> BoxedStrategy<String> {
    prop_oneof![one_of(a), one_of(b)].boxed()
}

/// Lines, some with notes, some of which no list takes; or allowances as CSV.
fn entries() -> BoxedStrategy<String> {
    let line = (either(&SUBJECTS, &NETWORKS), one_of(&["", " # n", " # =1+1", " x"]))
        .prop_map(|(v, note)| v + &note);
    let lines = prop::collection::vec(line, 1..4).prop_map(|lines| lines.join("\n"));
    let grant = (one_of(&SUBJECTS), either(&["FR", "BR"], &NETWORKS))
        .prop_map(|(whose, from)| format!("{whose},{from},2030-01-01"));
    let grants =
        prop::collection::vec(grant, 1..4).prop_map(|all| format!("for,from,until\n{}\n", all.join("\n")));
    prop_oneof![lines, grants].boxed()
}

fn text(name: &str) -> BoxedStrategy<String> {
    match name {
        "key" => (0..TABLE.len()).prop_map(|n| TABLE[n].key.to_string()).boxed(),
        "value" => one_of(&VALUES),
        "from" => either(&["FR", "BR"], &NETWORKS),
        "entries" => one_of(&DOCUMENTS),
        _ => one_of(&["1xW1Xt-0000gl-1R"]),
    }
}

fn value(argument: &Argument) -> BoxedStrategy<String> {
    match argument.kind {
        Kind::Account | Kind::Subject => one_of(&SUBJECTS),
        Kind::SubjectOrNetwork => either(&SUBJECTS, &NETWORKS),
        Kind::SystemOrNetwork => either(&SYSTEMS, &NETWORKS),
        Kind::Network => one_of(&NETWORKS),
        Kind::Address => one_of(&["192.0.2.7", "2001:db8::7"]),
        Kind::Countries => one_of(&CODES),
        Kind::Until => one_of(&ENDS),
        Kind::Span => one_of(&["5m", "1h", "1d"]),
        Kind::Number(low, high) => (low..=high.min(low + 6)).prop_map(|n| n.to_string()).boxed(),
        Kind::Switch => one_of(&["on", "off"]),
        Kind::Word(words) => one_of(words),
        Kind::Reference => one_of(&["7K3M-92QX"]),
        Kind::Note => one_of(&["n", "a, \"b\"", "=1+1", ""]),
        Kind::Entries => entries(),
        Kind::File | Kind::Files => one_of(&["/nonexistent/file"]),
        Kind::Text => text(argument.name),
    }
}

/// The words of a call: what must be there, and some of the rest. A file is not there, so that what can be read
/// otherwise is mostly read so.
fn call(function: &'static Function) -> BoxedStrategy<Vec<String>> {
    let argument = |argument: &'static Argument| {
        let word = value(argument).prop_map(|value| Some(format!("{}={value}", argument.name)));
        match argument.kind {
            _ if argument.required => word.boxed(),
            Kind::File => prop_oneof![19 => Just(None), 1 => word].boxed(),
            _ if argument.name == "entries" => prop_oneof![1 => Just(None), 19 => word].boxed(),
            _ => prop_oneof![Just(None), word].boxed(),
        }
    };
    let words: Vec<_> = function.arguments.iter().map(argument).collect();
    words
        .prop_map(|words| {
            ["api".into(), function.name.into()].into_iter().chain(words.into_iter().flatten()).collect()
        })
        .boxed()
}

/// Calls of every function that changes something, but one that lays all folders anew for the users of this machine.
fn calls(but: &'static [&'static str]) -> impl Strategy<Value = Vec<Vec<String>>> {
    let is_meant = |f: &&Function| f.changes && f.name != "init" && !but.contains(&f.name);
    let all: Vec<_> = FUNCTIONS.iter().filter(is_meant).map(call).collect();
    prop::collection::vec(proptest::strategy::Union::new(all), 1..20)
}

fn make(sandbox: &Sandbox, call: &[String]) -> bool {
    let words: Vec<&str> = call.iter().map(String::as_str).collect();
    sandbox.postern(&words).json()["status"] == 1
}

fn generation(sandbox: &Sandbox) -> i64 {
    sandbox.api(&["get_settings"])["generation"].as_i64().unwrap()
}

#[test]
fn a_good_part_of_the_calls_is_taken_and_changes_something() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let (mut runner, sandbox) = (TestRunner::deterministic(), Sandbox::new());
    let mut changed = std::collections::BTreeSet::new();
    for _ in 0..15 {
        for call in calls(&[]).new_tree(&mut runner).unwrap().current() {
            let before = generation(&sandbox);
            make(&sandbox, &call);
            if generation(&sandbox) > before {
                changed.insert(call[1].clone());
            }
        }
    }
    assert!(changed.len() > 15, "{changed:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn export_and_apply_on_an_empty_server_give_the_same_policy(calls in calls(&[])) {
        let sandbox = Sandbox::new();
        for call in &calls {
            make(&sandbox, call);
        }
        let other = Sandbox::new();
        let file = written(&other, &sandbox.postern(&["config", "export"]).succeeded());
        other.postern(&["config", "apply", &file, "--confirm"]).succeeded();
        prop_assert_eq!(policy(&other), policy(&sandbox));
        let exported = [&sandbox, &other].map(|s| s.postern(&["config", "export"]).succeeded());
        prop_assert_eq!(&exported[0], &exported[1]);
        let again = other.api(&["apply_config", &format!("file={file}")]);
        prop_assert_eq!(&again["changed"], false);
    }

    #[test]
    fn undoing_gives_back_the_bytes_of_each_policy_on_the_way(calls in calls(&["undo"])) {
        let sandbox = Sandbox::new();
        let mut policies = Vec::new();
        for call in &calls {
            let before = (generation(&sandbox), policy(&sandbox));
            let done = make(&sandbox, call);
            match generation(&sandbox) > before.0 {
                true => policies.push(before.1),
                false => prop_assert_eq!(policy(&sandbox), before.1, "{:?} {}", call, done),
            }
        }
        while let Some(before) = policies.pop() {
            sandbox.api(&["undo"]);
            prop_assert_eq!(policy(&sandbox), before);
        }
    }
}
