//! Traces: how spans leave the process, by OTLP over HTTP. Without an endpoint no span is ever made.
//!
//! A collector that is slow or away costs spans, never time: they wait in a bounded queue, and what finds no room or is not
//! taken is counted.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use opentelemetry::{KeyValue, global, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    propagation::TraceContextPropagator,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, Span, SpanData, SpanExporter as Export,
        SpanProcessor,
    },
};
use tokio::runtime::Handle;
use tracing::{Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

use super::{TelemetrySettings, sampling::Sampling};
use crate::build;

/// Spans that wait for the collector; each takes a kilobyte or two.
const QUEUE_MAX: usize = 8_192;
const BATCH_MAX: usize = 512;
/// Longest time a span waits for others to go with it.
const BATCH_EVERY: Duration = Duration::from_secs(1);
/// Longest time for one batch, repeats of the exporter's own included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for what still waits when the process ends. Part of the 20 s that a worker has in all.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// Below the base address, by the OTLP specification.
const PATH: &str = "/v1/traces";
const WAITING: &str = "orderfleet_spans_waiting";
/// Why spans are lost.
const QUEUE_FULL: &str = "queue_full";
const NOT_EXPORTED: &str = "not_exported";

/// The way of spans out of this process, if they have one. Clones are the same.
#[derive(Debug, Clone)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// By the settings; call inside the runtime.
    ///
    /// # Errors
    /// Settings that are wrong, or a file of headers that cannot be read.
    pub(super) fn new(settings: &TelemetrySettings, service: &'static str) -> anyhow::Result<Self> {
        let Some(endpoint) = settings.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(Self(None));
        };
        check(endpoint, settings.sample_ratio)?;
        let headers = settings.otlp_headers_file.as_deref().map(read_headers).transpose();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client(endpoint)?)
            .with_endpoint(format!("{}{PATH}", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .with_headers(headers.context("setting telemetry.otlp_headers_file")?.unwrap_or_default())
            .build()
            .context("setting telemetry.otlp_endpoint")?;
        global::set_text_map_propagator(TraceContextPropagator::new());
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(service)?)
            .with_sampler(Sampling::new(settings.sample_ratio))
            .with_span_processor(Bounded::new(exporter))
            .build();
        Ok(Self(Some(provider)))
    }

    /// Takes the fleet's spans, and those of no library. Events are for the log.
    pub(super) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer = self.0.as_ref()?.tracer("orderfleet");
        let ours =
            |metadata: &Metadata<'_>| metadata.is_span() && metadata.target().starts_with("orderfleet");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        Some(layer.with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::INFO)))
    }

    /// Sends what still waits, for a second at most. Spans that end later are lost. A second call does nothing.
    pub async fn flush(self) {
        let Some(provider) = self.0 else { return };
        let flushing = move || provider.shutdown_with_timeout(FLUSH_TIMEOUT);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(flushing).await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

fn check(endpoint: &str, ratio: f64) -> anyhow::Result<()> {
    let is_http = endpoint.starts_with("http://") || endpoint.starts_with("https://");
    ensure!(is_http, "setting telemetry.otlp_endpoint: must start with http:// or https://");
    let authority = endpoint.split('/').nth(2).unwrap_or_default();
    ensure!(
        !authority.contains('@'),
        "setting telemetry.otlp_endpoint: must not hold credentials; put them into telemetry.otlp_headers_file"
    );
    ensure!((0.0..=1.0).contains(&ratio), "setting telemetry.sample_ratio: must be between 0 and 1");
    Ok(())
}

fn client(endpoint: &str) -> anyhow::Result<reqwest::Client> {
    let mut builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    if endpoint.starts_with("http://") {
        // Without TLS, a machine without CA certificates is fine.
        builder = builder.tls_certs_only([]);
    }
    builder.build().context("cannot make an HTTP client for traces")
}

/// `name: value`, one a line; empty lines and those that begin with `#` are skipped. Values are secrets: no message holds one.
fn read_headers(path: &Path) -> anyhow::Result<HashMap<String, String>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let header = |(number, line): (usize, &str)| match line.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned())),
        None => bail!("{}: line {number} must be `name: value`", path.display()),
    };
    lines.map(header).collect()
}

