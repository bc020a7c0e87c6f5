//! The line protocol: Exim's questions on the keeper's socket, asked by `${readsocket}`.
//!
//! One connection, one question, one answer:
//!
//! ```text
//! postern/1 <verb> <field> <field> …\n        each field in base64 (RFC 4648 §4), one blank between two
//! ```
//!
//! The answer is the line that `postern-exim` prints for the same values (see [`exim`]), and the end
//! of the connection. Fields stand in a fixed order; an empty value is an empty field. None may be left
//! out but `to`, which older snippets do not have.
//! Base64, because a HELO or sender may hold a newline, which must not become a field or a line of its own.
//!
//! | verb | fields |
//! |---|---|
//! | `auth` | address |
//! | `mail` | address, account |
//! | `send` | from, address, account, caller, uid, recipients, id, to |
//! | `outcome` | address, account, ended |
//!
//! Who asks nothing is told nothing: so a hook finds out whether somebody listens. A question is at most [`LONGEST`]
//! bytes. Another version, an unknown verb and whatever cannot be read is answered `open` and why: mail goes on.
//!
//! The hook that Exim starts asks here itself (`ask`) before it opens anything: the keeper has all open already.

use super::exim::{self, Value};
use super::{Ask, read_some, say};
use crate::error::{Error, Result};
use crate::hook::connect_to_keeper;
use crate::paths::Paths;
use crate::request::Request;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Longest question, in bytes, with its newline.
pub const LONGEST: usize = 8192;

/// The first word of every question.
const VERSION: &[u8] = b"postern/1";

const FIELDS: &[(&str, &[&str])] = &[
    ("auth", &["address"]),
    ("mail", &["address", "account"]),
    ("send", &["from", "address", "account", "caller", "uid", "recipients", "id", "to"]),
    ("outcome", &["address", "account", "ended"]),
];

/// The field that may be left out: the last of its verb.
const MAY_LACK: &str = "to";

/// How long a hook waits for the keeper. Enough is left of its own time to go on without.
const PATIENCE: Duration = Duration::from_millis(600);

/// What a keeper answers who has no time to count.
pub(super) const NOT_COUNTED: &str = "open not counted\n";

/// A question as it stands on the wire.
pub fn question(verb: &str, fields: &[&str]) -> String {
    let mut line = format!("postern/1 {verb}");
    for field in fields {
        line.push(' ');
        STANDARD.encode_string(field, &mut line);
    }
    line.push('\n');
    line
}

/// What comes of asking the keeper.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// This line for Exim.
    Answered(String),
    /// Nothing in time: it may have counted what it was asked, or may yet do so.
    Unanswered,
    /// Nothing was asked, or nothing understood: nobody listens, or one of another version, or one for other users.
    ToNobody,
}

/// Asks the keeper what Exim asks, by the same names.
pub(super) fn ask(paths: &Paths, verb: &[u8], value: Value) -> Asked {
    let Some((verb, names)) = FIELDS.iter().find(|(known, _)| known.as_bytes() == verb) else {
        return Asked::ToNobody;
    };
    let stream = match connect_to_keeper(paths) {
        Ok(stream) => stream,
        Err(Errno::EAGAIN | Errno::EINPROGRESS) => return Asked::Unanswered,
        Err(_) => return Asked::ToNobody,
    };
    let values: Vec<String> = names.iter().map(|name| value(name)).collect();
    let question = question(verb, &values.iter().map(String::as_str).collect::<Vec<_>>());
    match answer(&stream, question.as_bytes()) {
        Some(line) if line.starts_with("open ") && line != NOT_COUNTED => Asked::ToNobody,
        Some(line) => Asked::Answered(line),
        None => Asked::Unanswered,
    }
}

