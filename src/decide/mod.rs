//! The rules. Request and facts in, verdict and what to record out; no file, no clock, no environment.
//!
//! Each family has one file that reads in the order in which its rules are asked: [`login`] (logins and
//! their use) and [`send`]. The first rule that answers wins. A rule whose facts are missing abstains, so
//! trouble of ours lets mail go on while the other rules still decide.

pub mod attack;
pub mod limits;
pub mod login;
pub mod meters;
pub mod send;
pub mod window;

use crate::settings::Mode;
use crate::verdict::{Missing, Reason, Verdict};

/// A fact, or what is missing to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is known.
    Known(T),
    /// It could not be had; rules that need it abstain.
    Missing(Missing),
}

/// What one rule finds in one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing: the next rule is asked.
    Pass(Reason),
    /// Nothing, and no further rule by address is asked.
    SkipAddressRules(Reason),
    /// Nothing, and no further rule by country or kind of network is asked.
    SkipPlaceRules(Reason),
    /// The request may go on; no further rule is asked.
    Allow(Reason),
    /// The request may not go on.
    Refuse(Reason),
    /// This door cannot know; a later one will.
    Undecided(Reason),
}

/// What one rule found, for explaining.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule's place in the order.
    pub number: u8,
    /// The rule's name.
    pub rule: &'static str,
    /// Its mode.
    pub mode: Mode,
    /// What it found; none where it was not asked.
    pub finding: Option<Finding>,
}

/// The outcome for a login or its use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Decision {
    /// What is said.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// What rules in monitor mode would have refused.
    pub would_refuse: Vec<Reason>,
}

#[cfg(test)]
#[path = "purity_tests.rs"]
mod tests;
