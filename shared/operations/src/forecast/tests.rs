//! Forecasts against a sandbox, as they come true or not.

use orderfleet_domain::{
    AccountId, Command, CommandKind, Fingerprint, Order, OrderId, StepName,
    saga::{
        Cause, CauseClass, Hold, Nonce, Phase, Policy, Record, StepResult, StepSettings, StepState, WorkerId,
    },
};
use orderfleet_sandbox::{Options, Rule, Sandbox};
use orderfleet_storage::{Content, Letter};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use super::{
    Failing, Forecast,
    looks::Looks,
    predict::{Case, command, foresee},
    summary,
    verdict::Unsure,
};
use crate::replay::{Course, Planned};

const STEPS: [&str; 3] = ["inventory", "fulfilment", "accounting"];

struct Shop {
    sandbox: Sandbox,
    client: Client,
}

/// What a replay would meet, and be about.
struct Given {
    letter: Letter,
    record: Option<Record>,
    course: Course,
    order_since: u32,
}

impl Shop {
    async fn start(faults: &[&str]) -> Self {
        let fault = faults.iter().map(|rule| Rule::from_flag(rule).unwrap()).collect();
        let sandbox = Sandbox::start(Options { fault, ..Options::on_free_port() }).await.unwrap();
        let client = Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        Self { sandbox, client }
    }

    fn policy(&self) -> Policy {
        let step = |name: &str| StepSettings {
            name: name.parse().unwrap(),
            url: format!("http://{}/{name}/steps", self.sandbox.address()),
            ..StepSettings::defaults().swap_remove(0)
        };
        Policy::new(STEPS.map(step).to_vec(), 0).unwrap()
    }

    async fn call(&self, method: Method, step: &str, generation: u32) -> u16 {
        let instance = format!("{}.{generation}.{step}", order_id());
        let url = format!("http://{}/{step}/steps/{instance}", self.sandbox.address());
        let body = json!({
            "order_id": order_id(), "gen": generation, "step": step, "account": "demo", "order": order(),
        });
        let key = format!("{instance}.{method}");
        let request = self.client.request(method, url).header("Idempotency-Key", key);
        let sent = request.header("Orderfleet-Fence", 1).json(&body).send().await;
        sent.unwrap().status().as_u16()
    }

    /// Run 1: done up to a step that fails, then undone.
    async fn fail_at(&self, failing: &str) {
        let attempted = STEPS.iter().position(|step| *step == failing).unwrap();
        for step in &STEPS[..attempted] {
            assert_eq!(self.call(Method::PUT, step, 1).await, 200);
        }
        assert_eq!(self.call(Method::PUT, failing, 1).await, 500);
        for step in STEPS[..=attempted].iter().rev() {
            assert_eq!(self.call(Method::DELETE, step, 1).await, 200);
        }
    }

    async fn set_faults(&self, rules: &Value) {
        let url = format!("http://{}/faults", self.sandbox.address());
        assert!(self.client.put(url).json(rules).send().await.unwrap().status().is_success());
    }

    /// Everything that a call would leave a trace in.
    async fn books(&self) -> Vec<String> {
        let mut books = Vec::new();
        for path in ["inventory/ledger", "fulfilment/ledger", "accounting/ledger", "faults"] {
            let url = format!("http://{}/{path}", self.sandbox.address());
            books.push(self.client.get(url).send().await.unwrap().text().await.unwrap());
        }
        books
    }

    async fn forecast(&self, given: Given) -> Forecast {
        let before = self.books().await;
        let forecast = of(&self.policy(), given).await;
        assert_eq!(self.books().await, before, "a forecast changes nothing");
        forecast
    }
}

async fn of(policy: &Policy, given: Given) -> Forecast {
    let Given { letter, record, course, order_since } = given;
    let content = Content { headers: Vec::new(), body: place().encode(), correction: None };
    let command = command(&letter, &course, &content).unwrap();
    let case = Case { letter: &letter, record, command, order_since };
    let looks = Looks::new(policy).unwrap();
    foresee(policy, &looks, case).await.unwrap_or_else(Forecast::from)
}

fn name(step: &str) -> StepName {
    step.parse().unwrap()
}

fn account() -> AccountId {
    "demo".parse().unwrap()
}

fn order_id() -> OrderId {
    OrderId::derive(&"eu1".parse().unwrap(), &account(), &"k".parse().unwrap())
}

fn order() -> Order {
    serde_json::from_value(json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": { "country": "IE" },
        "lines": [{ "sku": "85123A", "quantity": 1, "unit_price": "1.00" }],
    }))
    .unwrap()
}

