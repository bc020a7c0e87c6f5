//! Exim's main log.
//!
//! | line | tells |
//! |---|---|
//! | `ID <= SENDER H=… P=esmtpsa … A=plain:NAME …` | a login is used for a message |
//! | `ID <= SENDER H=… P=esmtps …` | a message came in |
//! | `NAME authenticator failed for HOST: 535 Incorrect authentication data (set_id=NAME)` | a password was wrong |
//!
//! `HOST` is `name (helo) [address]:port`, each of the first two where known. Clients choose the HELO, the sender, the
//! subject, what stands in `set_id=`, and on a machine of their own the ident (`U=`). Exim takes a HELO of letters,
//! digits, dots and dashes, or an address in brackets, unless it was told to take anything
//! (`helo_accept_junk_hosts`); a line with another HELO is ambiguous. So is one in which the words that only the
//! server writes stand twice.

use super::prefix::{Words, word};
use super::{Message, What, address};
use crate::address::Address;
use crate::request::Service;
use memchr::memchr;

const FAILED: &[u8] = b" authenticator failed for ";
const SET_ID: &[u8] = b" (set_id=";
static WRONG: Words = Words::new(": 535 Incorrect authentication data");
static PROTOCOL: Words = Words::new(" P=");
static LOGIN: Words = Words::new(" A=");

/// A message of Exim's own file.
pub(super) fn message(text: &[u8]) -> Message<'_> {
    let text = without_process(text);
    let Some((first, rest)) = word(text) else { return Message::Unknown };
    if is_message_id(first) {
        return match rest.strip_prefix(b"<= ") {
            Some(arrived) => arrival(arrived),
            None if is_about_a_message(rest) => Message::Other,
            None => Message::Unknown,
        };
    }
    if rest.starts_with(&FAILED[1..]) && is_name(first) {
        return failure(&rest[FAILED.len() - 1..]);
    }
    if is_known_beginning(text) { Message::Other } else { Message::Unknown }
}

/// The same behind syslog's prefix, where Exim may write its own time once more.
pub(super) fn message_in_syslog(text: &[u8]) -> Message<'_> {
    let own = super::stamp::Stamps::new(0).take(text).map_or(text, |(_, _, rest)| rest);
    match message(own) {
        Message::Unknown => Message::Other,
        known => known,
    }
}

/// `[1234] `, with the log selector `pid`.
fn without_process(text: &[u8]) -> &[u8] {
    let Some((first, rest)) = word(text) else { return text };
    match first {
        [b'[', number @ .., b']'] if number.iter().all(u8::is_ascii_digit) => rest,
        _ => text,
    }
}

/// `1xW1Xt-0000gl-1R`, since 4.97 `1xW1Xt-000000000gl-1R0x`.
fn is_message_id(text: &[u8]) -> bool {
    let lengths = match text.len() {
        16 => [6, 13],
        23 => [6, 18],
        _ => return false,
    };
    text.iter()
        .enumerate()
        .all(|(n, b)| if lengths.contains(&n) { *b == b'-' } else { b.is_ascii_alphanumeric() })
}

fn is_about_a_message(rest: &[u8]) -> bool {
    let signs: [&[u8]; 6] = [b"=> ", b"-> ", b">> ", b"** ", b"== ", b"*> "];
    signs.iter().any(|sign| rest.starts_with(sign))
        || rest.first().is_some_and(u8::is_ascii_alphabetic)
        || rest.starts_with(b"<")
}

fn is_known_beginning(text: &[u8]) -> bool {
    let begins: [&[u8]; 14] = [
        b"exim ",
        b"Start queue run",
        b"End queue run",
        b"SMTP ",
        b"no host name found for IP address ",
        b"no IP address found for host ",
        b"H=",
        b"TLS error",
        b"unexpected disconnection ",
        b"Warning: ",
        b"rejected ",
        b"Connection from ",
        b"daemon: ",
        b"cwd=",
    ];
    begins.iter().any(|begin| text.starts_with(begin))
}

fn is_name(text: &[u8]) -> bool {
    text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn failure(text: &[u8]) -> Message<'_> {
    let Some((before, after)) = WRONG.split(text) else { return Message::Other };
    // A HELO, or the name that was tried, may hold the same words.
    if WRONG.are_repeated(text) {
        return Message::Ambiguous;
    }
    let account = match after {
        b"" => after,
        _ => match after.strip_prefix(SET_ID).and_then(|rest| rest.strip_suffix(b")")) {
            Some(name) => name,
            None => return Message::Ambiguous,
        },
    };
    match host(before).filter(|(_, rest)| is_end_of_host(rest)) {
        Some((address, _)) => {
            Message::Login { what: What::Failure, service: Service::Smtp, address, account, times: 1 }
        }
        None => Message::Ambiguous,
    }
}

