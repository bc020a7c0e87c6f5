//! `postern status` for monitoring programs: Nagios's line and exit status, Prometheus's text.
//!
//! Names of metrics, labels and performance data are stable: they are added to, never changed. Forms:
//! monitoring-plugins.org's development guidelines (one line, `text | performance data`, exit status 0 to 3), and
//! Prometheus's text format 0.0.4.

use super::arguments::steers;
use super::status::{Level, Report};
use crate::networks::STALE_AFTER_DAYS;
use crate::request::{Door, Service};
use nix::libc;
use serde_json::{Value, json};
use std::fmt::{Display, Write as _};

/// After so many seconds without a report Nagios is told that it is unknown; its own patience ends at 60.
const PATIENCE: u32 = 30;

/// Most parts that Nagios's line tells of; pagers show few.
const MOST_PARTS: usize = 3;

/// Longest sentence in Nagios's line, in characters.
const LONGEST: usize = 160;

/// What machines are told beside the sentences. What is not known at the moment is left out.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Counts the changes of the settings.
    pub(crate) settings_generation: Option<i64>,
    /// The generation that hooks have.
    pub(crate) policy_generation: Option<i64>,
    /// When it was published.
    pub(crate) policy_published: Option<i64>,
    /// When the network data were built.
    pub(crate) data_built_at: Option<i64>,
    /// How many senders are stopped.
    pub(crate) stopped_senders: Option<usize>,
    /// How many notices wait to be sent.
    pub(crate) notices_waiting: Option<usize>,
    /// Whether the keeper answers.
    pub(crate) keeper_answers: bool,
    /// Rules with their mode.
    pub(crate) rules: Vec<(&'static str, &'static str)>,
    /// Doors: name, service, when last asked.
    pub(crate) doors: Vec<(String, String, i64)>,
    /// Trouble: code, how often (capped), when last.
    pub(crate) trouble: Vec<(&'static str, u64, i64)>,
}

impl Figures {
    pub(crate) fn as_json(&self) -> Value {
        let rule = |(rule, mode): &(&str, &str)| json!({ "rule": rule, "mode": mode });
        let door = |(door, service, last): &(String, String, i64)| json!({ "door": door, "service": service, "last_asked": last });
        let trouble =
            |(code, count, last): &(&str, u64, i64)| json!({ "code": code, "count": count, "last": last });
        json!({
            "settings_generation": self.settings_generation,
            "policy_generation": self.policy_generation,
            "policy_published": self.policy_published,
            "data_built_at": self.data_built_at,
            "stopped_senders": self.stopped_senders,
            "notices_waiting": self.notices_waiting,
            "keeper_answers": self.keeper_answers,
            "rules": self.rules.iter().map(rule).collect::<Vec<_>>(),
            "doors": self.doors.iter().map(door).collect::<Vec<_>>(),
            "trouble": self.trouble.iter().map(trouble).collect::<Vec<_>>(),
        })
    }
}

/// How Nagios counts, as its exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Health::Ok => "OK",
            Health::Warning => "WARNING",
            Health::Critical => "CRITICAL",
            Health::Unknown => "UNKNOWN",
        }
    }

    fn of(report: &Report) -> Health {
        match report.worst {
            _ if report.is_blind => Health::Unknown,
            Some(Level::Trouble) => Health::Critical,
            Some(Level::Warning) => Health::Warning,
            _ => Health::Ok,
        }
    }
}