/// The whole line that is answered.
fn answer(mut stream: &UnixStream, question: &[u8]) -> Option<String> {
    // Without a signal where the keeper has gone: the way out would take it for a fault of ours.
    send(stream.as_raw_fd(), question, MsgFlags::MSG_NOSIGNAL).ok().filter(|sent| *sent == question.len())?;
    stream.set_nonblocking(false).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < LONGEST {
        if read_some(&mut stream, &mut line).ok()? == 0 {
            return None;
        }
    }
    String::from_utf8(line).ok()
}

/// Reads one question, asks, answers. `mail_server` is the number of the user who is connected: Exim's.
///
/// Fails where the connection fails. What was not understood is given back as an error for the caller to mark,
/// after it was answered.
pub fn converse(
    stream: &mut (impl Read + Write),
    mail_server: u32,
    ask: &mut Ask,
) -> std::io::Result<Result<()>> {
    let line = read_line(stream)?;
    if line.as_ref().is_ok_and(Vec::is_empty) {
        // A hook that looks whether somebody listens.
        return Ok(Ok(()));
    }
    let understood = line.and_then(|line| request(&line, mail_server));
    let (answer, outcome) = match understood {
        Ok(request) => (exim::spoken(&request, &ask(&request)), Ok(())),
        Err(error) => (format!("open {error}\n"), Err(error)),
    };
    say(stream, answer.as_bytes())?;
    Ok(outcome)
}

/// Answers a question of somebody who may not ask. It is read all the same: what lies unread when a connection
/// is closed takes the answer away, too.
pub fn turn_away(stream: &mut (impl Read + Write)) -> std::io::Result<()> {
    let _ = read_line(stream)?;
    say(stream, b"open not admitted\n")
}

/// The bytes up to the first newline, or to the end where the client sends none.
fn read_line(stream: &mut impl Read) -> std::io::Result<Result<Vec<u8>>> {
    let mut line = Vec::with_capacity(512);
    loop {
        let before = line.len();
        let n = read_some(stream, &mut line)?;
        if let Some(end) = line[before..].iter().position(|b| *b == b'\n') {
            line.truncate(before + end);
            return Ok(Ok(line));
        }
        if n == 0 {
            return Ok(Ok(line));
        }
        if line.len() >= LONGEST {
            return Ok(Err(Error::bad_value(
                "The question",
                "that came",
                format!("{LONGEST} bytes at most"),
            )));
        }
    }
}

/// Reads a question.
fn request(line: &[u8], mail_server: u32) -> Result<Request> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut words = line.split(|b| *b == b' ');
    let version = words.next().unwrap_or_default();
    if version != VERSION {
        let accepted = "postern/1: compare the snippets with those of this version";
        return Err(Error::bad_value("The version", &String::from_utf8_lossy(version), accepted));
    }
    let verb = words.next().unwrap_or_default();
    let Some((_, names)) = FIELDS.iter().find(|(known, _)| known.as_bytes() == verb) else {
        let accepted = "auth, mail, send or outcome";
        return Err(Error::bad_value("The verb", &String::from_utf8_lossy(verb), accepted));
    };
    let values = words.map(decoded).collect::<Result<Vec<String>>>()?;
    let least = names.len() - usize::from(names.last() == Some(&MAY_LACK));
    if !(least..=names.len()).contains(&values.len()) {
        let accepted = format!("its {} fields: {}", names.len(), names.join(", "));
        return Err(Error::bad_value("The question", &String::from_utf8_lossy(verb), accepted));
    }
    let value = |name: &str| {
        let place = names.iter().position(|known| *known == name);
        place.and_then(|i| values.get(i)).cloned().unwrap_or_default()
    };
    exim::request(verb, &value, mail_server)
}

