//! What owners may do for themselves where the administrator lets them, and what he hears of it.

use crate::sandbox::*;
use crate::scopes::{allowed, call_as, cpanel, refused, snapshot};

const ALICE: &str = "alice@ann.test";

fn scene() -> Sandbox {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "1");
    cpanel(&sandbox);
    sandbox
}

fn allow(sandbox: &Sandbox, from: &str, until: &str) -> serde_json::Value {
    let (account, from, until) = (format!("for={ALICE}"), format!("from={from}"), format!("until={until}"));
    call_as(sandbox, "owner:ann", &["add_allowance", &account, &from, &until, "note=holiday"])
}

fn notices(sandbox: &Sandbox, kind: &str) -> i64 {
    sandbox.in_state(&format!("SELECT count(*) FROM notice WHERE kind = '{kind}'"))
}

#[test]
fn an_owner_can_do_nothing_for_himself_until_he_is_let() {
    let sandbox = scene();
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert!(sandbox.send(ALICE).starts_with("defer"));
    let before = snapshot(&sandbox);
    refused(&allow(&sandbox, "US", "1d"), "an allowance");
    refused(&call_as(&sandbox, "owner:ann", &["remove_allowance", "id=1"]), "its end");
    let release = call_as(&sandbox, "owner:ann", &["release_block", &format!("value={ALICE}")]);
    refused(&release, "a release");
    assert!(release.to_string().contains("owner_release"), "{release}");
    assert_eq!(snapshot(&sandbox), before);
    // His reseller needs no leave.
    allowed(&call_as(&sandbox, "reseller:rex", &["release_block", &format!("value={ALICE}")]), "rex");
}

#[test]
fn an_owners_allowance_is_short_narrow_and_told_to_the_administrator() {
    let sandbox = scene().setting("owner_allowances", "on").setting("owner_allowance_days", "3");
    assert!(sandbox.mail(ALICE, AMERICAN).starts_with("deny"));
    let before = snapshot(&sandbox);
    refused(&allow(&sandbox, "US", "73h"), "too long");
    refused(&allow(&sandbox, "0.0.0.0/0", "1d"), "everywhere");
    refused(&allow(&sandbox, "198.0.0.0/15", "1d"), "too wide");
    refused(&allow(&sandbox, "2001::/31", "1d"), "too wide");
    let endless = call_as(&sandbox, "owner:ann", &["add_allowance", &format!("for={ALICE}"), "from=US"]);
    assert_eq!(endless["metadata"]["code"], "bad_value", "{endless}");
    assert_eq!(snapshot(&sandbox), before);
    allowed(&allow(&sandbox, "US", "72h"), "as long as may be");
    assert!(sandbox.mail(ALICE, AMERICAN).starts_with("allow"));
    assert_eq!(notices(&sandbox, "owner_allowance"), 1);
    let told: String = sandbox.in_state("SELECT detail FROM notice WHERE kind = 'owner_allowance'");
    assert!(
        told.starts_with("owner ann allowed logins of alice@ann.test from US until ")
            && told.contains("holiday"),
        "{told}"
    );
    let id = call_as(&sandbox, "owner:ann", &["list_allowances"])["data"][0]["id"].to_string();
    allowed(&call_as(&sandbox, "owner:ann", &["remove_allowance", &format!("id={id}")]), "his own ends");
    assert!(sandbox.mail(ALICE, AMERICAN).starts_with("deny"));
}

#[test]
fn an_allowance_of_which_the_administrator_cannot_be_told_is_not_given() {
    let sandbox = scene().setting("owner_allowances", "on");
    let state = sandbox.path("var/lib/postern/state");
    let policy = std::fs::read(sandbox.path("var/lib/postern/policy.db")).unwrap();
    sandbox.give(&state, THIEF);
    let answer = allow(&sandbox, "US", "1d");
    assert_eq!(answer["status"], 0, "{answer}");
    assert_eq!(sandbox.api(&["list_allowances"]), serde_json::json!([]));
    assert_eq!(std::fs::read(sandbox.path("var/lib/postern/policy.db")).unwrap(), policy);
    sandbox.give(&state, POSTERN);
    allowed(&allow(&sandbox, "US", "1d"), "told");
}

