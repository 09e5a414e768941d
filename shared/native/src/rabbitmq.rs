//! A RabbitMQ server of its own: own data, own cookie, own `epmd`, loopback only, whoever else runs one here. Faults and
//! looks inside are in `rabbitmq/actions.rs`.

mod actions;
mod files;
mod handshake;
mod program;

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tokio::time::timeout;

use crate::Error;
use crate::process::{Launch, Process, Signal};
use crate::ready::{lock, until_ready};
use files::Files;

pub use actions::QueueCounts;
pub use program::RABBITMQ_IMAGE_VARIABLE;

const STOP_GRACE: Duration = Duration::from_secs(20);
/// A stopped broker would keep the command waiting.
const CTL_TIMEOUT: Duration = Duration::from_secs(60);
const VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of a [`RabbitMq`].
#[derive(Debug, Clone)]
pub struct RabbitMqOptions {
    /// How long at-least-once dead-lettering waits for the target queue before it publishes again; `None` is RabbitMQ's
    /// own default of 3 minutes, as in production. Default 2 s, because tests that make a target unavailable for a
    /// moment would otherwise wait for minutes until its messages move on.
    pub dead_letter_confirm_timeout: Option<Duration>,
    /// A Docker image whose RabbitMQ runs in the place of the machine's own. Default: the one that
    /// `ORDERFLEET_RABBITMQ_IMAGE` names, if it does.
    pub image: Option<String>,
    /// See [`Launch::orphan_grace`]. Default zero.
    pub orphan_grace: Duration,
    /// How long it may take until it accepts AMQP connections. Default 90 s.
    pub start_timeout: Duration,
    /// Where its output goes. Default `rabbitmq.log` in its folder.
    pub log: Option<PathBuf>,
    /// Whether it serves metrics for Prometheus, see [`RabbitMq::metrics_address`]. Default false: the plugin makes a start
    /// slower.
    pub metrics: bool,
}

impl Default for RabbitMqOptions {
    fn default() -> Self {
        Self {
            dead_letter_confirm_timeout: Some(Duration::from_secs(2)),
            image: env::var(RABBITMQ_IMAGE_VARIABLE).ok().filter(|image| !image.is_empty()),
            orphan_grace: Duration::ZERO,
            start_timeout: Duration::from_secs(90),
            log: None,
            metrics: false,
        }
    }
}

/// A running RabbitMQ server. Dropping it kills the server, and so does the end of this process.
#[derive(Debug)]
pub struct RabbitMq {
    files: Files,
    options: RabbitMqOptions,
    epmd: Option<Process>,
    broker: Process,
}

impl RabbitMq {
    /// Starts a server on the data in `dir`, which is made if need be, and waits until it accepts AMQP connections.
    /// Data and ports stay in `dir`: a later start continues there. After a crash, data confirmed to publishers is
    /// recovered by RabbitMQ.
    ///
    /// # Errors
    /// When RabbitMQ or its image is not there, another server runs in `dir`, or it ends or is not ready in time; the error
    /// carries its last log lines.
    pub async fn start(dir: &Path, options: RabbitMqOptions) -> Result<Self, Error> {
        program::require(options.image.as_deref())?;
        match Self::start_once(dir, &options).await {
            Err(error) if error.is_port_taken() => Self::start_once(dir, &options).await,
            started => started,
        }
    }

    async fn start_once(dir: &Path, options: &RabbitMqOptions) -> Result<Self, Error> {
        let files = Files::write(dir, options)?;
        let epmd = start_epmd(&files, options).await?;
        let broker = start_broker(&files, options).await?;
        Ok(Self { files, options: options.clone(), epmd, broker })
    }

