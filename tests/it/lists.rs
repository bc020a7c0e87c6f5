//! Many at once: import and export of every list, the whole configuration as a document, and undo.

use crate::sandbox::{AMERICAN, Ran, Sandbox};
use serde_json::{Value, json};
use std::fs;

const ALICE: &str = "alice@example.test";

/// What is published for the rules; not when, and by which change.
pub(crate) fn policy(sandbox: &Sandbox) -> Vec<(String, Vec<u8>, Value)> {
    let db = rusqlite::Connection::open(sandbox.path("var/lib/postern/policy.db")).unwrap();
    let mut statement = db.prepare("SELECT kind, key, value FROM fact ORDER BY kind, key").unwrap();
    let rows = statement.query_map([], |row| {
        let mut value: Value =
            serde_json::from_str(&row.get::<_, String>(2)?).unwrap_or_else(|_| Value::Null);
        if let Some(head) = value.as_object_mut().filter(|head| head.contains_key("generation")) {
            head.remove("generation");
            head.remove("published");
        }
        let text = row.get::<_, String>(2)?;
        let value = if value.is_null() { Value::String(text) } else { value };
        Ok((row.get(0)?, row.get(1)?, value))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

pub(crate) fn written(sandbox: &Sandbox, text: &str) -> String {
    let path = sandbox.path("list.txt");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

fn import(sandbox: &Sandbox, words: &[&str], text: &str, more: &[&str]) -> Ran {
    let file = written(sandbox, text);
    sandbox.postern(&[words, &["import", &file], more].concat())
}

fn values(rows: &Value) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row["value"].as_str().unwrap().into()).collect()
}

#[test]
fn a_flat_file_of_another_product_is_taken_line_by_line() {
    let sandbox = Sandbox::new();
    let said = import(
        &sandbox,
        &["exemptions", "user"],
        "# ours\nalice@example.test # the boss\n\nexample.org\n",
        &[],
    );
    assert_eq!(said.succeeded(), "2 entries were taken; 2 changes were made.\n");
    let rows = sandbox.api(&["list_user_exemptions"]);
    assert_eq!(values(&rows), ["@example.org", ALICE]);
    assert_eq!(rows[1]["note"], "the boss");
    let again = import(&sandbox, &["exemptions", "user"], "alice@example.test # the boss\n", &[]);
    assert_eq!(again.succeeded(), "1 entries were taken; 0 changes were made.\n");
}

#[test]
fn a_bad_line_is_named_and_nothing_or_the_good_ones_are_taken_as_asked() {
    let sandbox = Sandbox::new();
    let text = "192.0.2.7\nnonsense\n2001:db8::/32\n0.0.0.0/0\n";
    let refused = import(&sandbox, &["exemptions", "ip"], text, &[]);
    assert_eq!((refused.status, refused.out.as_str()), (Some(1), ""));
    assert!(
        refused.err.starts_with("Nothing was changed: 2 of 4 entries are not accepted."),
        "{}",
        refused.err
    );
    assert!(refused.err.contains("Line 2: ") && refused.err.contains("Line 4: 0.0.0.0/0 was not added"));
    assert_eq!(values(&sandbox.api(&["list_ip_exemptions"])), [""; 0]);
    let kept = import(&sandbox, &["exemptions", "ip"], text, &["--on-bad", "keep"]);
    assert_eq!(kept.status, Some(0));
    assert!(kept.err.contains("Warning: Line 2: "), "{}", kept.err);
    assert_eq!(values(&sandbox.api(&["list_ip_exemptions"])), ["192.0.2.7", "2001:db8::/32"]);
    let meant = import(&sandbox, &["exemptions", "ip"], "0.0.0.0/0\n", &["--confirm"]);
    meant.succeeded();
}

#[test]
fn the_api_takes_many_as_text_or_as_a_json_list() {
    let sandbox = Sandbox::new();
    let body = json!({ "entries": [{ "value": ALICE, "note": "vip", "until": "7d" }, "example.org"] });
    let answer = sandbox.api_says("import_whitelist", &body);
    assert_eq!((&answer["status"], &answer["data"]["changed"]), (&json!(1), &json!(2)), "{answer}");
    let body = json!({ "entries": [{ "value": ALICE, "colour": "red" }, 7] });
    let answer = sandbox.api_says("import_whitelist", &body);
    assert_eq!((&answer["status"], &answer["metadata"]["code"]), (&json!(0), &json!("refused")));
    assert_eq!(answer["data"]["bad"].as_array().unwrap().len(), 2, "{answer}");
    for body in
        [json!({}), json!({ "entries": "" }), json!({ "entries": "a@b.test", "file": "/etc/hostname" })]
    {
        assert_eq!(sandbox.api_says("import_whitelist", &body)["metadata"]["code"], "bad_value", "{body}");
    }
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.api(&[
        "add_ip_exemption",
        "value=192.0.2.0/24",
        "note==1+1, \"x\"",
        "sending=on",
        "until=2026-12-01 18:00",
    ]);
    sandbox.api(&["add_user_exemption", "value=example.org", "note=@all"]);
    sandbox.api(&["add_user_exemption", "value=user:web.user"]);
    sandbox.api(&["add_whitelist", &format!("value={ALICE}"), "until=7d"]);
    sandbox.api(&["add_block", "value=198.51.100.0/24"]);
    sandbox.api(&["add_block", "value=thief@example.test", "note=abuse"]);
    sandbox.api(&["add_allowance", "for=example.org", "from=FR", "until=9d", "note=fair"]);
    let other = Sandbox::new();
    for words in
        [&["exemptions", "ip"][..], &["exemptions", "user"], &["whitelist"], &["blocks"], &["allowances"]]
    {
        let csv = sandbox.postern(&[words, &["export"]].concat()).succeeded();
        assert!(csv.starts_with("value,until,note") || csv.starts_with("for,from,until,note"), "{csv}");
        import(&other, words, &csv, &[]).succeeded();
        assert_eq!(other.postern(&[words, &["export"]].concat()).succeeded(), csv);
    }
    assert!(sandbox.postern(&["exemptions", "ip", "export"]).succeeded().contains("\"'=1+1, \"\"x\"\"\",on"));
    assert_eq!(policy(&other), policy(&sandbox));
}

#[test]
fn a_block_that_an_imported_exemption_contradicts_is_lifted() {
    let sandbox = Sandbox::new().blocked(ALICE);
    sandbox.api(&["add_block", "value=192.0.2.9"]);
    let said = import(&sandbox, &["exemptions", "user"], "alice@example.test\n", &[]).succeeded();
    assert!(said.contains("The block of alice@example.test was lifted with it."), "{said}");
    import(&sandbox, &["exemptions", "ip"], "192.0.2.0/24\n", &[]).succeeded();
    assert_eq!(sandbox.api(&["list_blocks"]), json!([]));
}

#[test]
fn a_whitelisted_sender_is_stopped_no_longer() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    sandbox.sends_freely(ALICE, 1);
    assert!(sandbox.send(ALICE).starts_with("defer "));
    import(&sandbox, &["whitelist"], "example.test\n", &[]).succeeded();
    assert_eq!((sandbox.send(ALICE).as_str(), sandbox.api(&["list_blocks"])), ("allow\n", json!([])));
}

#[test]
fn ten_thousand_exemptions_are_one_change_and_one_undo() {
    let sandbox = Sandbox::new();
    let before = (policy(&sandbox), sandbox.api(&["get_settings"])["generation"].as_i64().unwrap());
    let text: String = (0..10_000).map(|n| format!("user{n}@example.test\n")).collect();
    import(&sandbox, &["exemptions", "user"], &text, &[]).succeeded();
    assert_eq!(sandbox.api(&["list_user_exemptions"]).as_array().unwrap().len(), 10_000);
    assert_eq!(sandbox.api(&["get_settings"])["generation"].as_i64().unwrap(), before.1 + 1);
    assert!(sandbox.log().len() < 100, "a log is for reading");
    let said = sandbox.postern(&["undo"]).succeeded();
    assert!(said.contains("And 9990 more; `postern audit` lists them."), "{said}");
    assert_eq!(policy(&sandbox), before.0);
}

#[test]
fn undo_tells_what_it_does_and_refuses_what_it_cannot() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "7");
    let said = sandbox.postern(&["undo"]).succeeded();
    assert!(
        said.starts_with("Change ") && said.contains("set_setting of rate_limit_messages: 150 instead of 7."),
        "{said}"
    );
    sandbox.api(&["set_setting", "key=rate_limit_messages", "value=8"]);
    let first = sandbox.api(&["list_audit", "limit=1"])[0]["generation"].as_i64().unwrap().to_string();
    sandbox.api(&["set_setting", "key=rate_limit_messages", "value=9"]);
    let refused = sandbox.postern(&["undo", &first]);
    assert_eq!(refused.status, Some(1));
    assert!(refused.err.contains("rate_limit_messages was changed again since"), "{}", refused.err);
    assert!(sandbox.postern(&["undo", "4711"]).err.contains("There is no change 4711"));
    let late = sandbox.postern(&["undo", "--generation", "1"]);
    assert!(late.err.contains("changed by somebody else"), "{}", late.err);
}

