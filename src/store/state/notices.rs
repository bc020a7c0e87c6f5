//! What the administrator is to be told; sent by `tick`.
//!
//! A hook inserts a row and knows nothing of channels. Each channel marks in a column of its own what it took, so one
//! that is down holds up no other. Numbers of rows have no gaps, so what fell off the cap before a channel took it is
//! known without a hook counting it: all that were queued, without those that were taken and those that wait.

use super::Unit;
use crate::clock::Seconds;
use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Notices that are kept; more than this wait only where nobody sends them, or within a flood.
const MOST: i64 = 10_000;

/// How long notices that were sent are kept, in seconds.
const KEPT: Seconds = 30 * 86_400;

/// What an owner of an account is told of, if owners are told at all.
const OF_OWNERS: &str = "'stopped', 'slowed', 'limit_waits'";

/// A way by which notices go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Mail to the Administration Email Address.
    Mail,
    /// A web server of root's choice.
    Webhook,
    /// A program of root's choice.
    Command,
    /// Mail to owners of accounts.
    Owner,
}

impl Channel {
    /// All of them, in the order in which they have their turn.
    pub const ALL: [Channel; 4] = [Channel::Mail, Channel::Owner, Channel::Webhook, Channel::Command];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Channel::Mail => "mail",
            Channel::Webhook => "webhook",
            Channel::Command => "command",
            Channel::Owner => "owner",
        }
    }

    fn column(self) -> &'static str {
        match self {
            Channel::Mail => "sent",
            other => other.name(),
        }
    }

    /// What waits for it, as a condition; `?1` is its base.
    fn waits(self) -> String {
        let kinds = match self {
            Channel::Owner => format!(" AND kind IN ({OF_OWNERS})"),
            _ => String::new(),
        };
        format!("id > ?1 AND {} IS NULL{kinds}", self.column())
    }
}

/// A notice that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Its number.
    pub id: i64,
    /// When the event happened.
    pub at: Seconds,
    /// `stopped`, `slowed`, `limit_waits`, `beyond_limit`, `over_limit`, `owner_allowance` or `owner_release`.
    pub kind: String,
    /// The account.
    pub account: String,
    /// What happened, as a sentence.
    pub detail: String,
}

/// What a channel has behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Notices up to this number are none of its business.
    pub base: i64,
    /// How many of the others it took.
    pub taken: i64,
    /// How many it told to have fallen off the cap.
    pub gone: i64,
    /// The rest.
    pub memory: Memory,
}

/// What a channel remembers from one minute to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// When the hour began in which notices go one by one up to the ceiling: with the first of them.
    pub hour: Option<Seconds>,
    /// Kind and account of those that went one by one within it.
    pub told: Vec<(String, String)>,
    /// How often sending failed since it went well.
    pub tries: u32,
    /// Since when it fails.
    pub failing_since: Option<Seconds>,
    /// When it is tried again.
    pub next: Seconds,
    /// Why it failed.
    pub error: String,
    /// When something was last sent.
    pub last: Option<Seconds>,
    /// When owners were last written to, by address.
    pub owners: BTreeMap<String, Seconds>,
}

/// Longest rest of a channel that fails, in seconds.
pub const LONGEST_REST: Seconds = 1800;

impl Memory {
    /// Whether the channel failed and rests for now. Nobody rests for longer, whatever was laid into the state.
    pub fn rests(&self, now: Seconds) -> bool {
        now < self.next && self.next <= now.saturating_add(LONGEST_REST)
    }
}

/// Queues a notice.
pub fn queue(t: &Unit, at: Seconds, kind: &str, account: &str, detail: &str) -> Result<()> {
    insert(t, at, kind, account, detail)?;
    keep_newest(t, MOST)
}

fn keep_newest(t: &Unit, most: i64) -> Result<()> {
    t.execute("DELETE FROM notice WHERE id <= ?1", [t.last_insert_rowid() - most])?;
    Ok(())
}

fn insert(t: &Unit, at: Seconds, kind: &str, account: &str, detail: &str) -> Result<()> {
    t.execute(
        "INSERT INTO notice(at, kind, account, detail) VALUES (?1, ?2, ?3, ?4)",
        params![at, kind, account, detail],
    )?;
    Ok(())
}

/// Where a channel stands; none before its first turn, and where it is not in use.
pub fn progress(db: &Connection, channel: Channel) -> Result<Option<Progress>> {
    // What mail users may have laid there begins anew.
    let memory = |text: String| serde_json::from_str(&text).unwrap_or_default();
    db.query_row(
        "SELECT base, taken, gone, memory FROM notice_channel WHERE channel = ?1",
        [channel.name()],
        |row| {
            let number = |column| row.get(column).unwrap_or_default();
            let memory = memory(row.get(3).unwrap_or_default());
            Ok(Progress { base: number(0), taken: number(1), gone: number(2), memory })
        },
    )
    .optional()
}

