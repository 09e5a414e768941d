//! `[query]`, and the sections the query service reads.

use std::{net::SocketAddr, path::PathBuf};

use orderfleet_runtime::telemetry::TelemetrySettings;
use orderfleet_storage::DatabaseSettings;
use serde::{Deserialize, Serialize};

/// Everything the query service is told.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `[database]`
    pub database: DatabaseSettings,
    /// `[telemetry]`
    pub telemetry: TelemetrySettings,
    /// `[query]`
    pub query: QuerySettings,
}

impl Settings {
    /// The sections of the settings file that the query service reads.
    pub const SECTIONS: &[&str] = &["database", "telemetry", "query"];
}

/// `[query]`
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySettings {
    /// Where clients ask for orders.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub admin_listen: SocketAddr,
    /// The API key file (`orderfleet keys new`). A change is taken over within a second or two.
    pub keys_file: PathBuf,
    /// Requests worked on at once; more are answered 503 at once.
    pub concurrency_max: usize,
}

impl Default for QuerySettings {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8081).into(),
            admin_listen: ([127, 0, 0, 1], 9081).into(),
            keys_file: "keys.toml".into(),
            concurrency_max: 256,
        }
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
