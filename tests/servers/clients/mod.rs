//! Mail clients of the tests. They speak plainly or by TLS, from any address, and give the server's words back
//! as they came.

// The tests and the story of scripts/try share this module and each uses its own part of it.
#![allow(dead_code)]

mod imap;
mod line;
mod pop3;
mod secret;
mod smtp;
mod tls;

pub(crate) use imap::Imap;
pub(crate) use pop3::Pop3;
pub(crate) use smtp::Smtp;
pub(crate) use tls::Tls;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// How a client gets to a server.
#[derive(Debug)]
pub(crate) struct Route<'a> {
    pub(crate) server: Ipv4Addr,
    pub(crate) port: u16,
    /// The address that the PROXY line tells; without one the client is on loopback.
    pub(crate) from: Option<&'a str>,
    pub(crate) tls: Tls,
    /// The file with the server's certificate.
    pub(crate) certificate: PathBuf,
}

/// A way to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    SmtpPlain,
    SmtpLogin,
    SmtpCramMd5,
    Imap,
    ImapCramMd5,
    Pop3,
}

impl Way {
    pub(crate) const ALL: [Way; 6] =
        [Way::SmtpPlain, Way::SmtpLogin, Way::SmtpCramMd5, Way::Imap, Way::ImapCramMd5, Way::Pop3];
    pub(crate) const SMTP: [Way; 3] = [Way::SmtpPlain, Way::SmtpLogin, Way::SmtpCramMd5];
    pub(crate) const READING: [Way; 3] = [Way::Imap, Way::ImapCramMd5, Way::Pop3];

    pub(crate) fn is_smtp(self) -> bool {
        Way::SMTP.contains(&self)
    }
}

/// What a server answered: its lines, verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Did the server say yes?
    pub(crate) yes: bool,
    /// The lines, without their ends. Where no answer came, a sentence in brackets says why.
    pub(crate) text: String,
}

impl Reply {
    /// Does the text hold these words?
    pub(crate) fn says(&self, words: &str) -> bool {
        self.text.contains(words)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
