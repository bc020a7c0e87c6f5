//! Failed logins by source, networks that were seen attacking, mailboxes under attack.
//!
//! Outsiders choose addresses and names, so every table here has a cap; what is oldest goes. Mailboxes get a row only
//! where a network is known that they were used well from, which no outsider can make.

use super::{Unit, known_networks};
use crate::account::Account;
use crate::address::{Address, Network};
use crate::clock::Seconds;
use crate::decide::attack::{self, Attack, Failure, Failures};
use crate::decide::login::Learned;
use crate::settings::{Mode, Settings};
use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// Sources that are remembered.
const MOST_SOURCES: i64 = 200_000;

/// Attack networks that are remembered.
const MOST_SIGHTINGS: i64 = 50_000;

/// Guarded mailboxes, and those with failures.
const MOST_GUARDS: i64 = 50_000;

/// Addresses of one network that are looked at.
const MOST_ATTACKING: i64 = 1000;

const DAY: Seconds = 86_400;

const FAILURES: &str = "SELECT failures, refused_until FROM source WHERE source = ?1";

/// A login that failed.
#[derive(Clone, Debug)]
pub struct Failed<'a> {
    /// Whose mailbox; none where the server did not tell.
    pub account: Option<&'a Account>,
    /// From where.
    pub address: Address,
    /// Stands for the password that was tried, where the server tells.
    pub guess: Option<u16>,
    /// The number of the mail service that logs in for its users from there (its AS): one network, as far as the networks
    /// of an account are counted.
    pub mail_service: Option<u32>,
}

/// A network that was seen attacking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The network, or the address.
    pub network: String,
    /// When it was marked.
    pub since: Seconds,
    /// The last failure that fired.
    pub last: Seconds,
    /// Until when it stays marked.
    pub until: Seconds,
    /// What was seen.
    pub why: String,
}

/// What one failure came to, as far as it is news.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Networks that are marked from now on.
    pub marked: Vec<Sighting>,
    /// The address is refused until then.
    pub burst_until: Option<Seconds>,
    /// The mailbox is guarded until then.
    pub guarded_until: Option<Seconds>,
    /// Every login seems to fail, so nothing was learned.
    pub outage: bool,
}

/// Learns from a failed login. `got_in_since`: whether anybody at all logged in well since then, as far as that is not
/// folded yet; asked where many owners fail at once.
pub fn learn(
    t: &Unit,
    failed: &Failed,
    settings: &Settings,
    now: Seconds,
    got_in_since: &dyn Fn(Seconds) -> bool,
) -> Result<News> {
    let scene = Scene::of(t, failed, settings, now)?;
    let mut news = News { outage: scene.is_outage(got_in_since)?, ..News::default() };
    if news.outage {
        return Ok(news);
    }
    news.guarded_until = scene.guard()?;
    scene.sources(&mut news)?;
    Ok(news)
}

/// One failure, with what it is judged by.
struct Scene<'a> {
    t: &'a Unit<'a>,
    failed: &'a Failed<'a>,
    settings: &'a Settings,
    now: Seconds,
    hash: Hash,
    /// The address as a source.
    own: Network,
    /// What failed from it before.
    before: Failures,
    /// Until when it is refused so far.
    refused_until: Seconds,
    /// Whether the mailbox was used well from there.
    known_here: bool,
    /// Whether anybody was.
    good_here: bool,
}

