//! What can go wrong with the database, apart from what the saga core decides by.

use std::{path::PathBuf, time::Duration};

use orderfleet_domain::OrderId;

use crate::failure::{BadDocument, Failure};

/// A database that cannot be used, or a call that failed. No text in it, sources included, repeats a document.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file with the connection string cannot be read.
    #[error("cannot read the connection string from {path} (setting database.uri_file)")]
    SecretFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection string is none. The message holds no credentials.
    #[error("setting database.uri: {0}")]
    Uri(String),
    /// No primary answered in time.
    #[error("no MongoDB primary answers at {uri}")]
    Unreachable {
        /// The connection string, redacted.
        uri: String,
        /// Why.
        source: Failure,
    },
    /// The server is no member of a replica set: it has neither majority writes nor linearizable reads.
    #[error(
        "the MongoDB server at {uri} is a standalone; orderfleet needs a replica set (one member is enough: start mongod \
         with --replSet rs0 and run rs.initiate()) or a sharded cluster"
    )]
    Standalone {
        /// The connection string, redacted.
        uri: String,
    },
    /// The server is older than 6.0.
    #[error(
        "MongoDB 6.0 or newer is needed; the server at {uri} speaks wire version {wire_version}, below 17"
    )]
    TooOld {
        /// The connection string, redacted.
        uri: String,
        /// The newest wire version the server speaks.
        wire_version: i32,
    },
    /// A call had no answer in its time. It may still take effect.
    #[error("the database did not answer within {} ms: {operation}", after.as_millis())]
    Timeout {
        /// What was asked.
        operation: &'static str,
        /// How long it was waited for.
        after: Duration,
    },
    /// A call was answered with an error, or not at all.
    #[error("the database could not do: {operation}")]
    Call {
        /// What was asked.
        operation: &'static str,
        /// Why.
        source: Failure,
    },
    /// A document that this build cannot read.
    #[error("the document of order {order_id} cannot be read")]
    Unreadable {
        /// The order.
        order_id: OrderId,
        /// Why.
        source: BadDocument,
    },
    /// A document of another collection than that of the orders, which this build cannot read or write.
    #[error("a document of the collection {collection} cannot be read or written")]
    Malformed {
        /// The collection.
        collection: &'static str,
        /// Why.
        source: BadDocument,
    },
}

impl StoreError {
    /// Whether waiting cannot help: the settings or the server have to be changed first.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        matches!(self, Self::SecretFile { .. } | Self::Uri(_) | Self::Standalone { .. } | Self::TooOld { .. })
    }

    /// Whether the database is there and does not let this user in, or not do this.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } | Self::Call { source, .. } if source.is_refusal())
    }

    /// Whether the database did not answer, or failed: the same call may succeed later.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        let has_failed = matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::Call { .. });
        has_failed && !self.is_refusal()
    }
}
