//! Dovecot's chain: whatever happens, the next program starts as if nothing stood in front of it.

use crate::sandbox::*;
use nix::libc;
use std::fs;
use std::path::PathBuf;

const ALICE: &str = "alice@example.test";
const ANSWER: i32 = 7;

/// A program that notes how it was started, and answers in its own way.
fn next_program(sandbox: &Sandbox) -> String {
    let program = sandbox.path("next");
    let script = format!(
        "#!/bin/sh\ncat <&3 >$OUT/input\nid -u >$OUT/user\nprintf '%s|' \"$@\" \"$AUTH_USER\" >$OUT/words\nls /proc/$$/fd >$OUT/descriptors\n\
         printf 'its own answer' >&4\nexit {ANSWER}\n"
    );
    sandbox.install(&program, &script);
    let out = sandbox.path("out");
    if !out.exists() {
        fs::create_dir(&out).unwrap();
    }
    sandbox.give(&out, DOVECOT);
    program.to_str().unwrap().into()
}

fn out(sandbox: &Sandbox, name: &str) -> Vec<u8> {
    fs::read(sandbox.path("out").join(name)).unwrap_or_default()
}

fn text(sandbox: &Sandbox, name: &str) -> String {
    String::from_utf8(out(sandbox, name)).unwrap()
}

fn forget(sandbox: &Sandbox) {
    let files: Vec<PathBuf> = fs::read_dir(sandbox.path("out")).unwrap().map(|e| e.unwrap().path()).collect();
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
}

