//! The fleet's HTTP API as this CLI uses it: post an order, ask for its status.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url, redirect};
use serde::Deserialize;

use crate::exit::Failure;
use crate::output::visible;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What the producer said to an order.
pub(crate) enum Answer {
    /// 202, with the order's id.
    Accepted(String),
    /// The order is wrong and stays so.
    Refused(StatusCode, Problem),
    /// No order at all would get through: the key or the address is wrong.
    Denied(StatusCode, Problem),
    /// Not known whether it will execute; the same body with the same key settles it.
    Repeat { after: Option<Duration>, why: String },
}

/// An RFC 9457 problem; every member may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) violations: Vec<Violation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Violation {
    pub(crate) rule: String,
}

/// What the query API said about an order.
pub(crate) enum Status {
    Stored(Stored),
    /// Not stored yet.
    NotYetKnown,
    /// No order could be asked for: the key or the address is wrong.
    Denied(StatusCode, Problem),
    /// No usable answer.
    Unknown(String),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Stored {
    pub(crate) status: String,
    #[serde(default)]
    pub(crate) conflicts: u64,
}

/// A keep-alive client of one base URL, speaking for one API key.
pub(crate) struct Client {
    http: reqwest::Client,
    orders: Url,
}

impl Client {
    /// Opens no connection yet.
    ///
    /// # Errors
    /// When the URL is none, or the key cannot stand in a header.
    pub(crate) fn new(base_url: &str, api_key: &str) -> anyhow::Result<Self> {
        let orders = format!("{}/v1/orders", base_url.trim_end_matches('/'));
        let orders: Url = orders.parse().with_context(|| format!("{base_url:?} is no URL"))?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, bearer(api_key)?);
        let mut http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .redirect(redirect::Policy::none());
        if orders.scheme() == "http" {
            // Loading the system's certificates fails on a machine that has none.
            http = http.tls_certs_only([]);
        }
        if is_loopback(&orders) {
            http = http.no_proxy();
        }
        Ok(Self { http: http.build().context("setting up the HTTP client")?, orders })
    }

    /// Posts an order once.
    pub(crate) async fn post(&self, idempotency_key: &str, body: Vec<u8>) -> Answer {
        let request = self.http.post(self.orders.clone()).header("Idempotency-Key", idempotency_key);
        match request.header(CONTENT_TYPE, "application/json").body(body).send().await {
            Ok(response) => answer(response).await,
            Err(error) => Answer::Repeat { after: None, why: cause(&error) },
        }
    }

    /// Asks for an order once.
    pub(crate) async fn status(&self, order_id: &str) -> Status {
        match self.http.get(format!("{}/{order_id}", self.orders)).send().await {
            Ok(response) => status(response).await,
            Err(error) => Status::Unknown(cause(&error)),
        }
    }
}

async fn answer(response: Response) -> Answer {
    let status = response.status();
    let after = retry_after(response.headers());
    match status {
        StatusCode::ACCEPTED => match response.json::<Acceptance>().await {
            Ok(acceptance) => Answer::Accepted(acceptance.order_id),
            Err(error) => {
                Answer::Repeat { after, why: format!("202 without an order id: {}", cause(&error)) }
            }
        },
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            repeat(response).await
        }
        _ if is_denial(status) => Answer::Denied(status, problem(response).await),
        _ if status.is_client_error() => Answer::Refused(status, problem(response).await),
        _ => repeat(response).await,
    }
}

async fn repeat(response: Response) -> Answer {
    let after = retry_after(response.headers());
    let status = response.status();
    Answer::Repeat { after, why: format!("{status} {}", problem(response).await).trim_end().to_owned() }
}

async fn status(response: Response) -> Status {
    let code = response.status();
    match code {
        StatusCode::OK => match response.json().await {
            Ok(stored) => Status::Stored(stored),
            Err(error) => Status::Unknown(format!("200 without a status: {}", cause(&error))),
        },
        StatusCode::NOT_FOUND => match problem(response).await {
            problem if problem.kind.ends_with("/not-yet-known") => Status::NotYetKnown,
            problem => Status::Unknown(format!("{code} {problem}")),
        },
        _ if is_denial(code) => Status::Denied(code, problem(response).await),
        _ => Status::Unknown(format!("{code} {}", problem(response).await)),
    }
}

/// The answer to `POST /v1/orders`, as far as it is used here.
#[derive(Deserialize)]
struct Acceptance {
    order_id: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&visible(if self.detail.is_empty() { &self.title } else { &self.detail }))
    }
}

/// Statuses that speak about the caller or the address, never about the order.
fn is_denial(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
    )
}

/// A body that is no problem document is an empty one.
async fn problem(response: Response) -> Problem {
    let body = response.bytes().await.unwrap_or_default();
    serde_json::from_slice(&body).unwrap_or_default()
}

/// The form in seconds; the fleet sends no dates.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn bearer(api_key: &str) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {api_key}")).map_err(|_| {
        Failure::new(
            "the API key holds characters that cannot stand in a header",
            "check the file it comes from",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The innermost cause says what happened; the outer ones only that a request failed.
fn cause(error: &reqwest::Error) -> String {
    let url = error.url().map_or("", Url::as_str);
    if error.is_timeout() {
        return format!("{url}: no answer within {} s", REQUEST_TIMEOUT.as_secs());
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    format!("{url}: {innermost}")
}
