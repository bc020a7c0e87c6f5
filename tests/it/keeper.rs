//! The keeper: the same answers as the hooks, faster; and whatever happens to it, mail goes on and nothing
//! counts twice.

use crate::sandbox::{AMERICAN, EXIM, GERMAN, POSTERN, Sandbox, THIEF, as_user, ask, eventually, run};
use nix::sys::signal::Signal;
use postern::door::line::question;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";
const CAROL: &str = "carol@example.test";

/// The fields of a message by SMTP.
fn message(account: &str) -> [&str; 7] {
    ["data", GERMAN, account, "", "", "1", "1xW1Xt-0000gl-1R"]
}

fn sent(sandbox: &Sandbox) -> i64 {
    sandbox.in_state("SELECT coalesce(sum(sent), 0) FROM account_day")
}

#[test]
fn it_answers_as_the_hooks_do() {
    let sandbox = Sandbox::new().countries("DE").blocked(BOB).setting("rate_limit_messages", "2");
    let keeper = sandbox.keeper(&[]);
    let said = |verb: &str, fields: &[&str]| keeper.ask(EXIM, verb, fields).unwrap();
    for (address, account) in [(GERMAN, ALICE), (AMERICAN, ALICE), (GERMAN, BOB), ("127.0.0.1", ALICE)] {
        let without_reference = |text: &str| text.split(" Reference").next().unwrap().to_string();
        let by_hook = sandbox.mail(account, address);
        let by_keeper = said("mail", &[address, account]);
        assert_eq!(without_reference(&by_hook), without_reference(&by_keeper), "{account} from {address}");
        let (by_hook, by_keeper) = (sandbox.auth(address), said("auth", &[address]));
        assert_eq!(without_reference(&by_hook), without_reference(&by_keeper), "{address}");
    }
    assert_eq!(said("send", &message(ALICE)), "allow\n");
    assert_eq!(sandbox.send(ALICE), "allow\n");
    let third = said("send", &message(ALICE));
    assert!(third.starts_with("defer 451 4.7.1 More than 2 messages in 5 minutes"), "{third}");
    let fourth = sandbox.send(ALICE);
    assert!(fourth.starts_with("defer 451 4.7.1 Sending from this account is stopped"), "{fourth}");
    // A login that was refused is found by its reference, whoever refused it.
    let refused = said("mail", &[AMERICAN, ALICE]);
    let reference = refused.split("Reference ").nth(1).unwrap().trim().trim_end_matches('.');
    let found = sandbox.api(&["list_activity", &format!("reference={reference}")]);
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{refused}: {found}");
    assert_eq!(said("outcome", &[GERMAN, ALICE, "succeeded"]), "allow\n");
    assert!(said("fly", &[]).starts_with("open "));
}

#[test]
fn what_an_administrator_changes_holds_from_the_next_question_on() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    let refused = || keeper.ask(EXIM, "mail", &[AMERICAN, ALICE]).unwrap().starts_with("deny");
    assert!(!refused());
    let sandbox = sandbox.countries("DE");
    assert!(refused());
    let sandbox = sandbox.exempt_user(ALICE);
    assert!(!refused());
    sandbox.api(&["remove_user_exemption", &format!("value={ALICE}")]);
    std::fs::remove_file(sandbox.path("var/lib/postern/data/networks.mmdb")).unwrap();
    eventually("without data the country rule abstains", || !refused());
    sandbox.is_in_trouble("networks");
}

