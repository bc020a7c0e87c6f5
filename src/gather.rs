//! Facts: what the published policy and the network data say of one request. Read-only, no lock.
//!
//! What cannot be had is missing, is marked as trouble, and keeps only the rules that need it from
//! answering.

use crate::account::{Account, Subject};
use crate::address::{Address, AddressClass, Network};
use crate::asn::Asn;
use crate::call::Call;
use crate::clock::Seconds;
use crate::country::Country;
use crate::decide::Fact;
use crate::decide::limits::{self, Applied, Weight};
use crate::decide::login::{Learned, LoginFacts, LoginPolicy, Mark, Source, asks_what_was_learned};
use crate::decide::send::SendPolicy;
use crate::error::Result;
use crate::feeds::Feeds;
use crate::limit::{Counts, Limit, OUTBOUND, Of, Override, WINDOW};
use crate::networks::{NetworkInfo, Tag};
use crate::policy::{Entry, Head, Questions, kind};
use crate::recipients::{self, Recipients};
use crate::request::{Login, Send};
use crate::settings::{Mode, Settings};
use crate::store::state::{self, sightings};
use crate::trouble::{self, Trouble};
use crate::verdict::{Missing, NetworkClass};
use std::sync::Arc;

/// What is known about a login.
pub fn login(call: &Call, login: &Login) -> LoginFacts {
    let network = network(call, login.address);
    let country = country_of(&network);
    let known = known_country(&country);
    let policy = ask(call, |questions| login_policy(questions, call, login, known, asn_of(&network)));
    let cloud_mail_client =
        matches!(&network, Fact::Known(Some(info)) if info.tags.contains(Tag::CloudMailClient));
    let feeds = feeds(call, login.address, &policy);
    let learned = learned(call, login, &policy, matches!(&feeds, Fact::Known(on) if !on.is_empty()));
    LoginFacts { policy, country, cloud_mail_client, source: source_of(network), learned, feeds }
}

/// The feeds that name the address, where a rule asks for it.
fn feeds(call: &Call, address: Option<Address>, policy: &Fact<LoginPolicy>) -> Fact<Vec<String>> {
    let asks = matches!(policy, Fact::Known(p) if p.settings.attack_networks != Mode::Off && !p.own_address);
    let Some(address) = address.filter(|a| asks && a.class() == AddressClass::Public) else {
        return Fact::Known(Vec::new());
    };
    let listed = |feeds: Option<&Feeds>| feeds.map_or_else(Vec::new, |f| f.look_up(address, call.now));
    match call.with_feeds(|feeds| Ok(listed(feeds))) {
        Ok(listed) => Fact::Known(listed.into_iter().map(|listed| listed.feed).collect()),
        Err(error) => {
            trouble::mark(call, Trouble::Feeds, &error.to_string());
            Fact::Missing(Missing::Feeds)
        }
    }
}

/// What failed logins have taught, where a rule asks for it.
fn learned(call: &Call, login: &Login, policy: &Fact<LoginPolicy>, on_feed: bool) -> Fact<Learned> {
    let (Fact::Known(policy), Some(address)) = (policy, login.address) else {
        return Fact::Known(Learned::default());
    };
    let is_local = address.class() == AddressClass::Loopback || policy.own_address;
    if is_local || !asks_what_was_learned(&policy.settings) {
        return Fact::Known(Learned::default());
    }
    let account = login.account.as_ref();
    let read = call.with_state(|state| {
        state.read(|db| {
            let settings = &policy.settings;
            let mut learned = sightings::gather(db, account, address, on_feed, settings, call.now)?;
            if policy.attack_mark.is_some() {
                sightings::add_known(db, account, address, call.now, &mut learned)?;
            }
            Ok(learned)
        })
    });
    read.map_or_else(
        |error| {
            state::mark_trouble(call, &error);
            Fact::Missing(Missing::State)
        },
        Fact::Known,
    )
}

