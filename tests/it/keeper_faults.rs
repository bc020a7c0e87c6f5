//! What local users, mail users and accidents can do to the keeper: no login and no message waits for it, no
//! refusal is lost, and its memory has a bound.

use crate::keeper::{free_port, policy_request};
use crate::sandbox::{AMERICAN, EXIM, GERMAN, NOON, POSTERN, Sandbox, THIEF, as_user, eventually};
use nix::sys::signal::Signal;
use postern::decide::window::Window;
use postern::door::line::question;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const MESSAGE: [&str; 7] = ["data", GERMAN, BOB, "", "", "1", "1xW1Xt-0000gl-1R"];

/// How long Dovecot waits for an answer, by the snippet.
const DOVECOT_WAITS: Duration = Duration::from_secs(2);

fn key(sandbox: &Sandbox) -> String {
    std::fs::read_to_string(sandbox.path("etc/postern/policy-key")).unwrap().trim().to_string()
}

#[test]
fn silent_connections_of_local_users_do_not_switch_dovecots_checks_off() {
    let sandbox = Sandbox::new().countries("DE");
    let at = free_port();
    let _keeper = sandbox.keeper(&[&format!("--policy-at={at}")]);
    let key = key(&sandbox);
    // As many as one user may have open, and more than are served at the same time.
    let _flood: Vec<TcpStream> =
        as_user(THIEF, || (0..900).map(|_| TcpStream::connect(at).unwrap()).collect());
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(policy_request(&key, AMERICAN).as_bytes()).unwrap();
    stream.set_read_timeout(Some(DOVECOT_WAITS)).unwrap();
    let mut said = [0; 2048];
    let n = stream.read(&mut said).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..n]);
    assert!(said.contains(r#""status":-1"#), "{said}");
}

#[test]
fn who_is_told_to_go_on_sending_has_not_shown_who_he_is() {
    let sandbox = Sandbox::new().countries("DE");
    let at = free_port();
    let _keeper = sandbox.keeper(&[&format!("--policy-at={at}")]);
    let head = "POST /?command=allow HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n";
    let _flood: Vec<TcpStream> = as_user(THIEF, || {
        let begin = |_| {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        };
        (0..900).map(begin).collect()
    });
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(policy_request(&key(&sandbox), AMERICAN).as_bytes()).unwrap();
    stream.set_read_timeout(Some(DOVECOT_WAITS)).unwrap();
    let mut said = [0; 2048];
    let n = stream.read(&mut said).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..n]);
    assert!(said.contains(r#""status":-1"#), "{said}");
}

/// What Postfix asks of a message; two of them without an instance are two messages.
fn delegation(account: &str) -> String {
    format!(
        "request=smtpd_access_policy\nprotocol_state=END-OF-MESSAGE\nprotocol_name=ESMTP\n\
         client_address={GERMAN}\nsasl_method=PLAIN\nsasl_username={account}\nrecipient_count=1\n\n"
    )
}

/// How many messages of BOB's the state has counted.
fn counted(sandbox: &Sandbox) -> u32 {
    let sql = "SELECT coalesce((SELECT window FROM sender WHERE account = 'bob@example.test'), x'')";
    u32::try_from(Window::read(&sandbox.in_state::<Vec<u8>>(sql)).count()).unwrap()
}

#[test]
fn what_was_counted_before_the_end_is_answered() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "100000");
    let keeper = sandbox.keeper(&[]);
    let socket = keeper.socket.with_file_name("postfix");
    let mut stream = as_user(EXIM, || UnixStream::connect(&socket).unwrap());
    let waiting = |stream: &UnixStream| {
        let mut bytes = 0;
        // SAFETY: asks how many bytes can be read.
        unsafe { nix::libc::ioctl(stream.as_raw_fd(), nix::libc::FIONREAD, &raw mut bytes) };
        u32::try_from(bytes).unwrap() / 14
    };
    // Until an answer does not fit into what the socket holds, the keeper waits for its reader.
    let mut asked = 0;
    loop {
        asked += 1;
        stream.write_all(delegation(BOB).as_bytes()).unwrap();
        eventually("it is counted", || counted(&sandbox) == asked);
        let mut looks = 0;
        while waiting(&stream) < asked && looks < 20 {
            std::thread::sleep(Duration::from_millis(5));
            looks += 1;
        }
        if waiting(&stream) < asked {
            break;
        }
    }
    keeper.signal(Signal::SIGTERM);
    eventually("it listens no more", || UnixStream::connect(&keeper.socket).is_err());
    std::thread::sleep(Duration::from_millis(100));
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!((said.matches("action=DUNNO\n\n").count() as u32, counted(&sandbox)), (asked, asked));
}

