//! Admin mode: what administrators can do, one file a group of functions.
//!
//! Every function stands once in [`table::FUNCTIONS`]: name, arguments, what it does. Command line
//! (`postern blocks list`), API (`postern api list_blocks`) and pages are faces of that table; the functions
//! give and take JSON values and print nothing.

pub mod activity;
pub mod allowances;
pub mod arguments;
pub mod blocks;
pub mod command_line;
pub mod countries;
pub mod data;
pub mod envelope;
pub mod explain;
pub mod held;
pub mod identity;
pub mod init;
pub mod lists;
mod own_service;
mod policy_secrets;
pub mod render;
pub mod settings;
pub mod status;
pub mod table;

use crate::address::Network;
use crate::call::Call;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::log::{Line, Severity};
use crate::server_country;
use crate::store::settings::{Change, SettingsStore};
use arguments::Arguments;
use identity::Theirs;
use serde_json::Value;
use std::sync::Arc;
use table::Scope;

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
    /// Says nothing in words; the exit status tells. For what a timer runs each minute.
    pub quiet: bool,
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

    /// The settings. Only root (in a sandbox: the owner of its files) can open them.
    pub fn settings(&self) -> Result<SettingsStore> {
        SettingsStore::open(&self.call.paths)
    }

    /// Makes one change, publishes it and logs it. The argument `generation` guards against overwriting
    /// somebody else's change.
    pub fn change<T>(&self, given: &Arguments, make: impl FnOnce(&mut Change) -> Result<T>) -> Result<T> {
        let mut store = self.settings()?;
        let made = store.change(&self.who, self.call.now, given.number("generation")?, make)?;
        let published = server_country::publish(&self.call, &store);
        published.map_err(|e| {
            Error::State(format!(
                "The change is saved, but not in force yet; `postern tick` tries again. {e}"
            ))
        })?;
        let generation = store.generation()?;
        for audit in store.audit(1000)?.into_iter().rev().filter(|a| a.generation == generation) {
            Line::new(Severity::Info, "change")
                .field("who", audit.who)
                .field("action", audit.action)
                .field("subject", audit.subject)
                .field("generation", audit.generation)
                .send(&self.call.paths, self.call.program);
        }
        Ok(made)
    }

    /// Publishes the policy as the settings are now.
    pub fn publish(&self) -> Result<i64> {
        server_country::publish(&self.call, &self.settings()?)
    }
}

/// Whether the text is an address or a network rather than an account.
pub(crate) fn looks_like_network(text: &str) -> bool {
    text.trim().parse::<Network>().is_ok()
}
