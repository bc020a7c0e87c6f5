//! Access to files of the state that are there already. A mail user that was added later is on the folders'
//! access lists, which new files take over; older files know nothing of it. For user `postern`.

use super::connect;
use super::upkeep::{move_aside, told_aside};
use crate::acl;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::shared_folder::{Found, own_file};
use crate::store::lock;
use crate::tally;
use rusqlite::config::DbConfig;
use std::path::Path;

/// Gives these users, and nobody else, access to state, lock and tally. What is not user `postern`'s own
/// cannot be given: a foreign state is set aside, the rest is laid anew. Tells what deserves it.
pub fn give_access(paths: &Paths, mail_uids: &[u32], now: Seconds) -> Result<Option<String>> {
    let alone = lock::exclusive(paths)?;
    alone.lay_anew(paths)?;
    // The next line makes the file anew, with the folder's list.
    tally::close_current(paths, now)?;
    let path = paths.state();
    match own_file(&path) {
        Found::Nothing => Ok(None),
        Found::Own(file) => {
            acl::set_sharers(&file, &path, mail_uids)?;
            // SQLite's locks end where any descriptor of the file is closed: this one is, before it is opened.
            drop(file);
            fold_side_files(&path);
            Ok(None)
        }
        Found::Foreign => {
            let aside = move_aside(paths, now, &alone)?;
            Ok(Some(told_aside("it was no ordinary file of Postern's own user", &aside)))
        }
    }
}

/// Writes the WAL back; SQLite then removes both side files, which belong to whoever needed them first, and
/// makes them anew when it needs them. Where that fails the state is damaged, which is found out next.
fn fold_side_files(path: &Path) {
    let fold = || -> Result<()> {
        let failed = || Error::database("checkpoint", path);
        let connection = connect(path)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(failed())?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed())?;
        connection.close().map_err(|(_, e)| failed()(e))
    };
    let _ = fold();
}
