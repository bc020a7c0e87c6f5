//! A hook that cannot go on lets mail go on: by every signal that can be caught, by a fault of its own, by its
//! deadline. The mail server never sees a death by signal.

use crate::sandbox::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child, Stdio};

const ALICE: &str = "alice@example.test";
const ON: &str = "noauthenticate=y\t";

/// What cannot be caught.
const KILL: i32 = 9;
const STOP: i32 = 19;

/// Signals that do nothing to a process by default, and those that the C library keeps to itself: the hook
/// just goes on.
const WITHOUT_EFFECT: [i32; 7] = [17, 18, 23, 28, 32, 33, 34];

fn catchable() -> impl Iterator<Item = i32> {
    (1..=64).filter(|s| ![KILL, STOP].contains(s))
}

#[test]
fn every_signal_that_can_be_caught_is_answered_with_go_on_by_exims_hook() {
    let sandbox = Sandbox::new().countries("DE");
    for signal in catchable() {
        let fault = format!("--fault={signal}");
        let auth = sandbox.exim(&[&fault], &["auth", &format!("--address={AMERICAN}")]);
        let local =
            sandbox.exim(&[&fault], &["send", "--from=local", "--address=", "--account=web", "--uid=1000"]);
        if WITHOUT_EFFECT.contains(&signal) {
            assert!(auth.starts_with("deny 535") && local == "allow\n", "{signal}: {auth:?} {local:?}");
        } else {
            assert_eq!((auth.as_str(), local.as_str()), ("open way-out\n", "open way-out\n"), "{signal}");
        }
    }
    sandbox.is_in_trouble("signal");
    assert_eq!(sandbox.logged("event=trouble code=signal"), 1);
}

#[test]
fn every_signal_that_can_be_caught_is_answered_with_go_on_by_dovecots_hook() {
    let sandbox = Sandbox::new().countries("DE");
    for signal in catchable() {
        let fault = format!("--fault={signal}");
        let said = Call::gate(ALICE, GERMAN).fault(&fault).run(&sandbox);
        assert_eq!(said.said(), (Some(0), ON), "{signal}");
        let lookup = Call::gate(ALICE, GERMAN).lookup().fault(&fault).run(&sandbox);
        assert_eq!(lookup.said(), (Some(2), ON), "{signal}");
    }
}

#[test]
fn a_panic_an_overflow_of_the_stack_and_a_deadline_let_mail_go_on() {
    let sandbox = Sandbox::new().countries("DE");
    for (fault, trouble) in [("panic", "panic"), ("overflow", "signal"), ("hang", "deadline")] {
        let seam = format!("--fault={fault}");
        for words in [&["auth", "--address=198.51.100.9"][..], &["send", "--from=local", "--account=web"]] {
            assert_eq!(sandbox.exim(&[&seam], words), "open way-out\n", "{fault}");
        }
        let gate = Call::gate(ALICE, AMERICAN).fault(&seam);
        assert_eq!(gate.run(&sandbox).said(), (Some(0), ON), "{fault}");
        assert_eq!(gate.lookup().run(&sandbox).said(), (Some(2), ON), "{fault}");
        sandbox.is_in_trouble(trouble);
        assert_eq!(sandbox.logged(&format!("event=trouble code={trouble}")), 1, "{fault}");
    }
}

#[test]
fn many_hooks_that_meet_the_same_trouble_at_once_tell_it_once() {
    let sandbox = Sandbox::new().countries("DE");
    let asks: [(&[&str], &str); 3] = [
        (&["--fault=11"], "--address=198.51.100.9"),
        (&["--fault=panic"], "--address=198.51.100.9"),
        (&[], "--address=nonsense"),
    ];
    for (seams, address) in asks {
        let hooks: Vec<Child> = (0..40).map(|_| start_exim(&sandbox, seams, &["auth", address])).collect();
        for hook in hooks {
            assert!(sandbox.finish(hook).succeeded().starts_with("open "), "{seams:?}");
        }
    }
    let log = sandbox.log();
    for code in ["signal", "panic", "call"] {
        let told = log.iter().filter(|line| line.contains(&format!("event=trouble code={code}"))).count();
        assert_eq!(told, 1, "{code}: {log:?}");
    }
}

