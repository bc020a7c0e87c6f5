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
    /// `stopped`, `over_limit`, `owner_allowance` or `owner_release`.
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
    insert(t, at, kind, account, detail)?;
    keep_newest(t, MOST)
}

fn keep_newest(t: &Transaction, most: i64) -> Result<()> {
    t.execute("DELETE FROM notice WHERE id <= ?1", [t.last_insert_rowid() - most])?;
    Ok(())
}

fn insert(t: &Transaction, at: Seconds, kind: &str, account: &str, detail: &str) -> Result<()> {
    t.execute(
        "INSERT INTO notice(at, kind, account, detail) VALUES (?1, ?2, ?3, ?4)",
        params![at, kind, account, detail],
    )?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::in_memory;

    const NOON: Seconds = 1_700_000_000;

    fn accounts(db: &Connection) -> Vec<String> {
        waiting(db).unwrap().into_iter().map(|n| n.account).collect()
    }

    #[test]
    fn a_notice_waits_until_it_is_sent_and_failures_are_counted() {
        let mut db = in_memory();
        let t = db.transaction().unwrap();
        queue(&t, NOON, "stopped", "alice@example.test", "More than 150 messages.").unwrap();
        queue(&t, NOON, "over_limit", "nobody", "More than 150 messages.").unwrap();
        let first = waiting(&t).unwrap()[0].clone();
        assert_eq!(
            (first.kind.as_str(), first.account.as_str(), first.tries),
            ("stopped", "alice@example.test", 0)
        );
        mark(&t, first.id, None).unwrap();
        assert_eq!(waiting(&t).unwrap()[0].tries, 1);
        mark(&t, first.id, Some(NOON + 60)).unwrap();
        assert_eq!(accounts(&t), ["nobody"]);
    }

    #[test]
    fn notices_that_nobody_sends_never_go_over_the_cap() {
        let mut db = in_memory();
        let t = db.transaction().unwrap();
        for n in 0..500 {
            insert(&t, NOON, "stopped", &format!("user{n}"), "").unwrap();
            keep_newest(&t, 20).unwrap();
        }
        let left = accounts(&t);
        assert_eq!((left.len(), left[0].as_str()), (20, "user480"));
    }

    #[test]
    fn the_oldest_hundred_go_first() {
        let mut db = in_memory();
        let t = db.transaction().unwrap();
        (0..150).for_each(|n| queue(&t, NOON, "stopped", &format!("user{n}"), "").unwrap());
        let first = accounts(&t);
        assert_eq!((first.len(), first[0].as_str(), first[99].as_str()), (100, "user0", "user99"));
    }

    #[test]
    fn what_was_sent_a_month_ago_is_forgotten_and_what_waits_is_not() {
        let mut db = in_memory();
        let t = db.transaction().unwrap();
        queue(&t, NOON, "stopped", "sent", "").unwrap();
        mark(&t, t.last_insert_rowid(), Some(NOON)).unwrap();
        queue(&t, NOON, "stopped", "waits", "").unwrap();
        let rows =
            |t: &Transaction| t.query_row("SELECT count(*) FROM notice", [], |r| r.get::<_, i64>(0)).unwrap();
        prune(&t, NOON + 30 * 86_400).unwrap();
        assert_eq!(rows(&t), 2);
        prune(&t, NOON + 30 * 86_400 + 1).unwrap();
        assert_eq!((rows(&t), accounts(&t)), (1, vec!["waits".to_string()]));
    }
}
