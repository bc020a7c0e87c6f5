//! Windows and stops of senders.

use super::Unit;
use crate::account::Account;
use crate::clock::Seconds;
use crate::decide::limits::Counted;
use crate::decide::meters::Meters;
use crate::decide::send::{MOST_TIMES, SenderState, Stopped};
use crate::decide::window::Window;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result, params};

/// Most senders that are kept. Names come from logins that succeeded or from local users, so outsiders
/// cannot fill this; the cap is against our own mistakes.
pub const MOST_SENDERS: i64 = 1_000_000;

/// Longest time for which an account can be watched, in seconds, and a day for a clock that is set back.
const LONGEST_WATCH: Seconds = 31 * 86_400;

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
    /// Name of the limit that made it.
    pub by_limit: String,
    /// Messages an hour that leave all the same; none: none.
    pub quota: Option<i64>,
    /// How many times it was released while it was watched.
    pub times: i64,
    /// Until when it is watched after a release.
    pub watch_until: Option<Seconds>,
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
            by_limit: row.get("by_limit")?,
            quota: row.get("quota")?,
            times: row.get("times")?,
            watch_until: row.get("watch_until")?,
        })
    }
}

/// What is known of the sender; with the stops, its own and those of these keys. Under the keys (a domain's, the server's)
/// stands what is counted for many together. `may_be_held`: whether the message could be held.
pub fn gather(
    db: &Connection,
    account: &Account,
    keys: &[&str],
    may_be_held: bool,
) -> Result<(SenderState, Vec<Stop>)> {
    let name = account.name();
    let Row { window, told_until, meters, stop } = row_of(db, name)?;
    let mut counted = Counted { own: Meters::read(&meters), shared: Vec::new() };
    let mut stops: Vec<Stop> = stop.into_iter().collect();
    for key in keys {
        let row = row_of(db, key)?;
        counted.shared.push(((*key).to_owned(), Meters::read(&row.meters)));
        stops.extend(row.stop);
    }
    let held = match may_be_held {
        true => db
            .prepare_cached("SELECT count(*) FROM held WHERE account = ?1")?
            .query_row([name], |row| row.get(0))?,
        false => 0,
    };
    let stopped = |stop: &Stop| Stopped {
        until: stop.until,
        limit: stop.by_limit.clone(),
        quota: stop.quota,
        key: (stop.account != name).then(|| stop.account.clone()),
        times: stop.times,
        watch_until: stop.watch_until,
    };
    let state = SenderState {
        stops: stops.iter().map(stopped).collect(),
        window: Window::read(&window),
        counted,
        told_until,
        held,
    };
    Ok((state, stops))
}

/// All that stands under an account's name or a key.
#[derive(Default)]
struct Row {
    window: Vec<u8>,
    told_until: Option<Seconds>,
    meters: Vec<u8>,
    stop: Option<Stop>,
}

fn row_of(db: &Connection, key: &str) -> Result<Row> {
    // One statement: each has a price of its own, whatever it finds.
    let mut statement = db.prepare_cached(
        "SELECT s.window, s.told_until, s.meters, t.* FROM (SELECT ?1 AS key) \
         LEFT JOIN sender s ON s.account = key LEFT JOIN stop t ON t.account = key",
    )?;
    statement.query_row([key], |row| {
        // The first column of the stop: its account.
        let is_stopped = row.get_ref(3)? != ValueRef::Null;
        Ok(Row {
            window: row.get::<_, Option<_>>(0)?.unwrap_or_default(),
            told_until: row.get(1)?,
            meters: row.get::<_, Option<_>>(2)?.unwrap_or_default(),
            stop: if is_stopped { Some(Stop::read(row)?) } else { None },
        })
    })
}

/// The stop of this account, or of who stands under this key, in force or over.
pub fn stop_of(db: &Connection, key: &str) -> Result<Option<Stop>> {
    let mut statement = db.prepare_cached("SELECT * FROM stop WHERE account = ?1")?;
    statement.query_row([key], Stop::read).optional()
}

/// Every stop that is still in force.
pub fn stops(db: &Connection, now: Seconds) -> Result<Vec<Stop>> {
    newest_stops(db, now, -1)
}

/// The newest of them, so many at most; without a bound where that is below 0, as SQLite has it.
pub fn newest_stops(db: &Connection, now: Seconds, most: i64) -> Result<Vec<Stop>> {
    db.prepare("SELECT * FROM stop WHERE until > ?1 ORDER BY since DESC LIMIT ?2")?
        .query_map([now, most], Stop::read)?
        .collect()
}

