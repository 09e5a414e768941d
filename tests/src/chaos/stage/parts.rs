//! The supervised processes of the stage: producers, workers and the query service.

use std::{
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU32},
};

use anyhow::Context as _;
use orderfleet_native::Ports;

use super::address;
use crate::{
    chaos::{
        Build, Links, Part,
        bodies::CRASHING,
        supervised::{Service, Supervised},
    },
    member::program,
};

/// How many workers there are.
pub const WORKERS: usize = 3;
const CLOCK_VARIABLE: &str = "ORDERFLEET_CLOCK_FILE";
const ABORT_VARIABLE: &str = "ORDERFLEET_ABORT_ON_SKU";

/// The supervised processes, and where they are found.
#[derive(Debug)]
pub struct Parts {
    /// The producers.
    pub producers: Vec<Supervised>,
    /// The workers.
    pub workers: Vec<Supervised>,
    /// The query service.
    pub query: Supervised,
    /// Where clients find the query service.
    pub query_url: String,
    /// How many orders there are over which a worker may still abort.
    pub crashing: Arc<AtomicU32>,
    clocks: Vec<PathBuf>,
    older: Option<PathBuf>,
}

/// Programs that take the place of those of this build.
#[derive(Debug, Clone, Default)]
pub struct OtherPrograms {
    /// Another worker, such as one with a rule broken.
    pub worker: Option<PathBuf>,
    /// Folder of an older build whose producers and workers the run begins with.
    pub older: Option<PathBuf>,
}

/// Where and with what the parts are started.
pub(super) struct Start<'a> {
    pub(super) folder: &'a Path,
    pub(super) config: &'a Path,
    pub(super) links: &'a Links,
    pub(super) ports: &'a mut Ports,
    pub(super) others: &'a OtherPrograms,
    pub(super) crashing: Arc<AtomicU32>,
}

impl Start<'_> {
    pub(super) fn parts(mut self, producers: &[SocketAddr]) -> anyhow::Result<Parts> {
        let query_address = address(self.ports, "query")?;
        let query = self.part("query", "query", &[format!("query.listen={query_address}")], &[])?;
        let producers = (0..).zip(producers).map(|(number, listen)| self.producer(number, *listen));
        let producers = producers.collect::<anyhow::Result<_>>()?;
        let clocks: Vec<_> =
            (0..WORKERS).map(|number| self.folder.join(format!("worker-{number}.clock"))).collect();
        let workers = (0..).zip(&clocks).map(|(number, clock)| self.worker(number, clock));
        let workers = workers.collect::<anyhow::Result<_>>()?;
        let query_url = format!("http://{query_address}");
        let older = self.others.older.clone();
        Ok(Parts { producers, workers, query, query_url, crashing: self.crashing, clocks, older })
    }

    fn producer(&mut self, number: usize, listen: SocketAddr) -> anyhow::Result<Supervised> {
        let acceptance = self.folder.join(format!("accepted-{number}.jsonl")).display().to_string();
        let sets = [
            self.broker("producer-broker"),
            format!("producer.listen={listen}"),
            format!("producer.acceptance_log={acceptance}"),
        ];
        self.part("producer", &format!("producer-{number}"), &sets, &[])
    }

    /// Its clock can be made wrong, and it aborts over one article; builds without debug assertions read neither.
    fn worker(&mut self, number: usize, clock: &Path) -> anyhow::Result<Supervised> {
        let variables = [(CLOCK_VARIABLE, clock.as_os_str()), (ABORT_VARIABLE, OsStr::new(CRASHING))];
        self.part("worker", &format!("worker-{number}"), &[self.broker("worker-broker")], &variables)
    }

    fn part(
        &mut self,
        kind: &str,
        name: &str,
        sets: &[String],
        variables: &[(&str, &OsStr)],
    ) -> anyhow::Result<Supervised> {
        let admin = address(self.ports, &format!("{name}-admin"))?;
        let program = match (&self.others.worker, &self.others.older) {
            (Some(worker), _) if kind == "worker" => worker.clone(),
            // Nothing of an order is decided by the query service: it stays this build's.
            (_, Some(older)) if kind != "query" => older.join(name_of(kind)),
            _ => program(&name_of(kind)),
        };
        // Only workers are told to abort.
        let may_abort = if kind == "worker" { Arc::clone(&self.crashing) } else { Arc::default() };
        let mark = format!("{kind}.admin_listen={admin}");
        let service = Service { name, program, config: self.config, sets, mark, admin, variables, may_abort };
        Supervised::start(self.folder, service)
    }

    fn broker(&self, link: &str) -> String {
        format!("broker.url=amqp://guest:guest@{}/%2f", self.links.listen(link))
    }
}

impl Parts {
    /// Makes a worker's clock wrong by so many milliseconds, within a second.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn set_clock(&self, worker: usize, error_ms: i64) -> anyhow::Result<()> {
        let file = &self.clocks[worker];
        fs::write(file, error_ms.to_string()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Whether there is an older build beside this one.
    #[must_use]
    pub fn are_of_two_builds(&self) -> bool {
        self.older.is_some()
    }

    /// The program of a producer or a worker of a build.
    ///
    /// # Errors
    /// When there is no older build.
    pub(in crate::chaos) fn program(&self, part: Part, build: Build) -> anyhow::Result<PathBuf> {
        let name = match part {
            Part::Producer => name_of("producer"),
            Part::Worker => name_of("worker"),
            Part::Query => name_of("query"),
        };
        match build {
            Build::This => Ok(program(&name)),
            Build::Older => Ok(self.older.as_ref().context("the run has one build")?.join(name)),
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Supervised> {
        self.producers.iter().chain(&self.workers).chain([&self.query])
    }
}

fn name_of(kind: &str) -> String {
    format!("orderfleet-{kind}")
}
