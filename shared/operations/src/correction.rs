//! Correcting the order behind a dead letter: the next run works on what a person made of it, and what was posted is kept.

use jiff::Timestamp;
use orderfleet_domain::{Order, saga::Millis};
use orderfleet_storage::{Leased, Letter, Store, StoreError};

use crate::{
    log::{Act, ActId, LogError, OperatorLog},
    operator::Operator,
    replay::{self, Course, Planned, new_id},
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

/// An edit that has begun and is recorded. It ends with [`Edit::keep`] or [`Edit::leave`].
#[derive(Debug)]
pub struct Edit {
    store: Store,
    log: OperatorLog,
    act: ActId,
    /// Names the lease.
    holder: String,
    letter: String,
    order: Order,
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
    let order_id = order_id.clone();
    let Planned { letter, course } = replay::judge(store, letter).await?;
    let view = match course {
        Course::Run { .. } => store.order_for_operator(&order_id).await?,
        _ => None,
    };
    let Some(view) = view else { return Err(CorrectionError::NotToRun(course.to_string())) };
    let sent = replay::correction(store, &letter, &content, &course).await?.map(|order| *order);
    let order = sent.or(view.correction.map(|(_, order)| order)).unwrap_or(view.order);
    Ok(Correctable { letter, order })
}

/// Begins an edit: its order may be shown from now on, since that somebody looks at it is recorded. Nobody is kept from the
/// dead letter meanwhile. A kill before the edit is kept or left leaves the record of an act without an end.
///
/// # Errors
/// As [`correctable`]; or the operator log fails or refuses the reason.
pub async fn begin(store: &Store, id: &str, who: Operator, why: String) -> Result<Edit, CorrectionError> {
    let Correctable { order, .. } = correctable(store, id).await?;
    let log = OperatorLog::new(store.clone());
    let holder = format!("edit {} by {who}", new_id().map_err(|_| LogError::Random)?);
    let target = format!("dead letter {id}");
    let act = log.begin(&Act { who, what: "dlq.edit".into(), why, target }).await?;
    Ok(Edit { store: store.clone(), log, act, holder, letter: id.to_owned(), order })
}

impl Edit {
    /// What the next run would work on as things stood at the beginning: with personal data.
    #[must_use]
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// Keeps the corrected order with the dead letter, until a replay begins the next run with it; a later edit overwrites it. A
    /// kill on the way leaves the record of an act without an end, and the correction kept or not: look at it again.
    ///
    /// # Errors
    /// Somebody else has the dead letter in hand, it is gone, or database or operator log fail.
    pub async fn keep(self, corrected: &Order) -> Result<(), CorrectionError> {
        let kept = self.try_keep(corrected).await;
        let text = match &kept {
            Ok(()) => "kept for the next run".to_owned(),
            Err(CorrectionError::Store(_)) => "not known: the database failed".to_owned(),
            Err(error) => format!("nothing was changed: {error}"),
        };
        self.log.end(&self.act, &text).await?;
        kept
    }

    /// Ends the edit without a change.
    ///
    /// # Errors
    /// The operator log fails.
    pub async fn leave(self) -> Result<(), CorrectionError> {
        Ok(self.log.end(&self.act, "nothing was changed").await?)
    }

    async fn try_keep(&self, corrected: &Order) -> Result<(), CorrectionError> {
        let Self { store, letter, holder, .. } = self;
        loop {
            let now = Timestamp::now().as_millisecond();
            match store.lease_letter(letter, holder, now, now + LEASE_MS).await? {
                Leased::Yes => {}
                Leased::By { holder, .. } => return Err(CorrectionError::InOtherHands(holder)),
                Leased::Ended | Leased::Missing => return Err(CorrectionError::Missing(letter.clone())),
            }
            if store.correct_letter(letter, holder, corrected).await? {
                return Ok(store.release_letter(letter, holder).await?);
            }
            // It was taken out of hand: it has come again, or somebody has it. The next look tells which.
        }
    }
}
