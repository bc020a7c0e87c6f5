//! Lists, countries and allowances as they are stored.

use crate::account::Subject;
use crate::address::Network;
use crate::asn::Asn;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::feeds::Definition;
use crate::policy::SERVER;
use rusqlite::{Connection, OptionalExtension, Rows, params};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The lists of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListName {
    /// IP Authentication exemptions.
    IpExemption,
    /// User Authentication exemptions.
    UserExemption,
    /// Per-User Rate Limiter Whitelist.
    Whitelist,
    /// The administrator's blocks of accounts.
    AccountBlock,
    /// The administrator's blocks of addresses and networks.
    AddressBlock,
    /// The administrator's own cloud networks: systems and networks.
    CloudNetwork,
    /// Systems and networks that are no restricted ones, whatever our own list says.
    NoCloudNetwork,
    /// The administrator's own cloud mail clients.
    CloudMailClient,
    /// Networks that are no cloud mail clients, whatever our own list says.
    NoCloudMailClient,
    /// Feeds that are switched on, by name.
    Feed,
    /// Feeds that the administrator defined.
    FeedDefinition,
    /// Networks that the administrator pinned as attacking.
    AttackNetwork,
    /// Networks that are never marked as attacking, and from which nothing is learned.
    NoAttackNetwork,
}

/// How people write an entry of a list that says "not": before the value.
pub const NOT: &str = "not:";

impl ListName {
    /// Every list.
    pub const ALL: [ListName; 13] = [
        ListName::IpExemption,
        ListName::UserExemption,
        ListName::Whitelist,
        ListName::AccountBlock,
        ListName::AddressBlock,
        ListName::CloudNetwork,
        ListName::NoCloudNetwork,
        ListName::CloudMailClient,
        ListName::NoCloudMailClient,
        ListName::Feed,
        ListName::FeedDefinition,
        ListName::AttackNetwork,
        ListName::NoAttackNetwork,
    ];

    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            ListName::IpExemption => "ip_exemption",
            ListName::UserExemption => "user_exemption",
            ListName::Whitelist => "whitelist",
            ListName::AccountBlock => "account_block",
            ListName::AddressBlock => "address_block",
            ListName::CloudNetwork => "cloud_network",
            ListName::NoCloudNetwork => "no_cloud_network",
            ListName::CloudMailClient => "cloud_mail_client",
            ListName::NoCloudMailClient => "no_cloud_mail_client",
            ListName::Feed => "feed",
            ListName::FeedDefinition => "feed_definition",
            ListName::AttackNetwork => "attack_network",
            ListName::NoAttackNetwork => "no_attack_network",
        }
    }

    /// The name that administrators know.
    pub fn title(self) -> &'static str {
        match self {
            ListName::IpExemption => "IP Authentication",
            ListName::UserExemption => "User Authentication",
            ListName::Whitelist => "Per-User Rate Limiter Whitelist",
            ListName::AccountBlock | ListName::AddressBlock => "blocks",
            ListName::CloudNetwork | ListName::NoCloudNetwork => "cloud networks",
            ListName::CloudMailClient | ListName::NoCloudMailClient => "cloud mail clients",
            ListName::Feed => "feeds",
            ListName::FeedDefinition => "own feeds",
            ListName::AttackNetwork => "pinned attack networks",
            ListName::NoAttackNetwork => "networks that are never marked as attacking",
        }
    }

    /// The list that says the opposite: a value stands in one of both at most.
    pub fn opposite(self) -> Option<ListName> {
        match self {
            ListName::CloudNetwork => Some(ListName::NoCloudNetwork),
            ListName::NoCloudNetwork => Some(ListName::CloudNetwork),
            ListName::CloudMailClient => Some(ListName::NoCloudMailClient),
            ListName::NoCloudMailClient => Some(ListName::CloudMailClient),
            ListName::AttackNetwork => Some(ListName::NoAttackNetwork),
            ListName::NoAttackNetwork => Some(ListName::AttackNetwork),
            _ => None,
        }
    }

    /// Whether its entries are mailboxes, domains or local users.
    pub fn is_of_subjects(self) -> bool {
        matches!(self, ListName::UserExemption | ListName::Whitelist | ListName::AccountBlock)
    }

    /// The value of an entry as people write it: [`ListName::checked`] makes the same of it again.
    pub fn typed(self, value: &str) -> String {
        match self {
            ListName::IpExemption
            | ListName::AddressBlock
            | ListName::CloudNetwork
            | ListName::CloudMailClient
            | ListName::AttackNetwork
            | ListName::Feed
            | ListName::FeedDefinition => value.into(),
            ListName::NoCloudNetwork | ListName::NoCloudMailClient | ListName::NoAttackNetwork => {
                format!("{NOT}{value}")
            }
            ListName::UserExemption | ListName::Whitelist | ListName::AccountBlock => Subject::typed(value),
        }
    }

    /// The value in the one form in which the list keeps it; refuses what does not belong there.
    pub fn checked(self, value: &str) -> Result<String> {
        match self {
            ListName::IpExemption => value.trim().parse::<Network>().map(|net| net.to_string()),
            ListName::UserExemption | ListName::Whitelist | ListName::AccountBlock => {
                value.parse::<Subject>().map(|s| s.key())
            }
            ListName::AddressBlock => {
                let network: Network = value.trim().parse()?;
                if network.touches_loopback() {
                    return Err(Error::bad_value(
                        "The network to block",
                        value,
                        "loopback can never be blocked: the server's own programs log in from there",
                    ));
                }
                Ok(network.to_string())
            }
            ListName::CloudNetwork | ListName::NoCloudNetwork => {
                let value = without_not(value);
                match value.parse::<Asn>() {
                    Ok(asn) => Ok(asn.to_string()),
                    Err(_) => value.parse::<Network>().map(|net| net.to_string()).map_err(|_| {
                        let accepted = "give a system as AS64500, an address, or a network as 192.0.2.0/24; `not:` before it takes it out";
                        Error::bad_value("The cloud network", value, accepted)
                    }),
                }
            }
            ListName::CloudMailClient | ListName::NoCloudMailClient => {
                let value = without_not(value);
                if value.parse::<Asn>().is_ok() {
                    let accepted = "give the networks of the mail service itself, never a whole system: every machine that anybody rents there shares it";
                    return Err(Error::bad_value("The cloud mail client", value, accepted));
                }
                value.parse::<Network>().map(|net| net.to_string())
            }
            ListName::Feed if Definition::is_name(value.trim()) => Ok(value.trim().into()),
            ListName::Feed => {
                Err(Error::bad_value("The feed", value, "a name as `postern feeds list` shows them"))
            }
            ListName::FeedDefinition => value.parse::<Definition>().map(|feed| feed.to_string()),
            ListName::AttackNetwork => {
                let network: Network = without_not(value).parse()?;
                may_be_pinned(&network, value)?;
                Ok(network.to_string())
            }
            ListName::NoAttackNetwork => without_not(value).parse::<Network>().map(|net| net.to_string()),
        }
    }
}

