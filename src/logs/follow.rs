//! Following the logs that the setting `follow_logs` names: each minute root opens them, and user `postern` reads what
//! was added.
//!
//! A log that was rotated away is read to its end under its next name (`FILE.1`), then the one in its place from its
//! begin. One that was emptied and is written anew (logrotate's `copytruncate`) is known by its first line.

use super::learn::{Reading, Summary, Why, earlier_name};
use super::source::{self, Source};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::settings::Settings;
use crate::tick::only_one::reader_of_logs;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long is read in one minute; what is left is read in the next.
const LONGEST: Duration = Duration::from_secs(20);

/// A log that is followed, as root opened it.
#[derive(Debug)]
pub struct Followed {
    /// The name that the setting has.
    pub name: String,
    now: Option<File>,
    earlier: Option<File>,
}

impl Followed {
    /// Its open files.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.now.as_ref(), self.earlier.as_ref()].into_iter().flatten().map(AsFd::as_fd)
    }
}

/// The names of the setting.
pub fn names(settings: &Settings) -> impl Iterator<Item = &str> {
    settings.follow_logs.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// Opens each log, or says why not.
pub fn open(call: &Call, settings: &Settings) -> Vec<Result<Followed>> {
    let open_one = |name: &str| {
        let path = call.paths.at(name);
        // Where there is none, nothing was rotated away; one that is compressed already was read before.
        let earlier = source::open(&rotated(&path)).ok();
        match source::open(&path) {
            Ok(now) => Ok(Followed { name: name.into(), now: Some(now), earlier }),
            // Rotated, and its server makes it anew with the next line.
            Err(_) if earlier.is_some() && is_missing(&path) => {
                Ok(Followed { name: name.into(), now: None, earlier })
            }
            Err(error) => Err(Error::Data(format!("The log {name} cannot be followed. {error}"))),
        }
    };
    names(settings).map(open_one).collect()
}

/// Whether nothing is there, so that it may come.
pub fn is_missing(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// The next name of a log that was rotated away.
pub fn rotated(path: &Path) -> PathBuf {
    let mut next = path.as_os_str().to_owned();
    next.push(".1");
    PathBuf::from(next)
}

/// Reads what was added to each; nothing where `postern learn` reads now, since the next minute comes. As user
/// `postern`.
pub fn read(call: &Call, settings: &Settings, logs: &[Followed]) -> Vec<Result<Summary>> {
    let _alone = match reader_of_logs(&call.paths, Duration::ZERO) {
        Ok(Some(lock)) => lock,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Err(error)],
    };
    let until = Instant::now() + LONGEST;
    let mut all = Vec::new();
    for log in logs {
        if let Some(earlier) = &log.earlier {
            all.push(read_one(call, settings, log, earlier, true, until));
        }
        if let Some(now) = &log.now {
            all.push(read_one(call, settings, log, now, false, until));
        }
    }
    all
}

fn read_one(
    call: &Call,
    settings: &Settings,
    log: &Followed,
    file: &File,
    is_earlier: bool,
    until: Instant,
) -> Result<Summary> {
    let file = file.try_clone().map_err(Error::file("read", log.name.as_ref()))?;
    let source = Source::new(log.name.clone(), file)?;
    let name = if is_earlier { earlier_name(&log.name) } else { log.name.clone() };
    Reading::new(call, settings, Why::Follow { is_earlier }, until).read(&source, &name)
}
