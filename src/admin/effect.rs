//! Dry runs: whom a list of countries, or a mode of a rule, would have refused. From the roll-ups alone.

use super::arguments::Arguments;
use super::spreadsheet::rows_or_csv;
use super::statistics::{days_by_account, name_of, read, second, seen, since};
use super::{Admin, Outcome};
use crate::account::Subject;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::server_country;
use crate::settings::{Mode, Settings};
use crate::store::settings::SettingsStore;
use crate::store::settings::entries::{self, ListName};
use crate::store::state::figures::{self, Figure};
use crate::store::state::names::Seen;
use crate::store::state::places::{self, Logins, Proposal, Refusal, Refused, Sum};
use crate::verdict::ON_FEED;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What is proposed.
#[derive(Clone, Debug)]
pub(super) enum Whose {
    /// This list for the server, exactly.
    Server(BTreeSet<Country>),
    /// This list for a mailbox or domain.
    Of(Subject, BTreeSet<Country>),
    /// Every list as it is.
    AsTheyAre,
}

/// What would have been.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    /// Days looked at.
    days: i64,
    /// Successful logins of all who are asked about.
    logins: u64,
    /// Those that would have been refused.
    pub(super) refused: Refused,
}

impl Effect {
    /// In a sentence.
    pub(super) fn sentence(&self) -> String {
        let (days, logins, refused) = (self.days, self.logins, self.refused.sum);
        if logins == 0 {
            return format!("No successful logins of the last {days} days are known.");
        }
        let unknown = match self.refused.unknown {
            0 => String::new(),
            n => format!(" {n} more came from unknown, private or local addresses and are left out."),
        };
        format!(
            "Of {logins} successful logins of the last {days} days, {} came from other countries and would have been refused, of {} mailboxes.{unknown}",
            refused.logins, refused.who
        )
    }
}

/// Whom a proposal would have refused within so many days; the first of them by name.
pub(super) fn of(admin: &Admin, whose: &Whose, days: i64, limit: usize) -> Result<Effect> {
    of_known(admin, whose, days, limit, None)
}

/// The same where the server's figures of these days were read already.
pub(super) fn of_known(
    admin: &Admin,
    whose: &Whose,
    days: i64,
    limit: usize,
    known: Option<&[Figure]>,
) -> Result<Effect> {
    let store = admin.settings()?;
    let proposal = proposal(admin, &store, whose)?;
    let (first, today) = (since(admin, days), admin.call.now / 86_400);
    let (refused, of_server) = read(admin, |db| {
        let seen = seen(admin, db)?;
        let refused = places::refused_by(db, &proposal, first, limit, &seen)?;
        let of_server = match seen {
            Seen::These(_) => refused.of_seen,
            Seen::All => match known {
                Some(figures) => successes(figures),
                None => successes(&figures::by_country(db, first, today)?),
            },
        };
        Ok((refused, of_server))
    })?;
    let logins = if proposal.server.is_some() { of_server } else { refused.of_lists };
    Ok(Effect { days, logins, refused })
}

fn successes(figures: &[Figure]) -> u64 {
    let good = figures.iter().filter(|f| f.direction == "login" && f.verdict == "succeeded");
    good.fold(0u64, |sum, f| sum.saturating_add(f.n.unsigned_abs()))
}

/// The lists as they would be, with who is not asked for a country anyway.
fn proposal(admin: &Admin, store: &SettingsStore, whose: &Whose) -> Result<Proposal> {
    let now = admin.call.now;
    let mut lists = store.countries()?;
    let stored = lists.remove(&entries::scope(None)).unwrap_or_default();
    let asked_about = match whose {
        Whose::Of(subject, list) => {
            lists.insert(subject.key(), list.clone());
            Some(subject.key())
        }
        _ => None,
    };
    let server = match whose {
        Whose::Server(list) => Some(list.clone()),
        Whose::Of(..) => None,
        Whose::AsTheyAre => Some(with_own(admin, &store.settings()?, stored)),
    };
    let as_they_are = matches!(whose, Whose::AsTheyAre);
    let is_asked = |key: &String| as_they_are || asked_about.as_ref() == Some(key);
    let exempt = store.entries(ListName::UserExemption)?.into_iter().filter(|e| e.holds(now));
    let running = store.allowances()?.into_iter().filter(|grant| now < grant.until);
    Ok(Proposal {
        server,
        lists: lists
            .into_iter()
            .map(|(key, list)| {
                let asked = is_asked(&key);
                (key, list, asked)
            })
            .collect(),
        exempt: exempt.map(|e| e.value).collect(),
        allowances: running.filter_map(|g| Some((g.subject, g.source.parse().ok()?))).collect(),
    })
}

