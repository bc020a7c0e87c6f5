//! `postern backup` and `postern restore`.
//!
//! A backup holds the settings and the state, each as of one moment, while hooks and keeper go on. Root writes and reads
//! the file; the state is copied and put back by a child that is user `postern`. A restore looks at everything before
//! it changes anything; what it refuses leaves every byte as it was.
//!
//! Not in it: the network data (`postern data build` makes them), keys and addresses in `/etc/postern` (`postern init`
//! makes the keys), the tally of the last minute.

mod archive;

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::clock::readable;
use crate::error::{Error, Result};
use crate::log::{Line, Severity};
use crate::on_state::{as_postern_holding, stored_user};
use crate::paths::Paths;
use crate::policy::Policy;
use crate::store::copy::Draft;
use crate::store::settings::restore::{self, Checked, SetAside};
use crate::store::settings::{Host, SettingsStore};
use crate::store::state::backup as state;
use archive::{FORM, Manifest, SETTINGS, STATE};
use nix::libc;
use nix::unistd::geteuid;
use serde_json::json;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How folders for files in the making begin.
const WORKPLACE: &str = "backup-";

/// After so many seconds one counts as left behind by a program that was killed.
const LEFT_BEHIND: u64 = 86_400;

fn remove_left_behind(folder: &Path) {
    let old = |entry: &std::fs::DirEntry| {
        let age = entry.metadata().ok().and_then(|m| m.modified().ok()?.elapsed().ok());
        age.is_some_and(|age| age.as_secs() > LEFT_BEHIND)
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORKPLACE) && old(&entry) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Root's own folder for files in the making; goes when dropped.
struct Workplace(PathBuf);

impl Workplace {
    fn begin(paths: &Paths) -> Result<Workplace> {
        remove_left_behind(&paths.lib());
        let path = paths.lib().join(format!("{WORKPLACE}{:010x}", crate::call::random_bits() >> 24));
        DirBuilder::new().mode(0o700).create(&path).map_err(Error::file("make", &path))?;
        Ok(Workplace(path))
    }

    /// An empty file in it.
    fn file(&self, name: &str) -> Result<File> {
        let (draft, file) = Draft::begin(self.0.join(name))?;
        draft.keep();
        Ok(file)
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Copies settings and state into a new file of root's own.
pub fn backup(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let paths = &admin.call.paths;
    let store = admin.settings()?;
    // Before any work: a name that is taken is the likeliest mistake.
    let target = PathBuf::from(given.text("file"));
    let (draft, mut out) = Draft::begin(target.clone())?;
    let place = Workplace::begin(paths)?;
    let mut files = vec![place.file(SETTINGS)?];
    let generation = store.copy_to(&place.0.join(SETTINGS))?;
    if !given.is_on("settings_only")? {
        let copy = place.file(STATE)?;
        as_postern_holding(paths, &[copy.as_fd()], || state::copy_out(paths, &copy))
            .map_err(without_state)?;
        files.push(copy);
    }
    let parts = [SETTINGS, STATE].iter().zip(&mut files).map(|(name, file)| archive::part(name, file));
    let parts =
        parts.collect::<std::io::Result<Vec<_>>>().map_err(Error::file("read the copies for", &target))?;
    let version = env!("CARGO_PKG_VERSION").to_string();
    let manifest =
        Manifest { program: "postern".into(), form: FORM, version, made: admin.call.now, generation, parts };
    let written = archive::write(&mut out, &manifest, &mut files).and_then(|()| out.sync_all());
    written.map_err(Error::file("write", &target))?;
    draft.keep();
    let bytes = archive::length(&out, &target)?;
    line(admin, "backup", &target, generation);
    let what = if files.len() > 1 { "Settings and state" } else { "The settings" };
    let said = format!("{what} are in {} (generation {generation}, {bytes} bytes).", target.display());
    let data = json!({ "file": target, "generation": generation, "bytes": bytes, "parts": manifest.parts });
    Ok(Outcome { data, ..Outcome::said(said) })
}

fn without_state(error: Error) -> Error {
    let sentence = error.to_string();
    Error::told(
        error.code(),
        format!("{sentence} `postern backup FILE --settings-only` leaves the state out."),
    )
}

fn line(admin: &Admin, event: &str, file: &Path, generation: i64) {
    Line::new(Severity::Notice, event)
        .field("who", &admin.who)
        .field("file", file.display())
        .field("generation", generation)
        .send(&admin.call.paths, admin.call.program);
}

/// Puts settings out of a backup, and the state if that is asked for, in the place of what is there.
pub fn restore(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let paths = &admin.call.paths;
    let path = PathBuf::from(given.text("file"));
    let place = Workplace::begin(paths)?;
    let manifest = unpacked(&path, &place)?;
    let checked = restore::check(&place.0.join(SETTINGS))?;
    let state = given.is_on("state")?.then(|| state_of(&manifest, &place)).transpose()?;
    if let Some(file) = &state {
        as_postern_holding(paths, &[file.as_fd()], || state::verify(paths, file))?;
    }
    let from = format!("backup of {}, generation {}", readable(manifest.made), manifest.generation);
    if !given.is_on("confirm")? {
        return Err(Error::NeedsConfirmation(format!(
            "This is a good {from}. It would replace {} as they are now; confirm that.",
            if state.is_some() { "the settings and the state" } else { "the settings" }
        )));
    }
    let aside = set_aside_what_is_damaged(admin, &checked)?;
    let mut store = admin.settings()?;
    let expected = given.number("generation")?;
    let state_aside = store.change(&admin.who, admin.call.now, expected, |change| {
        let put_back = |file: &File| {
            as_postern_holding(paths, &[file.as_fd()], || state::put_back(paths, file, admin.call.now))
        };
        // First what may still be refused: who works on the state may not let go of it.
        let state_aside = state.as_ref().map(put_back).transpose()?;
        restore::take_over(change, &checked, &from)?;
        Ok(state_aside)
    })?;
    let aside = aside.and_then(SetAside::keep);
    line(admin, "restore", &path, manifest.generation);
    admin.put_in_force(&store)?;
    let mut outcome = Outcome::said(format!("The settings are those of the {from}, and in force."));
    let told = |what: &str, at: PathBuf| format!("{what} from before is kept in {}.", at.display());
    outcome.messages.extend(state_aside.map(|at| format!("So is the state. {}", told("The one", at))));
    outcome.messages.extend(aside.map(|at| told("The damaged file", at)));
    outcome.warnings = checked.warnings;
    let generation = store.generation()?;
    outcome.data = json!({ "made": manifest.made, "from_generation": manifest.generation, "generation": generation, "state": state.is_some() });
    Ok(outcome)
}

/// Opens the file, if it is one that nobody but the caller wrote, and unpacks it.
fn unpacked(path: &Path, place: &Workplace) -> Result<Manifest> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let not_ours = |why: &str| {
        Error::NotAllowed(format!("{} {why}, so it is not believed. Nothing was changed.", path.display()))
    };
    let file = opened.map_err(|e| match e.raw_os_error() {
        Some(libc::ELOOP) => not_ours("is a link"),
        _ => Error::file("open", path)(e),
    })?;
    let about = file.metadata().map_err(Error::file("examine", path))?;
    if !about.is_file() {
        return Err(not_ours("is no plain file"));
    }
    if about.uid() != geteuid().as_raw() || about.mode() & 0o022 != 0 {
        return Err(not_ours("belongs to another user, or others can write it"));
    }
    let mut archive = tar::Archive::new(file);
    archive::open(&mut archive, about.len())?.unpack(|name| place.file(name))
}

fn state_of(manifest: &Manifest, place: &Workplace) -> Result<File> {
    if !manifest.parts.iter().any(|part| part.name == STATE) {
        return Err(Error::NotFound("There is no state in this backup: restore it without --state.".into()));
    }
    let path = place.0.join(STATE);
    File::open(&path).map_err(Error::file("open", &path))
}

/// Settings that cannot be read are what a backup is for: they make room, and are put back if nothing comes of it.
fn set_aside_what_is_damaged(admin: &Admin, checked: &Checked) -> Result<Option<SetAside>> {
    let paths = &admin.call.paths;
    match SettingsStore::open(paths).and_then(|store| store.check()) {
        Err(Error::Data(_) | Error::Database { .. }) => {
            SetAside::begin(paths, &host(paths, checked)?, admin.call.now).map(Some)
        }
        Ok(()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Who shares the files: as the policy says, which hooks can still read; else as the backup does.
fn host(paths: &Paths, checked: &Checked) -> Result<Host> {
    let head = Policy::open(&paths.policy()).and_then(|policy| policy.ask()?.head());
    match (stored_user(paths), head) {
        (Ok((postern_uid, postern_gid)), Ok(head)) => {
            Ok(Host { postern_uid, postern_gid, mail_uids: head.mail_uids.clone() })
        }
        _ => checked.host(),
    }
}
