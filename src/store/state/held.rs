//! Messages of local programs that Exim keeps frozen because their sender is stopped.

use super::Unit;
use crate::clock::Seconds;
use rusqlite::{Connection, Result, params};
use serde::{Deserialize, Serialize};

/// How long a message stays on the list, in seconds.
pub const KEPT: Seconds = 14 * 86_400;

/// A held message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Exim's name for it.
    pub message: String,
    /// The sender.
    pub account: String,
    /// Since when.
    pub at: Seconds,
    /// How many recipients it has.
    pub recipients: i64,
}

/// Notes that the message is held.
pub fn keep(t: &Unit, held: &Held) -> Result<()> {
    t.execute(
        "INSERT OR REPLACE INTO held(message, account, at, recipients) VALUES (?1, ?2, ?3, ?4)",
        params![held.message, held.account, held.at, held.recipients],
    )?;
    Ok(())
}

/// Most messages that are noted late: mail users can write any lines. As many as the ceiling of one account can be.
const MOST_LATE: i64 = 100_000;

/// Notes what was held while the state could not be written, where it was not noted since.
pub fn keep_late(t: &Unit, late: &[Held]) -> Result<()> {
    if late.is_empty() {
        return Ok(());
    }
    let noted: i64 = t.query_row("SELECT count(*) FROM held", [], |row| row.get(0))?;
    let room = usize::try_from(MOST_LATE - noted).unwrap_or(0);
    let mut insert = t.prepare_cached(
        "INSERT OR IGNORE INTO held(message, account, at, recipients) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for held in late.iter().take(room) {
        insert.execute(params![held.message, held.account, held.at, held.recipients])?;
    }
    Ok(())
}

/// All held messages, oldest first; of one account where one is named.
pub fn list(db: &Connection, account: &str) -> Result<Vec<Held>> {
    db.prepare("SELECT message, account, at, recipients FROM held WHERE ?1 = '' OR account = ?1 ORDER BY at, message")?
        .query_map([account], |row| {
            Ok(Held { message: row.get(0)?, account: row.get(1)?, at: row.get(2)?, recipients: row.get(3)? })
        })?
        .collect()
}

/// Forgets the message: it was released or removed. Gives how many rows that were.
pub fn forget(t: &Unit, message: &str) -> Result<usize> {
    t.execute("DELETE FROM held WHERE message = ?1", [message])
}

/// Forgets what was held longer than Exim keeps a frozen message on most servers, so that messages which are
/// gone do not fill the ceiling for ever; and what claims to come from the future. Gives how many.
pub fn prune(t: &Unit, now: Seconds) -> Result<usize> {
    t.execute("DELETE FROM held WHERE at < ?1 OR at > ?2", [now - KEPT, now + 86_400])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::in_memory;

    fn message(name: &str, account: &str, at: Seconds) -> Held {
        Held { message: name.into(), account: account.into(), at, recipients: 1 }
    }

    #[test]
    fn held_messages_are_listed_oldest_first_and_forgotten_one_by_one() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        for held in [message("b-b-b", "web", 2), message("a-a-a", "web", 1), message("c-c-c", "shop", 3)] {
            keep(&t, &held).unwrap();
        }
        let names =
            |account: &str| list(&t, account).unwrap().into_iter().map(|h| h.message).collect::<Vec<_>>();
        assert_eq!(names(""), ["a-a-a", "b-b-b", "c-c-c"]);
        assert_eq!(names("web"), ["a-a-a", "b-b-b"]);
        forget(&t, "a-a-a").unwrap();
        forget(&t, "no-such-one").unwrap();
        assert_eq!(names("web"), ["b-b-b"]);
    }

    #[test]
    fn what_is_noted_late_is_what_was_not_noted_before() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        keep(&t, &message("a-a-a", "web", 1)).unwrap();
        keep_late(&t, &[message("a-a-a", "shop", 2), message("b-b-b", "web", 3)]).unwrap();
        assert_eq!(list(&t, "").unwrap(), [message("a-a-a", "web", 1), message("b-b-b", "web", 3)]);
        let flood: Vec<_> = (0..MOST_LATE + 5).map(|n| message(&format!("x-{n}-x"), "web", 4)).collect();
        keep_late(&t, &flood).unwrap();
        keep_late(&t, &flood).unwrap();
        assert_eq!(list(&t, "").unwrap().len(), MOST_LATE as usize);
    }

    #[test]
    fn a_message_that_is_held_twice_is_one_message() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        keep(&t, &message("a-a-a", "web", 1)).unwrap();
        keep(&t, &message("a-a-a", "web", 9)).unwrap();
        assert_eq!(list(&t, "").unwrap(), [message("a-a-a", "web", 9)]);
    }

    #[test]
    fn after_two_weeks_a_message_no_longer_counts_towards_the_ceiling() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        let now = 1_700_000_000;
        for (name, at) in
            [("old-a-b", now - KEPT - 1), ("young-a-b", now - KEPT), ("ahead-a-b", now + 90_000)]
        {
            keep(&t, &message(name, "web", at)).unwrap();
        }
        assert_eq!(prune(&t, now).unwrap(), 2);
        assert_eq!(list(&t, "").unwrap(), [message("young-a-b", "web", now - KEPT)]);
    }
}
