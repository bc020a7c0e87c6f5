//! Answers, and why.

use crate::address::Network;
use crate::clock::{Seconds, readable};
use crate::country::Country;
use crate::error::{Error, Result};
use std::fmt;

/// What Postern says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Go on; this door cannot know, a later one will.
    Undecided,
    /// No.
    Refuse,
    /// A local message is kept in the queue until the administrator releases it.
    Hold,
}

impl Verdict {
    /// The stable name in logs, lists and statistics.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Undecided => "undecided",
            Verdict::Refuse => "refuse",
            Verdict::Hold => "hold",
        }
    }
}

/// A verdict with its reason, and the reference under which it was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is said.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Under what it can be looked up, where it was recorded.
    pub reference: Option<Reference>,
}

/// The level whose list of countries holds for an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The mailbox's own list.
    Account,
    /// Its domain's.
    Domain,
    /// The server's.
    Server,
}

impl Level {
    fn words(self) -> &'static str {
        match self {
            Level::Account => "the account's own list",
            Level::Domain => "its domain's list",
            Level::Server => "the server's list",
        }
    }
}

/// A fact that could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The published policy.
    Policy,
    /// The network data.
    Networks,
    /// The shared state.
    State,
}

impl Missing {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Missing::Policy => "the published policy",
            Missing::Networks => "the network data",
            Missing::State => "the shared state",
        }
    }
}

