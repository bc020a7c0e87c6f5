//! What a panel knows of owners, in one form for all panels.

use super::Names;
use crate::account;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};
use std::borrow::Cow;

/// Names that are no customer's account, whatever a file says: cPanel gives `nobody` what belongs to no account, and
/// `root` what no reseller has.
const NOBODYS: [&str; 2] = ["root", "nobody"];

/// Who owns what, line by line as the records have it: a hundred thousand domains are looked through for each call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners<'a> {
    domains: Vec<(&'a str, &'a str)>,
    users: Vec<(&'a str, &'a str)>,
    customers: Vec<(&'a str, &'a str)>,
}

impl<'a> Owners<'a> {
    /// The domain belongs to this account.
    pub fn add_domain(&mut self, domain: &'a str, account: &'a str) {
        self.domains.push((domain, account));
    }

    /// The local user sends for this account.
    pub fn add_user(&mut self, user: &'a str, account: &'a str) {
        // A file names an owner in each of his lines.
        if !NOBODYS.contains(&user) && self.users.last() != Some(&(user, account)) {
            self.users.push((user, account));
        }
    }

    /// The account is this reseller's customer.
    pub fn add_customer(&mut self, account: &'a str, reseller: &'a str) {
        self.customers.push((account, reseller));
    }

    /// The accounts of a reseller: its customers', and its own.
    pub fn accounts_of<'b>(&self, reseller: &'b str) -> HashSet<Cow<'b, str>> {
        let customers = names_of(&self.customers, &HashSet::from([reseller.into()]), Cow::Borrowed);
        let own = std::iter::once(Cow::Borrowed(reseller));
        let all = customers.iter().map(|name| Cow::Owned(name.to_string())).chain(own);
        all.filter(|account| !NOBODYS.contains(&account.as_ref())).collect()
    }

    /// All domains, as the records spell them.
    pub fn all_domains(&self) -> impl Iterator<Item = &str> {
        self.domains.iter().map(|(domain, _)| *domain)
    }

    /// The domains of these accounts, in lower case.
    pub fn domains_of(&self, accounts: &HashSet<Cow<str>>) -> Names {
        names_of(&self.domains, accounts, lower_case)
    }

    /// The accounts to which these domains belong, in lower case as they are given. What the records give to two has none.
    pub fn owners_of_domains(&self, domains: &HashSet<String>) -> HashMap<String, &'a str> {
        owners_among(&self.domains, domains)
    }

    /// The accounts for which these local users send, in the same way.
    pub fn owners_of_users(&self, users: &HashSet<String>) -> HashMap<String, &'a str> {
        owners_among(&self.users, users)
    }

    /// The local users that send for these accounts, in lower case as everywhere in Postern.
    pub fn users_of(&self, accounts: &HashSet<Cow<str>>) -> Names {
        names_of(&self.users, accounts, lower_case)
    }
}

fn owners_among<'a>(rows: &[(&str, &'a str)], wanted: &HashSet<String>) -> HashMap<String, &'a str> {
    let mut found: HashMap<String, Option<&str>> = HashMap::new();
    for (name, owner) in rows {
        let name = lower_case(name);
        if !wanted.contains(name.as_ref()) {
            continue;
        }
        let theirs = Some(*owner).filter(|owner| !NOBODYS.contains(owner));
        match found.entry(name.into_owned()) {
            Entry::Vacant(new) => drop(new.insert(theirs)),
            Entry::Occupied(mut there) if *there.get() != theirs => drop(there.insert(None)),
            Entry::Occupied(_) => {}
        }
    }
    found.into_iter().filter_map(|(name, owner)| owner.map(|owner| (name, owner))).collect()
}

fn lower_case(name: &str) -> Cow<'_, str> {
    match name.bytes().any(|b| !b.is_ascii() || b.is_ascii_uppercase()) {
        true => account::lower_case(name).into(),
        false => name.into(),
    }
}