/// The set of signals under this head of `/proc/self/status`, without those that the C library keeps to
/// itself (whoever started the test may have set those).
fn signals(all: &str, head: &str) -> u64 {
    let line = all.lines().find(|l| l.starts_with(head)).unwrap_or_else(|| panic!("{all:?}"));
    u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap() & !(bit(32) | bit(33) | bit(34))
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// A name and a password of every byte, as long as Dovecot lets them be.
fn binary_input() -> Vec<u8> {
    let mut input = b"alice@example.test\0".to_vec();
    input.extend((1..=255u8).chain(1..=237).take(512 - input.len() - 1));
    input.push(0);
    assert_eq!(input.len(), 512);
    input
}

const FAULTS: [&str; 5] = ["", "--fault=panic", "--fault=overflow", "--fault=11", "--fault=15"];

#[test]
fn the_next_program_gets_everything_as_it_came_under_every_fault() {
    let sandbox = Sandbox::new().countries("DE");
    let next = next_program(&sandbox);
    for fault in FAULTS {
        for address in [GERMAN, ""] {
            let mut call = Call { input: binary_input(), ..Call::chain(ALICE, address, &next) };
            call.seams.extend(Some(fault).filter(|f| !f.is_empty()));
            assert_eq!(call.run(&sandbox).said(), (Some(ANSWER), "its own answer"), "{fault}");
            assert_eq!(out(&sandbox, "input"), binary_input(), "{fault}");
            assert_eq!(text(&sandbox, "words"), "a reply program|alice@example.test|", "{fault}");
            assert_eq!(text(&sandbox, "user"), "61002\n", "{fault}");
            // Those from 10 on are the shell's own.
            let descriptors = text(&sandbox, "descriptors");
            let left_open = descriptors.split_whitespace().filter(|d| (5..10).contains(&d.parse().unwrap()));
            assert_eq!(left_open.count(), 0, "{descriptors:?}");
            forget(&sandbox);
        }
    }
}

#[test]
fn a_refusal_ends_the_chain_and_the_next_program_never_hears_of_it() {
    let sandbox = Sandbox::new().countries("DE");
    let next = next_program(&sandbox);
    let call = Call::chain(ALICE, AMERICAN, &next);
    assert_eq!(call.run(&sandbox).said(), (Some(1), ""));
    assert_eq!(call.lookup().run(&sandbox).said(), (Some(3), ""));
    assert_eq!(fs::read_dir(sandbox.path("out")).unwrap().count(), 0);
}

#[test]
fn a_chain_that_hangs_goes_on_by_its_deadline() {
    let sandbox = Sandbox::new().countries("DE");
    let next = next_program(&sandbox);
    // Also where the server blocks the very signal by which the deadline comes.
    for blocked in [vec![], (1..=64).filter(|s| ![32, 33, 34].contains(s)).collect()] {
        let call = Call {
            blocked,
            input: binary_input(),
            ..Call::chain(ALICE, AMERICAN, &next).fault("--fault=hang")
        };
        assert_eq!(call.run(&sandbox).said(), (Some(ANSWER), "its own answer"));
        assert_eq!(out(&sandbox, "input"), binary_input());
        forget(&sandbox);
    }
    sandbox.is_in_trouble("deadline");
}

#[test]
fn the_next_program_has_the_signals_that_the_server_set() {
    let sandbox = Sandbox::new().countries("DE");
    for fault in FAULTS.iter().chain(&["--fault=hang"]) {
        let mut call = Call {
            // No shell: it would put its own signals right.
            words: vec!["chain", "/bin/cat", "/proc/self/status"],
            blocked: vec![libc::SIGUSR1, libc::SIGTERM],
            ignored: vec![libc::SIGPIPE, libc::SIGUSR2],
            ..Call::gate(ALICE, GERMAN)
        };
        call.seams.extend(Some(*fault).filter(|f| !f.is_empty()));
        let status = call.run(&sandbox).ran.succeeded();
        // Beside those of this process, which may have been started with some ignored, as by nohup.
        let own = fs::read_to_string("/proc/thread-self/status").unwrap();
        let set =
            |head, set: [i32; 2]| set.into_iter().fold(signals(&own, head), |set, signal| set | bit(signal));
        assert_eq!(signals(&status, "SigBlk"), set("SigBlk", [libc::SIGUSR1, libc::SIGTERM]), "{fault}");
        assert_eq!(signals(&status, "SigIgn"), set("SigIgn", [libc::SIGPIPE, libc::SIGUSR2]), "{fault}");
        assert_eq!(signals(&status, "SigCgt"), 0, "{fault}");
    }
}

#[test]
fn a_chain_that_is_started_as_root_leaves_root_to_the_next_program_and_no_file_of_roots() {
    let sandbox = Sandbox::new().countries("DE");
    let next = next_program(&sandbox);
    fs::set_permissions(&next, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for fault in FAULTS {
        let mut call = Call { user: 0, ..Call::chain(ALICE, GERMAN, &next) };
        call.seams.extend(Some(fault).filter(|f| !f.is_empty()));
        assert_eq!(call.run(&sandbox).said().0, Some(ANSWER), "{fault}");
        assert_eq!(text(&sandbox, "user"), "0\n");
        forget(&sandbox);
    }
    assert_eq!(Call { user: 0, ..Call::chain(ALICE, AMERICAN, &next) }.run(&sandbox).said().0, Some(1));
    assert!(sandbox.files_of(0, "var/lib/postern/state").is_empty());
    assert!(sandbox.files_of(0, "run/postern/trouble").is_empty());
}

#[test]
fn a_next_program_that_is_not_there_is_temporary_trouble() {
    let sandbox = Sandbox::new().countries("DE");
    for next in ["/no/such/program", "/etc"] {
        for fault in FAULTS {
            let mut call = Call::chain(ALICE, GERMAN, next);
            call.seams.extend(Some(fault).filter(|f| !f.is_empty()));
            assert_eq!(call.run(&sandbox).said(), (Some(111), ""), "{next} {fault}");
        }
    }
    sandbox.is_in_trouble("call");
    assert_eq!(
        Call { words: vec!["chain"], ..Call::gate(ALICE, GERMAN) }.run(&sandbox).said(),
        (Some(111), "")
    );
}

#[test]
fn an_input_that_is_no_name_and_password_is_temporary_trouble() {
    let sandbox = Sandbox::new().countries("DE");
    let next = next_program(&sandbox);
    let call = Call { input: vec![b'x'; 5000], ..Call::chain(ALICE, GERMAN, &next) };
    assert_eq!(call.run(&sandbox).said(), (Some(111), ""));
    assert_eq!(fs::read_dir(sandbox.path("out")).unwrap().count(), 0);
    sandbox.is_in_trouble("call");
    // An empty one is for the next program to judge.
    let call = Call { input: Vec::new(), ..Call::chain(ALICE, GERMAN, &next) };
    assert_eq!(call.run(&sandbox).said().0, Some(ANSWER));
    assert_eq!(out(&sandbox, "input"), b"");
}
