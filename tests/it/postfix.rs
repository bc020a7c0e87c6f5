//! Postfix's programs, which live as long as their connection: each question has a deadline and a way out of its
//! own, and between two of them they wait as long as Postfix likes.

use crate::sandbox::*;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::time::Duration;

const ALICE: &str = "alice@example.test";
const GO_ON: &str = "action=DUNNO\n\n";

/// A program and the connection that spawn(8) gives it as standard input and output.
struct Talk {
    child: Child,
    stream: UnixStream,
}

impl Talk {
    fn begin(sandbox: &Sandbox, verb: &str, seams: &[&str]) -> Talk {
        let (stream, theirs) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(FOREVER)).unwrap();
        let mut command = sandbox.program("postern-postfix", POSTERN, seams);
        command.arg(verb).stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
        Talk { child: command.stderr(Stdio::piped()).spawn().unwrap(), stream }
    }

    /// The answer to one question; what was said until then where the connection ended.
    fn ask(&mut self, question: &str) -> String {
        self.stream.write_all(question.as_bytes()).unwrap();
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"\n\n") && self.stream.read(&mut byte).unwrap() == 1 {
            said.push(byte[0]);
        }
        String::from_utf8(said).unwrap()
    }

    /// What else is said until the program ends, and how it ends, when Postfix says nothing more.
    fn end(mut self, sandbox: &Sandbox) -> (String, Ran) {
        let mut rest = String::new();
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        self.stream.read_to_string(&mut rest).unwrap();
        (rest, sandbox.finish(self.child))
    }
}

fn question(state: &str, instance: &str, address: &str) -> String {
    format!(
        "request=smtpd_access_policy\nprotocol_state={state}\nclient_address={address}\nclient_port=4711\n\
         sasl_username={ALICE}\ninstance={instance}\nrecipient_count=1\nqueue_id=90E116CE1C6\n\
         policy_context=postern\n\n"
    )
}

fn sent(instance: &str) -> String {
    question("END-OF-MESSAGE", instance, GERMAN)
}

#[test]
fn one_process_answers_for_a_whole_connection() {
    let sandbox = Sandbox::new().countries("DE").setting("rate_limit_messages", "2");
    let mut talk = Talk::begin(&sandbox, "policy", &[]);
    assert_eq!(talk.ask(&question("RCPT", "1.2.3.0", GERMAN)), GO_ON);
    assert_eq!(talk.ask(&sent("1.2.3.0")), GO_ON);
    assert_eq!(talk.ask(&question("RCPT", "1.2.4.1", GERMAN)), GO_ON);
    assert_eq!(talk.ask(&sent("1.2.4.1")), GO_ON);
    let refused = talk.ask(&sent("1.2.5.2"));
    assert!(refused.starts_with("action=451 4.7.1 More than 2 messages in 5 minutes"), "{refused}");
    let refused = talk.ask(&question("RCPT", "1.2.6.0", AMERICAN));
    assert!(refused.starts_with("action=550 5.7.1 Logins from this country"), "{refused}");
    assert_eq!(talk.ask(&sent("1.2.6.0").replace(ALICE, "")), GO_ON, "nobody logged in");
    let (rest, ended) = talk.end(&sandbox);
    assert_eq!((rest.as_str(), ended.status), ("", Some(0)));
    assert_eq!(sandbox.logged("event=trouble"), 0);
}

#[test]
fn postfix_may_take_its_time_between_two_questions() {
    let sandbox = Sandbox::new();
    let mut talk = Talk::begin(&sandbox, "policy", &[]);
    assert_eq!(talk.ask(&sent("1.2.3.0")), GO_ON);
    // Longer than a question's deadline, also within one.
    std::thread::sleep(Duration::from_millis(1700));
    let second = sent("1.2.4.1");
    let (begun, rest) = second.split_at(40);
    talk.stream.write_all(begun.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(1700));
    assert_eq!(talk.ask(rest), GO_ON);
    assert_eq!(talk.end(&sandbox).1.status, Some(0));
    assert_eq!(sandbox.logged("event=trouble"), 0);
}

