//! What was refused, held, or would have been.
//!
//! Outsiders choose the keys (addresses, names), so equal events of one hour share a row and the table is a
//! ring: a new row pushes out the one that is [`MOST`] rows older.

use crate::clock::Seconds;
use crate::verdict::Reference;
use rusqlite::{Connection, OptionalExtension, Result, Transaction, params};
use serde::{Deserialize, Serialize};

/// Rows that are kept.
pub const MOST: i64 = 50_000;

/// One event, or several equal ones of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When first.
    pub first: Seconds,
    /// When last.
    pub last: Seconds,
    /// How often.
    pub n: i64,
    /// The account; empty where the door did not know it.
    pub account: String,
    /// The client's address; empty for local submissions.
    pub address: String,
    /// Its country's code; empty where unknown.
    pub country: String,
    /// The service.
    pub service: String,
    /// The door that asked.
    pub door: String,
    /// `refuse`, `hold`, or `would_refuse`.
    pub verdict: String,
    /// Stable key of the reason.
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
    /// What the client was told as reference.
    pub reference: String,
}

/// Records the event; the reference under which it stands is the older one's where it joins a row.
pub fn record(t: &Transaction, event: &Event) -> Result<Reference> {
    let hour = event.last / 3600;
    let same = t
        .prepare(
            "SELECT id, reference FROM activity WHERE hour = ?1 AND account = ?2 AND address = ?3
             AND service = ?4 AND verdict = ?5 AND reason = ?6",
        )?
        .query_row(
            params![hour, event.account, event.address, event.service, event.verdict, event.reason],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
        )
        .optional()?;
    if let Some((id, reference)) = same
        && let Ok(reference) = reference.parse()
    {
        t.execute("UPDATE activity SET n = n + 1, last = ?2 WHERE id = ?1", [id, event.last])?;
        return Ok(reference);
    }
    let reference = match event.reference.parse() {
        Ok(given) => given,
        Err(_) => Reference::from_bits(crate::call::random_bits()),
    };
    insert(t, event, hour, &reference)?;
    Ok(reference)
}

fn insert(t: &Transaction, event: &Event, hour: i64, reference: &Reference) -> Result<()> {
    t.execute(
        "INSERT OR REPLACE INTO activity(hour, first, last, n, account, address, country, service, door, verdict, reason, detail, reference)
         VALUES (?1, ?2, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            hour,
            event.last,
            event.account,
            event.address,
            event.country,
            event.service,
            event.door,
            event.verdict,
            event.reason,
            event.detail,
            reference.to_string()
        ],
    )?;
    t.execute("DELETE FROM activity WHERE id <= ?1", [t.last_insert_rowid() - MOST])?;
    Ok(())
}

/// What to look for; empty fields match everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// This account.
    pub account: String,
    /// This address.
    pub address: String,
    /// This reference.
    pub reference: String,
    /// This reason's key.
    pub reason: String,
    /// Not before.
    pub since: Seconds,
    /// So many at most, newest first.
    pub limit: i64,
}

/// The events that match, newest first.
pub fn list(db: &Connection, filter: &Filter) -> Result<Vec<Event>> {
    db.prepare(
        "SELECT * FROM activity
         WHERE (?1 = '' OR account = ?1) AND (?2 = '' OR address = ?2) AND (?3 = '' OR reference = ?3)
           AND (?4 = '' OR reason = ?4) AND last >= ?5
         ORDER BY last DESC, id DESC LIMIT ?6",
    )?
    .query_map(
        params![filter.account, filter.address, filter.reference, filter.reason, filter.since, filter.limit],
        |row| {
            Ok(Event {
                first: row.get("first")?,
                last: row.get("last")?,
                n: row.get("n")?,
                account: row.get("account")?,
                address: row.get("address")?,
                country: row.get("country")?,
                service: row.get("service")?,
                door: row.get("door")?,
                verdict: row.get("verdict")?,
                reason: row.get("reason")?,
                detail: row.get("detail")?,
                reference: row.get("reference")?,
            })
        },
    )?
    .collect()
}
