//! Postfix's door: policy delegation (SMTPD_POLICY_README), spoken by `postern-postfix policy` on standard
//! input and output (spawn(8)) and by the keeper on its socket.
//!
//! A question is lines of `name=value` and an empty line; the answer is `action=…` and an empty line. A
//! connection carries many questions: those of one `smtpd` process, one after the other.
//!
//! | asked | is |
//! |---|---|
//! | `policy_context=postern-auth` at CONNECT, HELO or EHLO | a login from this address, by nobody knows whom |
//! | MAIL or RCPT of a client that logged in | the use of a login, asked once for each session |
//! | DATA or END-OF-MESSAGE of a client that logged in | a message |
//! | anything else | nothing: `DUNNO` |
//!
//! | answer | action |
//! |---|---|
//! | go on, or trouble of ours | `DUNNO` (never `OK`, which would skip the restrictions that follow) |
//! | refused before AUTH | `554 5.7.1 TEXT`: what RFC 5321 §3.1 has for a server that will not serve |
//! | refused at MAIL, RCPT | `550 5.7.1 TEXT` |
//! | refused message | `451 4.7.1 TEXT` where waiting helps, else `550 5.7.1 TEXT` |
//!
//! Postfix answers a word that it does not know with `451 4.3.5 Server configuration error`, whatever
//! `default_action` says: so these are all the words that are ever sent.

use super::{Ask, milter, read_some, say};
use crate::account::Account;
use crate::address::Address;
use crate::error::{Error, Result};
use crate::hook::{self, CommandLine, Conversation, Standard};
use crate::local_user;
use crate::recipients;
use crate::record::client_text;
use crate::request::{Door, Login, MessageId, Request, Send, Service};
use crate::trouble::{self, Trouble};
use crate::verdict::{Answer, Verdict};
use std::ffi::{c_char, c_int};
use std::io::{Read, Write};
use std::ops::Range;

const PROGRAM: &str = "postern-postfix";

/// Longest question, in bytes.
pub const LONGEST: usize = 65_536;

/// Longest line of a question, in bytes.
pub const LONGEST_LINE: usize = 8192;

/// Longest text that a client is shown, in bytes; RFC 5321 §4.5.3.1.5 allows a reply line 512.
const LONGEST_TEXT: usize = 300;

/// The answer for "no objection".
pub const GO_ON: &[u8] = b"action=DUNNO\n\n";

/// The context by which the snippet marks the question before AUTH.
const BEFORE_AUTH: &str = "postern-auth";

/// The program's `main`.
///
/// # Safety
/// `argv` must be what the C library hands to `main`.
pub unsafe fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    // SAFETY: promised by the caller.
    let arguments = unsafe { hook::arguments(argc, argv) };
    hook::close_descriptors_from(3);
    hook::fill_descriptors_below(3);
    let Ok(command) = CommandLine::read(&arguments) else { return 1 };
    match command.verb {
        b"policy" => {
            let talk = Conversation::begin(&command, PROGRAM, GO_ON);
            talk.end(converse(&mut Standard, &mut |request| talk.answer(request, &spoken)));
            0
        }
        b"milter" => {
            let talk = Conversation::begin(&command, PROGRAM, milter::GO_ON);
            let name_of = |uid| local_user::name_of(&command.paths, uid);
            let said = |_: &Request, answer: &Answer| milter::spoken(answer);
            talk.end(milter::converse(&mut Standard, &name_of, &mut |request| talk.answer(request, &said)));
            0
        }
        verb => {
            let error = Error::bad_value("The verb", &String::from_utf8_lossy(verb), "policy or milter");
            trouble::mark(&command.call(PROGRAM), Trouble::Call, &error.to_string());
            1
        }
    }
}

/// Answers the questions of one connection until its end.
///
/// Fails where the connection fails. The first question that was not understood is given back as an error for
/// the caller to mark; it was answered `DUNNO`. One that is too long ends the conversation.
pub fn converse(stream: &mut (impl Read + Write), ask: &mut Ask) -> std::io::Result<Result<()>> {
    let mut talk = Talk::default();
    loop {
        let action = match talk.hear(stream)? {
            Heard::Asks(asked) => {
                let answer = ask(&asked.request);
                talk.action(*asked, &answer)
            }
            Heard::Knows(action) => action,
            Heard::End => return Ok(talk.end()),
        };
        say(stream, &action)?;
    }
}

/// One connection: what was read of it, what was answered. It can go on from where a stream failed that does not
/// wait, on the same connection.
#[derive(Default)]
pub(crate) struct Talk {
    lines: Lines,
    memory: Memory,
    /// The first that was not understood.
    trouble: Option<Error>,
    /// Nothing more is heard.
    over: bool,
}

/// What came.
pub(crate) enum Heard {
    /// A question that has to be decided.
    Asks(Box<Asked>),
    /// One whose answer is this, whatever is decided.
    Knows(Vec<u8>),
    /// The end.
    End,
}

/// A question that has to be decided.
pub(crate) struct Asked {
    question: Question,
    pub(crate) request: Request,
}

