//! A log into the state: what was not counted before is read, summed and written.
//!
//! Two ways lead here: `postern learn`, by which root teaches the past, and the minute's work, which follows the logs
//! that a setting names. Both read with the rights of user `postern`; root opens the file and no more.

use super::batch::{Batch, Counts};
use super::source::{MARKED, Source, end_of, mark};
use super::{Event, Line, Reader, SERVERS, What};
use crate::call::Call;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::request::Service;
use crate::settings::{LoginsFrom, Settings};
use crate::sources;
use crate::store::state::known_networks;
use crate::store::state::logs::{self, About, Known, Mark, Part, Purpose};
use crate::store::state::rollups::Retention;
use crate::store::state::{State, Unit};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The state is held for no longer at once, so that it can be replaced.
const HOLD: Duration = Duration::from_secs(1);

/// Whoever waits for the state gets this share of the time.
const PAUSE: u32 = 2;

/// A line may be from a clock that goes so much ahead.
const AHEAD: Seconds = 3600;

/// A log that was followed so lately, and has another name now, is followed by the one in its place from its begin.
const LATELY: Seconds = 7 * 86_400;

const DAY: Seconds = 86_400;

/// Why a log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Root teaches the past: all that was not counted.
    Learn {
        /// Nothing before this.
        since: Option<Seconds>,
        /// Nothing is written.
        dry_run: bool,
    },
    /// It is followed: what was added since.
    Follow {
        /// It was rotated away: begun with under its other name, or not read at all.
        is_earlier: bool,
    },
}

impl Why {
    fn is_learn(self) -> bool {
        matches!(self, Why::Learn { .. })
    }

    fn is_dry_run(self) -> bool {
        matches!(self, Why::Learn { dry_run: true, .. })
    }
}

/// The name under which what was rotated away is remembered: not that of a file, which `postern learn` may read.
pub fn earlier_name(name: &str) -> String {
    format!("{name} (earlier)")
}

/// The log that was last read under this name, or when it was rotated away.
pub fn last_followed(
    db: &rusqlite::Connection,
    name: &str,
    purpose: Purpose,
) -> rusqlite::Result<Option<Known>> {
    // At the same time the one in its place is the newer.
    let both = [logs::last_under(db, &earlier_name(name), purpose)?, logs::last_under(db, name, purpose)?];
    Ok(both.into_iter().flatten().max_by_key(|last| last.at))
}

/// What a log said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub file: String,
    /// Lines that were read.
    pub lines: u64,
    /// Of these, lines of each server.
    pub of: Vec<(String, u64)>,
    /// Logins that succeeded.
    pub successes: u64,
    /// Logins that failed.
    pub failures: u64,
    /// Messages that came in from outside.
    pub inbound: u64,
    /// Of these three, how many count in figures.
    pub counted: u64,
    /// Successes by which a network becomes known.
    pub taught: u64,
    /// Lines of the servers about something else.
    pub other: u64,
    /// Lines of the servers that can be read in two ways, or in none.
    pub ambiguous: u64,
    /// Lines of other programs, and what is no line of a log.
    pub foreign: u64,
    /// Lines that are older than figures are kept, before what was asked for, or ahead of the clock.
    pub left_out: u64,
    /// The time of the first and of the last line.
    pub first: Option<Seconds>,
    /// The same for the last.
    pub last: Option<Seconds>,
    /// Whether lines of it were counted before.
    pub was_known: bool,
    /// Whether it begins like the log that was followed and goes on otherwise, so that it is followed from its end.
    pub is_changed: bool,
    /// Whether all of it is read.
    pub is_whole: bool,
}

impl Summary {
    /// Adds what was read of the same file later.
    pub fn add(&mut self, later: Summary) {
        let Summary { file, lines, of, successes, failures, inbound, counted, taught, other, .. } = later;
        self.file = file;
        for (server, n) in of {
            match self.of.iter_mut().find(|(known, _)| *known == server) {
                Some((_, sum)) => *sum += n,
                None => self.of.push((server, n)),
            }
        }
        for (sum, n) in [
            (&mut self.lines, lines),
            (&mut self.successes, successes),
            (&mut self.failures, failures),
            (&mut self.inbound, inbound),
            (&mut self.counted, counted),
            (&mut self.taught, taught),
            (&mut self.other, other),
            (&mut self.ambiguous, later.ambiguous),
            (&mut self.foreign, later.foreign),
            (&mut self.left_out, later.left_out),
        ] {
            *sum += n;
        }
        self.first = self.first.or(later.first);
        self.last = later.last.or(self.last);
        self.is_whole = later.is_whole;
    }

