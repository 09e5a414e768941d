//! `orderfleet-model`: searches, simulates and replays.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use orderfleet_model::{
    Judged, Property, Schedule, exhaustive, shrink,
    simulate::{self, Tally},
};
use serde_json::json;

/// The saga core in a hostile world: searches every schedule within bounds, simulates random ones, replays kept ones
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  orderfleet-model search\n  orderfleet-model search --full --scope 'late calls'\n  orderfleet-model simulate --sagas 1000000 --seed 7\n  orderfleet-model replay model/corpus\n\n\
                  Exit codes: 0 no property is violated, 1 one is (stdout shows the schedule), 2 unknown options, 3 what was done means nothing: a goal was not reached, not every state was seen, a kind of trouble never happened, or a kept action is not possible"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// How results are shown.
    #[arg(long, global = true, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See every schedule within the bounds of each scope
    Search {
        /// The large bounds instead of the small ones.
        #[arg(long)]
        full: bool,
        /// Only scopes with this in their name.
        #[arg(long, default_value = "")]
        scope: String,
        /// Give up a scope after so many states: exit code 3.
        #[arg(long)]
        states_max: Option<usize>,
        /// Threads; 0 is one per core.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Where a counter-example is written.
        #[arg(long, value_name = "FILE")]
        keep: Option<PathBuf>,
        /// Only damage counts: go on past a breach of a discipline.
        #[arg(long)]
        outcomes: bool,
    },
    /// Play the schedules of many seeds, in virtual time
    Simulate {
        /// How many.
        #[arg(long, default_value_t = 100_000)]
        sagas: u64,
        /// The first seed; the others follow it.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Threads; 0 is one per core.
        #[arg(long, default_value_t = 0)]
        threads: usize,
        /// Where the smallest schedule of a failing seed is written [default: model/corpus/seed-<seed>.json].
        #[arg(long, value_name = "FILE", conflicts_with = "no_keep")]
        keep: Option<PathBuf>,
        /// Do not write it anywhere.
        #[arg(long)]
        no_keep: bool,
        /// Only damage counts: go on past a breach of a discipline.
        #[arg(long)]
        outcomes: bool,
    },
    /// Play kept schedules: a file, or every .json of a folder
    Replay {
        /// The file or folder.
        path: PathBuf,
        /// Only damage counts: go on past a breach of a discipline.
        #[arg(long)]
        outcomes: bool,
    },
}

/// Of a schedule that does not come to rest, the end is enough.
const STORY_LINES_MAX: usize = 100;

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match &cli.command {
        Command::Search { full, scope, states_max, threads, keep, outcomes } => {
            let mut scopes = exhaustive::scopes(*full);
            scopes.retain(|named| named.name.contains(scope));
            scopes.iter_mut().for_each(|named| named.scope.judged = judged(*outcomes));
            search(cli.output, scopes, *states_max, cores(*threads), keep.as_deref())
        }
        Command::Simulate { sagas, seed, threads, keep, no_keep, outcomes } => {
            let seeds = Seeds { first: *seed, sagas: *sagas, judged: judged(*outcomes) };
            let keep = if *no_keep { Keep::Nowhere } else { keep.clone().map_or(Keep::InCorpus, Keep::In) };
            simulate(cli.output, &seeds, cores(*threads), &keep)
        }
        Command::Replay { path, outcomes } => replay(cli.output, path, *outcomes),
    }
}

/// Seeds to play, one after the other.
struct Seeds {
    first: u64,
    sagas: u64,
    judged: Judged,
}

/// Where the schedule of a failing seed goes.
enum Keep {
    Nowhere,
    In(PathBuf),
    /// Among those that every change is tried with.
    InCorpus,
}

fn judged(outcomes: bool) -> Judged {
    if outcomes { Judged::Outcomes } else { Judged::Everything }
}

fn cores(threads: usize) -> usize {
    if threads > 0 { threads } else { thread::available_parallelism().map_or(1, usize::from) }
}

fn search(
    output: Output,
    scopes: Vec<exhaustive::Named>,
    states_max: Option<usize>,
    threads: usize,
    keep: Option<&Path>,
) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for named in scopes {
        let found = exhaustive::Exhaustive::new(named.scope).search(threads, states_max);
        let line = json!({
            "scope": named.name, "states": found.states, "generated": found.generated, "depth": found.depth,
            "seconds": found.took.as_secs_f32(), "exhausted": found.exhausted, "unreached": found.unreached,
            "violated": found.counterexample.as_ref().map(|(property, _)| property.name()),
        });
        show(output, &line, || {
            let end = match (&found.counterexample, found.exhausted) {
                (Some((property, _)), _) => format!("VIOLATED: {}", property.name()),
                (None, true) => "exhausted, no violation".to_owned(),
                (None, false) => "NOT exhausted, no violation so far".to_owned(),
            };
            let vacuous = match found.unreached.as_slice() {
                [] => String::new(),
                unreached => format!("; VACUOUS, never reached: {}", unreached.join(", ")),
            };
            format!(
                "{:<36} {:>10} states, depth {:>3}, {:>6.1} s: {end}{vacuous}",
                named.name,
                found.states,
                found.depth,
                found.took.as_secs_f32()
            )
        });
        if let Some((property, schedule)) = found.counterexample {
            violated(&schedule, property, keep)?;
            return Ok(ExitCode::from(1));
        }
        if !found.exhausted || !found.unreached.is_empty() {
            code = ExitCode::from(3);
        }
    }
    Ok(code)
}

