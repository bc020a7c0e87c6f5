//! What was refused, held, or would have been.
//!
//! Outsiders choose the keys (addresses, names), so equal events of one hour share a row and the table is a
//! ring: a new row pushes out the one that is [`MOST`] rows older.

use super::Unit;
use crate::account::Account;
use crate::address::Address;
use crate::clock::Seconds;
use crate::request::Door;
use crate::verdict::Reference;
use rusqlite::{Connection, OptionalExtension, Result, params};
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
pub fn record(t: &Unit, event: &Event) -> Result<Reference> {
    record_within(t, event, MOST)
}

/// Whether a login of this account from this address was refused since then by one of these doors.
pub fn refused_since(
    db: &Connection,
    account: &Account,
    address: Address,
    since: Seconds,
    by: &[Door],
) -> Result<bool> {
    let mut refused = db.prepare_cached(
        "SELECT door FROM activity WHERE account = ?1 AND last >= ?2 AND address = ?3 AND verdict = 'refuse'",
    )?;
    let mut doors = refused.query(params![account.name(), since, address.to_string()])?;
    while let Some(row) = doors.next()? {
        let door: String = row.get(0)?;
        if by.iter().any(|d| d.name() == door) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn record_within(t: &Unit, event: &Event, most: i64) -> Result<Reference> {
    let hour = event.last / 3600;
    let same = t
        .prepare_cached(
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
        t.prepare_cached("UPDATE activity SET n = n + 1, last = ?2 WHERE id = ?1")?
            .execute([id, event.last])?;
        return Ok(reference);
    }
    let reference = match event.reference.parse() {
        Ok(given) => given,
        Err(_) => Reference::from_bits(crate::call::random_bits()),
    };
    insert(t, event, hour, &reference)?;
    t.execute("DELETE FROM activity WHERE id <= ?1", [t.last_insert_rowid() - most])?;
    Ok(reference)
}

fn insert(t: &Unit, event: &Event, hour: i64, reference: &Reference) -> Result<()> {
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
    Ok(())
}

/// What to look for; empty fields match everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// This account.
    pub account: String,
    /// This address.
    pub address: String,
    /// This country's code.
    pub country: String,
    /// This reference.
    pub reference: String,
    /// This reason's key.
    pub reason: String,
    /// Not before.
    pub since: Seconds,
    /// So many at most, newest first.
    pub limit: i64,
}

/// The query for a filter, which names only what is looked for, so that an index serves it: by account and by
/// reference their own, else the one by hour.
pub(super) fn list_sql(filter: &Filter, columns: &str) -> String {
    let fields = [&filter.account, &filter.address, &filter.country, &filter.reference, &filter.reason];
    let names = ["account", "address", "country", "reference", "reason"];
    let given = names.iter().zip(fields).enumerate().filter(|(_, (_, value))| !value.is_empty());
    let wanted: String = given.map(|(n, (name, _))| format!(" AND {name} = ?{}", n + 1)).collect();
    format!(
        "SELECT {columns} FROM activity WHERE hour >= ?6 / 3600 AND last >= ?6{wanted}
         ORDER BY hour DESC, last DESC, id DESC LIMIT ?7"
    )
}

/// What [`list_sql`] asks for, with room for so many rows; -1 is all.
fn asked(filter: &Filter, limit: i64) -> impl rusqlite::Params {
    let Filter { account, address, country, reference, reason, since, .. } = filter.clone();
    (account, address, country, reference, reason, since, limit)
}

/// The events that match, newest first.
pub fn list(db: &Connection, filter: &Filter) -> Result<Vec<Event>> {
    let mut statement = db.prepare(&list_sql(filter, "*"))?;
    statement.query_map(asked(filter, filter.limit), read_event)?.collect()
}

/// The events that match and whose account may be seen, newest first: as many of those as the filter's limit.
pub fn list_of(db: &Connection, filter: &Filter, may_see: &dyn Fn(&str) -> bool) -> Result<Vec<Event>> {
    if let Some(found) = among_newest(db, filter, may_see)? {
        return Ok(found);
    }
    // Whose they are alone at first: nearly all are somebody else's.
    let mut whose = db.prepare(&whose_sql(filter))?;
    let (mut rows, mut seen) = (whose.query(asked(filter, -1))?, Vec::new());
    let (mut account, mut is_seen) = (None::<String>, false);
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str().ok();
        if account.as_deref() != name || account.is_none() {
            account = name.map(Into::into);
            is_seen = name.is_some_and(may_see);
        }
        if is_seen {
            seen.push((row.get::<_, Seconds>(1)?, row.get::<_, i64>(2)?));
        }
    }
    seen.sort_unstable_by(|a, b| b.cmp(a));
    let mut one = db.prepare("SELECT * FROM activity WHERE id = ?1")?;
    let most = usize::try_from(filter.limit).unwrap_or(0);
    seen.iter().take(most).map(|(_, id)| one.query_row([id], read_event)).collect()
}

