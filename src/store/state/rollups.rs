//! Roll-ups of the tally: by hour, day and month, by account, country and reason.
//!
//! Sizes are bounded because outsiders choose names and places: names beyond those that [`names`] remembers, and
//! rows beyond [`MOST_ROWS_A_DAY`] and its like, are counted under "everybody else" (account 0). Rows of who
//! logged in well or sent have more room than rows that anybody can make.
//!
//! # Room
//!
//! A row takes its key, its figures that are not 0, a byte for each column and two for its place: 30 bytes for
//! `account_day`, and a half more as the pages are two thirds full, so 45. Of 100 mailboxes 60 are used on a day
//! and all in a month, with two services, one in twenty from a second country too:
//!
//! | table | rows | bytes | 5,000 mailboxes | 100,000 mailboxes |
//! |---|---|---|---|---|
//! | `account_day` | 35 days × 1.23 a mailbox | 45 | 9.7 MB | 194 MB |
//! | `account_month` | 13 months × 2.05 a mailbox | 45 | 6.0 MB | 120 MB |
//! | `account_place` with its indexes | 1.05 a mailbox (32 have a row) | 60 | 0.3 MB | 6.3 MB |
//! | `login_network` | 1.5 a mailbox | 45 + 4 × 5 | 0.5 MB | 10 MB |
//! | `known_network` with its index | 10 a mailbox | 65 | 3.3 MB | 65 MB |
//! | `account` with its indexes | 1 a mailbox | 150 | 0.8 MB | 15 MB |
//! | `domain_by_day` with its index | 0.2 a mailbox (five have a domain) | 500 | 0.5 MB | 10 MB |
//! | `domain_by_month` with its index | 0.2 a mailbox | 300 | 0.3 MB | 6 MB |
//! | `domain` with its indexes | 0.2 a mailbox | 130 | 0.1 MB | 2.6 MB |
//! | `login_day` with its index | 35 days × 1,000 in all | 100 | 3.5 MB | 3.5 MB |
//! | `activity` with its indexes | 50,000 in all | 350 | 17.5 MB | 17.5 MB |
//! | `traffic_hour` | 400 days × 24 × 60 in all | 40 | 23 MB | 23 MB |
//! | `traffic_day`, `traffic_month` | 400 × 400 and 13 × 500 in all | 40 | 6.7 MB | 6.7 MB |
//! | computed | | | 73 MB | 503 MB |
//! | measured before there were rows by domain (computed then: 72 and 474 MB) | | | 72 MB | 404 MB |
//!
//! A flood of names at its worst adds, in rows that tell of no good login, 35 × 100,000 days' and 13 × 200,000 months'
//! rows (275 MB), 35 × 50,000 with a reason (175 MB), 100,000 names (15 MB), and by domain 100,000 rows of days and of
//! months (57 MB) and 50,000 names (6 MB).
//!
//! `scripts/bench admin` fills such states and measures them.

use super::domains::{self, News, Put};
use super::names::{self, Known, Names};
use super::{Unit, account_places, activity, figures, held, known_networks, logs, places, sightings};
use crate::address::Network;
use crate::clock::Seconds;
use crate::country::Country;
use crate::request::{Door, MessageId, Service};
use crate::settings::Settings;
use crate::tally;
use rusqlite::{Connection, OptionalExtension, Result, ToSql, params, params_from_iter};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

/// How long figures are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days of Activity.
    pub activity_days: i64,
    /// Days of figures by account.
    pub login_days: i64,
    /// Months of figures by account, this one among them.
    pub login_months: i64,
    /// Days of figures by the hour.
    pub traffic_days: i64,
}

impl From<&Settings> for Retention {
    fn from(settings: &Settings) -> Retention {
        Retention {
            activity_days: settings.keep_activity_days,
            login_days: settings.keep_login_days,
            login_months: settings.keep_login_months,
            traffic_days: settings.keep_traffic_days,
        }
    }
}

/// Days of figures by country and day: they say nothing of anybody, and a year is answered from them.
pub const COUNTRY_DAYS: i64 = 400;

