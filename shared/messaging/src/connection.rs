//! Connecting, with a name for operators and a limit on the time it takes.

use std::time::Duration;

use lapin::{Connection, ConnectionProperties, types::LongString, uri::AMQPUri};

use crate::{settings::SettingError, topology::TopologyError};

/// Longest time to connect, and then again to assert the topology. Enough for a link on which each answer takes three
/// seconds; RabbitMQ itself ends a handshake after ten.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection that could not be made, or to a broker whose topology is not ours.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings are wrong; trying again is no use.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The broker's topology differs.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// No connection: address, credentials, or the broker is down.
    #[error("cannot connect to RabbitMQ")]
    Connect(#[source] lapin::Error),
    /// No answer in time.
    #[error("RabbitMQ did not answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    /// No new channel can be opened on a connection that the broker has blocked.
    #[error("the broker has blocked publishing (memory or disk alarm)")]
    Blocked,
    /// There is no connection at the moment; it is being made again.
    #[error("no connection to RabbitMQ: {0}")]
    NoConnection(String),
    /// No channel on a connection that is there.
    #[error("no free channel: {0}")]
    Channel(String),
    /// A pool of channels could not be made.
    #[error("cannot make a pool of channels: {0}")]
    Pool(String),
}

impl ConnectError {
    /// Whether waiting may help: the broker is down or slow. False for wrong settings and a topology that differs.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_)
            | Self::Timeout
            | Self::Blocked
            | Self::NoConnection(_)
            | Self::Channel(_)
            | Self::Pool(_) => true,
            Self::Topology(error) => !error.is_difference(),
            Self::Setting(_) => false,
        }
    }
}

/// Largest frame in bytes, unless the address names another (`?frame_max=`). lapin keeps two buffers of 32 frames for every
/// connection (4.12, `IoLoop::finish_setup`): with the broker's own 128 KiB that would be 8 MiB each time, for orders of a few
/// kilobytes. Larger bodies go in several frames.
const FRAME_MAX: u32 = 16 << 10;

pub(crate) fn properties(name: &str) -> ConnectionProperties {
    ConnectionProperties::default().with_connection_name(LongString::from(name))
}

/// The address with the largest frame that is ours. Its text is kept: written anew by amq-protocol-uri (10.6), an IPv6 address is
/// another one. One that cannot be read stays as it is: whoever connects says what is wrong with it.
pub(crate) fn with_frame_max(address: &str) -> String {
    let named = address.parse::<AMQPUri>().map(|uri| uri.query.frame_max);
    if named != Ok(None) {
        return address.to_owned();
    }
    // A fragment means nothing here.
    let address = address.split('#').next().unwrap_or_default();
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}frame_max={FRAME_MAX}")
}

pub(crate) async fn connect(address: &str, name: &str) -> Result<Connection, ConnectError> {
    let address = with_frame_max(address);
    match tokio::time::timeout(CONNECT_TIMEOUT, Connection::connect(&address, properties(name))).await {
        Ok(connection) => connection.map_err(ConnectError::Connect),
        Err(_) => Err(ConnectError::Timeout),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_small_frames_unless_it_names_others_and_stays_what_it_was() {
        for (address, wanted) in [
            ("amqp://us%40er:p%2Fss@host:5673/%2fv", "amqp://us%40er:p%2Fss@host:5673/%2fv?frame_max=16384"),
            ("amqp://host", "amqp://host?frame_max=16384"),
            ("amqp://u:p@%3A%3A1:5672/v", "amqp://u:p@%3A%3A1:5672/v?frame_max=16384"),
            ("amqps://u:p@host:1/v?heartbeat=9", "amqps://u:p@host:1/v?heartbeat=9&frame_max=16384"),
            ("amqp://u:p@host:1/v?frame_max=8192", "amqp://u:p@host:1/v?frame_max=8192"),
            ("no address", "no address"),
        ] {
            let given = with_frame_max(address);
            assert_eq!(given, wanted);
            let parsed = |text: &str| text.parse::<AMQPUri>().map(|uri| (uri.authority, uri.vhost)).ok();
            assert_eq!(parsed(&given), parsed(address));
        }
    }
}
