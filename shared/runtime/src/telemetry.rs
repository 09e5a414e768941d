//! Logs and metrics: how they leave the process. Logs go to stderr, so that stdout is data alone.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// What is logged, as a `tracing` filter such as `info` or `info,lapin=debug`.
    pub log: String,
    /// How: `text`, `json`, or `auto` for text on a terminal and JSON elsewhere.
    pub format: LogFormat,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { log: "info".into(), format: LogFormat::Auto }
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

/// Histogram buckets in seconds, for everything from a publisher confirm to an order's whole way.
const BUCKETS_S: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Installs the process's logger and metrics recorder and returns the handle that renders the metrics.
/// Call once, inside the runtime.
///
/// # Errors
/// A log filter that does not parse, or a second call.
pub fn init(settings: &TelemetrySettings) -> anyhow::Result<PrometheusHandle> {
    let filter = EnvFilter::try_new(&settings.log).context("setting telemetry.log")?;
    let json = match settings.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    installed.map_err(|error| anyhow::anyhow!("cannot install the logger: {error}"))?;

    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS_S)
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot install the metrics recorder")?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
