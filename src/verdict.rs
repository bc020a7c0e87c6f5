//! Answers, and why.

use crate::address::Network;
use crate::clock::{Seconds, readable};
use crate::country::Country;
use crate::error::{Error, Result};
use crate::limit::{Limit, SERVER_KEY};
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

/// A kind of network in which no customer sits, as far as anybody can tell from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NetworkClass {
    /// Exits of the Tor network.
    Tor,
    /// Exits of a VPN service.
    Vpn,
    /// Exits of a private relay.
    Relay,
    /// Rented machines: data centres and clouds.
    Hosting,
}

impl NetworkClass {
    /// All classes; where a network is of several, the first speaks.
    pub const ALL: [NetworkClass; 4] =
        [NetworkClass::Tor, NetworkClass::Vpn, NetworkClass::Relay, NetworkClass::Hosting];

    fn words(self) -> &'static str {
        match self {
            NetworkClass::Tor => "a network of exits of Tor",
            NetworkClass::Vpn => "a network of a VPN service",
            NetworkClass::Relay => "a network of a private relay",
            NetworkClass::Hosting => "a cloud network, in which machines are rented",
        }
    }
}

/// A network, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedNetwork {
    /// Number of the autonomous system that announces it.
    pub asn: Option<u32>,
    /// Name of that system's owner.
    pub name: Option<String>,
    /// The administrator's own entry that makes it what it is.
    pub marked: Option<String>,
}

impl fmt::Display for NamedNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.asn, &self.name) {
            (Some(asn), Some(name)) => write!(f, "AS{asn} ({name})"),
            (Some(asn), None) => write!(f, "AS{asn}"),
            (None, _) => f.write_str("The network of the address"),
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
    /// The feeds.
    Feeds,
}

impl Missing {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Missing::Policy => "the published policy",
            Missing::Networks => "the network data",
            Missing::State => "the shared state",
            Missing::Feeds => "the file of feeds",
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
    /// The network is of a class that is restricted.
    NetworkRestricted(NetworkClass, NamedNetwork),
    /// The network is of a class that is switched off.
    NetworkNotRestricted(NetworkClass, NamedNetwork),
    /// The administrator took the network out of the classes; the entry that says so.
    NetworkTakenOut(String),
    /// The mailbox was used well from this network before.
    KnownNetwork,
    /// The mailbox is under attack, and not known to be used from this network; until.
    MailboxGuarded(Seconds),
    /// The network was seen attacking; why, and until when it stays marked.
    AttackNetwork(Network, String, Seconds),
    /// The address is on lists of attacking networks that others publish: the feeds' names.
    OnFeed(String),
    /// The administrator pinned the network as attacking; until.
    AttackNetworkPinned(Network, Option<Seconds>),
    /// The administrator never wants the network marked as attacking.
    NeverMarked(Network),
    /// Many logins from this address failed lately; refused until.
    Burst(Seconds),
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
    /// The account is slowed down, and its quota of so many messages an hour is used up.
    SendingSlowed(i64, Seconds),
    /// A further limit was passed.
    BeyondLimit(Box<Beyond>),
    /// The server told how the login ended: nothing was asked.
    Ended,
}

/// The key of a refusal because of a feed.
pub const ON_FEED: &str = "attack_feed";

/// The key of a block of an address or network.
pub const ADDRESS_BLOCKED: &str = "address_blocked";

/// What resellers and owners are told of it.
pub const ADDRESS_BLOCKED_WORDS: &str = "The administrator blocked the address.";

impl Reason {
    /// The stop that this message brought ends then.
    pub fn ends(&mut self, at: Seconds) {
        match self {
            Reason::OverLimit { until, .. } => *until = at,
            Reason::BeyondLimit(beyond) => match &mut beyond.effect {
                Effect::Stopped(until) | Effect::Slowed(_, until) => *until = at,
                _ => {}
            },
            _ => {}
        }
    }

