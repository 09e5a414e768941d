//! Circuit breaker: leaves a failing service alone for a while, then lets one call at a time find out whether it is back.
//!
//! It delays and never decides anything about an order. [`Circuit`] holds the rules, without a clock; [`Breaker`] applies
//! them to the calls of one step and tells of the transitions.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use orderfleet_domain::StepName;
use orderfleet_messaging::Delays;

/// How long the circuit stays open at first, and at most; ±50 %, doubled by every probe that fails. Even the longest is
/// shorter than the tier that deferred orders wait in, so that a service that is back is found soon.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What a call has told of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A definite answer, a refusal included.
    Answered,
    /// No connection, no answer in time, or none that says what has happened.
    Failed,
    /// Its address or our credentials are wrong: calling again is no use before somebody mends them.
    Misconfigured,
    /// Nobody has waited for the answer.
    Abandoned,
}

/// How a call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Normal,
    /// The one call of a half-open circuit.
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// The rules of one circuit.
#[derive(Debug)]
struct Circuit {
    failures_max: u32,
    pauses: Delays,
    state: State,
}

impl Circuit {
    fn new(failures_max: u32) -> Self {
        let pauses = Delays::new(FIRST_PAUSE, LONGEST_PAUSE);
        Self { failures_max, pauses, state: State::Closed { failures: 0 } }
    }

    /// Whether a call may be made now. A call that may must be followed by its sign.
    fn admit(&mut self, now: Instant) -> Option<Pass> {
        match self.state {
            State::Closed { .. } => Some(Pass::Normal),
            State::Open { until } if now >= until => {
                self.state = State::HalfOpen;
                Some(Pass::Probe)
            }
            State::Open { .. } | State::HalfOpen => None,
        }
    }

    fn on(&mut self, now: Instant, pass: Pass, sign: Sign) {
        match (sign, pass, self.state) {
            (Sign::Answered, ..) => {
                self.pauses.reset();
                self.state = State::Closed { failures: 0 };
            }
            (Sign::Failed, _, State::Closed { failures }) if failures + 1 < self.failures_max => {
                self.state = State::Closed { failures: failures + 1 };
            }
            (Sign::Failed | Sign::Misconfigured, _, State::Closed { .. })
            | (Sign::Failed | Sign::Misconfigured, Pass::Probe, State::HalfOpen) => {
                self.state = State::Open { until: now + self.pauses.next_delay() };
            }
            (Sign::Abandoned, Pass::Probe, State::HalfOpen) => self.state = State::Open { until: now },
            // A call from before the circuit opened fails late: nothing new.
            _ => {}
        }
    }
}

/// The circuit of one step.
#[derive(Debug)]
pub(crate) struct Breaker {
    step: StepName,
    circuit: Mutex<Circuit>,
}

impl Breaker {
    /// A closed circuit that opens after so many consecutive failures.
    pub(crate) fn new(step: &StepName, failures_max: u32) -> Self {
        let breaker = Self { step: step.clone(), circuit: Mutex::new(Circuit::new(failures_max)) };
        breaker.gauge(false);
        breaker
    }

    /// Lets a call through, or nothing while the circuit is open or its probe is under way.
    pub(crate) fn admit(&self) -> Option<Admitted<'_>> {
        let pass = self.change(|circuit| circuit.admit(Instant::now()))?;
        Some(Admitted { breaker: self, pass, sign: Sign::Abandoned })
    }

    /// `closed`; `open`; or `half_open` while one call finds out, or the next one would.
    pub(crate) fn state(&self) -> &'static str {
        match self.circuit.lock().unwrap_or_else(PoisonError::into_inner).state {
            State::Closed { .. } => "closed",
            State::Open { until } if Instant::now() < until => "open",
            State::Open { .. } | State::HalfOpen => "half_open",
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut circuit = self.circuit.lock().unwrap_or_else(PoisonError::into_inner);
        let before = circuit.state;
        let result = change(&mut circuit);
        self.tell(before, circuit.state);
        result
    }

    fn tell(&self, before: State, after: State) {
        let to = match (before, after) {
            (State::Closed { .. } | State::HalfOpen, State::Open { until }) => {
                let pause = until.saturating_duration_since(Instant::now());
                tracing::warn!(saga.step = %self.step, pause_ms = pause.as_millis(), "the circuit opens");
                "open"
            }
            (State::Open { .. }, State::HalfOpen) => {
                tracing::info!(saga.step = %self.step, "the circuit is half-open: one call finds out");
                "half_open"
            }
            (State::Open { .. } | State::HalfOpen, State::Closed { .. }) => {
                tracing::info!(saga.step = %self.step, "the circuit closes");
                "closed"
            }
            _ => return,
        };
        self.gauge(to != "closed");
        let step = self.step.to_string();
        metrics::counter!("orderfleet_breaker_transitions_total", "step" => step, "to" => to).increment(1);
    }

    fn gauge(&self, open: bool) {
        metrics::gauge!("orderfleet_breaker_open", "step" => self.step.to_string()).set(u8::from(open));
    }
}

