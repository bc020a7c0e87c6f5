//! Windows and stops of senders.

use crate::account::Account;
use crate::clock::Seconds;
use crate::decide::send::SenderState;
use crate::decide::window::Window;
use rusqlite::{Connection, OptionalExtension, Result, Transaction, params};

/// Most senders that are kept. Names come from logins that succeeded or from local users, so outsiders
/// cannot fill this; the cap is against our own mistakes.
pub const MOST_SENDERS: i64 = 1_000_000;

/// A sender that is stopped.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Stop {
    /// The account.
    pub account: String,
    /// Since when.
    pub since: Seconds,
    /// Until when.
    pub until: Seconds,
    /// Stable key of the reason.
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
    /// What clients were told as reference.
    pub reference: String,
    /// How many messages were refused or held since.
    pub refused: i64,
    /// When the last of them came.
    pub last: Seconds,
}

impl Stop {
    fn read(row: &rusqlite::Row) -> Result<Stop> {
        Ok(Stop {
            account: row.get("account")?,
            since: row.get("since")?,
            until: row.get("until")?,
            reason: row.get("reason")?,
            detail: row.get("detail")?,
            reference: row.get("reference")?,
            refused: row.get("refused")?,
            last: row.get("last")?,
        })
    }
}

/// What is known of the sender; with the stop, where one is in force.
pub fn gather(db: &Connection, account: &Account) -> Result<(SenderState, Option<Stop>)> {
    let name = account.name();
    let sender = db
        .prepare("SELECT window, told_until FROM sender WHERE account = ?1")?
        .query_row([name], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)))
        .optional()?;
    let (window, told_until) = sender.unwrap_or_default();
    let stop = stop_of(db, account)?;
    let held = match &stop {
        Some(_) => db.query_row("SELECT count(*) FROM held WHERE account = ?1", [name], |row| row.get(0))?,
        None => 0,
    };
    let stopped_until = stop.as_ref().map(|s| s.until);
    Ok((SenderState { stopped_until, window: Window::read(&window), told_until, held }, stop))
}

/// The stop of this account, in force or over.
pub fn stop_of(db: &Connection, account: &Account) -> Result<Option<Stop>> {
    let mut statement = db.prepare("SELECT * FROM stop WHERE account = ?1")?;
    statement.query_row([account.name()], Stop::read).optional()
}

/// Every stop that is still in force.
pub fn stops(db: &Connection, now: Seconds) -> Result<Vec<Stop>> {
    db.prepare("SELECT * FROM stop WHERE until > ?1 ORDER BY since DESC")?
        .query_map([now], Stop::read)?
        .collect()
}

/// Keeps the window with the newest message in it.
pub fn keep_window(t: &Transaction, account: &Account, window: &Window, now: Seconds) -> Result<()> {
    t.prepare(
        "INSERT INTO sender(account, window, last) VALUES (?1, ?2, ?3)
         ON CONFLICT(account) DO UPDATE SET window = excluded.window, last = excluded.last",
    )?
    .execute(params![account.name(), window.stored(), now])?;
    Ok(())
}

/// Remembers that the administrator was told about this sender.
pub fn keep_told(t: &Transaction, account: &Account, told_until: Seconds) -> Result<()> {
    t.execute("UPDATE sender SET told_until = ?2 WHERE account = ?1", params![account.name(), told_until])?;
    Ok(())
}

/// Stops the account.
pub fn keep_stop(t: &Transaction, stop: &Stop) -> Result<()> {
    t.execute(
        "INSERT OR REPLACE INTO stop(account, since, until, reason, detail, reference, refused, last)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            stop.account,
            stop.since,
            stop.until,
            stop.reason,
            stop.detail,
            stop.reference,
            stop.refused,
            stop.last
        ],
    )?;
    Ok(())
}

/// Counts one more message of a stopped account. Its end never moves away; it comes nearer where the clock
/// was set back.
pub fn count_refused(t: &Transaction, account: &Account, until: Seconds, now: Seconds) -> Result<()> {
    t.execute(
        "UPDATE stop SET refused = refused + 1, last = ?2, until = min(until, ?3) WHERE account = ?1",
        params![account.name(), now, until],
    )?;
    Ok(())
}

/// Lifts the stop and forgets what was sent, so that the account can send its whole limit again at once.
/// Tells whether there was a stop.
pub fn release(t: &Transaction, account: &Account) -> Result<bool> {
    t.execute("UPDATE sender SET window = x'', told_until = NULL WHERE account = ?1", [account.name()])?;
    Ok(t.execute("DELETE FROM stop WHERE account = ?1", [account.name()])? > 0)
}

/// Forgets senders that were quiet for two days, stops that ended a month ago, and what is over the cap.
pub fn prune(t: &Transaction, now: Seconds) -> Result<()> {
    t.execute(
        "DELETE FROM sender WHERE last < ?1 AND coalesce(told_until, 0) < ?2",
        [now - 2 * 86_400, now],
    )?;
    t.execute("DELETE FROM stop WHERE until < ?1", [now - 30 * 86_400])?;
    let over: i64 = t.query_row("SELECT count(*) - ?1 FROM sender", [MOST_SENDERS], |row| row.get(0))?;
    if over > 0 {
        t.execute(
            "DELETE FROM sender WHERE account IN (SELECT account FROM sender ORDER BY last LIMIT ?1)",
            [over],
        )?;
    }
    Ok(())
}
