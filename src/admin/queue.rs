//! What an account has in the mail server's queue: list, freeze, thaw, remove.
//!
//! The servers' own programs are asked, as root, which is what they want. Whose a message is tells what the server noted
//! when it took the message in: the login, else the local user, and only where there is neither the sender in the
//! envelope, which anybody can choose. Names that the queue gives go back to the servers where they have the shape of
//! a message identification; the account goes to nobody.

mod exim;
mod postfix;

use super::arguments::Arguments;
use super::held::{EXIM, POSTQUEUE, POSTSUPER, Said, forget, program};
use super::{Admin, Outcome};
use crate::account::Account;
use crate::child;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::request::MessageId;
use crate::store::state::held;
use nix::unistd::geteuid;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take to list its queue, and for a word about one message.
const LONGEST_LIST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(15);

/// Largest list of a queue, and most that is read of one message, in bytes.
const MOST_LIST: u64 = 64 * 1024 * 1024;
const MOST: u64 = 4 * 1024 * 1024;

/// Of how many messages it is asked whose they are: each costs a process, some thousandths of a second.
const MOST_MESSAGES: usize = 5000;

/// How many messages the trail names.
const MOST_NAMED: usize = 20;

/// By what a message is an account's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Login,
    LocalUser,
    Sender,
}

impl By {
    fn word(self) -> &'static str {
        match self {
            By::Login => "login",
            By::LocalUser => "local user",
            By::Sender => "sender",
        }
    }
}

/// A message in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Queued {
    message: MessageId,
    since: Seconds,
    size: i64,
    recipients: i64,
    frozen: bool,
    sender: String,
    account: Option<Account>,
    by: By,
}

/// The servers' programs that are there.
struct Servers {
    exim: Option<PathBuf>,
    postqueue: Option<PathBuf>,
    postsuper: Option<PathBuf>,
    postcat: Option<PathBuf>,
}

const POSTCAT: &[&str] = &["usr/sbin/postcat"];

impl Servers {
    fn found(admin: &Admin) -> Result<Servers> {
        if !geteuid().is_root() {
            return Err(Error::NotAllowed(
                "Nothing was done: mail servers show their queues to root; run it as root.".into(),
            ));
        }
        let found = |programs| program(admin, programs);
        let servers = Servers {
            exim: found(EXIM),
            postqueue: found(POSTQUEUE),
            postsuper: found(POSTSUPER),
            postcat: found(POSTCAT),
        };
        match servers.exim.is_none() && servers.postqueue.is_none() {
            true => Err(Error::NotFound(format!(
                "Neither Exim nor Postfix was found (looked for {}).",
                EXIM.iter().chain(POSTQUEUE).map(|p| format!("/{p}")).collect::<Vec<_>>().join(", ")
            ))),
            false => Ok(servers),
        }
    }
}

/// What was found, and how much was not looked at.
struct Found {
    messages: Vec<Queued>,
    warnings: Vec<String>,
}

/// What the accounts have in the queues, the oldest first.
fn look(admin: &Admin, servers: &Servers, accounts: &[Account]) -> Result<Found> {
    let mut all = Vec::new();
    let mut warnings = Vec::new();
    if let Some(program) = &servers.exim {
        all.extend(exim::messages(program, &mut warnings)?);
    }
    if let (Some(postqueue), Some(postcat)) = (&servers.postqueue, &servers.postcat) {
        all.extend(postfix::messages((postqueue, postcat), &admin.call.paths, &mut warnings)?);
    }
    all.retain(|queued| queued.account.as_ref().is_some_and(|account| accounts.contains(account)));
    all.sort_by_cached_key(|queued| (queued.since, queued.message.to_string()));
    Ok(Found { messages: all, warnings })
}

/// Not more than can be looked at.
fn bounded<T>(mut all: Vec<T>, server: &str, warnings: &mut Vec<String>) -> Vec<T> {
    if all.len() > MOST_MESSAGES {
        warnings.push(format!(
            "{server} has {} messages in its queue; {MOST_MESSAGES} of them were looked at: call again when these are dealt with.",
            all.len()
        ));
        all.truncate(MOST_MESSAGES);
    }
    all
}

