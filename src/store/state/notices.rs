//! What the administrator is to be told; sent by `tick`.

use crate::clock::Seconds;
use rusqlite::{Connection, Result, Transaction, params};
use serde::{Deserialize, Serialize};

/// Notices that are kept; more than this wait only where nobody sends them.
const MOST: i64 = 10_000;

/// A notice that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its number.
    pub id: i64,
    /// When the event happened.
    pub at: Seconds,
    /// `stopped` or `over_limit`.
    pub kind: String,
    /// The account.
    pub account: String,
    /// What happened, as a sentence.
    pub detail: String,
    /// How often sending it failed.
    pub tries: i64,
}

/// Queues a notice.
pub fn queue(t: &Transaction, at: Seconds, kind: &str, account: &str, detail: &str) -> Result<()> {
    t.execute(
        "INSERT INTO notice(at, kind, account, detail) VALUES (?1, ?2, ?3, ?4)",
        params![at, kind, account, detail],
    )?;
    t.execute("DELETE FROM notice WHERE id <= ?1", [t.last_insert_rowid() - MOST])?;
    Ok(())
}

/// Those that wait, oldest first, a hundred at most.
pub fn waiting(db: &Connection) -> Result<Vec<Notice>> {
    db.prepare(
        "SELECT id, at, kind, account, detail, tries FROM notice WHERE sent IS NULL ORDER BY id LIMIT 100",
    )?
    .query_map([], |row| {
        Ok(Notice {
            id: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            account: row.get(3)?,
            detail: row.get(4)?,
            tries: row.get(5)?,
        })
    })?
    .collect()
}

/// Notes that it was handed to sendmail, or that this failed once more.
pub fn mark(t: &Transaction, id: i64, sent: Option<Seconds>) -> Result<()> {
    t.execute("UPDATE notice SET sent = ?2, tries = tries + 1 WHERE id = ?1", params![id, sent])?;
    Ok(())
}

/// Forgets what was sent a month ago.
pub fn prune(t: &Transaction, now: Seconds) -> Result<()> {
    t.execute("DELETE FROM notice WHERE sent < ?1", [now - 30 * 86_400])?;
    Ok(())
}
