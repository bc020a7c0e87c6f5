//! The order of the login rules, what each of them says, and what becomes of facts that are missing.
//!
//! A [`Scene`] is what an administrator set up and who comes from where. From it come the facts that `decide`
//! gets, and, told once more in plain words, what ought to be said ([`Scene::stopped_by`]).

use super::*;
use crate::address::Address;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const NOW: Seconds = 1_700_000_000;
const HOME: &str = "192.0.2.7";
const ABROAD: &str = "198.51.100.9";

fn c(code: &str) -> Country {
    code.parse().unwrap()
}

fn net(text: &str) -> Network {
    text.parse().unwrap()
}

fn codes(list: &[&str]) -> BTreeSet<Country> {
    list.iter().map(|code| c(code)).collect()
}

/// Who logs in from where, and what the administrator set up.
#[derive(Clone, Debug)]
struct Scene {
    account: Option<Account>,
    address: Option<Address>,
    country: Option<Country>,
    no_policy: bool,
    no_networks: bool,
    cloud_mail_client: bool,
    classes: Vec<NetworkClass>,
    source_mark: Option<Mark>,
    client_mark: Option<Mark>,
    attack_mark: Option<(Network, Entry)>,
    learned: Fact<Learned>,
    feeds: Fact<Vec<String>>,
    settings: Settings,
    own: Vec<Network>,
    blocked_accounts: BTreeSet<String>,
    blocked_networks: Vec<Network>,
    exempt_networks: Vec<Network>,
    exempt_subjects: BTreeSet<String>,
    countries: BTreeMap<String, BTreeSet<Country>>,
    allowances: Vec<(String, Allowance)>,
}

impl Scene {
    /// A login of alice's from Germany, where the server allows Germany and enforces it.
    fn new() -> Scene {
        Scene {
            account: Account::from_server("alice@example.test"),
            address: HOME.parse().ok(),
            country: Some(c("DE")),
            no_policy: false,
            no_networks: false,
            cloud_mail_client: false,
            classes: Vec::new(),
            source_mark: None,
            client_mark: None,
            attack_mark: None,
            learned: Fact::Known(Learned::default()),
            feeds: Fact::Known(Vec::new()),
            settings: Settings { country_rule: Mode::Enforce, ..Settings::default() },
            own: Vec::new(),
            blocked_accounts: BTreeSet::new(),
            blocked_networks: Vec::new(),
            exempt_networks: Vec::new(),
            exempt_subjects: BTreeSet::new(),
            countries: BTreeMap::from([("*".into(), codes(&["DE"]))]),
            allowances: Vec::new(),
        }
    }

    /// The same from a country that is not allowed.
    fn from_abroad() -> Scene {
        Scene::new().address(ABROAD).country("US")
    }

    fn account(self, name: &str) -> Scene {
        Scene { account: Account::from_server(name), ..self }
    }

    fn nobody_known(self) -> Scene {
        Scene { account: None, ..self }
    }

    fn address(self, text: &str) -> Scene {
        Scene { address: Some(text.parse().unwrap()), ..self }
    }

    fn no_address(self) -> Scene {
        Scene { address: None, ..self }
    }

    fn country(self, code: &str) -> Scene {
        Scene { country: Some(c(code)), ..self }
    }

    fn unknown_country(self) -> Scene {
        Scene { country: None, ..self }
    }

    fn without_policy(self) -> Scene {
        Scene { no_policy: true, ..self }
    }

    fn without_networks(self) -> Scene {
        Scene { no_networks: true, ..self }
    }

    fn mode(mut self, mode: Mode) -> Scene {
        self.settings.country_rule = mode;
        self
    }

    fn refusing_unknown_countries(mut self) -> Scene {
        self.settings.unknown_countries = UnknownCountry::Refuse;
        self
    }

    fn account_blocked(mut self) -> Scene {
        self.blocked_accounts.insert("alice@example.test".into());
        self
    }

    fn address_blocked(mut self) -> Scene {
        self.blocked_networks.extend(self.address.map(Network::single));
        self
    }

    fn own_address(mut self) -> Scene {
        self.own.extend(self.address.map(Network::single));
        self
    }

    fn ip_exempt(mut self) -> Scene {
        self.exempt_networks.extend(self.address.map(Network::single));
        self
    }

    /// From a mail service that logs in for its users.
    fn by_cloud_mail_client(mut self) -> Scene {
        self.cloud_mail_client = true;
        self
    }

    /// From a network of this class, where no class is let in.
    fn in_class(mut self, class: NetworkClass) -> Scene {
        self.settings.source_rule = Mode::Enforce;
        self.classes = vec![class];
        self.all_classes(true)
    }

    fn in_the_cloud(self) -> Scene {
        self.in_class(NetworkClass::Hosting)
    }

    fn all_classes(mut self, on: bool) -> Scene {
        for class in NetworkClass::ALL {
            *switch_of(&mut self.settings, class) = on;
        }
        self
    }

    fn source_mode(mut self, mode: Mode) -> Scene {
        self.settings.source_rule = mode;
        self
    }

    /// What the administrator says of the network himself.
    fn marked(self, not: bool) -> Scene {
        Scene { source_mark: Some(Mark { entry: "AS64500".into(), not }), ..self }
    }

    fn user_exempt(self) -> Scene {
        self.exempting("alice@example.test")
    }

    fn exempting(mut self, subject: &str) -> Scene {
        self.exempt_subjects.insert(subject.into());
        self
    }

    fn countries_of(mut self, scope: &str, list: &[&str]) -> Scene {
        self.countries.insert(scope.into(), codes(list));
        self
    }

    fn allowing(mut self, subject: &str, from: &str, until: Seconds) -> Scene {
        self.allowances.push((subject.into(), Allowance { from: from.into(), until }));
        self
    }

    /// What gathering would give of this scene.
    fn facts(&self) -> LoginFacts {
        let country = match self.no_networks {
            true => Fact::Missing(Missing::Networks),
            false => Fact::Known(self.country),
        };
        let policy = match self.no_policy {
            true => Fact::Missing(Missing::Policy),
            false => Fact::Known(self.policy()),
        };
        let source = match self.no_networks {
            true => Fact::Missing(Missing::Networks),
            false => Fact::Known(Source {
                asn: Some(64_500),
                name: Some("Example".into()),
                classes: self.classes.clone(),
            }),
        };
        let (learned, feeds) = (self.learned.clone(), self.feeds.clone());
        LoginFacts { policy, country, cloud_mail_client: self.cloud_mail_client, source, learned, feeds }
    }

    fn policy(&self) -> LoginPolicy {
        let around =
            |list: &[Network]| list.iter().copied().find(|n| self.address.is_some_and(|a| n.contains(a)));
        let keys = self.account.as_ref().map_or_else(Vec::new, |a| keys_of(a.name()));
        let elsewhere =
            |c: Country| self.countries.iter().any(|(scope, list)| scope != "*" && list.contains(&c));
        let concerns = |subject: &String| self.account.is_none() || keys.contains(subject);
        LoginPolicy {
            settings: self.settings.clone().into(),
            account_block: keys.iter().find(|k| self.blocked_accounts.contains(*k)).map(|_| Entry::default()),
            address_block: around(&self.blocked_networks).map(|n| (n, Entry::default())),
            own_address: around(&self.own).is_some(),
            address_exemption: around(&self.exempt_networks),
            account_exemption: keys.iter().find(|k| self.exempt_subjects.contains(*k)).cloned(),
            someone_exempt: !self.exempt_subjects.is_empty(),
            source_mark: self.source_mark.clone(),
            client_mark: self.client_mark.clone(),
            attack_mark: self.attack_mark.clone(),
            countries: Some(self.list_for(&keys)),
            allowed_somewhere: self.account.is_none() && self.country.is_some_and(elsewhere),
            allowances: self.allowances.iter().filter(|(s, _)| concerns(s)).map(|(_, a)| a.clone()).collect(),
        }
    }

