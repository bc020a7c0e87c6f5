//! Accounts: a mailbox, or a local user that sends.

use crate::error::{Error, Result};
use crate::idn;
use std::fmt;
use std::str::FromStr;

/// Longest name that is kept, in bytes; RFC 5321 §4.5.3.1 allows 64 for the local part and 255 for the domain.
const LONGEST: usize = 320;

/// A name in lower case, each letter by itself: what stands at the end of one name and within another is spelled alike.
pub fn lower_case(name: &str) -> String {
    name.chars().flat_map(char::to_lowercase).collect()
}

/// Who logs in or sends. Always in lower case: servers fold case themselves, and two spellings must not
/// have two counters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account {
    name: String,
    /// Where the `@` stands; none for a local user.
    at: Option<usize>,
}

impl Account {
    /// The account that a mail server names. Characters that no account can have become `?` and what is
    /// too long is cut, so that any text makes an account (one that is on no list); `None` where the text
    /// is empty.
    ///
    /// The spellings `user+domain`, `user%domain` and `user:domain` that panels accept are the mailbox
    /// `user@domain` where the right side looks like a domain.
    pub fn from_server(text: &str) -> Option<Account> {
        let clean = lower_case(&text.trim().replace(is_replaced, "?"));
        let cut = clean.floor_char_boundary(LONGEST);
        (!clean.is_empty()).then(|| Account::spelled(&clean[..cut]))
    }

    fn spelled(name: &str) -> Account {
        if let Some(at) = name.rfind('@').filter(|at| *at > 0 && *at + 1 < name.len()) {
            return Account { name: name.into(), at: Some(at) };
        }
        if let Some(rest) = name.strip_prefix('@') {
            // As it is, it would be the key of a domain.
            return Account::spelled(&format!("?{rest}"));
        }
        let other = name.rfind(['+', '%', ':']).filter(|at| *at > 0 && name[at + 1..].contains('.'));
        match other {
            Some(at) if !name.contains('@') => {
                Account { name: format!("{}@{}", &name[..at], &name[at + 1..]), at: Some(at) }
            }
            _ => Account { name: name.into(), at: None },
        }
    }

    /// The name in full: `alice@example.test`, or `webuser`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account that lists show by this name, whatever a mail server took for one: for looking up, never for lists.
    ///
    /// Fails where no account has such a name.
    pub fn shown(text: &str) -> Result<Account> {
        let is_name =
            |a: &Account| a.name.len() == lower_case(text.trim()).len() && !text.trim().contains(is_replaced);
        Account::from_server(text).filter(is_name).ok_or_else(|| {
            Error::bad_value(
                "The account",
                text,
                "give a name as lists show it: no blanks, 320 bytes at most",
            )
        })
    }

    /// The accounts that may be meant by what somebody types to look one up: as administrators write names, and as
    /// lists show them.
    pub fn meant(text: &str) -> Result<Vec<Account>> {
        let mut all: Vec<Account> = text.parse().into_iter().collect();
        let shown = Account::shown(text);
        match shown {
            Ok(shown) if !all.contains(&shown) => all.push(shown),
            Err(error) if all.is_empty() => return Err(error),
            _ => {}
        }
        Ok(all)
    }

    /// The domain in the form that panels and mail servers use; none where it can be none.
    fn in_ascii(self) -> Option<Account> {
        match self.domain() {
            Some(domain) if !domain.is_ascii() => {
                let name = format!("{}@{}", &self.name[..self.at?], idn::ascii(domain)?);
                (name.len() <= LONGEST).then(|| Account::spelled(&name))
            }
            _ => Some(self),
        }
    }