/// Months of figures by country.
const COUNTRY_MONTHS: i64 = 14;

/// Rows by account of one day after which accounts are no longer told apart.
pub const MOST_ROWS_A_DAY: i64 = 300_000;

/// The same for a month.
pub const MOST_ROWS_A_MONTH: i64 = 500_000;

/// Rows of one day that tell of no good login and no message, so that anybody can make them.
pub const MOST_IDLE_ROWS_A_DAY: i64 = 100_000;

/// The same for a month.
pub const MOST_IDLE_ROWS_A_MONTH: i64 = 200_000;

/// Rows with a reason of one day.
pub const MOST_REASONS_A_DAY: i64 = 50_000;

/// Rows of one table that are removed in a minute. What is left waits for the next.
const PIECE: i64 = 20_000;

/// How much outsiders' choice of names can make it grow.
#[derive(Clone, Copy)]
struct Caps {
    names: names::Most,
    domains: names::Most,
    rows_by_domain: Room,
    day: Room,
    month: Room,
    reasons: i64,
}

/// Room for rows: of all kinds, and of those that tell of no good login and no message.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) all: i64,
    pub(super) idle: i64,
}

const CAPS: Caps = Caps {
    names: names::ACCOUNTS,
    domains: names::DOMAINS,
    rows_by_domain: domains::ROOM,
    day: Room { all: MOST_ROWS_A_DAY, idle: MOST_IDLE_ROWS_A_DAY },
    month: Room { all: MOST_ROWS_A_MONTH, idle: MOST_IDLE_ROWS_A_MONTH },
    reasons: MOST_REASONS_A_DAY,
};

/// What is counted of an account: logins, then messages.
pub const COLUMNS: [&str; 9] = [
    "tried",
    "refused",
    "would_refuse",
    "succeeded",
    "failed",
    "sent",
    "sending_refused",
    "sending_would_refuse",
    "held",
];

/// The same by direction and what happened, as figures by country have it; in the order of [`COLUMNS`].
pub const HEADS: [(&str, &str); COLUMNS.len()] = [
    ("login", "tried"),
    ("login", "refused"),
    ("login", "would_refuse"),
    ("login", "succeeded"),
    ("login", "failed"),
    ("outbound", "sent"),
    ("outbound", "refused"),
    ("outbound", "would_refuse"),
    ("outbound", "held"),
];

/// How often, in the order of [`COLUMNS`].
pub type Uses = [i64; COLUMNS.len()];

/// Places of these in [`COLUMNS`].
const TRIED: usize = 0;
pub(super) const SUCCEEDED: usize = 3;
const FAILED: usize = 4;
pub(super) const SENT: usize = 5;

/// Columns for which a reason is kept.
const WITH_REASON: [&str; 5] = ["refused", "would_refuse", "sending_refused", "sending_would_refuse", "held"];

type UseKey<'a> = (i64, Cow<'a, str>, &'a str, &'a str);
type ReasonKey<'a> = (i64, Cow<'a, str>, &'a str, &'a str, &'static str, &'a str);
type HourKey<'a> = (i64, &'static str, &'a str, &'a str, &'static str);
type KnownKey<'a> = (Cow<'a, str>, &'a str, Network, i64);

/// Counts of one tally file, or of a piece of a log, in memory. What was read is borrowed.
#[derive(Default)]
struct Counts<'a> {
    /// By day, account, country and service.
    days: BTreeMap<UseKey<'a>, Uses>,
    /// By day, account, country, service, what, and reason.
    reasons: BTreeMap<ReasonKey<'a>, i64>,
    hours: BTreeMap<HourKey<'a>, i64>,
    doors: HashMap<(&'a str, &'a str), Seconds>,
    /// Logins that succeeded, by account, country, network and day.
    known: BTreeMap<KnownKey<'a>, i64>,
}

