//! How the channels stand, for `postern status` and `postern notices list`.

use super::plan::HOUR;
use crate::clock::Seconds;
use crate::store::state::notices::{self, Channel, Memory};
use rusqlite::{Connection, Result};
use serde::{Deserialize, Serialize};

/// A channel in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Standing {
    pub(crate) channel: Channel,
    /// What waits for it.
    pub(crate) waiting: i64,
    /// What fell off the cap and is not told yet.
    pub(crate) fallen: i64,
    /// The rest.
    pub(crate) memory: Memory,
}

impl Standing {
    /// Until when what waits is gathered, where an hour is running.
    pub(crate) fn gathers_until(&self, now: Seconds) -> Option<Seconds> {
        let end = self.memory.hour?.saturating_add(HOUR);
        (now < end && self.memory.failing_since.is_none()).then_some(end)
    }
}

/// Every channel that is in use.
pub(crate) fn all(db: &Connection) -> Result<Vec<Standing>> {
    let mut found = Vec::new();
    for channel in Channel::ALL {
        if let Some(progress) = notices::progress(db, channel)? {
            let waiting = notices::count_waiting(db, channel, progress.base)?;
            let fallen = match channel {
                Channel::Owner => 0,
                _ => notices::fallen(db, channel, &progress)?,
            };
            found.push(Standing { channel, waiting, fallen, memory: progress.memory });
        }
    }
    Ok(found)
}
