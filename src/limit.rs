//! Limits of sending: how much of what may leave, within how long, and what happens beyond.
//!
//! The *Outbound Rate Limiter* (settings `rate_limit_…`) is one limit among them, named [`OUTBOUND`]. Further ones are
//! made by the administrator. Each holds for every account alike, unless an override says otherwise for a mailbox, a
//! domain or a local user.

use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::settings::Mode;
use crate::verdict::span;
use serde::{Deserialize, Serialize};

/// The name of the Outbound Rate Limiter among the limits.
pub const OUTBOUND: &str = "outbound";

/// Its number among the windows of an account; further limits have numbers from 1 on.
pub const OUTBOUND_ID: u16 = 0;

/// Highest number of a further limit. The one above it is the window of accounts that are slowed down.
pub const HIGHEST_ID: u16 = 65_000;

/// The window in which an account that is slowed down sends its quota.
pub const QUOTA_ID: u16 = 65_001;

/// That window's length in seconds.
pub const QUOTA_WINDOW: i64 = 3600;

/// Under which key the server's own figures stand: no account has this name.
pub const SERVER_KEY: &str = "@";

/// Most further limits: each is counted for every message.
pub const MOST_LIMITS: usize = 20;

/// Longest and shortest window in seconds.
pub const WINDOW: (i64, i64) = (60, 30 * 86_400);

/// Highest number that a limit allows.
pub const MOST: i64 = 10_000_000;

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counts {
    /// Messages, whatever number of recipients each has.
    #[default]
    Messages,
    /// Recipients on other servers, each time anew.
    Recipients,
    /// Different recipients on other servers: the same one counts once within the window. One that the mail server does
    /// not name counts each time.
    DistinctRecipients,
    /// Recipients on this server.
    LocalRecipients,
}

/// Whose messages are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// Each mailbox, or local user, by itself.
    #[default]
    Account,
    /// All mailboxes of a domain.
    Domain,
    /// Everybody on this server.
    Server,
}

/// What happens to an account that goes beyond a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing leaves for a time, even where the window has room again.
    Stop,
    /// A small quota an hour leaves for a time.
    Slow,
    /// What goes beyond the limit waits until the window has room again.
    Wait,
    /// The administrator is told.
    #[default]
    Notify,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its number among an account's windows. It changes when what is counted, or within how long, changes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub id: u16,
    /// Its name.
    pub name: String,
    /// What is counted.
    pub counts: Counts,
    /// Whose messages are counted together.
    pub of: Of,
    /// How much passes within the window.
    pub most: i64,
    /// The window's length in seconds.
    pub window: i64,
    /// What happens beyond.
    pub action: Action,
    /// How long it happens, in seconds: for [`Action::Stop`] and [`Action::Slow`].
    pub duration: i64,
    /// Messages an hour that an account may send which is slowed down.
    pub quota: i64,
    /// Whether it answers.
    pub mode: Mode,
    /// Why it is there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// When.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub at: Seconds,
}

/// Another number for a mailbox, a domain or a local user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Name of the limit.
    pub limit: String,
    /// How much passes; none: the limit does not hold.
    pub most: Option<i64>,
    /// From when on; none: already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Seconds>,
    /// When it ends; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Seconds>,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Who made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub who: String,
    /// When.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub at: Seconds,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Counts {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Counts::Messages => "messages",
            Counts::Recipients => "recipients",
            Counts::DistinctRecipients => "distinct_recipients",
            Counts::LocalRecipients => "local_recipients",
        }
    }

    /// In a sentence, of many.
    pub fn spoken(self) -> &'static str {
        match self {
            Counts::Messages => "messages",
            Counts::Recipients => "recipients",
            Counts::DistinctRecipients => "different recipients",
            Counts::LocalRecipients => "recipients on this server",
        }
    }
}

impl Of {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Of::Account => "account",
            Of::Domain => "domain",
            Of::Server => "server",
        }
    }
}

impl Action {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Action::Stop => "stop",
            Action::Slow => "slow",
            Action::Wait => "wait",
            Action::Notify => "notify",
        }
    }
}

