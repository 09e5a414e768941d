//! A link: an address to listen on, a target, the fault in force, and what went through so far.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::connection;
use super::evidence::{Evidence, Hits};
use super::fault::Fault;
use super::options::LinkSpec;

/// Further connections wait in the listener's backlog.
const CONNECTIONS_MAX: usize = 1_024;
/// Pause after a failed accept: it mostly means that file descriptors are short, which takes time to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A link of a running proxy.
#[derive(Debug)]
pub struct Link {
    name: String,
    address: SocketAddr,
    target: String,
    setting: watch::Sender<Setting>,
    accepted: AtomicU64,
    live: AtomicU64,
    unreachable: AtomicU64,
    pub(super) bytes_up: AtomicU64,
    pub(super) bytes_down: AtomicU64,
    pub(super) evidence: Evidence,
}

/// What connections must obey at the moment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setting {
    /// Grows whenever a fault is set or healed, and tells one setting of a fault from the next.
    pub(super) number: u64,
    pub(super) fault: Option<Fault>,
    /// How often all live connections were reset by hand.
    pub(super) resets: u64,
}

/// A link as the control API shows it. All counts are since the proxy was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// The name it was given.
    pub name: String,
    /// The address that clients connect to.
    pub listen: SocketAddr,
    /// Host and port that connections are carried to.
    pub target: String,
    /// The fault in force.
    pub fault: Option<Fault>,
    /// Connections of clients.
    pub connections: Connections,
    /// Bytes that went out to the other end.
    pub bytes: Bytes,
    /// What each kind of fault has really hit.
    pub hits: BTreeMap<&'static str, Hits>,
}

/// Connections of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Open now.
    pub live: u64,
    /// Accepted so far.
    pub accepted: u64,
    /// Reset because the target could not be reached.
    pub unreachable: u64,
}

/// Bytes that went out to the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bytes {
    /// From clients to the target.
    pub up: u64,
    /// From the target to clients.
    pub down: u64,
}

impl Link {
    pub(super) fn new(spec: LinkSpec, address: SocketAddr) -> Self {
        Self {
            name: spec.name,
            address,
            target: spec.target,
            setting: watch::Sender::new(Setting::default()),
            accepted: AtomicU64::new(0),
            live: AtomicU64::new(0),
            unreachable: AtomicU64::new(0),
            bytes_up: AtomicU64::new(0),
            bytes_down: AtomicU64::new(0),
            evidence: Evidence::new(),
        }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Host and port that connections are carried to.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Sets the fault, in place of the one in force. Setting the same again begins a new count of
    /// connections. It returns at once; connections obey as soon as they run.
    pub fn set_fault(&self, fault: Fault) {
        self.change(Some(fault));
    }

    /// Ends the fault in force. What a black hole held back passes; broken connections stay broken. Without a
    /// fault it does nothing.
    pub fn heal(&self) {
        self.change(None);
    }

    /// Resets all connections that are live now, once, and leaves the fault as it is.
    pub fn reset(&self) {
        self.setting.send_modify(|setting| setting.resets += 1);
    }

    /// The link and what happened on it so far.
    pub fn status(&self) -> LinkStatus {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LinkStatus {
            name: self.name.clone(),
            listen: self.address,
            target: self.target.clone(),
            fault: self.setting.borrow().fault,
            connections: Connections {
                live: count(&self.live),
                accepted: count(&self.accepted),
                unreachable: count(&self.unreachable),
            },
            bytes: Bytes { up: count(&self.bytes_up), down: count(&self.bytes_down) },
            hits: self.evidence.by_kind(),
        }
    }

    /// Accepts and carries connections. Never returns; dropped, it closes all of them.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((client, _)) => {
                        let counted = Counted::new(Arc::clone(&self));
                        connections.spawn(async move { connection::serve(&counted.link, client).await });
                    }
                    Err(error) => {
                        warn!(link = self.name, %error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Setting> {
        self.setting.subscribe()
    }

    pub(super) fn note_unreachable(&self, problem: &str) {
        self.unreachable.fetch_add(1, Ordering::Relaxed);
        debug!(link = self.name, target = self.target, problem, "cannot reach the target");
    }

    fn change(&self, fault: Option<Fault>) {
        self.setting.send_modify(|setting| {
            setting.number += 1;
            setting.fault = fault;
        });
    }
}

/// Counts a connection as live for as long as it exists.
struct Counted {
    link: Arc<Link>,
}

impl Counted {
    fn new(link: Arc<Link>) -> Self {
        link.accepted.fetch_add(1, Ordering::Relaxed);
        link.live.fetch_add(1, Ordering::Relaxed);
        Self { link }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.link.live.fetch_sub(1, Ordering::Relaxed);
    }
}
