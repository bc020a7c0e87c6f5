//! Messages of local programs through Postfix: the milter protocol, spoken by `postern-postfix milter` on
//! standard input and output (spawn(8)) and by the keeper on its socket.
//!
//! Postfix tells a milter nothing of who handed a message in. It writes that into the message itself, in the
//! `Received:` field with which pickup(8) begins it ("from userid 2001", "id 90E116CE1C6"), and shows milters
//! every field but that one. So the snippet lets header_checks(5) lay a copy before them:
//!
//! ```text
//! X-Local-Submission: userid 2001 id 90E116CE1C6
//! ```
//!
//! Anybody can write such a field into his message. What he cannot write is the name that Postfix is going to
//! give the message, so only a field with that name (the macro `i`) is believed, and of several the first.
//!
//! Only what is needed of the protocol is spoken: it is asked for recipients, fields and the end of the message,
//! and answers "go on", "refuse" (the message comes back to its sender) or "keep in the hold queue".

use super::postfix::safe_text;
use super::{Ask, say};
use crate::account::Account;
use crate::error::{Error, Result};
use crate::recipients;
use crate::request::{Door, MessageId, Request, Send};
use crate::verdict::{Answer, Verdict};
use std::io::{ErrorKind, Read, Write};

/// The field of the snippet.
const FIELD: &[u8] = b"X-Local-Submission";

/// Longest value of that field, in bytes: two short words, a user's number and a message's name. Senders can write
/// such fields of any length, and what is longer is not the snippet's.
const LONGEST_VALUE: usize = 256;

/// Most bytes that are kept of what comes at once. The rest is read and forgotten, since a long field of the
/// message's own must not end the conversation.
const KEPT: usize = 8192;

/// The newest protocol version that is spoken.
const VERSION: u32 = 6;

/// What may be done to a message: keep it in the hold queue.
const QUARANTINE: u32 = 0x20;

/// What is not to be told: connection, HELO, sender, body, end of fields, unknown commands, DATA.
const NOT_TOLD: u32 = 0x01 | 0x02 | 0x04 | 0x10 | 0x40 | 0x100 | 0x200;

/// Fields and recipients want no answer.
const FIELDS_UNANSWERED: u32 = 0x80;
const RECIPIENTS_UNANSWERED: u32 = 0x8000;

/// The answer "go on" as bytes on the connection.
pub const GO_ON: &[u8] = &[0, 0, 0, 1, b'c'];

/// The name of the user with this number; none where there is no such user.
pub type NameOf<'a> = &'a dyn Fn(u32) -> Option<String>;

/// Answers for the messages of one connection until its end.
///
/// Fails where the connection fails. The first message whose user is not proven is given back as an error for
/// the caller to mark; it went on.
pub fn converse(
    stream: &mut (impl Read + Write),
    name_of: NameOf,
    ask: &mut Ask,
) -> std::io::Result<Result<()>> {
    let (mut talk, mut first) = (Talk::default(), Ok(()));
    while let Some((command, data)) = read_packet(stream)? {
        let reply = match command {
            b'O' => talk.negotiated(&data),
            b'D' => talk.note_macros(&data),
            b'R' => talk.note_recipient(&data),
            b'L' => talk.note_field(&data),
            b'A' | b'K' => talk.forget(),
            b'Q' => return Ok(first),
            b'E' => match talk.message(name_of) {
                Ok(request) => spoken(&ask(&request)),
                Err(error) => {
                    first = first.and(Err(error));
                    GO_ON.to_vec()
                }
            },
            _ => GO_ON.to_vec(),
        };
        if command == b'E' {
            talk.forget();
        }
        if !reply.is_empty() {
            say(stream, &reply)?;
        }
    }
    Ok(first)
}

/// The answer for Postfix at the end of a message.
pub fn spoken(answer: &Answer) -> Vec<u8> {
    let text = safe_text(answer);
    match answer.verdict {
        Verdict::Allow | Verdict::Undecided => GO_ON.to_vec(),
        Verdict::Hold => [packet(b'q', format!("postern: {text}\0").as_bytes()), GO_ON.to_vec()].concat(),
        // A percent sign stands for itself when doubled, in the interface of sendmail's library.
        Verdict::Refuse => packet(b'y', format!("550 5.7.1 {}\0", text.replace('%', "%%")).as_bytes()),
    }
}

fn packet(command: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 1).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &[command], data].concat()
}

/// What was told of the message so far.
#[derive(Default)]
struct Talk {
    /// Which of the steps want no answer.
    unanswered: u32,
    name: String,
    recipients: u32,
    /// Their names as far as they are kept, with commas.
    named: String,
    fields: Vec<Vec<u8>>,
}

