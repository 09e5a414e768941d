//! A process of the fleet that is started again whenever it ends, as a supervisor would in production.

use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use orderfleet_native::{Launch, Process, Signal};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Instant, sleep},
};

use crate::{member, proc};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// 128 + SIGABRT.
const ABORTED: i32 = 134;
/// Between an end and the next start, as most supervisors wait.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// For a start on a busy machine.
const ALIVE_WITHIN: Duration = Duration::from_secs(30);

/// A supervised process. Dropping it kills the process.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    program: PathBuf,
    command: Command,
    log: PathBuf,
    /// An argument that no other process has, by which its process is found.
    mark: String,
    admin: SocketAddr,
    /// How many orders there are over which it may still abort.
    may_abort: Arc<AtomicU32>,
    aborts: AtomicU32,
    /// Its next end is the work of a fault.
    harmed: AtomicBool,
    /// `None` once it was stopped for good.
    process: Mutex<Option<Process>>,
}

/// What to start, and how.
pub(super) struct Service<'a> {
    pub(super) name: &'a str,
    pub(super) program: PathBuf,
    pub(super) config: &'a Path,
    pub(super) sets: &'a [String],
    /// One more setting, which no other process has: where its admin port is.
    pub(super) mark: String,
    pub(super) admin: SocketAddr,
    pub(super) variables: &'a [(&'a str, &'a OsStr)],
    pub(super) may_abort: Arc<AtomicU32>,
}

impl Supervised {
    /// Starts a service with its output in `<folder>/<name>.log`.
    pub(super) fn start(folder: &Path, service: Service<'_>) -> anyhow::Result<Self> {
        let Service { name, program, config, sets, mark, admin, variables, may_abort } = service;
        let mut command = member::command_of(&program);
        command.envs(variables.iter().copied());
        command.arg("--config").arg(config);
        for set in sets.iter().chain([&mark]) {
            command.args(["--set", set]);
        }
        let log = folder.join(format!("{name}.log"));
        let process = Mutex::new(Some(launch(name, &command, &log)?));
        let (name, aborts, harmed) = (name.to_owned(), AtomicU32::new(0), AtomicBool::new(false));
        Ok(Self { name, program, command, log, mark, admin, may_abort, aborts, harmed, process })
    }

    /// Its name, such as `worker-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its admin port is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// How often it has aborted while it might.
    pub fn aborts(&self) -> u32 {
        self.aborts.load(Ordering::Relaxed)
    }

    /// Starts it again whenever it has ended, and tells `unplanned` of each end that no fault explains. Runs until it is
    /// dropped.
    pub async fn supervise(&self, unplanned: impl Fn(String)) {
        loop {
            sleep(LOOK_EVERY).await;
            let mut slot = self.process.lock().await;
            let Some(process) = slot.as_mut() else { continue };
            let Ok(Some(status)) = process.exited() else { continue };
            let harmed = self.harmed.swap(false, Ordering::Relaxed);
            if status.code() == Some(ABORTED) && self.may_abort.load(Ordering::Relaxed) > 0 {
                self.aborts.fetch_add(1, Ordering::Relaxed);
            } else if !harmed {
                unplanned(format!("{} ended by itself: {status}", self.name));
            }
            sleep(RESTART_AFTER).await;
            match launch(&self.name, &self.command, &self.log) {
                Ok(started) => *process = started,
                Err(error) => unplanned(format!("{} does not start: {error:#}", self.name)),
            }
        }
    }

    /// SIGKILL, and a new start. Returns the evidence: two process ids and the status of the first.
    pub async fn crash(&self) -> anyhow::Result<String> {
        let (mut slot, before) = self.alive().await?;
        let process = slot.as_mut().context("it was stopped")?;
        self.harmed.store(true, Ordering::Relaxed);
        let status = process.kill().await?;
        sleep(RESTART_AFTER).await;
        *process = launch(&self.name, &self.command, &self.log)?;
        self.harmed.store(false, Ordering::Relaxed);
        drop(slot);
        let after = self.alive().await?.1;
        anyhow::ensure!(after != before, "the process id is still {before}");
        Ok(format!("{}: pid {before}, {status}, then pid {after}", self.name))
    }

    /// SIGSTOP for a time, with something else done while it lasts. Returns the evidence: the kernel's word for its state.
    pub async fn freeze(
        &self,
        time: Duration,
        meanwhile: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<String> {
        let (mut slot, pid) = self.alive().await?;
        let process = slot.as_mut().context("it was stopped")?;
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

    /// SIGCONT, in case it is stopped.
    pub async fn wake(&self) {
        if let Some(process) = self.process.lock().await.as_mut() {
            process.signal(Signal::Continue);
        }
    }

    /// SIGTERM and no further start; SIGKILL if it takes longer than `grace`. Returns the exit code.
    pub async fn stop(&self, grace: Duration) -> anyhow::Result<Option<i32>> {
        let Some(mut process) = self.process.lock().await.take() else { return Ok(None) };
        Ok(process.stop(grace).await?.code())
    }

    /// Waits until it runs, with nobody else doing something to it; returns its process id too.
    async fn alive(&self) -> anyhow::Result<(MutexGuard<'_, Option<Process>>, u32)> {
        let deadline = Instant::now() + ALIVE_WITHIN;
        loop {
            let mut slot = self.process.lock().await;
            let process = slot.as_mut().context("it was stopped")?;
            let runs = process.exited()?.is_none();
            let pids = proc::pids(&self.program, &self.mark)?;
            match pids.first() {
                Some(pid) if runs => return Ok((slot, *pid)),
                _ => drop(slot),
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not run", self.name);
            sleep(LOOK_EVERY).await;
        }
    }
}

fn launch(name: &str, command: &Command, log: &Path) -> anyhow::Result<Process> {
    let launch = Launch { name, command, log, lock: None, orphan_grace: Duration::ZERO };
    Process::start(launch).with_context(|| format!("cannot start {name}"))
}
