//! Waiting until every order has ended and the queues are empty.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::chaos::{ClientLog, Stage, collect};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is still open.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Open {
    /// Orders that have not ended, or owe a publish.
    Orders { unfinished: u64, owing: u64 },
    /// Messages in queues.
    Messages(BTreeMap<String, u32>),
    /// Accepted orders without a document.
    NotStored(usize),
}

/// Waits until all accepted orders are stored, have ended or are held, owe nothing, and no message waits; looks twice.
/// Returns how long it took; `say` gets what is still open whenever that changes.
///
/// # Errors
/// When it is not so within `limit`; the text says what is still open.
pub(super) async fn until_drained(
    stage: &Stage,
    log: &ClientLog,
    limit: Duration,
    say: &impl Fn(String),
) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let (mut drained, mut said): (Option<Duration>, _) = (None, String::new());
    loop {
        match (open(stage, log).await, drained) {
            (Ok(None), Some(since)) => return Ok(since),
            (Ok(None), None) => drained = Some(started.elapsed()),
            (still_open, _) => {
                drained = None;
                let still_open = format!("{still_open:?}");
                anyhow::ensure!(started.elapsed() <= limit, "not within {} s: {still_open}", limit.as_secs());
                if still_open != said {
                    say(format!("{:>5} s  still open: {still_open}", started.elapsed().as_secs()));
                    said = still_open;
                }
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn open(stage: &Stage, log: &ClientLog) -> anyhow::Result<Option<Open>> {
    let database = stage.mongodb();
    let (unfinished, owing) = collect::unfinished(database).await?;
    if (unfinished, owing) != (0, 0) {
        return Ok(Some(Open::Orders { unfinished, owing }));
    }
    let messages = stage.control().await?.depths().await;
    if !messages.is_empty() {
        return Ok(Some(Open::Messages(messages)));
    }
    let stored = collect::ids(database).await?;
    let not_stored =
        log.accepted_orders().iter().filter(|identity| !stored.contains(&identity.order_id)).count();
    Ok((not_stored > 0).then_some(Open::NotStored(not_stored)))
}
