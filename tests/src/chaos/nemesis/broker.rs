//! Faults of the broker.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::time::sleep;

use crate::{
    Broker,
    chaos::{ClientLog, Stage},
};

const QUEUE: &str = "orders.new.0";
const EXCHANGE: &str = "orders";
const ROUTING_KEY: &str = "new.0";
const POISONS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a lost connection may take to be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn restart(stage: &Stage) -> anyhow::Result<String> {
    let mut broker = stage.broker.lock().await;
    let witness = stage.control().await?;
    let begun = Instant::now();
    broker.restart().await?;
    lost(&witness).await?;
    Ok(format!(
        "stopped, started again after {:.1} s; the witness lost its connection",
        begun.elapsed().as_secs_f32()
    ))
}

pub(super) async fn kill(stage: &Stage, hold: Duration) -> anyhow::Result<String> {
    let mut broker = stage.broker.lock().await;
    let witness = stage.control().await?;
    broker.kill().await?;
    let status = broker.wait().await?;
    sleep(hold).await;
    broker.restart().await?;
    lost(&witness).await?;
    Ok(format!("killed: {status}, away for {hold:?}; the witness lost its connection"))
}

pub(super) async fn memory_alarm(stage: &Stage, hold: Duration) -> anyhow::Result<String> {
    let broker = stage.broker.lock().await;
    let raised = broker.set_memory_alarm(true).await;
    sleep(hold).await;
    let left = broker.set_memory_alarm(false).await?;
    Ok(format!("alarms in force for {hold:?}: {}; afterwards: {}", raised?.join(", "), left.len()))
}

pub(super) async fn close_connections(stage: &Stage) -> anyhow::Result<String> {
    let broker = stage.broker.lock().await;
    let witness = stage.control().await?;
    let closed = broker.close_all_connections("chaos").await?;
    lost(&witness).await?;
    Ok(format!("{closed} connections closed; the witness lost its own"))
}

pub(super) async fn delete_binding(stage: &Stage, log: &ClientLog, hold: Duration) -> anyhow::Result<String> {
    let _broker = stage.broker.lock().await;
    let control = stage.control().await?;
    let before = log.tally().unavailable;
    control.unbind(QUEUE, EXCHANGE, ROUTING_KEY).await;
    sleep(hold).await;
    control.bind(QUEUE, EXCHANGE, ROUTING_KEY).await;
    let unavailable = log.tally().unavailable - before;
    ensure!(unavailable > 0, "nobody was answered 503");
    Ok(format!("away for {hold:?}, {unavailable} answers of 503 meanwhile"))
}

/// Returns the bodies, which are in the queue for certain.
pub(super) async fn poison(stage: &Stage, draw: usize) -> anyhow::Result<BTreeSet<String>> {
    let _broker = stage.broker.lock().await;
    let control = stage.control().await?;
    let bodies: BTreeSet<_> = (0..POISONS).map(|n| format!("no order, {draw:x}.{n}")).collect();
    for body in &bodies {
        control.publish(QUEUE, body.as_bytes()).await;
    }
    Ok(bodies)
}

async fn lost(witness: &Broker) -> anyhow::Result<()> {
    let noticed = async {
        while witness.is_connected() {
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(NOTICED_WITHIN, noticed).await.context("the witness is still connected")
}