    /// The stable key; never changes for a kind of reason.
    pub fn key(&self) -> &'static str {
        match self {
            Reason::NothingAgainst => "nothing_against",
            Reason::NotConcerned(_) => "not_concerned",
            Reason::RuleOff => "rule_off",
            Reason::FactMissing(Missing::Policy) => "policy_missing",
            Reason::FactMissing(Missing::Networks) => "networks_missing",
            Reason::FactMissing(Missing::State) => "state_missing",
            Reason::FactMissing(Missing::Feeds) => "feeds_missing",
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
            Reason::NetworkRestricted(NetworkClass::Hosting, _) => "network_hosting",
            Reason::NetworkRestricted(NetworkClass::Vpn, _) => "network_vpn",
            Reason::NetworkRestricted(NetworkClass::Tor, _) => "network_tor",
            Reason::NetworkRestricted(NetworkClass::Relay, _) => "network_relay",
            Reason::NetworkNotRestricted(..) => "network_not_restricted",
            Reason::NetworkTakenOut(_) => "network_taken_out",
            Reason::KnownNetwork => "known_network",
            Reason::MailboxGuarded(_) => "mailbox_guarded",
            Reason::AttackNetwork(..) => "attack_network",
            Reason::OnFeed(_) => ON_FEED,
            Reason::AttackNetworkPinned(..) => "attack_network_pinned",
            Reason::NeverMarked(_) => "never_marked",
            Reason::Burst(_) => "burst",
            Reason::Inbound => "inbound",
            Reason::OwnMessage => "own_message",
            Reason::Whitelisted(_) => "whitelisted",
            Reason::WithinLimit(..) => "within_limit",
            Reason::SharedUser(_) => "shared_user_over_limit",
            Reason::OverLimit { .. } => "over_limit",
            Reason::WouldStop { .. } => "would_stop",
            Reason::SendingStopped(_) => "sending_stopped",
            Reason::SendingSlowed(..) => "sending_slowed",
            Reason::BeyondLimit(beyond) if beyond.can_never_pass() => "message_too_large",
            Reason::BeyondLimit(_) => "beyond_limit",
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
            Reason::NetworkRestricted(class, network) => {
                format!("{network} is {}{}.", class.words(), by_entry(network))
            }
            Reason::NetworkNotRestricted(class, network) => format!(
                "{network} is {}{}; logins from such networks are not restricted.",
                class.words(),
                by_entry(network)
            ),
            Reason::NetworkTakenOut(entry) => {
                format!("The administrator took {entry} out of the restricted networks.")
            }
            Reason::KnownNetwork => "The mailbox was used well from this network before.".into(),
            Reason::MailboxGuarded(until) => format!(
                "The mailbox is under attack from many networks; until {} only those pass that it was used well from.",
                readable(*until)
            ),
            Reason::AttackNetwork(network, why, until) => {
                format!("{network} was seen attacking ({why}); it stays marked until {}.", readable(*until))
            }
            Reason::OnFeed(feeds) => {
                format!("The address is on a list of attacking networks that others publish: {feeds}.")
            }
            Reason::AttackNetworkPinned(network, until) => {
                format!("The administrator pinned {network} as attacking{}.", until_words(*until))
            }
            Reason::NeverMarked(network) => {
                format!("The administrator never wants {network} marked as attacking.")
            }
            Reason::Burst(until) => {
                format!("Many logins from this address failed; it is refused until {}.", readable(*until))
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
            Reason::SendingSlowed(quota, until) => slowed(*quota, *until),
            Reason::BeyondLimit(beyond) => beyond.for_admin(),
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
            Reason::AttackNetworkPinned(..) => "The administrator pinned the network as attacking.".into(),
            Reason::NeverMarked(_) => "The administrator never wants the network marked as attacking.".into(),
            other => other.for_admin(),
        }
    }

    /// The sentence that a client may see. It says nothing about other accounts or about how to get round.
    pub fn for_client(&self) -> String {
        match self {
            Reason::CountryNotAllowed(..) | Reason::UnknownCountryRefused => {
                "Logins from this country are not allowed here.".into()
            }
            Reason::NetworkRestricted(..) => "Logins from this network are not allowed here.".into(),
            Reason::AddressBlocked(..) => "Logins from this address are not allowed here.".into(),
            Reason::MailboxGuarded(_) => {
                "This account can be used only from networks that it was used from before, for the time being."
                    .into()
            }
            Reason::AttackNetwork(..) | Reason::AttackNetworkPinned(..) | Reason::OnFeed(_) => {
                "Logins from this network are not allowed here for the time being.".into()
            }
            Reason::Burst(_) => "Too many logins from this address failed; it is refused for a while.".into(),
            Reason::AccountBlocked(_) => "This account is closed for the time being.".into(),
            Reason::OverLimit { limit, window, until } => format!(
                "More than {limit} messages in {}: sending is stopped until {}.",
                span(*window),
                readable(*until)
            ),
            Reason::SendingStopped(until) => {
                format!("Sending from this account is stopped until {}.", readable(*until))
            }
            Reason::SendingSlowed(quota, until) => slowed(*quota, *until),
            Reason::BeyondLimit(beyond) => beyond.for_client(),
            _ => "Not allowed.".into(),
        }
    }

    /// Whether waiting helps: a refusal for this reason is a temporary one.
    pub fn is_temporary(&self) -> bool {
        match self {
            Reason::OverLimit { .. } | Reason::SendingStopped(_) | Reason::SendingSlowed(..) => true,
            Reason::BeyondLimit(beyond) => !beyond.can_never_pass(),
            _ => false,
        }
    }
}

