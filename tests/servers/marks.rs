//! The marks in real network data: what is marked, and that nobody's home is.

use crate::rig::root_of_network_data;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;

/// `postern api FUNCTION …` on the try-out data; its data.
#[track_caller]
fn api(words: &[&str]) -> Value {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/static/postern");
    let root = format!("--root={}", root_of_network_data().display());
    let output = Command::new(program).arg(root).arg("api").args(words).output().unwrap();
    let mut answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["status"], 1, "{answer}");
    answer["data"].take()
}

#[test]
fn no_well_known_access_network_is_marked_and_the_list_fits_the_table() {
    let report = api(&["report_data"]);
    assert_eq!((&report["access_networks"], &report["access_networks_found"]), (&57.into(), &57.into()));
    assert_eq!(report["access_networks_hit"], Value::Array(Vec::new()), "{report}");
    assert_eq!(report["not_announced"], Value::Array(Vec::new()), "numbers that are given away again");
    assert_eq!(report["renamed"], Value::Array(Vec::new()), "somebody else's numbers by now");
}

#[test]
fn machines_of_the_large_clouds_are_marked_and_their_neighbours_are_not() {
    let tags = |address: &str| api(&["lookup_address", &format!("address={address}")])["tags"].clone();
    for (address, marked) in [
        ("3.208.0.1", "hosting"),         // Amazon
        ("2600:1f18::1", "hosting"),      // Amazon
        ("34.90.0.1", "hosting"),         // Google
        ("20.50.2.1", "hosting"),         // Azure
        ("129.146.0.1", "hosting"),       // Oracle
        ("167.99.0.1", "hosting"),        // DigitalOcean
        ("172.235.103.1", "hosting"),     // Linode, announced by Akamai
        ("45.32.0.1", "hosting"),         // Vultr
        ("2001:19f0:5000::1", "hosting"), // Vultr
        ("5.9.0.1", "hosting"),           // Hetzner
        ("51.38.0.1", "hosting"),         // OVH
        ("185.220.101.1", "tor"),
        ("104.28.0.1", "relay"), // WARP
    ] {
        assert_eq!(tags(address), serde_json::json!([marked]), "{address}");
    }
    assert_eq!(tags("52.125.3.4"), serde_json::json!(["hosting", "cloud_mail_client"]));
    for home in ["79.192.0.1", "2003::1", "73.0.0.1", "90.0.0.1", "2001:470::1", "200.160.2.3"] {
        assert_eq!(tags(home), serde_json::json!([]), "{home}");
    }
}

/// Per cent of the announced space of a provider that must be marked.
const LEAST: [(&str, f64); 2] = [("IPv4", 97.0), ("IPv6", 95.0)];

#[test]
#[ignore = "needs the ranges that providers publish: scripts/coverage"]
fn of_what_the_large_clouds_publish_nearly_all_is_marked() {
    let folder = std::env::var("POSTERN_PROVIDER_RANGES").unwrap();
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut given: Vec<String> = files
        .filter_map(|path| {
            let name = path.file_stem()?.to_str()?.split("-ipv").next()?.to_owned();
            Some(format!("{name}={}", path.display()))
        })
        .collect();
    given.sort();
    let report = api(&["report_data", &format!("provider={}", given.join(","))]);
    println!("{}", serde_json::to_string_pretty(&report["providers"]).unwrap());
    for name in ["amazon", "google", "microsoft", "oracle", "digitalocean", "linode", "vultr"] {
        let rows = report["providers"].as_array().unwrap().iter().filter(|row| row["provider"] == name);
        let rows: Vec<&Value> = rows.collect();
        assert!(!rows.is_empty(), "{folder} holds no ranges of {name}");
        for row in rows {
            let least = LEAST.iter().find(|(family, _)| row["family"] == *family).unwrap().1;
            assert!(row["marked_percent"].as_f64().unwrap() >= least, "{row}");
        }
    }
}
