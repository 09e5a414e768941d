//! What the kernel says of processes: which there are, what state they are in, how much they have computed.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::time::sleep;

const LOOK_EVERY: Duration = Duration::from_millis(20);
const SHOWS_WITHIN: Duration = Duration::from_secs(2);
/// The kernel counts in these for programs, whatever it uses itself.
const TICKS_PER_SECOND: u64 = 100;
/// Fields of `/proc/<pid>/stat` between the program's name and its user and system time.
const FIELDS_BEFORE_TIMES: usize = 11;

/// Ids of the processes of a program that were started with this argument.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn pids(program: &Path, argument: &str) -> anyhow::Result<Vec<u32>> {
    let of_process = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let command = fs::read(entry.path().join("cmdline")).ok()?;
        let mut arguments = command.split(|byte| *byte == 0);
        // The shell that guards it has the same arguments behind its own.
        let is_program = arguments.next() == Some(program.as_os_str().as_encoded_bytes());
        (is_program && arguments.any(|given| given == argument.as_bytes())).then_some(pid)
    };
    let processes = fs::read_dir("/proc").context("cannot list /proc")?;
    Ok(processes.flatten().filter_map(of_process).collect())
}

/// Waits until the kernel names this state of a process: `T` for stopped.
///
/// # Errors
/// When it does not within two seconds, or has ended.
pub(crate) async fn until_state(pid: u32, wanted: char) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let state = stat(pid).and_then(|stat| stat.chars().next());
        if state == Some(wanted) {
            return Ok(());
        }
        anyhow::ensure!(
            !has_ended(pid) && started.elapsed() < SHOWS_WITHIN,
            "process {pid} is in state {state:?} instead of {wanted}"
        );
        sleep(LOOK_EVERY).await;
    }
}

/// Whether no such process is left, but for its exit code.
pub(crate) fn has_ended(pid: u32) -> bool {
    stat(pid).is_none_or(|stat| stat.starts_with('Z'))
}

/// Processor time that a process has used; `None` once it has ended.
pub(crate) fn computed(pid: u32) -> Option<Duration> {
    Some(times(&stat(pid)?))
}

/// Processor time of every running process that this one has started, directly or not, and its own, by id and name. Names are
/// cut to 15 bytes.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn family() -> anyhow::Result<Vec<(u32, String, Duration)>> {
    let mut others: Vec<(u32, Stat)> = fs::read_dir("/proc")
        .context("cannot list /proc")?
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, Stat::parse(&fs::read_to_string(entry.path().join("stat")).ok()?)?))
        })
        .collect();
    let mut family = BTreeSet::from([std::process::id()]);
    loop {
        let before = family.len();
        let children = others.iter().filter(|(_, stat)| family.contains(&stat.parent)).map(|(pid, _)| *pid);
        family.extend(children.collect::<Vec<_>>());
        if family.len() == before {
            break;
        }
    }
    others.retain(|(pid, _)| family.contains(pid));
    Ok(others.into_iter().map(|(pid, stat)| (pid, stat.name, stat.computed)).collect())
}

/// Processor time that the whole machine has used since its start, whoever used it.
///
/// # Errors
/// When `/proc` cannot be read.
pub(crate) fn busy() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    Ok(busy_time(stat.lines().next().unwrap_or_default()))
}

/// Of the first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, and parts of user and nice again.
fn busy_time(line: &str) -> Duration {
    let ticks: Vec<u64> = line.split_whitespace().skip(1).map(|ticks| ticks.parse().unwrap_or(0)).collect();
    let busy: u64 = [0, 1, 2, 5, 6, 7].into_iter().filter_map(|at| ticks.get(at)).sum();
    Duration::from_millis(busy * 1_000 / TICKS_PER_SECOND)
}

/// A line of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    computed: Duration,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.rsplit_once(") ")?;
        let name = before.split_once('(')?.1.to_owned();
        Some(Self { name, parent: after.split_whitespace().nth(1)?.parse().ok()?, computed: times(after) })
    }
}

/// User and system time in a line of [`stat`].
fn times(stat: &str) -> Duration {
    let times = stat.split_whitespace().skip(FIELDS_BEFORE_TIMES).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse().unwrap_or(0)).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// The line of `/proc/<pid>/stat` from the state on; the name before it is in brackets and may hold anything.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything_and_times_are_those_of_the_process() {
        let line = "4242 (a) b (c) S 17 4242 4242 0 -1 4194304 900 0 0 0 250 31 7 9 20 0 4 0 100 200 300";
        let stat = Stat::parse(line).unwrap();
        let computed = Duration::from_millis(2_810);
        assert_eq!(stat, Stat { name: "a) b (c".to_owned(), parent: 17, computed });
        assert_eq!(Stat::parse("nonsense"), None);
    }

    #[test]
    fn waiting_is_no_work_of_the_machine() {
        assert_eq!(busy_time("cpu  100 20 30 9000 700 1 2 7 50 5"), Duration::from_millis(1_600));
    }

    #[test]
    fn a_process_is_of_its_own_family() {
        assert!(family().unwrap().iter().any(|(pid, ..)| *pid == std::process::id()));
    }
}