/// The same; begins it where it is missing. Mail gets what waits already, other channels what comes from now on.
pub fn begin(t: &Unit, channel: Channel) -> Result<Progress> {
    if let Some(there) = progress(t, channel)? {
        return Ok(there);
    }
    let last = last_number(t)?;
    let begun = match channel {
        Channel::Mail => Progress { taken: last - count_waiting(t, channel, 0)?, ..Progress::default() },
        _ => Progress { base: last, ..Progress::default() },
    };
    t.execute(
        "INSERT INTO notice_channel(channel, base, taken) VALUES (?1, ?2, ?3)",
        params![channel.name(), begun.base, begun.taken],
    )?;
    Ok(begun)
}

/// Forgets a channel that is no longer in use: nothing waits for it.
pub fn close(t: &Unit, channel: Channel) -> Result<()> {
    t.execute("DELETE FROM notice_channel WHERE channel = ?1", [channel.name()])?;
    Ok(())
}

fn last_number(db: &Connection) -> Result<i64> {
    db.query_row("SELECT coalesce(max(id), 0) FROM notice", [], |row| row.get(0))
}

/// How many wait for a channel.
pub fn count_waiting(db: &Connection, channel: Channel, base: i64) -> Result<i64> {
    db.query_row(&format!("SELECT count(*) FROM notice WHERE {}", channel.waits()), [base], |row| row.get(0))
}

/// Those that wait for a channel, oldest first. Mail users can write the state, so nothing is read at full length.
pub fn waiting(db: &Connection, channel: Channel, base: i64, most: i64) -> Result<Vec<Notice>> {
    let sql = format!(
        "SELECT id, at, substr(kind, 1, 64), substr(account, 1, 320), substr(detail, 1, 600) FROM notice
         WHERE {} ORDER BY id LIMIT ?2",
        channel.waits()
    );
    let mut found = db.prepare(&sql)?;
    let rows = found.query_map([base, most], |row| {
        Ok(Notice {
            id: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            account: row.get(3)?,
            detail: row.get(4)?,
        })
    })?;
    // A row of another form is none of ours, and keeps no other from being sent.
    rows.filter(|row| !matches!(row, Err(error) if error.sqlite_error_code().is_none())).collect()
}

/// All that wait for a channel, as many as there can be.
pub fn all_waiting(db: &Connection, channel: Channel, base: i64) -> Result<Vec<Notice>> {
    waiting(db, channel, base, MOST)
}

/// How many fell off the cap before a channel took them, and it has not told so.
pub fn fallen(db: &Connection, channel: Channel, progress: &Progress) -> Result<i64> {
    let queued = last_number(db)?.saturating_sub(progress.base);
    let behind = progress.taken.saturating_add(progress.gone);
    let waiting = count_waiting(db, channel, progress.base)?;
    Ok(queued.saturating_sub(behind).saturating_sub(waiting).max(0))
}

/// A channel took these, and told that so many are lost.
pub fn took(t: &Unit, channel: Channel, ids: &[i64], gone: i64, now: Seconds) -> Result<()> {
    let column = channel.column();
    let tries = if channel == Channel::Mail { ", tries = tries + 1" } else { "" };
    let mut mark =
        t.prepare(&format!("UPDATE notice SET {column} = ?2{tries} WHERE id = ?1 AND {column} IS NULL"))?;
    for id in ids {
        mark.execute(params![id, now])?;
    }
    // Also those that fell off meanwhile.
    let taken = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    t.execute(
        "UPDATE notice_channel SET taken = taken + ?2, gone = gone + ?3 WHERE channel = ?1",
        params![channel.name(), taken, gone],
    )?;
    Ok(())
}

/// Keeps what a channel remembers.
pub fn remember(t: &Unit, channel: Channel, memory: &Memory) -> Result<()> {
    let text = serde_json::to_string(memory).unwrap_or_default();
    t.execute("UPDATE notice_channel SET memory = ?2 WHERE channel = ?1", params![channel.name(), text])?;
    Ok(())
}

/// Notes that mail to the administrator did not take these.
pub fn not_taken(t: &Unit, ids: &[i64]) -> Result<()> {
    let mut mark = t.prepare("UPDATE notice SET tries = tries + 1 WHERE id = ?1")?;
    ids.iter().try_for_each(|id| mark.execute([id]).map(drop))
}

