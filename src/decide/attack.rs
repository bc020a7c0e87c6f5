//! What failed logins say of where they come from. Nothing here opens a file or reads a clock.
//!
//! Three things are counted of failures, each within a *source*: an address (an IPv4 address, or the /64 of an IPv6
//! one, which is one customer's) and the networks around it (/24; /56 and /48).
//!
//! - **Distinct failures.** The same password tried again for the same mailbox says nothing new: a telephone with an
//!   old password tries all day. Where the server does not tell what was tried, a mailbox counts once a minute.
//! - **Mailboxes** that failed. A household has a few.
//! - **Attacking addresses** of a network.
//!
//! Failures of a mailbox from a network that it was used well from count a fifth, the first three different ones of a day:
//! its owner has changed a password more often than anybody has guessed one from there.

use crate::address::{Address, Network};
use crate::clock::Seconds;
use crate::settings::Settings;
use ipnet::{IpNet, Ipv6Net};
use std::net::IpAddr;

/// Failures that are remembered of one source, the latest.
pub const MOST: usize = 64;

/// Bytes of a failure as it is kept.
const WIDTH: usize = 9;

/// How long a failure is remembered, and within which mailboxes are counted, in seconds.
pub const REMEMBERED: Seconds = 7 * 86_400;

const HOUR: Seconds = 3600;
const DAY: Seconds = 86_400;

/// How much a failure weighs, and one from a network that its mailbox was used well from.
const WEIGHTS: (i64, i64) = (5, 1);

/// Guesses at a mailbox from one address within a day that its owner may need, where he is known: an old password, and
/// what comes to mind. From the next on he is a stranger.
pub const OWNERS_GUESSES: usize = 3;

/// A failure as it is remembered: hashes, and no names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When.
    pub at: Seconds,
    /// Stands for the mailbox, or for the network where failures of one mailbox are remembered.
    pub what: u16,
    /// Stands for what was tried: equal guesses are one.
    pub guess: u16,
    /// Whether the mailbox was used well from there.
    pub known: bool,
}

/// The failures of one source, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(Vec<Failure>);

impl Failures {
    /// Reads what was kept. Mail users can write the state: anything is read, and half an entry is none.
    pub fn read(bytes: &[u8]) -> Failures {
        let entry = |b: &[u8; WIDTH]| Failure {
            at: u32::from_le_bytes([b[0], b[1], b[2], b[3]]).into(),
            what: u16::from_le_bytes([b[4], b[5]]),
            guess: u16::from_le_bytes([b[6], b[7]]),
            known: b[8] & 1 == 1,
        };
        Failures(bytes.as_chunks::<WIDTH>().0.iter().take(MOST).map(entry).collect())
    }

    /// What is kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * WIDTH);
        for failure in &self.0 {
            bytes.extend(u32::try_from(failure.at).unwrap_or(u32::MAX).to_le_bytes());
            bytes.extend(failure.what.to_le_bytes());
            bytes.extend(failure.guess.to_le_bytes());
            bytes.push(failure.known.into());
        }
        bytes
    }

    /// Adds a failure; tells whether it says anything new: the same guess within a day does not. What is too old is
    /// forgotten; a time in the future counts as now.
    pub fn add(&mut self, failure: Failure) -> bool {
        let now = failure.at;
        self.0.iter_mut().for_each(|f| f.at = f.at.min(now));
        self.0.retain(|f| now - f.at < REMEMBERED);
        if self.has(&failure) {
            return false;
        }
        if self.0.len() >= MOST {
            self.0.remove(0);
        }
        self.0.push(failure);
        true
    }

    /// Whether the same was tried within a day before.
    pub fn has(&self, failure: &Failure) -> bool {
        let same = |f: &Failure| {
            (f.what, f.guess) == (failure.what, failure.guess) && (0..DAY).contains(&(failure.at - f.at))
        };
        self.0.iter().any(same)
    }

    /// Distinct failures within so many seconds, each by its weight.
    pub fn within(&self, seconds: Seconds, now: Seconds) -> i64 {
        let lately = self.0.iter().filter(|f| now - f.at < seconds);
        lately.map(|f| if f.known { WEIGHTS.1 } else { WEIGHTS.0 }).sum::<i64>() / WEIGHTS.0
    }

    /// Different guesses at one mailbox within a day.
    pub fn guesses_at(&self, mailbox: u16, now: Seconds) -> usize {
        self.0.iter().filter(|f| f.what == mailbox && now - f.at < DAY).count()
    }

    /// Different mailboxes (or networks) within so many seconds, those apart that are known there.
    pub fn different_within(&self, seconds: Seconds, now: Seconds) -> i64 {
        let lately = self.0.iter().filter(|f| !f.known && now - f.at < seconds);
        let mut all: Vec<u16> = lately.map(|f| f.what).collect();
        all.sort_unstable();
        all.dedup();
        i64::try_from(all.len()).unwrap_or(i64::MAX)
    }
}

