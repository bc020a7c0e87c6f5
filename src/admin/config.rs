//! All that the administrator chose as one document: written out, compared, made so.
//!
//! For tools that keep many servers alike: what a document says is made so, once or a hundred times, and what it
//! leaves out stays as it is. A list that it holds is made exactly so. Nothing in it is of this server alone, apart
//! from the settings that are (`default_server_geoip`, `own_addresses`); leave them out for many.

mod limits;

use self::limits::{LimitFor, LimitRow};
use super::arguments::{self, Arguments};
use super::{Admin, Outcome, attacks, blocks, clouds, feeds, import, lists, settings};
use crate::account::Subject;
use crate::clock::Seconds;
use crate::country::Country;
use crate::error::{Error, Result};
use crate::limit::{Limit, Override};
use crate::policy::SERVER;
use crate::settings::{Mode, Settings};
use crate::store::settings::entries::{Grant, ListEntry, ListName, codes};
use crate::store::settings::{Change, SettingsStore};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the document's form.
const FORM: u32 = 1;

/// Name of the server in the list of countries.
const OF_SERVER: &str = "server";

/// The document.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// [`FORM`].
    postern_config: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<BTreeMap<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    countries: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip_exemptions: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_exemptions: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whitelist: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cloud_networks: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cloud_mail_clients: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attack_pins: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feeds: Option<Vec<Entry>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowances: Option<Vec<Allowance>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limits: Option<Vec<LimitRow>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limits_for: Option<Vec<LimitFor>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    value: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    until: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sending: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowance {
    r#for: String,
    from: String,
    until: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

/// Writes out what is set now. Entries that have ended are left out.
pub fn export_config(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let store = admin.settings()?;
    let entries = |lists: &[ListName]| -> Result<Option<Vec<Entry>>> {
        let mut all = Vec::new();
        for list in lists {
            let holding = store.entries(*list)?.into_iter().filter(|e| e.holds(admin.call.now));
            all.extend(holding.map(|e| Entry {
                value: list.typed(&e.value),
                until: import::end(e.until),
                note: e.note,
                sending: e.sending,
            }));
        }
        Ok(Some(all))
    };
    let running = store.allowances()?.into_iter().filter(|g| admin.call.now < g.until);
    let (limits, limits_for) = limits::export(&store, admin.call.now)?;
    let document = Document {
        limits: Some(limits),
        limits_for: Some(limits_for),
        postern_config: FORM,
        settings: Some(
            store.settings()?.pairs().into_iter().map(|(k, v)| (k.to_string(), json!(v))).collect(),
        ),
        countries: Some(
            store
                .countries()?
                .iter()
                .map(|(scope, list)| (scope_typed(scope), list.iter().map(ToString::to_string).collect()))
                .collect(),
        ),
        ip_exemptions: entries(&[ListName::IpExemption])?,
        user_exemptions: entries(&[ListName::UserExemption])?,
        whitelist: entries(&[ListName::Whitelist])?,
        blocks: entries(&[ListName::AccountBlock, ListName::AddressBlock])?,
        cloud_networks: entries(&clouds::NETWORKS)?,
        cloud_mail_clients: entries(&clouds::CLIENTS)?,
        feeds: entries(&feeds::LISTS)?,
        attack_pins: entries(&attacks::PINS)?,
        allowances: Some(
            running
                .map(|g| Allowance {
                    r#for: Subject::typed(&g.subject),
                    from: g.source,
                    until: import::end(Some(g.until)),
                    note: g.note,
                })
                .collect(),
        ),
    };
    let written = |e: serde_json::Error| Error::Data(format!("The document could not be written: {e}."));
    let text = serde_json::to_string_pretty(&document).map_err(written)?;
    Ok(Outcome { data: json!(document), text: Some(text + "\n"), ..Outcome::default() })
}

fn scope_typed(scope: &str) -> String {
    if scope == SERVER { OF_SERVER.into() } else { Subject::typed(scope) }
}

/// What applying the document would change.
pub fn diff_config(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let plan = plan(admin, &admin.settings()?, &read(given)?)?;
    Ok(plan.told(false, "would be changed"))
}

/// Makes it so: all of it, or nothing.
pub fn apply_config(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (store, document) = (admin.settings()?, read(given)?);
    let planned = || {
        let plan = plan(admin, &store, &document)?;
        plan.must_be_meant(admin, &store, given)?;
        Ok(plan)
    };
    if given.is_on("dry_run")? {
        return Ok(planned()?.told(false, "would be changed"));
    }
    // Compared within the change, so that nobody changes meanwhile what it was compared with.
    let plan = admin.change(given, |change| {
        let plan = planned()?;
        plan.steps.iter().try_for_each(|step| step.make(change))?;
        Ok(plan)
    })?;
    if plan.steps.is_empty() {
        return Ok(plan.told(false, "would be changed"));
    }
    let whitelisted: Vec<String> = plan.steps.iter().filter_map(Step::whitelists).collect();
    let stops = lists::release_stops(admin, ListName::Whitelist, &whitelisted);
    Ok(plan.told(true, "changed").warn(stops))
}

fn read(given: &Arguments) -> Result<Document> {
    let text = import::text_of(given)?;
    let bad = |what: &str| {
        Error::bad_value(
            "The document",
            what,
            "what `postern config export` writes; any of its parts may be left out",
        )
    };
    let read = arguments::strict_json(&text).and_then(serde_json::from_value::<Document>);
    let document = read.map_err(|e| bad(&e.to_string()))?;
    match document.postern_config {
        FORM => Ok(document),
        other => Err(bad(&format!("of the form {other}; this program reads {FORM}"))),
    }
}

/// One change on the way.
#[derive(Clone, Debug)]
enum Step {
    Set(String, String, String),
    /// Scope, before, after.
    Countries(Option<Subject>, Option<BTreeSet<Country>>, Option<BTreeSet<Country>>),
    Add(ListName, ListEntry, bool),
    Remove(ListName, String),
    Allow(Grant),
    Disallow(Grant),
    SetLimit(Box<Limit>),
    RemoveLimit(String),
    /// Key of whom, name of the limit, all of his numbers.
    LimitFor(String, String, Vec<Override>),
}

impl Step {
    fn make(&self, change: &mut Change) -> Result<()> {
        match self {
            Step::Set(key, _, value) => change.set(key, value),
            Step::Countries(subject, _, list) => change.set_countries(subject.as_ref(), list.as_ref()),
            Step::Add(list, entry, _) => change.add(*list, entry),
            Step::Remove(list, value) => change.remove(*list, &list.typed(value)),
            Step::Allow(grant) => change.allow(grant).map(|_| ()),
            Step::Disallow(grant) => change.disallow(grant.id),
            Step::SetLimit(limit) => change.set_limit(limit).map(|_| ()),
            Step::RemoveLimit(name) => change.remove_limit(name),
            Step::LimitFor(key, limit, others) => change.set_overrides(key, limit, others),
        }
    }

    fn whitelists(&self) -> Option<String> {
        match self {
            Step::Add(ListName::Whitelist, entry, _) => ListName::Whitelist.checked(&entry.value).ok(),
            _ => None,
        }
    }

    fn row(&self) -> Value {
        let row = |what: &str, name: &str, from: &str, to: &str| json!({ "what": what, "name": name, "from": from, "to": to });
        let list = |list: &Option<BTreeSet<Country>>| match list {
            None => "no list".into(),
            Some(list) if list.is_empty() => "no country".into(),
            Some(list) => codes(list),
        };
        match self {
            Step::Set(key, from, to) => row("setting", key, from, to),
            Step::Countries(subject, from, to) => {
                let whose = subject.as_ref().map_or_else(|| OF_SERVER.into(), ToString::to_string);
                row("countries", &whose, &list(from), &list(to))
            }
            Step::Add(list, entry, replaces) => row(
                list.title(),
                &entry.value,
                if *replaces { "there, otherwise" } else { "not there" },
                "there",
            ),
            Step::Remove(list, value) => row(list.title(), &list.typed(value), "there", "not there"),
            Step::Allow(grant) => row("allowance", &grant.subject, "not there", &grant.source),
            Step::Disallow(grant) => row("allowance", &grant.subject, &grant.source, "not there"),
            Step::SetLimit(limit) => row("limit", &limit.name, "otherwise", &limit.spoken()),
            Step::RemoveLimit(name) => row("limit", name, "there", "not there"),
            Step::LimitFor(key, limit, others) => {
                let to = if others.is_empty() { "as for everybody" } else { "as the document says" };
                row("limit for", &format!("{} {limit}", Subject::typed(key)), "otherwise", to)
            }
        }
    }
}

/// What is to be done.
struct Plan {
    steps: Vec<Step>,
    warnings: Vec<String>,
    /// The settings and the server's countries as they will be.
    settings: Settings,
    server: BTreeSet<Country>,
    /// Names of the limits as they will be.
    limits: BTreeSet<String>,
}

fn plan(admin: &Admin, store: &SettingsStore, document: &Document) -> Result<Plan> {
    let server = store.countries()?.remove(SERVER).unwrap_or_default();
    let limits = store.limits()?.into_iter().map(|limit| limit.name).collect();
    let mut plan =
        Plan { steps: Vec::new(), warnings: Vec::new(), settings: store.settings()?, server, limits };
    if let Some(wanted) = &document.settings {
        plan.add_settings(wanted)?;
    }
    if let Some(wanted) = &document.countries {
        plan.add_countries(store, wanted)?;
    }
    let one = |list: ListName| move |_: &str| list;
    for (wanted, lists, list_for) in [
        (&document.ip_exemptions, &[ListName::IpExemption][..], &one(ListName::IpExemption) as ListFor),
        (&document.user_exemptions, &[ListName::UserExemption], &one(ListName::UserExemption)),
        (&document.whitelist, &[ListName::Whitelist], &one(ListName::Whitelist)),
        (&document.blocks, &[ListName::AccountBlock, ListName::AddressBlock], &blocks::list_for),
        (&document.cloud_networks, &clouds::NETWORKS, &|value| clouds::list_for(&clouds::NETWORKS, value)),
        (&document.cloud_mail_clients, &clouds::CLIENTS, &|value| clouds::list_for(&clouds::CLIENTS, value)),
        (&document.feeds, &feeds::LISTS, &feeds::list_for),
        (&document.attack_pins, &attacks::PINS, &|value| clouds::list_for(&attacks::PINS, value)),
    ] {
        if let Some(wanted) = wanted {
            plan.add_entries(admin, store, wanted, lists, list_for)?;
        }
    }
    if let Some(wanted) = &document.allowances {
        plan.add_allowances(admin, store, wanted)?;
    }
    if let Some(wanted) = &document.limits {
        plan.add_limits(store, wanted)?;
    }
    if let Some(wanted) = &document.limits_for {
        plan.add_limits_for(store, wanted, admin.call.now)?;
    }
    Ok(plan)
}

/// Which list a value belongs to.
type ListFor<'a> = &'a dyn Fn(&str) -> ListName;

impl Plan {
    fn add_settings(&mut self, wanted: &BTreeMap<String, Value>) -> Result<()> {
        let before = self.settings.pairs();
        for (key, value) in wanted {
            let text = arguments::plain(value).unwrap_or_else(|| value.to_string());
            self.settings.set(key, &text)?;
        }
        for (key, to) in self.settings.pairs() {
            let from = before.get(key).cloned().unwrap_or_default();
            if from != to {
                self.steps.push(Step::Set(key.into(), from, to));
            }
        }
        Ok(())
    }

    fn add_countries(&mut self, store: &SettingsStore, wanted: &BTreeMap<String, Vec<String>>) -> Result<()> {
        let mut before = store.countries()?;
        for (whose, list) in wanted {
            let subject = (whose != OF_SERVER).then(|| whose.parse::<Subject>()).transpose()?;
            let to = list.iter().map(|c| Country::from_name_or_code(c)).collect::<Result<BTreeSet<_>>>()?;
            let from = before.remove(&subject.as_ref().map_or_else(|| SERVER.into(), Subject::key));
            if subject.is_none() {
                self.server.clone_from(&to);
            }
            if from.as_ref() != Some(&to) {
                self.steps.push(Step::Countries(subject, from, Some(to)));
            }
        }
        for (scope, from) in before {
            let subject = match scope == SERVER {
                true => None,
                false => Some(Subject::typed(&scope).parse::<Subject>()?),
            };
            // The server always has a list, if an empty one.
            let to = subject.is_none().then(BTreeSet::new);
            if subject.is_none() {
                self.server.clear();
            }
            if to.as_ref() != Some(&from) {
                self.steps.push(Step::Countries(subject, Some(from), to));
            }
        }
        Ok(())
    }

    fn add_entries(
        &mut self,
        admin: &Admin,
        store: &SettingsStore,
        wanted: &[Entry],
        lists: &[ListName],
        list_for: ListFor,
    ) -> Result<()> {
        let mut before = BTreeMap::new();
        for list in lists {
            let entries = store.entries(*list)?.into_iter().filter(|e| e.holds(admin.call.now));
            before.extend(entries.map(|e| ((list.name(), e.value.clone()), e)));
        }
        let (mut seen, mut added) = (BTreeSet::new(), Vec::new());
        for entry in wanted {
            let list = list_for(&entry.value);
            let key = (list.name(), list.checked(&entry.value)?);
            let Some(until) = self.end(&entry.until, &entry.value, admin.call.now)? else { continue };
            let wanted = checked(entry, until)?;
            let contradicts = list.opposite().is_some_and(|o| seen.contains(&(o.name(), key.1.clone())));
            if !seen.insert(key.clone()) || contradicts {
                let accepted = "each value once in a list";
                return Err(Error::bad_value("The document", &entry.value, accepted));
            }
            let there = before.remove(&key);
            let keyed = ListEntry { value: key.1, ..wanted.clone() };
            if !there.as_ref().is_some_and(|there| there.says_the_same(&keyed)) {
                added.push(Step::Add(list, wanted, there.is_some()));
            }
        }
        // First: a value may go over to the list that says the opposite.
        for ((name, value), _) in before {
            let list = lists.iter().find(|list| list.name() == name);
            self.steps.extend(list.map(|list| Step::Remove(*list, value)));
        }
        self.steps.append(&mut added);
        Ok(())
    }

    fn add_allowances(&mut self, admin: &Admin, store: &SettingsStore, wanted: &[Allowance]) -> Result<()> {
        let running = store.allowances()?.into_iter().filter(|g| admin.call.now < g.until);
        let mut before: BTreeMap<_, Vec<Grant>> = BTreeMap::new();
        running.for_each(|grant| before.entry(grant.says()).or_default().push(grant));
        for allowance in wanted {
            let Some(Some(until)) = self.end(&allowance.until, &allowance.r#for, admin.call.now)? else {
                continue;
            };
            let fields = [("for", &allowance.r#for), ("from", &allowance.from), ("note", &allowance.note)];
            let grant = super::allowances::grant_of(&arguments_of(&fields), until)?;
            if before.get_mut(&grant.says()).and_then(Vec::pop).is_none() {
                self.steps.push(Step::Allow(grant));
            }
        }
        self.steps.extend(before.into_values().flatten().map(Step::Disallow));
        Ok(())
    }

    /// An end; none where it is over, which is told.
    fn end(&mut self, text: &str, value: &str, now: Seconds) -> Result<Option<Option<Seconds>>> {
        let Some(at) = Some(text).filter(|t| !t.is_empty()).map(arguments::moment).transpose()? else {
            return Ok(Some(None));
        };
        if at <= now {
            self.warnings.push(format!("{value} was left out: it ended {text}."));
            return Ok(None);
        }
        Ok(Some(Some(at)))
    }

    /// What would lock people out, or open a door to half of the internet, needs a confirmation here too.
    fn must_be_meant(&self, admin: &Admin, store: &SettingsStore, given: &Arguments) -> Result<()> {
        for step in &self.steps {
            match step {
                Step::Add(_, entry, _) => {
                    if let Ok(network) = entry.value.parse() {
                        lists::must_be_meant(given, &network)?;
                    }
                }
                Step::SetLimit(limit) if limit.closes() && !given.is_on("confirm")? => {
                    return Err(Error::NeedsConfirmation(format!(
                        "Nothing was changed: the limit {} would let nothing pass. If that is meant, repeat with confirm=on (`--confirm`).",
                        limit.name
                    )));
                }
                Step::Countries(Some(subject), _, Some(to))
                    if to.is_empty() && !given.is_on("confirm")? =>
                {
                    return Err(Error::NeedsConfirmation(format!(
                        "Nothing was changed: the list of {subject} would allow no country. If that is meant, repeat with confirm=on (`--confirm`)."
                    )));
                }
                _ => {}
            }
        }
        let before = store.settings()?;
        let touched = self.steps.iter().any(|step| matches!(step, Step::Countries(None, ..)));
        if self.settings.country_rule == Mode::Enforce && (touched || before != self.settings) {
            settings::may_enforce_countries(admin, &self.settings, &self.server, given)?;
        }
        Ok(())
    }

    fn told(&self, changed: bool, how: &str) -> Outcome {
        let rows: Vec<Value> = self.steps.iter().map(Step::row).collect();
        let said = match rows.len() {
            0 => "Everything is so already; nothing was changed.".to_string(),
            1 => format!("1 thing {how}:"),
            n => format!("{n} things {how}:"),
        };
        let lines = rows.iter().map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_string();
            let or_empty = |text: String| if text.is_empty() { "(empty)".into() } else { text };
            format!(
                "{} {}: {} -> {}",
                text("what"),
                text("name"),
                or_empty(text("from")),
                or_empty(text("to"))
            )
        });
        let messages = std::iter::once(said).chain(lines).collect();
        let data = json!({ "changed": changed, "changes": rows });
        Outcome { data, messages, warnings: self.warnings.clone(), ..Outcome::default() }
    }
}

fn arguments_of(fields: &[(&str, &String)]) -> Arguments {
    let mut given = Arguments::default();
    fields.iter().for_each(|(name, value)| given.set(name, value));
    given
}

fn checked(entry: &Entry, until: Option<Seconds>) -> Result<ListEntry> {
    let fields = arguments_of(&[("value", &entry.value), ("note", &entry.note)]);
    import::check_common(&fields)?;
    Ok(ListEntry {
        value: entry.value.clone(),
        note: fields.note(),
        until,
        sending: entry.sending,
        ..ListEntry::default()
    })
}