/// Why a verdict is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No rule has anything against it.
    NothingAgainst,
    /// The rule does not concern this request; the text says why.
    NotConcerned(&'static str),
    /// The rule is off.
    RuleOff,
    /// The rule could not be asked: a fact is missing.
    FactMissing(Missing),
    /// Loopback, an own address or a trusted proxy.
    LocalAddress,
    /// A mail service that logs in for its users: rules by country and kind of network are skipped.
    CloudMailClient,
    /// The address is on the IP Authentication list.
    AddressExempt(Network),
    /// The mailbox or its domain is on the User Authentication list.
    AccountExempt(String),
    /// This door does not know the account, and an account-level entry might let it in.
    AccountUnknown(&'static str),
    /// The country is allowed.
    CountryAllowed(Country, Level),
    /// The data have no country, and that is allowed.
    UnknownCountryAllowed,
    /// A temporary allowance lifts the country rule.
    Allowance(Seconds),
    /// The administrator blocked the account.
    AccountBlocked(Option<Seconds>),
    /// The administrator blocked the address or a network around it.
    AddressBlocked(Network, Option<Seconds>),
    /// The country is not among the allowed ones.
    CountryNotAllowed(Country, Level),
    /// The data have no country, and that is not allowed.
    UnknownCountryRefused,
    /// Not sent by anybody of this server.
    Inbound,
    /// The mail server's or Postern's own message.
    OwnMessage,
    /// On the Per-User Rate Limiter Whitelist.
    Whitelisted(String),
    /// Within the limit: so many with this one, of so many.
    WithinLimit(i64, i64),
    /// Over the limit, but the sender stands for many and is told about only.
    SharedUser(i64),
    /// This message went over the limit: so many within so many seconds; stopped until.
    OverLimit {
        /// Messages allowed.
        limit: i64,
        /// Window in seconds.
        window: i64,
        /// When sending works again.
        until: Seconds,
    },
    /// This message went over the limit, and the rule only watches.
    WouldStop {
        /// Messages allowed.
        limit: i64,
        /// Window in seconds.
        window: i64,
    },
    /// Nothing is known against it, and it could not be counted.
    NotCounted,
    /// The account was stopped before this message.
    SendingStopped(Seconds),
    /// The server told how the login ended: nothing was asked.
    Ended,
}

/// The key of a block of an address or network.
pub const ADDRESS_BLOCKED: &str = "address_blocked";

/// What resellers and owners are told of it.
pub const ADDRESS_BLOCKED_WORDS: &str = "The administrator blocked the address.";

impl Reason {
    /// The stable key; never changes for a kind of reason.
    pub fn key(&self) -> &'static str {
        match self {
            Reason::NothingAgainst => "nothing_against",
            Reason::NotConcerned(_) => "not_concerned",
            Reason::RuleOff => "rule_off",
            Reason::FactMissing(Missing::Policy) => "policy_missing",
            Reason::FactMissing(Missing::Networks) => "networks_missing",
            Reason::FactMissing(Missing::State) => "state_missing",
            Reason::LocalAddress => "local_address",
            Reason::CloudMailClient => "cloud_mail_client",
            Reason::AddressExempt(_) => "ip_exempt",
            Reason::AccountExempt(_) => "user_exempt",
            Reason::AccountUnknown(_) => "account_unknown",
            Reason::CountryAllowed(..) => "country_allowed",
            Reason::UnknownCountryAllowed => "unknown_country_allowed",
            Reason::Allowance(_) => "allowance",
            Reason::AccountBlocked(_) => "account_blocked",
            Reason::AddressBlocked(..) => ADDRESS_BLOCKED,
            Reason::CountryNotAllowed(..) => "country_not_allowed",
            Reason::UnknownCountryRefused => "unknown_country",
            Reason::Inbound => "inbound",
            Reason::OwnMessage => "own_message",
            Reason::Whitelisted(_) => "whitelisted",
            Reason::WithinLimit(..) => "within_limit",
            Reason::SharedUser(_) => "shared_user_over_limit",
            Reason::OverLimit { .. } => "over_limit",
            Reason::WouldStop { .. } => "would_stop",
            Reason::SendingStopped(_) => "sending_stopped",
            Reason::Ended => "ended",
            Reason::NotCounted => "not_counted",
        }
    }

    /// The sentence for the administrator.
    pub fn for_admin(&self) -> String {
        match self {
            Reason::NothingAgainst => "No rule has anything against it.".into(),
            Reason::NotConcerned(why) => format!("The rule does not apply: {why}."),
            Reason::RuleOff => "The rule is off.".into(),
            Reason::FactMissing(what) => format!("The rule cannot be asked: {} is missing.", what.words()),
            Reason::LocalAddress => {
                "The address is this server itself or a trusted proxy; rules by address are skipped.".into()
            }
            Reason::CloudMailClient => {
                "The address is of a mail service that logs in for its users; rules by place are skipped."
                    .into()
            }
            Reason::AddressExempt(net) => format!("IP Authentication exemption: {net}."),
            Reason::AccountExempt(entry) => format!("User Authentication exemption: {entry}."),
            Reason::AccountUnknown(what) => {
                format!(
                    "This door does not know the account, and {what} might allow it; a later door decides."
                )
            }
            Reason::CountryAllowed(country, level) => {
                format!("{} is allowed by {}.", named(*country), level.words())
            }
            Reason::UnknownCountryAllowed => {
                "The network data have no country for the address; unknown countries are allowed.".into()
            }
            Reason::Allowance(until) => {
                format!("A temporary allowance lifts the country rule until {}.", readable(*until))
            }
            Reason::AccountBlocked(until) => {
                format!("The administrator blocked this account{}.", until_words(*until))
            }
            Reason::AddressBlocked(net, until) => {
                format!("The administrator blocked {net}{}.", until_words(*until))
            }
            Reason::CountryNotAllowed(country, level) => {
                format!("{} is not among the countries allowed by {}.", named(*country), level.words())
            }
            Reason::UnknownCountryRefused => {
                "The network data have no country for the address; unknown countries are refused.".into()
            }
            Reason::Inbound => "Not sent by anybody of this server: not counted.".into(),
            Reason::OwnMessage => "The mail server's or Postern's own message: not counted.".into(),
            Reason::Whitelisted(entry) => format!("On the Per-User Rate Limiter Whitelist: {entry}."),
            Reason::WithinLimit(count, limit) => format!("Message {count} of {limit} within the window."),
            Reason::SharedUser(limit) => {
                format!("More than {limit} messages, but this user sends for many: told about, not stopped.")
            }
            Reason::OverLimit { limit, window, until } => format!(
                "More than {limit} messages in {}: sending stopped until {}.",
                span(*window),
                readable(*until)
            ),
            Reason::WouldStop { limit, window } => format!(
                "More than {limit} messages in {}: the limiter only watches, so sending goes on.",
                span(*window)
            ),
            Reason::SendingStopped(until) => {
                format!("Sending from this account is stopped until {}.", readable(*until))
            }
            Reason::NotCounted => "Nothing is known against it; it could not be counted.".into(),
            Reason::Ended => "The mail server told how the login ended.".into(),
        }
    }

    /// The sentence for resellers and owners of accounts: it does not name the administrator's networks.
    pub fn for_owner(&self) -> String {
        match self {
            Reason::AddressExempt(_) => {
                "The address is on the administrator's list IP Authentication.".into()
            }
            Reason::AddressBlocked(_, until) => {
                format!("{}{}.", ADDRESS_BLOCKED_WORDS.trim_end_matches('.'), until_words(*until))
            }
            other => other.for_admin(),
        }
    }

    /// The sentence that a client may see. It says nothing about other accounts or about how to get round.
    pub fn for_client(&self) -> String {
        match self {
            Reason::CountryNotAllowed(..) | Reason::UnknownCountryRefused => {
                "Logins from this country are not allowed here.".into()
            }
            Reason::AddressBlocked(..) => "Logins from this address are not allowed here.".into(),
            Reason::AccountBlocked(_) => "This account is closed for the time being.".into(),
            Reason::OverLimit { limit, window, until } => format!(
                "More than {limit} messages in {}: sending is stopped until {}.",
                span(*window),
                readable(*until)
            ),
            Reason::SendingStopped(until) => {
                format!("Sending from this account is stopped until {}.", readable(*until))
            }
            _ => "Not allowed.".into(),
        }
    }

    /// Whether waiting helps: a refusal for this reason is a temporary one.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Reason::OverLimit { .. } | Reason::SendingStopped(_))
    }
}

