//! Settings of a MongoDB server and of a set of three.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Mongo`](super::Mongo).
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// Allows fault injection by the `configureFailPoint` command. Default true.
    pub test_commands: bool,
    /// See [`Launch::orphan_grace`](crate::Launch::orphan_grace). Default zero.
    pub orphan_grace: Duration,
    /// How long it may take until it is a writable primary. Default 60 s.
    pub start_timeout: Duration,
    /// Where its output goes. Default `mongod.log` in its folder.
    pub log: Option<PathBuf>,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            test_commands: true,
            orphan_grace: Duration::ZERO,
            start_timeout: Duration::from_secs(60),
            log: None,
        }
    }
}

/// Settings of a [`MongoSet`](super::MongoSet).
#[derive(Debug, Clone)]
pub struct MongoSetOptions {
    /// How long the members wait for a silent primary before they elect another. MongoDB's default is 10 s.
    /// Default 2 s.
    pub election_timeout: Duration,
    /// How long anything may take that is waited for: a start, a new primary, a member's return. Default 60 s.
    pub patience: Duration,
    /// See [`Launch::orphan_grace`](crate::Launch::orphan_grace). Default zero.
    pub orphan_grace: Duration,
}

impl Default for MongoSetOptions {
    fn default() -> Self {
        Self {
            election_timeout: Duration::from_secs(2),
            patience: Duration::from_secs(60),
            orphan_grace: Duration::ZERO,
        }
    }
}

impl MongoSetOptions {
    /// For each member.
    pub(super) fn for_one(&self) -> MongoOptions {
        MongoOptions {
            orphan_grace: self.orphan_grace,
            start_timeout: self.patience,
            ..MongoOptions::default()
        }
    }
}
