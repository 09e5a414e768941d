//! From the dead letters of a plan to the forecast of each.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use orderfleet_domain::{
    Command, CommandKind, Decision,
    failure::FailureClass,
    saga::{CauseClass, DOCUMENT_VERSION, Phase, Policy, Record},
};
use orderfleet_storage::{Content, Letter, Store, StoreError};

use super::{
    earlier::left_behind,
    looks::Looks,
    verdict::{Failing, Forecast, Unsure},
    walk::{Walk, Walked},
};
use crate::replay::{Course, Planned};

/// Dead letters in hand at once: enough to keep the looks of several services busy.
const LETTERS: usize = 32;
const CANCEL: &str = "cancel";

/// Why there is no forecast at all. A service that does not answer is no reason.
#[derive(Debug, thiserror::Error)]
pub enum ForecastError {
    /// The database failed.
    #[error("the orders of the dead letters cannot be read")]
    Store(#[source] StoreError),
    /// No client for the services can be made, as with TLS and without any CA certificate.
    #[error("cannot make an HTTP client for the steps")]
    Client(#[source] reqwest::Error),
}

/// A dead letter, and all that its replay would meet but for the services.
pub(super) struct Case<'a> {
    pub(super) letter: &'a Letter,
    pub(super) record: Option<Record>,
    /// What the replay would publish.
    pub(super) command: Command,
    /// First run that works on the order as it would be by then.
    pub(super) order_since: u32,
}

/// Why a case cannot be put together.
enum Obstacle {
    Unsure(Unsure),
    Store(StoreError),
}

/// Predicts what a replay of these dead letters would come to, each by its id, in their order; of those for which nothing would
/// be published, nothing is told. `tell` gets the number of forecasts made so far. Changes nothing, so that a second call only
/// asks again.
///
/// A service gets eight looks at a time, each with its step's timeout; one that leaves three in a row unanswered is asked no
/// more, and what depends on it cannot be said. In memory are the forecasts, and 32 orders.
///
/// # Errors
/// The database does not answer, or the settings of the steps allow for no client.
pub async fn forecast(
    store: &Store,
    policy: &Policy,
    items: &[Planned],
    mut tell: impl FnMut(usize),
) -> Result<Vec<(String, Forecast)>, ForecastError> {
    let looks = Looks::new(policy).map_err(ForecastError::Client)?;
    let published = items.iter().filter(|item| item.course.generation().is_some());
    let mut forecasts =
        stream::iter(published).map(|item| predict(store, policy, &looks, item)).buffered(LETTERS);
    let mut all = Vec::new();
    while let Some(forecast) = forecasts.try_next().await.map_err(ForecastError::Store)? {
        all.push(forecast);
        tell(all.len());
    }
    Ok(all)
}

async fn predict(
    store: &Store,
    policy: &Policy,
    looks: &Looks,
    item: &Planned,
) -> Result<(String, Forecast), StoreError> {
    let forecast = match gather(store, item).await {
        Ok(case) => foresee(policy, looks, case).await.unwrap_or_else(Forecast::from),
        Err(Obstacle::Unsure(unsure)) => unsure.into(),
        Err(Obstacle::Store(error)) => return Err(error),
    };
    Ok((item.letter.id.clone(), forecast))
}

async fn gather<'a>(store: &Store, item: &'a Planned) -> Result<Case<'a>, Obstacle> {
    let Planned { letter, course } = item;
    let order = match &letter.order_id {
        Some(order_id) => store.order_for_operator(order_id).await?,
        None => None,
    };
    let (_, content) =
        store.letter(&letter.id).await?.ok_or_else(|| Unsure::new("the dead letter is gone"))?;
    let command = command(letter, course, &content)
        .ok_or_else(|| Unsure::new("this build cannot read its message, or it names no order"))?;
    let corrected_before = order.as_ref().and_then(|view| view.correction.as_ref());
    let order_since = match course.correction() {
        Some(_) => command.generation,
        None => corrected_before.map_or(1, |(generation, _)| *generation),
    };
    Ok(Case { letter, record: order.map(|view| view.record), command, order_since })
}

