//! Attacks, each at a rate at which such attacks were told of, and spread over the days.

use crate::people::{DAY, People, carrier};
use crate::{Assumptions, Try};
use fastrand::Rng;

/// One attack.
pub(crate) struct Campaign {
    pub(crate) name: &'static str,
    begins: i64,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// One machine, mailbox by mailbox.
    Spray,
    /// One machine, one mailbox, password by password.
    Guess,
    /// Many machines all over the world, one mailbox, one try each.
    Botnet,
    /// Many machines all over the world, two tries a day each, for days.
    Slow,
    /// All addresses of a rented /24 in turn.
    Hop,
    /// One customer of the mobile network that honest people use.
    Neighbour,
    /// Another address of a /48 with each try.
    HopV6,
}

/// Its name is asked for: what is refused of it hangs on how many of the mailboxes know the network.
pub(crate) const NEIGHBOUR: &str =
    "a hostile customer of a carrier, behind an address that honest people share";

const KINDS: [(&str, Kind); 7] = [
    ("one machine against many mailboxes", Kind::Spray),
    ("one machine against one mailbox", Kind::Guess),
    ("a botnet against one mailbox, one try from each network", Kind::Botnet),
    ("a slow botnet against all mailboxes, two tries a day from each network", Kind::Slow),
    ("a /24, address by address", Kind::Hop),
    (NEIGHBOUR, Kind::Neighbour),
    ("an IPv6 /48, address by address", Kind::HopV6),
];

/// All of them.
pub(crate) struct Attackers {
    rng: Rng,
    pub(crate) campaigns: Vec<Campaign>,
}

impl Attackers {
    pub(crate) fn new(of: Assumptions) -> Attackers {
        let mut rng = Rng::with_seed(of.seed + 1);
        let mut campaigns = Vec::new();
        for day in of.quiet_days..of.quiet_days + of.days {
            for (name, kind) in KINDS {
                // A slow one takes all the days; each mailbox is the target of a botnet once in some
                // years, and thieves behind the customers' own carrier are as rare.
                let is_on = match kind {
                    Kind::Slow => day == of.quiet_days,
                    Kind::Botnet | Kind::Neighbour => (day - of.quiet_days) % of.botnet_each == 0,
                    _ => true,
                };
                if !is_on {
                    continue;
                }
                campaigns.push(Campaign { name, begins: day * DAY + rng.i64(0..DAY / 2), kind });
            }
        }
        Attackers { rng, campaigns }
    }

    /// What is tried on this day.
    pub(crate) fn day(&mut self, day: i64, people: &People) -> Vec<Try> {
        let mut tries = Vec::new();
        for (number, campaign) in self.campaigns.iter().enumerate() {
            let is_slow = matches!(campaign.kind, Kind::Slow);
            let is_on = if is_slow { campaign.begins / DAY <= day } else { campaign.begins / DAY == day };
            if is_on {
                let begun = tries.len();
                campaign.attack(number, day, people, &mut self.rng, &mut tries);
                tries[begun..].iter_mut().for_each(|t| t.campaign = Some(number));
            }
        }
        tries
    }
}

/// A machine of a botnet: three in five in countries without customers, three in ten rented, one in ten at home in the
/// customers' own country.
fn bot(number: usize, n: u32) -> String {
    let seed = number as u32 * 7919 + n;
    let (b, c) = (seed / 251 % 250, seed % 251);
    match n % 10 {
        0..3 => format!("36.{b}.{c}.7"),
        3..6 => format!("177.{b}.{c}.7"),
        6..9 => format!("5.9.{c}.{}", 1 + b),
        _ => format!("80.{}.{c}.7", 210 + b % 40),
    }
}

impl Campaign {
    fn attack(&self, number: usize, day: i64, people: &People, rng: &mut Rng, tries: &mut Vec<Try>) {
        let target = people.somebody(rng);
        let home = format!("80.{}.{}.7", 210 + number % 40, number % 250);
        let tenant = carrier(rng.u32(0..3), rng);
        let mut push = |at: i64, mailbox: usize, address: String| {
            let guess = Some(rng.u64(1000..1 << 30));
            tries.push(Try { at, mailbox, address, guess, campaign: None });
        };
        let mut which = Rng::with_seed(number as u64);
        for n in 0..self.kind.tries() {
            let at = self.begins + i64::from(n) * 4;
            match self.kind {
                Kind::Spray => push(at, people.somebody(&mut which), home.clone()),
                Kind::Guess => push(at, target, home.clone()),
                Kind::Botnet => push(self.begins + i64::from(n) * 12, target, bot(number, n)),
                Kind::Slow => {
                    let mut of_today = Rng::with_seed((day as u64) << 20 | u64::from(n));
                    let at = day * DAY + of_today.i64(0..DAY);
                    push(at, people.somebody(&mut of_today), bot(number, n / 2));
                }
                Kind::Hop => push(
                    at,
                    people.somebody(&mut which),
                    format!("80.{}.{}.{}", 210 + number % 40, 250 - number % 100, 1 + n % 250),
                ),
                Kind::Neighbour => push(at, people.somebody(&mut which), tenant.clone()),
                Kind::HopV6 => {
                    push(at, people.somebody(&mut which), format!("2a02:3000:{number:x}:{n:x}::7"))
                }
            }
        }
    }
}

impl Kind {
    fn tries(self) -> u32 {
        match self {
            Kind::Spray | Kind::Guess => 1000,
            Kind::Botnet => 400,
            Kind::Slow => 600,
            Kind::Hop | Kind::Neighbour | Kind::HopV6 => 750,
        }
    }
}
