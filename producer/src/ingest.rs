//! `POST /v1/orders`: from a request to a confirmed message and a 202, or to a problem that names what is wrong.

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::post,
};
use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, Fingerprint, IdempotencyKey, Object, Order, OrderId, OrderInput, saga::Lane,
};
use orderfleet_messaging::{Destination, Headers, Outgoing, PublishError, Publisher};
use orderfleet_runtime::{
    auth::authenticate,
    keys::{Caller, Keys},
    problem::Problem,
};
use quick_cache::sync::Cache;
use serde::Serialize;
use serde_json::{error::Category, json};
use serde_path_to_error::Segment;

use crate::{ProducerSettings, acceptance::AcceptanceLog, body};

const RETRY_AFTER_S: u32 = 1;
const TRACEPARENT_CHARS: usize = 55;
const FIELD_NAME_BYTES_MAX: usize = 40;

/// The ingest endpoint and what it needs.
#[derive(Debug, Clone)]
pub(crate) struct Ingest(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    keys: Keys,
    publisher: Publisher,
    acceptance: AcceptanceLog,
    order_url: String,
    body_bytes_max: usize,
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

#[derive(Debug, Serialize)]
struct Links<'a> {
    #[serde(rename = "self")]
    order: &'a str,
}

impl Ingest {
    pub(crate) fn new(
        keys: Keys,
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
            remembered: Cache::new(settings.remembered_orders_max),
        }))
    }

    pub(crate) fn routes(self) -> Router {
        let not_found = || async { Problem::new(StatusCode::NOT_FOUND, "not-found", "Nothing is here") };
        let wrong_method = || async {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Orders are posted")
        };
        Router::new()
            .route("/v1/orders", post(post_order).fallback(wrong_method))
            .fallback(not_found)
            .with_state(self)
    }
}

async fn post_order(State(ingest): State<Ingest>, request: Request) -> Response {
    match accept(&ingest.0, request).await {
        Ok(response) => {
            metrics::counter!("orderfleet_orders_accepted_total").increment(1);
            response
        }
        Err(problem) => {
            let kind = problem.kind().to_owned();
            metrics::counter!("orderfleet_orders_refused_total", "problem" => kind).increment(1);
            problem.into_response()
        }
    }
}

async fn accept(parts: &Parts, request: Request) -> Result<Response, Problem> {
    // Nothing of a body is read for somebody who may not post one.
    let caller = authenticate(&parts.keys, request.headers())?;
    require_json(request.headers())?;
    let key = idempotency_key(request.headers())?;
    let traceparent = traceparent(request.headers()).map(str::to_owned);
    let (head, body) = request.into_parts();
    let order = parse(&body::read(&head.headers, body, parts.body_bytes_max).await?)?;

    let order_id = OrderId::derive(&caller.region, &caller.account, &key);
    let fingerprint = Fingerprint::of(&order);
    let first_seen = remember(parts, &order_id, &fingerprint)?;
    let accepted_at = Timestamp::now();
    let outgoing =
        message(parts, caller, order, &order_id, &fingerprint, accepted_at, traceparent.as_deref());
    publish(parts, &outgoing).await.inspect_err(|failure| {
        if first_seen && failure.surely_not_queued {
            parts.remembered.remove(&order_id);
        }
    })?;
    parts.acceptance.accepted(accepted_at, &order_id, &fingerprint, &caller.account).await;
    Ok(accepted(parts, &order_id, &fingerprint))
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

/// The order in a body. Broken JSON is malformed (400); JSON of another shape names the field (422), as does a rule that
/// does not hold. Messages never repeat what was posted.
fn parse(body: &[u8]) -> Result<Order, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let input: Result<Object<OrderInput>, _> = serde_path_to_error::deserialize(&mut json);
    let input = input.map_err(|error| match error.inner().classify() {
        Category::Data => misshapen(&error),
        _ => malformed(error.inner()),
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Order::try_from(input).map_err(|violations| {
        invalid()
            .detail(violations.to_string())
            .with("violations", &violations.listed)
            .with("violations_total", violations.total)
    })
}

fn invalid() -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-order", "The order breaks a rule")
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed", "The body is not JSON").detail(format!(
        "at line {} column {}",
        error.line(),
        error.column()
    ))
}

