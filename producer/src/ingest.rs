//! The endpoints, and `POST /v1/orders`: from a request to a confirmed message and a 202, or to a problem that names what is wrong.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use jiff::Timestamp;
use orderfleet_domain::{Command, CommandKind, Fingerprint, IdempotencyKey, Order, OrderId, saga::Lane};
use orderfleet_messaging::{Destination, Headers, Outgoing, Publisher};
use orderfleet_runtime::{
    auth::authenticate,
    crash,
    keys::{Caller, KeyRing},
    problem::Problem,
    trace,
};
use quick_cache::sync::Cache;
use serde::Serialize;
use tracing::Span;

use crate::{
    ProducerSettings, acceptance::AcceptanceLog, body::Room, cancel::post_cancel, confirm, parse::parse,
};

/// Where orders are posted, and where they are cancelled.
pub(crate) const ORDERS: &str = "/v1/orders";
pub(crate) const CANCEL: &str = "/v1/orders/{id}/cancel";

/// The endpoints and what they need.
#[derive(Debug, Clone)]
pub(crate) struct Ingest(Arc<Parts>);

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) keys: Arc<KeyRing>,
    pub(crate) publisher: Publisher,
    acceptance: AcceptanceLog,
    order_url: String,
    pub(crate) body_bytes_max: usize,
    pub(crate) room: Room,
    /// The first body seen under a key, kept also while its outcome is unknown: it may execute, so another body must not
    /// be promised anything.
    remembered: Cache<OrderId, Fingerprint>,
}

/// The body of a 202.
#[derive(Debug, Serialize)]
struct Accepted<'a> {
    order_id: &'a OrderId,
    fingerprint: &'a Fingerprint,
    links: Links<'a>,
}

/// Where to look next.
#[derive(Debug, Serialize)]
pub(crate) struct Links<'a> {
    #[serde(rename = "self")]
    pub(crate) order: &'a str,
}

impl Ingest {
    pub(crate) fn new(
        keys: Arc<KeyRing>,
        publisher: Publisher,
        acceptance: AcceptanceLog,
        settings: &ProducerSettings,
    ) -> Self {
        Self(Arc::new(Parts {
            keys,
            publisher,
            acceptance,
            order_url: settings.order_url.trim_end_matches('/').to_owned(),
            body_bytes_max: settings.body_bytes_max,
            room: Room::new(),
            remembered: Cache::new(settings.remembered_orders_max),
        }))
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }

    pub(crate) fn routes(self) -> Router {
        let not_found = || async { Problem::new(StatusCode::NOT_FOUND, "not-found", "Nothing is here") };
        let wrong_method = || async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This is for POST")
        };
        Router::new()
            .route(ORDERS, post(post_order).fallback(wrong_method))
            .route(CANCEL, post(post_cancel).fallback(wrong_method))
            .fallback(not_found)
            .with_state(self)
    }
}

impl Parts {
    pub(crate) fn order_url(&self, order_id: &OrderId) -> String {
        format!("{}/v1/orders/{order_id}", self.order_url)
    }
}

async fn post_order(State(ingest): State<Ingest>, request: Request) -> Response {
    accept(&ingest.0, request).await.unwrap_or_else(Problem::into_response)
}

async fn accept(parts: &Parts, request: Request) -> Result<Response, Problem> {
    // Nothing of a body is read for somebody who may not post one.
    let keys = parts.keys.current();
    let caller = authenticate(&keys, request.headers())?;
    require_json(request.headers())?;
    let key = idempotency_key(request.headers())?;
    let traceparent = trace::well_formed(request.headers()).map(str::to_owned);
    let (head, body) = request.into_parts();
    let (body, _taken) = parts.room.read(&head.headers, body, parts.body_bytes_max).await?;
    let order = parse(&body)?;

    let order_id = OrderId::derive(&caller.region, &caller.account, &key);
    Span::current().record("order.id", order_id.as_str());
    let fingerprint = Fingerprint::of(&order);
    let first_seen = remember(parts, &order_id, &fingerprint)?;
    let accepted_at = Timestamp::now();
    let outgoing =
        message(parts, caller, order, &order_id, &fingerprint, accepted_at, traceparent.as_deref());
    let repeat = "repeat the same body with the same key";
    confirm::publish(&parts.publisher, &outgoing, repeat).await.inspect_err(|failure| {
        if first_seen && failure.surely_not_queued {
            parts.remembered.remove(&order_id);
        }
    })?;
    parts.acceptance.accepted(accepted_at, &order_id, &fingerprint, &caller.account).await;
    crash::point("producer.accepted.after");
    let order_url = parts.order_url(&order_id);
    let links = Links { order: &order_url };
    Ok(accepted(&order_url, &Accepted { order_id: &order_id, fingerprint: &fingerprint, links }))
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let only = values.next().filter(|_| values.next().is_none());
    let content_type = only.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The order must be JSON")
        .detail("send it with: Content-Type: application/json"))
}

fn idempotency_key(headers: &HeaderMap) -> Result<IdempotencyKey, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let problem = |detail: String| {
        Problem::new(StatusCode::BAD_REQUEST, "idempotency-key", "A well-formed Idempotency-Key is needed")
            .detail(detail)
    };
    match (values.next(), values.next()) {
        (None, _) => Err(problem("the header Idempotency-Key is missing; send one key per order".into())),
        (Some(_), Some(_)) => Err(problem("the header Idempotency-Key is there more than once".into())),
        (Some(value), None) => {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            text.parse().map_err(|error: orderfleet_domain::IdError| problem(error.to_string()))
        }
    }
}

/// Whether this process sees the order for the first time.
fn remember(parts: &Parts, order_id: &OrderId, fingerprint: &Fingerprint) -> Result<bool, Problem> {
    let mut first_seen = false;
    let known = parts.remembered.get_or_insert_with(order_id, || -> Result<_, std::convert::Infallible> {
        first_seen = true;
        Ok(fingerprint.clone())
    });
    match known {
        Ok(known) if known != *fingerprint => Err(Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "key-reused",
            "The Idempotency-Key was used for another order",
        )
        .detail("a key stands for one body; send a changed order under a new key, once the outcome of the first is known")
        .with("order_id", order_id)),
        _ => Ok(first_seen),
    }
}

fn message(
    parts: &Parts,
    caller: &Caller,
    order: Order,
    order_id: &OrderId,
    fingerprint: &Fingerprint,
    accepted_at: Timestamp,
    traceparent: Option<&str>,
) -> Outgoing {
    let command = Command {
        order_id: order_id.clone(),
        account: caller.account.clone(),
        generation: 1,
        fp: Some(fingerprint.clone()),
        kind: CommandKind::Place { order: Box::new(order), accepted_at },
    };
    let lane = Lane::New(order_id.partition(parts.publisher.topology().partitions()));
    Outgoing {
        destination: Destination::Lane(lane),
        headers: Headers::new(command.kind.as_str())
            .message_id(order_id.as_str())
            .order(order_id, &caller.account)
            .traceparent(traceparent),
        body: command.encode().into(),
    }
}

/// A 202 that says where to look next.
pub(crate) fn accepted(order_url: &str, body: &impl Serialize) -> Response {
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Ok(location) = HeaderValue::from_str(order_url) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
