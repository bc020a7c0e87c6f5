//! What a channel is to send now: the first events of an hour one by one, and what is beyond them in one digest when the
//! hour ends. No clock and no state in here.
//!
//! Equal events (the same kind, the same account) are one with a count. An hour begins with the first that goes out by
//! itself. What waited for longer than an hour, because nothing could be sent, is told in a digest too.

use crate::clock::Seconds;
use crate::store::state::notices::{LONGEST_REST, Memory, Notice};
use std::collections::HashMap;

/// Seconds.
pub(super) const HOUR: Seconds = 3600;

/// Equal events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The first of them.
    pub(super) first: Notice,
    /// When the last happened.
    pub(super) last: Seconds,
    /// Their numbers.
    pub(super) ids: Vec<i64>,
}

impl Group {
    /// What makes events equal.
    pub(super) fn key(&self) -> (String, String) {
        (self.first.kind.clone(), self.first.account.clone())
    }
}

/// What is to be sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// One digest, before all else.
    pub(super) digest: Option<Digest>,
    /// One by one.
    pub(super) ones: Vec<Group>,
    /// Whether the hour that was remembered is over.
    pub(super) is_new_hour: bool,
}

/// What one digest tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Digest {
    /// Events, the oldest first.
    pub(super) groups: Vec<Group>,
    /// How many more there were of which nothing is known.
    pub(super) gone: i64,
}

/// Makes the plan of what waits, oldest first.
pub(super) fn plan(waiting: Vec<Notice>, gone: i64, memory: &Memory, ceiling: usize, now: Seconds) -> Plan {
    let running = memory.hour.filter(|hour| (*hour..hour.saturating_add(HOUR)).contains(&now));
    let (late, fresh): (Vec<Notice>, Vec<Notice>) = match (running, memory.hour) {
        (Some(_), _) => (Vec::new(), waiting),
        (None, Some(hour)) => waiting.into_iter().partition(|n| n.at < hour.saturating_add(HOUR)),
        (None, None) => waiting.into_iter().partition(|n| n.at < now - HOUR),
    };
    let mut plan = Plan { is_new_hour: running.is_none(), ..Plan::default() };
    let mut late = grouped(late);
    // At the hour's end; a loss within the first minute of a flood is told at the end of the hour that begins now.
    let gone = if running.is_none() && (memory.hour.is_some() || fresh.is_empty() || !late.is_empty()) {
        gone
    } else {
        0
    };
    if late.len() > 1 || gone > 0 {
        plan.digest = Some(Digest { groups: late, gone });
    } else {
        plan.ones.append(&mut late);
    }
    let mut told: Vec<(String, String)> = match running {
        Some(_) => memory.told.clone(),
        None => plan.ones.iter().map(Group::key).collect(),
    };
    for group in grouped(fresh) {
        if told.len() >= ceiling {
            break;
        }
        if !told.contains(&group.key()) {
            told.push(group.key());
            plan.ones.push(group);
        }
    }
    plan
}

/// Equal events together, in the order of the first of each.
pub(super) fn grouped(notices: Vec<Notice>) -> Vec<Group> {
    let mut places: HashMap<(String, String), usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for notice in notices {
        let key = (notice.kind.clone(), notice.account.clone());
        match places.get(&key).and_then(|place| groups.get_mut(*place)) {
            Some(group) => {
                group.last = group.last.max(notice.at);
                group.ids.push(notice.id);
            }
            None => {
                places.insert(key, groups.len());
                groups.push(Group { last: notice.at, ids: vec![notice.id], first: notice });
            }
        }
    }
    groups
}

