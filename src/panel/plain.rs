//! A server without a panel: `/etc/postern/owners`, written by the administrator.
//!
//! `example.org: ann` gives a domain to an owner, `ann: rex` an owner to a reseller. A name with a dot is a domain, so
//! owners' names have none. The local user of an owner's name is the owner's. `ann: ann@elsewhere.org` says where an owner
//! reads mail.

use super::file::{pairs, read};
use super::{Owners, Panel, contact_in};
use crate::error::{Error, Result};
use crate::paths::Paths;

/// No panel.
pub struct Plain;

impl Panel for Plain {
    fn name(&self) -> &'static str {
        "/etc/postern/owners"
    }

    fn is_a_panel(&self) -> bool {
        false
    }

    fn is_here(&self, _: &Paths) -> bool {
        true
    }

    fn records(&self, paths: &Paths) -> Result<Vec<String>> {
        read(&paths.owners()).map(|text| vec![text])
    }

    fn owners<'a>(&self, records: &'a [String]) -> Result<Owners<'a>> {
        records.first().map_or_else(|| Ok(Owners::default()), |text| owners(text))
    }

    fn contact(&self, _: &Paths, records: &[String], owner: &str) -> Result<Option<String>> {
        let Some(text) = records.first() else { return Ok(None) };
        let all = pairs(text, Plain.name())?;
        Ok(all.into_iter().filter(|(name, _)| *name == owner).find_map(|(_, contact)| contact_in(contact)))
    }
}

fn owners(text: &str) -> Result<Owners<'_>> {
    let mut owners = Owners::default();
    for (name, owner) in pairs(text, Plain.name())? {
        if owner.contains('@') && !name.contains('.') {
            continue;
        }
        if owner.contains('.') {
            return Err(Error::Data(format!(
                "{} gives {name} to {owner}, but an owner's name has no dot: nothing in it is believed.",
                Plain.name()
            )));
        }
        owners.add_user(owner, owner);
        if name.contains('.') {
            owners.add_domain(name, owner);
        } else {
            owners.add_user(name, name);
            owners.add_customer(name, owner);
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panel::owners::tests::{accounts, domains, set, users};
    use proptest::prelude::*;

    #[test]
    fn the_file_says_who_owns_what() {
        let owners = owners("# mine\nexample.test: ann\nann: rex\nrex.test: rex\n").unwrap();
        assert_eq!((domains(&owners, "ann"), users(&owners, "ann")), (set(&["example.test"]), set(&["ann"])));
        assert_eq!(accounts(&owners, "rex"), set(&["ann", "rex"]));
    }

    #[test]
    fn an_owners_address_is_no_owner() {
        let records = vec!["example.test: ann\nann: rex\nann: ann@elsewhere.test\nrex: @\n".to_string()];
        let owners = Plain.owners(&records).unwrap();
        assert_eq!(accounts(&owners, "rex"), set(&["ann", "rex"]));
        let contact = |owner| Plain.contact(&Paths::below("/"), &records, owner).unwrap();
        assert_eq!(
            (contact("ann").as_deref(), contact("rex"), contact("ben")),
            (Some("ann@elsewhere.test"), None, None)
        );
    }

    #[test]
    fn an_owner_with_a_dot_is_an_error() {
        let said = owners("example.test: ann\nother.test: example.test\n").unwrap_err().to_string();
        assert!(said.contains("has no dot"), "{said}");
    }

    proptest! {
        #[test]
        fn any_file_is_owners_or_an_error(text in "\\PC{0,60}|([a-c.]{1,4}: [a-c.]{1,3}\n){0,6}") {
            let _ = owners(&text);
        }
    }
}
