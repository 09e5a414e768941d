//! Logs, metrics and traces: how they leave the process. Logs go to stderr, so that stdout is data alone.

mod line;
mod log;
mod recorder;
mod sampling;
mod traces;

use std::{io::IsTerminal as _, path::PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tracing::{Dispatch, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, Registry,
    filter::{FilterExt as _, filter_fn},
    fmt,
    layer::{Filter, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

pub use log::{BadFilter, FILTER_BYTES_MAX, LogFilter};
pub use recorder::Metrics;
pub use traces::Traces;

use line::InTrace;
use log::{is_safe, text_fields};

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// What is logged, as a `tracing` filter such as `info` or `info,lapin=debug`.
    pub log: String,
    /// How: `text`, `json`, or `auto` for text on a terminal and JSON elsewhere.
    pub format: LogFormat,
    /// Base address of an OTLP collector, such as `http://collector:4318`: spans are posted to `/v1/traces` below it. Without one, or
    /// with an empty one, there are no traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// A file with headers for the collector, `name: value`, one a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_headers_file: Option<PathBuf>,
    /// Share of the traces that begin here that are recorded, 0 to 1. What a caller has decided before is followed.
    pub sample_ratio: f64,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: "info".into(),
            format: LogFormat::Auto,
            otlp_endpoint: None,
            otlp_headers_file: None,
            sample_ratio: 1.0,
        }
    }
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "documented at the setting")]
pub enum LogFormat {
    Auto,
    Text,
    Json,
}

/// What [`init`] has installed, as the admin port shows and changes it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// The metrics.
    pub metrics: Metrics,
    /// What is logged.
    pub log: LogFilter,
    /// The traces, to be flushed when the process ends.
    pub traces: Traces,
}

/// Installs the process's logger, metrics recorder and exporter of traces. Call once, inside the runtime, before anything is measured.
///
/// # Errors
/// Settings that are wrong, or a second call.
pub fn init(settings: &TelemetrySettings, service: &'static str) -> anyhow::Result<Telemetry> {
    let (obeying, log) = LogFilter::new(&settings.log).context("setting telemetry.log")?;
    let json = match settings.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let metrics = Metrics::install(service)?;
    let traces = Traces::new(settings, service)?;
    dispatch(json, obeying, &traces).try_init().context("cannot install the logger")?;
    Ok(Telemetry { metrics, log, traces })
}

/// Where events and spans go. Spans are for traces alone: the log's filter makes none and hides none.
fn dispatch(json: bool, obeying: impl Filter<Registry> + Send + Sync + 'static, traces: &Traces) -> Dispatch {
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).map_event_format(InTrace::json).boxed()
    } else {
        lines.fmt_fields(text_fields()).map_event_format(InTrace::text).boxed()
    };
    let is_event = |metadata: &Metadata<'_>| metadata.is_event() && is_safe(metadata);
    let events = filter_fn(is_event).with_max_level_hint(LevelFilter::TRACE);
    let logger = tracing_subscriber::registry().with(lines.with_filter(obeying.and(events)));
    match traces.layer() {
        Some(layer) => logger.with(layer).into(),
        // Not `with(None)`: a layer that is not there asks for every span.
        None => logger.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_an_endpoint_no_span_is_made_and_events_are_logged() {
        let settings = TelemetrySettings::default();
        let traces = Traces::new(&settings, "test").unwrap();
        let (obeying, _) = LogFilter::new(&settings.log).unwrap();
        tracing::dispatcher::with_default(&dispatch(true, obeying, &traces), || {
            assert!(tracing::info_span!(target: "orderfleet_test", "a span").is_disabled());
            assert!(tracing::event_enabled!(target: "orderfleet_test", tracing::Level::WARN));
        });
    }
}
