//! The fleet that an operator's command is about: the settings that its services use, and connections of our own.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use orderfleet_domain::saga::{Policy, StepSettings};
use orderfleet_messaging::{BrokerSettings, ConnectError, Inspector, Publisher, Topology};
use orderfleet_operations::{Operator, doctor::WorkerLimits};
use orderfleet_runtime::settings;
use orderfleet_storage::{DatabaseSettings, Store, StoreError};
use reqwest::Url;
use serde::Deserialize;

use crate::exit::{DEPENDENCY_DOWN, FAILED, Failure, NOT_AUTHORISED};

/// Written by `orderfleet up` in the folder it runs in.
const SETTINGS_FILE: &str = ".orderfleet/orderfleet.toml";
const SECTIONS: &[&str] = &["broker", "database", "steps", "worker"];
const APP_NAME: &str = "orderfleet";
/// No lease is taken by an operator's command.
const NO_LEASE: i64 = 0;

const BROKER_RIGHTS: &str = "see that user, password and virtual host are right, and let that user do it: \
                             docs/OPERATIONS.md says which rights each command needs";

/// The flags that say which fleet.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which fleet (default: that of ./.orderfleet/orderfleet.toml)")]
pub(crate) struct FleetArgs {
    /// Settings file (TOML) of the fleet's services
    #[arg(long, value_name = "FILE", env = "ORDERFLEET_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
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
    #[serde(default)]
    pub(crate) worker: WorkerLimits,
}

impl FleetArgs {
    /// Those that name this settings file.
    pub(crate) fn of(config: PathBuf) -> Self {
        Self { config: Some(config), set: Vec::new() }
    }

    /// Where the fleet lives that runs on this machine, if the settings are those of one: the folder of the settings file.
    pub(crate) fn folder(&self) -> PathBuf {
        let config = self.config.as_deref().unwrap_or(Path::new(SETTINGS_FILE));
        config.parent().unwrap_or(Path::new(".")).to_owned()
    }

    /// Reads the settings: the named file, else that of `orderfleet up`, else the defaults; environment and flags win over
    /// each.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown section or key, or a value that does not fit; the message names it.
    pub(crate) fn resolve(self) -> anyhow::Result<Fleet> {
        self.resolve_at(Path::new(SETTINGS_FILE))
    }

    /// As [`FleetArgs::resolve`], with another file in the place of that of `orderfleet up`.
    ///
    /// # Errors
    /// As [`FleetArgs::resolve`].
    pub(crate) fn resolve_at(self, left_behind: &Path) -> anyhow::Result<Fleet> {
        let config = self.config.or_else(|| left_behind.exists().then(|| left_behind.to_owned()));
        settings::load(&settings::Options { config, set: self.set, ..settings::Options::default() }, SECTIONS)
    }
}

impl Fleet {
    /// Connects to the database.
    ///
    /// # Errors
    /// It does not answer within a few seconds, or cannot be used.
    pub(crate) async fn store(&self) -> anyhow::Result<Store> {
        let connected = Store::connect(&self.database, APP_NAME).await;
        connected.map_err(|error| unusable_database(error).into())
    }

    /// Connects to the broker.
    ///
    /// # Errors
    /// Its topology differs from the declared one, the settings cannot be used, or it refuses us. A broker that is down is
    /// waited for.
    pub(crate) async fn publisher(&self) -> anyhow::Result<Publisher> {
        let topology = self.topology()?;
        // The publisher waits, whatever is wrong with its connection; so what waiting cannot mend is found by trying once.
        match Inspector::connect(&self.broker, topology.clone(), APP_NAME).await {
            Ok(inspector) => inspector.close().await,
            Err(error) if broker_code(&self.broker, &error) == DEPENDENCY_DOWN => {}
            Err(error) => return Err(unusable_broker(&self.broker, &error).into()),
        }
        let connected = Publisher::connect(&self.broker, topology, APP_NAME).await;
        connected.map_err(|error| unusable_broker(&self.broker, &error).into())
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

/// Reads the reason for a change, as it will be recorded.
pub(crate) fn reason(text: &str) -> Result<String, String> {
    let read = orderfleet_operations::log::reason(text);
    read.map(str::to_owned).map_err(|error| format!("{error}: say why in a few words"))
}

fn unusable_database(error: StoreError) -> Failure {
    let lasting = error.is_lasting();
    let error = anyhow::Error::from(error).context("the database cannot be used");
    let next = start_or_name("ORDERFLEET_MONGODB_URI");
    Failure::of_database(&error, &next).unwrap_or_else(|| {
        let code = if lasting { FAILED } else { DEPENDENCY_DOWN };
        Failure { what: format!("{error:#}"), next, code }
    })
}

/// A broker that could not be connected to, with its next step.
pub(crate) fn unusable_broker(settings: &BrokerSettings, error: &ConnectError) -> Failure {
    let code = broker_code(settings, error);
    let next = match (code, error) {
        (NOT_AUTHORISED, _) => BROKER_RIGHTS.to_owned(),
        (FAILED, ConnectError::Topology(_)) => "orderfleet topology plan".to_owned(),
        _ => start_or_name("ORDERFLEET_AMQP_URL"),
    };
    let what = format!("the broker cannot be used: {}", error.told_without_secrets(settings));
    Failure { what, next, code }
}

/// Not authorised, failed for good, or down and perhaps back in a minute.
fn broker_code(settings: &BrokerSettings, error: &ConnectError) -> u8 {
    let may_not_declare = || {
        matches!(error, ConnectError::Topology(_))
            && error.told_without_secrets(settings).contains("ACCESS_REFUSED")
    };
    if error.is_refusal() || may_not_declare() {
        NOT_AUTHORISED
    } else if error.is_transient() && has_address(settings) {
        DEPENDENCY_DOWN
    } else {
        FAILED
    }
}

/// Whether the broker's address is one. To whoever connects, one that is none looks like a broker that is down.
fn has_address(settings: &BrokerSettings) -> bool {
    let from_file = settings.url_file.as_ref().map(std::fs::read_to_string);
    let address = from_file.unwrap_or_else(|| Ok(settings.url.clone()));
    let url = address.ok().and_then(|address| Url::parse(address.trim()).ok());
    url.is_some_and(|url| !url.cannot_be_a_base() && ["amqp", "amqps"].contains(&url.scheme()))
}

fn start_or_name(variable: &str) -> String {
    format!("start a fleet here with `make up`, or name a running one: --config FILE, or {variable}")
}
