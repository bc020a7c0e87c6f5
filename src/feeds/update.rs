//! Fetches feeds that are due, takes the lists that may be taken, and compiles all lists in use. As user `postern`,
//! never root; one at a time.
//!
//! Whatever goes wrong with a list leaves the one from before as it was; that one ends by itself when it is too old.

use super::check::{Known, Own, Size, refusal, unfit_entry};
use super::compile::{Heading, publish};
use super::kept::{self, Kept, list};
use super::lookup::Feeds;
use super::{Definition, Key, formats};
use crate::address::Network;
use crate::call::{Call, random_bits};
use crate::clock::{Seconds, readable, short_span};
use crate::error::{Error, Result};
use crate::fetch::{self, Answer, Question, ask, authorities};
use crate::kept_file::{lock, own_folder, read_up_to, replace};
use crate::log::{Line, Severity};
use crate::paths::Paths;
use serde::{Deserialize, Serialize};
use std::cell::LazyCell;
use std::io::Write;
use std::time::{Duration, Instant};
use ureq::tls::RootCerts;

/// Largest list, in bytes.
const MOST: u64 = 32 << 20;

/// Entries that are named.
const NAMED: usize = 5;

/// How long growth is measured by the same list, in seconds.
const DAY: Seconds = 86_400;

/// Why it failed, as long as no other reason is known.
const ENDED: &str = "nothing is known of that yet: it goes on, or took too long and was ended";

/// What is left of the time has to be enough for a list, or it is left for the next time.
const ENOUGH: Duration = Duration::from_secs(5);

/// Which feeds are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Those that are due.
    Due,
    /// Those that an administrator names, as far as their publishers let one ask already.
    These(Vec<String>),
    /// None: what is there is compiled anew where that is needed.
    None,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Job {
    /// The feeds in use.
    pub feeds: Vec<Definition>,
    /// The server's own addresses.
    pub own: Vec<Network>,
    /// Which are asked.
    pub asked: Asked,
    /// Whether a list may be taken however much it has grown.
    pub may_grow: bool,
    /// How long one list may take, and all together.
    pub limits: (Duration, Duration),
}

/// What became of a feed that was asked, or was not although an administrator wanted it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Its name; `all` where what is compiled of all could not be written.
    pub feed: String,
    /// `taken`, `unchanged`, `refused`, `failed` or `waits`.
    pub did: String,
    /// What happened, as a sentence.
    pub says: String,
    /// Whether that was not so the last time.
    pub is_news: bool,
    /// Whether it is this server's own fault, as a full disk: trouble, and not to be told as what a publisher did.
    pub is_ours: bool,
}

impl Done {
    /// Whether the feed has the publisher's current list now.
    pub fn is_good(&self) -> bool {
        matches!(self.did.as_str(), "taken" | "unchanged")
    }
}

/// Logs what is news.
pub fn tell(call: &Call, done: &[Done]) {
    for done in done.iter().filter(|done| done.did == "taken" || done.is_news) {
        let severity = if done.is_good() { Severity::Notice } else { Severity::Warning };
        let line = Line::new(severity, "feed").field("name", &done.feed).field("did", &done.did);
        line.field("says", &done.says).send(&call.paths, call.program);
    }
}

