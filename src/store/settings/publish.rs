//! Publishes the policy: writes what the hooks need of the settings into a new file and renames it over
//! the old one, with its mode and ACL already set. A hook sees the old policy or the new one, whole.

use super::entries::{self, ListEntry, ListName};
use super::{Host, SettingsStore};
use crate::acl;
use crate::address::Network;
use crate::asn::Asn;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::idn;
use crate::limit::{Limit, Override};
use crate::policy::{Allowance, Entry, FORM, Head, OF_SUBJECTS, SERVER, kind, network_key};
use crate::settings::{Mode, Settings};
use fs2::FileExt;
use rusqlite::{Connection, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::Path;
use std::sync::Arc;

impl SettingsStore {
    /// Publishes the policy as the settings are now; gives its generation. `server_country` finds the
    /// server's own by the settings that are published, which may add it to the server's list.
    ///
    /// Publishers take turns by a lock, and each reads the settings as of one moment after it has the lock: so
    /// the last rename is that of the newest settings.
    pub fn publish(
        &self,
        now: Seconds,
        server_country: impl FnOnce(&Settings) -> Option<Country>,
    ) -> Result<i64> {
        let _turn = self.wait_for_turn()?;
        let target = self.paths.policy();
        let temporary = target.with_extension("new");
        let written = self.write_policy(&temporary, now, server_country);
        let published = written.and_then(|generation| {
            std::fs::rename(&temporary, &target).map_err(Error::file("publish", &target))?;
            Ok(generation)
        });
        if published.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        published
    }

    /// Ends when dropped. The lock is a file that only root can open.
    fn wait_for_turn(&self) -> Result<std::fs::File> {
        let path = self.paths.policy().with_extension("lock");
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        file.lock_exclusive().map_err(Error::file("lock", &path))?;
        Ok(file)
    }

    fn write_policy(
        &self,
        path: &Path,
        now: Seconds,
        server_country: impl FnOnce(&Settings) -> Option<Country>,
    ) -> Result<i64> {
        let host = self.host()?;
        let _ = std::fs::remove_file(path);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(Error::file("make", path))?;
        let failed = || Error::database("write to", path);
        let mut policy = Connection::open(path).map_err(failed())?;
        let transaction = policy.transaction().map_err(failed())?;
        // One moment of the settings for all that is read of them.
        let moment = self.connection.unchecked_transaction().map_err(self.failed("read"))?;
        let generation = self.fill(&transaction, now, server_country, &host)?;
        drop(moment);
        transaction.commit().map_err(failed())?;
        policy.close().map_err(|(_, e)| failed()(e))?;
        if nix::unistd::geteuid().is_root() {
            chown(path, Some(0), Some(host.postern_gid)).map_err(Error::file("give away", path))?;
        }
        acl::set_readers(&file, path, &host.mail_uids)?;
        file.sync_all().map_err(Error::file("write", path))?;
        Ok(generation)
    }

    fn fill(
        &self,
        t: &Transaction,
        now: Seconds,
        server_country: impl FnOnce(&Settings) -> Option<Country>,
        host: &Host,
    ) -> Result<i64> {
        let path = self.paths.policy();
        let mut writer = Writer::begin(t, &path)?;
        let settings = self.settings()?;
        let own = server_country(&settings).filter(|_| settings.allow_server_country);
        let exempt = self.entries(ListName::IpExemption)?;
        let blocks = self.entries(ListName::AddressBlock)?;
        let users = self.entries(ListName::UserExemption)?;
        let clouds = self.both(ListName::CloudNetwork, ListName::NoCloudNetwork)?;
        let clients = self.both(ListName::CloudMailClient, ListName::NoCloudMailClient)?;
        let attackers = self.both(ListName::AttackNetwork, ListName::NoAttackNetwork)?;
        let mut head = Head {
            form: FORM,
            generation: self.generation()?,
            published: now,
            exempt_lengths: writer.networks(kind::EXEMPT_NETWORK, &exempt, now)?,
            block_lengths: writer.networks(kind::BLOCK_NETWORK, &blocks, now)?,
            source_lengths: writer.marks(kind::SOURCE_NETWORK, &clouds, now)?,
            source_systems: writer.systems(kind::SOURCE_SYSTEM, &clouds, now)?,
            client_lengths: writer.marks(kind::CLIENT_NETWORK, &clients, now)?,
            attack_lengths: writer.marks(kind::ATTACK_NETWORK, &attackers, now)?,
            someone_exempt_until: users.iter().map(|e| e.until.unwrap_or(Seconds::MAX)).max(),
            allowances: writer.allowances(&self.allowances()?, now)?,
            limits: self
                .limits()?
                .into_iter()
                .filter(|limit| limit.mode != Mode::Off)
                // Hooks need not know who made it and why.
                .map(|limit| Arc::new(Limit { note: String::new(), who: String::new(), at: 0, ..limit }))
                .collect(),
            overrides: writer.overrides(self.overrides()?, now)?,
            nothing_of: BTreeSet::new(),
            postern_uid: host.postern_uid,
            mail_uids: host.mail_uids.clone(),
            settings: settings.into(),
        };
        writer.subjects(kind::EXEMPT_SUBJECT, &users, now)?;
        writer.subjects(kind::WHITELIST, &self.entries(ListName::Whitelist)?, now)?;
        writer.subjects(kind::BLOCK_ACCOUNT, &self.entries(ListName::AccountBlock)?, now)?;
        writer.countries(self.countries()?, own)?;
        head.nothing_of = writer.nothing_of();
        writer.put(kind::HEAD, b"", &head)?;
        Ok(head.generation)
    }

    /// A list and the one that says "not"; the second comes last, so that it holds where both say something.
    fn both(&self, list: ListName, not: ListName) -> Result<[Vec<ListEntry>; 2]> {
        Ok([self.entries(list)?, self.entries(not)?])
    }
}

/// Writes facts into the new file.
struct Writer<'a> {
    transaction: &'a Transaction<'a>,
    path: &'a Path,
    /// The kinds of which facts were written.
    kinds: BTreeSet<String>,
}

