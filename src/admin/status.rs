//! What is in place, what is not covered, what is in trouble.

use super::arguments::Arguments;
use super::monitoring::{self, Figures};
use super::{Admin, Outcome, data, feeds, followed, notices};
use crate::admin::envelope::envelope;
use crate::clock::{Seconds, readable};
use crate::door::{line, policy};
use crate::error::{Error, Result};
use crate::notify::standing::{self, Standing};
use crate::on_state::on_state;
use crate::panel;
use crate::paths::EXIM_SOCKET;
use crate::policy::Policy;
use crate::request::{Door, Service};
use crate::server_country;
use crate::settings::{LoginsFrom, Mode, Settings};
use crate::sources::{self, Told};
use crate::store::state::notices::Channel;
use crate::store::state::{rollups, senders};
use crate::trouble;
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// After so long without a question a door counts as not asked.
const QUIET: i64 = 7 * 86_400;

/// Trouble that nobody met for so long is told as past; `postern trouble clear` forgets it.
const FRESH: i64 = 3600;

/// How long the keeper may take to answer; mail servers wait for a second.
const KEEPER_ANSWERS: Duration = Duration::from_secs(2);

/// How a part fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Note,
    Good,
    Warning,
    Trouble,
}

impl Level {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Level::Note => "note",
            Level::Good => "good",
            Level::Warning => "warning",
            Level::Trouble => "TROUBLE",
        }
    }
}

/// A part with what is said of it.
pub(crate) struct Row {
    pub(crate) part: String,
    pub(crate) level: Level,
    pub(crate) says: String,
}

/// The report in the making.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) worst: Option<Level>,
    pub(crate) figures: Figures,
    /// Whether the caller may not read what the report is about.
    pub(crate) is_blind: bool,
}

impl Report {
    pub(crate) fn add(&mut self, part: &str, level: Level, says: impl Into<String>) {
        self.worst = self.worst.max(Some(level));
        self.rows.push(Row { part: part.into(), level, says: says.into() });
    }

    fn as_json(&self) -> Value {
        let row = |r: &Row| json!({ "part": r.part, "state": r.level.word(), "says": r.says });
        let state = match self.worst {
            Some(worst @ (Level::Trouble | Level::Warning)) => worst.word(),
            _ => Level::Good.word(),
        };
        let parts: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "state": state, "parts": parts, "figures": self.figures.as_json() })
    }
}

/// What the state tells about doors, stops and notices.
type FromState = (Vec<(String, String, Seconds)>, usize, Vec<Standing>);

/// The whole report, in the form that is asked for. For Nagios the exit status tells too, and what cannot be found
/// out is an answer.
pub fn status(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let told = |(text, exit): (String, u8)| Outcome { exit: Some(exit), ..Outcome::whole(text) };
    match given.text("format") {
        "nagios" => {
            monitoring::unknown_after_patience();
            let found = report(admin);
            Ok(told(found.map_or_else(
                |error| monitoring::nagios_unknown(&error.to_string()),
                |report| monitoring::nagios(&report, admin.call.now),
            )))
        }
        "prometheus" => Ok(Outcome::whole(monitoring::prometheus(&report(admin)?, admin.call.now))),
        "json" => {
            let outcome = Outcome::from(report(admin)?.as_json());
            let text = format!("{}\n", envelope(&Ok(outcome.clone())));
            Ok(Outcome { text: Some(text), ..outcome })
        }
        _ => Ok(report(admin)?.as_json().into()),
    }
}

fn report(admin: &Admin) -> Result<Report> {
    let mut report = Report::default();
    let settings = settings_and_policy(admin, &mut report);
    networks(admin, &mut report)?;
    if !report.is_blind {
        match feeds::report(admin) {
            Ok(rows) => rows.into_iter().for_each(|(part, level, says)| report.add(&part, level, says)),
            Err(error) => report.add("feeds", Level::Warning, error.to_string()),
        }
    }
    let found: Result<FromState> = on_state(&admin.call.paths, |state| {
        state.read(|db| {
            Ok((rollups::doors(db)?, senders::stops(db, admin.call.now)?.len(), standing::all(db)?))
        })
    });
    match found {
        Ok((doors, stops, channels)) => {
            report.figures.stopped_senders = Some(stops);
            let by_mail = channels.iter().find(|standing| standing.channel == Channel::Mail);
            report.figures.notices_waiting = by_mail.and_then(|mail| usize::try_from(mail.waiting).ok());
            report.figures.doors.clone_from(&doors);
            report.add("state", Level::Good, format!("In use; {stops} senders are stopped."));
            notices::report(admin, &settings, &channels, &mut report);
            covered(admin, &settings, &doors, &mut report);
            if let Err(error) = followed::report(admin, &settings, &doors, &mut report) {
                report.add("logs", Level::Trouble, error.to_string());
            }
        }
        Err(error) => report.add("state", Level::Trouble, error.to_string()),
    }
    undecided(admin, &settings, &mut report);
    panel(admin, &mut report);
    keeper(admin, &mut report);
    policy_server(admin, &settings, &mut report);
    tally(admin, &mut report);
    for mark in trouble::marks(&admin.call.paths) {
        let fresh = crate::clock::Clock::System.now() - mark.last < FRESH;
        let text =
            format!("{} ({} times, last {})", mark.trouble.sentence(), mark.count, readable(mark.last));
        let (level, text) = match fresh {
            true => (Level::Trouble, text),
            false => (Level::Warning, format!("It was so, and not lately: {text}")),
        };
        report.add(mark.trouble.code(), level, text);
        report.figures.trouble.push((mark.trouble.code(), mark.count, mark.last));
    }
    Ok(report)
}

