//! Logins and their use: may this account go on from this address?

use super::{Decision, Fact, Finding, Step};
use crate::account::Account;
use crate::address::{AddressClass, Network};
use crate::clock::Seconds;
use crate::country::Country;
use crate::policy::{Allowance, Entry};
use crate::request::Login;
use crate::settings::{Mode, Settings, UnknownCountry};
use crate::verdict::{Level, Missing, NamedNetwork, NetworkClass, Reason, Verdict};
use std::sync::Arc;

/// What is known about one login.
#[derive(Clone, Debug)]
pub struct LoginFacts {
    /// What the published policy says that concerns this login.
    pub policy: Fact<LoginPolicy>,
    /// The country of the address: none where good data have none.
    pub country: Fact<Option<Country>>,
    /// Whether the address belongs to a mail service that logs in for its users; not where data are missing.
    pub cloud_mail_client: bool,
    /// What the data say of the network that the address lies in.
    pub source: Fact<Source>,
    /// What failed logins have taught of the address and the account.
    pub learned: Fact<Learned>,
    /// The feeds that name the address, those that are too old left out.
    pub feeds: Fact<Vec<String>>,
}

/// A network as the rules see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Number of the autonomous system that announces it.
    pub asn: Option<u32>,
    /// Name of that system's owner.
    pub name: Option<String>,
    /// What it is; mostly nothing.
    pub classes: Vec<NetworkClass>,
}

/// What the administrator says of a network himself: the entry, and whether it says that the network is none of
/// that kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The network or system as it stands in the list.
    pub entry: String,
    /// Whether it says "not".
    pub not: bool,
}

impl LoginFacts {
    /// Whether a mail service logs in for its users from there, as the data or the administrator say.
    pub fn is_by_mail_service(&self) -> bool {
        match &self.policy {
            Fact::Known(LoginPolicy { client_mark: Some(mark), .. }) => !mark.not,
            _ => self.cloud_mail_client,
        }
    }
}

/// What failed logins have taught of the address and the account of one login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The network around the address that was seen attacking, why, and until when it stays marked.
    pub attack: Option<(Network, String, Seconds)>,
    /// Until when the address is refused.
    pub burst_until: Option<Seconds>,
    /// Until when the account is guarded.
    pub guarded_until: Option<Seconds>,
    /// Whether any network is known that the account was used well from. Asked where something above is found.
    pub knows_networks: bool,
    /// Whether this network is one of them. Asked likewise.
    pub known_here: bool,
    /// Whether anybody was used well from this network. Asked likewise.
    pub good_here: bool,
}

/// The part of the policy that concerns one login.
#[derive(Clone, Debug, Default)]
pub struct LoginPolicy {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The administrator's block of the account.
    pub account_block: Option<Entry>,
    /// The administrator's block around the address.
    pub address_block: Option<(Network, Entry)>,
    /// Whether the address is an own address or a trusted proxy.
    pub own_address: bool,
    /// IP Authentication exemption around the address.
    pub address_exemption: Option<Network>,
    /// User Authentication exemption of the account or its domain.
    pub account_exemption: Option<String>,
    /// Whether anybody at all is exempt by account: matters where the account is unknown.
    pub someone_exempt: bool,
    /// What the administrator says himself of the network around the address: the narrowest network, else the system.
    pub source_mark: Option<Mark>,
    /// Whether he says himself that the address is, or is not, a cloud mail client's.
    pub client_mark: Option<Mark>,
    /// Whether he pinned the network around the address as attacking, or never wants it marked.
    pub attack_mark: Option<(Network, Entry)>,
    /// The allowed countries, and whose list that is.
    pub countries: Option<(Level, Vec<Country>)>,
    /// Whether some account's or domain's own list allows the country.
    pub allowed_somewhere: bool,
    /// Allowances of the account and its domain; of everybody where the account is unknown.
    pub allowances: Vec<Allowance>,
}

/// One login with what is known about it.
struct Case<'a> {
    login: &'a Login,
    facts: &'a LoginFacts,
    policy: &'a LoginPolicy,
    now: Seconds,
}

/// What a rule looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LooksAt {
    /// The account: never skipped.
    Account,
    /// The address itself: skipped for local addresses.
    Address,
    /// The country or kind of network of the address: skipped for local addresses and cloud mail clients.
    Place,
}

/// One rule.
struct Rule {
    number: u8,
    name: &'static str,
    /// What it looks at, which says who skips it.
    looks_at: LooksAt,
    mode: fn(&Settings) -> Mode,
    ask: fn(&Case) -> Finding,
}

const fn always(_: &Settings) -> Mode {
    Mode::Enforce
}

