//! Where notices go besides mail: defined in root's folder alone, since it is connected to and executed.
//!
//! `/etc/postern/webhook.json` holds an address and a secret, `/etc/postern/notice-command` a program and its words, one a
//! line. Neither is believed unless it is root's and nobody else can write it.

use crate::error::{Error, Result};
use crate::paths::Paths;
use nix::libc;
use serde::Deserialize;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use ureq::http::Uri;

/// Largest file of the two, in bytes.
const MOST: u64 = 16 * 1024;

/// Shortest and longest secret.
const SECRET: std::ops::RangeInclusive<usize> = 32..=256;

/// Most words of a command.
const MOST_WORDS: usize = 64;

/// What root defined.
#[derive(Debug)]
pub(crate) struct Defined {
    /// A web server.
    pub(crate) webhook: Found<Webhook>,
    /// A program.
    pub(crate) command: Found<Command>,
}

/// A definition.
#[derive(Debug)]
pub(crate) enum Found<T> {
    /// There is no file.
    Nothing,
    /// There is one that cannot be used; says why.
    Bad(String),
    /// It can be used.
    Good(T),
}

impl<T> Found<T> {
    /// Why it cannot be used.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Found::Bad(why) => Some(why),
            _ => None,
        }
    }

    fn from(read: Result<Option<T>>) -> Found<T> {
        match read {
            Ok(None) => Found::Nothing,
            Ok(Some(found)) => Found::Good(found),
            Err(error) => Found::Bad(error.to_string()),
        }
    }
}

/// A web server that takes notices.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    /// `https`, or `http` to this machine itself.
    pub(crate) url: String,
    /// By which what is sent is signed.
    pub(crate) secret: String,
}

/// A program that takes notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// Its absolute path.
    pub(crate) program: String,
    /// What it is called with.
    pub(crate) words: Vec<String>,
}

impl Defined {
    /// Reads both. Root can; another user as far as he may.
    pub(crate) fn read(paths: &Paths) -> Defined {
        let (webhook, command) = (paths.webhook(), paths.notice_command());
        let read = |path: &Path, secret: bool| of_root(path, secret);
        Defined {
            webhook: Found::from(
                read(&webhook, true).and_then(|text| text.map(|t| as_webhook(&t, &webhook)).transpose()),
            ),
            command: Found::from(
                read(&command, false).and_then(|text| text.map(|t| as_command(&t, &command)).transpose()),
            ),
        }
    }
}

/// The text of a file of root's; none where there is no file.
fn of_root(path: &Path, is_secret: bool) -> Result<Option<String>> {
    // Neither a link nor a pipe in its place leads elsewhere or holds us.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(Error::file("read", path))?,
    };
    let about = file.metadata().map_err(Error::file("examine", path))?;
    let refused = |why: &str| Err(Error::NotAllowed(format!("{} is not used: {why}.", path.display())));
    if !about.is_file() || about.uid() != 0 || about.mode() & 0o022 != 0 {
        return refused("it must be a file of root's that nobody else can write (chown root, chmod go-w)");
    }
    if is_secret && about.mode() & 0o004 != 0 {
        return refused("everybody can read the secret in it (chmod 600)");
    }
    let mut text = String::new();
    file.take(MOST + 1).read_to_string(&mut text).map_err(Error::file("read", path))?;
    if text.len() as u64 > MOST {
        return refused("it is longer than 16 KB");
    }
    Ok(Some(text))
}

fn not_used(path: &Path, why: &str) -> Error {
    Error::Data(format!("{} is not used: {why}.", path.display()))
}

fn as_webhook(text: &str, path: &Path) -> Result<Webhook> {
    let form = r#"it must hold {"url": "https://…", "secret": "…"} and nothing else"#;
    let webhook: Webhook = serde_json::from_str(text).map_err(|_| not_used(path, form))?;
    if !is_good_address(&webhook.url) {
        let why =
            "its url must begin with https://, or with http://127.0.0.1 or http://[::1], and name no user";
        return Err(not_used(path, why));
    }
    let plain = webhook.secret.bytes().all(|b| b.is_ascii_graphic());
    match plain && SECRET.contains(&webhook.secret.len()) {
        true => Ok(webhook),
        false => Err(not_used(
            path,
            "its secret must have 32 to 256 letters, digits and signs without blanks, as `openssl rand -hex 32` makes one",
        )),
    }
}