fn settings_and_policy(admin: &Admin, report: &mut Report) -> Settings {
    let read = || {
        let store = admin.settings()?;
        Ok::<_, crate::error::Error>((store.settings()?, store.generation()?))
    };
    let (settings, generation) = match read() {
        Ok(both) => both,
        Err(error) => {
            report.is_blind = !nix::unistd::geteuid().is_root();
            report.add("settings", Level::Trouble, error.to_string());
            return Settings::default();
        }
    };
    report.add("settings", Level::Good, format!("Generation {generation}."));
    let head = Policy::open(&admin.call.paths.policy()).and_then(|policy| policy.ask()?.head());
    report.figures.settings_generation = Some(generation);
    report.figures.policy_generation = head.as_ref().ok().map(|head| head.generation);
    report.figures.policy_published = head.as_ref().ok().map(|head| head.published);
    match head {
        Ok(head) if head.generation == generation => {
            report.add("policy", Level::Good, format!("Published {}.", readable(head.published)));
        }
        Ok(head) => report.add(
            "policy",
            Level::Warning,
            format!(
                "Published is generation {}, not {generation}; `postern tick` publishes it.",
                head.generation
            ),
        ),
        Err(error) => report.add("policy", Level::Trouble, error.to_string()),
    }
    rules(admin, &settings, report);
    settings
}

fn rules(admin: &Admin, settings: &Settings, report: &mut Report) {
    let own = server_country::find(&admin.call.paths, settings);
    report.figures.rules = vec![
        ("country_rule", settings.country_rule.word()),
        ("source_rule", settings.source_rule.word()),
        ("rate_limiter", settings.rate_limiter.word()),
    ];
    let (level, says) = match settings.country_rule {
        Mode::Off => (Level::Warning, "Off: logins work from every country."),
        Mode::Monitor => (Level::Warning, "Monitor: it records what it would refuse, and refuses nothing."),
        Mode::Enforce => (Level::Good, "Enforced."),
    };
    report.add("country rule", level, format!("{says} The server's own country: {}", own.sentence));
    source_rule(admin, settings, report);
    let (level, says) = match settings.rate_limiter {
        Mode::Off => (Level::Warning, "Off: accounts may send without limit."),
        Mode::Monitor => (Level::Warning, "Monitor: it tells, and stops nobody."),
        Mode::Enforce => (Level::Good, "Enforced."),
    };
    report.add("outbound rate limiter", level, says);
}

fn source_rule(admin: &Admin, settings: &Settings, report: &mut Report) {
    let (mut level, mode) = match settings.source_rule {
        Mode::Off => (Level::Warning, "Off: logins work from cloud networks too."),
        Mode::Monitor => (Level::Warning, "Monitor: it records what it would refuse, and refuses nothing."),
        Mode::Enforce => (Level::Good, "Enforced."),
    };
    let mut says = mode.to_owned();
    if settings.source_rule != Mode::Off {
        let classes = [
            (settings.source_cloud_networks, "cloud networks"),
            (settings.source_vpn, "VPN services"),
            (settings.source_tor, "Tor"),
            (settings.source_relay, "private relays"),
        ];
        let on: Vec<&str> = classes.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        says += &format!(" For: {}.", if on.is_empty() { "nothing".into() } else { on.join(", ") });
        if data::marks_nothing(&admin.call.paths) {
            level = Level::Warning;
            says = format!("{says} {}", data::NO_SYSTEMS);
        }
    }
    report.add("source rule", level, says);
}

