//! Cloud networks: who logs in from where machines are rented, at every door; the administrator's own entries; the
//! report on the data.

use crate::policy::Talk;
use crate::sandbox::*;
use serde_json::{Value, json};
use std::fs;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// In Germany, where the tables of [`scene`] have these systems.
const CLOUD: &str = "192.0.2.130";
const CLOUD_V6: &str = "2001:db8:de:c000::7";
const VPN: &str = "192.0.2.200";
const TOR: &str = "192.0.2.210";
const RELAY: &str = "192.0.2.230";
/// A system that is on no list, in the United States.
const OTHER: &str = "198.51.100.200";
/// Outlook's, in a network where anybody rents machines.
const OUTLOOK: &str = "52.125.3.4";
const RENTED_AT_MICROSOFT: &str = "52.120.0.1";

const SYSTEMS: &str = "192.0.2.128,192.0.2.191,24940,Hetzner Online GmbH\n\
                       192.0.2.192,192.0.2.207,209103,Proton AG\n\
                       192.0.2.208,192.0.2.223,60729,Stiftung Erneuerbare Freiheit\n\
                       192.0.2.224,192.0.2.239,36183,Akamai Technologies\n\
                       198.51.100.128,198.51.100.255,64500,Example\n\
                       52.96.0.0,52.127.255.255,8075,Microsoft Corporation\n\
                       2001:db8:de:c000::,2001:db8:de:cfff:ffff:ffff:ffff:ffff,24940,Hetzner Online GmbH\n";

const NO: &str = "deny 535 5.7.8 Logins from this network are not allowed here. Reference ";
const NO_USE: &str = "deny 550 5.7.1 Logins from this network are not allowed here. Reference ";

/// Data with an ASN table, the source rule as it is at first.
fn watched() -> Sandbox {
    Sandbox::new().with_systems(SYSTEMS)
}

fn scene() -> Sandbox {
    watched().setting("source_rule", "enforce")
}

#[track_caller]
fn refused(sandbox: &Sandbox, account: &str, address: &str) {
    let said = sandbox.mail(account, address);
    assert!(said.starts_with(NO_USE), "{account} from {address}: {said}");
}

#[track_caller]
fn let_in(sandbox: &Sandbox, account: &str, address: &str) {
    assert_eq!(sandbox.mail(account, address), "allow\n", "{account} from {address}");
}