/// Shape errors, in our own words: serde's would show Rust types and what was posted.
fn misshapen(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let text = error.inner().to_string();
    let named = text.split('`').nth(1).unwrap_or_default();
    let path = field_path(error.path());
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let (field, rule, message) = if text.starts_with("unknown field") {
        (path, "unknown_field", "is not a field of an order")
    } else if text.starts_with("missing field") {
        (below(named), "missing_field", "is missing")
    } else if text.starts_with("duplicate field `metadata`") {
        (path, "duplicate_field", "holds a key more than once")
    } else if text.starts_with("duplicate field") {
        (below(named), "duplicate_field", "is there more than once")
    } else {
        (path, "type", expected_type(&text))
    };
    let field = if field.is_empty() { "the order".to_owned() } else { field };
    let violation = json!({ "field": field, "rule": rule, "message": message });
    invalid().detail(format!("{field} {message}")).with("violations", [violation]).with("violations_total", 1)
}

/// The path of a field. Names that are no plain words were made up by whoever posted them and are not repeated.
fn field_path(path: &serde_path_to_error::Path) -> String {
    let plain = |key: &str| {
        key.len() <= FIELD_NAME_BYTES_MAX && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    path.iter().fold(String::new(), |path, segment| match segment {
        Segment::Seq { index } => format!("{path}[{index}]"),
        Segment::Map { key } | Segment::Enum { variant: key } if plain(key) => {
            if path.is_empty() {
                key.clone()
            } else {
                format!("{path}.{key}")
            }
        }
        Segment::Map { .. } | Segment::Enum { .. } => format!("{path}.…").trim_start_matches('.').to_owned(),
        Segment::Unknown => path,
    })
}

fn expected_type(text: &str) -> &'static str {
    match text.rsplit_once("expected ").map_or("", |(_, expected)| expected) {
        expected if expected.starts_with("a string") => "must be a string",
        expected if expected.starts_with("i64") => "must be a whole number",
        expected if expected.starts_with("a sequence") => "must be a list",
        _ => "must be an object",
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
        headers: Headers::new(command.kind.as_str()).message_id(order_id.as_str()).traceparent(traceparent),
        body: command.encode().into(),
    }
}

/// The caller's trace context, if it has the shape W3C gives it.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("traceparent")?.to_str().ok()?;
    let well_formed =
        value.len() == TRACEPARENT_CHARS && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    well_formed.then_some(value)
}

/// Why there is no 202, and whether the message can still come into a queue.
struct Failure {
    surely_not_queued: bool,
    problem: Problem,
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        failure.problem
    }
}

async fn publish(parts: &Parts, outgoing: &Outgoing) -> Result<(), Failure> {
    let started = Instant::now();
    let result = parts.publisher.publish(outgoing).await;
    metrics::histogram!("orderfleet_confirm_seconds").record(started.elapsed());
    result.map_err(|error| {
        let kind = match &error {
            PublishError::NotSent(_) => "not_sent",
            PublishError::Returned { .. } => "returned",
            PublishError::Nacked => "nacked",
            PublishError::Unknown(_) => "unknown",
        };
        metrics::counter!("orderfleet_publish_failed_total", "kind" => kind).increment(1);
        tracing::warn!(%error, "an order was not confirmed");
        let surely_not_queued = matches!(error, PublishError::NotSent(_) | PublishError::Returned { .. });
        let detail = if surely_not_queued {
            "nothing was queued: repeat the same body with the same key"
        } else {
            "it may still be executed: repeat the same body with the same key"
        };
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not-confirmed", "The order was not confirmed")
                .detail(detail)
                .retry_after(RETRY_AFTER_S);
        Failure { surely_not_queued, problem }
    })
}

