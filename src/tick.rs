//! The minute's work, where no keeper does it: begins or sets aside the state, folds the tally, lifts stops
//! of who is on the whitelist, sends notices, prunes.
//!
//! Root's part is small: it makes `/run/postern` and publishes the policy where that is missing. All the rest
//! is done by a child that has become user `postern`.

use crate::call::Call;
use crate::decide::Fact;
use crate::error::{Error, Result};
use crate::folders;
use crate::gather;
use crate::notify;
use crate::on_state::as_postern;
use crate::policy::Policy;
use crate::request::{Door, Send};
use crate::server_country;
use crate::store::settings::SettingsStore;
use crate::store::state::{self, State, held, notices, rollups, senders};
use crate::tally;
use crate::trouble;
use nix::libc;
use nix::unistd::geteuid;
use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a hook may go on writing into a tally that was renamed.
const LATE_WRITERS: Duration = Duration::from_secs(2);

/// Trouble that nobody met for a week is forgotten.
const FORGET_TROUBLE: i64 = 7 * 86_400;

/// Largest tally file that is folded; more is not from hooks.
const LARGEST: u64 = 512 * 1024 * 1024;

/// Does it all; gives what is worth telling. Each part is tried although another failed.
pub fn tick(call: &Call) -> Result<Vec<String>> {
    let mut told = Vec::new();
    if geteuid().is_root() {
        told.extend(as_root(call).unwrap_or_else(|error| vec![error.to_string()]));
    }
    let done: Vec<String> = as_postern(&call.paths, || Ok(work(call)))?;
    told.extend(done);
    Ok(told)
}

/// What only root can do.
fn as_root(call: &Call) -> Result<Vec<String>> {
    let store = SettingsStore::open(&call.paths)?;
    folders::make_run(&call.paths, &store.host()?)?;
    let published = Policy::open(&call.paths.policy()).and_then(|policy| policy.ask()?.head());
    let current = store.generation()?;
    if published.is_ok_and(|head| head.generation == current) {
        return Ok(Vec::new());
    }
    let generation = server_country::publish(call, &store)?;
    Ok(vec![format!("The policy was published anew (generation {generation}).")])
}

/// As user `postern`.
fn work(call: &Call) -> Vec<String> {
    let mut told = Vec::new();
    match state::begin(&call.paths, call.now) {
        Ok(begun) => told.extend(begun),
        Err(error) => {
            state::mark_trouble(call, &error);
            return vec![format!("The state cannot be worked on: {error}")];
        }
    }
    for part in [fold_tally, release_whitelisted, notify::send_waiting, tidy] {
        match part(call) {
            Ok(lines) => told.extend(lines),
            Err(error) => told.push(error.to_string()),
        }
    }
    told
}

/// Renames the current tally, waits for late writers, folds it and what earlier calls left.
fn fold_tally(call: &Call) -> Result<Vec<String>> {
    if tally::close_current(&call.paths, call.now)? {
        std::thread::sleep(LATE_WRITERS);
    }
    let mut state = State::open(&call.paths)?;
    let failed = |file: PathBuf| fold_file(call, &mut state, &file).err().map(|e| e.to_string());
    Ok(waiting(call)?.into_iter().filter_map(failed).collect())
}

fn waiting(call: &Call) -> Result<Vec<PathBuf>> {
    let folder = call.paths.tally_dir();
    let entries = std::fs::read_dir(&folder).map_err(Error::file("read", &folder))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("fold-")));
    files.sort();
    Ok(files)
}

fn fold_file(call: &Call, state: &mut State, file: &Path) -> Result<()> {
    if let Some(bytes) = read_plain(file)? {
        let (failed, failed_too) = (state.failed("write to"), state.failed("write to"));
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let transaction = state.begin()?;
        rollups::fold(&transaction, &name, &String::from_utf8_lossy(&bytes), call.now).map_err(failed)?;
        transaction.commit().map_err(failed_too)?;
    }
    std::fs::remove_file(file).map_err(Error::file("remove", file))
}

/// Mail users can put anything here: only plain files of a sane size are read, no link is followed, and no
/// pipe is waited for.
fn read_plain(path: &Path) -> Result<Option<Vec<u8>>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let Ok(mut file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Ok(None) };
    let meta = file.metadata().map_err(Error::file("examine", path))?;
    if !meta.is_file() || meta.len() > LARGEST {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    Ok(Some(bytes))
}

/// A whitelist entry lifts the stop of its accounts; where that failed when it was saved, it is done here.
fn release_whitelisted(call: &Call) -> Result<Vec<String>> {
    let mut state = State::open(&call.paths)?;
    let stops = senders::stops(state.connection(), call.now).map_err(state.failed("read"))?;
    let is_whitelisted = |name: &str| {
        let send = Send {
            account: crate::account::Account::from_server(name),
            address: None,
            by_mail_server: false,
            uid: None,
            recipients: 1,
            message: None,
            local: true,
            door: Door::Explain,
        };
        matches!(gather::send(call, &send), Fact::Known(policy) if policy.whitelisted.is_some())
    };
    if !stops.iter().any(|stop| is_whitelisted(&stop.account)) {
        return Ok(Vec::new());
    }
    let n = senders::release_matching(&mut state, &is_whitelisted)?;
    Ok(vec![format!("{n} stops were lifted, since their accounts are on the whitelist.")])
}

fn tidy(call: &Call) -> Result<Vec<String>> {
    let mut state = State::open(&call.paths)?;
    let (failed, failed_too) = (state.failed("write to"), state.failed("write to"));
    let transaction = state.begin()?;
    senders::prune(&transaction, call.now)
        .and_then(|()| notices::prune(&transaction, call.now))
        .and_then(|()| rollups::prune(&transaction, call.now))
        .and_then(|()| held::prune(&transaction, call.now))
        .map_err(failed)?;
    transaction.commit().map_err(failed_too)?;
    trouble::clear(&call.paths, FORGET_TROUBLE);
    state.checkpoint()?;
    Ok(Vec::new())
}
