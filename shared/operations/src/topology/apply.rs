//! Doing what a plan says, recorded in the operator log.

use orderfleet_messaging::{InspectionError, Inspector, Item};
use serde::Serialize;

use super::{Action, Plan, Step, plan::named_binding};
use crate::{
    Operator,
    log::{Act, LogError, OperatorLog},
};

/// Who lets a plan be done.
#[derive(Debug, Clone)]
pub struct Approval {
    /// Who.
    pub who: Operator,
    /// Why.
    pub why: String,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Whether it was done.
    pub done: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// Does the steps of a plan that are not left to people, one after the other, and tells what came of each; one that fails
/// keeps no other from being done. Recorded in the operator log before the first and after the last, unless there is none.
///
/// A second call finds everything done and changes nothing. A crash leaves some steps done and an act without an end in the
/// log; a queue that was being switched may be missing, or without bindings: make the plan again. Messages are never
/// deleted: see [`Inspector::delete`].
///
/// # Errors
/// The beginning could not be recorded, and nothing was done; or the end could not, and what was done is done.
pub async fn apply(
    inspector: &Inspector,
    plan: &Plan,
    approval: &Approval,
    log: &OperatorLog,
) -> Result<Vec<Applied>, LogError> {
    if plan.own_steps().next().is_none() {
        return Ok(Vec::new());
    }
    let act = Act {
        who: approval.who.clone(),
        what: "topology.apply".into(),
        why: approval.why.clone(),
        target: target(plan),
    };
    let act = log.begin(&act).await?;
    let mut applied = Vec::new();
    for step in plan.own_steps() {
        let trouble = perform(inspector, step).await.err().map(|error| told(&error));
        applied.push(Applied { step: step.clone(), done: trouble.is_none(), trouble });
    }
    log.end(&act, &result(&applied)).await?;
    Ok(applied)
}

async fn perform(inspector: &Inspector, step: &Step) -> Result<(), InspectionError> {
    let item = match step.kind {
        "exchange" => Item::Exchange(step.name.clone()),
        _ => Item::Queue(step.name.clone()),
    };
    match step.action {
        Action::Declare => inspector.declare(&item).await,
        Action::Switch => {
            // There is such a step only for what the broker can check, or somebody has made sure of.
            match inspector.delete(&item, true).await {
                Ok(()) => declare_and_bind(inspector, &item).await,
                // It is gone all the same, and orders need it. What cannot be made is in the next plan.
                Err(lost @ InspectionError::Lost { .. }) => {
                    let _ = declare_and_bind(inspector, &item).await;
                    Err(lost)
                }
                Err(error) => Err(error),
            }
        }
        Action::Bind => match named_binding(inspector.topology(), &step.name) {
            Some(binding) => inspector.bind(binding).await,
            None => bind(inspector, |_, _| true).await,
        },
        // Left to people.
        Action::Stop | Action::Drain | Action::Check | Action::Look | Action::Start => Ok(()),
    }
}

async fn declare_and_bind(inspector: &Inspector, item: &Item) -> Result<(), InspectionError> {
    inspector.declare(item).await?;
    bind(inspector, |exchange, queue| [exchange, queue].contains(&item.name())).await
}

/// Makes the bindings that are wanted, by exchange and queue; one that cannot be made keeps no other from being made.
async fn bind(inspector: &Inspector, wanted: impl Fn(&str, &str) -> bool) -> Result<(), InspectionError> {
    let mut bound = Ok(());
    for binding in inspector.topology().bindings() {
        if wanted(&binding.exchange, &binding.queue) {
            bound = bound.and(inspector.bind(binding).await);
        }
    }
    bound
}

/// The causes are part of the library's own words for refusals, and beside them for lost connections.
fn told(error: &InspectionError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn target(plan: &Plan) -> String {
    let step = |step: &Step| format!("{} {} {}", step.action.as_str(), step.kind, step.name);
    let steps: Vec<_> = plan.own_steps().map(step).collect();
    format!("plan {}: {}", plan.id, steps.join(", "))
}

fn result(applied: &[Applied]) -> String {
    let done = applied.iter().filter(|applied| applied.done).count();
    let failed = applied.iter().filter_map(|applied| {
        applied
            .trouble
            .as_ref()
            .map(|trouble| format!("; {} {}: {trouble}", applied.step.kind, applied.step.name))
    });
    format!("{done} of {} done{}", applied.len(), failed.collect::<String>())
}
