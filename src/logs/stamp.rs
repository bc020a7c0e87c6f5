//! Times of lines, in the notations that Debian's mail servers and syslog daemons write.
//!
//! | notation | as |
//! |---|---|
//! | traditional syslog, Dovecot's own | `Nov 30 19:33:53`: local time, without a year |
//! | RFC 3339 (rsyslog since Debian 12) and RFC 5424 | `2026-11-30T19:33:53.123456+01:00`, with `<22>1 ` before it |
//! | Exim's own | `2026-11-30 19:33:53`, `… 19:33:53.123`, `… +0100`: local time where no zone stands |
//!
//! A time without a year is of the latest year that puts it no more than a day after the newest line. Local time is
//! this machine's; an hour that a change of clocks makes twice is taken as the C library takes it.

use crate::clock::Seconds;
use chrono::{DateTime, Datelike, NaiveDate};
use nix::libc;

const DAY: Seconds = 86_400;

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notation {
    /// As syslog daemons write it.
    Traditional,
    /// As in RFC 3339.
    Iso,
    /// As in Exim's own files.
    Plain,
}

/// A minute: year, month, day, hour, minute.
type Minute = (i32, u32, u32, u32, u32);

/// Reads times; remembers the last minute, since most lines are of the same.
#[derive(Clone, Debug)]
pub struct Stamps {
    newest: Seconds,
    local: fn(Minute) -> Option<Seconds>,
    last: ([u8; 16], Seconds),
}

/// The time and its notation, and what follows.
type Taken<'a> = (Seconds, Notation, &'a [u8]);

impl Stamps {
    /// For a file whose last line was written then, about.
    pub fn new(newest: Seconds) -> Stamps {
        Stamps { newest, local, last: ([0; 16], 0) }
    }

    /// The same on a machine whose clock shows UTC.
    #[cfg(test)]
    pub(super) fn in_utc(newest: Seconds) -> Stamps {
        Stamps { local: utc, ..Stamps::new(newest) }
    }

    /// The time at the beginning of a line, and the rest of the line.
    pub fn take<'a>(&mut self, line: &'a [u8]) -> Option<Taken<'a>> {
        match line {
            [b'<', ..] => self.rfc5424(line),
            [b'0'..=b'9', ..] => self.numbers(line),
            _ => self.traditional(line),
        }
    }

    fn traditional<'a>(&mut self, line: &'a [u8]) -> Option<Taken<'a>> {
        let [head @ .., second1, second2, b' '] = line.get(..16)? else { return None };
        if head[12] != b':' {
            return None;
        }
        let second = seconds(*second1, *second2)?;
        let begin = self.remembered(&head[..12], |stamps| stamps.minute_without_year(&head[..12]))?;
        Some((begin + second, Notation::Traditional, &line[16..]))
    }

    /// The begin of a minute, from memory where it is the same as before.
    fn remembered(&mut self, text: &[u8], find: impl Fn(&Stamps) -> Option<Seconds>) -> Option<Seconds> {
        let mut key = [0; 16];
        key[..text.len()].copy_from_slice(text);
        if self.last.0 != key {
            self.last = (key, find(self)?);
        }
        Some(self.last.1)
    }

    /// `Nov 30 19:33`.
    fn minute_without_year(&self, text: &[u8]) -> Option<Seconds> {
        const MONTHS: [&[u8]; 12] =
            [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
        let &[_, _, _, b' ', tens, ones, b' ', h1, h2, b':', m1, m2] = text else { return None };
        let month = u32::try_from(MONTHS.iter().position(|m| text.starts_with(m))?).ok()? + 1;
        let day = if tens == b' ' { number(b'0', ones)? } else { number(tens, ones)? };
        let (hour, minute) = (number(h1, h2)?, number(m1, m2)?);
        let latest = self.newest.saturating_add(DAY);
        let year = DateTime::from_timestamp(latest, 0)?.year();
        // The 29th of February is in one year of four, or of eight.
        (year - 8..=year).rev().find_map(|year| {
            let at = (self.local)((year, month, day, hour, minute))?;
            (at <= latest).then_some(at)
        })
    }

    fn numbers<'a>(&mut self, line: &'a [u8]) -> Option<Taken<'a>> {
        let text = line.get(..19)?;
        if text[16] != b':' || text[4] != b'-' || text[7] != b'-' || text[13] != b':' {
            return None;
        }
        let second = seconds(text[17], text[18])?;
        let is_iso = text[10] == b'T';
        if !is_iso && text[10] != b' ' {
            return None;
        }
        let rest = without_fraction(&line[19..]);
        let (zone, rest) = zone(rest, is_iso)?;
        let minute = &line[..16];
        let begin = match zone {
            Some(east) => utc(minute_of(minute)?)? - east,
            None => self.remembered(minute, |stamps| (stamps.local)(minute_of(minute)?))?,
        };
        Some((begin + second, if is_iso { Notation::Iso } else { Notation::Plain }, rest))
    }

    /// `<22>1 2026-11-30T19:33:53Z …`.
    fn rfc5424<'a>(&mut self, line: &'a [u8]) -> Option<Taken<'a>> {
        let end = line.iter().take(6).position(|b| *b == b'>')?;
        if !line[1..end].iter().all(u8::is_ascii_digit) {
            return None;
        }
        let rest = &line[end + 1..];
        self.take(rest.strip_prefix(b"1 ").unwrap_or(rest)).filter(|_| !rest.starts_with(b"<"))
    }
}

