//! Acceptance logs: what a line says, and how they are opened and read, one after the other, on a thread of their own.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use jiff::Timestamp;
use orderfleet_domain::{AccountId, Fingerprint, OrderId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::reading::Reading;

/// Stands for standard input.
const STANDARD_INPUT: &str = "-";
/// Parts read ahead.
const PARTS_AHEAD: usize = 4;

/// A 202: one line of an acceptance log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Acceptance {
    /// The order.
    pub order_id: OrderId,
    /// The body's fingerprint.
    #[serde(rename = "fingerprint")]
    pub fp: Fingerprint,
    /// Whose order it is.
    pub account: AccountId,
    /// When it was accepted, by the producer's clock.
    #[serde(rename = "time")]
    pub accepted_at: Timestamp,
}

/// A line that is no acceptance: it may have been one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Malformed {
    /// The log.
    pub log: String,
    /// The line's number, from 1.
    pub line: u64,
    /// What is wrong with it, without its text.
    pub why: &'static str,
}

/// What one log holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogSeen {
    /// The log.
    pub log: String,
    /// Its lines, blank and malformed ones included.
    pub lines: u64,
    /// Those of them that are no acceptances.
    pub malformed: u64,
    /// The earliest acceptance.
    pub first: Option<Timestamp>,
    /// The latest one.
    pub last: Option<Timestamp>,
    /// Why nothing was read behind the last line, where that is not the log's end.
    pub broken: Option<String>,
}

/// How far an audit has come. Read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Lines read.
    pub lines: AtomicU64,
    /// Bytes read, of compressed logs as they are stored.
    pub bytes: AtomicU64,
    /// Bytes of all logs, where each is a file.
    pub bytes_total: Option<u64>,
    /// Events published.
    pub published: AtomicU64,
}

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the acceptance log {}", path.display())]
pub struct LogsError {
    /// The log.
    pub path: PathBuf,
    source: io::Error,
}

/// Acceptance logs, opened.
pub struct Logs {
    logs: Vec<(String, Box<dyn Read + Send>)>,
    progress: Arc<Progress>,
}

/// Some lines of a log.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) acceptances: Vec<Acceptance>,
    pub(super) malformed: Vec<Malformed>,
    /// What the log holds, once all of it was read.
    pub(super) ended: Option<LogSeen>,
}

impl Logs {
    /// Opens all of them; `-` is standard input. What is compressed by gzip is seen by its first bytes, not by its name.
    ///
    /// # Errors
    /// One of them cannot be opened.
    pub fn open(paths: &[PathBuf]) -> Result<Self, LogsError> {
        let mut logs = Vec::new();
        let mut bytes_total = Some(0);
        for path in paths {
            let (input, bytes) = open(path).map_err(|source| LogsError { path: path.clone(), source })?;
            bytes_total = bytes_total.zip(bytes).map(|(total, bytes)| total + bytes);
            logs.push((path.display().to_string(), input));
        }
        Ok(Self { logs, progress: Arc::new(Progress { bytes_total, ..Progress::default() }) })
    }

    /// How far they have been read.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Reads them, a little ahead of whoever takes the parts; ends when nobody does any more.
    pub(super) fn read(self) -> mpsc::Receiver<Part> {
        let (parts, taken) = mpsc::channel(PARTS_AHEAD);
        // No task of the runtime, which would wait at its end for a read of standard input.
        thread::spawn(move || {
            for (name, input) in self.logs {
                let counted = Counted { input, progress: Arc::clone(&self.progress) };
                if Reading::new(name, &self.progress, &parts).read(counted).is_none() {
                    break;
                }
            }
        });
        taken
    }
}

fn open(path: &Path) -> io::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if path.as_os_str() == STANDARD_INPUT {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let bytes = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), bytes))
}

/// Counts what is read.
struct Counted {
    input: Box<dyn Read + Send>,
    progress: Arc<Progress>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.input.read(buffer)?;
        self.progress.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}
