//! What a worker measures: what each metric says, those that count per delivery or call, and every known value of a label, so
//! that a counter is there at 0 before it first counts.

use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use metrics::{Counter, Gauge, Histogram};
use orderfleet_domain::{
    StepName,
    saga::{CauseClass, Millis, Nonce, Phase, Record, Verb, Write},
};

const LANES: [&str; 5] = ["new", "retry", "replay", "compensate", "quarantine"];
const ENDINGS: [&str; 13] = [
    "finished",
    "deferred",
    "handed_over",
    "handed_back",
    "held",
    "conflict",
    "poison",
    "fenced",
    "owed",
    "nothing_to_do",
    "cancel_requested",
    "panicked",
    "given_back",
];
const ORDER_OUTCOMES: [&str; 5] = ["done", "undone", "refused", "cancelled", "discarded"];
const VERBS: [&str; 2] = ["do", "undo"];
const CALL_OUTCOMES: [&str; 5] = ["success", "refused", "cancelled", "unknown", "not_sent"];
const RETRIES: [&str; 3] = ["quick", "charged", "not_sent"];

/// Handles that deliveries and calls record to. They look nothing up but a word among a few.
#[derive(Debug)]
pub(crate) struct Meters {
    pub(crate) in_flight: Gauge,
    deliveries: ByWord<ByWord<Counter>>,
    handling: ByWord<Histogram>,
    queue_wait: ByWord<Histogram>,
    fenced: Counter,
    steps: BTreeMap<StepName, StepMeters>,
    ended: ByWord<Counter>,
    order: ByWord<Histogram>,
}

/// Those of one step.
#[derive(Debug)]
struct StepMeters {
    /// Outcomes that have not happened do not exist, but for success: failures are counted as retries and compensations, too.
    calls: ByWord<ByWord<OnceLock<Histogram>>>,
    retries: ByWord<ByWord<Counter>>,
    compensations: Counter,
}

