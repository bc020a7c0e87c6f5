//! Who owns which domains and local users, from the panel's own records.
//!
//! They are read anew for each call that somebody other than the administrator makes, and nothing is ever taken from
//! the request. What cannot be read, or is said twice and not alike, belongs to nobody.

mod cpanel;
mod file;
mod names;
mod owners;
mod passwords;
mod plain;
mod plesk;

pub use cpanel::CPanel;
pub use names::Names;
pub use owners::Owners;
pub use passwords::Password;
pub use plain::Plain;
pub use plesk::Plesk;

use crate::account::Account;
use crate::clock::Seconds;
use crate::error::Result;
use crate::paths::Paths;
use crate::settings::mail_address;

/// A hosting panel, as far as it knows who owns what.
pub trait Panel {
    /// Its name, for people.
    fn name(&self) -> &'static str;

    /// Whether it is one, and not what stands for one where there is none.
    fn is_a_panel(&self) -> bool {
        true
    }

    /// Whether it runs this server.
    fn is_here(&self, paths: &Paths) -> bool;

    /// Its records of owners as texts. Fails where they are missing, not root's alone to write, or too large.
    fn records(&self, paths: &Paths) -> Result<Vec<String>>;

    /// What its records say. Fails where one is not in the form that is documented for it: then nobody owns anything.
    fn owners<'a>(&self, records: &'a [String]) -> Result<Owners<'a>>;

    /// Whether the mailbox's password was changed since, in epoch seconds, as far as files tell that root may read.
    fn password_since(&self, _: &Paths, _: &Account, _: Seconds) -> Password {
        let says = |panel: &str| format!("{panel} has no file that tells.");
        Password::NotKnown(if self.is_a_panel() {
            says(self.name())
        } else {
            says("a server without a panel")
        })
    }

    /// Where an owner reads mail, by the panel's records; none where they do not tell.
    fn contact(&self, _: &Paths, _: &[String], _: &str) -> Result<Option<String>> {
        Ok(None)
    }
}

/// An address of an owner's: one that can be written to as it is.
fn contact_in(text: &str) -> Option<String> {
    Some(text.trim()).filter(|text| text.contains('@')).and_then(mail_address)
}

/// The panel that runs this server; without one, the administrator's own file.
pub fn of_this_server(paths: &Paths) -> &'static dyn Panel {
    let panels: [&'static dyn Panel; 2] = [&CPanel, &Plesk];
    panels.into_iter().find(|panel| panel.is_here(paths)).unwrap_or(&Plain)
}