/// Does it; tells what became of each feed that was asked. Does nothing where another is at it and nobody waits.
pub fn update(paths: &Paths, job: &Job, now: Seconds) -> Result<Vec<Done>> {
    own_folder(&paths.feeds_dir())?;
    // Whoever was asked by an administrator waits for another's end.
    let Some(_locked) = lock(&paths.feeds_dir().join("lock"), job.asked == Asked::Due)? else {
        return Ok(Vec::new());
    };
    kept::forget_others(paths, &job.feeds);
    let begun = Instant::now();
    let trusted = LazyCell::new(|| authorities(paths).map_err(|e| e.to_string()));
    let set_right =
        |feed: &Definition| kept::set_right(paths, feed, now).err().map(|error| of_ours(&feed.name, &error));
    let mut all: Vec<Done> = job.feeds.iter().filter_map(set_right).collect();
    for feed in job.feeds.iter().filter(|feed| is_asked(paths, feed, &job.asked, now)) {
        let left = job.limits.1.saturating_sub(begun.elapsed());
        if left < ENOUGH {
            break;
        }
        let done = fetch_one(paths, &trusted, feed, job, job.limits.0.min(left), now);
        all.push(done.unwrap_or_else(|error| of_ours(&feed.name, &error)));
    }
    let is_new = all.iter().any(|done| done.did == "taken");
    match compile_where_needed(paths, &job.feeds, &Own::new(&job.own), is_new) {
        Ok(more) => all.extend(more),
        Err(error) => all.push(of_ours("all", &error)),
    }
    Ok(all)
}

fn is_asked(paths: &Paths, feed: &Definition, asked: &Asked, now: Seconds) -> bool {
    match asked {
        Asked::None => false,
        Asked::These(names) => names.contains(&feed.name),
        Asked::Due => {
            let kept = Kept::of(paths, feed);
            // The clock may have been set back.
            kept.due <= now || kept.asked > now
        }
    }
}

fn fetch_one(
    paths: &Paths,
    trusted: &Trusted<impl FnOnce() -> Believed>,
    feed: &Definition,
    job: &Job,
    limit: Duration,
    now: Seconds,
) -> Result<Done> {
    let mut kept = Kept::of(paths, feed);
    let again = kept.asked.saturating_add(feed.minimum);
    if kept.asked <= now && now < again && job.asked != Asked::Due {
        let says = format!(
            "{} was asked {} and may be asked once in {}: again from {} on.",
            feed.name,
            readable(kept.asked),
            short_span(feed.minimum),
            readable(again)
        );
        return Ok(Done { feed: feed.name.clone(), did: "waits".into(), says, ..Done::default() });
    }
    // Kept before it is asked: a publisher is not asked again and again by somebody who ends each time.
    (kept.asked, kept.due) = (now, now.saturating_add(feed.minimum));
    let asked = Kept { failed: Some(ENDED.into()), ..kept.clone() };
    asked.keep(paths, feed)?;
    let answer = question(paths, feed, &kept, limit)
        .and_then(|question| question.ask(trusted.as_ref().map_err(|why| without_stop(why))?));
    let done = match answer {
        Ok(answer) => take(paths, feed, &mut kept, job, answer, now),
        Err(why) => Ok(failed(feed, &mut kept, why)),
    };
    done.and_then(|done| kept.keep(paths, feed).map(|()| done)).inspect_err(|error| {
        let failed = Some(without_stop(&error.to_string()).to_owned());
        let _ = Kept { failed, ..asked }.keep(paths, feed);
    })
}

/// What went wrong here, and not with a publisher.
fn of_ours(feed: &str, error: &Error) -> Done {
    let says = format!("The feed {feed} could not be worked on: {error}");
    Done { feed: feed.into(), did: "failed".into(), says, is_ours: true, ..Done::default() }
}

/// As a part of another sentence.
fn without_stop(sentence: &str) -> String {
    sentence.trim_end_matches('.').into()
}

/// The authorities that the system trusts, or why none is known.
type Believed = std::result::Result<RootCerts, String>;

/// Read when the first feed is asked.
type Trusted<F> = LazyCell<Believed, F>;

/// A question with the texts that it borrows.
struct Owned<'a> {
    url: String,
    key: Option<(String, String)>,
    kept: Option<&'a Kept>,
    limit: Duration,
}

impl Owned<'_> {
    fn ask(&self, trusted: &RootCerts) -> std::result::Result<Answer, String> {
        ask(
            trusted,
            &Question {
                url: &self.url,
                key: self.key.as_ref().map(|(name, value)| (name.as_str(), value.as_str())),
                etag: self.kept.and_then(|kept| kept.etag.as_deref()),
                last_modified: self.kept.and_then(|kept| kept.last_modified.as_deref()),
                most: MOST,
                limit: self.limit,
            },
        )
    }
}