/// Meters of one name, one for each known value of a label.
#[derive(Debug)]
struct ByWord<M>(Vec<(&'static str, M)>);

impl<M> ByWord<M> {
    fn new(words: &[&'static str], meter: impl Fn(&'static str) -> M) -> Self {
        Self(words.iter().map(|word| (*word, meter(word))).collect())
    }

    fn of(&self, word: &str) -> Option<&M> {
        self.0.iter().find(|(known, _)| *known == word).map(|(_, meter)| meter)
    }
}

impl Meters {
    /// Those of a worker with these steps.
    pub(crate) fn new(steps: &[StepName]) -> Self {
        describe();
        begin_at_zero(steps);
        let deliveries = |lane| {
            ByWord::new(
                &ENDINGS,
                |ending| metrics::counter!("orderfleet_deliveries_total", "lane" => lane, "ending" => ending),
            )
        };
        Self {
            in_flight: metrics::gauge!("orderfleet_deliveries_in_flight"),
            deliveries: ByWord::new(&LANES, deliveries),
            handling: ByWord::new(
                &LANES,
                |lane| metrics::histogram!("orderfleet_handling_seconds", "lane" => lane),
            ),
            queue_wait: ByWord::new(
                &LANES,
                |lane| metrics::histogram!("orderfleet_queue_wait_seconds", "lane" => lane),
            ),
            fenced: metrics::counter!("orderfleet_fenced_total"),
            steps: steps.iter().map(|step| (step.clone(), StepMeters::new(step))).collect(),
            ended: ByWord::new(
                &ORDER_OUTCOMES,
                |outcome| metrics::counter!("orderfleet_orders_ended_total", "outcome" => outcome),
            ),
            order: ByWord::new(
                &ORDER_OUTCOMES,
                |outcome| metrics::histogram!("orderfleet_order_seconds", "outcome" => outcome),
            ),
        }
    }

    /// A delivery was taken that had been waiting in its lane for so long, where that is known.
    pub(crate) fn taken(&self, lane: &str, waited: Option<Millis>) {
        if let (Some(waited), Some(meter)) = (waited, self.queue_wait.of(lane)) {
            meter.record(duration(waited));
        }
    }

    /// A delivery has been handled.
    pub(crate) fn handled(&self, lane: &'static str, ending: &'static str, took: Duration) {
        if let Some(meter) = self.handling.of(lane) {
            meter.record(took);
        }
        if ending == "fenced" {
            self.fenced.increment(1);
        }
        match self.deliveries.of(lane).and_then(|endings| endings.of(ending)) {
            Some(meter) => meter.increment(1),
            None => {
                metrics::counter!("orderfleet_deliveries_total", "lane" => lane, "ending" => ending)
                    .increment(1);
            }
        }
    }

    /// A service was called, or was to be called. One that an order has pinned and this worker does not know is not measured: it
    /// is not called either.
    pub(crate) fn called(&self, step: &StepName, verb: Verb, outcome: &'static str, took: Duration) {
        let verb = verb.as_str();
        let meter = self.steps.get(step).and_then(|step| step.calls.of(verb)?.of(outcome));
        if let Some(meter) = meter {
            meter.get_or_init(|| step_seconds(step, verb, outcome)).record(took);
        }
    }

    /// A call is repeated at once.
    pub(crate) fn repeated(&self, step: &StepName, verb: Verb) {
        self.retried(step, verb, "quick");
    }

    /// A deciding write is committed. Tells how the order has ended, if it has by this write.
    pub(crate) fn committed(&self, written: &Written, record: &Record) -> Option<&'static str> {
        let verb = if written.phase == Phase::Run { Verb::Do } else { Verb::Undo };
        match (record.phase == written.phase && record.cur == written.cur, written.phase, record.phase) {
            (true, ..) if record.att > written.att => self.retried(record.step(record.cur), verb, "charged"),
            (true, ..) if record.waits > written.waits => {
                self.retried(record.step(record.cur), verb, "not_sent");
            }
            (_, Phase::Run, Phase::Comp) => {
                if let Some(step) = self.steps.get(record.failed_step()) {
                    step.compensations.increment(1);
                }
            }
            (_, _, Phase::Done | Phase::Undone) if !written.phase.is_terminal() => {
                let outcome = order_outcome(record);
                if let Some(meter) = self.ended.of(outcome) {
                    meter.increment(1);
                }
                return Some(outcome);
            }
            _ => {}
        }
        None
    }

    /// An order's terminal event is confirmed, so long after it was accepted.
    pub(crate) fn told(&self, outcome: &str, since_accepted: Millis) {
        if let Some(meter) = self.order.of(outcome) {
            meter.record(duration(since_accepted));
        }
    }

    fn retried(&self, step: &StepName, verb: Verb, kind: &str) {
        let meter = self.steps.get(step).and_then(|step| step.retries.of(verb.as_str())?.of(kind));
        if let Some(meter) = meter {
            meter.increment(1);
        }
    }
}

impl StepMeters {
    fn new(step: &StepName) -> Self {
        let calls = |verb| {
            ByWord::new(&CALL_OUTCOMES, |outcome| match outcome {
                "success" => OnceLock::from(step_seconds(step, verb, outcome)),
                _ => OnceLock::new(),
            })
        };
        let retries = |verb| {
            ByWord::new(&RETRIES, |kind| {
                let step = step.to_string();
                metrics::counter!("orderfleet_step_retries_total", "step" => step, "verb" => verb, "kind" => kind)
            })
        };
        Self {
            calls: ByWord::new(&VERBS, calls),
            retries: ByWord::new(&VERBS, retries),
            compensations: metrics::counter!("orderfleet_compensations_total", "step" => step.to_string()),
        }
    }
}

fn step_seconds(step: &StepName, verb: &'static str, outcome: &'static str) -> Histogram {
    let step = step.to_string();
    metrics::histogram!("orderfleet_step_seconds", "step" => step, "verb" => verb, "outcome" => outcome)
}

/// Where an order stood before a write, so that it can be measured what the write has changed.
#[derive(Debug)]
pub(crate) struct Written {
    /// The write's own name: a record that has it has that write.
    pub(crate) by: Nonce,
    phase: Phase,
    cur: u32,
    att: u32,
    waits: u32,
}

impl Written {
    /// A write to a record that was read as this.
    pub(crate) fn to(before: &Record, write: &Write) -> Self {
        let Record { phase, cur, att, waits, .. } = *before;
        Self { by: write.next.nonce, phase, cur, att, waits }
    }
}

/// `undone` may be run again, the others are final.
fn order_outcome(record: &Record) -> &'static str {
    let class = record.cause.as_ref().map(|cause| cause.class);
    match (record.phase, class) {
        (Phase::Done, _) => "done",
        _ if !record.is_final => "undone",
        (_, Some(CauseClass::Refused)) => "refused",
        _ if record.cancel || class == Some(CauseClass::Cancelled) => "cancelled",
        _ => "discarded",
    }
}

