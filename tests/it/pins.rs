//! Networks that the administrator pins as attacking, and those that are never marked.

use crate::attack::{fails, passes, scene, succeeds};
use crate::sandbox::*;
use serde_json::json;
use std::fs;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const DAY: i64 = 86_400;
const NETWORK: &str = "198.51.100.0/24";

#[test]
fn a_pinned_network_is_refused_until_it_is_unpinned_but_for_owners_who_are_known_there() {
    let sandbox = scene();
    sandbox.api(&["set_setting", "key=imap_logins_from", "value=postlogin"]);
    succeeds(&sandbox, BOB, AMERICAN);
    sandbox.postern(&["tick"]).succeeded();
    sandbox.wait(2 * DAY).postern(&["tick"]).succeeded();
    sandbox.postern(&["attack-networks", "pin", NETWORK, "--note", "scanners"]).succeeded();
    assert!(!passes(&sandbox, ALICE, AMERICAN) && passes(&sandbox, ALICE, GERMAN));
    assert!(passes(&sandbox, BOB, AMERICAN), "he is known there");
    let listed = sandbox.api(&["list_attack_networks"]);
    assert_eq!((&listed[0]["network"], &listed[0]["until"]), (&json!(NETWORK), &json!(null)), "{listed}");
    assert!(listed[0]["why"].as_str().unwrap().ends_with(": scanners"), "{listed}");
    let said = sandbox.api(&["explain", &format!("account={ALICE}"), &format!("address={AMERICAN}")]);
    assert_eq!(said["reason"], "attack_network_pinned", "{said}");
    assert!(said["why"].as_str().unwrap().contains(NETWORK), "{said}");
    sandbox.wait(300 * DAY);
    assert!(!passes(&sandbox, ALICE, AMERICAN), "it stays");
    assert!(!passes(&sandbox, BOB, AMERICAN), "he was not there for 180 days");
    let sandbox = sandbox.setting("attack_networks", "monitor");
    assert!(passes(&sandbox, ALICE, AMERICAN));
    let sandbox = sandbox.setting("attack_networks", "enforce");
    sandbox.postern(&["attack-networks", "unpin", NETWORK]).succeeded();
    assert!(passes(&sandbox, ALICE, AMERICAN));
    sandbox.postern(&["undo"]).succeeded();
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    assert!(
        sandbox.postern(&["attack-networks", "unpin", "192.0.2.0/24"]).failed().contains("is not pinned")
    );
}

#[test]
fn a_door_that_knows_no_account_refuses_a_pinned_network_unless_somebody_is_known_there() {
    let sandbox = scene();
    sandbox.api(&["set_setting", "key=imap_logins_from", "value=postlogin"]);
    succeeds(&sandbox, BOB, FRENCH);
    sandbox.postern(&["tick"]).succeeded();
    sandbox.wait(2 * DAY).postern(&["tick"]).succeeded();
    for network in [NETWORK, "203.0.113.0/24"] {
        sandbox.postern(&["attack-networks", "pin", network]).succeeded();
    }
    assert!(sandbox.auth(AMERICAN).starts_with("deny 535 5.7.8"));
    assert_eq!(sandbox.auth(FRENCH), "undecided\n");
}

#[test]
fn nothing_is_learned_in_a_network_that_is_never_marked() {
    let sandbox = scene();
    for n in 0..29 {
        fails(&sandbox, ALICE, AMERICAN, &format!("guess {n}"));
    }
    sandbox.postern(&["attack-networks", "never", "198.51.100.0/25", "--note", "our office"]).succeeded();
    sandbox.wait(2 * 3600);
    for n in 0..40 {
        fails(&sandbox, ALICE, AMERICAN, &format!("another {n}"));
        fails(&sandbox, ALICE, "198.51.100.200", &format!("another {n}"));
    }
    assert!(passes(&sandbox, ALICE, AMERICAN), "no burst and no mark");
    let listed = sandbox.api(&["list_attack_networks"]);
    assert_eq!(listed[0]["network"], NETWORK, "its neighbour attacked");
    assert!(!passes(&sandbox, ALICE, "198.51.100.201"));
    let said = sandbox.api(&["explain", &format!("account={ALICE}"), &format!("address={AMERICAN}")]);
    let step = said["steps"].as_array().unwrap().iter().find(|step| step["number"] == 9).unwrap();
    assert_eq!(step["why"], "The administrator never wants 198.51.100.0/25 marked as attacking.");
    assert_eq!(
        sandbox.api(&["list_attack_pins"])[0]["why"].as_str().unwrap().split(" by ").next(),
        Some("never marked")
    );
    // The other list takes the value over.
    sandbox.postern(&["attack-networks", "pin", "198.51.100.0/25"]).succeeded();
    assert!(!passes(&sandbox, ALICE, AMERICAN));
    sandbox.postern(&["attack-networks", "unpin", "198.51.100.0/25"]).succeeded();
    assert_eq!(sandbox.api(&["list_attack_pins"]), json!([]));
    assert!(!passes(&sandbox, ALICE, AMERICAN), "its /24 is marked");
}

#[test]
fn loopback_and_a_continent_cannot_be_pinned_and_an_own_address_is_warned_of() {
    let sandbox = Sandbox::new().setting("own_addresses", "192.0.2.1");
    for (network, why) in [
        ("127.0.0.1", "loopback attacks nobody"),
        ("::1", "loopback attacks nobody"),
        ("0.0.0.0/0", "loopback attacks nobody"),
        ("196.0.0.0/7", "no network wider than /8"),
        ("2a00::/18", "no network wider than /19"),
        ("nonsense", "nonsense"),
    ] {
        for command in [&["pin"][..], &["pin", "--confirm"]] {
            let words = [&["attack-networks"], command, &[network]].concat();
            assert!(sandbox.postern(&words).failed().contains(why), "{network}");
        }
    }
    for network in ["196.0.0.0/8", "2a00::/19"] {
        sandbox.postern(&["attack-networks", "pin", network]).succeeded();
    }
    let own = sandbox.postern(&["attack-networks", "pin", "192.0.2.0/24"]);
    assert!(own.err.contains("192.0.2.1 is one of the own addresses"), "{}", own.err);
    own.succeeded();
}

#[test]
fn pins_are_imported_exported_and_part_of_the_document() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("list.txt");
    fs::write(&file, "198.51.100.0/24 # scanners\nnot:192.0.2.0/24\n").unwrap();
    let file = file.to_str().unwrap();
    sandbox.postern(&["attack-networks", "import", file]).succeeded();
    let csv = sandbox.postern(&["attack-networks", "export"]).succeeded();
    assert_eq!(csv, "value,until,note\n198.51.100.0/24,,scanners\nnot:192.0.2.0/24,,\n");
    fs::write(file, "0.0.0.0/4\n127.0.0.0/8\n").unwrap();
    let bad = sandbox.postern(&["attack-networks", "import", file]).err;
    assert!(bad.contains("Line 1: ") && bad.contains("Line 2: "), "{bad}");
    let mut document = sandbox.api(&["export_config"]);
    assert_eq!(document["attack_pins"][1]["value"], "not:192.0.2.0/24");
    document["attack_pins"] = json!([{ "value": "not:198.51.100.0/24" }]);
    let apply = || sandbox.api_says("apply_config", &json!({ "entries": document.to_string() }));
    assert_eq!(apply()["data"]["changed"], true);
    assert_eq!(apply()["data"]["changed"], false);
    assert_eq!(
        sandbox.postern(&["attack-networks", "export"]).succeeded(),
        "value,until,note\nnot:198.51.100.0/24,,\n"
    );
}
