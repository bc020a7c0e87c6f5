//! The one clock. Each call reads it once and passes the value down.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01 00:00 UTC.
pub type Seconds = i64;

/// Where `now` comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// The system's clock.
    #[default]
    System,
    /// The system's clock moved by so many seconds.
    Shifted(Seconds),
    /// A time that stands still.
    Fixed(Seconds),
    /// What this file says, in the same words, each time anew.
    File(&'static Path),
}

impl Clock {
    /// Reads `+90`, `-90` (shifted), `1700000000` (fixed) or `@FILE`, which is for tests of programs that live
    /// long: it is kept for as long as the program runs.
    pub fn parse(text: &str) -> Result<Clock> {
        if let Some(file) = text.strip_prefix('@') {
            return Ok(Clock::File(Box::leak(PathBuf::from(file).into_boxed_path())));
        }
        let bad = || Error::bad_value("--now", text, "give epoch seconds, a shift as +90 or -90, or @FILE");
        let number: Seconds = text.parse().map_err(|_| bad())?;
        Ok(if text.starts_with(['+', '-']) { Clock::Shifted(number) } else { Clock::Fixed(number) })
    }

    /// The time now. A system clock before 1970 counts as 1970.
    pub fn now(self) -> Seconds {
        let system = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().cast_signed());
        match self {
            Clock::System => system(),
            Clock::Shifted(by) => system().saturating_add(by),
            Clock::Fixed(at) => at,
            Clock::File(path) => {
                let said = std::fs::read_to_string(path).ok().filter(|text| !text.starts_with('@'));
                said.and_then(|text| Clock::parse(text.trim()).ok()).map_or_else(system, Clock::now)
            }
        }
    }
}

/// A time as files hold it, which is read again as the same: `2026-11-25 14:03:20`, in UTC.
pub fn written(at: Seconds) -> String {
    chrono::DateTime::from_timestamp(at, 0)
        .map_or_else(|| at.to_string(), |t| t.format("%Y-%m-%d %H:%M:%S").to_string())
}

/// A time as people and logs read it: `2026-11-25 14:03 UTC`.
pub fn readable(at: Seconds) -> String {
    chrono::DateTime::from_timestamp(at, 0)
        .map_or_else(|| format!("second {at}"), |t| t.format("%Y-%m-%d %H:%M UTC").to_string())
}

/// Reads a span as `90m`, `6h`, `7d`, in seconds.
pub fn seconds_in(text: &str) -> Option<Seconds> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: Seconds = digits.parse().ok().filter(|n| (1..=100_000).contains(n))?;
    UNITS.iter().find(|(word, _)| *word == unit).map(|(_, seconds)| number * seconds)
}

/// Writes a span in the largest unit that fits without a rest, as [`seconds_in`] reads it.
pub fn short_span(span: Seconds) -> String {
    let fits = |(_, seconds): &&(&str, Seconds)| span % seconds == 0;
    UNITS
        .iter()
        .find(fits)
        .map_or_else(|| format!("{span}s"), |(unit, seconds)| format!("{}{unit}", span / seconds))
}

/// The units of a span, the largest first.
const UNITS: [(&str, Seconds); 5] = [("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
