//! Dovecot's policy server (`auth_policy_server_url`, 2.3 and 2.4): HTTP/1.1, spoken by `postern-dovecot policy` on
//! standard input and output, and by the keeper on a loopback port.
//!
//! | asked | is |
//! |---|---|
//! | `POST …?command=allow` | a login, before the password is looked at |
//! | `POST …?command=report` | how a login ended |
//!
//! | answer | body, with status 200 |
//! |---|---|
//! | go on, a report, trouble of ours | `{"status":0,"msg":""}` |
//! | refused | `{"status":-1,"msg":TEXT}` |
//! | wait so many seconds, then go on (a chained server's word) | `{"status":SECONDS,"msg":TEXT}` |
//!
//! **Who may ask.** A loopback port is open to every local user, and who tells how logins ended makes networks known.
//! So a request shows the key, in the header `X-Postern-Key`, or as the last element of the path where another
//! policy server has the one header that Dovecot can send. Who started the program proves nothing: inetd and systemd
//! start it for whoever connects. Without the key the answer is 403; Dovecot takes that for trouble, and the login
//! goes on.
//!
//! `?command=prove` is a word of our own for `postern status`: it is answered to whoever shows the key, and asks nothing.
//!
//! Whatever is no request of this kind gets an HTTP error, and the connection ends.
//!
//! **A chained server** is one that was there before us ([`chained`]). We decide first, and it is asked whatever
//! we do not refuse; the stricter answer holds.

mod body;
pub mod chained;
mod http;

use super::{Ask, read_some, say};
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::record::client_text;
use crate::request::{Ended, Request};
use crate::trouble::Trouble;
use crate::verdict::{Answer, Verdict};
use body::Body;
use chained::Chained;
use http::{Input, Status};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::Path;
use subtle::ConstantTimeEq;

/// The loopback port on which Dovecot is answered. Below 1024, so that no local user can take it while nobody of ours
/// listens: he would be told names and hashes, and could refuse every login. Not assigned to any service (IANA), and
/// below the ports that rpc programs take for themselves (512 to 1023).
pub const PORT: u16 = 301;

/// The header that shows the key.
pub const KEY_HEADER: &str = "X-Postern-Key";

/// The command that asks nothing.
const PROVE: &str = "prove";

/// What the way out says to a request: go on.
pub const GO_ON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\
    Connection: close\r\n\r\n{\"status\":0,\"msg\":\"\"}";

/// Longest wait that is passed on, in seconds. Dovecot's login processes give up a login that takes longer
/// (`BYE Disconnected for inactivity during authentication`, seen with 2.3).
const LONGEST_TARPIT: i32 = 180;

/// Told of each trouble at once: a connection may last.
pub type Tell<'a> = &'a dyn Fn(Trouble, &Error);

/// What a conversation goes by.
pub struct Options<'a> {
    key: Result<Key>,
    chained: Option<Chained>,
    tell: Tell<'a>,
}

impl<'a> Options<'a> {
    /// Reads the key and the address of the chained server. Cheap enough for each connection, so that a changed key
    /// needs no restart.
    pub fn read(paths: &Paths, tell: Tell<'a>) -> Options<'a> {
        let chained = Chained::read(&paths.chained_policy_url()).unwrap_or_else(|error| {
            tell(Trouble::ChainedPolicy, &error);
            None
        });
        Options { key: Key::read(&paths.policy_key()), chained, tell }
    }

    fn admits(&self, request: &http::Request) -> Result<()> {
        let key = self.key.as_ref().map_err(|error| Error::NotAllowed(error.to_string()))?;
        let shown = [request.header(KEY_HEADER), Some(request.last_of_path())];
        if shown.into_iter().flatten().any(|word| key.is(word)) {
            return Ok(());
        }
        Err(Error::NotAllowed(
            "A policy request came without the key, or with another one: does Dovecot read /etc/postern/dovecot-policy.conf, and was it reloaded since?"
                .into(),
        ))
    }
}

/// The secret by which Dovecot is known.
struct Key(Vec<u8>);

impl Key {
    fn read(path: &Path) -> Result<Key> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        match text.trim() {
            "" => Err(Error::State(format!(
                "{} is empty: remove it, and let `postern init` make a new key.",
                path.display()
            ))),
            key => Ok(Key(key.into())),
        }
    }

    /// In a time that tells nothing of the key but its length.
    fn is(&self, word: &[u8]) -> bool {
        self.0.ct_eq(word).into()
    }
}

/// What Dovecot is told, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Reply {
    /// 0: go on; below: no; above: wait so many seconds, then go on.
    status: i32,
    /// For the client, and for Dovecot's log.
    msg: String,
}

impl Reply {
    fn to(answer: &Answer) -> Reply {
        match answer.verdict {
            Verdict::Refuse | Verdict::Hold => Reply { status: -1, msg: client_text(answer) },
            Verdict::Allow | Verdict::Undecided => Reply::default(),
        }
    }

    fn is_no(&self) -> bool {
        self.status < 0
    }

