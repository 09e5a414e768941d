//! Waiting for a condition, under a deadline.

use std::{fmt::Debug, time::Duration};

use tokio::time::{Instant, sleep};

/// Far beyond what anything takes, also on a busy machine; a test that reaches it fails.
pub const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `probe` until it returns `Ok`. Its error says how things are instead.
///
/// # Panics
/// When that is not so by the deadline; the message holds the last error.
pub async fn until<T, E: Debug>(what: &str, probe: impl AsyncFnMut() -> Result<T, E>) -> T {
    until_within(DEADLINE, what, probe).await
}

/// As [`until`], for what takes longer than most.
///
/// # Panics
/// When it is not so within `limit`; the message holds the last error.
pub async fn until_within<T, E: Debug>(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(instead) if Instant::now() >= deadline => {
                panic!("not within {} s: {what}; instead: {instead:#?}", limit.as_secs())
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Repeats `probe` until it returns what is wanted.
///
/// # Panics
/// When it returns something else by the deadline; the message holds both.
pub async fn until_equal<T: PartialEq + Debug>(what: &str, wanted: T, mut probe: impl AsyncFnMut() -> T) {
    let what = format!("{what}: {wanted:?}");
    until(&what, async || {
        let found = probe().await;
        if found == wanted { Ok(()) } else { Err(found) }
    })
    .await;
}