    fn is_understood(&self) -> bool {
        self.of.iter().any(|(_, n)| *n > 0)
    }
}

/// Which events count for what.
#[derive(Debug)]
struct Rules<'a> {
    settings: &'a Settings,
    why: Why,
    now: Seconds,
    retention: Retention,
    /// Since when logs are the source of a service's logins.
    since: Vec<(Service, Seconds)>,
    /// Until when the past counts that others count from then on.
    past: Vec<(Service, Seconds)>,
}

impl Rules<'_> {
    /// For what the event counts, where it was not counted before.
    fn counts(&self, event: &Event) -> Counts {
        let day = event.at.div_euclid(DAY);
        let today = self.now / DAY;
        let by_country = day > today - self.retention.traffic_days;
        if event.what == What::Inbound {
            let is_outside = event.address.class() != crate::address::AddressClass::Loopback;
            return Counts { by_country: by_country && is_outside, ..Counts::default() };
        }
        let since = self.since.iter().find(|(service, _)| *service == event.service);
        let is_ours = sources::setting(self.settings, event.service) == Some(LoginsFrom::Log)
            && since.is_none_or(|(_, since)| event.at >= *since);
        let past = self.past.iter().find(|(service, _)| *service == event.service);
        let is_past = self.why.is_learn() && past.is_some_and(|(_, until)| event.at < *until);
        let counts = is_ours || is_past;
        Counts {
            figures: counts && day > today - self.retention.login_days,
            by_country: counts && by_country,
            teaches: event.what == What::Success
                && (is_ours || self.why.is_learn())
                && day > today - known_networks::DAYS,
        }
    }
}

/// Services whose logins logs tell of.
const SERVICES: [Service; 4] = [Service::Smtp, Service::Imap, Service::Pop3, Service::Sieve];

/// Since when logs are the source of each service's logins; keeps what is new of it. Each minute's work asks, so that
/// a source that was changed and changed back is seen.
pub fn sources_since(
    state: &mut State,
    settings: &Settings,
    now: Seconds,
    is_dry_run: bool,
) -> Result<Vec<(Service, Seconds)>> {
    let mut all = Vec::new();
    for service in SERVICES {
        let is_log = sources::setting(settings, service) == Some(LoginsFrom::Log);
        let (since, new) = state.read(|db| logs::log_since(db, service.name(), is_log, now))?;
        if let Some(new) = new.filter(|_| !is_dry_run) {
            state.write(|t| logs::keep_since(t, service.name(), new))?;
        }
        all.push((service, since));
    }
    Ok(all)
}

/// The surroundings of reading.
pub struct Reading<'a> {
    call: &'a Call<'a>,
    settings: &'a Settings,
    retention: Retention,
    why: Why,
    /// No more is read after this; what is left is told.
    until: Instant,
    state: Option<(State, Instant)>,
    /// Parts of others that begin with the same line: the lines at their ends are not in this one.
    others: Vec<(Purpose, Part)>,
    /// Whether a batch was kept.
    has_kept: bool,
}

impl std::fmt::Debug for Reading<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reading, {:?}", self.why)
    }
}

/// A stretch of a log, and for what its lines were not counted yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    begins: u64,
    /// None: to the end.
    ends: Option<u64>,
    logins: bool,
    inbound: bool,
}

