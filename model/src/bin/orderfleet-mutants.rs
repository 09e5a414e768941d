//! `orderfleet-mutants`: breaks one rule after the other and sees that it is caught.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, bail, ensure};
use clap::{Parser, ValueEnum};
use orderfleet_model::{
    Schedule,
    mutants::{self, Mutant},
};
use serde_json::json;

/// Breaks one rule of the saga after the other, by a change of its source, and sees that a kept schedule catches it
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  orderfleet-mutants\n  orderfleet-mutants --only key-with-epoch\n  orderfleet-mutants --find 2000000\n  \
                  orderfleet-mutants --damage 200000\n  orderfleet-mutants --worker deferral-without-copy\n\n\
                  Runs cargo in target/mutants. Exit codes: 0 every mutant is killed, 1 one survives, 2 unknown options"
)]
struct Cli {
    /// Only mutants with this in their name.
    #[arg(long, default_value = "")]
    only: String,
    /// Look for a schedule where none is kept, among so many simulated orders, and keep the smallest.
    #[arg(long, value_name = "SAGAS")]
    find: Option<u64>,
    /// See which mutants do damage to an order among so many simulated ones, past any breach of a discipline: the others may
    /// not be load-bearing.
    #[arg(long, value_name = "SAGAS", conflicts_with = "find")]
    damage: Option<u64>,
    /// Only build the worker with this mutant in it, or with none if it is `none`, and print where it is.
    #[arg(long, value_name = "MUTANT", conflicts_with_all = ["only", "find", "damage"])]
    worker: Option<String>,
    /// How results are shown.
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Packages that are copied together, and the folder of the copy.
struct Copied {
    folder: &'static str,
    packages: &'static [&'static str],
}

const MODEL: Copied = Copied { folder: "tree", packages: &["shared/domain", "model"] };
/// What a worker consists of, and what its packages are tested with.
const FLEET: Copied = Copied {
    folder: "fleet",
    packages: &[
        "shared/domain",
        "shared/messaging",
        "shared/storage",
        "shared/runtime",
        "shared/native",
        "sandbox",
        "workers",
    ],
};

