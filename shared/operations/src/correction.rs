//! Correcting the order behind a dead letter: the next run works on what a person made of it, and what was posted is kept.

use jiff::Timestamp;
use orderfleet_domain::{Order, saga::Millis};
use orderfleet_storage::{Leased, Letter, Store, StoreError};

use crate::{
    log::{Act, LogError, OperatorLog},
    operator::Operator,
    replay::{Course, course},
};

const LEASE_MS: Millis = 60_000;

/// A dead letter whose order can be corrected.
#[derive(Debug, Clone)]
pub struct Correctable {
    /// The dead letter.
    pub letter: Letter,
    /// What the next run would work on as things stand: with personal data.
    pub order: Order,
}

/// Why an order is not corrected.
#[derive(Debug, thiserror::Error)]
pub enum CorrectionError {
    /// No open dead letter has this id.
    #[error("there is no open dead letter {0}")]
    Missing(String),
    /// Its next run is not begun by a replay: there is nothing that a correction could be for.
    #[error("a correction is for orders that a replay would run again; this one: {0}")]
    NotToRun(String),
    /// Somebody has it in hand.
    #[error("{0} has the dead letter in hand")]
    InOtherHands(String),
    /// The database failed.
    #[error("the database failed")]
    Store(#[from] StoreError),
    /// It could not be recorded, and so was not done.
    #[error("the correction could not be recorded")]
    Log(#[from] LogError),
}

/// What can be corrected about a dead letter.
///
/// # Errors
/// There is no such open dead letter, its order would not be run again, or the database does not answer.
pub async fn correctable(store: &Store, id: &str) -> Result<Correctable, CorrectionError> {
    let missing = || CorrectionError::Missing(id.to_owned());
    let (letter, content) = store.letter(id).await?.ok_or_else(missing)?;
    if letter.ended.is_some() {
        return Err(missing());
    }
    let Some(order_id) = &letter.order_id else {
        return Err(CorrectionError::NotToRun("its order is not known".into()));
    };
    let view = store.order_for_operator(order_id).await?;
    let course = course(&letter, Some(&content), view.as_ref().map(|view| &view.record));
    match (course, view) {
        (Course::Run { .. }, Some(view)) => {
            let stored = view.correction.map(|(_, order)| order);
            let order = content.correction.or(stored).unwrap_or(view.order);
            Ok(Correctable { letter, order })
        }
        (course, _) => Err(CorrectionError::NotToRun(course.to_string())),
    }
}

/// Keeps the corrected order with the dead letter, until a replay begins the next run with it. A second call overwrites. A kill
/// in between leaves the record of an act without an end, and the correction kept or not: look at it again.
///
/// # Errors
/// Somebody else has the dead letter in hand, it is gone, or database or operator log fail.
pub async fn correct(
    store: &Store,
    id: &str,
    corrected: &Order,
    who: Operator,
    why: String,
) -> Result<(), CorrectionError> {
    let log = OperatorLog::new(store.clone());
    let holder = format!("edit by {who}");
    let now = Timestamp::now().as_millisecond();
    match store.lease_letter(id, &holder, now, now + LEASE_MS).await? {
        Leased::Yes => {}
        Leased::By { holder, .. } => return Err(CorrectionError::InOtherHands(holder)),
        Leased::Ended | Leased::Missing => return Err(CorrectionError::Missing(id.to_owned())),
    }
    let target = format!("dead letter {id}");
    let act = log.begin(&Act { who, what: "dlq.edit".into(), why, target }).await?;
    let kept = store.correct_letter(id, &holder, corrected).await;
    let text = match &kept {
        Ok(true) => "kept for the next run",
        Ok(false) => "not kept: the lease was lost",
        Err(_) => "not known: the database failed",
    };
    log.end(&act, text).await?;
    let kept = kept?;
    store.release_letter(id, &holder).await?;
    if kept { Ok(()) } else { Err(CorrectionError::InOtherHands("another operator".into())) }
}