/// The rules in their order.
const RULES: &[Rule] = &[
    Rule {
        number: 1,
        name: "administrator's block of the account",
        looks_at: LooksAt::Account,
        mode: always,
        ask: account_block,
    },
    Rule {
        number: 1,
        name: "administrator's block of the address",
        looks_at: LooksAt::Address,
        mode: always,
        ask: address_block,
    },
    Rule { number: 2, name: "local address", looks_at: LooksAt::Address, mode: always, ask: local_address },
    Rule {
        number: 3,
        name: "IP Authentication exemption",
        looks_at: LooksAt::Address,
        mode: always,
        ask: address_exemption,
    },
    Rule {
        number: 4,
        name: "User Authentication exemption",
        looks_at: LooksAt::Account,
        mode: always,
        ask: account_exemption,
    },
    Rule {
        number: 5,
        name: "cloud mail client",
        looks_at: LooksAt::Place,
        mode: |s| if s.cloud_mail_clients { Mode::Enforce } else { Mode::Off },
        ask: cloud_mail_client,
    },
    Rule {
        number: 6,
        name: "Country Authentication Restriction",
        looks_at: LooksAt::Place,
        mode: |s| s.country_rule,
        ask: country,
    },
    Rule {
        number: 7,
        name: "Source Based Authentication Restriction",
        looks_at: LooksAt::Place,
        mode: |s| s.source_rule,
        ask: source,
    },
    Rule {
        number: 8,
        name: "mailbox guard",
        looks_at: LooksAt::Address,
        mode: |s| s.mailbox_guard,
        ask: |case| by_learned(case, mailbox_guard),
    },
    Rule {
        number: 9,
        name: "networks seen attacking, here or by others",
        looks_at: LooksAt::Address,
        mode: |s| s.attack_networks,
        ask: |case| by_learned(case, attack_network),
    },
    Rule {
        number: 10,
        name: "burst of failures",
        looks_at: LooksAt::Address,
        mode: |s| s.burst_rule,
        ask: |case| by_learned(case, burst),
    },
];

/// Whether a rule is asked that needs what failed logins have taught.
pub fn asks_what_was_learned(settings: &Settings) -> bool {
    [settings.mailbox_guard, settings.attack_networks, settings.burst_rule]
        .iter()
        .any(|mode| *mode != Mode::Off)
}

/// Decides one login or use. `explain` is called with each step.
pub fn decide(login: &Login, facts: &LoginFacts, now: Seconds, explain: &mut dyn FnMut(Step)) -> Decision {
    let policy = match &facts.policy {
        Fact::Known(policy) => policy,
        Fact::Missing(what) => return go_on(login.account.as_ref(), Reason::FactMissing(*what), Vec::new()),
    };
    let case = Case { login, facts, policy, now };
    let (mut local, mut cloud_mail_client, mut would_refuse, mut unknown) = (false, false, Vec::new(), None);
    for rule in RULES {
        let mode = (rule.mode)(&policy.settings);
        let skipped = match rule.looks_at {
            LooksAt::Account => false,
            LooksAt::Address => local,
            LooksAt::Place => local || cloud_mail_client,
        };
        let asked = mode != Mode::Off && !skipped;
        let finding = asked.then(|| (rule.ask)(&case));
        explain(Step { number: rule.number, rule: rule.name, mode, finding: finding.clone() });
        match finding {
            None | Some(Finding::Pass(_)) => {}
            Some(Finding::SkipAddressRules(_)) => local = true,
            Some(Finding::SkipPlaceRules(_)) => cloud_mail_client = true,
            Some(Finding::Refuse(reason)) if mode == Mode::Monitor => would_refuse.push(reason),
            Some(Finding::Refuse(reason)) => {
                return Decision { verdict: Verdict::Refuse, reason, would_refuse };
            }
            Some(Finding::Allow(reason)) => return go_on(login.account.as_ref(), reason, would_refuse),
            Some(Finding::Undecided(_)) if mode == Mode::Monitor => {}
            // Who is exempt passes every later rule too. Who only passes this one may be refused by another.
            Some(Finding::Undecided(reason)) if rule.looks_at == LooksAt::Place => {
                unknown.get_or_insert(reason);
            }
            Some(Finding::Undecided(reason)) => {
                return Decision { verdict: Verdict::Undecided, reason, would_refuse };
            }
        }
    }
    if let Some(reason) = unknown {
        return Decision { verdict: Verdict::Undecided, reason, would_refuse };
    }
    go_on(login.account.as_ref(), Reason::NothingAgainst, would_refuse)
}

/// Where the account is unknown, nobody can say "allow": a block of the account may still come.
fn go_on(account: Option<&Account>, reason: Reason, would_refuse: Vec<Reason>) -> Decision {
    let verdict = if account.is_some() { Verdict::Allow } else { Verdict::Undecided };
    Decision { verdict, reason, would_refuse }
}

