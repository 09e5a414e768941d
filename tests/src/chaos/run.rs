//! One run from start to report: stage, load, faults, drain, evidence, verdict.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use crate::chaos::{
    ClientLog, Evidence, Injected, Load, Nemesis, Planned, Report, Stage,
    bodies::CRASHING,
    collect, drain, judge,
    report::{Surroundings, json_lines},
    stage::EVENTS,
};

/// Looked at twice with this between: what is undone must stay so.
const PAUSE: Duration = Duration::from_secs(6);
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
    /// Longest drain after the last fault.
    pub drain_max: Duration,
    /// With fewer accepted orders a run says nothing.
    pub orders_min: usize,
    /// Another worker than that of this build.
    pub worker: Option<PathBuf>,
    /// Folder of the report; what an earlier run left there is removed.
    pub report: PathBuf,
}

/// Runs it; `say` gets a line of progress now and then.
///
/// # Errors
/// When the harness itself fails: such a run is neither passed nor failed, but red.
pub async fn run(options: Options, say: impl Fn(String) + Send + Sync + 'static) -> anyhow::Result<Report> {
    let say = Arc::new(say);
    prepare(&options.report)?;
    say(format!("starting the fleet in {}", options.report.display()));
    let stage = Arc::new(
        Stage::start(&options.report, options.worker.as_deref()).await.context("the fleet does not start")?,
    );
    let log = Arc::new(ClientLog::new(Some(&options.report.join("clients.jsonl")))?);
    let surroundings = Surroundings::look(&stage).await;
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
    let (stop, nemesis) = (Arc::new(AtomicBool::new(false)), nemesis(&stage, &log, &load, started));
    background.spawn(Arc::clone(&load).read());
    let progress = background.spawn(progress(Arc::clone(&log), Arc::clone(&say), started));
    let posting = tokio::spawn(load.run(Arc::clone(&stop)));

    let faults = Arc::clone(&nemesis).run(options.plan.clone(), |fault| say(line(fault))).await;
    sleep(options.duration.saturating_sub(started.elapsed())).await;
    stop.store(true, Ordering::Relaxed);
    let loaded = started.elapsed();
    nemesis.heal().await.context("cannot heal")?;
    let healed = Instant::now();
    posting.await.context("the load")?;
    progress.abort();
    say(format!("{} orders accepted; draining", log.accepted_count()));
    let spent = healed.elapsed();
    let limit = options.drain_max.saturating_sub(spent);
    let drained = drain::until_drained(&stage, &log, limit, &*say).await;
    let drained = drained.map(|took| spent + took).map_err(|error| format!("{error:#}"));
    say(format!("drained: {drained:?}; gathering evidence"));

    let tally = log.tally();
    let evidence = gather(&stage, &log, &nemesis).await?;
    background.shutdown().await;
    let exits = exits.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let report = Report::new(&options, surroundings, loaded, tally, judge(&evidence), faults, drained, exits);
    json_lines(&options.report.join("faults.jsonl"), &report.faults)?;
    report.write(&options.report)?;
    Ok(report)
}

/// An empty folder. Only what looks like an earlier run is removed.
fn prepare(folder: &Path) -> anyhow::Result<()> {
    if folder.join("rabbitmq").is_dir() && folder.join("mongodb").is_dir() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))
}

fn nemesis(stage: &Arc<Stage>, log: &Arc<ClientLog>, load: &Arc<Load>, started: Instant) -> Arc<Nemesis> {
    let (stage, log, load) = (Arc::clone(stage), Arc::clone(log), Arc::clone(load));
    Arc::new(Nemesis { stage, log, load, poison: Mutex::default(), started })
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

async fn gather(stage: &Stage, log: &ClientLog, nemesis: &Nemesis) -> anyhow::Result<Evidence> {
    let ledgers = collect::ledgers(&stage.sandbox).await;
    sleep(PAUSE).await;
    stage.stop_workers().await?;
    let broker = stage.control().await?;
    Ok(Evidence {
        clients: log.finish()?,
        ledgers,
        ledgers_later: collect::ledgers(&stage.sandbox).await,
        holdings: collect::holdings(&stage.sandbox).await?,
        stored: collect::stored(stage.mongodb()).await?,
        left_in_queues: broker.depths().await,
        parked: collect::dead_letters(stage.mongodb()).await?,
        events: collect::events(&broker, EVENTS).await,
        poison: nemesis.poison.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        crashing: [CRASHING.to_owned()].into(),
    })
}