fn question<'a>(
    paths: &Paths,
    feed: &Definition,
    kept: &'a Kept,
    limit: Duration,
) -> std::result::Result<Owned<'a>, String> {
    // Nothing is "unchanged" of which nothing is there.
    let kept = Some(kept).filter(|kept| kept.confirmed > 0 && list(paths, &feed.name).exists());
    let plain = Owned { url: feed.url.clone(), key: None, kept, limit };
    let Some(place) = &feed.key else { return Ok(plain) };
    let key = fetch::key(&paths.feed_key(&feed.name))?;
    Ok(match place {
        Key::Header(name) => Owned { key: Some((name.clone(), key)), ..plain },
        Key::InUrl => Owned { url: feed.url.replace(fetch::KEY, &key), ..plain },
    })
}

fn failed(feed: &Definition, kept: &mut Kept, why: String) -> Done {
    let is_news = kept.failed.as_ref().is_none_or(|before| before == ENDED);
    let says = format!("{} could not be fetched: {why}. {}", feed.name, stays(feed, kept));
    kept.failed = Some(why);
    Done { feed: feed.name.clone(), did: "failed".into(), says, is_news, ..Done::default() }
}

/// What holds on where a new list did not come or was refused.
fn stays(feed: &Definition, kept: &Kept) -> String {
    match kept.ends(feed) {
        None => "There is no list of it yet, so it refuses nobody.".into(),
        Some(ends) => format!("The list from before stays until {}.", readable(ends)),
    }
}

fn take(
    paths: &Paths,
    feed: &Definition,
    kept: &mut Kept,
    job: &Job,
    answer: Answer,
    now: Seconds,
) -> Result<Done> {
    kept.failed = None;
    kept.due = now.saturating_add(feed.every).saturating_add(some_of(feed.every / 10));
    let done = |did: &str, says: String, is_news| {
        Ok(Done { feed: feed.name.clone(), did: did.into(), says, is_news, ..Done::default() })
    };
    let (body, etag, last_modified) = match answer {
        Answer::Unchanged => {
            (kept.confirmed, kept.refused) = (now, None);
            return done("unchanged", format!("{} has not changed.", feed.name), false);
        }
        Answer::New { body, etag, last_modified } => (body, etag, last_modified),
    };
    let mut read = formats::read(feed.format, feed.least, &body);
    let own = Own::new(&job.own);
    own.leave_out(&mut read);
    let size = Size::of(&read.ranges());
    let known = Known { before: kept.size, own: &own, may_grow: job.may_grow };
    if let Some(why) = refusal(&read, feed.format, size, &known) {
        let is_news = kept.refused.is_none();
        let says = format!("A new list of {} was refused: {why}. {}", feed.name, stays(feed, kept));
        kept.refused = Some(why);
        return done("refused", says, is_news);
    }
    replace(&list(paths, &feed.name), 0o600, |file| file.write_all(&body))?;
    // By the last list alone it could grow threefold each hour.
    let is_measure = job.may_grow || kept.size.is_none() || !(0..DAY).contains(&(now - kept.measured));
    let of_server = last_modified.as_deref().and_then(http_date);
    *kept = Kept {
        confirmed: now,
        made: read.made.or(of_server),
        etag,
        last_modified,
        entries: read.networks.len(),
        size: Some(size).filter(|_| is_measure).or(kept.size),
        measured: if is_measure { now } else { kept.measured },
        broken: read.broken,
        own: in_words(&read.own),
        credit: read.credit,
        refused: None,
        ..kept.clone()
    };
    let mut says = format!("{} has a new list of {} entries.", feed.name, kept.entries);
    if kept.broken.count > 0 {
        says += &format!(" Left out of it: {}.", kept.broken.words());
    }
    if !kept.own.is_empty() {
        says += &format!(" {}", without_own(&kept.own));
    }
    if kept.is_expired(feed, now) {
        says += &format!(" It is of {} and too old: it refuses nobody.", readable(kept.as_of().unwrap_or(0)));
    }
    done("taken", says, false)
}

