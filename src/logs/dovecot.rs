//! Dovecot's log: what its login processes write.
//!
//! | line | tells |
//! |---|---|
//! | `imap-login: Login: user=<NAME>, method=PLAIN, rip=ADDRESS, …` (2.4: `Logged in:`) | a password was right |
//! | `imap-login: … (auth failed, 3 attempts in 9 secs): user=<NAME>, …` | three were wrong |
//!
//! Of several names that failed in one connection the line has the last alone. The name is the client's choice; behind
//! it stands what only the server writes, so it is read from the end: the name goes to the last `>, method=`, and what
//! follows that is all of the server's (`login_log_format_elements` as Dovecot brings it). Failed SMTP logins are in
//! Exim's and Postfix's logs alone.

use super::prefix::Words;
use super::{Message, What, address};
use crate::address::Address;
use crate::request::Service;

static USER: Words = Words::new(": user=<");
static METHOD: Words = Words::new(">, method=");
static NEXT: Words = Words::new(">, ");
static CLIENT: Words = Words::new(", rip=");
static FAILED: Words = Words::new("(auth failed, ");
static ATTEMPTS: Words = Words::new(" attempts");

/// Most failures that one line is believed.
const MOST: u32 = 1000;

/// The text behind `Info: ` and the like, in Dovecot's own file.
pub(super) fn without_level(text: &[u8]) -> Option<&[u8]> {
    let levels: [&[u8]; 6] = [b"Info: ", b"Warning: ", b"Error: ", b"Fatal: ", b"Panic: ", b"Debug: "];
    levels.iter().find_map(|level| text.strip_prefix(*level))
}

pub(super) fn message<'a>(process: &[u8], text: &'a [u8]) -> Message<'a> {
    let service = match process {
        b"imap-login" => Service::Imap,
        b"pop3-login" => Service::Pop3,
        b"managesieve-login" => Service::Sieve,
        b"submission-login" => Service::Smtp,
        _ => return Message::Other,
    };
    let text = without_level(text).unwrap_or(text);
    let Some((head, rest)) = USER.split(text) else { return Message::Other };
    let (what, times) = match head {
        b"Login" | b"Logged in" => (What::Success, 1),
        _ => match failures(head) {
            Some(times) => (What::Failure, times),
            None => return Message::Other,
        },
    };
    match METHOD.split_last(rest) {
        Some((account, tail)) => match address_of(tail) {
            // Who logs in for another (`master=<…>`) is neither.
            Some(_) if what == What::Success && NEXT.are_in(account) => Message::Ambiguous,
            // Nobody's: an anonymous login.
            Some(_) if account.is_empty() && what == What::Success => Message::Other,
            Some(address) => Message::Login { what, service, address, account, times },
            None => Message::Ambiguous,
        },
        None => Message::Ambiguous,
    }
}

/// Of `Disconnected (auth failed, 3 attempts in 9 secs)`.
fn failures(head: &[u8]) -> Option<u32> {
    let (_, rest) = FAILED.split(head)?;
    let (number, _) = ATTEMPTS.split(rest)?;
    let number: u32 = std::str::from_utf8(number).ok()?.parse().ok()?;
    Some(number.clamp(1, MOST))
}

/// `PLAIN, rip=ADDRESS, lip=ADDRESS, mpid=7, TLS, session=<…>`, each but the first two where it is there.
fn address_of(tail: &[u8]) -> Option<Address> {
    let (method, rest) = CLIENT.split(tail)?;
    if !method.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        return None;
    }
    let (client, mut rest) = element(rest);
    let client = address(client)?;
    while !rest.is_empty() {
        let (next, after) = element(rest);
        if !is_known(next) {
            return None;
        }
        rest = after;
    }
    Some(client)
}

/// What stands before the next `, `, and after it.
fn element(text: &[u8]) -> (&[u8], &[u8]) {
    let mut commas = memchr::memchr_iter(b',', text).filter(|at| text.get(at + 1) == Some(&b' '));
    commas.next().map_or((text, b""), |at| (&text[..at], &text[at + 2..]))
}

fn is_known(element: &[u8]) -> bool {
    if let Some(own) = element.strip_prefix(b"lip=") {
        return address(own).is_some();
    }
    if let Some(number) = element.strip_prefix(b"mpid=") {
        return number.iter().all(u8::is_ascii_digit);
    }
    if let [b's', b'e', b's', b's', b'i', b'o', b'n', b'=', b'<', session @ .., b'>'] = element {
        return session.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    }
    element == b"secured" || element.starts_with(b"TLS")
}
