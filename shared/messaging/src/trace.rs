//! Traces through the broker: the spans of a publish and of a delivery, joined by the header `traceparent`. Names and attributes
//! are those of OpenTelemetry's conventions for RabbitMQ (semantic conventions 1.37, messaging).
//!
//! Where traces are off, no span is made and a message keeps the `traceparent` that it came with.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use lapin::uri::AMQPUri;
use opentelemetry::{Context, global, trace::TraceContextExt as _};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{Delivery, Headers, Outgoing, PublishError};

const HEADER: &str = "traceparent";

/// The broker, as spans name it.
#[derive(Debug, Default)]
pub(crate) struct Server {
    host: String,
    port: u16,
}

/// Where deliveries of a channel come from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) server: Arc<Server>,
    pub(crate) queue: String,
}

impl Server {
    /// That of an address; one that cannot be read is told of by whoever connects to it.
    pub(crate) fn of(address: &str) -> Arc<Self> {
        let server = |AMQPUri { authority, .. }| Self { host: authority.host, port: authority.port };
        Arc::new(address.parse().map(server).unwrap_or_default())
    }
}

/// A publish, within what is being done just now.
pub(crate) fn publishing(server: &Server, exchange: &str, routing_key: &str, outgoing: &Outgoing) -> Span {
    let headers = &outgoing.headers;
    let span = tracing::info_span!(
        "publish",
        otel.name = %format_args!("publish {exchange}:{routing_key}"),
        otel.kind = "producer",
        otel.status_code = Empty,
        "error.type" = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "publish",
        "messaging.operation.type" = "send",
        messaging.destination.name = %format_args!("{exchange}:{routing_key}"),
        messaging.rabbitmq.destination.routing_key = routing_key,
        messaging.message.id = headers.id(),
        messaging.message.body.size = outgoing.body.len(),
        server.address = server.host,
        server.port = server.port,
        order.id = headers.order_id().map(tracing::field::display),
    );
    if !span.is_disabled() && headers.is_new_trace() {
        begin_anew(&span, headers);
    }
    span
}

/// The headers with which a message goes out within a span.
pub(crate) fn within<'a>(span: &Span, headers: &'a Headers) -> Cow<'a, Headers> {
    if span.is_disabled() {
        return Cow::Borrowed(headers);
    }
    let mut carrier = HashMap::new();
    global::get_text_map_propagator(|propagator| propagator.inject_context(&span.context(), &mut carrier));
    match carrier.remove(HEADER) {
        Some(traceparent) => Cow::Owned(headers.clone().in_trace(&traceparent)),
        None => Cow::Borrowed(headers),
    }
}

/// How a publish ended.
pub(crate) fn ended(span: &Span, published: &Result<(), PublishError>) {
    if let Err(error) = published {
        span.record("otel.status_code", "ERROR").record("error.type", error.kind());
    }
}

impl<S> Delivery<S> {
    /// The span for handling it, in the trace that its message came with. Whoever handles it records how that ended as
    /// `delivery.ending`.
    #[must_use]
    pub fn span(&self) -> Span {
        let (exchange, routing_key) = (self.exchange.as_str(), self.routing_key.as_str());
        let queue = self.origin.queue.as_str();
        let span = tracing::info_span!(
            parent: None,
            "process",
            otel.name = %format_args!("process {queue}"),
            otel.kind = "consumer",
            otel.status_code = Empty,
            "error.type" = Empty,
            messaging.system = "rabbitmq",
            messaging.operation.name = "process",
            "messaging.operation.type" = "process",
            messaging.destination.name = %format_args!("{exchange}:{routing_key}:{queue}"),
            messaging.rabbitmq.destination.routing_key = routing_key,
            messaging.rabbitmq.message.delivery_tag = self.tag,
            messaging.message.id = self.headers.id(),
            messaging.message.body.size = self.body.len(),
            server.address = self.origin.server.host,
            server.port = self.origin.server.port,
            order.id = self.headers.order_id().map(tracing::field::display),
            delivery.redelivered = self.redelivered,
            delivery.ending = Empty,
        );
        if span.is_disabled() {
            return span;
        }
        if self.headers.is_new_trace() {
            begin_anew(&span, &self.headers);
        } else {
            // It fails for a span that has begun, which this one has not.
            let _ = span.set_parent(context(&self.headers));
        }
        span
    }
}

/// A trace of its own, linked to the one that the message tells of.
fn begin_anew(span: &Span, headers: &Headers) {
    // As above.
    let _ = span.set_parent(Context::new());
    span.add_link(context(headers).span().span_context().clone());
}

fn context(headers: &Headers) -> Context {
    let traceparent = headers.get(HEADER).map(|value| (HEADER.to_owned(), value.to_owned()));
    let carrier: HashMap<String, String> = traceparent.into_iter().collect();
    global::get_text_map_propagator(|propagator| propagator.extract_with_context(&Context::new(), &carrier))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_without_credentials() {
        let server = Server::of("amqps://user:s3cret@broker.shop:5673/%2f");
        assert_eq!((server.host.as_str(), server.port), ("broker.shop", 5673));
        assert_eq!(Server::of("nonsense").host, "");
    }
}
