//! A downstream service that keeps the contract but for one vice, on a free local port.

pub(crate) mod impostors;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::put;
use axum::{Json, Router};
use serde_json::{Value, json};

/// How long the careless ones take between looking and acting: long enough for another call to come between.
const CARELESS: Duration = Duration::from_millis(20);
const SMALL_BODY_BYTES: usize = 20_000;
const CUT_KEY_CHARS: usize = 64;

/// What a service does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vice {
    UnknownIsNotFound,
    LooksAlwaysShowNone,
    AnotherKeyIsAnotherEffect,
    UndoIsForgotten,
    OnlyTheSameKeyIsCancelled,
    EffectsAreNotLocked,
    TombstonesAreNotLocked,
    RecordsAreKeptByOrder,
    StaleCallsHaveEffect,
    UnknownFieldsAreRefused,
    LargeBodiesAreRefused,
    AnyBodyIsTaken,
    AnyPathIsServed,
    KeysAreCut,
    RefusalsAreProse,
    ResultsAreLarge,
}

pub(crate) struct Service {
    vice: Vice,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    rows: HashMap<String, Row>,
    effects: u64,
    by_key: HashMap<String, Value>,
}

#[derive(Default, Clone)]
struct Row {
    key: String,
    fence: u64,
    done: Option<Value>,
    undone: Option<Value>,
}

impl Service {
    /// Starts it; the URL is the base of its steps.
    pub(crate) async fn start(vice: Vice) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/steps", listener.local_addr().unwrap());
        let service = Arc::new(Self { vice, books: Mutex::default() });
        let steps = put(do_step).delete(undo_step).get(look);
        let mut routes = Router::new().route("/steps/{instance}", steps);
        if vice == Vice::AnyPathIsServed {
            routes = routes.fallback(async || Json(json!({ "result": {} })));
        }
        let routes = routes.with_state(service);
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    fn row_id(&self, instance: &str) -> String {
        let by_order = self.vice == Vice::RecordsAreKeptByOrder;
        if by_order { instance.split('.').next().unwrap().to_owned() } else { instance.to_owned() }
    }
}

async fn do_step(
    State(service): State<Arc<Service>>,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let vice = service.vice;
    if vice == Vice::LargeBodiesAreRefused && body.len() > SMALL_BODY_BYTES {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let body: Value = match serde_json::from_slice(&body) {
        Ok(body) => body,
        Err(_) if vice == Vice::AnyBodyIsTaken => Value::Null,
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    };
    if vice == Vice::UnknownFieldsAreRefused && body.get("a_field_of_the_future").is_some() {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let (key, fence) = key_and_fence(&headers);
    let id = service.row_id(&instance);
    let before = service.books().rows.get(&id).cloned().unwrap_or_default();
    if matches!(vice, Vice::EffectsAreNotLocked | Vice::TombstonesAreNotLocked) {
        tokio::time::sleep(CARELESS).await;
    }

    let mut books = service.books();
    let now = books.rows.entry(id.clone()).or_default().clone();
    let undone = if vice == Vice::TombstonesAreNotLocked { before.undone } else { now.undone };
    let done = if vice == Vice::EffectsAreNotLocked { before.done } else { now.done };
    if fence < now.fence && vice != Vice::StaleCallsHaveEffect {
        return conflict(json!({ "stale_fence": now.fence }));
    }
    let undone = undone.is_some();
    if undone && (vice != Vice::OnlyTheSameKeyIsCancelled || now.key.is_empty() || now.key == key) {
        return conflict(json!({ "cancelled": true }));
    }
    if let Some(result) = done.filter(|_| !undone) {
        if now.key == key {
            return Json(json!({ "result": result })).into_response();
        } else if vice != Vice::AnotherKeyIsAnotherEffect {
            return conflict(json!({ "key_mismatch": true }));
        }
    }
    if body["order"]["ship_to"]["country"] == "DE" {
        return refused(vice);
    }
    let result = match books.of_another_do(&key, vice) {
        Some(result) => result,
        None => {
            let result = books.take_effect(&key, &body, vice);
            let row = Row { key, fence: fence.max(now.fence), done: Some(result.clone()), undone: None };
            books.rows.insert(id, row);
            result
        }
    };
    Json(json!({ "result": result })).into_response()
}

async fn undo_step(
    State(service): State<Arc<Service>>,
    Path(instance): Path<String>,
    headers: HeaderMap,
) -> Response {
    let (_, fence) = key_and_fence(&headers);
    let mut books = service.books();
    let row = books.rows.entry(service.row_id(&instance)).or_default();
    let stale = fence < row.fence;
    if stale && service.vice != Vice::StaleCallsHaveEffect {
        return conflict(json!({ "stale_fence": row.fence }));
    }
    if row.undone.is_some() && service.vice == Vice::UndoIsForgotten {
        return StatusCode::GONE.into_response();
    }
    let result = match &row.done {
        Some(done) => json!({ "undone": done }),
        None => json!({ "tombstone": true }),
    };
    let recorded = row.undone.get_or_insert(result).clone();
    if stale {
        return conflict(json!({ "stale_fence": row.fence }));
    }
    row.fence = fence;
    Json(json!({ "result": recorded })).into_response()
}

async fn look(State(service): State<Arc<Service>>, Path(instance): Path<String>) -> Response {
    let books = service.books();
    let row = books.rows.get(&service.row_id(&instance)).cloned().unwrap_or_default();
    let state = match (row.done, row.undone) {
        (_, Some(_)) => "undone",
        (Some(_), None) => "done",
        (None, None) => "none",
    };
    match (service.vice, state) {
        (Vice::UnknownIsNotFound, "none") => StatusCode::NOT_FOUND.into_response(),
        (Vice::LooksAlwaysShowNone, _) => {
            Json(json!({ "instance": instance, "state": "none" })).into_response()
        }
        _ => Json(json!({ "instance": instance, "state": state })).into_response(),
    }
}

impl Books {
    /// The result of a do whose key looks like this one.
    fn of_another_do(&self, key: &str, vice: Vice) -> Option<Value> {
        self.by_key.get(&cut(key)).filter(|_| vice == Vice::KeysAreCut).cloned()
    }

    fn take_effect(&mut self, key: &str, body: &Value, vice: Vice) -> Value {
        self.effects += 1;
        let lines = body["order"]["lines"].as_array().map_or(0, Vec::len);
        let note = if vice == Vice::ResultsAreLarge { "x".repeat(2_000) } else { String::new() };
        let result = json!({ "effect": self.effects, "lines": lines, "note": note });
        self.by_key.insert(cut(key), result.clone());
        result
    }
}

fn cut(key: &str) -> String {
    key.chars().take(CUT_KEY_CHARS).collect()
}

fn key_and_fence(headers: &HeaderMap) -> (String, u64) {
    let text = |name: &str| headers[name].to_str().unwrap().to_owned();
    (text("idempotency-key"), text("orderfleet-fence").parse().unwrap())
}

fn refused(vice: Vice) -> Response {
    let body = json!({ "refused": { "code": "no_way", "message": "not there" } });
    if vice == Vice::RefusalsAreProse {
        return (StatusCode::UNPROCESSABLE_ENTITY, "we do not deliver there").into_response();
    }
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

fn conflict(body: Value) -> Response {
    (StatusCode::CONFLICT, Json(body)).into_response()
}