impl Talk {
    /// Hears the next question. Fails where the stream fails.
    pub(crate) fn hear(&mut self, stream: &mut impl Read) -> std::io::Result<Heard> {
        if self.over {
            return Ok(Heard::End);
        }
        let Some(question) = self.lines.question(stream)? else { return Ok(Heard::End) };
        self.over = question.is_err();
        let asked =
            question.and_then(|question| Ok(question.request()?.map(|request| Asked { question, request })));
        Ok(match asked {
            Ok(Some(mut asked)) => match self.memory.note(&mut asked).action(&asked) {
                Some(action) => Heard::Knows(action),
                None => Heard::Asks(Box::new(asked)),
            },
            Ok(None) => Heard::Knows(GO_ON.to_vec()),
            Err(error) => {
                self.trouble.get_or_insert(error);
                Heard::Knows(GO_ON.to_vec())
            }
        })
    }

    /// The answer to the question.
    pub(crate) fn action(&mut self, asked: Asked, answer: &Answer) -> Vec<u8> {
        self.memory.keep(asked, answer)
    }

    /// Whether nothing was read that is not answered yet, and more may come.
    pub(crate) fn is_between_questions(&self) -> bool {
        !self.over && self.lines.are_used_up()
    }

    /// What was not understood.
    pub(crate) fn end(self) -> Result<()> {
        self.trouble.map_or(Ok(()), Err)
    }
}

/// The answer for Postfix.
pub fn spoken(request: &Request, answer: &Answer) -> Vec<u8> {
    let code = match (answer.verdict, request) {
        (Verdict::Allow | Verdict::Undecided, _) => return GO_ON.to_vec(),
        (Verdict::Hold, _) => "HOLD",
        (Verdict::Refuse, _) if answer.reason.is_temporary() => "451 4.7.1",
        (Verdict::Refuse, Request::Login(_)) => "554 5.7.1",
        (Verdict::Refuse, _) => "550 5.7.1",
    };
    format!("action={code} {}\n\n", safe_text(answer)).into_bytes()
}

/// The text for a client: one line of printable ASCII, cut where it is too long.
pub(super) fn safe_text(answer: &Answer) -> String {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    client_text(answer).chars().map(printable).take(LONGEST_TEXT).collect()
}

/// What was answered last, so that the recipients of a message cost one decision, and one that is asked about
/// twice (at DATA and at its end) is counted once.
#[derive(Default)]
struct Memory {
    used: Option<(Question, Verdict, Vec<u8>)>,
    sent: Option<(Question, Vec<u8>)>,
    /// Of the message that is under way: one of its questions, and the recipients that were asked about so far, with
    /// commas.
    named: Option<(Question, String)>,
}

impl Memory {
    /// Notes the recipient that is asked about at RCPT, and names all of them where the message is asked about: there
    /// Postfix names one only, and none where there are more (SMTPD_POLICY_README).
    fn note(&mut self, asked: &mut Asked) -> &Memory {
        let question = &asked.question;
        let earlier = self.named.take().filter(|(earlier, _)| question.is_same_message(earlier));
        match &mut asked.request {
            Request::Use(_) if question.protocol_state == "RCPT" => {
                let (_, mut named) = earlier.unwrap_or_default();
                if named.len() < recipients::LONGEST {
                    named.push_str(&question.recipient);
                    named.push(',');
                }
                self.named = Some((question.clone(), named));
            }
            Request::Send(send) => {
                if let Some((_, named)) = &earlier {
                    send.named = recipients::named(named);
                }
                self.named = earlier;
            }
            _ => self.named = earlier,
        }
        self
    }

    /// What is answered without asking again.
    fn action(&self, asked: &Asked) -> Option<Vec<u8>> {
        let question = &asked.question;
        let action = match asked.request {
            Request::Use(_) => {
                self.used.as_ref().filter(|(q, v, _)| question.repeats_use(q, *v)).map(|(_, _, a)| a)
            }
            Request::Send(_) => {
                self.sent.as_ref().filter(|(q, _)| question.is_same_message(q)).map(|(_, a)| a)
            }
            _ => None,
        };
        action.cloned()
    }

    fn keep(&mut self, asked: Asked, answer: &Answer) -> Vec<u8> {
        let Asked { question, request } = asked;
        let action = spoken(&request, answer);
        match request {
            Request::Use(_) => self.used = Some((question, answer.verdict, action.clone())),
            Request::Send(_) => self.sent = Some((question, action.clone())),
            _ => {}
        }
        action
    }
}

/// The attributes of a question that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Question {
    request: String,
    protocol_state: String,
    policy_context: String,
    instance: String,
    queue_id: String,
    client_address: String,
    client_port: String,
    sasl_username: String,
    recipient_count: String,
    /// The only recipient, or at RCPT the one that is asked about.
    recipient: String,
}

