//! Whether `database.uri_file` holds another connection string by now. The driver keeps the password that it was given.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::DatabaseSettings;

/// The connection string at the moment before connecting, as a hash, to be compared with the file of later.
#[derive(Debug, Clone)]
pub struct AddressInUse {
    settings: DatabaseSettings,
    stamp: Option<u64>,
}

impl AddressInUse {
    /// To be called just before [`crate::Store::connect`].
    #[must_use]
    pub fn now(settings: &DatabaseSettings) -> Self {
        Self { settings: settings.clone(), stamp: stamp(settings) }
    }

    /// Whether the file holds another connection string; false while it cannot be read. Reads the file.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        stamp(&self.settings).is_some_and(|now| Some(now) != self.stamp)
    }
}

fn stamp(settings: &DatabaseSettings) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    settings.secret_uri().ok()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_connection_string_outdates_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("uri");
        std::fs::write(&path, "mongodb://fleet:one@db/\n").unwrap();
        let address = AddressInUse::now(&DatabaseSettings {
            uri_file: Some(path.clone()),
            ..DatabaseSettings::default()
        });
        std::fs::write(&path, "mongodb://fleet:one@db/").unwrap();
        assert!(!address.is_outdated());
        std::fs::remove_file(&path).unwrap();
        assert!(!address.is_outdated());
        std::fs::write(&path, "mongodb://fleet:two@db/").unwrap();
        assert!(address.is_outdated());
        assert!(!AddressInUse::now(&DatabaseSettings::default()).is_outdated());
    }
}