/// Folds the lines of one file, named so that it is never folded twice. Times outside of what is kept are
/// taken for now.
pub fn fold(t: &Unit, file: &str, text: &str, now: Seconds, retention: &Retention) -> Result<()> {
    fold_within(t, file, text, now, retention, CAPS)
}

fn fold_within(
    t: &Unit,
    file: &str,
    text: &str,
    now: Seconds,
    retention: &Retention,
    caps: Caps,
) -> Result<()> {
    let fresh = t.execute("INSERT OR IGNORE INTO folded(file, at) VALUES (?1, ?2)", params![file, now])?;
    if fresh == 0 {
        return Ok(());
    }
    let (mut counts, mut late, mut succeeded) = (Counts::default(), Vec::new(), None);
    for entry in text.lines().filter_map(tally::parse) {
        if entry.kind == tally::Kind::Success.name() {
            succeeded = succeeded.max(Some(entry.at.min(now)));
        }
        if let Some(held) = held_message(&entry, now) {
            late.push(held);
        } else if known_words(&entry) {
            counts.add(&entry, now, retention);
        }
    }
    held::keep_late(t, &late)?;
    if let Some(last) = succeeded {
        sightings::note_success(t, last)?;
    }
    let names = Names::load(t, caps.names, caps.domains)?;
    Writer { t, names, caps, now, retention, rows: HashMap::new() }.write(counts)
}

/// Logins of one account from one place on one day, as logs tell of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FromLogs<'a> {
    /// Who, as names are written in the tally; empty where nobody is named.
    pub account: &'a str,
    /// The day.
    pub day: i64,
    /// The service's name.
    pub service: &'static str,
    /// The country's code, empty where unknown.
    pub country: &'a str,
    /// The network that becomes known by a success.
    pub network: Option<Network>,
    /// Successes that count in figures.
    pub succeeded: i64,
    /// Failures that count in figures.
    pub failed: i64,
    /// Successes that make the network known.
    pub known: i64,
}

/// Events of one hour from one country: hour, direction and what happened, service, country, how many.
pub type HourFromLogs<'a> = (i64, (&'static str, &'static str), &'static str, &'a str, i64);

/// Adds what was gathered from logs. Figures by account of days for which none are kept any more are left out.
pub fn add_from_logs(
    t: &Unit,
    logins: &[FromLogs],
    hours: &[HourFromLogs],
    now: Seconds,
    retention: &Retention,
) -> Result<()> {
    add_within(t, logins, hours, now, retention, CAPS)
}

fn add_within(
    t: &Unit,
    logins: &[FromLogs],
    hours: &[HourFromLogs],
    now: Seconds,
    retention: &Retention,
    caps: Caps,
) -> Result<()> {
    let (mut counts, today) = (Counts::default(), now / 86_400);
    for login in logins {
        let (account, country) = (Cow::Borrowed(login.account), login.country);
        if login.succeeded + login.failed > 0 && login.day > today - retention.login_days {
            let key = (login.day, account.clone(), country, login.service);
            let uses = counts.days.entry(key).or_default();
            uses[TRIED] += login.succeeded + login.failed;
            uses[SUCCEEDED] += login.succeeded;
            uses[FAILED] += login.failed;
        }
        if let Some(network) = login.network.filter(|_| login.known > 0 && !account.is_empty()) {
            *counts.known.entry((account, country, network, login.day)).or_default() += login.known;
        }
    }
    for (hour, (direction, what), service, country, n) in hours {
        let key = (*hour, *direction, *service, *country, *what);
        *counts.hours.entry(key).or_default() += n;
    }
    let names = Names::load(t, caps.names, caps.domains)?;
    Writer { t, names, caps, now, retention, rows: HashMap::new() }.write(counts)
}

/// A message that was held while the state could not be written.
fn held_message(entry: &tally::Entry, now: Seconds) -> Option<held::Held> {
    let message = MessageId::new(entry.verdict).ok().filter(|_| entry.kind == "held")?;
    let recipients = entry.reason.parse::<u32>().ok()?;
    let account = Some(&entry.account).filter(|account| !account.is_empty())?;
    let (message, at) = (message.to_string(), entry.at.clamp(now - held::KEPT, now));
    Some(held::Held { message, account: account.to_string(), at, recipients: recipients.into() })
}

