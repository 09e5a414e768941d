//! What was undone stays undone; what is a new run is new; what comes late under an old fence does no harm.

use crate::conformance::{
    answer::Meaning,
    call::{Call, Instance},
    case::{Breach, Case, Checked, Finding, broken, require},
};

const FENCE: u64 = 5;
const LOWER_FENCE: u64 = 4;

pub(in crate::conformance) async fn do_after_undo(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let call = case.to_do(&instance);
    case.result(&call).await?;
    case.result(&case.to_undo(&instance)).await?;
    stays_undone(case, &instance, &call).await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn undo_before_do(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let undo = case.to_undo(&instance);
    let recorded = case.result(&undo).await?;
    case.sees(&instance, "undone").await?;
    stays_undone(case, &instance, &case.to_do(&instance)).await?;
    case.same_result(&undo.with_fence(FENCE), &recorded).await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn new_run(case: &Case<'_>) -> Checked {
    let first = case.instance();
    case.result(&case.to_do(&first)).await?;
    case.result(&case.to_undo(&first)).await?;
    let second = case.next_run(&first);
    case.sees(&second, "none").await?;
    case.result(&case.to_do(&second)).await?;
    case.sees(&second, "done").await?;
    case.sees(&first, "undone").await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn fence_lower(case: &Case<'_>) -> Checked {
    let (repeated, undone) = (case.instance(), case.instance());
    let call = case.to_do(&repeated);
    let recorded = case.result(&call.clone().with_fence(FENCE)).await?;
    let late_do = call.with_fence(LOWER_FENCE);
    let do_refused = is_refused_as_stale(case, &late_do).await?;
    if !do_refused {
        case.same_result(&late_do, &recorded).await?;
    }
    case.sees_done_with(&repeated, &recorded).await?;

    case.result(&case.to_do(&undone).with_fence(FENCE)).await?;
    let undo = case.to_undo(&undone);
    let undo_refused = is_refused_as_stale(case, &undo.clone().with_fence(LOWER_FENCE)).await?;
    case.sees(&undone, if undo_refused { "done" } else { "undone" }).await?;
    if undo_refused {
        case.result(&undo.with_fence(FENCE)).await?;
    }
    let served = |is_refused| if is_refused { "refused" } else { "served" };
    Ok(Finding::Told(format!("late do {}, late undo {}", served(do_refused), served(undo_refused))))
}

/// Any later do is cancelled: under the key of before, and under any other.
async fn stays_undone(case: &Case<'_>, instance: &Instance, call: &Call) -> Result<(), Breach> {
    case.cancelled(call).await?;
    case.cancelled(&call.clone().with_another_key()).await?;
    case.cancelled(&call.clone().with_fence(FENCE)).await?;
    case.sees(instance, "undone").await
}

async fn is_refused_as_stale(case: &Case<'_>, call: &Call) -> Result<bool, Breach> {
    let answer = case.settle(call).await?;
    match answer.meaning {
        Meaning::Result(..) => Ok(false),
        Meaning::StaleFence(highest) => {
            let asked = call.ask.word();
            require(highest == FENCE, || {
                format!("the {asked} was told stale_fence {highest}, and the highest was {FENCE}")
            })?;
            Ok(true)
        }
        _ => Err(broken(call, &answer)),
    }
}
