//! The published policy: what the rules need of the settings, as one read-only file.
//!
//! `policy.db` is written from the settings and published by rename (see `store::settings::publish`). Hooks
//! open it with `immutable=1`: no locks, no side files, and a reader never sees a half-written one. It is a
//! plain SQLite file with one table `fact(kind, key, value)`, so that one prepared statement answers every
//! question of a call. It holds no secrets.

use crate::account::{Account, Subject};
use crate::address::{Address, Network};
use crate::asn::Asn;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::limit::{Limit, Override};
use crate::settings::Settings;
use crate::verdict::Level;
use rusqlite::{CachedStatement, Connection, OpenFlags, OptionalExtension};
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the file's form. A reader takes its own version only: the file is written anew at each upgrade.
pub const FORM: i64 = 1;

/// Kinds of facts, as stored.
pub mod kind {
    /// One row: [`super::Head`].
    pub const HEAD: &str = "head";
    /// IP Authentication exemptions by network.
    pub const EXEMPT_NETWORK: &str = "exempt_network";
    /// User Authentication exemptions by subject.
    pub const EXEMPT_SUBJECT: &str = "exempt_subject";
    /// The administrator's blocks by network.
    pub const BLOCK_NETWORK: &str = "block_network";
    /// The administrator's blocks by account.
    pub const BLOCK_ACCOUNT: &str = "block_account";
    /// Per-User Rate Limiter Whitelist by subject.
    pub const WHITELIST: &str = "whitelist";
    /// Allowed countries by subject, `*` for the server: `AT,DE`.
    pub const COUNTRIES: &str = "countries";
    /// Countries that some account's or domain's list allows, by code.
    pub const SOMEWHERE_ALLOWED: &str = "somewhere_allowed";
    /// The administrator's own cloud networks and what is none, by network.
    pub const SOURCE_NETWORK: &str = "source_network";
    /// The same by system: `AS64500`.
    pub const SOURCE_SYSTEM: &str = "source_system";
    /// The administrator's own cloud mail clients and what is none, by network.
    pub const CLIENT_NETWORK: &str = "client_network";
    /// The administrator's pinned attack networks and what is never marked, by network.
    pub const ATTACK_NETWORK: &str = "attack_network";
    /// Temporary allowances by subject.
    pub const ALLOWANCE: &str = "allowance";
    /// Other numbers for limits of sending, by subject.
    pub const OVERRIDE: &str = "override";
}

/// Kinds that accounts and domains are looked for in at each call.
pub const OF_SUBJECTS: [&str; 6] = [
    kind::EXEMPT_SUBJECT,
    kind::BLOCK_ACCOUNT,
    kind::WHITELIST,
    kind::SOMEWHERE_ALLOWED,
    kind::ALLOWANCE,
    kind::OVERRIDE,
];

/// Key of the server's own list of countries.
pub const SERVER: &str = "*";

/// What every call needs: the settings and what spares it further questions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`FORM`].
    pub form: i64,
    /// Counts the changes of the settings.
    pub generation: i64,
    /// When it was published.
    pub published: Seconds,
    /// All settings.
    pub settings: Arc<Settings>,
    /// Prefix lengths (over 128 bits) that IP Authentication exemptions use.
    pub exempt_lengths: BTreeSet<u8>,
    /// Prefix lengths that blocks use.
    pub block_lengths: BTreeSet<u8>,
    /// Prefix lengths of the administrator's own cloud networks and what is none.
    #[serde(default)]
    pub source_lengths: BTreeSet<u8>,
    /// Whether any of those is a system.
    #[serde(default)]
    pub source_systems: bool,
    /// Prefix lengths of the administrator's own cloud mail clients and what is none.
    #[serde(default)]
    pub client_lengths: BTreeSet<u8>,
    /// Prefix lengths of the administrator's pinned attack networks and what is never marked.
    #[serde(default)]
    pub attack_lengths: BTreeSet<u8>,
    /// Until when somebody is on the User Authentication list; none: nobody.
    pub someone_exempt_until: Option<Seconds>,
    /// Every allowance that was running when published: a door that knows no account must not refuse what
    /// one of them might lift.
    pub allowances: Vec<Allowance>,
    /// Further limits of sending, in the order in which they are asked.
    #[serde(default)]
    pub limits: Vec<Arc<Limit>>,
    /// Whether any limit has another number for somebody.
    #[serde(default)]
    pub overrides: bool,
    /// Those of [`OF_SUBJECTS`] of which the file holds no fact, so that nobody has to look.
    #[serde(default)]
    pub nothing_of: BTreeSet<String>,
    /// User `postern`'s number: its messages are notices.
    pub postern_uid: u32,
    /// The mail servers' users: the keeper answers them and nobody else.
    #[serde(default)]
    pub mail_uids: Vec<u32>,
}