/// What the replay would publish, as far as the core looks at it.
pub(super) fn command(letter: &Letter, course: &Course, content: &Content) -> Option<Command> {
    let kind = match course {
        Course::Again { .. } if letter.is_unread() => return None,
        Course::Again { .. } => return Command::decode(&content.body).ok(),
        Course::Run { .. } => CommandKind::Run { order: None },
        Course::Release { hold, .. } => {
            CommandKind::Resolve { hold: hold.clone(), decision: Decision::Release, reason: String::new() }
        }
        Course::Settled(_) | Course::Nothing(_) => return None,
    };
    Some(Command {
        order_id: letter.order_id.clone()?,
        account: letter.account.clone()?,
        generation: course.generation()?,
        fp: None,
        kind,
    })
}

/// The forecast for a dead letter.
///
/// # Errors
/// It cannot be said.
pub(super) async fn foresee(policy: &Policy, looks: &Looks, case: Case<'_>) -> Result<Forecast, Unsure> {
    let Case { letter, record, command, order_since } = case;
    if record.as_ref().is_some_and(|record| record.sv > DOCUMENT_VERSION) {
        return Err(Unsure::new("its order's document is of a newer build"));
    }
    if letter.kind == CANCEL && record.is_none() {
        return Err(Unsure::new("whether its order comes yet is not known"));
    }
    if let Some(record) = record.as_ref().filter(|_| letter.kind != CANCEL) {
        let instances = left_behind(looks, &command.order_id, record).await?;
        if !instances.is_empty() {
            return Ok(Forecast::Danger { instances });
        }
    }
    let generation = command.generation;
    let is_undoing = record.as_ref().is_some_and(|record| record.phase == Phase::Comp);
    let walked = Walk::new(policy, looks, record, order_since).go(command).await?;
    judge(letter, generation, is_undoing, walked)
}

/// An order that is being undone is to come to UNDONE, and one that its customer has cancelled, too.
fn judge(letter: &Letter, generation: u32, is_undoing: bool, walked: Walked) -> Result<Forecast, Unsure> {
    let Walked { record, poison, in_general } = walked;
    if poison {
        let class = FailureClass::Unreadable.as_str();
        return Ok(Failing { step: None, class, code: None }.compared(letter));
    }
    if letter.kind == CANCEL {
        return Ok(Forecast::Finish { in_general });
    }
    let ended = record.filter(|record| record.generation == generation);
    let record = ended.ok_or_else(|| Unsure::new("the order has moved on since the replay was planned"))?;
    match (record.hold, record.phase, record.cause) {
        (Some(hold), ..) => {
            let class = FailureClass::Held.as_str();
            Ok(Failing { step: Some(hold.step), class, code: None }.compared(letter))
        }
        (None, Phase::Done, _) if letter.class == FailureClass::Crashed.as_str() => Err(Unsure::new(
            "workers crashed over it, and whether they still do shows only when one works it",
        )),
        (None, Phase::Done, _) => Ok(Forecast::Finish { in_general }),
        (None, Phase::Undone, Some(cause)) if is_undoing || cause.class == CauseClass::Cancelled => {
            Ok(Forecast::Finish { in_general })
        }
        (None, Phase::Undone, Some(cause)) => {
            let class = FailureClass::Run(cause.class).as_str();
            Ok(Failing { step: Some(cause.step), class, code: cause.code }.compared(letter))
        }
        _ => Err(Unsure::new("the order would not end")),
    }
}

impl From<Unsure> for Obstacle {
    fn from(unsure: Unsure) -> Self {
        Self::Unsure(unsure)
    }
}

impl From<StoreError> for Obstacle {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unreadable { .. } | StoreError::Malformed { .. } => {
                Self::Unsure(Unsure::new("this build cannot read what is stored of it"))
            }
            error => Self::Store(error),
        }
    }
}
