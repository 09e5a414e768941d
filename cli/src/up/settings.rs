//! What `orderfleet up` writes for others: the settings of the fleet's processes, and where the fleet is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context as _;
use orderfleet_native::Ports;
use serde::Serialize;

use super::folder::{self, Folder};

/// The steps of an order and the path under which the sandbox plays each.
const STEPS: [&str; 3] = ["inventory", "fulfilment", "accounting"];
const HEADER: &str = "# Written by `orderfleet up` at every start: changes do not last.\n\n";

/// The broker and the database in use.
pub(super) struct Services {
    pub(super) amqp_url: String,
    pub(super) mongodb_uri: String,
    /// `rabbitmqctl` for a broker of our own.
    pub(super) rabbitmqctl: Option<PathBuf>,
}

/// Where the fleet's processes listen, the same over restarts as long as nobody else takes the ports.
pub(super) struct Places {
    pub(super) sandbox: SocketAddr,
    pub(super) producer: SocketAddr,
    pub(super) producer_admin: SocketAddr,
    pub(super) query: SocketAddr,
    pub(super) query_admin: SocketAddr,
}

impl Places {
    pub(super) fn choose(folder: &Folder) -> anyhow::Result<Self> {
        Ok(Self {
            sandbox: place(folder, "sandbox")?,
            producer: place(folder, "producer")?,
            producer_admin: place(folder, "producer-admin")?,
            query: place(folder, "query")?,
            query_admin: place(folder, "query-admin")?,
        })
    }
}

/// An address for `name`, remembered in the folder.
pub(super) fn place(folder: &Folder, name: &str) -> anyhow::Result<SocketAddr> {
    let port = Ports::open(&folder.path("ports"))?.take(name)?;
    Ok((Ipv4Addr::LOCALHOST, port).into())
}

pub(super) fn url(place: SocketAddr) -> String {
    format!("http://{place}")
}

/// The fleet's settings file; the processes check the keys.
pub(super) fn toml(folder: &Folder, services: &Services, places: &Places) -> anyhow::Result<String> {
    let keys_file = folder.path(folder::KEYS);
    let settings = Settings {
        broker: Broker { url: &services.amqp_url },
        database: Database { uri: &services.mongodb_uri },
        producer: Producer {
            listen: places.producer,
            admin_listen: places.producer_admin,
            keys_file: keys_file.clone(),
            acceptance_log: folder.path("acceptance.log"),
            order_url: url(places.query),
        },
        query: Query { listen: places.query, admin_listen: places.query_admin, keys_file },
        steps: STEPS.map(|name| Step { name, url: format!("{}/{name}/steps", url(places.sandbox)) }),
    };
    Ok(HEADER.to_owned() + &toml::to_string(&settings).context("settings as TOML")?)
}

/// What other commands need to find the running fleet.
#[derive(Serialize)]
pub(super) struct Endpoints {
    pub(super) producer_url: String,
    pub(super) query_url: String,
    pub(super) sandbox_url: String,
    /// Where producer and query serve `/healthz`, `/readyz` and `/metrics`; the workers' are in the folder's `ports`.
    pub(super) producer_admin_url: String,
    pub(super) query_admin_url: String,
    pub(super) api_key_file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rabbitmqctl: Option<PathBuf>,
}

impl Endpoints {
    pub(super) fn new(folder: &Folder, services: &Services, places: &Places) -> Self {
        Self {
            producer_url: url(places.producer),
            query_url: url(places.query),
            sandbox_url: url(places.sandbox),
            producer_admin_url: url(places.producer_admin),
            query_admin_url: url(places.query_admin),
            api_key_file: folder.path(folder::DEMO_KEY),
            rabbitmqctl: services.rabbitmqctl.clone(),
        }
    }
}

#[derive(Serialize)]
struct Settings<'a> {
    broker: Broker<'a>,
    database: Database<'a>,
    producer: Producer,
    query: Query,
    steps: [Step; 3],
}

#[derive(Serialize)]
struct Broker<'a> {
    url: &'a str,
}

#[derive(Serialize)]
struct Database<'a> {
    uri: &'a str,
}

#[derive(Serialize)]
struct Producer {
    listen: SocketAddr,
    admin_listen: SocketAddr,
    keys_file: PathBuf,
    acceptance_log: PathBuf,
    order_url: String,
}

#[derive(Serialize)]
struct Query {
    listen: SocketAddr,
    admin_listen: SocketAddr,
    keys_file: PathBuf,
}

#[derive(Serialize)]
struct Step {
    name: &'static str,
    url: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_file_has_the_steps_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let services =
            Services { amqp_url: "amqp://a".into(), mongodb_uri: "mongodb://m".into(), rabbitmqctl: None };
        let places = Places::choose(&folder).unwrap();
        let text = toml(&folder, &services, &places).unwrap();
        let settings: ::toml::Table = text.parse().unwrap();
        let steps: Vec<_> =
            settings["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str()).collect();
        assert_eq!(steps, STEPS.map(Some));
        assert_eq!(settings["broker"]["url"].as_str(), Some("amqp://a"));
        assert_eq!(settings["producer"]["order_url"].as_str(), Some(url(places.query).as_str()));
    }
}