fn place() -> Command {
    let kind =
        CommandKind::Place { order: Box::new(order()), accepted_at: "2026-01-01T00:00:00Z".parse().unwrap() };
    let fp = Some(Fingerprint::of(&order()));
    Command { order_id: order_id(), account: account(), generation: 1, fp, kind }
}

fn letter(step: &str, class: &str) -> Letter {
    serde_json::from_value(json!({
        "id": format!("{}.letter", order_id()), "queue": step, "order_id": order_id(), "account": "demo", "gen": 1,
        "kind": "place", "reason": class, "step": step, "class": class, "answer": "500 Internal Server Error",
        "fingerprint": "aaaaaaaaaaaaaaaa", "attempts": [], "size": 1, "seen": 1,
        "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-01T00:00:00Z",
    }))
    .unwrap()
}

fn first_run() -> Record {
    let steps = STEPS.map(name).to_vec();
    let record = Record::first(Fingerprint::of(&order()), steps, WorkerId("w".into()), 0, Nonce(1));
    Record { owner: None, ..record }
}

/// Undone because fulfilment could not be brought to an answer.
fn undone() -> Given {
    let cause = Cause {
        class: CauseClass::AttemptsExhausted,
        step: name("fulfilment"),
        code: None,
        message: "500 Internal Server Error".into(),
        rev: 9,
    };
    Given {
        letter: letter("fulfilment", "attempts_exhausted"),
        record: Some(Record { phase: Phase::Undone, hi: 1, cause: Some(cause), rev: 11, ..first_run() }),
        course: Course::Run { generation: 2, correction: None },
        order_since: 1,
    }
}

fn held(record: Record) -> Given {
    let step = record.step(record.cur).clone();
    let hold = Hold { id: "h".into(), step: step.clone(), reason: "no".into(), at: 0 };
    let is_undoing = record.phase == Phase::Comp;
    Given {
        letter: letter(step.as_str(), "held"),
        record: Some(Record { hold: Some(hold), ..record }),
        course: Course::Release { hold: "h".into(), generation: 1, is_undoing },
        order_since: 1,
    }
}

fn fails(step: &str, class: &'static str, code: Option<&str>) -> Failing {
    Failing { step: Some(name(step)), class, code: code.map(str::to_owned) }
}

fn finish(in_general: &[&str]) -> Forecast {
    Forecast::Finish { in_general: in_general.iter().map(|step| name(step)).collect() }
}

