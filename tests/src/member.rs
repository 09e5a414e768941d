//! One process of a fleet: started from the workspace's own build, with its output in a log file.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use orderfleet_native::{Launch, Process, Signal, last_lines};
use serde_json::Value;

use crate::until;

/// What a service promises to take at most from SIGTERM to its exit, and a second for the machine.
const STOP_GRACE: Duration = Duration::from_secs(21);
const LOG_LINES_SHOWN: usize = 15;

/// A running process. Dropping it kills it, and so does the end of the test process.
#[derive(Debug)]
pub struct Member {
    process: Process,
}

/// Where a service listens, by its own word.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

/// The path of one of the workspace's programs, of the same build as the running one.
///
/// # Panics
/// When it has not been built: Cargo builds a package's own programs for its tests, not those of others.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    // Programs are beside each other; Cargo puts tests one folder below.
    let own = env::current_exe().unwrap();
    let places = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = places.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is missing beside {}; build it with: cargo build --workspace (and the same --profile)",
            own.display()
        )
    })
}

/// A command that knows nothing of the settings in this process's environment.
pub(crate) fn command(name: &str) -> Command {
    command_of(&program(name))
}

/// As [`command`], for a program that is somewhere else.
pub(crate) fn command_of(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (variable, _) in env::vars_os() {
        if variable.to_string_lossy().starts_with("ORDERFLEET_") {
            command.env_remove(variable);
        }
    }
    command
}

impl Member {
    /// Starts a program whose output goes to `<folder>/<name>.log`.
    pub(crate) fn start(folder: &Path, name: &str, command: &Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let launch = Launch { name, command, log: &log, lock: None, orphan_grace: Duration::ZERO };
        Self { process: Process::start(launch).unwrap() }
    }

    /// What it is called in this fleet, for example `worker-0`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.process.name()
    }

    /// Everything it has written so far.
    ///
    /// # Panics
    /// When the log cannot be read.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.process.log()).unwrap()).into_owned()
    }

    /// Whether the process that was started still runs. Nothing here ever restarts one.
    ///
    /// # Panics
    /// When the operating system cannot say.
    pub fn is_running(&mut self) -> bool {
        self.process.exited().unwrap().is_none()
    }

    /// SIGTERM; returns the exit code, 137 for one that had to be killed because it did not end in its time.
    ///
    /// # Panics
    /// When the operating system cannot say.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.process.stop(STOP_GRACE).await.unwrap().code()
    }

    /// Sends a signal, and does not wait for what comes of it.
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// SIGKILL, as in a crash.
    ///
    /// # Panics
    /// When the operating system cannot say whether it has ended.
    pub async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Waits until it has ended by itself; returns the exit code, 137 for one that was ended by SIGKILL.
    ///
    /// # Panics
    /// When it has not by the deadline.
    pub async fn ended(&mut self, what: &str) -> Option<i32> {
        let what = format!("{} {what}", self.name());
        until(&what, async || match self.process.exited().unwrap() {
            Some(status) => Ok(status.code()),
            None => Err(self.last_lines()),
        })
        .await
    }

    /// Waits for a line of its log.
    pub(crate) async fn logged<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let what = format!("{} logs {what}", self.name());
        until(&what, async || {
            let log = fs::read_to_string(self.process.log()).unwrap_or_default();
            // The last line may still be in the making.
            let found = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).find_map(&find);
            assert!(
                found.is_some() || self.is_running(),
                "{} has ended:\n{}",
                self.name(),
                self.last_lines()
            );
            found.ok_or(log)
        })
        .await
    }

    /// Waits until it says where it listens.
    pub(crate) async fn addresses(&mut self) -> Addresses {
        self.logged("where it listens", |line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let address = |field: &str| line.get(field)?.as_str()?.parse().ok();
            Some(Addresses { listen: address("listen"), admin: address("admin_listen")? })
        })
        .await
    }

    /// The end of its log.
    #[must_use]
    pub fn last_lines(&self) -> String {
        last_lines(self.process.log(), LOG_LINES_SHOWN)
    }
}
