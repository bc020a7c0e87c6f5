//! Weeks of honest life on a server, and attacks in the midst of it, played through the rules as real requests on
//! real files: what is refused of each.
//!
//! Recommended settings, all enforced: only logins from the customers' countries; no rented machines; the mailbox
//! guard, attack networks and bursts. `Assumptions` below say who lives there and who attacks, and README has the
//! figures. `TRACES=large` plays a larger world (`scripts/traces`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod attackers;
mod people;
#[allow(dead_code, unused_imports, reason = "what other tests need")]
#[path = "../it/sandbox/mod.rs"]
mod sandbox;
mod server;

use server::{Answer, Server};
use std::collections::BTreeMap;

/// How much is played.
#[derive(Clone, Copy, Debug)]
struct Assumptions {
    /// Mailboxes, of which one in twenty belongs to a person who has ten of them.
    mailboxes: usize,
    /// Days before the first attack: of honest life alone, so that networks become known.
    quiet_days: i64,
    /// Days with attacks.
    days: i64,
    /// Each so many days a botnet chooses one mailbox.
    botnet_each: i64,
    seed: u64,
}

const SMALL: Assumptions = Assumptions { mailboxes: 240, quiet_days: 12, days: 8, botnet_each: 4, seed: 7 };
const LARGE: Assumptions = Assumptions { mailboxes: 2000, quiet_days: 14, days: 30, botnet_each: 1, seed: 7 };

/// A login, before it is tried.
#[derive(Clone, Debug)]
struct Try {
    at: i64,
    mailbox: usize,
    address: String,
    /// The password, as a number; none: the right one.
    guess: Option<u64>,
    /// The campaign it belongs to; none: honest life.
    campaign: Option<usize>,
}

/// What became of honest logins with the right password.
#[derive(Debug, Default)]
struct Honest {
    known: u64,
    known_refused: u64,
    elsewhere: u64,
    elsewhere_refused: u64,
}

/// What became of one campaign.
#[derive(Clone, Debug, Default)]
struct Fought {
    tries: u64,
    refused: u64,
    /// Of those after the twentieth.
    later: u64,
    later_refused: u64,
    /// Tries that reached the password before the first refusal.
    before_the_first: u64,
}

impl Fought {
    fn add(&mut self, is_refused: bool) {
        self.tries += 1;
        self.before_the_first += u64::from(self.refused == 0 && !is_refused);
        self.refused += u64::from(is_refused);
        if self.tries > 20 {
            self.later += 1;
            self.later_refused += u64::from(is_refused);
        }
    }
}

/// Plays all of it, in the order of time.
fn play(of: Assumptions) -> (Honest, Vec<(&'static str, Fought)>) {
    let mut server = Server::new(of.mailboxes);
    let mut people = people::People::new(of);
    let mut attackers = attackers::Attackers::new(of);
    let mut honest = Honest::default();
    let mut fought = vec![Fought::default(); attackers.campaigns.len()];
    // By mailbox and network: the day of the first success, as its owner remembers it.
    let mut remembered: BTreeMap<(usize, String), i64> = BTreeMap::new();
    for day in 0..of.quiet_days + of.days {
        let mut tries = people.day(day);
        tries.extend(attackers.day(day, &people));
        tries.sort_by_key(|t| t.at);
        for t in tries {
            let answer = server.login(&t);
            match t.campaign {
                Some(campaign) => fought[campaign].add(answer == Answer::Refused),
                None if t.guess.is_none() => {
                    let key = (t.mailbox, server::network_of(&t.address));
                    let is_known = remembered.get(&key).is_some_and(|first| *first < server.today());
                    let (all, refused) = match is_known {
                        true => (&mut honest.known, &mut honest.known_refused),
                        false => (&mut honest.elsewhere, &mut honest.elsewhere_refused),
                    };
                    *all += 1;
                    if answer == Answer::Refused {
                        *refused += 1;
                        println!("refused: {t:?}: {}", server.why(&t));
                    } else {
                        remembered.entry(key).or_insert(server.today());
                    }
                }
                None => {}
            }
        }
    }
    let names = attackers.campaigns.iter().map(|c| c.name);
    (honest, names.zip(fought).collect())
}

fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

/// Campaigns of one kind together.
fn by_kind(fought: Vec<(&'static str, Fought)>) -> BTreeMap<&'static str, (u64, Fought)> {
    let mut kinds: BTreeMap<&'static str, (u64, Fought)> = BTreeMap::new();
    for (kind, one) in fought {
        let (n, all) = kinds.entry(kind).or_default();
        *n += 1;
        all.tries += one.tries;
        all.refused += one.refused;
        all.later += one.later;
        all.later_refused += one.later_refused;
        all.before_the_first = all.before_the_first.max(one.before_the_first);
    }
    kinds
}

#[test]
fn attacks_are_stopped_and_honest_people_are_not() {
    let of = if std::env::var_os("TRACES").is_some_and(|v| v == "large") { LARGE } else { SMALL };
    let (honest, fought) = play(of);
    println!("{of:?}");
    println!("| honest logins | | refused |\n|---|---|---|");
    println!(
        "| from networks that the mailbox was used well from before | {} | {} |",
        honest.known, honest.known_refused
    );
    println!("| from anywhere else | {} | {} |", honest.elsewhere, honest.elsewhere_refused);
    println!(
        "| attacks | campaigns | tries | refused | after the first 20 of each | reached the password before the first refusal |\n|---|---|---|---|---|---|"
    );
    let kinds = by_kind(fought);
    for (kind, (n, f)) in &kinds {
        let (all, later) = (share(f.refused, f.tries), share(f.later_refused, f.later));
        println!(
            "| {kind} | {n} | {} | {all:.1} % | {later:.1} % | at most {} |",
            f.tries, f.before_the_first
        );
    }
    assert!(honest.known > 1000 && honest.elsewhere > 100, "{honest:?}");
    assert_eq!(honest.known_refused, 0);
    assert!(honest.elsewhere_refused * 10_000 <= honest.elsewhere, "{honest:?}");
    let (mut later, mut later_refused) = (0, 0);
    for (kind, (_, f)) in kinds {
        assert!(f.later > 100, "{kind}: {f:?}");
        // Some of the mailboxes that a neighbour tries know his network as theirs: there each is asked for its password
        // until it was guessed at three times.
        let least = if kind == attackers::NEIGHBOUR { 70 } else { 95 };
        assert!(f.later_refused * 100 >= f.later * least, "{kind}: {f:?}");
        (later, later_refused) = (later + f.later, later_refused + f.later_refused);
    }
    println!("| all | | | | {:.1} % | |", share(later_refused, later));
    assert!(later_refused * 100 >= later * 95, "{later_refused} of {later}");
}
