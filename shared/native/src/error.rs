//! What can go wrong with a server process, told so that the reader knows the next step.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::logs::last_lines;

const LOG_LINES_SHOWN: usize = 12;

/// Why a server could not be started, reached or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error("{program} was not found ({looked_at}); {way_out}")]
    NotFound {
        /// The program that is missing.
        program: &'static str,
        /// Where it was looked for.
        looked_at: String,
        /// What to do about it.
        way_out: &'static str,
    },
    /// The operating system refused something.
    #[error("could not {attempt}")]
    Io {
        /// What was attempted, as a verb phrase.
        attempt: String,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Another process runs a server on this folder's data.
    #[error("{} is in use by a running server; stop that one first", dir.display())]
    InUse {
        /// The folder whose lock is held.
        dir: PathBuf,
    },
    /// The server ended before it was ready.
    #[error("{name} ended while starting ({status}); the last lines of {}:\n{tail}", log.display())]
    Ended {
        /// Which server.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Where its output went.
        log: PathBuf,
        /// The last lines of that output.
        tail: String,
    },
    /// The server runs, but was not ready in time. It is stopped when the error is returned.
    #[error(
        "{name} was not ready within {} s ({reason}); the last lines of {}:\n{tail}",
        within.as_secs(), log.display()
    )]
    NotReady {
        /// Which server.
        name: String,
        /// How long it was given.
        within: Duration,
        /// What the last look at it said.
        reason: String,
        /// Where its output went.
        log: PathBuf,
        /// The last lines of that output.
        tail: String,
    },
    /// What was waited for did not come in time. Nothing was stopped.
    #[error("waited {:.1} s in vain for {awaited} ({reason})", within.as_secs_f32())]
    Late {
        /// What was waited for.
        awaited: String,
        /// How long.
        within: Duration,
        /// What the last look said.
        reason: String,
    },
    /// A server refused an administrative command, or could not be asked.
    #[error("could not {attempt}: {reason}")]
    Refused {
        /// What was attempted, as a verb phrase.
        attempt: &'static str,
        /// What the server answered.
        reason: String,
    },
    /// A management command failed.
    #[error("{command} failed ({status}): {stderr}")]
    Command {
        /// The command with its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed on its error output.
        stderr: String,
    },
}

impl Error {
    /// Whether a server ended because somebody had taken its port between our look and its start; even another look, from
    /// another process, holds a port for a moment. A new start is a new look.
    pub(crate) fn is_port_taken(&self) -> bool {
        let Self::Ended { log, .. } = self else { return false };
        let text = std::fs::read_to_string(log).unwrap_or_default();
        text.contains("eaddrinuse") || text.contains("Address already in use")
    }

    pub(crate) fn io(attempt: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { attempt: attempt.into(), source }
    }

    pub(crate) fn ended(name: &str, status: ExitStatus, log: &Path) -> Self {
        let tail = last_lines(log, LOG_LINES_SHOWN);
        Self::Ended { name: name.to_owned(), status, log: log.to_owned(), tail }
    }

    pub(crate) fn not_ready(name: &str, within: Duration, reason: String, log: &Path) -> Self {
        let tail = last_lines(log, LOG_LINES_SHOWN);
        Self::NotReady { name: name.to_owned(), within, reason, log: log.to_owned(), tail }
    }
}
