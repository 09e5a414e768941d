//! Several dos in one request, where the service offers that: each as if it came alone.

use serde_json::json;

use crate::conformance::{
    answer::{Answer, Meaning},
    call::{Body, Call},
    case::{Breach, Case, Checked, Finding, broken, require},
};

const NOT_OFFERED: &str = "the service offers no batches";

pub(in crate::conformance) async fn batch_answers(case: &Case<'_>) -> Checked {
    if !case.offers_batches().await? {
        return Ok(Finding::Skipped(NOT_OFFERED.into()));
    }
    let dos = [(); 3].map(|()| case.to_do(&case.instance()));
    let answers = case.batch(&dos).await?;
    for (call, answer) in dos.iter().zip(&answers) {
        is_done(case, call, answer).await?;
    }
    Ok(Finding::Kept)
}

/// What a do must be answered alone, other rules tell; so each is asked alone first, and one cause has one failure.
pub(in crate::conformance) async fn batch_rules(case: &Case<'_>) -> Checked {
    if !case.offers_batches().await? {
        return Ok(Finding::Skipped(NOT_OFFERED.into()));
    }
    let [repeat, unreadable, late, fresh] = [(); 4].map(|()| case.to_do(&case.instance()));
    let unreadable = unreadable.with_body(Body::new(&json!("no order"), "a text instead of the order").odd());
    let of_repeat = case.settle(&repeat).await?;
    let of_unreadable = case.persist(&unreadable, Answer::is_final).await?;
    case.result(&late).await?;
    case.result(&case.to_undo(&late.instance)).await?;
    let of_late = case.settle(&late).await?;

    let dos = [repeat, unreadable, late, fresh];
    let answers = case.batch(&dos).await?;
    let alone = [
        ("a repeat", &of_repeat),
        ("a do that cannot be read", &of_unreadable),
        ("a do after its undo", &of_late),
    ];
    for ((call, answer), (what, alone)) in dos.iter().zip(&answers).zip(alone) {
        require(is_as_alone(call, answer, alone), || {
            format!("{what} in a batch: {}; alone: {}", shown(answer), shown(alone))
        })?;
    }
    let [_, unreadable, late, fresh] = &dos;
    if of_unreadable.is_client_error() {
        case.sees_one_of(&unreadable.instance, &["none", "refused"]).await?;
    }
    if of_late.meaning == Meaning::Cancelled {
        case.sees(&late.instance, "undone").await?;
    }
    is_done(case, fresh, &answers[3]).await?;
    Ok(Finding::Kept)
}

/// A do that was answered in a batch is done, and known by its key.
async fn is_done(case: &Case<'_>, call: &Call, answer: &Answer) -> Result<(), Breach> {
    let Meaning::Result(recorded, _) = &answer.meaning else { return Err(broken(call, answer)) };
    case.sees_done_with(&call.instance, recorded).await?;
    case.same_result(call, recorded).await
}

/// Which 4xx tells that a body cannot be read does not matter.
fn is_as_alone(call: &Call, answer: &Answer, alone: &Answer) -> bool {
    match (&answer.meaning, &alone.meaning) {
        (Meaning::Result(result, _), Meaning::Result(recorded, _)) => result == recorded,
        _ if !call.is_usual() && alone.is_client_error() => answer.is_client_error(),
        (answer, alone) => answer == alone,
    }
}

fn shown(answer: &Answer) -> String {
    match &answer.meaning {
        Meaning::Result(result, _) => result.to_string(),
        _ => answer.words(),
    }
}
