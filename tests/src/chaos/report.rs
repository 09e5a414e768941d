//! What a run leaves behind: a verdict with everything needed to judge it, as text and as JSON.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    thread,
};

use anyhow::Context as _;
use mongodb::{Database, bson::doc};
use serde::Serialize;

use crate::chaos::{
    Class, Fault, Injected, Options, Stage, Tally, Verdict, Waste, nemesis::by_kind, run::Found,
};

const VIOLATIONS_SHOWN: usize = 30;

/// How a run came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All zeros, with evidence.
    Passed,
    /// A promise was broken.
    Violated,
    /// No promise was seen broken, but the run proves nothing: a planned fault without evidence, too few faults or orders, or
    /// the harness itself failed.
    Invalid,
}

/// Machine and versions.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Surroundings {
    machine: String,
    rabbitmq: String,
    mongodb: String,
    build: &'static str,
    commit: String,
}

/// The report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// How the run came out.
    pub outcome: Outcome,
    /// Why it is invalid, where it is.
    pub invalid: Vec<String>,
    /// What decided orders and faults.
    pub seed: u64,
    /// How long orders were posted.
    pub load_s: f64,
    /// From the healing of the last fault, or the last order if that was later, until everything had ended.
    pub drain_s: Option<f64>,
    /// What was still open when the drain should have been over.
    pub not_drained: Option<String>,
    /// The checker's word; none where the harness failed before.
    pub verdict: Option<Verdict>,
    /// Attempts that were wasted.
    pub waste: Waste,
    /// Orders that operators had run again.
    pub runs_asked: usize,
    /// Holds that operators released.
    pub releases_asked: usize,
    /// The clients' requests.
    pub requests: Tally,
    /// Faults by kind: planned, and with evidence.
    pub kinds: BTreeMap<String, (usize, usize)>,
    /// Machine and versions.
    pub surroundings: Surroundings,
    /// Every fault.
    pub faults: Vec<Injected>,
}

impl Surroundings {
    pub(super) async fn look(stage: &Stage) -> Self {
        let rabbitmq = stage.broker.lock().await.rabbitmqctl(&["version"]).await;
        let build_info =
            |database: Database| async move { Ok(database.run_command(doc! { "buildInfo": 1 }).await?) };
        let build_info = stage.witness.ask(build_info).await.ok();
        let mongodb = build_info.and_then(|info| Some(info.get_str("version").ok()?.to_owned()));
        let processors = thread::available_parallelism().map_or(0, usize::from);
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory =
            memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            machine: format!(
                "{processors} processors, {} GiB, Linux {}",
                memory.unwrap_or_default() >> 20,
                kernel.trim()
            ),
            rabbitmq: rabbitmq.map_or_else(|_| "?".into(), |version| version.trim().to_owned()),
            mongodb: mongodb.unwrap_or_else(|| "?".into()),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            commit: commit(),
        }
    }
}

