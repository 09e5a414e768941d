//! The listener: accepts connections, drops replies that are to be lost, and stops gracefully.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::accounting::Accounting;
use crate::faults::Faults;
use crate::fulfilment::Fulfilment;
use crate::http::{LostReply, router};
use crate::inventory::Inventory;
use crate::ledger::LedgerError;
use crate::options::{FaultsFileError, Options};
use crate::service::{Effects, Service};

/// What is still under way this long after the shutdown began is cut off.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Pause after a failed accept: it mostly means that file descriptors are short, which takes time to pass.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A running sandbox. Dropping it without [`Sandbox::shutdown`] stops it as well, but waits for nothing.
pub struct Sandbox {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Sandbox {
    /// Rebuilds the services from their ledgers, if there are any, and starts to listen.
    ///
    /// # Errors
    /// A wrong rule in the faults file, a data folder that cannot be used (or is in use by another sandbox),
    /// or an address that cannot be listened on.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let faults = Arc::new(Faults::new(options.rules()?, options.seed));
        let data = options.data.as_deref();
        if let Some(folder) = data {
            std::fs::create_dir_all(folder)
                .map_err(|source| StartError::Folder { path: folder.to_owned(), source })?;
        }
        let settings = data.map(|folder| folder.join("stock.jsonl"));
        let router = router(
            open(Inventory::open(options.stock, settings.as_deref())?, data)?,
            open(Fulfilment::default(), data)?,
            open(Accounting::default(), data)?,
            faults,
        );
        let listen = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(listener, router, stopped));
        Ok(Self { address, stop, server })
    }

    /// The address it listens on, with the port that was picked if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, and returns when the calls under way are answered or two seconds have passed.
    pub async fn shutdown(self) {
        // An error means that the server has ended already.
        let _ = self.stop.send(());
        let _ = self.server.await;
    }
}

fn open<E: Effects>(effects: E, data: Option<&Path>) -> Result<Service<E>, LedgerError> {
    let ledger = data.map(|folder| folder.join(format!("{}.jsonl", E::NAME)));
    Service::open(effects, ledger.as_deref())
}

/// Answers requests until it is told to stop, and then for two more seconds at most.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut stopped: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(connection(stream, router.clone(), &graceful))),
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = &mut stopped => break,
        }
    }
    drop(listener);
    // Past the grace the remaining connections are aborted with the set that holds them.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, graceful.shutdown()).await;
    connections.shutdown().await;
}

fn connection(
    stream: TcpStream,
    router: Router,
    graceful: &GracefulShutdown,
) -> impl Future<Output = ()> + use<> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), request));
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    async move {
        if let Err(error) = connection.await {
            debug!(%error, "connection closed");
        }
    }
}

/// An error from here makes hyper close the connection without an answer.
async fn answer(router: Router, request: Request<Incoming>) -> Result<Response, ReplyLost> {
    let response = router.oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
    match response.extensions().get::<LostReply>() {
        Some(LostReply) => Err(ReplyLost),
        None => Ok(response),
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a fault rule loses this reply")]
struct ReplyLost;

/// Why the sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file of fault rules cannot be used.
    #[error("cannot use the fault rules")]
    Faults(#[from] FaultsFileError),
    /// The data folder cannot be created.
    #[error("cannot create the data folder {}", path.display())]
    Folder {
        /// The folder named by `--data`.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A ledger cannot be opened.
    #[error("cannot rebuild the state from the ledgers")]
    Ledger(#[from] LedgerError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address named by `--listen`.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
}
