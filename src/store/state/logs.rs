//! Which parts of which logs were counted, so that no line counts twice.
//!
//! A log is known by its first line and a part of it by the last line before its end, and not by its name or its place
//! on the disk: rotation gives it other names, a compressed copy is another file, and a file that is emptied and
//! written anew stays the same one. For each purpose (logins, inbound) there are parts, which grow and grow together.
//!
//! What is written in several pieces, so that hooks need not wait, is remembered with the number of pieces that are
//! done: work that was broken off goes on where it was.

use super::Unit;
use crate::clock::Seconds;
use rusqlite::{Connection, OptionalExtension, Result, params};
use serde::{Deserialize, Serialize};

/// Parts that are remembered.
const MOST: i64 = 10_000;

/// Days for which a part is remembered that nobody asked about again. Older figures are not kept.
const DAYS: i64 = 1200;

/// Stands for a line.
pub type Mark = [u8; 16];

/// What lines are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Logins that succeeded and failed.
    Logins,
    /// Messages that came in.
    Inbound,
}

impl Purpose {
    /// Both.
    pub const ALL: [Purpose; 2] = [Purpose::Logins, Purpose::Inbound];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Purpose::Logins => "logins",
            Purpose::Inbound => "inbound",
        }
    }
}

/// A part of a log that was counted: bytes from the first to before the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub begins: u64,
    /// Where it ends.
    pub ends: u64,
    /// Stands for the last line before the end.
    pub tail: Mark,
}

/// What is to be remembered with a part.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// Stands for the log's first line.
    pub head: &'a Mark,
    /// The name under which it was read.
    pub name: &'a str,
    /// When.
    pub at: Seconds,
    /// The time of the last line; 0 where none had one.
    pub said: Seconds,
}

/// The parts of a log that were counted for this, in their order.
pub fn parts(db: &Connection, head: &Mark, purpose: Purpose) -> Result<Vec<Part>> {
    let sql =
        "SELECT begins, ends, tail FROM log_part WHERE head = ?1 AND purpose = ?2 ORDER BY begins LIMIT 1000";
    let mut statement = db.prepare_cached(sql)?;
    let rows = statement.query_map(params![head, purpose.word()], |row| {
        let number = |i| row.get::<_, i64>(i).map(|n| u64::try_from(n).unwrap_or(0));
        let tail = row.get_ref(2)?.as_blob().unwrap_or_default();
        Ok(Part { begins: number(0)?, ends: number(1)?, tail: tail.try_into().unwrap_or_default() })
    })?;
    rows.collect()
}

/// A row: id, begin, end, tail, time of the last line.
type Row = (i64, i64, i64, Vec<u8>, Seconds);

