//! Changes: all or nothing, never over somebody else's, and each with its row in the trail.

use super::*;
use crate::paths::Paths;
use crate::store::settings::{SettingsStore, new_store};

const NOON: Seconds = 1_700_000_000;

fn entry(value: &str) -> ListEntry {
    ListEntry { value: value.into(), note: "a note".into(), ..ListEntry::default() }
}

fn trail(store: &SettingsStore) -> Vec<(String, String, String, String)> {
    let rows = store.audit(100).unwrap().into_iter();
    rows.map(|a| (a.action, a.subject, a.before, a.after)).collect()
}

#[test]
fn a_change_raises_the_generation_by_one_however_much_it_changes() {
    let (_folder, mut store) = new_store();
    assert_eq!(store.generation().unwrap(), 0);
    let many = |c: &mut Change| {
        c.set("rate_limit_messages", "7")?;
        c.add(ListName::UserExemption, &entry("alice@example.test"))
    };
    store.change("root", NOON, None, many).unwrap();
    assert_eq!(store.generation().unwrap(), 1);
    assert!(
        store.audit(9).unwrap().iter().all(|a| (a.generation, a.at, a.who.as_str()) == (1, NOON, "root"))
    );
}

#[test]
fn a_change_that_changes_nothing_leaves_generation_and_trail() {
    let (_folder, mut store) = new_store();
    store.change("root", NOON, Some(0), |_| Ok(())).unwrap();
    assert_eq!((store.generation().unwrap(), trail(&store)), (0, vec![]));
}

#[test]
fn two_administrators_cannot_overwrite_each_other_unseen() {
    let (_folder, mut store) = new_store();
    store.change("ann", NOON, Some(0), |c| c.set("rate_limit_messages", "7")).unwrap();
    let late = store.change("ben", NOON, Some(0), |c| c.set("rate_limit_messages", "8")).unwrap_err();
    assert!(matches!(late, Error::Conflict { current: 1, yours: 0 }), "{late}");
    assert_eq!(store.settings().unwrap().rate_limit_messages, 7);
    store.change("ben", NOON, Some(1), |c| c.set("rate_limit_messages", "8")).unwrap();
    assert_eq!(store.settings().unwrap().rate_limit_messages, 8);
    // Whoever names no generation means what is there now.
    store.change("ann", NOON, None, |c| c.set("rate_limit_messages", "9")).unwrap();
    assert_eq!(trail(&store).len(), 3);
}

#[test]
fn a_change_that_fails_halfway_never_was() {
    let (_folder, mut store) = new_store();
    let failed = store.change("root", NOON, None, |c| {
        c.set("rate_limit_messages", "7")?;
        c.add(ListName::IpExemption, &entry("192.0.2.7"))?;
        c.set_countries(None, Some(&BTreeSet::from(["DE".parse().unwrap()])))?;
        c.add(ListName::AddressBlock, &entry("127.0.0.1"))
    });
    assert_eq!(failed.unwrap_err().code(), "bad_value");
    assert_eq!(store.settings().unwrap().rate_limit_messages, 150);
    assert!(store.entries(ListName::IpExemption).unwrap().is_empty());
    assert!(store.countries().unwrap().is_empty());
    assert_eq!((store.generation().unwrap(), trail(&store)), (0, vec![]));
}

#[test]
fn the_trail_tells_what_was_there_before_and_what_is_there_now() {
    let (_folder, mut store) = new_store();
    let mut change =
        |make: &dyn Fn(&mut Change) -> Result<()>| store.change("root", NOON, None, |c| make(c)).unwrap();
    change(&|c| c.set("rate_limit_messages", "7"));
    change(&|c| c.set("rate_limit_messages", " 8 "));
    change(&|c| c.set_countries(None, Some(&BTreeSet::from(["DE".parse().unwrap(), "AT".parse().unwrap()]))));
    change(&|c| c.set_countries(None, Some(&BTreeSet::new())));
    change(&|c| c.note("release", "alice@example.test", "stopped", "password changed"));
    let row = |action: &str, subject: &str, before: &str, after: &str| {
        (action.to_string(), subject.to_string(), before.to_string(), after.to_string())
    };
    assert_eq!(
        trail(&store),
        [
            row("release", "alice@example.test", "stopped", "password changed"),
            row("set_countries", "*", "AT,DE", "-"),
            row("set_countries", "*", "", "AT,DE"),
            row("set_setting", "rate_limit_messages", "7", "8"),
            row("set_setting", "rate_limit_messages", "150", "7"),
        ]
    );
}

