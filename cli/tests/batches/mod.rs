//! A service that takes several dos in one request, with one vice in that: in front of another, which does them alone.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Json, Router};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vice {
    AnswersAreReversed,
    OneFailsAll,
    NothingIsDone,
    KeysAreItsOwn,
    AnswersAreLost,
}

struct Front {
    /// Base URL of the steps behind it.
    behind: String,
    vice: Vice,
    client: Client,
}

/// Starts it; the URL is the base of its steps.
pub(crate) async fn start(behind: String, vice: Vice) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/steps", listener.local_addr().unwrap());
    let front = Arc::new(Front { behind, vice, client: Client::new() });
    let routes = Router::new().route("/steps/batch", post(batch)).route("/steps/{instance}", any(alone));
    let routes = routes.with_state(front);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    url
}

async fn alone(
    State(front): State<Arc<Front>>,
    method: Method,
    Path(instance): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut request = front.client.request(method, format!("{}/{instance}", front.behind)).body(body);
    for name in ["idempotency-key", "orderfleet-fence"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    let answer = request.send().await.unwrap();
    let status = answer.status();
    (status, answer.bytes().await.unwrap()).into_response()
}

async fn batch(State(front): State<Arc<Front>>, Json(asked): Json<Value>) -> Response {
    let mut answers = Vec::new();
    for call in asked["calls"].as_array().unwrap() {
        answers.push(front.answer(call).await);
    }
    let fails_all = match front.vice {
        Vice::OneFailsAll => answers.iter().any(|answer| answer["status"] == 400),
        Vice::AnswersAreLost => !answers.is_empty(),
        _ => false,
    };
    if fails_all {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if front.vice == Vice::AnswersAreReversed {
        answers.reverse();
    }
    Json(json!({ "answers": answers })).into_response()
}

impl Front {
    async fn answer(&self, call: &Value) -> Value {
        if self.vice == Vice::NothingIsDone {
            return json!({ "instance": call["instance"], "status": 200, "body": { "result": { "units_reserved": 3 } } });
        }
        let text = |name: &str| call[name].as_str().unwrap().to_owned();
        let own = if self.vice == Vice::KeysAreItsOwn { "batch-" } else { "" };
        let request = self.client.put(format!("{}/{}", self.behind, text("instance")));
        let request = request.header("idempotency-key", format!("{own}{}", text("key")));
        let request = request.header("orderfleet-fence", call["fence"].as_u64().unwrap());
        let answer = request.json(&call["body"]).send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        json!({ "instance": call["instance"], "status": status, "body": body })
    }
}