    fn list_for(&self, keys: &[String]) -> (Level, Vec<Country>) {
        let own =
            keys.iter().zip([Level::Account, Level::Domain]).find(|(k, _)| self.countries.contains_key(*k));
        let (scope, level) = own.map_or(("*", Level::Server), |(k, level)| (k.as_str(), level));
        (level, self.countries.get(scope).into_iter().flatten().copied().collect())
    }

    fn decide(&self) -> Decision {
        decide(&self.login(), &self.facts(), NOW, &mut |_| {})
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let _ = decide(&self.login(), &self.facts(), NOW, &mut |step| steps.push(step));
        steps
    }

    fn login(&self) -> Login {
        use crate::request::{Door, Service};
        let (service, door) = (Service::Imap, Door::DovecotGate);
        Login { account: self.account.clone(), address: self.address, service, door }
    }

    /// The verdict and the key of its reason.
    fn said(&self) -> (Verdict, &'static str) {
        let decision = self.decide();
        (decision.verdict, decision.reason.key())
    }

    /// The keys of what a rule in monitor mode would have refused.
    fn watched(&self) -> Vec<&'static str> {
        self.decide().would_refuse.iter().map(Reason::key).collect()
    }

    #[track_caller]
    fn says(&self, verdict: Verdict, reason: &str) {
        assert_eq!(self.said(), (verdict, reason), "{self:#?}");
    }

    #[track_caller]
    fn is_allowed(&self) {
        assert_eq!(self.decide().verdict, Verdict::Allow, "{self:#?}");
    }
}

fn switch_of(settings: &mut Settings, class: NetworkClass) -> &mut bool {
    match class {
        NetworkClass::Tor => &mut settings.source_tor,
        NetworkClass::Vpn => &mut settings.source_vpn,
        NetworkClass::Relay => &mut settings.source_relay,
        NetworkClass::Hosting => &mut settings.source_cloud_networks,
    }
}

/// The account itself, then its domain.
fn keys_of(name: &str) -> Vec<String> {
    let domain = name.split_once('@').map(|(_, domain)| format!("@{domain}"));
    std::iter::once(name.to_string()).chain(domain).collect()
}

/// What is added to a scene so that one rule has something to say.
type Adds = fn(Scene) -> Scene;

/// The rules in their order: what makes each answer. The country rule answers because the login is from
/// abroad, so it has nothing to add. The source rule comes after it; a table of its own says what it yields to.
const RULES_IN_ORDER: [(&str, Adds); 6] = [
    ("block of the account", Scene::account_blocked),
    ("block of the address", Scene::address_blocked),
    ("own address", Scene::own_address),
    ("exempt address", Scene::ip_exempt),
    ("exempt account", Scene::user_exempt),
    ("country", |scene| scene),
];

const BLOCKED: (Verdict, &str) = (Verdict::Refuse, "account_blocked");
const ADDRESS_BLOCKED: (Verdict, &str) = (Verdict::Refuse, "address_blocked");
const LOCAL: (Verdict, &str) = (Verdict::Allow, "nothing_against");
const IP_EXEMPT: (Verdict, &str) = (Verdict::Allow, "ip_exempt");
const USER_EXEMPT: (Verdict, &str) = (Verdict::Allow, "user_exempt");
const COUNTRY: (Verdict, &str) = (Verdict::Refuse, "country_not_allowed");

/// Who wins where two rules have something to say: line = earlier rule, column = later rule.
const WINNERS: [&[(Verdict, &str)]; 6] = [
    // itself    block of address  own address       exempt address    exempt account    country
    &[BLOCKED, /**/ BLOCKED, /**/ BLOCKED, /**/ BLOCKED, /**/ BLOCKED, /**/ BLOCKED],
    &[ADDRESS_BLOCKED, ADDRESS_BLOCKED, ADDRESS_BLOCKED, ADDRESS_BLOCKED, ADDRESS_BLOCKED],
    // An own address only skips the rules by address: an exempt account is still named as the reason.
    &[LOCAL, LOCAL, USER_EXEMPT, LOCAL],
    &[IP_EXEMPT, IP_EXEMPT, IP_EXEMPT],
    &[USER_EXEMPT, USER_EXEMPT],
    &[COUNTRY],
];

/// The same where the door does not know the account: a block of the account cannot be seen, nobody is
/// simply let in, and one exempt mailbox anywhere leaves the country rule to a later door.
const UNKNOWN_WINNERS: [&[(Verdict, &str)]; 6] = {
    const LOCAL: (Verdict, &str) = (Verdict::Undecided, "nothing_against");
    const IP_EXEMPT: (Verdict, &str) = (Verdict::Undecided, "ip_exempt");
    const SOMEBODY: (Verdict, &str) = (Verdict::Undecided, "account_unknown");
    [
        &[COUNTRY, ADDRESS_BLOCKED, LOCAL, IP_EXEMPT, SOMEBODY, COUNTRY],
        &[ADDRESS_BLOCKED, ADDRESS_BLOCKED, ADDRESS_BLOCKED, ADDRESS_BLOCKED, ADDRESS_BLOCKED],
        &[LOCAL, LOCAL, SOMEBODY, LOCAL],
        &[IP_EXEMPT, IP_EXEMPT, IP_EXEMPT],
        &[SOMEBODY, SOMEBODY],
        &[COUNTRY],
    ]
};

fn each_pair(mut check: impl FnMut(usize, usize, Scene, &str)) {
    for (first, (first_name, add_first)) in RULES_IN_ORDER.iter().enumerate() {
        for (second, (second_name, add_second)) in RULES_IN_ORDER.iter().enumerate().skip(first) {
            let scene = add_second(add_first(Scene::from_abroad()));
            check(first, second - first, scene, &format!("{first_name} before {second_name}"));
        }
    }
}

#[test]
fn each_rule_goes_before_each_later_one() {
    each_pair(|line, column, scene, pair| {
        assert_eq!(scene.said(), WINNERS[line][column], "{pair}");
        assert_eq!(scene.watched(), Vec::<&str>::new(), "{pair}");
    });
}

#[test]
fn the_order_is_the_same_where_the_door_does_not_know_the_account() {
    each_pair(|line, column, scene, pair| {
        assert_eq!(scene.nobody_known().said(), UNKNOWN_WINNERS[line][column], "{pair}");
    });
}

#[test]
fn a_rule_that_is_off_is_not_asked_and_every_other_keeps_its_place() {
    each_pair(|line, column, scene, pair| {
        let expected = match WINNERS[line][column] {
            COUNTRY => LOCAL,
            other => other,
        };
        let off = scene.mode(Mode::Off);
        assert_eq!((off.said(), off.watched()), (expected, vec![]), "{pair}");
    });
}