#[test]
fn an_entry_is_kept_in_its_lists_own_form_and_removed_in_any_spelling() {
    let (_folder, mut store) = new_store();
    for (list, given, kept, removed) in [
        (ListName::IpExemption, "192.0.2.99/24", "192.0.2.0/24", "::ffff:192.0.2.1/120"),
        (ListName::IpExemption, " 2001:DB8::1 ", "2001:db8::1", "2001:db8:0::1/128"),
        (ListName::UserExemption, "Alice@Example.TEST", "alice@example.test", "alice@example.test"),
        (ListName::UserExemption, "example.test", "@example.test", "@EXAMPLE.test"),
        (ListName::Whitelist, "webuser", "webuser", "WebUser"),
        (ListName::AccountBlock, "Alice@example.test", "alice@example.test", "alice@EXAMPLE.test"),
        (ListName::AddressBlock, "198.51.100.9/32", "198.51.100.9", "198.51.100.9"),
    ] {
        store.change("ann", NOON, None, |c| c.add(list, &entry(given))).unwrap();
        let found = store.entries(list).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].value.as_str(), found[0].who.as_str(), found[0].at), (kept, "ann", NOON));
        store.change("ann", NOON, None, |c| c.remove(list, removed)).unwrap();
        assert!(store.entries(list).unwrap().is_empty());
        let again = store.change("ann", NOON, None, |c| c.remove(list, removed)).unwrap_err();
        assert_eq!(again.code(), "not_found");
    }
}

#[test]
fn an_entry_that_is_added_again_is_replaced_and_the_trail_has_both() {
    let (_folder, mut store) = new_store();
    for until in [None, Some(NOON + 60)] {
        let entry = ListEntry { until, ..entry("192.0.2.7") };
        store.change("root", NOON, None, |c| c.add(ListName::IpExemption, &entry)).unwrap();
    }
    assert_eq!(store.entries(ListName::IpExemption).unwrap().len(), 1);
    let (action, subject, before, after) = trail(&store).remove(0);
    assert_eq!((action.as_str(), subject.as_str()), ("add_ip_exemption", "192.0.2.7"));
    let read = |json: &str| serde_json::from_str::<ListEntry>(json).unwrap().until;
    assert_eq!((read(&before), read(&after)), (None, Some(NOON + 60)));
}

#[test]
fn what_does_not_belong_on_a_list_is_refused_with_its_value() {
    let (_folder, mut store) = new_store();
    for (list, bad) in [
        (ListName::IpExemption, "mail.example.test"),
        (ListName::IpExemption, ""),
        (ListName::UserExemption, "a b@example.test"),
        (ListName::Whitelist, "@"),
        (ListName::AccountBlock, "a@b@c"),
        (ListName::AddressBlock, "0.0.0.0/0"),
        (ListName::AddressBlock, "::1"),
        (ListName::AddressBlock, "::ffff:127.0.0.1"),
    ] {
        let error = store.change("root", NOON, None, |c| c.add(list, &entry(bad))).unwrap_err();
        assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
    }
    assert_eq!(trail(&store), vec![]);
}

#[test]
fn a_list_of_countries_that_is_unset_is_not_an_empty_one() {
    let (_folder, mut store) = new_store();
    let alice = "alice@example.test".parse().unwrap();
    let scopes =
        |store: &SettingsStore| store.countries().unwrap().into_iter().map(|(s, l)| (s, l.len())).collect();
    let before: Vec<(String, usize)> = scopes(&store);
    assert_eq!(before, []);
    store.change("root", NOON, None, |c| c.set_countries(Some(&alice), Some(&BTreeSet::new()))).unwrap();
    let empty: Vec<(String, usize)> = scopes(&store);
    assert_eq!(empty, [("alice@example.test".to_string(), 0)]);
    store.change("root", NOON, None, |c| c.set_countries(Some(&alice), None)).unwrap();
    let unset: Vec<(String, usize)> = scopes(&store);
    assert_eq!(unset, []);
}

#[test]
fn an_allowance_gets_a_number_that_ends_it() {
    let (_folder, mut store) = new_store();
    let grant = Grant {
        subject: "alice@example.test".into(),
        source: "US".into(),
        until: NOON + 60,
        who: "somebody else".into(),
        ..Grant::default()
    };
    let first = store.change("ann", NOON, None, |c| c.allow(&grant)).unwrap();
    let second = store.change("ann", NOON, None, |c| c.allow(&grant)).unwrap();
    let who: Vec<_> = store.allowances().unwrap().into_iter().map(|g| (g.id, g.who, g.at)).collect();
    assert_eq!(who, [(first, "ann".to_string(), NOON), (second, "ann".to_string(), NOON)]);
    store.change("ann", NOON, None, |c| c.disallow(first)).unwrap();
    assert_eq!(store.allowances().unwrap().len(), 1);
    let gone = store.change("ann", NOON, None, |c| c.disallow(first)).unwrap_err();
    assert_eq!(gone.code(), "not_found");
}

#[test]
fn settings_of_another_version_are_kept_and_leave_the_default() {
    let (_folder, mut store) = new_store();
    for (key, value) in
        [("from_the_future", "7"), ("rate_limit_window", "a week"), ("rate_limit_messages", "9")]
    {
        store.connection.execute("INSERT INTO setting VALUES (?1, ?2)", [key, value]).unwrap();
    }
    let expected = Settings { rate_limit_messages: 9, ..Settings::default() };
    assert_eq!(store.settings().unwrap(), expected);
    assert!(store.change("root", NOON, None, |c| c.set("from_the_future", "8")).is_err());
}

#[test]
fn settings_that_were_never_begun_are_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let Err(error) = SettingsStore::open(&Paths::below(folder.path())) else { panic!() };
    assert_eq!(error.code(), "not_found");
    assert!(error.to_string().contains("postern init"), "{error}");
}
