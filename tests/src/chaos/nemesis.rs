//! Injects the faults of a plan, two at a time at most, heals each, and asks whatever was hit for evidence.

mod broker;
mod crashing;
mod database;
mod healing;
mod locked;
mod network;
mod parts;
mod services;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use self::{crashing::Watches, locked::Locked};
use crate::chaos::{Fault, Hop, Load, Planned, Stage};

const AT_ONCE: usize = 2;
/// Longest time for a fault with all its healing, without its waits for its turn and until nobody else harms the same thing.
const FAULT_TIMEOUT: Duration = Duration::from_secs(180);
/// An order that crashes workers does so until the delivery limits, and every start takes its time.
const CRASHING_TIMEOUT: Duration = Duration::from_secs(300);

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
    stage: Arc<Stage>,
    /// For orders that are faults themselves.
    load: Arc<Load>,
    /// When the load began.
    started: Instant,
    /// Bodies that nobody can read, and whether each was confirmed.
    poison: Mutex<BTreeMap<String, bool>>,
    /// Of orders that may crash workers beyond the end of their fault.
    watches: Watches,
}

impl Nemesis {
    /// Faults for a stage under a load that began at an instant.
    #[must_use]
    pub fn new(stage: Arc<Stage>, load: Arc<Load>, started: Instant) -> Self {
        Self { stage, load, started, poison: Mutex::default(), watches: Watches::default() }
    }

    /// Bodies that nobody can read and that were put into a queue of orders, and whether each was confirmed: the others may
    /// have come or not.
    #[must_use]
    pub fn poison(&self) -> BTreeMap<String, bool> {
        self.poison.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Injects a plan; returns when the last fault is healed. `report` gets each fault as it ends.
    pub async fn run(self: Arc<Self>, plan: Vec<Planned>, report: impl Fn(&Injected)) -> Vec<Injected> {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut under_way = JoinSet::new();
        for (number, planned) in (1..).zip(plan) {
            let (nemesis, at_once) = (Arc::clone(&self), Arc::clone(&at_once));
            under_way.spawn(async move {
                sleep_until((nemesis.started + planned.at).into()).await;
                nemesis.inject_one(number, planned, &at_once).await
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

    async fn inject_one(&self, number: usize, planned: Planned, at_once: &Semaphore) -> Injected {
        // In this order: what waits for its thing keeps no other fault from striking.
        let mut locked = Locked::of(&self.stage, planned.fault).await;
        let _permit = at_once.acquire().await;
        let began = self.started.elapsed();
        let limit = match planned.fault {
            Fault::CrashingBody => CRASHING_TIMEOUT,
            _ => FAULT_TIMEOUT,
        };
        // A panic is only this fault's trouble.
        let injecting = AssertUnwindSafe(timeout(limit, self.inject(&planned, &mut locked))).catch_unwind();
        let mut outcome = match injecting.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(anyhow::anyhow!("not over within {} s", limit.as_secs())),
            Err(panic) => Err(anyhow::anyhow!("panicked: {}", said(&*panic))),
        };
        if let Err(trouble) = outcome {
            let healed = healing::heal(&self.stage, &planned, &mut locked).await;
            outcome = Err(match healed {
                Ok(()) => trouble,
                Err(error) => trouble.context(format!("{error:#}")),
            });
        }
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

    /// Injects a fault, holds it and heals it. Without evidence it is an error, and may not be healed.
    async fn inject(&self, planned: &Planned, locked: &mut Locked<'_>) -> anyhow::Result<String> {
        let Planned { fault, hold, draw, .. } = *planned;
        let stage = &self.stage;
        match fault {
            Fault::Kill(part) => parts::target(stage, part, draw).crash().await,
            Fault::Freeze(part) => parts::target(stage, part, draw).freeze(hold, async { Ok(()) }).await,
            Fault::Replace(part, build) => parts::replace(stage, part, build, draw).await,
            Fault::DrainHalf => parts::drain_half(stage, draw).await,
            Fault::Zombie => parts::zombie(stage, draw, hold).await,
            Fault::ClockStep => parts::clock_step(stage, draw, hold).await,
            Fault::CrashingBody => crashing::crashing_body(stage, &self.load, &self.watches).await,
            Fault::BrokerRestart => broker::restart(stage, locked.broker()?).await,
            Fault::BrokerKill => broker::kill(stage, locked.broker()?, hold).await,
            Fault::FreezeBroker => broker::freeze(stage, locked.broker()?, hold).await,
            Fault::MemoryAlarm => broker::memory_alarm(locked.broker()?, hold).await,
            Fault::CloseConnections => broker::close_connections(stage, locked.broker()?).await,
            Fault::DeleteBinding => broker::delete_binding(stage, hold).await,
            Fault::Poison => {
                let note = |body: &str, confirmed| {
                    let mut poison = self.poison.lock().unwrap_or_else(PoisonError::into_inner);
                    poison.insert(body.to_owned(), confirmed);
                };
                broker::poison(stage, draw, note).await
            }
            Fault::StepDown => database::step_down(locked.database()?).await,
            Fault::KillPrimary => database::kill_primary(locked.database()?, hold).await,
            Fault::FreezePrimary => database::freeze_primary(locked.database()?, hold).await,
            Fault::FreezeSecondaries => database::freeze_secondaries(locked.database()?, hold).await,
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

/// The message of a panic.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")
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