/// Shortest prefixes that may be pinned as attacking: what is announced to the internet as one network is no wider.
const WIDEST_PIN: (u8, u8) = (8, 19);

fn may_be_pinned(network: &Network, value: &str) -> Result<()> {
    let bad = |accepted: String| Err(Error::bad_value("The network to pin", value, accepted));
    if network.touches_loopback() {
        return bad("loopback attacks nobody: the server's own programs log in from there".into());
    }
    let net = network.net();
    let shortest = if net.max_prefix_len() == 32 { WIDEST_PIN.0 } else { WIDEST_PIN.1 };
    if net.prefix_len() < shortest {
        return bad(format!("no network wider than /{shortest}: it would hold half a continent's customers"));
    }
    Ok(())
}

fn without_not(value: &str) -> &str {
    let value = value.trim();
    value.strip_prefix(NOT).unwrap_or(value).trim()
}

/// An entry of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// What it is about, in the list's own form.
    pub value: String,
    /// Why it is there.
    pub note: String,
    /// Who added it.
    pub who: String,
    /// When.
    pub at: Seconds,
    /// When it ends; none: never.
    pub until: Option<Seconds>,
    /// An exempt address sends without being counted, too.
    pub sending: bool,
}

impl ListEntry {
    /// Whether the entry still holds.
    pub fn holds(&self, now: Seconds) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether the other one is about the same and says the same, whoever added it and when.
    pub fn says_the_same(&self, other: &ListEntry) -> bool {
        (&self.value, &self.note, self.until, self.sending)
            == (&other.value, &other.note, other.until, other.sending)
    }
}

fn read_entry(row: &rusqlite::Row) -> rusqlite::Result<ListEntry> {
    Ok(ListEntry {
        value: row.get("value")?,
        note: row.get("note")?,
        who: row.get("who")?,
        at: row.get("at")?,
        until: row.get("until")?,
        sending: row.get("sending")?,
    })
}

