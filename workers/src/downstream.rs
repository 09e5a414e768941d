//! Calls to the shop's services (docs/DOWNSTREAM.md), each kept from harming the others.

use std::{
    collections::BTreeMap,
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
use serde_json::value::RawValue;
use tracing::Instrument as _;

use crate::{
    answer::classify,
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
        let (outcome, sign) = self.send(&downstream.settings, call).await;
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
            Verb::Do => self.client.put(url).json(&DoBody {
                order_id: call.order_id,
                generation: call.record.generation,
                step: call.step,
                account: call.account,
                order: call.order,
            }),
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

/// Three quarters: a service that hangs leaves a quarter of the worker to others, and one that is merely the slowest of
/// several loses next to nothing.
fn most_of(concurrency: u16) -> u16 {
    concurrency - concurrency / 4
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

    use axum::{Router, extract::Path, http::StatusCode, routing::any};
    use orderfleet_domain::{
        Fingerprint,
        saga::{Nonce, WorkerId},
    };
    use tokio::{net::TcpListener, task::JoinSet};

    use super::*;

    const DONE: (StatusCode, &str) = (StatusCode::OK, r#"{"result":{}}"#);

    /// A shop whose services `good`, `bad`, `wrong` and `hanging` behave as they are called, and how often it was called.
    #[derive(Debug, Clone, Default)]
    struct Shop {
        calls: Arc<AtomicU32>,
    }

    impl Shop {
        async fn open(&self) -> SocketAddr {
            let shop = self.clone();
            let answer = move |Path((service, _instance)): Path<(String, String)>| async move {
                shop.calls.fetch_add(1, Ordering::Relaxed);
                match service.as_str() {
                    "good" => DONE,
                    "bad" => (StatusCode::SERVICE_UNAVAILABLE, ""),
                    "wrong" => (StatusCode::NOT_FOUND, ""),
                    _ => std::future::pending().await,
                }
            };
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let routes = Router::new().route("/{service}/{instance}", any(answer));
            tokio::spawn(async move { axum::serve(listener, routes).await });
            address
        }
    }

    fn downstreams(address: SocketAddr, worker_concurrency: u16) -> Downstreams {
        let step = |name: &str| StepSettings {
            name: name.parse().unwrap(),
            url: format!("http://{address}/{name}"),
            timeout_ms: 2_000,
            breaker_failures: 3,
            ..StepSettings::defaults().swap_remove(0)
        };
        let policy = Policy::new(["good", "bad", "wrong", "hanging"].map(step).to_vec(), 1).unwrap();
        Downstreams::new(&policy, worker_concurrency).unwrap()
    }

    async fn call(downstreams: &Downstreams, step: &str, verb: Verb) -> CallOutcome {
        let account: AccountId = "demo".parse().unwrap();
        let order_id = OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap());
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
        };
        downstreams.call(&call).await
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
}
