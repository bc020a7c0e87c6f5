//! Whatever is saved is what a hook reads back: lists are published and every look-up is compared with a
//! plain scan of what was saved.

use super::*;
use crate::account::{Account, Subject};
use crate::address::{Address, Network};
use crate::asn::Asn;
use crate::paths::Paths;
use crate::policy::{Policy, Questions};
use crate::settings::{Mode, Settings};
use crate::store::settings::entries::Grant;
use crate::store::settings::new_store;
use crate::verdict::Level;
use proptest::prelude::*;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const NOON: Seconds = 1_700_000_000;

/// Settings in a folder of their own.
struct Scene {
    _folder: tempfile::TempDir,
    paths: Paths,
    store: SettingsStore,
}

impl Scene {
    fn new() -> Scene {
        let (folder, store) = new_store();
        let paths = Paths::below(folder.path());
        Scene { _folder: folder, paths, store }
    }

    fn change(&mut self, make: impl FnOnce(&mut crate::store::settings::Change) -> Result<()>) -> &mut Scene {
        self.store.change("root", NOON, None, make).unwrap();
        self
    }

    fn publish(&self) -> Policy {
        self.store.publish(NOON, |_| None).unwrap();
        Policy::open(&self.paths.policy()).unwrap()
    }
}

fn account(name: &str) -> Account {
    name.parse().unwrap()
}

fn codes(list: &[&str]) -> BTreeSet<Country> {
    list.iter().map(|c| c.parse().unwrap()).collect()
}

fn entry(value: &str) -> ListEntry {
    ListEntry { value: value.into(), ..ListEntry::default() }
}

#[test]
fn a_fresh_server_publishes_the_defaults() {
    let scene = Scene::new();
    let policy = scene.publish();
    let mut questions = policy.ask().unwrap();
    let head = questions.head().unwrap();
    assert_eq!(head.settings, Settings::default().into());
    assert_eq!((head.generation, head.published, head.someone_is_exempt(NOON)), (0, NOON, false));
    assert_eq!(questions.countries(Some(&account("alice@example.test"))).unwrap(), (Level::Server, vec![]));
}

#[test]
fn settings_are_published_with_the_generation_of_their_last_change() {
    let mut scene = Scene::new();
    scene.change(|c| c.set("rate_limit_messages", "7"));
    scene.change(|c| c.set("country_rule", "monitor"));
    let head = scene.publish().ask().unwrap().head().unwrap();
    assert_eq!((head.settings.rate_limit_messages, head.settings.country_rule), (7, Mode::Monitor));
    assert_eq!(head.generation, 2);
}

#[test]
fn the_published_file_is_for_its_readers_alone_and_no_half_one_is_left() {
    let mut scene = Scene::new();
    let host = crate::store::settings::Host {
        postern_uid: 61000,
        postern_gid: 61000,
        mail_uids: vec![61001, 61002],
    };
    scene.store.set_host(&host).unwrap();
    assert_eq!(scene.store.host().unwrap(), host);
    scene.publish();
    scene.publish();
    let meta = scene.paths.policy().metadata().unwrap();
    assert_eq!(meta.permissions().mode() & 0o7777, 0o640);
    if nix::unistd::geteuid().is_root() {
        assert_eq!((meta.uid(), meta.gid()), (0, 61000));
    }
    let mut files: Vec<_> = std::fs::read_dir(scene.paths.lib())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["policy.db", "policy.lock", "settings.db"]);
    let settings = scene.paths.settings().metadata().unwrap();
    assert_eq!(settings.permissions().mode() & 0o7777, 0o600);
}

#[test]
fn a_reader_keeps_the_policy_that_it_opened_and_the_next_one_sees_the_new() {
    let mut scene = Scene::new();
    let before = scene.publish();
    let mut questions = before.ask().unwrap();
    assert_eq!(questions.head().unwrap().generation, 0);
    scene.change(|c| c.add(ListName::UserExemption, &entry("alice@example.test")));
    let after = scene.publish();
    let alice = account("alice@example.test");
    assert_eq!(questions.subject(kind::EXEMPT_SUBJECT, &alice, NOON).unwrap(), None);
    assert!(after.ask().unwrap().subject(kind::EXEMPT_SUBJECT, &alice, NOON).unwrap().is_some());
}

