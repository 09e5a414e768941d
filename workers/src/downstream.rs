//! Calls to the shop's services (docs/DOWNSTREAM.md), each kept from harming the others.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use metrics::Gauge;
use orderfleet_domain::{
    AccountId, OrderId, StepName,
    saga::{CallOutcome, Policy, Record, StepSettings, Verb, step_instance, step_key},
};
use orderfleet_runtime::meters::Counted;
use orderfleet_storage::CircuitState;
use reqwest::{Client, redirect};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tracing::{Instrument as _, Span};

use crate::{
    answer::classify,
    batch::{Batches, Joined},
    breaker::{Breaker, Sign},
    bulkhead::Bulkhead,
    figures::{Figures, Told},
    trace,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// One HTTP client for all services, with a connection pool per host; a bulkhead and a circuit breaker per step.
#[derive(Debug)]
pub(crate) struct Downstreams {
    client: Client,
    steps: BTreeMap<StepName, Downstream>,
}

/// The service of one step.
#[derive(Debug)]
struct Downstream {
    settings: StepSettings,
    bulkhead: Bulkhead,
    breaker: Breaker,
    figures: Figures,
    /// Where its service offers them.
    batches: Option<Arc<Batches>>,
    /// Calls that wait for a place, and those that have one.
    waiting: Gauge,
    in_flight: Gauge,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) order_id: &'a OrderId,
    pub(crate) account: &'a AccountId,
    /// As JSON: the same bytes for every step.
    pub(crate) order: &'a RawValue,
    pub(crate) record: &'a Record,
    pub(crate) step: &'a StepName,
    pub(crate) verb: Verb,
    pub(crate) traceparent: Option<&'a str>,
    /// It may go in a batch. Not so a repeat, which might do the harm again that it did before.
    pub(crate) may_share: bool,
}

/// A do among others in one request.
#[derive(Serialize)]
struct BatchedDo<'a> {
    instance: &'a str,
    key: &'a str,
    fence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    body: DoBody<'a>,
}

/// Body of a "do".
#[derive(Serialize)]
struct DoBody<'a> {
    order_id: &'a OrderId,
    #[serde(rename = "gen")]
    generation: u32,
    step: &'a StepName,
    account: &'a AccountId,
    order: &'a RawValue,
}

impl Downstreams {
    /// The services of a worker that works on so many orders at once.
    pub(crate) fn new(policy: &Policy, worker_concurrency: u16) -> anyhow::Result<Self> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            // As many as there are calls at once: each call beyond would connect anew. The pool drops them after 90 s.
            .pool_max_idle_per_host(worker_concurrency.into())
            .redirect(redirect::Policy::none())
            .no_proxy();
        if policy.steps().iter().all(|step| step.url.starts_with("http://")) {
            // Without TLS anywhere, a machine without CA certificates is fine.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().context("cannot make an HTTP client for the steps")?;
        let downstream = |settings: &StepSettings| Downstream {
            bulkhead: Bulkhead::new(settings.concurrency.unwrap_or(most_of(worker_concurrency)).into()),
            breaker: Breaker::new(&settings.name, settings.breaker_failures),
            figures: Figures::default(),
            batches: (settings.batch_max > 1).then(|| Batches::new(&client, settings)),
            waiting: metrics::gauge!("orderfleet_calls_waiting", "step" => settings.name.to_string()),
            in_flight: metrics::gauge!("orderfleet_calls_in_flight", "step" => settings.name.to_string()),
            settings: settings.clone(),
        };
        let steps = policy.steps().iter().map(|step| (step.name.clone(), downstream(step))).collect();
        Ok(Self { client, steps })
    }

    /// Calls a step's service once, unless its bulkhead is full or its circuit open. Never fails: whatever happens is an
    /// outcome.
    pub(crate) async fn call(&self, call: &Call<'_>) -> CallOutcome {
        let not_sent = |what: &str| CallOutcome::NotSent { what: what.into() };
        let Some(downstream) = self.steps.get(call.step) else {
            return not_sent(&format!("step {} is not in this worker's settings", call.step));
        };
        let waiting = Counted::new(&downstream.waiting);
        let Some(_place) = downstream.bulkhead.enter().await else {
            downstream.figures.crowded_out();
            return not_sent("too many calls are in flight");
        };
        drop(waiting);
        let _in_flight = Counted::new(&downstream.in_flight);
        let Some(admitted) = downstream.breaker.admit() else { return not_sent("the circuit is open") };
        let begun = Instant::now();
        let (outcome, sign) = match downstream.send_in_batch(call).await {
            Joined::Answered(outcome) => {
                let sign = sign_of_answer(&outcome);
                (outcome, sign)
            }
            Joined::NotSent => self.send(&downstream.settings, call).await,
            Joined::Sent => {
                let (outcome, sign) = self.send(&downstream.settings, call).await;
                (of_a_repeat(outcome), sign)
            }
        };
        downstream.figures.ended(begun.elapsed());
        admitted.tell(sign);
        outcome
    }

