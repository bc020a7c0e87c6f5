//! Taking a change back.

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::error::Result;
use crate::store::settings::Audit;
use serde_json::json;

/// Rows that are told in words; the trail has all.
const MOST_TOLD: usize = 10;

/// Takes back the change that is named by its generation, or the latest.
pub fn undo(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let named = given.number("change")?;
    let (change, rows) = admin.change(given, |change| change.undo(named))?;
    let mut messages =
        vec![format!("Change {change} by {} was undone.", rows.first().map_or("", |r| &r.who))];
    // That a change was an undoing itself is no row of which something comes back.
    let back: Vec<&Audit> = rows.iter().rev().filter(|row| row.changes_something()).collect();
    messages.extend(back.iter().take(MOST_TOLD).map(|row| told(row)));
    if back.len() > MOST_TOLD {
        messages.push(format!("And {} more; `postern audit` lists them.", back.len() - MOST_TOLD));
    }
    let data = json!({ "change": change, "rows": rows.len(), "generation": admin.settings()?.generation()? });
    Ok(Outcome { data, messages, ..Outcome::default() })
}

fn told(row: &Audit) -> String {
    let name = |text: &str| if text.is_empty() { "nothing".to_string() } else { text.to_string() };
    format!("{} of {}: {} instead of {}.", row.action, row.subject, name(&row.before), name(&row.after))
}