/// A connection that was taken is answered. Who finds no socket, or one where nobody listens, starts the hook.
#[test]
fn a_keeper_that_is_told_to_end_answers_all_that_came_before() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "100000");
    let (answered, in_vain) = (AtomicU32::new(0), AtomicU32::new(0));
    for _ in 0..20 {
        let keeper = sandbox.keeper(&[]);
        let before = answered.load(Ordering::Relaxed);
        std::thread::scope(|threads| {
            for _ in 0..6 {
                threads.spawn(|| {
                    as_user(EXIM, || {
                        while let Ok(mut stream) = UnixStream::connect(&keeper.socket) {
                            let mut said = String::new();
                            let _ = stream.write_all(question("send", &MESSAGE).as_bytes());
                            let _ = stream.read_to_string(&mut said);
                            let count = if said == "allow\n" { &answered } else { &in_vain };
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                });
            }
            eventually("there is load", || answered.load(Ordering::Relaxed) > before + 20);
            keeper.signal(Signal::SIGTERM);
        });
        keeper.end_of_its_own();
    }
    let (answered, in_vain) = (answered.into_inner(), in_vain.into_inner());
    assert_eq!((in_vain, counted(&sandbox)), (0, answered));
}

/// Postfix keeps its connections, and asks anew where one ends: what was counted without an answer would count twice.
#[test]
fn of_kept_connections_what_is_counted_is_answered_when_the_keeper_ends() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "100000");
    let answered = AtomicU32::new(0);
    for _ in 0..10 {
        let keeper = sandbox.keeper(&[]);
        let socket = keeper.socket.with_file_name("postfix");
        let before = answered.load(Ordering::Relaxed);
        std::thread::scope(|threads| {
            for _ in 0..6 {
                threads.spawn(|| {
                    // Where others made the load so soon that it has ended already, there is nothing to ask.
                    let Ok(mut stream) = as_user(EXIM, || UnixStream::connect(&socket)) else { return };
                    let mut said = [0; 64];
                    while stream.write_all(delegation(BOB).as_bytes()).is_ok()
                        && let Ok(n) = stream.read(&mut said)
                        && n > 0
                    {
                        assert_eq!(said[..n], *b"action=DUNNO\n\n");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            eventually("there is load", || answered.load(Ordering::Relaxed) > before + 100);
            keeper.signal(Signal::SIGTERM);
        });
        keeper.end_of_its_own();
    }
    assert_eq!(counted(&sandbox), answered.into_inner());
}

/// Two who send through one keeper that decides for many at once, and a hook beside it.
#[test]
fn kept_connections_and_hooks_together_admit_exactly_the_limit() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "100");
    let keeper = sandbox.keeper(&[]);
    let socket = keeper.socket.with_file_name("postfix");
    let (admitted, by_hook) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let mut stream = as_user(EXIM, || UnixStream::connect(&socket).unwrap());
                let mut said = [0; 512];
                for _ in 0..40 {
                    stream.write_all(delegation(BOB).as_bytes()).unwrap();
                    let n = stream.read(&mut said).unwrap();
                    let is_allowed = said[..n] == *b"action=DUNNO\n\n";
                    assert!(is_allowed || said.starts_with(b"action=451 4.7.1"));
                    admitted.fetch_add(is_allowed.into(), Ordering::Relaxed);
                }
            });
        }
        for _ in 0..5 {
            let said = sandbox.send(BOB);
            by_hook.fetch_add((said == "allow\n").into(), Ordering::Relaxed);
        }
    });
    assert_eq!(admitted.into_inner() + by_hook.into_inner(), 100);
}

/// Those that wait for their next question cost none.
#[test]
fn hundreds_of_kept_connections_are_answered_by_a_few_threads() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "100000");
    let keeper = sandbox.keeper(&[]);
    let socket = keeper.socket.with_file_name("postfix");
    let mut streams: Vec<UnixStream> =
        as_user(EXIM, || (0..500).map(|_| UnixStream::connect(&socket).unwrap()).collect());
    for round in 1..=3 {
        for stream in &mut streams {
            stream.write_all(delegation(BOB).as_bytes()).unwrap();
        }
        for stream in &mut streams {
            let mut said = [0; 14];
            stream.read_exact(&mut said).unwrap();
            assert_eq!(said, *b"action=DUNNO\n\n");
        }
        // On a machine that is busy with other things some may pass uncounted, which has to be told.
        let was_too_busy = || {
            ["keeper-busy", "state-locked", "deadline"].iter().any(|code| sandbox.status_of(code).is_some())
        };
        let counted = counted(&sandbox);
        assert!(counted == round * 500 || was_too_busy(), "{counted} after {round} rounds");
        eventually("its threads have ended", || keeper.figure("Threads") < 30);
    }
}

