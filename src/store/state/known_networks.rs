//! Networks from which a mailbox was used well, learned from logins that succeeded.
//!
//! Outsiders cannot choose these rows: only who knows the password makes one. A thief who has it can make many,
//! so the networks of one mailbox are capped, the latest stay.

use super::{Unit, sightings};
use crate::account::Account;
use crate::address::Network;
use crate::clock::Seconds;
use rusqlite::{Connection, Result, params};
use serde::{Deserialize, Serialize};

/// Days for which a network stays known.
pub const DAYS: i64 = 180;

/// Networks of one mailbox.
const MOST_OF_ONE: i64 = 50;

/// Networks of all mailboxes together.
const MOST: i64 = 1_000_000;

/// A network that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownNetwork {
    /// The network: /24, or /64 for IPv6.
    pub network: String,
    /// First day, as epoch seconds.
    pub first: Seconds,
    /// Last day, as epoch seconds.
    pub last: Seconds,
    /// How many logins succeeded from there.
    pub n: i64,
}

/// Logins from a network within some days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uses {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) n: i64,
}

impl Uses {
    /// So many on one day.
    pub(super) fn on(day: i64, n: i64) -> Uses {
        Uses { first: day, last: day, n }
    }

    /// Both together.
    pub(super) fn and(self, other: Uses) -> Uses {
        Uses {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            n: self.n.saturating_add(other.n),
        }
    }
}

/// Adds so many logins. The account is its number in the roll-ups.
pub(super) fn add(t: &Unit, account: i64, network: &Network, uses: Uses) -> Result<()> {
    sightings::note_good(t, network, (uses.first, uses.last))?;
    let values = params![account, network.to_string(), uses.first, uses.last, uses.n];
    let update = "UPDATE known_network SET first = min(first, ?3), last = max(last, ?4), n = n + ?5
         WHERE account = ?1 AND network = ?2";
    if t.prepare_cached(update)?.execute(values)? > 0 {
        return Ok(());
    }
    t.prepare_cached("INSERT INTO known_network VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(values)?;
    // Hardly any mailbox has too many, and SQLite thinks about how to remove them each time that it is told to.
    let count = "SELECT count(*) FROM known_network WHERE account = ?1";
    if t.prepare_cached(count)?.query_row([account], |row| row.get::<_, i64>(0))? <= MOST_OF_ONE {
        return Ok(());
    }
    t.prepare_cached(
        "DELETE FROM known_network WHERE account = ?1 AND network IN
         (SELECT network FROM known_network WHERE account = ?1 ORDER BY last DESC, n DESC LIMIT -1 OFFSET ?2)",
    )?
    .execute([account, MOST_OF_ONE])?;
    Ok(())
}

/// The networks of this mailbox, the latest first.
pub fn of(db: &Connection, account: &Account) -> Result<Vec<KnownNetwork>> {
    db.prepare_cached(
        "SELECT k.network, k.first, k.last, k.n FROM known_network k JOIN account a ON a.id = k.account
         WHERE a.name = ?1 ORDER BY k.last DESC, k.n DESC, k.network",
    )?
    .query_map([account.name()], |row| {
        let day = |i| row.get::<_, i64>(i).map(|day| day.saturating_mul(86_400));
        Ok(KnownNetwork { network: row.get(0)?, first: day(1)?, last: day(2)?, n: row.get(3)? })
    })?
    .collect()
}

/// Whether the mailbox was used well from this network, or from any at all, before today: a thief who guessed a
/// password a minute ago is nobody's old friend.
pub(super) fn knows(
    db: &Connection,
    account: &Account,
    network: Option<&Network>,
    now: Seconds,
) -> Result<bool> {
    let sql = "SELECT 1 FROM known_network k JOIN account a ON a.id = k.account
               WHERE a.name = ?1 AND (?2 IS NULL OR k.network = ?2) AND k.first < ?3 AND k.last >= ?3 - ?4";
    let network = network.map(ToString::to_string);
    db.prepare_cached(sql)?.exists(params![account.name(), network, now / 86_400, DAYS])
}

/// Forgets networks that were not used for [`DAYS`], and the oldest beyond the cap; `piece` of each at once.
pub(super) fn prune(t: &Unit, now: Seconds, piece: i64) -> Result<()> {
    prune_to(t, now, MOST, piece)
}

fn prune_to(t: &Unit, now: Seconds, most: i64, piece: i64) -> Result<()> {
    let forget = "DELETE FROM known_network WHERE (account, network) IN
         (SELECT account, network FROM known_network WHERE last < ?1 ORDER BY last LIMIT ?2)";
    t.execute(forget, [now / 86_400 - DAYS, piece])?;
    let over: i64 = t.query_row("SELECT count(*) - ?1 FROM known_network", [most], |row| row.get(0))?;
    if over > 0 {
        t.execute(forget, [i64::MAX, over.min(piece)])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::state::in_memory;

    fn network(n: i64) -> Network {
        format!("10.{}.{}.0/24", n / 256, n % 256).parse().unwrap()
    }

    fn count(db: &Connection) -> i64 {
        db.query_row("SELECT count(*) FROM known_network", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_network_that_is_used_again_is_one_row_with_its_first_and_last_day() {
        let db = in_memory();
        db.execute("INSERT INTO account(id, name) VALUES (7, 'alice@example.test')", []).unwrap();
        let t = Unit::begin(&db).unwrap();
        for (day, n) in [(20_000, 2), (19_990, 1), (20_001, 1)] {
            add(&t, 7, &network(1), Uses::on(day, n)).unwrap();
        }
        add(&t, 7, &network(2), Uses::on(20_002, 1)).unwrap();
        add(&t, 8, &network(3), Uses::on(20_002, 1)).unwrap();
        let known = of(&t, &"alice@example.test".parse().unwrap()).unwrap();
        let row = |net: i64, first: i64, last: i64, n| KnownNetwork {
            network: network(net).to_string(),
            first: first * 86_400,
            last: last * 86_400,
            n,
        };
        assert_eq!(known, [row(2, 20_002, 20_002, 1), row(1, 19_990, 20_001, 4)]);
    }

    #[test]
    fn a_mailbox_has_at_most_so_many_and_the_latest_stay() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        for n in 0..2 * MOST_OF_ONE {
            add(&t, 7, &network(n), Uses::on(20_000 + n, 1)).unwrap();
        }
        let (left, oldest): (i64, i64) = t
            .query_row("SELECT count(*), min(last) FROM known_network", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!((left, oldest), (MOST_OF_ONE, 20_000 + MOST_OF_ONE));
    }

    #[test]
    fn what_was_not_used_for_long_is_forgotten_and_the_whole_is_capped() {
        let db = in_memory();
        let t = Unit::begin(&db).unwrap();
        for n in 0..100 {
            add(&t, n, &network(n), Uses::on(20_000 + n, 1)).unwrap();
        }
        prune_to(&t, (20_000 + DAYS + 10) * 86_400, 1000, 1000).unwrap();
        assert_eq!(count(&t), 90);
        prune_to(&t, 20_100 * 86_400, 20, 1000).unwrap();
        let oldest: i64 = t.query_row("SELECT min(last) FROM known_network", [], |row| row.get(0)).unwrap();
        assert_eq!((count(&t), oldest), (20, 20_080));
    }
}
