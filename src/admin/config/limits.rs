//! The document's part about limits of sending.

use super::{Plan, Step, arguments_of};
use crate::account::Subject;
use crate::admin::arguments::moment;
use crate::admin::import;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::limit::{Action, Counts, Limit, OUTBOUND, Of, Override};
use crate::settings::Mode;
use crate::store::settings::SettingsStore;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A limit, as the document has it: without what is of this server alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitRow {
    name: String,
    counts: Counts,
    of: Of,
    most: i64,
    window: i64,
    action: Action,
    duration: i64,
    quota: i64,
    mode: Mode,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

impl LimitRow {
    fn of(limit: Limit) -> LimitRow {
        let Limit { name, counts, of, most, window, action, duration, quota, mode, note, .. } = limit;
        LimitRow { name, counts, of, most, window, action, duration, quota, mode, note }
    }

    fn limit(&self) -> Limit {
        let LimitRow { name, counts, of, most, window, action, duration, quota, mode, note } = self.clone();
        let (id, who, at) = (0, String::new(), 0);
        Limit { id, name, counts, of, most, window, action, duration, quota, mode, note, who, at }
    }
}

/// Another number for somebody, as the document has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitFor {
    r#for: String,
    limit: String,
    /// None: as much as they like.
    most: Option<i64>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    from: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    until: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

fn bare_override(other: &Override) -> Override {
    Override { who: String::new(), at: 0, ..other.clone() }
}

/// The limits, and for whom other numbers hold now or will.
pub(super) fn export(store: &SettingsStore, now: Seconds) -> Result<(Vec<LimitRow>, Vec<LimitFor>)> {
    let limits = store.limits()?.into_iter().map(LimitRow::of).collect();
    let mut all = Vec::new();
    for (key, others) in store.overrides()? {
        let holding = others.into_iter().filter(|other| other.until.is_none_or(|until| now < until));
        all.extend(holding.map(|other| LimitFor {
            r#for: Subject::typed(&key),
            limit: other.limit,
            most: other.most,
            from: import::end(other.from),
            until: import::end(other.until),
            note: other.note,
        }));
    }
    Ok((limits, all))
}

impl Plan {
    pub(super) fn add_limits(&mut self, store: &SettingsStore, wanted: &[LimitRow]) -> Result<()> {
        let mut before: BTreeMap<String, LimitRow> =
            store.limits()?.into_iter().map(|limit| (limit.name.clone(), LimitRow::of(limit))).collect();
        let mut seen = BTreeSet::new();
        for row in wanted {
            row.limit().check()?;
            import::check_common(&arguments_of(&[("note", &row.note)]))?;
            if !seen.insert(row.name.clone()) {
                return Err(Error::bad_value("The document", &row.name, "each limit once"));
            }
            if before.remove(&row.name).as_ref() != Some(row) {
                self.steps.push(Step::SetLimit(Box::new(row.limit())));
            }
        }
        self.limits.clone_from(&seen);
        // First, so that there is room.
        let gone = before.into_keys().map(Step::RemoveLimit).collect::<Vec<_>>();
        self.steps.splice(0..0, gone);
        Ok(())
    }

    pub(super) fn add_limits_for(
        &mut self,
        store: &SettingsStore,
        wanted: &[LimitFor],
        now: Seconds,
    ) -> Result<()> {
        let mut after: BTreeMap<(String, String), Vec<Override>> = BTreeMap::new();
        for row in wanted {
            let subject: Subject = row.r#for.parse()?;
            let Some(until) = self.end(&row.until, &row.r#for, now)? else { continue };
            let from = Some(row.from.as_str()).filter(|text| !text.is_empty()).map(moment).transpose()?;
            let (limit, most, note) = (row.limit.clone(), row.most, row.note.clone());
            import::check_common(&arguments_of(&[("note", &row.note)]))?;
            let other = Override { limit: limit.clone(), most, from, until, note, ..Override::default() };
            other.check()?;
            let others = after.entry((subject.key(), limit)).or_default();
            if others.iter().any(|there| (there.from, there.until) == (from, until)) {
                return Err(Error::bad_value("The document", &row.r#for, "each time once for a limit"));
            }
            others.push(other);
        }
        let mut before: BTreeMap<(String, String), Vec<Override>> = BTreeMap::new();
        for (key, others) in store.overrides()? {
            for other in others.iter().filter(|other| other.until.is_none_or(|until| now < until)) {
                before.entry((key.clone(), other.limit.clone())).or_default().push(bare_override(other));
            }
        }
        for (of, others) in &after {
            if of.1 != OUTBOUND && !self.limits.contains(&of.1) {
                return Err(Error::bad_value("The document", &of.1, "numbers for limits that there are"));
            }
            if before.remove(of).as_ref() != Some(others) {
                self.steps.push(Step::LimitFor(of.0.clone(), of.1.clone(), others.clone()));
            }
        }
        self.steps.extend(before.into_keys().map(|(key, limit)| Step::LimitFor(key, limit, Vec::new())));
        Ok(())
    }
}
