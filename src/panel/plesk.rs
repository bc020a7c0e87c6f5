//! Plesk: `plesk db`, its own command that asks its own database, with one question that never changes.
//!
//! Plesk keeps no file of this, and its other commands tell it one domain at a time. The answer is a line for each
//! domain and alias: the domain, its owner's login, the owner's reseller or nothing, the system user or nothing,
//! with tabs between them. Not seen on a licensed Plesk yet.

use super::file::is_name;
use super::{Owners, Panel};
use crate::child;
use crate::error::{Error, Result};
use crate::paths::Paths;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
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
    let failed = || Error::system(format!("ask {} db who owns what", program.display()));
    let unsure = |what: String| {
        Error::State(format!("{} db did not say who owns what ({what}): try again.", program.display()))
    };
    // Into memory and not through a pipe, which somebody would have to read while we watch the time.
    let mut answer = child::in_memory(b"").map_err(failed())?;
    let mut running = Command::new(program)
        .args(["db", "-Ne", QUESTION])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(answer.try_clone().map_err(failed())?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed())?;
    match child::wait(&mut running, LONGEST).map_err(failed())? {
        Some(status) if status.success() => {}
        Some(status) => return Err(unsure(status.to_string())),
        None => return Err(unsure(format!("nothing within {} seconds", LONGEST.as_secs()))),
    }
    answer.rewind().map_err(failed())?;
    let mut text = String::new();
    answer.take(MOST + 1).read_to_string(&mut text).map_err(failed())?;
    if text.len() as u64 > MOST {
        return Err(unsure(format!("more than {} MB", MOST >> 20)));
    }
    Ok(text)
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
