//! RabbitMQ: the topology, confirmed publishing, supervised consuming. The only crate that knows `lapin`.
//!
//! lapin's own recovery stays off: it can hang for good without an error and ignores channel-level closes. Here a lost
//! connection or channel is dropped whole and made anew.

mod acks;
mod batches;
mod channels;
mod connection;
mod consumer;
mod delivery;
mod event;
mod headers;
mod inspection;
mod live;
mod meters;
mod publisher;
mod retry;
mod session;
mod settings;
mod supervisor;
mod topology;
mod trace;

pub use connection::ConnectError;
pub use consumer::{Consumer, Control, Observer, Subscription};
pub use delivery::{Delivery, Source};
pub use headers::Headers;
pub use inspection::{
    Counts, Difference, Found, InspectionError, Inspector, Item, Login, Looked, Peeked, Probe, Refusal,
};
pub use publisher::{Destination, Outgoing, PublishError, Publisher};
pub use retry::Delays;
pub use settings::BrokerSettings;
pub use topology::{Binding, Topology, TopologyError};
