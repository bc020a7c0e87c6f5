//! Feeds: lists of attacking networks that others publish. Which are offered, which are in use, how they stand.
//!
//! What is chosen stands in the settings; the lists are fetched by a child that has become user `postern` for good.

use super::arguments::Arguments;
use super::status::Level;
use super::{Admin, Outcome};
use crate::clock::{Seconds, readable};
use crate::error::{Error, Result};
use crate::feeds::{
    Asked, Chosen, Definition, Done, Feeds, Job, Kept, MOST, offered, standing, tell, update, without_own,
};
use crate::on_state::as_postern_within;
use crate::settings::Mode;
use crate::store::settings::entries::{ListEntry, ListName};
use serde_json::{Value, json};
use std::time::Duration;

/// The lists in the settings: what is switched on, and what the administrator defined.
pub const LISTS: [ListName; 2] = [ListName::Feed, ListName::FeedDefinition];

/// Which of them a value belongs to: a definition has several words.
pub fn list_for(value: &str) -> ListName {
    let [on, defined] = LISTS;
    if value.trim().contains(char::is_whitespace) { defined } else { on }
}

/// How long an administrator waits for one list, and for all.
const LIMITS: (Duration, Duration) = (Duration::from_secs(120), Duration::from_secs(300));

/// How long the work may take in all, in seconds: a net below those limits.
const LONGEST: u32 = 330;

/// How long reading what is kept may take, in seconds.
const TO_READ: u32 = 20;

/// Every feed that is offered or defined, and how it stands.
pub fn list_feeds(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let store = admin.settings()?;
    let in_use = Chosen::read(&store, admin.call.now)?.feeds;
    let all = known(admin)?;
    let kept = kept(admin, &all)?;
    let row = |(feed, kept): (&Definition, &Kept)| {
        let is_on = in_use.iter().any(|used| used.name == feed.name);
        let (state, says) = match is_on {
            true => says(feed, kept, admin.call.now),
            false => (Level::Note, format!("`postern feeds enable {}` switches it on.", feed.name)),
        };
        json!({
            "feed": feed.name,
            "state": if is_on { state.word() } else { "off" },
            "entries": is_on.then_some(kept.entries),
            "since": kept.as_of().filter(|_| is_on),
            "until": kept.ends(feed).filter(|_| is_on),
            "says": says,
            "about": about(feed),
            "credit": kept.credit.as_ref().filter(|_| is_on),
            "definition": feed.to_string(),
        })
    };
    Ok(json!(all.iter().zip(&kept).map(row).collect::<Vec<Value>>()).into())
}

fn about(feed: &Definition) -> String {
    if feed.title.is_empty() {
        "Defined by the administrator.".into()
    } else {
        format!("{}. {}", feed.title, feed.terms)
    }
}

/// What is offered, and what the administrator defined.
fn known(admin: &Admin) -> Result<Vec<Definition>> {
    let mut all = offered()?;
    for entry in admin.settings()?.entries(ListName::FeedDefinition)? {
        all.extend(
            entry.value.parse::<Definition>().ok().filter(|own| all.iter().all(|d| d.name != own.name)),
        );
    }
    Ok(all)
}

fn of_name(admin: &Admin, name: &str) -> Result<Definition> {
    known(admin)?.into_iter().find(|feed| feed.name == name).ok_or_else(|| {
        Error::NotFound(format!(
            "There is no feed {name:?}; `postern feeds list` shows what is offered, `postern feeds add` defines one."
        ))
    })
}

fn kept(admin: &Admin, feeds: &[Definition]) -> Result<Vec<Kept>> {
    let paths = &admin.call.paths;
    as_postern_within(paths, TO_READ, || Ok(standing(paths, feeds)))
}

