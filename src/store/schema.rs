//! Schemas as append-only lists.
//!
//! Two laws: an entry of a list is never changed or removed, and no entry may break a program that is one
//! version older and still running. A change that must break waits two releases: the first raises
//! nothing, the second raises `min_version` (see `store::state`).

use crate::error::{Error, Result};
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// Brings the database to the newest entry of the list, in one transaction. A database that is newer than
/// the list is left as it is.
pub fn migrate(connection: &mut Connection, path: &Path, list: &[&str]) -> Result<()> {
    let failed = || Error::database("migrate", path);
    if version(connection, path)? >= list.len() {
        return Ok(());
    }
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed())?;
    let done = version(&transaction, path)?;
    for step in list.iter().skip(done) {
        transaction.execute_batch(step).map_err(failed())?;
    }
    transaction
        .pragma_update(None, "user_version", i64::try_from(list.len()).unwrap_or(i64::MAX))
        .map_err(failed())?;
    transaction.commit().map_err(failed())
}

/// How many entries of its list the database has seen.
pub fn version(connection: &Connection, path: &Path) -> Result<usize> {
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(Error::database("read", path))?;
    Ok(usize::try_from(version).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_or_from_any_earlier_version_ends_the_same() {
        for list in [crate::store::state::SCHEMA, crate::store::settings::SCHEMA] {
            for begin in 0..=list.len() {
                let mut db = Connection::open_in_memory().unwrap();
                let path = Path::new("memory");
                migrate(&mut db, path, &list[..begin]).unwrap();
                migrate(&mut db, path, list).unwrap();
                migrate(&mut db, path, list).unwrap();
                assert_eq!(version(&db, path).unwrap(), list.len());
            }
        }
    }

    #[test]
    fn a_newer_database_is_left_as_it_is() {
        let mut db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
        migrate(&mut db, Path::new("memory"), &["CREATE TABLE a(b)"]).unwrap();
        assert_eq!(version(&db, Path::new("memory")).unwrap(), 99);
    }
}