impl Question {
    /// Takes one line. The last of two lines for the same attribute counts.
    fn take(&mut self, line: &[u8]) {
        let Some(at) = line.iter().position(|b| *b == b'=') else { return };
        let place = match &line[..at] {
            b"request" => &mut self.request,
            b"protocol_state" => &mut self.protocol_state,
            b"policy_context" => &mut self.policy_context,
            b"instance" => &mut self.instance,
            b"queue_id" => &mut self.queue_id,
            b"client_address" => &mut self.client_address,
            b"client_port" => &mut self.client_port,
            b"sasl_username" => &mut self.sasl_username,
            b"recipient_count" => &mut self.recipient_count,
            b"recipient" => &mut self.recipient,
            _ => return,
        };
        *place = String::from_utf8_lossy(&line[at + 1..]).into_owned();
    }

    /// What is asked; none where there is nothing to decide.
    fn request(&self) -> Result<Option<Request>> {
        if self.request != "smtpd_access_policy" {
            let accepted = "smtpd_access_policy: only check_policy_service may ask here";
            return Err(Error::bad_value("The request", &self.request, accepted));
        }
        let account = Account::from_server(&self.sasl_username);
        let request = match self.protocol_state.as_str() {
            "CONNECT" | "HELO" | "EHLO" if self.policy_context == BEFORE_AUTH && account.is_none() => {
                Request::Login(Login { account: None, ..self.login(Door::PostfixAuth)? })
            }
            "MAIL" | "RCPT" if account.is_some() => {
                Request::Use(Login { account, ..self.login(Door::PostfixMail)? })
            }
            "DATA" | "BDAT" | "END-OF-MESSAGE" if account.is_some() => Request::Send(Send {
                account,
                address: self.address()?,
                by_mail_server: false,
                uid: None,
                recipients: self.recipient_count.parse().unwrap_or(1).max(1),
                named: recipients::named(&self.recipient),
                message: MessageId::new(&self.queue_id).ok(),
                local: false,
                door: Door::PostfixData,
            }),
            _ => return Ok(None),
        };
        Ok(Some(request))
    }

    fn login(&self, door: Door) -> Result<Login> {
        Ok(Login { account: None, address: self.address()?, service: Service::Smtp, door })
    }

    fn address(&self) -> Result<Option<Address>> {
        match self.client_address.as_str() {
            "" | "unknown" => Ok(None),
            text => text.parse().map(Some),
        }
    }

    /// Whether the answer to an earlier question for the use of a login holds for this one: a yes for the
    /// session, a no for the message, so that the next message of a session that goes on is asked about anew.
    fn repeats_use(&self, earlier: &Question, verdict: Verdict) -> bool {
        self.is_same_message(earlier)
            || (verdict == Verdict::Allow && self.is_by_same_client(earlier) && !self.begins_session())
    }

    fn is_same_message(&self, earlier: &Question) -> bool {
        self.is_by_same_client(earlier) && !self.instance.is_empty() && self.instance == earlier.instance
    }

    fn is_by_same_client(&self, other: &Question) -> bool {
        (&self.sasl_username, &self.client_address, &self.client_port)
            == (&other.sasl_username, &other.client_address, &other.client_port)
    }

    /// Whether this is the first message of its session. Postfix numbers them from 0, in the last part of what it
    /// calls an instance (seen in 3.7 and 3.10); where that has another form, each message counts as a first one.
    fn begins_session(&self) -> bool {
        let number = self.instance.rsplit_once('.').map(|(_, number)| number);
        number.is_none_or(|n| n == "0" || n.is_empty() || !n.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// What was read from the connection; one buffer for all of its questions.
#[derive(Default)]
struct Lines {
    read: Vec<u8>,
    /// So much of it was given out.
    used: usize,
    /// The question that has begun, and its length so far.
    begun: Question,
    length: usize,
}

impl Lines {
    /// The next question; none at the end of the connection, also where it ends within a question: nobody
    /// waits for that answer.
    fn question(&mut self, stream: &mut impl Read) -> std::io::Result<Option<Result<Question>>> {
        loop {
            let Some(line) = self.line(stream)? else { return Ok(None) };
            let line = &self.read[line];
            self.length += line.len() + 1;
            if line.len() > LONGEST_LINE || self.length > LONGEST {
                let accepted = format!("lines of {LONGEST_LINE} bytes and {LONGEST} in all at most");
                return Ok(Some(Err(Error::bad_value("The question", "that came", accepted))));
            }
            if line.is_empty() {
                self.length = 0;
                return Ok(Some(Ok(std::mem::take(&mut self.begun))));
            }
            self.begun.take(line);
        }
    }

    /// The next line without its newline, by its place. One that is too long is given out as far as it was read.
    fn line(&mut self, stream: &mut impl Read) -> std::io::Result<Option<Range<usize>>> {
        let mut searched = self.used;
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.read[searched..]) {
                let line = self.used..searched + length;
                self.used = line.end + 1;
                return Ok(Some(line));
            }
            if self.read.len() - self.used > LONGEST_LINE {
                let begun = std::mem::replace(&mut self.used, self.read.len());
                return Ok(Some(begun..self.read.len()));
            }
            self.read.drain(..self.used);
            self.used = 0;
            searched = self.read.len();
            if read_some(stream, &mut self.read)? == 0 {
                return Ok(None);
            }
        }
    }

    fn are_used_up(&self) -> bool {
        self.used == self.read.len() && self.length == 0
    }
}

#[cfg(test)]
#[path = "postfix_tests.rs"]
mod tests;
