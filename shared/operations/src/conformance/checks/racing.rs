//! A do and its undo at the same time, again and again.

use std::time::Duration;

use crate::conformance::{
    answer::Meaning,
    case::{Breach, Case, Checked, Finding, broken},
};

/// A do that was sent by a worker whose successor undoes.
const FENCE_OF_SUCCESSOR: u64 = 2;

pub(in crate::conformance) async fn race(case: &Case<'_>, rounds: u32) -> Checked {
    if rounds == 0 {
        return Ok(Finding::Skipped("no races were asked for".into()));
    }
    let mut cancelled = 0;
    for round in 0..rounds {
        case.round(round, rounds);
        let outcome = one_race(case, round).await;
        cancelled += u32::from(outcome.map_err(|breach| in_round(breach, round))?);
    }
    Ok(Finding::Told(format!("of {rounds} races, the undo came first in {cancelled}")))
}

/// Tells whether the undo came first.
async fn one_race(case: &Case<'_>, round: u32) -> Result<bool, Breach> {
    let instance = case.instance();
    let (to_do, mut to_undo) = (case.to_do(&instance), case.to_undo(&instance));
    if round % 3 == 2 {
        to_undo = to_undo.with_fence(FENCE_OF_SUCCESSOR);
    }
    let (before_do, before_undo) = delays(round, case.figures().usual());
    let doing = async {
        wait(before_do).await;
        case.send(&to_do).await
    };
    let undoing = async {
        wait(before_undo).await;
        case.result(&to_undo).await?;
        // The do may still be on its way.
        case.sees(&instance, "undone").await
    };
    let (done, undone) = tokio::join!(doing, undoing);
    undone?;
    let cancelled = match done.meaning {
        Meaning::Cancelled | Meaning::StaleFence(_) => true,
        Meaning::Result(..) => false,
        _ if !done.is_definite() => false,
        _ => return Err(broken(&to_do, &done)),
    };
    case.sees(&instance, "undone").await?;
    case.cancelled(&to_do.with_fence(FENCE_OF_SUCCESSOR)).await?;
    case.sees(&instance, "undone").await?;
    Ok(cancelled)
}

/// In half of the rounds both are sent at once, else one of them has a head start that it may need for its way.
fn delays(round: u32, usual: Duration) -> (Option<Duration>, Option<Duration>) {
    let head_start = usual.mul_f64(fastrand::f64());
    match round % 4 {
        1 => (None, Some(head_start)),
        3 => (Some(head_start), None),
        _ => (None, None),
    }
}

async fn wait(delay: Option<Duration>) {
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
}

fn in_round(breach: Breach, round: u32) -> Breach {
    match breach {
        Breach::Broken(what) => Breach::Broken(format!("in race {}: {what}", round + 1)),
        gone @ Breach::Gone(_) => gone,
    }
}