#[test]
fn keeper_and_hooks_together_admit_exactly_the_limit() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "50");
    let keeper = sandbox.keeper(&[]);
    let admitted: usize = std::thread::scope(|threads| {
        let asked: Vec<_> = (0..8)
            .map(|n| {
                let (sandbox, keeper) = (&sandbox, &keeper);
                threads.spawn(move || {
                    let send = || match n % 2 {
                        0 => sandbox.send(ALICE),
                        _ => keeper.ask(EXIM, "send", &message(ALICE)).unwrap(),
                    };
                    (0..15).filter(|_| send() == "allow\n").count()
                })
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(admitted, 50);
}

#[test]
fn strangers_cannot_reach_it_and_are_not_answered_where_they_could() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    let refused = keeper.ask(THIEF, "auth", &[GERMAN]).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    let folder = sandbox.path("run/postern/sockets");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(keeper.ask(THIEF, "send", &message(ALICE)).unwrap(), "open not admitted\n");
    sandbox.is_in_trouble("not-admitted");
    // Root and Postern's own user are answered; root's questions count for nobody.
    assert_eq!(keeper.ask(POSTERN, "send", &message(ALICE)).unwrap(), "allow\n");
    assert_eq!(keeper.ask(0, "send", &message(BOB)).unwrap(), "open not counted\n");
    assert_eq!(sandbox.in_state::<String>("SELECT group_concat(account) FROM sender"), ALICE);
}

#[test]
fn a_panic_costs_its_request_and_no_refusal() {
    let sandbox = Sandbox::new().countries("DE");
    let keeper = sandbox.keeper(&["--fault", ALICE]);
    assert_eq!(keeper.ask(EXIM, "mail", &[GERMAN, ALICE]).unwrap(), "open not counted\n");
    let refused = keeper.ask(EXIM, "mail", &[AMERICAN, ALICE]).unwrap();
    assert!(refused.starts_with("deny 550 5.7.1 Logins from this country"), "{refused}");
    for _ in 0..20 {
        assert_eq!(keeper.ask(EXIM, "send", &message(ALICE)).unwrap(), "open not counted\n");
        assert_eq!(keeper.ask(EXIM, "send", &message(BOB)).unwrap(), "allow\n");
    }
    sandbox.is_in_trouble("panic");
    assert_eq!(sandbox.logged("code=panic detail=asked%20for"), 1, "told once");
}

#[test]
fn who_replaces_the_state_gets_it_and_counting_goes_on_in_the_new_one() {
    let sandbox = Sandbox::new();
    // It never tidies up: that would write the whole state back over the damage.
    let keeper = sandbox.keeper(&["--fault", "tidying"]);
    for _ in 0..3 {
        assert_eq!(keeper.ask(EXIM, "send", &message(ALICE)).unwrap(), "allow\n");
    }
    // Damage as a failing disk leaves it, all of it before anybody looks.
    keeper.signal(Signal::SIGSTOP);
    File::options().write(true).open(sandbox.state()).unwrap().write_all_at(&[b'x'; 100], 0).unwrap();
    for side in ["state.db-wal", "state.db-shm"] {
        std::fs::remove_file(sandbox.path("var/lib/postern/state").join(side)).unwrap();
    }
    keeper.signal(Signal::SIGCONT);
    sandbox.postern(&["tick"]).succeeded();
    for _ in 0..2 {
        assert_eq!(keeper.ask(EXIM, "send", &message(BOB)).unwrap(), "allow\n");
    }
    let rows: String = sandbox.in_state("SELECT group_concat(account) FROM sender");
    assert_eq!(rows, BOB);
    std::fs::remove_file(sandbox.state()).unwrap();
    eventually("the state is missed", || {
        assert_eq!(keeper.ask(EXIM, "send", &message(BOB)).unwrap(), "allow\n", "mail goes on without it");
        sandbox.status_of("state-missing").is_some_and(|(state, _)| state == "TROUBLE")
    });
}

#[test]
fn it_holds_the_state_before_anybody_asks_and_again_after_it_was_replaced() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    let holds = || keeper.has_open(&sandbox.path("var/lib/postern/state/state.db-wal"));
    eventually("the state is open", holds);
    std::fs::remove_file(sandbox.state()).unwrap();
    eventually("it is let go", || !holds());
    sandbox.postern(&["tick"]).succeeded();
    eventually("the new one is open", holds);
}

#[test]
fn a_line_after_the_tally_was_taken_away_begins_a_new_one() {
    // However long it takes until a new one is begun, nobody is stopped.
    let sandbox = Sandbox::new().setting("rate_limit_messages", "100000");
    sandbox.send(BOB);
    let keeper = sandbox.keeper(&[]);
    // It does not tidy up a second time within the minute.
    eventually("it has tidied up", || sent(&sandbox) == 1);
    let folder = sandbox.path("var/lib/postern/state/tally");
    let lines = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap().lines().count();
    let ask = || assert_eq!(keeper.ask(EXIM, "send", &message(ALICE)).unwrap(), "allow\n");
    (0..3).for_each(|_| ask());
    std::fs::rename(folder.join("current"), folder.join("taken")).unwrap();
    let mut asked = 3;
    eventually("a new one is begun", || {
        ask();
        asked += 1;
        folder.join("current").exists()
    });
    ask();
    assert_eq!((lines("taken") + lines("current"), lines("current")), (asked + 1, 2));
}

#[test]
fn behind_a_late_keeper_a_hook_counts_nothing_and_known_refusals_hold() {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "1");
    let keeper = sandbox.keeper(&[]);
    let after = |verb: &str, account: &str, address: &str| {
        let (account, address) = (format!("--account={account}"), format!("--address={address}"));
        sandbox.exim(&[], &[verb, "--after-socket", "--from=data", &account, &address])
    };
    assert_eq!(sandbox.send(BOB), "allow\n");
    assert!(sandbox.send(BOB).starts_with("defer "));
    assert_eq!(sandbox.status_of("keeper").unwrap().0, "good");
    keeper.signal(Signal::SIGSTOP);
    sandbox.is_in_trouble("keeper");
    for _ in 0..3 {
        assert_eq!(after("send", ALICE, GERMAN), "open not counted\n");
    }
    assert!(after("send", BOB, GERMAN).starts_with("defer 451 4.7.1 Sending from this account is stopped"));
    assert!(after("mail", ALICE, AMERICAN).starts_with("deny 550 5.7.1 "));
    keeper.signal(Signal::SIGCONT);
    let counted = "SELECT count(*) FROM sender WHERE account = 'alice@example.test'";
    assert_eq!(sandbox.in_state::<i64>(counted), 0);
    let refused = "SELECT refused FROM stop WHERE account = 'bob@example.test'";
    assert_eq!(sandbox.in_state::<i64>(refused), 1);

    // Dead: its socket is left behind, and a hook works alone.
    keeper.signal(Signal::SIGKILL);
    eventually("it is dead", || UnixStream::connect(&keeper.socket).is_err());
    assert!(keeper.socket.exists());
    assert_eq!(after("send", ALICE, GERMAN), "allow\n");
    assert!(after("send", ALICE, GERMAN).starts_with("defer "));
    assert_eq!(sandbox.status_of("keeper").unwrap().0, "note");
    std::fs::remove_file(&keeper.socket).unwrap();
    assert_eq!(after("send", CAROL, GERMAN), "allow\n");
}

