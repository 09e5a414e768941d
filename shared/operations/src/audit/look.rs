//! Whether there is anything in the queues.

use std::time::Duration;

use orderfleet_messaging::{BrokerSettings, Counts, InspectionError, Inspector, Topology};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::patiently;

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Shown in the list of the broker's connections.
const CONNECTION_NAME: &str = "orderfleet-audit";

/// Ready messages of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueDepth {
    /// The queue.
    pub queue: String,
    /// How many; those in the hands of workers are not among them.
    pub ready: u32,
}

/// What a look has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The queues that were never empty.
    pub(super) waiting: Vec<QueueDepth>,
    /// Consumers of all queues, when each was seen empty.
    pub(super) consumers: u64,
}

/// Looks at every queue until it has been seen empty, or the time is over: on a busy fleet hardly ever all of them are
/// empty at once.
pub(super) async fn look(
    broker: &BrokerSettings,
    topology: &Topology,
    patience: Duration,
    stop: &CancellationToken,
    mut waits: impl FnMut(&[QueueDepth]),
) -> Result<Seen, InspectionError> {
    let deadline = Instant::now() + patience;
    let mut left: Vec<String> = topology.queue_names().map(str::to_owned).collect();
    let mut consumers = 0;
    loop {
        // A connection each time: it asserts nothing, and one that was lost is no loss.
        let counts = patiently(async || counts(broker, topology, &left).await).await?;
        let mut waiting = Vec::new();
        for (queue, Counts { ready, consumers: of_queue }) in left.drain(..).zip(counts) {
            match ready {
                0 => consumers += u64::from(of_queue),
                _ => waiting.push(QueueDepth { queue, ready }),
            }
        }
        if waiting.is_empty() || Instant::now() >= deadline || stop.is_cancelled() {
            return Ok(Seen { waiting, consumers });
        }
        waits(&waiting);
        sleep(LOOK_EVERY).await;
        left.extend(waiting.into_iter().map(|waiting| waiting.queue));
    }
}

async fn counts(
    broker: &BrokerSettings,
    topology: &Topology,
    queues: &[String],
) -> Result<Vec<Counts>, InspectionError> {
    let inspector = Inspector::connect(broker, topology.clone(), CONNECTION_NAME).await?;
    let mut counts = Vec::with_capacity(queues.len());
    for queue in queues {
        match inspector.counts(queue).await {
            Ok(found) => counts.push(found),
            Err(error) => {
                inspector.close().await;
                return Err(error);
            }
        }
    }
    inspector.close().await;
    Ok(counts)
}