fn networks(admin: &Admin, report: &mut Report) -> Result<()> {
    let status = data::status(&admin.call.paths, admin.call.now)?;
    report.figures.data_built_at = status["built_at"].as_i64();
    let warnings: Vec<&str> =
        status["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let level = match (status["usable"] == true, warnings.is_empty()) {
        (false, _) => Level::Trouble,
        (true, false) => Level::Warning,
        (true, true) => Level::Good,
    };
    let says =
        if warnings.is_empty() { format!("{} days old.", status["age_days"]) } else { warnings.join(" ") };
    report.add("network data", level, says);
    Ok(())
}

/// The doors that can refuse whoever wants to read mail.
const READING: &[Door] =
    &[Door::DovecotPolicy, Door::DovecotGate, Door::DovecotChain, Door::DovecotPostlogin];

/// Which services are guarded, by who asked lately.
fn covered(admin: &Admin, settings: &Settings, doors: &[(String, String, Seconds)], report: &mut Report) {
    let asked = |door: Door, service: Service| {
        doors
            .iter()
            .find(|(d, s, last)| d == door.name() && s == service.name() && admin.call.now - last < QUIET)
            .map(|(_, _, last)| readable(*last))
    };
    let places: [(&str, Service, &[Door]); 5] = [
        (
            "SMTP logins",
            Service::Smtp,
            &[
                Door::DovecotPolicy,
                Door::DovecotGate,
                Door::DovecotChain,
                Door::EximAuth,
                Door::EximMail,
                Door::PostfixAuth,
                Door::PostfixMail,
            ],
        ),
        ("IMAP logins", Service::Imap, READING),
        ("POP3 logins", Service::Pop3, READING),
        ("messages by SMTP", Service::Smtp, &[Door::EximData, Door::PostfixData]),
        ("messages of local programs", Service::Local, &[Door::EximLocal, Door::PostfixLocal]),
    ];
    for (part, service, ways) in places {
        let seen: Vec<String> =
            ways.iter().filter_map(|d| asked(*d, service).map(|at| format!("{} {at}", d.name()))).collect();
        match seen.is_empty() {
            true => report.add(part, Level::Warning, "NOT COVERED: no door asked within the last 7 days."),
            false => report.add(part, Level::Good, format!("Guarded; last asked: {}.", seen.join(", "))),
        }
    }
    for (part, service) in
        [("SMTP logins", Service::Smtp), ("IMAP logins", Service::Imap), ("POP3 logins", Service::Pop3)]
    {
        of_record(settings, doors, part, service, report);
    }
    report.add(
        "webmail and panel logins",
        Level::Note,
        "NOT COVERED: webmail logs in from this server itself, and the panel checks passwords of its own.",
    );
}

/// Whose word counts for the logins of a service, and whether it is heard. Where others ask and the source of
/// record does not, the figures stay empty.
fn of_record(
    settings: &Settings,
    doors: &[(String, String, Seconds)],
    part: &str,
    service: Service,
    report: &mut Report,
) {
    let Some(from) = sources::setting(settings, service).filter(|from| *from != LoginsFrom::Log) else {
        return;
    };
    let last = |door: &Door| {
        doors.iter().find(|(n, s, _)| n == door.name() && s == service.name()).map(|(_, _, last)| *last)
    };
    let told = |told: Told| {
        let of = sources::doors(from, service, told);
        let names: Vec<&str> = of.iter().map(|d| d.name()).collect();
        match of.iter().filter_map(last).max() {
            _ if names.is_empty() => "nobody".to_string(),
            Some(at) => format!("{} (last {})", names.join(" or "), readable(at)),
            None => format!("{} (never heard)", names.join(" or ")),
        }
    };
    let says = format!(
        "Tries are counted by {}, successes by {}, failures by {}.",
        told(Told::Tried),
        told(Told::Succeeded),
        told(Told::Failed)
    );
    let heard = |of: &[Door]| of.iter().any(|d| last(d).is_some());
    let of_record = sources::doors(from, service, Told::Tried);
    let others: Vec<Door> = Door::ALL.into_iter().filter(|d| sources::sees_logins(*d)).collect();
    let part = format!("{part}: source of record");
    if heard(&others) && !heard(of_record) {
        let key = sources::setting_key(service);
        report.add(&part, Level::Warning, format!("{says} They do not ask, and others do: set {key}."));
    } else {
        report.add(&part, Level::Note, says);
    }
}