/// Whether failures from this address teach anything: not those of the server itself, nor of an exempt address or a
/// network that the administrator never wants marked.
pub fn teaches(call: &Call, settings: &Settings, address: Address) -> bool {
    let is_exempt = || {
        ask(call, |questions| {
            let head = questions.head()?;
            let exempt = questions.network(kind::EXEMPT_NETWORK, &head.exempt_lengths, address, call.now)?;
            let mark = questions.network(kind::ATTACK_NETWORK, &head.attack_lengths, address, call.now)?;
            Ok(exempt.is_some() || mark.is_some_and(|(_, entry)| entry.not))
        })
    };
    asks_what_was_learned(settings)
        && address.class() != AddressClass::Loopback
        && !is_own(settings, address)
        && is_exempt() == Fact::Known(false)
}

/// Where the client of a login sits that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its country; none where that is not known.
    pub country: Option<Country>,
    /// The number (AS) of the mail service that logs in for its users from there, as the administrator or the data say.
    pub mail_service: Option<u32>,
}

/// Where this address is.
pub fn place(call: &Call, address: Address) -> Place {
    let network = network(call, Some(address));
    let by_data = matches!(&network, Fact::Known(Some(info)) if info.tags.contains(Tag::CloudMailClient));
    let marked = ask(call, |questions| {
        let lengths = questions.head()?.client_lengths.clone();
        questions.network(kind::CLIENT_NETWORK, &lengths, address, call.now)
    });
    let is_one = match marked {
        Fact::Known(Some((_, entry))) => !entry.not,
        _ => by_data,
    };
    let country = known_country(&country_of(&network));
    Place { country, mail_service: is_one.then(|| asn_of(&network).map_or(0, |asn| asn.0)) }
}

fn asn_of(network: &Fact<Option<NetworkInfo>>) -> Option<Asn> {
    match network {
        Fact::Known(info) => info.as_ref().and_then(|i| i.asn).map(Asn),
        Fact::Missing(_) => None,
    }
}

fn source_of(network: Fact<Option<NetworkInfo>>) -> Fact<Source> {
    let class = |tag: Tag| match tag {
        Tag::Hosting => Some(NetworkClass::Hosting),
        Tag::Vpn => Some(NetworkClass::Vpn),
        Tag::Tor => Some(NetworkClass::Tor),
        Tag::Relay => Some(NetworkClass::Relay),
        Tag::CloudMailClient | Tag::Feed => None,
    };
    match network {
        Fact::Known(info) => {
            let NetworkInfo { asn, name, tags, .. } = info.unwrap_or_default();
            Fact::Known(Source { asn, name, classes: tags.iter().filter_map(class).collect() })
        }
        Fact::Missing(what) => Fact::Missing(what),
    }
}

/// What is known about a message, the state apart.
pub fn send(call: &Call, send: &Send) -> Fact<SendPolicy> {
    ask(call, |questions| send_policy(questions, call, send))
}

/// Under which keys more is counted of a message than under its sender's name.
pub fn keys(policy: &Fact<SendPolicy>) -> Vec<&str> {
    match policy {
        Fact::Known(policy) => policy.keys().collect(),
        Fact::Missing(_) => Vec::new(),
    }
}

/// The settings.
pub fn settings(call: &Call) -> Fact<Arc<Settings>> {
    ask(call, |questions| questions.head().map(|head| head.settings.clone()))
}

/// The longest window of all limits, in seconds; of any that can be where that is not known.
pub fn longest_window(call: &Call) -> i64 {
    let longest = |head: Arc<Head>| head.limits.iter().map(|limit| limit.window).max().unwrap_or(0);
    match ask(call, |questions| questions.head().map(longest)) {
        Fact::Known(longest) => longest,
        Fact::Missing(_) => WINDOW.1,
    }
}

