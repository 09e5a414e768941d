//! What every service measures of itself and of its HTTP requests.

use std::time::Instant;

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};

use metrics::Gauge;

use crate::build;

/// One of the things that a gauge counts, for as long as this exists.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// One more.
    #[must_use]
    pub fn new(gauge: &Gauge) -> Self {
        gauge.increment(1);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// Says what these metrics are, and which build this is.
pub(crate) fn begin(service: &'static str) {
    metrics::describe_gauge!("orderfleet_build_info", "Which build this is; always 1");
    metrics::describe_histogram!(
        "orderfleet_http_request_seconds",
        "From the end of a request's headers to its answer"
    );
    metrics::describe_gauge!("orderfleet_http_connections", "Open connections to this process's listeners");
    metrics::describe_counter!(
        "orderfleet_http_connections_refused_total",
        "Connections that found too many open"
    );
    metrics::describe_gauge!("orderfleet_http_requests_in_flight", "Requests that are being worked on");
    metrics::counter!("orderfleet_http_connections_refused_total").increment(0);
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