#[test]
fn a_document_is_applied_once_and_the_second_time_nothing_changes() {
    let sandbox = Sandbox::new();
    let document = json!({
        "postern_config": 1,
        "settings": { "rate_limit_messages": 99, "allow_server_country": false },
        "countries": { "server": ["DE", "Austria"], "example.org": ["FR"] },
        "whitelist": [{ "value": "news@example.test", "note": "weekly" }],
    });
    let file = written(&sandbox, &document.to_string());
    sandbox.api(&["add_whitelist", "value=old@example.test"]);
    sandbox.api(&["add_user_exemption", "value=left@example.test"]);
    let diff = sandbox.postern(&["config", "diff", &file]).succeeded();
    for line in [
        "6 things would be changed:",
        "setting rate_limit_messages: 150 -> 99",
        "countries server: no list -> AT,DE",
        "countries example.org: no list -> FR",
        "Per-User Rate Limiter Whitelist old@example.test: there -> not there",
    ] {
        assert!(diff.contains(line), "{line} in {diff}");
    }
    let dry = sandbox.api(&["apply_config", &format!("file={file}"), "dry_run=on"]);
    assert_eq!((&dry["changed"], dry["changes"].as_array().unwrap().len()), (&json!(false), 6));
    assert_eq!(sandbox.api(&["apply_config", &format!("file={file}")])["changed"], true);
    assert_eq!(
        sandbox.api(&["apply_config", &format!("file={file}")]),
        json!({ "changed": false, "changes": [] })
    );
    assert_eq!(
        values(&sandbox.api(&["list_user_exemptions"])),
        ["left@example.test"],
        "what it leaves out stays"
    );
    assert_eq!(values(&sandbox.api(&["list_whitelist"])), ["news@example.test"]);
    let before = policy(&sandbox);
    sandbox.postern(&["undo"]).succeeded();
    assert_eq!(values(&sandbox.api(&["list_whitelist"])), ["old@example.test"]);
    sandbox.api(&["apply_config", &format!("file={file}")]);
    assert_eq!(policy(&sandbox), before);
}

