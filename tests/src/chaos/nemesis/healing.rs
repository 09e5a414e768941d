//! Taking away what a fault has left that ended in an error, in its own timeout or in a panic.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::time::{sleep, timeout};

use super::{broker, database, locked::Locked, network, parts};
use crate::chaos::{Fault, Part, Planned, Stage};

const TRIES: u32 = 3;
/// Of one try: a broker or a member of the database may have to be started again.
const HEALED_WITHIN: Duration = Duration::from_secs(120);
const BETWEEN_TRIES: Duration = Duration::from_secs(1);

/// Heals what a fault may have left; a second call changes nothing.
pub(super) async fn heal(stage: &Stage, planned: &Planned, locked: &mut Locked<'_>) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        match timeout(HEALED_WITHIN, heal_once(stage, planned, locked)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if tries >= TRIES => return Err(error).context("not healed"),
            Err(_) if tries >= TRIES => return Err(anyhow!("not healed in time")),
            _ => sleep(BETWEEN_TRIES).await,
        }
    }
}

async fn heal_once(stage: &Stage, planned: &Planned, locked: &mut Locked<'_>) -> anyhow::Result<()> {
    let Planned { fault, draw, .. } = *planned;
    match fault {
        Fault::Freeze(part) => parts::target(stage, part, draw).wake().await,
        Fault::Zombie => parts::target(stage, Part::Worker, draw).wake().await,
        Fault::ClockStep => stage.parts.set_clock(draw % stage.parts.workers.len(), 0)?,
        Fault::BrokerRestart
        | Fault::BrokerKill
        | Fault::FreezeBroker
        | Fault::CloseConnections
        | Fault::MemoryAlarm
        | Fault::DeleteBinding => {
            broker::revive(locked.broker()?).await?;
            broker::bind(stage).await?;
        }
        Fault::StepDown | Fault::KillPrimary | Fault::FreezePrimary | Fault::FreezeSecondaries => {
            database::revive(locked.database()?).await?;
        }
        Fault::Link(hop, _) => {
            for link in network::links(hop) {
                stage.links.heal(&link).await?;
            }
        }
        Fault::Downstream(_) => stage.misbehave(&[]).await?,
        // What it has ended is started again by its supervisor, and what it published stays.
        Fault::Kill(_) | Fault::Replace(..) | Fault::DrainHalf | Fault::CrashingBody | Fault::Poison => {}
    }
    Ok(())
}