/// How long a channel rests after so many failures, in seconds: the first few are tried again with the next tick, then
/// after 2, 4, 8, 16 and at most 30 minutes.
pub(super) fn rest(tries: u32) -> Seconds {
    match tries {
        0..6 => 0,
        more => (60 << (more - 5).min(5)).min(LONGEST_REST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Seconds = 1_700_000_000;

    fn notice(id: i64, at: Seconds, account: &str) -> Notice {
        Notice { id, at, kind: "stopped".into(), account: account.into(), detail: String::new() }
    }

    fn remembered(hour: Seconds, told: &[&str]) -> Memory {
        let told = told.iter().map(|account| ("stopped".into(), account.to_string())).collect();
        Memory { hour: Some(hour), told, ..Memory::default() }
    }

    fn accounts(groups: &[Group]) -> Vec<&str> {
        groups.iter().map(|g| g.first.account.as_str()).collect()
    }

    #[test]
    fn the_first_of_an_hour_go_one_by_one_and_equal_ones_are_one() {
        let waiting =
            vec![notice(1, NOON, "a"), notice(2, NOON, "b"), notice(3, NOON + 1, "a"), notice(4, NOON, "c")];
        let plan = plan(waiting, 0, &Memory::default(), 2, NOON + 5);
        assert_eq!((accounts(&plan.ones), plan.digest), (vec!["a", "b"], None));
        assert_eq!((plan.ones[0].ids.clone(), plan.ones[0].last), (vec![1, 3], NOON + 1));
    }

    #[test]
    fn within_the_hour_what_was_told_and_what_is_beyond_the_ceiling_waits() {
        let waiting =
            || vec![notice(3, NOON + 60, "a"), notice(4, NOON + 61, "b"), notice(5, NOON + 62, "c")];
        let memory = remembered(NOON, &["a"]);
        let within = plan(waiting(), 7, &memory, 2, NOON + 3599);
        assert_eq!((accounts(&within.ones), within.digest, within.is_new_hour), (vec!["b"], None, false));
        let after = plan(waiting(), 7, &memory, 2, NOON + 3600);
        let digest = after.digest.unwrap();
        assert_eq!((accounts(&digest.groups), digest.gone), (vec!["a", "b", "c"], 7));
        assert!(after.ones.is_empty() && after.is_new_hour);
    }

    #[test]
    fn what_came_after_the_hour_is_no_part_of_its_digest() {
        let waiting = vec![notice(3, NOON + 60, "a"), notice(4, NOON + 61, "b"), notice(5, NOON + 3700, "c")];
        let plan = plan(waiting, 0, &remembered(NOON, &["a"]), 1, NOON + 3720);
        assert_eq!(accounts(&plan.digest.unwrap().groups), ["a", "b"]);
        assert_eq!(accounts(&plan.ones), ["c"]);
    }

    #[test]
    fn a_digest_of_one_event_is_that_event() {
        let waiting = vec![notice(3, NOON + 60, "a"), notice(4, NOON + 90, "a")];
        let plan = plan(waiting, 0, &remembered(NOON, &["a"]), 10, NOON + 4000);
        assert_eq!((plan.digest, plan.ones.len(), plan.ones[0].ids.len()), (None, 1, 2));
    }

    #[test]
    fn what_nothing_could_be_told_about_for_hours_is_told_in_a_digest() {
        let old = (0..50).map(|n| notice(n, NOON, &n.to_string()));
        let waiting = old.chain([notice(60, NOON + 9000, "new")]).collect();
        let plan = plan(waiting, 0, &Memory::default(), 10, NOON + 9000);
        assert_eq!((plan.digest.unwrap().groups.len(), accounts(&plan.ones)), (50, vec!["new"]));
    }

    #[test]
    fn a_clock_that_jumped_back_ends_the_hour() {
        let plan = plan(vec![notice(3, NOON, "a")], 0, &remembered(NOON + 90_000, &["a"]), 10, NOON);
        assert_eq!(accounts(&plan.ones), ["a"]);
    }

    #[test]
    fn a_channel_that_fails_rests_for_longer_and_never_for_more_than_half_an_hour() {
        let rests: Vec<_> = (0..14).map(rest).collect();
        assert_eq!(rests, [0, 0, 0, 0, 0, 0, 120, 240, 480, 960, 1800, 1800, 1800, 1800]);
        assert_eq!(rest(u32::MAX), 1800);
    }

    proptest! {
        /// Ticks at any times until all is told: nothing is lost or told twice, and no hour has more than its ceiling.
        #[test]
        fn whatever_happens_everything_is_told_once_and_the_ceiling_holds(
            events in proptest::collection::vec((0..20_000i64, 0..8u8), 0..80),
            ticks in proptest::collection::vec(1..5000i64, 1..40),
            ceiling in 1..5usize,
        ) {
            let mut queue: Vec<_> = events.iter().map(|(at, who)| (NOON + at, who.to_string())).collect();
            queue.sort();
            let mut queue: Vec<Notice> =
                queue.iter().enumerate().map(|(id, (at, who))| notice(i64::try_from(id).unwrap(), *at, who)).collect();
            let (mut memory, mut now, mut seen, mut sent) = (Memory::default(), NOON, Vec::new(), Vec::new());
            for step in ticks.into_iter().chain([30_000, 4000, 4000]) {
                now += step;
                let waiting: Vec<_> = queue.iter().filter(|n| n.at <= now).cloned().collect();
                let plan = plan(waiting, 0, &memory, ceiling, now);
                if plan.is_new_hour {
                    (memory.hour, memory.told) = (None, Vec::new());
                }
                let mut told: Vec<i64> = Vec::new();
                told.extend(plan.digest.iter().flat_map(|d| d.groups.iter().flat_map(|g| g.ids.clone())));
                for one in &plan.ones {
                    memory.hour.get_or_insert(now);
                    memory.told.push(one.key());
                    sent.push(now);
                    told.extend(&one.ids);
                }
                queue.retain(|n| !told.contains(&n.id));
                seen.extend(told);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..i64::try_from(events.len()).unwrap()).collect::<Vec<_>>());
            for begin in &sent {
                // Two hours can meet within one that is laid over both; a digest of one event comes on top.
                let within = sent.iter().filter(|at| (*begin..begin + HOUR).contains(*at)).count();
                prop_assert!(within <= 2 * ceiling + 1, "{within}");
            }
        }
    }
}