impl<'a> Reading<'a> {
    /// Reads until then, for this. `call` keeps open what it needs.
    pub fn new(call: &'a Call<'a>, settings: &'a Settings, why: Why, until: Instant) -> Reading<'a> {
        Reading {
            call,
            settings,
            retention: Retention::from(settings),
            why,
            until,
            state: None,
            others: Vec::new(),
            has_kept: false,
        }
    }

    /// Reads what was not counted of this log, known under this name.
    pub fn read(&mut self, source: &Source, name: &str) -> Result<Summary> {
        let mut summary = Summary { file: name.into(), is_whole: true, ..Summary::default() };
        let Some(head) = source.head()? else { return Ok(summary) };
        let stretches = self.stretches(source, &head, name, &mut summary)?;
        let rules = self.rules()?;
        let mut reader = Reader::new(source.changed.min(self.call.now));
        for stretch in stretches {
            let mut at_work =
                AtWork { head: &head, name, stretch, summary: &mut summary, reader: &mut reader };
            self.stretch(source, &rules, &mut at_work)?;
            if !summary.is_whole {
                break;
            }
        }
        if summary.lines == 0 && !self.why.is_dry_run() {
            let now = self.call.now;
            self.write(|t| logs::touch(t, &head, name, now))?;
        }
        Ok(summary)
    }

    fn rules(&mut self) -> Result<Rules<'a>> {
        let (now, is_learn) = (self.call.now, self.why.is_learn());
        let (settings, is_dry_run) = (self.settings, self.why.is_dry_run());
        let since = self.with_state(|state| sources_since(state, settings, now, is_dry_run))?;
        let mut past = Vec::new();
        if is_learn {
            past = self.with_state(|state| {
                let of = |db: &rusqlite::Connection| {
                    SERVICES.iter().map(|s| Ok((*s, logs::past_of(db, s.name(), now)?))).collect()
                };
                state.read(of)
            })?;
            if !self.why.is_dry_run() {
                self.write(|t| past.iter().try_for_each(|(s, until)| logs::keep_past(t, s.name(), *until)))?;
            }
        }
        Ok(Rules { settings: self.settings, why: self.why, now, retention: self.retention, since, past })
    }

    /// Whether logins are read at all.
    fn wants(&self, purpose: Purpose) -> bool {
        let from_log = |s: &Service| sources::setting(self.settings, *s) == Some(LoginsFrom::Log);
        self.why.is_learn() || purpose == Purpose::Inbound || SERVICES.iter().any(from_log)
    }

    /// What is to be read of the log, in order.
    fn stretches(
        &mut self,
        source: &Source,
        head: &Mark,
        name: &str,
        summary: &mut Summary,
    ) -> Result<Vec<Stretch>> {
        let mut cuts = vec![0];
        let mut unread: Vec<(Purpose, Vec<Part>, u64)> = Vec::new();
        for purpose in Purpose::ALL {
            if !self.wants(purpose) {
                continue;
            }
            let parts = self.with_state(|state| state.read(|db| logs::parts(db, head, purpose)))?;
            let places: Vec<(u64, Mark)> = parts.iter().map(|p| (p.ends, p.tail)).collect();
            let known = source.are_known(&places)?;
            let (parts, others): (Vec<_>, Vec<_>) =
                parts.into_iter().zip(known).partition(|(_, known)| *known);
            let parts: Vec<Part> = parts.into_iter().map(|(part, _)| part).collect();
            let is_changed = parts.is_empty() && !others.is_empty();
            self.others.extend(others.into_iter().map(|(part, _)| (purpose, part)));
            summary.was_known |= !parts.is_empty();
            let from = match self.why {
                Why::Learn { .. } => 0,
                Why::Follow { is_earlier } => match parts.iter().map(|p| p.ends).max() {
                    Some(end) => end,
                    None if is_earlier => continue,
                    None if is_changed => {
                        summary.is_changed = true;
                        self.end_of_now(source, head, name, purpose)?
                    }
                    None => self.begin_of_following(source, head, name, purpose)?,
                },
            };
            cuts.extend(parts.iter().flat_map(|p| [p.begins, p.ends]).chain([from]));
            unread.push((purpose, parts, from));
        }
        cuts.sort_unstable();
        cuts.dedup();
        let is_unread = |wanted: Purpose, at: u64| {
            unread.iter().any(|(purpose, parts, from)| {
                *purpose == wanted && at >= *from && !parts.iter().any(|p| p.begins <= at && at < p.ends)
            })
        };
        let ends = cuts.iter().skip(1).map(|cut| Some(*cut)).chain([None]);
        let stretches = cuts.iter().zip(ends).map(|(begins, ends)| Stretch {
            begins: *begins,
            ends,
            logins: is_unread(Purpose::Logins, *begins),
            inbound: is_unread(Purpose::Inbound, *begins),
        });
        Ok(stretches.filter(|s| s.logins || s.inbound).collect())
    }

    /// A log that is followed from now on begins at its end: what was before may have been counted by others. One in
    /// the place of another that was followed lately begins at its begin.
    fn begin_of_following(
        &mut self,
        source: &Source,
        head: &Mark,
        name: &str,
        purpose: Purpose,
    ) -> Result<u64> {
        let now = self.call.now;
        let last = self.with_state(|state| state.read(|db| last_followed(db, name, purpose)))?;
        if last.is_some_and(|last| last.head != *head && now - last.at < LATELY) {
            return Ok(0);
        }
        self.end_of_now(source, head, name, purpose)
    }

