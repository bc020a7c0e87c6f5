//! What somebody of a higher rank set, nobody of a lower one can change or get round.
//!
//! Ranks stand in the trail's `who`: the administrator's name is any but `reseller …` and `owner …`, which
//! [`Rank::name`] alone writes.

use super::changes::Change;
use super::entries::{self, ListName};
use crate::account::Subject;
use crate::error::{Error, Result};
use rusqlite::{Connection, OptionalExtension};

/// Who somebody is towards the accounts, the highest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The owner of an account.
    Owner,
    /// A reseller.
    Reseller,
    /// The administrator.
    Root,
}

impl Rank {
    /// The rank of somebody whose name in the trail this is.
    pub fn of(who: &str) -> Rank {
        match who.split_once(' ') {
            Some(("reseller", _)) => Rank::Reseller,
            Some(("owner", _)) => Rank::Owner,
            _ => Rank::Root,
        }
    }

    /// The name in the trail of somebody of this rank.
    pub fn name(self, name: &str) -> String {
        match self {
            Rank::Root => format!("root ({name})"),
            Rank::Reseller => format!("reseller {name}"),
            Rank::Owner => format!("owner {name}"),
        }
    }
}

/// Who set the list of countries of this scope.
fn countries_set_by(db: &Connection, scope: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = db.prepare_cached("SELECT who FROM country_list WHERE scope = ?1")?;
    statement.query_row([scope], |row| row.get(0)).optional()
}

/// A mailbox of a domain (`@example.org`) whose list of countries the administrator set.
fn mailbox_set_by_root(db: &Connection, domain: &str) -> rusqlite::Result<Option<String>> {
    let mut statement = db.prepare_cached("SELECT scope, who FROM country_list")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (scope, who) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        if scope != domain && scope.ends_with(domain) && Rank::of(who) == Rank::Root {
            return Ok(Some(scope.to_owned()));
        }
    }
    Ok(None)
}

const GOES_ROUND: &str = "SELECT scope, who, 'countries' FROM country_list
     UNION ALL SELECT value, who, 'exemption' FROM entry WHERE list = ?1 AND (until IS NULL OR until > ?2)
     UNION ALL SELECT subject, who, 'allowance' FROM allowance WHERE until > ?2 ORDER BY 1, 3";

/// Running allowances that an owner has at most for one mailbox or domain, and in all.
pub const MOST_OF_OWNER: (i64, i64) = (5, 50);

/// What a reseller has at most, together: entries of lists and allowances that have not ended, and lists of countries.
pub const MOST_OF_RESELLER: i64 = 10_000;

const ALLOWANCES_OF: &str =
    "SELECT count(*), coalesce(sum(subject = ?3), 0) FROM allowance WHERE who = ?1 AND until > ?2";
const OF_RESELLER: &str =
    "SELECT (SELECT count(*) FROM entry WHERE who = ?1 AND (until IS NULL OR until > ?2))
     + (SELECT count(*) FROM allowance WHERE who = ?1 AND until > ?2)
     + (SELECT count(*) FROM country_list WHERE who = ?1)";