#[test]
fn whatever_ends_it_within_a_question_is_answered_with_go_on() {
    let sandbox = Sandbox::new().countries("DE");
    for fault in ["1", "2", "6", "7", "8", "11", "13", "14", "15", "31", "panic", "overflow", "hang"] {
        let mut talk = Talk::begin(&sandbox, "policy", &[&format!("--fault={fault}")]);
        // Nothing is decided for mail that comes in, so nothing happens yet.
        assert_eq!(talk.ask(&sent("1.2.3.0").replace(ALICE, "")), GO_ON, "{fault}");
        assert_eq!(talk.ask(&question("RCPT", "1.2.3.0", AMERICAN)), GO_ON, "{fault}");
        let (rest, ended) = talk.end(&sandbox);
        assert_eq!((rest.as_str(), ended.status), ("", Some(0)), "{fault}: {ended:?}");
    }
    for trouble in ["signal", "panic", "deadline"] {
        sandbox.is_in_trouble(trouble);
    }
}

#[test]
fn whatever_ends_it_between_two_questions_says_nothing_that_could_be_taken_for_an_answer() {
    let sandbox = Sandbox::new();
    let mut talk = Talk::begin(&sandbox, "policy", &[]);
    assert_eq!(talk.ask(&sent("1.2.3.0")), GO_ON);
    let id = nix::unistd::Pid::from_raw(talk.child.id().cast_signed());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
    let (rest, ended) = talk.end(&sandbox);
    assert_eq!((rest.as_str(), ended.status), ("", Some(0)), "{ended:?}");
}

#[test]
fn what_it_does_not_understand_goes_on_and_is_marked() {
    let sandbox = Sandbox::new();
    let mut talk = Talk::begin(&sandbox, "policy", &[]);
    assert_eq!(talk.ask("GET / HTTP/1.1\r\nHost: x\r\n\n"), GO_ON);
    assert_eq!(talk.ask(&sent("1.2.3.0")), GO_ON);
    assert_eq!(talk.end(&sandbox).1.status, Some(0));
    sandbox.is_in_trouble("call");
    let wrong = Talk::begin(&sandbox, "fly", &[]);
    let (said, ended) = wrong.end(&sandbox);
    assert_eq!((said.as_str(), ended.status), ("", Some(1)));
}

fn packet(command: u8, data: &str) -> Vec<u8> {
    [&u32::try_from(data.len() + 1).unwrap().to_be_bytes()[..], &[command], data.as_bytes()].concat()
}

#[test]
fn a_local_message_is_its_users_and_whatever_ends_the_program_lets_it_go_on() {
    let sandbox = Sandbox::new().setting("rate_limit_messages", "1");
    std::fs::create_dir_all(sandbox.path("etc")).unwrap();
    std::fs::write(sandbox.path("etc/passwd"), "webuser:x:2001:2001::/:/bin/sh\n").unwrap();
    let talk = |seams: &[&str]| {
        let mut talk = Talk::begin(&sandbox, "milter", seams);
        let field = "X-Local-Submission\0userid 2001 id 90E116CE1C6\0";
        let told = [packet(b'D', "Ei\090E116CE1C6\0"), packet(b'L', field), packet(b'E', "")].concat();
        talk.stream.write_all(&told).unwrap();
        let (said, ended) = talk.end(&sandbox);
        assert_eq!(ended.status, Some(0));
        said
    };
    let go_on = "\0\0\0\u{1}c";
    // The first answer is for the field.
    assert_eq!(talk(&[]), [go_on, go_on].concat());
    let held = talk(&[]);
    assert!(
        held.contains("qpostern: More than 1 messages in 5 minutes") && held.ends_with(go_on),
        "{held:?}"
    );
    assert_eq!(sandbox.api(&["list_held"])[0]["account"], "webuser");
    for fault in ["11", "15", "panic", "overflow", "hang"] {
        assert_eq!(talk(&[&format!("--fault={fault}")]), [go_on, go_on].concat(), "{fault}");
    }
}