#[test]
fn a_rule_in_monitor_mode_never_answers_and_tells_what_it_would_have_refused() {
    each_pair(|line, column, scene, pair| {
        let (expected, watched) = match WINNERS[line][column] {
            COUNTRY => (LOCAL, vec!["country_not_allowed"]),
            other => (other, vec![]),
        };
        let monitor = scene.mode(Mode::Monitor);
        assert_eq!((monitor.said(), monitor.watched()), (expected, watched), "{pair}");
    });
}

#[test]
fn monitor_and_off_hold_at_doors_that_do_not_know_the_account_too() {
    let scene = Scene::from_abroad().nobody_known();
    scene.clone().mode(Mode::Off).says(Verdict::Undecided, "nothing_against");
    let monitor = scene.mode(Mode::Monitor);
    monitor.says(Verdict::Undecided, "nothing_against");
    assert_eq!(monitor.watched(), ["country_not_allowed"]);
    let an_allowance = monitor.allowing("bob@other.test", "US", NOW + 60);
    an_allowance.says(Verdict::Undecided, "nothing_against");
    assert_eq!(an_allowance.watched(), Vec::<&str>::new());
}

#[test]
fn every_rule_is_explained_until_one_answers() {
    let told =
        |scene: Scene| scene.steps().iter().map(|s| (s.number, s.finding.is_some())).collect::<Vec<_>>();
    let all = [1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10].map(|number| (number, true));
    assert_eq!(told(Scene::new()), all);
    assert_eq!(told(Scene::from_abroad().ip_exempt()), [(1, true), (1, true), (2, true), (3, true)]);
    assert_eq!(told(Scene::new().account_blocked()), [(1, true)]);
    let local = told(Scene::new().own_address());
    let by_account = all.map(|(number, _)| (number, [1, 2, 4].contains(&number)));
    assert_eq!(local, by_account);
    let steps = Scene::new().mode(Mode::Off).source_mode(Mode::Off).steps();
    for off in steps.iter().filter(|s| [6, 7].contains(&s.number)) {
        assert_eq!((off.mode, &off.finding), (Mode::Off, &None));
    }
}

#[test]
fn a_missing_policy_silences_every_rule() {
    each_pair(|_, _, scene, pair| {
        let scene = scene.without_policy();
        assert_eq!(scene.said(), (Verdict::Allow, "policy_missing"), "{pair}");
        assert_eq!(scene.nobody_known().said(), (Verdict::Undecided, "policy_missing"), "{pair}");
    });
    Scene::new().without_policy().without_networks().says(Verdict::Allow, "policy_missing");
}

#[test]
fn missing_network_data_silence_the_country_rule_alone() {
    each_pair(|line, column, scene, pair| {
        let expected = match WINNERS[line][column] {
            COUNTRY => LOCAL,
            other => other,
        };
        let scene = scene.without_networks();
        assert_eq!((scene.said(), scene.watched()), (expected, vec![]), "{pair}");
        let monitor = scene.mode(Mode::Monitor);
        assert_eq!((monitor.said(), monitor.watched()), (expected, vec![]), "{pair}");
    });
    let strict = Scene::new().without_networks().refusing_unknown_countries().countries_of("*", &[]);
    strict.is_allowed();
    assert_eq!(strict.nobody_known().decide().verdict, Verdict::Undecided);
}

#[test]
fn a_blocked_account_does_not_get_in_from_anywhere() {
    for address in ["127.0.0.1", "::1", "10.0.0.1", HOME, "2001:db8::1"] {
        let scene = Scene::new().address(address).account_blocked().ip_exempt().user_exempt().own_address();
        scene.says(Verdict::Refuse, "account_blocked");
    }
    Scene::new().no_address().account_blocked().says(Verdict::Refuse, "account_blocked");
}

#[test]
fn a_block_of_alice_is_none_of_bob_and_none_of_her_namesake_elsewhere() {
    for other in ["bob@example.test", "alice@other.test", "alice", "xalice@example.test"] {
        Scene::new().account_blocked().account(other).is_allowed();
    }
}

#[test]
fn loopback_can_never_be_blocked() {
    for loopback in ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1"] {
        let mut scene = Scene::new().address(loopback).address_blocked();
        scene.blocked_networks.push(net("0.0.0.0/0"));
        scene.blocked_networks.push(net("::/0"));
        scene.is_allowed();
        assert_eq!(scene.nobody_known().decide().verdict, Verdict::Undecided);
    }
}

#[test]
fn the_servers_own_tools_name_no_address_and_are_asked_about_the_account_alone() {
    let mut scene = Scene::new().no_address().unknown_country().refusing_unknown_countries();
    scene.blocked_networks.push(net("0.0.0.0/0"));
    scene.countries.clear();
    scene.is_allowed();
    scene.account_blocked().says(Verdict::Refuse, "account_blocked");
}

#[test]
fn private_and_carrier_addresses_lie_in_no_country() {
    for address in
        ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.1.1", "fd00::1", "fe80::1"]
    {
        let scene = Scene::new().address(address).unknown_country().refusing_unknown_countries();
        let scene = scene.countries_of("*", &[]);
        scene.says(Verdict::Allow, "nothing_against");
        scene.clone().nobody_known().says(Verdict::Undecided, "nothing_against");
        scene.address_blocked().says(Verdict::Refuse, "address_blocked");
    }
}

#[test]
fn an_own_address_may_lie_anywhere_and_its_neighbour_may_not() {
    Scene::from_abroad().own_address().is_allowed();
    let neighbour = Scene::from_abroad().own_address().address("198.51.100.10");
    neighbour.says(Verdict::Refuse, "country_not_allowed");
}

#[test]
fn unknown_countries_have_a_switch_of_their_own() {
    let scene = Scene::from_abroad().unknown_country();
    scene.says(Verdict::Allow, "nothing_against");
    let strict = scene.refusing_unknown_countries();
    strict.says(Verdict::Refuse, "unknown_country");
    strict.clone().nobody_known().says(Verdict::Refuse, "unknown_country");
    assert_eq!(strict.clone().mode(Mode::Monitor).watched(), ["unknown_country"]);
    // An allowance of a network lifts it, one of a country cannot.
    strict.clone().allowing("alice@example.test", "198.51.100.0/24", NOW + 1).is_allowed();
    strict.allowing("alice@example.test", "US", NOW + 1).says(Verdict::Refuse, "unknown_country");
}

#[test]
fn the_accounts_list_goes_before_its_domains_and_that_before_the_servers() {
    let abroad = Scene::from_abroad();
    let level = |scene: &Scene| match scene.decide().reason {
        Reason::CountryNotAllowed(_, level) => Some(level),
        _ => None,
    };
    assert_eq!(level(&abroad), Some(Level::Server));
    let by_domain = abroad.clone().countries_of("@example.test", &["FR"]);
    assert_eq!(level(&by_domain), Some(Level::Domain));
    let by_account = by_domain.clone().countries_of("alice@example.test", &["FR"]);
    assert_eq!(level(&by_account), Some(Level::Account));

    abroad.clone().countries_of("@example.test", &["US"]).is_allowed();
    by_domain.clone().countries_of("alice@example.test", &["US"]).is_allowed();
    // A narrower level replaces the wider one, it does not add to it.
    let home = Scene::new().countries_of("@example.test", &["US"]);
    assert_eq!(level(&home), Some(Level::Domain));
    home.clone().countries_of("alice@example.test", &["DE"]).is_allowed();
    home.account("alice@other.test").is_allowed();
}