/// Only words that this program itself writes become rows.
fn known_words(entry: &tally::Entry) -> bool {
    let letters = |w: &str| w.len() <= 32 && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    Door::ALL.iter().any(|d| d.name() == entry.door)
        && Service::named(entry.service).name() == entry.service
        && (entry.country.is_empty() || entry.country.parse::<Country>().is_ok())
        && letters(entry.verdict)
        && tally::reasons(entry.reason).all(letters)
}

impl<'a> Counts<'a> {
    fn add(&mut self, entry: &tally::Entry<'a>, now: Seconds, retention: &Retention) {
        let oldest = now - retention.login_days * 86_400;
        let at = if entry.at > now || entry.at < oldest { now } else { entry.at };
        let seen = self.doors.entry((entry.door, entry.service)).or_insert(at);
        *seen = at.max(*seen);
        let (day, account) = (at / 86_400, &entry.account);
        let (country, service) = (entry.country, entry.service);
        if let Ok(network) = entry.network.parse::<Network>()
            && entry.kind == "success"
        {
            *self.known.entry((account.clone(), country, network, day)).or_default() += 1;
        }
        for (direction, what) in columns(entry) {
            let key = (at / 3600, *direction, service, country, *what);
            *self.hours.entry(key).or_default() += 1;
            let Some(n) = HEADS.iter().position(|head| head == &(*direction, *what)) else { continue };
            let (key, column) = ((day, account.clone(), country, service), COLUMNS[n]);
            self.days.entry(key).or_default()[n] += 1;
            if WITH_REASON.contains(&column) {
                let reasons: BTreeSet<&str> = tally::reasons(entry.reason).collect();
                for reason in reasons {
                    let key = (day, account.clone(), country, service, column, reason);
                    *self.reasons.entry(key).or_default() += 1;
                }
            }
        }
    }
}

/// Under which heads a line counts: direction and what happened. A refused try is a try too.
fn columns(entry: &tally::Entry) -> &'static [(&'static str, &'static str)] {
    match (entry.kind, entry.verdict) {
        ("try", "refuse") => &[("login", "tried"), ("login", "refused")],
        ("try", "would_refuse") => &[("login", "tried"), ("login", "would_refuse")],
        ("try", _) => &[("login", "tried")],
        ("use", "refuse") => &[("login", "refused")],
        ("use", "would_refuse") => &[("login", "would_refuse"), ("login", "succeeded")],
        ("success", _) => &[("login", "succeeded")],
        ("failure", _) => &[("login", "failed")],
        ("send", "allow") => &[("outbound", "sent")],
        ("send", "hold") => &[("outbound", "held")],
        ("send", "refuse") => &[("outbound", "refused")],
        ("send", "would_refuse") => &[("outbound", "sent"), ("outbound", "would_refuse")],
        _ => &[],
    }
}

/// Writes counts into the state, within the caps.
struct Writer<'a> {
    t: &'a Unit<'a>,
    names: Names,
    caps: Caps,
    now: Seconds,
    retention: &'a Retention,
    /// Rows that a day or month of a table has: all of them, and the idle ones.
    rows: HashMap<(&'static str, i64), Room>,
}

