//! Who decides in the keeper: a few sets of open files, each for one thread at a time.
//!
//! A request that finds none free within 0.3 seconds is decided without being counted, as a hook does that
//! comes after a late keeper; a request that panics costs itself and its set. The event loop has a set of its own, with
//! which it decides several requests in one transaction.

use crate::call::Call;
use crate::clock::Clock;
use crate::flow;
use crate::kept::{Kept, KeptState, Together};
use crate::paths::Paths;
use crate::policy::Head;
use crate::request::Request;
use crate::store::state::{self, Within};
use crate::tally;
use crate::trouble::{self, Trouble};
use crate::verdict::{Answer, Reason, Verdict};
use nix::unistd::geteuid;
use parking_lot::{Condvar, Mutex};
use std::cell::RefCell;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The name by which log lines know the keeper.
pub(super) const PROGRAM: &str = "postern-keeper";

/// How many decide at a time. One that waits for the state or the disk keeps no other from looking things up.
const AT_ONCE: usize = 4;

/// How long a request waits for its turn.
const TURN: Duration = Duration::from_millis(300);

/// A question, and whose.
pub(super) struct AskedBy<'a> {
    pub(super) uid: u32,
    pub(super) admitted: bool,
    pub(super) request: &'a Request,
}

/// What the policy says of users.
struct Known {
    kept: Kept,
    /// What was read last.
    head: Option<Arc<Head>>,
}

/// All that decide.
pub(super) struct Engines {
    pub(super) paths: Paths,
    clock: Clock,
    free: Mutex<Vec<Kept>>,
    freed: Condvar,
    /// Who may ask stands in the policy too; nobody waits for a turn to be turned away.
    known: Mutex<Known>,
    state: Arc<KeptState>,
    /// Requests of this account panic, or the work of this name: a fault that a test asks for.
    fault: Option<String>,
}

impl Engines {
    pub(super) fn new(paths: Paths, clock: Clock, fault: Option<String>) -> Engines {
        let state = Arc::new(KeptState::for_long());
        let free = (0..AT_ONCE).map(|_| Kept::new(state.clone())).collect();
        Engines {
            paths,
            clock,
            free: Mutex::new(free),
            freed: Condvar::new(),
            known: Mutex::new(Known { kept: Kept::new(state.clone()), head: None }),
            state,
            fault,
        }
    }

