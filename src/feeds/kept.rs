//! What is kept of each feed between fetches, in files beside the network data: the list as it came (`NAME.list`), and
//! what is known of it (`NAME.json`). User `postern`'s own; nobody else enters the folder.
//!
//! Not the whole of both is ever half there: each is written beside and renamed. Where only one of them made it, the
//! list is fetched again.

use super::Definition;
use super::check::Size;
use super::formats::Broken;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::kept_file::{read_up_to, replace};
use crate::paths::Paths;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;

/// Largest record of a feed that is read, in bytes.
const MOST: u64 = 64 * 1024;

/// What is known of a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// From where, and read how: of another definition it is worth nothing.
    pub source: String,
    /// When it was asked for last, whatever came.
    pub asked: Seconds,
    /// When it is due again.
    pub due: Seconds,
    /// When the list in use came, or was said to be the current one. None yet: 0.
    pub confirmed: Seconds,
    /// When the list in use was made, as it or its server says.
    pub made: Option<Seconds>,
    /// By what its publisher knows it again (RFC 9110 §8.8).
    pub etag: Option<String>,
    /// The same, by time, as it was given.
    pub last_modified: Option<String>,
    /// How many entries the list in use has.
    pub entries: usize,
    /// How much the list held that the growth of newer ones is measured by.
    pub(super) size: Option<Size>,
    /// When that one came.
    pub(super) measured: Seconds,
    /// Lines of it that are no entries.
    pub broken: Broken,
    /// Entries that were left out of it, since they hold the server itself: in words. None: empty.
    pub own: String,
    /// Whose it is, as it says itself.
    pub credit: Option<String>,
    /// Why a newer list was refused; gone with one that is taken.
    pub refused: Option<String>,
    /// Why asking failed last; gone with an answer.
    pub failed: Option<String>,
}

impl Kept {
    /// From when the age of the list in use counts: from when it was made, as far as that is said and not in the
    /// future; else from when it was current. None where there is no list.
    pub fn as_of(&self) -> Option<Seconds> {
        let confirmed = Some(self.confirmed).filter(|at| *at > 0)?;
        Some(self.made.map_or(confirmed, |made| made.min(confirmed)))
    }

    /// When the list in use stops refusing.
    pub fn ends(&self, feed: &Definition) -> Option<Seconds> {
        self.as_of().map(|at| at.saturating_add(feed.age))
    }

    /// Whether the list in use is too old. A time in the future counts as now.
    pub fn is_expired(&self, feed: &Definition, now: Seconds) -> bool {
        self.ends(feed).is_some_and(|ends| ends <= now)
    }

    /// What is kept of this feed; nothing where it is of another definition, unreadable, or not there.
    pub(super) fn of(paths: &Paths, feed: &Definition) -> Kept {
        let read = || -> Option<Kept> {
            let text = read_up_to(&record(paths, &feed.name), MOST).ok()?;
            serde_json::from_slice::<Kept>(&text).ok().filter(|kept| kept.source == feed.source())
        };
        read().unwrap_or_else(|| Kept { source: feed.source(), ..Kept::default() })
    }

    pub(super) fn keep(&self, paths: &Paths, feed: &Definition) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| {
            Error::Data(format!("What is known of the feed {} cannot be written: {e}.", feed.name))
        })?;
        replace(&record(paths, &feed.name), 0o600, |file| file.write_all(&text))
    }
}

/// Sets times right that lie ahead of now, since the clock was set back: a list from the future would never end.
pub(super) fn set_right(paths: &Paths, feed: &Definition, now: Seconds) -> Result<()> {
    let kept = Kept::of(paths, feed);
    if kept.confirmed.max(kept.measured) <= now {
        return Ok(());
    }
    let (confirmed, measured) = (kept.confirmed.min(now), kept.measured.min(now));
    Kept { confirmed, measured, ..kept }.keep(paths, feed)
}

/// What is kept of each of these feeds. For user `postern`.
pub fn standing(paths: &Paths, feeds: &[Definition]) -> Vec<Kept> {
    feeds.iter().map(|feed| Kept::of(paths, feed)).collect()
}

fn record(paths: &Paths, name: &str) -> PathBuf {
    paths.feeds_dir().join(format!("{name}.json"))
}

/// The list as it came.
pub(super) fn list(paths: &Paths, name: &str) -> PathBuf {
    paths.feeds_dir().join(format!("{name}.list"))
}

/// Removes what is kept of feeds that are none of these.
pub(super) fn forget_others(paths: &Paths, feeds: &[Definition]) {
    let Ok(entries) = std::fs::read_dir(paths.feeds_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some((name, "json" | "list" | "new")) = name.to_str().and_then(|name| name.split_once('.'))
        else {
            continue;
        };
        if !feeds.iter().any(|feed| feed.name == name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_list_counts_from_when_it_was_made_and_never_from_the_future() {
        let kept = |confirmed, made| Kept { confirmed, made, ..Kept::default() };
        assert_eq!(kept(0, Some(5)).as_of(), None);
        assert_eq!(kept(100, None).as_of(), Some(100));
        assert_eq!(kept(100, Some(60)).as_of(), Some(60));
        assert_eq!(kept(100, Some(900)).as_of(), Some(100));
    }

    #[test]
    fn what_is_kept_is_read_back_and_of_another_definition_it_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        std::fs::create_dir_all(paths.data()).unwrap();
        crate::kept_file::own_folder(&paths.feeds_dir()).unwrap();
        let feed: Definition = "own https://example.org/a plain".parse().unwrap();
        let kept = Kept { entries: 7, confirmed: 9, ..Kept::of(&paths, &feed) };
        kept.keep(&paths, &feed).unwrap();
        assert_eq!(Kept::of(&paths, &feed), kept);
        let other: Definition = "own https://example.org/b plain".parse().unwrap();
        assert_eq!((Kept::of(&paths, &other).entries, Kept::of(&paths, &other).confirmed), (0, 0));
        std::fs::write(record(&paths, "own"), "{").unwrap();
        assert_eq!(Kept::of(&paths, &feed).entries, 0);
        forget_others(&paths, &[]);
        assert_eq!(std::fs::read_dir(paths.feeds_dir()).unwrap().count(), 0);
    }
}