    /// AMQP URL with credentials, for clients on this machine. The same over restarts.
    pub fn amqp_url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.files.amqp_port)
    }

    /// Where it serves `/metrics`, if [`RabbitMqOptions::metrics`] says so. The same over restarts.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.files.metrics_port.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// The version the running server tells, such as `4.0.5`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String, Error> {
        let told = timeout(VERSION_TIMEOUT, handshake::version(self.files.amqp_port)).await;
        let told = told.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        told.map_err(|reason| Error::Refused { attempt: "read RabbitMQ's version", reason })
    }

    /// The wrapper script that runs `rabbitmqctl` against this server.
    pub fn ctl_script(&self) -> &Path {
        &self.files.ctl_script
    }

    /// Where the server's output goes.
    pub fn log(&self) -> &Path {
        &self.files.log
    }

    /// Runs `rabbitmqctl` with `arguments` and returns what it printed. It takes a second or two.
    ///
    /// # Errors
    /// When it fails, the error carrying what it said, or has not ended after a minute.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String, Error> {
        let command = format!("rabbitmqctl {}", arguments.join(" "));
        let running =
            tokio::process::Command::new(&self.files.ctl_script).args(arguments).kill_on_drop(true).output();
        let Ok(output) = timeout(CTL_TIMEOUT, running).await else {
            let reason = "it has not ended".to_owned();
            return Err(Error::Late { awaited: command, within: CTL_TIMEOUT, reason });
        };
        let output = output.map_err(Error::io(format!("run {command}")))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(Error::Command { command, status: output.status, stderr })
    }

    /// Sends the server a signal, such as [`Signal::Stop`] for a hang.
    pub fn signal(&mut self, signal: Signal) {
        self.broker.signal(signal);
    }

    /// Waits until the server has ended, whatever the cause. May be dropped and called again.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.broker.wait().await
    }

    /// Ends the server at once, as a crash would; its data stays for [`RabbitMq::restart`].
    ///
    /// # Errors
    /// When the operating system cannot say whether it has ended.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.broker.kill().await.map(drop)
    }

    /// Stops the server if it still runs, and starts it again with the same data on the same ports.
    ///
    /// # Errors
    /// As [`RabbitMq::start`]; it may be called again.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.stop().await?;
        self.epmd = start_epmd(&self.files, &self.options).await?;
        self.broker = start_broker(&self.files, &self.options).await?;
        Ok(())
    }

    /// Stops the server in order; its data stays. A second call does nothing.
    ///
    /// # Errors
    /// When the operating system cannot say whether it has ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.broker.stop(STOP_GRACE).await?;
        match &mut self.epmd {
            Some(epmd) => epmd.kill().await.map(drop),
            None => Ok(()),
        }
    }
}

/// Erlang's port mapper. The broker would start a shared one that outlives it; this one belongs to it alone. In a
/// container, what the broker starts ends with it anyway.
async fn start_epmd(files: &Files, options: &RabbitMqOptions) -> Result<Option<Process>, Error> {
    if options.image.is_some() {
        return Ok(None);
    }
    let mut command = Command::new("epmd");
    command.args(["-address", "127.0.0.1", "-port", &files.epmd_port.to_string()]);
    let launch = Launch {
        name: "epmd",
        command: &command,
        log: &files.log,
        lock: None,
        orphan_grace: options.orphan_grace,
    };
    let mut epmd = Process::start(launch)?;
    until_ready(&mut epmd, options.start_timeout, || handshake::connect(files.epmd_port)).await?;
    Ok(Some(epmd))
}

async fn start_broker(files: &Files, options: &RabbitMqOptions) -> Result<Process, Error> {
    let mut command = Command::new(program::SERVER);
    let lock = Some(lock(&files.dir).await?);
    let orphan_grace = options.orphan_grace;
    let mut broker = if let Some(image) = &options.image {
        let container = program::container(image, files)?;
        let launch = Launch { name: "RabbitMQ", command: &command, log: &files.log, lock, orphan_grace };
        Process::start_in(container, launch)?
    } else {
        command.current_dir(&files.dir).envs(files.environment());
        Process::start(Launch { name: "RabbitMQ", command: &command, log: &files.log, lock, orphan_grace })?
    };
    let port = files.amqp_port;
    until_ready(&mut broker, options.start_timeout, || handshake::begin(port)).await?;
    Ok(broker)
}
