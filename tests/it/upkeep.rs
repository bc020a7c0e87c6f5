//! What keeps Postern's own files in order: root touches only what is root's, `init` repairs, held messages that
//! are gone are forgotten.

use crate::sandbox::*;
use nix::libc;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const ALICE: &str = "alice@example.test";

const STATE: &str = "var/lib/postern/state";

/// Every file of the state with its size and when it was changed.
fn snapshot(sandbox: &Sandbox) -> Vec<(String, u64, std::time::SystemTime)> {
    let entries = fs::read_dir(sandbox.path(STATE)).unwrap().map(Result::unwrap);
    let about = |e: fs::DirEntry| {
        let meta = e.metadata().unwrap();
        (e.file_name().into_string().unwrap(), meta.len(), meta.modified().unwrap())
    };
    let mut files: Vec<_> = entries.map(about).collect();
    files.sort();
    files
}

#[test]
fn a_folder_of_the_state_that_is_roots_is_not_worked_in_with_roots_rights() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "3");
    sandbox.sends_freely(ALICE, 1);
    sandbox.give(&sandbox.path(STATE), 0);
    let before = snapshot(&sandbox);
    sandbox.log();
    // A hook as root goes on without the state.
    let message = Sandbox::message(ALICE);
    let message: Vec<&str> = message.iter().map(String::as_str).collect();
    for _ in 0..5 {
        assert_eq!(sandbox.exim_as(0, &[], &message), "allow\n");
    }
    assert_eq!(sandbox.exim_as(0, &["--fault=panic"], &["auth", "--address=198.51.100.9"]), "open way-out\n");
    let chain = Call { user: 0, words: vec!["chain", "/bin/true"], ..Call::gate(ALICE, GERMAN) };
    assert_eq!(chain.run(&sandbox).ran.status, Some(0));
    assert!(sandbox.logged("event=trouble code=state-denied ") > 0);
    for words in [&["tick"][..], &["held", "list"], &["activity"], &["trouble", "clear"]] {
        sandbox.postern(words).failed();
    }
    let said = sandbox.postern(&["activity"]).failed();
    assert!(said.contains("belongs to user 0") && said.contains("postern init"), "{said}");
    assert_eq!(snapshot(&sandbox), before);
    sandbox.postern(&["init"]).succeeded();
    assert_eq!(owner_of(&sandbox.path(STATE)).0, POSTERN);
}

/// A mail user that exchanges two names again and again, until dropped or so many times.
struct Swapper(libc::pid_t);

impl Swapper {
    fn start(one: &Path, other: &Path, times: u32) -> Swapper {
        let [one, other] = [one, other].map(|p| CString::new(p.as_os_str().as_bytes()).unwrap());
        // SAFETY: the child makes system calls on prepared memory only, and leaves by `_exit`.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>());
                libc::syscall(libc::SYS_setresgid, EXIM, EXIM, EXIM);
                libc::syscall(libc::SYS_setresuid, EXIM, EXIM, EXIM);
                for _ in 0..times {
                    let here = libc::AT_FDCWD;
                    libc::syscall(libc::SYS_renameat2, here, one.as_ptr(), here, other.as_ptr(), 2);
                }
                libc::_exit(0);
            }
            Swapper(child)
        }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        // SAFETY: a child of this test's own.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

#[test]
fn a_mail_user_who_swaps_names_while_root_runs_init_and_tick_gets_nothing() {
    let sandbox = Sandbox::new();
    let victim = sandbox.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o700)).unwrap();
    let state = sandbox.path(STATE);
    for name in ["tally", "state.db", "state.lock", "tally/current"] {
        fs::write(sandbox.path(STATE).join("tally/current"), "").unwrap();
        let link = state.join("x");
        symlink(&victim, &link).unwrap();
        let swapper = Swapper::start(&link, &state.join(name), 2_000_000);
        for _ in 0..6 {
            sandbox.postern(&["init", "--user=61000:61000"]);
        }
        sandbox.postern(&["tick"]);
        drop(swapper);
        assert_eq!((owner_of(&victim), mode_of(&victim)), ((0, 0), 0o700), "{name}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{name}");
        let _ = fs::remove_file(&link);
        let _ = fs::remove_dir_all(&link);
        sandbox.postern(&["init", "--user=61000:61000"]).succeeded();
        let tally = state.join("tally");
        assert_eq!((owner_of(&tally), mode_of(&tally)), ((POSTERN, POSTERN), 0o2770), "{name}");
        assert_eq!(owner_of(&sandbox.state()), (POSTERN, POSTERN), "{name}");
    }
}

