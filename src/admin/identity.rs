//! Who asks: the administrator, or somebody for whom a panel's root helper asks, with what is his.
//!
//! The helper proves who it is and passes `--as` on the command line, which is accepted from root alone. Nothing in a
//! request can name anybody. What is his is read from the panel's own records for each call.

use super::arguments::{Arguments, Kind};
use super::looks_like_network;
use super::table::{Function, Scope};
use crate::account::{Account, Subject};
use crate::error::{Error, Result};
use crate::hook::has_borrowed_authority;
use crate::panel::{self, Names};
use crate::paths::Paths;
use crate::settings::Settings;
use crate::store::settings::rank::Rank;
use hashbrown::HashSet;
use nix::unistd::{geteuid, getuid};
use std::str::FromStr;

/// Longest name of somebody, in bytes.
const LONGEST: usize = 64;

/// Somebody for whom a panel's root helper asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What he is.
    pub scope: Scope,
    /// His name in the panel.
    pub name: String,
}

impl FromStr for Identity {
    type Err = Error;

    /// Reads `root:NAME`, `reseller:NAME` or `owner:NAME`.
    fn from_str(text: &str) -> Result<Identity> {
        let scopes = [("root", Scope::Root), ("reseller", Scope::Reseller), ("owner", Scope::Owner)];
        let parts = text.split_once(':');
        let found = parts.and_then(|(word, name)| {
            let (_, scope) = scopes.into_iter().find(|(known, _)| *known == word)?;
            is_name(name).then(|| Identity { scope, name: name.into() })
        });
        found.ok_or_else(|| {
            Error::bad_value(
                "--as",
                text,
                "give root:NAME, reseller:NAME or owner:NAME, as the panel knows him",
            )
        })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= LONGEST
        && !name.starts_with('-')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+@".contains(&b))
}

impl Identity {
    /// His name in the trail.
    pub fn who(&self) -> String {
        let rank = match self.scope {
            Scope::Root => Rank::Root,
            Scope::Reseller => Rank::Reseller,
            Scope::Owner => Rank::Owner,
        };
        rank.name(&self.name)
    }
}

/// Refuses whoever is not root to ask for somebody else.
pub fn may_ask_for_others() -> Result<()> {
    if getuid().is_root() && geteuid().is_root() && !has_borrowed_authority() {
        return Ok(());
    }
    Err(Error::NotAllowed(
        "--as is accepted from root alone: a panel's root helper proves who somebody is and passes it."
            .into(),
    ))
}

/// What is somebody's, who is not the administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theirs {
    /// What he is.
    pub scope: Scope,
    /// His name in the trail.
    pub who: String,
    domains: Names,
    users: Names,
}

impl Theirs {
    /// Reads from the panel's records what is his. Local users that send for many are nobody's.
    ///
    /// Fails where the records cannot be believed, and with [`Error::NotFound`] where nothing in them is his.
    pub fn read(identity: &Identity, paths: &Paths, settings: &Settings) -> Result<Theirs> {
        let panel = panel::of_this_server(paths);
        let records = panel.records(paths)?;
        let owners = panel.owners(&records)?;
        let accounts = match identity.scope {
            Scope::Reseller => owners.accounts_of(&identity.name),
            _ => HashSet::from([identity.name.as_str().into()]),
        };
        let mut theirs = Theirs {
            scope: identity.scope,
            who: identity.who(),
            domains: owners.domains_of(&accounts),
            users: owners.users_of(&accounts),
        };
        theirs.users.retain(|user| !settings.is_shared_user(user));
        if theirs.domains.is_empty() && theirs.users.is_empty() {
            return Err(Error::NotFound(format!(
                "{} owns nothing by the records of {}.",
                theirs.who,
                panel.name()
            )));
        }
        Ok(theirs)
    }

    /// Whether it is his, by its key as everywhere in Postern: a mailbox of a domain of his, a local user of his, or `@`
    /// and a domain of his.
    pub fn owns_key(&self, key: &str) -> bool {
        match key.rsplit_once('@') {
            Some((_, domain)) if !domain.is_empty() => self.domains.contains(domain),
            _ => self.users.contains(key),
        }
    }

    /// Every key that is his, his domains as `@example.org` and his local users; none where there are more than that.
    pub fn few_keys(&self, most: usize) -> Option<Vec<String>> {
        let domains = self.domains.iter().map(|domain| format!("@{domain}"));
        (self.domains.len() + self.users.len() <= most)
            .then(|| domains.chain(self.users.iter().map(Into::into)).collect())
    }

    /// Refuses a function that is above him, before its arguments are looked at.
    pub fn may_call(&self, function: &Function) -> Result<()> {
        if function.scope >= self.scope {
            return Ok(());
        }
        let who = match function.scope {
            Scope::Root => "the administrator",
            Scope::Reseller | Scope::Owner => "a reseller",
        };
        Err(Error::NotAllowed(format!("{} is for {who}; {} cannot call it.", function.name, self.who)))
    }

