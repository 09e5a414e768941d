//! Starts and stops a proxy: its links and its control API.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::http::{Links, router};
use super::link::Link;
use super::options::{LinkSpec, ProxyOptions};
use crate::server::serve;

/// A running fault proxy. Dropping it closes its links and the connections on them, but waits for nothing.
pub struct FaultProxy {
    control: SocketAddr,
    links: Links,
    running: JoinSet<()>,
    stop_control: oneshot::Sender<()>,
    control_server: JoinHandle<()>,
}

impl FaultProxy {
    /// Opens all links and the control API, or nothing.
    ///
    /// # Errors Two links of one name, a control address that others could reach, or an address that cannot
    /// be listened on.
    pub async fn start(options: ProxyOptions) -> Result<Self, ProxyError> {
        let ProxyOptions { links: specs, control } = options;
        check_names(&specs)?;
        if !control.ip().is_loopback() {
            return Err(ProxyError::Exposed { address: control });
        }
        let mut opened = Vec::with_capacity(specs.len());
        for spec in specs {
            opened.push(open(spec).await?);
        }
        let (listener, control) = listen(control).await?;
        let links: Links = opened.iter().map(|(link, _)| Arc::clone(link)).collect();
        let running = opened.into_iter().map(|(link, listener)| link.run(listener)).collect();
        let (stop_control, stopped) = oneshot::channel();
        let control_server = tokio::spawn(serve(listener, router(Arc::clone(&links)), stopped));
        Ok(Self { control, links, running, stop_control, control_server })
    }

    /// The address of the control API.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// All links, in the order they were given.
    pub fn links(&self) -> &[Arc<Link>] {
        &self.links
    }

    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&Arc<Link>> {
        self.links.iter().find(|link| link.name() == name)
    }

    /// Closes all links and the connections on them, then the control API.
    pub async fn shutdown(mut self) {
        self.running.shutdown().await;
        // An error means that the server has ended already.
        let _ = self.stop_control.send(());
        let _ = self.control_server.await;
    }
}

fn check_names(specs: &[LinkSpec]) -> Result<(), ProxyError> {
    let mut names = BTreeSet::new();
    match specs.iter().find(|spec| !names.insert(&spec.name)) {
        Some(spec) => Err(ProxyError::NameTwice { name: spec.name.clone() }),
        None => Ok(()),
    }
}

async fn open(spec: LinkSpec) -> Result<(Arc<Link>, TcpListener), ProxyError> {
    let (listener, address) = listen(spec.listen).await?;
    Ok((Arc::new(Link::new(spec, address)), listener))
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ProxyError> {
    let could_not_listen = |source| ProxyError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(could_not_listen)?;
    let address = listener.local_addr().map_err(could_not_listen)?;
    Ok((listener, address))
}

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Two links have the same name.
    #[error("there are two links {name}")]
    NameTwice {
        /// The name.
        name: String,
    },
    /// The control API would be within reach of other machines.
    #[error(
        "the control API must listen on the loopback interface, not on {address}: it checks no credentials"
    )]
    Exposed {
        /// The address named by `--control`.
        address: SocketAddr,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address of a link or of the control API.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}
