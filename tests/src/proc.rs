//! What the kernel says of processes: which there are, what state they are in, how much they have computed.

use std::{
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
    let stat = stat(pid)?;
    let times = stat.split_whitespace().skip(FIELDS_BEFORE_TIMES).take(2);
    let ticks: u64 = times.map(|ticks| ticks.parse().unwrap_or(0)).sum();
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND))
}

/// The line of `/proc/<pid>/stat` from the state on; the name before it is in brackets and may hold anything.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.to_owned())
}
