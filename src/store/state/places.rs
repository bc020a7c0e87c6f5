//! Where logins succeed: accounts by country (table `account_place`), networks by country, with how often on each of the
//! last days.
//!
//! "Who logged in from there within so many days" is answered by reading the rows of one country, which hold all days,
//! however long the span. Outsiders cannot choose these rows: only who knows a
//! password makes one. A thief who has one can make many, so both tables are capped, the latest stay.

use super::names::{Seen, numbers};
use super::rollups::Retention;
use super::{Unit, account_places};
use crate::clock::Seconds;
use crate::country::Country;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Accounts in a country, and networks, that are kept.
const MOST: i64 = 500_000;

/// Most days that one row tells apart.
const MOST_DAYS: usize = 100;

/// How often on each day, from the last one backwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Days {
    pub(super) last: i64,
    pub(super) counts: Vec<u32>,
}

impl Days {
    /// Most days that are told apart.
    pub(super) const MOST: usize = MOST_DAYS;

    /// As stored. Whatever lies in the state makes some days.
    pub(super) fn read(last: i64, blob: &[u8]) -> Days {
        let word = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
        Days { last, counts: blob.chunks_exact(4).take(MOST_DAYS).map(word).collect() }
    }

    pub(super) fn write(&self) -> Vec<u8> {
        self.counts.iter().flat_map(|n| n.to_le_bytes()).collect()
    }

    /// Adds so many on this day; days before the oldest of `kept` are dropped. A last day in the future, from
    /// before the clock was set back, counts as today.
    pub(super) fn add(&mut self, day: i64, n: i64, today: i64, kept: i64) {
        let kept = usize::try_from(kept).unwrap_or(0).clamp(1, MOST_DAYS);
        self.last = self.last.min(today);
        if self.counts.is_empty() {
            self.last = day;
        }
        let later = usize::try_from(day.saturating_sub(self.last)).unwrap_or(0);
        if later > 0 {
            self.counts.splice(0..0, std::iter::repeat_n(0, later.min(kept)));
            self.last = day;
        }
        self.counts.truncate(kept);
        let ago = usize::try_from(self.last.saturating_sub(day)).unwrap_or(usize::MAX);
        if ago < kept {
            if self.counts.len() <= ago {
                self.counts.resize(ago + 1, 0);
            }
            self.counts[ago] = self.counts[ago].saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
        while self.counts.last() == Some(&0) {
            self.counts.pop();
        }
    }
}

/// How often since this day, the day itself among them, as [`Days`] are stored.
pub(super) fn since_in(last: i64, blob: &[u8], day: i64) -> u64 {
    let days = usize::try_from(last.saturating_sub(day).saturating_add(1)).unwrap_or(0);
    let word = |b: &[u8]| b.try_into().map_or(0, u32::from_le_bytes);
    blob.chunks_exact(4).take(days.min(MOST_DAYS)).map(|b| u64::from(word(b))).sum()
}

/// Adds so many good logins of these days from a network.
pub(super) fn add_network(
    t: &Unit,
    (country, network): (&str, &str),
    of_days: &[(i64, i64)],
    (today, kept): (i64, i64),
) -> Result<()> {
    let stored = t
        .prepare_cached("SELECT last, days FROM login_network WHERE country = ?1 AND network = ?2")?
        .query_row(params![country, network], |row| {
            Ok(Days::read(row.get(0)?, row.get_ref(1)?.as_blob().unwrap_or_default()))
        })
        .optional()?;
    let mut days = stored.unwrap_or_default();
    for (day, n) in of_days {
        days.add(*day, *n, today, kept);
    }
    t.prepare_cached(
        "INSERT INTO login_network VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET last = excluded.last, days = excluded.days",
    )?
    .execute(params![country, network, days.last, days.write()])?;
    Ok(())
}

/// Somebody's good logins.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Logins<Who> {
    /// Who, or from where.
    pub who: Who,
    /// How many.
    pub n: u64,
    /// The last day.
    pub last: i64,
}

/// The most logins of those that are met: no more is kept of the others.
struct Most<Who> {
    limit: usize,
    found: Vec<Logins<Who>>,
    /// Whoever has fewer is not among them.
    least: u64,
}

impl<Who: Ord> Most<Who> {
    fn of(limit: usize) -> Most<Who> {
        Most { limit, found: Vec::new(), least: 0 }
    }

    /// Whether anybody with so many can be among them. Of equals those come first that stand first in their order:
    /// where they are met in it, one more is none.
    fn takes(&self, n: u64, in_order: bool) -> bool {
        self.limit > 0 && (n > self.least || (n == self.least && !in_order))
    }

