//! What a sender meets from its first message to its release, and a naive model of the same.
//!
//! A [`Sender`] sends and waits; what is recorded is kept as the state keeps it.

use super::*;
use crate::account::Account;
use crate::request::Door;
use crate::verdict::Missing;
use proptest::prelude::*;

const NOON: Seconds = 1_700_000_000;
const SIX_HOURS: i64 = 6 * 3600;

/// A stop by the Outbound Rate Limiter.
fn until(until: Seconds) -> Stopped {
    Stopped { until, limit: OUTBOUND.into(), ..Stopped::default() }
}

/// Somebody who sends, with what is known of him.
#[derive(Clone, Debug)]
struct Sender {
    send: Send,
    policy: SendPolicy,
    state: SenderState,
    now: Seconds,
}

impl Sender {
    /// Alice, through SMTP.
    fn new() -> Sender {
        let send = Send {
            account: Account::from_server("alice@example.test"),
            address: "198.51.100.9".parse().ok(),
            by_mail_server: false,
            uid: None,
            recipients: 1,
            named: Vec::new(),
            message: None,
            local: false,
            door: Door::EximData,
        };
        Sender { send, policy: SendPolicy::default(), state: SenderState::default(), now: NOON }
    }

    /// A program of a local user's.
    fn local(name: &str) -> Sender {
        let mut sender = Sender::new();
        sender.send.account = Account::from_server(name);
        sender.send.address = None;
        sender.send.uid = Some(1000);
        sender.send.local = true;
        sender.send.door = Door::EximLocal;
        sender
    }

