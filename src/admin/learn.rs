//! `postern learn FILE…`: the past, from the mail servers' logs.

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::call::Call;
use crate::clock::readable;
use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::logs::learn::{Reading, Summary, Why};
use crate::logs::source::{self, Source};
use crate::on_state::as_postern_holding;
use crate::progress::Progress;
use crate::tick::only_one::reader_of_logs;
use serde_json::{Value, json};
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// So long one child reads; then another goes on where it was.
const TURN: Duration = Duration::from_secs(60);

/// So long another reader of logs is waited for: longer than a turn, or the minute's work.
const WAIT: Duration = Duration::from_secs(90);

/// Reads each of the files. One that cannot be read is told at the end, and the others are read all the same.
pub fn learn_logs(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let dry_run = given.is_on("dry_run")?;
    let why = Why::Learn { since: given.since("since", admin.call.now)?, dry_run };
    let names: Vec<&str> = given.text("files").split(',').map(str::trim).filter(|f| !f.is_empty()).collect();
    let (mut outcome, mut files) = (Outcome::default(), Vec::new());
    let mut progress = Progress::default();
    for name in &names {
        match learn_one(admin, name, why, &mut progress) {
            Ok(summary) => {
                outcome.messages.push(sentence(&summary, dry_run));
                outcome.warnings.extend(warning(&summary));
                files.push(json!(summary));
            }
            // A single one has an answer of its own: the error.
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => outcome.failures.push(error.to_string()),
        }
    }
    if dry_run {
        outcome.messages.push("Nothing was changed.".into());
    }
    outcome.data = json!({ "files": files, "dry_run": dry_run, "total": total(&files) });
    Ok(outcome)
}

fn learn_one(admin: &Admin, name: &str, why: Why, progress: &mut Progress) -> Result<Summary> {
    let file = source::open(name.as_ref())?;
    let settings = admin.settings()?.settings()?;
    let mut summary = read(admin, name, &file, &settings, why)?;
    // A dry run keeps nothing by which another could go on.
    while !summary.is_whole && !matches!(why, Why::Learn { dry_run: true, .. }) {
        progress.tick();
        summary.add(read(admin, name, &file, &settings, why)?);
    }
    Ok(summary)
}

/// Root opens the file; who reads what others wrote is user `postern`.
fn read(
    admin: &Admin,
    name: &str,
    file: &File,
    settings: &crate::settings::Settings,
    why: Why,
) -> Result<Summary> {
    as_postern_holding(&admin.call.paths, &[file.as_fd()], || {
        let file = file.try_clone().map_err(Error::file("read", name.as_ref()))?;
        let _alone = match why {
            Why::Learn { dry_run: true, .. } => None,
            _ => Some(reader_of_logs(&admin.call.paths, WAIT)?.ok_or_else(busy)?),
        };
        let kept = Kept::for_the_past();
        let call = Call { kept: Some(&kept), ..admin.call.clone() };
        Reading::new(&call, settings, why, Instant::now() + TURN).read(&Source::new(name, file)?, name)
    })
}

fn busy() -> Error {
    Error::State("Logs are being read by another `postern learn` all the time; nothing was read. Try again when it is done.".into())
}

fn sentence(s: &Summary, dry_run: bool) -> String {
    if s.lines == 0 {
        let known = if s.was_known { "nothing new: all of it was read before" } else { "no line" };
        return format!("{}: {known}.", s.file);
    }
    let span = match (s.first, s.last) {
        (Some(first), Some(last)) => format!(", {} to {}", readable(first), readable(last)),
        _ => String::new(),
    };
    let of: Vec<&str> = s.of.iter().map(|(server, _)| server.as_str()).collect();
    let (count, teach) = if dry_run { ("would count", "would make") } else { ("count", "make") };
    format!(
        "{}: {} lines of {}{span}: {} logins succeeded, {} failed, {} messages came in. Of these {} {count} in figures, and {} logins {teach} networks known.",
        s.file,
        s.lines,
        of.join(", "),
        s.successes,
        s.failures,
        s.inbound,
        s.counted,
        s.taught
    )
}

fn warning(s: &Summary) -> Vec<String> {
    let mut all = Vec::new();
    if s.ambiguous > 0 {
        all.push(format!(
            "{}: {} lines can be read in two ways, or in none, and count for nobody (a client may have chosen a name, or its HELO, so that they do).",
            s.file, s.ambiguous
        ));
    }
    if !s.is_whole {
        all.push(format!("{}: only the first {} lines were looked at.", s.file, s.lines));
    }
    if s.left_out > 0 {
        all.push(format!(
            "{}: {} events were left out: older than figures are kept (`keep_traffic_days`), before --since, or ahead of the clock.",
            s.file, s.left_out
        ));
    }
    all
}

fn total(files: &[Value]) -> Value {
    let sum = |key: &str| files.iter().filter_map(|f| f[key].as_u64()).sum::<u64>();
    let keys = ["lines", "successes", "failures", "inbound", "counted", "taught", "ambiguous", "left_out"];
    json!(keys.map(|key| (key, sum(key))).into_iter().collect::<std::collections::BTreeMap<_, _>>())
}