impl Head {
    /// Whether anybody is on the User Authentication list now.
    pub fn someone_is_exempt(&self, now: Seconds) -> bool {
        self.someone_exempt_until.is_some_and(|until| now < until)
    }
}

/// What an allowance or block carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it ends; none: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Seconds>,
    /// An exempt address that sends without being counted, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sending: bool,
    /// Says that the network is not what the list is of.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not: bool,
}

impl Entry {
    /// Whether the entry still holds.
    pub fn holds(&self, now: Seconds) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A temporary allowance: lifts the country rule for logins from a country or a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// `DE`, or `192.0.2.0/24`.
    pub from: String,
    /// When it ends.
    pub until: Seconds,
}

impl Allowance {
    /// Whether it lifts the rule for this address and country now.
    pub fn covers(&self, address: Address, country: Option<Country>, now: Seconds) -> bool {
        now < self.until
            && match self.from.parse::<Country>() {
                Ok(allowed) => Some(allowed) == country,
                Err(_) => self.from.parse::<Network>().is_ok_and(|net| net.contains(address)),
            }
    }
}

/// The key under which a network's facts stand: its length, then its first address.
pub fn network_key(network: &Network) -> [u8; 17] {
    key_of(network.length_of_128(), network.first_bits())
}

fn key_of(length: u8, first: u128) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = length;
    key[1..].copy_from_slice(&first.to_be_bytes());
    key
}

/// The open policy.
pub struct Policy {
    connection: Connection,
    path: PathBuf,
    head: OnceCell<Arc<Head>>,
}

impl Policy {
    /// Opens the published file.
    pub fn open(path: &Path) -> Result<Policy> {
        let failed = || Error::database("open", path);
        // A missing file must not be taken for an empty one, which is what SQLite would see.
        std::fs::metadata(path).map_err(Error::file("read", path))?;
        let uri = format!("file:{}?immutable=1", uri_path(path));
        let flags =
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri, flags).map_err(failed())?;
        Ok(Policy { connection, path: path.into(), head: OnceCell::new() })
    }

    /// Begins asking; the statement is prepared once for all questions of the call, with the first that is not answered
    /// by the head.
    pub fn ask(&self) -> Result<Questions<'_>> {
        Ok(Questions { statement: None, policy: self })
    }

    fn has_nothing_of(&self, kind: &str) -> bool {
        self.head.get().is_some_and(|head| head.nothing_of.contains(kind))
    }
}

/// A path as it stands in a `file:` URI (sqlite.org/uri.html).
fn uri_path(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

/// Questions to the open policy.
pub struct Questions<'a> {
    statement: Option<CachedStatement<'a>>,
    policy: &'a Policy,
}

