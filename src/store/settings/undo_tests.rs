//! Undoing gives back what was there, or nothing changes.

use super::*;
use crate::account::Subject;
use crate::store::settings::{SettingsStore, new_store};
use proptest::prelude::*;

const NOON: i64 = 1_700_000_000;

fn make(store: &mut SettingsStore, change: impl FnOnce(&mut Change) -> Result<()>) -> i64 {
    store.change("ann", NOON, None, change).unwrap();
    store.generation().unwrap()
}

fn undo(store: &mut SettingsStore, generation: Option<i64>) -> Result<i64> {
    store.change("ben", NOON + 60, None, |change| change.undo(generation)).map(|(undone, _)| undone)
}

fn entry(value: &str, note: &str) -> ListEntry {
    ListEntry { value: value.into(), note: note.into(), ..ListEntry::default() }
}

/// All that was chosen, and whose it is.
fn chosen(store: &SettingsStore) -> String {
    let lists: Vec<_> = ListName::ALL.iter().map(|list| store.entries(*list).unwrap()).collect();
    let (countries, allowances) = (store.countries().unwrap(), store.allowances().unwrap());
    let mut set_by = store.connection.prepare("SELECT scope || who || at FROM country_list").unwrap();
    let set_by = set_by.query_map([], |row| row.get(0)).unwrap();
    let set_by: Vec<String> = set_by.collect::<rusqlite::Result<_>>().unwrap();
    format!("{:?} {lists:?} {countries:?} {set_by:?} {allowances:?}", store.settings().unwrap())
}

#[test]
fn the_latest_change_is_undone_and_then_the_one_before() {
    let (_folder, mut store) = new_store();
    let nothing = chosen(&store);
    let first = make(&mut store, |c| c.set("rate_limit_messages", "7"));
    let one = chosen(&store);
    let second = make(&mut store, |c| {
        c.add(ListName::Whitelist, &entry("a@b.test", ""))?;
        c.set_countries(None, Some(&BTreeSet::new()))
    });
    assert_eq!(undo(&mut store, None).unwrap(), second);
    assert_eq!(chosen(&store), one);
    assert_eq!(undo(&mut store, None).unwrap(), first);
    assert_eq!(chosen(&store), nothing);
    assert!(matches!(undo(&mut store, None), Err(Error::NotFound(_))));
}

#[test]
fn an_undoing_can_be_undone_by_its_number() {
    let (_folder, mut store) = new_store();
    make(&mut store, |c| c.set("rate_limit_messages", "7"));
    undo(&mut store, None).unwrap();
    let undoing = store.generation().unwrap();
    undo(&mut store, Some(undoing)).unwrap();
    assert_eq!(store.settings().unwrap().rate_limit_messages, 7);
}

#[test]
fn the_latest_change_is_one_that_stands() {
    let (_folder, mut store) = new_store();
    let first = make(&mut store, |c| c.set("rate_limit_messages", "7"));
    let second = make(&mut store, |c| c.set("rate_limit_messages", "8"));
    for _ in 0..2 {
        assert_eq!(undo(&mut store, None).unwrap(), second);
        let undoing = store.generation().unwrap();
        assert_eq!(undo(&mut store, Some(undoing)).unwrap(), undoing);
        assert_eq!(store.settings().unwrap().rate_limit_messages, 8);
    }
    assert_eq!(undo(&mut store, None).unwrap(), second);
    assert_eq!(undo(&mut store, None).unwrap(), first);
    assert!(matches!(undo(&mut store, None), Err(Error::NotFound(_))));
}

/// A change of ten thousand rows is undone and applied row by row: none may look through all that is there.
#[test]
fn each_row_of_a_change_goes_along_a_key() {
    let (_folder, store) = new_store();
    for sql in [entries::COUNTRIES_OF, entries::ALLOWANCE, entries::ENTRY, WHO_SET] {
        let mut statement = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let parameters = vec![rusqlite::types::Value::Null; statement.parameter_count()];
        let steps = statement.query_map(rusqlite::params_from_iter(parameters), |row| row.get(3)).unwrap();
        let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().unwrap();
        let along = |step: &String| {
            step.starts_with("SEARCH") || step.contains("SUBQUERY") || step.contains("CONSTANT")
        };
        assert!(steps.iter().all(along), "{sql}: {steps:?}");
        // Not along the rows of a change, which may be ten thousand as well.
        assert!(!steps.iter().any(|step| step.contains("audit_generation")), "{sql}: {steps:?}");
    }
}

#[test]
fn a_list_of_countries_that_comes_back_is_whose_it_was() {
    let (_folder, mut store) = new_store();
    let set = |store: &mut SettingsStore, who: &str, codes: &str| {
        let subject: Subject = "a@b.test".parse().unwrap();
        let list = countries(codes);
        store.change(who, NOON, None, |c| c.set_countries(Some(&subject), list.as_ref())).map(|_| ())
    };
    set(&mut store, "reseller rex", "DE").unwrap();
    set(&mut store, "root", "FR").unwrap();
    assert_eq!(set(&mut store, "reseller rex", "DE,AT").unwrap_err().code(), "not_allowed");
    undo(&mut store, None).unwrap();
    set(&mut store, "reseller rex", "DE,AT").unwrap();
    // Once more, over what an undoing laid there.
    set(&mut store, "root", "FR").unwrap();
    undo(&mut store, None).unwrap();
    set(&mut store, "root", "FR").unwrap();
    undo(&mut store, None).unwrap();
    set(&mut store, "reseller rex", "DE").unwrap();
}

