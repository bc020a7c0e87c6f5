//! cPanel & WHM: `/etc/userdomains` and `/etc/trueuserdomains` (`domain: user`), `/etc/trueuserowners`
//! (`user: owner`), as cPanel's own tools read and write them. Since version 132 the last one is readable for root
//! alone. Where an owner reads mail stands in `/var/cpanel/users/USER` (`CONTACTEMAIL=`).

use super::file::{is_name, pairs, read};
use super::{Owners, Panel, Password, contact_in, passwords};
use crate::account::Account;
use crate::clock::Seconds;
use crate::error::{Error, Result};
use crate::paths::Paths;
use hashbrown::HashSet;
use std::io::ErrorKind;

/// cPanel & WHM.
pub struct CPanel;

impl Panel for CPanel {
    fn name(&self) -> &'static str {
        "cPanel"
    }

    fn is_here(&self, paths: &Paths) -> bool {
        paths.at("/usr/local/cpanel").is_dir()
    }

    fn records(&self, paths: &Paths) -> Result<Vec<String>> {
        FILES.iter().map(|name| read(&paths.at(name))).collect()
    }

    fn owners<'a>(&self, records: &'a [String]) -> Result<Owners<'a>> {
        let mut owners = Owners::default();
        for (name, text) in FILES.into_iter().zip(records) {
            for (left, right) in pairs(text, name)? {
                // A user's mail without a login is sent by the local user of the same name.
                match name {
                    RESELLERS => owners.add_user(left, left),
                    MAIN_DOMAINS => owners.add_user(right, right),
                    _ => {}
                }
                if name == RESELLERS {
                    owners.add_customer(left, right);
                } else if !left.contains('*') {
                    owners.add_domain(left, right);
                }
            }
        }
        Ok(owners)
    }

    fn password_since(&self, paths: &Paths, account: &Account, since: Seconds) -> Password {
        let told = || {
            let records = self.records(paths)?;
            let owners = self.owners(&records)?;
            let domain = account.domain().unwrap_or_default();
            let found = owners.owners_of_domains(&HashSet::from_iter([domain.to_owned()]));
            let user = found
                .get(domain)
                .ok_or_else(|| Error::NotFound(format!("no account has the domain {domain}.")))?;
            passwords::in_shadow(paths, user, account, since)
        };
        told().unwrap_or_else(|error: Error| Password::NotKnown(error.to_string()))
    }

    fn contact(&self, paths: &Paths, _: &[String], owner: &str) -> Result<Option<String>> {
        if owner.starts_with('.') || !is_name(owner) {
            return Ok(None);
        }
        match read(&paths.at(USERS).join(owner)) {
            Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
            text => text.map(|text| contact_of(&text)),
        }
    }
}

fn contact_of(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("CONTACTEMAIL=")).and_then(contact_in)
}

/// A file for each account.
const USERS: &str = "/var/cpanel/users";

/// Every domain, subdomains, parked and addon domains among them.
const DOMAINS: &str = "/etc/userdomains";
/// The main domain of each account.
const MAIN_DOMAINS: &str = "/etc/trueuserdomains";
/// Whose customer each account is; resellers own themselves, or `root` does.
const RESELLERS: &str = "/etc/trueuserowners";
const FILES: [&str; 3] = [DOMAINS, MAIN_DOMAINS, RESELLERS];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::owners::tests::{accounts, domains, set, users};
    use proptest::prelude::*;

    const USERDOMAINS: &str = "*: nobody\nann.test: ann\nshop.ann.test: ann\n*.ann.test: ann\nben.test: ben\nrex.test: rex\nhost.test: nobody\nodd.test: ann\n";
    const TRUEUSERDOMAINS: &str = "ann.test: ann\nben.test: ben\nrex.test: rex\nodd.test: ben\n";
    const TRUEUSEROWNERS: &str = "ann: rex\nben: root\nrex: rex\n";

    fn records(texts: [&str; 3]) -> Vec<String> {
        texts.map(str::to_owned).into()
    }

    #[test]
    fn the_files_say_who_owns_what() {
        let records = records([USERDOMAINS, TRUEUSERDOMAINS, TRUEUSEROWNERS]);
        let owners = CPanel.owners(&records).unwrap();
        assert_eq!(domains(&owners, "ann"), set(&["ann.test", "shop.ann.test"]), "odd.test is given to two");
        assert_eq!(domains(&owners, "ben"), set(&["ben.test"]));
        assert_eq!(users(&owners, "ann"), set(&["ann"]));
        assert_eq!(accounts(&owners, "rex"), set(&["ann", "rex"]));
        assert_eq!(accounts(&owners, "root"), set(&[]), "root's accounts are no reseller's");
        assert_eq!((domains(&owners, "nobody"), users(&owners, "nobody")), Default::default());
    }

    #[test]
    fn a_broken_file_of_the_three_is_an_error_and_no_owner_is_left() {
        for broken in 0..3 {
            let mut records = records([USERDOMAINS, TRUEUSERDOMAINS, TRUEUSEROWNERS]);
            records[broken].push_str("ann.test ann\n");
            assert_eq!(CPanel.owners(&records).unwrap_err().code(), "data");
        }
    }

    #[test]
    fn an_owners_address_is_one_that_can_be_written_to() {
        assert_eq!(
            contact_of("BWLIMIT=1\nCONTACTEMAIL=ann@elsewhere.test\nDNS=ann.test\n").unwrap(),
            "ann@elsewhere.test"
        );
        for bad in [
            "",
            "CONTACTEMAIL=\n",
            "CONTACTEMAIL=ann\n",
            "CONTACTEMAIL=-x@y.test\n",
            "XCONTACTEMAIL=a@b.test\n",
            "CONTACTEMAIL=a b@c.test\n",
        ] {
            assert_eq!(contact_of(bad), None, "{bad}");
        }
        let here = Paths::below("/nowhere");
        for odd in ["..", "../ann", "nobody here", ""] {
            assert_eq!(CPanel.contact(&here, &[], odd).unwrap(), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_files_are_owners_or_an_error(domains in "\\PC{0,40}|(([a-c]{1,2}\\.test|\\*): [a-c]{1,2}\n){0,9}", resellers in "\\PC{0,40}") {
            let _ = CPanel.owners(&records([&domains, "", &resellers]));
            let _ = CPanel.owners(&records([&resellers, &domains, ""]));
        }
    }
}
