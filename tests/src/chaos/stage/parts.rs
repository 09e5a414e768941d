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
        Links,
        bodies::CRASHING,
        supervised::{Service, Supervised},
    },
    member::program,
};

const WORKERS: usize = 3;
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
}

/// Where and with what the parts are started.
pub(super) struct Start<'a> {
    pub(super) folder: &'a Path,
    pub(super) config: &'a Path,
    pub(super) links: &'a Links,
    pub(super) ports: &'a mut Ports,
    /// Another worker than that of this build.
    pub(super) worker: Option<&'a Path>,
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
        Ok(Parts { producers, workers, query, query_url, crashing: self.crashing, clocks })
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
        let program = match self.worker {
            Some(worker) if kind == "worker" => worker.to_owned(),
            _ => program(&format!("orderfleet-{kind}")),
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

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Supervised> {
        self.producers.iter().chain(&self.workers).chain([&self.query])
    }
}