/// Clocks of different machines may differ: what comes out below zero is none.
fn duration(millis: Millis) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// What rarely counts is looked up when it does.
fn begin_at_zero(steps: &[StepName]) {
    let steps: Vec<String> = steps.iter().map(ToString::to_string).collect();
    for step in &steps {
        metrics::counter!("orderfleet_wait_alarms_total", "step" => step.clone()).increment(0);
        metrics::counter!("orderfleet_undo_alarms_total", "step" => step.clone()).increment(0);
        for to in ["open", "half_open", "closed"] {
            metrics::counter!("orderfleet_breaker_transitions_total", "step" => step.clone(), "to" => to)
                .increment(0);
        }
    }
    let dead: Vec<String> =
        steps.into_iter().chain(["poison", "held", "conflict"].map(str::to_owned)).collect();
    let lanes = LANES.iter().map(|lane| (*lane).to_owned());
    for lane in lanes.chain(dead.iter().map(|queue| format!("dead.{queue}"))) {
        metrics::counter!("orderfleet_panics_total", "lane" => lane.clone()).increment(0);
        metrics::counter!("orderfleet_newer_messages_total", "lane" => lane).increment(0);
    }
    for queue in dead {
        for arrival in ["first", "again", "unread"] {
            let queue = queue.clone();
            metrics::counter!("orderfleet_dead_letters_parked_total", "queue" => queue, "arrival" => arrival)
                .increment(0);
        }
    }
    metrics::counter!("orderfleet_subscriptions_lost_total").increment(0);
    metrics::counter!("orderfleet_holds_set_total").increment(0);
    metrics::counter!("orderfleet_holds_refused_total").increment(0);
    metrics::counter!("orderfleet_parking_failed_total").increment(0);
    metrics::counter!("orderfleet_orders_swept_total").increment(0);
}

fn describe() {
    use metrics::{describe_counter as counter, describe_gauge as gauge, describe_histogram as histogram};
    counter!("orderfleet_deliveries_total", "Deliveries by what became of them");
    gauge!("orderfleet_deliveries_in_flight", "Deliveries in hand, dead letters among them");
    histogram!("orderfleet_handling_seconds", "From a delivery to its ack");
    histogram!(
        "orderfleet_queue_wait_seconds",
        "From the moment a message could be taken from its lane until it was"
    );
    histogram!(
        "orderfleet_order_seconds",
        "From an order's acceptance until the event of its end was confirmed"
    );
    counter!("orderfleet_orders_ended_total", "Runs that have ended");
    histogram!("orderfleet_step_seconds", "Calls to the services, also those that were kept from being sent");
    counter!("orderfleet_step_retries_total", "Calls that have to be repeated");
    counter!("orderfleet_compensations_total", "Runs that turned to being undone, by the step that failed");
    counter!(
        "orderfleet_fenced_total",
        "Deliveries given up because another worker had claimed the order since"
    );
    gauge!("orderfleet_calls_waiting", "Calls that wait for one of the places a service has");
    gauge!("orderfleet_calls_in_flight", "Calls that a service has not answered yet");
    gauge!("orderfleet_breaker_open", "1 while a service is left alone, or only probed");
    counter!("orderfleet_breaker_transitions_total", "Changes of circuits");
    counter!("orderfleet_panics_total", "Deliveries whose handling panicked");
    gauge!("orderfleet_consuming", "0 while nothing new is taken");
    gauge!("orderfleet_pauses", "Pauses in force");
    counter!("orderfleet_undo_alarms_total", "Undos that have failed more often than attempts_max");
    counter!(
        "orderfleet_wait_alarms_total",
        "Every 20th wait in a row of an order whose step cannot be sent"
    );
    counter!("orderfleet_newer_messages_total", "Messages put aside for a newer build");
    counter!("orderfleet_subscriptions_lost_total", "Reconnects of the consumers");
    counter!("orderfleet_dead_letters_parked_total", "Dead letters taken into the database");
    counter!("orderfleet_holds_set_total", "Orders held because their message crashed workers");
    counter!("orderfleet_holds_refused_total", "Tries of a hold that the database refused");
    counter!("orderfleet_parking_failed_total", "Tries to park that the database did not take");
    counter!("orderfleet_orders_swept_total", "Orders the sweeper brought back");
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::{
        Fingerprint,
        saga::{Cause, WorkerId},
    };

    use super::*;

    fn record() -> Record {
        let fp: Fingerprint = format!("01{}", "0".repeat(64)).parse().unwrap();
        Record::first(fp, vec!["pay".parse().unwrap()], WorkerId("w".into()), 0, Nonce(1))
    }

    #[test]
    fn an_end_is_told_by_why_it_is_final() {
        let undone = |class, is_final, cancel| {
            let step = "pay".parse().unwrap();
            let cause = Some(Cause { class, step, code: None, message: String::new(), rev: 0 });
            order_outcome(&Record { phase: Phase::Undone, is_final, cancel, cause, ..record() })
        };
        assert_eq!(order_outcome(&Record { phase: Phase::Done, ..record() }), "done");
        assert_eq!(undone(CauseClass::AttemptsExhausted, false, false), "undone");
        assert_eq!(undone(CauseClass::Refused, true, false), "refused");
        assert_eq!(undone(CauseClass::Cancelled, true, true), "cancelled");
        assert_eq!(undone(CauseClass::AttemptsExhausted, true, true), "cancelled");
        assert_eq!(undone(CauseClass::AttemptsExhausted, true, false), "discarded");
        assert_eq!(undone(CauseClass::Discarded, true, false), "discarded");
    }
}
