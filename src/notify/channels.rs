//! The ways by which a notice leaves: sendmail, a web server, a program. Each has its time and answers whether it took it.

use super::defined::{Command, Defined, Found, Webhook};
use super::words::Told;
use crate::call::Call;
use crate::child;
use crate::clock::Seconds;
use crate::fetch::{self, Posted};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// How long sendmail may take for one notice. It only has to take it into its queue.
const SENDMAIL_MAY_TAKE: Duration = Duration::from_secs(30);

/// How long the web server may take for one.
const WEBHOOK_MAY_TAKE: Duration = Duration::from_secs(10);

/// How long the command may take for one.
const COMMAND_MAY_TAKE: Duration = Duration::from_secs(10);

/// The header with the time of the signature, in epoch seconds.
const TIMESTAMP: &str = "Postern-Timestamp";

/// The header with the signature.
const SIGNATURE: &str = "Postern-Signature";

/// Where a notice goes; a way that cannot be used says why.
pub(super) enum Way<'a> {
    Mail(&'a str),
    Webhook(&'a Webhook),
    Command(&'a Command),
    None(&'a str),
}

impl<'a> Way<'a> {
    pub(super) fn webhook(defined: &'a Defined) -> Option<Way<'a>> {
        match &defined.webhook {
            Found::Nothing => None,
            Found::Bad(why) => Some(Way::None(why)),
            Found::Good(webhook) => Some(Way::Webhook(webhook)),
        }
    }

    pub(super) fn command(defined: &'a Defined) -> Option<Way<'a>> {
        match &defined.command {
            Found::Nothing => None,
            Found::Bad(why) => Some(Way::None(why)),
            Found::Good(command) => Some(Way::Command(command)),
        }
    }

    /// Hands a notice over. A failure is a sentence.
    pub(super) fn take(&self, call: &Call, told: &Told) -> Result<(), String> {
        match self {
            Way::Mail(to) => by_mail(call, to, &told.mail(to)),
            Way::Webhook(webhook) => to_webhook(call, webhook, &told.json()),
            Way::Command(command) => to_command(call, command, &told.json()),
            Way::None(why) => Err((*why).to_owned()),
        }
    }

    /// Whom it reaches, for a sentence. A webhook's path may hold a key.
    pub(super) fn whom(&self) -> &str {
        match self {
            Way::Mail(to) => to,
            Way::Webhook(_) => "The webhook",
            Way::Command(command) => &command.program,
            Way::None(_) => "Nobody",
        }
    }
}

/// Hands a message to the local sendmail.
pub(super) fn by_mail(call: &Call, to: &str, text: &str) -> Result<(), String> {
    let program = call.paths.root().join("usr/sbin/sendmail");
    let words = ["-oi", "-f", "<>", "--", to];
    handed(&program, &words, text, SENDMAIL_MAY_TAKE, &format!("a notice for {to}"))
}

fn to_command(call: &Call, command: &Command, json: &str) -> Result<(), String> {
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    handed(&call.paths.at(&command.program), &words, json, COMMAND_MAY_TAKE, "a notice")
}

fn handed(program: &Path, words: &[&str], text: &str, longest: Duration, what: &str) -> Result<(), String> {
    let shown = program.display();
    match child::hand(program, words, text.as_bytes(), longest) {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(format!("{shown} did not take {what} ({status}); it is tried again.")),
        Ok(None) => Err(format!(
            "{shown} did not take {what} within {} seconds and was ended; it is tried again.",
            longest.as_secs()
        )),
        Err(error) => Err(format!("Could not hand {what} to {shown}: {error}.")),
    }
}

fn to_webhook(call: &Call, webhook: &Webhook, json: &str) -> Result<(), String> {
    let authorities = match webhook.url.starts_with("https://") {
        true => fetch::authorities(&call.paths).map_err(|error| error.to_string())?,
        false => fetch::no_authorities(),
    };
    let timestamp = call.now.to_string();
    let signature = signature(&webhook.secret, call.now, json);
    let headers = [(TIMESTAMP, timestamp.as_str()), (SIGNATURE, signature.as_str())];
    let posted = Posted { url: &webhook.url, headers: &headers, body: json, limit: WEBHOOK_MAY_TAKE };
    fetch::post(&authorities, &posted)
        .map_err(|why| format!("The webhook did not take a notice: {why}; it is tried again."))
}

/// HMAC-SHA256 (RFC 2104) over time, a dot and body: who records a request cannot send it again later.
fn signature(secret: &str, at: Seconds, body: &str) -> String {
    let mut out = String::from("v1=");
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return out };
    mac.update(format!("{at}.").as_bytes());
    mac.update(body.as_bytes());
    for byte in mac.finalize().into_bytes() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure is `printf '1700000000.{}' | openssl dgst -sha256 -hmac KEY`.
    #[test]
    fn a_signature_is_that_of_others_over_time_and_body() {
        let secret = "0123456789abcdef0123456789abcdef";
        assert_eq!(
            signature(secret, 1_700_000_000, "{}"),
            "v1=417adf36b901772f658597a76d329694e335e65fc0849d7715c3ca33406309b5"
        );
        assert_ne!(signature(secret, 1_700_000_000, "{}"), signature(secret, 1_700_000_001, "{}"));
    }
}
