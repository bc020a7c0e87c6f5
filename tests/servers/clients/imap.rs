//! An IMAP client.

use super::line::Line;
use super::{Reply, Route, Tls, secret};

/// A session after the greeting.
#[derive(Debug)]
pub(crate) struct Imap {
    line: Line,
    /// The server's greeting.
    pub(crate) greeting: String,
}

impl Imap {
    pub(crate) fn connect(route: &Route) -> Imap {
        let mut line = Line::connect(route);
        let greeting = line.read().unwrap_or_else(|why| why);
        let mut imap = Imap { line, greeting };
        if route.tls == Tls::Starttls {
            let reply = imap.ask("STARTTLS");
            assert!(reply.yes, "STARTTLS: {reply}");
            imap.line.start_tls();
        }
        imap
    }

    /// Sends one command; every line up to the answer that ends it.
    pub(crate) fn ask(&mut self, command: &str) -> Reply {
        self.line.write(&format!("a {command}"));
        self.reply()
    }

    pub(crate) fn login(&mut self, name: &str, password: &str) -> Reply {
        self.ask(&format!("LOGIN \"{name}\" \"{password}\""))
    }

    pub(crate) fn authenticate_plain(&mut self, name: &str, password: &str) -> Reply {
        self.ask(&format!("AUTHENTICATE PLAIN {}", secret::plain(name, password)))
    }

    pub(crate) fn authenticate_cram_md5(&mut self, name: &str, password: &str) -> Reply {
        self.line.write("a AUTHENTICATE CRAM-MD5");
        match self.line.read() {
            Ok(line) => match line.strip_prefix("+ ") {
                Some(challenge) => self.line.write(&secret::cram_md5(challenge, name, password)),
                None => return Reply { yes: false, text: line },
            },
            Err(why) => return Reply { yes: false, text: why },
        }
        self.reply()
    }

    /// The messages in INBOX, each with its headers and text, as one answer of the server.
    pub(crate) fn read_inbox(&mut self) -> Reply {
        let selected = self.ask("SELECT INBOX");
        // Fetching from an empty mailbox is an error in IMAP.
        if !selected.yes || selected.says("* 0 EXISTS") {
            return selected;
        }
        self.ask("FETCH 1:* BODY.PEEK[]")
    }

    fn reply(&mut self) -> Reply {
        let mut lines = Vec::new();
        loop {
            match self.line.read() {
                Ok(line) => lines.push(line),
                Err(why) => {
                    lines.push(why);
                    return Reply { yes: false, text: lines.join("\n") };
                }
            }
            let last = &lines[lines.len() - 1];
            if last.starts_with("a ") {
                return Reply { yes: last.starts_with("a OK"), text: lines.join("\n") };
            }
        }
    }
}