/// Nagios's line, and the exit status.
pub(crate) fn nagios(report: &Report, now: i64) -> (String, u8) {
    let health = Health::of(report);
    let rows = |level: Level| report.rows.iter().filter(move |row| row.level == level);
    let bad: Vec<String> = match health {
        Health::Unknown => vec!["the settings cannot be read: run it as root, as by sudo".into()],
        _ => rows(Level::Trouble)
            .chain(rows(Level::Warning))
            .map(|row| format!("{}: {}", row.part, row.says.trim_end_matches('.')))
            .collect(),
    };
    let told: Vec<String> = bad.iter().take(MOST_PARTS).map(|text| plain(text)).collect();
    let text = match bad.len() {
        0 => "everything is in place".to_string(),
        n if n > MOST_PARTS => format!("{} ({} more in `postern status`)", told.join("; "), n - MOST_PARTS),
        _ => told.join("; "),
    };
    let figures = &report.figures;
    let mut data = format!(
        "troubles={};;0;0 warnings={};0;;0",
        rows(Level::Trouble).count(),
        rows(Level::Warning).count()
    );
    let mut add = |label: &str, value: Option<i64>, rest: &str| {
        if let Some(value) = value {
            let _ = write!(data, " {label}={value}{rest}");
        }
    };
    let count = |n: Option<usize>| n.and_then(|n| i64::try_from(n).ok());
    add("stopped_senders", count(figures.stopped_senders), ";;;0");
    add("notices_waiting", count(figures.notices_waiting), ";0;;0");
    let age = figures.data_built_at.map(|at| (now - at).max(0));
    add("data_age", age, &format!("s;{};;0", STALE_AFTER_DAYS * 86_400));
    (format!("POSTERN {} - {text} | {data}\n", health.word()), health as u8)
}

/// The line where there is no report at all.
pub(crate) fn nagios_unknown(why: &str) -> (String, u8) {
    (format!("POSTERN {} - {}\n", Health::Unknown.word(), plain(why)), Health::Unknown as u8)
}

/// Nothing in it ends the line or begins the performance data.
fn plain(text: &str) -> String {
    let one = text.replace(|c: char| steers(c) || c == '|', " ");
    match one.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", one[..at].trim_end()),
        None => one,
    }
}

/// Says that it is unknown and ends this process, where the report takes too long.
pub(crate) fn unknown_after_patience() {
    extern "C" fn give_up(_: libc::c_int) {
        const LINE: &[u8] = b"POSTERN UNKNOWN - no report within 30 seconds\n";
        // SAFETY: both are async-signal-safe; the bytes are static.
        unsafe {
            libc::write(1, LINE.as_ptr().cast(), LINE.len());
            libc::_exit(Health::Unknown as libc::c_int);
        }
    }
    // SAFETY: the handler does nothing that is not async-signal-safe.
    unsafe {
        libc::signal(libc::SIGALRM, give_up as *const () as libc::sighandler_t);
        libc::alarm(PATIENCE);
    }
}