#[test]
fn what_somebody_changed_since_is_not_undone_with_it() {
    let (_folder, mut store) = new_store();
    let first = make(&mut store, |c| {
        c.set("held_ceiling", "3")?;
        c.set("rate_limit_messages", "7")
    });
    make(&mut store, |c| c.set("rate_limit_messages", "8"));
    let before = (chosen(&store), store.generation().unwrap());
    let error = undo(&mut store, Some(first)).unwrap_err();
    assert_eq!(error.code(), "not_allowed");
    assert!(
        error.to_string().contains("rate_limit_messages was changed again since (change 2, by ann)"),
        "{error}"
    );
    assert_eq!((chosen(&store), store.generation().unwrap()), before, "all of it or nothing");
}

#[test]
fn what_is_not_kept_in_the_settings_is_said_to_be_so() {
    let (_folder, mut store) = new_store();
    make(&mut store, |c| c.note("release", "a@b.test", "stopped by the limiter", ""));
    assert_eq!(undo(&mut store, None).unwrap_err().code(), "not_allowed");
    assert_eq!(undo(&mut store, Some(99)).unwrap_err().code(), "not_found");
}

#[test]
fn an_entry_comes_back_as_it_was_and_an_allowance_with_its_number() {
    let (_folder, mut store) = new_store();
    make(&mut store, |c| c.add(ListName::Whitelist, &entry("a@b.test", "first")));
    let grant =
        Grant { subject: "a@b.test".into(), source: "DE".into(), until: NOON + 99, ..Grant::default() };
    make(&mut store, |c| c.allow(&grant).map(|_| ()));
    let before = chosen(&store);
    store
        .change("ben", NOON + 9, None, |c| c.add(ListName::Whitelist, &entry("a@b.test", "second")))
        .unwrap();
    store.change("ben", NOON + 9, None, |c| c.disallow(1)).unwrap();
    undo(&mut store, None).unwrap();
    undo(&mut store, None).unwrap();
    assert_eq!(chosen(&store), before, "who and when, too");
    make(&mut store, |c| c.disallow(1));
    let next = store.change("ann", NOON, None, |c| c.allow(&grant)).unwrap();
    assert_eq!(next, 2, "a number is not given again");
}

#[derive(Clone, Debug)]
enum Deed {
    Set(&'static str, &'static str),
    Add(ListName, &'static str, bool),
    Remove(ListName, &'static str),
    Countries(Option<&'static str>, Option<&'static str>),
    Allow(&'static str),
    Disallow(i64),
}

impl Deed {
    /// Some are refused, as removing what is not there.
    fn of(&self, change: &mut Change) -> Result<()> {
        match *self {
            Deed::Set(key, value) => change.set(key, value),
            Deed::Add(list, value, sending) => change.add(list, &ListEntry { sending, ..entry(value, "") }),
            Deed::Remove(list, value) => change.remove(list, value),
            Deed::Countries(scope, list) => {
                let subject: Option<Subject> = scope.map(|s| s.parse().unwrap());
                change
                    .set_countries(subject.as_ref(), list.map(|l| countries(l).unwrap_or_default()).as_ref())
            }
            Deed::Allow(subject) => {
                let grant = Grant {
                    subject: subject.into(),
                    source: "DE".into(),
                    until: NOON + 99,
                    ..Grant::default()
                };
                change.allow(&grant).map(|_| ())
            }
            Deed::Disallow(id) => change.disallow(id),
        }
    }
}

fn deeds() -> impl Strategy<Value = Deed> {
    let network = prop::sample::select(vec!["192.0.2.0/24", "192.0.2.7", "2001:db8::/32"]);
    let network_list = prop::sample::select(vec![ListName::IpExemption, ListName::AddressBlock]);
    let subject = || prop::sample::select(vec!["a@b.test", "b.test", "user:web.user"]);
    let subject_list = || {
        let lists = vec![ListName::UserExemption, ListName::Whitelist, ListName::AccountBlock];
        prop::sample::select(lists)
    };
    let codes = prop::sample::select(vec![None, Some(""), Some("DE"), Some("AT,DE")]);
    prop_oneof![
        prop::sample::select(vec![
            ("rate_limit_messages", "7"),
            ("held_ceiling", "8"),
            ("rate_limit_messages", "150")
        ])
        .prop_map(|(key, value)| Deed::Set(key, value)),
        (network_list, network, any::<bool>())
            .prop_map(|(list, value, sending)| Deed::Add(list, value, sending)),
        (subject_list(), subject(), any::<bool>())
            .prop_map(|(list, value, sending)| Deed::Add(list, value, sending)),
        (subject_list(), subject()).prop_map(|(list, value)| Deed::Remove(list, value)),
        (prop::option::of(subject()), codes).prop_map(|(scope, list)| Deed::Countries(scope, list)),
        subject().prop_map(Deed::Allow),
        (1..4i64).prop_map(Deed::Disallow),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn undoing_whatever_was_done_gives_back_each_state_on_the_way(
        changes in prop::collection::vec(prop::collection::vec(deeds(), 1..4), 1..7)
    ) {
        let (_folder, mut store) = new_store();
        let mut states = Vec::new();
        for (deeds, now) in changes.iter().zip(NOON..) {
            let before = (store.generation().unwrap(), chosen(&store));
            let who = if now % 2 == 0 { "ann" } else { "bob" };
            let done = store.change(who, now, None, |c| deeds.iter().try_for_each(|deed| deed.of(c)));
            match store.generation().unwrap() > before.0 {
                true => states.push(before.1),
                false => prop_assert_eq!(chosen(&store), before.1, "{:?}", done),
            }
        }
        while let Some(before) = states.pop() {
            undo(&mut store, None).unwrap();
            prop_assert_eq!(chosen(&store), before);
        }
        prop_assert!(undo(&mut store, None).is_err());
    }
}
