//! Settings of a MongoDB server and of a set of three.

use std::path::PathBuf;
use std::time::Duration;

/// Settings of a [`Mongo`](super::Mongo).
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// What it is part of. Default a replica set of its own.
    pub role: MongoRole,
    /// A Docker image whose `mongod`, and `mongos`, run in the place of the machine's own. Default none.
    pub image: Option<String>,
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
            role: MongoRole::Alone,
            image: None,
            test_commands: true,
            orphan_grace: Duration::ZERO,
            start_timeout: Duration::from_secs(60),
            log: None,
        }
    }
}

/// What a server is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MongoRole {
    /// A replica set that is no part of a cluster.
    Alone,
    /// A cluster, whose metadata it holds.
    ConfigServer,
    /// A cluster, as the shard of this name.
    Shard(&'static str),
}

impl MongoRole {
    /// The name of its replica set.
    pub(super) fn set_name(self) -> &'static str {
        match self {
            Self::Alone => "rs0",
            Self::ConfigServer => "config",
            Self::Shard(name) => name,
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