/// Keeps the window with the newest message in it, and what further limits have counted.
pub fn keep(t: &Unit, account: &Account, window: &Window, own: Option<&Meters>, now: Seconds) -> Result<()> {
    t.prepare_cached(
        "INSERT INTO sender(account, window, last, meters) VALUES (?1, ?2, ?3, coalesce(?4, x'')) \
         ON CONFLICT(account) DO UPDATE SET window = ?2, last = ?3, meters = coalesce(?4, meters)",
    )?
    .execute(params![account.name(), window.stored(), now, own.map(Meters::stored)])?;
    Ok(())
}

/// Keeps what further limits have counted, under the account's name or a key.
pub fn keep_meters(t: &Unit, key: &str, meters: &Meters, now: Seconds) -> Result<()> {
    t.prepare_cached(
        "INSERT INTO sender(account, meters, last) VALUES (?1, ?2, ?3)
         ON CONFLICT(account) DO UPDATE SET meters = excluded.meters, last = excluded.last",
    )?
    .execute(params![key, meters.stored(), now])?;
    Ok(())
}

/// Remembers that the administrator was told about this sender.
pub fn keep_told(t: &Unit, account: &Account, told_until: Seconds) -> Result<()> {
    t.execute("UPDATE sender SET told_until = ?2 WHERE account = ?1", params![account.name(), told_until])?;
    Ok(())
}

/// Stops the account.
pub fn keep_stop(t: &Unit, stop: &Stop) -> Result<()> {
    t.execute(
        "INSERT OR REPLACE INTO stop(account, since, until, reason, detail, reference, refused, last, by_limit, quota,
         times, watch_until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        params![
            stop.account,
            stop.since,
            stop.until,
            stop.reason,
            stop.detail,
            stop.reference,
            stop.refused,
            stop.last,
            stop.by_limit,
            stop.quota,
            stop.times,
            stop.watch_until
        ],
    )?;
    Ok(())
}

/// Counts one more message of a stopped account. Its end never moves away; it comes nearer where the clock
/// was set back.
pub fn count_refused(t: &Unit, key: &str, until: Seconds, now: Seconds) -> Result<()> {
    t.prepare_cached(
        "UPDATE stop SET refused = refused + 1, last = ?2, until = min(until, ?3) WHERE account = ?1",
    )?
    .execute(params![key, now, until])?;
    Ok(())
}

/// Lifts the stop and forgets what was sent, so that the account can send its whole limit again at once.
/// Tells whether there was a stop. Of one that is watched afterwards the row stays, as one that is over.
pub fn release(t: &Unit, key: &str, watch: Option<Watch>) -> Result<bool> {
    let forget = "UPDATE sender SET window = x'', meters = x'', told_until = NULL WHERE account = ?1";
    t.execute(forget, [key])?;
    let released = match watch {
        // No time at all: whatever the clock does, it does not bind again.
        Some(Watch { now, until }) => t.execute(
            "UPDATE stop SET until = 0, watch_until = ?3,
             times = CASE WHEN until > ?2 OR watch_until > ?2 THEN min(times + 1, ?4) ELSE 1 END
             WHERE account = ?1 AND until > 0",
            params![key, now, until, MOST_TIMES],
        )?,
        None => t.execute("DELETE FROM stop WHERE account = ?1", [key])?,
    };
    Ok(released > 0)
}

/// For how long an account is watched that is released now.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Now.
    pub now: Seconds,
    /// Until then.
    pub until: Seconds,
}

/// Who is watched after a release and not stopped, the latest first.
pub fn watched(db: &Connection, now: Seconds) -> Result<Vec<Stop>> {
    db.prepare("SELECT * FROM stop WHERE watch_until > ?1 AND until <= ?1 ORDER BY watch_until DESC")?
        .query_map([now], Stop::read)?
        .collect()
}

/// Lifts the stops that match; gives how many.
pub fn release_matching(
    state: &mut super::State,
    matches: &dyn Fn(&Stop) -> bool,
    watch: Option<Watch>,
) -> crate::error::Result<usize> {
    state.write(|t| {
        let stops = stops(t, 0)?;
        let mut n = 0;
        for stop in stops.iter().filter(|stop| matches(stop)) {
            n += usize::from(release(t, &stop.account, watch)?);
        }
        Ok(n)
    })
}

/// Forgets senders that were quiet for two days, and for longer than the longest window; stops that ended a month ago;
/// and what is over the cap.
pub fn prune(t: &Unit, now: Seconds, longest_window: i64) -> Result<()> {
    prune_to(t, now, longest_window, MOST_SENDERS)
}

