//! Honest life: who has which mailboxes, where he logs in from, and what he does wrong.

use crate::{Assumptions, Try};
use fastrand::Rng;

/// Seconds of a day.
pub(crate) const DAY: i64 = 86_400;

/// Passwords that devices still try after their owners changed them are numbers from here on.
const OLD: u64 = 1 << 40;

/// Someone with one mailbox, or ten.
struct Person {
    mailboxes: Vec<usize>,
    /// His line at home: the third byte of its /24, or the /56 of its IPv6 network, which changes where the provider gives
    /// another address now and then.
    home: u32,
    by_v6: bool,
    changes_address: bool,
    office: Option<u32>,
    carrier: u32,
    uses_outlook: bool,
    /// Until when a device of his tries an old password, which, and from where.
    old_password: Option<(i64, u64, String)>,
    /// Until when he is away, and in which network.
    away: Option<(i64, u32)>,
}

/// All of them.
pub(crate) struct People {
    rng: Rng,
    all: Vec<Person>,
}

/// Addresses that a mobile network's customers share (carrier-grade NAT): each of three carriers has thirty-two /24s
/// with eight such addresses in each.
pub(crate) fn carrier(number: u32, rng: &mut Rng) -> String {
    format!("84.{}.{}.{}", 10 + number, rng.u32(0..32), 10 + rng.u32(0..8))
}

impl People {
    pub(crate) fn new(of: Assumptions) -> People {
        let mut rng = Rng::with_seed(of.seed);
        let (mut all, mut mailbox) = (Vec::new(), 0);
        while mailbox < of.mailboxes {
            // One mailbox in twenty belongs to somebody who manages ten.
            let many = if rng.u32(0..200) == 0 { 10 } else { 1 };
            let mailboxes: Vec<usize> = (mailbox..(mailbox + many).min(of.mailboxes)).collect();
            mailbox += many;
            let person = Person {
                mailboxes,
                home: rng.u32(0..60_000),
                by_v6: rng.u32(0..10) < 3,
                changes_address: rng.u32(0..10) < 3,
                // Half of them share their office's address with some twenty others.
                office: rng.bool().then(|| rng.u32(0..u32::try_from(of.mailboxes / 40 + 1).unwrap())),
                carrier: rng.u32(0..3),
                uses_outlook: rng.u32(0..10) == 0,
                old_password: None,
                away: None,
            };
            all.push(person);
        }
        People { rng, all }
    }

    /// A mailbox that is in use.
    pub(crate) fn somebody(&self, rng: &mut Rng) -> usize {
        let person = &self.all[rng.usize(0..self.all.len())];
        person.mailboxes[rng.usize(0..person.mailboxes.len())]
    }

    /// What all of them do on this day.
    pub(crate) fn day(&mut self, day: i64) -> Vec<Try> {
        let mut tries = Vec::new();
        for person in &mut self.all {
            person.live(day, &mut self.rng, &mut tries);
        }
        tries
    }
}

impl Person {
    fn live(&mut self, day: i64, rng: &mut Rng, tries: &mut Vec<Try>) {
        let begin = day * DAY;
        // Once a fortnight the provider gives another network to those lines; to IPv6 ones each other day.
        if self.changes_address && rng.u32(0..if self.by_v6 { 2 } else { 14 }) == 0 {
            self.home = rng.u32(0..60_000);
        }
        // Once in two months a password is changed, and one device learns of it within three days.
        if rng.u32(0..60) == 0 {
            let from = self.address(begin + DAY / 2, rng);
            self.old_password = Some((begin + rng.i64(DAY / 2..3 * DAY), OLD + rng.u64(0..1 << 30), from));
        }
        // One in a hundred sets out each day, for three days.
        if self.away.is_none() && rng.u32(0..100) == 0 {
            self.away = Some((begin + 3 * DAY, rng.u32(0..60_000)));
        }
        self.away = self.away.filter(|(until, _)| *until > begin);
        for mailbox in self.mailboxes.clone() {
            for _ in 0..rng.u32(3..8) {
                let at = begin + rng.i64(0..DAY);
                let address = self.address(at, rng);
                // One login in two hundred is typed, and wrong once or twice.
                if rng.u32(0..200) == 0 {
                    for n in 0..rng.i64(1..3) {
                        tries.push(Try {
                            at: at + n * 5,
                            guess: Some(rng.u64(1..1000)),
                            ..Try::honest(mailbox, &address)
                        });
                    }
                }
                tries.push(Try { at: at + 20, ..Try::honest(mailbox, &address) });
            }
        }
        if let Some((until, password, address)) = self.old_password.take() {
            // A device at rest asks every ten minutes, for each mailbox that it reads.
            for mailbox in &self.mailboxes {
                let times = (begin + rng.i64(0..600)..(begin + DAY).min(until)).step_by(600);
                tries.extend(times.map(|at| Try {
                    at,
                    guess: Some(password),
                    ..Try::honest(*mailbox, &address)
                }));
            }
            self.old_password = Some((until, password, address)).filter(|_| until > begin + DAY);
        }
    }

    /// Where he logs in from at this time: his telephone through the mobile network, or Outlook's servers for it;
    /// the office by day; home; or the place that he travels in.
    fn address(&self, at: i64, rng: &mut Rng) -> String {
        let by_day = (8 * 3600..18 * 3600).contains(&(at % DAY));
        let (high, low) = (self.home >> 8, self.home & 0xff);
        match (rng.u32(0..3), self.away, self.office) {
            (0, ..) if self.uses_outlook => format!("52.97.{}.{}", rng.u32(0..250), rng.u32(1..250)),
            (0, ..) => carrier(self.carrier, rng),
            (_, Some((_, hotel)), _) => format!("91.{}.{}.20", hotel >> 8, hotel & 0xff),
            (1, None, Some(office)) if by_day => format!("80.200.{office}.9"),
            _ if self.by_v6 => format!(
                "2003:{:x}:{:x}:{:x}::{:x}",
                1 + (high & 0xff),
                low << 8,
                rng.u32(0..4),
                rng.u32(1..9999)
            ),
            _ => format!("80.{}.{low}.{}", high % 200, 1 + self.home % 250),
        }
    }
}

impl Try {
    fn honest(mailbox: usize, address: &str) -> Try {
        Try { at: 0, mailbox, address: address.into(), guess: None, campaign: None }
    }
}
