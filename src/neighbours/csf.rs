//! ConfigServer Security & Firewall (csf, and its login failure daemon lfd), by its own files and its own program.
//!
//! `/etc/csf/csf.deny` has one address, network or advanced rule (`tcp|in|d=25|s=192.0.2.7`) a line, with a comment
//! behind `#`, which lfd begins with its name. `/var/lib/csf/csf.tempban` has `time|address|ports|direction|seconds|text`
//! a line. `csf -dr` takes an entry off the first, `csf -trd` off the second (csf's manual page). Not seen with a csf
//! that runs yet.

use super::{Ban, LONGEST, MOST, NAMES, Neighbour, holds, plain};
use crate::address::Address;
use crate::child;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

pub(super) struct Csf;

const DENY: &str = "csf.deny";
const TEMPBAN: &str = "csf.tempban";

fn program(paths: &Paths) -> PathBuf {
    paths.at("/usr/sbin/csf")
}

impl Neighbour for Csf {
    fn name(&self) -> &'static str {
        NAMES[1]
    }

    fn is_here(&self, paths: &Paths) -> bool {
        program(paths).is_file()
    }

    fn bans(&self, paths: &Paths, address: Address, now: Seconds) -> Result<Vec<Ban>> {
        let mut bans = denied(&read(&paths.at("/etc/csf/csf.deny"))?, address);
        bans.extend(banned_for_a_time(&read(&paths.at("/var/lib/csf/csf.tempban"))?, address, now));
        Ok(bans)
    }

    fn lift(&self, paths: &Paths, address: Address, ban: &Ban) -> Result<()> {
        let how = if ban.place == DENY { "-dr" } else { "-trd" };
        // csf takes entries off by their very text, which is an address or network here.
        let banned = if holds(&ban.banned, address) { &ban.banned } else { &address.to_string() };
        let said = child::ask(&program(paths), &[how, banned], LONGEST, MOST)?;
        if said.well {
            Ok(())
        } else {
            Err(Error::State(format!("csf {how} {banned} failed ({}).", said.ended)))
        }
    }
}

/// A file of csf's; one that is not there is empty.
fn read(path: &Path) -> Result<String> {
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(String::new()),
        opened => opened.map_err(Error::file("read", path))?,
    };
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn denied(file: &str, address: Address) -> Vec<Ban> {
    let ban = |line: &str| {
        let (entry, comment) = line.split_once('#').unwrap_or((line, ""));
        let (entry, comment) = (entry.trim(), comment.trim());
        let sources = || entry.split('|').filter_map(|part| part.trim().strip_prefix("s="));
        let is_rule = entry.contains('|');
        let concerns =
            if is_rule { sources().any(|source| holds(source, address)) } else { holds(entry, address) };
        concerns.then(|| Ban {
            product: NAMES[1],
            place: DENY.into(),
            banned: plain(entry),
            says: plain(comment),
            until: None,
            by_hand: is_rule || !comment.starts_with("lfd"),
        })
    };
    file.lines().filter_map(ban).collect()
}

fn banned_for_a_time(file: &str, address: Address, now: Seconds) -> Vec<Ban> {
    let ban = |line: &str| {
        let mut fields = line.splitn(6, '|').map(str::trim);
        let at: Seconds = fields.next()?.parse().ok()?;
        let banned = fields.next().filter(|banned| holds(banned, address))?;
        let (_ports, _direction) = (fields.next()?, fields.next()?);
        let until = at.saturating_add(fields.next()?.parse().ok()?);
        (now < until).then(|| Ban {
            product: NAMES[1],
            place: TEMPBAN.into(),
            banned: plain(banned),
            says: plain(fields.next().unwrap_or_default()),
            until: Some(until),
            by_hand: false,
        })
    };
    file.lines().filter_map(ban).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> Address {
        "192.0.2.7".parse().unwrap()
    }

    #[test]
    fn what_csf_denies_is_found_and_what_people_wrote_is_told_apart() {
        let file = "# comment 192.0.2.7\n\
                    192.0.2.7 # lfd: (smtpauth) Failed SMTP AUTH login from 192.0.2.7 - Mon Nov 30\n\
                    192.0.2.70 # lfd: (sshd)\n\
                    192.0.2.0/24 # do not delete - the neighbours\n\
                    tcp|in|d=25|s=192.0.2.7 # by hand\n\
                    Include /etc/csf/more.deny\n";
        let found: Vec<(String, bool)> =
            denied(file, address()).into_iter().map(|ban| (ban.banned, ban.by_hand)).collect();
        let expected = [("192.0.2.7", false), ("192.0.2.0/24", true), ("tcp|in|d=25|s=192.0.2.7", true)];
        assert_eq!(found, expected.map(|(banned, by_hand)| (banned.to_owned(), by_hand)));
    }

    #[test]
    fn a_ban_for_a_time_ends_with_it() {
        let file =
            "1000|192.0.2.7|25,465|in|600|lfd - (smtpauth) a | b\n1000|192.0.2.8||in|600|x\nnonsense\n";
        let found = banned_for_a_time(file, address(), 1599);
        assert_eq!(
            (found[0].until, found[0].says.as_str(), found.len()),
            (Some(1600), "lfd - (smtpauth) a | b", 1)
        );
        assert_eq!(banned_for_a_time(file, address(), 1600), []);
    }

    proptest! {
        #[test]
        fn any_file_is_read(file in "([0-9a-f.:/|#= -]{0,30}\n){0,6}|\\PC{0,100}", now: i64) {
            for ban in denied(&file, address()).into_iter().chain(banned_for_a_time(&file, address(), now)) {
                prop_assert!(!ban.banned.is_empty());
            }
        }
    }
}