/// The server's list with its own country, where that is always allowed.
fn with_own(admin: &Admin, settings: &Settings, mut list: BTreeSet<Country>) -> BTreeSet<Country> {
    let own = server_country::find(&admin.call.paths, settings).country;
    list.extend(own.filter(|_| settings.allow_server_country));
    list
}

/// The sentence that a confirmation shows: what the last 30 days say about this list.
pub(super) fn sentence(admin: &Admin, whose: &Whose) -> String {
    let days = admin.settings().and_then(|s| s.settings()).map_or(30, |s| s.keep_login_days.min(30));
    match of(admin, whose, days, 0) {
        Ok(effect) => effect.sentence(),
        Err(error) => format!("Whom it would have refused is not known: {error}"),
    }
}

/// A rule that has a mode, as the roll-ups know it.
struct RuleFigures {
    /// Key of the setting with its mode.
    key: &'static str,
    mode: fn(&Settings) -> Mode,
    /// Its reasons.
    reasons: &'static [&'static str],
    /// Under which heads its refusals are counted, and those that it would have given in monitor mode.
    did: &'static [&'static str],
    would: &'static [&'static str],
    /// What it is asked about.
    about: &'static str,
}

/// A rule about logins.
const fn of_logins(
    key: &'static str,
    mode: fn(&Settings) -> Mode,
    reasons: &'static [&'static str],
) -> RuleFigures {
    RuleFigures { key, mode, reasons, did: &["refused"], would: &["would_refuse"], about: "logins" }
}

const RULES: [RuleFigures; 6] = [
    of_logins("country_rule", |s| s.country_rule, &["country_not_allowed", "unknown_country"]),
    of_logins(
        "source_rule",
        |s| s.source_rule,
        &["network_hosting", "network_vpn", "network_tor", "network_relay"],
    ),
    of_logins("mailbox_guard", |s| s.mailbox_guard, &["mailbox_guarded"]),
    of_logins(
        "attack_networks",
        |s| s.attack_networks,
        &["attack_network", "attack_network_pinned", ON_FEED],
    ),
    of_logins("burst_rule", |s| s.burst_rule, &["burst"]),
    RuleFigures {
        key: "rate_limiter",
        mode: |s| s.rate_limiter,
        reasons: &["over_limit", "sending_stopped", "would_stop"],
        did: &["sending_refused", "held"],
        would: &["sending_would_refuse"],
        about: "messages",
    },
];

/// Names of the rules of which a dry run is possible.
pub const RULE_NAMES: &[&str] =
    &["country_rule", "source_rule", "mailbox_guard", "attack_networks", "burst_rule", "rate_limiter"];

/// Whom a list of countries, or a mode of a rule, would have refused.
pub fn dry_run(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let key = given.given("rule").unwrap_or("country_rule");
    let rule = RULES.iter().find(|r| r.key == key).ok_or_else(|| {
        Error::bad_value("The argument rule", key, format!("one of {}", RULE_NAMES.join(", ")))
    })?;
    let has_list = given.given("countries").is_some() || given.given("for").is_some();
    let mode = given.given("mode").unwrap_or("enforce");
    match (rule.key, mode) {
        ("country_rule", "enforce") => of_countries(admin, given),
        _ if has_list => Err(Error::bad_value(
            "The argument countries",
            given.text("countries"),
            "a list only with rule=country_rule and mode=enforce",
        )),
        _ => of_mode(admin, given, rule, mode),
    }
}

