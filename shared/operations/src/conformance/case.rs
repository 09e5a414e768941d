//! What a rule's check works with: calls, what they must answer, what a look must show.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use orderfleet_domain::Order;
use serde::Deserialize;
use serde_json::Value;

use super::{
    answer::{Answer, Meaning},
    call::{Body, Call, Instance},
    figures::Figures,
    report::{Exchange, Progress},
    suite::Suite,
};

const EXCHANGES_MAX: usize = 12;

/// What became of a rule.
pub(super) type Checked = Result<Finding, Breach>;

/// A rule that was not broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    Kept,
    /// Kept, and this is worth knowing.
    Told(String),
    /// Kept, and yet it will make trouble.
    Doubtful(String),
    Skipped(String),
}

/// Why a check went no further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Breach {
    /// The rule is broken: what was found.
    Broken(String),
    /// The service cannot be reached any more, so nothing is known of the rule.
    Gone(String),
}

/// What a look shows.
#[derive(Debug, Deserialize)]
pub(super) struct Seen {
    pub(super) state: String,
    #[serde(default)]
    pub(super) result: Option<Value>,
}

/// The check of one rule.
pub(super) struct Case<'a> {
    suite: &'a Suite<'a>,
    trace: Mutex<Trace>,
}

#[derive(Default)]
struct Trace {
    calls: u64,
    exchanges: Vec<Exchange>,
}

impl<'a> Case<'a> {
    pub(super) fn new(suite: &'a Suite<'a>) -> Self {
        Self { suite, trace: Mutex::default() }
    }

    pub(super) fn instance(&self) -> Instance {
        self.suite.instance()
    }

    pub(super) fn next_run(&self, instance: &Instance) -> Instance {
        self.suite.next_run(instance)
    }

    pub(super) fn order(&self) -> &Order {
        &self.suite.settings.order
    }

    pub(super) fn timeout(&self) -> Duration {
        self.suite.settings.timeout
    }

    pub(super) fn figures(&self) -> Figures {
        self.suite.figures()
    }

    pub(super) fn looks_are_right(&self) -> bool {
        self.suite.looks_are_right()
    }

    /// A do of the order under its usual key.
    pub(super) fn to_do(&self, instance: &Instance) -> Call {
        Call::to_do(instance, self.body(instance, self.order(), "the order"))
    }

    /// An undo under its usual key.
    pub(super) fn to_undo(&self, instance: &Instance) -> Call {
        Call::to_undo(instance)
    }

    /// The body of a do of another order.
    pub(super) fn body(&self, instance: &Instance, order: &Order, what: &'static str) -> Body {
        Body::new(&self.body_value(instance, order), what)
    }

    pub(super) fn body_value(&self, instance: &Instance, order: &Order) -> Value {
        instance.body(&self.suite.settings.account, order)
    }

    /// Sends a call once.
    pub(super) async fn send(&self, call: &Call) -> Answer {
        let answer = self.suite.send(call).await;
        self.note(self.suite.exchange(call, &answer));
        answer
    }

