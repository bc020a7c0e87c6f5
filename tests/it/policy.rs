//! `postern-dovecot policy`: one connection of Dovecot's on standard input and output.

use crate::sandbox::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

const YES: &str = r#"{"status":0,"msg":""}"#;
const REFUSED: &str = "Logins from this country are not allowed here.";

/// A connection, and the program at its other end.
pub(crate) struct Talk {
    stream: BufReader<UnixStream>,
    program: Child,
    key: String,
}

impl Talk {
    pub(crate) fn begin(sandbox: &Sandbox, user: u32, seams: &[&str]) -> Talk {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let output = theirs.try_clone().unwrap();
        let mut command = sandbox.program("postern-dovecot", user, seams);
        command
            .arg("policy")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(output)));
        let program = command.stderr(Stdio::piped()).spawn().unwrap();
        // Its own copies of the other end go with the command: the connection ends when the program does.
        drop(command);
        let key = std::fs::read_to_string(sandbox.path("etc/postern/policy-key")).unwrap();
        Talk { stream: BufReader::new(ours), program, key: key.trim().to_owned() }
    }

    fn send(&mut self, command: &str, body: &str) {
        let length = body.len();
        let head = format!(
            "POST /?command={command} HTTP/1.1\r\nX-Postern-Key: {}\r\nContent-Length: {length}\r\n\r\n",
            self.key
        );
        // A program that has ended reads nothing more.
        let _ = self.stream.get_mut().write_all((head + body).as_bytes());
    }

    /// The head and the body of the next answer; empty where the connection ended without one.
    fn hear(&mut self) -> (String, String) {
        let (mut head, mut line) = (String::new(), String::new());
        while self.stream.read_line(&mut line).is_ok_and(|n| n > 0) && line != "\r\n" {
            head += &std::mem::take(&mut line);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let mut body = vec![0; length.map_or(0, |digits| digits.parse().unwrap())];
        self.stream.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    pub(crate) fn ask(&mut self, account: &str, address: &str) -> String {
        self.send("allow", &attributes(account, address));
        self.hear().1
    }

    fn report(&mut self, account: &str, address: &str, end: &str) -> String {
        self.send("report", &attributes(account, address).replace('}', &format!(",{end}}}")));
        self.hear().1
    }

    #[track_caller]
    pub(crate) fn end(self, sandbox: &Sandbox) -> Ran {
        drop(self.stream);
        sandbox.finish(self.program)
    }
}

fn attributes(account: &str, address: &str) -> String {
    format!(r#"{{"login":"{account}","protocol":"imap","remote":"{address}"}}"#)
}

fn scene() -> Sandbox {
    let sandbox = Sandbox::new().countries("DE");
    for key in ["imap", "pop3", "smtp"] {
        sandbox.api(&["set_setting", &format!("key={key}_logins_from"), "value=policy"]);
    }
    sandbox
}

#[test]
fn one_program_answers_a_whole_connection_as_root_or_as_its_own_user() {
    for user in [0, POSTERN] {
        let sandbox = scene();
        let mut talk = Talk::begin(&sandbox, user, &[]);
        assert_eq!(talk.ask("alice@example.test", GERMAN), YES);
        let refused = talk.ask("alice@example.test", AMERICAN);
        assert!(refused.contains(&format!(r#"{{"status":-1,"msg":"{REFUSED} Reference "#)), "{refused}");
        // What the administrator says meanwhile counts for the next question.
        sandbox.api(&["add_user_exemption", "value=alice@example.test"]);
        assert_eq!(talk.ask("alice@example.test", AMERICAN), YES);
        assert_eq!(talk.report("alice@example.test", GERMAN, r#""success":true,"policy_reject":false"#), YES);
        assert_eq!(talk.ask("", ""), YES);
        let ran = talk.end(&sandbox);
        assert_eq!((ran.status, ran.err.as_str()), (Some(0), ""));
        assert_eq!(sandbox.status_of("call"), None);
        assert_eq!(sandbox.files_of(0, "var/lib/postern/state"), Vec::<std::path::PathBuf>::new(), "{user}");
    }
}

#[test]
fn without_the_right_key_a_user_is_told_nothing_and_changes_nothing() {
    let sandbox = scene();
    let mut talk = Talk::begin(&sandbox, POSTERN, &[]);
    talk.key = "0".repeat(64);
    talk.send(
        "report",
        &attributes("alice@example.test", AMERICAN).replace('}', r#","success":true,"policy_reject":false}"#),
    );
    let (head, body) = talk.hear();
    assert!(head.starts_with("HTTP/1.1 403 ") && body.is_empty(), "{head}");
    assert_eq!(talk.end(&sandbox).status, Some(0));
    sandbox.is_in_trouble("policy-key");
    // Nor does one who starts the program himself: he cannot read the key.
    let mut talk = Talk::begin(&sandbox, DOVECOT, &[]);
    talk.send("allow", &attributes("alice@example.test", AMERICAN));
    assert!(talk.hear().0.starts_with("HTTP/1.1 403 "));
    assert_eq!(sandbox.api(&["list_activity"]).as_array().map(Vec::len), Some(0));
}

#[test]
fn whatever_ends_the_program_within_a_question_is_a_yes_and_marked() {
    for (fault, trouble) in
        [("panic", "panic"), ("overflow", "signal"), ("hang", "deadline"), ("15", "signal"), ("11", "signal")]
    {
        let sandbox = scene();
        let mut talk = Talk::begin(&sandbox, POSTERN, &[&format!("--fault={fault}")]);
        assert_eq!(talk.ask("alice@example.test", AMERICAN), YES, "{fault}");
        assert_eq!(talk.hear().0, "", "{fault}: the connection ended");
        assert_eq!(talk.end(&sandbox).status, Some(0), "{fault}");
        sandbox.is_in_trouble(trouble);
    }
}

#[test]
fn a_client_that_goes_away_is_no_trouble() {
    let sandbox = scene();
    let mut talk = Talk::begin(&sandbox, POSTERN, &[]);
    talk.send("allow", &attributes("alice@example.test", AMERICAN));
    drop(talk.stream);
    assert_eq!(sandbox.finish(talk.program).status, Some(0));
    let troubles = ["signal", "call", "panic", "deadline", "policy-key"];
    assert_eq!(troubles.map(|code| sandbox.status_of(code)), [const { None }; 5]);
}

#[test]
fn a_chained_server_that_cannot_be_understood_is_told_of_and_logins_go_on() {
    let sandbox = scene();
    for url in ["https://127.0.0.1/", "http://192.0.2.1/", "nonsense", "http://127.0.0.1:1/x"] {
        std::fs::write(sandbox.path("etc/postern/chained-policy-url"), url).unwrap();
        sandbox.postern(&["trouble", "clear"]).succeeded();
        let mut talk = Talk::begin(&sandbox, POSTERN, &[]);
        assert_eq!(talk.ask("alice@example.test", GERMAN), YES, "{url}");
        assert!(talk.ask("alice@example.test", AMERICAN).contains(REFUSED), "{url}");
        talk.end(&sandbox);
        sandbox.is_in_trouble("chained-policy");
    }
}

/// Every local user can connect where systemd starts a program for each connection, and systemd starts so many only.
#[test]
fn who_sends_no_request_holds_no_program_however_slowly_he_sends_it() {
    let sandbox = scene();
    let silent = Talk::begin(&sandbox, POSTERN, &[]);
    let mut asks_to_go_on = Talk::begin(&sandbox, POSTERN, &[]);
    let head = "POST /?command=allow HTTP/1.1\r\nContent-Length: 16384\r\nExpect: 100-continue\r\n\r\n";
    asks_to_go_on.stream.get_mut().write_all(head.as_bytes()).unwrap();
    for mut talk in [Talk::begin(&sandbox, POSTERN, &[]), asks_to_go_on] {
        eventually("it has given up", || {
            std::thread::sleep(Duration::from_millis(100));
            let _ = talk.stream.get_mut().write_all(b"P");
            talk.program.try_wait().unwrap().is_some()
        });
    }
    assert_eq!(sandbox.finish(silent.program).status, Some(0));
    let mut dovecot = Talk::begin(&sandbox, POSTERN, &[]);
    for _ in 0..2 {
        assert_eq!(dovecot.ask("alice@example.test", GERMAN), YES);
        std::thread::sleep(Duration::from_millis(1500));
    }
    assert_eq!(dovecot.end(&sandbox).status, Some(0));
}
