//! Following the logs that the setting `follow_logs` names: each minute root opens them, and user `postern` reads what
//! was added.
//!
//! A log that was rotated away is read to its end under its next name (`FILE.1`), then the one in its place from its
//! begin. One that was emptied and is written anew (logrotate's `copytruncate`) is known by its first line.

use super::learn::{Reading, Summary, Why};
use super::source::{self, Source};
use crate::call::Call;
use crate::error::{Error, Result};
use crate::settings::Settings;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long is read in one minute; what is left is read in the next.
const LONGEST: Duration = Duration::from_secs(20);

/// A log that is followed, as root opened it.
#[derive(Debug)]
pub struct Followed {
    /// The name that the setting has.
    pub name: String,
    now: File,
    earlier: Option<File>,
}

impl Followed {
    /// Its open files.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [Some(&self.now), self.earlier.as_ref()].into_iter().flatten().map(AsFd::as_fd)
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
        let mut next = path.clone().into_os_string();
        next.push(".1");
        // Where there is none, nothing was rotated away; one that is compressed already was read before.
        let earlier = source::open(&PathBuf::from(next)).ok();
        match source::open(&path) {
            Ok(now) => Ok(Followed { name: name.into(), now, earlier }),
            Err(error) => Err(Error::Data(format!("The log {name} cannot be followed. {error}"))),
        }
    };
    names(settings).map(open_one).collect()
}

/// Reads what was added to each. As user `postern`.
pub fn read(call: &Call, settings: &Settings, logs: &[Followed]) -> Vec<Result<Summary>> {
    let until = Instant::now() + LONGEST;
    let mut all = Vec::new();
    for log in logs {
        if let Some(earlier) = &log.earlier {
            all.push(read_one(call, settings, log, earlier, true, until));
        }
        all.push(read_one(call, settings, log, &log.now, false, until));
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
    Reading::new(call, settings, Why::Follow { is_earlier }, until).read(&source, &log.name)
}
