//! RabbitMQ: the topology, confirmed publishing, supervised consuming. The only crate that knows `lapin`.
//!
//! lapin's own recovery stays off: it can hang for good without an error and ignores channel-level closes. Here a lost
//! connection or channel is dropped whole and made anew.

mod channels;
mod connection;
mod consumer;
mod headers;
mod publisher;
mod retry;
mod settings;
mod topology;

pub use connection::ConnectError;
pub use consumer::{Consumer, Delivery, Observer, Subscription};
pub use headers::Headers;
pub use publisher::{Destination, Outgoing, PublishError, Publisher};
pub use retry::Delays;
pub use settings::BrokerSettings;
pub use topology::{Topology, TopologyError};