/// A call that was let through. Dropped without a word it counts as abandoned, and another call may probe.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    breaker: &'a Breaker,
    pass: Pass,
    sign: Sign,
}

impl Admitted<'_> {
    /// Says what the call has told of the service.
    pub(crate) fn tell(mut self, sign: Sign) {
        self.sign = sign;
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.breaker.change(|circuit| circuit.on(Instant::now(), self.pass, self.sign));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILURES_MAX: u32 = 3;

    /// A circuit that has just opened, and when its pause is over.
    fn opened(now: Instant) -> (Circuit, Instant) {
        let mut circuit = Circuit::new(FAILURES_MAX);
        circuit.on(now, Pass::Normal, Sign::Misconfigured);
        let until = until(&circuit);
        (circuit, until)
    }

    fn until(circuit: &Circuit) -> Instant {
        let State::Open { until } = circuit.state else { panic!("not open: {circuit:?}") };
        until
    }

    #[test]
    fn only_consecutive_failures_open_it() {
        let (mut circuit, now) = (Circuit::new(FAILURES_MAX), Instant::now());
        for sign in [Sign::Failed, Sign::Failed, Sign::Answered, Sign::Failed, Sign::Abandoned, Sign::Failed]
        {
            assert_eq!(circuit.admit(now), Some(Pass::Normal));
            circuit.on(now, Pass::Normal, sign);
        }
        circuit.on(now, Pass::Normal, Sign::Failed);
        assert_eq!(circuit.admit(now), None);
    }

    #[test]
    fn a_wrong_address_opens_it_at_once() {
        let now = Instant::now();
        let (mut circuit, until) = opened(now);
        assert!(until >= now + FIRST_PAUSE / 2 && until <= now + FIRST_PAUSE * 3 / 2);
        assert_eq!(circuit.admit(until - Duration::from_millis(1)), None);
    }

    #[test]
    fn after_the_pause_one_call_at_a_time_probes() {
        let (mut circuit, until) = opened(Instant::now());
        assert_eq!(circuit.admit(until), Some(Pass::Probe));
        assert_eq!(circuit.admit(until + LONGEST_PAUSE), None);
        circuit.on(until, Pass::Probe, Sign::Answered);
        assert_eq!(circuit.admit(until), Some(Pass::Normal));
    }

    #[test]
    fn every_failed_probe_makes_the_pause_longer_up_to_the_longest() {
        let (mut circuit, mut now) = opened(Instant::now());
        for _ in 0..20 {
            assert_eq!(circuit.admit(now), Some(Pass::Probe));
            circuit.on(now, Pass::Probe, Sign::Failed);
            let pause = until(&circuit) - now;
            assert!(pause <= LONGEST_PAUSE * 3 / 2, "{pause:?}");
            now = until(&circuit);
        }
        circuit.admit(now);
        circuit.on(now, Pass::Probe, Sign::Failed);
        assert!(until(&circuit) - now >= LONGEST_PAUSE / 2);
        circuit.on(now, Pass::Normal, Sign::Answered);
        circuit.on(now, Pass::Normal, Sign::Misconfigured);
        assert!(until(&circuit) - now <= FIRST_PAUSE * 3 / 2, "it starts over");
    }

    #[test]
    fn a_probe_that_nobody_waits_for_gives_way_to_another() {
        let (mut circuit, until) = opened(Instant::now());
        circuit.admit(until);
        circuit.on(until, Pass::Probe, Sign::Abandoned);
        assert_eq!(circuit.admit(until), Some(Pass::Probe));
    }

    #[test]
    fn late_failures_of_calls_from_before_change_nothing_and_a_late_answer_closes() {
        let (mut circuit, until) = opened(Instant::now());
        for sign in [Sign::Failed, Sign::Misconfigured, Sign::Abandoned] {
            circuit.on(until, Pass::Normal, sign);
            assert_eq!(circuit.state, State::Open { until });
        }
        circuit.admit(until);
        circuit.on(until, Pass::Normal, Sign::Failed);
        assert_eq!(circuit.state, State::HalfOpen);
        circuit.on(until, Pass::Normal, Sign::Answered);
        assert_eq!(circuit.state, State::Closed { failures: 0 });
    }

    #[test]
    fn a_call_that_is_dropped_half_way_counts_as_abandoned() {
        let breaker = Breaker::new(&"inventory".parse().unwrap(), 1);
        drop(breaker.admit());
        assert_eq!(breaker.state(), "closed");
        breaker.admit().unwrap().tell(Sign::Failed);
        assert!(breaker.admit().is_none());
        assert_eq!(breaker.state(), "open");
    }
}
