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
    let (mut drained, mut open_then): (Option<Duration>, Option<String>) = (None, None);
    let mut said = "nothing seen yet".to_owned();
    loop {
        let (found, elapsed) = (open(stage, log).await, healed.elapsed());
        match (found, drained) {
            (Ok(None), Some(took)) => return in_time(took, limit, open_then.as_ref().unwrap_or(&said)),
            (Ok(None), None) => drained = Some(elapsed),
            (still_open, _) => {
                drained = None;
                let still_open = format!("{still_open:?}");
                if elapsed > limit {
                    open_then.get_or_insert_with(|| still_open.clone());
                }
                if still_open != said {
                    say(format!("{:>5} s  still open: {still_open}", elapsed.as_secs()));
                    said = still_open;
                }
            }
        }
        if let Some(open_then) = open_then.take_if(|_| elapsed > limit + PATIENCE) {
            return Err(format!("{}; nor within {} s", not_within(limit, &open_then), elapsed.as_secs()));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A look may begin before the limit and end after it: then `open` is what the look before has seen.
fn in_time(took: Duration, limit: Duration, open: &str) -> Result<Duration, String> {
    if took <= limit {
        return Ok(took);
    }
    Err(format!("{}; it took {:.1} s in the end", not_within(limit, open), took.as_secs_f64()))
}

fn not_within(limit: Duration, open: &str) -> String {
    format!("not within {} s: {open}", limit.as_secs())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_whose_end_is_first_seen_after_the_limit_is_late() {
        let limit = Duration::from_secs(60);
        assert_eq!(in_time(limit, limit, "an order"), Ok(limit));
        let late = in_time(limit + Duration::from_millis(300), limit, "an order");
        assert_eq!(late, Err("not within 60 s: an order; it took 60.3 s in the end".into()));
    }
}
