//! What further limits say, at their edges, and a naive model of one.

use super::*;
use proptest::prelude::*;

const NOON: Seconds = 1_700_000_000;
const HOUR: i64 = 3600;
const ALLOWED: i64 = 10;

/// A limit, who sends, and what was counted so far.
struct Sender {
    limits: Vec<Applied>,
    counted: Counted,
    binds: bool,
    now: Seconds,
}

fn limit(action: Action) -> Limit {
    let name = "some".to_owned();
    Limit { id: 7, name, most: ALLOWED, window: HOUR, action, ..Limit::brought().swap_remove(0) }
}

impl Sender {
    fn under(limit: Limit) -> Sender {
        let mut sender = Sender { limits: Vec::new(), counted: Counted::default(), binds: true, now: NOON };
        sender.limits.push(Applied { most: Some(limit.most), limit: Arc::new(limit), key: None });
        sender
    }

    /// Sends one message to so many.
    fn sends(&mut self, recipients: i64) -> Judged {
        self.sends_what(&Weight { recipients, nameless: recipients, ..Weight::default() })
    }

    fn sends_what(&mut self, weight: &Weight) -> Judged {
        let judged = judge(&self.limits, None, &self.counted, weight, self.binds, self.now);
        self.counted = judged.counted.clone();
        judged
    }
}

#[test]
fn exactly_the_number_passes_and_the_message_beyond_it_is_answered_by_the_action() {
    for (action, quota) in [(Action::Stop, None), (Action::Slow, Some(20))] {
        let mut sender = Sender::under(limit(action));
        assert_eq!((sender.sends(4).answer, sender.sends(6).answer), (None, None));
        match sender.sends(1).answer {
            Some(Answer::Stop { until, limit, quota: said, key: None, .. }) => {
                assert_eq!((until, limit.as_str(), said), (NOON + 6 * HOUR, "some", quota));
            }
            other => panic!("{other:?}"),
        }
    }
    let mut waiting = Sender::under(limit(Action::Wait));
    assert_eq!(waiting.sends(10).answer, None);
    assert!(matches!(waiting.sends(1).answer, Some(Answer::Wait(_))));
    // What was refused is not counted: there is room again as soon as the first is old enough.
    waiting.now += HOUR;
    assert_eq!(waiting.sends(10).answer, None);
}

#[test]
fn a_message_that_can_never_pass_is_refused_for_good_and_counts_nothing() {
    let mut sender = Sender::under(limit(Action::Stop));
    let never = sender.sends(11);
    let Some(Answer::Never(reason)) = &never.answer else { panic!("{never:?}") };
    assert!(!reason.is_temporary());
    assert_eq!(
        reason.for_client(),
        "Not more than 10 recipients in 1 hour are allowed, and this message has 11."
    );
    assert_eq!((never.tells.len(), sender.sends(10).answer), (0, None));
}

#[test]
fn a_limit_of_nothing_lets_nothing_pass_and_is_no_fault_of_the_message() {
    let mut sender = Sender::under(Limit { most: 0, ..limit(Action::Wait) });
    assert!(matches!(sender.sends(1).answer, Some(Answer::Wait(_))));
}

#[test]
fn who_is_told_of_or_watched_sends_on_and_it_is_told_once_a_day() {
    for (of, effect) in [
        (limit(Action::Notify), Effect::Told),
        (Limit { mode: Mode::Monitor, ..limit(Action::Stop) }, Effect::Watched),
    ] {
        let mut sender = Sender::under(of);
        let told: Vec<usize> = (0..50).map(|_| sender.sends(1).tells.len()).collect();
        assert_eq!((told[9], told[10], told.iter().sum::<usize>()), (0, 1, 1));
        sender.now += 86_400 - 1;
        assert!((0..20).all(|_| sender.sends(1).tells.is_empty()));
        sender.now += 1;
        let again = sender.sends(1);
        assert!(
            matches!(&again.tells[..], [Reason::BeyondLimit(beyond)] if beyond.effect == effect),
            "{again:?}"
        );
    }
}

#[test]
fn a_sender_that_stands_for_many_is_told_of_and_never_stopped() {
    let mut sender = Sender { binds: false, ..Sender::under(limit(Action::Stop)) };
    let judged: Vec<Judged> = (0..20).map(|_| sender.sends(1)).collect();
    assert!(judged.iter().all(|j| j.answer.is_none()));
    assert_eq!(judged.iter().map(|j| j.tells.len()).sum::<usize>(), 1);
}

