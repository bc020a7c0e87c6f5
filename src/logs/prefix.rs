//! What stands between a line's time and its message: machine and program; and how words are found in a line.

use memchr::memchr;
use memchr::memmem::Finder;
use std::sync::OnceLock;

/// The program and its message: of `host program[7]: text`, `host program: text`, `program: text`, or, behind a time
/// of RFC 5424, `host program 7 - - text`.
pub(super) fn take(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, after) = word(rest)?;
    if let Some(program) = first.strip_suffix(b":") {
        return Some((without_number(program), after));
    }
    let (second, text) = word(after)?;
    if let Some(program) = second.strip_suffix(b":") {
        return Some((without_number(program), text));
    }
    // RFC 5424: APP-NAME PROCID MSGID STRUCTURED-DATA MSG; none of ours writes structured data.
    let (number, text) = word(text)?;
    let (_message_kind, text) = word(text)?;
    let text = text.strip_prefix(b"- ")?;
    let is_number = number == b"-" || number.iter().all(u8::is_ascii_digit);
    is_number.then(|| (second, text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)))
}

/// What stands before a blank, which is something, and after it.
pub(super) fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b' ', text).filter(|end| *end > 0)?;
    Some((&text[..end], &text[end + 1..]))
}

/// Bytes that are looked for in every line: how to find them quickly is worked out once, which takes longer than to
/// look through a line.
pub(super) struct Words {
    bytes: &'static [u8],
    finder: OnceLock<Finder<'static>>,
}

impl Words {
    pub(super) const fn new(bytes: &'static str) -> Words {
        Words { bytes: bytes.as_bytes(), finder: OnceLock::new() }
    }

    fn finder(&self) -> &Finder<'static> {
        self.finder.get_or_init(|| Finder::new(self.bytes))
    }

    /// Whether they stand there.
    pub(super) fn are_in(&self, text: &[u8]) -> bool {
        self.finder().find(text).is_some()
    }

    /// What stands before and after the first place with them.
    pub(super) fn split<'a>(&self, text: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        self.around(text, self.finder().find(text)?)
    }

    /// The same for the last place; for bytes of which no two places overlap.
    pub(super) fn split_last<'a>(&self, text: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        self.around(text, self.finder().find_iter(text).last()?)
    }

    fn around<'a>(&self, text: &'a [u8], at: usize) -> Option<(&'a [u8], &'a [u8])> {
        Some((text.get(..at)?, text.get(at + self.bytes.len()..)?))
    }

    /// Whether they stand there more than once.
    pub(super) fn are_repeated(&self, text: &[u8]) -> bool {
        self.split(text).is_some_and(|(_, after)| self.are_in(after))
    }
}

fn without_number(program: &[u8]) -> &[u8] {
    let Some(inner) = program.strip_suffix(b"]") else { return program };
    match inner.iter().rposition(|b| *b == b'[') {
        Some(at) if inner[at + 1..].iter().all(u8::is_ascii_digit) => &inner[..at],
        _ => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_every_notation() {
        for line in [
            "server dovecot[77]: text",
            "server dovecot: text",
            "dovecot: text",
            "server dovecot 77 - - text",
            "server dovecot - - - \u{feff}text",
        ] {
            let expected: (&[u8], &[u8]) = (b"dovecot", b"text");
            assert_eq!(take(line.as_bytes()), Some(expected), "{line}");
        }
        for line in ["", "server", "server program", "a b c", "a b c d e", "a b 7 x [y] z"] {
            assert_eq!(take(line.as_bytes()), None, "{line}");
        }
    }
}