#[test]
fn a_hook_asks_the_keeper_before_it_opens_anything_itself() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "2");
    let keeper = sandbox.keeper(&["--fault", ALICE]);
    let send = |account: &str| {
        let mut hook = sandbox.program_by_the_clock("postern-exim", EXIM);
        run(hook.args(Sandbox::message(account))).succeeded()
    };
    let counted = |account: &str| {
        sandbox.in_state::<i64>(&format!("SELECT count(*) FROM sender WHERE account = '{account}'"))
    };
    assert_eq!((send(BOB).as_str(), counted(BOB)), ("allow\n", 1));
    assert_eq!(send(ALICE), "open not counted\n", "the keeper has the fault");
    assert_eq!(send(BOB), "allow\n");
    assert!(send(BOB).starts_with("defer 451 4.7.1 More than 2 messages in 5 minutes"));
    // Who is not admitted, and what the keeper does not understand, is for the hook alone to answer.
    let mut stranger = sandbox.program_by_the_clock("postern-exim", THIEF);
    assert_eq!(run(stranger.args(Sandbox::message(BOB))).succeeded(), "allow\n", "he has no state either");
    let mut unknown = sandbox.program_by_the_clock("postern-exim", EXIM);
    assert!(run(unknown.args(["auth", "--address=nonsense"])).succeeded().starts_with("open The "));

    keeper.signal(Signal::SIGSTOP);
    assert_eq!((send(CAROL).as_str(), counted(CAROL)), ("open not counted\n", 0), "it may yet count it");
    keeper.signal(Signal::SIGKILL);
    eventually("it is dead", || UnixStream::connect(&keeper.socket).is_err());
    assert_eq!((send(CAROL).as_str(), counted(CAROL)), ("allow\n", 1), "alone");
    assert_eq!(send(ALICE), "allow\n", "alone, without the fault");
}

