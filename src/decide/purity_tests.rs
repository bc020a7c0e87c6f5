//! Reads the rules' own source: they must not know the world.

use std::path::{Path, PathBuf};

/// What the rules may use of the package: types, and nothing that touches the world.
const ALLOWED: [&str; 14] = [
    "account::Account",
    "account::Subject",
    "address::Address",
    "address::Network",
    "clock::Seconds",
    "country::Country",
    "limit::",
    "policy::Allowance",
    "policy::Entry",
    "request::Login",
    "request::Send",
    "settings::",
    "verdict::",
    "decide::",
];

/// Words that would be a clock, a file, the environment or a store.
const FORBIDDEN: [&str; 16] = [
    "Clock",
    "SystemTime",
    "Instant",
    "Utc",
    "elapsed",
    "env",
    "fs",
    "process",
    "thread",
    "unsafe",
    "store",
    "networks",
    "nix",
    "libc",
    "rusqlite",
    "maxminddb",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| !path.to_string_lossy().ends_with("_tests.rs")).collect()
}

/// The code without comments, texts and tests.
fn code_of(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().map(|line| line.split("//").next().unwrap());
    let without_texts = lines.map(|line| line.split('"').step_by(2).collect::<Vec<_>>().join("\"\""));
    without_texts.collect::<Vec<_>>().join("\n")
}

/// `crate::a::{b, c::D}` as `a::b` and `a::c::D`.
fn paths_into_the_package(code: &str) -> Vec<String> {
    let flat = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut paths = Vec::new();
    for rest in flat.split("crate::").skip(1) {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        match after.strip_prefix('{').filter(|_| path.ends_with("::")) {
            Some(group) => {
                let names = group.split('}').next().unwrap().split(',');
                paths.extend(names.map(|name| format!("{path}{}", name.trim())));
            }
            None => paths.push(path.into()),
        }
    }
    paths
}

#[test]
fn the_rules_know_neither_store_nor_network_data_nor_clock_nor_environment() {
    let files = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decide"));
    assert!(files.len() >= 4, "{files:?}");
    for file in files {
        let code = code_of(&file);
        for path in paths_into_the_package(&code) {
            assert!(ALLOWED.iter().any(|a| path.starts_with(a)), "{}: crate::{path}", file.display());
        }
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let used = words.filter(|w| FORBIDDEN.contains(w)).collect::<Vec<_>>();
        assert_eq!(used, Vec::<&str>::new(), "{}", file.display());
        assert!(!code.contains("now()") && !code.contains("super::super"), "{}", file.display());
    }
}

#[test]
fn this_reading_would_find_what_it_looks_for() {
    let found = paths_into_the_package("use crate::clock::{Clock, Seconds};\nlet x = crate::store::open();");
    assert_eq!(found, ["clock::Clock", "clock::Seconds", "store::open"]);
}
