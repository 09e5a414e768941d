//! The acceptance log: one JSON line per 202, written before the 202 is sent.
//!
//! It is what an audit balances the fleet's outcomes against. It is not synced to disk: a producer that dies loses at
//! most lines of answers that were not sent either; a machine that dies may lose more, and the orders are still in the
//! broker.

use std::{io::SeekFrom, path::Path, time::Duration};

use jiff::Timestamp;
use metrics::Gauge;
use orderfleet_domain::{AccountId, Fingerprint, OrderId};
use orderfleet_runtime::meters::Counted;
use serde::Serialize;
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _},
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
    waiting: Gauge,
}

#[derive(Serialize)]
struct Accepted<'a> {
    time: Timestamp,
    order_id: &'a OrderId,
    fingerprint: &'a Fingerprint,
    account: &'a AccountId,
}

impl AcceptanceLog {
    /// Opens a file for appending, or standard output for `-`. Half a line that a crash or a full disk has left at the end of
    /// the file is ended before the first line.
    pub(crate) async fn open(path: &str) -> std::io::Result<Self> {
        if path == "-" {
            return Ok(Self::to(tokio::io::stdout(), false));
        }
        if let Some(folder) = Path::new(path).parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).await?;
        let torn = file.metadata().await?.is_file() && is_torn(path).await;
        Ok(Self::to(file, torn))
    }

    fn to(output: impl AsyncWrite + Send + Unpin + 'static, torn: bool) -> Self {
        let (lines, waiting) = mpsc::channel(LINES_MAX);
        tokio::spawn(write_lines(output, waiting, torn));
        Self { lines, waiting: metrics::gauge!("orderfleet_acceptance_log_waiting") }
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
        let ((written, confirmed), _waiting) = (oneshot::channel(), Counted::new(&self.waiting));
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

/// Whether a file ends in half a line. One that may be written but not read is taken for torn: whoever reads the log skips
/// empty lines.
async fn is_torn(path: &str) -> bool {
    let last = async {
        let mut file = File::open(path).await?;
        if file.metadata().await?.len() == 0 {
            return Ok(b'\n');
        }
        file.seek(SeekFrom::End(-1)).await?;
        file.read_u8().await
    };
    last.await.map_or(true, |byte: u8| byte != b'\n')
}

async fn write_lines(mut output: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Line>, mut torn: bool) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, LINES_MAX).await > 0 {
        // A failed write, too, may have left half a line.
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

#[cfg(test)]
mod tests {
    use super::*;

    async fn accept_one(path: &str) {
        let id = OrderId::derive(&"eu1".parse().unwrap(), &"demo".parse().unwrap(), &"key".parse().unwrap());
        let fingerprint = "0".repeat(66).parse().unwrap();
        let log = AcceptanceLog::open(path).await.unwrap();
        log.accepted(Timestamp::UNIX_EPOCH, &id, &fingerprint, &"demo".parse().unwrap()).await;
    }

    #[tokio::test]
    async fn a_line_after_half_a_line_of_the_producer_before_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("acceptance.log");
        let name = path.to_str().unwrap();
        std::fs::write(&path, "{\"time\":\"20").unwrap();
        for _ in 0..2 {
            accept_one(name).await;
        }
        let written = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert_eq!(lines.len(), 3, "no empty line where nothing was torn: {written}");
        assert!(
            lines[1..].iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
            "{written}"
        );
    }

    #[tokio::test]
    async fn a_new_log_begins_with_its_first_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("acceptance.log");
        accept_one(path.to_str().unwrap()).await;
        assert!(std::fs::read_to_string(&path).unwrap().starts_with('{'));
    }
}