fn of_countries(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let days = days_by_account(admin, given)?;
    let whose = whose(admin, given)?;
    let effect = of(admin, &whose, days, given.limit()? as usize)?;
    let refused = &effect.refused;
    let country = |(code, sum): &(String, Sum)| json!({ "code": code, "name": name_of(code), "logins": sum.logins, "mailboxes": sum.who });
    let answer = json!({
        "rule": "country_rule",
        "mode": "enforce",
        "days": days,
        "since": second(since(admin, days)),
        "logins": effect.logins,
        "logins_refused": refused.sum.logins,
        "mailboxes_refused": refused.sum.who,
        "countries": refused.countries.iter().map(country).collect::<Vec<_>>(),
        "mailboxes": mailbox_rows(refused),
        "says": format!(
            "{} Own lists, User Authentication exemptions and allowances by country are heeded; addresses that are exempt, allowed, the server's own or a cloud mail service's are not known here and count like others.",
            effect.sentence()
        ),
    });
    rows_or_csv(given, answer, "mailboxes")
}

fn whose(admin: &Admin, given: &Arguments) -> Result<Whose> {
    let subject: Option<Subject> = given.given("for").map(str::parse).transpose()?;
    let list = super::countries::chosen(given)?;
    let store = admin.settings()?;
    match (subject, given.given("countries").is_some()) {
        (None, false) => Ok(Whose::AsTheyAre),
        (None, true) => Ok(Whose::Server(with_own(admin, &store.settings()?, list))),
        (Some(subject), true) => Ok(Whose::Of(subject, list)),
        (Some(subject), false) => match store.countries()?.remove(&subject.key()) {
            Some(list) => Ok(Whose::Of(subject, list)),
            None => Err(Error::bad_value(
                "The argument countries",
                "",
                format!("codes or names, since {subject} has no list of its own"),
            )),
        },
    }
}

/// Mailboxes that would have been refused, with their countries and last use.
pub(super) fn mailbox_rows(refused: &Refused) -> Vec<Value> {
    let place = |l: &Logins<String>| json!({ "code": l.who, "name": name_of(&l.who), "logins": l.n, "last": second(l.last) });
    let row = |refusal: &Refusal| {
        json!({
            "account": refusal.account,
            "countries": refusal.places.iter().map(place).collect::<Vec<_>>(),
            "logins": refusal.n,
            "last": second(refusal.last),
        })
    };
    refused.accounts.iter().map(row).collect()
}

/// What a rule did, or would have done, by its own record.
fn of_mode(admin: &Admin, given: &Arguments, rule: &RuleFigures, mode: &str) -> Result<Outcome> {
    let days = days_by_account(admin, given)?;
    let (first, today) = (since(admin, days), admin.call.now / 86_400);
    let now = (rule.mode)(&admin.settings()?.settings()?);
    let verdicts = [rule.did, rule.would].concat();
    let heads = if mode == "monitor" {
        &[][..]
    } else if mode == "off" {
        rule.did
    } else {
        &verdicts
    };
    let reasons: Vec<(&str, &str)> =
        heads.iter().flat_map(|verdict| rule.reasons.iter().map(move |reason| (*verdict, *reason))).collect();
    let named = given.limit()? as usize;
    let refused =
        read(admin, |db| figures::by_reasons(db, &reasons, (first, today), named, &seen(admin, db)?))?;
    let (n, who, about) = (refused.sum.logins, refused.sum.who, rule.about);
    let says = match (mode, now) {
        ("monitor", _) => {
            "A rule in monitor mode refuses nobody; it records what it would have refused.".into()
        }
        ("off", _) => format!(
            "Within the last {days} days this rule refused or held {n} {about} of {who} accounts; switched off, it would have let them go on to the next rule."
        ),
        (_, Mode::Off) => format!(
            "The rule is off, and what is off records nothing: set it to monitor (`postern settings set {} monitor`) and ask again. Of the last {days} days, {n} {about} of {who} accounts are recorded from when it was not.",
            rule.key
        ),
        _ => format!(
            "Within the last {days} days this rule refused, held or would have refused {n} {about} of {who} accounts."
        ),
    };
    let country = |(code, sum): &(String, Sum)| json!({ "code": code, "name": name_of(code), about: sum.logins, "accounts": sum.who });
    let answer = json!({
        "rule": rule.key,
        "mode": mode,
        "mode_now": now,
        "days": days,
        "since": second(first),
        format!("{about}_refused"): n,
        "accounts_refused": who,
        "countries": refused.countries.iter().map(country).collect::<Vec<_>>(),
        "mailboxes": mailbox_rows(&refused),
        "says": says,
    });
    rows_or_csv(given, answer, "mailboxes")
}
