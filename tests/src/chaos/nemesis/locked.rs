//! What a fault holds while it lasts, so that no other strikes the same thing.

use anyhow::bail;
use orderfleet_native::{MongoSet, RabbitMq};
use tokio::sync::MutexGuard;

use crate::chaos::{Fault, Hop, Stage};

/// The thing that a fault is about, or that a harmed hop leads to: with a fault of its own there might be nothing to harm.
pub(super) enum Locked<'a> {
    Broker(MutexGuard<'a, RabbitMq>),
    Database(MutexGuard<'a, MongoSet>),
    /// The services, the clocks of the workers, or their builds.
    Others(#[expect(dead_code, reason = "held, not read")] MutexGuard<'a, ()>),
    Nothing,
}

impl<'a> Locked<'a> {
    /// Waits until no other fault holds it.
    pub(super) async fn of(stage: &'a Stage, fault: Fault) -> Self {
        match fault {
            Fault::BrokerRestart
            | Fault::BrokerKill
            | Fault::FreezeBroker
            | Fault::MemoryAlarm
            | Fault::CloseConnections
            | Fault::DeleteBinding
            | Fault::Poison
            | Fault::Link(Hop::ProducerBroker | Hop::WorkerBroker, _) => {
                Self::Broker(stage.broker.lock().await)
            }
            Fault::StepDown
            | Fault::KillPrimary
            | Fault::FreezePrimary
            | Fault::FreezeSecondaries
            | Fault::Link(Hop::WorkerDatabase, _) => Self::Database(stage.database.lock().await),
            Fault::CrashingBody | Fault::Downstream(_) | Fault::Link(Hop::WorkerDownstream, _) => {
                Self::Others(stage.misbehaving.lock().await)
            }
            // Its evidence does not tell by which of the clocks an order was worked on.
            Fault::ClockStep => Self::Others(stage.misdated.lock().await),
            // One by one, in the order of the plan.
            Fault::Replace(..) | Fault::DrainHalf => Self::Others(stage.replacing.lock().await),
            Fault::Kill(_) | Fault::Freeze(_) | Fault::Zombie | Fault::Link(Hop::ClientProducer, _) => {
                Self::Nothing
            }
        }
    }

    pub(super) fn broker(&mut self) -> anyhow::Result<&mut RabbitMq> {
        match self {
            Self::Broker(broker) => Ok(broker),
            _ => bail!("the broker is not locked"),
        }
    }

    pub(super) fn database(&mut self) -> anyhow::Result<&mut MongoSet> {
        match self {
            Self::Database(database) => Ok(database),
            _ => bail!("the database is not locked"),
        }
    }
}