#[test]
fn a_policy_that_cannot_be_written_leaves_the_old_one() {
    let mut scene = Scene::new();
    scene.publish();
    scene.change(|c| c.set("rate_limit_messages", "7"));
    let target = scene.paths.policy();
    let temporary = target.with_extension("new");
    // A folder of that name that is not empty can be neither removed as a file nor made anew.
    std::fs::create_dir_all(temporary.join("in the way")).unwrap();
    assert!(scene.store.publish(NOON, |_| None).is_err());
    assert_eq!(Policy::open(&target).unwrap().ask().unwrap().head().unwrap().generation, 0);
}

#[test]
fn whoever_publishes_last_publishes_the_newest_settings() {
    let scene = Scene::new();
    let administrator = |first: i64| {
        let mut store = SettingsStore::open(&scene.paths).unwrap();
        for n in 0..25 {
            store
                .change("root", NOON, None, |c| c.set("rate_limit_messages", &(first + n).to_string()))
                .unwrap();
            store.publish(NOON, |_| None).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for first in [100, 200, 300] {
            scope.spawn(move || administrator(first));
        }
    });
    let head = Policy::open(&scene.paths.policy()).unwrap().ask().unwrap().head().unwrap();
    assert_eq!(head.generation, scene.store.generation().unwrap());
    assert_eq!(head.settings, scene.store.settings().unwrap().into());
}

#[test]
fn a_missing_a_foreign_and_an_older_policy_are_errors() {
    let scene = Scene::new();
    let path = scene.paths.policy();
    let head = |path: &Path| Policy::open(path).and_then(|p| p.ask()?.head()).unwrap_err().code();
    assert_eq!(head(&path), "file");
    std::fs::write(&path, b"").unwrap();
    assert_eq!(head(&path), "database");
    std::fs::write(&path, [7; 4096]).unwrap();
    assert_eq!(head(&path), "database");
    scene.publish();
    let set_head = |json: &str| {
        let db = Connection::open(&path).unwrap();
        db.execute("UPDATE fact SET value = ?1 WHERE kind = 'head'", [json]).unwrap();
    };
    set_head("{\"form\": 0}");
    assert_eq!(head(&path), "data");
    set_head("{");
    assert_eq!(head(&path), "data");
    Connection::open(&path).unwrap().execute("DELETE FROM fact", []).unwrap();
    assert_eq!(head(&path), "data");
}

