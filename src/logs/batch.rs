//! What was read and is not written yet: sums by account, place and day, and by hour.
//!
//! A busy server writes the same mailbox in the same network a hundred times a day: what is written are sums. Memory is
//! bounded: a batch that is full is written before more is read. It is written in pieces, each a transaction of its
//! own, so that no hook waits for long.
//!
//! Outsiders choose names and addresses, and each line asks five tables: their hash is a quick one, with a key that is
//! another in each process.

use super::{Event, What};
use crate::account::Account;
use crate::address::{Address, AddressClass, Network};
use crate::call::Call;
use crate::clock::Seconds;
use crate::country::Country;
use crate::gather;
use crate::request::Service;
use crate::store::state::Unit;
use crate::store::state::rollups::{self, FromLogs, HourFromLogs, Retention};
use foldhash::HashMap;

/// Names, addresses and sums of a batch, at most: some 60 MB where somebody floods a log with long names.
const MOST_NAMES: usize = 40_000;
const MOST_ADDRESSES: usize = 100_000;
const MOST_SUMS: usize = 150_000;

/// Sums of logins that are written in one transaction: some hundredths of a second.
const PIECE: usize = 1000;

/// Longest name, as in the tally.
const LONGEST_NAME: usize = 320;

/// So much of a name is looked at: it may be written longer than it is.
const LONGEST_RAW: usize = 2 * LONGEST_NAME;

/// Bytes of names, as they were written and as they are.
const MOST_BYTES: usize = 20_000_000;

/// For what an event counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the figures.
    pub figures: bool,
    /// In the figures by country alone: those by account are not kept for so long.
    pub by_country: bool,
    /// As a network from which the account was used well.
    pub teaches: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    name: u32,
    place: u32,
    day: i32,
    service: Service,
}

/// Where an address is: its country, and the network that becomes known.
type Place = (Option<Country>, Option<Network>);

/// The numbers of an address's place, and of its country with no network.
#[derive(Clone, Copy)]
struct Numbers {
    network: u32,
    country: u32,
}

type HourKey = (i64, What, Service, u32);

/// What is gathered.
#[derive(Default)]
pub struct Batch {
    numbers: HashMap<Box<[u8]>, u32>,
    names: Vec<String>,
    bytes_of_names: usize,
    addresses: HashMap<Address, Numbers>,
    place_numbers: HashMap<Place, u32>,
    places: Vec<Place>,
    /// Successes and failures that count in figures, and successes that make a network known.
    logins: HashMap<Key, [u32; 3]>,
    hours: HashMap<HourKey, i64>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch of {} and {} sums", self.logins.len(), self.hours.len())
    }
}

impl Batch {
    /// Whether it must be written before more is added.
    pub fn is_full(&self) -> bool {
        self.names.len() >= MOST_NAMES
            || self.bytes_of_names >= MOST_BYTES
            || self.addresses.len() >= MOST_ADDRESSES
            || self.logins.len() + self.hours.len() >= MOST_SUMS
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.logins.is_empty() && self.hours.is_empty()
    }

    /// Adds an event.
    pub fn add(&mut self, call: &Call, event: &Event, counts: Counts) {
        let place = self.place(call, event.address);
        let country = place.country;
        // Its network is of interest where that becomes known; failures come from ever others.
        let place = if counts.teaches { place.network } else { place.country };
        // A clock may go ahead a little; a day that is yet to come has no figures.
        let at = event.at.min(call.now);
        let (hour, day) = (at.div_euclid(3600), at.div_euclid(86_400));
        if counts.by_country {
            let key = (hour, event.what, event.service, country);
            *self.hours.entry(key).or_default() += i64::from(event.times);
        }
        if event.what == What::Inbound || !(counts.figures || counts.teaches) {
            return;
        }
        let name = self.name(event.account);
        let day = i32::try_from(day).unwrap_or(0);
        let key = Key { name, place, day, service: event.service };
        let sums = self.logins.entry(key).or_default();
        let add = |sum: &mut u32, n: u32| *sum = sum.saturating_add(n);
        match event.what {
            What::Success => {
                add(&mut sums[0], u32::from(counts.figures));
                add(&mut sums[2], u32::from(counts.teaches));
            }
            // The name is that of the last try alone.
            _ => {
                add(&mut sums[1], u32::from(counts.figures));
                if event.times > 1 && counts.figures {
                    let nobody = Key { name: self.name(b""), ..key };
                    add(&mut self.logins.entry(nobody).or_default()[1], event.times - 1);
                }
            }
        }
    }

