//! A collector of traces, as other people run one: takes spans by OTLP and keeps them. And beside it a service of the shop that is
//! unavailable once, and tells what trace context it was called with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{post, put},
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{ResourceSpans, Span as Exported, status::StatusCode as Code},
};
use orderfleet_tests::until;
use prost::Message as _;
use tokio::{net::TcpListener, task::AbortHandle};

/// A span as it was exported.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    /// Trace and span.
    pub(super) links: Vec<(String, String)>,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) is_error: bool,
}

/// Dropping it closes its port.
#[derive(Debug)]
pub(super) struct Collector {
    pub(super) url: String,
    seen: Arc<Seen>,
    serving: AbortHandle,
}

#[derive(Debug, Default)]
struct Seen {
    spans: Mutex<Vec<Span>>,
    bodies: Mutex<Vec<Vec<u8>>>,
    traceparents: Mutex<Vec<String>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::<Seen>::default();
        let routes = Router::new()
            .route("/v1/traces", post(collect))
            .route("/steps/{instance}", put(perform))
            .with_state(Arc::clone(&seen));
        let serving = tokio::spawn(async move { axum::serve(listener, routes).await }).abort_handle();
        Self { url, seen, serving }
    }

    /// The trace context of each call of the service.
    pub(super) fn traceparents(&self) -> Vec<String> {
        self.seen.traceparents.lock().unwrap().clone()
    }

    /// Everything that was posted.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        self.seen.bodies.lock().unwrap().clone()
    }

    /// Waits until a trace holds a span of this name, and every parent that its spans name, but for `from`.
    pub(super) async fn trace(&self, trace: &str, with: &str, from: &str) -> Trace {
        until(&format!("trace {trace} is whole and holds {with}"), async || {
            let spans: Vec<_> =
                self.seen.spans.lock().unwrap().iter().filter(|span| span.trace == trace).cloned().collect();
            let trace = Trace(spans);
            let ids: BTreeSet<_> = trace.0.iter().map(|span| span.id.as_str()).chain([from]).collect();
            let is_whole = trace.0.iter().all(|span| ids.contains(span.parent.as_str()));
            if is_whole && trace.has(with) { Ok(trace) } else { Err(trace.tree()) }
        })
        .await
    }

    /// Waits for the trace that links to a span of this one.
    pub(super) async fn linked_to(&self, trace: &str) -> Span {
        until(&format!("a span links to trace {trace}"), async || {
            let spans = self.seen.spans.lock().unwrap();
            let linked = |span: &&Span| span.links.iter().any(|(to, _)| to == trace);
            spans.iter().find(linked).cloned().ok_or(spans.len())
        })
        .await
    }
}

/// The spans of one trace.
#[derive(Debug)]
pub(super) struct Trace(pub(super) Vec<Span>);

impl Trace {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|span| span.name == name)
    }

    /// In the order in which they ended.
    pub(super) fn named(&self, name: &str) -> Vec<&Span> {
        self.0.iter().filter(|span| span.name == name).collect()
    }

    pub(super) fn parent(&self, span: &Span) -> Option<&Span> {
        self.0.iter().find(|parent| parent.id == span.parent)
    }

    /// The names from a span up to the first of the trace.
    pub(super) fn way_to(&self, span: &Span) -> Vec<&str> {
        let mut way = Vec::new();
        let mut next = self.0.iter().find(|own| own.id == span.id);
        while let Some(span) = next {
            way.push(span.name.as_str());
            next = self.parent(span);
        }
        way
    }

    fn tree(&self) -> Vec<String> {
        self.0.iter().map(|span| format!("{} {} below {}", span.id, span.name, span.parent)).collect()
    }
}

async fn collect(State(seen): State<Arc<Seen>>, body: Bytes) -> StatusCode {
    let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
    let spans = request.resource_spans.iter().flat_map(spans);
    seen.spans.lock().unwrap().extend(spans);
    seen.bodies.lock().unwrap().push(body.to_vec());
    StatusCode::OK
}

/// Unavailable once.
async fn perform(State(seen): State<Arc<Seen>>, headers: HeaderMap) -> (StatusCode, &'static str) {
    let traceparent = headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned());
    let mut calls = seen.traceparents.lock().unwrap();
    calls.push(traceparent.unwrap_or_default());
    match calls.len() {
        1 => (StatusCode::SERVICE_UNAVAILABLE, ""),
        _ => (StatusCode::OK, r#"{"result":{}}"#),
    }
}

fn spans(of_process: &ResourceSpans) -> Vec<Span> {
    let resource = attributes(&of_process.resource.as_ref().unwrap().attributes);
    let spans = of_process.scope_spans.iter().flat_map(|scope| &scope.spans);
    spans.map(|span| read(span, &resource["service.name"])).collect()
}

fn read(span: &Exported, service: &str) -> Span {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Span {
        service: service.to_owned(),
        name: without_prefix(&span.name),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        attributes: attributes(&span.attributes),
        is_error: span.status.as_ref().is_some_and(|status| status.code() == Code::Error),
    }
}

fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    };
    attributes.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

/// The names of queues and exchanges begin with the fleet's own prefix, up to the first dot.
fn without_prefix(name: &str) -> String {
    let prefix = name.find("it-").and_then(|start| {
        let end = name[start..].find('.')?;
        name.get(start..=start + end)
    });
    prefix.map_or_else(|| name.to_owned(), |prefix| name.replace(prefix, ""))
}
