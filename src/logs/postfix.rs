//! Postfix's log: what its smtpd writes.
//!
//! | line | tells |
//! |---|---|
//! | `ID: client=HOST[ADDRESS], sasl_method=PLAIN, sasl_username=NAME` | a login is used for a message |
//! | `ID: client=HOST[ADDRESS]` | a message came in |
//! | `warning: HOST[ADDRESS]: SASL PLAIN authentication failed: REASON, sasl_username=NAME` | a password was wrong |
//!
//! All but `NAME`, and the sender that a client claims (`sasl_sender=`), is the server's: a host's name is `unknown`
//! unless DNS has it in both directions. A message counts where its queue file begins, so one that is refused after its
//! recipients counts too.

use super::prefix::Words;
use super::{Message, What, address};
use crate::address::Address;
use crate::request::Service;
use memchr::memchr;

static CLIENT: Words = Words::new(": client=");
static NAME: Words = Words::new(", sasl_username=");
static SENDER: Words = Words::new(", sasl_sender=");
static FAILED: Words = Words::new(" authentication failed: ");

/// Whether it is a part of Postfix, of whatever instance.
pub(super) fn is_program(program: &[u8]) -> bool {
    program.starts_with(b"postfix") && program.contains(&b'/')
}

pub(super) fn message<'a>(program: &[u8], text: &'a [u8]) -> Message<'a> {
    if !program.ends_with(b"/smtpd") {
        return Message::Other;
    }
    if let Some(rest) = text.strip_prefix(b"warning: ") {
        return failure(rest);
    }
    match CLIENT.split(text) {
        Some((id, rest)) if is_queue_id(id) => arrival(rest),
        _ => Message::Other,
    }
}

/// Where a content filter stands before the queue, it is the one who queues.
fn is_queue_id(id: &[u8]) -> bool {
    id != b"NOQUEUE" && id.len() >= 6 && id.iter().all(u8::is_ascii_alphanumeric)
}

fn failure(text: &[u8]) -> Message<'_> {
    let Some((address, rest)) = host(text) else { return Message::Other };
    let Some((method, rest)) = rest.strip_prefix(b": SASL ").and_then(|rest| FAILED.split(rest)) else {
        return Message::Other;
    };
    if !method.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        || NAME.are_repeated(rest)
    {
        return Message::Ambiguous;
    }
    let (reason, account) = NAME.split(rest).unwrap_or((rest, b""));
    // The back end's trouble, and nobody's password.
    let trouble: [&[u8]; 3] = [
        b"Connection lost to authentication server",
        b"Temporary authentication failure",
        b"generic failure",
    ];
    if trouble.iter().any(|words| reason.starts_with(words)) {
        return Message::Other;
    }
    Message::Login { what: What::Failure, service: Service::Smtp, address, account, times: 1 }
}

fn arrival(text: &[u8]) -> Message<'_> {
    let Some((address, rest)) = host(text) else { return Message::Ambiguous };
    let Some((before, login)) = NAME.split(rest) else {
        // Behind a filter: who came to us is the filter.
        return if rest.is_empty() { Message::Inbound(address) } else { Message::Other };
    };
    let is_method = before
        .strip_prefix(b", sasl_method=")
        .is_some_and(|m| m.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
    let account = SENDER.split(login).map_or(login, |(account, _)| account);
    if !is_method || account.is_empty() || account.contains(&b',') || account.contains(&b' ') {
        return Message::Ambiguous;
    }
    Message::Login { what: What::Success, service: Service::Smtp, address, account, times: 1 }
}

/// `name[address]`, with `:port` where that is logged, and what follows.
fn host(text: &[u8]) -> Option<(Address, &[u8])> {
    let begin = memchr(b'[', text)?;
    let name = &text[..begin];
    if !name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
        return None;
    }
    let inner = &text[begin + 1..];
    let end = memchr(b']', inner)?;
    let rest = &inner[end + 1..];
    let rest = match rest {
        [b':', digits @ ..] => {
            let n = digits.iter().take_while(|b| b.is_ascii_digit()).count();
            if n > 0 { &digits[n..] } else { rest }
        }
        _ => rest,
    };
    // Postfix logs IPv6 addresses without its own `IPv6:`.
    Some((address(&inner[..end])?, rest))
}