/// How a feed that is in use stands.
fn says(feed: &Definition, kept: &Kept, now: Seconds) -> (Level, String) {
    let (Some(as_of), Some(ends)) = (kept.as_of(), kept.ends(feed)) else {
        let why = match (&kept.refused, &kept.failed) {
            (Some(why), _) => format!("the list was refused: {why}"),
            (None, Some(why)) => why.clone(),
            (None, None) => "it was not fetched yet; `postern feeds update` does it".into(),
        };
        return (Level::Warning, format!("It has no list, so it refuses nobody: {why}."));
    };
    let (mut level, mut says) = match kept.is_expired(feed, now) {
        true => (
            Level::Warning,
            format!(
                "Its list of {} is too old; since {} it refuses nobody.",
                readable(as_of),
                readable(ends)
            ),
        ),
        false => (
            Level::Good,
            format!("{} entries, as of {}; good until {}.", kept.entries, readable(as_of), readable(ends)),
        ),
    };
    if let Some(why) = &kept.refused {
        level = Level::Warning;
        says += &format!(" A newer list was refused: {why}.");
    }
    if let Some(why) = &kept.failed {
        // A publisher may be away for a while.
        if now - as_of > feed.age / 2 {
            level = Level::Warning;
        }
        says += &format!(" Asked again {}: {why}.", readable(kept.asked));
    }
    if kept.broken.count > 0 {
        says += &format!(" Left out of it: {}.", kept.broken.words());
    }
    if !kept.own.is_empty() {
        level = Level::Warning;
        says += &format!(" {}", without_own(&kept.own));
    }
    if let Some(credit) = &kept.credit {
        says += &format!(" {credit}.");
    }
    (level, says)
}

/// One row for each feed in use, or one that none is.
pub(super) fn report(admin: &Admin) -> Result<Vec<(String, Level, String)>> {
    let feeds = Chosen::read(&admin.settings()?, admin.call.now)?.feeds;
    if feeds.is_empty() {
        let says = "None is switched on; `postern feeds list` shows what is offered.";
        return Ok(vec![("feeds".into(), Level::Note, says.into())]);
    }
    let kept = kept(admin, &feeds)?;
    let row = |(feed, kept): (&Definition, &Kept)| {
        let (level, says) = says(feed, kept, admin.call.now);
        (format!("feed {}", feed.name), level, says)
    };
    let rows = feeds.iter().zip(&kept).map(row);
    let has_lists = kept.iter().any(|kept| kept.as_of().is_some());
    let says = match Feeds::open(&admin.call.paths.feeds()) {
        Ok(None) if has_lists => {
            "What is compiled of them is missing, so they refuse nobody: `postern feeds update` makes it anew."
                .into()
        }
        Ok(_) => return Ok(rows.collect()),
        Err(error) => error.to_string(),
    };
    Ok(rows.chain([("compiled feeds".into(), Level::Warning, says)]).collect())
}

/// Switches a feed on, and fetches it.
pub fn enable(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let feed = of_name(admin, given.text("feed"))?;
    let in_use = Chosen::read(&admin.settings()?, admin.call.now)?.feeds;
    if in_use.len() >= MOST && in_use.iter().all(|used| used.name != feed.name) {
        return Err(Error::NotAllowed(format!(
            "{MOST} feeds are in use, and no more can be: `postern feeds disable`."
        )));
    }
    let entry = ListEntry { value: feed.name.clone(), note: given.note(), ..ListEntry::default() };
    admin.change(given, |change| change.add(ListName::Feed, &entry))?;
    let mut outcome = Outcome::said(format!("The feed {} is switched on. {}", feed.name, about(&feed)));
    match ask(admin, Asked::These(vec![feed.name]), false) {
        Ok(done) => add(&mut outcome, done, |outcome| &mut outcome.warnings),
        Err(error) => outcome.warnings.push(error.to_string()),
    }
    let mode = admin.settings()?.settings()?.attack_networks;
    let says = match mode {
        Mode::Off => "off, so feeds are not asked",
        Mode::Monitor => "in monitor: what feeds would refuse is recorded, and refused is nothing",
        Mode::Enforce => return Ok(outcome),
    };
    Ok(outcome.warn(Some(format!("The rule attack_networks is {says}."))))
}

/// Switches a feed off: it refuses nobody from the next login on.
pub fn disable(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let name = given.text("feed");
    admin.change(given, |change| change.remove(ListName::Feed, name))?;
    let outcome = Outcome::said(format!("The feed {name} is switched off."));
    Ok(outcome.warn(compiled_without(admin)))
}

/// Takes out what is in use no more.
fn compiled_without(admin: &Admin) -> Option<String> {
    let error = ask(admin, Asked::None, false).err()?;
    Some(format!("What is compiled has it still; `postern tick` tries again. {error}"))
}

/// Arguments with the words for them in a definition.
const NAMED: [(&str, &str); 5] =
    [("every", "every"), ("minimum", "minimum"), ("age", "age"), ("least", "least"), ("key_header", "key")];