impl Writer<'_> {
    fn write(mut self, counts: Counts<'_>) -> Result<()> {
        self.hours(&counts.hours)?;
        self.accounts(&counts.days)?;
        self.reasons(&counts.reasons)?;
        self.known(&counts.known)?;
        self.keep_rows()?;
        for ((name, service), last) in counts.doors {
            self.t.execute(
                "INSERT INTO door VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
                params![name, service, last],
            )?;
        }
        Ok(())
    }

    fn hours(&self, hours: &BTreeMap<HourKey<'_>, i64>) -> Result<()> {
        for table in ["hour", "day", "month"] {
            let mut upsert = self.t.prepare(&format!(
                "INSERT INTO traffic_{table} VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET n = n + excluded.n"
            ))?;
            for ((hour, direction, service, country, verdict), n) in hours {
                let at = match table {
                    "hour" => *hour,
                    "day" => hour / 24,
                    _ => figures::month_of(hour / 24),
                };
                upsert.execute(params![at, direction, service, country, verdict, n])?;
            }
        }
        Ok(())
    }

    /// Whatever concerns one row is written once, however many days it comes from.
    fn accounts(&mut self, days: &BTreeMap<UseKey<'_>, Uses>) -> Result<()> {
        let kept = (self.now / 86_400, self.retention.login_days);
        let mut months: BTreeMap<(i64, i64, &str, &str), Uses> = BTreeMap::new();
        let mut places = account_places::News::new();
        let (mut of_days, mut of_months) = (News::new(), News::new());
        for ((day, name, country, service), uses) in days {
            let proves = uses[SUCCEEDED] > 0 || uses[SENT] > 0;
            let (account, domain) = self.names.number(self.t, name, *day, proves)?;
            let (country, service) = (*country, *service);
            let month = figures::month_of(*day);
            self.add(&DAY, *day, account.id, (country, service), uses)?;
            let monthly = if account.is_proven() { account.id } else { 0 };
            let sums = months.entry((month, monthly, country, service)).or_default();
            sums.iter_mut().zip(uses).for_each(|(sum, n)| *sum += n);
            if uses[SUCCEEDED] > 0 {
                places.entry((country, account.id)).or_default().push((*day, uses[SUCCEEDED]));
            }
            add_news(&mut of_days, domain.id, (country, service), *day, uses);
            let monthly = if domain.is_proven() { domain.id } else { 0 };
            add_news(&mut of_months, monthly, (country, service), month, uses);
        }
        for ((month, account, country, service), uses) in months {
            self.add(&MONTH, month, account, (country, service), &uses)?;
        }
        account_places::add(self.t, &places, kept)?;
        self.domains(domains::Table::Days, &of_days)?;
        self.domains(domains::Table::Months, &of_months)
    }

    fn domains(&self, table: domains::Table, news: &News) -> Result<()> {
        let kept = table.kept(self.now, self.retention);
        domains::put(self.t, table, news, Put::Add, kept, self.caps.rows_by_domain)
    }

    /// Adds to the account's row. One that has none gets one while there is room, and is counted under everybody
    /// else then.
    fn add(
        &mut self,
        table: &ByAccount,
        at: i64,
        account: i64,
        row: (&str, &str),
        uses: &Uses,
    ) -> Result<()> {
        if account == 0 {
            return self.add_to_everybody(table, at, row, uses);
        }
        if self.update(table, at, account, row, uses)? {
            return Ok(());
        }
        let is_idle = uses[SUCCEEDED] == 0 && uses[SENT] == 0;
        match self.takes(table.name, at, is_idle, (table.room)(&self.caps))? {
            true => self.insert(table, at, account, row, uses),
            false => self.add_to_everybody(table, at, row, uses),
        }
    }

    fn add_to_everybody(&self, table: &ByAccount, at: i64, row: (&str, &str), uses: &Uses) -> Result<()> {
        match self.update(table, at, 0, row, uses)? {
            true => Ok(()),
            false => self.insert(table, at, 0, row, uses),
        }
    }

    /// Whether there was a row.
    fn update(
        &self,
        table: &ByAccount,
        at: i64,
        account: i64,
        row: (&str, &str),
        uses: &Uses,
    ) -> Result<bool> {
        Ok(self.with_row(&table.update, at, account, row, uses)? > 0)
    }

    fn insert(&self, table: &ByAccount, at: i64, account: i64, row: (&str, &str), uses: &Uses) -> Result<()> {
        self.with_row(&table.insert, at, account, row, uses).map(|_| ())
    }

    fn with_row(&self, sql: &str, at: i64, account: i64, row: (&str, &str), uses: &Uses) -> Result<usize> {
        let key: [&dyn ToSql; 4] = [&at, &account, &row.0, &row.1];
        let uses = uses.iter().map(|n| n as &dyn ToSql);
        self.t.prepare_cached(sql)?.execute(params_from_iter(key.into_iter().chain(uses)))
    }

    fn reasons(&mut self, reasons: &BTreeMap<ReasonKey<'_>, i64>) -> Result<()> {
        for ((day, name, country, service, what, reason), n) in reasons {
            let (Known { id: account, .. }, _) = self.names.number(self.t, name, *day, false)?;
            let add = |account: i64, sql: &str| -> Result<usize> {
                self.t.prepare_cached(sql)?.execute(params![day, account, country, service, what, reason, n])
            };
            let update = "UPDATE login_day SET n = n + ?7 WHERE day = ?1 AND account = ?2 AND country = ?3
                 AND service = ?4 AND verdict = ?5 AND reason = ?6";
            let insert = "INSERT INTO login_day VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            if add(account, update)? > 0 {
                continue;
            }
            let room = Room { all: self.caps.reasons, idle: self.caps.reasons };
            let account = if self.takes("login_day", *day, false, room)? { account } else { 0 };
            let add = |sql: &str| -> Result<usize> {
                self.t.prepare_cached(sql)?.execute(params![day, account, country, service, what, reason, n])
            };
            if add(update)? == 0 {
                add(insert)?;
            }
        }
        Ok(())
    }

    fn known(&mut self, known: &BTreeMap<KnownKey<'_>, i64>) -> Result<()> {
        let kept = (self.now / 86_400, self.retention.login_days);
        let mut of_accounts: BTreeMap<(i64, Network), known_networks::Uses> = BTreeMap::new();
        let mut networks: BTreeMap<(&str, Network), BTreeMap<i64, i64>> = BTreeMap::new();
        for ((name, country, network, day), n) in known {
            let (network, day, n) = (*network, *day, *n);
            let (Known { id: account, .. }, _) = self.names.number(self.t, name, day, true)?;
            if account != 0 {
                let uses = known_networks::Uses::on(day, n);
                let sum =
                    of_accounts.entry((account, network)).or_insert(known_networks::Uses { n: 0, ..uses });
                *sum = sum.and(uses);
            }
            // What is learned of long ago makes a network known, and no figures.
            if day > kept.0 - kept.1 {
                *networks.entry((country, network)).or_default().entry(day).or_default() += n;
            }
        }
        for ((account, network), uses) in of_accounts {
            known_networks::add(self.t, account, &network, uses)?;
        }
        for ((country, network), days) in networks {
            let days: Vec<(i64, i64)> = days.into_iter().collect();
            places::add_network(self.t, (country, &network.to_string()), &days, kept)?;
        }
        Ok(())
    }

    /// Whether there is room for one more row, which is counted then.
    fn takes(&mut self, table: &'static str, at: i64, is_idle: bool, room: Room) -> Result<bool> {
        let rows = match self.rows.get(&(table, at)) {
            Some(rows) => *rows,
            None => rows_of(self.t, table, at)?,
        };
        let fits = rows.all < room.all && (!is_idle || rows.idle < room.idle);
        let rows = Room { all: rows.all + i64::from(fits), idle: rows.idle + i64::from(fits && is_idle) };
        self.rows.insert((table, at), rows);
        Ok(fits)
    }

    /// Keeps how many rows there are now.
    fn keep_rows(&self) -> Result<()> {
        for ((table, at), rows) in &self.rows {
            self.t.execute(
                "INSERT OR REPLACE INTO room VALUES (?1, ?2, ?3, ?4)",
                params![table, at, rows.all, rows.idle],
            )?;
        }
        Ok(())
    }
}

