//! What holds orders up: a downstream in most cases.

use std::fmt;

use orderfleet_storage::CircuitState;

use crate::fleet::{Circuits, FleetStatus, Worker};

/// What holds orders up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// A person has paused the service of this step.
    Paused(String),
    /// At half of the workers and more the circuit of this step is not closed.
    CircuitOpen(String),
    /// Half of the workers and more had calls of this step that found no place: too many were in flight. Each worker has places of
    /// its own, so that more workers may bring more.
    Crowded(String),
    /// The workers that were added last brought less than half of their share: something that all of them need is the limit.
    NoGain {
        /// Orders handled per second before, and now.
        per_second: (u64, u64),
        /// A step whose calls take longer since, and how long they took before and take now, in milliseconds: its service is
        /// the limit.
        slower: Option<(String, u64, u64)>,
    },
}

impl Limit {
    /// Whether more workers would only wait for the same.
    pub(super) fn forbids_more(&self) -> bool {
        !matches!(self, Self::Crowded(_))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused(step) => write!(out, "downstream {step} is paused"),
            Self::CircuitOpen(step) => write!(out, "the circuits of {step} are open"),
            Self::Crowded(step) => write!(out, "the places for calls of {step} are taken"),
            Self::NoGain { per_second: (before, now), slower } => {
                write!(out, "the last added workers brought too little, {before}/s before, {now}/s now")?;
                match slower {
                    Some((step, before, now)) => {
                        write!(out, "; calls of {step} take {now} ms where they took {before}")
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

/// What limits a fleet by what its workers say.
pub(super) fn limits(status: &FleetStatus) -> Vec<Limit> {
    let heard: Vec<_> = status.workers.iter().flatten().filter(|worker| !worker.stale).collect();
    status.downstreams.iter().filter_map(|step| limit(step, &heard)).collect()
}

fn limit(of: &Circuits, heard: &[&Worker]) -> Option<Limit> {
    let step = of.step.clone();
    if of.paused.is_some() {
        return Some(Limit::Paused(step));
    }
    if let Some(circuits) = of.circuits
        && circuits.open + circuits.half_open > circuits.closed
    {
        return Some(Limit::CircuitOpen(step));
    }
    let states = heard.iter().filter_map(|worker| state_of(&of.step, worker));
    let (crowded, all) = states.fold((0, 0), |(crowded, all), state: &CircuitState| {
        (crowded + u32::from(state.crowded_out > 0), all + 1)
    });
    (crowded > 0 && crowded * 2 >= all).then_some(Limit::Crowded(step))
}

pub(super) fn state_of<'a>(step: &str, worker: &'a Worker) -> Option<&'a CircuitState> {
    worker.status.circuits.iter().find(|circuit| circuit.step == step)
}
