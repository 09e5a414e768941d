//! Where to send and with which key: flag, else environment, else what `orderfleet up` left behind.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::exit::Failure;

/// Written by `orderfleet up` in the folder it runs in.
const ENDPOINTS_FILE: &str = ".orderfleet/endpoints.json";
const START_A_FLEET: &str = "start a fleet here with `make up`, or name a running one";

/// The flags that say where the fleet is.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Where to send (default: the fleet of ./.orderfleet/endpoints.json)")]
pub(crate) struct EndpointArgs {
    /// Base URL of the producer
    #[arg(long, value_name = "URL", env = "ORDERFLEET_PRODUCER_URL", hide_env_values = true)]
    producer_url: Option<String>,
    /// Base URL of the query API
    #[arg(long, value_name = "URL", env = "ORDERFLEET_QUERY_URL", hide_env_values = true)]
    query_url: Option<String>,
    /// File holding the API key [env: ORDERFLEET_API_KEY (the key itself), ORDERFLEET_API_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
}

/// What `orderfleet up` writes; it may hold more.
#[derive(Debug, Default, Deserialize)]
struct Endpoints {
    producer_url: Option<String>,
    query_url: Option<String>,
    api_key_file: Option<PathBuf>,
}

/// A fleet as a client sees it.
pub(crate) struct Fleet {
    pub(crate) producer_url: String,
    pub(crate) query_url: Option<String>,
    pub(crate) api_key: String,
}

impl EndpointArgs {
    /// Finds the fleet.
    ///
    /// # Errors
    /// When neither flag, environment nor file names the producer or a key, or a file cannot be read.
    pub(crate) fn resolve(self) -> anyhow::Result<Fleet> {
        let found = read_endpoints(Path::new(ENDPOINTS_FILE))?;
        let producer_url = given(self.producer_url).or(found.producer_url).ok_or_else(|| {
            let what = format!(
                "no fleet to send to: no --producer-url, no ORDERFLEET_PRODUCER_URL and no ./{ENDPOINTS_FILE}"
            );
            Failure::new(what, format!("{START_A_FLEET}: --producer-url http://HOST:PORT"))
        })?;
        Ok(Fleet {
            producer_url,
            query_url: given(self.query_url).or(found.query_url),
            api_key: api_key(self.api_key_file, found.api_key_file)?,
        })
    }
}

impl Fleet {
    /// The query API's URL.
    ///
    /// # Errors
    /// When nothing names it.
    pub(crate) fn query_url(&self) -> anyhow::Result<&str> {
        let what = "no query API to ask: no --query-url, no ORDERFLEET_QUERY_URL and none in ./";
        self.query_url.as_deref().ok_or_else(|| {
            let what = format!("{what}{ENDPOINTS_FILE}");
            Failure::new(what, format!("{START_A_FLEET}: --query-url http://HOST:PORT")).into()
        })
    }
}

fn read_endpoints(path: &Path) -> anyhow::Result<Endpoints> {
    match std::fs::read(path) {
        Ok(json) => {
            serde_json::from_slice(&json).with_context(|| format!("{} is not as expected", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Endpoints::default()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn api_key(flag: Option<PathBuf>, found: Option<PathBuf>) -> anyhow::Result<String> {
    if flag.is_none()
        && let Some(key) = given(std::env::var("ORDERFLEET_API_KEY").ok())
    {
        return Ok(key.trim().to_owned());
    }
    let named = || given(std::env::var("ORDERFLEET_API_KEY_FILE").ok()).map(PathBuf::from);
    let file = flag.or_else(named).or(found).ok_or_else(|| {
        let next = "set ORDERFLEET_API_KEY, or make a key: orderfleet keys new --account NAME --region eu1";
        Failure::new("no API key: no --api-key-file, no ORDERFLEET_API_KEY, no ORDERFLEET_API_KEY_FILE", next)
    })?;
    let key = std::fs::read_to_string(&file)
        .with_context(|| format!("reading the API key from {}", file.display()))?;
    Ok(key.trim().to_owned())
}

/// An empty variable means the same as none.
fn given(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.trim().is_empty())
}