#[test]
fn an_owner_releases_what_the_limiter_stopped_and_the_administrator_is_told() {
    let sandbox = scene().setting("owner_release", "on");
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert!(sandbox.send(ALICE).starts_with("defer"));
    let value = format!("value={ALICE}");
    allowed(&call_as(&sandbox, "owner:ann", &["release_block", &value, "reason=newsletter"]), "release");
    assert_eq!(sandbox.send(ALICE), "allow\n");
    assert_eq!(notices(&sandbox, "owner_release"), 1);
    assert_eq!(sandbox.api(&["list_audit", "limit=1"])[0]["who"], "owner ann");
    // Stopped again, and blocked by the administrator besides: nothing is lifted, the stop neither.
    assert!(sandbox.send(ALICE).starts_with("defer"));
    sandbox.api(&["add_block", &value]);
    let before = snapshot(&sandbox);
    refused(&call_as(&sandbox, "owner:ann", &["release_block", &value]), "the administrator's block");
    refused(&call_as(&sandbox, "reseller:rex", &["release_block", &value]), "the administrator's block");
    assert_eq!(snapshot(&sandbox), before);
}

#[test]
fn an_owner_has_so_many_running_allowances_and_no_more() {
    let sandbox = scene().setting("owner_allowances", "on");
    for n in 1..=5 {
        allowed(&allow(&sandbox, "US", &format!("{n}d")), "one of five");
    }
    let before = snapshot(&sandbox);
    let sixth = allow(&sandbox, "US", "6d");
    refused(&sixth, "a sixth for the mailbox");
    assert!(sixth.to_string().contains("has 5 running allowances for alice@ann.test"), "{sixth}");
    assert_eq!(snapshot(&sandbox), before);
    let of = |n: i64| {
        let account = format!("for=m{n}@ann.test");
        call_as(&sandbox, "owner:ann", &["add_allowance", &account, "from=US", "until=9d", "note=x"])
    };
    (5..50).for_each(|n| allowed(&of(n), "one of fifty"));
    let more = of(50);
    refused(&more, "more than fifty");
    assert!(more.to_string().contains("has 50 running allowances, and more are not given"), "{more}");
    // What has ended makes room; the administrator's own are not counted.
    sandbox.wait(86_400);
    allowed(&of(50), "one has ended");
    refused(&of(51), "the room is taken");
    sandbox.api(&["add_allowance", "for=alice@ann.test", "from=US", "until=9d"]);
}

#[test]
fn a_reseller_has_so_many_entries_and_no_more() {
    let sandbox = scene();
    let import = |function: &str, first: i64, n: i64| {
        let entries: Vec<String> = (first..first + n).map(|n| format!("m{n}@ann.test")).collect();
        let body = serde_json::json!({ "entries": entries }).to_string();
        let mut command = sandbox.program("postern", 0, &[]);
        command.args(["--as", "reseller:rex", "api", function, "-"]);
        finish_with_input(command, body.as_bytes()).json()
    };
    allowed(&import("import_blocks", 0, 6_000), "blocks");
    let before = snapshot(&sandbox);
    let more = import("import_user_exemptions", 0, 4_001);
    refused(&more, "more than ten thousand");
    assert!(more.to_string().contains("has 10000 entries, allowances and lists of countries"), "{more}");
    assert_eq!(snapshot(&sandbox), before);
    allowed(&import("import_user_exemptions", 6_000, 4_000), "as many as there may be");
    allowed(&import("import_blocks", 0, 6_000), "what is there already takes no room");
    refused(&call_as(&sandbox, "reseller:rex", &["set_countries", "for=ann.test", "countries=DE"]), "a list");
    // Root and other resellers are not concerned.
    sandbox.api(&["add_block", "value=x@ann.test"]);
}