    /// A no before every wait, a longer wait before a shorter one, and of two equals the other's words.
    fn or_stricter(self, other: Reply) -> Reply {
        let strictness = |reply: &Reply| if reply.is_no() { i32::MAX } else { reply.status };
        if strictness(&self) > strictness(&other) { self } else { other }
    }

    fn json(&self) -> String {
        let reply = Reply { status: self.status.min(LONGEST_TARPIT), ..self.clone() };
        // A number and a text always become JSON.
        serde_json::to_string(&reply).unwrap_or_default()
    }
}

/// The bytes that the way out says once this is decided.
pub fn spoken(_: &Request, answer: &Answer) -> Vec<u8> {
    http::response(&Reply::to(answer).json(), false)
}

/// Asks as Dovecot would that has this configuration (`/etc/postern/dovecot-policy.conf`), and about nothing: no login
/// is counted, and no chained server is asked. Fails where nobody answers, or where the key is another one.
pub fn prove(configuration: &str) -> Result<()> {
    let value = |name: &str| {
        let line =
            configuration.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix('='));
        line.map(str::trim)
    };
    let url = value("auth_policy_server_url").ok_or_else(|| {
        Error::State("Dovecot's part of the policy server's configuration names no address: `postern init` writes it anew.".into())
    })?;
    let fields =
        value("auth_policy_server_api_header").map_or_else(String::new, |header| format!("{header}\r\n"));
    Chained::at(url)?.try_out(PROVE, &fields).map(drop)
}

/// What is done after a request.
enum Next {
    /// This is said, and the connection kept.
    Say(Reply),
    /// This is said, and the connection ends.
    Fail(Status),
    /// Go on, and then the chained server is told the same.
    SayAndForward,
}

/// Answers the requests of one connection until its end. Trouble is told to `options` as it comes.
///
/// Fails where the connection fails.
pub fn converse(stream: &mut (impl Read + Write), options: &Options, ask: &mut Ask) -> std::io::Result<()> {
    let mut input = Input::default();
    loop {
        let request = match input.request(stream)? {
            Ok(Some(request)) => request,
            Ok(None) => return Ok(()),
            Err(status) => {
                (options.tell)(Trouble::Call, &not_understood(status.reason()));
                return say(stream, &http::failure(status));
            }
        };
        match answer(&request, options, ask) {
            Next::Fail(status) => return stream.write_all(&http::failure(status)),
            Next::Say(reply) => say(stream, &http::response(&reply.json(), request.keep))?,
            Next::SayAndForward => {
                // Ended, so that the next login does not wait for the chained server here.
                say(stream, &http::response(&Reply::default().json(), false))?;
                forward_report(&request, options);
                return Ok(());
            }
        }
        if !request.keep {
            return Ok(());
        }
    }
}

fn answer(request: &http::Request, options: &Options, ask: &mut Ask) -> Next {
    if let Err(error) = options.admits(request) {
        (options.tell)(Trouble::PolicyKey, &error);
        return Next::Fail(Status::Forbidden);
    }
    if request.method != "POST" {
        (options.tell)(Trouble::Call, &not_understood(&request.method));
        return Next::Fail(Status::MethodNotAllowed);
    }
    match request.command() {
        Some("allow") => Next::Say(allow(request, options, ask)),
        Some("report") => report(request, options, ask),
        Some(PROVE) => Next::Say(Reply::default()),
        other => {
            (options.tell)(Trouble::Call, &not_understood(other.unwrap_or_default()));
            Next::Fail(Status::NotFound)
        }
    }
}

fn allow(request: &http::Request, options: &Options, ask: &mut Ask) -> Reply {
    let login = Body::read(&request.body).and_then(|body| body.login());
    let ours = match login {
        Ok(login) => Reply::to(&ask(&Request::Login(login))),
        Err(error) => {
            (options.tell)(Trouble::Call, &error);
            Reply::default()
        }
    };
    match &options.chained {
        Some(chained) if !ours.is_no() => match chained.ask(request) {
            Ok(theirs) => ours.or_stricter(theirs),
            Err(error) => {
                (options.tell)(Trouble::ChainedPolicy, &error);
                ours
            }
        },
        _ => ours,
    }
}

fn report(request: &http::Request, options: &Options, ask: &mut Ask) -> Next {
    let outcome = Body::read(&request.body).and_then(|body| body.outcome());
    // A refusal was its own, which it knows, or ours, which it must not take for a wrong password.
    let is_refusal = outcome.as_ref().is_ok_and(|outcome| outcome.ended == Ended::Refused);
    match outcome {
        Ok(outcome) => drop(ask(&Request::Outcome(outcome))),
        Err(error) => (options.tell)(Trouble::Call, &error),
    }
    match options.chained.is_some() && !is_refusal {
        true => Next::SayAndForward,
        false => Next::Say(Reply::default()),
    }
}

fn forward_report(request: &http::Request, options: &Options) {
    if let Some(Err(error)) = options.chained.as_ref().map(|chained| chained.tell(request)) {
        (options.tell)(Trouble::ChainedPolicy, &error);
    }
}

fn not_understood(what: &str) -> Error {
    Error::bad_value(
        "The policy request",
        what,
        "POST with command=allow or command=report, as Dovecot sends it",
    )
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