/// Defines a feed.
pub fn add_feed(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let name = given.text("feed");
    if offered()?.iter().any(|feed| feed.name == name) {
        return Err(Error::bad_value(
            "The feed's name",
            name,
            "another name: a feed of this name is offered already",
        ));
    }
    let mut text = format!("{name} {} {}", word(given, "url")?, given.given("format").unwrap_or("plain"));
    for (argument, key) in NAMED {
        if given.given(argument).is_some() {
            text += &format!(" {key}={}", word(given, argument)?);
        }
    }
    let feed: Definition = text.parse()?;
    let entry = ListEntry { value: feed.to_string(), note: given.note(), ..ListEntry::default() };
    let before = of_this_name(admin, name)?;
    admin.change(given, |change| {
        for old in before.iter().filter(|old| **old != entry.value) {
            change.remove(ListName::FeedDefinition, old)?;
        }
        change.add(ListName::FeedDefinition, &entry)
    })?;
    let key = feed.key.as_ref().map(|_| {
        format!(
            " Write its publisher's key to {}, readable for user postern and for nobody else.",
            admin.call.paths.feed_key(name).display()
        )
    });
    let is_new = before.is_empty();
    let next = if is_new { format!(" `postern feeds enable {name}` switches it on.") } else { String::new() };
    Ok(Outcome::said(format!("The feed {name} is defined.{}{next}", key.unwrap_or_default())))
}

/// A value without blanks: one would make two of it.
fn word<'a>(given: &'a Arguments, name: &str) -> Result<&'a str> {
    let text = given.text(name);
    if text.contains(char::is_whitespace) {
        return Err(Error::bad_value(format!("The argument {name}"), text, "one word"));
    }
    Ok(text)
}

/// The administrator's own definitions of this name.
fn of_this_name(admin: &Admin, name: &str) -> Result<Vec<String>> {
    let own = admin.settings()?.entries(ListName::FeedDefinition)?.into_iter().map(|entry| entry.value);
    Ok(own.filter(|value| value.split_whitespace().next() == Some(name)).collect())
}

/// Forgets a feed of the administrator's own.
pub fn remove_feed(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let name = given.text("feed");
    let own = of_this_name(admin, name)?;
    if own.is_empty() {
        return Err(Error::NotFound(format!(
            "There is no feed {name:?} of your own; `postern feeds disable` switches off one that is offered."
        )));
    }
    let is_on = admin.settings()?.entries(ListName::Feed)?.iter().any(|entry| entry.value == name);
    admin.change(given, |change| {
        if is_on {
            change.remove(ListName::Feed, name)?;
        }
        own.iter().try_for_each(|value| change.remove(ListName::FeedDefinition, value))
    })?;
    Ok(Outcome::said(format!("The feed {name} is forgotten.")).warn(compiled_without(admin)))
}

/// Fetches feeds now, as far as their publishers let one ask already.
pub fn update_feeds(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let in_use = Chosen::read(&admin.settings()?, admin.call.now)?.feeds;
    let all = || in_use.iter().map(|feed| feed.name.clone()).collect();
    let names: Vec<String> = given.given("feed").map_or_else(all, |name| vec![name.to_owned()]);
    if let Some(off) = names.iter().find(|name| in_use.iter().all(|feed| feed.name != **name)) {
        return Err(Error::NotFound(format!("{off} is not switched on: `postern feeds enable {off}`.")));
    }
    let mut outcome = Outcome::default();
    if names.is_empty() {
        outcome.messages.push("No feed is switched on; `postern feeds list` shows what is offered.".into());
    }
    let done = ask(admin, Asked::These(names), given.is_on("accept_growth")?)?;
    add(&mut outcome, done, |outcome| &mut outcome.failures);
    Ok(outcome)
}

/// What is good is told; what is not goes where the caller says, but that a feed waits is no failure.
fn add(outcome: &mut Outcome, done: Vec<Done>, bad: impl Fn(&mut Outcome) -> &mut Vec<String>) {
    for done in done {
        match (done.is_good(), done.did.as_str()) {
            (true, _) => outcome.messages.push(done.says),
            (false, "waits") => outcome.warnings.push(done.says),
            (false, _) => bad(outcome).push(done.says),
        }
    }
}

fn ask(admin: &Admin, asked: Asked, may_grow: bool) -> Result<Vec<Done>> {
    let call = &admin.call;
    let Chosen { feeds, own } = Chosen::read(&admin.settings()?, call.now)?;
    let job = Job { feeds, own, asked, may_grow, limits: LIMITS };
    let done = as_postern_within(&call.paths, LONGEST, || update(&call.paths, &job, call.now))?;
    tell(call, &done);
    Ok(done)
}