#[test]
fn an_empty_list_allows_no_country_and_an_unset_one_passes_on() {
    let empty_account = Scene::new().countries_of("alice@example.test", &[]);
    empty_account.says(Verdict::Refuse, "country_not_allowed");
    let empty_domain = Scene::new().countries_of("@example.test", &[]);
    empty_domain.says(Verdict::Refuse, "country_not_allowed");
    empty_domain.countries_of("alice@example.test", &["DE"]).is_allowed();
    Scene::new().countries_of("*", &[]).says(Verdict::Refuse, "country_not_allowed");
    Scene::new().countries_of("bob@example.test", &[]).is_allowed();
}

#[test]
fn a_local_user_has_its_own_list_or_the_servers() {
    let webuser = Scene::from_abroad().account("webuser");
    webuser.says(Verdict::Refuse, "country_not_allowed");
    webuser.clone().countries_of("webuser", &["US"]).is_allowed();
    webuser.countries_of("@example.test", &["US"]).says(Verdict::Refuse, "country_not_allowed");
}

#[test]
fn an_allowance_holds_until_the_second_before_its_end() {
    let until = |until| Scene::from_abroad().allowing("alice@example.test", "US", until).said();
    assert_eq!(until(NOW + 1), (Verdict::Allow, "nothing_against"));
    assert_eq!(until(NOW), COUNTRY);
    assert_eq!(until(NOW - 1), COUNTRY);
    // An ended one beside a running one does no harm.
    let both = Scene::from_abroad().allowing("alice@example.test", "US", NOW - 9);
    both.allowing("@example.test", "US", NOW + 9).is_allowed();
}

#[test]
fn an_allowance_is_for_its_country_or_network_and_its_account_or_domain() {
    let with = |subject, from| Scene::from_abroad().allowing(subject, from, NOW + 60).said().0;
    for from in ["US", "us", "198.51.100.9", "198.51.100.0/24", "0.0.0.0/0", "::ffff:198.51.100.0/120"] {
        assert_eq!(with("alice@example.test", from), Verdict::Allow, "{from}");
        assert_eq!(with("@example.test", from), Verdict::Allow, "{from}");
        assert_eq!(with("bob@example.test", from), Verdict::Refuse, "{from}");
        assert_eq!(with("@other.test", from), Verdict::Refuse, "{from}");
    }
    for from in ["DE", "198.51.100.8", "198.51.101.0/24", "::/0", "nonsense", ""] {
        assert_eq!(with("alice@example.test", from), Verdict::Refuse, "{from}");
    }
}

#[test]
fn an_allowance_lifts_the_country_rule_and_nothing_else() {
    let scene = Scene::from_abroad().allowing("alice@example.test", "US", NOW + 60);
    scene.clone().address_blocked().says(Verdict::Refuse, "address_blocked");
    scene.clone().account_blocked().says(Verdict::Refuse, "account_blocked");
    scene.countries_of("alice@example.test", &[]).is_allowed();
}

#[test]
fn a_door_that_does_not_know_the_account_leaves_to_a_later_one_what_somebody_might_be_allowed() {
    let scene = Scene::from_abroad().nobody_known();
    scene.says(Verdict::Refuse, "country_not_allowed");
    for somebody in [
        scene.clone().exempting("bob@other.test"),
        scene.clone().exempting("@other.test"),
        scene.clone().allowing("bob@other.test", "US", NOW + 1),
        scene.clone().allowing("@other.test", "198.51.100.0/24", NOW + 1),
        scene.clone().countries_of("bob@other.test", &["US"]),
        scene.clone().countries_of("@other.test", &["US", "FR"]),
    ] {
        somebody.says(Verdict::Undecided, "account_unknown");
    }
    for nobody in [
        scene.clone().allowing("bob@other.test", "US", NOW),
        scene.clone().allowing("bob@other.test", "FR", NOW + 1),
        scene.clone().allowing("@other.test", "198.51.101.0/24", NOW + 1),
        scene.clone().countries_of("bob@other.test", &["FR"]),
        scene.clone().countries_of("bob@other.test", &[]),
    ] {
        nobody.says(Verdict::Refuse, "country_not_allowed");
    }
}

#[test]
fn a_door_that_does_not_know_the_account_never_says_allow() {
    for scene in [
        Scene::new(),
        Scene::new().ip_exempt(),
        Scene::new().user_exempt(),
        Scene::new().address("127.0.0.1"),
        Scene::new().no_address(),
        Scene::new().mode(Mode::Off),
        Scene::new().without_policy(),
        Scene::new().without_networks(),
        // A stricter list of somebody's is no reason to refuse everybody.
        Scene::new().countries_of("bob@other.test", &[]),
    ] {
        assert_eq!(scene.nobody_known().decide().verdict, Verdict::Undecided);
    }
}

#[test]
fn a_cloud_mail_client_skips_the_country_rule_and_nothing_before_it() {
    let abroad = || Scene::from_abroad().by_cloud_mail_client();
    assert_eq!(abroad().decide().verdict, Verdict::Allow);
    assert_eq!(abroad().nobody_known().decide().verdict, Verdict::Undecided);
    let mut switched_off = abroad();
    switched_off.settings.cloud_mail_clients = false;
    assert_eq!(switched_off.decide().verdict, Verdict::Refuse);
    let mut blocked = abroad();
    blocked.blocked_accounts.insert("alice@example.test".into());
    assert_eq!(blocked.decide().reason, Reason::AccountBlocked(None));
}

const CLASS_KEYS: [(NetworkClass, &str); 4] = [
    (NetworkClass::Hosting, "network_hosting"),
    (NetworkClass::Vpn, "network_vpn"),
    (NetworkClass::Tor, "network_tor"),
    (NetworkClass::Relay, "network_relay"),
];

#[test]
fn each_class_is_refused_where_its_own_switch_is_on_and_by_no_other() {
    for (class, key) in CLASS_KEYS {
        let mut alone = Scene::new().in_class(class).all_classes(false);
        *switch_of(&mut alone.settings, class) = true;
        alone.says(Verdict::Refuse, key);
        alone.clone().nobody_known().says(Verdict::Refuse, key);
        let mut others = Scene::new().in_class(class);
        *switch_of(&mut others.settings, class) = false;
        others.says(Verdict::Allow, "nothing_against");
        let found = others.steps().into_iter().find(|s| s.number == 7).unwrap().finding;
        assert!(matches!(found, Some(Finding::Pass(Reason::NetworkNotRestricted(c, _))) if c == class));
    }
    Scene::new().in_the_cloud().all_classes(false).marked(false).is_allowed();
}

