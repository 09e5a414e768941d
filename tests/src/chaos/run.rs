//! One run from start to report: stage, load, faults, drain, evidence, verdict.

use std::{
    fs,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::{FutureExt as _, future::join_all};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use crate::chaos::{
    ClientLog, Evidence, Injected, Load, Nemesis, Operator, OtherPrograms, Planned, Report, Requests, Stage,
    Tally, Verdict, Waste,
    bodies::CRASHING,
    collect, drain, judge,
    report::{Surroundings, json_lines},
    stage::EVENTS,
    waste,
};

/// Looked at twice with this between: what is undone must stay so.
const PAUSE: Duration = Duration::from_secs(6);
/// See [`Evidence::done_percent_min`].
const DONE_PERCENT_MIN: usize = 80;
const LEFT_BY_A_RUN: [&str; 3] = ["rabbitmq", "clients.jsonl", "report.json"];
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long orders are posted and faults strike.
    pub duration: Duration,
    /// Orders per second.
    pub rate: u32,
    /// Decides orders and faults.
    pub seed: u64,
    /// The faults.
    pub plan: Vec<Planned>,
    /// Longest drain after the last fault is healed and the last order is posted.
    pub drain_max: Duration,
    /// With fewer accepted orders a run says nothing.
    pub orders_min: usize,
    /// With fewer faults, each with evidence, a run says nothing.
    pub faults_min: usize,
    /// More wasted attempts of one order than this break the promise; `None` where faults must waste some.
    pub wasted_max: Option<u64>,
    /// What takes the place of programs of this build.
    pub others: OtherPrograms,
    /// Folder of the report; what an earlier run left there is removed.
    pub report: PathBuf,
}

/// What a run has brought so far. The report is written from it, also where the harness has failed on the way.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) surroundings: Option<Surroundings>,
    pub(super) loaded: Duration,
    pub(super) requests: Tally,
    pub(super) faults: Vec<Injected>,
    pub(super) drained: Option<Result<Duration, String>>,
    pub(super) asked: Requests,
    pub(super) verdict: Option<Verdict>,
    pub(super) waste: Waste,
    /// Why the harness failed.
    pub(super) failure: Option<String>,
}

/// Runs it; `say` gets a line of progress now and then. The report says so where the harness itself has failed.
///
/// # Errors
/// When there is no place for the report.
pub async fn run(options: Options, say: impl Fn(String) + Send + Sync + 'static) -> anyhow::Result<Report> {
    prepare(&options.report)?;
    let mut found = Found::default();
    let running = AssertUnwindSafe(course(&options, Arc::new(say), &mut found)).catch_unwind();
    found.failure = match running.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some("it panicked, see its standard error".to_owned()),
    };
    let report = Report::new(&options, found);
    json_lines(&options.report.join("faults.jsonl"), &report.faults)?;
    report.write(&options.report)?;
    Ok(report)
}