#[test]
fn it_ends_when_told_and_the_next_one_takes_its_place() {
    let sandbox = Sandbox::new();
    let first = sandbox.keeper(&[]);
    assert_eq!(first.figure("Uid"), i64::from(POSTERN), "never root");
    let next = sandbox.begin_keeper(&[]);
    assert_eq!(first.ask(EXIM, "send", &message(ALICE)).unwrap(), "allow\n");
    let ended = first.end();
    assert_eq!((ended.status, ended.err.as_str()), (Some(0), ""));
    eventually("the next one answers", || {
        ask(&next.socket, EXIM, question("send", &message(ALICE)).as_bytes())
            .is_ok_and(|said| said == "allow\n")
    });
    let window: Vec<u8> = sandbox.in_state("SELECT window FROM sender");
    assert!(!window.is_empty());
    next.end().succeeded();
}

#[test]
fn slow_and_endless_questions_keep_nobody_else_waiting() {
    let sandbox = Sandbox::new();
    let keeper = sandbox.keeper(&[]);
    let idle: Vec<UnixStream> = as_user(EXIM, || {
        (0..500)
            .map(|_| {
                let mut stream = UnixStream::connect(&keeper.socket).unwrap();
                stream.write_all(b"postern/1 au").unwrap();
                stream
            })
            .collect()
    });
    assert_eq!(keeper.ask(EXIM, "send", &message(ALICE)).unwrap(), "allow\n");
    // Each is given up within its second, without an answer to what was never asked.
    for mut stream in idle {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut said = String::new();
        assert_eq!(stream.read_to_string(&mut said).unwrap_or(0), 0, "{said}");
    }
    let endless = as_user(EXIM, || {
        let mut stream = UnixStream::connect(&keeper.socket).unwrap();
        let part = [b'x'; 65_536];
        // It stops listening long before.
        (0..160).take_while(|_| stream.write_all(&part).is_ok()).count()
    });
    assert!(endless < 160);
    assert_eq!(keeper.ask(EXIM, "send", &message(ALICE)).unwrap(), "allow\n");
    eventually("its threads have ended", || keeper.figure("Threads") < 20);
}

#[test]
fn while_another_holds_the_state_mail_goes_on_and_stopped_accounts_stay_stopped() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    let keeper = sandbox.keeper(&[]);
    assert_eq!(keeper.ask(EXIM, "send", &message(BOB)).unwrap(), "allow\n");
    assert!(keeper.ask(EXIM, "send", &message(BOB)).unwrap().starts_with("defer "));
    let holder = rusqlite::Connection::open(sandbox.state()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|threads| {
        let asked: Vec<_> = (0..12)
            .map(|n| {
                let account = if n % 2 == 0 { ALICE } else { BOB };
                let keeper = &keeper;
                threads.spawn(move || (account, keeper.ask(EXIM, "send", &message(account)).unwrap()))
            })
            .collect();
        for thread in asked {
            match thread.join().unwrap() {
                // Whoever had a turn waited for the state; the others did not even get a turn.
                (ALICE, said) => {
                    assert!(["allow\n", "open not counted\n"].contains(&said.as_str()), "{said}")
                }
                (_, said) => assert!(said.starts_with("defer 451 4.7.1 Sending"), "{said}"),
            }
        }
    });
    holder.execute_batch("ROLLBACK").unwrap();
    sandbox.is_in_trouble("state-locked");
    sandbox.is_in_trouble("keeper-busy");
    assert_eq!(keeper.ask(EXIM, "send", &message(ALICE)).unwrap(), "allow\n");
}

#[test]
fn it_folds_the_tally_and_leaves_notices_to_the_tick() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    for _ in 0..2 {
        sandbox.send(ALICE);
    }
    let keeper = sandbox.keeper(&[]);
    eventually("the tally is folded", || sent(&sandbox) == 1);
    assert_eq!(sandbox.in_state::<i64>("SELECT count(*) FROM notice WHERE sent IS NULL"), 1);
    assert!(keeper.figure("VmRSS") < 30_000, "{} kB", keeper.figure("VmRSS"));
}

