//! The fleet that an operator's command is about: the settings that its services use, and connections of our own.

use std::{env, path::Path};

use anyhow::Context as _;
use orderfleet_domain::saga::{Policy, StepSettings};
use orderfleet_messaging::{BrokerSettings, ConnectError, Publisher, Topology};
use orderfleet_operations::Operator;
use orderfleet_runtime::settings;
use orderfleet_storage::{DatabaseSettings, Store};
use serde::Deserialize;

use crate::exit::{DEPENDENCY_DOWN, Failure};

/// Written by `orderfleet up` in the folder it runs in.
const SETTINGS_FILE: &str = ".orderfleet/orderfleet.toml";
const SECTIONS: &[&str] = &["broker", "database", "steps"];
const APP_NAME: &str = "orderfleet";
/// No lease is taken by an operator's command.
const NO_LEASE: i64 = 0;

/// The flags that say which fleet.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which fleet (default: that of ./.orderfleet/orderfleet.toml)")]
pub(crate) struct FleetArgs {
    /// Settings file (TOML) of the fleet's services
    #[arg(long, value_name = "FILE", env = "ORDERFLEET_CONFIG", hide_env_values = true)]
    config: Option<std::path::PathBuf>,
    /// Sets one setting, for example `--set database.name=shop`; repeatable, wins over file and environment
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// What the fleet's services are told, as far as an operator's command needs it.
#[derive(Debug, Deserialize)]
pub(crate) struct Fleet {
    #[serde(default)]
    pub(crate) broker: BrokerSettings,
    #[serde(default)]
    pub(crate) database: DatabaseSettings,
    #[serde(default = "StepSettings::defaults")]
    steps: Vec<StepSettings>,
}

impl FleetArgs {
    /// Reads the settings: the named file, else that of `orderfleet up`, else the defaults; environment and flags win over
    /// each.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown section or key, or a value that does not fit; the message names it.
    pub(crate) fn resolve(self) -> anyhow::Result<Fleet> {
        let left_behind = || Path::new(SETTINGS_FILE).exists().then(|| SETTINGS_FILE.into());
        let config = self.config.or_else(left_behind);
        settings::load(&settings::Options { config, set: self.set, print_config: false }, SECTIONS)
    }
}

impl Fleet {
    /// Connects to the database.
    ///
    /// # Errors
    /// It does not answer within a few seconds, or cannot be used.
    pub(crate) async fn store(&self) -> anyhow::Result<Store> {
        let connected = Store::connect(&self.database, APP_NAME).await;
        connected.map_err(|error| down("the database", "database.uri", &error.into()))
    }

    /// Connects to the broker.
    ///
    /// # Errors
    /// Its topology differs from the declared one, or the settings cannot be used. A broker that is down is waited for.
    pub(crate) async fn publisher(&self) -> anyhow::Result<Publisher> {
        let connected: Result<_, ConnectError> =
            Publisher::connect(&self.broker, self.topology()?, APP_NAME).await;
        connected.map_err(|error| down("the broker", "broker.url", &error.into()))
    }

    /// What is declared on the broker.
    ///
    /// # Errors
    /// The steps of the settings cannot be worked with.
    pub(crate) fn topology(&self) -> anyhow::Result<Topology> {
        let BrokerSettings { prefix, partitions, new_bytes_max, .. } = &self.broker;
        Ok(Topology::new(prefix, *partitions, *new_bytes_max, &self.policy()?.step_names()))
    }

    /// The steps of the saga.
    ///
    /// # Errors
    /// They cannot be worked with; the message names the setting.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        Ok(Policy::new(self.steps.clone(), NO_LEASE)?)
    }
}

/// Who is at the keyboard, as recorded with every change: `ORDERFLEET_OPERATOR`, else the name of the user.
///
/// # Errors
/// There is none, or it has characters that a name cannot have.
pub(crate) fn operator() -> anyhow::Result<Operator> {
    let given = ["ORDERFLEET_OPERATOR", "USER", "LOGNAME"].iter().find_map(|name| env::var(name).ok());
    let name = given.filter(|name| !name.is_empty()).ok_or_else(|| {
        Failure::new("nobody is named whom this change could be recorded for", "set ORDERFLEET_OPERATOR=NAME")
    })?;
    name.parse().with_context(|| format!("ORDERFLEET_OPERATOR {name:?}"))
}

fn down(what: &str, setting: &str, error: &anyhow::Error) -> anyhow::Error {
    let next = format!(
        "start a fleet here with `make up`, or name a running one: --config FILE, or --set {setting}=…"
    );
    Failure { what: format!("{what} cannot be used: {error:#}"), next, code: DEPENDENCY_DOWN }.into()
}
