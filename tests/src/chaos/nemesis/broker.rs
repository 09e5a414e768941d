//! Faults of the broker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use orderfleet_native::{RabbitMq, Signal};
use tokio::time::{sleep, timeout};

use crate::{Broker, chaos::Stage};

const QUEUE: &str = "orders.new.0";
const EXCHANGE: &str = "orders";
const ROUTING_KEY: &str = "new.0";
const POISONS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a lost connection may take to be noticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(5);
/// A broker that runs answers in some milliseconds.
const SILENT_FOR: Duration = Duration::from_millis(1_500);
/// How much longer than planned a binding stays away that nobody has missed yet.
const PATIENCE: Duration = Duration::from_secs(20);
const FAILED: &str = "orderfleet_publish_failed_total";
const RETURNED: &str = "kind=\"returned\"";

pub(super) async fn restart(stage: &Stage, broker: &mut RabbitMq) -> anyhow::Result<String> {
    let witness = stage.control().await?;
    let begun = Instant::now();
    broker.restart().await?;
    lost(&witness).await?;
    Ok(format!(
        "stopped, started again after {:.1} s; the witness lost its connection",
        begun.elapsed().as_secs_f32()
    ))
}

pub(super) async fn kill(stage: &Stage, broker: &mut RabbitMq, hold: Duration) -> anyhow::Result<String> {
    let witness = stage.control().await?;
    broker.kill().await?;
    let status = broker.wait().await?;
    sleep(hold).await;
    broker.restart().await?;
    lost(&witness).await?;
    Ok(format!("killed: {status}, away for {hold:?}; the witness lost its connection"))
}

/// The evidence: what answered before and answers after does not answer meanwhile.
pub(super) async fn freeze(stage: &Stage, broker: &mut RabbitMq, hold: Duration) -> anyhow::Result<String> {
    drop(stage.control().await?);
    broker.signal(Signal::Stop);
    sleep(hold.saturating_sub(SILENT_FOR)).await;
    let asked = timeout(SILENT_FOR, stage.control()).await;
    broker.signal(Signal::Continue);
    ensure!(asked.is_err(), "it took a connection while it was stopped");
    let woken = Instant::now();
    drop(stage.control().await?);
    Ok(format!("silent after {hold:?} of SIGSTOP, answered {:.1?} after SIGCONT", woken.elapsed()))
}

pub(super) async fn memory_alarm(broker: &mut RabbitMq, hold: Duration) -> anyhow::Result<String> {
    let raised = broker.set_memory_alarm(true).await?;
    sleep(hold).await;
    let left = broker.set_memory_alarm(false).await?;
    Ok(format!("alarms in force for {hold:?}: {}; afterwards: {}", raised.join(", "), left.len()))
}

pub(super) async fn close_connections(stage: &Stage, broker: &mut RabbitMq) -> anyhow::Result<String> {
    let witness = stage.control().await?;
    let closed = broker.close_all_connections("chaos").await?;
    lost(&witness).await?;
    Ok(format!("{closed} connections closed; the witness lost its own"))
}

/// The evidence: producers count messages that were returned to them, as they matched no queue.
pub(super) async fn delete_binding(stage: &Stage, hold: Duration) -> anyhow::Result<String> {
    let control = stage.control().await?;
    let mut returned = Returned::new(stage).await;
    let started = Instant::now();
    while started.elapsed() < hold || (returned.count < 1.0 && started.elapsed() < hold + PATIENCE) {
        // Again and again: every process that connects meanwhile declares the binding anew.
        control.unbind(QUEUE, EXCHANGE, ROUTING_KEY).await;
        sleep(LOOK_EVERY).await;
        returned.look(stage).await;
    }
    bind(stage).await?;
    let away = started.elapsed();
    ensure!(returned.count >= 1.0, "no message was returned within {away:.1?}");
    Ok(format!("away for {away:.1?}, {} messages returned to producers", returned.count))
}

/// Binds the queue of orders again; a second call changes nothing.
pub(super) async fn bind(stage: &Stage) -> anyhow::Result<()> {
    stage.control().await?.bind(QUEUE, EXCHANGE, ROUTING_KEY).await;
    Ok(())
}

/// Puts bodies that nobody can read into the queue of orders. `note` gets each before it is sent, as it may come without a
/// confirm too, and again once it is confirmed.
pub(super) async fn poison(stage: &Stage, draw: usize, note: impl Fn(&str, bool)) -> anyhow::Result<String> {
    let control = stage.control().await?;
    for number in 0..POISONS {
        let body = format!("no order, {draw:x}.{number}");
        note(&body, false);
        control.try_publish(QUEUE, body.as_bytes()).await?;
        note(&body, true);
    }
    Ok(format!("{POISONS} bodies confirmed into {QUEUE}"))
}

/// Makes it run, with no alarm in force.
pub(super) async fn revive(broker: &mut RabbitMq) -> anyhow::Result<()> {
    broker.signal(Signal::Continue);
    let ended = timeout(LOOK_EVERY, broker.wait()).await.is_ok();
    if ended {
        broker.restart().await?;
    }
    broker.set_memory_alarm(false).await?;
    Ok(())
}

/// Messages returned to producers, counted over their restarts.
struct Returned {
    last: Vec<f64>,
    count: f64,
}

impl Returned {
    async fn new(stage: &Stage) -> Self {
        let mut returned = Self { last: vec![0.0; stage.parts.producers.len()], count: 0.0 };
        returned.look(stage).await;
        returned.count = 0.0;
        returned
    }

    async fn look(&mut self, stage: &Stage) {
        for (last, producer) in self.last.iter_mut().zip(&stage.parts.producers) {
            let Some(now) = stage.metric(producer, FAILED, RETURNED).await else { continue };
            // A producer that was started again counts from 0.
            self.count += if now < *last { now } else { now - *last };
            *last = now;
        }
    }
}

async fn lost(witness: &Broker) -> anyhow::Result<()> {
    let noticed = async {
        while witness.is_connected() {
            sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(NOTICED_WITHIN, noticed).await.context("the witness is still connected")
}