impl<'a> Scene<'a> {
    fn of(t: &'a Unit, failed: &'a Failed, settings: &'a Settings, now: Seconds) -> Result<Scene<'a>> {
        let here = Network::around(failed.address);
        let known_here = match failed.account {
            Some(account) => known_networks::knows(t, account, Some(&here), now)?,
            None => false,
        };
        let good_here = is_good(t, &here, now)?;
        let own = attack::own_source(failed.address);
        let (before, refused_until) = failures_of(t, FAILURES, &own.to_string())?;
        let hash = Hash::of_state(t)?;
        Ok(Scene { t, failed, settings, now, hash, own, before, refused_until, known_here, good_here })
    }

    fn mailbox(&self) -> u16 {
        self.hash.short(self.failed.account.map_or("", Account::name).as_bytes())
    }

    /// Where a server does not tell what was tried, each minute is another guess.
    fn guess(&self) -> u16 {
        self.failed.guess.unwrap_or_else(|| short(self.now / 60))
    }

    /// When owners fail from where they are known and nobody gets in, the server's own passwords are out of reach.
    fn is_outage(&self, got_in_since: &dyn Fn(Seconds) -> bool) -> Result<bool> {
        let last: Option<Seconds> = meta(self.t, "last_success")?;
        let last = last.filter(|last| *last <= self.now);
        let got_in_since = |since| last.is_some_and(|last| last >= since) || got_in_since(since);
        let began = self.outage()?.map(|until| until - attack::OUTAGE_LASTS);
        if let Some(began) = began {
            if !got_in_since(began - attack::OUTAGE_SILENCE) {
                return Ok(true);
            }
            self.keep_meta("outage_until", &0)?;
        }
        // A telephone that tries its old password all day says nothing of the server.
        if !self.known_here || self.before.has(&self.failure(true)) {
            return Ok(false);
        }
        let kept: Option<Vec<u8>> = meta(self.t, "owners_failed")?;
        let mut owners = Failures::read(&kept.unwrap_or_default());
        // By networks, since somebody who reads ten mailboxes fails ten times where he has changed his provider's password.
        let from = self.hash.short(self.place().as_bytes());
        owners.add(Failure { at: self.now, what: from, guess: short(self.now / 60), known: false });
        self.keep_meta("owners_failed", &owners.to_bytes())?;
        let is_outage =
            attack::may_be_an_outage(&owners, self.now) && !got_in_since(self.now - attack::OUTAGE_SILENCE);
        if is_outage {
            self.keep_meta("outage_until", &(self.now + attack::OUTAGE_LASTS))?;
        }
        Ok(is_outage)
    }

    fn failure(&self, known: bool) -> Failure {
        Failure { at: self.now, what: self.mailbox(), guess: self.guess(), known }
    }

    fn outage(&self) -> Result<Option<Seconds>> {
        let until: Option<Seconds> = meta(self.t, "outage_until")?;
        Ok(until.map(|until| until.min(self.now + attack::OUTAGE_LASTS)).filter(|until| *until > self.now))
    }

    fn keep_meta(&self, key: &str, value: &dyn rusqlite::ToSql) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO meta VALUES (?1, ?2)";
        self.t.prepare_cached(sql)?.execute(params![key, value]).map(|_| ())
    }