impl<'a> Writer<'a> {
    fn begin(transaction: &'a Transaction<'a>, path: &'a Path) -> Result<Writer<'a>> {
        transaction
            .execute_batch(
                "CREATE TABLE fact(kind TEXT, key BLOB, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID",
            )
            .map_err(Error::database("write to", path))?;
        Ok(Writer { transaction, path, kinds: BTreeSet::new() })
    }

    fn put<T: serde::Serialize>(&mut self, kind: &str, key: &[u8], value: &T) -> Result<()> {
        let json = serde_json::to_string(value)
            .map_err(|e| Error::Data(format!("A part of the policy could not be written as JSON: {e}.")))?;
        self.put_text(kind, key, &json)
    }

    fn nothing_of(&self) -> BTreeSet<String> {
        OF_SUBJECTS
            .iter()
            .filter(|kind| !self.kinds.contains(**kind))
            .map(|kind| (*kind).to_owned())
            .collect()
    }

    fn put_text(&mut self, kind: &str, key: &[u8], value: &str) -> Result<()> {
        if !self.kinds.contains(kind) {
            self.kinds.insert(kind.to_owned());
        }
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO fact VALUES (?1, ?2, ?3)")
            .and_then(|mut statement| statement.execute(params![kind, key, value]))
            .map(|_| ())
            .map_err(Error::database("write to", self.path))
    }

    fn networks(&mut self, kind: &str, list: &[ListEntry], now: Seconds) -> Result<BTreeSet<u8>> {
        let mut lengths = BTreeSet::new();
        for (entry, fact) in running(list, now) {
            // What cannot be read was never saved by this program; it is left out, the rest holds.
            let Ok(network) = entry.value.parse::<Network>() else { continue };
            lengths.insert(network.length_of_128());
            self.put(kind, &network_key(&network), &fact)?;
        }
        Ok(lengths)
    }

    /// Whether there is any.
    fn overrides(&mut self, mut all: BTreeMap<String, Vec<Override>>, now: Seconds) -> Result<bool> {
        let plain =
            |other: &Override| Override { note: String::new(), who: String::new(), at: 0, ..other.clone() };
        all.retain(|_, others| {
            others.retain(|other| other.until.is_none_or(|until| now < until));
            !others.is_empty()
        });
        for (subject, others) in &all {
            self.put(kind::OVERRIDE, subject.as_bytes(), &others.iter().map(plain).collect::<Vec<_>>())?;
        }
        for (subject, others) in &all {
            self.put_other(kind::OVERRIDE, subject, &others.iter().map(plain).collect::<Vec<_>>())?;
        }
        Ok(!all.is_empty())
    }

    fn marks(&mut self, kind: &str, lists: &[Vec<ListEntry>; 2], now: Seconds) -> Result<BTreeSet<u8>> {
        let mut lengths = BTreeSet::new();
        for (entry, fact) in marked(lists, now) {
            let Ok(network) = entry.value.parse::<Network>() else { continue };
            lengths.insert(network.length_of_128());
            self.put(kind, &network_key(&network), &fact)?;
        }
        Ok(lengths)
    }

    /// Whether there is any.
    fn systems(&mut self, kind: &str, lists: &[Vec<ListEntry>; 2], now: Seconds) -> Result<bool> {
        let mut any = false;
        for (entry, fact) in marked(lists, now) {
            let Ok(asn) = entry.value.parse::<Asn>() else { continue };
            self.put(kind, asn.to_string().as_bytes(), &fact)?;
            any = true;
        }
        Ok(any)
    }

    fn subjects(&mut self, kind: &str, list: &[ListEntry], now: Seconds) -> Result<()> {
        running(list, now).try_for_each(|(entry, fact)| self.put(kind, entry.value.as_bytes(), &fact))?;
        running(list, now).try_for_each(|(entry, fact)| self.put_other(kind, &entry.value, &fact))
    }

    /// The same for the other spelling of a domain beyond ASCII, unless there is an entry of its own for that.
    fn put_other<T: serde::Serialize>(&mut self, kind: &str, key: &str, value: &T) -> Result<()> {
        let Some(other) = idn::other_spelling(key) else { return Ok(()) };
        let there = self
            .transaction
            .prepare_cached("SELECT 1 FROM fact WHERE kind = ?1 AND key = ?2")
            .and_then(|mut statement| statement.exists(params![kind, other.as_bytes()]))
            .map_err(Error::database("write to", self.path))?;
        if there { Ok(()) } else { self.put(kind, other.as_bytes(), value) }
    }

    fn allowances(&mut self, grants: &[entries::Grant], now: Seconds) -> Result<Vec<Allowance>> {
        let mut by_subject: BTreeMap<&str, Vec<Allowance>> = BTreeMap::new();
        for grant in grants.iter().filter(|g| now < g.until) {
            let allowance = Allowance { from: grant.source.clone(), until: grant.until };
            by_subject.entry(&grant.subject).or_default().push(allowance);
        }
        for (subject, list) in &by_subject {
            self.put(kind::ALLOWANCE, subject.as_bytes(), list)?;
        }
        for (subject, list) in &by_subject {
            self.put_other(kind::ALLOWANCE, subject, list)?;
        }
        Ok(by_subject.into_values().flatten().collect())
    }

    fn countries(
        &mut self,
        mut lists: BTreeMap<String, BTreeSet<Country>>,
        own: Option<Country>,
    ) -> Result<()> {
        lists.entry(SERVER.into()).or_default().extend(own);
        let others: Vec<_> = lists
            .iter()
            .filter_map(|(scope, list)| Some((idn::other_spelling(scope)?, list.clone())))
            .filter(|(scope, _)| !lists.contains_key(scope))
            .collect();
        lists.extend(others);
        for (scope, list) in &lists {
            self.put_text(kind::COUNTRIES, scope.as_bytes(), &entries::codes(list))?;
            for country in list.iter().filter(|_| scope != SERVER) {
                self.put_text(kind::SOMEWHERE_ALLOWED, country.to_string().as_bytes(), "")?;
            }
        }
        Ok(())
    }
}

/// Entries that hold still, with what a hook needs of them.
fn running(list: &[ListEntry], now: Seconds) -> impl Iterator<Item = (&ListEntry, Entry)> {
    let fact = |e: &ListEntry| Entry { until: e.until, sending: e.sending, not: false };
    list.iter().filter(move |e| e.holds(now)).map(move |e| (e, fact(e)))
}

/// The same of a list and of the one that says "not".
fn marked(lists: &[Vec<ListEntry>; 2], now: Seconds) -> impl Iterator<Item = (&ListEntry, Entry)> {
    let [list, not] = lists;
    running(list, now).chain(running(not, now).map(|(e, fact)| (e, Entry { not: true, ..fact })))
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