#[test]
fn a_fault_while_it_tidies_up_is_told_and_costs_that_turn_alone() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.send(BOB), "allow\n");
    let keeper = sandbox.keeper(&["--fault", "tidying"]);
    eventually("it has met the fault", || sandbox.status_of("panic").is_some());
    sandbox.is_in_trouble("panic");
    assert_eq!(sandbox.logged("code=panic detail=asked%20for"), 1);
    assert_eq!(keeper.ask(EXIM, "send", &MESSAGE).unwrap(), "allow\n");
    // It waits for its next turn, a minute later.
    std::thread::sleep(Duration::from_millis(500));
    assert!(keeper.has_thread("tidies-up"));
}

#[test]
fn who_is_stopped_stays_so_while_the_policy_is_gone_and_nobody_else_is_counted() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1").setting("rate_limit_window", "3600");
    let keeper = sandbox.keeper(&[]);
    let by_keeper = |account: &str| {
        let mut fields = MESSAGE;
        fields[2] = account;
        keeper.ask(EXIM, "send", &fields).unwrap()
    };
    let local = |id: &str| sandbox.send_locally("webuser", 61009, id);
    assert_eq!((by_keeper(BOB).as_str(), local("1xW1Xt-0000gm-1R").as_str()), ("allow\n", "allow\n"));
    let stopped = by_keeper(BOB);
    let reference =
        |said: &str| said.rsplit("Reference ").next().unwrap().trim_end_matches(".\n").to_string();
    assert!(stopped.starts_with("defer 451 4.7.1 More than 1 messages"), "{stopped}");
    assert!(local("1xW1Xt-0000gn-1R").starts_with("hold "));
    let window: Vec<u8> = sandbox.in_state("SELECT window FROM sender WHERE account = 'bob@example.test'");
    let until: i64 = sandbox.in_state("SELECT until FROM stop WHERE account = 'bob@example.test'");
    let policy = sandbox.path("var/lib/postern/policy.db");
    std::fs::rename(&policy, policy.with_extension("away")).unwrap();
    sandbox.wait(600);
    for said in [by_keeper(BOB), sandbox.send(BOB)] {
        assert!(said.starts_with("defer 451 4.7.1 Sending from this account is stopped"), "{said}");
        assert_eq!(reference(&said), reference(&stopped), "the same each time");
    }
    assert!(local("1xW1Xt-0000go-1R").starts_with("hold "));
    for _ in 0..3 {
        assert_eq!((by_keeper(ALICE).as_str(), sandbox.send(ALICE).as_str()), ("allow\n", "allow\n"));
    }
    sandbox.is_in_trouble("policy");
    assert_eq!(
        sandbox.in_state::<i64>("SELECT count(*) FROM sender WHERE account = 'alice@example.test'"),
        0
    );
    // The settings that nobody can read are not replaced by others.
    assert_eq!(
        sandbox.in_state::<Vec<u8>>("SELECT window FROM sender WHERE account = 'bob@example.test'"),
        window
    );
    assert_eq!(sandbox.in_state::<i64>("SELECT until FROM stop WHERE account = 'bob@example.test'"), until);
    assert_eq!(sandbox.in_state::<i64>("SELECT refused FROM stop WHERE account = 'bob@example.test'"), 3);
    assert_eq!(sandbox.api(&["list_held"]).as_array().map(Vec::len), Some(2), "both can be released");
    // A stop ends without a policy, too.
    sandbox.wait(6 * 3600);
    sandbox.tell_time();
    assert_eq!((by_keeper(BOB).as_str(), sandbox.send(BOB).as_str()), ("allow\n", "allow\n"));
}

#[test]
fn what_is_held_while_nothing_can_be_written_is_listed_all_the_same() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    let local = |id: &str| sandbox.send_locally("webuser", 61009, id);
    assert_eq!(local("1xW1Xt-0000gl-1R"), "allow\n");
    assert!(local("1xW1Xt-0000gm-1R").starts_with("hold "));
    let holder = rusqlite::Connection::open(sandbox.state()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(local("1xW1Xt-0000gn-1R").starts_with("hold "));
    holder.execute_batch("ROLLBACK").unwrap();
    drop(holder);
    // Without a sendmail its notice is left.
    sandbox.postern(&["tick"]).failed();
    let held = sandbox.api(&["list_held"]);
    assert_eq!(held.as_array().map(Vec::len), Some(2), "{held}");
}

