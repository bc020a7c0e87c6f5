//! Postern in the scene's system: its programs, its start, its admin program.

use super::root::{Root, project};
use super::{Ran, Scene, inside};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

const PROGRAMS: [(&str, &str); 4] = [
    ("postern-exim", "/usr/libexec/postern/postern-exim"),
    ("postern-dovecot", "/usr/libexec/postern/postern-dovecot"),
    ("postern-postfix", "/usr/libexec/postern/postern-postfix"),
    ("postern", "/usr/sbin/postern"),
];

impl Scene {
    /// The admin program as root, at the scene's time.
    pub(crate) fn postern(&self, words: &[&str]) -> Ran {
        self.postern_as("root", words)
    }

    /// The admin program as another user.
    pub(crate) fn postern_as(&self, user: &str, words: &[&str]) -> Ran {
        self.run_as(user, &[&["/rig/at-clock", "/usr/sbin/postern"], words].concat(), "")
    }

    /// `postern api FUNCTION key=value…`, which must succeed; its `data`.
    #[track_caller]
    pub(crate) fn api(&self, words: &[&str]) -> serde_json::Value {
        let mut answer = self.postern(&[&["api"], words].concat()).json();
        assert_eq!(answer["status"], 1, "postern api {words:?}: {answer}");
        answer["data"].take()
    }
}

/// Puts the programs in place, makes the folders and the empty settings, and brings the network data.
pub(super) fn install(root: &Root, data: bool) {
    for (name, inside) in PROGRAMS {
        let built = project().join("target/static").join(name);
        assert!(built.exists(), "{} is missing: run scripts/test", built.display());
        let target = root.path(inside);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        // Removed first: a program that still runs somewhere cannot be written over. By another process: a child
        // that a thread of ours starts meanwhile would hold the file open for writing, and it could not be run.
        let _ = fs::remove_file(&target);
        let copied = Command::new("cp").arg(built).arg(target).status().unwrap();
        assert!(copied.success(), "cp {name}: {copied}");
    }
    let mail_users = format!("--mail-users={}", root.pair().mail_users());
    postern(root, &["init", "--user=postern", &mail_users]);
    if data {
        let built = network_data();
        let target = root.path("/var/lib/postern/data/networks.mmdb");
        fs::copy(built, &target).unwrap();
        let path = "/var/lib/postern/data/networks.mmdb";
        inside::run(root, "root", &["chown", "postern:postern", path], "").succeeded();
    }
}

fn postern(root: &Root, words: &[&str]) {
    inside::run(root, "root", &[&["/rig/at-clock", "/usr/sbin/postern"], words].concat(), "").succeeded();
}

/// The folder that holds the compiled try-out data as a root of the programs.
pub(crate) fn root_of_network_data() -> PathBuf {
    network_data();
    project().join("target/servers/data")
}

/// The compiled try-out data. Built once and kept until its sources or the program change.
fn network_data() -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let work = project().join("target/servers/data");
    let built = work.join("var/lib/postern/data/networks.mmdb");
    let program = project().join("target/static/postern");
    let (country, asn) = sources();
    let newest = asn.iter().chain([&country, &program]).map(|file| age(file)).max();
    if built.exists() && Some(age(&built)) > newest {
        return built;
    }
    fs::create_dir_all(built.parent().unwrap()).unwrap();
    let comma_separated: Vec<_> = asn.iter().map(|file| file.display().to_string()).collect();
    let output = Command::new(program)
        .arg(format!("--root={}", work.display()))
        .args(["data", "build"])
        .arg(format!("--country={}", country.display()))
        .arg(format!("--asn={}", comma_separated.join(",")))
        .output()
        .unwrap();
    assert!(output.status.success(), "postern data build: {}", String::from_utf8_lossy(&output.stderr));
    built
}

/// The try-out data as scripts/fetch-try-data leaves it: one country file, one or more ASN tables.
fn sources() -> (PathBuf, Vec<PathBuf>) {
    let folder = project().join("target/try-data");
    let mut files: Vec<_> =
        fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let with = |ending: &str| -> Vec<PathBuf> {
        files.iter().filter(|file| file.extension().is_some_and(|e| e == ending)).cloned().collect()
    };
    let country = with("mmdb").pop();
    (
        country.unwrap_or_else(|| panic!("no try-out data in {}: run scripts/test", folder.display())),
        with("csv"),
    )
}

fn age(file: &Path) -> SystemTime {
    fs::metadata(file).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}
