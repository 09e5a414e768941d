//! `[producer]`, and the sections a producer reads.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::ensure;
use orderfleet_domain::saga::StepSettings;
use orderfleet_messaging::BrokerSettings;
use orderfleet_runtime::telemetry::TelemetrySettings;
use serde::{Deserialize, Serialize};

/// Everything a producer is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[broker]`
    #[serde(default)]
    pub broker: BrokerSettings,
    /// `[telemetry]`
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// `[producer]`
    #[serde(default)]
    pub producer: ProducerSettings,
    /// `[[steps]]`: only their names matter here, for the dead-letter queues of the topology.
    #[serde(default = "StepSettings::defaults")]
    pub steps: Vec<StepSettings>,
}

impl Settings {
    /// The sections of the settings file that a producer reads.
    pub const SECTIONS: &[&str] = &["broker", "telemetry", "producer", "steps"];
}

/// `[producer]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProducerSettings {
    /// Where clients post orders.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub admin_listen: SocketAddr,
    /// The API key file (`orderfleet keys new`). A change is taken over within a second or two.
    pub keys_file: PathBuf,
    /// File that gets one JSON line per 202, or `-` for standard output.
    pub acceptance_log: String,
    /// Base address of the query service, put before `/v1/orders/<id>` in answers; empty for a common gateway.
    pub order_url: String,
    /// Largest request body in bytes.
    pub body_bytes_max: usize,
    /// Requests worked on at once; more are answered 503 at once.
    pub concurrency_max: usize,
    /// Longest time for a whole request, in milliseconds; more than 2,000 above `broker.confirm_timeout_ms`, which runs once
    /// there is a channel to publish on.
    pub request_timeout_ms: u64,
    /// Orders whose fingerprint is remembered, to see a key that is used for another body.
    pub remembered_orders_max: usize,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8080).into(),
            admin_listen: ([127, 0, 0, 1], 9080).into(),
            keys_file: "keys.toml".into(),
            acceptance_log: "-".into(),
            order_url: String::new(),
            body_bytes_max: 1 << 20,
            concurrency_max: 1_024,
            request_timeout_ms: 10_000,
            remembered_orders_max: 100_000,
        }
    }
}

impl ProducerSettings {
    pub(crate) fn check(&self, broker: &BrokerSettings) -> anyhow::Result<()> {
        let within = |setting: &str, value: usize, most: usize| {
            ensure!((1..=most).contains(&value), "setting producer.{setting}: must be between 1 and {most}");
            Ok(())
        };
        within("body_bytes_max", self.body_bytes_max, 8 << 20)?;
        within("concurrency_max", self.concurrency_max, 65_536)?;
        within("remembered_orders_max", self.remembered_orders_max, 100_000_000)?;
        ensure!(
            (broker.confirm_timeout_ms + 2_001..=120_000).contains(&self.request_timeout_ms),
            "setting producer.request_timeout_ms: must be more than 2000 above broker.confirm_timeout_ms and at most 120000"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use orderfleet_runtime::settings::{Options, load};

    use super::*;

    fn shown(options: &Options) -> String {
        let settings: Settings = load(options, Settings::SECTIONS).unwrap();
        toml::to_string(&settings).unwrap()
    }

    #[test]
    fn the_example_file_shows_the_defaults() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../orderfleet.example.toml");
        let options = Options { config: Some(example.into()), ..Options::default() };
        assert_eq!(shown(&options), shown(&Options::default()));
    }
}