fn slowed(quota: i64, until: Seconds) -> String {
    format!(
        "This account may send {quota} messages an hour until {}; they are used up for now.",
        readable(until)
    )
}

/// A further limit that was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Its name.
    pub name: String,
    /// What it allows, in words: `500 recipients in 1 hour`.
    pub allows: String,
    /// Who is counted together: `@example.org`, or `@` for the whole server; none for the account alone.
    pub together: Option<String>,
    /// What became of it.
    pub effect: Effect,
}

/// What becomes of a message that passes a limit, and of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The sender is stopped until then.
    Stopped(Seconds),
    /// So many messages an hour leave until then.
    Slowed(i64, Seconds),
    /// It waits until there is room.
    Waits,
    /// It adds so much that it never fits.
    Never(i64),
    /// It leaves, and the administrator is told.
    Told,
    /// It leaves, since the limit only watches.
    Watched,
}

impl Beyond {
    /// That this limit, which allows so much here, was passed.
    pub fn new(limit: &Limit, most: i64, together: Option<&str>, effect: Effect) -> Beyond {
        let allows = Limit { most, ..limit.clone() }.spoken();
        Beyond { name: limit.name.clone(), allows, together: together.map(Into::into), effect }
    }

    fn can_never_pass(&self) -> bool {
        matches!(self.effect, Effect::Never(_))
    }

    fn of_whom(&self) -> String {
        match self.together.as_deref() {
            None => String::new(),
            Some(SERVER_KEY) => " of the whole server".into(),
            Some(domain) => format!(" of {}", domain.trim_start_matches('@')),
        }
    }

    fn for_admin(&self) -> String {
        let then = match self.effect {
            Effect::Stopped(until) => format!("sending stopped until {}", readable(until)),
            Effect::Slowed(quota, until) => {
                format!("{quota} messages an hour leave until {}", readable(until))
            }
            Effect::Waits => "what goes beyond waits until there is room".into(),
            Effect::Never(adds) => format!("this message alone has {adds}, so it can never pass"),
            Effect::Told => "sending goes on, and the administrator is told".into(),
            Effect::Watched => "the limit only watches, so sending goes on".into(),
        };
        format!("More than {}{} (limit {}): {then}.", self.allows, self.of_whom(), self.name)
    }

    fn for_client(&self) -> String {
        let whose = if self.together.is_some() { " from here" } else { "" };
        match self.effect {
            Effect::Stopped(until) => {
                format!("More than {}{whose}: sending is stopped until {}.", self.allows, readable(until))
            }
            Effect::Slowed(quota, until) => format!(
                "More than {}{whose}: only {quota} messages an hour may be sent until {}.",
                self.allows,
                readable(until)
            ),
            Effect::Never(adds) => {
                format!("Not more than {} are allowed{whose}, and this message has {adds}.", self.allows)
            }
            _ => format!("More than {}{whose}: try again later.", self.allows),
        }
    }
}

fn named(country: Country) -> String {
    match country.name() {
        Some(name) => format!("{name} ({country})"),
        None => country.to_string(),
    }
}

fn by_entry(network: &NamedNetwork) -> String {
    network.marked.as_ref().map_or_else(String::new, |entry| format!(", as the administrator marked {entry}"))
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
    fn a_restricted_network_is_named_to_the_administrator_and_to_nobody_else() {
        let network = NamedNetwork { asn: Some(24_940), name: Some("Hetzner".into()), marked: None };
        let reason = Reason::NetworkRestricted(NetworkClass::Hosting, network.clone());
        assert_eq!(reason.for_admin(), "AS24940 (Hetzner) is a cloud network, in which machines are rented.");
        assert_eq!(reason.for_client(), "Logins from this network are not allowed here.");
        assert!(!reason.is_temporary());
        let marked = Some("192.0.2.0/24".to_owned());
        let nameless = NamedNetwork { asn: None, name: None, marked };
        let said = Reason::NetworkNotRestricted(NetworkClass::Hosting, nameless).for_admin();
        assert!(said.starts_with("The network of the address is a cloud network"), "{said}");
        assert!(said.contains("as the administrator marked 192.0.2.0/24;"), "{said}");
        let keys: Vec<_> =
            NetworkClass::ALL.map(|class| Reason::NetworkRestricted(class, network.clone()).key()).into();
        assert_eq!(keys, ["network_tor", "network_vpn", "network_relay", "network_hosting"]);
    }

    #[test]
    fn spans_are_said_in_the_largest_whole_unit() {
        let said: Vec<_> = [300, 3600, 21_600, 90, 86_400].map(span).into();
        assert_eq!(said, ["5 minutes", "1 hour", "6 hours", "90 seconds", "1 day"]);
    }
}
