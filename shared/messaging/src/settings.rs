//! `[broker]`

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize, Serializer};

/// Most queues for fresh orders.
pub(crate) const PARTITIONS_MAX: u16 = 64;

/// Where RabbitMQ is and how it is used.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrokerSettings {
    /// `amqp://` or `amqps://` address with credentials and virtual host.
    #[serde(serialize_with = "redacted_text")]
    pub url: String,
    /// A file that holds the address instead, for secrets that are mounted; wins over `url`. Read again for every connection that
    /// is made, so that a new password is taken over at the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_file: Option<PathBuf>,
    /// Put in front of every exchange and queue name, so that fleets can share a virtual host.
    pub prefix: String,
    /// Whether to declare exchanges, queues and bindings, and to refuse to start if those that are there differ. Without, it is
    /// only looked whether they are there, which needs no right, and waited until they are: for users who must not configure.
    pub declare: bool,
    /// Queues for fresh orders, 1 to 64.
    pub partitions: u16,
    /// Bytes of fresh orders a partition holds before it rejects more: back-pressure long before the broker's disk is
    /// full. The limit is soft; publishes in flight may pass it.
    pub new_bytes_max: u32,
    /// Longest wait for a publisher confirm, in milliseconds. After it the outcome is unknown.
    pub confirm_timeout_ms: u64,
    /// Publishing connections of a process, 1 to 16; each has up to 64 confirm channels and one I/O thread.
    pub publish_connections: usize,
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self {
            url: "amqp://guest:guest@127.0.0.1:5672/%2f".into(),
            url_file: None,
            prefix: String::new(),
            declare: true,
            partitions: 1,
            new_bytes_max: 1 << 30,
            confirm_timeout_ms: 5_000,
            publish_connections: 2,
        }
    }
}

/// A setting out of its range, or a file that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// Out of range.
    #[error("setting broker.{setting}: {rule}")]
    Range {
        /// Which setting.
        setting: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// The file of `url_file`.
    #[error("setting broker.url_file: cannot read {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl BrokerSettings {
    /// Checks the ranges and returns the address to connect to.
    pub(crate) fn address(&self) -> Result<String, SettingError> {
        let error = |setting, rule| Err(SettingError::Range { setting, rule });
        if !(1..=PARTITIONS_MAX).contains(&self.partitions) {
            return error("partitions", "must be between 1 and 64");
        }
        if !(1..=16).contains(&self.publish_connections) {
            return error("publish_connections", "must be between 1 and 16");
        }
        if self.new_bytes_max == 0 {
            return error("new_bytes_max", "must be above 0");
        }
        if !(1..=60_000).contains(&self.confirm_timeout_ms) {
            return error("confirm_timeout_ms", "must be between 1 and 60000");
        }
        let prefix_ok = self.prefix.len() <= 64
            && self.prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if !prefix_ok {
            return error("prefix", "must have at most 64 characters of a-z, A-Z, 0-9, '.', '_' and '-'");
        }
        let Some(path) = &self.url_file else { return Ok(self.url.clone()) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingError::File { path: path.clone(), source })?;
        Ok(text.trim().to_owned())
    }

    pub(crate) fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_timeout_ms)
    }
}

impl fmt::Debug for BrokerSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("BrokerSettings").field("url", &redacted(&self.url)).finish_non_exhaustive()
    }
}

#[expect(clippy::ptr_arg, reason = "serde hands over a reference to the field")]
fn redacted_text<S: Serializer>(url: &String, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redacted(url))
}

/// The address without its password.
fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "***".into() };
    match rest.rsplit_once('@') {
        Some((credentials, host)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let settings =
            BrokerSettings { url: "amqp://me:s3cr@et@host:1/v".into(), ..BrokerSettings::default() };
        assert!(!format!("{settings:?}").contains("s3cr"));
        assert_eq!(redacted(&settings.url), "amqp://me:***@host:1/v");
        assert_eq!(redacted("no url with s3cret"), "***");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let settings = BrokerSettings { partitions: 0, ..BrokerSettings::default() };
        assert!(settings.address().unwrap_err().to_string().contains("broker.partitions"));
    }
}
