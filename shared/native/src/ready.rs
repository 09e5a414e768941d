//! Waiting until a server answers, and locking its folder against a second one.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::{Error, Process};

const PROBE_INTERVAL: Duration = Duration::from_millis(20);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// An orphan of a killed parent may need this long to end.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);

/// Repeats `probe` until it succeeds; its error says what is still missing.
pub(crate) async fn until_ready<F: Future<Output = Result<(), String>>>(
    process: &mut Process,
    within: Duration,
    probe: impl Fn() -> F,
) -> Result<(), Error> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = process.exited()? {
            return Err(Error::ended(process.name(), status, process.log()));
        }
        let reason = match timeout(PROBE_TIMEOUT, probe()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(reason)) => reason,
            Err(_) => "it accepts connections and does not answer".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(Error::not_ready(process.name(), within, reason, process.log()));
        }
        sleep(PROBE_INTERVAL).await;
    }
}

/// Repeats `probe` until it succeeds and returns what it found; its error says what is still missing.
pub(crate) async fn until<T, F: Future<Output = Result<T, String>>>(
    awaited: &str,
    within: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T, Error> {
    let deadline = Instant::now() + within;
    loop {
        match probe().await {
            Ok(found) => return Ok(found),
            Err(reason) if Instant::now() >= deadline => {
                return Err(Error::Late { awaited: awaited.to_owned(), within, reason });
            }
            Err(_) => sleep(PROBE_INTERVAL).await,
        }
    }
}

/// Locks `<dir>/lock`, waiting for an orphan to end.
pub(crate) async fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let attempt = || format!("lock {}", path.display());
    let file = File::create(&path).map_err(Error::io(attempt()))?;
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(Error::io(attempt())(error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(Error::InUse { dir: dir.to_owned() });
            }
            Err(TryLockError::WouldBlock) => sleep(PROBE_INTERVAL).await,
        }
    }
}