    /// Refuses arguments that speak of what is not his. A change that names nobody is about the whole server.
    pub fn may_say(&self, function: &Function, given: &Arguments) -> Result<()> {
        for argument in function.arguments {
            let name = argument.name;
            match (argument.kind, given.given(name)) {
                (Kind::Account, Some(account)) => self.must_own_one(&Account::meant(account)?)?,
                (Kind::Subject, None) if function.changes => {
                    return self.refused(&format!(
                        "name a mailbox or domain in the argument {name}: what is about the whole server is the administrator's"
                    ));
                }
                (Kind::Subject | Kind::SubjectOrNetwork | Kind::Network, Some(text)) => {
                    self.may_name(text)?
                }
                (Kind::SystemOrNetwork, Some(_)) => {
                    return self.refused("systems and networks are the administrator's");
                }
                (Kind::File | Kind::Files, Some(_)) => return self.refused("files are the administrator's"),
                // What each of these speaks of, the function itself looks after; of entries, each one.
                (
                    Kind::Address
                    | Kind::Countries
                    | Kind::Until
                    | Kind::Span
                    | Kind::Number(..)
                    | Kind::Switch,
                    Some(_),
                )
                | (Kind::Word(_) | Kind::Reference | Kind::Note | Kind::Entries | Kind::Text, Some(_))
                | (_, None) => {}
            }
        }
        Ok(())
    }

    /// Refuses a mailbox, domain or local user that is not his, and each address and network.
    pub fn may_name(&self, text: &str) -> Result<()> {
        match looks_like_network(text) {
            true => self.refused("addresses and networks are the administrator's"),
            // An account that lists show is named to look it up or release it; what is added to a list is read strictly.
            false => match (text.parse(), Account::meant(text)) {
                (Ok(subject), _) => self.must_own(&subject),
                (Err(_), Ok(meant)) => self.must_own_one(&meant),
                (Err(error), Err(_)) => Err(error),
            },
        }
    }

    /// Refuses accounts of which none is his.
    fn must_own_one(&self, meant: &[Account]) -> Result<()> {
        match meant.iter().any(|account| self.owns_key(account.name())) {
            true => Ok(()),
            false => meant.iter().take(1).try_for_each(|one| self.must_own(&Subject::Account(one.clone()))),
        }
    }

    fn must_own(&self, subject: &Subject) -> Result<()> {
        if self.owns_key(&subject.key()) {
            return Ok(());
        }
        self.refused(&format!("{} does not belong to {}", subject.words(), self.who))
    }

    fn refused<T>(&self, why: &str) -> Result<T> {
        Err(Error::NotAllowed(format!("Nothing was done: {why}.")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_identity_is_a_scope_and_a_name() {
        for (text, who) in [
            ("root:ann", "root (ann)"),
            ("reseller:rex", "reseller rex"),
            ("owner:a.b-c_1@d", "owner a.b-c_1@d"),
        ] {
            let identity: Identity = text.parse().unwrap();
            assert_eq!(identity.who(), who);
        }
        let long = format!("owner:{}", "a".repeat(65));
        for bad in [
            "",
            "ann",
            "owner:",
            ":ann",
            "Owner:ann",
            "admin:ann",
            "owner:a b",
            "owner:-a",
            "owner:a\nb",
            "owner:ä",
            &long,
        ] {
            assert_eq!(bad.parse::<Identity>().unwrap_err().code(), "bad_value", "{bad}");
        }
    }

    fn ann() -> Theirs {
        let set = |names: &[&str]| names.iter().copied().collect();
        Theirs {
            scope: Scope::Owner,
            who: "owner ann".into(),
            domains: set(&["ann.test"]),
            users: set(&["ann", "x@ben.test"]),
        }
    }

    #[test]
    fn a_mailbox_is_its_domains_owners_and_a_local_user_its_own_owners() {
        let owns = |text: &str| ann().owns_key(Account::from_server(text).unwrap().name());
        for theirs in ["alice@ann.test", "Alice@ANN.test", "alice+ann.test", "x@ben.test@ann.test", "ann"] {
            assert!(owns(theirs), "{theirs}");
        }
        for foreign in [
            "alice@ben.test",
            "x@ben.test",
            "ann.test@ben.test",
            "ann@",
            "@ann.test@",
            "ben",
            "ann.test",
            "a@sub.ann.test",
        ] {
            assert!(!owns(foreign), "{foreign}");
        }
        assert!(ann().owns_key("@ann.test") && !ann().owns_key("@ben.test") && !ann().owns_key("*"));
        assert!(!ann().owns_key("") && !ann().owns_key("@"));
    }

    proptest! {
        #[test]
        fn nothing_but_what_ends_in_an_own_domain_is_theirs(text in "\\PC{0,30}|[a-c@.]{0,9}(ann|ben)\\.test[@a.]{0,3}") {
            if ann().owns_key(&text) {
                prop_assert!(text == "ann" || text.ends_with("@ann.test"));
            }
        }
    }
}