#[test]
fn off_monitor_and_enforce_are_the_master_switch_of_all_classes() {
    for (class, key) in CLASS_KEYS {
        let scene = Scene::new().in_class(class);
        let said = |mode| {
            let scene = scene.clone().source_mode(mode);
            (scene.said(), scene.watched())
        };
        assert_eq!(said(Mode::Off), (LOCAL, vec![]));
        assert_eq!(said(Mode::Monitor), (LOCAL, vec![key]));
        assert_eq!(said(Mode::Enforce), ((Verdict::Refuse, key), vec![]));
        let nobody = scene.nobody_known().source_mode(Mode::Monitor);
        assert_eq!((nobody.said().0, nobody.watched()), (Verdict::Undecided, vec![key]));
    }
}

#[test]
fn at_first_cloud_networks_and_tor_are_watched_and_what_people_use_at_home_is_not() {
    let watched = |class| {
        let scene = Scene { settings: Settings::default(), classes: vec![class], ..Scene::new() };
        scene.is_allowed();
        scene.watched()
    };
    assert_eq!(watched(NetworkClass::Hosting), ["network_hosting"]);
    assert_eq!(watched(NetworkClass::Tor), ["network_tor"]);
    assert_eq!((watched(NetworkClass::Vpn), watched(NetworkClass::Relay)), (vec![], vec![]));
}

#[test]
fn a_network_of_several_classes_is_refused_by_any_that_is_on_and_named_by_the_most_telling() {
    let mut scene = Scene::new().in_the_cloud();
    scene.classes = vec![NetworkClass::Hosting, NetworkClass::Vpn];
    scene.says(Verdict::Refuse, "network_vpn");
    scene.settings.source_vpn = false;
    scene.says(Verdict::Refuse, "network_hosting");
}

#[test]
fn the_source_rule_comes_last_and_yields_to_every_exemption() {
    let cloud = || Scene::new().in_the_cloud();
    cloud().says(Verdict::Refuse, "network_hosting");
    Scene::from_abroad().in_the_cloud().says(Verdict::Refuse, "country_not_allowed");
    for (scene, said) in [
        (cloud().account_blocked(), BLOCKED),
        (cloud().address_blocked(), ADDRESS_BLOCKED),
        (cloud().own_address(), LOCAL),
        (cloud().address("127.0.0.1"), LOCAL),
        (cloud().address("10.1.2.3"), LOCAL),
        (cloud().no_address(), LOCAL),
        (cloud().ip_exempt(), IP_EXEMPT),
        (cloud().user_exempt(), USER_EXEMPT),
        (cloud().exempting("@example.test"), (Verdict::Allow, "user_exempt")),
        (cloud().by_cloud_mail_client(), LOCAL),
        (cloud().without_policy(), (Verdict::Allow, "policy_missing")),
        (cloud().without_networks(), LOCAL),
    ] {
        assert_eq!(scene.said(), said, "{scene:#?}");
        assert_eq!(scene.watched(), Vec::<&str>::new());
    }
    let mut switched_off = cloud().by_cloud_mail_client();
    switched_off.settings.cloud_mail_clients = false;
    switched_off.says(Verdict::Refuse, "network_hosting");
}

#[test]
fn a_temporary_allowance_lifts_the_country_rule_and_not_the_source_rule() {
    for from in ["US", "198.51.100.0/24"] {
        let scene = Scene::from_abroad().in_the_cloud().allowing("alice@example.test", from, NOW + 60);
        scene.says(Verdict::Refuse, "network_hosting");
        scene.source_mode(Mode::Off).is_allowed();
    }
}

#[test]
fn what_the_administrator_says_of_a_network_goes_before_what_the_data_say() {
    Scene::new().in_the_cloud().marked(true).is_allowed();
    Scene::new().in_class(NetworkClass::Tor).marked(true).is_allowed();
    let mut marked = Scene::new().in_the_cloud().marked(false);
    marked.classes.clear();
    marked.says(Verdict::Refuse, "network_hosting");
    // His own word needs no data; without it they are missed, and nobody is refused.
    marked.clone().without_networks().says(Verdict::Refuse, "network_hosting");
    marked.clone().without_networks().marked(true).is_allowed();
    marked.ip_exempt().is_allowed();

    let mut client = Scene::from_abroad().in_the_cloud();
    client.client_mark = Some(Mark { entry: "198.51.100.0/24".into(), not: false });
    client.is_allowed();
    let mut no_client = client.by_cloud_mail_client();
    no_client.client_mark = Some(Mark { entry: "198.51.100.0/24".into(), not: true });
    no_client.says(Verdict::Refuse, "country_not_allowed");
}

#[test]
fn a_refusal_by_source_names_system_owner_and_class_to_the_administrator_alone() {
    let reason = Scene::new().in_the_cloud().decide().reason;
    let network = NamedNetwork { asn: Some(64_500), name: Some("Example".into()), marked: None };
    assert_eq!(reason, Reason::NetworkRestricted(NetworkClass::Hosting, network));
    let told = reason.for_client();
    assert!(!told.contains("Example") && !told.contains("cloud"), "{told}");
}

#[test]
fn a_door_that_does_not_know_the_account_refuses_by_source_unless_somebody_is_exempt() {
    let cloud = || Scene::new().in_the_cloud().nobody_known();
    cloud().says(Verdict::Refuse, "network_hosting");
    cloud().exempting("bob@other.test").says(Verdict::Undecided, "account_unknown");
    cloud().ip_exempt().says(Verdict::Undecided, "ip_exempt");
    // Whom the country rule would let pass is refused by this one all the same: nobody gets in from there.
    let abroad = || Scene::from_abroad().in_the_cloud().nobody_known();
    for scene in [
        abroad().allowing("bob@other.test", "US", NOW + 60),
        abroad().countries_of("bob@other.test", &["US"]),
    ] {
        scene.says(Verdict::Refuse, "network_hosting");
        let monitor = scene.source_mode(Mode::Monitor);
        monitor.says(Verdict::Undecided, "account_unknown");
        assert_eq!(monitor.watched(), ["network_hosting"]);
    }
}

#[test]
fn an_answer_of_refusal_names_what_refused() {
    let decision = Scene::from_abroad().decide();
    assert_eq!(decision.reason, Reason::CountryNotAllowed(c("US"), Level::Server));
    let mut scene = Scene::new();
    scene.blocked_networks.push(net("192.0.2.0/24"));
    assert_eq!(scene.decide().reason, Reason::AddressBlocked(net("192.0.2.0/24"), None));
}

/// The rules once more, as one would tell them over a table. It shares no code with those above.
impl Scene {
    /// What stops this account, if these rules are asked and it is stopped.
    fn stopped_by(&self, name: &str, country_rule: bool, source_rule: bool) -> Option<&'static str> {
        let names = keys_of(name);
        let lies_in = |list: &[Network]| self.address.is_some_and(|a| list.iter().any(|n| n.contains(a)));
        let at_home = self.address.is_none_or(|a| a.class() == AddressClass::Loopback);
        let nearby = self.address.is_some_and(|a| a.class() == AddressClass::Private);

