//! Faults of the network, through the proxies.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::chaos::{Harm, Hits, Hop, Stage};

/// How much longer than planned a harm is held that has hit nothing yet.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The links of a hop.
pub(super) fn links(hop: Hop) -> Vec<String> {
    let numbered = |name: &str, count: usize| (0..count).map(|n| format!("{name}-{n}")).collect();
    match hop {
        Hop::ClientProducer => numbered("client-producer", 2),
        Hop::WorkerDatabase => numbered("database", 3),
        other => vec![other.to_string()],
    }
}

pub(super) async fn harm(
    stage: &Stage,
    hop: Hop,
    harm: Harm,
    draw: usize,
    hold: Duration,
) -> anyhow::Result<String> {
    let links = links(hop);
    let link = &links[draw % links.len()];
    let before = stage.links.hits(link, harm).await?;
    stage.links.harm(link, harm).await?;
    let after = until_hit(stage, link, harm, before, hold).await;
    stage.links.heal(link).await?;
    let (after, held) = after?;
    let (connections, bytes) = (after.connections - before.connections, after.bytes - before.bytes);
    anyhow::ensure!(connections > 0, "{link}: no connection was hit within {held:.1?}");
    Ok(format!("{link} for {held:.1?}: {connections} connections, {bytes} bytes hit"))
}

/// Holds a harm, and longer where it has hit nothing yet.
async fn until_hit(
    stage: &Stage,
    link: &str,
    harm: Harm,
    before: Hits,
    hold: Duration,
) -> anyhow::Result<(Hits, Duration)> {
    let started = Instant::now();
    sleep(hold).await;
    loop {
        let now = stage.links.hits(link, harm).await?;
        if now.connections > before.connections || started.elapsed() > hold + PATIENCE {
            return Ok((now, started.elapsed()));
        }
        sleep(LOOK_EVERY).await;
    }
}
