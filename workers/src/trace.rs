//! The spans of a step: one for the attempt, with everything it waits for, and one for the request itself, if it is sent. And how
//! the handling of a delivery ended.

use orderfleet_domain::saga::{CallOutcome, StepSettings, Verb};
use orderfleet_runtime::trace;
use reqwest::{StatusCode, Url};
use tracing::{Span, field::Empty};

use crate::{downstream::Call, driver::outcome_label};

/// How the delivery was handled that is in hand just now.
pub(crate) fn delivery_ended(ending: &str) {
    let span = Span::current();
    span.record("delivery.ending", ending);
    if ["poison", "panicked", "given_back"].contains(&ending) {
        trace::failed(&span, ending);
    }
}

/// An attempt of a step, within the handling of a delivery. `quick_retry` counts the repeats at once.
pub(crate) fn step(call: &Call<'_>, quick_retry: u32) -> Span {
    let (verb, step) = (call.verb.as_str(), call.step);
    tracing::info_span!(
        "step",
        otel.name = %format_args!("{verb} {step}"),
        otel.status_code = Empty,
        "error.type" = Empty,
        order.id = %call.order_id,
        saga.gen = call.record.generation,
        saga.step = %step,
        saga.verb = verb,
        saga.attempts_charged = call.record.att,
        saga.quick_retry = quick_retry,
        saga.outcome = Empty,
    )
}

/// How it ended. A refusal is an answer like any other; what is not known, or was not sent, is a failure.
pub(crate) fn step_ended(span: &Span, outcome: &CallOutcome) {
    let label = outcome_label(outcome);
    span.record("saga.outcome", label);
    if matches!(outcome, CallOutcome::Unknown { .. } | CallOutcome::NotSent { .. }) {
        trace::failed(span, label);
    }
}

/// A request to the service of a step.
pub(crate) fn request(settings: &StepSettings, verb: Verb, url: &str) -> Span {
    let method = if verb == Verb::Do { "PUT" } else { "DELETE" };
    let span = tracing::info_span!(
        "request",
        otel.name = method,
        otel.kind = "client",
        otel.status_code = Empty,
        "error.type" = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
        saga.step = %settings.name,
        url.full = url,
        server.address = Empty,
        server.port = Empty,
    );
    if !span.is_disabled()
        && let Ok(url) = Url::parse(url)
    {
        span.record("server.address", url.host_str()).record("server.port", url.port_or_known_default());
    }
    span
}

/// It was answered.
pub(crate) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", status.as_u16());
    if status.is_client_error() || status.is_server_error() {
        trace::failed(span, status.as_str());
    }
}

/// It was not answered: what the outcome says of why.
pub(crate) fn unanswered(span: &Span, outcome: &CallOutcome) {
    if let CallOutcome::Unknown { what, .. } | CallOutcome::NotSent { what } = outcome {
        trace::failed(span, what);
    }
}
