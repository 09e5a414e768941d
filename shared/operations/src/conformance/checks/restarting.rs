//! What is known must be known after a restart.

use crate::conformance::{
    case::{Case, Checked, Finding},
    check::Restarted,
};

pub(in crate::conformance) async fn restart(case: &Case<'_>, restarted: Option<Restarted>) -> Checked {
    let Some(restarted) = restarted else {
        return Ok(Finding::Skipped("nobody was to restart the service".into()));
    };
    let (done, undone, never_done) = (case.instance(), case.instance(), case.instance());
    let to_do = case.to_do(&done);
    let of_do = case.result(&to_do).await?;
    case.result(&case.to_do(&undone)).await?;
    let to_undo = case.to_undo(&undone);
    let of_undo = case.result(&to_undo).await?;
    case.result(&case.to_undo(&never_done)).await?;

    if !restarted.await {
        return Ok(Finding::Skipped("the service was not restarted".into()));
    }

    case.sees_done_with(&done, &of_do).await?;
    case.same_result(&to_do, &of_do).await?;
    case.sees(&undone, "undone").await?;
    case.same_result(&to_undo, &of_undo).await?;
    case.cancelled(&case.to_do(&undone)).await?;
    case.cancelled(&case.to_do(&never_done)).await?;
    Ok(Finding::Kept)
}