    /// Counts the networks that a mailbox is attacked from; gives the end where the guard begins.
    fn guard(&self) -> Result<Option<Seconds>> {
        let Some(account) = self.failed.account.filter(|_| !self.known_here) else { return Ok(None) };
        if !known_networks::knows(self.t, account, None, self.now)? {
            return Ok(None);
        }
        let (mut failures, guarded) =
            failures_of(self.t, "SELECT failures, until FROM guard WHERE account = ?1", account.name())?;
        let from = self.hash.long(self.place().as_bytes());
        let new = Failure { at: self.now, what: short(from >> 16), guess: short(from), known: false };
        let is_news = failures.add(new);
        let fires = attack::is_under_attack(&failures, self.settings, self.now);
        if !is_news && !fires {
            return Ok(None);
        }
        let until = if fires { self.now + self.settings.guard_duration } else { guarded };
        self.t.prepare_cached("INSERT OR REPLACE INTO guard VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            account.name(),
            failures.to_bytes(),
            self.now,
            until
        ])?;
        Ok(Some(until).filter(|_| fires && guarded <= self.now))
    }

    /// The network that counts as one where networks of an account are counted.
    fn place(&self) -> String {
        self.failed.mail_service.map_or_else(|| self.widest(), |number| format!("AS{number}"))
    }

    /// The widest network around the address.
    fn widest(&self) -> String {
        attack::around(self.failed.address).last().unwrap_or(&self.own).to_string()
    }

    /// Counts the failure within its address and the networks around it.
    fn sources(&self, news: &mut News) -> Result<()> {
        // Nobody rents the machines of a mail service that logs in for its users: what fails there are its users.
        if self.failed.mail_service.is_some() {
            return Ok(());
        }
        let known = self.known_here && is_owners_own(&self.before, self.mailbox(), self.now);
        let widest = self.widest();
        let before = self.before.clone();
        let Some(failures) = self.count_within(&self.own, before, &widest, known)? else { return Ok(()) };
        let found = attack::of_address(&failures, self.good_here, self.settings, self.now);
        if found.is_burst {
            news.burst_until = self.refuse()?;
        }
        if found.is_attacking {
            self.note_attacking()?;
        }
        if let Some(attack) = found.attack {
            let alone = self.good_here || matches!(attack, Attack::Mailboxes(_));
            let network = if alone { self.own } else { Network::around(self.failed.address) };
            // Where honest people are, an address is shared or changes hands.
            let days = if self.good_here { 1 } else { self.settings.attack_days };
            news.marked.extend(self.mark(&network, attack, days)?);
        }
        for network in attack::sources(self.failed.address).iter().skip(1) {
            let before = failures_of(self.t, FAILURES, &network.to_string())?.0;
            let failures = self.count_within(network, before, &widest, known)?;
            let good_there = is_good(self.t, network, self.now)?;
            let attacking = self.attacking_in(network, &widest)?;
            let found = attack::of_network(
                &failures.unwrap_or_default(),
                attacking,
                good_there,
                self.settings,
                self.now,
            );
            if let Some(attack) = found {
                news.marked.extend(self.mark(network, attack, self.settings.attack_days)?);
            }
        }
        Ok(())
    }

    /// Adds the failure to those of a source; none where it says nothing new.
    fn count_within(
        &self,
        source: &Network,
        mut failures: Failures,
        widest: &str,
        known: bool,
    ) -> Result<Option<Failures>> {
        if !failures.add(self.failure(known)) {
            return Ok(None);
        }
        self.t
            .prepare_cached(
                "INSERT INTO source(source, widest, failures, last) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET failures = excluded.failures, last = excluded.last",
            )?
            .execute(params![source.to_string(), widest, failures.to_bytes(), self.now])?;
        Ok(Some(failures))
    }

    /// Refuses the address for a while; gives the end where that begins.
    fn refuse(&self) -> Result<Option<Seconds>> {
        let until = self.now + self.settings.burst_duration;
        let sql = "UPDATE source SET refused_until = ?2 WHERE source = ?1";
        self.t.prepare_cached(sql)?.execute(params![self.own.to_string(), until])?;
        Ok(Some(until).filter(|_| self.refused_until <= self.now))
    }

    fn note_attacking(&self) -> Result<()> {
        let sql = "UPDATE source SET attacked = ?2 WHERE source = ?1";
        self.t.prepare_cached(sql)?.execute(params![self.own.to_string(), self.now]).map(|_| ())
    }

    /// How many addresses of the network attacked within a day.
    fn attacking_in(&self, network: &Network, widest: &str) -> Result<i64> {
        let sql = "SELECT source FROM source WHERE widest = ?1 AND attacked > ?2 LIMIT ?3";
        let mut statement = self.t.prepare_cached(sql)?;
        let attacked = statement
            .query_map(params![widest, self.now - DAY, MOST_ATTACKING], |row| row.get::<_, String>(0))?;
        let mut n = 0;
        for source in attacked {
            // Of one kind, so that overlapping is lying in it.
            let lies_in_it = source?
                .parse::<Network>()
                .is_ok_and(|s| s.length_of_128() >= network.length_of_128() && s.overlaps(network));
            n += i64::from(lies_in_it);
        }
        Ok(n)
    }

    fn mark(&self, network: &Network, attack: Attack, days: i64) -> Result<Option<Sighting>> {
        let (key, now) = (network.to_string(), self.now);
        let before = sighting_of(self.t, &key)?.filter(|s| s.until > now);
        let sighting = Sighting {
            network: key,
            since: before.as_ref().map_or(now, |s| s.since),
            last: now,
            until: now + days * DAY,
            why: attack.words(),
        };
        let Sighting { network, since, last, until, why } = &sighting;
        self.t
            .prepare_cached("INSERT OR REPLACE INTO sighting VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![network, since, last, until, why])?;
        Ok(Some(sighting).filter(|_| before.is_none()))
    }
}

pub(super) fn meta<T: rusqlite::types::FromSql>(db: &Connection, key: &str) -> Result<Option<T>> {
    let sql = "SELECT value FROM meta WHERE key = ?1";
    // Another type there is a forged one: as good as none.
    db.prepare_cached(sql)?.query_row([key], |row| Ok(row.get(0).ok())).optional().map(Option::flatten)
}

/// Hashes that mean nothing outside of this state.
struct Hash([u8; 16]);

impl Hash {
    fn of_state(t: &Unit) -> Result<Hash> {
        if let Some(hash) = Hash::kept(t)? {
            return Ok(hash);
        }
        t.execute("INSERT OR REPLACE INTO meta VALUES ('hash_key', randomblob(16))", [])?;
        Ok(Hash::kept(t)?.unwrap_or(Hash([0; 16])))
    }

