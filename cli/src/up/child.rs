//! One running part of the fleet: the broker, the database, or a process of our own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::Context as _;
use orderfleet_native::{Error, Launch, Mongo, Process, RabbitMq, STDERR};

use super::folder::Folder;

/// Time to finish the work in hand at a stop, before SIGKILL.
pub(super) const DRAIN_GRACE: Duration = Duration::from_secs(20);

pub(super) enum Child {
    Broker(Box<RabbitMq>),
    Database(Box<Mongo>),
    Own(Box<Own>),
}

/// A process of our own.
pub(super) struct Own {
    name: String,
    command: Command,
    /// `None`: its output goes where ours goes.
    log: Option<PathBuf>,
    /// Shared with each process that is started from here; see [`Folder`].
    lock: std::fs::File,
    process: Process,
}

impl Own {
    pub(super) fn start(name: &str, command: Command, folder: &Folder) -> anyhow::Result<Self> {
        Self::start_with(name, command, folder, Some(folder.log(name)))
    }

    /// With its output where ours goes: whoever keeps ours rotates it and tells which process it is from.
    pub(super) fn start_loud(name: &str, command: Command, folder: &Folder) -> anyhow::Result<Self> {
        Self::start_with(name, command, folder, None)
    }

    fn start_with(
        name: &str,
        command: Command,
        folder: &Folder,
        log: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let lock = folder.share_lock()?;
        let process = launch(name, &command, log.as_deref(), &lock)?;
        Ok(Self { name: name.to_owned(), command, log, lock, process })
    }
}

impl Child {
    /// Where its last lines are, unless they are among ours.
    pub(super) fn log(&self) -> Option<&Path> {
        match self {
            Self::Broker(broker) => Some(broker.log()),
            Self::Database(database) => Some(database.log()),
            Self::Own(own) => own.log.as_deref(),
        }
    }

    /// Waits until it ends.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus, Error> {
        match self {
            Self::Broker(broker) => broker.wait().await,
            Self::Database(database) => database.wait().await,
            Self::Own(own) => own.process.wait().await,
        }
    }

    /// Starts it again at the same address; broker and database are ready when this returns.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Broker(broker) => Ok(broker.restart().await?),
            Self::Database(database) => Ok(database.restart().await?),
            Self::Own(own) => {
                own.process = launch(&own.name, &own.command, own.log.as_deref(), &own.lock)?;
                Ok(())
            }
        }
    }

    /// Stops it in order, by force after its grace.
    pub(super) async fn stop(&mut self) -> Result<(), Error> {
        match self {
            Self::Broker(broker) => broker.stop().await,
            Self::Database(database) => database.stop().await,
            Self::Own(own) => own.process.stop(DRAIN_GRACE).await.map(drop),
        }
    }
}

fn launch(
    name: &str,
    command: &Command,
    log: Option<&Path>,
    lock: &std::fs::File,
) -> anyhow::Result<Process> {
    let log = log.unwrap_or(Path::new(STDERR));
    let lock = lock.try_clone().context("cannot share the folder's lock")?;
    let launch = Launch { name, command, log, lock: Some(lock), orphan_grace: DRAIN_GRACE };
    Ok(Process::start(launch)?)
}