/// Notes that the part was counted; where it touches others, they are one from then on.
pub fn note(t: &Unit, about: About, purpose: Purpose, part: &Part) -> Result<()> {
    let About { head, name, at, said } = about;
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let (begins, ends, word) = (whole(part.begins), whole(part.ends), purpose.word());
    let find = |sql: &str, at: i64| -> Result<Option<Row>> {
        t.prepare_cached(sql)?
            .query_row(params![head, word, at], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()
    };
    let columns = "SELECT id, begins, ends, tail, said FROM log_part WHERE head = ?1 AND purpose = ?2";
    let before = find(&format!("{columns} AND ends = ?3 LIMIT 1"), begins)?;
    let after = find(&format!("{columns} AND begins = ?3 LIMIT 1"), ends)?;
    let begins = before.as_ref().map_or(begins, |b| b.1);
    let (ends, tail) = match &after {
        Some((_, _, ends, tail, _)) => (*ends, tail.clone()),
        None => (ends, part.tail.to_vec()),
    };
    let said = [before.as_ref(), after.as_ref()].into_iter().flatten().map(|f| f.4).fold(said, Seconds::max);
    for (id, ..) in [before, after].into_iter().flatten() {
        t.prepare_cached("DELETE FROM log_part WHERE id = ?1")?.execute([id])?;
    }
    t.prepare_cached(
        "INSERT INTO log_part(head, purpose, begins, ends, tail, name, at, said) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![head, word, begins, ends, tail, name, at, said])?;
    Ok(())
}

/// Whether another part that was counted for this, but for these, holds bytes of this one.
pub fn is_counted(t: &Unit, head: &Mark, purpose: Purpose, part: &Part, but: &[Part]) -> Result<bool> {
    let overlaps = |other: &Part| other.begins < part.ends && part.begins < other.ends;
    Ok(parts(t, head, purpose)?.iter().any(|other| overlaps(other) && !but.contains(other)))
}

/// What is being written of a log: begin, end, and how many pieces are.
pub fn writing(db: &Connection, head: &Mark) -> Result<Option<(u64, u64, usize)>> {
    db.query_row("SELECT begins, ends, pieces FROM log_writing WHERE head = ?1", [head], |row| {
        let number = |i| row.get::<_, i64>(i).map(|n| u64::try_from(n).unwrap_or(0));
        Ok((number(0)?, number(1)?, usize::try_from(number(2)?).unwrap_or(0)))
    })
    .optional()
}

/// Remembers that so many pieces of this part are written.
pub fn note_writing(t: &Unit, head: &Mark, (begins, ends): (u64, u64), pieces: usize) -> Result<()> {
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let sql = "INSERT OR REPLACE INTO log_writing VALUES (?1, ?2, ?3, ?4)";
    let pieces = i64::try_from(pieces).unwrap_or(0);
    t.prepare_cached(sql)?.execute(params![head, whole(begins), whole(ends), pieces]).map(drop)
}

/// All of its pieces are written.
pub fn end_writing(t: &Unit, head: &Mark) -> Result<()> {
    t.execute("DELETE FROM log_writing WHERE head = ?1", [head]).map(drop)
}

/// A log as it was last read under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Stands for its first line.
    pub head: Mark,
    /// When it was read.
    pub at: Seconds,
    /// The time of its last line.
    pub said: Seconds,
}

/// The log that was last read under this name for this.
pub fn last_under(db: &Connection, name: &str, purpose: Purpose) -> Result<Option<Known>> {
    let sql = "SELECT head, at, said FROM log_part WHERE name = ?1 AND purpose = ?2 ORDER BY at DESC, id DESC LIMIT 1";
    db.prepare_cached(sql)?
        .query_row(params![name, purpose.word()], |row| {
            let head = row.get_ref(0)?.as_blob().unwrap_or_default();
            Ok(Known { head: head.try_into().unwrap_or_default(), at: row.get(1)?, said: row.get(2)? })
        })
        .optional()
}

/// Notes that the log was looked at and had nothing new.
pub fn touch(t: &Unit, head: &Mark, name: &str, at: Seconds) -> Result<()> {
    let sql = "UPDATE log_part SET at = ?3 WHERE head = ?1 AND name = ?2";
    t.prepare_cached(sql)?.execute(params![head, name, at]).map(drop)
}

/// Until when logs may count in figures for a service whose logins somebody else counts: from the first time that the
/// past was learned on, what was counted before that. Logs tell of the past, doors of what comes.
pub fn past_of(db: &Connection, service: &str, now: Seconds) -> Result<Seconds> {
    let kept: Option<Seconds> = super::sightings::meta(db, &past_key(service))?;
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let sql = "SELECT min(hour) FROM traffic_hour WHERE direction = 'login' AND service = ?1";
    let first: Option<i64> = db.query_row(sql, [service], |row| row.get(0))?;
    Ok(first.map_or(now, |hour| hour.saturating_mul(3600)).min(now))
}

/// Keeps what [`past_of`] says for good.
pub fn keep_past(t: &Unit, service: &str, until: Seconds) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO meta VALUES (?1, ?2)";
    t.execute(sql, params![past_key(service), until]).map(drop)
}

/// The source of a service's logins is another one than logs.
const DOORS: Seconds = -1;

/// Since when logs are the source of a service's logins, and what is to be kept of it where that is new
/// ([`keep_since`]). What was before, others may have counted. 0 where no other source was ever seen.
pub fn log_since(
    db: &Connection,
    service: &str,
    is_log: bool,
    now: Seconds,
) -> Result<(Seconds, Option<Seconds>)> {
    let kept: Option<Seconds> = super::sightings::meta(db, &since_key(service))?;
    Ok(match (is_log, kept) {
        (true, None) => (0, Some(0)),
        (true, Some(DOORS)) => (now, Some(now)),
        (true, Some(since)) => (since, None),
        (false, Some(DOORS)) => (now, None),
        (false, _) => (now, Some(DOORS)),
    })
}

/// Keeps what [`log_since`] says is new.
pub fn keep_since(t: &Unit, service: &str, kept: Seconds) -> Result<()> {
    t.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", params![since_key(service), kept]).map(drop)
}

fn since_key(service: &str) -> String {
    format!("log_since_{service}")
}

fn past_key(service: &str) -> String {
    format!("past_of_{service}")
}

/// Somebody logged in well at this time.
pub fn note_success(t: &Unit, at: Seconds) -> Result<()> {
    super::sightings::note_success(t, at)
}

