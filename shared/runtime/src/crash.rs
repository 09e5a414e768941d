//! Crash points: named places between an effect and its record at which a process ends itself by SIGKILL when told to; and two
//! more misbehaviours for tests, a clock that is wrong and an order that aborts whoever works it.
//!
//! All of it is gone from builds without debug assertions. The crate `fail` needs a feature for that, and so a second build.

use std::{
    env, fs,
    io::{Write as _, stderr},
    path::PathBuf,
    process,
    str::FromStr,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use rustix::process::{Signal, getpid, kill_process};

/// Every crash point, by process and then in the order in which an order meets them.
pub const POINTS: &[&str] = &[
    "producer.publish.before",
    "producer.publish.after",
    "producer.accepted.after",
    "worker.insert.before",
    "worker.insert.after",
    "worker.claim.before",
    "worker.claim.after",
    "worker.call_do.before",
    "worker.call_do.after",
    "worker.call_undo.before",
    "worker.call_undo.after",
    "worker.write.before",
    "worker.write.after",
    "worker.note.before",
    "worker.note.after",
    "worker.publish_copy.before",
    "worker.publish_copy.after",
    "worker.publish_compensation.before",
    "worker.publish_compensation.after",
    "worker.publish_dead_letter.before",
    "worker.publish_dead_letter.after",
    "worker.publish_event.before",
    "worker.publish_event.after",
    "worker.ack.before",
    "worker.ack.after",
    "sweep.publish.before",
    "sweep.publish.after",
    "sweep.postpone.after",
    "park.begin_reading.before",
    "park.begin_reading.after",
    "park.store.before",
    "park.store.after",
    "park.end_readings.before",
    "park.end_readings.after",
    "park.hold.before",
    "park.hold.after",
    "park.ack.before",
    "park.ack.after",
];

/// What a process writes to standard error before it ends itself, followed by the point's name: the evidence.
pub const EVIDENCE: &str = "crash point ";

const ON: bool = cfg!(debug_assertions);
const CLOCK_IS_READ_EVERY: Duration = Duration::from_secs(1);

static ARMED: OnceLock<Armed> = OnceLock::new();

/// What this process was told to do wrong.
#[derive(Debug, Default)]
struct Armed {
    crash: Option<CrashAt>,
    clock: Option<Clock>,
    poison_sku: Option<String>,
}

/// A point, and the how-manieth passing of it is the last.
#[derive(Debug)]
struct CrashAt {
    point: &'static str,
    passings_left: AtomicU32,
}

/// A file that says by how many milliseconds the clock is wrong.
#[derive(Debug)]
struct Clock {
    file: PathBuf,
    last: Mutex<Option<(Instant, i64)>>,
}

/// Reads what the process is to do wrong; to be called by `main`, once, before anything else.
///
/// - `ORDERFLEET_CRASH_AT=<point>[:<n>]`: end by SIGKILL at the n-th passing of this crash point, by default the first.
/// - `ORDERFLEET_CLOCK_FILE=<file>`: add to the clock the milliseconds in this file, read again once a second.
/// - `ORDERFLEET_ABORT_ON_SKU=<sku>`: abort just before the second step of an order with this SKU.
///
/// # Errors
/// There is no such crash point. Without debug assertions nothing is read.
pub fn arm() -> anyhow::Result<()> {
    if !ON {
        return Ok(());
    }
    let told = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let armed = Armed {
        crash: told("ORDERFLEET_CRASH_AT").map(|text| text.parse()).transpose()?,
        clock: told("ORDERFLEET_CLOCK_FILE").map(|file| Clock { file: file.into(), last: Mutex::default() }),
        poison_sku: told("ORDERFLEET_ABORT_ON_SKU"),
    };
    if ARMED.set(armed).is_err() {
        bail!("crash points are armed twice");
    }
    Ok(())
}

/// A crash point of its own.
#[inline]
pub fn point(name: &str) {
    if ON && let Some(crash) = armed(|armed| armed.crash.as_ref()) {
        crash.pass(name);
    }
}

/// Performs an effect between two crash points: `<name>.before` and `<name>.after`.
#[cfg(debug_assertions)]
pub async fn around<T>(name: &str, effect: impl Future<Output = T>) -> T {
    point(&format!("{name}.before"));
    let outcome = effect.await;
    point(&format!("{name}.after"));
    outcome
}

/// Performs an effect: this build has no crash points. No async function, which would keep the name.
#[cfg(not(debug_assertions))]
pub fn around<F: Future>(_name: &str, effect: F) -> F {
    effect
}

/// Milliseconds by which this process's clock is to be wrong; 0 unless told otherwise.
#[must_use]
pub fn clock_error_ms() -> i64 {
    if !ON {
        return 0;
    }
    armed(|armed| armed.clock.as_ref()).map_or(0, Clock::error_ms)
}

/// Whether a worker is to abort over an order with these SKUs.
pub fn is_poison<'a>(skus: impl IntoIterator<Item = &'a str>) -> bool {
    if !ON {
        return false;
    }
    armed(|armed| armed.poison_sku.as_ref())
        .is_some_and(|poison| skus.into_iter().any(|sku| sku == poison.as_str()))
}