/// Asks a program about one message; none where it has it no longer, or says more than can be read.
fn about_one(program: &Path, words: &[&str]) -> Option<Vec<u8>> {
    let (status, bytes) = child::hear(program, words, LONGEST, MOST, false).ok()?;
    status.success().then_some(bytes)
}

/// Lists a queue.
fn whole_list(program: &Path, word: &str) -> Result<String> {
    let said = child::ask(program, &[word], LONGEST_LIST, MOST_LIST)?;
    match said.well {
        true => Ok(said.text),
        false => Err(Error::State(format!(
            "{} did not show the queue ({}): is the mail server in order?",
            program.display(),
            said.ended
        ))),
    }
}

/// The messages that Postern itself holds of these accounts.
fn held_here(admin: &Admin, accounts: &[Account]) -> Result<HashSet<String>> {
    on_state(&admin.call.paths, |state| {
        let mut names = HashSet::new();
        for account in accounts {
            names.extend(state.read(|db| held::list(db, account.name()))?.into_iter().map(|row| row.message));
        }
        Ok(names)
    })
}

/// What an account has in the queue.
pub fn list_queue(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let accounts = admin.meant(given, "account")?;
    let found = look(admin, &Servers::found(admin)?, &accounts)?;
    let mut warnings = found.warnings;
    let held = held_here(admin, &accounts).unwrap_or_else(|e| {
        warnings.push(format!("It is not known which of them Postern holds: {e}"));
        HashSet::new()
    });
    let rows: Vec<Value> = found.messages.iter().map(|queued| row(queued, &held)).collect();
    Ok(Outcome { warnings, ..Outcome::from(json!(rows)) })
}

fn row(queued: &Queued, held: &HashSet<String>) -> Value {
    let message = queued.message.to_string();
    json!({
        "held": held.contains(&message),
        "message": message,
        "since": queued.since,
        "size": queued.size,
        "recipients": queued.recipients,
        "frozen": queued.frozen,
        "sender": queued.sender,
        "by": queued.by.word(),
    })
}

/// What is done with messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deed {
    Freeze,
    Thaw,
    Remove,
}

impl Deed {
    /// Its name in the trail, and what was done, in a word.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Deed::Freeze => ("freeze_queue", "frozen"),
            Deed::Thaw => ("thaw_queue", "thawed"),
            Deed::Remove => ("remove_from_queue", "removed"),
        }
    }

    fn concerns(self, queued: &Queued) -> bool {
        match self {
            Deed::Freeze => !queued.frozen,
            Deed::Thaw => queued.frozen,
            Deed::Remove => true,
        }
    }

    fn on(self, servers: &Servers, message: &MessageId) -> Result<Said> {
        let name = message.to_string();
        let hear = |program: &Path, words: &[&str]| {
            child::hear(program, words, LONGEST, MOST, true)
                .map(|(status, bytes)| (status.success(), String::from_utf8_lossy(&bytes).into_owned()))
        };
        let missing = |what: &str| Error::NotFound(format!("{what} was not found."));
        if message.is_of_postfix() {
            let option = match self {
                Deed::Freeze => "-h",
                Deed::Thaw => "-H",
                Deed::Remove => "-d",
            };
            let program = servers.postsuper.as_ref().ok_or_else(|| missing("/usr/sbin/postsuper"))?;
            let (well, text) = hear(program, &[option, &name])?;
            return Ok(Said::of_postfix(&name, well, &text));
        }
        let option = match self {
            Deed::Freeze => "-Mf",
            Deed::Thaw => "-Mt",
            Deed::Remove => "-Mrm",
        };
        let program = servers.exim.as_ref().ok_or_else(|| missing("Exim"))?;
        let (well, text) = hear(program, &[option, &name])?;
        Ok(Said::of_exim(&name, well, &text))
    }
}

