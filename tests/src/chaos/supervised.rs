//! A process of the fleet that is started again whenever it ends, as a supervisor would in production.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, PoisonError, RwLock,
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
    /// Another one after it was replaced.
    program: RwLock<PathBuf>,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
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
        let mut arguments = vec!["--config".into(), config.into()];
        for set in sets.iter().chain([&mark]) {
            arguments.extend(["--set".into(), set.into()]);
        }
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).to_owned()));
        let service = Self {
            name: name.to_owned(),
            program: RwLock::new(program),
            arguments,
            variables: variables.collect(),
            log: folder.join(format!("{name}.log")),
            mark,
            admin,
            may_abort,
            aborts: AtomicU32::new(0),
            harmed: AtomicBool::new(false),
            process: Mutex::new(None),
        };
        let process = service.launch()?;
        Ok(Self { process: Mutex::new(Some(process)), ..service })
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
            match self.launch() {
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
        *process = self.launch()?;
        self.harmed.store(false, Ordering::Relaxed);
        drop(slot);
        let after = self.alive().await?.1;
        anyhow::ensure!(after != before, "the process id is still {before}");
        Ok(format!("{}: pid {before}, {status}, then pid {after}", self.name))
    }

    /// SIGTERM, and a start of another build's program in its place. Returns the evidence: two process ids, and what the kernel
    /// says that the second one runs.
    ///
    /// # Errors
    /// When it does not end in order within `grace`, or the other does not start.
    pub async fn replace(&self, program: &Path, grace: Duration) -> anyhow::Result<String> {
        let (mut slot, before) = self.alive().await?;
        let process = slot.as_mut().context("it was stopped")?;
        self.harmed.store(true, Ordering::Relaxed);
        let status = process.stop(grace).await?;
        program.clone_into(&mut self.program.write().unwrap_or_else(PoisonError::into_inner));
        *process = self.launch()?;
        self.harmed.store(false, Ordering::Relaxed);
        drop(slot);
        anyhow::ensure!(status.code() == Some(0), "{} ended with {status} at SIGTERM", self.name);
        let after = self.alive().await?.1;
        let runs = fs::read_link(format!("/proc/{after}/exe")).context("what it runs")?;
        anyhow::ensure!(runs == fs::canonicalize(program)?, "{} runs {}", self.name, runs.display());
        Ok(format!("{}: pid {before} ended in order, then pid {after} of {}", self.name, runs.display()))
    }

    /// SIGTERM, and a new start; otherwise as [`Supervised::replace`].
    pub async fn restart(&self, grace: Duration) -> anyhow::Result<String> {
        self.replace(&self.program(), grace).await
    }

    /// SIGSTOP for a time, with something else done while it lasts. Returns the evidence: the kernel's word for its state.
    pub async fn freeze(
        &self,
        time: Duration,
        meanwhile: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<String> {
        let (mut slot, pid) = self.frozen().await?;
        let done = meanwhile.await;
        sleep(time).await;
        slot.as_mut().context("it was stopped")?.signal(Signal::Continue);
        done?;
        Ok(format!("{}: pid {pid} was in state T for {time:?}", self.name))
    }

    /// SIGSTOP. One that ends before it takes effect, as over a body that crashes workers, is started again and stopped then.
    async fn frozen(&self) -> anyhow::Result<(MutexGuard<'_, Option<Process>>, u32)> {
        let deadline = Instant::now() + ALIVE_WITHIN;
        loop {
            let (mut slot, pid) = self.alive().await?;
            let process = slot.as_mut().context("it was stopped")?;
            process.signal(Signal::Stop);
            let Err(error) = proc::until_state(pid, 'T').await else { return Ok((slot, pid)) };
            process.signal(Signal::Continue);
            drop(slot);
            anyhow::ensure!(proc::has_ended(pid) && Instant::now() < deadline, error);
            sleep(LOOK_EVERY).await;
        }
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
            let pids = proc::pids(&self.program(), &self.mark)?;
            match pids.first() {
                Some(pid) if runs => return Ok((slot, *pid)),
                _ => drop(slot),
            }
            anyhow::ensure!(Instant::now() < deadline, "{} does not run", self.name);
            sleep(LOOK_EVERY).await;
        }
    }

    fn program(&self) -> PathBuf {
        self.program.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn launch(&self) -> anyhow::Result<Process> {
        let mut command: Command = member::command_of(&self.program());
        command.args(&self.arguments).envs(self.variables.iter().map(|(name, value)| (name, value)));
        let (name, log) = (self.name.as_str(), self.log.as_path());
        let launch = Launch { name, command: &command, log, lock: None, orphan_grace: Duration::ZERO };
        Process::start(launch).with_context(|| format!("cannot start {name}"))
    }
}
