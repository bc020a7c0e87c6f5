//! Settings: show and change.

use super::arguments::Arguments;
use super::effect::{self, Whose};
use super::{Admin, Outcome, data};
use crate::country::Country;
use crate::error::{Error, Result};
use crate::policy::SERVER;
use crate::server_country;
use crate::settings::{Mode, Settings, TABLE};
use crate::store::settings::entries::codes;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Every setting with its value, default and meaning; the generation to name when changing one.
pub fn get_settings(admin: &Admin, _: &Arguments) -> Result<Outcome> {
    let store = admin.settings()?;
    let (values, defaults) = (store.settings()?.pairs(), Settings::default().pairs());
    let rows: Vec<Value> = TABLE
        .iter()
        .map(|s| {
            json!({
                "key": s.key,
                "title": s.title,
                "value": values.get(s.key),
                "default": defaults.get(s.key),
                "accepts": s.accepts.words(),
                "meaning": s.meaning,
            })
        })
        .collect();
    Ok(json!({ "generation": store.generation()?, "settings": rows }).into())
}

/// Changes one setting.
pub fn set_setting(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let (key, value) = (given.text("key"), given.text("value"));
    let mut settings = admin.settings()?.settings()?;
    let before = settings.clone();
    settings.set(key, value)?;
    let touches = ["country_rule", "default_server_geoip", "allow_server_country"].contains(&key);
    if settings.country_rule == Mode::Enforce && touches && before != settings {
        let chosen = admin.settings()?.countries()?.remove(SERVER).unwrap_or_default();
        may_enforce_countries(admin, &settings, &chosen, given)?;
    }
    admin.change(given, |change| change.set(key, value))?;
    let now = settings.pairs().remove(key).unwrap_or_default();
    let said = Outcome::said(format!("{key} is now {}.", if now.is_empty() { "empty" } else { &now }));
    let in_vain = key == "source_rule" && settings.source_rule != Mode::Off;
    Ok(said.warn((in_vain && data::marks_nothing(&admin.call.paths)).then(|| data::NO_SYSTEMS.to_owned())))
}

/// Whether the country rule may be enforced with these settings: the server's own country must be certain
/// (or not wanted), and a list that allows nobody must be confirmed.
pub(super) fn may_enforce_countries(
    admin: &Admin,
    settings: &Settings,
    chosen: &BTreeSet<Country>,
    given: &Arguments,
) -> Result<()> {
    let own = server_country::find(&admin.call.paths, settings);
    if settings.allow_server_country && own.country.is_none() {
        return Err(Error::NeedsConfirmation(format!(
            "The country rule was not enforced: the server's own country is {} Set it first (`postern settings set default_server_geoip DE`), or leave it out (`postern settings set allow_server_country off`).",
            own.sentence
        )));
    }
    let mut allowed = chosen.clone();
    allowed.extend(own.country.filter(|_| settings.allow_server_country));
    if !chosen.is_empty() || given.is_on("confirm")? {
        return Ok(());
    }
    Err(Error::NeedsConfirmation(format!(
        "The country rule was not enforced: no country was chosen, so logins would work from {} alone. {} To do it all the same, repeat with confirm=on (`--confirm`).",
        if allowed.is_empty() { "no country".into() } else { codes(&allowed) },
        effect::sentence(admin, &Whose::Server(allowed))
    )))
}
