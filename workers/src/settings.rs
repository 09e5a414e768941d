//! `[worker]`, and the sections a worker reads.

use std::net::SocketAddr;

use anyhow::ensure;
use orderfleet_domain::saga::StepSettings;
use orderfleet_messaging::BrokerSettings;
use orderfleet_runtime::telemetry::TelemetrySettings;
use orderfleet_storage::DatabaseSettings;
use serde::{Deserialize, Serialize};

/// Everything a worker is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `[broker]`
    #[serde(default)]
    pub broker: BrokerSettings,
    /// `[database]`
    #[serde(default)]
    pub database: DatabaseSettings,
    /// `[telemetry]`
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// `[worker]`
    #[serde(default)]
    pub worker: WorkerSettings,
    /// `[[steps]]`
    #[serde(default = "StepSettings::defaults")]
    pub steps: Vec<StepSettings>,
}

impl Settings {
    /// The sections of the settings file that a worker reads.
    pub const SECTIONS: &[&str] = &["broker", "database", "telemetry", "worker", "steps"];
}

/// `[worker]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub admin_listen: SocketAddr,
    /// What this worker does.
    pub roles: Vec<Role>,
    /// Orders worked on at once. The more there are, the larger are the groups in which they are written; a service gets up to
    /// three quarters as many calls at once from each worker.
    pub concurrency: u16,
    /// Unacked deliveries of fresh orders, shared out evenly to their partitions, and of each other queue. A quarter more than
    /// `concurrency` keeps every slot busy, as acks are gathered for a moment; what waits for its turn is given back by a worker that
    /// ends, and a crash has all of them charged as a delivery.
    pub prefetch: u16,
    /// Lease of a claim in seconds: how long others leave an order to its owner.
    pub lease_s: u32,
    /// Seconds between two sweeps for owed publishes and overdue orders.
    pub sweep_every_s: u32,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Works orders forward: lanes `new`, `retry`, `replay`, `quarantine`.
    Forward,
    /// Undoes: lane `compensate`.
    Compensate,
    /// Looks for owed publishes and overdue orders.
    Sweep,
    /// Takes dead letters from their queues into the database, and holds orders whose messages crashed workers.
    Park,
}

impl Role {
    /// The word in the settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Compensate => "compensate",
            Self::Sweep => "sweep",
            Self::Park => "park",
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            admin_listen: ([127, 0, 0, 1], 9090).into(),
            roles: vec![Role::Forward, Role::Compensate, Role::Sweep, Role::Park],
            concurrency: 128,
            prefetch: 160,
            lease_s: 60,
            sweep_every_s: 30,
        }
    }
}

impl WorkerSettings {
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            !self.roles.is_empty(),
            "setting worker.roles: name at least one of forward, compensate, sweep, park"
        );
        ensure!(
            (1..=1_024).contains(&self.concurrency),
            "setting worker.concurrency: must be between 1 and 1024"
        );
        ensure!((1..=1_024).contains(&self.prefetch), "setting worker.prefetch: must be between 1 and 1024");
        ensure!((1..=3_600).contains(&self.lease_s), "setting worker.lease_s: must be between 1 and 3600");
        ensure!(
            (1..=3_600).contains(&self.sweep_every_s),
            "setting worker.sweep_every_s: must be between 1 and 3600"
        );
        Ok(())
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
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