/// The first of these networks, and how many more there are.
fn in_words(networks: &[Network]) -> String {
    let named: Vec<String> = networks.iter().take(NAMED).map(Network::to_string).collect();
    match networks.len() - named.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// What the administrator is told of entries that hold the server itself.
pub fn without_own(entries: &str) -> String {
    format!(
        "This server itself is on it, which is left out: {entries}. Has an account on it attacked others? Ask the publisher, too."
    )
}

/// Up to so many seconds, another number each time: servers are not to ask all at once.
fn some_of(seconds: Seconds) -> Seconds {
    (random_bits() >> 1).cast_signed() % seconds.max(1)
}

/// A time as servers write it (RFC 9110 §5.6.7).
fn http_date(text: &str) -> Option<Seconds> {
    chrono::DateTime::parse_from_rfc2822(text).ok().map(|at| at.timestamp())
}

/// Compiles the lists, unless what is compiled is what is there. Tells of lists that are used no more, since the server
/// has got an address in the middle of them, or what is refused is another now.
fn compile_where_needed(paths: &Paths, feeds: &[Definition], own: &Own, is_new: bool) -> Result<Vec<Done>> {
    let path = paths.feeds();
    if feeds.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", &path)(e)),
            _ => Ok(Vec::new()),
        };
    }
    let heading = |feed: &Definition| {
        let kept = Kept::of(paths, feed);
        Some(Heading { name: feed.name.clone(), as_of: kept.as_of()?, ends: kept.ends(feed)? })
    };
    let wanted: Vec<(Heading, &Definition)> =
        feeds.iter().filter_map(|feed| Some((heading(feed)?, feed))).collect();
    let is_there = Feeds::open(&path).ok().flatten().is_some_and(|there| {
        there.headings().iter().eq(wanted.iter().map(|(heading, _)| heading)) && !own.is_named_by(&there)
    });
    if is_there && !is_new {
        return Ok(Vec::new());
    }
    let (mut lists, mut told) = (Vec::new(), Vec::new());
    for (heading, feed) in wanted {
        match read_up_to(&list(paths, &feed.name), MOST) {
            Ok(body) => {
                let mut read = formats::read(feed.format, feed.least, &body);
                own.leave_out(&mut read);
                match unfit_entry(&read, own) {
                    Some(why) => told.push(
                        used_no_more(paths, feed, why).unwrap_or_else(|error| of_ours(&feed.name, &error)),
                    ),
                    None => {
                        let kept = Kept::of(paths, feed);
                        let left_out = in_words(&read.own);
                        if kept.own != left_out {
                            Kept { own: left_out, entries: read.networks.len(), ..kept }
                                .keep(paths, feed)
                                .unwrap_or_else(|error| told.push(of_ours(&feed.name, &error)));
                        }
                        lists.push((heading, read.ranges()));
                    }
                }
            }
            // Fetched again from the beginning, as soon as its publisher lets one ask.
            Err(_) => {
                let kept = Kept::of(paths, feed);
                let due = kept.asked.saturating_add(feed.minimum);
                Kept { due, confirmed: 0, ..kept }
                    .keep(paths, feed)
                    .unwrap_or_else(|error| told.push(of_ours(&feed.name, &error)));
            }
        }
    }
    publish(&path, lists)?;
    Ok(told)
}

/// Drops the list in use, which would be refused today.
fn used_no_more(paths: &Paths, feed: &Definition, why: String) -> Result<Done> {
    let kept = Kept::of(paths, feed);
    let is_news = kept.refused.is_none();
    let says = format!("The list of {} is used no more: {why}. So it refuses nobody.", feed.name);
    Kept { confirmed: 0, refused: Some(why), ..kept }.keep(paths, feed)?;
    Ok(Done { feed: feed.name.clone(), did: "refused".into(), says, is_news, ..Done::default() })
}

#[cfg(test)]
#[path = "update_tests.rs"]
mod tests;