/// A copy of the sources in which rules can be broken.
struct Tree {
    root: PathBuf,
    tree: PathBuf,
    packages: &'static [&'static str],
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let all = mutants::all()?;
    if let Some(name) = &cli.worker {
        let mutant = all.iter().find(|mutant| mutant.name == *name);
        ensure!(mutant.is_some() || name == "none", "there is no mutant {name}");
        let worker = Tree::prepare(&root, &FLEET)?.build_worker(mutant)?;
        show(cli.output, &json!({ "worker": &worker }), || worker.display().to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let tree = Tree::prepare(&root, &MODEL)?;
    let wanted: Vec<_> = all.iter().filter(|mutant| mutant.name.contains(&cli.only)).collect();
    ensure!(!wanted.is_empty(), "no mutant has {:?} in its name", cli.only);
    let mut killed = 0;
    for mutant in &wanted {
        let started = Instant::now();
        let verdict = match cli.damage {
            Some(sagas) => tree.damage(mutant, sagas),
            None => tree.try_mutant(mutant, cli.find),
        };
        let seconds = started.elapsed().as_secs_f32();
        let (how, is_killed) = match &verdict {
            Ok(by) => (by.clone(), true),
            Err(error) if cli.damage.is_some() => (format!("{error:#}"), false),
            Err(error) => (format!("SURVIVES: {error:#}"), false),
        };
        killed += usize::from(is_killed);
        let line = json!({
            "mutant": mutant.name, "rule": mutant.rule, "killed": is_killed, "how": how, "seconds": seconds,
        });
        show(cli.output, &line, || format!("{:<40} {how} ({seconds:.0} s)", mutant.name));
    }
    let line = json!({ "killed": killed, "mutants": wanted.len() });
    let what = if cli.damage.is_some() { "do damage" } else { "killed" };
    show(cli.output, &line, || format!("{killed}/{} {what}", wanted.len()));
    Ok(if killed == wanted.len() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl Tree {
    fn prepare(root: &Path, copied: &Copied) -> anyhow::Result<Self> {
        let tree = root.join("target/mutants").join(copied.folder);
        let this = Self { root: root.to_owned(), tree, packages: copied.packages };
        let mut manifest: toml::Table = toml::from_str(&read(&root.join("Cargo.toml"))?)?;
        let workspace = manifest.get_mut("workspace").and_then(toml::Value::as_table_mut);
        workspace
            .context("the workspace has no manifest")?
            .insert("members".into(), copied.packages.to_vec().into());
        write_if_new(&this.tree.join("Cargo.toml"), &toml::to_string(&manifest)?)?;
        write_if_new(&this.tree.join("Cargo.lock"), &read(&root.join("Cargo.lock"))?)?;
        Ok(this)
    }

    /// The property that caught it, and by how long a schedule.
    fn try_mutant(&self, mutant: &Mutant, find: Option<u64>) -> anyhow::Result<String> {
        self.copy_packages(Some(mutant))?;
        self.build("orderfleet-model")?;
        let kept = mutants::kept(mutant);
        if !kept.exists() {
            let Some(sagas) = find else { bail!("no schedule is kept; look for one with --find 1000000") };
            self.find(sagas, &kept)?;
        }
        let schedule: Schedule = serde_json::from_str(&read(&kept)?)
            .with_context(|| format!("{} is no schedule", kept.display()))?;
        if let Some((property, _)) = schedule.play().violation() {
            bail!("the kept schedule violates {} without the change, too", property.name());
        }
        let output = self.model().args(["replay", "--output", "json"]).arg(&kept).output()?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("replay said {}", String::from_utf8_lossy(&output.stderr)))?;
        let property = said["violated"][0].as_str().context("the kept schedule does not catch it")?;
        let fits = said["left_out"].as_array().is_some_and(Vec::is_empty);
        ensure!(fits, "the kept schedule does not fit: actions {} are not possible", said["left_out"]);
        Ok(format!("killed by {property}, {} actions", schedule.actions.len()))
    }

    /// The damage it does to an order in the end.
    fn damage(&self, mutant: &Mutant, sagas: u64) -> anyhow::Result<String> {
        self.copy_packages(Some(mutant))?;
        self.build("orderfleet-model")?;
        let mut simulate = self.model();
        simulate.args(["simulate", "--outcomes", "--no-keep", "--output", "json"]);
        let output = simulate.args(["--sagas", &sagas.to_string()]).output()?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("simulate said {}", String::from_utf8_lossy(&output.stderr)))?;
        let damage = said["violated"].as_str().with_context(|| format!("no damage in {sagas} orders"))?;
        Ok(format!("damage: {damage}, seed {}", said["failed_seed"]))
    }

    /// A worker that breaks this mutant's rule, under a name of its own, so that it stays beside those of others.
    fn build_worker(&self, mutant: Option<&Mutant>) -> anyhow::Result<PathBuf> {
        self.copy_packages(mutant)?;
        self.build("orderfleet-worker")?;
        let folder = self.target().join("debug");
        let name = mutant.map_or("none", |mutant| &mutant.name);
        let worker = folder.join(format!("orderfleet-worker-{name}"));
        fs::copy(folder.join("orderfleet-worker"), &worker).context("cannot copy the worker")?;
        Ok(worker)
    }

    fn copy_packages(&self, mutant: Option<&Mutant>) -> anyhow::Result<()> {
        self.packages.iter().try_for_each(|folder| self.copy(Path::new(folder), mutant))
    }

    fn copy(&self, folder: &Path, mutant: Option<&Mutant>) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.root.join(folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let is_source = path.extension().is_some_and(|it| it == "rs" || it == "toml" || it == "sh");
            if entry.file_type()?.is_dir() {
                if entry.file_name() != "tests" {
                    self.copy(&path, mutant)?;
                }
            } else if is_source {
                let mut text = read(&entry.path())?;
                if entry.file_name() == "Cargo.toml" {
                    text = without_tests(&text)?;
                }
                let text = mutant.map_or(Ok(text.clone()), |mutant| mutant.apply(&path, text))?;
                write_if_new(&self.tree.join(&path), &text)?;
            }
        }
        Ok(())
    }

    fn build(&self, program: &str) -> anyhow::Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--quiet", "--offline", "--bin", program]);
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", self.target()).stdout(Stdio::null());
        let output = cargo.output().context("cannot run cargo")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "it does not build:\n{said}");
        Ok(())
    }

    fn find(&self, sagas: u64, kept: &Path) -> anyhow::Result<()> {
        let mut simulate = self.model();
        simulate.args(["simulate", "--output", "json", "--sagas", &sagas.to_string(), "--keep"]).arg(kept);
        let output = simulate.output()?;
        ensure!(output.status.code() == Some(1), "{sagas} simulated orders did not catch it");
        Ok(())
    }

    fn target(&self) -> PathBuf {
        self.root.join("target/mutants/build")
    }

    fn model(&self) -> Command {
        Command::new(self.target().join("debug/orderfleet-model"))
    }
}

/// A manifest without what only tests need: they are not copied, and what they need may not be either.
fn without_tests(manifest: &str) -> anyhow::Result<String> {
    let mut manifest: toml::Table = toml::from_str(manifest)?;
    manifest.remove("dev-dependencies");
    Ok(toml::to_string(&manifest)?)
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Leaves the time of an unchanged file alone, so that cargo builds only what a mutant changes.
fn write_if_new(path: &Path, text: &str) -> anyhow::Result<()> {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[expect(clippy::print_stdout, reason = "the result of a command")]
fn show(output: Output, line: &serde_json::Value, text: impl FnOnce() -> String) {
    match output {
        Output::Json => println!("{line}"),
        Output::Text => println!("{}", text()),
    }
}
