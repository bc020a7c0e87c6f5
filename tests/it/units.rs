//! The service units, as systemd itself understands them.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Units that Debian's systemd brings and ours lean on.
const THEIRS: [&str; 9] = [
    "sysinit.target",
    "basic.target",
    "shutdown.target",
    "timers.target",
    "sockets.target",
    "multi-user.target",
    "system.slice",
    "-.mount",
    "tmp.mount",
];

fn system() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).unwrap();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("hooks/systemd")).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, units.join(from.file_name().unwrap())).unwrap();
    }
    for name in THEIRS {
        let mount = if name.ends_with("mount") { "[Mount]\nWhat=tmpfs\nWhere=/\n" } else { "" };
        let mount = if name == "tmp.mount" { mount.replace("Where=/", "Where=/tmp") } else { mount.into() };
        fs::write(units.join(name), format!("[Unit]\nDescription={name}\n{mount}")).unwrap();
    }
    fs::create_dir_all(root.path().join("usr/sbin")).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_postern"), root.path().join("usr/sbin/postern")).unwrap();
    let libexec = root.path().join("usr/libexec/postern");
    fs::create_dir_all(&libexec).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_postern-dovecot"), libexec.join("postern-dovecot")).unwrap();
    root
}

fn analyze(root: &Path, words: &[&str]) -> (bool, String) {
    let mut command = Command::new("systemd-analyze");
    command.args(words).arg(format!("--root={}", root.display()));
    let said = command.output().expect("systemd-analyze is in Debian's package systemd");
    let text = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    (said.status.success(), text.into_owned())
}

/// What systemd says of a setting that it learnt later, in version 255; it goes on without it.
const LEARNT_LATER: &str = "Unknown key 'PollLimitIntervalSec' in section [Socket], ignoring.";

#[test]
fn systemd_understands_every_line_of_the_units() {
    let root = system();
    for unit in [
        "postern-keeper.service",
        "postern-policy.socket",
        "postern-policy@.service",
        "postern-tick.service",
        "postern-tick.timer",
    ] {
        let (good, said) =
            analyze(root.path(), &["verify", "--man=no", &format!("/etc/systemd/system/{unit}")]);
        let complaints: Vec<_> = said.lines().filter(|line| !line.ends_with(LEARNT_LATER)).collect();
        assert!(good && complaints.is_empty(), "{unit}: {said}");
    }
}

#[test]
fn the_keepers_unit_leaves_it_little_that_it_could_do() {
    let root = system();
    // Out of 100; an unconfined service has 96.
    let limited = ["security", "--offline=true", "--threshold=20", "postern-keeper.service"];
    let (good, said) = analyze(root.path(), &limited);
    assert!(good, "{said}");
}
