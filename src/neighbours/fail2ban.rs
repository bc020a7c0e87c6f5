//! fail2ban, by its own client: `fail2ban-client banned ADDRESS` names the jails (since 0.11.2), and
//! `fail2ban-client set JAIL unbanip ADDRESS` lets the address out of one.

use super::{Ban, LONGEST, MOST, NAMES, Neighbour};
use crate::address::Address;
use crate::child;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use std::path::PathBuf;

pub(super) struct Fail2ban;

/// Longest name of a jail that is believed, in bytes.
const LONGEST_JAIL: usize = 64;

fn program(paths: &Paths) -> PathBuf {
    paths.at("/usr/bin/fail2ban-client")
}

impl Neighbour for Fail2ban {
    fn name(&self) -> &'static str {
        NAMES[0]
    }

    fn is_here(&self, paths: &Paths) -> bool {
        program(paths).is_file()
    }

    fn bans(&self, paths: &Paths, address: Address, _: Seconds) -> Result<Vec<Ban>> {
        let address = address.to_string();
        let said = child::ask(&program(paths), &["banned", &address], LONGEST, MOST)?;
        if !said.well {
            let ended = said.ended;
            return Err(Error::State(format!("its client failed ({ended}); does its server run?")));
        }
        let jails = jails(&said.text)
            .ok_or_else(|| Error::Data("the answer of `fail2ban-client banned` is not understood.".into()))?;
        let ban = |jail: &str| Ban {
            product: self.name(),
            place: jail.into(),
            banned: address.clone(),
            says: format!("jail {jail}"),
            until: None,
            by_hand: false,
        };
        Ok(jails.into_iter().map(ban).collect())
    }

    fn lift(&self, paths: &Paths, address: Address, ban: &Ban) -> Result<()> {
        let words = ["set", &ban.place, "unbanip", &address.to_string()];
        let said = child::ask(&program(paths), &words, LONGEST, MOST)?;
        if said.well {
            return Ok(());
        }
        Err(Error::State(format!("fail2ban-client {} failed ({}).", words.join(" "), said.ended)))
    }
}

/// The jails in the answer about one address: `[['exim', 'dovecot']]`, `[[]]`. None where it is anything else.
fn jails(answer: &str) -> Option<Vec<&str>> {
    let inside = answer.trim().strip_prefix("[[")?.strip_suffix("]]")?;
    if inside.is_empty() {
        return Some(Vec::new());
    }
    inside.split(',').map(|word| jail(word.trim())).collect()
}

/// A name in quotes, with nothing in it that could be an option or the end of a word.
fn jail(word: &str) -> Option<&str> {
    let quoted = |mark: char| word.strip_prefix(mark)?.strip_suffix(mark);
    let name = quoted('\'').or_else(|| quoted('"'))?;
    let is_plain = name.len() <= LONGEST_JAIL
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    is_plain.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_jails_are_read_and_any_other_answer_is_none() {
        assert_eq!(jails("[[]]\n"), Some(vec![]));
        assert_eq!(jails("[['exim']]\n"), Some(vec!["exim"]));
        assert_eq!(jails("[['plesk-dovecot', 'recidive']]"), Some(vec!["plesk-dovecot", "recidive"]));
        for bad in
            ["", "[]", "['exim']", "[[exim]]", "[['-x']]", "[['a b']]", "[['a'], ['b']]", "[['']]", "ERROR"]
        {
            assert_eq!(jails(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_plain_names_or_none(text in "\\PC{0,60}|\\[\\[('[a-z-]{0,3}'[, ]{0,2}){0,4}\\]\\]") {
            for jail in jails(&text).unwrap_or_default() {
                prop_assert!(!jail.is_empty() && !jail.starts_with('-') && !jail.contains(char::is_whitespace));
            }
        }
    }
}