fn named(country: Country) -> String {
    match country.name() {
        Some(name) => format!("{name} ({country})"),
        None => country.to_string(),
    }
}

fn until_words(until: Option<Seconds>) -> String {
    until.map_or_else(String::new, |until| format!(" until {}", readable(until)))
}

/// Seconds in the largest unit that fits without a rest.
pub fn span(seconds: i64) -> String {
    let (number, unit) = match seconds {
        s if s >= 86_400 && s % 86_400 == 0 => (s / 86_400, "day"),
        s if s >= 3600 && s % 3600 == 0 => (s / 3600, "hour"),
        s if s >= 60 && s % 60 == 0 => (s / 60, "minute"),
        s => (s, "second"),
    };
    if number == 1 { format!("1 {unit}") } else { format!("{number} {unit}s") }
}

/// A short name for one recorded refusal or block, easy to read out on the telephone: `7K3M-92QX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference(String);

/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl Reference {
    /// The reference that 40 random bits give.
    pub fn from_bits(bits: u64) -> Reference {
        let letter = |i: u32| char::from(ALPHABET[(bits >> (5 * i) & 31) as usize]);
        let mut text: String = (0..8).map(letter).collect();
        text.insert(4, '-');
        Reference(text)
    }
}

impl std::str::FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference> {
        let upper = text.trim().to_ascii_uppercase();
        let good = upper.len() == 9
            && upper.bytes().enumerate().all(|(i, b)| if i == 4 { b == b'-' } else { ALPHABET.contains(&b) });
        if good {
            Ok(Reference(upper))
        } else {
            Err(Error::bad_value("The reference", text, "give it as in the refusal, as 7K3M-92QX"))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back_as_itself() {
        for bits in [0, 1, u64::MAX, 0x12_3456_789A] {
            let reference = Reference::from_bits(bits);
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        }
        assert!("7K3M92QX".parse::<Reference>().is_err());
    }

    #[test]
    fn spans_are_said_in_the_largest_whole_unit() {
        let said: Vec<_> = [300, 3600, 21_600, 90, 86_400].map(span).into();
        assert_eq!(said, ["5 minutes", "1 hour", "6 hours", "90 seconds", "1 day"]);
    }
}
