//! One `mongod` process on the data in a folder, whatever set it belongs to.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use super::program::{Place, Program};
use super::replica_set::ask;
use super::wire::Document;
use super::{MongoOptions, MongoRole};
use crate::process::{Process, Signal};
use crate::ready::{lock, until_ready};
use crate::{Error, Ports};

const STOP_GRACE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) log: PathBuf,
    pub(super) options: MongoOptions,
    dir: PathBuf,
    process: Process,
}

impl Server {
    /// Starts the process and waits until it answers commands. It looks for another port when its own is taken.
    pub(super) async fn start(dir: &Path, options: MongoOptions) -> Result<Self, Error> {
        let data = dir.join("data");
        fs::create_dir_all(&data).map_err(Error::io(format!("make {}", data.display())))?;
        let dir = dir.canonicalize().map_err(Error::io(format!("resolve {}", dir.display())))?;
        let log = options.log.clone().unwrap_or_else(|| dir.join("mongod.log"));
        let mut port = Ports::open(&dir.join("ports"))?.take("mongodb")?;
        let process = match start_process(&dir, &log, port, &options).await {
            Err(error) if error.is_port_taken() => {
                port = Ports::open(&dir.join("ports"))?.take("mongodb")?;
                start_process(&dir, &log, port, &options).await?
            }
            started => started?,
        };
        Ok(Self { port, log, dir, options, process })
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(super) async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.process.wait().await
    }

    pub(super) async fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.process.kill().await
    }

    pub(super) async fn stop(&mut self) -> Result<ExitStatus, Error> {
        self.process.stop(STOP_GRACE).await
    }

    /// Stops it if it still runs; the same data on the same port afterwards.
    pub(super) async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        self.process = start_process(&self.dir, &self.log, self.port, &self.options).await?;
        Ok(())
    }

    /// Repeats `probe` on the port until it succeeds.
    pub(super) async fn until<F: Future<Output = Result<(), String>>>(
        &mut self,
        probe: impl Fn(u16) -> F,
    ) -> Result<(), Error> {
        let port = self.port;
        until_ready(&mut self.process, self.options.start_timeout, || probe(port)).await
    }
}

async fn start_process(dir: &Path, log: &Path, port: u16, options: &MongoOptions) -> Result<Process, Error> {
    let program = Program::mongod(options.image.as_deref())?;
    let (lock, orphan_grace) = (lock(dir).await?, options.orphan_grace);
    let mut process =
        program.start(&arguments(port, options), Place { name: "MongoDB", dir, log, lock, orphan_grace })?;
    until_ready(&mut process, options.start_timeout, || answers(port)).await?;
    Ok(process)
}

async fn answers(port: u16) -> Result<(), String> {
    ask(port, Document::default().int("hello", 1)).await.map(drop)
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
    arguments.push(format!("--replSet={}", options.role.set_name()));
    match options.role {
        MongoRole::Alone => {}
        MongoRole::ConfigServer => arguments.push("--configsvr".to_owned()),
        MongoRole::Shard(_) => {
            arguments.push("--shardsvr".to_owned());
            // What was moved away is deleted at once, and not after 15 minutes: who looks into a shard sees what it has.
            arguments.extend(parameter("orphanCleanupDelaySecs=0"));
        }
    }
    arguments.extend(parameter("diagnosticDataCollectionEnabled=false"));
    // At SIGTERM a primary waits for a successor; a set of one has none.
    arguments.extend(parameter("shutdownTimeoutMillisForSignaledShutdown=0"));
    if options.test_commands {
        arguments.extend(parameter("enableTestCommands=1"));
    }
    arguments
}