async fn course(
    options: &Options,
    say: Arc<impl Fn(String) + Send + Sync + 'static>,
    found: &mut Found,
) -> anyhow::Result<()> {
    say(format!("starting the fleet in {}", options.report.display()));
    let stage =
        Arc::new(Stage::start(&options.report, &options.others).await.context("the fleet does not start")?);
    let log = Arc::new(ClientLog::new(Some(&options.report.join("clients.jsonl")))?);
    found.surroundings = Some(Surroundings::look(&stage).await);
    say(format!("{} faults planned, {} orders a second", options.plan.len(), options.rate));

    let mut background = JoinSet::new();
    let exits = supervise(&stage, &mut background);
    let load = Arc::new(Load {
        http: stage.clients.clone(),
        producers: stage.producer_urls(),
        query: stage.parts.query_url.clone(),
        shops: stage.shops.clone(),
        seed: options.seed,
        rate: options.rate,
        log: Arc::clone(&log),
        crashing: AtomicU64::new(0),
    });
    let started = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    let nemesis = Arc::new(Nemesis::new(Arc::clone(&stage), Arc::clone(&load), started));
    let operator = Arc::new(Operator::default());
    background.spawn(Arc::clone(&load).read());
    let operating = background.spawn(Arc::clone(&operator).run(Arc::clone(&stage)));
    let progress = background.spawn(progress(Arc::clone(&log), Arc::clone(&say), started));
    let posting = tokio::spawn(load.run(Arc::clone(&stop)));

    found.faults = Arc::clone(&nemesis).run(options.plan.clone(), |fault| say(line(fault))).await;
    sleep(options.duration.saturating_sub(started.elapsed())).await;
    stop.store(true, Ordering::Relaxed);
    operating.abort();
    found.loaded = started.elapsed();
    // The drain begins here: nothing is harmed any more, and nothing new is put in. All else is part of it.
    let healed = Instant::now();
    nemesis.heal().await.context("cannot heal")?;
    posting.await.context("the load")?;
    progress.abort();
    say(format!("{} orders accepted; draining", log.accepted_count()));
    let drained = drain::until_drained(&stage, &log, healed, options.drain_max, &*say).await;
    say(format!("drained: {drained:?}; gathering evidence"));
    found.drained = Some(drained);
    found.requests = log.tally();
    found.asked = operator.asked();

    let mut evidence = gather(&stage, &log, &nemesis, found.asked.clone()).await?;
    let sandbox = &stage.sandbox;
    found.waste =
        stage.witness.ask(|database| async move { waste::wasted(sandbox, &database).await }).await?;
    background.shutdown().await;
    evidence.exits.extend(exits.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
    found.verdict = Some(judge(&evidence));
    Ok(())
}

/// An empty folder: logs of another run would be taken for those of this one. Only what looks like an earlier run is removed.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    if LEFT_BY_A_RUN.iter().any(|name| folder.join(name).exists()) {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let is_empty = fs::read_dir(folder).context("the folder of the report")?.next().is_none();
    anyhow::ensure!(is_empty, "{} is neither empty nor an earlier run", folder.display());
    Ok(())
}

/// Starts processes again that end; returns where it notes those that nobody killed.
fn supervise(stage: &Arc<Stage>, background: &mut JoinSet<()>) -> Arc<Mutex<Vec<String>>> {
    let exits = Arc::new(Mutex::new(Vec::new()));
    let (stage, noted) = (Arc::clone(stage), Arc::clone(&exits));
    background.spawn(async move {
        let note = |exit| noted.lock().unwrap_or_else(PoisonError::into_inner).push(exit);
        join_all(stage.parts.all().map(|part| part.supervise(note))).await;
    });
    exits
}

async fn progress(log: Arc<ClientLog>, say: Arc<impl Fn(String)>, started: Instant) {
    let mut every = interval(PROGRESS_EVERY);
    every.tick().await;
    loop {
        every.tick().await;
        let (tally, accepted) = (log.tally(), log.accepted_count());
        say(format!(
            "{:>5} s  {accepted} accepted; of {} requests {} were answered 503, {} not at all",
            started.elapsed().as_secs(),
            tally.requests,
            tally.unavailable,
            tally.unanswered
        ));
    }
}

fn line(fault: &Injected) -> String {
    let outcome = match (&fault.evidence, &fault.trouble) {
        (Some(evidence), _) => evidence.clone(),
        (None, trouble) => format!("NO EVIDENCE: {}", trouble.as_deref().unwrap_or("?")),
    };
    format!("{:>7.1} s  #{} {}: {outcome}", fault.healed_s, fault.number, fault.fault)
}

async fn gather(
    stage: &Stage,
    log: &ClientLog,
    nemesis: &Nemesis,
    asked: Requests,
) -> anyhow::Result<Evidence> {
    let ledgers = collect::ledgers(&stage.sandbox).await;
    sleep(PAUSE).await;
    let exits = stage.stop_workers().await?;
    let (broker, witness) = (stage.control().await?, &stage.witness);
    Ok(Evidence {
        clients: log.finish()?,
        ledgers,
        ledgers_later: collect::ledgers(&stage.sandbox).await,
        holdings: collect::holdings(&stage.sandbox).await?,
        stored: witness.ask(|database| async move { collect::stored(&database).await }).await?,
        left_in_queues: broker.depths().await,
        parked: witness.ask(|database| async move { collect::dead_letters(&database).await }).await?,
        events: collect::events(&broker, EVENTS).await,
        poison: nemesis.poison(),
        crashing: [CRASHING.to_owned()].into(),
        asked,
        exits,
        done_percent_min: DONE_PERCENT_MIN,
    })
}
