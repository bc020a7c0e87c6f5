//! The tally: one appended line for each login or message, so that an allowed login costs no transaction.
//!
//! A line is `2 <time> <kind> <door> <service> <country> <network> <verdict> <reason> <account>` and a newline, at
//! most 512 bytes, written with one `write` under `O_APPEND`, alone or with others, so lines of many processes never
//! mix. Where several rules in monitor mode would have refused, the reason is each one's, with commas. `tick` renames the file, waits until late writers are done, folds it into the roll-ups of the state and
//! removes it. Losing one costs a statistic.
//!
//! A message that is held while the state cannot be written has a line more, since nobody would find it again:
//! `2 <time> held <door> <service> - - <message> <recipients> <account>`.

use crate::account::Account;
use crate::address::Network;
use crate::authority::opens_files_as_root;
use crate::call::Call;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::log::escaped_within;
use crate::paths::Paths;
use crate::request::{Door, MessageId, Service};
use crate::trouble::{self, Trouble};
use nix::libc;
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest line, in bytes.
const LONGEST: usize = 512;

/// Longest name in a line, in bytes: the longest account, where nothing in it had to be escaped.
const LONGEST_NAME: usize = 320;

/// No line is added to a file of this size; something keeps it from being folded.
const FULL: u64 = 256 * 1024 * 1024;

/// What a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Somebody tried to log in.
    Try,
    /// A login is known to have succeeded: it is used, or the server tells.
    Success,
    /// A login is known to have failed: the password was wrong.
    Failure,
    /// A login that was counted as a try, or that succeeded, was refused after that.
    Use,
    /// A message wanted to leave.
    Send,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Try => "try",
            Kind::Success => "success",
            Kind::Failure => "failure",
            Kind::Use => "use",
            Kind::Send => "send",
        }
    }
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// What it counts.
    pub kind: Kind,
    /// The door that asked.
    pub door: Door,
    /// The service.
    pub service: Service,
    /// The country of the client's address.
    pub country: Option<Country>,
    /// The network around the client's address, where an account may become known there.
    pub network: Option<Network>,
    /// What was said: the verdict's name, or `would_refuse`.
    pub verdict: &'a str,
    /// Stable key of the reason; of what would have been refused, of each, with commas.
    pub reason: &'a str,
    /// The account, where known.
    pub account: Option<&'a Account>,
}

/// A message that is held.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The mail server's name for it.
    pub message: &'a MessageId,
    /// How many recipients it has.
    pub recipients: u32,
    /// Whose it is.
    pub account: &'a Account,
}

/// The file that lines go to.
pub fn current(paths: &Paths) -> PathBuf {
    paths.tally_dir().join("current")
}

/// Gives the current file a name under which it waits to be folded, so that the next line begins a new one;
/// tells whether there was one. For user `postern`.
pub fn close_current(paths: &Paths, now: Seconds) -> Result<bool> {
    let current = current(paths);
    let name = format!("fold-{now}-{:04x}", crate::call::random_bits() & 0xffff);
    match std::fs::rename(&current, current.with_file_name(name)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::file("rename", &current)(e)),
    }
}

/// What is read of each tally, from its end, to find out whether anybody logs in.
const LATEST: u64 = 256 * 1024;

/// Whether a login that succeeded since then stands in the tally, as far as it is not folded yet: within the last
/// minute or so. Where that cannot be read, nobody is said to have.
pub fn somebody_succeeded_since(paths: &Paths, since: Seconds) -> bool {
    let Ok(entries) = std::fs::read_dir(paths.tally_dir()) else { return false };
    entries.filter_map(|entry| Some(entry.ok()?.path())).any(|path| {
        let text = end_of(&path).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .lines()
            .rev()
            .filter_map(parse)
            .any(|line| line.at >= since && line.kind == Kind::Success.name())
    })
}

fn end_of(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file =
        OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LATEST)))?;
    let mut text = Vec::new();
    file.take(LATEST).read_to_end(&mut text)?;
    Ok(text)
}

/// Appends the line; a tally that cannot be written is marked as trouble and changes nothing else.
pub fn append(call: &Call, line: &Line) {
    append_text(call, text(line, call.now));
}

/// Appends a line for a message that is held, of which the state does not know.
pub fn append_held(call: &Call, door: Door, service: Service, held: &Held) {
    let (door, service) = (door.name(), service.name());
    let Held { message, recipients, account } = held;
    let account = escaped_within(account.name(), LONGEST_NAME);
    append_text(
        call,
        whole(format!("2 {} held {door} {service} - - {message} {recipients} {account}", call.now)),
    );
}

fn append_text(call: &Call, line: String) {
    if !call.kept.is_some_and(|kept| kept.takes_line(&line)) {
        append_lines(call, &line);
    }
}

/// Appends whole lines by one write, as [`append`] does with one.
pub(crate) fn append_lines(call: &Call, text: &str) {
    if let Err(error) = write(call, text) {
        trouble::mark(call, Trouble::Tally, &error.to_string());
    }
}

fn write(call: &Call, text: &str) -> Result<()> {
    let path = current(&call.paths);
    let add = |file: &File, looks: bool| {
        if looks { refuse_full(file, &path) } else { Ok(()) }.and_then(|()| add(file, &path, text))
    };
    match call.kept {
        Some(kept) => kept.with_tally(&path, open, add),
        None => add(&open(&path)?, true),
    }
}

fn open(path: &Path) -> Result<File> {
    if opens_files_as_root() {
        return Err(Error::NotAllowed(format!(
            "{} is not written with root's rights: mail users can lay something in its place.",
            path.display()
        )));
    }
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o660).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options.open(path).map_err(Error::file("open", path))
}

