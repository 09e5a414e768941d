//! One run of the suite: judges rule after rule, remembers what was found, and undoes what was done.

mod cleaning;

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::{
    answer::Answer,
    call::{Call, Instance},
    case::{Breach, Case, Checked, Finding},
    check::{Settings, Tell},
    figures::Figures,
    footprint::Footprint,
    order_ids::OrderIds,
    report::{Exchange, LeftBehind, Progress, RuleReport, Verdict},
    rules::Rule,
    service::Service,
};

/// How often a call is sent before its answer is taken as it is.
const ATTEMPTS_MAX: u32 = 5;
/// A call that was not answered in time this often will not be.
const TIMEOUTS_MAX: u32 = 2;
/// A service that leaves so many calls without an answer is not asked further.
const TIMEOUTS_IN_ALL_MAX: u64 = 10;
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// A service may ask for a longer pause than ours, but not for a longer one than this.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a call was sent, and how often in vain.
#[derive(Default)]
struct Tries {
    attempts: u32,
    timeouts: u32,
}

/// What the rules share.
pub(super) struct Suite<'a> {
    pub(super) settings: &'a Settings,
    service: &'a Service,
    order_ids: &'a OrderIds,
    pub(super) tell: Tell<'a>,
    state: Mutex<State>,
}

/// What was found so far.
#[derive(Default)]
pub(super) struct State {
    pub(super) instances: u32,
    pub(super) figures: Figures,
    pub(super) rules: Vec<RuleReport>,
    pub(super) left_behind: Vec<LeftBehind>,
    pub(super) unreachable: bool,
    footprint: Footprint,
    /// Looks do not tell the truth, so that the rules are judged by the answers alone.
    looks_are_wrong: bool,
    /// Why nothing more is asked.
    stopped: Option<String>,
}

impl<'a> Suite<'a> {
    pub(super) fn new(
        settings: &'a Settings,
        service: &'a Service,
        order_ids: &'a OrderIds,
        tell: Tell<'a>,
    ) -> Self {
        Self { settings, service, order_ids, tell, state: Mutex::default() }
    }

