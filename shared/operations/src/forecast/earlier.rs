//! What is left of an order at its services although its document says that it was taken back.

use futures_util::future::join_all;
use orderfleet_domain::{
    OrderId, StepName,
    saga::{Phase, Record, StepState, step_instance},
};

use super::{
    looks::{Looks, State},
    verdict::Unsure,
};

/// Runs that are looked at, the latest.
const RUNS_MAX: u32 = 32;

/// The step instances that are done at their services, and ought not to be.
///
/// # Errors
/// None was found to be done, and some could not be looked at.
pub(super) async fn left_behind(
    looks: &Looks,
    order_id: &OrderId,
    record: &Record,
) -> Result<Vec<String>, Unsure> {
    let settled = settled(order_id, record);
    let looked = join_all(settled.iter().map(|(step, instance)| looks.look(step, instance))).await;
    let (mut left, mut unsure) = (Vec::new(), None);
    for ((step, instance), look) in settled.into_iter().zip(looked) {
        match look {
            Ok(look) if look.state == State::Done => left.push(instance),
            Ok(_) => {}
            Err(why) => unsure = unsure.or(Some(Unsure::at(&step, why))),
        }
    }
    match unsure {
        Some(unsure) if left.is_empty() => Err(unsure),
        _ => Ok(left),
    }
}

/// The step instances that have no effect any more, by the order's document.
fn settled(order_id: &OrderId, record: &Record) -> Vec<(StepName, String)> {
    let runs = record.generation.saturating_sub(RUNS_MAX) + 1..=record.generation;
    let mut instances = Vec::new();
    for run in runs {
        for (index, step) in record.steps.iter().enumerate() {
            if is_settled(record, run, index) {
                instances.push((step.clone(), step_instance(order_id, run, step)));
            }
        }
    }
    instances
}

/// Of the current run it is not when a person took it back by hand: the service may know nothing of that.
fn is_settled(record: &Record, run: u32, index: usize) -> bool {
    if run < record.generation {
        return true;
    }
    let is_over = match record.phase {
        Phase::Run | Phase::Done => false,
        Phase::Comp => index > record.cur as usize,
        Phase::Undone => true,
    };
    let by_person = |step: &StepName| {
        let mut results = record.results.iter();
        results.any(|result| result.step == *step && result.state == StepState::SettledByPerson)
    };
    is_over && !record.steps.get(index).is_some_and(by_person)
}
