//! Other products on this server that keep addresses out after failed logins: whom they ban, and lifting that.
//!
//! They are asked by their own programs, as root, which is what those want: absolute paths, words that no shell sees, a
//! time limit. What they answer is text from outside (a log line that an attacker made may stand in it): it is shown and
//! compared, and nothing in it is run. Of ours only an address goes to them, and names that a product gave, where those
//! are plain.

mod cphulk;
mod csf;
mod fail2ban;

use crate::address::{Address, Network};
use crate::clock::Seconds;
use crate::error::Result;
use crate::paths::Paths;
use std::time::Duration;

/// How long one question may take.
const LONGEST: Duration = Duration::from_secs(15);

/// Largest answer, and largest file of theirs, that is read, in bytes.
const MOST: u64 = 16 * 1024 * 1024;

/// Most characters of what a product says that are shown.
const LONGEST_TEXT: usize = 300;

/// The products' names as arguments have them.
pub const NAMES: [&str; 3] = ["fail2ban", "csf", "cphulk"];

/// An address is kept out by another product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The product, one of [`NAMES`].
    pub product: &'static str,
    /// Where the product keeps it: a jail, a file, a list.
    pub place: String,
    /// What is banned: the address, or a network around it.
    pub banned: String,
    /// What the product says of it, as plain text.
    pub says: String,
    /// When it ends, where the product tells that as a time.
    pub until: Option<Seconds>,
    /// Somebody put it there by hand. Only people take such ones off.
    pub by_hand: bool,
}

/// One product.
trait Neighbour {
    /// One of [`NAMES`].
    fn name(&self) -> &'static str;

    /// Whether it is installed.
    fn is_here(&self, paths: &Paths) -> bool;

    /// What it bans around the address. Fails where it cannot be asked or says something else than is documented.
    fn bans(&self, paths: &Paths, address: Address, now: Seconds) -> Result<Vec<Ban>>;

    /// Lifts one of its bans that nobody made by hand.
    fn lift(&self, paths: &Paths, address: Address, ban: &Ban) -> Result<()>;
}

const ALL: [&dyn Neighbour; 3] = [&fail2ban::Fail2ban, &csf::Csf, &cphulk::CpHulk];

/// Bans that were found, and which products could not be asked, as sentences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The bans.
    pub bans: Vec<Ban>,
    /// Who did not answer.
    pub troubles: Vec<String>,
}

/// What the installed products among these ban around the address.
pub fn find(paths: &Paths, address: Address, products: &[&str], now: Seconds) -> Found {
    let mut found = Found::default();
    for product in ALL.iter().filter(|p| products.contains(&p.name()) && p.is_here(paths)) {
        match product.bans(paths, address, now) {
            Ok(bans) => found.bans.extend(bans),
            Err(e) => found.troubles.push(format!("Whether {} bans it is not known: {e}", product.name())),
        }
    }
    found
}

/// Lifts a ban that was found.
pub fn lift(paths: &Paths, address: Address, ban: &Ban) -> Result<()> {
    let product = ALL.iter().find(|product| product.name() == ban.product);
    product.map_or(Ok(()), |product| product.lift(paths, address, ban))
}

/// A text of theirs as it may be shown: one line, so long at most, with nothing in it that steers a terminal.
fn plain(text: &str) -> String {
    let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(LONGEST_TEXT).collect::<String>().trim().into()
}

/// Whether what a list says, an address, a network or two addresses with `-` between them, holds the address.
fn holds(listed: &str, address: Address) -> bool {
    match listed.split_once('-') {
        Some((first, last)) => match (first.trim().parse::<Address>(), last.trim().parse::<Address>()) {
            (Ok(first), Ok(last)) => (first.bits()..=last.bits()).contains(&address.bits()),
            _ => false,
        },
        None => listed.trim().parse::<Network>().is_ok_and(|network| network.contains(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_list_says_holds_an_address_or_not() {
        let address = "192.0.2.7".parse().unwrap();
        for (listed, expected) in [
            ("192.0.2.7", true),
            ("192.0.2.0/24", true),
            ("192.0.2.1-192.0.2.7", true),
            ("192.0.2.8-192.0.2.9", false),
            ("192.0.2.8", false),
            ("::/0", false),
            ("192.0.2.7-", false),
            ("host.example.org", false),
        ] {
            assert_eq!(holds(listed, address), expected, "{listed}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_shown_as_one_line(text in "\\PC{0,400}|[\\x00-\\x7f]{0,400}") {
            let shown = plain(&text);
            prop_assert!(shown.chars().count() <= LONGEST_TEXT && !shown.contains(char::is_control));
            let _ = holds(&text, "192.0.2.7".parse().unwrap());
        }
    }
}
