//! `postern-dovecot gate` as Dovecot starts it: descriptor 3 brings name and password, 4 takes the reply.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A gate with no files at all, so that every fact is missing.
fn gate(root: &tempfile::TempDir) -> Child {
    started(root, &["gate"])
}

fn started(root: &tempfile::TempDir, words: &[&str]) -> Child {
    Command::new("sh")
        .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null"])
        .arg(env!("CARGO_BIN_EXE_postern-dovecot"))
        .arg(format!("--root={}", root.path().display()))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_gate_does_not_end_before_dovecot_has_written_name_and_password() {
    let root = tempfile::tempdir().unwrap();
    let mut child = gate(&root);
    sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "a gate that has ended breaks Dovecot's pipe");
    child.stdin.take().unwrap().write_all(b"alice@example.test\0secret\0").unwrap();
    let mut reply = String::new();
    child.stdout.take().unwrap().read_to_string(&mut reply).unwrap();
    assert_eq!((reply.as_str(), child.wait().unwrap().code()), ("noauthenticate=y\t", Some(0)));
}

#[test]
fn a_gate_whose_dovecot_never_writes_lets_go_on_in_time() {
    let root = tempfile::tempdir().unwrap();
    let mut child = gate(&root);
    let held = child.stdin.take();
    let mut reply = String::new();
    child.stdout.take().unwrap().read_to_string(&mut reply).unwrap();
    assert_eq!((reply.as_str(), child.wait().unwrap().code()), ("noauthenticate=y\t", Some(0)));
    drop(held);
}

#[test]
fn a_chain_whose_input_never_ends_fails_this_one_login_instead_of_hanging() {
    let root = tempfile::tempdir().unwrap();
    let mut child = started(&root, &["chain", "/bin/true"]);
    let mut held = child.stdin.take().unwrap();
    held.write_all(b"alice@example.test\0secret\0").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(111));
}