#[test]
fn nobody_logs_in_from_a_cloud_network_by_any_door() {
    let sandbox = scene();
    for address in [CLOUD, CLOUD_V6, "::ffff:192.0.2.131", RENTED_AT_MICROSOFT] {
        let said = sandbox.auth(address);
        assert!(said.starts_with(NO), "{address}: {said}");
        refused(&sandbox, ALICE, address);
        assert_eq!(Call::gate(ALICE, address).run(&sandbox).said(), (Some(1), ""), "{address}");
    }
    let mut talk = Talk::begin(&sandbox, POSTERN, &[]);
    let said = talk.ask(ALICE, CLOUD);
    let begins = r#"{"status":-1,"msg":"Logins from this network are not allowed here. Reference "#;
    assert!(said.contains(begins), "{said}");
    assert!(talk.ask(ALICE, GERMAN).contains(r#""status":0"#));
    talk.end(&sandbox);
    for address in [GERMAN, GERMAN_V6, OTHER, UNKNOWN, "127.0.0.1", "10.1.2.3", ""] {
        assert_eq!(sandbox.auth(address), "undecided\n", "{address}");
        let_in(&sandbox, ALICE, address);
    }
    assert_eq!(sandbox.log().iter().filter(|l| l.contains("event=trouble")).count(), 0);
}

#[test]
fn at_first_it_only_watches_and_activity_says_who_would_have_been_refused() {
    let sandbox = watched().setting("smtp_logins_from", "exim");
    let_in(&sandbox, ALICE, CLOUD);
    assert_eq!(sandbox.logged("event=would_refuse"), 1);
    let all = sandbox.api(&["list_activity", "reason=network_hosting"]);
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    let row = &all[0];
    assert_eq!((&row["verdict"], &row["address"]), (&json!("would_refuse"), &json!(CLOUD)));
    let detail = row["detail"].as_str().unwrap();
    assert!(detail.starts_with("AS24940 (Hetzner Online GmbH) is a cloud network"), "{row}");
    let_in(&sandbox, ALICE, VPN);
    assert_eq!(sandbox.logged("event=would_refuse"), 0, "VPN services are not restricted at first");
    let sandbox = sandbox.setting("source_rule", "off");
    let_in(&sandbox, BOB, CLOUD);
    assert_eq!(sandbox.logged("event=would_refuse"), 0);
}

#[test]
fn the_dry_run_of_the_rule_goes_by_what_it_recorded_while_it_watched() {
    let sandbox = watched();
    for (account, address) in [(ALICE, CLOUD), (ALICE, CLOUD_V6), (BOB, TOR), (BOB, VPN), (BOB, GERMAN)] {
        assert_eq!(Call::gate(account, address).run(&sandbox).said().0, Some(0), "{address}");
    }
    sandbox.postern(&["tick"]).succeeded();
    let dry = sandbox.api(&["dry_run", "rule=source_rule"]);
    assert_eq!((&dry["logins_refused"], &dry["accounts_refused"]), (&json!(3), &json!(2)), "{dry}");
    assert_eq!(dry["mode_now"], "monitor");
}

#[test]
fn each_class_has_its_own_switch_below_the_master_switch() {
    let sandbox = scene();
    let out = |sandbox: &Sandbox| {
        [CLOUD, VPN, TOR, RELAY].map(|address| sandbox.mail(ALICE, address).starts_with(NO_USE))
    };
    assert_eq!(out(&sandbox), [true, false, true, false], "as Postern is installed");
    let sandbox = sandbox.setting("source_vpn", "on").setting("source_relay", "on");
    assert_eq!(out(&sandbox), [true; 4]);
    let sandbox = sandbox.setting("source_cloud_networks", "off").setting("source_tor", "off");
    assert_eq!(out(&sandbox), [false, true, false, true]);
    let sandbox = sandbox.setting("source_rule", "off");
    assert_eq!(out(&sandbox), [false; 4]);
    let keys =
        |reason: &str| sandbox.api(&["list_activity", &format!("reason={reason}")]).as_array().unwrap().len();
    assert_eq!(["network_hosting", "network_vpn", "network_tor", "network_relay"].map(keys), [1; 4]);
}

#[test]
fn who_is_exempt_passes_and_an_allowance_is_not_enough() {
    let sandbox = scene().exempt_ip("192.0.2.130");
    assert_eq!(sandbox.auth(CLOUD), "undecided\n");
    let_in(&sandbox, ALICE, CLOUD);
    refused(&sandbox, ALICE, "192.0.2.131");
    let sandbox = sandbox.exempt_user(ALICE).allowance(BOB, "192.0.2.0/24", "1h");
    // One exempt mailbox leaves everybody to the door that knows the account.
    assert_eq!(sandbox.auth("192.0.2.131"), "undecided\n");
    let_in(&sandbox, ALICE, "192.0.2.131");
    refused(&sandbox, BOB, "192.0.2.131");
}

#[test]
fn what_the_country_rule_would_leave_to_a_later_door_is_refused_at_once_where_nobody_gets_in_anyway() {
    let sandbox = scene().countries("US").allowance(BOB, "DE", "1h");
    assert_eq!(sandbox.auth(GERMAN), "undecided\n");
    assert!(sandbox.auth(CLOUD).starts_with(NO));
    refused(&sandbox, BOB, CLOUD);
}

#[test]
fn a_cloud_mail_client_passes_until_it_is_switched_off() {
    let sandbox = scene().countries("DE");
    let_in(&sandbox, ALICE, OUTLOOK);
    assert_eq!(sandbox.auth(OUTLOOK), "undecided\n");
    refused(&sandbox.setting("cloud_mail_clients", "off").setting("country_rule", "off"), ALICE, OUTLOOK);
}

#[test]
fn the_administrators_own_word_holds_from_the_next_login_on_and_is_undone() {
    let sandbox = scene();
    let data = fs::read(sandbox.path("var/lib/postern/data/networks.mmdb")).unwrap();
    let said = |words: &[&str]| sandbox.postern(words).succeeded();
    assert_eq!(
        said(&["clouds", "add", "not:as24940", "--note", "our own machines"]),
        "not:AS24940 is on the list cloud networks.\n"
    );
    let_in(&sandbox, ALICE, CLOUD);
    let_in(&sandbox, ALICE, CLOUD_V6);
    // The narrower word holds.
    said(&["clouds", "add", "192.0.2.128/28"]);
    refused(&sandbox, ALICE, CLOUD);
    let_in(&sandbox, ALICE, "192.0.2.150");
    said(&["clouds", "add", "AS64500", "--until", "1h"]);
    refused(&sandbox, ALICE, OTHER);
    let explained = sandbox.api(&["explain", &format!("account={ALICE}"), &format!("address={OTHER}")]);
    assert_eq!(
        explained["why"],
        "AS64500 (Example) is a cloud network, in which machines are rented, as the administrator marked AS64500."
    );
    sandbox.wait(3600);
    let_in(&sandbox, ALICE, OTHER);
    // Over to the other list, and back.
    said(&["clouds", "add", "AS24940"]);
    refused(&sandbox, ALICE, CLOUD_V6);
    said(&["undo"]);
    let_in(&sandbox, ALICE, CLOUD_V6);
    let rows = sandbox.api(&["list_cloud_networks"]);
    let values: Vec<&str> = rows.as_array().unwrap().iter().map(|r| r["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["192.0.2.128/28", "AS64500", "not:AS24940"]);
    assert_eq!(rows[2]["note"], "our own machines");
    said(&["clouds", "remove", "not:AS24940"]);
    refused(&sandbox, ALICE, CLOUD_V6);
    assert_eq!(sandbox.api(&["list_audit", "limit=1"])[0]["action"], "remove_no_cloud_network");
    assert_eq!(fs::read(sandbox.path("var/lib/postern/data/networks.mmdb")).unwrap(), data);
}

#[test]
fn cloud_mail_clients_are_added_and_taken_out_by_network_and_never_by_system() {
    let sandbox = scene();
    refused(&sandbox, ALICE, RENTED_AT_MICROSOFT);
    sandbox.api(&["add_cloud_mail_client", "value=52.120.0.0/24"]);
    let_in(&sandbox, ALICE, RENTED_AT_MICROSOFT);
    sandbox.api(&["add_cloud_mail_client", "value=not:52.125.0.0/16", "note=nobody here uses it"]);
    refused(&sandbox, ALICE, OUTLOOK);
    let refusal = sandbox.postern(&["cloud-mail-clients", "add", "AS8075"]);
    assert_eq!(refusal.status, Some(1));
    assert!(refusal.err.contains("never a whole system"), "{}", refusal.err);
    for wrong in ["example.org", "not:", "AS0", ""] {
        assert_eq!(sandbox.postern(&["clouds", "add", wrong]).status, Some(1), "{wrong}");
    }
    let wide = sandbox.postern(&["clouds", "add", "not:0.0.0.0/0"]);
    assert!(wide.err.contains("--confirm"), "{}", wide.err);
}

#[test]
fn what_postern_brings_is_shown_beside_what_the_administrator_says() {
    let sandbox = Sandbox::new();
    sandbox.api(&["add_cloud_network", "value=AS64500"]);
    let all = sandbox.api(&["list_cloud_networks", "all=on"]);
    let row = |value: &str| all.as_array().unwrap().iter().find(|row| row["value"] == value).unwrap().clone();
    assert_eq!((&row("AS64500")["who"], &row("AS24940")["who"]), (&json!("root"), &json!("Postern")));
    assert_eq!((&row("AS24940")["what"], &row("AS36183")["what"]), (&json!("hosting"), &json!("relay")));
    let clients = sandbox.api(&["list_cloud_mail_clients", "all=on"]);
    assert!(
        clients
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["value"] == "52.125.0.0/16" && row["note"] == "outlook")
    );
    assert_eq!(sandbox.api(&["list_cloud_mail_clients"]), json!([]));
}

#[test]
fn many_own_entries_are_imported_exported_and_part_of_the_document() {
    let sandbox = Sandbox::new();
    let file = sandbox.path("list.txt");
    fs::write(&file, "AS64500 # ours\nnot:192.0.2.0/24\n").unwrap();
    let file = file.to_str().unwrap();
    sandbox.postern(&["clouds", "import", file]).succeeded();
    let csv = sandbox.postern(&["clouds", "export"]).succeeded();
    assert_eq!(csv, "value,until,note\nAS64500,,ours\nnot:192.0.2.0/24,,\n");
    fs::write(file, "AS64501\nnonsense\n").unwrap();
    assert!(sandbox.postern(&["clouds", "import", file]).err.contains("Line 2: "));
    let mut document: Value =
        serde_json::from_str(&sandbox.postern(&["config", "export"]).succeeded()).unwrap();
    assert_eq!(document["cloud_networks"][1]["value"], "not:192.0.2.0/24");
    // A value that goes over to the other list in a document.
    document["cloud_networks"] = json!([{ "value": "not:AS64500" }]);
    let document = document.to_string();
    let apply = |text: &str| sandbox.api_says("apply_config", &json!({ "entries": text }));
    assert_eq!(apply(&document)["data"]["changed"], true);
    assert_eq!(apply(&document)["data"]["changed"], false);
    let rows = sandbox.api(&["list_cloud_networks"]);
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["value"]), (1, &json!("not:AS64500")));
    let both = json!({ "postern_config": 1, "cloud_networks": [{ "value": "AS1" }, { "value": "not:AS1" }] });
    assert_eq!(apply(&both.to_string())["metadata"]["code"], "bad_value");
}

#[test]
fn explaining_names_the_network_and_says_rule_by_rule_why() {
    let sandbox = scene();
    let explain = |address: &str| {
        let said = sandbox.api(&["explain", &format!("account={ALICE}"), &format!("address={address}")]);
        let steps = said["steps"].as_array().unwrap();
        let of_source = steps.iter().find(|step| step["number"] == 7).unwrap().clone();
        (said, of_source)
    };
    let (said, last) = explain(CLOUD);
    assert_eq!((&said["verdict"], &said["reason"]), (&json!("refuse"), &json!("network_hosting")));
    assert_eq!((&said["asn"], &said["network_name"]), (&json!(24_940), &json!("Hetzner Online GmbH")));
    assert_eq!((&last["number"], &last["found"]), (&json!(7), &json!("refuses")));
    assert_eq!(last["rule"], "Source Based Authentication Restriction");
    let (_, relay) = explain(RELAY);
    let why = relay["why"].as_str().unwrap();
    assert!(why.starts_with("AS36183 (Akamai Technologies) is a network of a private relay;"), "{why}");
    assert_eq!(explain(OUTLOOK).1["why"], "An earlier rule skips it.");
    assert_eq!(explain(GERMAN).1["found"], "passes on");
}

#[test]
fn data_without_an_asn_table_refuse_nobody_and_status_and_the_setting_say_so() {
    let sandbox = Sandbox::new();
    let said = sandbox.postern(&["settings", "set", "source_rule", "enforce"]);
    assert!(said.err.contains("Warning: The network data mark no cloud network"), "{}", said.err);
    let_in(&sandbox, ALICE, CLOUD);
    let (state, says) = sandbox.status_of("source rule").unwrap();
    assert_eq!(state, "warning");
    assert!(says.starts_with("Enforced. For: cloud networks, Tor. The network data mark no"), "{says}");
    let report = sandbox.postern(&["data", "report"]);
    assert!(report.err.contains("mark no cloud network"), "{}", report.err);
    assert_eq!(scene().status_of("source rule").unwrap().0, "good");
}

#[test]
fn without_network_data_nobody_is_refused_by_what_the_data_would_say() {
    let sandbox = scene();
    sandbox.api(&["add_cloud_network", "value=192.0.2.128/28"]);
    fs::remove_file(sandbox.path("var/lib/postern/data/networks.mmdb")).unwrap();
    let_in(&sandbox, ALICE, "192.0.2.150");
    refused(&sandbox, ALICE, CLOUD);
    sandbox.is_in_trouble("networks");
}

#[test]
fn the_report_says_how_much_of_what_a_provider_publishes_is_marked() {
    let sandbox = scene();
    let published = sandbox.path("published.txt");
    fs::write(&published, "# Hetzner\n192.0.2.128/25\n2001:db8:de:c000::/52,DE,,,\n").unwrap();
    let given = format!("provider=H={}", published.display());
    let report = sandbox.api(&["report_data", &given]);
    // 64 of the 112 that somebody announces; the documentation's networks are nobody's and are left out.
    assert_eq!(report["providers"], json!([]), "{report}");
    fs::write(&published, "52.96.0.0/11\n52.128.0.0/11\n").unwrap();
    let report = sandbox.api(&["report_data", &given]);
    let row = json!({ "provider": "H", "family": "IPv4", "routed_percent": 50.0, "marked_percent": 100.0 });
    assert_eq!(report["providers"], json!([row]));
    assert_eq!((&report["access_networks"], &report["access_networks_hit"]), (&json!(57), &json!([])));
    assert_eq!(report["renamed"], json!([]));
    let text = sandbox.postern(&["data", "report", "--provider", &given["provider=".len()..]]).succeeded();
    assert!(text.contains("H         IPv4    50.0            100.0"), "{text}");
    for wrong in ["provider=nonsense", "provider==x", "provider=H=/no/such/file"] {
        assert_eq!(sandbox.postern(&["api", "report_data", wrong]).json()["status"], 0, "{wrong}");
    }
}
