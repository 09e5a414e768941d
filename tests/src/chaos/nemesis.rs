//! Injects the faults of a plan, two at a time at most, heals each, and asks whatever was hit for evidence.

mod broker;
mod database;
mod network;
mod parts;
mod services;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use crate::chaos::{ClientLog, Fault, Hop, Load, Planned, Stage};

const AT_ONCE: usize = 2;
/// Longest time for a fault with all its healing, its wait for what it hits included.
const FAULT_TIMEOUT: Duration = Duration::from_secs(120);

/// A fault that was injected, or was to be.
#[derive(Debug, Clone, Serialize)]
pub struct Injected {
    /// Its number in the plan, from 1.
    pub number: usize,
    /// The name of its kind.
    pub fault: String,
    /// When it began, from the start of the load.
    pub began_s: f64,
    /// When it was healed.
    pub healed_s: f64,
    /// What the thing that was hit says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Why there is no evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Faults, and what they need to know of a run.
#[derive(Debug)]
pub struct Nemesis {
    /// What is harmed.
    pub stage: Arc<Stage>,
    /// Where the clients' troubles show.
    pub log: Arc<ClientLog>,
    /// For orders that are faults themselves.
    pub load: Arc<Load>,
    /// Bodies put into a queue of orders that nobody can read.
    pub poison: Mutex<BTreeSet<String>>,
    /// When the load began.
    pub started: Instant,
}

impl Nemesis {
    /// Injects a plan; returns when the last fault is healed. `report` gets each fault as it ends.
    pub async fn run(self: Arc<Self>, plan: Vec<Planned>, report: impl Fn(&Injected)) -> Vec<Injected> {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut under_way = JoinSet::new();
        for (number, planned) in (1..).zip(plan) {
            let (nemesis, at_once) = (Arc::clone(&self), Arc::clone(&at_once));
            under_way.spawn(async move {
                sleep_until((nemesis.started + planned.at).into()).await;
                let _permit = at_once.acquire().await;
                nemesis.inject_one(number, planned).await
            });
        }
        let mut injected = Vec::new();
        while let Some(ended) = under_way.join_next().await {
            if let Ok(ended) = ended {
                report(&ended);
                injected.push(ended);
            }
        }
        injected.sort_by_key(|injected| injected.number);
        injected
    }

    async fn inject_one(self: Arc<Self>, number: usize, planned: Planned) -> Injected {
        let began = self.started.elapsed();
        let nemesis = Arc::clone(&self);
        // In a task of its own, so that a panic is only this fault's trouble.
        let injecting = tokio::spawn(async move { timeout(FAULT_TIMEOUT, nemesis.inject(&planned)).await });
        let outcome = match injecting.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(anyhow::anyhow!("not over within {} s", FAULT_TIMEOUT.as_secs())),
            Err(panic) => Err(panic.into()),
        };
        let (evidence, trouble) = match outcome {
            Ok(evidence) => (Some(evidence), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Injected {
            number,
            fault: planned.fault.to_string(),
            began_s: began.as_secs_f64(),
            healed_s: self.started.elapsed().as_secs_f64(),
            evidence,
            trouble,
        }
    }

    /// Injects a fault, holds it and heals it. Without evidence it is an error.
    async fn inject(&self, planned: &Planned) -> anyhow::Result<String> {
        let Planned { fault, hold, draw, .. } = *planned;
        let stage = &self.stage;
        match fault {
            Fault::Kill(part) => parts::target(stage, part, draw).crash().await,
            Fault::Freeze(part) => parts::target(stage, part, draw).freeze(hold, async { Ok(()) }).await,
            Fault::Zombie => parts::zombie(stage, draw, hold).await,
            Fault::ClockStep => parts::clock_step(stage, draw, hold).await,
            Fault::CrashingBody => parts::crashing_body(stage, &self.load).await,
            Fault::BrokerRestart => broker::restart(stage).await,
            Fault::BrokerKill => broker::kill(stage, hold).await,
            Fault::MemoryAlarm => broker::memory_alarm(stage, hold).await,
            Fault::CloseConnections => broker::close_connections(stage).await,
            Fault::DeleteBinding => broker::delete_binding(stage, &self.log, hold).await,
            Fault::Poison => {
                let bodies = broker::poison(stage, draw).await?;
                let evidence = format!("{} bodies confirmed into orders.new.0", bodies.len());
                self.poison.lock().unwrap_or_else(PoisonError::into_inner).extend(bodies);
                Ok(evidence)
            }
            Fault::StepDown => database::step_down(stage).await,
            Fault::KillPrimary => database::kill_primary(stage, hold).await,
            Fault::FreezeSecondaries => database::freeze_secondaries(stage, hold).await,
            Fault::Link(hop, harm) => network::harm(stage, hop, harm, draw, hold).await,
            Fault::Downstream(misbehaviour) => services::misbehave(stage, misbehaviour, draw, hold).await,
        }
    }

    /// Takes away whatever a fault may have left, and waits until every process is ready.
    ///
    /// # Errors
    /// When something cannot be healed.
    pub async fn heal(&self) -> anyhow::Result<()> {
        for hop in Hop::ALL {
            for link in network::links(hop) {
                self.stage.links.heal(&link).await?;
            }
        }
        for worker in 0..self.stage.parts.workers.len() {
            self.stage.parts.set_clock(worker, 0)?;
        }
        self.stage.misbehave(&[]).await?;
        self.stage.database.lock().await.until_whole().await.context("the replica set")?;
        self.stage.until_ready().await
    }
}

/// How often each kind was planned and evidenced.
#[must_use]
pub(super) fn by_kind(injected: &[Injected]) -> BTreeMap<String, (usize, usize)> {
    let mut kinds: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for one in injected {
        let (planned, evidenced) = kinds.entry(one.fault.clone()).or_default();
        *planned += 1;
        *evidenced += usize::from(one.evidence.is_some());
    }
    kinds
}