    /// Checks one rule and undoes what that left; tells whether it is kept. Skips it where nothing more is asked.
    pub(super) async fn judge(
        &self,
        rule: &'static Rule,
        check: impl AsyncFnOnce(&Case<'_>) -> Checked,
    ) -> bool {
        let case = Case::new(self);
        let began = Instant::now();
        let stopped = self.stopped();
        let checked = match stopped {
            Some(why) => Ok(Finding::Skipped(why)),
            None => {
                (self.tell)(Progress::Begins(rule));
                let checked = check(&case).await;
                self.take_note(&checked);
                self.clean_up().await;
                checked
            }
        };
        let report = self.report(rule, &case, checked, began.elapsed());
        (self.tell)(Progress::Judged(&report));
        let kept = report.verdict != Verdict::Failed;
        self.state().rules.push(report);
        kept
    }

    /// Nothing more is asked, for this reason; the first one counts.
    pub(super) fn stop(&self, why: &str) {
        self.state().stopped.get_or_insert_with(|| why.to_owned());
    }

    /// From here on the rules are judged by the answers to do and undo alone.
    pub(super) fn ignore_looks(&self) {
        self.state().looks_are_wrong = true;
    }

    pub(super) fn looks_are_right(&self) -> bool {
        !self.state().looks_are_wrong
    }

    pub(super) fn figures(&self) -> Figures {
        self.state().figures
    }

    /// A step instance that nobody has used.
    pub(super) fn instance(&self) -> Instance {
        let mut state = self.state();
        state.instances += 1;
        Instance {
            order_id: self.order_ids.number(state.instances),
            generation: 1,
            step: self.settings.step.clone(),
        }
    }

    /// The same step of another run of the order.
    pub(super) fn next_run(&self, instance: &Instance) -> Instance {
        self.state().instances += 1;
        instance.next_run()
    }

    /// The instances that were undone for sure need no further care.
    pub(super) fn forget_clean(&self) {
        self.state().footprint.forget_clean();
    }

    /// Sends a call once. What it may leave is noted before it is sent.
    pub(super) async fn send(&self, call: &Call) -> Answer {
        self.state().footprint.sending(call);
        let answer = self.service.send(call).await;
        let mut state = self.state();
        state.footprint.answered(call, &answer.meaning);
        state.figures.count(call, &answer);
        answer
    }

    /// Sends a call, with the same key, until `enough` says of an answer that it is one, a few times at most; each answer is
    /// shown to `seen`.
    pub(super) async fn persist(
        &self,
        call: &Call,
        enough: impl Fn(&Answer) -> bool,
        seen: impl Fn(&Answer),
    ) -> Answer {
        let mut tries = Tries::default();
        loop {
            let answer = self.send(call).await;
            seen(&answer);
            if enough(&answer) || !tries.again(&answer).await {
                return answer;
            }
        }
    }

    /// Sends dos in one request, as [`Suite::persist`] does a call; the answers are those to the whole request.
    pub(super) async fn persist_batch(
        &self,
        dos: &[Call],
        enough: impl Fn(&Answer) -> bool,
        seen: impl Fn(&Answer),
    ) -> Answer {
        let mut tries = Tries::default();
        loop {
            let answer = self.send_batch(dos).await;
            seen(&answer);
            if enough(&answer) || !tries.again(&answer).await {
                return answer;
            }
        }
    }

    /// Sends dos in one request, once. What any of them may leave is noted before.
    async fn send_batch(&self, dos: &[Call]) -> Answer {
        for call in dos {
            self.state().footprint.sending(call);
        }
        let whole = self.service.send_batch(dos).await;
        let mut state = self.state();
        for (call, answer) in dos.iter().zip(whole.of_each(&Call::instances(dos))) {
            state.footprint.answered(call, &answer.meaning);
            state.figures.count(call, &answer);
        }
        whole
    }

    /// A call and its answer, for the report.
    pub(super) fn exchange(&self, call: &Call, answer: &Answer) -> Exchange {
        self.service.exchange(call, answer)
    }

    /// A do of a batch and its answer, for the report.
    pub(super) fn exchange_in_batch(&self, call: &Call, answer: &Answer) -> Exchange {
        self.service.exchange_in_batch(call, answer)
    }

    /// What was found, for the report.
    pub(super) fn finish(self) -> State {
        self.state.into_inner().expect("nothing panics while holding the state")
    }

    fn stopped(&self) -> Option<String> {
        let mut state = self.state();
        if state.figures.timeouts >= TIMEOUTS_IN_ALL_MAX && state.stopped.is_none() {
            state.stopped = Some(format!("{TIMEOUTS_IN_ALL_MAX} calls were not answered in time"));
        }
        state.stopped.clone()
    }

    fn take_note(&self, checked: &Checked) {
        let Err(breach) = checked else { return };
        let mut state = self.state();
        state.footprint.doubt();
        if let Breach::Gone(what) = breach {
            state.unreachable = true;
            state.stopped = Some(format!("the service could not be reached any more: {what}"));
        }
    }

    fn report(&self, rule: &'static Rule, case: &Case<'_>, checked: Checked, took: Duration) -> RuleReport {
        let (verdict, found) = match checked {
            Ok(Finding::Kept) => (Verdict::Passed, None),
            Ok(Finding::Told(found)) => (Verdict::Passed, Some(found)),
            Ok(Finding::Doubtful(found)) => (Verdict::Warning, Some(found)),
            Ok(Finding::Skipped(why)) => (Verdict::Skipped, Some(why)),
            Err(Breach::Broken(found)) => (Verdict::Failed, Some(found)),
            Err(Breach::Gone(found)) => (Verdict::Skipped, Some(found)),
        };
        let (calls, exchanges) = case.trace();
        RuleReport {
            rule: rule.name,
            verdict,
            section: rule.section,
            expected: rule.expected,
            found: found.map(|found| self.service.shown(&found)),
            mend: matches!(verdict, Verdict::Failed | Verdict::Warning).then_some(rule.mend),
            calls,
            exchanges,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while holding the state")
    }
}

impl Tries {
    /// Waits for the next attempt; tells whether there is one.
    async fn again(&mut self, answer: &Answer) -> bool {
        self.attempts += 1;
        self.timeouts += u32::from(answer.timed_out);
        if self.attempts == ATTEMPTS_MAX || self.timeouts == TIMEOUTS_MAX {
            return false;
        }
        tokio::time::sleep(pause(self.attempts, answer)).await;
        true
    }
}

fn pause(attempt: u32, answer: &Answer) -> Duration {
    let ours = PAUSE_MIN * 2_u32.pow(attempt - 1);
    ours.max(answer.retry_after.unwrap_or_default()).min(PAUSE_MAX)
}