fn account_block(case: &Case) -> Finding {
    match &case.policy.account_block {
        Some(block) => Finding::Refuse(Reason::AccountBlocked(block.until)),
        None if case.login.account.is_none() => {
            Finding::Pass(Reason::NotConcerned("this door does not know the account"))
        }
        None => Finding::Pass(Reason::NotConcerned("the account is not blocked")),
    }
}

fn address_block(case: &Case) -> Finding {
    let loopback = case.login.address.is_none_or(|a| a.class() == AddressClass::Loopback);
    match &case.policy.address_block {
        Some(_) if loopback => Finding::Pass(Reason::NotConcerned("loopback can never be blocked")),
        Some((network, block)) => Finding::Refuse(Reason::AddressBlocked(*network, block.until)),
        None => Finding::Pass(Reason::NotConcerned("the address is not blocked")),
    }
}

fn local_address(case: &Case) -> Finding {
    match case.login.address {
        None => Finding::SkipAddressRules(Reason::LocalAddress),
        Some(a) if a.class() == AddressClass::Loopback => Finding::SkipAddressRules(Reason::LocalAddress),
        Some(_) if case.policy.own_address => Finding::SkipAddressRules(Reason::LocalAddress),
        Some(_) => Finding::Pass(Reason::NotConcerned("the address is not the server's own")),
    }
}

fn address_exemption(case: &Case) -> Finding {
    match case.policy.address_exemption {
        Some(network) => Finding::Allow(Reason::AddressExempt(network)),
        None => Finding::Pass(Reason::NotConcerned("the address is not exempt")),
    }
}

fn account_exemption(case: &Case) -> Finding {
    match &case.policy.account_exemption {
        Some(entry) => Finding::Allow(Reason::AccountExempt(entry.clone())),
        None if case.login.account.is_none() && case.policy.someone_exempt => {
            Finding::Undecided(Reason::AccountUnknown("a User Authentication exemption"))
        }
        None => Finding::Pass(Reason::NotConcerned("neither the account nor its domain is exempt")),
    }
}

fn cloud_mail_client(case: &Case) -> Finding {
    match case.facts.is_by_mail_service() {
        true => Finding::SkipPlaceRules(Reason::CloudMailClient),
        false => Finding::Pass(Reason::NotConcerned("no mail service that logs in for its users")),
    }
}

/// The country rule: allowed countries of the account, else of its domain, else of the server; a temporary
/// allowance lifts it.
fn country(case: &Case) -> Finding {
    let Some(address) = case.login.address else {
        return Finding::Pass(Reason::NotConcerned("the server names no address"));
    };
    if address.class() == AddressClass::Private {
        return Finding::Pass(Reason::NotConcerned("a private address lies in no country"));
    }
    let country = match &case.facts.country {
        Fact::Known(country) => *country,
        Fact::Missing(what) => return Finding::Pass(Reason::FactMissing(*what)),
    };
    let Some((level, allowed)) = &case.policy.countries else {
        return Finding::Pass(Reason::FactMissing(Missing::Policy));
    };
    let against = match country {
        Some(c) if allowed.contains(&c) => return Finding::Pass(Reason::CountryAllowed(c, *level)),
        Some(c) => Reason::CountryNotAllowed(c, *level),
        None if case.policy.settings.unknown_countries == UnknownCountry::Allow => {
            return Finding::Pass(Reason::UnknownCountryAllowed);
        }
        None => Reason::UnknownCountryRefused,
    };
    let running = case.policy.allowances.iter().find(|a| a.covers(address, country, case.now));
    match (running, &case.login.account) {
        (Some(allowance), Some(_)) => Finding::Pass(Reason::Allowance(allowance.until)),
        (Some(_), None) => Finding::Undecided(Reason::AccountUnknown("a temporary allowance")),
        (None, None) if case.policy.allowed_somewhere => {
            Finding::Undecided(Reason::AccountUnknown("an account's or domain's own list of countries"))
        }
        (None, _) => Finding::Refuse(against),
    }
}

