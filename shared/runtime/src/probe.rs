//! Asking a process how it is: for images that hold no shell and no HTTP client.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for the whole answer; health checks are repeated anyway.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// An answer is a line per part.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// Does it make progress? If not, restart it.
    Alive,
    /// Is all that it needs there?
    Ready,
}

impl Probe {
    /// Where the answer is, on the admin port and on public ports.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Alive => "/healthz",
            Self::Ready => "/readyz",
        }
    }
}

/// Asks the process on this machine that listens at this address; one that listens everywhere is asked on the loopback.
///
/// # Errors
/// Nobody answers within three seconds, or the answer is another than 200; the message holds it.
pub async fn ask(listen: SocketAddr, path: &str) -> anyhow::Result<()> {
    let address = if listen.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), listen.port())
    } else {
        listen
    };
    let answer = timeout(ANSWER_TIMEOUT, get(address, path))
        .await
        .with_context(|| format!("http://{address}{path}: no answer within {} s", ANSWER_TIMEOUT.as_secs()))?
        .with_context(|| format!("http://{address}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    if status.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    bail!("http://{address}{path}: {status}: {}", body.trim())
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        admin::{Health, public_health_routes},
        http,
    };

    #[tokio::test]
    async fn a_process_that_is_alive_and_not_ready_says_so() {
        let health = Health::new(&["broker"]);
        let listener = http::bind("test", ([0, 0, 0, 0], 0).into()).unwrap();
        let listen = listener.local_addr().unwrap();
        tokio::spawn(http::serve(listener, public_health_routes(&health), CancellationToken::new()));
        ask(listen, Probe::Alive.path()).await.unwrap();
        let error = ask(listen, Probe::Ready.path()).await.unwrap_err().to_string();
        assert!(error.contains("503"), "{error}");
        health.ready("broker");
        ask(listen, Probe::Ready.path()).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_at_an_address_is_no_health() {
        let listener = http::bind("test", ([127, 0, 0, 1], 0).into()).unwrap();
        let listen = listener.local_addr().unwrap();
        drop(listener);
        let error = ask(listen, Probe::Alive.path()).await.unwrap_err().to_string();
        assert!(error.contains(&listen.to_string()), "{error}");
    }
}
