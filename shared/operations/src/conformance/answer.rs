//! What a service answered, and what a worker would make of it.

use std::time::Duration;

use reqwest::{
    Response, StatusCode,
    header::{HeaderMap, RETRY_AFTER},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// Of one call, workers read no more either.
pub(super) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// One answer, or why there is none.
#[derive(Debug, Clone)]
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
struct Batch<'a> {
    #[serde(borrow)]
    answers: Vec<&'a RawValue>,
}

/// The answer to one do of a batch.
#[derive(Deserialize)]
struct Part<'a> {
    instance: String,
    status: u16,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
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
    /// Reads an answer, at most so much of it.
    pub(super) async fn read(mut response: Response, bytes_max: usize) -> Self {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        let mut timed_out = false;
        let broken = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= bytes_max => {
                    body.extend_from_slice(&chunk);
                }
                Ok(Some(_)) => {
                    break Some(format!("{status}, but the answer has more than {bytes_max} bytes"));
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

    /// The answers to the dos of these step instances in one batch, in their order. Where they cannot be told apart, any of the
    /// dos may have happened.
    pub(super) fn of_each(&self, instances: &[String]) -> Vec<Self> {
        let dos = instances.len();
        let meaning = match self.batch() {
            _ if matches!(self.meaning, Meaning::NotSent(_)) => self.meaning.clone(),
            Some(parts) if parts.len() == dos => {
                return parts
                    .into_iter()
                    .zip(instances)
                    .map(|(part, name)| self.of_one(part, name))
                    .collect();
            }
            Some(parts) => Meaning::Unknown(format!("{} answers to a batch of {dos} dos", parts.len())),
            None if self.is_success() => {
                Meaning::Unknown("a batch was answered without a whole {\"answers\":[…]}".into())
            }
            None => Meaning::Unknown(format!("the whole batch was answered: {}", self.words())),
        };
        let mut each = vec![Self { meaning, ..self.clone() }; dos];
        // One request was too slow, not as many as there were dos in it.
        each.iter_mut().skip(1).for_each(|answer| answer.timed_out = false);
        each
    }

    /// Whether it is what a batch of no calls is answered.
    pub(super) fn is_empty_batch(&self) -> bool {
        self.batch().is_some_and(|parts| parts.is_empty())
    }

    fn batch(&self) -> Option<Vec<&RawValue>> {
        let batch = self.is_success().then(|| serde_json::from_slice::<Batch<'_>>(&self.body).ok());
        batch.flatten().map(|batch| batch.answers)
    }

    fn of_one(&self, part: &RawValue, instance: &str) -> Self {
        let read = serde_json::from_str::<Part<'_>>(part.get()).ok();
        let read = read.and_then(|part| Some((StatusCode::from_u16(part.status).ok()?, part)));
        let (status, meaning, body) = match read {
            Some((status, part)) => {
                let body = part.body.map_or("", RawValue::get);
                let meaning = match part.instance == instance {
                    true if body.len() <= ANSWER_BYTES_MAX => Meaning::of(status, body.as_bytes()),
                    true => Meaning::Unknown(format!(
                        "{status}, but the answer has more than {ANSWER_BYTES_MAX} bytes"
                    )),
                    false => Meaning::Unknown(format!("an answer for {}, not for {instance}", part.instance)),
                };
                (Some(status), meaning, body)
            }
            None => {
                let what = "an answer of a batch without an {\"instance\":…,\"status\":…,\"body\":{…}}";
                (self.status, Meaning::Unknown(what.into()), part.get())
            }
        };
        Self { status, meaning, body: body.as_bytes().to_vec(), ..self.clone() }
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

    /// Of a batch of the instances `0`, `1`, ….
    fn meanings(status: u16, body: &str, dos: usize) -> Vec<Meaning> {
        let status = StatusCode::from_u16(status).unwrap();
        let meaning = Meaning::of(status, body.as_bytes());
        let (body, took) = (body.as_bytes().to_vec(), Duration::ZERO);
        let whole = Answer { status: Some(status), meaning, body, retry_after: None, timed_out: false, took };
        let instances: Vec<_> = (0..dos).map(|number| number.to_string()).collect();
        whole.of_each(&instances).into_iter().map(|answer| answer.meaning).collect()
    }

    #[test]
    fn each_do_of_a_batch_has_its_own_answer() {
        let body = r#"{"answers":[{"instance":"0","status":200,"body":{"result":{"id":1}}},
            {"instance":"1","status":409,"body":{"cancelled":true}},{"instance":"2","status":400},
            {"status":200,"body":{"result":{}}},{"instance":"4","status":7},
            {"instance":"6","status":200,"body":{"result":{}}}]}"#;
        let meanings = meanings(200, body, 6);
        let definite = [Meaning::Result(json!({"id": 1}), 8), Meaning::Cancelled, Meaning::Rejected];
        assert_eq!(meanings[..3], definite);
        assert!(meanings[3..].iter().all(|meaning| matches!(meaning, Meaning::Unknown(_))), "{meanings:?}");
    }

    #[test]
    fn what_is_no_answer_to_a_batch_is_unknown_for_each_do() {
        let one = r#"{"answers":[{"instance":"0","status":409,"body":{"cancelled":true}}]}"#;
        for (status, body) in [(200, one), (200, "{}"), (409, r#"{"cancelled":true}"#), (404, ""), (503, "")]
        {
            let meanings = meanings(status, body, 2);
            assert!(matches!(meanings[..], [Meaning::Unknown(_), Meaning::Unknown(_)]), "{meanings:?}");
        }
    }
}