/// A mail server's user that comes later.
const NEWCOMER: u32 = 61004;

#[track_caller]
fn send_as(sandbox: &Sandbox, user: u32) -> String {
    let message = Sandbox::message(ALICE);
    sandbox.exim_as(user, &[], &message.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_mail_user_that_is_added_later_works_with_what_is_there_and_one_that_is_taken_away_does_not() {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "3");
    // Everything is there and belongs to Exim's user: side files, lock, tally, a mark.
    fs::remove_file(sandbox.path(STATE).join("state.lock")).unwrap();
    sandbox.exim(&["--fault=panic"], &["auth", "--address=192.0.2.7"]);
    sandbox.sends_freely(ALICE, 2);
    sandbox.mail(ALICE, GERMAN);
    sandbox.log();
    assert_eq!(send_as(&sandbox, NEWCOMER), "allow\n", "it may not even read the policy");
    assert!(sandbox.logged("event=trouble") > 0);
    sandbox.postern(&["init", "--user=61000:61000", "--mail-users=61004:61004"]).succeeded();
    sandbox.log();
    assert_eq!(send_as(&sandbox, NEWCOMER), "allow\n");
    assert!(send_as(&sandbox, NEWCOMER).starts_with("defer 451 "));
    assert!(send_as(&sandbox, EXIM).starts_with("defer 451 "), "the ones from before stay");
    sandbox.exim_as(NEWCOMER, &["--fault=panic"], &["auth", "--address=192.0.2.7"]);
    assert_eq!(sandbox.logged("event=trouble"), 1, "the fault that was asked for, and nothing else");
    sandbox.postern(&["tick"]);
    let sent = "SELECT sum(n) FROM traffic_hour WHERE verdict = 'sent'";
    assert_eq!(sandbox.in_state::<i64>(sent), 3);

    sandbox.postern(&["init", "--without-mail-users=61001:61001"]).succeeded();
    sandbox.log();
    assert_eq!(send_as(&sandbox, EXIM), "allow\n");
    assert!(sandbox.logged("event=trouble") > 0);
    assert!(send_as(&sandbox, NEWCOMER).starts_with("defer 451 "));
}

#[test]
fn init_sets_a_foreign_state_aside_and_keeps_an_own_one() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "3");
    sandbox.sends_freely(ALICE, 2);
    fs::set_permissions(sandbox.state(), fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.postern(&["init", "--user=61000:61000"]).succeeded();
    assert_eq!(mode_of(&sandbox.state()), 0o660);
    sandbox.sends_freely(ALICE, 1);
    assert!(sandbox.send(ALICE).starts_with("defer 451 "), "nothing was lost");
    for owner in [0, THIEF] {
        sandbox.give(&sandbox.state(), owner);
        let told = sandbox.postern(&["init", "--user=61000:61000"]).succeeded();
        assert!(told.contains("was set aside as "), "{told}");
        assert_eq!(owner_of(&sandbox.state()), (POSTERN, POSTERN));
        sandbox.sends_freely(ALICE, 3);
        assert!(sandbox.send(ALICE).starts_with("defer 451 "));
    }
}

#[test]
fn trouble_with_the_state_does_not_keep_init_from_publishing() {
    let sandbox = Sandbox::new().countries("DE");
    fs::remove_file(sandbox.path("var/lib/postern/policy.db")).unwrap();
    fs::remove_dir_all(sandbox.path(STATE)).unwrap();
    fs::write(sandbox.path(STATE), "").unwrap();
    let said = sandbox.postern(&["init", "--user=61000:61000"]).failed();
    assert!(said.contains("in the way") && said.contains("published"), "{said}");
    assert!(sandbox.auth(AMERICAN).starts_with("deny 535 "));
}