    fn take(&mut self, new: Logins<Who>) {
        self.found.push(new);
        if self.found.len() >= self.limit.saturating_mul(2) {
            self.found.select_nth_unstable_by(self.limit - 1, by_weight);
            self.found.truncate(self.limit);
            self.least = self.found[self.limit - 1].n;
        }
    }

    fn sorted(mut self) -> Vec<Logins<Who>> {
        self.found.sort_unstable_by(by_weight);
        self.found.truncate(self.limit);
        self.found
    }
}

fn by_weight<Who: Ord>(a: &Logins<Who>, b: &Logins<Who>) -> std::cmp::Ordering {
    b.n.cmp(&a.n).then_with(|| a.who.cmp(&b.who))
}

/// How many are meant, and how many logins they had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sum {
    /// Accounts or networks.
    pub who: u64,
    /// Logins that succeeded.
    pub logins: u64,
}

impl Sum {
    /// One more, with so many logins.
    pub fn add(&mut self, n: u64) {
        self.who += 1;
        self.logins = self.logins.saturating_add(n);
    }
}

/// Accounts that may be seen and logged in well from a country since this day, the most logins first, so many at most;
/// and the sum of all of them.
pub fn accounts_in(
    db: &Connection,
    country: &str,
    since: i64,
    limit: usize,
    seen: &Seen,
) -> Result<(Vec<Logins<String>>, Sum)> {
    let (mut most, mut sum) = (Most::of(limit), Sum::default());
    account_places::visit(db, country, since, |who, n, last| {
        if seen.holds(who) {
            sum.add(n);
            if most.takes(n, false) {
                most.take(Logins { who, n, last });
            }
        }
    })?;
    let named = |l: Logins<i64>| Ok(Logins { who: name_of(db, l.who)?, n: l.n, last: l.last });
    Ok((most.sorted().into_iter().map(named).collect::<Result<_>>()?, sum))
}

/// Networks from which anybody logged in well from a country since this day, the most logins first, so many at most;
/// and the sum of all of them.
pub fn networks_in(
    db: &Connection,
    country: &str,
    since: i64,
    limit: usize,
) -> Result<(Vec<Logins<String>>, Sum)> {
    let (mut most, mut sum) = (Most::of(limit), Sum::default());
    let mut statement = db.prepare_cached(NETWORKS)?;
    let mut rows = statement.query([country])?;
    while let Some(row) = rows.next()? {
        let last = row.get(0)?;
        let n = since_in(last, row.get_ref(1)?.as_blob().unwrap_or_default(), since);
        if n > 0 {
            sum.add(n);
            // A name is looked at, and copied, only where it counts.
            if most.takes(n, true) {
                most.take(Logins { who: row.get(2)?, n, last });
            }
        }
    }
    Ok((most.sorted(), sum))
}

pub(super) const NETWORKS: &str =
    "SELECT last, days, network FROM login_network WHERE country = ?1 ORDER BY network";

/// The account of this number; empty for everybody else.
fn name_of(db: &Connection, account: i64) -> Result<String> {
    let mut statement = db.prepare_cached("SELECT name FROM account WHERE id = ?1")?;
    Ok(statement.query_row([account], |row| row.get(0)).optional()?.unwrap_or_default())
}

/// The countries in which this account logged in well since this day, the most logins first.
pub fn countries_of(db: &Connection, account: i64, since: i64) -> Result<Vec<Logins<String>>> {
    let mut found: Vec<Logins<String>> = Vec::new();
    account_places::of_account(db, account, since, |who, n, last| found.push(Logins { who, n, last }))?;
    found.sort_by(by_weight);
    Ok(found)
}

/// Which lists of countries would hold for whom, as proposed. Names are keys: an account, or `@domain`.
#[derive(Clone, Debug, Default)]
pub struct Proposal {
    /// The server's list; none where it is not asked about.
    pub server: Option<BTreeSet<Country>>,
    /// Lists of accounts and domains, and whether each is asked about: those that are not still take their
    /// accounts away from the next level's.
    pub lists: Vec<(String, BTreeSet<Country>, bool)>,
    /// Who is not asked for a country at all.
    pub exempt: Vec<String>,
    /// Temporary allowances by country.
    pub allowances: Vec<(String, Country)>,
}

/// Whom a proposal would have refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// All of them.
    pub sum: Sum,
    /// By country's code, the most logins first.
    pub countries: Vec<(String, Sum)>,
    /// The most logins first, as many as asked for.
    pub accounts: Vec<Refusal>,
    /// Logins of the same accounts from an unknown, private or local address, which are not told apart.
    pub unknown: u64,
    /// All logins of the accounts whose own or domain's list is asked about.
    pub of_lists: u64,
    /// All logins of the accounts that may be seen, where that is not everybody.
    pub of_seen: u64,
}