/// Which of these accounts are on the Per-User Rate Limiter Whitelist; the policy is opened once for all.
pub fn whitelisted(call: &Call, accounts: Vec<Account>) -> Result<Vec<Account>> {
    call.with_policy(|policy| {
        let mut questions = policy.ask()?;
        questions.head()?;
        let mut listed = Vec::new();
        for account in accounts {
            if questions.subject(kind::WHITELIST, &account, call.now)?.is_some() {
                listed.push(account);
            }
        }
        Ok(listed)
    })
}

/// The country of the address.
pub fn country(call: &Call, address: Option<Address>) -> Fact<Option<Country>> {
    country_of(&network(call, address))
}

/// The country, where it is known.
pub fn known_country(country: &Fact<Option<Country>>) -> Option<Country> {
    match country {
        Fact::Known(country) => *country,
        Fact::Missing(_) => None,
    }
}

fn country_of(network: &Fact<Option<NetworkInfo>>) -> Fact<Option<Country>> {
    match network {
        Fact::Known(info) => Fact::Known(info.as_ref().and_then(|i| i.country)),
        Fact::Missing(what) => Fact::Missing(*what),
    }
}

/// What the data say of the address. Only public addresses are looked up.
fn network(call: &Call, address: Option<Address>) -> Fact<Option<NetworkInfo>> {
    let Some(address) = address.filter(|a| a.class() == AddressClass::Public) else {
        return Fact::Known(None);
    };
    match call.with_networks(|networks| networks.look_up(address)) {
        Ok(info) => Fact::Known(info),
        Err(error) => {
            trouble::mark(call, Trouble::Networks, &error.to_string());
            Fact::Missing(Missing::Networks)
        }
    }
}

fn ask<T>(call: &Call, read: impl FnOnce(&mut Questions) -> Result<T>) -> Fact<T> {
    match call.with_policy(|policy| read(&mut policy.ask()?)) {
        Ok(facts) => Fact::Known(facts),
        Err(error) => {
            trouble::mark(call, Trouble::Policy, &error.to_string());
            Fact::Missing(Missing::Policy)
        }
    }
}

fn login_policy(
    questions: &mut Questions,
    call: &Call,
    login: &Login,
    country: Option<Country>,
    asn: Option<Asn>,
) -> Result<LoginPolicy> {
    let head = questions.head()?;
    let someone_exempt = head.someone_is_exempt(call.now);
    let mut facts = LoginPolicy { someone_exempt, ..LoginPolicy::default() };
    if let Some(address) = login.address {
        facts.own_address = is_own(&head.settings, address);
        facts.address_block =
            questions.network(kind::BLOCK_NETWORK, &head.block_lengths, address, call.now)?;
        let exempt = questions.network(kind::EXEMPT_NETWORK, &head.exempt_lengths, address, call.now)?;
        facts.address_exemption = exempt.map(|(network, _)| network);
        let mark = |(network, entry): (Network, Entry)| Mark { entry: network.to_string(), not: entry.not };
        facts.source_mark =
            questions.network(kind::SOURCE_NETWORK, &head.source_lengths, address, call.now)?.map(mark);
        facts.client_mark =
            questions.network(kind::CLIENT_NETWORK, &head.client_lengths, address, call.now)?.map(mark);
        facts.attack_mark =
            questions.network(kind::ATTACK_NETWORK, &head.attack_lengths, address, call.now)?;
        if let Some(asn) = asn.filter(|_| head.source_systems && facts.source_mark.is_none()) {
            let entry = questions.system(kind::SOURCE_SYSTEM, asn, call.now)?;
            facts.source_mark = entry.map(|entry| Mark { entry: asn.to_string(), not: entry.not });
        }
    }
    facts.countries = Some(questions.countries(login.account.as_ref())?);
    match &login.account {
        Some(account) => {
            facts.account_block =
                questions.subject(kind::BLOCK_ACCOUNT, account, call.now)?.map(|(_, entry)| entry);
            facts.account_exemption =
                questions.subject(kind::EXEMPT_SUBJECT, account, call.now)?.map(|(key, _)| key);
            facts.allowances = questions.allowances(account)?;
        }
        None => {
            facts.allowances = head.allowances.clone();
            facts.allowed_somewhere = country.map_or(Ok(false), |c| questions.allowed_somewhere(c))?;
        }
    }
    facts.settings = head.settings.clone();
    Ok(facts)
}