    /// The mailbox's domain; none for a local user.
    pub fn domain(&self) -> Option<&str> {
        self.at.map(|at| &self.name[at + 1..])
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl FromStr for Account {
    type Err = Error;

    /// Reads an account as an administrator writes it; strict, so that a typing error is not saved.
    fn from_str(text: &str) -> Result<Account> {
        let account = Account::from_server(text);
        let is_whole = |a: &Account| {
            // What is longer would be cut: a name that nobody typed.
            lower_case(text.trim()).len() <= LONGEST
                && a.name.matches('@').count() == usize::from(a.at.is_some())
                && a.domain().is_none_or(|domain| domain.split('.').all(|label| !label.is_empty()))
        };
        let account = account.filter(|a| a.name.chars().all(is_plain) && is_whole(a));
        account.and_then(Account::in_ascii).ok_or_else(|| {
            Error::bad_value(
                "The account",
                text,
                "give a mailbox as alice@example.org, or a local user's name",
            )
        })
    }
}

/// Whether no account can have this character.
fn is_replaced(c: char) -> bool {
    c.is_control() || c.is_whitespace()
}

fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || "@.!#$&'*+-/=^_{|}~".contains(c)
}

/// What a list entry can be about: one account, or all mailboxes of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// One account.
    Account(Account),
    /// All mailboxes of this domain, in lower case.
    Domain(String),
}

impl Subject {
    /// The keys under which an entry may stand that is about this account: the account itself first, then
    /// its domain.
    pub fn keys_of(account: &Account) -> impl Iterator<Item = String> + '_ {
        std::iter::once(account.name.clone()).chain(account.domain().map(|domain| format!("@{domain}")))
    }

    /// The entry whose key this is, as people write it: it reads as the same entry again.
    pub fn typed(key: &str) -> String {
        match key.strip_prefix('@') {
            Some(domain) => domain.into(),
            None if key.contains('.') && !key.contains('@') => format!("user:{key}"),
            None => key.into(),
        }
    }

    /// The entry's key: the account's name, or `@` and the domain.
    pub fn key(&self) -> String {
        match self {
            Subject::Account(account) => account.name.clone(),
            Subject::Domain(domain) => format!("@{domain}"),
        }
    }
}

impl FromStr for Subject {
    type Err = Error;

    /// `alice@example.org` is a mailbox, `example.org` or `@example.org` a domain, `webuser` a local user;
    /// `user:web.user` is a local user whose name has a dot.
    fn from_str(text: &str) -> Result<Subject> {
        let text = text.trim();
        if let Some(name) = text.strip_prefix("user:") {
            return name.parse().map(Subject::Account);
        }
        let domain = text.strip_prefix('@').unwrap_or(text);
        if domain.contains('@') || (domain == text && !text.contains('.')) {
            return text.parse().map(Subject::Account);
        }
        let good = domain.len() <= 255
            && domain.split('.').all(|label| {
                !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
            });
        if !good {
            return Err(Error::bad_value(
                "The mailbox or domain",
                text,
                "give alice@example.org, a domain as example.org, or a local user's name",
            ));
        }
        let ascii = idn::ascii(&lower_case(domain)).filter(|ascii| ascii.len() <= 255);
        ascii.map(Subject::Domain).ok_or_else(|| {
            Error::bad_value(
                "The domain",
                text,
                "give one that can be registered, as example.org or müller.example",
            )
        })
    }
}

