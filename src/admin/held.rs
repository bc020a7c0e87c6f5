//! Messages that are held: list, release, remove.
//!
//! The state says which messages were held; Exim has them. A name that goes to Exim's command line comes from
//! the caller, never from the state, and has the shape of a message identification.

use super::arguments::Arguments;
use super::{Admin, Outcome};
use crate::error::{Error, Result};
use crate::on_state::on_state;
use crate::request::MessageId;
use crate::store::state::held;
use serde_json::json;
use std::path::PathBuf;
use std::process::Command;

/// The programs by which Exim may be there.
const EXIM: [&str; 3] = ["usr/sbin/exim4", "usr/sbin/exim", "usr/exim/bin/exim"];

/// The held messages, of one account where one is named.
pub fn list_held(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let account = given.text("account").to_lowercase();
    let rows = on_state(&admin.call.paths, |state| {
        held::list(state.connection(), &account).map_err(state.failed("read"))
    })?;
    Ok(json!(rows).into())
}

/// Lets a message leave.
pub fn release_held(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let message = MessageId::new(given.text("message"))?;
    exim(admin, &["-Mt", &message.to_string()])?;
    let delivery = exim(admin, &["-M", &message.to_string()]);
    forget(admin, &message)?;
    admin.change(given, |change| change.note("release_held", &message.to_string(), "held", "released"))?;
    Ok(Outcome::said(format!("Message {message} leaves.")).warn(delivery.err().map(|e| e.to_string())))
}

/// Deletes a message.
pub fn remove_held(admin: &Admin, given: &Arguments) -> Result<Outcome> {
    let message = MessageId::new(given.text("message"))?;
    exim(admin, &["-Mrm", &message.to_string()])?;
    forget(admin, &message)?;
    admin.change(given, |change| change.note("remove_held", &message.to_string(), "held", "removed"))?;
    Ok(Outcome::said(format!("Message {message} was removed.")))
}

fn forget(admin: &Admin, message: &MessageId) -> Result<()> {
    on_state(&admin.call.paths, |state| {
        let (failed, failed_too) = (state.failed("write to"), state.failed("write to"));
        let transaction = state.begin()?;
        held::forget(&transaction, &message.to_string()).map_err(failed)?;
        transaction.commit().map_err(failed_too)
    })
}

fn exim(admin: &Admin, arguments: &[&str]) -> Result<()> {
    let program = find(admin)?;
    let said = Command::new(&program).args(arguments).output().map_err(Error::system(format!(
        "run {} {}",
        program.display(),
        arguments.join(" ")
    )))?;
    if said.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&[said.stdout, said.stderr].concat())
        .trim()
        .chars()
        .take(300)
        .collect::<String>();
    Err(Error::NotFound(format!("Exim did not do {} ({text}).", arguments.join(" "))))
}

fn find(admin: &Admin) -> Result<PathBuf> {
    let found = EXIM.iter().map(|p| admin.call.paths.root().join(p)).find(|p| p.exists());
    found.ok_or_else(|| {
        Error::NotFound(format!(
            "Exim was not found (looked for {}).",
            EXIM.map(|p| format!("/{p}")).join(", ")
        ))
    })
}