/// One account that would have been refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// Who; empty for everybody else together.
    pub account: String,
    /// How many logins.
    pub n: u64,
    /// The last day.
    pub last: i64,
    /// The same for each country, by its code, the most first.
    pub places: Vec<Logins<String>>,
}

/// Logins of an account in a country that would have been refused.
pub(super) struct Met {
    pub(super) account: i64,
    /// Its place in a list of countries.
    pub(super) country: usize,
    pub(super) n: u64,
    pub(super) last: i64,
}

/// Sums up whom they concern; `limit` accounts are named, the others counted alone.
pub(super) fn sum_up(
    db: &Connection,
    mut met: Vec<Met>,
    countries: &[String],
    limit: usize,
) -> Result<Refused> {
    // They come country by country, and within each in order: that is what this sort is good at.
    met.sort_by_key(|m| (m.account, m.country));
    met.dedup_by(|again, first| {
        let same = (again.account, again.country) == (first.account, first.country);
        if same {
            first.n = first.n.saturating_add(again.n);
            first.last = first.last.max(again.last);
        }
        same
    });
    let (mut refused, mut by_country) = (Refused::default(), vec![Sum::default(); countries.len()]);
    let mut accounts: Vec<(u64, &[Met])> = Vec::new();
    for of_one in met.chunk_by(|a, b| a.account == b.account) {
        let n = of_one.iter().fold(0u64, |sum, m| sum.saturating_add(m.n));
        refused.sum.add(n);
        of_one.iter().for_each(|m| by_country[m.country].add(m.n));
        accounts.push((n, of_one));
    }
    refused.countries = countries.iter().cloned().zip(by_country).filter(|(_, sum)| sum.who > 0).collect();
    refused.countries.sort_by(|a, b| b.1.logins.cmp(&a.1.logins).then_with(|| a.0.cmp(&b.0)));
    let by_weight = |a: &(u64, &[Met]), b: &(u64, &[Met])| {
        b.0.cmp(&a.0).then_with(|| a.1[0].account.cmp(&b.1[0].account))
    };
    if limit < accounts.len() {
        accounts.select_nth_unstable_by(limit, by_weight);
        accounts.truncate(limit);
    }
    accounts.sort_unstable_by(by_weight);
    for (n, of_one) in accounts {
        let place = |m: &Met| Logins { who: countries[m.country].clone(), n: m.n, last: m.last };
        let mut places: Vec<_> = of_one.iter().map(place).collect();
        places.sort_by(|a, b| b.n.cmp(&a.n).then_with(|| a.who.cmp(&b.who)));
        let last = of_one.iter().map(|m| m.last).max().unwrap_or(0);
        refused.accounts.push(Refusal { account: name_of(db, of_one[0].account)?, n, last, places });
    }
    Ok(refused)
}

/// Who is meant by the keys of a proposal, by number.
struct Meant {
    list: HashMap<i64, usize>,
    exempt: HashSet<i64>,
    allowed: HashSet<(i64, String)>,
}

impl Meant {
    fn find(db: &Connection, proposal: &Proposal) -> Result<Meant> {
        let mut list = HashMap::new();
        // The account's own list comes before its domain's.
        for domains in [true, false] {
            for (n, (key, ..)) in proposal.lists.iter().enumerate() {
                if key.starts_with('@') == domains {
                    list.extend(numbers(db, key)?.into_iter().map(|id| (id, n)));
                }
            }
        }
        let mut exempt = HashSet::new();
        for key in &proposal.exempt {
            exempt.extend(numbers(db, key)?);
        }
        let mut allowed = HashSet::new();
        for (key, country) in &proposal.allowances {
            allowed.extend(numbers(db, key)?.into_iter().map(|id| (id, country.to_string())));
        }
        Ok(Meant { list, exempt, allowed })
    }

    /// Accounts with a list of their own, or of their domain, that is asked about.
    fn asked<'a>(&'a self, proposal: &'a Proposal) -> impl Iterator<Item = i64> + 'a {
        self.list.iter().filter(|(_, list)| proposal.lists[**list].2).map(|(account, _)| *account)
    }
}

/// Accounts up to which each is looked up; more are met on a walk through all.
const FEW: usize = 500;