/// Prometheus's text, as for node_exporter's textfile collector.
pub(crate) fn prometheus(report: &Report, now: i64) -> String {
    let (mut page, figures) = (Page::default(), &report.figures);
    page.family("postern_build_info", "The version that answers; always 1.");
    page.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.family("postern_health", "0 good, 1 warning, 2 trouble, 3 not known.");
    page.sample(&[], Health::of(report) as u8);
    page.family("postern_part_health", "Each part of the report: 0 good or a note, 1 warning, 2 trouble.");
    for row in &report.rows {
        let value = match row.level {
            Level::Note | Level::Good => 0,
            Level::Warning => 1,
            Level::Trouble => 2,
        };
        page.sample(&[("part", row.part.as_str())], value);
    }
    let count = |n: Option<usize>| n.and_then(|n| i64::try_from(n).ok());
    let at = "Seconds since the epoch: ";
    for (name, help, value) in [
        (
            "postern_settings_generation",
            "Counts the changes of the settings.".into(),
            figures.settings_generation,
        ),
        ("postern_policy_generation", "The generation that hooks have.".into(), figures.policy_generation),
        (
            "postern_policy_published_timestamp_seconds",
            format!("{at}when the policy was published."),
            figures.policy_published,
        ),
        (
            "postern_data_built_timestamp_seconds",
            format!("{at}when the network data were built."),
            figures.data_built_at,
        ),
        ("postern_stopped_senders", "Senders that are stopped.".into(), count(figures.stopped_senders)),
        ("postern_notices_waiting", "Notices that wait to be sent.".into(), count(figures.notices_waiting)),
        ("postern_keeper_up", "Whether the keeper answers.".into(), Some(i64::from(figures.keeper_answers))),
        ("postern_report_timestamp_seconds", format!("{at}when this was found."), Some(now)),
    ] {
        if let Some(value) = value {
            page.family(name, &help);
            page.sample(&[], value);
        }
    }
    page.family("postern_rule_mode", "1 for the mode of the rule, 0 for the others.");
    for (rule, mode) in &figures.rules {
        for one in ["off", "monitor", "enforce"] {
            page.sample(&[("rule", rule), ("mode", one)], u8::from(one == *mode));
        }
    }
    page.family("postern_door_asked_timestamp_seconds", &format!("{at}when a mail server last asked."));
    for (door, service, last) in figures.doors.iter().filter(|(door, service, _)| is_known(door, service)) {
        page.sample(&[("door", door), ("service", service)], last);
    }
    page.family("postern_trouble_marks", "How often each trouble was met since it was cleared, capped.");
    for (code, count, _) in &figures.trouble {
        page.sample(&[("code", code)], count);
    }
    page.family("postern_trouble_last_timestamp_seconds", &format!("{at}when each trouble was last met."));
    for (code, _, last) in &figures.trouble {
        page.sample(&[("code", code)], last);
    }
    page.0
}

/// Mail users can write the state: what is no door's name makes no series.
fn is_known(door: &str, service: &str) -> bool {
    Door::ALL.iter().any(|d| d.name() == door) && Service::named(service).name() == service
}

/// A page in the text format in the making: the family begun last stands at the end of it.
#[derive(Default)]
struct Page(String, String);

impl Page {
    /// Begins a family of gauges.
    fn family(&mut self, name: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        self.1 = name.into();
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}=\"{}\"", escaped(v))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{}{labels} {value}", self.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(part: &str, says: &str) -> Report {
        let mut report = Report::default();
        report.add(part, Level::Warning, says);
        report
    }

    #[test]
    fn the_worst_part_gives_the_exit_status_and_stands_first() {
        let mut report = report("tick", "Was late.");
        report.add("state", Level::Trouble, "Is gone.");
        assert_eq!(
            nagios(&report, 0),
            (
                "POSTERN CRITICAL - state: Is gone; tick: Was late | troubles=1;;0;0 warnings=1;0;;0\n"
                    .into(),
                2
            )
        );
        report.is_blind = true;
        assert_eq!(nagios(&report, 0).1, 3);
        assert_eq!(nagios(&Report::default(), 0).1, 0);
    }

    proptest! {
        #[test]
        fn whatever_a_part_says_nagios_gets_one_line_with_one_bar(says in "\\PC{0,300}|[\\x00-\\x7f]{0,300}") {
            let (line, _) = nagios(&report("part", &says), 0);
            prop_assert_eq!((line.matches('\n').count(), line.matches('|').count()), (1, 1));
            prop_assert!(!line.trim_end().contains(char::is_control));
        }

        #[test]
        fn whatever_a_label_holds_stays_within_its_quotes(part in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            let text = prometheus(&report(&part, ""), 0);
            let line = text.lines().find(|l| l.starts_with("postern_part_health{")).unwrap();
            let value = line.strip_prefix("postern_part_health{part=\"").unwrap().strip_suffix("\"} 1").unwrap();
            let mut back = String::new();
            let mut rest = value.chars();
            while let Some(c) = rest.next() {
                prop_assert!(c != '"');
                back.push(match c {
                    '\\' => match rest.next() { Some('n') => '\n', Some(c) => c, None => return Err(TestCaseError::fail("half an escape")) },
                    c => c,
                });
            }
            prop_assert_eq!(back, part);
        }
    }
}
