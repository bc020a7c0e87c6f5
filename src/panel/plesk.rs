//! Plesk: `plesk db`, its own command that asks its own database, with one question that never changes.
//!
//! Plesk keeps no file of this, and its other commands tell it one domain at a time. The answer is a line for each
//! domain and alias: the domain, its owner's login, the owner's reseller or nothing, the system user or nothing,
//! with tabs between them. Not seen on a licensed Plesk yet. Where owners read mail is not asked: no file tells it.

use super::file::is_name;
use super::{Owners, Panel};
use crate::child;
use crate::error::{Error, Result};
use crate::paths::Paths;
use std::path::Path;
use std::time::Duration;

/// How long `plesk` may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Largest answer that is read.
const MOST: u64 = 64 * 1024 * 1024;

const QUESTION: &str = include_str!("plesk-owners.sql");

/// Plesk.
pub struct Plesk;

impl Panel for Plesk {
    fn name(&self) -> &'static str {
        "Plesk"
    }

    fn is_here(&self, paths: &Paths) -> bool {
        paths.at("/usr/local/psa/version").is_file()
    }

    fn records(&self, paths: &Paths) -> Result<Vec<String>> {
        ask(&paths.at("/usr/sbin/plesk")).map(|answer| vec![answer])
    }

    fn owners<'a>(&self, records: &'a [String]) -> Result<Owners<'a>> {
        records.first().map_or_else(|| Ok(Owners::default()), |answer| owners(answer))
    }
}

fn ask(program: &Path) -> Result<String> {
    let said = child::ask(program, &["db", "-Ne", QUESTION], LONGEST, MOST)?;
    if said.well {
        return Ok(said.text);
    }
    let (program, ended) = (program.display(), said.ended);
    Err(Error::State(format!("{program} db did not say who owns what ({ended}): try again.")))
}

fn owners(answer: &str) -> Result<Owners<'_>> {
    let mut owners = Owners::default();
    for (number, line) in answer.lines().enumerate() {
        let columns: Vec<&str> = line.split('\t').collect();
        let (names, may_lack) = columns.split_at(columns.len().min(2));
        let is_good = columns.len() == 4
            && names.iter().all(|n| is_name(n))
            && may_lack.iter().all(|n| n.is_empty() || is_name(n));
        let [domain, account, reseller, user] = columns[..] else { return Err(not_understood(number)) };
        if !is_good {
            return Err(not_understood(number));
        }
        owners.add_domain(domain, account);
        if !reseller.is_empty() {
            owners.add_customer(account, reseller);
        }
        if !user.is_empty() {
            owners.add_user(user, account);
        }
    }
    Ok(owners)
}

fn not_understood(number: usize) -> Error {
    let line = number + 1;
    Error::Data(format!(
        "Line {line} of Plesk's answer about owners is not understood: nothing in it is believed."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::owners::tests::{accounts, domains, set, users};
    use proptest::prelude::*;

    #[test]
    fn the_answer_says_who_owns_what() {
        let answer = "ann.test\tann\trex\tann_ftp\nalias.test\tann\trex\t\nrex.test\trex\t\trexsys\nadm.test\tadmin\t\t\n";
        let owners = owners(answer).unwrap();
        assert_eq!(domains(&owners, "ann"), set(&["alias.test", "ann.test"]));
        assert_eq!(users(&owners, "ann"), set(&["ann_ftp"]));
        assert_eq!(accounts(&owners, "rex"), set(&["ann", "rex"]));
        assert_eq!(domains(&owners, "admin"), set(&["adm.test"]));
    }

    #[test]
    fn an_answer_of_another_form_is_an_error() {
        let good = "ann.test\tann\trex\tweb\n";
        for bad in [
            "ERROR 1045 (28000): Access denied",
            "ann.test\tann\trex",
            "ann.test\tann\trex\tweb\tmore",
            "\tann\trex\tweb",
            "ann.test\t\trex\tweb",
            "ann.test\ta nn\trex\tweb",
            "",
        ] {
            assert_eq!(owners(&format!("{good}{bad}\n")).unwrap_err().code(), "data", "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_owners_or_an_error(text in "\\PC{0,60}|([a-c.]{0,4}\t[a-c]{0,3}\t[a-c]{0,3}\t[a-c]{0,3}\n){0,6}") {
            let _ = owners(&text);
        }
    }
}