    fn name(&mut self, raw: &[u8]) -> u32 {
        let raw = &raw[..raw.len().min(LONGEST_RAW)];
        if let Some(number) = self.numbers.get(raw) {
            return *number;
        }
        let account = Account::from_server(&String::from_utf8_lossy(raw));
        let name = account.map_or_else(String::new, |a| {
            let name = a.name();
            name[..name.floor_char_boundary(LONGEST_NAME)].to_string()
        });
        self.bytes_of_names += raw.len() + name.len();
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name);
        self.numbers.insert(raw.into(), number);
        number
    }

    fn place(&mut self, call: &Call, address: Address) -> Numbers {
        if let Some(numbers) = self.addresses.get(&address) {
            return *numbers;
        }
        let found = gather::place(call, address);
        let is_public = address.class() == AddressClass::Public;
        let around = if found.mail_service.is_some() { Network::widely_around } else { Network::around };
        let numbers = Numbers {
            network: self.number_of((found.country, is_public.then(|| around(address)))),
            country: self.number_of((found.country, None)),
        };
        self.addresses.insert(address, numbers);
        numbers
    }

    fn number_of(&mut self, place: Place) -> u32 {
        let next = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        *self.place_numbers.entry(place).or_insert_with(|| {
            self.places.push(place);
            next
        })
    }

    fn country(&self, place: u32) -> &str {
        self.places[place as usize].0.as_ref().map_or("", Country::as_str)
    }

    /// The sums in an order that is the same whenever the same lines are read.
    pub fn pieces(&self) -> Pieces<'_> {
        let login = |(key, [succeeded, failed, known]): (&Key, &[u32; 3])| FromLogs {
            account: &self.names[key.name as usize],
            day: key.day.into(),
            service: key.service.name(),
            country: self.country(key.place),
            network: self.places[key.place as usize].1,
            succeeded: (*succeeded).into(),
            failed: (*failed).into(),
            known: (*known).into(),
        };
        let mut logins: Vec<FromLogs> = self.logins.iter().map(login).collect();
        logins.sort_unstable_by_key(|l| (l.account, l.day, l.service, l.country, l.network));
        let mut hours = Vec::new();
        for ((hour, what, service, country), n) in &self.hours {
            let country = self.country(*country);
            let mut add = |head| hours.push((*hour, head, service.name(), country, *n));
            match what {
                What::Inbound => add(INBOUND),
                What::Success => [TRIED, ("login", "succeeded")].into_iter().for_each(add),
                What::Failure => [TRIED, ("login", "failed")].into_iter().for_each(add),
            }
        }
        hours.sort_unstable();
        Pieces { logins, hours }
    }
}

/// Direction and what happened, as figures by country have it.
pub const INBOUND: (&str, &str) = ("inbound", "received");
const TRIED: (&str, &str) = ("login", "tried");

/// A batch in the order in which it is written.
#[derive(Debug)]
pub struct Pieces<'a> {
    logins: Vec<FromLogs<'a>>,
    hours: Vec<HourFromLogs<'a>>,
}

impl Pieces<'_> {
    /// How many there are; one at least.
    pub fn count(&self) -> usize {
        self.logins.len().max(self.hours.len()).div_ceil(PIECE).max(1)
    }

    /// Writes the piece of this number.
    pub fn write(&self, t: &Unit, n: usize, now: Seconds, retention: &Retention) -> rusqlite::Result<()> {
        let logins = self.logins.chunks(PIECE).nth(n).unwrap_or_default();
        let hours = self.hours.chunks(PIECE).nth(n).unwrap_or_default();
        rollups::add_from_logs(t, logins, hours, now, retention)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::Paths;

    const NOW: Seconds = 20_000 * 86_400;
    const COUNTS: Counts = Counts { figures: true, by_country: true, teaches: false };

    fn add(batch: &mut Batch, account: &[u8], at: Seconds) {
        let dir = tempfile::tempdir().unwrap();
        let call = Call::new(Paths::below(dir.path()), NOW, "test");
        let address = "192.0.2.7".parse().unwrap();
        let event = Event { what: What::Success, service: Service::Imap, address, account, times: 1, at };
        batch.add(&call, &event, COUNTS);
    }

    #[test]
    fn what_is_ahead_of_the_clock_counts_for_now() {
        let mut batch = Batch::default();
        add(&mut batch, b"alice", NOW + 86_400);
        let pieces = batch.pieces();
        assert_eq!((pieces.logins[0].day, pieces.hours[0].0), (20_000, 20_000 * 24));
    }

    #[test]
    fn a_name_is_kept_as_it_is_and_cut_where_it_is_too_long() {
        let mut batch = Batch::default();
        let long = "\u{e4}".repeat(10_000);
        for name in ["a=b@d.test", "100%\"x\"@d.test", &long, ""] {
            add(&mut batch, name.as_bytes(), NOW);
        }
        assert_eq!(batch.names, ["a=b@d.test", "100%\"x\"@d.test", &"\u{e4}".repeat(160), ""]);
        assert!(batch.numbers.keys().all(|raw| raw.len() <= LONGEST_RAW));
    }

    #[test]
    fn a_flood_of_long_names_fills_a_batch_before_it_fills_the_memory() {
        let mut batch = Batch::default();
        let mut n = 0;
        while !batch.is_full() {
            batch.name(format!("{n:x<700}").as_bytes());
            n += 1;
        }
        let bytes: usize = batch.names.iter().map(String::len).sum::<usize>()
            + batch.numbers.keys().map(|raw| raw.len()).sum::<usize>();
        assert!(n < MOST_NAMES && (MOST_BYTES..MOST_BYTES + 1000).contains(&bytes), "{n} {bytes}");
    }
}
