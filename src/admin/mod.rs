//! Admin mode: what administrators can do, one file a group of functions.
//!
//! Every function stands once in [`table::FUNCTIONS`]: name, arguments, what it does. Command line
//! (`postern blocks list`), API (`postern api list_blocks`) and pages are faces of that table; the functions
//! give and take JSON values and print nothing.

pub mod activity;
pub mod allowances;
pub mod arguments;
pub mod attacks;
pub mod backup;
pub mod bans;
pub mod blocks;
pub mod clouds;
pub mod command_line;
pub mod config;
pub mod countries;
pub mod data;
pub mod effect;
pub mod envelope;
pub mod explain;
pub mod feeds;
mod followed;
pub mod held;
pub mod identity;
mod import;
pub mod init;
pub mod learn;
pub mod limits;
pub mod lists;
pub mod manual;
pub(crate) mod monitoring;
mod notices;
pub mod openapi;
mod own_service;
mod password;
mod policy_secrets;
pub mod queue;
pub mod render;
pub mod settings;
pub mod spreadsheet;
pub mod statistics;
pub mod status;
pub mod story;
pub mod table;
pub mod undo;

use crate::account::Account;
use crate::address::Network;
use crate::call::Call;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::log::{Line, Severity};
use crate::server_country;
use crate::store::settings::rank::Rank;
use crate::store::settings::{Change, SettingsStore};
use crate::verdict::Reason;
use arguments::Arguments;
use identity::Theirs;
use serde_json::Value;
use std::sync::Arc;
use table::Scope;

/// Most lines in the log for one change; the trail has all.
const MOST_LINES: usize = 50;

/// What a function gives: data, and sentences that the caller should read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The answer.
    pub data: Value,
    /// Things that work but deserve a look.
    pub warnings: Vec<String>,
    /// What was done, in words.
    pub messages: Vec<String>,
    /// What did not succeed although the rest was done: not done, in all.
    pub failures: Vec<String>,
    /// Stands in the place of the failures' code where nothing at all was done.
    pub refused: bool,
    /// Says nothing in words; the exit status tells. For what a timer runs each minute.
    pub quiet: bool,
    /// What the command line prints as it is, in the place of data and messages: a file for another program (CSV,
    /// Prometheus). In the API it is the data.
    pub text: Option<String>,
    /// The command line's exit status where the caller expects one of its own.
    pub exit: Option<u8>,
}

impl From<Value> for Outcome {
    fn from(data: Value) -> Outcome {
        Outcome { data, ..Outcome::default() }
    }
}

impl Outcome {
    /// An outcome that is told in a sentence.
    pub fn said(sentence: impl Into<String>) -> Outcome {
        Outcome { messages: vec![sentence.into()], ..Outcome::default() }
    }

    /// A whole text for another program.
    pub fn whole(text: String) -> Outcome {
        Outcome { data: Value::String(text.clone()), text: Some(text), ..Outcome::default() }
    }

    /// Adds a warning.
    #[must_use]
    pub fn warn(mut self, warning: Option<String>) -> Outcome {
        self.warnings.extend(warning);
        self
    }
}

/// Who does something, and with which surroundings.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Files and time.
    pub call: Call<'static>,
    /// Where the time comes from, for what goes on for longer than a call.
    pub clock: Clock,
    /// Who, for the trail.
    pub who: String,
    /// What is theirs, where somebody else than the administrator asks.
    pub theirs: Option<Arc<Theirs>>,
}

impl Admin {
    /// What the caller is.
    pub fn scope(&self) -> Scope {
        self.theirs.as_ref().map_or(Scope::Root, |theirs| theirs.scope)
    }

    /// Whether the caller may see what stands under this key: an account's name, or `@` and a domain.
    pub fn may_see(&self, key: &str) -> bool {
        self.theirs.as_ref().is_none_or(|theirs| theirs.owns_key(key))
    }

    /// A reason as the caller may hear it.
    pub fn told(&self, reason: &Reason) -> String {
        if self.theirs.is_none() { reason.for_admin() } else { reason.for_owner() }
    }

    /// A note as the caller may read it: the administrator's are his own.
    pub fn note_of(&self, who: &str, note: &str) -> String {
        match self.theirs.is_some() && Rank::of(who) == Rank::Root {
            true => String::new(),
            false => note.into(),
        }
    }