/// The address as a source: itself, or the /64 of an IPv6 one.
pub fn own_source(address: Address) -> Network {
    match address.ip() {
        IpAddr::V4(_) => Network::single(address),
        IpAddr::V6(_) => Network::around(address),
    }
}

/// The sources that an address belongs to: its own first, then the networks around it, from the narrowest on.
pub fn sources(address: Address) -> Vec<Network> {
    let own = own_source(address);
    std::iter::once(own).chain(around(address).into_iter().filter(|network| *network != own)).collect()
}

/// The networks around an address that count as one place, from the narrowest on.
pub fn around(address: Address) -> Vec<Network> {
    let of_length = |ip, length| Ipv6Net::new(ip, length).map(|net| Network::new(IpNet::V6(net))).ok();
    match address.ip() {
        IpAddr::V4(_) => vec![Network::around(address)],
        IpAddr::V6(ip) => [64, 56, 48].into_iter().filter_map(|length| of_length(ip, length)).collect(),
    }
}

/// What failures of one source come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings {
    /// So many distinct failures in an hour that the address is refused for a while.
    pub is_burst: bool,
    /// The address counts as attacking for its network.
    pub is_attacking: bool,
    /// The source is an attack network, and why.
    pub attack: Option<Attack>,
}

/// Why a network counts as attacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attack {
    /// So many distinct failures in a day.
    Failures(i64),
    /// So many mailboxes in a week.
    Mailboxes(i64),
    /// So many attacking addresses in a day.
    Addresses(i64),
}

impl Attack {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Attack::Failures(n) => format!("{n} different passwords or mailboxes failed within a day"),
            Attack::Mailboxes(n) => format!("{n} mailboxes failed within a week"),
            Attack::Addresses(n) => format!("{n} of its addresses attacked within a day"),
        }
    }
}

/// What an address's own failures come to. `good_there`: some mailbox was used well from the network around it.
pub fn of_address(failures: &Failures, good_there: bool, settings: &Settings, now: Seconds) -> Findings {
    let (hour, day) = (failures.within(HOUR, now), failures.within(DAY, now));
    let mailboxes = failures.different_within(REMEMBERED, now);
    let is_burst = hour >= settings.burst_failures;
    let is_slow = !good_there && mailboxes >= settings.attack_mailboxes;
    let attack = if day >= settings.attack_failures {
        Some(Attack::Failures(day))
    } else {
        is_slow.then_some(Attack::Mailboxes(mailboxes))
    };
    Findings { is_burst, is_attacking: is_burst || attack.is_some(), attack }
}

/// What the failures of a network around come to, of which so many addresses attacked within a day. One from which
/// some mailbox was used well has honest customers: there only single addresses are marked.
pub fn of_network(
    failures: &Failures,
    attacking: i64,
    good_there: bool,
    settings: &Settings,
    now: Seconds,
) -> Option<Attack> {
    let day = failures.within(DAY, now);
    if good_there {
        None
    } else if attacking >= settings.attack_addresses {
        Some(Attack::Addresses(attacking))
    } else {
        (day >= settings.attack_failures).then_some(Attack::Failures(day))
    }
}

/// Whether a mailbox with these failures, each from a network that it does not know, is under attack: so many
/// networks within an hour, or three times as many within a day.
pub fn is_under_attack(failures: &Failures, settings: &Settings, now: Seconds) -> bool {
    let from = |seconds| failures.within(seconds, now);
    from(HOUR) >= settings.guard_networks || from(DAY) >= 3 * settings.guard_networks
}

/// Networks from which owners fail who are known there, within [`OUTAGE_WITHIN`], that make one ask whether anybody
/// at all gets in.
pub const OUTAGE_NETWORKS: i64 = 5;

/// See [`OUTAGE_NETWORKS`]; in seconds.
pub const OUTAGE_WITHIN: Seconds = 120;

/// An outage needs that nobody logged in well for so long, in seconds: at night logins are few.
pub const OUTAGE_SILENCE: Seconds = 300;

/// For how long nothing is learned then, in seconds, unless somebody gets in meanwhile.
pub const OUTAGE_LASTS: Seconds = 300;

/// Whether so many owners fail at once, from where they are known, that the server itself may be at fault: its
/// database of passwords is down.
pub fn may_be_an_outage(owners: &Failures, now: Seconds) -> bool {
    owners.different_within(OUTAGE_WITHIN, now) >= OUTAGE_NETWORKS
}

#[cfg(test)]
#[path = "attack_tests.rs"]
mod tests;