/// Whom of those that may be seen the proposal would have refused since this day: `limit` of the accounts by name.
pub fn refused_by(
    db: &Connection,
    proposal: &Proposal,
    since: i64,
    limit: usize,
    seen: &Seen,
) -> Result<Refused> {
    let meant = Meant::find(db, proposal)?;
    let mut walk = Walk { proposal, meant: &meant, met: Vec::new(), unknown: 0, of_lists: 0, of_seen: 0 };
    let mut countries = account_places::countries(db)?;
    match seen {
        Seen::These(few) if few.len() <= FEW => walk.look_up(db, few.iter(), since, &mut countries)?,
        Seen::These(_) => walk.through(db, &countries, since, seen, true)?,
        Seen::All => {
            let asked: Vec<i64> = meant.asked(proposal).collect();
            let many = asked.len() > FEW;
            walk.through(db, &countries, since, seen, many)?;
            if !many {
                walk.look_up(db, asked.into_iter(), since, &mut countries)?;
            }
        }
    }
    let Walk { met, unknown, of_lists, of_seen, .. } = walk;
    let of_seen = if matches!(seen, Seen::All) { 0 } else { of_seen };
    Ok(Refused { unknown, of_lists, of_seen, ..sum_up(db, met, &countries, limit)? })
}

/// What is met on the way through the rows.
struct Walk<'a> {
    proposal: &'a Proposal,
    meant: &'a Meant,
    met: Vec<Met>,
    unknown: u64,
    of_lists: u64,
    of_seen: u64,
}

impl Walk<'_> {
    /// Goes through all rows of each country in which anybody could be met. Whether accounts with lists of their own
    /// are met here, or looked up, is said.
    fn through(
        &mut self,
        db: &Connection,
        countries: &[String],
        since: i64,
        seen: &Seen,
        meets_own: bool,
    ) -> Result<()> {
        for (place, country) in countries.iter().enumerate() {
            if !meets_own && !self.is_refused_by_server(country) {
                continue;
            }
            account_places::visit(db, country, since, |account, n, last| {
                if seen.holds(account) {
                    self.take(Met { account, country: place, n, last }, country, meets_own);
                }
            })?;
        }
        Ok(())
    }

    /// Looks up each of these accounts.
    fn look_up(
        &mut self,
        db: &Connection,
        accounts: impl Iterator<Item = i64>,
        since: i64,
        countries: &mut Vec<String>,
    ) -> Result<()> {
        for account in accounts {
            for Logins { who, n, last } in countries_of(db, account, since)? {
                let found = countries.iter().position(|c| *c == who);
                let place = found.unwrap_or_else(|| {
                    countries.push(who.clone());
                    countries.len() - 1
                });
                self.take(Met { account, country: place, n, last }, &who, true);
            }
        }
        Ok(())
    }

    fn is_refused_by_server(&self, country: &str) -> bool {
        self.proposal.server.as_ref().is_some_and(|list| !holds(list, country))
    }

    fn take(&mut self, met: Met, country: &str, meets_own: bool) {
        self.of_seen = self.of_seen.saturating_add(met.n);
        let proposal = self.proposal;
        match self.meant.list.get(&met.account).map(|list| &proposal.lists[*list]) {
            None if self.is_refused_by_server(country) => self.meet(met, country),
            Some((_, list, true)) if meets_own => self.meet_own(met, country, list),
            _ => {}
        }
    }

    /// Logins of an account whose own or domain's list is asked about.
    fn meet_own(&mut self, met: Met, country: &str, list: &BTreeSet<Country>) {
        self.of_lists = self.of_lists.saturating_add(met.n);
        if !holds(list, country) {
            self.meet(met, country);
        }
    }

    /// Logins that the list would have refused, but for who is not asked.
    fn meet(&mut self, met: Met, country: &str) {
        let Meant { exempt, allowed, .. } = self.meant;
        let is_allowed = || !allowed.is_empty() && allowed.contains(&(met.account, country.to_string()));
        if exempt.contains(&met.account) || is_allowed() {
            return;
        }
        match country {
            "" => self.unknown = self.unknown.saturating_add(met.n),
            _ => self.met.push(met),
        }
    }
}

fn holds(list: &BTreeSet<Country>, code: &str) -> bool {
    code.parse().is_ok_and(|country: Country| list.contains(&country))
}

/// Forgets what was not used for as long as days are kept, and the oldest beyond the cap; `piece` rows of each
/// table at once.
pub(super) fn prune(t: &Unit, now: Seconds, retention: &Retention, piece: i64) -> Result<()> {
    let oldest = now / 86_400 - retention.login_days;
    account_places::prune(t, oldest, MOST, piece)?;
    prune_networks(t, oldest, MOST, piece)
}

fn prune_networks(t: &Unit, oldest: i64, most: i64, piece: i64) -> Result<()> {
    let forget = "DELETE FROM login_network WHERE (country, network) IN
         (SELECT country, network FROM login_network WHERE last < ?1 ORDER BY last LIMIT ?2)";
    t.execute(forget, [oldest, piece])?;
    let rows: i64 = t.query_row("SELECT count(*) FROM login_network", [], |row| row.get(0))?;
    if rows > most {
        t.execute(forget, [i64::MAX, (rows - most).min(piece)])?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
