//! `[database]`: where the order documents are, and how long to wait for them.

use std::{fmt, fs, path::PathBuf};

use orderfleet_domain::Region;
use serde::{Deserialize, Serialize, Serializer};

use crate::{StoreError, uri};

/// `[database]`. Neither `Debug` nor serialisation shows a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// Connection string of a replica set or a sharded cluster. Its write and read concerns are overruled.
    #[serde(serialize_with = "redacted")]
    pub uri: String,
    /// File that holds the connection string; wins over `uri`. Read when connecting; see [`crate::AddressInUse`] for a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri_file: Option<PathBuf>,
    /// Name of the database.
    pub name: String,
    /// Most connections to each server.
    pub pool_size_max: u32,
    /// Longest wait for any one call, in milliseconds. What was asked may still happen afterwards. An order's write that goes alone
    /// after its group was not answered takes up to three times as long.
    pub timeout_ms: u64,
    /// Longest wait of the server for a majority, in milliseconds; below `timeout_ms`, so that the server's word comes first.
    pub write_concern_timeout_ms: u64,
    /// On a sharded cluster, where each region's orders are kept; none: anywhere. Read by `orderfleet shard` alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<ZoneSettings>,
}

/// `[[database.zones]]`: a region and the shards that hold its orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneSettings {
    /// The region, the first part of its orders' ids; also the name of the zone.
    pub region: Region,
    /// Names of shards, as the cluster has them.
    pub shards: Vec<String>,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            uri: "mongodb://127.0.0.1:27017/?replicaSet=rs0".into(),
            uri_file: None,
            name: "orderfleet".into(),
            pool_size_max: 64,
            timeout_ms: 5_000,
            write_concern_timeout_ms: 4_000,
            zones: Vec::new(),
        }
    }
}

impl DatabaseSettings {
    /// The connection string, from its file if there is one.
    pub(crate) fn secret_uri(&self) -> Result<String, StoreError> {
        let Some(path) = &self.uri_file else { return Ok(self.uri.clone()) };
        let text = fs::read_to_string(path)
            .map_err(|source| StoreError::SecretFile { path: path.clone(), source })?;
        Ok(text.trim().to_owned())
    }
}

impl fmt::Debug for DatabaseSettings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DatabaseSettings")
            .field("uri", &uri::redact(&self.uri))
            .field("uri_file", &self.uri_file)
            .field("name", &self.name)
            .field("pool_size_max", &self.pool_size_max)
            .field("timeout_ms", &self.timeout_ms)
            .field("write_concern_timeout_ms", &self.write_concern_timeout_ms)
            .field("zones", &self.zones)
            .finish()
    }
}

fn redacted<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&uri::redact(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let settings = DatabaseSettings {
            uri: "mongodb://fleet:hunter2@db:27017/?replicaSet=rs0".into(),
            ..DatabaseSettings::default()
        };
        let shown = [format!("{settings:?}"), toml::to_string(&settings).unwrap()];
        for text in shown {
            assert!(text.contains("mongodb://fleet:***@db:27017/?replicaSet=rs0"), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_absent_ones_have_defaults() {
        let settings: DatabaseSettings = toml::from_str("name = 'shop'").unwrap();
        assert_eq!(settings, DatabaseSettings { name: "shop".into(), ..DatabaseSettings::default() });
        for wrong in [
            "nam = 'shop'",
            "[[zones]]\nregion = 'EU'\nshards = []",
            "[[zones]]\nregion = 'eu1'\nshard = 'a'",
        ] {
            assert!(toml::from_str::<DatabaseSettings>(wrong).is_err(), "{wrong}");
        }
        let zones = "[[zones]]\nregion = 'eu1'\nshards = ['a', 'b']";
        let zones = toml::from_str::<DatabaseSettings>(zones).unwrap().zones;
        assert_eq!(
            zones[0],
            ZoneSettings { region: "eu1".parse().unwrap(), shards: vec!["a".into(), "b".into()] }
        );
    }

    #[test]
    fn the_file_wins_over_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uri");
        fs::write(&path, "mongodb://elsewhere/\n").unwrap();
        let settings = DatabaseSettings { uri_file: Some(path), ..DatabaseSettings::default() };
        assert_eq!(settings.secret_uri().unwrap(), "mongodb://elsewhere/");
        let missing = DatabaseSettings { uri_file: Some("/nowhere/uri".into()), ..settings };
        assert!(missing.secret_uri().unwrap_err().to_string().contains("/nowhere/uri"));
    }
}