fn arrival(text: &[u8]) -> Message<'_> {
    let Some((sender, rest)) = word(text) else { return Message::Other };
    // The name of a bounced message.
    let rest = match word(rest) {
        Some((bounced, after)) if bounced.starts_with(b"R=") => after,
        _ => rest,
    };
    let Some(from) = rest.strip_prefix(b"H=") else {
        // A quoted sender may hold blanks, and then what stands behind a blank is his.
        let quoted = sender.contains(&b'"');
        return if quoted { Message::Ambiguous } else { Message::Other };
    };
    let hostile = |b: &u8| matches!(b, b'"' | b'\\' | b'(' | b')' | b'[' | b']');
    if sender.iter().any(hostile) || PROTOCOL.are_repeated(rest) {
        return Message::Ambiguous;
    }
    let Some((address, rest)) = host(from) else { return Message::Ambiguous };
    let Some((end, rest)) = PROTOCOL.split(rest) else { return Message::Other };
    if !is_end_of_host(end) {
        return Message::Ambiguous;
    }
    let (protocol, rest) = word(rest).unwrap_or((rest, b""));
    if !protocol.ends_with(b"a") {
        return Message::Inbound(address);
    }
    match account(rest) {
        Some(account) => {
            Message::Login { what: What::Success, service: Service::Smtp, address, account, times: 1 }
        }
        None => Message::Ambiguous,
    }
}

/// The name of `A=plain:NAME`, before which TLS may have something to say. What clients say there stands in quotes.
fn account(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        if let Some(login) = rest.strip_prefix(b"A=") {
            let (login, after) = word(login).unwrap_or((login, b""));
            // What follows is the server's own, so the name holds no blank.
            let is_end = after.is_empty()
                || [b"S=".as_slice(), b"K ", b"PRX=", b"SNI="].iter().any(|w| after.starts_with(w));
            let name = &login[memchr(b':', login)? + 1..];
            // With `smtp_mailauth` the sender that the client claims follows.
            let is_one = name.iter().filter(|b| **b == b'@').count() <= 1
                && !(name.contains(&b'@') && name.contains(&b':'));
            return (is_end && is_one && !name.is_empty()).then_some(name);
        }
        // What a client chooses stands before the server's own ` A=` and may hold another.
        let is_chosen = rest.starts_with(b"DN=") || rest.starts_with(b"SNI=");
        if is_chosen && LOGIN.are_repeated(rest) {
            return None;
        }
        let known: [&[u8]; 8] = [b"X=", b"CV=", b"TFO", b"L ", b"L.", b"L*", b"L-", b"TTL"];
        rest = if rest.starts_with(b"DN=\"") || rest.starts_with(b"SNI=\"") {
            let quoted = &rest[memchr(b'"', rest)? + 1..];
            // A quote within the value would end it early, and the rest would look like the server's own words.
            let login = LOGIN.split(quoted).map_or(quoted, |(before, _)| before);
            let end = memchr(b'"', quoted).filter(|end| !quoted[..*end].contains(&b'\\'))?;
            if login.iter().filter(|b| **b == b'"').count() % 2 == 0 {
                return None;
            }
            quoted[end + 1..].strip_prefix(b" ")?
        } else if known.iter().any(|begin| rest.starts_with(begin)) || rest.starts_with(b"SNI=") {
            word(rest)?.1
        } else {
            return None;
        };
    }
}

/// `name (helo) [address]:port`, and what follows.
fn host(text: &[u8]) -> Option<(Address, &[u8])> {
    let mut rest = text;
    if !matches!(rest.first(), Some(b'(' | b'[')) {
        let (name, after) = word(rest)?;
        if !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
            return None;
        }
        rest = after;
    }
    if let Some(helo) = rest.strip_prefix(b"(") {
        let end = memchr(b')', helo).filter(|end| is_plain_helo(&helo[..*end]))?;
        rest = helo[end + 1..].strip_prefix(b" ")?;
    }
    let inner = rest.strip_prefix(b"[")?;
    let end = memchr(b']', inner)?;
    Some((address(&inner[..end])?, without_port(&inner[end + 1..])))
}

fn is_plain_helo(helo: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
    match helo {
        [b'[', literal @ .., b']'] => literal.iter().all(plain),
        _ => helo.iter().all(plain),
    }
}

fn without_port(rest: &[u8]) -> &[u8] {
    match rest {
        [b':', digits @ ..] => &digits[digits.iter().take_while(|b| b.is_ascii_digit()).count()..],
        _ => rest,
    }
}

/// The server's own address and the ident may follow; an ident that is not plain is somebody's trick.
fn is_end_of_host(mut rest: &[u8]) -> bool {
    if let Some(own) = rest.strip_prefix(b" I=[") {
        let Some(end) = memchr(b']', own).filter(|end| address(&own[..*end]).is_some()) else { return false };
        rest = without_port(&own[end + 1..]);
    }
    match rest.strip_prefix(b" U=") {
        Some(ident) => is_name(ident),
        None => rest.is_empty(),
    }
}