fn decoded(field: &[u8]) -> Result<String> {
    let bytes = STANDARD.decode(field);
    let accepted = |_| Error::bad_value("The field", &String::from_utf8_lossy(field), "base64");
    bytes.map_err(accepted).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::testing::Stream;
    use crate::request::Door;
    use crate::verdict::{Answer, Reason, Verdict};
    use proptest::prelude::*;

    const EXIM: u32 = 105;

    fn line(verb: &str, fields: &[&str]) -> String {
        question(verb, fields).trim_end_matches('\n').to_string()
    }

    fn conversation(question: &[u8]) -> (String, Vec<Request>) {
        let (mut stream, mut asked) = (Stream::of(question, 1), Vec::new());
        let allow = Answer { verdict: Verdict::Allow, reason: Reason::NothingAgainst, reference: None };
        let _ = converse(&mut stream, EXIM, &mut |request: &Request| {
            asked.push(request.clone());
            allow.clone()
        })
        .unwrap();
        (String::from_utf8(stream.to).unwrap(), asked)
    }

    #[test]
    fn a_question_is_asked_and_answered_in_exims_words() {
        let (said, asked) = conversation(line("mail", &["192.0.2.1", "alice@example.test"]).as_bytes());
        let [Request::Use(login)] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!((said.as_str(), login.door), ("allow\n", Door::EximMail));
        assert_eq!(login.account.as_ref().unwrap().name(), "alice@example.test");
    }

    #[test]
    fn the_mail_server_is_who_is_connected() {
        let of_uid = |uid: &str| {
            let fields = ["local", "", "", "Debian-exim", uid, "1", "1xW1Xt-0000gl-1R"];
            match request(line("send", &fields).as_bytes(), EXIM).unwrap() {
                Request::Send(send) => send.by_mail_server,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!((of_uid("105"), of_uid("106")), (true, false));
    }

    #[test]
    fn a_newline_in_a_value_is_no_second_line_and_a_blank_no_second_field() {
        let (_, asked) = conversation(line("mail", &["192.0.2.1", "a b\nmail x"]).as_bytes());
        let [Request::Use(login)] = &asked[..] else { panic!("{asked:?}") };
        assert_ne!(login.account.as_ref().map(|a| a.name().contains("victim")), Some(true));
        let injected = format!("{}\n{}\n", line("auth", &["192.0.2.1"]), line("auth", &["192.0.2.2"]));
        let (said, asked) = conversation(injected.as_bytes());
        assert_eq!((said.lines().count(), asked.len()), (1, 1), "one connection, one question");
    }

    #[test]
    fn what_is_not_understood_is_answered_open() {
        let long = line("auth", &[&"1".repeat(LONGEST)]);
        for question in [
            "\r\n",
            "postern/2 auth MTI3LjAuMC4x\n",
            "postern/1\n",
            "postern/1 fly MTI3LjAuMC4x\n",
            "postern/1 auth\n",
            "postern/1 auth MTI3LjAuMC4x MTI3LjAuMC4x\n",
            "postern/1 auth 127.0.0.1\n",
            "postern/1 auth  MTI3LjAuMC4x\n",
            "GET / HTTP/1.1\r\n\r\n",
            &long,
        ] {
            let (said, asked) = conversation(question.as_bytes());
            assert!(said.starts_with("open ") && said.ends_with('\n'), "{question:?}: {said:?}");
            assert!(asked.is_empty(), "{question:?}");
        }
    }

    #[test]
    fn who_asks_nothing_is_told_nothing() {
        assert_eq!(conversation(b""), (String::new(), Vec::new()));
        assert_eq!(conversation(b"\n"), (String::new(), Vec::new()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_with_one_line(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
            prop_assume!(bytes[0] != b'\n');
            let (said, _) = conversation(&bytes);
            prop_assert_eq!(said.matches('\n').count(), 1);
            prop_assert!(said.ends_with('\n'));
        }

        #[test]
        fn any_values_arrive_as_they_were(account in "\\PC{0,60}") {
            let asked = conversation(line("mail", &["192.0.2.1", &account]).as_bytes()).1;
            let Request::Use(login) = &asked[0] else { panic!() };
            prop_assert_eq!(&login.account, &crate::account::Account::from_server(&account));
        }
    }
}
