//! A MongoDB server of its own: a replica set of one, loopback only.

mod program;
mod replica_set;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use crate::process::{Launch, Process, Signal};
use crate::ready::{lock, until_ready};
use crate::{Error, Ports};

const STOP_GRACE: Duration = Duration::from_secs(20);

/// Settings of a [`Mongo`].
#[derive(Debug, Clone)]
pub struct MongoOptions {
    /// Allows fault injection by the `configureFailPoint` command. Default true.
    pub test_commands: bool,
    /// See [`Launch::orphan_grace`]. Default zero.
    pub orphan_grace: Duration,
    /// How long it may take until it is a writable primary. Default 60 s.
    pub start_timeout: Duration,
    /// Where its output goes. Default `mongod.log` in its folder.
    pub log: Option<PathBuf>,
}

impl Default for MongoOptions {
    fn default() -> Self {
        Self {
            test_commands: true,
            orphan_grace: Duration::ZERO,
            start_timeout: Duration::from_secs(60),
            log: None,
        }
    }
}

/// A running MongoDB server. Dropping it kills the server, and so does the end of this process.
#[derive(Debug)]
pub struct Mongo {
    dir: PathBuf,
    log: PathBuf,
    port: u16,
    options: MongoOptions,
    server: Process,
}

impl Mongo {
    /// Starts a server on the data in `dir`, which is made if need be, and waits until it is a writable primary.
    /// Data and port stay in `dir`: a later start continues there. After a crash, journaled writes are recovered.
    ///
    /// # Errors
    /// When `mongod` is not found, another server runs in `dir`, or it ends or is not ready in time; the error
    /// carries its last log lines.
    pub async fn start(dir: &Path, options: MongoOptions) -> Result<Self, Error> {
        let data = dir.join("data");
        fs::create_dir_all(&data).map_err(Error::io(format!("make {}", data.display())))?;
        let dir = dir.canonicalize().map_err(Error::io(format!("resolve {}", dir.display())))?;
        let log = options.log.clone().unwrap_or_else(|| dir.join("mongod.log"));
        let mut port = Ports::open(&dir.join("ports"))?.take("mongodb")?;
        let server = match start_server(&dir, &log, port, &options).await {
            Err(error) if error.is_port_taken() => {
                port = Ports::open(&dir.join("ports"))?.take("mongodb")?;
                start_server(&dir, &log, port, &options).await?
            }
            started => started?,
        };
        Ok(Self { dir, log, port, options, server })
    }

    /// Connection string. The same over restarts.
    pub fn uri(&self) -> String {
        format!("mongodb://127.0.0.1:{}/?replicaSet={}", self.port, replica_set::NAME)
    }

    /// Where the server's output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends the server a signal, such as [`Signal::Stop`] for a hang.
    pub fn signal(&mut self, signal: Signal) {
        self.server.signal(signal);
    }

    /// Waits until the server has ended, whatever the cause. May be dropped and called again.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.server.wait().await
    }

    /// Ends the server at once, as a crash would; its data stays for [`Mongo::restart`].
    ///
    /// # Errors
    /// When the operating system cannot say whether it has ended.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.server.kill().await.map(drop)
    }

    /// Stops the server if it still runs, and starts it again with the same data on the same port.
    ///
    /// # Errors
    /// As [`Mongo::start`]; it may be called again.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        self.server = start_server(&self.dir, &self.log, self.port, &self.options).await?;
        Ok(())
    }

    /// Stops the server in order; its data stays. A second call does nothing.
    ///
    /// # Errors
    /// When the operating system cannot say whether it has ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.server.stop(STOP_GRACE).await.map(drop)
    }
}

async fn start_server(dir: &Path, log: &Path, port: u16, options: &MongoOptions) -> Result<Process, Error> {
    let mut command = Command::new(program::find()?);
    command.current_dir(dir).args(arguments(port, options));
    let launch = Launch {
        name: "MongoDB",
        command: &command,
        log,
        lock: Some(lock(dir).await?),
        orphan_grace: options.orphan_grace,
    };
    let mut server = Process::start(launch)?;
    until_ready(&mut server, options.start_timeout, || replica_set::advance(port)).await?;
    Ok(server)
}

fn arguments(port: u16, options: &MongoOptions) -> Vec<String> {
    let parameter = |text: &str| ["--setParameter".to_owned(), text.to_owned()];
    let mut arguments: Vec<String> = [
        "--dbpath=data",
        "--bind_ip=127.0.0.1",
        "--nounixsocket",
        "--wiredTigerCacheSizeGB=0.25",
        "--oplogSize=256",
        // Releases up to 8.2.2 leak memory to clients through compressed messages (CVE-2025-14847).
        "--networkMessageCompressors=disabled",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("--port={port}"));
    arguments.push(format!("--replSet={}", replica_set::NAME));
    arguments.extend(parameter("diagnosticDataCollectionEnabled=false"));
    // At SIGTERM a primary waits for a successor; a set of one has none.
    arguments.extend(parameter("shutdownTimeoutMillisForSignaledShutdown=0"));
    if options.test_commands {
        arguments.extend(parameter("enableTestCommands=1"));
    }
    arguments
}