        if self.no_policy {
            return None;
        }
        if self.blocked_accounts.contains(name) {
            return Some("account_blocked");
        }
        if !at_home && lies_in(&self.blocked_networks) {
            return Some("address_blocked");
        }
        let is_exempt =
            lies_in(&self.exempt_networks) || names.iter().any(|n| self.exempt_subjects.contains(n));
        if at_home || lies_in(&self.own) || is_exempt || nearby {
            return None;
        }
        let client = self.client_mark.as_ref().map_or(self.cloud_mail_client, |mark| !mark.not);
        if client && self.settings.cloud_mail_clients {
            return None;
        }
        let by_country = country_rule.then(|| self.stopped_by_country(&names)).flatten();
        by_country.or_else(|| source_rule.then(|| self.stopped_by_source()).flatten())
    }

    fn stopped_by_country(&self, names: &[String]) -> Option<&'static str> {
        if self.no_networks || self.has_allowance(names) {
            return None;
        }
        let list = names.iter().find_map(|n| self.countries.get(n)).or_else(|| self.countries.get("*"));
        match self.country {
            None => (self.settings.unknown_countries == UnknownCountry::Refuse).then_some("unknown_country"),
            Some(here) if list.is_some_and(|list| list.contains(&here)) => None,
            Some(_) => Some("country_not_allowed"),
        }
    }

    fn stopped_by_source(&self) -> Option<&'static str> {
        let own_word = self.source_mark.as_ref().map(|mark| mark.not);
        let is = |class| {
            let by_data = !self.no_networks && self.classes.contains(&class);
            own_word != Some(true) && (by_data || (class == NetworkClass::Hosting && own_word.is_some()))
        };
        let s = &self.settings;
        match () {
            () if is(NetworkClass::Tor) && s.source_tor => Some("network_tor"),
            () if is(NetworkClass::Vpn) && s.source_vpn => Some("network_vpn"),
            () if is(NetworkClass::Relay) && s.source_relay => Some("network_relay"),
            () if is(NetworkClass::Hosting) && s.source_cloud_networks => Some("network_hosting"),
            () => None,
        }
    }

    fn has_allowance(&self, names: &[String]) -> bool {
        self.allowances.iter().any(|(subject, allowance)| {
            let from_here = match self.country {
                Some(here) if allowance.from == here.to_string() => true,
                _ => {
                    allowance.from.contains(['.', ':'])
                        && net(&allowance.from).contains(self.address.unwrap())
                }
            };
            names.contains(subject) && from_here && NOW < allowance.until
        })
    }

    /// Every account that could be behind a login whose account is unknown: whoever is on a list, somebody
    /// of each domain, and somebody of whom no list speaks. Blocks are left out: a door that does not know
    /// the account asks whom the address alone could not keep out.
    fn whoever_it_may_be(&self) -> BTreeSet<String> {
        let listed = self.exempt_subjects.iter().chain(self.countries.keys());
        let subjects = listed.chain(self.allowances.iter().map(|(s, _)| s)).filter(|s| *s != "*");
        let somebody = |s: &String| if s.starts_with('@') { format!("somebody{s}") } else { s.clone() };
        subjects.map(somebody).chain(["nobody@nowhere.test".into()]).collect()
    }

    /// What stops everybody that it may be, if everybody is stopped; where it is not the same thing for all, the last.
    fn all_stopped_by(&self, country_rule: bool, source_rule: bool) -> Option<&'static str> {
        let everybody = match &self.account {
            Some(account) => BTreeSet::from([account.name().to_string()]),
            None => self.whoever_it_may_be(),
        };
        let reasons = everybody.iter().map(|name| self.stopped_by(name, country_rule, source_rule));
        let mut reasons = reasons.collect::<Option<Vec<_>>>()?;
        reasons.sort_by_key(|reason| reason.starts_with("network_"));
        reasons.pop()
    }

    /// What ought to be said, and what rules that only watch ought to have seen.
    fn expected(&self) -> (Verdict, Option<&'static str>, Vec<&'static str>) {
        let is = |mode: Mode, wanted: Mode| mode == wanted;
        let (country, source) = (self.settings.country_rule, self.settings.source_rule);
        // A block of an account cannot be seen by a door that does not know the account.
        let blocked_accounts =
            if self.account.is_some() { self.blocked_accounts.clone() } else { BTreeSet::new() };
        let scene = Scene { blocked_accounts, ..self.clone() };
        let earlier = scene.all_stopped_by(false, false);
        let by_country = scene.all_stopped_by(true, false);
        let stopped = scene.all_stopped_by(is(country, Mode::Enforce), is(source, Mode::Enforce));
        let mut watched = Vec::new();
        if earlier.is_none() {
            watched.extend(by_country.filter(|_| is(country, Mode::Monitor)));
            let asked = !(is(country, Mode::Enforce) && by_country.is_some()) && is(source, Mode::Monitor);
            watched.extend(scene.all_stopped_by(false, true).filter(|_| asked));
        }
        let open = if self.account.is_some() { Verdict::Allow } else { Verdict::Undecided };
        (if stopped.is_some() { Verdict::Refuse } else { open }, stopped, watched)
    }
}

const ACCOUNTS: [&str; 4] = ["alice@one.test", "bob@one.test", "carol@two.test", "webuser"];
const SUBJECTS: [&str; 6] =
    ["alice@one.test", "bob@one.test", "carol@two.test", "webuser", "@one.test", "@two.test"];
const ADDRESSES: [&str; 7] =
    [HOME, ABROAD, "::ffff:192.0.2.8", "2001:db8::7", "127.0.0.1", "10.1.2.3", "100.64.0.1"];
const NETWORKS: [&str; 7] =
    [HOME, "192.0.2.0/24", "198.51.100.8/31", "0.0.0.0/0", "2001:db8::/32", "127.0.0.0/8", "10.0.0.0/8"];
const SOURCES: [&str; 5] = ["DE", "US", "192.0.2.0/24", "198.51.100.9", "2001:db8::/64"];

fn few<T: Clone + std::fmt::Debug + 'static>(
    all: &'static [T],
    most: usize,
) -> impl Strategy<Value = Vec<T>> {
    // Lists are mostly short or empty, so that later rules get a say.
    proptest::collection::vec(proptest::sample::select(all), 0..=most)
        .prop_flat_map(|list| prop_oneof![2 => Just(Vec::new()), 1 => Just(list)])
}

fn networks() -> impl Strategy<Value = Vec<Network>> {
    few(&NETWORKS, 2).prop_map(|list| list.into_iter().map(net).collect())
}

fn names(all: &'static [&'static str]) -> impl Strategy<Value = BTreeSet<String>> {
    few(all, 2).prop_map(|list| list.into_iter().map(String::from).collect())
}

fn any_countries() -> impl Strategy<Value = BTreeMap<String, BTreeSet<Country>>> {
    let scope = prop_oneof![Just("*"), proptest::sample::select(&SUBJECTS[..])];
    let list = proptest::sample::subsequence(vec!["DE", "US", "FR"], 0..=3);
    let lists = proptest::collection::vec((scope, list), 0..4);
    lists.prop_map(|lists| lists.into_iter().map(|(scope, list)| (scope.into(), codes(&list))).collect())
}

