//! Reading the mail servers' logs: who logged in, whose login failed, which messages came in, from where.
//!
//! A log is outside text in which clients choose a part of many lines: names, HELO, senders, subjects. Each parser
//! therefore takes a line only where what the server wrote stands in one place alone: a line that can be read in two
//! ways is [`Line::Ambiguous`] and counts for nobody. Nothing here allocates for a line.
//!
//! | file | lines of |
//! |---|---|
//! | [`stamp`] | times, in the notations of syslog, Exim and Dovecot |
//! | `prefix` | which program wrote a line |
//! | `exim`, `dovecot`, `postfix` | each server |
//! | [`source`] | plain and compressed files, and how a file is known again |
//! | [`batch`] | what is gathered before it is written |
//! | [`learn`] | the whole: a file into the state |

pub mod batch;
mod dovecot;
mod exim;
pub mod follow;
pub mod learn;
mod postfix;
mod prefix;
pub mod source;
pub mod stamp;

use crate::address::Address;
use crate::clock::Seconds;
use crate::request::Service;
use stamp::Stamps;

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum What {
    /// A password was right, or a login was used.
    Success,
    /// A password was wrong.
    Failure,
    /// A message came in from outside, without a login.
    Inbound,
}

/// One event of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// What happened.
    pub what: What,
    /// The service.
    pub service: Service,
    /// The client's address.
    pub address: Address,
    /// Who, as the server wrote it; empty where it names nobody.
    pub account: &'a [u8],
    /// How often: Dovecot writes one line for all failures of a connection, and names the last mailbox alone.
    pub times: u32,
    /// When.
    pub at: Seconds,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// It tells of something that counts.
    Event(Event<'a>),
    /// A mail server's, about something else; with its time.
    Other(Seconds),
    /// A mail server's, and it can be read in more than one way, or in none.
    Ambiguous(Seconds),
    /// Another program's, in the notation of syslog.
    Foreign(Seconds),
    /// Nothing that is known here.
    Unknown,
}

/// What a message of a mail server is, but for its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message<'a> {
    Login { what: What, service: Service, address: Address, account: &'a [u8], times: u32 },
    Inbound(Address),
    Other,
    Ambiguous,
    Unknown,
}

/// The servers whose lines are known, in the order of [`Reader::lines_of`].
pub const SERVERS: [&str; 3] = ["exim", "dovecot", "postfix"];
const EXIM: usize = 0;
const DOVECOT: usize = 1;
const POSTFIX: usize = 2;

/// Ends the name of a process of Dovecot's.
static PROCESS: prefix::Words = prefix::Words::new(": ");

/// Reads lines of one file, one after the other.
#[derive(Clone, Debug)]
pub struct Reader {
    stamps: Stamps,
    /// How many lines there were of each server.
    pub lines_of: [u64; SERVERS.len()],
}

impl Reader {
    /// For a file whose last line was written then, about: times without a year are no later than a day after it.
    pub fn new(newest: Seconds) -> Reader {
        Reader { stamps: Stamps::new(newest), lines_of: [0; SERVERS.len()] }
    }

    /// Reads a line, without its end.
    pub fn read<'a>(&mut self, line: &'a [u8]) -> Line<'a> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some((at, notation, rest)) = self.stamps.take(line) else { return Line::Unknown };
        let is_plain = notation == stamp::Notation::Plain;
        // Exim's own file; Dovecot's can be made to look like this.
        let of_exim = if is_plain { exim::message(rest) } else { Message::Unknown };
        let (server, message) = match of_exim {
            Message::Unknown => of_program(rest),
            known => (EXIM, known),
        };
        if message != Message::Unknown {
            self.lines_of[server] += 1;
        }
        match message {
            Message::Login { what, service, address, account, times } => {
                Line::Event(Event { what, service, address, account, times, at })
            }
            Message::Inbound(address) => {
                let (what, service, account, times) = (What::Inbound, Service::Smtp, &rest[..0], 1);
                Line::Event(Event { what, service, address, account, times, at })
            }
            Message::Other => Line::Other(at),
            Message::Ambiguous => Line::Ambiguous(at),
            Message::Unknown if !is_plain => Line::Foreign(at),
            Message::Unknown => Line::Unknown,
        }
    }
}

/// The message of a line that names the program that wrote it, and of which server that is.
fn of_program(rest: &[u8]) -> (usize, Message<'_>) {
    let Some((program, text)) = prefix::take(rest) else { return (EXIM, Message::Unknown) };
    match program {
        b"dovecot" => (DOVECOT, PROCESS.split(text).map_or(Message::Other, |(p, t)| dovecot::message(p, t))),
        _ if postfix::is_program(program) => (POSTFIX, postfix::message(program, text)),
        _ if program.starts_with(b"exim") => (EXIM, exim::message_in_syslog(text)),
        // Dovecot's own file, in which the process stands where syslog has the program.
        process => match dovecot::without_level(text) {
            Some(text) => (DOVECOT, dovecot::message(process, text)),
            None => (EXIM, Message::Unknown),
        },
    }
}

/// An address as servers write it, without brackets.
fn address(text: &[u8]) -> Option<Address> {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b':' | b'%' | b'-' | b'_');
    // The longest is an IPv6 one with an IPv4 tail and the name of an interface.
    if text.len() > 64 || !text.iter().all(is_plain) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