fn refuse_full(file: &File, path: &Path) -> Result<()> {
    if file.metadata().map_err(Error::file("examine", path))?.len() > FULL {
        return Err(Error::State(format!(
            "{} is full: nobody folds it; is `postern tick` run?",
            path.display()
        )));
    }
    Ok(())
}

fn add(mut file: &File, path: &Path, text: &str) -> Result<()> {
    file.write_all(text.as_bytes()).map_err(Error::file("write", path))
}

fn text(line: &Line, now: Seconds) -> String {
    let mut text = format!("2 {now}");
    let country = line.country.map(|c| c.to_string());
    let network = line.network.map(|n| n.to_string());
    let account = line.account.map(|a| escaped_within(a.name(), LONGEST_NAME));
    for field in [
        line.kind.name(),
        line.door.name(),
        line.service.name(),
        country.as_deref().unwrap_or("-"),
        network.as_deref().unwrap_or("-"),
        line.verdict,
        line.reason,
        account.as_deref().unwrap_or("-"),
    ] {
        text.push(' ');
        text.push_str(field);
    }
    whole(text)
}

/// A line of a length that is read back.
fn whole(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST - 1));
    text.push('\n');
    text
}

/// The reasons of a line: hardly ever more than one, and never more than there are rules.
pub fn reasons(reason: &str) -> impl Iterator<Item = &str> {
    reason.split(',').take(MOST_REASONS)
}

/// More rules than there are.
const MOST_REASONS: usize = 8;

/// A line as read back. The file can be written by every mail user: every field is checked by its use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When.
    pub at: Seconds,
    /// Kind, as written.
    pub kind: &'a str,
    /// Door, as written.
    pub door: &'a str,
    /// Service, as written.
    pub service: &'a str,
    /// Country's code, empty where unknown.
    pub country: &'a str,
    /// The network around the client's address, empty where it is not told.
    pub network: &'a str,
    /// Verdict, as written; of a held message its name.
    pub verdict: &'a str,
    /// Reason's key, as written; of a held message how many recipients it has.
    pub reason: &'a str,
    /// Account, empty where unknown.
    pub account: Cow<'a, str>,
}

/// Reads one line; half and foreign lines are none.
pub fn parse(line: &str) -> Option<Entry<'_>> {
    let mut fields = line.split(' ');
    if fields.next()? != "2" || line.len() >= LONGEST {
        return None;
    }
    let at = fields.next()?.parse().ok()?;
    let mut word = || fields.next().filter(|w| !w.is_empty());
    let entry = Entry {
        at,
        kind: word()?,
        door: word()?,
        service: word()?,
        country: word().map(or_empty)?,
        network: word().map(or_empty)?,
        verdict: word()?,
        reason: word()?,
        account: word().map(or_empty).map(unescaped)?,
    };
    fields.next().is_none().then_some(entry)
}

/// What a name may have that [`escaped_within`] writes otherwise: an account has no blanks and no control characters.
const ESCAPED: [(&str, char); 4] = [("22", '"'), ("25", '%'), ("3D", '='), ("5C", '\\')];

/// The name as the mail server named it. What is no escape of ours stays as it is.
fn unescaped(word: &str) -> Cow<'_, str> {
    let mut parts = word.split('%');
    let Some(first) = parts.next().filter(|first| first.len() < word.len()) else { return word.into() };
    let mut name = first.to_string();
    for part in parts {
        match ESCAPED.iter().find_map(|(code, c)| Some((*c, part.strip_prefix(code)?))) {
            Some((c, rest)) => {
                name.push(c);
                name.push_str(rest);
            }
            None => {
                name.push('%');
                name.push_str(part);
            }
        }
    }
    name.into()
}

fn or_empty(word: &str) -> &str {
    if word == "-" { "" } else { word }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(account: &Account) -> Line<'_> {
        Line {
            kind: Kind::Try,
            door: Door::DovecotGate,
            service: Service::Imap,
            country: "DE".parse().ok(),
            network: None,
            verdict: "allow",
            reason: "country_allowed",
            account: Some(account),
        }
    }

    proptest! {
        #[test]
        fn any_name_makes_one_line_that_reads_back(name in "\\PC{1,400}|[\\x00-\\x7f]{1,200}") {
            if let Some(account) = Account::from_server(&name) {
                let text = text(&line(&account), 1_700_000_000);
                prop_assert!(text.len() <= LONGEST && text.ends_with('\n'));
                prop_assert_eq!(text.matches('\n').count(), 1);
                let entry = parse(text.trim_end_matches('\n')).unwrap();
                prop_assert_eq!((entry.at, entry.country, entry.verdict), (1_700_000_000, "DE", "allow"));
                if escaped_within(account.name(), 2_000).len() < LONGEST_NAME {
                    prop_assert_eq!(entry.account, account.name());
                }
            }
        }

        #[test]
        fn a_name_is_whole_beside_the_reasons_of_all_rules(name in "[a-z]{310,330}") {
            let account = Account::from_server(&name).unwrap();
            let all = "country_not_allowed,network_hosting,mailbox_guarded,attack_network,burst";
            let network = "2001:db8:1111:2222::/64".parse().ok();
            let line = Line { kind: Kind::Success, door: Door::DovecotPostlogin, service: Service::Sieve, network, verdict: "would_refuse", reason: all, ..line(&account) };
            let text = text(&line, 1_700_000_000);
            let entry = parse(text.trim_end_matches('\n')).unwrap();
            prop_assert_eq!((entry.account.as_ref(), entry.reason), (account.name(), all));
            prop_assert_eq!(reasons(entry.reason).count(), 5);
        }

        #[test]
        fn any_line_is_an_entry_or_none(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