fn digit(b: u8) -> Option<u32> {
    b.is_ascii_digit().then(|| u32::from(b - b'0'))
}

fn number(tens: u8, ones: u8) -> Option<u32> {
    Some(digit(tens)? * 10 + digit(ones)?)
}

/// A leap second too.
fn seconds(tens: u8, ones: u8) -> Option<Seconds> {
    number(tens, ones).filter(|n| *n <= 60).map(Seconds::from)
}

/// `2026-11-30T19:33`, whose punctuation was looked at.
fn minute_of(text: &[u8]) -> Option<Minute> {
    let &[y1, y2, y3, y4, _, m1, m2, _, d1, d2, _, h1, h2, _, n1, n2] = text else { return None };
    let year = i32::try_from(number(y1, y2)? * 100 + number(y3, y4)?).ok()?;
    Some((year, number(m1, m2)?, number(d1, d2)?, number(h1, h2)?, number(n1, n2)?))
}

fn without_fraction(rest: &[u8]) -> &[u8] {
    match rest {
        [b'.' | b',', digits @ ..] => &digits[digits.iter().take_while(|b| b.is_ascii_digit()).count()..],
        _ => rest,
    }
}

/// Seconds east of Greenwich, where a zone stands, and what follows the blank behind the time.
fn zone(rest: &[u8], is_iso: bool) -> Option<(Option<Seconds>, &[u8])> {
    let east = |sign: u8, hours: Option<u32>, minutes: Option<u32>| {
        let seconds = Seconds::from(hours? * 3600 + minutes? * 60);
        Some(Some(if sign == b'-' { -seconds } else { seconds }))
    };
    Some(match rest {
        [b'Z', b' ', rest @ ..] if is_iso => (Some(0), rest),
        &[sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, b' ', ref rest @ ..] if is_iso => {
            (east(sign, number(h1, h2), number(m1, m2))?, rest)
        }
        &[b' ', sign @ (b'+' | b'-'), h1, h2, m1, m2, b' ', ref rest @ ..] => {
            (east(sign, number(h1, h2), number(m1, m2))?, rest)
        }
        [b' ', rest @ ..] => (None, rest),
        _ => return None,
    })
}

fn utc((year, month, day, hour, minute): Minute) -> Option<Seconds> {
    let date = NaiveDate::from_ymd_opt(year, month, day)?;
    Some(date.and_hms_opt(hour, minute, 0)?.and_utc().timestamp())
}

