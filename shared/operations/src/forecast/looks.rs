//! Looks at step instances (docs/DOWNSTREAM.md): `GET`, few at a time, and none at a service that does not answer them.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use orderfleet_domain::{
    StepName,
    saga::{Policy, StepSettings},
};
use reqwest::{Client, Response, StatusCode, redirect};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tokio::sync::Semaphore;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Looks in flight per service.
const CONCURRENCY: usize = 8;
/// Looks in a row without an answer after which a service is left alone for the rest of the forecast.
const FAILURES_MAX: u32 = 3;
/// Workers read no more of an answer, keep no longer results and no longer codes either.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const RESULT_BYTES_MAX: usize = 1_024;
const CODE_CHARS_MAX: usize = 200;

/// The services of all steps.
pub(super) struct Looks {
    client: Client,
    services: BTreeMap<StepName, Service>,
}

struct Service {
    url: String,
    timeout: Duration,
    places: Semaphore,
    /// In a row.
    failures: AtomicU32,
    /// Why the service is left alone.
    given_up: OnceLock<String>,
}

/// What a service has for a step instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) state: State,
    /// JSON text.
    pub(super) result: String,
    pub(super) outlook: Option<Outlook>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    None,
    Done,
    Undone,
    Refused,
}

/// What a do would be answered now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Outlook {
    #[serde(flatten)]
    pub(super) answer: Answer,
    /// The run that the service knows the order from; without it the answer is that to orders in general.
    #[serde(default, rename = "gen")]
    pub(super) generation: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub(super) enum Answer {
    Done,
    Refused { code: String },
    Error,
}

#[derive(Deserialize)]
struct Body<'a> {
    state: State,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    outlook: Option<Value>,
}

impl Looks {
    /// Opens no connection yet.
    pub(super) fn new(policy: &Policy) -> Result<Self, reqwest::Error> {
        let mut client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(CONCURRENCY)
            .redirect(redirect::Policy::none())
            .no_proxy();
        if policy.steps().iter().all(|step| step.url.starts_with("http://")) {
            // Without TLS anywhere, a machine without CA certificates is fine.
            client = client.tls_certs_only([]);
        }
        let services = policy.steps().iter().map(|step| (step.name.clone(), Service::of(step))).collect();
        Ok(Self { client: client.build()?, services })
    }

    /// Looks once.
    ///
    /// # Errors
    /// Why there is no answer, for people, without anything that differs from instance to instance.
    pub(super) async fn look(&self, step: &StepName, instance: &str) -> Result<Look, String> {
        let service = self.services.get(step).ok_or("the step is not in the settings")?;
        let _place = service.places.acquire().await.map_err(|_| "the forecast is over")?;
        if let Some(why) = service.given_up.get() {
            return Err(why.clone());
        }
        let looked = self.ask(service, instance).await;
        service.take_note(&looked);
        looked
    }

    async fn ask(&self, service: &Service, instance: &str) -> Result<Look, String> {
        let request = self.client.get(format!("{}/{instance}", service.url)).timeout(service.timeout);
        let response = request.send().await.map_err(|error| failed(&error).to_owned())?;
        if response.status() != StatusCode::OK {
            return Err(format!("a look was answered {}", response.status()));
        }
        let body = read(response).await?;
        parse(&body).ok_or_else(|| "a look was answered with something else".to_owned())
    }
}

impl Service {
    fn of(step: &StepSettings) -> Self {
        Self {
            url: step.url.trim_end_matches('/').to_owned(),
            timeout: Duration::from_millis(step.timeout_ms),
            places: Semaphore::new(CONCURRENCY),
            failures: AtomicU32::new(0),
            given_up: OnceLock::new(),
        }
    }

    fn take_note(&self, looked: &Result<Look, String>) {
        let Err(why) = looked else { return self.failures.store(0, Ordering::Relaxed) };
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES_MAX {
            self.given_up.get_or_init(|| why.clone());
        }
    }
}

fn failed(error: &reqwest::Error) -> &'static str {
    if error.is_connect() {
        "no connection to the service"
    } else if error.is_timeout() {
        "the service did not answer in time"
    } else {
        "the connection to the service was lost"
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&error).to_owned())? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the answer to a look is too large".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn parse(body: &[u8]) -> Option<Look> {
    let Body { state, result, outlook } = serde_json::from_slice(body).ok()?;
    let result = result.map(RawValue::get).filter(|result| result.len() <= RESULT_BYTES_MAX);
    // One in words that this build does not know is as good as none.
    let outlook = outlook.and_then(|outlook| serde_json::from_value(outlook).ok());
    Some(Look { state, result: result.unwrap_or("{}").to_owned(), outlook: outlook.map(Outlook::shortened) })
}

impl Outlook {
    /// A code as workers record it: short, without control characters.
    fn shortened(mut self) -> Self {
        if let Answer::Refused { code } = &mut self.answer {
            let visible = code.chars().map(|c| if c.is_control() { ' ' } else { c });
            *code = visible.take(CODE_CHARS_MAX).collect();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlook(json: &str) -> Option<Outlook> {
        parse(format!(r#"{{"state":"none","outlook":{json}}}"#).as_bytes()).expect("it is a look").outlook
    }

    #[test]
    fn an_outlook_is_read_and_one_in_other_words_is_none() {
        let of_run = |answer, generation| Some(Outlook { answer, generation });
        assert_eq!(outlook(r#"{"answer":"done"}"#), of_run(Answer::Done, None));
        assert_eq!(outlook(r#"{"answer":"error","gen":2,"novel":1}"#), of_run(Answer::Error, Some(2)));
        let code = "a b".to_owned();
        assert_eq!(outlook(r#"{"answer":"refused","code":"a\nb"}"#), of_run(Answer::Refused { code }, None));
        for other in [r#"{"answer":"maybe"}"#, r#"{"answer":"refused"}"#, r#"{"gen":1}"#, "null", "7", "[]"] {
            assert_eq!(outlook(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_look_is_not_taken_for_one() {
        let done = parse(br#"{"instance":"x","state":"done","result":{"id":7},"fence":1}"#).unwrap();
        assert_eq!((done.state, done.result.as_str(), done.outlook), (State::Done, r#"{"id":7}"#, None));
        for other in ["", "{}", r#"{"state":"limbo"}"#, "[]", r#"{"result":{}}"#] {
            assert_eq!(parse(other.as_bytes()), None, "{other}");
        }
    }
}