    /// The end, noted as the place from which the log is followed.
    fn end_of_now(&mut self, source: &Source, head: &Mark, name: &str, purpose: Purpose) -> Result<u64> {
        let now = self.call.now;
        let Some((end, tail)) = source.end()? else { return Ok(0) };
        let part = Part { begins: end, ends: end, tail };
        self.write(|t| logs::note(t, About { head, name, at: now, said: 0 }, purpose, &part))?;
        Ok(end)
    }

    fn stretch(&mut self, source: &Source, rules: &Rules, work: &mut AtWork) -> Result<()> {
        let failed = || Error::file("read", source.name.as_ref());
        let mut lines = source.lines(work.stretch.begins)?;
        let mut batch = Batch::default();
        let (mut begins, mut ends) = (work.stretch.begins, work.stretch.begins);
        // What stands for the last line, in one piece of memory: to make its mark for each would take longer than to read.
        let mut last = Vec::with_capacity(MARKED);
        // Where a batch was being written when the work was broken off, the same one is read again.
        let writing = self.with_state(|state| state.read(|db| logs::writing(db, work.head)))?;
        let mut again = writing.filter(|(from, ..)| *from == begins);
        let (mut said, mut succeeded) = (0, None);
        // Who replaces the state waits for all who hold it: it is held while a batch is written, not while lines are read.
        self.state = None;
        loop {
            let is_full = again.map_or(batch.is_full(), |(_, end, _)| ends >= end);
            let is_end = work.stretch.ends.is_some_and(|end| lines.offset >= end);
            // To find the place in a compressed file may take longer than a turn: each turn gets a batch further.
            let may_end = self.has_kept || !source.is_compressed() || self.why.is_dry_run();
            let is_late = may_end
                && again.is_none()
                && work.summary.lines.is_multiple_of(1024)
                && Instant::now() >= self.until;
            let found = if is_full || is_end || is_late { None } else { lines.next().map_err(failed())? };
            let Some(line) = found else {
                if !is_full {
                    work.end(source, rules.why)?;
                }
                if ends > begins {
                    let part = Part { begins, ends, tail: mark(&last) };
                    let done = again.take().map_or(0, |(.., pieces)| pieces);
                    self.keep(work, &batch, &part, done, (said, succeeded))?;
                    (self.state, self.has_kept) = (None, true);
                    (batch, begins) = (Batch::default(), ends);
                }
                if is_full {
                    continue;
                }
                work.summary.is_whole = !is_late;
                return Ok(());
            };
            ends = line.end;
            let text = line.text();
            if line.is_whole {
                if let Some((event, counts)) = work.take(text, rules) {
                    batch.add(self.call, &event, counts);
                    if counts.teaches {
                        succeeded = succeeded.max(Some(event.at.min(self.call.now)));
                    }
                }
            } else {
                work.summary.lines += 1;
                work.summary.foreign += 1;
            }
            said = work.summary.last.unwrap_or(said);
            last.clear();
            last.extend_from_slice(end_of(text));
        }
    }

    /// Writes a batch, and notes that its lines are counted.
    fn keep(
        &mut self,
        work: &mut AtWork,
        batch: &Batch,
        part: &Part,
        done: usize,
        (said, succeeded): (Seconds, Option<Seconds>),
    ) -> Result<()> {
        if self.why.is_dry_run() {
            return Ok(());
        }
        let pieces = batch.pieces();
        let (count, now, retention) = (pieces.count(), self.call.now, self.retention);
        let about = About { head: work.head, name: work.name, at: now, said };
        let others = [Purpose::Logins, Purpose::Inbound].map(|wanted| -> Vec<Part> {
            self.others
                .iter()
                .filter(|(purpose, _)| *purpose == wanted)
                .map(|(_, part)| part.clone())
                .collect()
        });
        let purposes = [(Purpose::Logins, work.stretch.logins), (Purpose::Inbound, work.stretch.inbound)];
        for n in done.min(count - 1)..count {
            let begun = Instant::now();
            let is_alone = self.write(|t| {
                for ((purpose, is_read), others) in purposes.into_iter().zip(&others) {
                    if is_read && logs::is_counted(t, about.head, purpose, part, others)? {
                        return Ok(false);
                    }
                }
                pieces.write(t, n, now, &retention)?;
                if n + 1 < count {
                    logs::note_writing(t, about.head, (part.begins, part.ends), n + 1)?;
                    return Ok(true);
                }
                for (purpose, _) in purposes.into_iter().filter(|(_, is_read)| *is_read) {
                    logs::note(t, about, purpose, part)?;
                }
                succeeded.map_or(Ok(()), |at| logs::note_success(t, at))?;
                logs::end_writing(t, about.head)?;
                Ok(true)
            })?;
            if !is_alone {
                return Err(Error::State(format!(
                    "{} was read by another program meanwhile; what that counted is not counted again. Run it again.",
                    work.name
                )));
            }
            std::thread::sleep(begun.elapsed() / PAUSE);
        }
        Ok(())
    }

