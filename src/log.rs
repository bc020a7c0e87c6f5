//! One syslog datagram a line, `key=value`, never waiting for the logger.
//!
//! The message format is the BSD one (RFC 3164 §4.1) that every `/dev/log` reader takes. Values from
//! outside are escaped and cut, so that no name can forge a second line or field.

use crate::paths::Paths;
use std::fmt::Write as _;
use std::os::unix::net::UnixDatagram;

/// Every event with the fields of its lines, in their order; those in brackets may be missing. Programs hang on them:
/// a field is added at the end, and none is ever renamed or moved.
pub const EVENTS: &[(&str, &str)] = &[
    ("refuse", "door service [account] [address] [country] reason [reference]"),
    ("would_refuse", "door service [account] [address] [country] reason [reference]"),
    ("hold", "door service [account] [address] [country] reason [reference]"),
    ("attack_network", "service [address] [account] network why until"),
    ("burst", "service [address] [account] until"),
    ("mailbox_guarded", "service [address] [account] until"),
    ("change", "who [action] [subject] [more] generation"),
    ("feed", "name did says"),
    ("backup", "who file generation"),
    ("restore", "who file generation"),
    ("tick", "did"),
    ("keeper", "did"),
    ("trouble", "code [detail]"),
];

/// Longest value in a line, in bytes.
const LONGEST_VALUE: usize = 128;

/// Facility `mail` (2) times eight; severity is added.
const MAIL: u8 = 2 << 3;

/// How bad it is, as syslog numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Something of ours does not work.
    Error = 3,
    /// Something deserves a look.
    Warning = 4,
    /// A refusal, a stop, a change.
    Notice = 5,
    /// For the record.
    Info = 6,
}

/// A line in the making.
pub struct Line {
    severity: Severity,
    text: String,
}

impl Line {
    /// A line about this event.
    pub fn new(severity: Severity, event: &str) -> Line {
        Line { severity, text: format!("event={event}") }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, key: &str, value: impl std::fmt::Display) -> Line {
        let _ = write!(self.text, " {key}={}", escaped(&value.to_string()));
        self
    }

    /// Adds a field where there is a value.
    #[must_use]
    pub fn maybe(self, key: &str, value: Option<impl std::fmt::Display>) -> Line {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// Sends the line. A logger that is away or full loses it: mail does not wait for a log.
    pub fn send(self, paths: &Paths, program: &str) {
        let line =
            format!("<{}>{program}[{}]: {}", MAIL + self.severity as u8, std::process::id(), self.text);
        if let Ok(socket) = UnixDatagram::unbound()
            && socket.set_nonblocking(true).is_ok()
        {
            let _ = socket.send_to(line.as_bytes(), paths.log_socket());
        }
    }
}

/// A value as it stands in a line: cut, without blanks, quotes or control characters.
pub fn escaped(value: &str) -> String {
    escaped_within(value, LONGEST_VALUE)
}

/// As [`escaped`], cut at so many bytes.
pub fn escaped_within(value: &str, longest: usize) -> String {
    let mut out = String::with_capacity(value.len().min(longest));
    for c in value.chars() {
        if c.is_control() || c.is_whitespace() || matches!(c, '"' | '=' | '%' | '\\') {
            let _ = write!(out, "%{:02X}", c as u32);
        } else {
            out.push(c);
        }
        if out.len() >= longest {
            out.truncate(out.floor_char_boundary(longest));
            break;
        }
    }
    if out.is_empty() { "-".into() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_cannot_forge_a_field_or_a_line() {
        assert_eq!(escaped("a\nverdict=allow b"), "a%0Averdict%3Dallow%20b");
        assert_eq!(escaped(""), "-");
    }

    proptest! {
        #[test]
        fn an_escaped_value_is_one_word_of_bounded_length(text in "\\PC{0,300}|[\\x00-\\x7f]{0,300}") {
            let word = escaped(&text);
            prop_assert!(word.len() <= LONGEST_VALUE && !word.contains([' ', '\n', '\t', '=', '\0']));
        }
    }
}
