//! What the answers of the shop's services mean (docs/DOWNSTREAM.md).

use orderfleet_domain::saga::{CallOutcome, Millis};
use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Largest answer that is read; more is an unknown outcome.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Largest result kept in the order's document.
const RESULT_BYTES_MAX: usize = 1_024;
const TEXT_CHARS_MAX: usize = 200;

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

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    answers: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Batched<'a> {
    instance: String,
    status: u16,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
}

/// The outcome that an answer tells of.
pub(crate) async fn classify(response: Response) -> CallOutcome {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    match read(response, ANSWER_BYTES_MAX).await {
        Ok(body) => outcome(status, &body, retry_after),
        Err(what) => CallOutcome::Unknown { what: format!("{status}, {what}"), retry_after },
    }
}

/// The outcomes of the dos of these step instances, sent in one request, in their order.
///
/// # Errors
/// When it does not tell of each of them, in their order, what it is answered; says why.
pub(crate) async fn classify_batch(
    response: Response,
    instances: &[&str],
) -> Result<Vec<CallOutcome>, String> {
    let calls = instances.len();
    let body = read(response, calls.saturating_mul(ANSWER_BYTES_MAX)).await?;
    let Ok(Batch { answers }) = serde_json::from_slice(&body) else {
        return Err("no list of answers".into());
    };
    if answers.len() != calls {
        return Err(format!("{} answers to {calls} calls", answers.len()));
    }
    answers.into_iter().zip(instances).map(|(answer, instance)| outcome_in_batch(answer, instance)).collect()
}

fn outcome_in_batch(answer: &RawValue, instance: &str) -> Result<CallOutcome, String> {
    let Ok(Batched { instance: answered, status, body }) = serde_json::from_str(answer.get()) else {
        return Err("an answer without instance or status".into());
    };
    if answered != instance {
        return Err("an answer that names another step instance than its call".into());
    }
    let status = StatusCode::from_u16(status).map_err(|_| "an answer without a status")?;
    let body = body.map_or("", RawValue::get);
    if body.len() > ANSWER_BYTES_MAX {
        return Err("an answer that is too large".into());
    }
    Ok(outcome(status, body.as_bytes(), None))
}

fn outcome(status: StatusCode, body: &[u8], retry_after: Option<Millis>) -> CallOutcome {
    let unknown = |what: String| CallOutcome::Unknown { what, retry_after };
    match status {
        status if status.is_success() => match serde_json::from_slice::<Success<'_>>(body) {
            Ok(success) if success.result.get().starts_with('{') => {
                CallOutcome::Success { result: kept_result(success.result.get()) }
            }
            _ => unknown(format!("{status} without a result")),
        },
        StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            match serde_json::from_slice::<Refusal>(body) {
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

async fn read(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, &'static str> {
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => body.extend_from_slice(&chunk),
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
