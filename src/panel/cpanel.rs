//! cPanel & WHM: `/etc/userdomains` and `/etc/trueuserdomains` (`domain: user`), `/etc/trueuserowners`
//! (`user: owner`), as cPanel's own tools read and write them. Since version 132 the last one is readable for root
//! alone.

use super::file::{pairs, read};
use super::{Owners, Panel};
use crate::error::Result;
use crate::paths::Paths;

/// cPanel & WHM.
pub struct CPanel;

impl Panel for CPanel {
    fn name(&self) -> &'static str {
        "cPanel"
    }

    fn is_here(&self, paths: &Paths) -> bool {
        paths.at("/usr/local/cpanel").is_dir()
    }

    fn owners(&self, paths: &Paths) -> Result<Owners> {
        let text = |name: &str| read(&paths.at(name));
        owners(&text(DOMAINS)?, &text(MAIN_DOMAINS)?, &text(RESELLERS)?)
    }
}

/// Every domain, subdomains, parked and addon domains among them.
const DOMAINS: &str = "/etc/userdomains";
/// The main domain of each account.
const MAIN_DOMAINS: &str = "/etc/trueuserdomains";
/// Whose customer each account is; resellers own themselves, or `root` does.
const RESELLERS: &str = "/etc/trueuserowners";

fn owners(domains: &str, main_domains: &str, resellers: &str) -> Result<Owners> {
    let mut owners = Owners::default();
    for (domain, user) in pairs(domains, DOMAINS)?.into_iter().chain(pairs(main_domains, MAIN_DOMAINS)?) {
        // A user's mail without a login is sent by the local user of the same name.
        owners.add_user(user, user);
        if !domain.contains('*') {
            owners.add_domain(domain, user);
        }
    }
    for (user, reseller) in pairs(resellers, RESELLERS)? {
        owners.add_user(user, user);
        owners.add_customer(user, reseller);
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const USERDOMAINS: &str = "*: nobody\nann.test: ann\nshop.ann.test: ann\n*.ann.test: ann\nben.test: ben\nrex.test: rex\nhost.test: nobody\nodd.test: ann\n";
    const TRUEUSERDOMAINS: &str = "ann.test: ann\nben.test: ben\nrex.test: rex\nodd.test: ben\n";
    const TRUEUSEROWNERS: &str = "ann: rex\nben: root\nrex: rex\n";

    #[test]
    fn the_files_say_who_owns_what() {
        let owners = owners(USERDOMAINS, TRUEUSERDOMAINS, TRUEUSEROWNERS).unwrap();
        let domains: BTreeSet<_> = owners.domains_of("ann").collect();
        assert_eq!(domains, BTreeSet::from(["ann.test", "shop.ann.test"]));
        assert_eq!(owners.users_of("ann").collect::<Vec<_>>(), ["ann"]);
        assert_eq!(owners.owner_of("host.test"), None, "nobody's");
        assert_eq!(owners.owner_of("odd.test"), None, "the files contradict each other");
        assert_eq!(owners.accounts_of("rex"), BTreeSet::from(["ann", "rex"]));
        assert_eq!(owners.accounts_of("root"), BTreeSet::new(), "root's accounts are no reseller's");
        assert_eq!(owners.domains_of("nobody").count() + owners.users_of("nobody").count(), 0);
    }

    #[test]
    fn a_broken_file_of_the_three_is_an_error_and_no_owner_is_left() {
        let broken = "ann.test ann\n";
        for (a, b, c) in [
            (broken, TRUEUSERDOMAINS, TRUEUSEROWNERS),
            (USERDOMAINS, broken, TRUEUSEROWNERS),
            (USERDOMAINS, TRUEUSERDOMAINS, broken),
        ] {
            assert_eq!(owners(a, b, c).unwrap_err().code(), "data");
        }
    }

    proptest! {
        #[test]
        fn any_files_are_read_and_a_domain_has_one_owner_at_most(
            domains in "(([a-c]{1,2}\\.test|\\*): [a-c]{1,2}\n){0,9}", resellers in "\\PC{0,40}|([a-c]{1,2}: [a-c]{1,2}\n){0,5}"
        ) {
            if let Ok(owners) = owners(&domains, "", &resellers) {
                for account in ["a", "b", "c", "aa", "nobody"] {
                    let mut theirs = owners.domains_of(account);
                    prop_assert!(theirs.all(|d| owners.owner_of(d) == Some(account)));
                }
            }
        }
    }
}