fn send_policy(questions: &mut Questions, call: &Call, send: &Send) -> Result<SendPolicy> {
    let head = questions.head()?;
    let mut facts = SendPolicy {
        by_postern: send.uid.is_some_and(|uid| uid == head.postern_uid),
        ..SendPolicy::default()
    };
    if let Some(account) = &send.account {
        facts.whitelisted = questions.subject(kind::WHITELIST, account, call.now)?.map(|(key, _)| key);
        facts.admin_block =
            questions.subject(kind::BLOCK_ACCOUNT, account, call.now)?.map(|(_, entry)| entry.until);
        let overrides = Overrides::of(questions, &head, account)?;
        facts.messages = overrides.holding(OUTBOUND, true, call.now);
        facts.limits = head.limits.iter().filter_map(|l| applied(l, account, &overrides, call.now)).collect();
        let counts_recipients = |applied: &Applied| applied.limit.counts != Counts::Messages;
        if facts.limits.iter().any(counts_recipients) {
            facts.weight = weight(call, send);
        }
    }
    if let Some(address) = send.address {
        let exempt = questions.network(kind::EXEMPT_NETWORK, &head.exempt_lengths, address, call.now)?;
        facts.exempt_address = exempt.filter(|(_, e)| e.sending).map(|(network, _)| network.to_string());
    }
    facts.settings = head.settings.clone();
    Ok(facts)
}

/// What the message adds to limits of recipients.
fn weight(call: &Call, send: &Send) -> Weight {
    if send.named.is_empty() {
        return recipients::unknown(send.recipients);
    }
    let weigh = |known: Option<&Recipients>| match known {
        Some(known) => Ok(known.weigh(send.recipients, &send.named)),
        None => Ok(recipients::unknown(send.recipients)),
    };
    call.with_recipients(weigh).unwrap_or_else(|error| {
        trouble::mark(call, Trouble::Policy, &error.to_string());
        recipients::unknown(send.recipients)
    })
}

/// What is set otherwise for an account, and for its domain.
#[derive(Default)]
struct Overrides {
    account: Vec<Override>,
    domain: Vec<Override>,
}

impl Overrides {
    fn of(questions: &mut Questions, head: &Head, account: &Account) -> Result<Overrides> {
        if !head.overrides {
            return Ok(Overrides::default());
        }
        let mut keys = Subject::keys_of(account);
        let mut next = || keys.next().map_or(Ok(Vec::new()), |key| questions.overrides(&key));
        Ok(Overrides { account: next()?, domain: next()? })
    }

    /// The number that holds for this limit: the account's own, else its domain's. `of_account`: whether the limit
    /// counts each account by itself, so that an account can have its own.
    fn holding(&self, limit: &str, of_account: bool, now: Seconds) -> Option<Option<i64>> {
        let own = Override::of(&self.account, limit, now).filter(|_| of_account);
        own.or_else(|| Override::of(&self.domain, limit, now)).map(|other| other.most)
    }
}

/// The limit as it holds for this account; none where it does not concern it.
fn applied(limit: &Arc<Limit>, account: &Account, overrides: &Overrides, now: Seconds) -> Option<Applied> {
    if limit.mode == Mode::Off {
        return None;
    }
    let key = limits::key_of(limit.of, account.domain())?;
    let other = match limit.of {
        Of::Server => None,
        of => overrides.holding(&limit.name, of == Of::Account, now),
    };
    Some(Applied { limit: limit.clone(), most: other.unwrap_or(Some(limit.most)), key })
}

fn is_own(settings: &Settings, address: Address) -> bool {
    settings.own_addresses.split(',').any(|own| own.parse::<Network>().is_ok_and(|net| net.contains(address)))
}