/// Without TLS nobody but this machine may hear it, and a name can lead anywhere.
fn is_good_address(url: &str) -> bool {
    let Ok(address) = url.parse::<Uri>() else { return false };
    let host = address.host().unwrap_or_default();
    let names_a_user = address.authority().is_none_or(|a| a.as_str().contains('@'));
    let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_here = literal.is_ok_and(|ip| ip.is_loopback());
    !host.is_empty()
        && !names_a_user
        && match address.scheme_str() {
            Some("https") => true,
            Some("http") => is_here,
            _ => false,
        }
}

fn as_command(text: &str, path: &Path) -> Result<Command> {
    let mut words = text.lines().map(str::to_owned);
    let program = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let parts = program.strip_prefix('/').unwrap_or_default();
    let is_plain = !parts.is_empty() && parts.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let has_blanks = program.contains(char::is_whitespace);
    let is_odd = |word: &str| word.contains(char::is_control);
    if !is_plain
        || has_blanks
        || is_odd(&program)
        || words.len() >= MOST_WORDS
        || words.iter().any(|w| is_odd(w))
    {
        let why =
            "its first line must be the absolute path of a program, and each further line one word for it";
        return Err(not_used(path, why));
    }
    Ok(Command { program, words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn webhook(url: &str, secret: &str) -> Result<Webhook> {
        as_webhook(&serde_json::json!({ "url": url, "secret": secret }).to_string(), Path::new("w"))
    }

    #[test]
    fn a_webhook_is_https_or_this_machine_itself_and_has_a_long_secret() {
        let secret = "s".repeat(32);
        for good in [
            "https://hooks.example.org/x?y=z",
            "https://127.0.0.1:8443/",
            "http://127.0.0.1:8080/x",
            "http://127.9.9.9/",
            "http://[::1]:80/",
        ] {
            assert!(webhook(good, &secret).is_ok(), "{good}");
        }
        for bad in [
            "http://hooks.example.org/",
            "http://localhost/",
            "http://127.0.0.1@evil.test/",
            "https://user:word@example.org/",
            "http://127.0.0.1.evil.test/",
            "http://192.0.2.1/",
            "ftp://example.org/",
            "file:///etc/passwd",
            "//example.org/",
            "example.org",
            "",
        ] {
            assert!(webhook(bad, &secret).is_err(), "{bad}");
        }
        for bad in ["", &"s".repeat(31), &"s".repeat(257), &"s ".repeat(20), &"ü".repeat(20)] {
            assert!(webhook("https://example.org/", bad).is_err(), "{bad}");
        }
        let more = format!(r#"{{"url": "https://example.org/", "secret": "{secret}", "headers": {{}}}}"#);
        assert!(as_webhook(&more, Path::new("w")).is_err());
    }

    #[test]
    fn a_command_is_an_absolute_program_and_a_word_a_line() {
        let read = |text: &str| as_command(text, Path::new("c"));
        let found = read("/usr/local/bin/tell\n--to\nall of them\n").unwrap();
        assert_eq!(
            (found.program.as_str(), found.words),
            ("/usr/local/bin/tell", vec!["--to".into(), "all of them".into()])
        );
        for bad in [
            "",
            "tell",
            "/usr/bin/tell --to x",
            "/",
            "/usr/../x",
            "#/usr/bin/x",
            "/bin/x\na\u{1b}b",
            "\n/bin/x",
        ] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_definition_or_an_error(text in "\\PC{0,80}|(/[a-z./ \n]{0,30})|https?://[a-z0-9.@:\\[\\]/]{0,30}") {
            if let Ok(command) = as_command(&text, Path::new("c")) {
                let mut parts = command.program.split('/');
                prop_assert_eq!(parts.next(), Some(""));
                prop_assert!(parts.all(|part| !part.is_empty() && part != ".." && part != "."));
            }
            let _ = webhook(&text, &"s".repeat(32));
            let _ = as_webhook(&text, Path::new("w"));
        }
    }
}
