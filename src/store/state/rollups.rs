//! Roll-ups of the tally: by day and account, by hour and country.
//!
//! Sizes are bounded because outsiders choose names and places: names beyond [`MOST_ACCOUNTS`] and rows
//! beyond [`MOST_ROWS_A_DAY`] are counted under "everybody else" (account 0).

use super::{held, known_networks, sightings};
use crate::address::Network;
use crate::clock::Seconds;
use crate::country::Country;
use crate::request::{Door, MessageId, Service};
use crate::tally;
use rusqlite::{Connection, OptionalExtension, Result, Transaction, params};
use serde::{Deserialize, Serialize};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

/// Names that get a number of their own.
pub const MOST_ACCOUNTS: i64 = 200_000;

/// Rows of one day after which names are no longer told apart.
pub const MOST_ROWS_A_DAY: i64 = 200_000;

/// How much outsiders' choice of names can make it grow.
#[derive(Clone, Copy)]
struct Caps {
    accounts: i64,
    rows_a_day: i64,
}

const CAPS: Caps = Caps { accounts: MOST_ACCOUNTS, rows_a_day: MOST_ROWS_A_DAY };

/// Days that `login_day` keeps.
const DAYS: i64 = 35;

/// Days that `traffic_hour` keeps.
const TRAFFIC_DAYS: i64 = 400;

type DayKey = (i64, String, String, String, String, String);
type HourKey = (i64, &'static str, String, String, &'static str);

/// Counts of one tally file, in memory.
#[derive(Default)]
struct Counts {
    days: BTreeMap<DayKey, i64>,
    hours: BTreeMap<HourKey, i64>,
    doors: HashMap<(String, String), Seconds>,
    /// Logins that succeeded, by account, network and day.
    known: BTreeMap<(String, Network, i64), i64>,
}

/// Folds the lines of one file, named so that it is never folded twice. Times outside of what is kept are
/// taken for now.
pub fn fold(t: &Transaction, file: &str, text: &str, now: Seconds) -> Result<()> {
    fold_within(t, file, text, now, CAPS)
}

fn fold_within(t: &Transaction, file: &str, text: &str, now: Seconds, caps: Caps) -> Result<()> {
    let fresh = t.execute("INSERT OR IGNORE INTO folded(file, at) VALUES (?1, ?2)", params![file, now])?;
    if fresh == 0 {
        return Ok(());
    }
    let (mut counts, mut late) = (Counts::default(), Vec::new());
    for entry in text.lines().filter_map(tally::parse) {
        if let Some(held) = held_message(&entry, now) {
            late.push(held);
        } else if known_words(&entry) {
            counts.add(&entry, now);
        }
    }
    held::keep_late(t, &late)?;
    let succeeded = text.lines().filter_map(tally::parse).filter(|e| e.kind == tally::Kind::Success.name());
    if let Some(last) = succeeded.map(|e| e.at.min(now)).max() {
        sightings::note_success(t, last)?;
    }
    counts.write(t, caps)
}

/// A message that was held while the state could not be written.
fn held_message(entry: &tally::Entry, now: Seconds) -> Option<held::Held> {
    let message = MessageId::new(entry.verdict).ok().filter(|_| entry.kind == "held")?;
    let recipients = entry.reason.parse::<u32>().ok()?;
    let account = Some(entry.account).filter(|account| !account.is_empty())?;
    let (message, at) = (message.to_string(), entry.at.clamp(now - held::KEPT, now));
    Some(held::Held { message, account: account.into(), at, recipients: recipients.into() })
}

/// Only words that this program itself writes become rows.
fn known_words(entry: &tally::Entry) -> bool {
    let letters = |w: &str| w.len() <= 32 && w.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    Door::ALL.iter().any(|d| d.name() == entry.door)
        && Service::named(entry.service).name() == entry.service
        && (entry.country.is_empty() || entry.country.parse::<Country>().is_ok())
        && letters(entry.verdict)
        && letters(entry.reason)
}