    fn kept(db: &Connection) -> Result<Option<Hash>> {
        let kept: Option<Vec<u8>> = meta(db, "hash_key")?;
        Ok(kept.and_then(|key| key.try_into().ok()).map(Hash))
    }

    fn long(&self, bytes: &[u8]) -> i64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(bytes);
        i64::from_ne_bytes(hasher.finish().to_ne_bytes())
    }

    fn short(&self, bytes: &[u8]) -> u16 {
        short(self.long(bytes))
    }
}

/// The last sixteen bits.
fn short(number: i64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or_default()
}

/// Whether these failures of a source may be all of the mailbox's owner's own.
fn is_owners_own(failures: &Failures, mailbox: u16, now: Seconds) -> bool {
    failures.guesses_at(mailbox, now) < attack::OWNERS_GUESSES
}

/// Whether anybody was used well from this network before today.
fn is_good(db: &Connection, network: &Network, now: Seconds) -> Result<bool> {
    let sql = "SELECT 1 FROM good_network WHERE network = ?1 AND first < ?2 AND last >= ?3";
    let today = now / DAY;
    db.prepare_cached(sql)?.exists(params![network.to_string(), today, today - known_networks::DAYS])
}

/// A mailbox was used well from this network on these days, the first and the last.
pub(super) fn note_good(t: &Unit, network: &Network, (first_day, last_day): (i64, i64)) -> Result<()> {
    let first = match network.net() {
        ipnet::IpNet::V4(net) => Address::new(net.network().into()),
        ipnet::IpNet::V6(net) => Address::new(net.network().into()),
    };
    let sql = "INSERT INTO good_network VALUES (?1, ?2, ?3)
               ON CONFLICT DO UPDATE SET first = min(first, excluded.first), last = max(last, excluded.last)";
    for network in attack::around(first) {
        t.prepare_cached(sql)?.execute(params![network.to_string(), first_day, last_day])?;
    }
    Ok(())
}

/// Somebody logged in well at this time.
pub(super) fn note_success(t: &Unit, at: Seconds) -> Result<()> {
    let sql = "INSERT INTO meta VALUES ('last_success', ?1)
               ON CONFLICT DO UPDATE SET value = max(value, excluded.value)";
    t.prepare_cached(sql)?.execute([at]).map(|_| ())
}

/// Mail users can write the state: what is of another type there is empty here.
fn row(row: &rusqlite::Row) -> Result<Sighting> {
    let text = |i| row.get::<_, String>(i).unwrap_or_default();
    let time = |i| row.get(i).unwrap_or(0);
    Ok(Sighting { network: text(0), since: time(1), last: time(2), until: time(3), why: text(4) })
}

fn sighting_of(db: &Connection, network: &str) -> Result<Option<Sighting>> {
    let sql = "SELECT network, since, last, until, why FROM sighting WHERE network = ?1";
    db.prepare_cached(sql)?.query_row([network], row).optional()
}

/// What was learned that concerns this login. Who is known there is asked only where something was found: here, or by
/// others (`on_feed`).
pub fn gather(
    db: &Connection,
    account: Option<&Account>,
    address: Address,
    on_feed: bool,
    settings: &Settings,
    now: Seconds,
) -> Result<Learned> {
    let mut learned = Learned::default();
    let sources = attack::sources(address);
    if settings.attack_networks != Mode::Off {
        for network in &sources {
            let found = sighting_of(db, &network.to_string())?.filter(|s| s.until > now);
            // The narrowest says the most.
            let found = found.map(|s| (*network, s.why, s.until));
            learned.attack = learned.attack.or(found);
        }
    }
    if let Some(own) = sources.first().filter(|_| settings.burst_rule != Mode::Off) {
        let sql = "SELECT refused_until FROM source WHERE source = ?1 AND refused_until > ?2";
        learned.burst_until = until(db, sql, &own.to_string(), now)?;
    }
    if let Some(account) = account.filter(|_| settings.mailbox_guard != Mode::Off) {
        let sql = "SELECT until FROM guard WHERE account = ?1 AND until > ?2";
        learned.guarded_until = until(db, sql, account.name(), now)?;
    }
    let is_asked = on_feed
        || learned.attack.is_some()
        || learned.burst_until.is_some()
        || learned.guarded_until.is_some();
    if is_asked {
        add_known(db, account, address, now, &mut learned)?;
    }
    Ok(learned)
}

