//! Dovecot's post-login script: the session begins as if nothing stood in front of it, whatever happens, and whom
//! it refuses is told so and gets no further.

use crate::sandbox::*;
use nix::libc;
use std::os::unix::process::CommandExt;

const ALICE: &str = "alice@example.test";
const ANSWER: i32 = 7;

/// A call as `script-login` makes it: its own descriptor on 3, another one on 6 that nobody asked for.
fn call(sandbox: &Sandbox, user: u32, address: &str, seams: &[&str], words: &[&str]) -> Ran {
    let next = sandbox.path("next");
    let script = format!(
        "#!/bin/sh\nprintf '%s|' \"$@\" \"$USER\" \"$IP\" \"$USERDB_KEYS\"\nid -u\nls /proc/$$/fd\nexit {ANSWER}\n"
    );
    sandbox.install(&next, &script);
    let mut command = sandbox.program("postern-dovecot", user, seams);
    command.arg("postlogin").args(words).arg(next).arg("a second word");
    let keys = [("USER", ALICE), ("IP", address), ("USERDB_KEYS", "UID GID "), ("PATH", "/usr/bin:/bin")];
    // SAFETY: async-signal-safe calls only.
    unsafe {
        command.envs(keys).pre_exec(|| {
            for fd in [3, 6] {
                let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
                if libc::dup2(null, fd) != fd {
                    return Err(std::io::Error::last_os_error());
                }
                if null == fd {
                    libc::fcntl(fd, libc::F_SETFD, 0);
                }
            }
            Ok(())
        });
    }
    run(&mut command)
}

/// What the next program found: its words and user, and the descriptors below the shell's own.
fn found(ran: &Ran) -> (String, Vec<String>) {
    assert_eq!(ran.status, Some(ANSWER), "{ran:?}");
    let mut lines = ran.out.lines().map(str::to_owned);
    (lines.next().unwrap(), lines.filter(|fd| fd.len() == 1).collect())
}

const FAULTS: [&[&str]; 6] =
    [&[], &["--fault=panic"], &["--fault=overflow"], &["--fault=hang"], &["--fault=11"], &["--fault=13"]];

#[test]
fn the_session_gets_everything_as_it_came_under_every_fault() {
    let sandbox = Sandbox::new().countries("DE");
    for fault in FAULTS {
        for (user, number) in [(DOVECOT, "61002"), (0, "0")] {
            let ran = call(&sandbox, user, GERMAN, fault, &["imap"]);
            let words = format!("a second word|{ALICE}|{GERMAN}|UID GID |{number}");
            let descriptors = ["0", "1", "2", "3", "6"].map(str::to_owned).to_vec();
            assert_eq!(found(&ran), (words, descriptors), "{fault:?}");
        }
    }
    assert!(sandbox.files_of(0, "var/lib/postern/state").is_empty());
    assert!(sandbox.files_of(0, "run/postern/trouble").is_empty());
}

#[test]
fn whom_it_refuses_is_told_in_the_services_own_words() {
    let sandbox = Sandbox::new().countries("DE");
    for (service, begins) in [("imap", "* BYE [ALERT] "), ("pop3", "-ERR [SYS/PERM] "), ("sieve", "BYE \"")] {
        for user in [DOVECOT, 0] {
            let ran = call(&sandbox, user, AMERICAN, &[], &[service]);
            assert_eq!(ran.status, Some(0), "{service}: {ran:?}");
            assert!(ran.out.starts_with(begins) && ran.out.ends_with("\r\n"), "{service}: {ran:?}");
            assert!(ran.out.contains(" Reference ") && ran.out.lines().count() == 1, "{service}: {ran:?}");
        }
    }
}

#[test]
fn without_an_address_or_a_service_the_session_begins() {
    let sandbox = Sandbox::new().countries("DE");
    assert!(found(&call(&sandbox, DOVECOT, "", &[], &["imap"])).0.starts_with("a second word|"));
    assert!(found(&call(&sandbox, DOVECOT, "nonsense", &[], &["imap"])).0.starts_with("a second word|"));
    sandbox.is_in_trouble("call");
    assert!(found(&call(&sandbox, DOVECOT, GERMAN, &[], &[])).0.starts_with("a second word|"));
    let alone = run(sandbox.program("postern-dovecot", DOVECOT, &[]).args(["postlogin", "imap"]));
    assert_eq!(alone.status, Some(111));
}