/// Adds to what is to be put into a domain's row; what is nobody's is left out.
fn add_news<'a>(
    news: &mut News<'a>,
    domain: i64,
    (country, service): (&'a str, &'a str),
    at: i64,
    uses: &Uses,
) {
    if domain != 0 {
        let row = news.entry((domain, country.into(), service.into())).or_default();
        row.entry(at).or_default().iter_mut().zip(uses).for_each(|(sum, n)| *sum += n);
    }
}

fn rows_of(t: &Unit, table: &str, at: i64) -> Result<Room> {
    let kept = t
        .prepare_cached("SELECT n, idle FROM room WHERE name = ?1 AND at = ?2")?
        .query_row(params![table, at], |row| Ok(Room { all: row.get(0)?, idle: row.get(1)? }))
        .optional()?;
    Ok(kept.unwrap_or(Room { all: 0, idle: 0 }))
}

/// A table by account.
struct ByAccount {
    name: &'static str,
    room: fn(&Caps) -> Room,
    /// Adds to a row.
    update: LazyLock<String>,
    insert: LazyLock<String>,
}

static DAY: ByAccount = ByAccount {
    name: "account_day",
    room: |caps| caps.day,
    update: LazyLock::new(|| update_of("account_day", "day")),
    insert: LazyLock::new(|| insert_into("account_day")),
};