    fn stopped_until(&self) -> Option<Seconds> {
        self.state.stops.first().map(|stop| stop.until)
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Sender {
        change(Arc::make_mut(&mut self.policy.settings));
        self
    }

    fn policy(mut self, change: impl FnOnce(&mut SendPolicy)) -> Sender {
        change(&mut self.policy);
        self
    }

    fn waits(&mut self, seconds: i64) -> &mut Sender {
        self.now += seconds;
        self
    }

    /// Sends one message and keeps what is recorded of it.
    fn sends(&mut self) -> SendDecision {
        let policy = Fact::Known(self.policy.clone());
        let decision = decide_without_state(&self.send, &policy).unwrap_or_else(|| {
            decide_with_state(&self.send, &self.policy, &Fact::Known(self.state.clone()), self.now)
        });
        self.keep(&decision);
        decision
    }

    fn keep(&mut self, decision: &SendDecision) {
        match decision.record.clone() {
            Record::Nothing | Record::NotNow => {}
            Record::Count(window) => self.state.window = window,
            Record::Stop { stop, window } => {
                (self.state.stops, self.state.window) = (vec![stop], window);
            }
            Record::TellOnly { window, told_until } => {
                self.state.window = window;
                self.state.told_until = told_until.or(self.state.told_until);
            }
            Record::RefusedAgain { until, window, .. } => {
                let stop = self.state.stops.first_mut().unwrap();
                (stop.until, self.state.window) = (until.min(stop.until), window);
            }
        }
        if let Some(counted) = &decision.counted {
            self.state.counted = counted.clone();
        }
        self.state.held += i64::from(decision.verdict == Verdict::Hold);
    }

    fn verdict(&mut self) -> Verdict {
        self.sends().verdict
    }

    /// Sends so many in this second; all must be allowed.
    #[track_caller]
    fn sends_freely(&mut self, many: usize) -> &mut Sender {
        for n in 1..=many {
            let decision = self.sends();
            assert_eq!(decision.verdict, Verdict::Allow, "message {n}: {decision:?}");
        }
        self
    }

    /// Sends one more, which stops him; gives until when.
    #[track_caller]
    fn is_stopped_by_one_more(&mut self) -> Seconds {
        match self.sends() {
            SendDecision { reason: Reason::OverLimit { until, .. }, record: Record::Stop { .. }, .. } => {
                until
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn message_150_passes_and_message_151_does_not() {
    let mut alice = Sender::new();
    alice.sends_freely(149);
    let last = alice.sends();
    assert_eq!((last.verdict, last.reason), (Verdict::Allow, Reason::WithinLimit(150, 150)));
    let over = alice.sends();
    let until = NOON + SIX_HOURS;
    assert_eq!(over.verdict, Verdict::Refuse);
    assert_eq!(over.reason, Reason::OverLimit { limit: 150, window: 300, until });
    assert_eq!(alice.stopped_until(), Some(until));
}

#[test]
fn a_message_leaves_the_window_in_the_second_in_which_it_is_as_old_as_the_window_is_long() {
    let after = |seconds| Sender::new().sends_freely(150).waits(seconds).verdict();
    assert_eq!(after(0), Verdict::Refuse);
    assert_eq!(after(299), Verdict::Refuse);
    assert_eq!(after(300), Verdict::Allow);
}

#[test]
fn the_window_slides_message_by_message() {
    let mut alice = Sender::new();
    alice.sends_freely(1).waits(1).sends_freely(149).waits(299);
    alice.sends_freely(1);
    assert_eq!(alice.verdict(), Verdict::Refuse);
}

#[test]
fn one_message_every_two_seconds_never_goes_over() {
    let mut alice = Sender::new();
    for _ in 0..2000 {
        alice.sends_freely(1).waits(2);
    }
}

#[test]
fn a_stop_ends_in_its_last_second_and_not_before() {
    let mut alice = Sender::new();
    let until = alice.sends_freely(150).is_stopped_by_one_more();
    alice.now = until - 1;
    assert_eq!(alice.sends().reason, Reason::SendingStopped(until));
    alice.now = until;
    alice.sends_freely(150);
    assert_eq!(alice.verdict(), Verdict::Refuse);
}

#[test]
fn trying_again_never_extends_a_stop() {
    let mut alice = Sender::new();
    let until = alice.sends_freely(150).is_stopped_by_one_more();
    for _ in 0..500 {
        let again = alice.waits(40).sends();
        assert_eq!((again.verdict, again.reason), (Verdict::Refuse, Reason::SendingStopped(until)));
        assert!(matches!(again.record, Record::RefusedAgain { until: same, .. } if same == until));
    }
    alice.now = until;
    alice.sends_freely(150);
}

#[test]
fn what_was_refused_never_enters_the_window() {
    let mut alice = Sender::new().with(|s| s.rate_limit_block = 60);
    alice.sends_freely(150).is_stopped_by_one_more();
    for _ in 0..59 {
        assert_eq!(alice.waits(1).verdict(), Verdict::Refuse);
    }
    // The stop is shorter than the window, so the window is still full when it ends.
    assert_eq!(alice.waits(1).verdict(), Verdict::Refuse);
    alice.waits(240).sends_freely(150);
}

#[test]
fn a_stop_that_is_gone_with_its_window_leaves_the_whole_limit() {
    let mut alice = Sender::new();
    alice.sends_freely(150).is_stopped_by_one_more();
    alice.state = SenderState::default();
    alice.sends_freely(150);
    alice.is_stopped_by_one_more();
}

#[test]
fn a_clock_that_jumps_forward_ends_a_stop() {
    let mut alice = Sender::new();
    alice.sends_freely(150).is_stopped_by_one_more();
    alice.waits(365 * 86_400).sends_freely(150);
}

#[test]
fn a_stop_outlasts_its_duration_by_nothing_when_the_clock_is_set_back() {
    let mut alice = Sender::new();
    alice.sends_freely(150).is_stopped_by_one_more();
    let first = alice.waits(-365 * 86_400).sends();
    let until = alice.now + SIX_HOURS;
    assert_eq!((first.verdict, first.reason), (Verdict::Refuse, Reason::SendingStopped(until)));
    // Its new end does not move either.
    assert_eq!(alice.waits(3600).sends().reason, Reason::SendingStopped(until));
    alice.now = until;
    alice.sends_freely(150);
}

#[test]
fn messages_from_before_the_clock_was_set_back_count_once_and_then_leave() {
    let mut alice = Sender::new();
    alice.sends_freely(150).waits(-86_400);
    let until = alice.is_stopped_by_one_more();
    alice.now = until;
    alice.sends_freely(150);

    let mut bob = Sender::new();
    bob.sends_freely(100).waits(-86_400).sends_freely(50);
    bob.is_stopped_by_one_more();
    let mut carol = Sender::new();
    carol.sends_freely(100).waits(-86_400).sends_freely(1).waits(300).sends_freely(150);
}

#[test]
fn a_shorter_duration_shortens_a_stop_that_runs_and_a_longer_one_does_not_lengthen_it() {
    let mut alice = Sender::new();
    let until = alice.sends_freely(150).is_stopped_by_one_more();
    let mut longer = alice.clone().with(|s| s.rate_limit_block = 86_400);
    assert_eq!(longer.sends().reason, Reason::SendingStopped(until));
    let mut shorter = alice.with(|s| s.rate_limit_block = 3600);
    assert_eq!(shorter.sends().reason, Reason::SendingStopped(NOON + 3600));
    shorter.waits(3600).sends_freely(150);
}

#[test]
fn limit_window_and_duration_are_settings() {
    let mut alice = Sender::new().with(|s| {
        (s.rate_limit_messages, s.rate_limit_window, s.rate_limit_block) = (2, 60, 600);
    });
    alice.sends_freely(2);
    assert_eq!(alice.clone().is_stopped_by_one_more(), NOON + 600);
    alice.waits(60).sends_freely(2);
}

#[test]
fn a_message_counts_once_however_many_recipients_it_has() {
    let mut alice = Sender::new();
    alice.send.recipients = 20;
    alice.sends_freely(150);
    assert_eq!(alice.verdict(), Verdict::Refuse);
}

#[test]
fn whoever_is_on_the_whitelist_sends_without_limit_and_is_not_counted() {
    let mut alice = Sender::new().policy(|p| p.whitelisted = Some("@example.test".into()));
    alice.sends_freely(500);
    assert_eq!(alice.sends().reason, Reason::Whitelisted("@example.test".into()));
    assert_eq!(alice.state.window.count(), 0);
}

#[test]
fn a_whitelist_entry_counts_although_a_stop_is_still_written() {
    let mut alice = Sender::new();
    alice.sends_freely(150).is_stopped_by_one_more();
    alice.policy.whitelisted = Some("alice@example.test".into());
    alice.sends_freely(10);
}

#[test]
fn an_exempt_address_that_is_marked_for_sending_sends_without_limit() {
    let mut alice = Sender::new().policy(|p| p.exempt_address = Some("198.51.100.0/24".into()));
    alice.sends_freely(500);
    assert_eq!(alice.sends().reason, Reason::Whitelisted("198.51.100.0/24".into()));
}

#[test]
fn the_administrators_block_goes_before_whitelist_and_exempt_address() {
    for until in [None, Some(NOON + 60)] {
        let mut alice = Sender::new().policy(|p| {
            p.admin_block = Some(until);
            p.whitelisted = Some("alice@example.test".into());
            p.exempt_address = Some("198.51.100.9".into());
        });
        let said = alice.sends();
        assert_eq!((said.verdict, said.reason), (Verdict::Refuse, Reason::AccountBlocked(until)));
        Arc::make_mut(&mut alice.policy.settings).rate_limiter = Mode::Off;
        assert_eq!(alice.verdict(), Verdict::Refuse);
    }
}

#[test]
fn a_local_message_of_an_account_that_the_administrator_blocked_is_refused_and_not_held() {
    let mut webuser = Sender::local("webuser").policy(|p| p.admin_block = Some(None));
    assert_eq!(webuser.verdict(), Verdict::Refuse);
}

#[test]
fn a_limiter_that_is_off_neither_counts_nor_stops() {
    let mut alice = Sender::new().with(|s| s.rate_limiter = Mode::Off);
    alice.sends_freely(500);
    assert_eq!(alice.sends(), plainly(Verdict::Allow, Reason::RuleOff));
    // Neither does it keep up a stop from when it was on.
    let mut bob = Sender::new();
    bob.sends_freely(150).is_stopped_by_one_more();
    bob.with(|s| s.rate_limiter = Mode::Off).sends_freely(10);
}

#[test]
fn a_limiter_that_watches_never_stops_and_tells_once_for_each_duration() {
    let mut alice = Sender::new().with(|s| s.rate_limiter = Mode::Monitor);
    let mut told = 0;
    for _ in 0..SIX_HOURS {
        let said = alice.waits(1).sends();
        assert_eq!(said.verdict, Verdict::Allow);
        if let Record::TellOnly { told_until, .. } = said.record {
            told += usize::from(told_until.is_some());
            assert_eq!(said.reason, Reason::WouldStop { limit: 150, window: 300 });
        }
    }
    assert_eq!(told, 1);
    alice.waits(151).sends_freely(150);
    assert_eq!(alice.waits(0).sends().reason.key(), "would_stop");
    // A stop from when it was enforced is not kept up.
    alice.state.stops = vec![until(alice.now + 60)];
    alice.sends_freely(1);
}

#[test]
fn a_shared_user_is_told_about_once_for_each_duration_and_never_stopped() {
    let mut web = Sender::local("www-data");
    web.sends_freely(150);
    let first = web.sends();
    assert_eq!((first.verdict, &first.reason), (Verdict::Allow, &Reason::SharedUser(150)));
    let until = NOON + SIX_HOURS;
    assert!(matches!(first.record, Record::TellOnly { told_until: Some(t), .. } if t == until));
    for _ in 0..300 {
        let again = web.sends();
        assert_eq!(again.verdict, Verdict::Allow);
        assert!(matches!(again.record, Record::TellOnly { told_until: None, .. }));
    }
    web.now = until - 1;
    web.sends_freely(150);
    assert!(matches!(web.sends().record, Record::TellOnly { told_until: None, .. }));
    web.now = until;
    assert!(matches!(web.sends().record, Record::TellOnly { told_until: Some(_), .. }));
}

#[test]
fn a_shared_user_is_told_about_again_after_the_clock_was_set_back() {
    let mut web = Sender::local("nobody");
    web.sends_freely(151).waits(-86_400);
    assert!(matches!(web.sends().record, Record::TellOnly { told_until: Some(_), .. }));
    assert!(matches!(web.sends().record, Record::TellOnly { told_until: None, .. }));
}

#[test]
fn a_login_by_the_name_of_a_shared_user_is_stopped_like_any_other() {
    let mut login = Sender::new();
    login.send.account = Account::from_server("www-data");
    login.sends_freely(150);
    assert_eq!(login.verdict(), Verdict::Refuse);
}

#[test]
fn who_is_shared_is_a_setting_and_a_mailbox_of_that_name_is_not() {
    let mut web = Sender::local("webuser").with(|s| s.shared_users = "webuser".into());
    web.sends_freely(500);
    let mut mailbox = Sender::local("www-data@example.test");
    mailbox.sends_freely(150);
    assert_eq!(mailbox.verdict(), Verdict::Hold);
    let mut other = Sender::local("www-data").with(|s| s.shared_users = String::new());
    other.sends_freely(150);
    assert_eq!(other.verdict(), Verdict::Hold);
}

#[test]
fn local_messages_over_the_limit_are_held_up_to_the_ceiling_and_refused_beyond() {
    let mut webuser = Sender::local("webuser").with(|s| s.held_ceiling = 3);
    webuser.sends_freely(150);
    let verdicts: Vec<_> = (0..5).map(|_| webuser.verdict()).collect();
    assert_eq!(verdicts[..3], [Verdict::Hold; 3]);
    assert_eq!(verdicts[3..], [Verdict::Refuse; 2]);
    // Room for one more, once one was released or removed.
    webuser.state.held -= 1;
    assert_eq!([webuser.verdict(), webuser.verdict()], [Verdict::Hold, Verdict::Refuse]);
    let mut none = Sender::local("webuser").with(|s| s.held_ceiling = 0);
    none.sends_freely(150);
    assert_eq!(none.verdict(), Verdict::Refuse);
}

#[test]
fn local_messages_over_the_limit_are_refused_where_the_setting_says_so() {
    let mut webuser = Sender::local("webuser").with(|s| s.local_over_limit = OverLimit::Refuse);
    webuser.sends_freely(150);
    assert_eq!([webuser.verdict(), webuser.verdict()], [Verdict::Refuse; 2]);
}

#[test]
fn messages_of_network_clients_are_never_held() {
    let mut alice = Sender::new();
    alice.sends_freely(150);
    assert_eq!([alice.verdict(), alice.verdict()], [Verdict::Refuse; 2]);
}

#[test]
fn bounces_notices_and_inbound_mail_are_never_counted_and_never_stopped() {
    let mut bounce = Sender::local("Debian-exim");
    bounce.send.account = None;
    bounce.send.by_mail_server = true;
    let mut notice = Sender::local("postern").policy(|p| p.by_postern = true);
    let mut inbound = Sender::new();
    inbound.send.account = None;
    for sender in [&mut bounce, &mut notice, &mut inbound] {
        // Not even a block of everything of that name keeps them.
        sender.policy.admin_block = Some(None);
        sender.state.stops = vec![until(NOON + SIX_HOURS)];
        sender.sends_freely(500);
        assert_eq!(sender.sends().record, Record::Nothing);
        assert_eq!(sender.state.window.count(), 0);
    }
    assert_eq!(bounce.sends().reason, Reason::OwnMessage);
    assert_eq!(notice.sends().reason, Reason::OwnMessage);
    assert_eq!(inbound.sends().reason, Reason::Inbound);
}

#[test]
fn missing_facts_let_mail_go_on() {
    let alice = Sender::new();
    let no_policy = plainly(Verdict::Allow, Reason::FactMissing(Missing::Policy));
    assert_eq!(decide_without_state(&alice.send, &Fact::Missing(Missing::Policy)), None);
    for state in [Fact::Missing(Missing::State), Fact::Known(alice.state.clone())] {
        assert_eq!(decide_without_policy(&alice.send, Missing::Policy, &state, NOON), no_policy);
    }
    let missing = Fact::Missing(Missing::State);
    for sender in [alice, Sender::local("webuser"), Sender::local("nobody")] {
        let no_state = decide_with_state(&sender.send, &sender.policy, &missing, NOON);
        assert_eq!(no_state, plainly(Verdict::Allow, Reason::FactMissing(Missing::State)));
    }
}

#[test]
fn a_missing_policy_does_not_lift_a_stop_nor_make_one() {
    let mut stopped = Sender::new().with(|s| s.rate_limit_window = 3600);
    stopped.state.stops = vec![until(NOON + 90)];
    (0..500).for_each(|_| stopped.state.window.add(NOON - 1000, 1));
    let says = |sender: &Sender| {
        let state = Fact::Known(sender.state.clone());
        decide_without_policy(&sender.send, Missing::Policy, &state, sender.now)
    };
    let said = says(&stopped);
    assert_eq!((said.verdict, said.reason), (Verdict::Refuse, Reason::SendingStopped(NOON + 90)));
    // Neither the end nor what was counted is changed by settings that are not the administrator's.
    let window = stopped.state.window.clone();
    assert_eq!(said.record, Record::RefusedAgain { until: NOON + 90, window, key: None });
    stopped.now = NOON + 90;
    assert_eq!(says(&stopped), plainly(Verdict::Allow, Reason::FactMissing(Missing::Policy)));
    let mut local = Sender::local("webuser");
    local.state.stops = vec![until(NOON + 90)];
    assert_eq!(says(&local).verdict, Verdict::Hold);
}

#[test]
fn a_missing_state_does_not_soften_the_administrators_block() {
    let alice = Sender::new().policy(|p| p.admin_block = Some(None));
    let said = decide_without_state(&alice.send, &Fact::Known(alice.policy.clone())).unwrap();
    assert_eq!(said.verdict, Verdict::Refuse);
}

#[test]
fn what_anybody_writes_into_the_window_stops_nobody_for_longer_than_the_duration() {
    let mut alice = Sender::new();
    alice.state.window = Window::read(&[0xff; 8 * 4000]);
    alice.state.stops = vec![until(i64::MAX)];
    assert_eq!(alice.verdict(), Verdict::Refuse);
    alice.waits(SIX_HOURS);
    let again = alice.verdict();
    assert_eq!(again, Verdict::Allow, "{:?}", alice.stopped_until());
}

/// The same kept in the plainest way: a list of times, and when the stop ends.
#[derive(Default)]
struct Naive {
    times: Vec<Seconds>,
    stopped_until: Option<Seconds>,
}

impl Naive {
    /// Whether one more message may leave now.
    fn lets_out(&mut self, now: Seconds, limit: i64, window: i64, duration: i64) -> bool {
        // A stored time in the future counts as now; what has left the window is forgotten.
        self.times.retain(|t| *t > now - window);
        self.times.iter_mut().for_each(|t| *t = now.min(*t));
        self.stopped_until = self.stopped_until.map(|until| until.min(now + duration));
        if self.stopped_until.is_some_and(|until| now < until) {
            return false;
        }
        if self.times.len() as i64 >= limit {
            self.stopped_until = Some(now + duration);
            return false;
        }
        self.times.push(now);
        true
    }
}

fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0i64..3,
        3 => 0i64..90,
        1 => 0i64..2000,
        1 => -2000i64..0,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn any_sequence_of_messages_is_answered_as_by_a_plain_list_of_times(
        pauses in proptest::collection::vec(pause(), 1..200),
        limit in 1i64..12,
        window in 60i64..400,
        duration in 60i64..1000,
    ) {
        let mut alice = Sender::new().with(|s| {
            (s.rate_limit_messages, s.rate_limit_window, s.rate_limit_block) = (limit, window, duration);
        });
        let mut naive = Naive::default();
        for (n, pause) in pauses.into_iter().enumerate() {
            alice.waits(pause);
            let said = alice.sends();
            let expected = naive.lets_out(alice.now, limit, window, duration);
            prop_assert_eq!(said.verdict == Verdict::Allow, expected, "message {} at {}: {:?}", n, alice.now, said);
            if let Reason::OverLimit { until, .. } | Reason::SendingStopped(until) = said.reason {
                prop_assert_eq!(Some(until), naive.stopped_until);
                prop_assert!(alice.now < until && until <= alice.now + duration);
            }
            alice.state.window = Window::read(&alice.state.window.stored());
        }
    }
}