    fn write<T>(&mut self, work: impl FnOnce(&Unit) -> rusqlite::Result<T>) -> Result<T> {
        self.with_state(|state| state.write(work))
    }

    fn with_state<T>(&mut self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        if self.state.as_ref().is_some_and(|(_, opened)| opened.elapsed() > HOLD) {
            self.state = None;
        }
        if self.state.is_none() {
            self.state = Some((State::open_for_long(&self.call.paths)?, Instant::now()));
        }
        match &mut self.state {
            Some((state, _)) => work(state),
            None => Err(Error::State("The state is not open.".into())),
        }
    }
}

/// A stretch that is being read.
struct AtWork<'a> {
    head: &'a Mark,
    name: &'a str,
    stretch: Stretch,
    summary: &'a mut Summary,
    reader: &'a mut Reader,
}

impl AtWork<'_> {
    /// Takes a line; an event and for what it counts, where it does.
    fn take<'l>(&mut self, text: &'l [u8], rules: &Rules) -> Option<(Event<'l>, Counts)> {
        let summary = &mut *self.summary;
        summary.lines += 1;
        let (at, event) = match self.reader.read(text) {
            Line::Event(event) => (event.at, Some(event)),
            Line::Other(at) => {
                summary.other += 1;
                (at, None)
            }
            Line::Ambiguous(at) => {
                summary.ambiguous += 1;
                (at, None)
            }
            Line::Foreign(at) => {
                summary.foreign += 1;
                (at, None)
            }
            Line::Unknown => {
                summary.foreign += 1;
                return None;
            }
        };
        summary.first.get_or_insert(at);
        summary.last = Some(at);
        let event = event?;
        let (is_unread, sum) = match event.what {
            What::Success => (self.stretch.logins, &mut summary.successes),
            What::Failure => (self.stretch.logins, &mut summary.failures),
            What::Inbound => (self.stretch.inbound, &mut summary.inbound),
        };
        if !is_unread {
            return None;
        }
        *sum += u64::from(event.times);
        let is_before = matches!(rules.why, Why::Learn { since: Some(since), .. } if at < since);
        let counts = rules.counts(&event);
        let is_old = at.div_euclid(DAY) <= rules.now / DAY - rules.retention.traffic_days;
        if is_before || is_old || at > rules.now + AHEAD {
            summary.left_out += 1;
            return None;
        }
        summary.counted += u64::from(counts.by_country || counts.figures) * u64::from(event.times);
        summary.taught += u64::from(counts.teaches);
        (counts != Counts::default()).then_some((event, counts))
    }

    /// At the end of a stretch; refuses what is none of the servers' logs.
    fn end(&mut self, source: &Source, why: Why) -> Result<()> {
        let of = SERVERS.iter().zip(self.reader.lines_of).filter(|(_, n)| *n > 0);
        self.summary.of = of.map(|(server, n)| ((*server).to_string(), n)).collect();
        let is_all = self.stretch.begins == 0 && why.is_learn();
        if self.summary.is_understood() || self.summary.lines == 0 || !is_all {
            return Ok(());
        }
        let mut lines = source.lines(0)?;
        let first = lines.next().map_err(Error::file("read", source.name.as_ref()))?;
        let first: String = first.map_or_else(String::new, |line| {
            String::from_utf8_lossy(line.text()).chars().filter(|c| !c.is_control()).take(120).collect()
        });
        Err(Error::Data(format!(
            "{} is none of Exim's, Dovecot's or Postfix's logs: of {} lines none is theirs. The first is {first:?}.",
            source.name, self.summary.lines
        )))
    }
}