static MONTH: ByAccount = ByAccount {
    name: "account_month",
    room: |caps| caps.month,
    update: LazyLock::new(|| update_of("account_month", "month")),
    insert: LazyLock::new(|| insert_into("account_month")),
};

fn update_of(name: &str, span: &str) -> String {
    let figures: Vec<String> =
        COLUMNS.iter().zip(5..).map(|(column, n)| format!("{column} = {column} + ?{n}")).collect();
    let figures = figures.join(", ");
    format!(
        "UPDATE {name} SET {figures} WHERE {span} = ?1 AND account = ?2 AND country = ?3 AND service = ?4"
    )
}

fn insert_into(name: &str) -> String {
    format!("INSERT INTO {name} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)")
}

/// Forgets what is older than it is kept for, and names that no row speaks of any more; so much that it is done
/// in a moment, and the rest in the next minutes.
pub fn prune(t: &Unit, now: Seconds, retention: &Retention) -> Result<()> {
    prune_piece(t, now, retention, PIECE)
}

fn prune_piece(t: &Unit, now: Seconds, retention: &Retention, piece: i64) -> Result<()> {
    let today = now / 86_400;
    let by_account = "account, country, service";
    let by_country = "direction, service, country, verdict";
    let month = figures::month_of(today);
    for (table, span, rest, oldest) in [
        ("login_day", "day", "account, country, service, verdict, reason", today - retention.login_days),
        ("account_day", "day", by_account, today - retention.login_days),
        ("account_month", "month", by_account, month - retention.login_months + 1),
        ("traffic_hour", "hour", by_country, (today - retention.traffic_days) * 24),
        ("traffic_day", "day", by_country, today - COUNTRY_DAYS),
        ("traffic_month", "month", by_country, month - COUNTRY_MONTHS + 1),
    ] {
        let sql = format!(
            "DELETE FROM {table} WHERE ({span}, {rest}) IN
             (SELECT {span}, {rest} FROM {table} WHERE {span} < ?1 LIMIT ?2)"
        );
        t.execute(&sql, [oldest, piece])?;
    }
    places::prune(t, now, retention, piece)?;
    domains::prune(t, now, retention, piece)?;
    known_networks::prune(t, now, piece)?;
    names::prune(t, now, retention, piece)?;
    activity::prune(t, now - retention.activity_days * 86_400, piece)?;
    logs::prune(t, now, piece)?;
    t.execute("DELETE FROM folded WHERE at < ?1", [now - 86_400])?;
    let oldest = today - retention.login_days;
    t.execute(
        "DELETE FROM room WHERE at < CASE name WHEN 'account_month' THEN ?1 ELSE ?2 END",
        [month, oldest],
    )?;
    Ok(())
}

/// When each door asked last: name, service, time.
pub fn doors(db: &Connection) -> Result<Vec<(String, String, Seconds)>> {
    db.prepare("SELECT name, service, last FROM door ORDER BY name, service")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

#[cfg(test)]
#[path = "rollups_tests.rs"]
mod tests;