#[test]
fn a_document_that_is_wrong_anywhere_changes_nothing() {
    let sandbox = Sandbox::new();
    let before = (policy(&sandbox), sandbox.api(&["get_settings"])["generation"].clone());
    let whole = |part: &str, value: Value| json!({ "postern_config": 1, "settings": { "held_ceiling": 3 }, part: value });
    let mut wrong = vec![
        (json!({ "postern_config": 2 }).to_string(), "bad_value"),
        (json!({ "settings": {} }).to_string(), "bad_value"),
        ("[]".into(), "bad_value"),
        ("{".into(), "bad_value"),
    ];
    for (part, value, code) in [
        ("colour", json!([]), "bad_value"),
        ("countries", json!({ "server": ["Atlantis"] }), "bad_value"),
        ("countries", json!({ "a b": ["DE"] }), "bad_value"),
        ("countries", json!({ "example.org": [] }), "needs_confirmation"),
        ("whitelist", json!(["a@b.test"]), "bad_value"),
        ("whitelist", json!([{ "value": "a@b.test" }, { "value": "A@B.test" }]), "bad_value"),
        ("whitelist", json!([{ "value": "a@b.test", "note": "<script>" }]), "bad_value"),
        ("ip_exemptions", json!([{ "value": "0.0.0.0/0" }]), "needs_confirmation"),
        ("blocks", json!([{ "value": "127.0.0.1" }]), "bad_value"),
        ("allowances", json!([{ "for": "a@b.test", "from": "DE" }]), "bad_value"),
        ("allowances", json!([{ "for": "a@b.test", "from": "DE", "until": "soon" }]), "bad_value"),
    ] {
        wrong.push((whole(part, value).to_string(), code));
    }
    let settings = json!({ "postern_config": 1, "settings": { "country_rule": "enforce" } });
    wrong.push((settings.to_string(), "needs_confirmation"));
    for (text, code) in wrong {
        let answer = sandbox.api_says("apply_config", &json!({ "entries": text }));
        assert_eq!(
            (&answer["status"], &answer["metadata"]["code"]),
            (&json!(0), &json!(code)),
            "{text}: {answer}"
        );
    }
    assert_eq!((policy(&sandbox), sandbox.api(&["get_settings"])["generation"].clone()), before);
}