#[test]
fn lists_of_countries_pass_on_where_unset_and_hold_where_empty() {
    let mut scene = Scene::new();
    let domain: Subject = "example.test".parse().unwrap();
    let alice: Subject = "alice@example.test".parse().unwrap();
    scene.change(|c| {
        c.set_countries(None, Some(&codes(&["DE", "AT"])))?;
        c.set_countries(Some(&domain), Some(&codes(&["FR"])))?;
        c.set_countries(Some(&alice), Some(&codes(&[])))
    });
    let read = |scene: &Scene, name: &str| {
        let (level, list) = scene.publish().ask().unwrap().countries(Some(&account(name))).unwrap();
        (level, list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    };
    assert_eq!(read(&scene, "alice@example.test"), (Level::Account, String::new()));
    assert_eq!(read(&scene, "bob@example.test"), (Level::Domain, "FR".into()));
    assert_eq!(read(&scene, "carol@other.test"), (Level::Server, "AT,DE".into()));
    assert_eq!(read(&scene, "webuser"), (Level::Server, "AT,DE".into()));
    scene.change(|c| c.set_countries(Some(&alice), None));
    assert_eq!(read(&scene, "alice@example.test"), (Level::Domain, "FR".into()));
    scene.change(|c| c.set_countries(Some(&domain), None));
    assert_eq!(read(&scene, "alice@example.test"), (Level::Server, "AT,DE".into()));
    assert!(!scene.publish().ask().unwrap().allowed_somewhere("FR".parse().unwrap()).unwrap());
}

#[test]
fn the_servers_own_country_is_added_to_the_servers_list_alone_and_can_be_left_out() {
    let mut scene = Scene::new();
    let domain: Subject = "example.test".parse().unwrap();
    scene.change(|c| c.set_countries(Some(&domain), Some(&codes(&["FR"]))));
    let read = |scene: &Scene, name: &str| {
        scene.store.publish(NOON, |_| "DE".parse().ok()).unwrap();
        let policy = Policy::open(&scene.paths.policy()).unwrap();
        let (_, list) = policy.ask().unwrap().countries(Some(&account(name))).unwrap();
        list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    };
    assert_eq!((read(&scene, "a@other.test"), read(&scene, "a@example.test")), ("DE".into(), "FR".into()));
    scene.change(|c| c.set("allow_server_country", "off"));
    assert_eq!(read(&scene, "a@other.test"), "");
    // It is no account's or domain's choice, so it leaves no address-only door undecided.
    let policy = Policy::open(&scene.paths.policy()).unwrap();
    assert!(!policy.ask().unwrap().allowed_somewhere("DE".parse().unwrap()).unwrap());
}

#[test]
fn an_ended_allowance_is_not_published_and_a_running_one_is_known_to_every_door() {
    let mut scene = Scene::new();
    let grant = |subject: &str, source: &str, until| Grant {
        subject: subject.into(),
        source: source.into(),
        until,
        ..Grant::default()
    };
    scene.change(|c| {
        c.allow(&grant("alice@example.test", "US", NOON + 1))?;
        c.allow(&grant("alice@example.test", "192.0.2.0/24", NOON + 2))?;
        c.allow(&grant("@example.test", "FR", NOON + 3))?;
        c.allow(&grant("alice@example.test", "CA", NOON))?;
        c.allow(&grant("bob@other.test", "IT", NOON + 4)).map(|_| ())
    });
    let policy = scene.publish();
    let mut questions = policy.ask().unwrap();
    let from = |list: Vec<Allowance>| list.into_iter().map(|a| a.from).collect::<Vec<_>>();
    let alice = questions.allowances(&account("alice@example.test")).unwrap();
    assert_eq!(from(alice), ["US", "192.0.2.0/24", "FR"]);
    assert_eq!(from(questions.allowances(&account("carol@example.test")).unwrap()), ["FR"]);
    assert_eq!(from(questions.allowances(&account("webuser")).unwrap()), Vec::<String>::new());
    let mut everybody = from(questions.head().unwrap().allowances.clone());
    everybody.sort();
    assert_eq!(everybody, ["192.0.2.0/24", "FR", "IT", "US"]);
}

#[test]
fn a_network_of_ipv6_never_covers_ipv4() {
    let mut scene = Scene::new();
    for wide in ["::/0", "::/64", "::ffff:0:0/80", "::fffe:0:0/95"] {
        scene.change(|c| c.add(ListName::IpExemption, &entry(wide)));
    }
    let policy = scene.publish();
    let mut questions = policy.ask().unwrap();
    let lengths = questions.head().unwrap().exempt_lengths.clone();
    let mut found = |address: &str| {
        let found =
            questions.network(kind::EXEMPT_NETWORK, &lengths, address.parse().unwrap(), NOON).unwrap();
        found.map(|(net, _)| net.to_string())
    };
    assert_eq!(found("192.0.2.7"), None);
    assert_eq!(found("::ffff:192.0.2.7"), None);
    assert_eq!(found("2001:db8::1"), Some("::/0".into()));
    assert_eq!(found("::fffe:1:1"), Some("::fffe:0:0/95".into()));
}

/// An entry as it was saved, for the plain scan.
#[derive(Clone, Debug)]
struct Saved<T> {
    key: T,
    until: Option<Seconds>,
    sending: bool,
}

impl<T: ToString> Saved<T> {
    fn entry(&self) -> ListEntry {
        ListEntry { until: self.until, sending: self.sending, ..entry(&self.key.to_string()) }
    }

    fn holds(&self, now: Seconds) -> bool {
        self.until.is_none_or(|until| until > now)
    }
}

fn first_and_last(network: &Network) -> (u128, u128) {
    let first = network.first_bits();
    (first, first | u128::MAX.checked_shr(u32::from(network.length_of_128())).unwrap_or(0))
}

/// Whether the address lies in the network, by counting.
fn lies_in(address: Address, network: &Network) -> bool {
    let (first, last) = first_and_last(network);
    let same_family = address.ip().is_ipv4() == network.net().addr().is_ipv4();
    same_family && (first..=last).contains(&address.bits())
}

fn address_of(bits: u128) -> Address {
    Address::new(std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(bits)))
}