/// What makes the address-only door undecided.
fn undecided(admin: &Admin, settings: &Settings, report: &mut Report) {
    if settings.country_rule == Mode::Off {
        return;
    }
    let head = Policy::open(&admin.call.paths.policy()).and_then(|policy| policy.ask()?.head());
    let Ok(head) = head else { return };
    let running = head.allowances.iter().filter(|a| admin.call.now < a.until).count();
    let mut because = Vec::new();
    if head.someone_is_exempt(admin.call.now) {
        because.push("a User Authentication exemption (all countries)".to_string());
    }
    if running > 0 {
        because.push(format!("{running} temporary allowances (their countries and networks)"));
    }
    if !because.is_empty() {
        report.add(
            "Doors before AUTH",
            Level::Warning,
            format!("Exim's and Postfix's do not know the account, so they leave the decision to later doors because of {}. Without Dovecot's door a thief then gets past AUTH and is stopped at MAIL.", because.join(" and ")),
        );
    }
}

/// Which panel was found, and whether its records say who owns what. Nobody but root needs them.
fn panel(admin: &Admin, report: &mut Report) {
    let paths = &admin.call.paths;
    let panel = panel::of_this_server(paths);
    let found = match panel.is_a_panel() {
        true => format!("{} was found", panel.name()),
        false => format!("None was found; {} stands for one", panel.name()),
    };
    let read = || panel.records(paths).and_then(|records| panel.owners(&records).map(|_| ()));
    let (level, says) = match read() {
        Ok(()) => (Level::Good, format!("{found}: its records say who owns what.")),
        Err(_) if !panel.is_a_panel() && !paths.owners().exists() => {
            (Level::Note, format!("{found} and is not there: only the administrator can do anything here."))
        }
        Err(error) => {
            (Level::Warning, format!("{found}. {error} Resellers and owners can do nothing until then."))
        }
    };
    report.add("panel", level, says);
}

/// Whether the keeper answers, found out by asking it. Root's questions count for nobody.
fn keeper(admin: &Admin, report: &mut Report) {
    let socket = admin.call.paths.sockets().join(EXIM_SOCKET);
    let ask = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(KEEPER_ANSWERS))?;
        stream.write_all(line::question("auth", &["127.0.0.1"]).as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    let (level, says) = match ask() {
        Ok(said) if ["allow\n", "undecided\n"].contains(&said.as_str()) => {
            (Level::Good, "Answers on its sockets.".to_string())
        }
        Ok(said) => (Level::Trouble, format!("Answers {:?}, which is no decision.", said.trim_end())),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            let says = "None runs: Exim starts the hooks, and nobody answers on the keeper's sockets and port. `systemctl enable --now postern-keeper` starts one.";
            (Level::Note, says.to_string())
        }
        Err(e) => (Level::Trouble, format!("Does not answer ({e}): mail goes on uncounted. Restart it.")),
    };
    report.figures.keeper_answers = level == Level::Good;
    report.add("keeper", level, says);
}

/// Whether Dovecot's policy requests are answered, found out as Dovecot would: with a wrong key everything goes on
/// in silence.
fn policy_server(admin: &Admin, settings: &Settings, report: &mut Report) {
    let services = [Service::Smtp, Service::Imap, Service::Pop3];
    let used = services.iter().any(|s| sources::setting(settings, *s) == Some(LoginsFrom::Policy));
    let file = admin.call.paths.dovecot_policy_conf();
    let proved = std::fs::read_to_string(&file)
        .map_err(Error::file("read", &file))
        .and_then(|configuration| policy::prove(&configuration));
    let (level, says) = match proved {
        Ok(()) => (Level::Good, "Answers where Dovecot asks, with Dovecot's key.".to_string()),
        Err(error) if used => {
            (Level::Trouble, format!("{error} Logins go on unasked, each after two seconds."))
        }
        Err(_) => (Level::Note, "Nobody answers, and no service is set to be counted by it.".to_string()),
    };
    report.add("policy server for Dovecot", level, says);
}

/// A tally that nobody folds.
fn tally(admin: &Admin, report: &mut Report) {
    let current = crate::tally::current(&admin.call.paths);
    let begun = std::fs::symlink_metadata(&current).ok().and_then(|m| m.created().ok()?.elapsed().ok());
    if begun.is_some_and(|age| age.as_secs() > 600) {
        report.add(
            "tick",
            Level::Warning,
            "The tally was not folded for ten minutes: is `postern tick` run each minute?",
        );
    }
}

/// Forgets the trouble that was marked so far.
pub fn clear_trouble(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let n = crate::on_state::as_postern(&admin.call.paths, || Ok(trouble::clear(&admin.call.paths, 0)))?;
    Ok(Outcome::said(format!("{n} kinds of trouble are forgotten; what goes on is marked again.")))
}