    /// The state of every circuit, and what was heard from its service since this was asked before.
    pub(crate) fn circuits(&self) -> Vec<CircuitState> {
        let circuit = |(step, downstream): (&StepName, &Downstream)| {
            let Told { calls, latency_ms, crowded_out } = downstream.figures.tell();
            let state = downstream.breaker.state().to_owned();
            CircuitState { step: step.to_string(), state, calls, latency_ms, crowded_out }
        };
        self.steps.iter().map(circuit).collect()
    }

    async fn send(&self, settings: &StepSettings, call: &Call<'_>) -> (CallOutcome, Sign) {
        let instance = step_instance(call.order_id, call.record.generation, call.step);
        let url = format!("{}/{instance}", settings.url.trim_end_matches('/'));
        let span = trace::request(settings, call.verb, &url);
        let mut request = match call.verb {
            Verb::Do => self.client.put(url).json(&DoBody::of(call)),
            Verb::Undo => self.client.delete(url),
        };
        let ours = orderfleet_runtime::trace::traceparent(&span);
        if let Some(traceparent) = ours.as_deref().or(call.traceparent) {
            request = request.header("traceparent", traceparent);
        }
        let request = request
            .header("Idempotency-Key", step_key(call.order_id, call.record.generation, call.step, call.verb))
            .header("Orderfleet-Fence", call.record.epoch)
            .timeout(Duration::from_millis(settings.timeout_ms));
        match request.send().instrument(span.clone()).await {
            Ok(response) => {
                trace::answered(&span, response.status());
                let outcome = classify(response).instrument(span).await;
                let sign = sign_of_answer(&outcome);
                (outcome, sign)
            }
            Err(error) => {
                let (outcome, sign) = failed(&error);
                trace::unanswered(&span, &outcome);
                (outcome, sign)
            }
        }
    }
}

impl Downstream {
    async fn send_in_batch(&self, call: &Call<'_>) -> Joined {
        let Some(batches) = self.batches.as_ref().filter(|_| call.verb == Verb::Do && call.may_share) else {
            return Joined::NotSent;
        };
        let instance = step_instance(call.order_id, call.record.generation, call.step);
        let ours = orderfleet_runtime::trace::traceparent(&Span::current());
        let batched = to_raw_value(&BatchedDo {
            instance: &instance,
            key: &step_key(call.order_id, call.record.generation, call.step, call.verb),
            fence: call.record.epoch,
            traceparent: ours.as_deref().or(call.traceparent),
            body: DoBody::of(call),
        });
        match batched {
            Ok(batched) => batches.join(instance, batched).await,
            Err(_) => Joined::NotSent,
        }
    }
}

impl<'a> DoBody<'a> {
    fn of(call: &Call<'a>) -> Self {
        let generation = call.record.generation;
        Self {
            order_id: call.order_id,
            generation,
            step: call.step,
            account: call.account,
            order: call.order,
        }
    }
}

/// Three quarters: a service that hangs leaves a quarter of the worker to others, and one that is merely the slowest of
/// several loses next to nothing.
fn most_of(concurrency: u16) -> u16 {
    concurrency - concurrency / 4
}

/// A do that was sent in a batch may have taken effect there, whatever kept its repeat from being sent.
fn of_a_repeat(outcome: CallOutcome) -> CallOutcome {
    match outcome {
        CallOutcome::NotSent { what } => CallOutcome::Unknown { what, retry_after: None },
        outcome => outcome,
    }
}

/// A request without an answer. Only where no connection was made is it sure that nothing happened.
fn failed(error: &reqwest::Error) -> (CallOutcome, Sign) {
    let not_sent = |what: &str| CallOutcome::NotSent { what: what.into() };
    if error.is_builder() {
        return (not_sent("bad address"), Sign::Misconfigured);
    }
    if error.is_connect() {
        return (not_sent("no connection"), Sign::Failed);
    }
    let what = if error.is_timeout() { "timeout" } else { "connection lost" };
    (CallOutcome::Unknown { what: what.into(), retry_after: None }, Sign::Failed)
}

