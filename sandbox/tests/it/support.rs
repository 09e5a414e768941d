//! A sandbox on a free port, and a client that speaks the downstream contract.

use std::time::Duration;

use orderfleet_sandbox::{Options, Rule, Sandbox};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// Far beyond what any answer takes; a test that reaches it fails.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Shop {
    sandbox: Sandbox,
    pub(crate) client: Client,
}

/// One step instance with its keys, as a worker would derive them.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) service: &'static str,
    pub(crate) order_id: String,
    pub(crate) fence: u64,
    pub(crate) order: Value,
}

impl Shop {
    pub(crate) async fn start() -> Self {
        Self::with(Options::on_free_port()).await
    }

    pub(crate) async fn with_faults(rules: &[&str]) -> Self {
        let fault = rules.iter().map(|rule| Rule::from_flag(rule).expect("the test's rule is right"));
        Self::with(Options { fault: fault.collect(), ..Options::on_free_port() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let sandbox = Sandbox::start(options).await.expect("the sandbox starts");
        let client = Client::builder().timeout(ANSWER_TIMEOUT).build().expect("the client builds");
        Self { sandbox, client }
    }

    pub(crate) async fn stop(self) {
        self.sandbox.shutdown().await;
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.sandbox.address()))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        answer(self.request(Method::GET, path)).await.1
    }

    pub(crate) async fn text(&self, path: &str) -> String {
        let response = self.request(Method::GET, path).send().await.expect("the sandbox answers");
        response.text().await.expect("the answer is text")
    }

    /// The outcomes in a service's ledger, such as "do effect".
    pub(crate) async fn outcomes(&self, service: &str, order_id: &str) -> Vec<String> {
        let ledger = self.text(&format!("/{service}/ledger?order_id={order_id}")).await;
        let records = ledger.lines().map(|line| serde_json::from_str(line).expect("a record is JSON"));
        let outcome = |record: Value| {
            format!(
                "{} {}",
                record["verb"].as_str().unwrap_or("?"),
                record["outcome"].as_str().unwrap_or("?")
            )
        };
        records.map(outcome).collect()
    }

    pub(crate) async fn do_step(&self, step: &Step) -> (StatusCode, Value) {
        answer(self.do_request(step)).await
    }

    /// Several dos of one service in one request: their statuses and bodies.
    pub(crate) async fn do_batch(&self, service: &str, calls: &[Value]) -> Vec<(u64, Value)> {
        let request = self.request(Method::POST, &format!("/{service}/steps/batch"));
        let (status, mut told) = answer(request.json(&json!({ "calls": calls }))).await;
        assert_eq!(status, StatusCode::OK, "{told}");
        let answers = told["answers"].take();
        let answers = answers.as_array().expect("there is a list of answers").iter();
        let named = answers.clone().zip(calls).filter(|(answer, _)| answer["status"] != 400);
        named.for_each(|(answer, call)| assert_eq!(answer["instance"], call["instance"]));
        answers.map(|answer| (answer["status"].as_u64().unwrap_or(0), answer["body"].clone())).collect()
    }

    pub(crate) async fn undo_step(&self, step: &Step) -> (StatusCode, Value) {
        answer(self.headers(Method::DELETE, step, "undo")).await
    }

    pub(crate) async fn look(&self, step: &Step) -> Value {
        self.get(&step.path()).await
    }

    pub(crate) fn do_request(&self, step: &Step) -> RequestBuilder {
        self.headers(Method::PUT, step, "do").json(&step.body())
    }

    fn headers(&self, method: Method, step: &Step, verb: &str) -> RequestBuilder {
        self.request(method, &step.path())
            .header("Idempotency-Key", format!("key-{}-{}-{verb}", step.order_id, step.service))
            .header("Orderfleet-Fence", step.fence)
    }
}

impl Step {
    pub(crate) fn of(service: &'static str, order_id: &str) -> Self {
        let order = json!({
            "channel": "retail", "currency": "GBP", "payment_ref": "pay_1",
            "ship_to": { "name": "Jane Doe", "country": "GB" },
            "lines": [{ "sku": "85123A", "description": "HOLDER", "quantity": 6, "unit_price": "2.55" }],
        });
        Self { service, order_id: order_id.to_owned(), fence: 1, order }
    }

    pub(crate) fn with_lines(mut self, lines: &[(&str, u32, &str)]) -> Self {
        let line = |&(sku, quantity, unit_price): &(&str, u32, &str)| json!({ "sku": sku, "quantity": quantity, "unit_price": unit_price });
        self.order["lines"] = lines.iter().map(line).collect();
        self
    }

    pub(crate) fn with_fence(mut self, fence: u64) -> Self {
        self.fence = fence;
        self
    }

    pub(crate) fn path(&self) -> String {
        format!("/{0}/steps/{1}.1.{0}", self.service, self.order_id)
    }

    /// Its do as a member of a batch.
    pub(crate) fn batched(&self) -> Value {
        json!({
            "instance": format!("{}.1.{}", self.order_id, self.service),
            "key": format!("key-{}-{}-do", self.order_id, self.service),
            "fence": self.fence,
            "body": self.body(),
        })
    }

    pub(crate) fn body(&self) -> Value {
        json!({
            "order_id": self.order_id, "gen": 1, "step": self.service, "account": "acme",
            "order": self.order, "a_field_of_the_future": true,
        })
    }
}

pub(crate) async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.expect("the sandbox answers");
    let status = response.status();
    (status, response.json().await.expect("the answer is JSON"))
}