/// Addresses just inside and just outside of both edges.
fn edges(network: &Network) -> Vec<Address> {
    let (first, last) = first_and_last(network);
    [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(address_of).into()
}

fn any_until() -> impl Strategy<Value = Option<Seconds>> {
    prop_oneof![3 => Just(None), 2 => (-1i64..3).prop_map(|left| Some(NOON + left))]
}

fn saved<T: std::fmt::Debug>(key: impl Strategy<Value = T>) -> impl Strategy<Value = Saved<T>> {
    (key, any_until(), any::<bool>()).prop_map(|(key, until, sending)| Saved { key, until, sending })
}

/// Networks that lie in, address_of and around one another, of both families.
fn any_network() -> impl Strategy<Value = Network> {
    let text = prop_oneof![
        (0u32..1024, 20u8..=32)
            .prop_map(|(low, len)| format!("{}/{len}", std::net::Ipv4Addr::from_bits(0xC000_0000 | low))),
        (any::<u32>(), 0u8..=32).prop_map(|(ip, len)| format!("{}/{len}", std::net::Ipv4Addr::from_bits(ip))),
        (0u128..1024, 116u8..=128).prop_map(|(low, len)| format!(
            "{}/{len}",
            std::net::Ipv6Addr::from_bits(0x2001_0db8 << 96 | low)
        )),
        (any::<u128>(), 0u8..=128)
            .prop_map(|(ip, len)| format!("{}/{len}", std::net::Ipv6Addr::from_bits(ip))),
        (0u8..=32, 0u32..1024).prop_map(|(len, low)| {
            format!("::ffff:{}/{}", std::net::Ipv4Addr::from_bits(0xC000_0000 | low), len + 96)
        }),
        Just("::/0".to_string()),
    ];
    text.prop_map(|text| text.parse().unwrap())
}

const NAMES: [&str; 5] = ["alice@one.test", "bob@one.test", "carol@two.test", "webuser", "dora@sub.one.test"];
const SUBJECTS: [&str; 7] = [
    "alice@one.test",
    "bob@one.test",
    "carol@two.test",
    "webuser",
    "@one.test",
    "@two.test",
    "@sub.one.test",
];

fn any_subject() -> impl Strategy<Value = String> {
    proptest::sample::select(&SUBJECTS[..]).prop_map(String::from)
}

#[derive(Clone, Debug)]
struct Lists {
    exempt: Vec<Saved<Network>>,
    blocked: Vec<Saved<Network>>,
    users: Vec<Saved<String>>,
    whitelist: Vec<Saved<String>>,
    accounts: Vec<Saved<String>>,
    countries: Vec<(Option<String>, BTreeSet<Country>)>,
}

fn any_lists() -> impl Strategy<Value = Lists> {
    let networks = || proptest::collection::vec(saved(any_network()), 0..8);
    let subjects = || proptest::collection::vec(saved(any_subject()), 0..5);
    let names = saved(proptest::sample::select(&NAMES[..]).prop_map(String::from));
    let list = proptest::sample::subsequence(vec!["DE", "US", "FR", "XK"], 0..=4).prop_map(|l| codes(&l));
    let countries = proptest::collection::vec((proptest::option::weighted(0.8, any_subject()), list), 0..6);
    (networks(), networks(), subjects(), subjects(), proptest::collection::vec(names, 0..4), countries)
        .prop_map(|(exempt, mut blocked, users, whitelist, accounts, countries)| {
            blocked.retain(|b| !b.key.touches_loopback());
            Lists { exempt, blocked, users, whitelist, accounts, countries }
        })
}

impl Lists {
    fn save(&self, scene: &mut Scene) {
        scene.change(|c| {
            for (list, saved) in
                [(ListName::IpExemption, &self.exempt), (ListName::AddressBlock, &self.blocked)]
            {
                saved.iter().try_for_each(|s| c.add(list, &s.entry()))?;
            }
            for (list, saved) in [
                (ListName::UserExemption, &self.users),
                (ListName::Whitelist, &self.whitelist),
                (ListName::AccountBlock, &self.accounts),
            ] {
                saved.iter().try_for_each(|s| c.add(list, &s.entry()))?;
            }
            for (scope, list) in &self.countries {
                let subject: Option<Subject> = scope.as_ref().map(|s| s.parse().unwrap());
                c.set_countries(subject.as_ref(), Some(list))?;
            }
            Ok(())
        });
    }
}

/// The narrowest entry around the address; of two for one network the later one.
fn scan_networks(list: &[Saved<Network>], address: Address, now: Seconds) -> Option<(Network, bool)> {
    let latest = |s: &Saved<Network>| list.iter().rev().find(|l| l.key == s.key).cloned().unwrap();
    let around = list.iter().map(latest).filter(|s| s.holds(now) && lies_in(address, &s.key));
    around.max_by_key(|s| s.key.length_of_128()).map(|s| (s.key, s.sending))
}

/// The account's own entry, else its domain's.
fn scan_subjects(list: &[Saved<String>], name: &str, now: Seconds) -> Option<String> {
    let domain = name.split_once('@').map_or(String::new(), |(_, domain)| format!("@{domain}"));
    let latest = |key: &str| list.iter().rev().find(|s| s.key == key).filter(|s| s.holds(now));
    latest(name).or_else(|| latest(&domain)).map(|s| s.key.clone())
}

fn scan_countries(lists: &Lists, name: &str) -> BTreeSet<Country> {
    let domain = name.split_once('@').map_or(String::new(), |(_, domain)| format!("@{domain}"));
    let latest = |scope: Option<&str>| lists.countries.iter().rev().find(|(s, _)| s.as_deref() == scope);
    let found = latest(Some(name)).or_else(|| latest(Some(&domain))).or_else(|| latest(None));
    found.map(|(_, list)| list.clone()).unwrap_or_default()
}

fn check_networks(questions: &mut Questions, lists: &Lists, probe: Address, now: Seconds) {
    let head = questions.head().unwrap();
    for (kind, lengths, list) in [
        (kind::EXEMPT_NETWORK, &head.exempt_lengths, &lists.exempt),
        (kind::BLOCK_NETWORK, &head.block_lengths, &lists.blocked),
    ] {
        let found = questions.network(kind, lengths, probe, now).unwrap();
        let expected = scan_networks(list, probe, now);
        assert_eq!(found.map(|(net, e)| (net, e.sending)), expected, "{} {} at {}", kind, probe, now - NOON);
    }
}

fn check_names(questions: &mut Questions, lists: &Lists, now: Seconds) {
    for name in NAMES {
        for (kind, list) in [
            (kind::EXEMPT_SUBJECT, &lists.users),
            (kind::WHITELIST, &lists.whitelist),
            (kind::BLOCK_ACCOUNT, &lists.accounts),
        ] {
            let found = questions.subject(kind, &account(name), now).unwrap().map(|(key, _)| key);
            assert_eq!(found, scan_subjects(list, name, now), "{} {} at {}", kind, name, now - NOON);
        }
        let (_, found) = questions.countries(Some(&account(name))).unwrap();
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), scan_countries(lists, name), "{}", name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_lookup_finds_what_a_plain_scan_of_the_saved_lists_finds(
        lists in any_lists(),
        strangers in proptest::collection::vec(any::<u128>(), 0..4),
    ) {
        let mut scene = Scene::new();
        lists.save(&mut scene);
        let policy = scene.publish();
        let mut questions = policy.ask().unwrap();
        let near = lists.exempt.iter().chain(&lists.blocked).flat_map(|s| edges(&s.key));
        let probes: Vec<Address> = near.chain(strangers.into_iter().map(address_of)).collect();
        for now in [NOON, NOON + 1, NOON + 2] {
            for probe in &probes {
                check_networks(&mut questions, &lists, *probe, now);
            }
            check_names(&mut questions, &lists, now);
        }
        let exempt = SUBJECTS.iter().any(|s| lists.users.iter().rev().find(|u| u.key == *s).is_some_and(|u| u.holds(NOON)));
        prop_assert_eq!(questions.head().unwrap().someone_is_exempt(NOON), exempt);
        for code in ["DE", "US", "FR", "XK", "IT"] {
            let country: Country = code.parse().unwrap();
            let somewhere = SUBJECTS.iter().any(|s| {
                let last = lists.countries.iter().rev().find(|(scope, _)| scope.as_deref() == Some(*s));
                last.is_some_and(|(_, list)| list.contains(&country))
            });
            prop_assert_eq!(questions.allowed_somewhere(country).unwrap(), somewhere);
        }
    }
}

#[test]
fn what_the_administrator_says_of_networks_and_systems_is_published_with_its_not() {
    let mut scene = Scene::new();
    scene.change(|c| {
        c.add(ListName::CloudNetwork, &entry("192.0.2.0/24"))?;
        c.add(ListName::NoCloudNetwork, &entry("192.0.2.128/25"))?;
        c.add(ListName::NoCloudNetwork, &entry("not:as64500"))?;
        c.add(ListName::CloudNetwork, &ListEntry { until: Some(NOON), ..entry("AS64501") })?;
        c.add(ListName::CloudMailClient, &entry("2001:db8::/32"))
    });
    let policy = scene.publish();
    let mut questions = policy.ask().unwrap();
    let head = questions.head().unwrap();
    assert!(head.source_systems);
    let mut network = |kind, lengths: &BTreeSet<u8>, address: &str| {
        let found = questions.network(kind, lengths, address.parse().unwrap(), NOON).unwrap();
        found.map(|(network, entry)| (network.to_string(), entry.not))
    };
    let mut source = |address| network(kind::SOURCE_NETWORK, &head.source_lengths, address);
    assert_eq!(source("192.0.2.7"), Some(("192.0.2.0/24".into(), false)));
    assert_eq!(source("192.0.2.200"), Some(("192.0.2.128/25".into(), true)));
    assert_eq!(source("2001:db8::1"), None);
    let client = network(kind::CLIENT_NETWORK, &head.client_lengths, "2001:db8::1");
    assert_eq!(client, Some(("2001:db8::/32".into(), false)));
    let system = |asn| policy.ask().unwrap().system(kind::SOURCE_SYSTEM, Asn(asn), NOON).unwrap();
    assert_eq!(system(64_500).map(|entry| entry.not), Some(true));
    assert_eq!(system(64_501), None, "it has ended");
}

#[test]
fn a_value_goes_over_to_the_list_that_says_the_opposite_and_undo_brings_it_back() {
    let mut scene = Scene::new();
    scene.change(|c| c.add(ListName::CloudNetwork, &ListEntry { note: "ours".into(), ..entry("AS64500") }));
    scene.change(|c| c.add(ListName::NoCloudNetwork, &entry("AS64500")));
    let values = |scene: &Scene, list| {
        scene.store.entries(list).unwrap().into_iter().map(|e| (e.value, e.note)).collect::<Vec<_>>()
    };
    assert_eq!(values(&scene, ListName::CloudNetwork), vec![]);
    assert_eq!(values(&scene, ListName::NoCloudNetwork), [("AS64500".into(), String::new())]);
    scene.change(|c| c.undo(None).map(|_| ()));
    assert_eq!(values(&scene, ListName::CloudNetwork), [("AS64500".into(), "ours".into())]);
    assert_eq!(values(&scene, ListName::NoCloudNetwork), vec![]);
}