/// Exim as seen from `postern held`: these messages are in its queue; what it says of others is what 4.98 says.
fn exim_has(sandbox: &Sandbox, queue: &[&str]) {
    let program = sandbox.path("usr/sbin/exim4");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let listed: String =
        queue.iter().map(|id| format!("echo ' 0m   289 {id} <web@a.test> *** frozen ***'\n")).collect();
    let script = format!(
        "#!/bin/sh\nif [ $1 = -bpr ]; then\n:\n{listed}exit 0\nfi\ncase ' {} ' in *\" $2 \"*) exit 0;; esac\n\
         [ $1 = -M ] && exit 0\necho \"Spool data file for $2 does not exist\"\nexit 1\n",
        queue.join(" ")
    );
    sandbox.install(&program, &script);
}

/// A stopped local user with these messages held.
fn holding(ids: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1").setting("held_ceiling", "3");
    assert_eq!(sandbox.send_locally("web", 1000, "a-b-0"), "allow\n");
    for id in ids {
        assert!(sandbox.send_locally("web", 1000, id).starts_with("hold "), "{id}");
    }
    sandbox
}

fn held(sandbox: &Sandbox) -> Vec<String> {
    let rows = sandbox.api(&["list_held"]);
    rows.as_array().unwrap().iter().map(|row| row["message"].as_str().unwrap().into()).collect()
}

#[test]
fn a_held_message_that_exim_lost_leaves_the_list_and_makes_room() {
    let sandbox = holding(&["a-b-1", "a-b-2", "a-b-3"]);
    assert!(sandbox.send_locally("web", 1000, "a-b-4").starts_with("deny "), "the ceiling");
    exim_has(&sandbox, &["a-b-2"]);
    assert_eq!(held(&sandbox), ["a-b-1", "a-b-2", "a-b-3"], "they may be arriving still");
    for verb in ["release", "remove"] {
        let id = if verb == "release" { "a-b-1" } else { "a-b-3" };
        let said = sandbox.postern(&["held", verb, id]).succeeded();
        assert!(said.contains("The mail server no longer has it; it was taken off the list."), "{said}");
        let said = sandbox.postern(&["held", verb, id]).failed();
        assert!(said.contains("is not held"), "{said}");
    }
    assert_eq!(held(&sandbox), ["a-b-2"]);
    for id in ["a-b-5", "a-b-6"] {
        assert!(sandbox.send_locally("web", 1000, id).starts_with("hold "));
    }
    assert!(sandbox.send_locally("web", 1000, "a-b-7").starts_with("deny "));
    sandbox.wait(601);
    let ran = sandbox.postern(&["held", "list"]);
    assert!(ran.err.contains("no longer has 2 of them"), "{ran:?}");
    assert!(ran.out.contains("a-b-2") && !ran.out.contains("a-b-5"), "{ran:?}");
    assert!(sandbox.send_locally("web", 1000, "a-b-8").starts_with("hold "));
    assert!(sandbox.postern(&["held", "release", "a-b-2"]).succeeded().contains("leaves"));
}

#[test]
fn an_exim_that_does_not_answer_takes_nothing_off_the_list() {
    let sandbox = holding(&["a-b-1"]);
    sandbox.wait(601);
    let told = sandbox.postern(&["held", "list"]);
    assert!(told.err.contains("not known") && told.out.contains("a-b-1"), "{told:?}");
    let program = sandbox.path("usr/sbin/exim4");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    sandbox.install(&program, "#!/bin/sh\necho \"Message $2 is locked\"\nexit 1\n");
    for words in [&["held", "list"][..], &["held", "release", "a-b-1"], &["held", "remove", "a-b-1"]] {
        sandbox.postern(words);
        assert_eq!(held(&sandbox), ["a-b-1"], "{words:?}");
    }
    // After two weeks it is forgotten all the same.
    sandbox.wait(14 * 86_400);
    sandbox.postern(&["tick"]);
    assert!(held(&sandbox).is_empty());
}
