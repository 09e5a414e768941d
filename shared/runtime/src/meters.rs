//! What every service measures of itself and of its HTTP requests.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};

use crate::build;

/// Says what these metrics are, and which build this is.
pub(crate) fn begin(service: &'static str) {
    metrics::describe_gauge!("orderfleet_build_info", "Which build this is; always 1");
    metrics::describe_histogram!(
        "orderfleet_http_request_seconds",
        "From the end of a request's headers to its answer"
    );
    metrics::gauge!("orderfleet_build_info", "service" => service, "version" => build::NAME.as_str()).set(1);
}

/// Measures a request by its route, never by its path, and by its answer. One whose client leaves before the answer is not measured.
pub(crate) async fn measured(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("other", MatchedPath::as_str).to_owned();
    let status = response.status().as_str().to_owned();
    metrics::histogram!("orderfleet_http_request_seconds", "route" => route, "status" => status)
        .record(started.elapsed());
    response
}
