//! Metrics of the process: how they are kept until somebody asks, and those that every service has.

use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use crate::meters;

/// Buckets in seconds for what takes as long as a call: from a confirm to the longest timeout of a step.
const CALL_BUCKETS_S: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets for what may wait in a queue or a tier, for up to a day.
const WAIT_BUCKETS_S: [f64; 15] =
    [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0];
const WAITS: [&str; 3] =
    ["orderfleet_queue_wait_seconds", "orderfleet_handling_seconds", "orderfleet_order_seconds"];
/// Up to the most writes of one command to the database, and the most dos of one request to a service.
const GROUP_BUCKETS: [f64; 7] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The process's metrics in the Prometheus text format. Clones are the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    recorded: PrometheusHandle,
    process: Collector,
}

impl Metrics {
    /// Installs the recorder that every `metrics` macro of the process writes to. Handles made before this record nothing.
    pub(super) fn install(service: &'static str) -> anyhow::Result<Self> {
        let builder = WAITS.iter().try_fold(PrometheusBuilder::new(), |builder, wait| {
            builder.set_buckets_for_metric(Matcher::Full((*wait).into()), &WAIT_BUCKETS_S)
        });
        let recorded = builder
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &CALL_BUCKETS_S)
            })
            .and_then(|builder| {
                let sizes = Matcher::Suffix("_size".into());
                builder.set_buckets_for_metric(sizes, &GROUP_BUCKETS)
            })
            .and_then(PrometheusBuilder::install_recorder)
            .context("cannot install the metrics recorder")?;
        meters::begin(service);
        let process = Collector::default();
        process.describe();
        let metrics = Self { recorded, process };
        tokio::spawn(metrics.clone().keep_up());
        Ok(metrics)
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        self.recorded.render()
    }

    /// Between scrapes every sample of a histogram is kept; without anybody who asks they would fill the memory.
    async fn keep_up(self) {
        let mut every = tokio::time::interval(UPKEEP_EVERY);
        loop {
            every.tick().await;
            self.recorded.run_upkeep();
        }
    }
}
