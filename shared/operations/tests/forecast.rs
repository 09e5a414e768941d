//! The forecast of a plan, with a real database and a sandbox.

#![expect(clippy::unwrap_used, reason = "a broken expectation is a failed test")]

use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, Fingerprint, Order, OrderId, StepName,
    failure::{Failure, FailureClass},
    saga::{
        Cause, CauseClass, DeadLetterQueue, Nonce, Phase, Policy, Record, StepSettings, StoreReply, WorkerId,
    },
};
use orderfleet_native::Services;
use orderfleet_operations::{
    forecast::{ForecastGroup, forecast, summary},
    replay::{Plan, plan},
};
use orderfleet_sandbox::{Options, Rule, Sandbox};
use orderfleet_storage::{DatabaseSettings, DeadLetter, LetterFilter, Store, Subject};
use reqwest::Client;
use serde_json::json;

const ORDERS: usize = 40;

struct Shop {
    sandbox: Sandbox,
    client: Client,
}

impl Shop {
    async fn start() -> Self {
        let fault = vec![Rule::from_flag("fulfilment:error_country=IE").unwrap()];
        let sandbox = Sandbox::start(Options { fault, ..Options::on_free_port() }).await.unwrap();
        Self { sandbox, client: Client::builder().no_proxy().tls_certs_only([]).build().unwrap() }
    }

    fn policy(&self) -> Policy {
        let steps = StepSettings::defaults().into_iter().map(|step| StepSettings {
            url: format!("http://{}/{}/steps", self.sandbox.address(), step.name),
            ..step
        });
        Policy::new(steps.collect(), 0).unwrap()
    }

    /// The order's first run, as far as fulfilment got to know of it.
    async fn fail(&self, order_id: &OrderId) {
        let instance = format!("{order_id}.1.fulfilment");
        let url = format!("http://{}/fulfilment/steps/{instance}", self.sandbox.address());
        let body = json!({
            "order_id": order_id, "gen": 1, "step": "fulfilment", "account": "demo", "order": order(),
        });
        let request = self.client.put(url).header("Idempotency-Key", instance).header("Orderfleet-Fence", 1);
        assert_eq!(request.json(&body).send().await.unwrap().status(), 500);
    }

    async fn mend(&self) {
        let url = format!("http://{}/faults", self.sandbox.address());
        assert!(self.client.delete(url).send().await.unwrap().status().is_success());
    }
}

async fn store() -> Store {
    let uri = Services::from_env_or_start().await.unwrap().mongodb_uri().to_owned();
    let name = format!("operations_test_forecast_{}", std::process::id());
    let settings = DatabaseSettings { uri, name, ..DatabaseSettings::default() };
    let store = Store::connect(&settings, "operations-test").await.unwrap();
    store.prepare().await.unwrap();
    store
}

fn order() -> Order {
    serde_json::from_value(json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": { "country": "IE" },
        "lines": [{ "sku": "85123A", "quantity": 1, "unit_price": "1.00" }],
    }))
    .unwrap()
}

fn place(key: &str) -> Command {
    let account = "demo".parse().unwrap();
    let order_id = OrderId::derive(&"eu1".parse().unwrap(), &account, &key.parse().unwrap());
    let kind = CommandKind::Place { order: Box::new(order()), accepted_at: Timestamp::UNIX_EPOCH };
    Command { order_id, account, generation: 1, fp: Some(Fingerprint::of(&order())), kind }
}

fn fulfilment() -> StepName {
    "fulfilment".parse().unwrap()
}

fn undone(steps: Vec<StepName>) -> Record {
    let first = Record::first(Fingerprint::of(&order()), steps, WorkerId("w".into()), 0, Nonce(1));
    let (class, step) = (CauseClass::AttemptsExhausted, fulfilment());
    let cause = Cause { class, step, code: None, message: "500 Internal Server Error".into(), rev: 4 };
    Record { phase: Phase::Undone, hi: 1, cause: Some(cause), owner: None, rev: 6, ..first }
}

fn letter(command: &Command) -> DeadLetter {
    let class = FailureClass::Run(CauseClass::AttemptsExhausted);
    let Command { order_id, account, generation, .. } = command.clone();
    DeadLetter {
        id: format!("{order_id}.4"),
        queue: DeadLetterQueue::Step(fulfilment()),
        subject: Some(Subject { order_id, account, generation }),
        kind: "place".into(),
        reason: class.as_str().into(),
        failure: Failure::new(Some(fulfilment()), class, None, "500 Internal Server Error"),
        build: None,
        trace_id: None,
        attempts: Vec::new(),
        headers: Vec::new(),
        body: command.encode(),
    }
}

async fn planned(store: &Store) -> Plan {
    plan(store, &LetterFilter::all(), "all", None).await.unwrap()
}

async fn foretold(store: &Store, policy: &Policy) -> Vec<ForecastGroup> {
    let plan = planned(store).await;
    let mut told = Vec::new();
    let forecasts = forecast(store, policy, &plan.items, |count| told.push(count)).await.unwrap();
    assert_eq!(told, (1..=ORDERS).collect::<Vec<_>>());
    let ids: Vec<_> = forecasts.iter().map(|(id, _)| id).collect();
    assert_eq!(ids, plan.items.iter().map(|item| &item.letter.id).collect::<Vec<_>>());
    summary(&plan.items, &forecasts)
}

#[tokio::test]
async fn a_plan_is_foretold_as_one_group_and_nothing_is_changed_by_it() {
    let (shop, store) = (Shop::start().await, store().await);
    let policy = shop.policy();
    for number in 0..ORDERS {
        let command = place(&format!("k{number}"));
        let Command { order_id, account, .. } = &command;
        shop.fail(order_id).await;
        let record = undone(policy.step_names());
        let inserted = store.insert(order_id, account, &order(), Timestamp::UNIX_EPOCH, &record).await;
        assert_eq!(inserted, StoreReply::Applied);
        assert!(store.park(&letter(&command), 0).await.unwrap());
    }
    let before =
        (planned(&store).await.items, store.order_for_operator(&place("k0").order_id).await.unwrap());

    let same = foretold(&store, &policy).await;
    assert_eq!((same.len(), same[0].verdict, same[0].count), (1, "fail_same", ORDERS));
    assert_eq!(same[0].what, "would fail the same way: attempts_exhausted at fulfilment");

    shop.mend().await;
    let mended = foretold(&store, &policy).await;
    assert_eq!((mended.len(), mended[0].verdict, mended[0].count), (1, "finish", ORDERS));

    let after = (planned(&store).await.items, store.order_for_operator(&place("k0").order_id).await.unwrap());
    assert_eq!(format!("{before:?}"), format!("{after:?}"));
}