#[test]
fn a_second_keeper_takes_no_request_away_from_the_first() {
    let sandbox = Sandbox::new().countries("DE");
    let at = free_port();
    let word = format!("--policy-at={at}");
    let _first = sandbox.keeper(&[&word]);
    let second = sandbox.begin_keeper(&[&word]);
    eventually("the second waits for its turn", || second.figure("Uid") == i64::from(POSTERN));
    let key = key(&sandbox);
    for number in 0..40 {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(policy_request(&key, AMERICAN).as_bytes()).unwrap();
        stream.set_read_timeout(Some(DOVECOT_WAITS)).unwrap();
        let mut said = [0; 2048];
        assert!(stream.read(&mut said).is_ok_and(|n| n > 0), "request {number}");
    }
}

#[test]
fn who_was_admitted_stays_so_while_the_policy_is_gone_and_is_told_what_a_hook_tells() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    assert_eq!(keeper.ask(EXIM, "send", &MESSAGE).unwrap(), "allow\n");
    std::fs::remove_file(sandbox.path("var/lib/postern/policy.db")).unwrap();
    assert_eq!(keeper.ask(EXIM, "send", &MESSAGE).unwrap(), sandbox.send(BOB));
    sandbox.is_in_trouble("policy");
    assert_eq!(sandbox.status_of("not-admitted"), None);
}

#[test]
fn a_keeper_whose_user_is_postern_no_more_makes_room_for_hooks_that_count() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    assert_eq!(keeper.ask(EXIM, "send", &MESSAGE).unwrap(), "allow\n");
    sandbox.postern(&["init", "--user=61009:61009", "--mail-users=61001:61001"]).succeeded();
    eventually("it has ended", || UnixStream::connect(&keeper.socket).is_err());
    assert_eq!(sandbox.send(BOB), "allow\n");
}

#[test]
fn fields_that_senders_write_fill_no_memory() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    let socket = keeper.socket.with_file_name("milter");
    let packet = |command: u8, data: &[u8]| {
        let length = u32::try_from(data.len() + 1).unwrap();
        [&length.to_be_bytes()[..], &[command], data].concat()
    };
    let field = packet(b'L', &[b"X-Local-Submission\0", &[b'x'; 60_000][..], b"\0"].concat());
    eventually("it listens for Postfix", || UnixStream::connect(&socket).is_ok());
    // As many as Postfix has cleanup processes, each with a message of such fields.
    let talks: Vec<UnixStream> = as_user(EXIM, || {
        let begin = |_| {
            let mut stream = UnixStream::connect(&socket).unwrap();
            let mut answer = [0; 5];
            for _ in 0..8 {
                stream.write_all(&field).unwrap();
                stream.read_exact(&mut answer).unwrap();
            }
            stream
        };
        (0..100).map(begin).collect()
    });
    assert!(keeper.figure("VmRSS") < 40_000, "{} kB", keeper.figure("VmRSS"));
    drop(talks);
}

#[test]
fn a_tally_of_any_size_is_folded_within_little_memory() {
    let sandbox = Sandbox::new();
    let line = format!("2 {NOON} send exim-data smtp DE - sent counted {ALICE}\n");
    assert!(sandbox.send(ALICE) == "allow\n");
    let folder = sandbox.path("var/lib/postern/state/tally");
    let written = std::fs::read_to_string(folder.join("current")).unwrap();
    let line = if written.ends_with('\n') { written } else { line };
    let lines = 64 * 1024 * 1024 / line.len();
    let path = folder.join("fold-1-0000");
    std::fs::write(&path, line.repeat(lines)).unwrap();
    chown(&path, Some(POSTERN), Some(POSTERN)).unwrap();
    let keeper = sandbox.keeper(&[]);
    eventually("it is folded", || !path.exists());
    let sent: i64 = sandbox.in_state("SELECT coalesce(sum(sent), 0) FROM account_day");
    let lines = i64::try_from(lines).unwrap();
    assert!([lines, lines + 1].contains(&sent), "{sent} of {lines}");
    assert!(keeper.figure("VmHWM") < 40_000, "{} kB", keeper.figure("VmHWM"));
}

#[test]
fn what_a_mail_user_lays_into_the_state_fills_no_memory() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    assert_eq!(keeper.ask(EXIM, "send", &MESSAGE).unwrap(), "allow\n");
    let forged = rusqlite::Connection::open(sandbox.state()).unwrap();
    forged.execute_batch("UPDATE sender SET window = zeroblob(100000000)").unwrap();
    drop(forged);
    keeper.ask(EXIM, "send", &MESSAGE).unwrap();
    assert!(keeper.figure("VmHWM") < 60_000, "{} kB", keeper.figure("VmHWM"));
}