#[test]
fn the_first_limit_that_answers_decides_and_no_limit_counts_what_is_refused() {
    let mut sender = Sender::under(limit(Action::Wait));
    let second = Limit { id: 8, name: "other".into(), most: 3, ..limit(Action::Wait) };
    sender.limits.push(Applied { most: Some(3), limit: Arc::new(second), key: Some("@example.test".into()) });
    assert_eq!(sender.sends(3).answer, None);
    for _ in 0..5 {
        let Some(Answer::Wait(reason)) = sender.sends(1).answer else { panic!() };
        assert!(reason.for_admin().contains("limit other"), "{}", reason.for_admin());
        assert!(reason.for_client().contains("from here"), "{}", reason.for_client());
    }
    assert_eq!(sender.counted.own.of(7).count(), 3);
    assert_eq!(sender.counted.at(Some("@example.test")).of(8).count(), 3);
}

#[test]
fn the_same_recipient_counts_once_within_the_window() {
    let mut sender = Sender::under(Limit { counts: Counts::DistinctRecipients, ..limit(Action::Wait) });
    let to = |hashes: std::ops::Range<u32>| Weight { hashes: hashes.collect(), ..Weight::default() };
    for _ in 0..30 {
        assert_eq!(sender.sends_what(&to(0..10)).answer, None);
    }
    assert!(matches!(sender.sends_what(&to(9..11)).answer, Some(Answer::Wait(_))));
    assert_eq!(sender.sends_what(&to(3..5)).answer, None);
    let nameless = Weight { nameless: 1, ..to(0..2) };
    assert!(matches!(sender.sends_what(&nameless).answer, Some(Answer::Wait(_))));
}

#[test]
fn a_clock_set_back_frees_nobody_and_one_set_forward_ends_only_what_it_would_have_ended() {
    let mut sender = Sender::under(limit(Action::Wait));
    sender.sends(10);
    sender.now -= HOUR;
    assert!(matches!(sender.sends(1).answer, Some(Answer::Wait(_))));
    sender.now += HOUR - 1;
    assert!(matches!(sender.sends(1).answer, Some(Answer::Wait(_))), "set back it counts from then on");
    sender.now += 1;
    assert_eq!(sender.sends(1).answer, None);
}

#[test]
fn what_was_counted_for_a_limit_that_is_gone_is_forgotten() {
    let mut sender = Sender::under(limit(Action::Wait));
    sender.sends(10);
    sender.limits = Sender::under(Limit { id: 9, ..limit(Action::Wait) }).limits;
    assert_eq!(sender.sends(10).answer, None);
    assert_eq!(sender.counted.own.of(7).count(), 0);
    // Of a domain or the server too, whose rows nothing else tidies.
    for id in 10..200 {
        sender.limits = Sender::under(Limit { id, ..limit(Action::Wait) }).limits;
        sender.limits[0].key = Some("@".into());
        assert_eq!(sender.sends(10).answer, None);
        assert!(matches!(sender.sends(1).answer, Some(Answer::Wait(_))), "{id}");
    }
    assert!(sender.counted.at(Some("@")).stored().len() < 40);
}

#[test]
fn who_cannot_be_stopped_takes_no_room_from_the_others() {
    let mut sender = Sender { binds: false, ..Sender::under(limit(Action::Wait)) };
    sender.limits[0].key = Some("@".into());
    assert!((0..30).all(|_| sender.sends(1).answer.is_none()));
    sender.binds = true;
    assert_eq!(sender.sends(10).answer, None);
}

proptest! {
    /// The oracle is a plain list of what passed.
    #[test]
    fn whatever_is_sent_when_the_limit_lets_as_much_pass_as_a_plain_list_would(
        messages in proptest::collection::vec((0i64..900, 1i64..8), 1..120),
    ) {
        let mut sender = Sender::under(limit(Action::Wait));
        let mut passed: Vec<(Seconds, i64)> = Vec::new();
        for (pause, recipients) in messages {
            sender.now += pause;
            passed.retain(|(at, _)| *at > sender.now - HOUR);
            let fits = passed.iter().map(|(_, n)| n).sum::<i64>() + recipients <= ALLOWED;
            prop_assert_eq!(sender.sends(recipients).answer.is_none(), fits);
            if fits {
                passed.push((sender.now, recipients));
            }
        }
    }
}
