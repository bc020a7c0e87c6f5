//! Domains with letters beyond ASCII: panels and mail servers name them in one form (`xn--mller-kva.example`), people
//! in the other (`müller.example`). What administrators type becomes the first, and both are published for the hooks,
//! since a mail program may log in by either.
//!
//! Hook programs do without this: its tables are large.

use crate::account::lower_case;

/// The domain in ASCII (UTS 46); none where it can be none.
pub fn ascii(domain: &str) -> Option<String> {
    match domain.is_ascii() {
        true => Some(domain.to_ascii_lowercase()),
        false => idna::domain_to_ascii(domain).ok().filter(|ascii| !ascii.is_empty()),
    }
}

/// The domain as people read it, where that is another spelling.
pub fn readable(domain: &str) -> Option<String> {
    if !domain.split('.').any(|label| label.starts_with("xn--")) {
        return None;
    }
    let (text, is_good) = idna::domain_to_unicode(domain);
    Some(lower_case(&text)).filter(|text| is_good.is_ok() && text != domain)
}

/// The key of an account or a domain in its other spelling, where it has one.
pub fn other_spelling(key: &str) -> Option<String> {
    let (local, domain) = key.split_at(key.rfind('@')? + 1);
    let other = match domain.is_ascii() {
        true => readable(domain),
        false => ascii(domain).filter(|ascii| ascii != domain),
    };
    other.map(|domain| format!("{local}{domain}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_spellings_lead_to_each_other() {
        for (people, ascii_form) in [
            ("müller.example", "xn--mller-kva.example"),
            ("MÜLLER.Example", "xn--mller-kva.example"),
            ("почта.рф", "xn--80a1acny.xn--p1ai"),
        ] {
            assert_eq!(ascii(people).as_deref(), Some(ascii_form));
            assert_eq!(readable(ascii_form), Some(lower_case(people)));
        }
        assert_eq!(ascii("Example.ORG").as_deref(), Some("example.org"));
        assert_eq!(
            (readable("example.org"), readable("xn--.org"), readable("xn--a\u{308}")),
            (None, None, None)
        );
        assert_eq!(other_spelling("a@müller.example").as_deref(), Some("a@xn--mller-kva.example"));
        assert_eq!(other_spelling("@xn--mller-kva.example").as_deref(), Some("@müller.example"));
        assert_eq!((other_spelling("müller"), other_spelling("a@example.org")), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_has_one_other_spelling_at_most(key in "\\PC{0,30}|[a-z@.ü]{0,12}|@xn--[a-z0-9-]{0,12}") {
            if let Some(other) = other_spelling(&key) {
                prop_assert_ne!(&other, &key);
                prop_assert!(!other.contains(char::is_control));
            }
        }
    }
}
