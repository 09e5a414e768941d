//! A child process that ends with its parent, however the parent ends, and that a Ctrl-C on the terminal does not
//! reach. A small shell script (`guard.sh`) stands between: it reads a pipe that closes with the parent.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{self, Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const GUARD: &str = include_str!("guard.sh");

/// As [`Launch::log`]: the output goes where this process's own messages go, such as into the journal.
pub const STDERR: &str = "/dev/stderr";

/// How to run a [`Process`].
#[derive(Debug)]
pub struct Launch<'a> {
    /// Name for messages.
    pub name: &'a str,
    /// Program, arguments, environment and folder; its standard streams are replaced.
    pub command: &'a Command,
    /// Where its output is appended; [`STDERR`] is shared and not opened, as it may be a socket.
    pub log: &'a Path,
    /// A locked file: the lock is held until the process has ended, even when this process is gone before.
    pub lock: Option<File>,
    /// When the parent ends without dropping it, as when it is killed: time between SIGTERM and SIGKILL, in whole seconds. Zero is SIGKILL at once.
    pub orphan_grace: Duration,
}

/// A signal to a [`Process`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// End at once, as in a crash.
    Kill,
    /// Freeze, as in a hang.
    Stop,
    /// Go on after [`Signal::Stop`].
    Continue,
}

/// A running child process. Dropping it kills it. It is bound to no async runtime, so that tests with a runtime each
/// can share one.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    guard: Child,
    control: Option<ChildStdin>,
}

impl Process {
    /// Starts the program. Whether it does its work is for the caller to find out.
    ///
    /// # Errors
    /// When the shell cannot be started. A program that cannot be executed shows as exit status 126 or 127.
    pub fn start(launch: Launch<'_>) -> Result<Self, Error> {
        Self::start_guard(launch, Command::new("/bin/sh"))
    }

    /// As [`Process::start`], but `container` runs the program, and the guard that ends it, somewhere else, such as
    /// `docker run --interactive …`. The command's environment and folder stay behind: they are the container's.
    pub(crate) fn start_in(mut container: Command, launch: Launch<'_>) -> Result<Self, Error> {
        container.arg("/bin/sh");
        Self::start_guard(launch, container)
    }

    fn start_guard(launch: Launch<'_>, shell: Command) -> Result<Self, Error> {
        // Absolute, because the guard may work in another folder.
        let log =
            path::absolute(launch.log).map_err(Error::io(format!("resolve {}", launch.log.display())))?;
        let mut guard = guard_command(&launch, shell, &log);
        let output = if is_shared(&log) { Stdio::inherit() } else { append_to(&log)? };
        guard.stdout(launch.lock.map_or_else(Stdio::null, Stdio::from)).stderr(output);
        let mut guard = guard.spawn().map_err(Error::io(format!("start {}", launch.name)))?;
        let control = guard.stdin.take();
        Ok(Self { name: launch.name.to_owned(), log, guard, control })
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends a signal; one that comes too late is no error.
    pub fn signal(&mut self, signal: Signal) {
        let line: &[u8] = match signal {
            Signal::Term => b"TERM\n",
            Signal::Kill => b"KILL\n",
            Signal::Stop => b"STOP\n",
            Signal::Continue => b"CONT\n",
        };
        if let Some(control) = &mut self.control {
            // The pipe breaks when the program and its guard have just ended: then there is nobody to signal.
            let _ = control.write_all(line);
        }
    }

    /// How it ended, or `None` while it runs. A program ended by signal n shows as exit status 128 + n.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.guard.try_wait().map_err(Error::io(format!("wait for {}", self.name)))
    }

    /// Waits until it has ended. May be dropped and called again.
    ///
    /// # Errors
    /// As [`Process::exited`].
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// SIGTERM, then SIGKILL after `grace`; returns when it has ended. A second call returns the same status.
    ///
    /// # Errors
    /// As [`Process::exited`].
    pub async fn stop(&mut self, grace: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + grace;
        self.signal(Signal::Term);
        if let Ok(status) = tokio::time::timeout_at(deadline, self.wait()).await {
            return status;
        }
        self.kill().await
    }

    /// SIGKILL, as in a crash; returns when it has ended.
    ///
    /// # Errors
    /// As [`Process::exited`].
    pub async fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.signal(Signal::Kill);
        self.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::Kill);
        // A few milliseconds; afterwards its ports and folder are free and no zombie stays. An error would only mean
        // that somebody else has waited for it.
        let _ = self.guard.wait();
    }
}

fn guard_command(launch: &Launch<'_>, mut guard: Command, log: &Path) -> Command {
    let log = if is_shared(log) { Path::new("") } else { log };
    guard.args(["-c", GUARD, "guard"]).arg(launch.orphan_grace.as_secs().to_string()).arg(log);
    guard.arg(launch.command.get_program()).args(launch.command.get_args());
    for (name, value) in launch.command.get_envs() {
        match value {
            Some(value) => guard.env(name, value),
            None => guard.env_remove(name),
        };
    }
    if let Some(dir) = launch.command.get_current_dir() {
        guard.current_dir(dir);
    }
    // A process group of its own keeps the terminal's Ctrl-C away: the parent decides on the order of stopping.
    guard.process_group(0).stdin(Stdio::piped());
    guard
}

fn is_shared(log: &Path) -> bool {
    log == Path::new(STDERR)
}

fn append_to(log: &Path) -> Result<Stdio, Error> {
    let file = File::options().create(true).append(true).open(log);
    file.map(Stdio::from).map_err(Error::io(format!("open {}", log.display())))
}
