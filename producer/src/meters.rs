//! What a producer measures, and how requests are counted: by their answers, whoever gave these.

use axum::{
    extract::{MatchedPath, Request},
    http::Method,
    middleware::Next,
    response::Response,
};
use orderfleet_runtime::problem;

use crate::ingest::{CANCEL, ORDERS};

/// Kinds of problems that a post can be answered with (docs/API.md).
const ORDER_PROBLEMS: [&str; 11] = [
    "idempotency-key",
    "internal",
    "invalid-order",
    "key-reused",
    "malformed",
    "not-confirmed",
    "overloaded",
    "timeout",
    "too-large",
    "unauthorized",
    "unsupported-media-type",
];
const CANCEL_PROBLEMS: [&str; 8] = [
    "internal",
    "malformed",
    "not-confirmed",
    "not-found",
    "overloaded",
    "timeout",
    "too-large",
    "unauthorized",
];

/// Says what the metrics are, and begins the counters at 0: one that first appears when it first counts has no rate then.
pub(crate) fn begin() {
    use metrics::{describe_counter as describe, describe_gauge, describe_histogram};
    describe!("orderfleet_orders_accepted_total", "Posts answered 202");
    describe!("orderfleet_orders_refused_total", "Posts answered otherwise");
    describe!("orderfleet_cancels_accepted_total", "Requests to cancel answered 202");
    describe!("orderfleet_cancels_refused_total", "Requests to cancel answered otherwise");
    describe!("orderfleet_acceptance_log_failed_total", "202s without a line in the acceptance log");
    describe_gauge!("orderfleet_http_body_bytes", "Room taken by bodies that are being read or published");
    describe_gauge!(
        "orderfleet_acceptance_log_waiting",
        "202s that wait for their line in the acceptance log"
    );
    describe_histogram!(
        "orderfleet_confirm_seconds",
        "What a request waits for the publisher confirm, or for its absence"
    );
    metrics::counter!("orderfleet_orders_accepted_total").increment(0);
    metrics::counter!("orderfleet_cancels_accepted_total").increment(0);
    metrics::counter!("orderfleet_acceptance_log_failed_total").increment(0);
    // A handle is enough.
    let _ = metrics::histogram!("orderfleet_confirm_seconds");
    for problem in ORDER_PROBLEMS {
        metrics::counter!("orderfleet_orders_refused_total", "problem" => problem).increment(0);
    }
    for problem in CANCEL_PROBLEMS {
        metrics::counter!("orderfleet_cancels_refused_total", "problem" => problem).increment(0);
    }
}

/// Counts a request by its answer, also by one that it got before it was looked at. One whose client leaves before the answer is
/// not counted.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    let is_post = *request.method() == Method::POST;
    let route = request.extensions().get::<MatchedPath>().cloned().filter(|_| is_post);
    let response = next.run(request).await;
    let problem = problem::kind_of(&response).map(str::to_owned);
    match (route.as_ref().map(MatchedPath::as_str), problem) {
        (Some(ORDERS), None) => metrics::counter!("orderfleet_orders_accepted_total").increment(1),
        (Some(ORDERS), Some(problem)) => {
            metrics::counter!("orderfleet_orders_refused_total", "problem" => problem).increment(1);
        }
        (Some(CANCEL), None) => metrics::counter!("orderfleet_cancels_accepted_total").increment(1),
        (Some(CANCEL), Some(problem)) => {
            metrics::counter!("orderfleet_cancels_refused_total", "problem" => problem).increment(1);
        }
        _ => {}
    }
    response
}