impl Talk {
    /// Takes of what Postfix offers what is needed.
    fn negotiated(&mut self, offer: &[u8]) -> Vec<u8> {
        let number = |at: usize| {
            let bytes = offer.get(at..at + 4).and_then(|b| b.try_into().ok());
            bytes.map_or(0, u32::from_be_bytes)
        };
        let (version, actions, steps) = (number(0).min(VERSION), number(4), number(8));
        self.unanswered = steps & (FIELDS_UNANSWERED | RECIPIENTS_UNANSWERED);
        let taken = [version, actions & QUARANTINE, steps & NOT_TOLD | self.unanswered];
        packet(b'O', &taken.map(u32::to_be_bytes).concat())
    }

    /// Macros are the letter of a command, then names and values, each with a zero byte at its end.
    fn note_macros(&mut self, data: &[u8]) -> Vec<u8> {
        let mut words = data.get(1..).unwrap_or_default().split(|b| *b == 0);
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            if name == b"i" || name == b"{i}" {
                self.name = String::from_utf8_lossy(value).into_owned();
            }
        }
        Vec::new()
    }

    /// A recipient is its address in angle brackets, then parameters, each with a zero byte at its end.
    fn note_recipient(&mut self, data: &[u8]) -> Vec<u8> {
        self.recipients = self.recipients.saturating_add(1);
        let address = data.split(|b| *b == 0).next().unwrap_or_default();
        if self.named.len() < recipients::LONGEST {
            let address = String::from_utf8_lossy(address);
            self.named.push_str(address.trim_start_matches('<').trim_end_matches('>'));
            self.named.push(',');
        }
        self.unless(RECIPIENTS_UNANSWERED)
    }

    fn note_field(&mut self, data: &[u8]) -> Vec<u8> {
        let mut words = data.split(|b| *b == 0);
        let (name, value) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        // The first ones are enough: ours comes before those of the message.
        let is_ours = name.eq_ignore_ascii_case(FIELD) && value.len() <= LONGEST_VALUE;
        if is_ours && self.fields.len() < 8 {
            self.fields.push(value.into());
        }
        self.unless(FIELDS_UNANSWERED)
    }

    fn unless(&self, step: u32) -> Vec<u8> {
        if self.unanswered & step == 0 { GO_ON.to_vec() } else { Vec::new() }
    }

    /// The next message begins; what was negotiated stays.
    fn forget(&mut self) -> Vec<u8> {
        *self = Talk { unanswered: self.unanswered, ..Talk::default() };
        Vec::new()
    }

    /// The message as a question, where its user is proven.
    fn message(&self, name_of: NameOf) -> Result<Request> {
        let message = MessageId::new(&self.name)?;
        let uid = self.fields.iter().find_map(|field| proven(field, &self.name));
        let uid = uid.ok_or_else(|| {
            Error::bad_value(
                "The user of a local message",
                &self.name,
                "header_checks must show it: compare main.cf and master.cf with the snippets of this version",
            )
        })?;
        let name = name_of(uid).unwrap_or_else(|| format!("uid-{uid}"));
        Ok(Request::Send(Send {
            account: Account::from_server(&name),
            address: None,
            by_mail_server: false,
            uid: Some(uid),
            recipients: self.recipients.max(1),
            named: recipients::named(&self.named),
            message: Some(message),
            local: true,
            door: Door::PostfixLocal,
        }))
    }
}

/// The user in this field, if it names the message.
fn proven(field: &[u8], message: &str) -> Option<u32> {
    let text = std::str::from_utf8(field).ok()?;
    let (uid, id) = text.trim().strip_prefix("userid ")?.split_once(" id ")?;
    uid.parse().ok().filter(|_| id == message)
}

/// The next command and its data; none at the end of the connection.
fn read_packet(stream: &mut impl Read) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 4];
    if !fill(stream, &mut head)? {
        return Ok(None);
    }
    let length = u64::from(u32::from_be_bytes(head));
    let mut data = Vec::new();
    let kept = stream.take(length.min(KEPT as u64)).read_to_end(&mut data)? as u64;
    let rest = std::io::copy(&mut stream.take(length - kept), &mut std::io::sink())?;
    if kept + rest < length || data.is_empty() {
        return Ok(None);
    }
    let command = data.remove(0);
    Ok(Some((command, data)))
}

/// Fills the buffer; false where the connection ends before.
fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match stream.read_exact(buffer) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
#[path = "milter_tests.rs"]
mod tests;