/// As this machine's clock shows it.
fn local(minute: Minute) -> Option<Seconds> {
    // mktime takes the 31st of a short month for the next month's first.
    utc(minute)?;
    let field = |n: u32| libc::c_int::try_from(n).ok();
    // SAFETY: zero bytes are a value of this plain C struct, and mktime reads and writes nothing else.
    let at = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        tm.tm_year = minute.0 - 1900;
        tm.tm_mon = field(minute.1)? - 1;
        tm.tm_mday = field(minute.2)?;
        tm.tm_hour = field(minute.3)?;
        tm.tm_min = field(minute.4)?;
        tm.tm_isdst = -1;
        libc::mktime(&raw mut tm)
    };
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-30 19:33:53 UTC.
    const AT: Seconds = 1_796_067_233;

    fn take(newest: Seconds, line: &str) -> Option<(Seconds, Notation)> {
        Stamps::in_utc(newest).take(line.as_bytes()).map(|(at, notation, rest)| {
            assert_eq!(rest, b"rest", "{line}");
            (at, notation)
        })
    }

    #[test]
    fn every_notation_is_the_same_second() {
        for (line, notation) in [
            ("Nov 30 19:33:53 rest", Notation::Traditional),
            ("<22>Nov 30 19:33:53 rest", Notation::Traditional),
            ("2026-11-30T19:33:53Z rest", Notation::Iso),
            ("2026-11-30T20:33:53.123456+01:00 rest", Notation::Iso),
            ("<22>1 2026-11-30T13:03:53.1-06:30 rest", Notation::Iso),
            ("2026-11-30 19:33:53 rest", Notation::Plain),
            ("2026-11-30 19:33:53.123 rest", Notation::Plain),
            ("2026-11-30 20:33:53 +0100 rest", Notation::Plain),
            ("2026-11-30 14:33:53.123 -0500 rest", Notation::Plain),
        ] {
            assert_eq!(take(AT, line), Some((AT, notation)), "{line}");
        }
    }

    #[test]
    fn a_time_without_a_year_is_of_the_latest_that_fits() {
        let year = 365 * DAY;
        assert_eq!(take(AT + 7 * DAY, "Nov 30 19:33:53 rest").unwrap().0, AT);
        assert_eq!(take(AT - DAY / 2, "Nov 30 19:33:53 rest").unwrap().0, AT, "clocks differ by hours");
        assert_eq!(take(AT - 2 * DAY, "Nov 30 19:33:53 rest").unwrap().0, AT - year);
        assert_eq!(take(AT + 40 * DAY, "Dec  1 00:00:00 rest").unwrap().0, 1_796_083_200);
        // In the last hours of a year the next one's first lines may come from a faster clock.
        assert_eq!(take(1_798_761_599, "Jan  1 00:00:10 rest").unwrap().0, 1_798_761_610);
        assert_eq!(take(AT, "Feb 29 00:00:00 rest").unwrap().0, 1_709_164_800, "2024 was a leap year");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for line in [
            "",
            "Nov 30 19:33:53",
            "Nov 31 19:33:53 rest",
            "Nov 30 24:33:53 rest",
            "Nox 30 19:33:53 rest",
            "2026-13-30 19:33:53 rest",
            "2026-11-30T19:33:53rest",
            "2026/11/30 19:33:53 rest",
            "<22><22>Nov 30 19:33:53 rest",
            "<x>Nov 30 19:33:53 rest",
        ] {
            assert_eq!(take(AT, line), None, "{line}");
        }
    }

    #[test]
    fn this_machines_clock_is_read_as_the_c_library_reads_it() {
        let at = Stamps::new(AT).take(b"Nov 30 19:33:53 rest").unwrap().0;
        assert!((at - AT).abs() <= 14 * 3600, "{at}");
        assert_eq!((at - AT) % 900, 0, "{at}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_time_or_none(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Stamps::in_utc(AT).take(&line);
        }

        #[test]
        fn a_minute_that_is_remembered_is_the_same(seconds in proptest::collection::vec(0..200 * DAY, 1..20)) {
            let mut stamps = Stamps::in_utc(AT);
            for ago in seconds {
                let at = AT - ago;
                let time = DateTime::from_timestamp(at, 0).unwrap();
                for line in [time.format("%b %e %H:%M:%S rest"), time.format("%Y-%m-%d %H:%M:%S rest")] {
                    prop_assert_eq!(stamps.take(line.to_string().as_bytes()).unwrap().0, at);
                }
            }
        }
    }
}