#[test]
fn what_has_ended_is_left_out_of_an_old_document_and_told() {
    let sandbox = Sandbox::new();
    sandbox.api(&["add_whitelist", "value=a@b.test", "until=6h"]);
    let exported = sandbox.postern(&["config", "export"]).succeeded();
    let other = Sandbox::new();
    other.wait(7 * 3600);
    let file = written(&other, &exported);
    let said = other.postern(&["config", "apply", &file]);
    assert_eq!(said.status, Some(0));
    assert!(said.err.contains("Warning: a@b.test was left out: it ended 2026-"), "{}", said.err);
    assert_eq!(other.api(&["list_whitelist"]), json!([]));
}

#[test]
fn a_number_sign_within_a_name_begins_no_remark() {
    let sandbox = Sandbox::new();
    let text = "sales#1@example.test # the shop\n#left@example.test\nplain@example.test\t# tab\n";
    import(&sandbox, &["exemptions", "user"], text, &[]).succeeded();
    let rows = sandbox.api(&["list_user_exemptions"]);
    assert_eq!(values(&rows), ["plain@example.test", "sales#1@example.test"]);
    assert_eq!((&rows[0]["note"], &rows[1]["note"]), (&json!("tab"), &json!("the shop")));
}

#[test]
fn a_block_is_told_beside_an_exemption_where_it_is_about_the_same() {
    let told = |block: &str, exempt: &str| {
        let sandbox = Sandbox::new().blocked(block);
        let ran = sandbox.postern(&["exemptions", "user", "add", exempt]);
        assert_eq!(ran.status, Some(0), "{ran:?}");
        ran.err.contains("a block comes before this list")
    };
    for (block, exempt) in [("example.test", ALICE), (ALICE, "example.test")] {
        assert!(told(block, exempt), "{block} {exempt}");
    }
    for (block, exempt) in [
        ("ann", "joann"),
        ("test", ALICE),
        ("example.test", "test"),
        ("lice@example.test", ALICE),
        ("bob@example.test", ALICE),
    ] {
        assert!(!told(block, exempt), "{block} {exempt}");
    }
}

#[test]
fn every_spelling_of_a_mailbox_finds_its_rows() {
    let sandbox = Sandbox::new().countries("DE");
    assert!(sandbox.mail(ALICE, AMERICAN).starts_with("deny"));
    for spelled in ["Alice@Example.TEST", "alice+example.test", "alice%example.test"] {
        let found = sandbox.api(&["list_activity", &format!("account={spelled}")]);
        assert_eq!(found[0]["account"], ALICE, "{spelled}");
    }
}

#[test]
fn a_local_user_with_a_dot_is_blocked_and_released() {
    let sandbox = Sandbox::new().blocked("user:web.user");
    sandbox.postern(&["blocks", "release", "user:web.user"]).succeeded();
    assert_eq!(sandbox.api(&["list_blocks"]), json!([]));
    sandbox.postern(&["undo"]).succeeded();
    assert_eq!(sandbox.api(&["list_blocks"])[0]["value"], "web.user");
}

#[test]
fn undo_after_a_redo_takes_the_same_change_back_again() {
    let sandbox = Sandbox::new();
    let list =
        |sandbox: &Sandbox| sandbox.api(&["list_countries"])["lists"][0]["countries"][0]["code"].clone();
    sandbox.api(&["set_countries", "countries=AT"]);
    sandbox.api(&["set_countries", "countries=CH"]);
    sandbox.postern(&["undo"]).succeeded();
    let undoing = sandbox.api(&["get_settings"])["generation"].to_string();
    let said = sandbox.postern(&["undo", &undoing]).succeeded();
    assert!(!said.contains("nothing instead of nothing"), "{said}");
    assert_eq!(list(&sandbox), "CH");
    sandbox.postern(&["undo"]).succeeded();
    assert_eq!(list(&sandbox), "AT");
    sandbox.postern(&["undo"]).succeeded();
    assert_eq!(list(&sandbox), Value::Null);
}