fn any_allowances() -> impl Strategy<Value = Vec<(String, Allowance)>> {
    let subject = proptest::sample::select(&SUBJECTS[..]);
    let source = proptest::sample::select(&SOURCES[..]);
    let one = (subject, source, -1i64..=1).prop_map(|(subject, from, left)| {
        (subject.to_string(), Allowance { from: from.into(), until: NOW + left })
    });
    proptest::collection::vec(one, 0..3)
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let mode = proptest::sample::select(vec![Mode::Off, Mode::Monitor, Mode::Enforce, Mode::Enforce]);
    let unknown = proptest::sample::select(vec![UnknownCountry::Allow, UnknownCountry::Refuse]);
    let switches = proptest::collection::vec(proptest::bool::ANY, 5);
    (mode.clone(), mode, unknown, switches).prop_map(|(country_rule, source_rule, unknown_countries, on)| {
        Settings {
            country_rule,
            source_rule,
            unknown_countries,
            cloud_mail_clients: on[0],
            source_cloud_networks: on[1],
            source_vpn: on[2],
            source_tor: on[3],
            source_relay: on[4],
            ..Settings::default()
        }
    })
}

fn any_classes() -> impl Strategy<Value = Vec<NetworkClass>> {
    proptest::sample::subsequence(NetworkClass::ALL.to_vec(), 0..=2)
}

fn any_mark() -> impl Strategy<Value = Option<Mark>> {
    proptest::option::weighted(0.2, any::<bool>().prop_map(|not| Mark { entry: "AS64500".into(), not }))
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let who = (
        proptest::option::of(proptest::sample::select(&ACCOUNTS[..])),
        proptest::option::weighted(0.95, proptest::sample::select(&ADDRESSES[..])),
        proptest::option::weighted(0.8, proptest::sample::select(vec!["DE", "US", "FR"])),
        proptest::bool::weighted(0.05),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.2),
        (any_classes(), any_mark(), any_mark()),
    );
    let lists = (networks(), names(&ACCOUNTS), networks(), networks(), names(&SUBJECTS));
    (who, lists, any_countries(), any_allowances(), any_settings()).prop_map(
        |(who, lists, countries, allowances, settings)| {
            let (account, address, country, no_policy, no_networks, cloud, network) = who;
            let (classes, source_mark, client_mark) = network;
            let address: Option<Address> = address.map(|a| a.parse().unwrap());
            let public = address.filter(|a| a.class() == AddressClass::Public);
            let (own, blocked_accounts, blocked_networks, exempt_networks, exempt_subjects) = lists;
            Scene {
                account: account.and_then(Account::from_server),
                address,
                country: country.filter(|_| public.is_some()).map(c),
                no_policy,
                no_networks: no_networks && public.is_some(),
                cloud_mail_client: cloud && public.is_some() && !no_networks,
                classes: if public.is_some() && !no_networks { classes } else { Vec::new() },
                source_mark: source_mark.filter(|_| address.is_some()),
                client_mark: client_mark.filter(|_| address.is_some()),
                attack_mark: None,
                learned: Fact::Known(Learned::default()),
                feeds: Fact::Known(Vec::new()),
                settings,
                own,
                blocked_accounts,
                blocked_networks,
                exempt_networks,
                exempt_subjects,
                countries,
                allowances,
            }
        },
    )
}

/// What failed logins taught of an address that everything was seen of, where nobody is known.
fn everything_bad() -> Learned {
    Learned {
        attack: Some((net("192.0.2.0/24"), "30 failures".into(), NOW + 600)),
        burst_until: Some(NOW + 600),
        guarded_until: Some(NOW + 600),
        knows_networks: true,
        known_here: false,
        good_here: false,
    }
}

