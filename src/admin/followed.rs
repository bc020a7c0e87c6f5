//! What `postern status` says of the logs that are followed.

use super::Admin;
use super::status::{Level, Report};
use crate::clock::{Seconds, readable};
use crate::error::Result;
use crate::logs::follow;
use crate::logs::learn::last_followed;
use crate::logs::source;
use crate::on_state::on_state;
use crate::request::Service;
use crate::settings::{LoginsFrom, Settings};
use crate::sources;
use crate::store::state::logs::{Known, Purpose};

/// After so long without a line, where doors were asked, a log counts as silent: another one is written, perhaps.
const SILENT: Seconds = 86_400;

/// The services whose logins logs tell of.
const SERVICES: [(&str, Service); 3] =
    [("SMTP logins", Service::Smtp), ("IMAP logins", Service::Imap), ("POP3 logins", Service::Pop3)];

/// When each door asked last: name, service, time.
type Doors = [(String, String, Seconds)];

/// Adds a row for each log, and for each service whose logins they tell of.
pub(super) fn report(admin: &Admin, settings: &Settings, doors: &Doors, report: &mut Report) -> Result<()> {
    let names: Vec<String> = follow::names(settings).map(str::to_owned).collect();
    let asked = doors.iter().map(|(_, _, last)| *last).max();
    let read = |state: &mut crate::store::state::State| {
        state.read(|db| {
            let last = |name: &String, purpose| last_followed(db, name, purpose);
            names.iter().map(|n| Ok((last(n, Purpose::Inbound)?, last(n, Purpose::Logins)?))).collect()
        })
    };
    let known: Vec<(Option<Known>, Option<Known>)> = on_state(&admin.call.paths, read)?;
    for (name, (inbound, logins)) in names.iter().zip(&known) {
        let (level, says) = of_log(admin, name, inbound.as_ref().or(logins.as_ref()), asked);
        report.add(&format!("log {name}"), level, says);
    }
    for (part, service) in SERVICES {
        if sources::setting(settings, service) == Some(LoginsFrom::Log) {
            let (level, says) = match names.is_empty() {
                true => (Level::Warning, "Counted from logs, and none is followed: set follow_logs."),
                false => (
                    Level::Note,
                    "Successes and failures are counted from the logs that are followed, tries as both together.",
                ),
            };
            report.add(&format!("{part}: source of record"), level, says);
        }
    }
    Ok(())
}

fn of_log(admin: &Admin, name: &str, known: Option<&Known>, asked: Option<Seconds>) -> (Level, String) {
    let path = admin.call.paths.at(name);
    let is_rotated = follow::is_missing(&path) && source::open(&follow::rotated(&path)).is_ok();
    if let Err(error) = source::open(&path)
        && !is_rotated
    {
        return (Level::Trouble, format!("Cannot be followed. {error}"));
    }
    let Some(known) = known else {
        return (Level::Warning, "Not read yet: is `postern tick` run each minute?".into());
    };
    let last = match known.said {
        0 => "no line since it is followed".to_string(),
        said => format!("last line of {}", readable(said)),
    };
    let says = format!("Followed; read {}, {last}.", readable(known.at));
    let since = if known.said == 0 { known.at } else { known.said };
    match asked.is_some_and(|asked| asked - since > SILENT) {
        true => {
            (Level::Warning, format!("{says} Doors were asked since: do the servers write to another log?"))
        }
        false => (Level::Good, says),
    }
}