    /// The accounts that may be meant by an argument, the likeliest first, as far as the caller may see them.
    pub fn meant(&self, given: &Arguments, name: &str) -> Result<Vec<Account>> {
        let mut all = given.given(name).map_or(Ok(Vec::new()), Account::meant)?;
        all.retain(|account| self.may_see(account.name()));
        Ok(all)
    }

    /// The likeliest of them.
    pub fn one_meant(&self, given: &Arguments, name: &str) -> Result<Account> {
        let found = self.meant(given, name)?.into_iter().next();
        found.ok_or_else(|| {
            Error::bad_value(
                format!("The argument {name}"),
                given.text(name),
                "give a mailbox or a local user's name",
            )
        })
    }

    /// Refuses what the caller may not name: what is not his, and addresses and networks.
    pub fn may_name(&self, text: &str) -> Result<()> {
        self.theirs.as_ref().map_or(Ok(()), |theirs| theirs.may_name(text))
    }

    /// The settings. Only root (in a sandbox: the owner of its files) can open them.
    pub fn settings(&self) -> Result<SettingsStore> {
        SettingsStore::open(&self.call.paths)
    }

    /// Makes one change, publishes it and logs it. The argument `generation` guards against overwriting
    /// somebody else's change.
    pub fn change<T>(&self, given: &Arguments, make: impl FnOnce(&mut Change) -> Result<T>) -> Result<T> {
        let mut store = self.settings()?;
        let mut rows = 0;
        let made = store.change(&self.who, self.call.now, given.number("generation")?, |change| {
            let made = make(change)?;
            rows = change.rows();
            Ok(made)
        })?;
        if rows > 0 {
            self.put_in_force(&store)?
        } else {
            self.publish_from(&store)?
        }
        Ok(made)
    }

    /// Fails as [`Admin::change`] would, if somebody changed anything since the caller read: before what is done
    /// outside of the settings.
    pub fn must_be_current(&self, given: &Arguments) -> Result<()> {
        let Some(yours) = given.number("generation")? else { return Ok(()) };
        match self.settings()?.generation()? {
            current if current != yours => Err(Error::Conflict { current, yours }),
            _ => Ok(()),
        }
    }

    /// Leaves a row in the trail for something that was done outside of the settings: whoever changes them meanwhile
    /// cannot undo it.
    pub fn note(&self, action: &str, subject: &str, before: &str, after: &str) -> Result<()> {
        self.change(&Arguments::default(), |change| change.note(action, subject, before, after))
    }

    /// Publishes what was changed, and logs it.
    pub(crate) fn put_in_force(&self, store: &SettingsStore) -> Result<()> {
        self.publish_from(store)?;
        self.log_change(store)
    }

    fn publish_from(&self, store: &SettingsStore) -> Result<()> {
        let published = server_country::publish(&self.call, store);
        published.map(|_| ()).map_err(|e| {
            Error::State(format!(
                "The change is saved, but not in force yet; `postern tick` tries again. {e}"
            ))
        })
    }

    /// One line for each row of the latest change, as far as a log is for reading.
    fn log_change(&self, store: &SettingsStore) -> Result<()> {
        let generation = store.generation()?;
        let rows = store.audit_of(generation)?;
        let line = || Line::new(Severity::Info, "change").field("who", &self.who);
        for audit in rows.iter().take(MOST_LINES) {
            let line = line().field("action", &audit.action).field("subject", &audit.subject);
            line.field("generation", generation).send(&self.call.paths, self.call.program);
        }
        if let Some(more) = rows.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
            let line = line().field("more", more).field("generation", generation);
            line.send(&self.call.paths, self.call.program);
        }
        Ok(())
    }

    /// Publishes the policy as the settings are now.
    pub fn publish(&self) -> Result<i64> {
        server_country::publish(&self.call, &self.settings()?)
    }
}

/// What is found for the first of these accounts for which anything is.
fn first_found<T>(accounts: &[Account], look: impl Fn(&Account) -> Result<Vec<T>>) -> Result<Vec<T>> {
    for account in accounts {
        let found = look(account)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// Whether the text is an address or a network rather than an account.
pub(crate) fn looks_like_network(text: &str) -> bool {
    text.trim().parse::<Network>().is_ok()
}
