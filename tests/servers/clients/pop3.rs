//! A POP3 client.

use super::line::Line;
use super::{Reply, Route, Tls};

/// A session after the greeting.
#[derive(Debug)]
pub(crate) struct Pop3 {
    line: Line,
    /// The server's greeting.
    pub(crate) greeting: String,
}

impl Pop3 {
    pub(crate) fn connect(route: &Route) -> Pop3 {
        let mut line = Line::connect(route);
        let greeting = line.read().unwrap_or_else(|why| why);
        let mut pop3 = Pop3 { line, greeting };
        if route.tls == Tls::Starttls {
            let reply = pop3.ask("STLS");
            assert!(reply.yes, "STLS: {reply}");
            pop3.line.start_tls();
        }
        pop3
    }

    /// Sends one command; the one line of its answer.
    pub(crate) fn ask(&mut self, command: &str) -> Reply {
        self.line.write(command);
        match self.line.read() {
            Ok(text) => Reply { yes: text.starts_with("+OK"), text },
            Err(text) => Reply { yes: false, text },
        }
    }

    pub(crate) fn login(&mut self, name: &str, password: &str) -> Reply {
        let reply = self.ask(&format!("USER {name}"));
        if reply.yes { self.ask(&format!("PASS {password}")) } else { reply }
    }
}