fn armed<T>(part: impl Fn(&'static Armed) -> Option<T>) -> Option<T> {
    ARMED.get().and_then(part)
}

impl CrashAt {
    fn pass(&self, name: &str) {
        if name == self.point && self.passings_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end();
        }
    }

    fn end(&self) -> ! {
        let _ = writeln!(stderr(), "{EVIDENCE}{}", self.point);
        // As by somebody else: nothing is flushed, closed or told to anybody.
        let _ = kill_process(getpid(), Signal::KILL);
        // Not reached: a process may always kill itself.
        process::abort()
    }
}

impl FromStr for CrashAt {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, passing) = text.split_once(':').unwrap_or((text, "1"));
        let point = POINTS.iter().find(|point| **point == name);
        let point = point.with_context(|| format!("there is no crash point {name}"))?;
        let passing = passing.parse().ok().filter(|passing| *passing > 0);
        let passing: u32 = passing.with_context(|| format!("{text}: which passing? A number from 1"))?;
        Ok(Self { point, passings_left: AtomicU32::new(passing) })
    }
}

impl Clock {
    /// A file that is missing or holds no number leaves the error as it was.
    fn error_ms(&self) -> i64 {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match *last {
            Some((read_at, error_ms)) if read_at.elapsed() < CLOCK_IS_READ_EVERY => error_ms,
            before => {
                let text = fs::read_to_string(&self.file).unwrap_or_default();
                let error_ms = text.trim().parse().unwrap_or(before.map_or(0, |(_, error_ms)| error_ms));
                *last = Some((Instant::now(), error_ms));
                error_ms
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    const CRATES: [&str; 2] = ["producer", "workers"];

    /// The names that the sources of the services give to crash points.
    fn placed() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut names = BTreeSet::new();
        for source in CRATES.iter().flat_map(|name| sources(&root.join(name).join("src"))) {
            let text = fs::read_to_string(&source).unwrap();
            for (call, ends) in
                [("crash::point(", [""].as_slice()), ("crash::around(", &[".before", ".after"])]
            {
                for rest in text.split(call).skip(1) {
                    let name = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                    let name = name.unwrap_or_else(|| panic!("{}: {call} with no literal", source.display()));
                    names.extend(ends.iter().map(|end| format!("{name}{end}")));
                }
            }
        }
        names
    }

    fn sources(folder: &Path) -> Vec<PathBuf> {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let found = paths.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
        found.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
    }

    #[test]
    fn the_list_names_the_points_in_the_sources_and_no_others() {
        let listed: BTreeSet<_> = POINTS.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(listed.len(), POINTS.len(), "a name is listed twice");
        assert_eq!(listed, placed());
    }

    #[test]
    fn a_point_is_told_by_name_and_passing() {
        let crash: CrashAt = "worker.ack.before:3".parse().unwrap();
        assert_eq!((crash.point, crash.passings_left.into_inner()), ("worker.ack.before", 3));
        let crash: CrashAt = "worker.ack.before".parse().unwrap();
        assert_eq!(crash.passings_left.into_inner(), 1);
        for wrong in ["worker.ack", "worker.ack.before:0", "worker.ack.before:", ":1"] {
            assert!(wrong.parse::<CrashAt>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_clock_is_wrong_by_what_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clock");
        let clock = || Clock { file: file.clone(), last: Mutex::default() };
        assert_eq!(clock().error_ms(), 0);
        fs::write(&file, "-90000\n").unwrap();
        let told = clock();
        assert_eq!(told.error_ms(), -90_000);
        fs::write(&file, "half a num").unwrap();
        let long_ago = Instant::now().checked_sub(CLOCK_IS_READ_EVERY).unwrap();
        *told.last.lock().unwrap() = Some((long_ago, -90_000));
        assert_eq!(told.error_ms(), -90_000);
    }
}