/// All entries of a list.
pub fn all(db: &Connection, list: ListName) -> rusqlite::Result<Vec<ListEntry>> {
    db.prepare("SELECT * FROM entry WHERE list = ?1 ORDER BY value")?
        .query_map([list.name()], read_entry)?
        .collect()
}

pub(super) const ENTRY: &str = "SELECT * FROM entry WHERE list = ?1 AND value = ?2";

/// One entry of a list.
pub fn one(db: &Connection, list: ListName, value: &str) -> rusqlite::Result<Option<ListEntry>> {
    db.prepare_cached(ENTRY)?.query_row(params![list.name(), value], read_entry).optional()
}

/// The key under which a subject's list of countries stands.
pub fn scope(subject: Option<&Subject>) -> String {
    subject.map_or_else(|| SERVER.into(), Subject::key)
}

const COUNTRIES: &str = "SELECT l.scope, c.code FROM country_list l LEFT JOIN country c ON c.scope = l.scope";
pub(super) const COUNTRIES_OF: &str =
    "SELECT l.scope, c.code FROM country_list l LEFT JOIN country c ON c.scope = l.scope WHERE l.scope = ?1";

/// The list of this scope; none where there is none.
pub fn countries_of(db: &Connection, scope: &str) -> rusqlite::Result<Option<BTreeSet<Country>>> {
    Ok(lists_of(db.prepare_cached(COUNTRIES_OF)?.query([scope])?)?.remove(scope))
}

/// Every list of countries, by scope.
pub fn countries(db: &Connection) -> rusqlite::Result<BTreeMap<String, BTreeSet<Country>>> {
    lists_of(db.prepare(COUNTRIES)?.query([])?)
}

fn lists_of(mut rows: Rows) -> rusqlite::Result<BTreeMap<String, BTreeSet<Country>>> {
    let mut lists = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let list: &mut BTreeSet<Country> = lists.entry(row.get(0)?).or_default();
        let code: Option<String> = row.get(1)?;
        list.extend(code.and_then(|c| c.parse::<Country>().ok()));
    }
    Ok(lists)
}

/// Codes separated by commas.
pub fn codes(list: &BTreeSet<Country>) -> String {
    let codes: Vec<String> = list.iter().map(ToString::to_string).collect();
    codes.join(",")
}

/// A temporary allowance as stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its number.
    pub id: i64,
    /// For whom: an account, or `@domain`.
    pub subject: String,
    /// From where: a country's code or a network.
    pub source: String,
    /// When it ends.
    pub until: Seconds,
    /// Why.
    pub note: String,
    /// Who gave it.
    pub who: String,
    /// When.
    pub at: Seconds,
}

impl Grant {
    /// What it says, whoever gave it and when.
    pub fn says(&self) -> (String, String, Seconds, String) {
        (self.subject.clone(), self.source.clone(), self.until, self.note.clone())
    }
}

fn read_grant(row: &rusqlite::Row) -> rusqlite::Result<Grant> {
    Ok(Grant {
        id: row.get("id")?,
        subject: row.get("subject")?,
        source: row.get("source")?,
        until: row.get("until")?,
        note: row.get("note")?,
        who: row.get("who")?,
        at: row.get("at")?,
    })
}

/// Every allowance, running or ended.
pub fn allowances(db: &Connection) -> rusqlite::Result<Vec<Grant>> {
    db.prepare("SELECT * FROM allowance ORDER BY id")?.query_map([], read_grant)?.collect()
}

pub(super) const ALLOWANCE: &str = "SELECT * FROM allowance WHERE id = ?1";

/// The allowance of this number.
pub fn allowance(db: &Connection, id: i64) -> rusqlite::Result<Option<Grant>> {
    db.prepare_cached(ALLOWANCE)?.query_row([id], read_grant).optional()
}

impl super::SettingsStore {
    /// All entries of a list.
    pub fn entries(&self, list: ListName) -> Result<Vec<ListEntry>> {
        all(&self.connection, list).map_err(self.failed("read"))
    }

    /// Every list of countries, by scope (`*` is the server's).
    pub fn countries(&self) -> Result<BTreeMap<String, BTreeSet<Country>>> {
        countries(&self.connection).map_err(self.failed("read"))
    }

    /// Every allowance, running or ended.
    pub fn allowances(&self) -> Result<Vec<Grant>> {
        allowances(&self.connection).map_err(self.failed("read"))
    }

    /// The allowance of this number.
    pub fn allowance(&self, id: i64) -> Result<Option<Grant>> {
        allowance(&self.connection, id).map_err(self.failed("read"))
    }
}