/// A request of Dovecot's, with this key.
pub(crate) fn policy_request(key: &str, address: &str) -> String {
    let body = format!(r#"{{"login":"{ALICE}","protocol":"imap","remote":"{address}"}}"#);
    let length = body.len();
    format!("POST /?command=allow HTTP/1.1\r\nX-Postern-Key: {key}\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// The whole answer, by its bytes; empty where the connection ended without one.
pub(crate) fn policy_answer(stream: &mut TcpStream) -> String {
    let mut said = [0; 2048];
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let n = stream.read(&mut said).unwrap_or(0);
    String::from_utf8_lossy(&said[..n]).into_owned()
}

#[test]
fn it_answers_dovecot_by_the_key_and_on_one_connection_for_many_logins() {
    let sandbox = Sandbox::new().countries("DE").setting("imap_logins_from", "policy");
    let at = free_port();
    let _keeper = sandbox.keeper(&[&format!("--policy-at={at}")]);
    let key = std::fs::read_to_string(sandbox.path("etc/postern/policy-key")).unwrap().trim().to_string();
    let mut stream = TcpStream::connect(at).unwrap();
    let mut ask = |key: &str, address: &str| {
        stream.write_all(policy_request(key, address).as_bytes()).unwrap();
        policy_answer(&mut stream)
    };
    for _ in 0..3 {
        assert!(ask(&key, GERMAN).ends_with(r#"{"status":0,"msg":""}"#));
        assert!(ask(&key, AMERICAN).contains(r#""status":-1,"msg":"Logins from this country"#));
    }
    assert!(ask(&"0".repeat(64), GERMAN).starts_with("HTTP/1.1 403 "));
    sandbox.is_in_trouble("policy-key");
    let proved = || sandbox.status_of("policy server for Dovecot").unwrap();
    assert_eq!(proved().0, "TROUBLE", "Dovecot's configuration names the standard port");
    let file = sandbox.path("etc/postern/dovecot-policy.conf");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("127.0.0.1:301", &at.to_string())).unwrap();
    assert_eq!(proved().0, "good", "{:?}", proved());
    std::fs::write(sandbox.path("etc/postern/policy-key"), "another").unwrap();
    assert!(proved().1.contains("403"), "{:?}", proved());
}

#[test]
fn local_users_who_flood_dovecots_port_keep_nobody_waiting() {
    let sandbox = Sandbox::new().countries("DE");
    let at = free_port();
    let keeper = sandbox.keeper(&[&format!("--policy-at={at}")]);
    let key = std::fs::read_to_string(sandbox.path("etc/postern/policy-key")).unwrap().trim().to_string();
    let flood: Vec<TcpStream> = as_user(THIEF, || {
        let begin = |n: usize| {
            let mut stream = TcpStream::connect(at).unwrap();
            let part = if n.is_multiple_of(2) { "POST /?command=allow HTTP/1.1\r\nX-Po" } else { "" };
            stream.write_all(part.as_bytes()).unwrap();
            stream
        };
        (0..300).map(begin).collect()
    });
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(policy_request(&key, AMERICAN).as_bytes()).unwrap();
    assert!(policy_answer(&mut stream).contains(r#""status":-1"#));
    // Ten megabytes of a request that says it is short, and of one that does not.
    for length in ["10000000", "5"] {
        let head = format!(
            "POST /?command=report HTTP/1.1\r\nX-Postern-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
        );
        let mut endless = TcpStream::connect(at).unwrap();
        endless.write_all(head.as_bytes()).unwrap();
        let part = [b'x'; 65_536];
        let taken = (0..160).take_while(|_| endless.write_all(&part).is_ok()).count();
        assert!(taken < 160, "{length}");
    }
    let refused = keeper.ask(EXIM, "mail", &[AMERICAN, ALICE]).unwrap();
    assert!(refused.starts_with("deny "), "Exim's socket has threads of its own: {refused}");
    drop(flood);
    eventually("its threads have ended", || keeper.figure("Threads") < 20);
}

#[test]
fn a_port_that_another_has_is_no_trouble_and_told() {
    let sandbox = Sandbox::new();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = other.local_addr().unwrap();
    let keeper = sandbox.keeper(&[&format!("--policy-at={at}")]);
    assert_eq!(keeper.ask(EXIM, "mail", &[GERMAN, ALICE]).unwrap(), "allow\n");
    assert_eq!(sandbox.logged("another%20answers%20there"), 1);
    assert_eq!(sandbox.status_of("keeper").unwrap().0, "good");
}

/// An address that nobody listens on at the moment.
pub(crate) fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
