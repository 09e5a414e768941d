//! A process of the fleet that is started again whenever it ends, as a supervisor would in production.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use orderfleet_native::{Launch, Process, Signal};
use tokio::{sync::Mutex, time::sleep};

use crate::{member, proc};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// 128 + SIGABRT.
const ABORTED: i32 = 134;
/// Between an end and the next start, as most supervisors wait.
const RESTART_AFTER: Duration = Duration::from_millis(500);

/// A supervised process. Dropping it kills the process.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    program: PathBuf,
    command: Command,
    log: PathBuf,
    /// An argument that no other process has, by which its process is found.
    mark: String,
    aborts: AtomicU32,
    /// `None` once it was stopped for good.
    process: Mutex<Option<Process>>,
}

/// What to start, and how.
pub(super) struct Service<'a> {
    pub(super) name: &'a str,
    pub(super) program: PathBuf,
    pub(super) config: &'a Path,
    pub(super) sets: &'a [String],
    /// One more setting, which no other process has.
    pub(super) mark: String,
    pub(super) variables: &'a [(&'a str, &'a OsStr)],
}

impl Supervised {
    /// Starts a service with its output in `<folder>/<name>.log`.
    pub(super) fn start(folder: &Path, service: Service<'_>) -> anyhow::Result<Self> {
        let Service { name, program, config, sets, mark, variables } = service;
        let mut command = member::command_of(&program);
        command.envs(variables.iter().copied());
        command.arg("--config").arg(config);
        for set in sets.iter().chain([&mark]) {
            command.args(["--set", set]);
        }
        let log = folder.join(format!("{name}.log"));
        let process = Mutex::new(Some(launch(name, &command, &log)?));
        let aborts = AtomicU32::new(0);
        Ok(Self { name: name.to_owned(), program, command, log, mark, aborts, process })
    }

    /// Its name, such as `worker-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often it has aborted so far.
    pub fn aborts(&self) -> u32 {
        self.aborts.load(Ordering::Relaxed)
    }

    /// Starts it again whenever it has ended without being asked to, and tells `unplanned` how it ended; aborts are only
    /// counted. Runs until it is dropped.
    pub async fn supervise(&self, unplanned: impl Fn(String)) {
        loop {
            sleep(LOOK_EVERY).await;
            let mut slot = self.process.lock().await;
            let Some(process) = slot.as_mut() else { continue };
            if let Ok(Some(status)) = process.exited() {
                match status.code() {
                    Some(ABORTED) => drop(self.aborts.fetch_add(1, Ordering::Relaxed)),
                    _ => unplanned(format!("{} ended by itself: {status}", self.name)),
                }
                sleep(RESTART_AFTER).await;
                match launch(&self.name, &self.command, &self.log) {
                    Ok(started) => *process = started,
                    Err(error) => unplanned(format!("{} does not start: {error:#}", self.name)),
                }
            }
        }
    }

    /// SIGKILL, and a new start. Returns the evidence: two process ids and the status of the first.
    pub async fn crash(&self) -> anyhow::Result<String> {
        let mut slot = self.process.lock().await;
        let process = slot.as_mut().context("it was stopped")?;
        let before = self.pid()?;
        let status = process.kill().await?;
        sleep(RESTART_AFTER).await;
        *process = launch(&self.name, &self.command, &self.log)?;
        let after = self.until_pid().await?;
        anyhow::ensure!(after != before, "the process id is still {before}");
        Ok(format!("{}: pid {before}, {status}, then pid {after}", self.name))
    }

    /// SIGSTOP for a time, with something else done while it lasts. Returns the evidence: the kernel's word for its state.
    pub async fn freeze(
        &self,
        time: Duration,
        meanwhile: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<String> {
        let mut slot = self.process.lock().await;
        let process = slot.as_mut().context("it was stopped")?;
        let pid = self.pid()?;
        process.signal(Signal::Stop);
        let done = async {
            proc::until_state(pid, 'T').await?;
            let done = meanwhile.await;
            sleep(time).await;
            done
        };
        let done = done.await;
        process.signal(Signal::Continue);
        done?;
        Ok(format!("{}: pid {pid} was in state T for {time:?}", self.name))
    }

    /// SIGTERM and no further start; SIGKILL if it takes longer than `grace`. Returns the exit code.
    pub async fn stop(&self, grace: Duration) -> anyhow::Result<Option<i32>> {
        let Some(mut process) = self.process.lock().await.take() else { return Ok(None) };
        Ok(process.stop(grace).await?.code())
    }

    fn pid(&self) -> anyhow::Result<u32> {
        let pids = proc::pids(&self.program, &self.mark)?;
        pids.first().copied().with_context(|| format!("{} does not run", self.name))
    }

    async fn until_pid(&self) -> anyhow::Result<u32> {
        for _ in 0..100 {
            if let Ok(pid) = self.pid() {
                return Ok(pid);
            }
            sleep(Duration::from_millis(20)).await;
        }
        self.pid()
    }
}

fn launch(name: &str, command: &Command, log: &Path) -> anyhow::Result<Process> {
    let launch = Launch { name, command, log, lock: None, orphan_grace: Duration::ZERO };
    Process::start(launch).with_context(|| format!("cannot start {name}"))
}