fn prune_to(t: &Unit, now: Seconds, longest_window: i64, most: i64) -> Result<()> {
    let quiet_since = now - longest_window.max(2 * 86_400);
    t.execute("DELETE FROM sender WHERE last < ?1 AND coalesce(told_until, 0) < ?2", [quiet_since, now])?;
    t.execute(
        "DELETE FROM stop WHERE until < ?1 AND NOT (coalesce(watch_until, 0) BETWEEN ?2 AND ?3)",
        [now - 30 * 86_400, now, now + LONGEST_WATCH],
    )?;
    let over: i64 = t.query_row("SELECT count(*) - ?1 FROM sender", [most], |row| row.get(0))?;
    if over > 0 {
        t.execute(
            "DELETE FROM sender WHERE account IN (SELECT account FROM sender ORDER BY last LIMIT ?1)",
            [over],
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::{held, in_memory};

    const NOON: Seconds = 1_700_000_000;

    const ALICE: &str = "alice@example.test";

    fn alice() -> Account {
        ALICE.parse().unwrap()
    }

    fn stop(account: &str, until: Seconds) -> Stop {
        Stop {
            account: account.into(),
            since: NOON,
            until,
            reason: "over_limit".into(),
            detail: "More than 150 messages.".into(),
            reference: "7K3M-92QX".into(),
            refused: 1,
            last: NOON,
            by_limit: "outbound".into(),
            quota: None,
            times: 0,
            watch_until: None,
        }
    }

    fn window_of(n: u32) -> Window {
        let mut window = Window::default();
        window.add(NOON, n);
        window
    }

    #[test]
    fn a_sender_of_whom_nothing_is_known_has_sent_nothing() {
        let (sender, stop) = gather(&in_memory(), &alice(), &[], true).unwrap();
        assert_eq!(
            (sender.stops.len(), sender.window.count(), sender.told_until, sender.held),
            (0, 0, None, 0)
        );
        assert!(stop.is_empty());
    }

    #[test]
    fn what_is_kept_of_a_sender_is_what_is_gathered() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        keep(&t, &alice(), &window_of(3), None, NOON).unwrap();
        keep_told(&t, &alice(), NOON + 60).unwrap();
        keep(&t, &alice(), &window_of(4), None, NOON).unwrap();
        keep_stop(&t, &stop("alice@example.test", NOON + 600)).unwrap();
        let message = |n: i64| format!("a-b-{n}");
        for n in 0..3 {
            let account = if n < 2 { "alice@example.test" } else { "bob@example.test" };
            held::keep(
                &t,
                &held::Held { message: message(n), account: account.into(), at: NOON, recipients: 1 },
            )
            .unwrap();
        }
        let (sender, found) = gather(&t, &alice(), &[], true).unwrap();
        assert_eq!(sender.stops[0].until, NOON + 600);
        assert_eq!((sender.window.count(), sender.told_until, sender.held), (4, Some(NOON + 60), 2));
        assert_eq!(found[0].reference, "7K3M-92QX");
        let (bob, none) = gather(&t, &"bob@example.test".parse().unwrap(), &[], true).unwrap();
        assert!(none.is_empty() && bob.window.count() == 0);
    }

    #[test]
    fn a_refused_message_is_counted_and_moves_the_end_nearer_or_not_at_all() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        keep_stop(&t, &stop("alice@example.test", NOON + 600)).unwrap();
        let end = || stop_of(&t, ALICE).unwrap().map(|s| (s.until, s.refused, s.last)).unwrap();
        count_refused(&t, ALICE, NOON + 9999, NOON + 1).unwrap();
        assert_eq!(end(), (NOON + 600, 2, NOON + 1));
        count_refused(&t, ALICE, NOON + 300, NOON + 2).unwrap();
        assert_eq!(end(), (NOON + 300, 3, NOON + 2));
    }

    #[test]
    fn a_release_leaves_the_whole_limit_and_touches_nobody_else() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        for account in ["alice@example.test", "bob@example.test"] {
            let account: Account = account.parse().unwrap();
            keep(&t, &account, &window_of(150), None, NOON).unwrap();
            keep_told(&t, &account, NOON + 600).unwrap();
            keep_stop(&t, &stop(account.name(), NOON + 600)).unwrap();
        }
        assert!(release(&t, ALICE, None).unwrap());
        assert!(!release(&t, ALICE, None).unwrap());
        let (sender, none) = gather(&t, &alice(), &[], true).unwrap();
        assert!(none.is_empty());
        assert_eq!((sender.stops.len(), sender.window.count(), sender.told_until), (0, 0, None));
        let stopped: Vec<_> = stops(&t, NOON).unwrap().into_iter().map(|s| s.account).collect();
        assert_eq!(stopped, ["bob@example.test"]);
    }

    #[test]
    fn who_is_released_and_watched_is_not_stopped_and_its_releases_are_counted() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        let watch = |now| Some(Watch { now, until: now + 86_400 });
        let found = |now| watched(&t, now).unwrap().into_iter().map(|s| s.times).collect::<Vec<_>>();
        keep_stop(&t, &stop(ALICE, NOON + 600)).unwrap();
        assert!(release(&t, ALICE, watch(NOON)).unwrap());
        assert!(!release(&t, ALICE, watch(NOON)).unwrap(), "there is none any more");
        assert!(stops(&t, 0).unwrap().is_empty());
        assert_eq!((found(NOON), found(NOON + 86_399), found(NOON + 86_400)), (vec![1], vec![1], vec![]));
        let (state, _) = gather(&t, &alice(), &[], true).unwrap();
        assert_eq!(
            (state.stops[0].until, state.stops[0].times, state.stops[0].watch_until),
            (0, 1, Some(NOON + 86_400))
        );
        // Stopped again within the watch, then long after it.
        keep_stop(&t, &Stop { times: 1, watch_until: Some(NOON + 86_400), ..stop(ALICE, NOON + 1200) })
            .unwrap();
        assert!(found(NOON).is_empty());
        release(&t, ALICE, watch(NOON + 900)).unwrap();
        assert_eq!(found(NOON + 900), [2]);
        prune(&t, NOON + 900, 3600).unwrap();
        assert_eq!(found(NOON + 900), [2], "a watch is not forgotten");
        keep_stop(&t, &stop(ALICE, NOON + 999_000)).unwrap();
        release(&t, ALICE, watch(NOON + 990_000)).unwrap();
        assert_eq!(found(NOON + 990_000), [1]);
        prune(&t, NOON + 990_000 + 86_401, 3600).unwrap();
        assert!(found(0).is_empty());
    }

    #[test]
    fn only_stops_in_force_are_listed_newest_first() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        keep_stop(&t, &stop("over", NOON)).unwrap();
        keep_stop(&t, &Stop { since: NOON - 9, ..stop("older", NOON + 1) }).unwrap();
        keep_stop(&t, &stop("newer", NOON + 1)).unwrap();
        let names: Vec<_> = stops(&t, NOON).unwrap().into_iter().map(|s| s.account).collect();
        assert_eq!(names, ["newer", "older"]);
    }

    #[test]
    fn what_is_quiet_for_long_is_forgotten_and_what_still_binds_is_not() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        let two_days = 2 * 86_400;
        for (name, last) in [("quiet", NOON), ("lately", NOON + 1), ("told", NOON)] {
            let account: Account = name.parse().unwrap();
            keep(&t, &account, &window_of(1), None, last).unwrap();
        }
        keep_told(&t, &"told".parse().unwrap(), NOON + two_days + 2).unwrap();
        keep_stop(&t, &stop("ended", NOON - 30 * 86_400)).unwrap();
        keep_stop(&t, &stop("runs", NOON + two_days + 9)).unwrap();
        prune(&t, NOON + two_days + 1, 3600).unwrap();
        let names = |sql: &str| -> Vec<String> {
            let mut statement = t.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        assert_eq!(names("SELECT account FROM sender ORDER BY account"), ["lately", "told"]);
        assert_eq!(names("SELECT account FROM stop"), ["runs"]);
    }

    #[test]
    fn a_flood_of_senders_is_cut_to_the_cap_and_the_latest_stay() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        for n in 0..500 {
            let account: Account = format!("user{n}").parse().unwrap();
            keep(&t, &account, &window_of(1), None, NOON + n).unwrap();
        }
        prune_to(&t, NOON + 500, 3600, 40).unwrap();
        let (left, oldest): (i64, i64) = t
            .query_row("SELECT count(*), min(last) FROM sender", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        assert_eq!((left, oldest), (40, NOON + 460));
    }

    #[test]
    fn a_forged_row_is_an_error_or_a_value_and_never_a_panic() {
        let db = in_memory();
        for forged in [
            "INSERT OR REPLACE INTO sender VALUES ('alice@example.test', 'text', 'never', x'00', 'text')",
            "INSERT OR REPLACE INTO sender VALUES ('alice@example.test', zeroblob(99999), 0, NULL, zeroblob(9999))",
            "INSERT OR REPLACE INTO sender VALUES ('alice@example.test', 17, 1e300, 9223372036854775807, x'ffffffff')",
            "INSERT OR REPLACE INTO stop VALUES ('alice@example.test', 'x', 'y', 1, 2, 3, 'z', x'', 1, 'x', 'y', 'z')",
            "INSERT OR REPLACE INTO stop VALUES ('alice@example.test', -1, 9223372036854775807, '', '', '', 9223372036854775807, 0, '', -1, 9223372036854775807, 9223372036854775807)",
        ] {
            db.execute(forged, []).unwrap();
            let t = Unit::begin(&db).unwrap();
            let _ = gather(&t, &alice(), &["@example.test"], true);
            let _ = count_refused(&t, ALICE, NOON, NOON);
            let _ = stops(&t, NOON);
            let _ = watched(&t, NOON);
            let _ = release(&t, ALICE, Some(Watch { now: NOON, until: NOON + 9 }));
            let _ = prune(&t, NOON, 86_400);
        }
    }
}