    /// Repeats a call until its answer is one that `enough` takes, a few times at most.
    pub(super) async fn persist(
        &self,
        call: &Call,
        enough: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Breach> {
        let note = |answer: &Answer| self.note(self.suite.exchange(call, answer));
        reached(self.suite.persist(call, enough, note).await)
    }

    /// Whether dos may come several in one request: a batch of none asks.
    pub(super) async fn offers_batches(&self) -> Result<bool, Breach> {
        let enough = |answer: &Answer| answer.is_definite() || answer.is_success();
        let answer = reached(self.suite.persist_batch(&[], enough, |_| {}).await)?;
        Ok(answer.is_empty_batch())
    }

    /// Sends dos in one request, and all of them again until each has an answer that tells, a few times at most. The answers
    /// are in the order of the dos.
    pub(super) async fn batch(&self, dos: &[Call]) -> Result<Vec<Answer>, Breach> {
        let instances = Call::instances(dos);
        let tells = |(call, answer): (&Call, &Answer)| {
            if call.is_usual() { answer.is_definite() } else { answer.is_final() }
        };
        let enough = |whole: &Answer| dos.iter().zip(&whole.of_each(&instances)).all(tells);
        let note = |whole: &Answer| {
            for (call, answer) in dos.iter().zip(whole.of_each(&instances)) {
                self.note(self.suite.exchange_in_batch(call, &answer));
            }
        };
        let whole = reached(self.suite.persist_batch(dos, enough, note).await)?;
        Ok(whole.of_each(&instances))
    }

    /// Repeats a call until it has a definite answer. That there is one at last is part of every rule.
    pub(super) async fn settle(&self, call: &Call) -> Result<Answer, Breach> {
        let answer = self.persist(call, Answer::is_definite).await?;
        if answer.is_definite() { Ok(answer) } else { Err(broken(call, &answer)) }
    }

    /// Settles a call that must succeed.
    pub(super) async fn result(&self, call: &Call) -> Result<Value, Breach> {
        let answer = self.settle(call).await?;
        match answer.meaning {
            Meaning::Result(result, _) => Ok(result),
            _ => Err(broken(call, &answer)),
        }
    }

    /// Settles a call that must answer this very result.
    pub(super) async fn same_result(&self, call: &Call, recorded: &Value) -> Result<(), Breach> {
        let result = self.result(call).await?;
        require(result == *recorded, || {
            format!("a repeated {} answered {result}, and the first one {recorded}", call.ask.word())
        })
    }

    /// Settles a do that must be cancelled.
    pub(super) async fn cancelled(&self, call: &Call) -> Result<(), Breach> {
        let answer = self.settle(call).await?;
        match answer.meaning {
            Meaning::Cancelled => Ok(()),
            _ => Err(broken(call, &answer)),
        }
    }

    /// A look must show this state. Passes where looks are known to be wrong.
    pub(super) async fn sees(&self, instance: &Instance, state: &str) -> Result<(), Breach> {
        self.sees_one_of(instance, &[state]).await.map(drop)
    }

    /// A look must show one of these states; the answer is what it shows, where looks are right.
    pub(super) async fn sees_one_of(
        &self,
        instance: &Instance,
        states: &[&str],
    ) -> Result<Option<Seen>, Breach> {
        if !self.suite.looks_are_right() {
            return Ok(None);
        }
        let call = Call::to_look(instance);
        let answer = self.persist(&call, Seen::is_enough).await?;
        let seen = Seen::read(&answer).ok_or_else(|| match answer.status {
            Some(status) if status.is_success() => {
                Breach::Broken(format!("look: {status} without a {{\"state\":…}}"))
            }
            _ => broken(&call, &answer),
        })?;
        require(states.contains(&seen.state.as_str()), || {
            format!("the look shows {:?}, not {}", seen.state, states.join(" or "))
        })?;
        Ok(Some(seen))
    }

    /// A look must show it done, with this result if it shows one.
    pub(super) async fn sees_done_with(&self, instance: &Instance, recorded: &Value) -> Result<(), Breach> {
        let seen = self.sees_one_of(instance, &["done"]).await?;
        let shown = seen.and_then(|seen| seen.result);
        require(shown.as_ref().is_none_or(|shown| shown == recorded), || {
            format!("the look shows another result than the do was answered: {recorded}")
        })
    }

    /// One of several rounds begins: only its own calls and instances are of interest from here on.
    pub(super) fn round(&self, done: u32, of: u32) {
        self.suite.forget_clean();
        self.trace_lock().exchanges.clear();
        (self.suite.tell)(Progress::Round { done, of });
    }

    /// How many calls there were, and the last of them.
    pub(super) fn trace(&self) -> (u64, Vec<Exchange>) {
        let trace = self.trace_lock();
        (trace.calls, trace.exchanges.clone())
    }

    fn note(&self, exchange: Exchange) {
        let mut trace = self.trace_lock();
        trace.calls += 1;
        if trace.exchanges.len() == EXCHANGES_MAX {
            trace.exchanges.remove(0);
        }
        trace.exchanges.push(exchange);
    }

    fn trace_lock(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().expect("nothing panics while holding the trace")
    }
}

impl Seen {
    /// The state that a look was answered, if it was.
    pub(super) fn read(answer: &Answer) -> Option<Self> {
        answer.is_success().then(|| serde_json::from_slice(&answer.body).ok()).flatten()
    }

    /// Whether repeating the look would tell nothing new.
    pub(super) fn is_enough(answer: &Answer) -> bool {
        answer.is_definite() || Self::read(answer).is_some()
    }
}

/// Without a connection, there is nothing to judge.
fn reached(answer: Answer) -> Result<Answer, Breach> {
    match &answer.meaning {
        Meaning::NotSent(what) => Err(Breach::Gone(what.clone())),
        _ => Ok(answer),
    }
}

/// A call that was not answered as it must be.
pub(super) fn broken(call: &Call, answer: &Answer) -> Breach {
    Breach::Broken(format!("{}: {}", call.ask.word(), answer.words()))
}

/// Says what was found where something does not hold.
pub(super) fn require(holds: bool, found: impl FnOnce() -> String) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(Breach::Broken(found())) }
}