impl Subject {
    /// In words, so that nobody takes a domain for a user: "the domain example.org".
    pub fn words(&self) -> String {
        match self {
            Subject::Account(account) if account.domain().is_some() => format!("the mailbox {account}"),
            Subject::Account(account) => format!("the local user {account}"),
            Subject::Domain(domain) => match idn::readable(domain) {
                Some(readable) => format!("the domain {domain} ({readable})"),
                None => format!("the domain {domain}"),
            },
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Account(account) => account.fmt(f),
            Subject::Domain(domain) => f.write_str(domain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_spellings_of_a_mailbox_are_one_account() {
        for text in ["Alice@Example.TEST", "alice+example.test", "alice%example.test", "alice:example.test"] {
            assert_eq!(Account::from_server(text).unwrap().name(), "alice@example.test", "{text}");
        }
    }

    #[test]
    fn a_tagged_mailbox_keeps_its_tag_and_a_plain_name_is_a_local_user() {
        assert_eq!(Account::from_server("a+b.c@example.test").unwrap().name(), "a+b.c@example.test");
        assert_eq!(Account::from_server("web+user").unwrap().domain(), None);
        assert_eq!(Account::from_server("webuser").unwrap().domain(), None);
        assert_eq!(Account::from_server("@").unwrap().domain(), None);
        assert_eq!(Account::from_server("  "), None);
    }

    #[test]
    fn no_name_that_a_server_names_is_the_key_of_a_domain() {
        for text in ["@example.test", " @example.test", "@", "@example.test@", "@%.test", "@a+b.test"] {
            let account = Account::from_server(text).unwrap();
            assert!(!account.name().starts_with('@'), "{text}");
            assert!(
                text.parse::<Account>().is_err() && format!("user:{text}").parse::<Subject>().is_err(),
                "{text}"
            );
        }
        for bad in ["alice@", "alice@example.test.", "alice@example..test", "alice@.test", "alice+.test"] {
            assert!(bad.parse::<Account>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_domain_beyond_ascii_is_kept_as_panels_name_it() {
        for text in ["müller.example", "@MÜLLER.example", "xn--mller-kva.example"] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(subject.key(), "@xn--mller-kva.example", "{text}");
            assert_eq!(subject.words(), "the domain xn--mller-kva.example (müller.example)");
        }
        let mailbox: Account = "Jörg@müller.example".parse().unwrap();
        assert_eq!(mailbox.name(), "jörg@xn--mller-kva.example");
        assert!("a@\u{ad}.example".parse::<Account>().is_err());
        // What a mail server names is taken as it is: hooks know nothing of this.
        assert_eq!(Account::from_server("a@MÜLLER.example").unwrap().name(), "a@müller.example");
        let names = |text: &str| -> Vec<String> {
            Account::meant(text).unwrap().iter().map(ToString::to_string).collect()
        };
        assert_eq!(names("a@müller.example"), ["a@xn--mller-kva.example", "a@müller.example"]);
        assert_eq!(names("alice@example.test"), ["alice@example.test"]);
    }

    #[test]
    fn what_a_server_takes_for_an_account_can_be_looked_up_and_put_on_no_list() {
        for text in
            ["a\"b@example.test", "a\\b", "a?b@example.test", "50%", "x@b.test@c.test", "a,b;c", "[1]"]
        {
            let account = Account::from_server(text).unwrap();
            assert_eq!(Account::meant(account.name()).unwrap(), [account], "{text}");
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
        let long = "a".repeat(321);
        for bad in ["", " ", "a b", "a\u{a0}b", "a\nb", &long] {
            assert!(Account::meant(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_reads_as_the_same_entry_when_it_is_typed() {
        for text in ["alice@example.test", "example.test", "@example.test", "webuser", "user:web.user"] {
            let subject: Subject = text.parse().unwrap();
            assert_eq!(Subject::typed(&subject.key()).parse::<Subject>().unwrap(), subject, "{text}");
        }
    }

    #[test]
    fn subjects_are_told_apart_by_their_shape() {
        assert_eq!("example.test".parse::<Subject>().unwrap().key(), "@example.test");
        assert_eq!("@Example.Test".parse::<Subject>().unwrap().key(), "@example.test");
        assert_eq!("a@example.test".parse::<Subject>().unwrap().key(), "a@example.test");
        assert_eq!("webuser".parse::<Subject>().unwrap().key(), "webuser");
        assert_eq!("user:web.user".parse::<Subject>().unwrap().key(), "web.user");
        for bad in ["", "@", "a b@example.test", "a@b@c", "ex..test", "x y.test"] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gives_an_account_that_reads_as_itself(text in "\\PC{0,400}|[\\x00-\\x7f]{0,50}") {
            if let Some(account) = Account::from_server(&text) {
                prop_assert!(!account.name().contains(char::is_control));
                prop_assert_eq!(Account::from_server(account.name()), Some(account.clone()));
                // Whatever lists show can be looked up.
                prop_assert!(Account::meant(account.name()).unwrap().contains(&account));
            }
            let _ = text.parse::<Subject>();
        }
    }
}