/// Of how many of the newest rows one must be seen for all that are wanted to be found among them.
const ONE_IN: i64 = 10;

/// As many events as are wanted, where so many are seen among the newest: of whoever owns much.
fn among_newest(
    db: &Connection,
    filter: &Filter,
    may_see: &dyn Fn(&str) -> bool,
) -> Result<Option<Vec<Event>>> {
    let mut newest = db.prepare(&list_sql(filter, "*"))?;
    let (looked_at, most) = (filter.limit.saturating_mul(ONE_IN), usize::try_from(filter.limit).unwrap_or(0));
    let (mut rows, mut found) = (newest.query(asked(filter, looked_at))?, Vec::new());
    let mut n = 0;
    while found.len() < most {
        let Some(row) = rows.next()? else { break };
        n += 1;
        if row.get_ref("account")?.as_str().is_ok_and(may_see) {
            found.push(read_event(row)?);
        }
    }
    let are_all = found.len() == most || n < looked_at;
    Ok(are_all.then_some(found))
}

/// Account, last time and number of what matches, in no order. An index by account holds all three; where more is
/// looked for, the table from its one end to the other, which is faster than from an index to each of its rows.
pub(super) fn whose_sql(filter: &Filter) -> String {
    let listed = list_sql(filter, "account, last, id");
    if !filter.account.is_empty() || !filter.reference.is_empty() {
        return listed;
    }
    let is_all = [&filter.address, &filter.country, &filter.reason].iter().all(|field| field.is_empty());
    let how = if is_all { "INDEXED BY activity_account" } else { "NOT INDEXED" };
    let listed = listed.replacen("FROM activity", &format!("FROM activity {how}"), 1);
    listed.replacen("ORDER BY hour DESC, last DESC, id DESC", "", 1).replacen("hour >= ?6 / 3600 AND ", "", 1)
}

fn read_event(row: &rusqlite::Row) -> Result<Event> {
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
}

