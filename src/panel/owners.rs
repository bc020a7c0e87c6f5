//! What a panel knows of owners, in one form for all panels.

use std::collections::{BTreeSet, HashMap};

/// Names that are no customer's account, whatever a file says: cPanel gives `nobody` what belongs to no account, and
/// `root` what no reseller has.
const NOBODYS: [&str; 2] = ["root", "nobody"];

/// Who owns what. Names of domains and local users are in lower case, as everywhere in Postern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    domains: Said,
    users: Said,
    resellers: Said,
}

/// One owner for each name; none where the records contradict each other.
type Said = HashMap<String, Option<String>>;

fn say(said: &mut Said, name: &str, owner: &str) {
    let entry = said.entry(name.to_owned()).or_insert_with(|| Some(owner.to_owned()));
    if entry.as_deref() != Some(owner) {
        *entry = None;
    }
}

impl Owners {
    /// The domain belongs to this account.
    pub fn add_domain(&mut self, domain: &str, account: &str) {
        if !NOBODYS.contains(&account) {
            say(&mut self.domains, &domain.to_lowercase(), account);
        }
    }

    /// The local user sends for this account.
    pub fn add_user(&mut self, user: &str, account: &str) {
        if !NOBODYS.contains(&account) && !NOBODYS.contains(&user) {
            say(&mut self.users, &user.to_lowercase(), account);
        }
    }

    /// The account is this reseller's customer.
    pub fn add_customer(&mut self, account: &str, reseller: &str) {
        if !NOBODYS.contains(&account) && !NOBODYS.contains(&reseller) {
            say(&mut self.resellers, account, reseller);
        }
    }

    /// Whose domain it is.
    pub fn owner_of(&self, domain: &str) -> Option<&str> {
        self.domains.get(&domain.to_lowercase())?.as_deref()
    }

    /// The accounts of a reseller: its customers', and its own.
    pub fn accounts_of<'a>(&'a self, reseller: &'a str) -> BTreeSet<&'a str> {
        names_of(&self.resellers, reseller).chain([reseller]).filter(|a| !NOBODYS.contains(a)).collect()
    }

    /// The domains of an account.
    pub fn domains_of<'a>(&'a self, account: &'a str) -> impl Iterator<Item = &'a str> {
        names_of(&self.domains, account)
    }

    /// The local users that send for an account.
    pub fn users_of<'a>(&'a self, account: &'a str) -> impl Iterator<Item = &'a str> {
        names_of(&self.users, account)
    }
}

fn names_of<'a>(said: &'a Said, owner: &'a str) -> impl Iterator<Item = &'a str> {
    said.iter().filter(move |(_, o)| o.as_deref() == Some(owner)).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_and_not_alike_belongs_to_nobody() {
        let mut owners = Owners::default();
        for (domain, account) in
            [("a.test", "ann"), ("A.test", "ann"), ("b.test", "ann"), ("b.test", "ben"), ("b.test", "ann")]
        {
            owners.add_domain(domain, account);
        }
        owners.add_user("Web", "ann");
        owners.add_user("web", "ben");
        assert_eq!((owners.owner_of("a.TEST"), owners.owner_of("b.test")), (Some("ann"), None));
        assert_eq!(owners.domains_of("ann").collect::<Vec<_>>(), ["a.test"]);
        assert_eq!(owners.users_of("ann").chain(owners.users_of("ben")).count(), 0);
    }

    #[test]
    fn root_and_nobody_are_nobodys_account() {
        let mut owners = Owners::default();
        for name in NOBODYS {
            owners.add_domain("a.test", name);
            owners.add_user("web", name);
            owners.add_user(name, "ann");
            owners.add_customer("ann", name);
            owners.add_customer(name, "ann");
            assert!(owners.accounts_of(name).is_empty());
        }
        assert_eq!(owners, Owners::default());
    }

    #[test]
    fn a_reseller_has_its_customers_accounts_and_its_own() {
        let mut owners = Owners::default();
        for (account, reseller) in [("ann", "rex"), ("ben", "rex"), ("rex", "rex"), ("cat", "sam")] {
            owners.add_customer(account, reseller);
        }
        assert_eq!(owners.accounts_of("rex"), BTreeSet::from(["ann", "ben", "rex"]));
        assert_eq!(owners.accounts_of("sam"), BTreeSet::from(["cat", "sam"]));
        assert_eq!(owners.accounts_of("ann"), BTreeSet::from(["ann"]));
    }
}