/// Waits until the process sleeps: it hangs on purpose, or waits for the state.
fn wait_until_asleep(id: u32) {
    for _ in 0..60_000 {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let call = std::fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
        let is_asleep = stat.rsplit(')').next().unwrap().trim_start().starts_with('S');
        // nanosleep (35) or clock_nanosleep (230) on x86-64; 101 and 115 elsewhere.
        let sleeps = ["35 ", "230 ", "101 ", "115 "].iter().any(|n| call.starts_with(n));
        if is_asleep && sleeps {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("process {id} never slept");
}

fn start_exim(sandbox: &Sandbox, seams: &[&str], words: &[&str]) -> Child {
    let mut command = sandbox.program("postern-exim", EXIM, seams);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn send_signal(id: u32, signal: i32) {
    let id = Pid::from_raw(id.cast_signed());
    match Signal::try_from(signal) {
        Ok(signal) => kill(id, signal).unwrap(),
        // The real-time signals have no name there.
        // SAFETY: sends a signal to a child that this test started and has not waited for.
        Err(_) => assert_eq!(unsafe { nix::libc::kill(id.as_raw(), signal) }, 0),
    }
}

#[test]
fn a_signal_from_outside_finds_the_way_out_of_a_hook_that_hangs() {
    let sandbox = Sandbox::new().countries("DE");
    for signal in catchable().filter(|s| !WITHOUT_EFFECT.contains(s)).step_by(3) {
        let hook = start_exim(&sandbox, &["--fault=hang"], &["auth", "--address=192.0.2.7"]);
        wait_until_asleep(hook.id());
        send_signal(hook.id(), signal);
        assert_eq!(sandbox.finish(hook).succeeded(), "open way-out\n", "{signal}");
        let gate = Call::gate(ALICE, GERMAN).fault("--fault=hang").start(&sandbox);
        wait_until_asleep(gate.id());
        send_signal(gate.id(), signal);
        assert_eq!(gate.finish().said(), (Some(0), ON), "{signal}");
    }
}

#[test]
fn a_server_that_blocks_every_signal_does_not_keep_the_deadline_away() {
    let sandbox = Sandbox::new().countries("DE");
    let blocked: Vec<i32> = catchable().filter(|s| ![32, 33, 34].contains(s)).collect();
    let gate = Call { blocked, ..Call::gate(ALICE, AMERICAN).fault("--fault=hang") };
    assert_eq!(gate.run(&sandbox).said(), (Some(0), ON));
    sandbox.is_in_trouble("deadline");
}

#[test]
fn a_refusal_that_is_decided_stands_although_a_signal_ends_its_recording() {
    let sandbox = Sandbox::new().countries("DE");
    let db = rusqlite::Connection::open(sandbox.state()).unwrap();
    db.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hook = start_exim(&sandbox, &[], &["auth", "--address=198.51.100.9"]);
    wait_until_asleep(hook.id());
    send_signal(hook.id(), nix::libc::SIGTERM);
    let said = sandbox.finish(hook).succeeded();
    assert!(said.starts_with("deny 535 5.7.8 "), "{said}");
    for (call, status) in [(Call::gate(ALICE, AMERICAN), 1), (Call::gate(ALICE, AMERICAN).lookup(), 3)] {
        let gate = call.start(&sandbox);
        wait_until_asleep(gate.id());
        send_signal(gate.id(), nix::libc::SIGTERM);
        assert_eq!(gate.finish().said(), (Some(status), ""));
    }
}

#[test]
fn trouble_on_the_way_out_is_logged_again_after_an_hour_and_counted_always() {
    let sandbox = Sandbox::new();
    let hang = || sandbox.exim(&["--fault=15"], &["auth", "--address=192.0.2.7"]);
    (0..3).for_each(|_| assert_eq!(hang(), "open way-out\n"));
    assert_eq!(sandbox.logged("code=signal"), 1);
    let mark = sandbox.path("run/postern/trouble/signal");
    assert_eq!(mark.metadata().unwrap().len(), 3);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(3601);
    std::fs::File::options().write(true).open(&mark).unwrap().set_modified(old).unwrap();
    (0..3).for_each(|_| assert_eq!(hang(), "open way-out\n"));
    assert_eq!(sandbox.logged("code=signal"), 1);
    assert_eq!(mark.metadata().unwrap().len(), 6);
}

#[test]
fn without_the_folder_of_marks_mail_goes_on_and_every_trouble_is_logged() {
    let sandbox = Sandbox::new();
    std::fs::remove_dir_all(sandbox.path("run")).unwrap();
    for _ in 0..2 {
        assert_eq!(sandbox.exim(&["--fault=panic"], &["auth", "--address=192.0.2.7"]), "open way-out\n");
    }
    assert_eq!(sandbox.logged("code=panic"), 2);
    sandbox.postern(&["tick"]).succeeded();
    assert_eq!(mode_of(&sandbox.path("run/postern/trouble")) & 0o7000, 0o2000);
}

#[test]
fn a_server_that_closed_the_standard_descriptors_gets_no_answer_into_a_file_of_ours() {
    let sandbox = Sandbox::new().countries("DE");
    let files = ["var/lib/postern/policy.db", "var/lib/postern/data/networks.mmdb"];
    let before = files.map(|file| std::fs::read(sandbox.path(file)).unwrap());
    for (program, words) in
        [("postern-exim", &["send", "--account=a@b.test"][..]), ("postern-dovecot", &["gate"])]
    {
        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "3>&- 4>&-"] {
            for fault in ["--fault=0", "--fault=15", "--fault=panic"] {
                let mut command = std::process::Command::new("/bin/sh");
                command
                    .args(["-c", &format!("exec \"$0\" \"$@\" {closed}")])
                    .arg(sandbox.path("bin").join(program));
                command.arg(format!("--root={}", sandbox.root().display())).arg(fault).args(words);
                command.env("TCPREMOTEIP", AMERICAN).env("AUTH_USER", ALICE);
                let ran = sandbox.run_as(&mut command, EXIM);
                assert!([Some(0), Some(1)].contains(&ran.status), "{program} {closed} {fault}: {ran:?}");
            }
        }
    }
    assert_eq!(files.map(|file| std::fs::read(sandbox.path(file)).unwrap()), before);
    assert_eq!(sandbox.in_state::<String>("PRAGMA integrity_check"), "ok");
}