/// The names that these owners have, and nobody else. What the records give to two is nobody's.
fn names_of<'a>(
    rows: &[(&'a str, &'a str)],
    owners: &HashSet<Cow<str>>,
    spelled: fn(&'a str) -> Cow<'a, str>,
) -> Names {
    let is_theirs = |owner: &str| owners.contains(owner) && !NOBODYS.contains(&owner);
    // Room at once, as a table that grows is laid out anew each time; an owner's local user may stand in each line.
    let room = rows.iter().filter(|(_, owner)| is_theirs(owner)).count();
    let mut found: HashMap<Cow<str>, Option<&str>> = HashMap::with_capacity(room);
    for (name, owner) in rows.iter().filter(|(_, owner)| is_theirs(owner)) {
        match found.entry(spelled(name)) {
            Entry::Vacant(new) => drop(new.insert(Some(owner))),
            Entry::Occupied(mut there) if *there.get() != Some(owner) => drop(there.insert(None)),
            Entry::Occupied(_) => {}
        }
    }
    for (name, _) in rows.iter().filter(|(_, owner)| !is_theirs(owner)) {
        found.remove(spelled(name).as_ref());
    }
    found.iter().filter(|(_, owner)| owner.is_some()).map(|(name, _)| name.as_ref()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn set(names: &[&str]) -> Names {
        names.iter().copied().collect()
    }

    pub(crate) fn domains(owners: &Owners, account: &str) -> Names {
        owners.domains_of(&HashSet::from([account.into()]))
    }

    pub(crate) fn users(owners: &Owners, account: &str) -> Names {
        owners.users_of(&HashSet::from([account.into()]))
    }

    pub(crate) fn accounts(owners: &Owners, reseller: &str) -> Names {
        owners.accounts_of(reseller).iter().map(Cow::as_ref).collect()
    }

    #[test]
    fn what_is_said_twice_and_not_alike_belongs_to_nobody() {
        let mut owners = Owners::default();
        for (domain, account) in [
            ("a.test", "ann"),
            ("A.test", "ann"),
            ("b.test", "ann"),
            ("b.test", "ben"),
            ("b.test", "ann"),
            ("C.test", "ben"),
            ("c.TEST", "nobody"),
        ] {
            owners.add_domain(domain, account);
        }
        owners.add_user("Web", "ann");
        owners.add_user("web", "ben");
        assert_eq!(domains(&owners, "ann"), set(&["a.test"]));
        assert_eq!(owners.domains_of(&HashSet::from(["ann".into(), "ben".into()])), set(&["a.test"]));
        let all =
            owners.owners_of_domains(&["a.test", "b.test", "c.test", "d.test"].map(String::from).into());
        assert_eq!(all, HashMap::from([("a.test".to_string(), "ann")]));
        assert_eq!(owners.owners_of_users(&["web".to_string()].into()), HashMap::new());
        assert_eq!(
            (domains(&owners, "ben"), users(&owners, "ann"), users(&owners, "ben")),
            Default::default()
        );
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
        }
        for name in NOBODYS {
            assert_eq!(
                (accounts(&owners, name), domains(&owners, name), users(&owners, name)),
                Default::default()
            );
        }
        assert_eq!((accounts(&owners, "ann"), users(&owners, "ann")), (set(&["ann"]), set(&[])));
    }

    #[test]
    fn a_reseller_has_its_customers_accounts_and_its_own() {
        let mut owners = Owners::default();
        for (account, reseller) in
            [("ann", "rex"), ("ben", "rex"), ("rex", "rex"), ("cat", "sam"), ("dan", "rex"), ("dan", "sam")]
        {
            owners.add_customer(account, reseller);
        }
        assert_eq!(accounts(&owners, "rex"), set(&["ann", "ben", "rex"]));
        assert_eq!(accounts(&owners, "sam"), set(&["cat", "sam"]));
        assert_eq!(accounts(&owners, "ann"), set(&["ann"]));
    }

    proptest! {
        #[test]
        fn a_domain_is_of_one_account_at_most(rows in proptest::collection::vec(("[aAbB]{1,2}", "ann|ben|cat|nobody"), 0..12)) {
            let mut owners = Owners::default();
            rows.iter().for_each(|(domain, account)| owners.add_domain(domain, account));
            for (domain, _) in &rows {
                let domain = domain.to_lowercase();
                let says: HashSet<&str> =
                    rows.iter().filter(|(d, _)| d.to_lowercase() == domain).map(|(_, o)| o.as_str()).collect();
                for account in ["ann", "ben", "cat", "nobody"] {
                    let expected = says == HashSet::from([account]) && account != "nobody";
                    prop_assert_eq!(domains(&owners, account).contains(&domain), expected);
                }
            }
        }
    }
}
