//! The three calls, each as it is meant.

use crate::conformance::case::{Case, Checked, Finding};

pub(in crate::conformance) async fn look_unknown(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    case.sees(&instance, "none").await?;
    case.sees(&instance, "none").await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn do_once(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    case.result(&case.to_do(&instance)).await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn undo_once(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    case.result(&case.to_do(&instance)).await?;
    case.result(&case.to_undo(&instance)).await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn look(case: &Case<'_>) -> Checked {
    if !case.looks_are_right() {
        return Ok(Finding::Skipped(
            "looks do not work, so the rules are judged by the answers to do and undo alone".into(),
        ));
    }
    let instance = case.instance();
    case.sees(&instance, "none").await?;
    case.sees(&instance, "none").await?;
    let recorded = case.result(&case.to_do(&instance)).await?;
    case.sees_done_with(&instance, &recorded).await?;
    case.sees_done_with(&instance, &recorded).await?;
    case.result(&case.to_undo(&instance)).await?;
    case.sees(&instance, "undone").await?;
    case.sees(&instance, "undone").await?;
    Ok(Finding::Kept)
}