/// What an answer tells of the service. One that says that nothing was done says that we asked in the wrong place.
fn sign_of_answer(outcome: &CallOutcome) -> Sign {
    match outcome {
        CallOutcome::Success { .. } | CallOutcome::Refused { .. } | CallOutcome::Cancelled => Sign::Answered,
        CallOutcome::Unknown { .. } => Sign::Failed,
        CallOutcome::NotSent { .. } => Sign::Misconfigured,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
    };

    use axum::{Router, body::Bytes, extract::Path, http::StatusCode, routing::any};
    use orderfleet_domain::{
        Fingerprint,
        saga::{Nonce, WorkerId},
    };
    use serde_json::{Value, json};
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    /// What the dos of a batch of three are answered by the service `batching`: an effect, a refusal, a word that says nothing.
    const THREE: [(u16, &str); 3] =
        [(200, r#"{"result":{}}"#), (422, r#"{"refused":{"code":"out_of_stock"}}"#), (200, "{}")];
    const DONE: (StatusCode, &str) = (StatusCode::OK, r#"{"result":{}}"#);

    /// A shop whose services `good`, `bad`, `wrong` and `hanging` behave as they are called, and how often it was called. `batching`
    /// takes dos alone and in threes.
    #[derive(Debug, Clone, Default)]
    struct Shop {
        calls: Arc<AtomicU32>,
        batches: Arc<AtomicU32>,
    }

    impl Shop {
        async fn open(&self) -> SocketAddr {
            let shop = self.clone();
            let answer = move |Path((service, instance)): Path<(String, String)>, body: Bytes| async move {
                if instance == "batch" {
                    shop.batches.fetch_add(1, Ordering::Relaxed);
                    return batch_answer(&body);
                }
                shop.calls.fetch_add(1, Ordering::Relaxed);
                let (status, body) = match service.as_str() {
                    "good" | "batching" => DONE,
                    "bad" => (StatusCode::SERVICE_UNAVAILABLE, ""),
                    "wrong" => (StatusCode::NOT_FOUND, ""),
                    _ => std::future::pending().await,
                };
                (status, body.to_owned())
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let routes = Router::new().route("/{service}/{instance}", any(answer));
            tokio::spawn(async move { axum::serve(listener, routes).await });
            address
        }
    }

    /// Batches of two are answered as a whole, with what would be a verdict; others in swapped order, if of four.
    fn batch_answer(body: &[u8]) -> (StatusCode, String) {
        let body: Value = serde_json::from_slice(body).unwrap();
        let calls = body["calls"].as_array().unwrap();
        if calls.len() == 2 {
            return (StatusCode::CONFLICT, json!({ "cancelled": true }).to_string());
        }
        let told = THREE.iter().cycle().zip(calls).map(|(&(status, body), call)| {
            let body: Value = serde_json::from_str(body).unwrap();
            json!({ "instance": call["instance"], "status": status, "body": body })
        });
        let mut answers: Vec<_> = told.collect();
        if calls.len() == 4 {
            answers.reverse();
        }
        (StatusCode::OK, json!({ "answers": answers }).to_string())
    }

    fn downstreams(address: SocketAddr, worker_concurrency: u16) -> Downstreams {
        let step = |name: &str| StepSettings {
            name: name.parse().unwrap(),
            url: format!("http://{address}/{name}"),
            timeout_ms: 2_000,
            breaker_failures: 3,
            batch_max: if name == "batching" { 8 } else { 1 },
            ..StepSettings::defaults().swap_remove(0)
        };
        let policy =
            Policy::new(["good", "bad", "wrong", "hanging", "batching"].map(step).to_vec(), 1).unwrap();
        Downstreams::new(&policy, worker_concurrency).unwrap()
    }

    async fn call(downstreams: &Downstreams, step: &str, verb: Verb) -> CallOutcome {
        call_for("k", downstreams, step, verb).await
    }

    async fn call_for(key: &str, downstreams: &Downstreams, step: &str, verb: Verb) -> CallOutcome {
        let account: AccountId = "demo".parse().unwrap();
        let order_id = OrderId::derive(&"eu1".parse().unwrap(), &account, &key.parse().unwrap());
        let order = serde_json::value::to_raw_value("an order").unwrap();
        let fp: Fingerprint = format!("01{}", "0".repeat(64)).parse().unwrap();
        let step: StepName = step.parse().unwrap();
        let record = Record::first(fp, vec![step.clone()], WorkerId("w".into()), 0, Nonce(1));
        let (order, record) = (&order, &record);
        let call = Call {
            order_id: &order_id,
            account: &account,
            order,
            record,
            step: &step,
            verb,
            traceparent: None,
            may_share: true,
        };
        downstreams.call(&call).await
    }

    /// First dos of several orders, at the same moment.
    async fn dos(downstreams: &Downstreams, count: usize) -> Vec<CallOutcome> {
        let keys: Vec<_> = (0..count).map(|number| format!("k{number}")).collect();
        let dos = keys.iter().map(|key| call_for(key, downstreams, "batching", Verb::Do));
        futures_util::future::join_all(dos).await
    }

    fn is_not_sent(outcome: &CallOutcome, why: &str) -> bool {
        matches!(outcome, CallOutcome::NotSent { what } if what.contains(why))
    }

    #[tokio::test]
    async fn a_service_that_keeps_failing_is_left_alone_and_the_others_are_not() {
        let shop = Shop::default();
        let downstreams = downstreams(shop.open().await, 4);
        for verb in [Verb::Do, Verb::Undo, Verb::Do] {
            assert!(matches!(call(&downstreams, "bad", verb).await, CallOutcome::Unknown { .. }));
        }
        for verb in [Verb::Do, Verb::Undo] {
            assert!(is_not_sent(&call(&downstreams, "bad", verb).await, "circuit"));
        }
        assert_eq!(shop.calls.load(Ordering::Relaxed), 3);
        assert!(matches!(call(&downstreams, "good", Verb::Do).await, CallOutcome::Success { .. }));
    }

    #[tokio::test]
    async fn a_wrong_address_is_called_once() {
        let shop = Shop::default();
        let downstreams = downstreams(shop.open().await, 4);
        assert!(is_not_sent(&call(&downstreams, "wrong", Verb::Do).await, "404"));
        assert!(is_not_sent(&call(&downstreams, "wrong", Verb::Do).await, "circuit"));
        assert_eq!(shop.calls.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn no_connection_opens_the_circuit_like_any_failure() {
        let nobody = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        let downstreams = downstreams(nobody, 4);
        for _ in 0..3 {
            assert!(is_not_sent(&call(&downstreams, "good", Verb::Do).await, "no connection"));
        }
        assert!(is_not_sent(&call(&downstreams, "good", Verb::Do).await, "circuit"));
    }

    #[tokio::test]
    async fn a_service_that_hangs_occupies_three_quarters_of_a_worker_at_most() {
        let shop = Shop::default();
        let downstreams = Arc::new(downstreams(shop.open().await, 8));
        let calls: JoinSet<_> = (0..8)
            .map(|_| {
                let downstreams = Arc::clone(&downstreams);
                async move { call(&downstreams, "hanging", Verb::Do).await }
            })
            .collect();
        let outcomes = calls.join_all().await;
        assert_eq!(shop.calls.load(Ordering::Relaxed), 6);
        assert_eq!(outcomes.iter().filter(|outcome| is_not_sent(outcome, "in flight")).count(), 2);
    }

    fn counts(shop: &Shop) -> (u32, u32) {
        (shop.batches.load(Ordering::Relaxed), shop.calls.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn dos_of_the_same_moment_go_in_one_request_and_each_has_its_own_outcome() {
        let shop = Shop::default();
        let downstreams = downstreams(shop.open().await, 16);
        let outcomes = dos(&downstreams, 3).await;
        assert!(matches!(outcomes[0], CallOutcome::Success { .. }), "{outcomes:?}");
        assert!(matches!(outcomes[1], CallOutcome::Refused { .. }), "{outcomes:?}");
        assert!(matches!(outcomes[2], CallOutcome::Unknown { .. }), "{outcomes:?}");
        assert_eq!(counts(&shop), (1, 0));

        for verb in [Verb::Do, Verb::Undo] {
            assert!(matches!(call(&downstreams, "batching", verb).await, CallOutcome::Success { .. }));
        }
        assert_eq!(counts(&shop), (1, 2), "one alone, and an undo, go alone");
    }

    #[tokio::test]
    async fn no_answer_to_a_whole_batch_is_a_verdict_on_an_order() {
        let shop = Shop::default();
        let downstreams = downstreams(shop.open().await, 16);
        for round in 1..=2 {
            let outcomes = dos(&downstreams, 2).await;
            let is_done = |outcome: &CallOutcome| matches!(outcome, CallOutcome::Success { .. });
            assert!(outcomes.iter().all(is_done), "{outcomes:?}");
            assert_eq!(counts(&shop), (1, 2 * round), "each goes alone, and so do those after them");
        }
    }

    #[tokio::test]
    async fn answers_in_another_order_than_the_calls_say_nothing_and_each_do_goes_alone() {
        let shop = Shop::default();
        let downstreams = downstreams(shop.open().await, 16);
        let outcomes = dos(&downstreams, 4).await;
        let is_done = |outcome: &CallOutcome| matches!(outcome, CallOutcome::Success { .. });
        assert!(outcomes.iter().all(is_done), "{outcomes:?}");
        assert_eq!(counts(&shop), (1, 4));
    }

    #[test]
    fn a_repeat_that_is_not_sent_leaves_a_do_unknown_that_was_sent_in_a_batch() {
        let outcome = of_a_repeat(CallOutcome::NotSent { what: "no connection".into() });
        assert!(matches!(outcome, CallOutcome::Unknown { .. }), "{outcome:?}");
    }
}