impl Counts {
    fn add(&mut self, entry: &tally::Entry, now: Seconds) {
        let at = if entry.at > now || entry.at < now - DAYS * 86_400 { now } else { entry.at };
        let seen = self.doors.entry((entry.door.into(), entry.service.into())).or_insert(at);
        *seen = at.max(*seen);
        if let Ok(network) = entry.network.parse::<Network>()
            && !entry.account.is_empty()
        {
            *self.known.entry((entry.account.to_string(), network, at / 86_400)).or_default() += 1;
        }
        for (direction, what) in columns(entry) {
            let key = (at / 3600, *direction, entry.service.to_string(), entry.country.to_string(), *what);
            *self.hours.entry(key).or_default() += 1;
            let key = (
                at / 86_400,
                entry.account.to_string(),
                entry.country.to_string(),
                entry.service.to_string(),
                (*what).to_string(),
                entry.reason.to_string(),
            );
            *self.days.entry(key).or_default() += 1;
        }
    }

    fn write(self, t: &Transaction, caps: Caps) -> Result<()> {
        let mut accounts = Accounts::load(t, caps)?;
        let mut upsert = t.prepare(
            "INSERT INTO login_day VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET n = n + excluded.n",
        )?;
        for ((day, account, country, service, verdict, reason), n) in self.days {
            let account = accounts.number(t, &account, day)?;
            upsert.execute(params![day, account, country, service, verdict, reason, n])?;
        }
        let mut upsert = t.prepare(
            "INSERT INTO traffic_hour VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET n = n + excluded.n",
        )?;
        for ((hour, direction, service, country, verdict), n) in self.hours {
            upsert.execute(params![hour, direction, service, country, verdict, n])?;
        }
        for ((account, network, day), n) in self.known {
            let account = accounts.number(t, &account, day)?;
            if account != 0 {
                known_networks::add(t, account, &network, day, n)?;
            }
        }
        for ((name, service), last) in self.doors {
            t.execute(
                "INSERT INTO door VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
                params![name, service, last],
            )?;
        }
        Ok(())
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

/// Numbers of accounts, with the caps.
struct Accounts {
    left: i64,
    rows_a_day: i64,
    rows: HashMap<i64, i64>,
}

impl Accounts {
    fn load(t: &Transaction, caps: Caps) -> Result<Accounts> {
        let known: i64 = t.query_row("SELECT count(*) FROM account", [], |row| row.get(0))?;
        Ok(Accounts { left: caps.accounts - known, rows_a_day: caps.rows_a_day, rows: HashMap::new() })
    }

    fn number(&mut self, t: &Transaction, name: &str, day: i64) -> Result<i64> {
        let rows = match self.rows.entry(day) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(
                    t.query_row("SELECT count(*) FROM login_day WHERE day = ?1", [day], |row| row.get(0))?,
                )
            }
        };
        *rows += 1;
        if name.is_empty() || *rows > self.rows_a_day {
            return Ok(0);
        }
        let known = t
            .prepare_cached("SELECT id FROM account WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        match known {
            Some(id) => Ok(id),
            None if self.left <= 0 => Ok(0),
            None => {
                self.left -= 1;
                t.execute("INSERT INTO account(name) VALUES (?1)", [name])?;
                Ok(t.last_insert_rowid())
            }
        }
    }
}

/// Forgets what is older than it is kept for, and names that no row speaks of any more.
pub fn prune(t: &Transaction, now: Seconds) -> Result<()> {
    let old_days = t.execute("DELETE FROM login_day WHERE day < ?1", [now / 86_400 - DAYS])?;
    t.execute("DELETE FROM traffic_hour WHERE hour < ?1", [(now / 86_400 - TRAFFIC_DAYS) * 24])?;
    known_networks::prune(t, now)?;
    t.execute("DELETE FROM folded WHERE at < ?1", [now - 86_400])?;
    if old_days > 0 {
        t.execute(
            "DELETE FROM account WHERE id NOT IN (SELECT account FROM login_day)
             AND id NOT IN (SELECT account FROM known_network)",
            [],
        )?;
    }
    Ok(())
}

/// Figures of one country.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// `login` or `outbound`.
    pub direction: String,
    /// The service.
    pub service: String,
    /// The country's code; empty where unknown.
    pub country: String,
    /// `tried`, `refused`, `would_refuse`, `succeeded`, `failed`; `sent`, `held`.
    pub verdict: String,
    /// How many.
    pub n: i64,
}

/// Figures by country and service since this time.
pub fn by_country(db: &Connection, since: Seconds) -> Result<Vec<Figure>> {
    db.prepare(
        "SELECT direction, service, country, verdict, sum(n) FROM traffic_hour WHERE hour >= ?1
         GROUP BY direction, service, country, verdict ORDER BY direction, country, service, verdict",
    )?
    .query_map([since / 3600], |row| {
        Ok(Figure {
            direction: row.get(0)?,
            service: row.get(1)?,
            country: row.get(2)?,
            verdict: row.get(3)?,
            n: row.get(4)?,
        })
    })?
    .collect()
}

