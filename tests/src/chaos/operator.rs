//! A person who has failed orders run again and releases holds, by message, while everything else goes on.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use orderfleet_domain::{Command, CommandKind, Decision};
use tokio::time::{sleep, timeout};

use crate::{
    Broker,
    chaos::{
        Requests, Stage,
        bodies::CRASHING,
        collect::{self, Waiting},
    },
};

const QUEUE: &str = "orders.replay";
const LOOK_EVERY: Duration = Duration::from_secs(3);
const CONFIRMED_WITHIN: Duration = Duration::from_secs(5);
/// One order in so many is left as it is, so that some stay undone or held to the end.
const LEFT_ALONE: u32 = 4;

/// The operator, and what was asked for so far.
#[derive(Debug, Default)]
pub struct Operator {
    asked: Mutex<Requests>,
}

impl Operator {
    /// Asks once for each run and each release, until it is dropped. A message that was not confirmed may have an effect all
    /// the same.
    pub(super) async fn run(self: Arc<Self>, stage: Arc<Stage>) {
        let mut seen = BTreeSet::new();
        loop {
            sleep(LOOK_EVERY).await;
            // Whatever went wrong is in the way of one look only.
            let _ = self.look(&stage, &mut seen).await;
        }
    }

    /// What was asked for so far.
    pub(super) fn asked(&self) -> Requests {
        self.lock().clone()
    }

    async fn look(&self, stage: &Stage, seen: &mut BTreeSet<String>) -> anyhow::Result<()> {
        let waiting =
            stage.witness.ask(|database| async move { collect::waiting(&database, CRASHING).await });
        let mut fresh = waiting.await?;
        fresh.retain(|order| !is_left_alone(&order.order_id) && !seen.contains(&name(order)));
        if fresh.is_empty() {
            return Ok(());
        }
        let broker = stage.control().await?;
        for order in fresh {
            // Builds of before there were corrections leave these runs to others.
            let corrected = stage.parts.are_of_two_builds();
            self.ask(&broker, &order, corrected).await?;
            seen.insert(name(&order));
        }
        Ok(())
    }

    async fn ask(&self, broker: &Broker, order: &Waiting, corrected: bool) -> anyhow::Result<()> {
        let command = command(order, corrected)?;
        let (id, run) = (order.order_id.clone(), u64::from(command.generation));
        match &order.hold {
            Some(hold) => {
                self.lock().releases.entry(id.clone()).or_default().insert(hold.clone());
            }
            None => drop(self.lock().runs.insert(id.clone(), run)),
        }
        timeout(CONFIRMED_WITHIN, broker.try_publish(QUEUE, &command.encode())).await??;
        self.confirmed(id, run, order.hold.as_ref());
        Ok(())
    }

    /// From now on, what was asked for must not vanish.
    fn confirmed(&self, id: String, run: u64, hold: Option<&String>) {
        let mut asked = self.lock();
        match hold {
            Some(hold) => drop(asked.releases_confirmed.entry(id).or_default().insert(hold.clone())),
            None => drop(asked.runs_confirmed.insert(id, run)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is asked for once.
fn name(order: &Waiting) -> String {
    match &order.hold {
        Some(hold) => hold.clone(),
        None => format!("{} after run {}", order.order_id, order.generation),
    }
}

fn is_left_alone(order_id: &str) -> bool {
    order_id.bytes().map(u32::from).sum::<u32>().is_multiple_of(LEFT_ALONE)
}

fn command(order: &Waiting, corrected: bool) -> anyhow::Result<Command> {
    let generation = u32::try_from(order.generation).context("a run number")?;
    let (generation, kind) = match &order.hold {
        Some(hold) => {
            let (hold, reason) = (hold.clone(), "chaos".to_owned());
            (generation, CommandKind::Resolve { hold, decision: Decision::Release, reason })
        }
        None => {
            let order = corrected.then(|| Box::new(order.order.clone()));
            (generation + 1, CommandKind::Run { order })
        }
    };
    let (order_id, account) = (order.order_id.parse()?, order.account.parse()?);
    Ok(Command { order_id, account, generation, fp: None, kind })
}