/// Who the spans are of. An instance has a new name at each start.
fn resource(service: &'static str) -> anyhow::Result<Resource> {
    let mut instance = [0; 8];
    getrandom::fill(&mut instance).context("no randomness from the operating system")?;
    let attributes = [
        KeyValue::new("service.namespace", "orderfleet"),
        KeyValue::new("service.version", build::NAME.clone()),
        KeyValue::new("service.instance.id", format!("{:016x}", u64::from_be_bytes(instance))),
    ];
    Ok(Resource::builder_empty().with_service_name(service).with_attributes(attributes).build())
}

/// The SDK's processor behind a bound of our own, because it does not tell how many spans found no room.
#[derive(Debug)]
struct Bounded {
    processor: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl Bounded {
    fn new(exporter: SpanExporter) -> Self {
        begin_counting();
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = Counted {
            exporter: Arc::new(exporter),
            waiting: Arc::clone(&waiting),
            runtime: Handle::current(),
            is_failing: AtomicBool::default(),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(BATCH_EVERY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        Self { processor, waiting }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &opentelemetry::Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        let one_more = |waiting| (waiting < QUEUE_MAX).then_some(waiting + 1);
        match self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => {
                metrics::gauge!(WAITING).increment(1);
                self.processor.on_end(span);
            }
            Err(_) => dropped(QUEUE_FULL, 1),
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

/// The exporter, with its work done on the runtime: the processor's own thread has none.
#[derive(Debug)]
struct Counted {
    exporter: Arc<SpanExporter>,
    waiting: Arc<AtomicUsize>,
    runtime: Handle,
    is_failing: AtomicBool,
}

impl Counted {
    fn tell(&self, spans: usize, exported: &OTelSdkResult) {
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        match exported {
            Ok(()) => metrics::counter!("orderfleet_spans_exported_total").increment(spans as u64),
            Err(_) => dropped(NOT_EXPORTED, spans),
        }
        match exported {
            Ok(()) if was_failing => tracing::info!("spans are exported again"),
            Err(error) if !was_failing => {
                tracing::warn!(%error, "spans cannot be exported; they are dropped and counted until they can");
            }
            _ => {}
        }
    }
}

impl Export for Counted {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        metrics::gauge!(WAITING).decrement(u32::try_from(spans).unwrap_or(u32::MAX));
        let exporter = Arc::clone(&self.exporter);
        let exporting = async move { tokio::time::timeout(EXPORT_TIMEOUT, exporter.export(batch)).await };
        let exported = match self.runtime.spawn(exporting).await {
            Ok(Ok(exported)) => exported,
            Ok(Err(_)) => Err(OTelSdkError::Timeout(EXPORT_TIMEOUT)),
            Err(error) => Err(OTelSdkError::InternalFailure(error.to_string())),
        };
        self.tell(spans, &exported);
        exported
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

/// At 0, so that the first loss shows as one.
fn begin_counting() {
    metrics::describe_counter!("orderfleet_spans_exported_total", "Spans that the collector has taken");
    metrics::describe_counter!("orderfleet_spans_dropped_total", "Spans that are lost");
    metrics::describe_gauge!(WAITING, "Spans that wait for the collector");
    metrics::gauge!(WAITING).set(0);
    metrics::counter!("orderfleet_spans_exported_total").absolute(0);
    for reason in [QUEUE_FULL, NOT_EXPORTED] {
        dropped(reason, 0);
    }
}

fn dropped(reason: &'static str, spans: usize) {
    metrics::counter!("orderfleet_spans_dropped_total", "reason" => reason).increment(spans as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(endpoint: &str, ratio: f64) -> String {
        check(endpoint, ratio).unwrap_err().to_string()
    }

    #[test]
    fn an_endpoint_is_an_http_address_without_credentials_and_a_ratio_is_a_share() {
        check("https://collector:4318", 0.5).unwrap();
        assert!(refusal("collector:4318", 1.0).contains("telemetry.otlp_endpoint"));
        assert!(refusal("http://user:secret@collector", 1.0).contains("otlp_headers_file"));
        for ratio in [-0.1, 1.1, f64::NAN] {
            assert!(refusal("http://collector", ratio).contains("telemetry.sample_ratio"));
        }
    }

    #[test]
    fn headers_are_read_from_lines_and_a_broken_line_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("headers");
        std::fs::write(&path, "# of the collector\nAuthorization: Basic a:b=\n\nx-tenant: shop\n").unwrap();
        let headers = read_headers(&path).unwrap();
        assert_eq!(headers["authorization"], "Basic a:b=");
        assert_eq!((headers["x-tenant"].as_str(), headers.len()), ("shop", 2));
        std::fs::write(&path, "\ns3cret").unwrap();
        let error = read_headers(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
    }
}