/// The source rule: networks in which no customer sits. What the administrator says of a network himself goes before
/// what the data say. Nothing of an account's lifts it but an exemption, which was asked before.
fn source(case: &Case) -> Finding {
    let pass = |why| Finding::Pass(Reason::NotConcerned(why));
    match case.login.address {
        None => return pass("the server names no address"),
        Some(address) if address.class() == AddressClass::Private => {
            return pass("a private address lies in no such network");
        }
        Some(_) => {}
    }
    let mark = case.policy.source_mark.as_ref();
    let mut network = NamedNetwork { asn: None, name: None, marked: None };
    let mut classes = Vec::new();
    match (&case.facts.source, mark) {
        (_, Some(mark)) if mark.not => return Finding::Pass(Reason::NetworkTakenOut(mark.entry.clone())),
        (Fact::Missing(what), None) => return Finding::Pass(Reason::FactMissing(*what)),
        (Fact::Missing(_), Some(_)) => {}
        (Fact::Known(source), _) => {
            (network.asn, network.name) = (source.asn, source.name.clone());
            classes.clone_from(&source.classes);
        }
    }
    if let Some(mark) = mark
        && !classes.contains(&NetworkClass::Hosting)
    {
        network.marked = Some(mark.entry.clone());
        classes.push(NetworkClass::Hosting);
    }
    let settings = &case.policy.settings;
    let is_restricted = |class: &NetworkClass| match class {
        NetworkClass::Tor => settings.source_tor,
        NetworkClass::Vpn => settings.source_vpn,
        NetworkClass::Relay => settings.source_relay,
        NetworkClass::Hosting => settings.source_cloud_networks,
    };
    let mut of_it = NetworkClass::ALL.into_iter().filter(|class| classes.contains(class));
    match (of_it.clone().find(is_restricted), of_it.next()) {
        (Some(class), _) => Finding::Refuse(Reason::NetworkRestricted(class, network)),
        (None, Some(class)) => Finding::Pass(Reason::NetworkNotRestricted(class, network)),
        (None, None) => pass("the network is of no such kind"),
    }
}

/// Asks a rule that needs what failed logins have taught.
fn by_learned(case: &Case, ask: fn(&Case, &Learned) -> Finding) -> Finding {
    match &case.facts.learned {
        Fact::Known(learned) => ask(case, learned),
        Fact::Missing(what) => Finding::Pass(Reason::FactMissing(*what)),
    }
}

/// While a mailbox is under attack, networks that it does not know are refused; never a lock for everybody.
fn mailbox_guard(case: &Case, learned: &Learned) -> Finding {
    // An end is never later than it could have been set now: the clock may have been set back.
    let until = learned.guarded_until.map(|until| until.min(case.now + case.policy.settings.guard_duration));
    match until {
        _ if case.login.account.is_none() => {
            Finding::Pass(Reason::NotConcerned("this door does not know the account"))
        }
        None => Finding::Pass(Reason::NotConcerned("the mailbox is not under attack")),
        Some(_) if case.facts.is_by_mail_service() => Finding::Pass(Reason::CloudMailClient),
        Some(_) if learned.known_here => Finding::Pass(Reason::KnownNetwork),
        Some(_) if !learned.knows_networks => {
            Finding::Pass(Reason::NotConcerned("no network of the mailbox is known yet"))
        }
        Some(until) => Finding::Refuse(Reason::MailboxGuarded(until)),
    }
}

/// What was seen here goes before what others tell. Where it is not known who logs in from there, nobody is refused
/// for what others tell: it may be an owner.
fn attack_network(case: &Case, learned: &Learned) -> Finding {
    match (&case.policy.attack_mark, &learned.attack) {
        (Some((network, entry)), _) if entry.not => Finding::Pass(Reason::NeverMarked(*network)),
        (Some((network, entry)), _) => {
            unless_known(case, learned, Reason::AttackNetworkPinned(*network, entry.until))
        }
        (None, None) => feed(case, learned),
        (None, Some((network, why, until))) => {
            let until = (*until).min(case.now + case.policy.settings.attack_days * 86_400);
            unless_known(case, learned, Reason::AttackNetwork(*network, why.clone(), until))
        }
    }
}

/// Others tell that attacks come from there. Their lists know nothing of mail services that log in for their users.
fn feed(case: &Case, learned: &Learned) -> Finding {
    match &case.facts.feeds {
        Fact::Missing(what) => Finding::Pass(Reason::FactMissing(*what)),
        Fact::Known(feeds) if feeds.is_empty() => {
            Finding::Pass(Reason::NotConcerned("the network was not seen attacking, and is on no feed"))
        }
        Fact::Known(_) if case.facts.is_by_mail_service() => Finding::Pass(Reason::CloudMailClient),
        Fact::Known(feeds) => unless_known(case, learned, Reason::OnFeed(feeds.join(", "))),
    }
}

fn burst(case: &Case, learned: &Learned) -> Finding {
    match learned.burst_until {
        None => Finding::Pass(Reason::NotConcerned("the address had no burst of failures")),
        Some(until) => {
            let until = until.min(case.now + case.policy.settings.burst_duration);
            unless_known(case, learned, Reason::Burst(until))
        }
    }
}

/// Refuses, but not the owner of a mailbox that was used well from there.
fn unless_known(case: &Case, learned: &Learned, against: Reason) -> Finding {
    match case.login.account {
        Some(_) if learned.known_here => Finding::Pass(Reason::KnownNetwork),
        None if learned.good_here => {
            Finding::Undecided(Reason::AccountUnknown("a mailbox that was used well from this network"))
        }
        _ => Finding::Refuse(against),
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