    /// Surroundings without anything that is kept.
    pub(super) fn call(&self) -> Call<'static> {
        Call::new(self.paths.clone(), self.clock.now(), PROGRAM)
    }

    /// Answers this user. Root's requests are decided and never counted; who may not ask is told nothing.
    pub(super) fn answer_to(&self, uid: u32, admitted: bool, request: &Request) -> Answer {
        match admitted {
            true => self.answer(request, uid != 0),
            false => not_counted(),
        }
    }

    /// Answers; `records`: whether the request is counted at all.
    pub(super) fn answer(&self, request: &Request, records: bool) -> Answer {
        match self.take() {
            Some(kept) => self.decide(kept, request, records),
            None => self.decide_busy(request),
        }
    }

    fn decide(&self, kept: Kept, request: &Request, records: bool) -> Answer {
        let decided = self.decide_by(&Call { kept: Some(&kept), records, ..self.call() }, request);
        self.give_back(match &decided {
            Ok(_) => kept,
            Err(_) => self.another_set(),
        });
        decided.unwrap_or_else(|stands| stands)
    }

    /// Files that nobody else works with yet.
    pub(super) fn another_set(&self) -> Kept {
        Kept::new(self.state.clone())
    }

    /// Decides; after a panic what was decided before stands.
    fn decide_by(&self, call: &Call, request: &Request) -> std::result::Result<Answer, Answer> {
        let refusal = RefCell::new(None);
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let answer = flow::answer(call, request, &|answer| {
                *refusal.borrow_mut() = Some(answer.clone());
                self.have_fault(request);
            });
            self.have_fault(request);
            answer
        }));
        decided.map_err(|_| refusal.into_inner().unwrap_or_else(not_counted))
    }

    /// Answers several that share one transaction on the state, in order; none of them where the state cannot be had
    /// at once. A panic costs its question alone, and the set of files.
    ///
    /// Not for local messages: what is held and could not be recorded is noted elsewhere before it is answered.
    pub(super) fn answer_together(&self, kept: &mut Kept, asked: &[AskedBy]) -> Option<Vec<Answer>> {
        let call = Call { kept: Some(kept), ..self.call() };
        let uncounted = Call { records: false, ..call.clone() };
        let decide = |by: &AskedBy| match (by.admitted, by.uid) {
            (false, _) => Ok(not_counted()),
            (true, 0) => self.decide_by(&uncounted, by.request),
            (true, _) => self.decide_by(&call, by.request),
        };
        let within = if asked.len() > 1 { Within::Several } else { Within::One };
        let together =
            call.kept?.together(&call.paths, within, || asked.iter().map(decide).collect::<Vec<_>>());
        let Together { done, kept: written, lines } = together.ok()?;
        if let Err(error) = written {
            // What was decided from facts that were read stands.
            state::mark_trouble(&call, &error);
        }
        if !lines.is_empty() {
            tally::append_lines(&call, &lines);
        }
        let panicked = done.iter().any(std::result::Result::is_err);
        if panicked {
            *kept = self.another_set();
        }
        Some(done.into_iter().map(|decided| decided.unwrap_or_else(|stands| stands)).collect())
    }

    fn decide_busy(&self, request: &Request) -> Answer {
        let call = Call { records: false, ..self.call() };
        trouble::mark(&call, Trouble::KeeperBusy, "no turn within 0.3 seconds");
        match flow::answer(&call, request, &|_| {}) {
            answer if answer.verdict == Verdict::Allow => not_counted(),
            answer => answer,
        }
    }

    fn take(&self) -> Option<Kept> {
        let mut free = self.free.lock();
        let until = Instant::now() + TURN;
        while free.is_empty() {
            if self.freed.wait_until(&mut free, until).timed_out() {
                break;
            }
        }
        free.pop()
    }

    fn give_back(&self, kept: Kept) {
        self.free.lock().push(kept);
        self.freed.notify_one();
    }

    /// Whether the keeper answers this user. Where the policy is gone, those that it named last are answered.
    pub(super) fn admits(&self, uid: u32) -> bool {
        if uid == 0 || uid == geteuid().as_raw() {
            return true;
        }
        let mut known = self.known.lock();
        match known.kept.with_policy(&self.paths, |policy| policy.ask()?.head()) {
            Ok(head) => known.head = Some(head),
            Err(error) => trouble::mark(&self.call(), Trouble::Policy, &error.to_string()),
        }
        known.head.as_ref().is_some_and(|head| head.mail_uids.contains(&uid))
    }

    /// Whether the state belongs to another user by now than the one who runs this process: he could count nothing,
    /// and as long as he answers no hook does.
    pub(super) fn is_anothers_work(&self) -> bool {
        let owner = std::fs::metadata(self.paths.state_dir()).map(|folder| folder.uid());
        owner.is_ok_and(|owner| owner != geteuid().as_raw())
    }

    /// Holds the state open, and lets it go where somebody wants to replace it.
    pub(super) fn tend_state(&self) {
        self.state.tend(&self.paths);
    }

    /// Lets everything go.
    pub(super) fn end(&self) {
        self.state.let_go();
    }

    fn have_fault(&self, request: &Request) {
        if self.fault.is_none() {
            return;
        }
        let account = match request {
            Request::Login(login) | Request::Use(login) => &login.account,
            Request::Send(send) => &send.account,
            Request::Outcome(outcome) => &outcome.account,
        };
        if let Some(account) = account {
            self.have_fault_of(account.name());
        }
    }

    /// Has the fault that a test asks for by this word.
    #[allow(clippy::panic, reason = "the fault that a test asks for")]
    pub(super) fn have_fault_of(&self, word: &str) {
        if self.fault.as_deref() == Some(word) {
            panic!("asked for by --fault");
        }
    }
}

fn not_counted() -> Answer {
    Answer { verdict: Verdict::Allow, reason: Reason::NotCounted, reference: None }
}
