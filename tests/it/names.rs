//! Accounts by any name that lists show, and domains with letters beyond ASCII, in both spellings.

use crate::sandbox::*;
use crate::scopes::{allowed, call_as, cpanel};
use serde_json::json;

/// Names that mail servers hand on and nobody could add to a list.
const ODD: [&str; 6] =
    ["a\"b@ann.test", "a\\b@ann.test", "what?@ann.test", "50%off@ann.test", "x@y.test@ann.test", "web.user"];

#[test]
fn whatever_name_the_limiter_stopped_can_be_looked_up_and_released() {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "1");
    for name in ODD {
        assert_eq!(sandbox.send(name), "allow\n", "{name}");
        assert!(sandbox.send(name).starts_with("defer"), "{name}");
        assert!(sandbox.mail(name, AMERICAN).starts_with("deny"), "{name}");
    }
    sandbox.postern(&["tick"]);
    let rows = sandbox.api(&["list_blocks"]);
    let shown: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap()).collect();
    assert_eq!(shown.len(), ODD.len(), "{rows}");
    for name in ODD {
        assert!(shown.contains(&name), "{name}: {rows}");
        assert_eq!(shown.iter().filter(|other| **other == name).count(), 1);
        let activity = sandbox.api_says("list_activity", &json!({ "account": name }));
        assert_eq!(activity["data"][0]["account"], name, "{activity}");
        let figures = sandbox.api_says("account_statistics", &json!({ "account": name }));
        assert_eq!(figures["data"]["rows"][0]["messages_sent"], 1, "{figures}");
        allowed(&sandbox.api_says("list_known_networks", &json!({ "account": name })), name);
        allowed(&sandbox.api_says("list_held", &json!({ "account": name })), name);
        let why = sandbox.api_says("explain", &json!({ "account": name, "address": AMERICAN }));
        assert_eq!(
            (&why["data"]["account"], &why["data"]["verdict"]),
            (&json!(name), &json!("refuse")),
            "{why}"
        );
        let released = sandbox.api_says("release_block", &json!({ "value": name, "reason": "looked at" }));
        allowed(&released, name);
        assert_eq!(sandbox.send(name), "allow\n", "{name}");
    }
    assert_eq!(sandbox.api(&["list_blocks"]), json!([]));
    // Lists take what can be typed again alone.
    for name in &ODD[..5] {
        for function in ["add_block", "add_whitelist", "add_user_exemption"] {
            let answer = sandbox.api_says(function, &json!({ "value": name }));
            assert_eq!(answer["metadata"]["code"], "bad_value", "{function} {name}: {answer}");
        }
    }
    for name in ["a b", "a\u{a0}b", "", &"a".repeat(400)] {
        let answer = sandbox.api_says("release_block", &json!({ "value": name }));
        assert_eq!(answer["metadata"]["code"], "bad_value", "{name}: {answer}");
    }
}

#[test]
fn an_odd_name_is_its_owners_alone() {
    let sandbox =
        Sandbox::new().countries("DE").setting("rate_limit_messages", "1").setting("owner_release", "on");
    cpanel(&sandbox);
    for name in ["x@otto.test@ann.test", "x@ann.test@otto.test"] {
        assert_eq!(sandbox.send(name), "allow\n");
        assert!(sandbox.send(name).starts_with("defer"));
    }
    let release = |name: &str| {
        let (value, reason) = (format!("value={name}"), "reason=mine");
        call_as(&sandbox, "owner:ann", &["release_block", &value, reason])
    };
    assert_eq!(release("x@ann.test@otto.test")["metadata"]["code"], "not_allowed");
    allowed(&release("x@otto.test@ann.test"), "hers");
    let foreign = call_as(&sandbox, "owner:ann", &["list_activity", "account=x@ann.test@otto.test"]);
    assert_eq!(foreign["metadata"]["code"], "not_allowed", "{foreign}");
    assert_eq!(sandbox.api(&["list_blocks"])[0]["value"], "x@ann.test@otto.test");
}

const ASCII: &str = "xn--mller-kva.example";

#[test]
fn a_domain_beyond_ascii_is_one_in_both_spellings() {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "1");
    let both = [format!("a@{ASCII}"), "a@müller.example".to_string()];
    for account in &both {
        assert!(sandbox.mail(account, AMERICAN).starts_with("deny"), "{account}");
    }
    let said = sandbox.postern(&["exemptions", "user", "add", "MÜLLER.example"]).succeeded();
    assert!(said.contains("xn--mller-kva.example (müller.example)"), "{said}");
    assert_eq!(sandbox.api(&["list_user_exemptions"])[0]["value"], format!("@{ASCII}"));
    let shown = sandbox.postern(&["exemptions", "user", "list"]).succeeded();
    assert!(shown.contains("@xn--mller-kva.example (müller.example)"), "{shown}");
    for account in &both {
        assert!(sandbox.mail(account, AMERICAN).starts_with("allow"), "{account}");
        let why = sandbox.api(&["explain", &format!("account={account}"), &format!("address={AMERICAN}")]);
        assert_eq!(why["reason"], "user_exempt", "{account}: {why}");
    }
    sandbox.postern(&["exemptions", "user", "remove", "müller.example"]).succeeded();
    // The same of countries and allowances.
    sandbox.postern(&["countries", "set", "US", "--for", "müller.example", "--confirm"]).succeeded();
    for account in &both {
        assert!(sandbox.mail(account, AMERICAN).starts_with("allow"), "{account}");
    }
    sandbox.postern(&["countries", "set", "FR", "--for", ASCII, "--confirm"]).succeeded();
    sandbox
        .postern(&["allowances", "add", "a@müller.example", "US", "--until", "2d", "--note", "trip"])
        .succeeded();
    for account in &both {
        assert!(sandbox.mail(account, AMERICAN).starts_with("allow"), "{account}");
        let rows = sandbox.api(&["list_activity", &format!("account={account}")]);
        assert!(!rows.as_array().unwrap().is_empty(), "{account}");
    }
    // Stopped under the one name, released under the other or the same.
    assert_eq!(sandbox.send(&both[0]), "allow\n");
    assert!(sandbox.send(&both[0]).starts_with("defer"));
    sandbox.postern(&["blocks", "release", &both[1], "--reason", "known"]).succeeded();
    assert_eq!(sandbox.api(&["list_blocks"]), json!([]));
    let bad = sandbox.postern(&["blocks", "add", "a@\u{301}.example"]).failed();
    assert!(bad.contains("not accepted"), "{bad}");
}

#[test]
fn the_panels_spelling_is_the_owners_whichever_he_types() {
    let sandbox = Sandbox::new().countries("DE").setting("owner_allowances", "on");
    cpanel(&sandbox);
    let domains = format!("*: nobody\n{ASCII}: ann\notto.test: otto\n");
    std::fs::write(sandbox.path("etc/userdomains"), domains).unwrap();
    let words = ["add_allowance", "for=a@müller.example", "from=US", "until=1d", "note=trip"];
    allowed(&call_as(&sandbox, "owner:ann", &words), "hers");
    assert_eq!(call_as(&sandbox, "owner:otto", &words)["metadata"]["code"], "not_allowed");
    let rows = call_as(&sandbox, "owner:ann", &["list_allowances"]);
    assert_eq!(rows["data"][0]["subject"], format!("a@{ASCII}"), "{rows}");
}