impl Limit {
    /// The limits that a new server begins with: what a single person hardly sends, told of and not enforced.
    pub fn brought() -> Vec<Limit> {
        let limit = |id, name: &str, most, window| Limit {
            id,
            name: name.into(),
            counts: Counts::Recipients,
            of: Of::Account,
            most,
            window,
            action: Action::Notify,
            duration: 6 * 3600,
            quota: 20,
            mode: Mode::Enforce,
            note: String::new(),
            who: String::new(),
            at: 0,
        };
        vec![limit(1, "recipients-hour", 500, 3600), limit(2, "recipients-day", 2000, 86_400)]
    }

    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        let refuse = |what: &str, value: String, accepted: String| {
            Err(Error::bad_value(format!("The {what} of the limit"), &value, accepted))
        };
        let between = |(low, high): (i64, i64)| format!("give a whole number from {low} to {high}");
        if !is_name(&self.name) || self.name == OUTBOUND {
            return refuse(
                "name",
                self.name.clone(),
                format!(
                    "give 1 to 40 small letters, digits and dashes, beginning with a letter; {OUTBOUND} is the Outbound Rate Limiter, which settings set"
                ),
            );
        }
        let highest = if self.counts == Counts::DistinctRecipients { MOST_DISTINCT } else { MOST };
        for (what, value, bounds) in [
            ("number", self.most, (0, highest)),
            ("window", self.window, WINDOW),
            ("duration", self.duration, (60, 2_592_000)),
            ("quota", self.quota, (1, 100_000)),
        ] {
            if !(bounds.0..=bounds.1).contains(&value) {
                return refuse(what, value.to_string(), between(bounds));
            }
        }
        if self.of == Of::Server && matches!(self.action, Action::Stop | Action::Slow) {
            let accepted = "give wait or notify: what all send together must not stop everybody for hours";
            return refuse("action", self.action.word().into(), accepted.into());
        }
        Ok(())
    }

    /// Whether the other one counts the same, so that what was counted goes on to hold.
    pub fn counts_as(&self, other: &Limit) -> bool {
        (self.counts, self.of, self.window) == (other.counts, other.of, other.window)
    }

    /// In a few words: `500 recipients in 1 hour`.
    pub fn spoken(&self) -> String {
        format!("{} {} in {}", self.most, self.counts.spoken(), span(self.window))
    }
}

/// Most different recipients that a limit can be about: so many are remembered for each account.
pub const MOST_DISTINCT: i64 = 10_000;

fn is_name(name: &str) -> bool {
    name.len() <= 40
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Limit {
    /// Whether it lets nothing pass at all: to be confirmed by whoever makes it.
    pub fn closes(&self) -> bool {
        self.most == 0 && self.mode == Mode::Enforce && self.action != Action::Notify
    }
}

impl Override {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<()> {
        if let Some(most) = self.most.filter(|most| !(0..=MOST).contains(most)) {
            let accepted = format!("give a whole number from 0 to {MOST}, or none for as much as they like");
            return Err(Error::bad_value("The number", &most.to_string(), accepted));
        }
        match (self.from, self.until) {
            (Some(from), Some(until)) if until <= from => Err(Error::bad_value(
                "The end",
                &crate::clock::readable(until),
                "give a time after the beginning",
            )),
            _ => Ok(()),
        }
    }

    /// Refuses a number that would never hold: of a mailbox for a limit that counts many together.
    pub fn fits(&self, limit: &Limit, is_domain: bool) -> Result<()> {
        let refuse = |accepted: &str| Err(Error::bad_value("The limit", &limit.name, accepted));
        match limit.of {
            Of::Server => refuse("it counts everybody together: set its own number"),
            Of::Domain if !is_domain => refuse("it counts a domain together: give the domain a number"),
            _ => Ok(()),
        }
    }

    /// Whether it holds now.
    pub fn holds(&self, now: Seconds) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }

    /// The one that holds now for this limit among those of one mailbox or domain: one with an end goes before one
    /// without.
    pub fn of<'a>(all: &'a [Override], limit: &str, now: Seconds) -> Option<&'a Override> {
        let holding = all.iter().filter(|o| o.limit == limit && o.holds(now));
        holding.min_by_key(|o| o.until.unwrap_or(Seconds::MAX))
    }
}