impl Questions<'_> {
    fn value(&mut self, kind: &str, key: &[u8]) -> Result<Option<String>> {
        let Policy { connection, path, .. } = self.policy;
        let mut read = || -> rusqlite::Result<Option<String>> {
            if self.statement.is_none() {
                let sql = "SELECT value FROM fact WHERE kind = ?1 AND key = ?2";
                self.statement = Some(connection.prepare_cached(sql)?);
            }
            let Some(statement) = &mut self.statement else { return Ok(None) };
            statement.query_row((kind, key), |row| row.get(0)).optional()
        };
        read().map_err(Error::database("read", path))
    }

    fn read<T: for<'de> Deserialize<'de>>(&mut self, kind: &str, key: &[u8]) -> Result<Option<T>> {
        let Some(text) = self.value(kind, key)? else { return Ok(None) };
        let damaged = |e| {
            Error::Data(format!(
                "The published policy {} is damaged ({e}); publish it anew with `postern publish`.",
                self.policy.path.display()
            ))
        };
        serde_json::from_str(&text).map(Some).map_err(damaged)
    }

    /// The head. A file of another form is no policy for this program. Read once for each file that is opened:
    /// it never changes.
    pub fn head(&mut self) -> Result<Arc<Head>> {
        if let Some(head) = self.policy.head.get() {
            return Ok(head.clone());
        }
        let head: Option<Head> = self.read(kind::HEAD, b"")?;
        let head = head.filter(|h| h.form == FORM).ok_or_else(|| {
            Error::Data(format!(
                "The published policy {} is not of this version; publish it anew with `postern publish`.",
                self.policy.path.display()
            ))
        })?;
        Ok(self.policy.head.get_or_init(|| Arc::new(head)).clone())
    }

    /// The narrowest network of this kind around the address that still holds. A network of IPv6 that is
    /// wide enough to span `::ffff:0:0/96` (as `::/0`) does not hold IPv4 addresses.
    pub fn network(
        &mut self,
        kind: &str,
        lengths: &BTreeSet<u8>,
        address: Address,
        now: Seconds,
    ) -> Result<Option<(Network, Entry)>> {
        for &length in lengths.iter().rev() {
            let mask = u128::MAX.checked_shl(u32::from(128 - length)).unwrap_or(0);
            let first = address.bits() & mask;
            if let Some(entry) = self.read::<Entry>(kind, &key_of(length, first))?
                && entry.holds(now)
                && let Some(network) = network_of(length, first).filter(|net| net.contains(address))
            {
                return Ok(Some((network, entry)));
            }
        }
        Ok(None)
    }

    /// The entry for a system that still holds.
    pub fn system(&mut self, kind: &str, asn: Asn, now: Seconds) -> Result<Option<Entry>> {
        let entry = self.read::<Entry>(kind, asn.to_string().as_bytes())?;
        Ok(entry.filter(|entry| entry.holds(now)))
    }

    /// The entry of this kind for the account, else for its domain; with the key it stands under.
    pub fn subject(
        &mut self,
        kind: &str,
        account: &Account,
        now: Seconds,
    ) -> Result<Option<(String, Entry)>> {
        if self.policy.has_nothing_of(kind) {
            return Ok(None);
        }
        for key in Subject::keys_of(account) {
            if let Some(entry) = self.read::<Entry>(kind, key.as_bytes())?
                && entry.holds(now)
            {
                return Ok(Some((key, entry)));
            }
        }
        Ok(None)
    }

    /// The allowed countries that hold for the account: its own list, else its domain's, else the
    /// server's. A list that is there and empty allows none; one that is not there passes on.
    pub fn countries(&mut self, account: Option<&Account>) -> Result<(Level, Vec<Country>)> {
        let mut places = Vec::new();
        if let Some(account) = account {
            let levels = [Level::Account, Level::Domain];
            places.extend(levels.into_iter().zip(Subject::keys_of(account)));
        }
        places.push((Level::Server, SERVER.to_string()));
        for (level, key) in places {
            if let Some(list) = self.value(kind::COUNTRIES, key.as_bytes())? {
                return Ok((level, list.split(',').filter_map(|c| c.parse().ok()).collect()));
            }
        }
        Ok((Level::Server, Vec::new()))
    }

    /// Whether some account's or domain's own list allows this country.
    pub fn allowed_somewhere(&mut self, country: Country) -> Result<bool> {
        Ok(!self.policy.has_nothing_of(kind::SOMEWHERE_ALLOWED)
            && self.value(kind::SOMEWHERE_ALLOWED, country.to_string().as_bytes())?.is_some())
    }

    /// The other numbers for limits that stand under this key.
    pub fn overrides(&mut self, key: &str) -> Result<Vec<Override>> {
        if self.policy.has_nothing_of(kind::OVERRIDE) {
            return Ok(Vec::new());
        }
        Ok(self.read(kind::OVERRIDE, key.as_bytes())?.unwrap_or_default())
    }

    /// The account's and its domain's allowances.
    pub fn allowances(&mut self, account: &Account) -> Result<Vec<Allowance>> {
        let mut all = Vec::new();
        if self.policy.has_nothing_of(kind::ALLOWANCE) {
            return Ok(all);
        }
        for key in Subject::keys_of(account) {
            all.extend(self.read::<Vec<Allowance>>(kind::ALLOWANCE, key.as_bytes())?.unwrap_or_default());
        }
        Ok(all)
    }
}

fn network_of(length: u8, first: u128) -> Option<Network> {
    let ip = std::net::Ipv6Addr::from_bits(first);
    match ip.to_ipv4_mapped() {
        Some(v4) if length >= 96 => ipnet::Ipv4Net::new(v4, length - 96).ok().map(|n| Network::new(n.into())),
        _ => ipnet::Ipv6Net::new(ip, length).ok().map(|n| Network::new(n.into())),
    }
}