fn simulate(output: Output, seeds: &Seeds, threads: usize, keep: &Keep) -> anyhow::Result<ExitCode> {
    let Seeds { first, sagas, judged } = *seeds;
    let started = Instant::now();
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut tally, mut failure) = (Tally::default(), None);
    thread::scope(|scope| {
        let worker = || {
            let mut tally = Tally::default();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= sagas || failed.load(Ordering::Relaxed) {
                    return (tally, None);
                }
                let seed = first.wrapping_add(index);
                let (schedule, verdict) = simulate::run(seed, judged);
                tally.count(&schedule.scope.budget, &verdict);
                if let Some((property, _)) = verdict.violation() {
                    failed.store(true, Ordering::Relaxed);
                    return (tally, Some((seed, *property, schedule)));
                }
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        while output == Output::Text && workers.iter().any(|worker| !worker.is_finished()) {
            thread::park_timeout(Duration::from_millis(200));
            if started.elapsed().as_secs() % 10 == 9 {
                thread::park_timeout(Duration::from_millis(800));
                eprintln!("{} of {sagas} sagas", next.load(Ordering::Relaxed).min(sagas));
            }
        }
        for worker in workers {
            let (part, found) = worker.join().expect("a simulation does not panic");
            tally.add(&part);
            failure = failure.take().or(found);
        }
    });
    let seconds = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    let per_minute = tally.sagas as f64 / seconds * 60.0;
    let line = json!({
        "tally": tally, "seconds": seconds, "sagas_per_minute": per_minute, "threads": threads,
        "never_happened": tally.never_happened(), "first_seed": first, "failed_seed": failure.as_ref().map(|(seed, ..)| seed),
        "violated": failure.as_ref().map(|(_, property, _)| property.name()),
    });
    show(output, &line, || {
        let listed = |counts: Vec<(String, u64)>| {
            counts.iter().map(|(name, count)| format!("  {count:>10}  {name}\n")).collect::<String>()
        };
        let endings = tally.endings.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let faults = tally.faults.iter().map(|(name, count)| (name.clone(), *count)).collect();
        format!(
            "{} sagas, seeds from {first}, {} actions in {seconds:.1} s on {threads} threads: {per_minute:.0} a minute\nendings\n{}faults\n{}",
            tally.sagas,
            tally.actions,
            listed(endings),
            listed(faults)
        )
    });
    let Some((seed, property, schedule)) = failure else {
        let never_happened = tally.never_happened();
        if never_happened.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("VACUOUS, never happened: {}", never_happened.join(", "));
        return Ok(ExitCode::from(3));
    };
    let smallest = Schedule { note: format!("seed {seed}"), ..shrink(&schedule) };
    let file = match keep {
        Keep::Nowhere => None,
        Keep::In(file) => Some(file.clone()),
        Keep::InCorpus => {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
            Some(corpus.join(format!("seed-{seed}.json")))
        }
    };
    violated(&smallest, property, file.as_deref())?;
    Ok(ExitCode::from(1))
}

fn replay(output: Output, path: &Path, outcomes: bool) -> anyhow::Result<ExitCode> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        files = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<_>>()?;
        files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
        files.sort();
    }
    let mut verdicts = BTreeMap::new();
    for file in &files {
        let shown = file.display().to_string();
        let text = fs::read(file).with_context(|| format!("cannot read {shown}"))?;
        let mut schedule: Schedule =
            serde_json::from_slice(&text).with_context(|| format!("{shown} is no schedule"))?;
        if outcomes {
            schedule.scope.judged = Judged::Outcomes;
        }
        let verdict = schedule.play();
        if path.is_file() {
            verdict.story(&schedule.scope).iter().for_each(|line| eprintln!("  {line}"));
        }
        let violation = verdict.violation().map(|(property, how)| (property.name(), how.clone()));
        verdicts.insert(shown, (violation, verdict.left_out));
    }
    for (file, (violation, left_out)) in &verdicts {
        let line = json!({ "file": file, "violated": violation, "left_out": left_out });
        show(output, &line, || {
            let impossible = match left_out.as_slice() {
                [] => String::new(),
                left_out => format!("; NOT POSSIBLE, and left out: actions {left_out:?}"),
            };
            match violation {
                Some((property, how)) => format!("{file}: VIOLATED: {property}: {how}{impossible}"),
                None => format!("{file}: no violation{impossible}"),
            }
        });
    }
    Ok(match () {
        () if verdicts.values().any(|(violation, _)| violation.is_some()) => ExitCode::from(1),
        () if verdicts.values().any(|(_, left_out)| !left_out.is_empty()) => ExitCode::from(3),
        () => ExitCode::SUCCESS,
    })
}

/// Shows and keeps a schedule that violates a property.
fn violated(schedule: &Schedule, property: Property, keep: Option<&Path>) -> anyhow::Result<()> {
    let verdict = schedule.play();
    if let Some((_, how)) = verdict.violation() {
        eprintln!("{}: {how}", property.name());
    }
    let story = verdict.story(&schedule.scope);
    for line in &story[story.len().saturating_sub(STORY_LINES_MAX)..] {
        eprintln!("  {line}");
    }
    if let Some(path) = keep {
        let text = serde_json::to_string(schedule)?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("kept in {}", path.display());
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn show(output: Output, line: &serde_json::Value, text: impl FnOnce() -> String) {
    match output {
        Output::Json => println!("{line}"),
        Output::Text => println!("{}", text()),
    }
}