/// Figures of one account in one country.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFigure {
    /// The account; empty for everybody else together.
    pub account: String,
    /// The service.
    pub service: String,
    /// As [`Figure::verdict`].
    pub verdict: String,
    /// How many.
    pub n: i64,
}

/// Who was behind a country's figures since this time, the largest first.
pub fn accounts_in(db: &Connection, country: &str, since: Seconds, limit: i64) -> Result<Vec<AccountFigure>> {
    db.prepare(
        "SELECT coalesce(a.name, ''), l.service, l.verdict, sum(l.n) AS n
         FROM login_day l LEFT JOIN account a ON a.id = l.account
         WHERE l.country = ?1 AND l.day >= ?2
         GROUP BY l.account, l.service, l.verdict ORDER BY n DESC, a.name LIMIT ?3",
    )?
    .query_map(params![country, since / 86_400, limit], |row| {
        Ok(AccountFigure { account: row.get(0)?, service: row.get(1)?, verdict: row.get(2)?, n: row.get(3)? })
    })?
    .collect()
}

/// When each door asked last: name, service, time.
pub fn doors(db: &Connection) -> Result<Vec<(String, String, Seconds)>> {
    db.prepare("SELECT name, service, last FROM door ORDER BY name, service")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::in_memory;

    const NOON: Seconds = 1_700_000_000;

    /// A line of the tally, as `tally` writes it.
    fn line(at: Seconds, rest: &str) -> String {
        format!("2 {at} {rest}\n")
    }

    fn login(account: &str) -> String {
        line(NOON, &format!("try dovecot-gate imap DE - allow country_allowed {account}"))
    }

    fn fold_one(db: &mut Connection, file: &str, text: &str, caps: Caps) {
        let t = db.transaction().unwrap();
        fold_within(&t, file, text, NOON, caps).unwrap();
        t.commit().unwrap();
    }

    fn figures(db: &Connection) -> Vec<(String, String, String, String, i64)> {
        let all = by_country(db, 0).unwrap().into_iter();
        all.map(|f| (f.direction, f.service, f.country, f.verdict, f.n)).collect()
    }

    fn figure(
        direction: &str,
        service: &str,
        country: &str,
        verdict: &str,
        n: i64,
    ) -> (String, String, String, String, i64) {
        (direction.into(), service.into(), country.into(), verdict.into(), n)
    }

    fn number(db: &Connection, sql: &str) -> i64 {
        db.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_message_that_was_held_and_not_recorded_is_listed_and_no_other_word_is_taken_for_one() {
        let mut db = in_memory();
        let line = |rest: &str| format!("2 {NOON} held exim-local local - - {rest}\n");
        let text = line("1xW1Xt-0000gn-1R 3 webuser")
            + &line("--option 3 webuser")
            + &line("1xW1Xt-0000go-1R -3 webuser")
            + &line("1xW1Xt-0000gp-1R 3 -")
            + &line("1xW1Xt-0000gq-1R 1 webuser").replacen("2 1", "2 9", 1);
        fold_one(&mut db, "fold-1", &text, CAPS);
        let held = held::list(&db, "").unwrap();
        let told: Vec<_> = held.iter().map(|h| (h.message.as_str(), h.recipients, h.at)).collect();
        assert_eq!(told, [("1xW1Xt-0000gn-1R", 3, NOON), ("1xW1Xt-0000gq-1R", 1, NOON)]);
        assert_eq!(figures(&db), []);
    }

    #[test]
    fn a_countrys_figures_are_told_by_account() {
        let mut db = in_memory();
        let text = login("alice@example.test").repeat(3) + &login("bob@example.test") + &login("-");
        fold_one(&mut db, "fold-1", &text, CAPS);
        let told: Vec<_> =
            accounts_in(&db, "DE", 0, 10).unwrap().into_iter().map(|f| (f.account, f.verdict, f.n)).collect();
        let row = |account: &str, n| (account.to_string(), "tried".to_string(), n);
        assert_eq!(told, [row("alice@example.test", 3), row("", 1), row("bob@example.test", 1)]);
        assert_eq!(accounts_in(&db, "FR", 0, 10).unwrap(), []);
    }

    #[test]
    fn tried_refused_and_succeeded_are_told_apart() {
        let mut db = in_memory();
        let lines = [
            "try dovecot-gate imap DE - allow country_allowed alice@example.test",
            "try dovecot-gate imap US - refuse country_not_allowed alice@example.test",
            "try dovecot-gate imap FR - would_refuse country_not_allowed alice@example.test",
            "use exim-mail smtp US - refuse country_not_allowed alice@example.test",
            "use exim-mail smtp FR - would_refuse country_not_allowed alice@example.test",
            "success exim-mail smtp DE - allow country_allowed alice@example.test",
            "send exim-data smtp DE - allow within_limit alice@example.test",
            "send exim-local local - - hold sending_stopped web",
            "send exim-data smtp DE - refuse over_limit alice@example.test",
            "send exim-data smtp DE - would_refuse would_stop alice@example.test",
        ];
        let text: String = lines.iter().map(|l| line(NOON, l)).collect();
        fold_one(&mut db, "fold-1", &text, CAPS);
        assert_eq!(
            figures(&db),
            [
                figure("login", "imap", "DE", "tried", 1),
                figure("login", "smtp", "DE", "succeeded", 1),
                figure("login", "imap", "FR", "tried", 1),
                figure("login", "imap", "FR", "would_refuse", 1),
                figure("login", "smtp", "FR", "succeeded", 1),
                figure("login", "smtp", "FR", "would_refuse", 1),
                figure("login", "imap", "US", "refused", 1),
                figure("login", "imap", "US", "tried", 1),
                figure("login", "smtp", "US", "refused", 1),
                figure("outbound", "local", "", "held", 1),
                figure("outbound", "smtp", "DE", "refused", 1),
                figure("outbound", "smtp", "DE", "sent", 2),
                figure("outbound", "smtp", "DE", "would_refuse", 1),
            ]
        );
        let doors: Vec<_> =
            doors(&db).unwrap().into_iter().map(|(name, service, _)| (name, service)).collect();
        let expected =
            [("dovecot-gate", "imap"), ("exim-data", "smtp"), ("exim-local", "local"), ("exim-mail", "smtp")];
        assert_eq!(doors, expected.map(|(name, service)| (name.to_string(), service.to_string())));
    }

    #[test]
    fn a_file_is_folded_once_however_often_it_is_met() {
        let mut db = in_memory();
        for _ in 0..3 {
            fold_one(&mut db, "fold-1", &login("alice@example.test"), CAPS);
        }
        assert_eq!(figures(&db), [figure("login", "imap", "DE", "tried", 1)]);
        fold_one(&mut db, "fold-2", &login("alice@example.test"), CAPS);
        assert_eq!(figures(&db), [figure("login", "imap", "DE", "tried", 2)]);
    }

    #[test]
    fn successes_make_networks_known_and_failures_do_not() {
        let mut db = in_memory();
        let lines = [
            "success dovecot-policy imap DE 5.9.0.0/24 allow ended alice@example.test",
            "success dovecot-policy imap DE 5.9.0.0/24 allow ended alice@example.test",
            "failure dovecot-policy imap BR - failed ended alice@example.test",
            "success dovecot-policy imap DE nonsense allow ended alice@example.test",
            "success dovecot-policy imap DE 5.9.1.0/24 allow ended -",
        ];
        let text: String = lines.iter().map(|l| line(NOON, l)).collect();
        fold_one(&mut db, "fold-1", &text, CAPS);
        let known = known_networks::of(&db, &"alice@example.test".parse().unwrap()).unwrap();
        let known: Vec<_> = known.iter().map(|k| (k.network.as_str(), k.n)).collect();
        assert_eq!(known, [("5.9.0.0/24", 2)]);
        assert!(figures(&db).contains(&figure("login", "imap", "BR", "failed", 1)), "{:?}", figures(&db));
    }

    #[test]
    fn half_lines_and_foreign_lines_are_left_out_and_the_rest_counts() {
        let mut db = in_memory();
        let good = login("alice@example.test");
        let broken = [
            &good[..good.len() / 2],
            "",
            "1",
            "\0\0\0",
            "3 1700000000 try dovecot-gate imap DE - allow country_allowed alice",
            "2 soon try dovecot-gate imap DE - allow country_allowed alice",
            "2 1700000000 try thiefs-door imap DE - allow country_allowed alice",
            "2 1700000000 try dovecot-gate gopher DE - allow country_allowed alice",
            "2 1700000000 try dovecot-gate imap DEU - allow country_allowed alice",
            "2 1700000000 try dovecot-gate imap DE - ALLOW country_allowed alice",
            "2 1700000000 try dovecot-gate imap DE - allow <script> alice",
            "2 1700000000 try dovecot-gate imap DE - allow country_allowed alice and bob",
            "2 1700000000 fly dovecot-gate imap DE - allow country_allowed alice",
            &format!("2 1700000000 try dovecot-gate imap DE - allow country_allowed {}", "a".repeat(600)),
        ];
        let text: String = broken.iter().map(|l| format!("{l}\n{good}")).collect();
        fold_one(&mut db, "fold-1", &text, CAPS);
        assert_eq!(figures(&db), [figure("login", "imap", "DE", "tried", broken.len() as i64)]);
    }

    #[test]
    fn a_time_outside_of_what_is_kept_counts_as_now() {
        let mut db = in_memory();
        let at = |at| line(at, "try dovecot-gate imap DE - allow country_allowed alice");
        let text = [at(0), at(-5), at(i64::MAX), at(NOON + 1), at(NOON - 36 * 86_400), at(NOON)].concat();
        fold_one(&mut db, "fold-1", &text, CAPS);
        assert_eq!(number(&db, "SELECT count(DISTINCT day) FROM login_day"), 1);
        assert_eq!(number(&db, "SELECT n FROM login_day"), 6);
    }

    #[test]
    fn a_flood_of_names_is_counted_under_everybody_else() {
        let mut db = in_memory();
        let caps = Caps { accounts: 10, rows_a_day: 1_000_000 };
        let names = |from: i64, to: i64| (from..to).map(|n| login(&format!("user{n}"))).collect::<String>();
        fold_one(&mut db, "fold-1", &names(0, 300), caps);
        fold_one(&mut db, "fold-2", &names(300, 600), caps);
        assert_eq!(number(&db, "SELECT count(*) FROM account"), 10);
        assert_eq!(number(&db, "SELECT count(*) FROM login_day"), 11);
        assert_eq!(number(&db, "SELECT n FROM login_day WHERE account = 0"), 590);
        // Whoever has a number keeps it.
        let known: String = db.query_row("SELECT name FROM account LIMIT 1", [], |row| row.get(0)).unwrap();
        fold_one(&mut db, "fold-3", &login(&known), caps);
        assert_eq!(number(&db, "SELECT n FROM login_day WHERE account = 0"), 590);
    }

    #[test]
    fn a_flood_of_rows_is_counted_under_everybody_else() {
        let mut db = in_memory();
        let caps = Caps { accounts: 1_000_000, rows_a_day: 25 };
        for file in 0..4 {
            let text: String = (0..100).map(|n| login(&format!("user{file}x{n}"))).collect();
            fold_one(&mut db, &format!("fold-{file}"), &text, caps);
        }
        assert!(number(&db, "SELECT count(*) FROM login_day") <= 26);
        assert_eq!(number(&db, "SELECT sum(n) FROM login_day"), 400);
    }

    #[test]
    fn what_is_older_than_it_is_kept_for_is_forgotten_with_the_names_that_only_it_knew() {
        let mut db = in_memory();
        fold_one(&mut db, "fold-1", &login("alice@example.test"), CAPS);
        let later = |days: i64| NOON + days * 86_400;
        let t = db.transaction().unwrap();
        prune(&t, later(35)).unwrap();
        assert_eq!(number(&t, "SELECT count(*) FROM account"), 1);
        fold(
            &t,
            "fold-2",
            &line(later(36), "try dovecot-gate imap DE - allow country_allowed bob"),
            later(36),
        )
        .unwrap();
        prune(&t, later(36)).unwrap();
        assert_eq!(number(&t, "SELECT count(*) FROM account WHERE name = 'bob'"), 1);
        assert_eq!(number(&t, "SELECT count(*) FROM account"), 1);
        assert_eq!(number(&t, "SELECT count(*) FROM login_day"), 1);
        assert_eq!(number(&t, "SELECT count(*) FROM traffic_hour"), 2);
        prune(&t, later(401)).unwrap();
        assert_eq!(number(&t, "SELECT count(*) FROM traffic_hour"), 1);
        assert_eq!(number(&t, "SELECT count(*) FROM folded"), 0);
    }
}