/// Forgets what is older; `piece` rows at once.
pub(super) fn prune(t: &Unit, oldest: Seconds, piece: i64) -> Result<()> {
    let sql = "DELETE FROM activity WHERE id IN (SELECT id FROM activity WHERE hour < ?1 LIMIT ?2)";
    t.execute(sql, [oldest / 3600, piece]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::in_memory;

    const NOON: Seconds = 1_700_000_000;

    fn refusal(account: &str, last: Seconds) -> Event {
        Event {
            last,
            account: account.into(),
            address: "192.0.2.7".into(),
            country: "DE".into(),
            service: "imap".into(),
            door: "dovecot-gate".into(),
            verdict: "refuse".into(),
            reason: "country_not_allowed".into(),
            detail: "Germany (DE) is not allowed.".into(),
            ..Event::default()
        }
    }

    fn all() -> Filter {
        Filter { limit: 1000, ..Filter::default() }
    }

    fn record_one(db: &Connection, event: &Event, most: i64) -> Reference {
        let t = Unit::begin(db).unwrap();
        let reference = record_within(&t, event, most).unwrap();
        t.commit().unwrap();
        reference
    }

    #[test]
    fn an_event_reads_back_with_the_reference_that_the_client_was_told() {
        let db = in_memory();
        let reference = record_one(&db, &refusal("alice@example.test", NOON), MOST);
        let found = list(&db, &Filter { reference: reference.to_string(), ..all() }).unwrap();
        let expected = Event {
            first: NOON,
            n: 1,
            reference: reference.to_string(),
            ..refusal("alice@example.test", NOON)
        };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn equal_events_of_an_hour_share_a_row_and_a_reference() {
        let db = in_memory();
        let hour = NOON / 3600 * 3600;
        let first = record_one(&db, &refusal("alice@example.test", hour), MOST);
        let again = record_one(&db, &refusal("alice@example.test", hour + 3599), MOST);
        assert_eq!(first, again);
        let next = record_one(&db, &refusal("alice@example.test", hour + 3600), MOST);
        assert_ne!(first, next);
        let found = list(&db, &all()).unwrap();
        assert_eq!(
            found.iter().map(|e| (e.first, e.last, e.n)).collect::<Vec<_>>(),
            [(hour + 3600, hour + 3600, 1), (hour, hour + 3599, 2)]
        );
    }

    #[test]
    fn what_differs_in_anything_that_matters_has_a_row_of_its_own() {
        let db = in_memory();
        let alice = refusal("alice@example.test", NOON);
        for event in [
            alice.clone(),
            Event { account: String::new(), ..alice.clone() },
            Event { address: "192.0.2.8".into(), ..alice.clone() },
            Event { service: "pop3".into(), ..alice.clone() },
            Event { verdict: "would_refuse".into(), ..alice.clone() },
            Event { reason: "address_blocked".into(), ..alice },
        ] {
            record_one(&db, &event, MOST);
        }
        assert_eq!(list(&db, &all()).unwrap().len(), 6);
    }

    #[test]
    fn a_given_reference_is_kept_and_a_forged_one_is_replaced() {
        let db = in_memory();
        let given = Event { reference: "7K3M-92QX".into(), ..refusal("alice@example.test", NOON) };
        assert_eq!(record_one(&db, &given, MOST).to_string(), "7K3M-92QX");
        db.execute("UPDATE activity SET reference = 'x' || char(10) || 'Bcc: y'", []).unwrap();
        let anew = record_one(&db, &refusal("alice@example.test", NOON), MOST);
        let found = list(&db, &all()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].reference, anew.to_string());
    }

    #[test]
    fn a_flood_of_names_and_addresses_pushes_out_the_oldest_and_never_goes_over_the_cap() {
        let db = in_memory();
        for n in 0..1000 {
            let event = Event { address: format!("192.0.2.{n}"), ..refusal(&format!("user{n}"), NOON + n) };
            record_one(&db, &event, 50);
        }
        let left = list(&db, &all()).unwrap();
        assert_eq!(left.len(), 50);
        assert_eq!((left[0].account.as_str(), left[49].account.as_str()), ("user999", "user950"));
        // One that is seen again and again takes no room.
        for n in 0..1000 {
            record_one(&db, &refusal("user999", NOON + 1000 + n / 600), 50);
        }
        assert_eq!(list(&db, &all()).unwrap().len(), 50);
    }

    #[test]
    fn whoever_may_see_a_few_accounts_alone_sees_as_many_of_their_rows_as_there_are() {
        let db = in_memory();
        record_one(&db, &refusal("alice@example.test", NOON), MOST);
        for n in 1..=50 {
            record_one(&db, &refusal(&format!("user{n}"), NOON + n), MOST);
        }
        let filter = Filter { limit: 2, ..all() };
        let names = |may_see: &dyn Fn(&str) -> bool| -> Vec<String> {
            list_of(&db, &filter, may_see).unwrap().into_iter().map(|e| e.account).collect()
        };
        assert_eq!(names(&|name| name.starts_with("alice")), ["alice@example.test"]);
        assert_eq!(names(&|_| true), ["user50", "user49"]);
        assert!(names(&|_| false).is_empty());
    }

    #[test]
    fn the_list_is_searched_by_account_address_reason_and_time() {
        let db = in_memory();
        record_one(&db, &refusal("alice@example.test", NOON), MOST);
        record_one(
            &db,
            &Event { address: "2001:db8::1".into(), ..refusal("bob@example.test", NOON + 1) },
            MOST,
        );
        let names = |filter: Filter| -> Vec<String> {
            list(&db, &filter).unwrap().into_iter().map(|e| e.account).collect()
        };
        assert_eq!(names(all()), ["bob@example.test", "alice@example.test"]);
        assert_eq!(names(Filter { limit: 1, ..all() }), ["bob@example.test"]);
        assert_eq!(names(Filter { account: "alice@example.test".into(), ..all() }), ["alice@example.test"]);
        assert_eq!(names(Filter { address: "2001:db8::1".into(), ..all() }), ["bob@example.test"]);
        assert_eq!(names(Filter { since: NOON + 1, ..all() }), ["bob@example.test"]);
        assert!(names(Filter { reason: "address_blocked".into(), ..all() }).is_empty());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 30, ..Default::default() })]
        #[test]
        fn whoever_owns_much_or_little_sees_the_newest_of_all_that_is_his(
            made in proptest::collection::vec(("[a-d]", 0i64..9_000, 0u8..4), 0..80), limit in 0i64..6, owned in "[a-d]{0,4}",
        ) {
            let db = in_memory();
            for (account, at, host) in &made {
                let address = format!("192.0.2.{host}");
                record_one(&db, &Event { address, ..refusal(account, NOON + at) }, MOST);
            }
            let may_see = |name: &str| owned.contains(name);
            let mut expected = list(&db, &Filter { limit: -1, ..all() }).unwrap();
            expected.retain(|event| may_see(&event.account));
            expected.truncate(usize::try_from(limit).unwrap());
            proptest::prop_assert_eq!(list_of(&db, &Filter { limit, ..all() }, &may_see).unwrap(), expected);
        }
    }
}
