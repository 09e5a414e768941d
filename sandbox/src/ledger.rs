//! The append-only ledger of a service: one JSON line per call, in memory and, if wanted, in a file.
//!
//! In memory it grows without bound on purpose: it is the evidence.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::warn;

/// All lines so far, and the file they are kept in.
#[derive(Default)]
pub(crate) struct Ledger {
    lines: Vec<Box<str>>,
    file: Option<LinesFile>,
}

impl Ledger {
    /// Opens or creates the file and reads back the records in it.
    pub(crate) fn open<R: DeserializeOwned>(path: &Path) -> Result<(Self, Vec<R>), LedgerError> {
        let (file, lines) = LinesFile::open(path)?;
        let records = parse_lines(path, &lines)?;
        Ok((Self { lines, file: Some(file) }, records))
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Checks on rebuilding that no record is missing; without all of them the state would be wrong.
    pub(crate) fn check_seq(&self, position: usize, seq: usize) -> Result<(), LedgerError> {
        match &self.file {
            Some(file) if seq != position + 1 => {
                Err(LedgerError::Gap { path: file.path.clone(), line: position + 1, seq })
            }
            _ => Ok(()),
        }
    }

    /// Adds a record; when this returns, it survives a crash of the process (not of the machine).
    /// After an error nothing was added, and nothing will be until the file is opened anew.
    pub(crate) fn append(&mut self, record: &impl Serialize) -> Result<(), LedgerError> {
        let line = to_line(record)?;
        if let Some(file) = &mut self.file {
            file.append(&line)?;
        }
        self.lines.push(line);
        Ok(())
    }

    /// The lines at these positions, each ended by a newline, or only those of one order.
    pub(crate) fn text(&self, range: Range<usize>, order_id: Option<&str>) -> String {
        // Quotes inside of values are escaped, so this text stands nowhere but at the field itself.
        let field = order_id.map(|id| format!("\"order_id\":\"{id}\""));
        let is_wanted = |line: &&str| field.as_deref().is_none_or(|field| line.contains(field));
        self.lines[range].iter().map(|line| &**line).filter(is_wanted).collect()
    }
}

/// A file of JSON lines that only grows, open in one process at a time.
pub(crate) struct LinesFile {
    path: PathBuf,
    file: File,
    /// After a failed write the file may end in half a line, and a further line would be glued to it.
    failed: bool,
}

impl LinesFile {
    /// Opens or creates the file; a last line without an end, torn by a crash, is cut off with a warning.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<Box<str>>), LedgerError> {
        let in_use = |error| match error {
            TryLockError::WouldBlock => LedgerError::InUse { path: path.to_owned() },
            TryLockError::Error(source) => LedgerError::Open { path: path.to_owned(), source },
        };
        let could_not_open = |source| LedgerError::Open { path: path.to_owned(), source };
        let file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(could_not_open)?;
        file.try_lock().map_err(in_use)?;
        let lines = read_whole_lines(path, &file).map_err(could_not_open)?;
        Ok((Self { path: path.to_owned(), file, failed: false }, lines))
    }

    /// Appends one line in a single write, without a buffer: what a buffer keeps after a failed write
    /// would reach the file later, as the record of an effect that never was.
    pub(crate) fn append(&mut self, line: &str) -> Result<(), LedgerError> {
        if self.failed {
            return Err(LedgerError::Failed { path: self.path.clone() });
        }
        self.file.write_all(line.as_bytes()).map_err(|source| {
            self.failed = true;
            LedgerError::Append { path: self.path.clone(), source }
        })
    }
}

impl Drop for LinesFile {
    /// Closing the file would not do: a process that is just being started holds a copy of it until it runs.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// A record as one line of JSON, its newline included.
pub(crate) fn to_line(record: &impl Serialize) -> Result<Box<str>, LedgerError> {
    let mut line = serde_json::to_string(record).map_err(|source| LedgerError::Encode { source })?;
    line.push('\n');
    Ok(line.into_boxed_str())
}

/// Parses the lines of a file; an error names the line.
pub(crate) fn parse_lines<R: DeserializeOwned>(
    path: &Path,
    lines: &[Box<str>],
) -> Result<Vec<R>, LedgerError> {
    let parse = |(position, line)| {
        serde_json::from_str(line).map_err(|source| LedgerError::Parse {
            path: path.to_owned(),
            line: position + 1,
            source,
        })
    };
    lines.iter().map(|line| &**line).enumerate().map(parse).collect()
}

fn read_whole_lines(path: &Path, mut file: &File) -> io::Result<Vec<Box<str>>> {
    let mut lines = Vec::new();
    let mut whole_bytes = 0;
    let mut reader = BufReader::new(file);
    file.rewind()?;
    loop {
        let mut line = Vec::new();
        let bytes = reader.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            if bytes > 0 {
                warn!(path = %path.display(), bytes, "cutting off the torn last line of the ledger");
                file.set_len(whole_bytes)?;
            }
            return Ok(lines);
        }
        whole_bytes += bytes as u64;
        let text =
            String::from_utf8(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        lines.push(text.into_boxed_str());
    }
}

/// Why a ledger could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The file cannot be opened or read.
    #[error("cannot open the ledger {}", path.display())]
    Open {
        /// The ledger's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has the file open.
    #[error("the ledger {} is in use by another sandbox", path.display())]
    InUse {
        /// The ledger's file.
        path: PathBuf,
    },
    /// A line in the middle of the file is no record.
    #[error("line {line} of the ledger {} is no record", path.display())]
    Parse {
        /// The ledger's file.
        path: PathBuf,
        /// Its line, counted from one.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Records are missing, or stand in another order than they were written in.
    #[error("line {line} of the ledger {} has seq {seq}", path.display())]
    Gap {
        /// The ledger's file.
        path: PathBuf,
        /// Its line, counted from one, which is what `seq` should be.
        line: usize,
        /// The record's sequence number.
        seq: usize,
    },
    /// A record cannot be written as JSON.
    #[error("cannot encode a ledger record")]
    Encode {
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record could not be written to the file.
    #[error("cannot append to the ledger {}", path.display())]
    Append {
        /// The ledger's file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// An earlier write failed, so the file takes no more until the sandbox is started again.
    #[error("the ledger {} takes no more records since a write to it failed", path.display())]
    Failed {
        /// The ledger's file.
        path: PathBuf,
    },
}
