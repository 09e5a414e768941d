//! Calls to the shop's services, and what their answers mean (docs/DOWNSTREAM.md).

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use orderfleet_domain::{
    AccountId, Order, OrderId, StepName,
    saga::{CallOutcome, Millis, Policy, Record, StepSettings, Verb, step_instance, step_key},
};
use reqwest::{
    Client, Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
    redirect,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer that is read; more is an unknown outcome.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Largest result kept in the order's document.
const RESULT_BYTES_MAX: usize = 1_024;
const TEXT_CHARS_MAX: usize = 200;
const IDLE_CONNECTIONS_MAX: usize = 64;

/// One HTTP client for all services, with a connection pool per host.
#[derive(Debug)]
pub(crate) struct Downstreams {
    client: Client,
    steps: BTreeMap<StepName, StepSettings>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) order_id: &'a OrderId,
    pub(crate) account: &'a AccountId,
    pub(crate) order: &'a Order,
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
    order: &'a Order,
}

#[derive(Deserialize)]
struct Success<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    refused: Option<Refused>,
    #[serde(default)]
    cancelled: bool,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
    #[serde(default)]
    message: String,
}

impl Downstreams {
    pub(crate) fn new(policy: &Policy) -> anyhow::Result<Self> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .redirect(redirect::Policy::none())
            .no_proxy();
        if policy.steps().iter().all(|step| step.url.starts_with("http://")) {
            // Without TLS anywhere, a machine without CA certificates is fine.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().context("cannot make an HTTP client for the steps")?;
        let steps = policy.steps().iter().map(|step| (step.name.clone(), step.clone())).collect();
        Ok(Self { client, steps })
    }

    /// Calls a step's service once. Never fails: whatever happens is an outcome.
    pub(crate) async fn call(&self, call: &Call<'_>) -> CallOutcome {
        let Some(settings) = self.steps.get(call.step) else {
            let what = format!("step {} is not in this worker's settings", call.step);
            return CallOutcome::NotSent { what };
        };
        let instance = step_instance(call.order_id, call.record.generation, call.step);
        let url = format!("{}/{instance}", settings.url.trim_end_matches('/'));
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
        if let Some(traceparent) = call.traceparent {
            request = request.header("traceparent", traceparent);
        }
        let request = request
            .header("Idempotency-Key", step_key(call.order_id, call.record.generation, call.step, call.verb))
            .header("Orderfleet-Fence", call.record.epoch)
            .timeout(Duration::from_millis(settings.timeout_ms));
        match request.send().await {
            Ok(response) => classify(response).await,
            Err(error) => failed(&error),
        }
    }
}

/// A request without an answer. Only where no connection was made is it sure that nothing happened.
fn failed(error: &reqwest::Error) -> CallOutcome {
    let what = if error.is_timeout() { "timeout" } else { "connection lost" };
    if error.is_builder() || error.is_connect() {
        return CallOutcome::NotSent {
            what: if error.is_builder() { "bad address" } else { "no connection" }.into(),
        };
    }
    CallOutcome::Unknown { what: what.into(), retry_after: None }
}

async fn classify(response: Response) -> CallOutcome {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = match read(response).await {
        Ok(body) => body,
        Err(what) => return CallOutcome::Unknown { what: format!("{status}, {what}"), retry_after },
    };
    let unknown = |what: String| CallOutcome::Unknown { what, retry_after };
    match status {
        status if status.is_success() => match serde_json::from_slice::<Success<'_>>(&body) {
            Ok(success) if success.result.get().starts_with('{') => {
                CallOutcome::Success { result: kept_result(success.result.get()) }
            }
            _ => unknown(format!("{status} without a result")),
        },
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            match serde_json::from_slice::<Refusal>(&body) {
                Ok(Refusal { refused: Some(refused), .. }) => {
                    CallOutcome::Refused { code: short(&refused.code), message: short(&refused.message) }
                }
                Ok(Refusal { cancelled: true, .. }) if status == StatusCode::CONFLICT => {
                    CallOutcome::Cancelled
                }
                _ => unknown(format!("{status} without a refusal")),
            }
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            CallOutcome::NotSent { what: format!("{status}: wrong address or credentials") }
        }
        status => unknown(status.to_string()),
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => body.extend_from_slice(&chunk),
            Ok(Some(_)) => return Err("the answer is too large"),
            Ok(None) => return Ok(body),
            Err(_) => return Err("the answer was cut off"),
        }
    }
}

/// Seconds only; a date would need the downstream's clock to be right.
fn retry_after(headers: &HeaderMap) -> Option<Millis> {
    let seconds: u32 = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Millis::from(seconds) * 1_000)
}

fn kept_result(result: &str) -> String {
    if result.len() <= RESULT_BYTES_MAX {
        result.to_owned()
    } else {
        format!("{{\"omitted_bytes\":{}}}", result.len())
    }
}

/// Foreign text for documents and terminals: short, without control characters.
fn short(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome(status: u16, body: &str, retry_after: Option<&str>) -> CallOutcome {
        let mut response = axum::http::Response::builder().status(status);
        if let Some(seconds) = retry_after {
            response = response.header("retry-after", seconds);
        }
        classify(Response::from(response.body(body.to_owned()).unwrap())).await
    }

    #[tokio::test]
    async fn answers_mean_what_the_contract_says() {
        let refused = r#"{"refused":{"code":"out_of_stock","message":"none\nleft"}}"#;
        let no = CallOutcome::Refused { code: "out_of_stock".into(), message: "none left".into() };
        assert_eq!(outcome(422, refused, None).await, no);
        assert_eq!(outcome(409, refused, None).await, no);
        assert_eq!(outcome(409, r#"{"cancelled":true}"#, None).await, CallOutcome::Cancelled);
        let done = CallOutcome::Success { result: r#"{"id":1}"#.into() };
        assert_eq!(outcome(200, r#"{"result":{"id":1}}"#, None).await, done);
        for status in [401, 403, 404] {
            assert!(matches!(outcome(status, "", None).await, CallOutcome::NotSent { .. }), "{status}");
        }
        let unknown = [
            (200, ""),
            (200, "{}"),
            (200, r#"{"result":"text"}"#),
            (409, r#"{"stale_fence":7}"#),
            (422, r#"{"cancelled":true}"#),
            (422, "no"),
            (400, refused),
            (408, ""),
            (425, ""),
            (500, refused),
            (302, ""),
        ];
        for (status, body) in unknown {
            assert!(
                matches!(outcome(status, body, None).await, CallOutcome::Unknown { .. }),
                "{status} {body}"
            );
        }
    }

    #[tokio::test]
    async fn a_downstream_may_ask_to_be_left_alone() {
        let CallOutcome::Unknown { retry_after, .. } = outcome(429, "", Some("7")).await else {
            panic!("known")
        };
        assert_eq!(retry_after, Some(7_000));
        let CallOutcome::Unknown { retry_after, .. } = outcome(503, "", Some("soon")).await else {
            panic!("known")
        };
        assert_eq!(retry_after, None);
    }

    #[test]
    fn large_results_are_left_out_and_stay_json() {
        let large = format!("{{\"x\":\"{}\"}}", "y".repeat(RESULT_BYTES_MAX));
        assert!(serde_json::from_str::<serde_json::Value>(&kept_result(&large)).is_ok());
    }
}