impl Change<'_> {
    /// Whether the caller has room for one more allowance for this subject: nobody below the administrator makes lists
    /// without an end.
    pub(super) fn has_room_for_allowance(&mut self, subject: &str) -> Result<()> {
        if self.rank() != Rank::Owner {
            return self.has_room_for_one_more();
        }
        let values = (self.who(), self.now(), subject);
        let count = |db: &Connection| {
            db.prepare_cached(ALLOWANCES_OF)?.query_row(values, |row| Ok((row.get(0)?, row.get(1)?)))
        };
        let (all, of_subject): (i64, i64) = count(self.connection()).map_err(self.failed())?;
        let (most_of_subject, most) = MOST_OF_OWNER;
        let (n, of) = match () {
            () if of_subject >= most_of_subject => {
                (most_of_subject, format!(" for {}", Subject::typed(subject)))
            }
            () if all >= most => (most, String::new()),
            () => return Ok(()),
        };
        Err(Error::NotAllowed(format!(
            "{} has {n} running allowances{of}, and more are not given: end one first (list_allowances tells their numbers).",
            self.who()
        )))
    }

    /// Whether a reseller has room for one more of them. What he has is counted once for all of a change.
    pub(super) fn has_room_for_one_more(&mut self) -> Result<()> {
        if self.rank() != Rank::Reseller {
            return Ok(());
        }
        let there = match self.made_by_reseller {
            Some(there) => there,
            None => {
                let values = (self.who(), self.now());
                let counted = self.connection().query_row(OF_RESELLER, values, |row| row.get(0));
                counted.map_err(self.failed())?
            }
        };
        if there >= MOST_OF_RESELLER {
            return Err(Error::NotAllowed(format!(
                "{} has {MOST_OF_RESELLER} entries, allowances and lists of countries, and more are not taken: remove some first. Nothing was changed.",
                self.who()
            )));
        }
        self.made_by_reseller = Some(there + 1);
        Ok(())
    }

    fn rank(&self) -> Rank {
        Rank::of(self.who())
    }

    /// Whether whoever this is has the caller's rank at least.
    pub(super) fn is_as_high(&self, who: &str) -> bool {
        Rank::of(who) >= self.rank()
    }

    /// Only the administrator changes what is about the whole server.
    pub(super) fn must_be_root(&self, what: &str) -> Result<()> {
        match self.rank() {
            Rank::Root => Ok(()),
            _ => Err(Error::NotAllowed(format!("Only the administrator can change {what}."))),
        }
    }

    /// Nobody changes what somebody of a higher rank set; an owner, what another one set.
    pub(super) fn must_not_be_above(&self, who: Option<&str>, what: &str) -> Result<()> {
        let Some(who) = who else { return Ok(()) };
        let (rank, own) = (Rank::of(who), self.rank());
        if rank < own || (rank == own && (own != Rank::Owner || who == self.who())) {
            return Ok(());
        }
        let by = match rank {
            Rank::Root => "the administrator",
            Rank::Reseller => "a reseller",
            Rank::Owner => "another owner",
        };
        Err(Error::NotAllowed(format!("{what} was set by {by}, so {} cannot change it.", self.who())))
    }

    /// Whether the caller may change this entry of this list. One that has ended binds nobody.
    pub(super) fn may_change_entry(&self, list: ListName, value: &str) -> Result<()> {
        if self.rank() == Rank::Root {
            return Ok(());
        }
        if !matches!(list, ListName::UserExemption | ListName::AccountBlock) {
            return self.must_be_root(&format!("the list {}", list.title()));
        }
        let before = entries::one(self.connection(), list, value).map_err(self.failed())?;
        let binding = before.filter(|entry| entry.holds(self.now()));
        let what = format!("The entry {value} of the list {}", list.title());
        self.must_not_be_above(binding.as_ref().map(|entry| entry.who.as_str()), &what)
    }

    /// Whether the caller may set the list of countries of this subject, or unset it.
    pub(super) fn may_set_countries(&self, subject: Option<&Subject>, sets: bool) -> Result<()> {
        let Some(subject) = subject else { return self.must_be_root("the server's list of countries") };
        let who = countries_set_by(self.connection(), &subject.key()).map_err(self.failed())?;
        self.must_not_be_above(who.as_deref(), &format!("The list of countries of {subject}"))?;
        match subject {
            Subject::Account(_) if sets => self.may_lift_countries(&subject.key()),
            _ => Ok(()),
        }
    }

    /// What resellers and owners set before, and what goes on letting mailboxes with this key past a list of countries
    /// that the administrator sets for it: their own lists, exemptions and allowances, each with whose it is.
    pub fn goes_round(&self, key: &str) -> Result<Vec<String>> {
        let found = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection().prepare(GOES_ROUND)?;
            let mut rows = statement.query((ListName::UserExemption.name(), self.now()))?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let (of, who, what) =
                    (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
                let is_below = of != key && key.starts_with('@') && of.ends_with(key);
                // A list of its own is replaced; an exemption or allowance lifts it.
                let lifts = what != "countries" && (of == key || of.starts_with('@') && key.ends_with(of));
                if (is_below || lifts) && Rank::of(who) != Rank::Root {
                    all.push(format!("{what} of {} ({who})", Subject::typed(of)));
                }
            }
            Ok(all)
        };
        found().map_err(self.failed())
    }

    /// Whether the caller may lift the country rule for the subject with this key. The administrator's list for a
    /// mailbox or its domain binds; the server's list is where resellers and owners start from.
    pub(super) fn may_lift_countries(&self, key: &str) -> Result<()> {
        if self.rank() == Rank::Root {
            return Ok(());
        }
        let db = self.connection();
        let found = || -> rusqlite::Result<Option<String>> {
            if key.starts_with('@')
                && let Some(mailbox) = mailbox_set_by_root(db, key)?
            {
                return Ok(Some(mailbox));
            }
            let domain = key.rfind('@').map_or("", |at| &key[at..]);
            for scope in [key, domain] {
                if countries_set_by(db, scope)?.is_some_and(|who| Rank::of(&who) == Rank::Root) {
                    return Ok(Some(scope.to_owned()));
                }
            }
            Ok(None)
        };
        match found().map_err(self.failed())? {
            None => Ok(()),
            Some(scope) => Err(Error::NotAllowed(format!(
                "The administrator set the countries of {}: only he can allow more there.",
                scope.strip_prefix('@').unwrap_or(&scope)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Seconds;
    use crate::store::settings::entries::{Grant, ListEntry};
    use crate::store::settings::{SettingsStore, new_store};
    use std::collections::BTreeSet;

    const NOON: Seconds = 1_700_000_000;

    fn entry(value: &str) -> ListEntry {
        ListEntry { value: value.into(), ..ListEntry::default() }
    }

    fn grant(subject: &str) -> Grant {
        Grant { subject: subject.into(), source: "BR".into(), until: NOON + 60, ..Grant::default() }
    }

    /// Whether this caller can do this; nothing is done.
    fn can(store: &mut SettingsStore, who: &str, make: &dyn Fn(&mut Change) -> Result<()>) -> bool {
        let tried = store.change(who, NOON, None, |change| {
            make(change)?;
            Err::<(), _>(Error::NotFound("tried".into()))
        });
        match tried.unwrap_err() {
            Error::NotFound(said) if said == "tried" => true,
            Error::NotAllowed(_) => false,
            other => panic!("{other}"),
        }
    }

    fn countries(subject: &str) -> impl Fn(&mut Change) -> Result<()> {
        let subject: Option<Subject> = (subject != "*").then(|| subject.parse().unwrap());
        move |c| c.set_countries(subject.as_ref(), Some(&BTreeSet::from(["DE".parse().unwrap()])))
    }

    #[test]
    fn names_in_the_trail_tell_the_rank() {
        for rank in [Rank::Root, Rank::Reseller, Rank::Owner] {
            assert_eq!(Rank::of(&rank.name("ann")), rank);
        }
        for who in
            ["root", "user 1000", "root (owner x by sudo)", "root (reseller y)", "", "reseller", "owners x"]
        {
            assert_eq!(Rank::of(who), Rank::Root, "{who}");
        }
    }

    #[test]
    fn an_entry_is_changed_by_whoever_set_it_and_by_those_above() {
        for list in [ListName::UserExemption, ListName::AccountBlock] {
            for (set_by, able) in [
                ("root", vec!["root", "user 1000"]),
                ("reseller rex", vec!["root", "user 1000", "reseller rex", "reseller sam"]),
                ("owner ann", vec!["root", "user 1000", "reseller rex", "reseller sam", "owner ann"]),
            ] {
                let (_folder, mut store) = new_store();
                store.change(set_by, NOON, None, |c| c.add(list, &entry("a@b.test"))).unwrap();
                for who in ["root", "user 1000", "reseller rex", "reseller sam", "owner ann", "owner ben"] {
                    let expected = able.contains(&who);
                    assert_eq!(
                        can(&mut store, who, &|c| c.remove(list, "a@b.test")),
                        expected,
                        "{set_by} {who}"
                    );
                    let again = ListEntry { note: "mine".into(), ..entry("A@b.test") };
                    assert_eq!(can(&mut store, who, &|c| c.add(list, &again)), expected, "{set_by} {who}");
                }
            }
        }
    }

    #[test]
    fn what_somebody_of_a_higher_rank_says_again_is_his() {
        let (_folder, mut store) = new_store();
        let list = ListName::AccountBlock;
        for (who, whose) in [
            ("reseller rex", "reseller rex"),
            ("reseller sam", "reseller rex"),
            ("root", "root"),
            ("user 1000", "root"),
        ] {
            store.change(who, NOON, None, |c| c.add(list, &entry("a@b.test"))).unwrap();
            assert_eq!(store.entries(list).unwrap()[0].who, whose);
        }
        assert!(!can(&mut store, "reseller rex", &|c| c.remove(list, "a@b.test")));
    }

    #[test]
    fn what_is_about_the_whole_server_is_the_administrators() {
        let (_folder, mut store) = new_store();
        for who in ["reseller rex", "owner ann"] {
            assert!(!can(&mut store, who, &countries("*")));
            assert!(!can(&mut store, who, &|c| c.set("rate_limit_messages", "9")));
            for list in [ListName::IpExemption, ListName::AddressBlock] {
                assert!(!can(&mut store, who, &|c| c.add(list, &entry("192.0.2.7"))), "{list:?}");
            }
            assert!(!can(&mut store, who, &|c| c.add(ListName::Whitelist, &entry("a@b.test"))));
        }
    }

    #[test]
    fn the_administrators_countries_bind_the_mailboxes_below_them() {
        let exempt =
            |value: &'static str| move |c: &mut Change| c.add(ListName::UserExemption, &entry(value));
        let allow = |subject: &'static str| move |c: &mut Change| c.allow(&grant(subject)).map(|_| ());
        let (_folder, mut store) = new_store();
        let free = |store: &mut SettingsStore, who: &str, mailbox: bool, domain: bool, said: &str| {
            assert_eq!(can(store, who, &countries("a@b.test")), mailbox, "{said}");
            assert_eq!(can(store, who, &exempt("a@b.test")), mailbox, "{said}");
            assert_eq!(can(store, who, &allow("a@b.test")), mailbox, "{said}");
            assert_eq!(can(store, who, &exempt("b.test")), domain, "{said}");
            assert_eq!(can(store, who, &allow("@b.test")), domain, "{said}");
        };
        let who = "reseller rex";
        store.change("root", NOON, None, countries("*")).unwrap();
        free(&mut store, who, true, true, "the server's list");
        store.change("reseller rex", NOON, None, countries("b.test")).unwrap();
        free(&mut store, who, true, true, "a reseller's list");
        store.change("root", NOON, None, countries("c@b.test")).unwrap();
        free(&mut store, who, true, false, "another mailbox's list");
        store.change("root", NOON, None, countries("b.test")).unwrap();
        free(&mut store, who, false, false, "the domain's list");
        let mailbox: Subject = "d@b.test".parse().unwrap();
        assert!(
            can(&mut store, who, &|c| c.set_countries(Some(&mailbox), None)),
            "the domain's list holds then"
        );
        assert!(!can(&mut store, who, &countries("b.test")));
        free(&mut store, "root", true, true, "root");
        // A domain that ends alike is another one.
        assert!(can(&mut store, who, &countries("x@ab.test")) && can(&mut store, who, &exempt("ab.test")));
    }

    #[test]
    fn an_allowance_is_ended_by_whoever_gave_it_and_by_those_above() {
        let (_folder, mut store) = new_store();
        let id = store.change("owner ann", NOON, None, |c| c.allow(&grant("a@b.test"))).unwrap();
        let of_root = store.change("root", NOON, None, |c| c.allow(&grant("a@b.test"))).unwrap();
        for (who, theirs) in
            [("owner ann", true), ("owner ben", false), ("reseller rex", true), ("root", true)]
        {
            assert_eq!(can(&mut store, who, &|c| c.disallow(id)), theirs, "{who}");
            assert_eq!(can(&mut store, who, &|c| c.disallow(of_root)), who == "root", "{who}");
        }
    }
}
