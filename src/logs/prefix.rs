//! What stands between a line's time and its message: machine and program.

use memchr::memchr;

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

/// What stands before and after the first place with these bytes.
pub(super) fn split<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let begin = memchr::memmem::find(text, at)?;
    Some((&text[..begin], &text[begin + at.len()..]))
}

/// The same for the last place.
pub(super) fn split_last<'a>(text: &'a [u8], at: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let begin = memchr::memmem::rfind(text, at)?;
    Some((&text[..begin], &text[begin + at.len()..]))
}

/// Whether these bytes stand there more than once.
pub(super) fn is_repeated(text: &[u8], what: &[u8]) -> bool {
    split(text, what).is_some_and(|(_, after)| memchr::memmem::find(after, what).is_some())
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