/// Keeps what an account has in the queue from being delivered.
pub fn freeze_queue(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    act(admin, given, Deed::Freeze)
}

/// Lets it be delivered again; what Postern holds is released by `held release` alone.
pub fn thaw_queue(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    act(admin, given, Deed::Thaw)
}

/// Deletes what an account has in the queue.
pub fn remove_from_queue(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    act(admin, given, Deed::Remove)
}

fn act(admin: &Admin, given: &Arguments, deed: Deed) -> Result<Outcome> {
    let accounts = admin.meant(given, "account")?;
    // An empty name must not stand for all.
    let one = given
        .names()
        .any(|name| name == "message")
        .then(|| MessageId::new(given.text("message")))
        .transpose()?;
    let servers = Servers::found(admin)?;
    let Found { mut messages, mut warnings } = look(admin, &servers, &accounts)?;
    let whose = given.text("account");
    if let Some(one) = &one {
        messages.retain(|queued| queued.message == *one);
        if messages.is_empty() {
            return Err(Error::NotFound(format!("{whose} has no message {one} in the queue.")));
        }
    }
    messages.retain(|queued| deed.concerns(queued));
    let held = held_here(admin, &accounts)?;
    if deed == Deed::Thaw {
        let all = messages.len();
        messages.retain(|queued| !held.contains(&queued.message.to_string()));
        let n = all - messages.len();
        let told = format!("{n} of them Postern holds: `postern held release ID` lets such a message leave.");
        warnings.extend((n > 0).then_some(told));
    }
    if messages.is_empty() {
        return Ok(Outcome {
            warnings,
            ..Outcome::said(format!("There is nothing of {whose} to be {}.", deed.words().1))
        });
    }
    if deed == Deed::Remove && !given.is_on("confirm")? {
        return Err(Error::NeedsConfirmation(format!(
            "{} would be removed from the queue for good (`postern queue list {whose}` shows them); nothing was.",
            counted(messages.len(), whose)
        )));
    }
    let outcome = done_with(admin, &servers, &messages, deed, (whose, given.text("reason")))?;
    Ok(Outcome { warnings: [warnings, outcome.warnings].concat(), ..outcome })
}

fn counted(n: usize, whose: &str) -> String {
    if n == 1 { format!("1 message of {whose}") } else { format!("{n} messages of {whose}") }
}

fn done_with(
    admin: &Admin,
    servers: &Servers,
    messages: &[Queued],
    deed: Deed,
    (whose, reason): (&str, &str),
) -> Result<Outcome> {
    let (action, done_word) = deed.words();
    let mut outcome = Outcome::default();
    let (mut done, mut gone) = (Vec::new(), 0);
    for queued in messages {
        match deed.on(servers, &queued.message) {
            Ok(Said::Done) => done.push(queued.message.to_string()),
            Ok(Said::Gone) => gone += 1,
            Ok(Said::Other(text)) => {
                outcome.failures.push(format!("Message {} was not {done_word}: {text}", queued.message));
            }
            Err(error) => {
                outcome.failures.push(format!("Message {} was not {done_word}: {error}", queued.message));
            }
        }
    }
    if gone > 0 {
        outcome.warnings.push(format!("{gone} left the queue meanwhile, or changed there."));
    }
    if done.is_empty() {
        return Ok(outcome);
    }
    if deed == Deed::Remove {
        let names: Vec<&str> = done.iter().map(String::as_str).collect();
        outcome.warnings.extend(forget(admin, &names).err().map(|e| e.to_string()));
    }
    let more = done.len().saturating_sub(MOST_NAMED);
    let mut named = done.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(" ");
    if more > 0 {
        named += &format!(" and {more} more");
    }
    admin.note(action, whose, &named, reason)?;
    outcome.messages.push(format!(
        "{} {} {done_word}.",
        counted(done.len(), whose),
        if done.len() == 1 { "was" } else { "were" }
    ));
    Ok(outcome)
}
