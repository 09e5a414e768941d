//! One HTTP/1.1 connection of a client: as little work as can be, since it shares the processors with what it measures.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Longer than a producer takes for any answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// Opened at its first request, and again after an error.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// To this address.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, sender: None }
    }

    /// Sends a request and reads the whole answer; returns its status.
    ///
    /// # Errors
    /// When there is no complete answer within 15 seconds.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<u16> {
        let sender = self.sender.take();
        let answered = timeout(ANSWER_WITHIN, async {
            let mut sender = match sender.filter(|sender| !sender.is_closed()) {
                Some(sender) => sender,
                None => open(self.address).await?,
            };
            sender.ready().await?;
            let answer = sender.send_request(request).await?;
            let status = answer.status().as_u16();
            answer.into_body().collect().await?;
            anyhow::Ok((sender, status))
        });
        let (sender, status) = answered.await.context("no answer in time")??;
        self.sender = Some(sender);
        Ok(status)
    }
}

async fn open(address: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
