//! A fleet of one test as operators' commands see it: a prefix on a broker, a database, services that answer looks, and the
//! settings that name them.
#![allow(dead_code, reason = "each test program uses its own part")]

pub(crate) mod mongo;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{self, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use orderfleet_domain::saga::StepSettings;
use orderfleet_messaging::{BrokerSettings, Publisher, Topology};
use orderfleet_native::Services;
use orderfleet_storage::{DatabaseSettings, Store};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

/// What an answer of a service to a look at an unknown instance is.
const NONE: &str = r#"{"instance":"x","state":"none"}"#;
/// No command of a test may take longer.
const DEADLINE: Duration = Duration::from_secs(120);

pub(crate) struct Scene {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) broker: BrokerSettings,
    pub(crate) database: DatabaseSettings,
    /// Base URL of the three services: at `/good` they answer, at `/wrong` nothing is there.
    pub(crate) services: SocketAddr,
    /// The last part of their address.
    pub(crate) service: &'static str,
}

impl Scene {
    /// On the broker and the database that all tests share; nothing is declared or prepared yet.
    pub(crate) async fn new() -> Self {
        let services = Services::from_env_or_start().await.unwrap();
        Self::at(services.amqp_url(), services.mongodb_uri()).await
    }

    pub(crate) async fn at(amqp_url: &str, mongodb_uri: &str) -> Self {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let name = format!("cli-{}-{number}", process::id());
        Self {
            folder: tempfile::tempdir().unwrap(),
            broker: BrokerSettings {
                url: amqp_url.to_owned(),
                prefix: format!("{name}."),
                new_bytes_max: 1_000_000,
                ..BrokerSettings::default()
            },
            database: DatabaseSettings {
                uri: mongodb_uri.to_owned(),
                name: name.replace('-', "_"),
                ..DatabaseSettings::default()
            },
            services: open_services().await,
            service: "good",
        }
    }

    pub(crate) fn topology(&self) -> Topology {
        let steps: Vec<_> = StepSettings::defaults().into_iter().map(|step| step.name).collect();
        let BrokerSettings { prefix, partitions, new_bytes_max, .. } = &self.broker;
        Topology::new(prefix, *partitions, *new_bytes_max, &steps)
    }

    /// What the start of the fleet's services leaves: the topology is declared, the collections are there.
    pub(crate) async fn declare(&self) -> Publisher {
        Publisher::connect(&self.broker, self.topology(), "test").await.unwrap()
    }

    pub(crate) async fn prepare(&self) -> Store {
        let store = self.store().await;
        store.prepare().await.unwrap();
        store
    }

    pub(crate) async fn store(&self) -> Store {
        Store::connect(&self.database, "test").await.unwrap()
    }

    /// Runs a command in a folder of its own, told about this fleet by its settings file.
    pub(crate) async fn run(&self, arguments: &str) -> Output {
        tokio::time::timeout(DEADLINE, self.command(arguments).output()).await.expect("in time").unwrap()
    }

    /// As [`Scene::run`], not yet started.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let config = self.write_settings();
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderfleet"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path()).kill_on_drop(true);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ORDERFLEET_") {
                command.env_remove(variable);
            }
        }
        command.env("ORDERFLEET_CONFIG", config).env("ORDERFLEET_OPERATOR", "tester");
        command
    }

    fn write_settings(&self) -> PathBuf {
        let path = self.folder.path().join("orderfleet.toml");
        let BrokerSettings { url, prefix, partitions, new_bytes_max, .. } = &self.broker;
        let DatabaseSettings { uri, name, .. } = &self.database;
        let mut text = format!(
            "[broker]\nurl = {url:?}\nprefix = {prefix:?}\npartitions = {partitions}\nnew_bytes_max = {new_bytes_max}\n\
             [database]\nuri = {uri:?}\nname = {name:?}\n"
        );
        for step in ["inventory", "fulfilment", "accounting"] {
            let url = format!("http://{}/{}/{step}", self.services, self.service);
            text.push_str(&format!("[[steps]]\nname = {step:?}\nurl = {url:?}\ntimeout_ms = 2000\n"));
        }
        std::fs::write(&path, text).unwrap();
        path
    }
}

async fn open_services() -> SocketAddr {
    let routes = Router::new()
        .route("/good/{step}/{instance}", get(async || (StatusCode::OK, NONE)))
        .route("/odd/{step}/{instance}", get(async || (StatusCode::OK, r#"{"state":"done"}"#)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    address
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one JSON value that was printed.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}