/// Forgets what every channel took a month ago. The latest stays whatever it is: the next one's number follows it.
pub fn prune(t: &Unit, now: Seconds) -> Result<()> {
    let mut sql = String::from("DELETE FROM notice WHERE sent < ?1 AND id < (SELECT max(id) FROM notice)");
    for channel in Channel::ALL.into_iter().filter(|c| *c != Channel::Mail) {
        if let Some(there) = progress(t, channel)? {
            sql += &format!(" AND NOT ({})", channel.waits().replace("?1", &there.base.to_string()));
        }
    }
    t.execute(&sql, [now - KEPT])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::in_memory;

    const NOON: Seconds = 1_700_000_000;

    fn accounts(db: &Connection, channel: Channel) -> Vec<String> {
        let base = progress(db, channel).unwrap().unwrap().base;
        all_waiting(db, channel, base).unwrap().into_iter().map(|n| n.account).collect()
    }

    fn fallen_off(db: &Connection, channel: Channel) -> i64 {
        fallen(db, channel, &progress(db, channel).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn what_one_channel_took_waits_for_another() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        queue(&t, NOON, "stopped", "before", "").unwrap();
        begin(&t, Channel::Webhook).unwrap();
        begin(&t, Channel::Owner).unwrap();
        queue(&t, NOON, "stopped", "alice@example.test", "").unwrap();
        queue(&t, NOON, "over_limit", "nobody", "").unwrap();
        assert_eq!(accounts(&t, Channel::Mail), ["before", "alice@example.test", "nobody"]);
        assert_eq!(accounts(&t, Channel::Webhook), ["alice@example.test", "nobody"]);
        assert_eq!(accounts(&t, Channel::Owner), ["alice@example.test"]);
        took(&t, Channel::Mail, &[1, 2, 3], 0, NOON).unwrap();
        assert_eq!(accounts(&t, Channel::Mail).len(), 0);
        assert_eq!(accounts(&t, Channel::Webhook), ["alice@example.test", "nobody"]);
        close(&t, Channel::Webhook).unwrap();
        assert_eq!(begin(&t, Channel::Webhook).unwrap().base, 3);
        assert_eq!(accounts(&t, Channel::Webhook).len(), 0);
    }

    #[test]
    fn what_fell_off_the_cap_is_counted_for_each_channel_exactly_once() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        let flood = |from: i64, to: i64| {
            for n in from..to {
                insert(&t, NOON, "stopped", &format!("user{n}"), "").unwrap();
                keep_newest(&t, 20).unwrap();
            }
        };
        flood(0, 10);
        begin(&t, Channel::Webhook).unwrap();
        took(&t, Channel::Mail, &[1, 2, 3], 0, NOON).unwrap();
        flood(10, 500);
        let left = accounts(&t, Channel::Mail);
        assert_eq!((left.len(), left[0].as_str()), (20, "user480"));
        assert_eq!((fallen_off(&t, Channel::Mail), fallen_off(&t, Channel::Webhook)), (477, 470));
        took(&t, Channel::Mail, &(481..=500).collect::<Vec<_>>(), 477, NOON).unwrap();
        assert_eq!((fallen_off(&t, Channel::Mail), fallen_off(&t, Channel::Webhook)), (0, 470));
        // Numbers go on although everything was pruned.
        took(&t, Channel::Webhook, &(481..=500).collect::<Vec<_>>(), 470, NOON).unwrap();
        prune(&t, NOON + KEPT + 1).unwrap();
        flood(500, 503);
        assert_eq!(accounts(&t, Channel::Mail), ["user500", "user501", "user502"]);
        assert_eq!((fallen_off(&t, Channel::Mail), fallen_off(&t, Channel::Webhook)), (0, 0));
    }

    #[test]
    fn what_was_sent_a_month_ago_is_forgotten_and_what_waits_for_any_channel_is_not() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        begin(&t, Channel::Webhook).unwrap();
        for account in ["both", "mail", "none", "last"] {
            queue(&t, NOON, "stopped", account, "").unwrap();
        }
        took(&t, Channel::Mail, &[1, 2, 4], 0, NOON).unwrap();
        took(&t, Channel::Webhook, &[1, 4], 0, NOON).unwrap();
        let rows = |t: &Unit| -> Vec<String> {
            let mut all = t.prepare("SELECT account FROM notice ORDER BY id").unwrap();
            all.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect()
        };
        prune(&t, NOON + KEPT).unwrap();
        assert_eq!(rows(&t).len(), 4);
        prune(&t, NOON + KEPT + 1).unwrap();
        assert_eq!(rows(&t), ["mail", "none", "last"]);
        close(&t, Channel::Webhook).unwrap();
        prune(&t, NOON + KEPT + 1).unwrap();
        assert_eq!(rows(&t), ["none", "last"]);
    }

    #[test]
    fn a_forged_memory_begins_anew() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        t.execute("UPDATE notice_channel SET memory = 'x', taken = 9223372036854775807", []).unwrap();
        let found = progress(&t, Channel::Mail).unwrap().unwrap();
        assert_eq!((&found.memory, fallen(&t, Channel::Mail, &found).unwrap()), (&Memory::default(), 0));
    }
}
