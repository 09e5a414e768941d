//! What a service answered, and what a worker would make of it.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// Workers read no more either.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// One answer, or why there is none.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: Option<StatusCode>,
    pub(super) meaning: Meaning,
    pub(super) body: Vec<u8>,
    pub(super) retry_after: Option<Duration>,
    pub(super) timed_out: bool,
    pub(super) took: Duration,
}

/// An answer in the words of the contract.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// 2xx with a result, and the bytes it has.
    Result(Value, usize),
    /// A business "no", by its code.
    Refused(String),
    Cancelled,
    StaleFence(u64),
    KeyMismatch,
    /// A "no" that the contract knows nothing of, and that no repeat would change.
    Rejected,
    /// 401, 403 or 404: the address or the credentials are wrong.
    Denied,
    /// It may have happened: to be repeated.
    Unknown(String),
    /// No connection was made.
    NotSent(String),
}

#[derive(Deserialize)]
struct Success<'a> {
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct No {
    #[serde(default)]
    refused: Option<Refused>,
    #[serde(default)]
    cancelled: bool,
    #[serde(default)]
    stale_fence: Option<u64>,
    #[serde(default)]
    key_mismatch: bool,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
}

impl Answer {
    /// Reads an answer, at most as much of it as workers do.
    pub(super) async fn read(mut response: Response) -> Self {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        let mut timed_out = false;
        let broken = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    break Some(format!("{status}, but the answer has more than {ANSWER_BYTES_MAX} bytes"));
                }
                Ok(None) => break None,
                Err(error) => {
                    timed_out = error.is_timeout();
                    break Some(format!("{status}, but the answer was cut off"));
                }
            }
        };
        let meaning = broken.map_or_else(|| Meaning::of(status, &body), Meaning::Unknown);
        Self { status: Some(status), meaning, body, retry_after, timed_out, took: Duration::ZERO }
    }

    /// No answer at all.
    pub(super) fn none(error: &reqwest::Error, timeout: Duration) -> Self {
        let timed_out = error.is_timeout() && !error.is_connect();
        let meaning = if error.is_connect() || error.is_builder() {
            Meaning::NotSent(format!("no connection: {}", innermost(error)))
        } else if timed_out {
            Meaning::Unknown(format!("no answer within {timeout:?}"))
        } else {
            Meaning::Unknown(format!("no answer: {}", innermost(error)))
        };
        Self { status: None, meaning, body: Vec::new(), retry_after: None, timed_out, took: Duration::ZERO }
    }

    /// Whether a repeat of the call would tell nothing new.
    pub(super) fn is_definite(&self) -> bool {
        !matches!(self.meaning, Meaning::Unknown(_) | Meaning::NotSent(_))
    }

    /// Whether it is enough where a call is none that workers would send: any 4xx is a "no" to that.
    pub(super) fn is_final(&self) -> bool {
        self.is_definite() || self.is_client_error()
    }

    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.is_success())
    }

    pub(super) fn is_client_error(&self) -> bool {
        self.status.is_some_and(|status| status.is_client_error())
    }

    /// For sentences: "it answered …".
    pub(super) fn words(&self) -> String {
        let status = self.status.map(|status| status.to_string()).unwrap_or_default();
        match &self.meaning {
            Meaning::Result(..) => format!("{status} with a result"),
            Meaning::Refused(code) => format!("{status}, refused as {code}"),
            Meaning::Cancelled => format!("{status} cancelled"),
            Meaning::StaleFence(highest) => format!("{status} stale_fence {highest}"),
            Meaning::KeyMismatch => format!("{status} key_mismatch"),
            Meaning::Rejected => status,
            Meaning::Denied => format!("{status}: a wrong address, or wrong credentials"),
            Meaning::Unknown(what) | Meaning::NotSent(what) => what.clone(),
        }
    }
}

impl Meaning {
    fn of(status: StatusCode, body: &[u8]) -> Self {
        match status {
            status if status.is_success() => result(body)
                .unwrap_or_else(|| Self::Unknown(format!("{status} without a {{\"result\":{{…}}}}"))),
            StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Self::of_no(status, body),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => Self::Denied,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Self::Unknown(status.to_string())
            }
            status if status.is_client_error() => Self::Rejected,
            status => Self::Unknown(status.to_string()),
        }
    }

    fn of_no(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<No>(body) {
            Ok(No { refused: Some(Refused { code }), .. }) => Self::Refused(code),
            Ok(No { cancelled: true, .. }) if status == StatusCode::CONFLICT => Self::Cancelled,
            Ok(No { stale_fence: Some(highest), .. }) if status == StatusCode::CONFLICT => {
                Self::StaleFence(highest)
            }
            Ok(No { key_mismatch: true, .. }) if status == StatusCode::CONFLICT => Self::KeyMismatch,
            _ => Self::Unknown(format!("{status} without a body that the contract knows")),
        }
    }
}

fn result(body: &[u8]) -> Option<Meaning> {
    let raw = serde_json::from_slice::<Success<'_>>(body).ok()?.result.get();
    let value: Value = serde_json::from_str(raw).ok()?;
    value.is_object().then_some(Meaning::Result(value, raw.len()))
}

/// Seconds only, as workers read it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The innermost cause says what happened; the outer ones only that a request failed.
fn innermost(error: &reqwest::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meaning(status: u16, body: &str) -> Meaning {
        Meaning::of(StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn answers_mean_what_the_contract_says() {
        assert_eq!(meaning(201, r#"{"result": {"id": 1}}"#), Meaning::Result(json!({"id": 1}), 9));
        for status in [409, 422] {
            assert_eq!(meaning(status, r#"{"refused":{"code":"x"}}"#), Meaning::Refused("x".into()));
        }
        assert_eq!(meaning(409, r#"{"cancelled":true}"#), Meaning::Cancelled);
        assert_eq!(meaning(409, r#"{"stale_fence":7}"#), Meaning::StaleFence(7));
        assert_eq!(meaning(409, r#"{"key_mismatch":true}"#), Meaning::KeyMismatch);
        assert_eq!(meaning(400, "{}"), Meaning::Rejected);
        assert_eq!(meaning(404, "{}"), Meaning::Denied);
        let unknown = [
            (200, ""),
            (200, "<html>"),
            (200, r#"{"result":"text"}"#),
            (422, r#"{"cancelled":true}"#),
            (409, "in progress"),
            (302, ""),
            (429, ""),
            (503, ""),
        ];
        for (status, body) in unknown {
            assert!(matches!(meaning(status, body), Meaning::Unknown(_)), "{status} {body}");
        }
    }
}
