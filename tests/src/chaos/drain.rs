//! Waiting until every order has ended and the queues are empty.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::chaos::{ClientLog, Stage, collect};

/// How much longer than allowed is waited, to see whether it drains at all.
const PATIENCE: Duration = Duration::from_secs(120);
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
/// Returns how long it took after `healed`; `say` gets what is still open whenever that changes.
///
/// # Errors
/// When it took longer than `limit`; the text says what was still open then, and how long it took if it ended at all.
pub(super) async fn until_drained(
    stage: &Stage,
    log: &ClientLog,
    healed: Instant,
    limit: Duration,
    say: &impl Fn(String),
) -> Result<Duration, String> {
    let (mut drained, mut said, mut late): (Option<Duration>, _, Option<String>) =
        (None, String::new(), None);
    loop {
        let (found, elapsed) = (open(stage, log).await, healed.elapsed());
        match (found, drained) {
            (Ok(None), Some(took)) => return late.map_or(Ok(took), |late| Err(in_the_end(&late, took))),
            (Ok(None), None) => drained = Some(elapsed),
            (still_open, _) => {
                drained = None;
                let still_open = format!("{still_open:?}");
                if elapsed > limit {
                    late.get_or_insert_with(|| format!("not within {} s: {still_open}", limit.as_secs()));
                }
                if still_open != said {
                    say(format!("{:>5} s  still open: {still_open}", elapsed.as_secs()));
                    said = still_open;
                }
            }
        }
        if let Some(late) = late.take_if(|_| elapsed > limit + PATIENCE) {
            return Err(format!("{late}; nor within {} s", elapsed.as_secs()));
        }
        sleep(LOOK_EVERY).await;
    }
}

fn in_the_end(late: &str, took: Duration) -> String {
    format!("{late}; it took {:.1} s in the end", took.as_secs_f64())
}

async fn open(stage: &Stage, log: &ClientLog) -> anyhow::Result<Option<Open>> {
    let counts = stage.witness.ask(|database| async move { collect::unfinished(&database).await });
    let (unfinished, owing) = counts.await?;
    if (unfinished, owing) != (0, 0) {
        return Ok(Some(Open::Orders { unfinished, owing }));
    }
    let messages = stage.control().await?.depths().await;
    if !messages.is_empty() {
        return Ok(Some(Open::Messages(messages)));
    }
    let stored = stage.witness.ask(|database| async move { collect::ids(&database).await }).await?;
    let not_stored =
        log.accepted_orders().iter().filter(|identity| !stored.contains(&identity.order_id)).count();
    Ok((not_stored > 0).then_some(Open::NotStored(not_stored)))
}