impl Report {
    pub(super) fn new(options: &Options, found: Found) -> Self {
        let invalid = invalid(options, &found);
        let wasteful = options.wasted_max.is_some_and(|most| found.waste.most > most);
        let broken = wasteful || found.verdict.as_ref().is_some_and(|verdict| !verdict.is_clean());
        let late = matches!(found.drained, Some(Err(_)));
        let outcome = match () {
            () if broken || late => Outcome::Violated,
            () if !invalid.is_empty() => Outcome::Invalid,
            () => Outcome::Passed,
        };
        let (drain_s, not_drained) = match found.drained {
            Some(Ok(took)) => (Some(took.as_secs_f64()), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        Self {
            outcome,
            invalid,
            seed: options.seed,
            load_s: found.loaded.as_secs_f64(),
            drain_s,
            not_drained,
            verdict: found.verdict,
            waste: found.waste,
            runs_asked: found.asked.runs.len(),
            releases_asked: found.asked.releases.values().map(BTreeSet::len).sum(),
            requests: found.requests,
            kinds: by_kind(&found.faults),
            surroundings: found.surroundings.unwrap_or_default(),
            faults: found.faults,
        }
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("report.json", serde_json::to_string_pretty(self)? + "\n")?;
        write("report.txt", self.text())
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<14}{value}");
        };
        row("outcome", format!("{:?}", self.outcome).to_lowercase());
        if let Some(verdict) = &self.verdict {
            let counts = &verdict.counts;
            row("attempted", counts.attempted.to_string());
            row("accepted", counts.accepted.to_string());
            row("  done", counts.done.to_string());
            row("  undone", counts.undone.to_string());
            row("  held", counts.held.to_string());
            row("  conflict", counts.conflict.to_string());
            row("recovered", counts.recovered.to_string());
            row("lost", verdict.of(Class::Lost).to_string());
            row("duplicated", verdict.of(Class::Duplicated).to_string());
            row("half-done", verdict.of(Class::HalfDone).to_string());
            row("unexpected", verdict.of(Class::Unexpected).to_string());
        }
        let Waste { attempts, orders, most, most_of } = &self.waste;
        let of = most_of.as_deref().unwrap_or("-");
        row("wasted", format!("{attempts} attempts of {orders} orders, {most} at most of one ({of})"));
        row("asked for", format!("{} further runs, {} releases", self.runs_asked, self.releases_asked));
        let evidenced = self.faults.iter().filter(|fault| fault.evidence.is_some()).count();
        row("faults", format!("{} planned, {evidenced} with evidence", self.faults.len()));
        if !cfg!(debug_assertions) {
            let kinds = Fault::OF_DEBUG_BUILDS.map(|kind| kind.to_string()).join(", ");
            row("left out", format!("{kinds}: services of a release build cannot be told to"));
        }
        match (self.drain_s, &self.not_drained) {
            (Some(seconds), _) => row("drained in", format!("{seconds:.1} s")),
            (None, Some(why)) => row("not drained", why.clone()),
            (None, None) => {}
        }
        let Tally { requests, accepted, unavailable, unanswered, others } = self.requests;
        row(
            "requests",
            format!(
                "{requests} in {:.0} s: {accepted} x 202, {unavailable} x 503, {unanswered} without an answer, {others} others",
                self.load_s
            ),
        );
        row("seed", self.seed.to_string());
        let Surroundings { machine, rabbitmq, mongodb, build, commit } = &self.surroundings;
        row("machine", machine.clone());
        row("versions", format!("RabbitMQ {rabbitmq}, MongoDB {mongodb}, {build} build of {commit}"));
        text.push_str(&self.details());
        text
    }

    fn details(&self) -> String {
        let mut text = String::from("\nfaults by kind (planned, with evidence)\n");
        for (kind, (planned, evidenced)) in &self.kinds {
            let _ = writeln!(text, "  {kind:<40}{planned:>4}{evidenced:>5}");
        }
        let mut list = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(text, "\n{title}\n  {}", lines.join("\n  "));
            }
        };
        list("invalid, because", self.invalid.clone());
        let violations = self.verdict.iter().flat_map(|verdict| &verdict.violations).take(VIOLATIONS_SHOWN);
        let shown = violations.map(|it| format!("{:?}: {}: {}: {}", it.class, it.rule, it.about, it.found));
        list("broken promises", shown.collect());
        text
    }
}

/// Why a run proves nothing, where it does not.
fn invalid(options: &Options, found: &Found) -> Vec<String> {
    let mut invalid: Vec<_> =
        found.failure.iter().map(|failure| format!("the harness failed: {failure}")).collect();
    let without = found.faults.iter().filter(|fault| fault.evidence.is_none());
    invalid.extend(without.map(|Injected { number, fault, trouble, .. }| {
        format!("no evidence of #{number} {fault}: {}", trouble.as_deref().unwrap_or("?"))
    }));
    if found.faults.len() < options.plan.len() {
        invalid.push(format!("{} of {} faults were injected", found.faults.len(), options.plan.len()));
    }
    let evidenced = found.faults.iter().filter(|fault| fault.evidence.is_some()).count();
    if evidenced < options.faults_min {
        invalid.push(format!("{evidenced} faults with evidence, fewer than {}", options.faults_min));
    }
    let accepted = found.verdict.as_ref().map_or(0, |verdict| verdict.counts.accepted);
    if accepted < options.orders_min {
        invalid.push(format!("{accepted} accepted orders, fewer than {}", options.orders_min));
    }
    invalid
}

/// Writes one JSON line for each item.
pub(super) fn json_lines(path: &Path, items: &[impl Serialize]) -> anyhow::Result<()> {
    let mut text = String::new();
    for item in items {
        text.push_str(&serde_json::to_string(item)?);
        text.push('\n');
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The commit of the working folder, with a mark if files differ from it.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain"]).is_none_or(|files| !files.is_empty());
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "?".into());
    if changed { format!("{commit} with changes") } else { commit }
}
