//! A producer and a query API in a few lines, on a free local port; every request is recorded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// How the stub answers, beside judging orders as the producer does.
#[derive(Default)]
pub(crate) struct Behaviour {
    /// Attempts per key that are answered 503 before the first real answer.
    pub(crate) unavailable_first: usize,
    /// Answer 401 to everything.
    pub(crate) deny: bool,
    /// The status every accepted order ends in; none: never stored.
    pub(crate) end: Option<&'static str>,
}

pub(crate) struct Stub {
    pub(crate) url: String,
    behaviour: Behaviour,
    /// Idempotency key → the body of each attempt, in order.
    attempts: Mutex<Vec<(String, String)>>,
    polls: Mutex<HashMap<String, usize>>,
}

impl Stub {
    pub(crate) async fn start(behaviour: Behaviour) -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stub = Arc::new(Self { url, behaviour, attempts: Mutex::default(), polls: Mutex::default() });
        let routes = Router::new()
            .route("/v1/orders", post(take))
            .route("/v1/orders/{id}", get(show))
            .with_state(stub.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        stub
    }

    /// The bodies posted with `key`, in order.
    pub(crate) fn bodies(&self, key: &str) -> Vec<String> {
        let attempts = self.attempts.lock().unwrap();
        attempts.iter().filter(|(posted, _)| posted == key).map(|(_, body)| body.clone()).collect()
    }

    /// The keys posted, in order of their first attempt.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for (key, _) in &*self.attempts.lock().unwrap() {
            if !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }
}

async fn take(State(stub): State<Arc<Stub>>, headers: HeaderMap, body: String) -> Response {
    if stub.behaviour.deny || headers[header::AUTHORIZATION] != "Bearer the-key" {
        return problem(StatusCode::UNAUTHORIZED, "unauthorised", &[]);
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    stub.attempts.lock().unwrap().push((key.clone(), body.clone()));
    if stub.bodies(&key).len() <= stub.behaviour.unavailable_first {
        return ([(header::RETRY_AFTER, "0")], problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &[]))
            .into_response();
    }
    let rules = violations(&serde_json::from_str(&body).unwrap());
    if !rules.is_empty() {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid-order", &rules);
    }
    let links = json!({"self": format!("{}/v1/orders/eu1-{key}", stub.url)});
    (
        StatusCode::ACCEPTED,
        Json(json!({"order_id": format!("eu1-{key}"), "fingerprint": "f", "links": links})),
    )
        .into_response()
}

/// Known from the second question on, as a document that takes its time.
async fn show(State(stub): State<Arc<Stub>>, Path(id): Path<String>) -> Response {
    let mut polls = stub.polls.lock().unwrap();
    let poll = polls.entry(id.clone()).or_default();
    *poll += 1;
    match stub.behaviour.end {
        Some(end) if *poll > 1 => {
            Json(json!({"order_id": id, "status": end, "conflicts": 0})).into_response()
        }
        _ => problem(StatusCode::NOT_FOUND, "not-yet-known", &[]),
    }
}

fn violations(order: &Value) -> Vec<&'static str> {
    let lines = order["lines"].as_array().unwrap();
    let mut rules = Vec::new();
    if lines.iter().any(|line| !(1..=1_000_000).contains(&line["quantity"].as_i64().unwrap())) {
        rules.push("quantity");
    }
    let is_zero = |price: &str| price.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if lines.iter().all(|line| is_zero(line["unit_price"].as_str().unwrap())) {
        rules.push("total");
    }
    rules
}

fn problem(status: StatusCode, kind: &str, rules: &[&str]) -> Response {
    let violations: Vec<_> = rules.iter().map(|rule| json!({"field": "lines[0]", "rule": rule})).collect();
    let kind = format!("https://orderfleet.example/problems/{kind}");
    (
        status,
        Json(
            json!({"type": kind, "status": status.as_u16(), "detail": "as asked", "violations": violations}),
        ),
    )
        .into_response()
}
