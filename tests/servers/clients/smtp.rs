//! An SMTP client.

use super::line::Line;
use super::{Reply, Route, Tls, secret};

/// A session after EHLO.
#[derive(Debug)]
pub(crate) struct Smtp {
    line: Line,
    /// The server's greeting and its answer to EHLO.
    pub(crate) greeting: Reply,
}

impl Smtp {
    pub(crate) fn connect(route: &Route) -> Smtp {
        let mut smtp =
            Smtp { line: Line::connect(route), greeting: Reply { yes: false, text: String::new() } };
        let banner = smtp.reply();
        let mut hello = smtp.ask("EHLO client.test");
        // A server that refuses with its greeting says no to all that follows.
        if route.tls == Tls::Starttls && banner.yes {
            let reply = smtp.ask("STARTTLS");
            assert!(reply.yes, "STARTTLS: {reply}");
            smtp.line.start_tls();
            hello = smtp.ask("EHLO client.test");
        }
        smtp.greeting = Reply { yes: hello.yes, text: format!("{banner}\n{hello}") };
        smtp
    }

    /// Sends one command; the whole answer. A 3xx, which asks for more, is no yes.
    pub(crate) fn ask(&mut self, command: &str) -> Reply {
        self.line.write(command);
        self.reply()
    }

    pub(crate) fn auth_plain(&mut self, name: &str, password: &str) -> Reply {
        self.ask(&format!("AUTH PLAIN {}", secret::plain(name, password)))
    }

    pub(crate) fn auth_login(&mut self, name: &str, password: &str) -> Reply {
        let mut reply = self.ask("AUTH LOGIN");
        for word in [name, password] {
            if reply.text.starts_with("334") {
                reply = self.ask(&secret::base64(word));
            }
        }
        reply
    }

    pub(crate) fn auth_cram_md5(&mut self, name: &str, password: &str) -> Reply {
        let reply = self.ask("AUTH CRAM-MD5");
        match reply.text.strip_prefix("334 ") {
            Some(challenge) => self.ask(&secret::cram_md5(challenge, name, password)),
            None => reply,
        }
    }

    /// One whole message. The first refusal ends it; else the answer to the message itself.
    pub(crate) fn send(&mut self, from: &str, to: &[&str], subject: &str) -> Reply {
        let mut reply = self.ask(&format!("MAIL FROM:<{from}>"));
        for recipient in to {
            if reply.yes {
                reply = self.ask(&format!("RCPT TO:<{recipient}>"));
            }
        }
        if !reply.yes {
            return reply;
        }
        let go_on = self.ask("DATA");
        if !go_on.text.starts_with("354") {
            return go_on;
        }
        let to = to.join(", ");
        self.ask(&format!(
            "From: <{from}>\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nA message of the rig.\r\n."
        ))
    }

    /// As far as the message itself: the answer to RCPT, or to the MAIL that was refused.
    pub(crate) fn begin(&mut self, from: &str, to: &str) -> Reply {
        let mail = self.ask(&format!("MAIL FROM:<{from}>"));
        if mail.yes { self.ask(&format!("RCPT TO:<{to}>")) } else { mail }
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
            // "250-" goes on, "250 " ends.
            if last.as_bytes().get(3) != Some(&b'-') {
                return Reply { yes: last.starts_with('2'), text: lines.join("\n") };
            }
        }
    }
}