fn accepted(parts: &Parts, order_id: &OrderId, fingerprint: &Fingerprint) -> Response {
    let location = format!("{}/v1/orders/{order_id}", parts.order_url);
    let body = Accepted { order_id, fingerprint, links: Links { order: &location } };
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> (u16, String) {
        let problem = parse(body.as_bytes()).unwrap_err();
        (problem.status().as_u16(), serde_json::to_string(&problem).unwrap())
    }

    const GOOD: &str = r#"{"channel":"retail","currency":"GBP","payment_ref":"p","ship_to":{"country":"GB"},
        "lines":[{"sku":"A","quantity":1,"unit_price":"0.001"}]}"#;

    #[test]
    fn broken_json_is_malformed_and_other_shapes_name_the_field() {
        assert!(parse(GOOD.as_bytes()).is_ok());
        let nested = "[".repeat(100_000);
        let huge = GOOD.replace("\"quantity\":1", "\"quantity\":1e400");
        for (body, status, word) in [
            ("", 400, "malformed"),
            ("{", 400, "malformed"),
            (nested.as_str(), 422, "invalid-order"),
            (huge.as_str(), 400, "malformed"),
            (&format!("{GOOD} x"), 400, "malformed"),
            ("[]", 422, "invalid-order"),
            (&GOOD.replace("\"quantity\":1", "\"quantity\":\"1\""), 422, "lines[0].quantity"),
            (&GOOD.replace("\"quantity\":1", "\"quantity\":1.5"), 422, "lines[0].quantity"),
            (&GOOD.replace("\"quantity\":1", "\"quantity\":99999999999999999999"), 422, "lines[0].quantity"),
            (&GOOD.replace("\"0.001\"", "0.001"), 422, "lines[0].unit_price"),
            (&GOOD.replace("\"0.001\"", "\"1e400\""), 422, "lines[0].unit_price"),
            (&GOOD.replace("\"sku\"", "\"phase\":\"DONE\",\"sku\""), 422, "lines[0].phase"),
            (
                &GOOD.replace("\"currency\":\"GBP\",", ""),
                422,
                "\"field\":\"currency\",\"message\":\"is missing\"",
            ),
            (&GOOD.replace("\"sku\":\"A\",", ""), 422, "lines[0].sku is missing"),
            (
                &GOOD.replace("{\"sku", "[{\"sku").replace("\"}]}", "\"}]]}"),
                422,
                "lines[0] must be an object",
            ),
            (&GOOD.replace("{\"country\":\"GB\"}", "[null]"), 422, "ship_to must be an object"),
            (
                &GOOD.replace("\"channel\"", "\"channel\":\"retail\",\"channel\""),
                422,
                "channel is there more than once",
            ),
            (&GOOD.replace("\"sku\"", "\"secret-word@x\":1,\"sku\""), 422, "lines[0].… is not a field"),
            (
                &GOOD.replace("\"lines\"", "\"metadata\":{\"secret-word@x\":1},\"lines\""),
                422,
                "metadata.… must be a string",
            ),
            (&GOOD.replace("0.001", &format!("{}1", "0".repeat(500_000))), 422, "lines[0].unit_price"),
            (&GOOD.replace("retail", "secret-word"), 422, "channel"),
        ] {
            let (got, text) = problem(body);
            assert_eq!(got, status, "{body:.60}: {text}");
            assert!(text.contains(word), "{body:.60}: {text}");
            assert!(!text.contains("secret-word"), "{text}");
        }
    }

    #[test]
    fn only_a_well_formed_trace_context_is_handed_on() {
        let mut headers = HeaderMap::new();
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", HeaderValue::from_static(good));
        assert_eq!(traceparent(&headers), Some(good));
        headers.insert("traceparent", HeaderValue::from_static("00-junk"));
        assert_eq!(traceparent(&headers), None);
    }
}
