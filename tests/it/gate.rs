//! Dovecot's gate: exit status and reply exactly as Dovecot must see them.

use crate::sandbox::*;

const ALICE: &str = "alice@example.test";
const ON: &str = "noauthenticate=y\t";

#[test]
fn the_gate_passes_on_and_refuses_as_its_table_says() {
    let sandbox = Sandbox::new().countries("DE");
    let good = Call::gate(ALICE, GERMAN);
    let bad = Call::gate(ALICE, AMERICAN);
    assert_eq!(good.run(&sandbox).said(), (Some(0), ON));
    assert_eq!(bad.run(&sandbox).said(), (Some(1), ""));
    assert_eq!(good.lookup().run(&sandbox).said(), (Some(2), ON));
    assert_eq!(bad.lookup().run(&sandbox).said(), (Some(3), ""));
}

#[test]
fn the_gate_knows_the_account() {
    let sandbox = Sandbox::new().countries("DE").exempt_user(ALICE).countries_for("other.test", "US");
    let status = |account, address| Call::gate(account, address).run(&sandbox).ran.status;
    assert_eq!(status(ALICE, AMERICAN), Some(0));
    assert_eq!(status("ALICE@example.TEST", AMERICAN), Some(0));
    assert_eq!(status("bob@example.test", AMERICAN), Some(1));
    assert_eq!(status("bob@other.test", AMERICAN), Some(0));
    assert_eq!(status("bob@other.test", GERMAN), Some(1));
    // Without an account nobody can be refused who might be alice.
    assert_eq!(status("", AMERICAN), Some(0));
}

#[test]
fn dovecots_own_tools_name_no_address_and_pass_unless_the_account_is_blocked() {
    let sandbox = Sandbox::new().countries("DE").blocked("bob@example.test");
    let tool = |account| Call { service: "doveadm", ..Call::gate(account, "").lookup() };
    assert_eq!(tool(ALICE).run(&sandbox).said(), (Some(2), ON));
    assert_eq!(tool("bob@example.test").run(&sandbox).said(), (Some(3), ""));
    assert_eq!(Call::gate("bob@example.test", "127.0.0.1").run(&sandbox).said(), (Some(1), ""));
}

#[test]
fn an_address_that_cannot_be_read_passes_on_and_is_told() {
    let sandbox = Sandbox::new().countries("DE");
    assert_eq!(Call::gate(ALICE, "nonsense").run(&sandbox).said(), (Some(0), ON));
    sandbox.is_in_trouble("call");
}

#[test]
fn the_gate_takes_whatever_dovecot_writes() {
    let sandbox = Sandbox::new().countries("DE");
    // Nothing, and more than a password: neither holds the gate up.
    for input in [Vec::new(), vec![0xff; 4096]] {
        assert_eq!(Call { input, ..Call::gate(ALICE, GERMAN) }.run(&sandbox).said(), (Some(0), ON));
    }
}

#[test]
fn a_wrong_call_is_temporary_trouble_and_never_a_success() {
    let sandbox = Sandbox::new();
    for words in [vec!["fly"], vec![], vec!["--rot=/x", "gate"]] {
        assert_eq!(Call { words, ..Call::gate(ALICE, GERMAN) }.run(&sandbox).said(), (Some(111), ""));
    }
}

#[test]
fn a_gate_that_is_started_as_root_works_as_the_owner_of_the_state() {
    let sandbox = Sandbox::new().countries("DE");
    assert_eq!(Call { user: 0, ..Call::gate(ALICE, AMERICAN) }.run(&sandbox).said(), (Some(1), ""));
    assert!(sandbox.files_of(0, "var/lib/postern/state").is_empty());
    assert!(sandbox.files_of(0, "run/postern/trouble").is_empty());
}
