//! A TCP proxy that makes connections fail on request, and counts what each fault has really hit.
//!
//! It carries any number of links, each from an address of its own to one target, and knows nothing of the
//! protocols inside. Everything starts with [`FaultProxy::start`].

mod connection;
mod evidence;
mod fault;
mod http;
mod kept;
mod link;
mod options;
mod pump;
mod run;

pub use evidence::Hits;
pub use fault::{Direction, Fault, FaultError};
pub use link::{Bytes, Connections, Link, LinkStatus};
pub use options::{LinkSpec, LinkSpecError, ProxyOptions};
pub use run::{FaultProxy, ProxyError};