/// Each rule that asks what was learned, alone: its key, what it is set by, and what is learned.
type Taught = (&'static str, fn(&mut Settings) -> &mut Mode, fn(Learned) -> Learned);

const TAUGHT: [Taught; 3] = [
    ("mailbox_guarded", |s| &mut s.mailbox_guard, |l| Learned { attack: None, burst_until: None, ..l }),
    (
        "attack_network",
        |s| &mut s.attack_networks,
        |l| Learned { guarded_until: None, burst_until: None, ..l },
    ),
    ("burst", |s| &mut s.burst_rule, |l| Learned { guarded_until: None, attack: None, ..l }),
];

impl Scene {
    fn learned(self, learned: Learned) -> Scene {
        Scene { learned: Fact::Known(learned), ..self }
    }

    /// The rules by what was learned are all in this mode.
    fn learning(mut self, mode: Mode) -> Scene {
        TAUGHT.iter().for_each(|(_, rule, _)| *rule(&mut self.settings) = mode);
        self
    }
}

#[test]
fn each_rule_by_what_was_learned_refuses_alone_and_only_as_its_mode_says() {
    for (reason, _, alone) in TAUGHT {
        let scene = Scene::new().learned(alone(everything_bad()));
        scene.clone().learning(Mode::Enforce).says(Verdict::Refuse, reason);
        let watching = scene.clone().learning(Mode::Monitor);
        watching.is_allowed();
        assert_eq!(watching.watched(), [reason]);
        let off = scene.learning(Mode::Off);
        off.is_allowed();
        assert_eq!(off.watched(), Vec::<&str>::new());
    }
}

#[test]
fn guard_attack_and_burst_answer_in_this_order_and_after_every_other_rule() {
    let all = Scene::from_abroad().learned(everything_bad()).learning(Mode::Enforce);
    all.says(Verdict::Refuse, "country_not_allowed");
    let off = all.clone().mode(Mode::Off);
    off.says(Verdict::Refuse, "mailbox_guarded");
    assert_eq!(
        all.clone().mode(Mode::Monitor).learning(Mode::Monitor).watched(),
        ["country_not_allowed", "mailbox_guarded", "attack_network", "burst"]
    );
    for before in [Scene::ip_exempt, Scene::user_exempt, Scene::own_address] {
        before(off.clone()).is_allowed();
    }
    off.address("127.0.0.1").is_allowed();
}

#[test]
fn the_defaults_refuse_a_burst_and_watch_the_rest() {
    let scene = Scene::new().learned(everything_bad());
    scene.says(Verdict::Refuse, "burst");
    assert_eq!(scene.watched(), ["mailbox_guarded", "attack_network"]);
}

#[test]
fn an_owner_passes_from_where_his_mailbox_was_used_well() {
    for (_, _, alone) in TAUGHT {
        let known = Learned { known_here: true, good_here: true, ..alone(everything_bad()) };
        Scene::new().learned(known).learning(Mode::Enforce).is_allowed();
    }
    let somebody_else = Learned { good_here: true, ..everything_bad() };
    Scene::new().learned(somebody_else).learning(Mode::Enforce).says(Verdict::Refuse, "mailbox_guarded");
}

#[test]
fn a_guard_lets_a_mail_service_pass_and_a_mailbox_of_which_nothing_is_known() {
    let guarded = (TAUGHT[0].2)(everything_bad());
    let scene = || Scene::new().learned(guarded.clone()).learning(Mode::Enforce);
    scene().says(Verdict::Refuse, "mailbox_guarded");
    scene().by_cloud_mail_client().is_allowed();
    scene().learned(Learned { knows_networks: false, ..guarded.clone() }).is_allowed();
}

#[test]
fn a_door_without_an_account_refuses_only_where_nobody_could_be_known() {
    let scene = Scene::new().nobody_known().learning(Mode::Enforce);
    let here = |good_here| scene.clone().learned(Learned { good_here, ..everything_bad() });
    here(false).says(Verdict::Refuse, "attack_network");
    here(true).says(Verdict::Undecided, "account_unknown");
    let guarded = (TAUGHT[0].2)(everything_bad());
    scene.clone().learned(guarded).says(Verdict::Undecided, "nothing_against");
}

fn pin(not: bool) -> Option<(Network, Entry)> {
    Some((net("192.0.2.0/24"), Entry { not, ..Entry::default() }))
}

#[test]
fn a_pin_refuses_as_a_mark_does_and_lets_owners_pass() {
    let pinned = Scene { attack_mark: pin(false), ..Scene::new() }.learning(Mode::Enforce);
    pinned.says(Verdict::Refuse, "attack_network_pinned");
    pinned.clone().learned(Learned { known_here: true, good_here: true, ..Learned::default() }).is_allowed();
    let good = Learned { good_here: true, ..Learned::default() };
    pinned.clone().learned(good.clone()).says(Verdict::Refuse, "attack_network_pinned");
    pinned.clone().learned(good).nobody_known().says(Verdict::Undecided, "account_unknown");
    pinned.clone().nobody_known().says(Verdict::Refuse, "attack_network_pinned");
    for before in [Scene::ip_exempt, Scene::user_exempt, Scene::own_address] {
        before(pinned.clone()).is_allowed();
    }
    pinned.clone().address("127.0.0.1").is_allowed();
    let watching = pinned.clone().learning(Mode::Monitor);
    assert_eq!(watching.watched(), ["attack_network_pinned"]);
    pinned.clone().learning(Mode::Off).is_allowed();
    Scene { learned: Fact::Missing(Missing::State), ..pinned }.is_allowed();
}

#[test]
fn a_network_that_is_never_marked_passes_although_one_around_it_is() {
    let marked = (TAUGHT[1].2)(everything_bad());
    let never = Scene { attack_mark: pin(true), ..Scene::new() }.learning(Mode::Enforce);
    never.clone().learned(marked).is_allowed();
    never.learned(everything_bad()).says(Verdict::Refuse, "mailbox_guarded");
}

#[test]
fn without_the_state_the_rules_that_need_it_abstain() {
    let scene = Scene { learned: Fact::Missing(Missing::State), ..Scene::new() }.learning(Mode::Enforce);
    scene.is_allowed();
    let steps = scene.steps();
    let of_state =
        steps.iter().filter(|s| s.finding == Some(Finding::Pass(Reason::FactMissing(Missing::State))));
    assert_eq!(of_state.map(|s| s.number).collect::<Vec<_>>(), [8, 9, 10]);
    Scene { learned: Fact::Missing(Missing::State), ..Scene::from_abroad() }
        .says(Verdict::Refuse, "country_not_allowed");
}

#[test]
fn an_end_is_never_later_than_it_could_be_set_now() {
    let far = Learned { burst_until: Some(i64::MAX), guarded_until: None, attack: None, ..everything_bad() };
    let decision = Scene::new().learned(far).decide();
    assert_eq!(decision.reason, Reason::Burst(NOW + 3600));
}

/// On two feeds, where this is known of the network.
fn on_feeds(learned: Learned) -> Scene {
    let mut scene = Scene::new().learned(learned).learning(Mode::Enforce);
    scene.feeds = Fact::Known(vec!["one".into(), "two".into()]);
    scene
}

fn nothing_seen() -> Learned {
    Learned { attack: None, burst_until: None, guarded_until: None, ..everything_bad() }
}

#[test]
fn a_feed_refuses_strangers_names_itself_and_comes_after_what_was_seen_here() {
    let scene = on_feeds(nothing_seen());
    assert_eq!(scene.decide().reason, Reason::OnFeed("one, two".into()));
    scene.says(Verdict::Refuse, "attack_feed");
    scene.clone().learning(Mode::Monitor).is_allowed();
    assert_eq!(scene.clone().learning(Mode::Monitor).watched(), ["attack_feed"]);
    assert_eq!(scene.clone().learning(Mode::Off).watched(), Vec::<&str>::new());
    let seen = (TAUGHT[1].2)(everything_bad());
    on_feeds(seen).says(Verdict::Refuse, "attack_network");
    for before in [Scene::ip_exempt, Scene::user_exempt, Scene::own_address] {
        before(scene.clone()).is_allowed();
    }
    scene.clone().address("127.0.0.1").is_allowed();
    scene.by_cloud_mail_client().is_allowed();
}

#[test]
fn a_feed_lets_owners_pass_and_refuses_nobody_where_it_is_not_known_who_that_is() {
    let owner = Learned { known_here: true, good_here: true, ..nothing_seen() };
    on_feeds(owner.clone()).is_allowed();
    on_feeds(Learned { known_here: false, ..owner.clone() }).says(Verdict::Refuse, "attack_feed");
    on_feeds(owner).nobody_known().says(Verdict::Undecided, "account_unknown");
    on_feeds(nothing_seen()).nobody_known().says(Verdict::Refuse, "attack_feed");
    let blind = Scene { learned: Fact::Missing(Missing::State), ..on_feeds(nothing_seen()) };
    blind.is_allowed();
    let without = Scene { feeds: Fact::Missing(Missing::Feeds), ..on_feeds(nothing_seen()) };
    without.is_allowed();
    let missing = Some(Finding::Pass(Reason::FactMissing(Missing::Feeds)));
    assert_eq!(
        without.steps().iter().filter(|s| s.finding == missing).map(|s| s.number).collect::<Vec<_>>(),
        [9]
    );
}

fn any_learned() -> impl Strategy<Value = Learned> {
    (any::<[bool; 3]>(), any::<[bool; 3]>()).prop_map(|(found, known)| {
        let all = everything_bad();
        Learned {
            attack: all.attack.filter(|_| found[0]),
            burst_until: all.burst_until.filter(|_| found[1]),
            guarded_until: all.guarded_until.filter(|_| found[2]),
            knows_networks: known[0] || known[1],
            known_here: known[1],
            good_here: known[1] || known[2],
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_learned_refuses_at_no_door_an_account_that_may_be_known(
        scene in any_scene(), learned in any_learned(), pinned: Option<bool>, on_feed: bool,
        mode in proptest::sample::select(vec![Mode::Monitor, Mode::Enforce])
    ) {
        let attack_mark = pinned.and_then(pin);
        let mut scene = Scene { attack_mark, ..scene }.learned(learned).learning(mode);
        scene.feeds = Fact::Known(Vec::from_iter(on_feed.then(|| "one".to_owned())));
        if scene.clone().nobody_known().decide().verdict == Verdict::Refuse {
            for account in ACCOUNTS {
                prop_assert_eq!(scene.clone().account(account).decide().verdict, Verdict::Refuse);
            }
        }
    }

    #[test]
    fn any_login_is_decided_as_the_rules_are_told(scene in any_scene()) {
        let (verdict, stopped_by, watched) = scene.expected();
        let decision = scene.decide();
        prop_assert_eq!(decision.verdict, verdict);
        prop_assert_eq!(scene.watched(), watched);
        if let Some(reason) = stopped_by {
            prop_assert_eq!(decision.reason.key(), reason);
        }
    }

    #[test]
    fn what_an_address_only_door_refuses_no_later_door_would_have_allowed(scene in any_scene()) {
        if scene.clone().nobody_known().decide().verdict == Verdict::Refuse {
            for account in ACCOUNTS {
                prop_assert_eq!(scene.clone().account(account).decide().verdict, Verdict::Refuse);
            }
        }
    }
}
