//! Notices: what waits, how each way stands, and a test of all of them.

use super::arguments::Arguments;
use super::status::{Level, Report};
use super::{Admin, Outcome};
use crate::clock::readable;
use crate::error::Result;
use crate::notify::standing::{self, Standing};
use crate::notify::{Defined, MAY_FAIL, send_test};
use crate::on_state::{as_postern_within, on_state};
use crate::settings::Settings;
use crate::store::state::State;
use crate::store::state::notices::{self, Channel, Notice};
use serde_json::{Value, json};

/// Rows that a list shows if not told.
const SHOWN: i64 = 100;

/// How long a test by every way may take, in seconds.
const A_TEST: u32 = 70;

/// What waits for mail, or for any other way where mail has taken it, and how each way stands.
pub(super) fn list_notices(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let most = given.number("limit")?.unwrap_or(SHOWN);
    type Found = (Vec<Standing>, Vec<(Channel, Vec<Notice>)>);
    let (channels, waiting): Found = on_state(&admin.call.paths, |state: &mut State| {
        state.read(|db| {
            let mut waiting = Vec::new();
            for channel in Channel::ALL {
                if let Some(progress) = notices::progress(db, channel)? {
                    waiting.push((channel, notices::waiting(db, channel, progress.base, most)?));
                }
            }
            Ok((standing::all(db)?, waiting))
        })
    })?;
    let channel = |s: &Standing| {
        json!({
            "channel": s.channel.name(),
            "waiting": s.waiting,
            "dropped": s.fallen,
            "sent": s.memory.last,
            "failing_since": s.memory.failing_since.map(readable),
            "tries": s.memory.tries,
            "says": s.memory.error,
        })
    };
    let mut rows: Vec<(Notice, Vec<&str>)> = Vec::new();
    for (channel, notices) in waiting {
        for notice in notices {
            match rows.iter_mut().find(|(there, _)| there.id == notice.id) {
                Some((_, channels)) => channels.push(channel.name()),
                None => rows.push((notice, vec![channel.name()])),
            }
        }
    }
    rows.sort_by_key(|(notice, _)| notice.id);
    rows.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    let row = |(notice, channels): &(Notice, Vec<&str>)| {
        json!({
            "at": notice.at,
            "kind": notice.kind,
            "account": notice.account,
            "waits_for": channels.join(","),
            "sentence": notice.detail,
        })
    };
    let channels: Vec<Value> = channels.iter().map(channel).collect();
    let waiting: Vec<Value> = rows.iter().map(row).collect();
    Ok(json!({ "channels": channels, "waiting": waiting }).into())
}

/// Sends a test by mail, webhook and command, at once and beside the queue, and says what became of it.
pub(super) fn send_test_notice(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let (call, who) = (&admin.call, admin.who.as_str());
    let defined = Defined::read(&call.paths);
    let done = as_postern_within(&call.paths, A_TEST, || send_test(call, &defined, who))?;
    let mut outcome = Outcome::default();
    for (channel, failed) in done {
        let name = channel.name();
        match failed {
            None => outcome.messages.push(format!("{name}: it was taken.")),
            Some(why) => outcome.failures.push(format!("{name}: {why}")),
        }
    }
    Ok(outcome)
}

/// How each way stands.
pub(super) fn report(admin: &Admin, settings: &Settings, all: &[Standing], report: &mut Report) {
    let now = admin.call.now;
    let defined = Defined::read(&admin.call.paths);
    let is_bad = |channel| match channel {
        Channel::Webhook => defined.webhook.why().is_some(),
        Channel::Command => defined.command.why().is_some(),
        _ => false,
    };
    for standing in all.iter().filter(|standing| !is_bad(standing.channel)) {
        let (waiting, memory) = (standing.waiting, &standing.memory);
        let is_mail = standing.channel == Channel::Mail;
        let (level, says) = match (memory.failing_since, standing.gathers_until(now)) {
            (_, _) if is_mail && settings.administration_email_address.is_empty() => (
                Level::Trouble,
                format!(
                    "Nobody is told: administration_email_address is empty; {waiting} wait. `postern settings set administration_email_address ADDRESS`."
                ),
            ),
            (Some(since), _) => {
                let level = if now - since >= MAY_FAIL { Level::Trouble } else { Level::Warning };
                (level, format!("Sending fails since {}; {waiting} wait. {}", readable(since), memory.error))
            }
            (None, Some(end)) if waiting > 0 => {
                (Level::Good, format!("{waiting} are gathered for a digest at {}.", readable(end)))
            }
            _ if waiting > 0 => {
                (Level::Warning, format!("{waiting} wait to be sent; `postern tick` sends them."))
            }
            _ => (Level::Good, "0 wait to be sent; `postern tick` sends them.".to_owned()),
        };
        report.add(&part(standing.channel), level, says);
    }
    // A file that cannot be used is trouble at once, also before its first turn.
    for (channel, why) in
        [(Channel::Webhook, defined.webhook.why()), (Channel::Command, defined.command.why())]
    {
        if let Some(why) = why {
            let waiting = all.iter().find(|s| s.channel == channel).map_or(0, |s| s.waiting);
            report.add(&part(channel), Level::Trouble, format!("{why} {waiting} wait."));
        }
    }
}

fn part(channel: Channel) -> String {
    match channel {
        Channel::Mail => "notices".to_owned(),
        other => format!("notices by {}", other.name()),
    }
}
