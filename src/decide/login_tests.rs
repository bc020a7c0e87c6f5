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
    learned: Fact<Learned>,
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
            learned: Fact::Known(Learned::default()),
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
        let learned = self.learned.clone();
        LoginFacts { policy, country, cloud_mail_client: self.cloud_mail_client, learned }
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

/// The account itself, then its domain.
fn keys_of(name: &str) -> Vec<String> {
    let domain = name.split_once('@').map(|(_, domain)| format!("@{domain}"));
    std::iter::once(name.to_string()).chain(domain).collect()
}

/// What is added to a scene so that one rule has something to say.
type Adds = fn(Scene) -> Scene;

/// The rules in their order: what makes each answer. The country rule answers because the login is from
/// abroad, so it has nothing to add.
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
    let all = [1, 1, 2, 3, 4, 5, 6, 8, 9, 10].map(|number| (number, true));
    assert_eq!(told(Scene::new()), all);
    assert_eq!(told(Scene::from_abroad().ip_exempt()), [(1, true), (1, true), (2, true), (3, true)]);
    assert_eq!(told(Scene::new().account_blocked()), [(1, true)]);
    let local = told(Scene::new().own_address());
    let by_account = all.map(|(number, _)| (number, [1, 2, 4].contains(&number)));
    assert_eq!(local, by_account);
    let steps = Scene::new().mode(Mode::Off).steps();
    let off = steps.iter().find(|s| s.number == 6).unwrap();
    assert_eq!((off.mode, &off.finding), (Mode::Off, &None));
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
    /// What stops this account, if it is stopped.
    fn stopped_by(&self, name: &str, country_rule: bool) -> Option<&'static str> {
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
        if at_home || lies_in(&self.own) || is_exempt {
            return None;
        }
        if self.cloud_mail_client && self.settings.cloud_mail_clients {
            return None;
        }
        if !country_rule || nearby || self.no_networks || self.has_allowance(&names) {
            return None;
        }
        let list = names.iter().find_map(|n| self.countries.get(n)).or_else(|| self.countries.get("*"));
        match self.country {
            None => (self.settings.unknown_countries == UnknownCountry::Refuse).then_some("unknown_country"),
            Some(here) if list.is_some_and(|list| list.contains(&here)) => None,
            Some(_) => Some("country_not_allowed"),
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

    /// What ought to be said, and what a rule that only watches ought to have seen.
    fn expected(&self) -> (Verdict, Option<&'static str>, bool) {
        let enforced = self.settings.country_rule == Mode::Enforce;
        let watched = self.settings.country_rule == Mode::Monitor;
        if let Some(account) = &self.account {
            let stopped = self.stopped_by(account.name(), enforced);
            let would = watched && stopped.is_none() && self.stopped_by(account.name(), true).is_some();
            let verdict = if stopped.is_some() { Verdict::Refuse } else { Verdict::Allow };
            return (verdict, stopped, would);
        }
        let scene = Scene { blocked_accounts: BTreeSet::new(), ..self.clone() };
        let all = |rule| {
            let each = scene.whoever_it_may_be();
            let each = each.iter().map(|name| scene.stopped_by(name, rule)).collect::<Option<Vec<_>>>();
            each.and_then(|reasons| reasons.first().copied())
        };
        let stopped = all(enforced);
        let would = watched && stopped.is_none() && all(true).is_some();
        let verdict = if stopped.is_some() { Verdict::Refuse } else { Verdict::Undecided };
        (verdict, stopped, would)
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
    let switch = proptest::bool::ANY;
    (mode, unknown, switch).prop_map(|(country_rule, unknown_countries, cloud_mail_clients)| Settings {
        country_rule,
        unknown_countries,
        cloud_mail_clients,
        ..Settings::default()
    })
}

fn any_scene() -> impl Strategy<Value = Scene> {
    let who = (
        proptest::option::of(proptest::sample::select(&ACCOUNTS[..])),
        proptest::option::weighted(0.95, proptest::sample::select(&ADDRESSES[..])),
        proptest::option::weighted(0.8, proptest::sample::select(vec!["DE", "US", "FR"])),
        proptest::bool::weighted(0.05),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.2),
    );
    let lists = (networks(), names(&ACCOUNTS), networks(), networks(), names(&SUBJECTS));
    (who, lists, any_countries(), any_allowances(), any_settings()).prop_map(
        |(who, lists, countries, allowances, settings)| {
            let (account, address, country, no_policy, no_networks, cloud) = who;
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
                learned: Fact::Known(Learned::default()),
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
        scene in any_scene(), learned in any_learned(), mode in proptest::sample::select(vec![Mode::Monitor, Mode::Enforce])
    ) {
        let scene = scene.learned(learned).learning(mode);
        if scene.clone().nobody_known().decide().verdict == Verdict::Refuse {
            for account in ACCOUNTS {
                prop_assert_eq!(scene.clone().account(account).decide().verdict, Verdict::Refuse);
            }
        }
    }

    #[test]
    fn any_login_is_decided_as_the_rules_are_told(scene in any_scene()) {
        let (verdict, stopped_by, would) = scene.expected();
        let decision = scene.decide();
        prop_assert_eq!(decision.verdict, verdict);
        prop_assert_eq!(!decision.would_refuse.is_empty(), would);
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