/// Forgets what nobody asked about for long, and the oldest beyond the cap.
pub(super) fn prune(t: &Unit, now: Seconds, piece: i64) -> Result<()> {
    let forget =
        "DELETE FROM log_part WHERE id IN (SELECT id FROM log_part WHERE at < ?1 ORDER BY at LIMIT ?2)";
    t.execute(forget, [now - DAYS * 86_400, piece])?;
    let over: i64 = t.query_row("SELECT count(*) - ?1 FROM log_part", [MOST], |row| row.get(0))?;
    if over > 0 {
        t.execute(forget, [i64::MAX, over.min(piece)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::in_memory;

    const HEAD: Mark = [7; 16];

    fn about(at: Seconds) -> About<'static> {
        About { head: &HEAD, name: "/var/log/mail.log", at, said: at }
    }

    fn part(begins: u64, ends: u64) -> Part {
        Part { begins, ends, tail: [u8::try_from(ends).unwrap(); 16] }
    }

    #[test]
    fn parts_that_touch_are_one_and_others_stay_apart() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        for (begins, ends) in [(50, 60), (0, 10), (10, 20), (60, 70), (20, 50)] {
            note(&t, about(1), Purpose::Logins, &part(begins, ends)).unwrap();
        }
        assert_eq!(parts(&t, &HEAD, Purpose::Logins).unwrap(), [part(0, 70)]);
        note(&t, about(1), Purpose::Logins, &part(80, 90)).unwrap();
        assert_eq!(parts(&t, &HEAD, Purpose::Logins).unwrap(), [part(0, 70), part(80, 90)]);
        assert_eq!(parts(&t, &HEAD, Purpose::Inbound).unwrap(), []);
        assert_eq!(parts(&t, &[8; 16], Purpose::Logins).unwrap(), []);
    }

    #[test]
    fn what_overlaps_a_part_is_counted_already_and_what_touches_it_is_not() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        note(&t, about(1), Purpose::Logins, &part(20, 40)).unwrap();
        for (begins, ends, expected) in
            [(0, 20, false), (0, 21, true), (25, 30, true), (39, 50, true), (40, 50, false), (10, 60, true)]
        {
            let counted =
                |purpose, but: &[Part]| is_counted(&t, &HEAD, purpose, &part(begins, ends), but).unwrap();
            assert_eq!(counted(Purpose::Logins, &[]), expected, "{begins} {ends}");
            assert!(!counted(Purpose::Inbound, &[]) && !counted(Purpose::Logins, &[part(20, 40)]));
        }
    }

    #[test]
    fn the_last_log_under_a_name_is_found_and_old_ones_are_forgotten() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        note(&t, about(100), Purpose::Inbound, &part(0, 10)).unwrap();
        let later = About { head: &[9; 16], ..about(200) };
        note(&t, later, Purpose::Inbound, &part(0, 5)).unwrap();
        let last = |purpose| last_under(&t, "/var/log/mail.log", purpose).unwrap();
        assert_eq!(last(Purpose::Inbound), Some(Known { head: [9; 16], at: 200, said: 200 }));
        assert_eq!(last(Purpose::Logins), None);
        touch(&t, &HEAD, "/var/log/mail.log", 300).unwrap();
        assert_eq!(last(Purpose::Inbound).unwrap().head, HEAD);
        prune(&t, 250 + DAYS * 86_400, 100).unwrap();
        assert_eq!(parts(&t, &[9; 16], Purpose::Inbound).unwrap(), []);
        assert_eq!(parts(&t, &HEAD, Purpose::Inbound).unwrap().len(), 1);
    }

    #[test]
    fn logs_are_the_source_since_it_was_seen_first_or_from_the_begin() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        let see = |is_log, now| {
            let (since, kept) = log_since(&t, "imap", is_log, now).unwrap();
            kept.into_iter().for_each(|kept| keep_since(&t, "imap", kept).unwrap());
            since
        };
        assert_eq!([see(true, 100), see(true, 200)], [0, 0], "no other was ever seen");
        see(false, 300);
        see(false, 400);
        assert_eq!([see(true, 500), see(true, 600)], [500, 500]);
        assert_eq!(log_since(&t, "pop3", false, 600).unwrap().1, Some(DOORS), "each has its own");
    }

    #[test]
    fn the_past_ends_where_doors_began_to_count_and_stays_so() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        assert_eq!(past_of(&t, "imap", 5_000).unwrap(), 5_000, "nobody counts");
        t.execute("INSERT INTO traffic_hour VALUES (1, 'login', 'imap', 'DE', 'tried', 1)", []).unwrap();
        assert_eq!(past_of(&t, "imap", 9_000).unwrap(), 3_600);
        keep_past(&t, "imap", 3_600).unwrap();
        t.execute("UPDATE traffic_hour SET hour = 0", []).unwrap();
        assert_eq!(past_of(&t, "imap", 9_000).unwrap(), 3_600);
        assert_eq!(past_of(&t, "pop3", 9_000).unwrap(), 9_000);
    }
}
