//! The acceptance log: one JSON line per 202, written before the 202 is sent.
//!
//! It is what an audit balances the fleet's outcomes against. It is not synced to disk: a producer that dies loses at
//! most lines of answers that were not sent either; a machine that dies may lose more, and the orders are still in the
//! broker.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use orderfleet_domain::{AccountId, Fingerprint, OrderId};
use serde::Serialize;
use tokio::{
    fs::OpenOptions,
    io::{AsyncWrite, AsyncWriteExt as _},
    sync::{mpsc, oneshot},
};

/// Lines waiting to be written; each waiting request holds one.
const LINES_MAX: usize = 4_096;
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

type Line = (Vec<u8>, oneshot::Sender<()>);

/// Appends lines in the background, as many at a time as have come in.
#[derive(Debug, Clone)]
pub(crate) struct AcceptanceLog {
    lines: mpsc::Sender<Line>,
}

#[derive(Serialize)]
struct Accepted<'a> {
    time: Timestamp,
    order_id: &'a OrderId,
    fingerprint: &'a Fingerprint,
    account: &'a AccountId,
}

impl AcceptanceLog {
    /// Opens a file for appending, or standard output for `-`.
    pub(crate) async fn open(path: &str) -> std::io::Result<Self> {
        if path == "-" {
            return Ok(Self::to(tokio::io::stdout()));
        }
        if let Some(folder) = Path::new(path).parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        Ok(Self::to(OpenOptions::new().create(true).append(true).open(path).await?))
    }

    fn to(output: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        tokio::spawn(write_lines(output, waiting));
        Self { lines }
    }

    /// Writes a line and waits until the operating system has it. The order is accepted whatever comes of this: the
    /// broker has confirmed. A log that cannot be written is an alarm (`orderfleet_acceptance_log_failed_total`), not an
    /// answer.
    pub(crate) async fn accepted(
        &self,
        time: Timestamp,
        order_id: &OrderId,
        fingerprint: &Fingerprint,
        account: &AccountId,
    ) {
        let mut line =
            serde_json::to_vec(&Accepted { time, order_id, fingerprint, account }).unwrap_or_default();
        line.push(b'\n');
        let (written, confirmed) = oneshot::channel();
        let write = async {
            self.lines.send((line, written)).await.ok()?;
            confirmed.await.ok()
        };
        if !matches!(tokio::time::timeout(WRITE_TIMEOUT, write).await, Ok(Some(()))) {
            metrics::counter!("orderfleet_acceptance_log_failed_total").increment(1);
            tracing::error!(order.id = %order_id, "the acceptance log cannot be written");
        }
    }
}

async fn write_lines(mut output: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Line>) {
    let mut batch = Vec::new();
    let mut torn = false;
    while waiting.recv_many(&mut batch, LINES_MAX).await > 0 {
        // After a failed write the file may end in half a line.
        let separator = if torn { b"\n".as_slice() } else { b"" };
        let lines = batch.iter().flat_map(|(line, _)| line);
        let bytes: Vec<u8> = separator.iter().chain(lines).copied().collect();
        let written = async {
            output.write_all(&bytes).await?;
            output.flush().await
        };
        match written.await {
            Ok(()) => {
                torn = false;
                for (_, written) in batch.drain(..) {
                    let _ = written.send(());
                }
            }
            Err(error) => {
                tracing::error!(%error, "acceptance log");
                torn = true;
                batch.clear();
            }
        }
    }
}