/// Adds who is known from there: what keeps owners from being refused for others.
pub fn add_known(
    db: &Connection,
    account: Option<&Account>,
    address: Address,
    now: Seconds,
    learned: &mut Learned,
) -> Result<()> {
    let here = Network::around(address);
    if let Some(account) = account {
        let own = attack::own_source(address);
        learned.known_here = known_networks::knows(db, account, Some(&here), now)?
            && may_be_owner(db, account, &own, now).unwrap_or(true);
        learned.knows_networks = known_networks::knows(db, account, None, now)?;
    }
    learned.good_here = is_good(db, &here, now)?;
    Ok(())
}

/// Whether the mailbox was not guessed at from this source.
fn may_be_owner(db: &Connection, account: &Account, source: &Network, now: Seconds) -> Result<bool> {
    let Some(hash) = Hash::kept(db)? else { return Ok(true) };
    let failures = failures_of(db, FAILURES, &source.to_string())?.0;
    Ok(is_owners_own(&failures, hash.short(account.name().as_bytes()), now))
}

/// Distinct failures of this address (an IPv6 one's /64) within an hour.
pub fn failures_lately(db: &Connection, address: Address, now: Seconds) -> Result<i64> {
    let (failures, _) = failures_of(db, FAILURES, &attack::own_source(address).to_string())?;
    Ok(failures.within(3600, now))
}

fn failures_of(db: &Connection, sql: &str, key: &str) -> Result<(Failures, Seconds)> {
    let row = |row: &rusqlite::Row| {
        let kept: Vec<u8> = row.get(0).unwrap_or_default();
        Ok((Failures::read(&kept), row.get(1).unwrap_or(0)))
    };
    Ok(db.prepare_cached(sql)?.query_row([key], row).optional()?.unwrap_or_default())
}

fn until(db: &Connection, sql: &str, key: &str, now: Seconds) -> Result<Option<Seconds>> {
    db.prepare_cached(sql)?
        .query_row(params![key, now], |row| Ok(row.get(0).ok()))
        .optional()
        .map(Option::flatten)
}

/// Networks that are marked now, and addresses that are refused for a burst, the last seen first.
pub fn list(db: &Connection, now: Seconds, most: i64) -> Result<Vec<Sighting>> {
    let sql = "SELECT network, since, last, until, why FROM sighting WHERE until > ?1
               UNION ALL
               SELECT source, last, last, refused_until, 'many logins failed within an hour' FROM source
               WHERE refused_until > ?1
               ORDER BY 3 DESC, 1, 4 DESC LIMIT ?2";
    db.prepare(sql)?.query_map([now, most], row)?.collect()
}

/// Takes the mark off a network, and forgets the failures within it; tells whether there was anything.
pub fn remove(t: &Unit, network: &Network) -> Result<bool> {
    let key = network.to_string();
    let marks = t.execute("DELETE FROM sighting WHERE network = ?1", [&key])?;
    let sources = t.execute("DELETE FROM source WHERE source = ?1 OR widest = ?1", [&key])?;
    Ok(marks + sources > 0)
}

/// Forgets what is old, and the oldest beyond the caps.
pub fn prune(t: &Unit, now: Seconds) -> Result<()> {
    prune_to(t, now, [MOST_SOURCES, MOST_SIGHTINGS, MOST_GUARDS])
}

fn prune_to(t: &Unit, now: Seconds, [sources, sightings, guards]: [i64; 3]) -> Result<()> {
    t.execute("DELETE FROM source WHERE last < ?1 AND refused_until < ?2", [now - attack::REMEMBERED, now])?;
    t.execute("DELETE FROM sighting WHERE until < ?1", [now])?;
    t.execute("DELETE FROM guard WHERE last < ?1 AND until < ?2", [now - DAY, now])?;
    t.execute("DELETE FROM good_network WHERE last < ?1", [now / DAY - known_networks::DAYS])?;
    for (table, key, most) in [
        ("source", "source", sources),
        ("sighting", "network", sightings),
        ("guard", "account", guards),
        ("good_network", "network", sources),
    ] {
        let over: i64 =
            t.query_row(&format!("SELECT count(*) - ?1 FROM {table}"), [most], |row| row.get(0))?;
        if over > 0 {
            let sql = format!(
                "DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM {table} ORDER BY last LIMIT ?1)"
            );
            t.execute(&sql, [over])?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "sightings_tests.rs"]
mod tests;
