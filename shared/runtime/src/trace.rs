//! Trace context over HTTP (W3C `traceparent`): taken from clients with care, handed on to services, and the span of a request.
//!
//! Clients are strangers: a `traceparent` that is not well-formed is as good as none, `tracestate` is not taken, and nothing they
//! write themselves, such as a path or a header, becomes an attribute.

use std::collections::HashMap;

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderMap, Method},
    middleware::Next,
    response::Response,
};
use opentelemetry::{Context, global};
use tracing::{Instrument as _, Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const HEADER: &str = "traceparent";

/// The caller's trace context, if it has the shape that W3C gives it (Trace Context, 3.2.2): four parts of lower-case hexadecimal
/// digits, neither id all zeros, no version 255. Of a newer version, only what has the same length is known.
#[must_use]
pub fn well_formed(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let is_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let [version, trace, parent, flags] = parts[..] else { return None };
    let lengths = [version, trace, parent, flags].map(str::len) == [2, 32, 16, 2];
    let is_known = lengths && parts.iter().all(|part| is_hex(part)) && version != "ff";
    let is_zero = |id: &str| id.bytes().all(|b| b == b'0');
    (is_known && !is_zero(trace) && !is_zero(parent)).then_some(text)
}

/// What a request within this span carries as `traceparent`; `None` without traces.
#[must_use]
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&span.context(), &mut carrier));
    carrier.remove(HEADER)
}

/// Marks a span as failed: with a kind of failure, of which there are few.
pub fn failed(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR").record("error.type", kind);
}

/// A span for each request, below that of its caller. Whoever handles the request adds `order.id`.
pub(crate) async fn serve(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let method = known(request.method());
    let span = tracing::info_span!(
        parent: None,
        "request",
        otel.name = %format_args!("{method} {}", route.unwrap_or_default()).to_string().trim_end(),
        otel.kind = "server",
        otel.status_code = Empty,
        "error.type" = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        url.scheme = "http",
        order.id = Empty,
    );
    if let Some(parent) = well_formed(request.headers()).filter(|_| !span.is_disabled()) {
        // It fails for a span that has begun, which this one has not.
        let _ = span.set_parent(remote(parent));
    }
    let response = next.run(request).instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        failed(&span, status.as_str());
    }
    response
}

fn remote(traceparent: &str) -> Context {
    let carrier = HashMap::from([(HEADER.to_owned(), traceparent.to_owned())]);
    global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), &carrier))
}

/// Strangers can make up methods.
fn known(method: &Method) -> &str {
    let is_known = [Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD].contains(method);
    if is_known { method.as_str() } else { "_OTHER" }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_a_well_formed_trace_context_is_taken() {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let taken = |text: &str| {
            let headers =
                HeaderMap::from_iter([(HEADER.parse().unwrap(), HeaderValue::from_str(text).unwrap())]);
            well_formed(&headers).map(str::to_owned)
        };
        for good in [format!("00-{trace}-{parent}-01"), format!("01-{trace}-{parent}-00")] {
            assert_eq!(taken(&good), Some(good));
        }
        for bad in [
            "00-junk".to_owned(),
            format!("00-{}-{parent}-01", trace.to_uppercase()),
            format!("ff-{trace}-{parent}-01"),
            format!("00-{trace}-{parent}-01-more"),
            format!("00-{trace}{parent}--01-"),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{trace}-{parent}-0g"),
        ] {
            assert_eq!(taken(&bad), None, "{bad}");
        }
        assert_eq!(well_formed(&HeaderMap::new()), None);
    }
}
