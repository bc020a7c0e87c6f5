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
