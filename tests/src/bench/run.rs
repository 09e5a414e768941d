//! One run: everything is started, the parts follow each other, and the report is made.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, thread, time::Instant};

use anyhow::{Context as _, ensure};

use super::{
    Accounts, CostLine, Line, Options, Part, Report, Spread, Surroundings,
    bodies::Bodies,
    load::{Answers, Posting},
    parts,
    stage::Stage,
    usage::Cost,
};

const LEFT_BY_A_RUN: &str = "orderfleet.toml";

/// What the parts share.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) options: Options,
    pub(super) stage: Stage,
    pub(super) small: Arc<Bodies>,
    /// Of the size that orders really have.
    pub(super) real: Arc<Bodies>,
    begun: Instant,
    lines: Vec<Line>,
    costs: Vec<CostLine>,
    accounts: Accounts,
    notes: Vec<String>,
    /// Orders per second when a backlog of this name was last worked.
    paces: BTreeMap<String, f64>,
    /// Share of the processors that others have used, by measurement.
    others: Vec<f64>,
}

/// Measures. Progress goes to stderr.
///
/// # Errors
/// When something does not start, does not answer, or an order neither ends nor is missed.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let (begun, load_before) = (Instant::now(), load_average());
    if cfg!(debug_assertions) {
        eprintln!("this is a development build: its figures say nothing (make bench builds for release)");
    }
    prepare(&options.folder)?;
    let folder = options.folder.canonicalize()?;
    let small = Bodies::small(&folder)?;
    let real = match &options.data {
        Some(file) => Bodies::of_file(file, &folder)?,
        None => Bodies::generated(&folder)?,
    };
    let orders = format!("{}, {} lines in the middle", real.name, real.lines_median);
    let stage = Stage::start(&folder, &options.set).await.context("the fleet does not start")?;
    let surroundings = surroundings(&stage, orders, load_before);
    let mut bench = Bench {
        stage,
        small: Arc::new(small),
        real: Arc::new(real),
        begun,
        lines: Vec::new(),
        costs: Vec::new(),
        accounts: Accounts::default(),
        notes: Vec::new(),
        paces: BTreeMap::new(),
        others: Vec::new(),
        options,
    };
    for part in bench.options.parts() {
        let measured = match part {
            Part::Raw => parts::raw::measure(&mut bench).await,
            Part::Ingest => parts::ingest::measure(&mut bench).await,
            Part::E2e => parts::e2e::measure(&mut bench).await,
            Part::Workers => parts::workers::measure(&mut bench).await,
            Part::Failures => parts::failures::measure(&mut bench).await,
            Part::Batches => parts::batches::measure(&mut bench).await,
            Part::Latency => parts::latency::measure(&mut bench).await,
            Part::Stored => parts::stored::measure(&mut bench).await,
            Part::Overload => parts::overload::measure(&mut bench).await,
            Part::Start => parts::start::measure(&mut bench).await,
        };
        measured.with_context(|| format!("part {part:?}"))?;
    }
    let Bench { lines, costs, accounts, notes, options, others, .. } = bench;
    let others_percent = Spread::of(&others);
    Ok(Report { surroundings, rounds: options.rounds.into(), others_percent, lines, costs, accounts, notes })
}

impl Bench {
    /// A line of progress.
    pub(super) fn say(&self, line: impl AsRef<str>) {
        eprintln!("{:>6.1} s  {}", self.begun.elapsed().as_secs_f64(), line.as_ref());
    }

    /// A line of the report.
    pub(super) fn line(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// What a measurement has cost.
    pub(super) fn cost(&mut self, part: &'static str, what: impl Into<String>, rounds: &[Cost]) -> f64 {
        let cost = CostLine::new(part, what, rounds);
        let total = cost.total;
        self.costs.push(cost);
        total
    }

    /// How fast a backlog was worked before.
    pub(super) fn pace(&self, name: &str) -> Option<f64> {
        self.paces.get(name).copied()
    }

    /// Remembers what share of the processors others have used in a measurement.
    pub(super) fn others(&mut self, share: f64) {
        self.others.push(share * 100.0);
    }

    /// Remembers how fast a backlog was worked.
    pub(super) fn keep_pace(&mut self, name: &str, rate: f64) {
        self.paces.insert(name.to_owned(), rate);
    }

    /// Orders of a backlog that takes about as long as a load.
    pub(super) fn backlog(&self, name: &str) -> u32 {
        self.options.backlog(self.pace(name).unwrap_or_default())
    }

    /// Something else to know.
    pub(super) fn note(&mut self, note: String) {
        self.say(&note);
        self.notes.push(note);
    }

    /// Waits until the accepted orders of these loads are accounted for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(super) async fn account(
        &mut self,
        database: &str,
        loads: &[(&Posting, &Answers)],
    ) -> anyhow::Result<()> {
        for (posting, answers) in loads {
            if !answers.others.is_empty() {
                self.note(format!(
                    "{}: answers other than 202, by status: {:?}",
                    posting.name, answers.others
                ));
            }
        }
        let found = self.stage.account(database, loads).await?;
        if found.missing > 0 {
            self.note(format!(
                "{} accepted orders are not accounted for in database {database}",
                found.missing
            ));
        }
        let sum = &mut self.accounts;
        sum.accepted += found.accepted;
        sum.done += found.done;
        sum.undone += found.undone;
        sum.held += found.held;
        sum.missing += found.missing;
        Ok(())
    }

    /// Takes the accepted orders of a load that no worker has seen out of their queue.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub(super) async fn account_queued(
        &mut self,
        posting: &Posting,
        answers: &Answers,
    ) -> anyhow::Result<()> {
        let queued = self.stage.take_queued().await?;
        let missing = answers.accepted.iter().map(|number| Stage::order_id(&posting.key(*number)));
        let missing = missing.filter(|id| id.as_ref().is_ok_and(|id| !queued.contains(id))).count() as u64;
        if missing > 0 {
            self.note(format!("{missing} accepted orders were not in the queue"));
        }
        let accepted = answers.accepted.len() as u64;
        self.accounts.accepted += accepted;
        self.accounts.queued += accepted - missing;
        self.accounts.missing += missing;
        Ok(())
    }
}

/// An empty folder. Only what looks like an earlier run is removed.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    if folder.join(LEFT_BY_A_RUN).exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let is_empty = fs::read_dir(folder).context("--folder")?.next().is_none();
    ensure!(is_empty, "{} is neither empty nor an earlier run", folder.display());
    // From here on, also a run that fails at once can be removed by the next.
    fs::write(folder.join(LEFT_BY_A_RUN), "").context("--folder")
}

fn surroundings(stage: &Stage, orders: String, load_before: String) -> Surroundings {
    let (rabbitmq, mongodb) = stage.versions.clone();
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.rsplit(':').next().unwrap_or_default().trim().to_owned()
    };
    let kilobytes = field(&read("/proc/meminfo"), "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
    Surroundings {
        processor: field(&read("/proc/cpuinfo"), "model name"),
        processors: thread::available_parallelism().map_or(0, Into::into),
        memory_gb: kilobytes * 1_024.0 / 1e9,
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        rabbitmq,
        mongodb,
        build: if cfg!(debug_assertions) { "development" } else { "release" },
        orders,
        load_before,
    }
}

fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