fn unsure_at(forecast: &Forecast) -> Option<&str> {
    match forecast {
        Forecast::CannotSay { step, .. } => step.as_ref().map(StepName::as_str),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_same_failure_is_foretold_until_its_cause_is_mended() {
    let shop = Shop::start(&["fulfilment:error_country=IE"]).await;
    shop.fail_at("fulfilment").await;
    let same = Forecast::FailSame(fails("fulfilment", "attempts_exhausted", None));
    assert_eq!(shop.forecast(undone()).await, same);

    shop.set_faults(&json!([])).await;
    let mended = shop.forecast(undone()).await;
    assert_eq!(mended, finish(&["accounting"]), "accounting has never seen the order");
    assert_eq!(mended.to_string(), "would finish, as far as accounting can tell without the order");

    shop.set_faults(&json!([{ "service": "accounting", "unavailable": true }])).await;
    let other = Forecast::FailOther(fails("accounting", "attempts_exhausted", None));
    assert_eq!(shop.forecast(undone()).await, other);
    shop.set_faults(&json!([{ "service": "inventory", "refuse_sku": "85123A" }])).await;
    let refused = Forecast::FailOther(fails("inventory", "refused", Some("sku_refused")));
    assert_eq!(shop.forecast(undone()).await, refused);
}

#[tokio::test]
async fn what_was_never_taken_back_is_a_danger_and_named() {
    let shop = Shop::start(&["fulfilment:error_country=IE"]).await;
    shop.fail_at("fulfilment").await;
    shop.set_faults(&json!([])).await;
    shop.call(Method::PUT, "accounting", 1).await;

    let danger = Forecast::Danger { instances: vec![format!("{}.1.accounting", order_id())] };
    assert_eq!(shop.forecast(undone()).await, danger);

    // A person has seen to it outside of the service's books.
    let mut by_hand = undone();
    let result = StepResult {
        step: name("accounting"),
        state: StepState::SettledByPerson,
        result: String::new(),
        at: 0,
    };
    by_hand.record.as_mut().unwrap().results.push(result);
    assert_eq!(shop.forecast(by_hand).await, finish(&[]));
}

#[tokio::test]
async fn the_runs_before_the_last_are_looked_at_too() {
    let shop = Shop::start(&[]).await;
    shop.call(Method::PUT, "inventory", 2).await;
    let mut given = undone();
    given.record = given.record.map(|record| Record { generation: 7, ..record });
    given.course = Course::Run { generation: 8, correction: None };

    let danger = Forecast::Danger { instances: vec![format!("{}.2.inventory", order_id())] };
    assert_eq!(shop.forecast(given).await, danger);
}

#[tokio::test]
async fn without_an_outlook_nothing_is_said_from_that_step_on() {
    let shop = Shop::start(&["fulfilment:error_country=IE", "accounting:refuse_country=IE"]).await;
    shop.fail_at("fulfilment").await;
    let same = Forecast::FailSame(fails("fulfilment", "attempts_exhausted", None));
    assert_eq!(shop.forecast(undone()).await, same, "it would not come as far as accounting");

    shop.set_faults(&json!([{ "service": "accounting", "refuse_country": "IE" }])).await;
    assert_eq!(unsure_at(&shop.forecast(undone()).await), Some("accounting"));
}

#[tokio::test]
async fn a_service_that_is_down_leaves_the_forecast_open() {
    let gone = Shop::start(&[]).await;
    let policy = gone.policy();
    gone.sandbox.shutdown().await;

    let forecast = of(&policy, undone()).await;
    let open = Unsure::at(&name("inventory"), "no connection to the service");
    assert_eq!(forecast, Forecast::from(open));
}

#[tokio::test]
async fn an_outlook_for_the_order_before_its_correction_does_not_count() {
    let shop = Shop::start(&["fulfilment:error_country=IE"]).await;
    shop.fail_at("fulfilment").await;
    shop.set_faults(&json!([])).await;

    let corrected = Given { order_since: 2, ..undone() };
    assert_eq!(unsure_at(&shop.forecast(corrected).await), Some("inventory"));
}

#[tokio::test]
async fn a_held_order_goes_on_where_it_stands() {
    let shop = Shop::start(&[]).await;
    shop.call(Method::PUT, "inventory", 1).await;
    let forward = || held(Record { cur: 1, hi: 1, ..first_run() });
    assert_eq!(shop.forecast(forward()).await, finish(&["fulfilment", "accounting"]));

    let backward =
        || held(Record { phase: Phase::Comp, cur: 0, hi: 1, cause: undone_cause(), ..first_run() });
    let forecast = shop.forecast(backward()).await;
    assert_eq!(unsure_at(&forecast), Some("inventory"), "whether the undo is taken cannot be asked");
    shop.call(Method::DELETE, "inventory", 1).await;
    assert_eq!(shop.forecast(backward()).await, finish(&[]), "undone is where it is to come to");
    shop.call(Method::PUT, "accounting", 1).await;
    let danger = Forecast::Danger { instances: vec![format!("{}.1.accounting", order_id())] };
    assert_eq!(shop.forecast(backward()).await, danger);
}

fn undone_cause() -> Option<Cause> {
    undone().record.and_then(|record| record.cause)
}

#[tokio::test]
async fn a_message_whose_order_has_no_document_begins_it() {
    let shop = Shop::start(&[]).await;
    let given = || Given { record: None, course: Course::Again { generation: 1 }, ..undone() };
    assert_eq!(shop.forecast(given()).await, finish(&STEPS));

    let crashed = Given { letter: letter("poison", "crashed"), ..given() };
    assert_eq!(unsure_at(&shop.forecast(crashed).await), None, "services cannot tell what crashes workers");
}

#[tokio::test]
async fn forecasts_are_counted_by_failure_and_verdict() {
    let planned = |id: &str| Planned {
        letter: Letter { id: id.into(), ..letter("fulfilment", "attempts_exhausted") },
        course: Course::Run { generation: 2, correction: None },
    };
    let items = ["a", "b", "c"].map(planned);
    let danger = |instance: &str| Forecast::Danger { instances: vec![instance.into()] };
    let forecasts = [("a".into(), finish(&[])), ("b".into(), danger("x")), ("c".into(), danger("y"))];

    let groups = summary(&items, &forecasts);
    let told: Vec<_> =
        groups.iter().map(|group| (group.verdict, group.count, group.example.as_str())).collect();
    assert_eq!(told, [("danger", 2, "b"), ("finish", 1, "a")]);
}
