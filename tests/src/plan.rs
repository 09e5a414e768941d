//! What a fleet consists of, and the settings file it runs on.

use std::{fmt::Write as _, path::Path};

/// What a fleet consists of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many producers, each with a memory of its own. Default 1.
    pub producers: usize,
    /// How many workers. Default 1.
    pub workers: usize,
    /// What the workers do. By default all but `park`, so that dead letters stay in their queues.
    pub roles: &'static [&'static str],
    /// Lines of TOML for every step, such as `timeout_ms = 300`.
    pub steps: &'static str,
    /// Another base URL for the step `fulfilment` than the sandbox's.
    pub fulfilment_url: Option<String>,
    /// Another broker than the one all tests share.
    pub amqp_url: Option<String>,
    /// Another database than the one all tests share.
    pub mongodb_uri: Option<String>,
    /// Lines of TOML for `[broker]`, such as `confirm_timeout_ms = 1_000`.
    pub broker: &'static str,
    /// Lines of TOML for `[producer]`, such as `concurrency_max = 8`.
    pub producer: &'static str,
    /// Lines of TOML for `[database]`, such as `timeout_ms = 1_500`.
    pub database: &'static str,
    /// What the services log besides warnings. They say at `info` where they listen.
    pub level: &'static str,
    /// Where the services send their traces. By default nowhere.
    pub otlp_endpoint: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            producers: 1,
            workers: 1,
            roles: &["forward", "compensate", "sweep"],
            steps: "",
            fulfilment_url: None,
            amqp_url: None,
            mongodb_uri: None,
            broker: "",
            producer: "",
            database: "",
            level: "info",
            otlp_endpoint: None,
        }
    }
}

/// Names and addresses that a settings file needs.
pub(crate) struct Surroundings<'a> {
    pub(crate) amqp_url: &'a str,
    pub(crate) mongodb_uri: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) database: &'a str,
    pub(crate) keys_file: &'a Path,
    pub(crate) sandbox_url: &'a str,
}

impl Plan {
    /// Everything that a worker can do.
    pub const ALL_ROLES: &[&str] = &["forward", "compensate", "sweep", "park"];

    /// The settings file. A short lease and frequent sweeps, so that whatever waits for them waits a few seconds only.
    pub(crate) fn settings(&self, around: &Surroundings<'_>) -> String {
        let Surroundings { amqp_url, mongodb_uri, prefix, database, .. } = around;
        let keys_file = around.keys_file.display();
        let (level, roles) = (self.level, self.roles);
        let (broker_lines, producer_lines, database_lines) = (self.broker, self.producer, self.database);
        let otlp_endpoint = self.otlp_endpoint.as_deref().unwrap_or_default();
        let mut text = format!(
            "[broker]\nurl = '{amqp_url}'\nprefix = '{prefix}'\n{broker_lines}\n\
             [database]\nuri = '{mongodb_uri}'\nname = '{database}'\n{database_lines}\n\
             [telemetry]\nformat = 'json'\notlp_endpoint = '{otlp_endpoint}'\n\
             log = 'warn,orderfleet_messaging=info,orderfleet_producer={level},orderfleet_worker={level},orderfleet_query={level}'\n\
             [producer]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nkeys_file = '{keys_file}'\n{producer_lines}\n\
             [worker]\nadmin_listen = '127.0.0.1:0'\nlease_s = 5\nsweep_every_s = 1\nroles = {roles:?}\n\
             [query]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nkeys_file = '{keys_file}'\n"
        );
        for step in crate::SERVICES {
            let in_sandbox = format!("{}/{step}/steps", around.sandbox_url);
            let url = self.fulfilment_url.as_ref().filter(|_| step == "fulfilment").unwrap_or(&in_sandbox);
            let _ = writeln!(text, "[[steps]]\nname = '{step}'\nurl = '{url}'\n{}", self.steps);
        }
        text
    }
}
