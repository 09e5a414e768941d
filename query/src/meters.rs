//! What the read side measures.

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use orderfleet_runtime::problem;

/// Kinds of answers to a read (docs/API.md), and `found`.
const ANSWERS: [&str; 9] = [
    "found",
    "internal",
    "method-not-allowed",
    "not-found",
    "not-yet-known",
    "overloaded",
    "timeout",
    "unauthorized",
    "unavailable",
];

/// Says what the metric is, and begins the counters at 0.
pub(crate) fn begin() {
    metrics::describe_counter!("orderfleet_order_reads_total", "Reads of orders by their answer");
    for answer in ANSWERS {
        metrics::counter!("orderfleet_order_reads_total", "answer" => answer).increment(0);
    }
}

/// Counts a read by its answer, also by one that it got before it was looked at.
pub(crate) async fn count(request: Request, next: Next) -> Response {
    let is_known = request.extensions().get::<MatchedPath>().is_some();
    let response = next.run(request).await;
    if is_known {
        let answer = problem::kind_of(&response).unwrap_or("found").to_owned();
        metrics::counter!("orderfleet_order_reads_total", "answer" => answer).increment(1);
    }
    response
}
