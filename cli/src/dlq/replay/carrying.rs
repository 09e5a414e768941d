//! A replay carried out: recorded in the operator log, frozen, run, and told how it ended.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use orderfleet_messaging::Publisher;
use orderfleet_operations::dead_letters::Asked;
use orderfleet_operations::log::{Act, ActId, OperatorLog};
use orderfleet_operations::replay::{self, Budget, Outcome, Plan, Planned, Progress, Replaying, RunError};
use orderfleet_storage::{ItemState, Replay, ReplayItem, ReplayState, Store};
use tokio_util::sync::CancellationToken;

use super::shown;
use crate::dlq::{failed, letters_of, progress_bar};
use crate::exit::{BUDGET_SPENT, DEPENDENCY_DOWN, FAILED, Failure, INTERRUPTED, PARTLY};
use crate::fleet::Fleet;
use crate::output::Output;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Connects to the broker, and does not wait for it without end. Call it before anything is frozen or recorded.
///
/// # Errors
/// The broker does not answer, or is not the one of the settings.
pub(super) async fn publisher(fleet: &Fleet) -> anyhow::Result<Publisher> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, fleet.publisher()).await;
    connected.unwrap_or_else(|_| {
        let what = format!("the broker did not answer within {} s", CONNECT_TIMEOUT.as_secs());
        let next = "bring the broker back; orderfleet doctor says more; then the same command again".into();
        Err(Failure { what, next, code: DEPENDENCY_DOWN }.into())
    })
}

/// A replay that is frozen, and recorded as an act of who carries it on.
pub(super) struct Begun {
    replay: Replay,
    asked: Asked,
    act: ActId,
}

/// Records that a replay is gone on with.
///
/// # Errors
/// The operator log refuses the record. Nothing is done then.
pub(super) async fn resume(store: &Store, replay: Replay, asked: Asked) -> anyhow::Result<Begun> {
    let Asked { who, why } = asked.clone();
    let target = format!("replay {}: {}", replay.id, replay.selection);
    let act = Act { who, what: "dlq.replay".into(), why, target };
    let act = OperatorLog::new(store.clone()).begin(&act).await?;
    Ok(Begun { replay, asked, act })
}

/// Records what is planned, and freezes it for whoever resumes it.
///
/// # Errors
/// As [`resume`], or the database does not answer.
pub(super) async fn begin(store: &Store, plan: Plan, asked: Asked) -> anyhow::Result<Begun> {
    let replay = Replay {
        id: replay::new_id()?,
        who: asked.who.to_string(),
        why: asked.why.clone(),
        selection: plan.selection,
        items: u32::try_from(plan.items.len())?,
        state: ReplayState::Open,
        done_at_stop: 0,
        failed_at_stop: 0,
        began_at: Timestamp::now(),
    };
    let items: Vec<_> = (0..).zip(plan.items).map(|(seq, planned)| item(seq, planned)).collect();
    let begun = resume(store, replay, asked).await?;
    let frozen = store.begin_replay(&begun.replay, &items, Timestamp::now().as_millisecond()).await;
    if let Err(error) = frozen {
        // Without a database there is no record of it either: why it is not begun is what matters then.
        OperatorLog::new(store.clone()).end(&begun.act, &format!("not begun: {error}")).await.ok();
        return Err(failed(error.into()));
    }
    Ok(begun)
}

fn item(seq: u32, Planned { letter, course }: Planned) -> ReplayItem {
    ReplayItem {
        seq,
        letter: letter.id,
        order_id: letter.order_id,
        planned: course.planned(),
        state: ItemState::Waiting,
        generation: 0,
        hold: None,
        is_undoing: false,
        is_corrected: false,
        is_cancel: false,
        arrivals: 0,
        is_letter_left: false,
        note: String::new(),
    }
}

/// Runs a replay that is frozen and recorded, from the beginning or from where it stands, until it ends, stops, or Ctrl-C;
/// prints what came of it.
///
/// # Errors
/// Database or broker fail. The message says how to go on.
pub(super) async fn carry_out(
    fleet: &Fleet,
    store: Store,
    publisher: Publisher,
    begun: Begun,
    budget: Budget,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let Begun { replay, asked, act } = begun;
    eprintln!("replay {} of {}", replay.id, letters_of(replay.items.into()));
    let log = OperatorLog::new(store.clone());
    let stop = CancellationToken::new();
    let bar = progress_bar(replay.items.into());
    let replaying = Replaying { store, publisher, replay, asked, budget, stop: stop.clone() };
    let mut last = Progress::default();
    let tell = |progress: &Progress| {
        last = *progress;
        let Progress { begun, done, failed, refused, .. } = progress;
        bar.set_position(u64::from(done + failed + refused));
        bar.set_message(format!("done {done} failed {failed} begun {begun}"));
    };
    let outcome = tokio::select! {
        outcome = replaying.run(tell) => outcome,
        never = stop_at_ctrl_c(&stop) => match never {},
    };
    bar.finish_and_clear();
    let came_to = match &outcome {
        Ok(outcome) => word(*outcome).to_owned(),
        Err(error) => format!("broke off: {error}"),
    };
    let recorded = log.end(&act, &format!("{came_to}: {}", counted(&last))).await;
    let id = replaying.replay.id.as_str();
    // Without a database there is no record either: how to go on is what matters then.
    let outcome = outcome.map_err(|error| broke_off(id, error))?;
    recorded?;
    shown::ended(output, &fleet.database.name, id, &last)?;
    Ok(exit(outcome, id, &last).into())
}

/// The exit code, and a word on stderr about how to go on.
fn exit(outcome: Outcome, id: &str, progress: &Progress) -> u8 {
    let resume = format!("next:  orderfleet dlq replay --resume {id}");
    match outcome {
        Outcome::Interrupted => {
            eprintln!("interrupted; nothing is lost\n{resume}");
            INTERRUPTED
        }
        Outcome::Stopped => {
            eprintln!("stopped: too many orders failed again\nnext:  orderfleet dlq replay --results {id}");
            BUDGET_SPENT
        }
        Outcome::StillOpen => {
            eprintln!("stopped: {} orders have not ended in time\n{resume}", progress.begun);
            PARTLY
        }
        Outcome::Ended if progress.failed > 0 => FAILED,
        Outcome::Ended if progress.refused > 0 => PARTLY,
        Outcome::Ended => 0,
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ended => "ended",
        Outcome::Stopped => "stopped by failures",
        Outcome::StillOpen => "stopped, orders still open",
        Outcome::Interrupted => "interrupted",
    }
}

/// For the operator log.
fn counted(progress: &Progress) -> String {
    let Progress { waiting, begun, done, failed, refused } = progress;
    format!("{done} done, {failed} failed, {refused} refused, {begun} begun, {waiting} waiting")
}

fn broke_off(id: &str, error: RunError) -> anyhow::Error {
    let next = format!("when database and broker are back: orderfleet dlq replay --resume {id}");
    let code = match error {
        RunError::NotConfirmed(_) => DEPENDENCY_DOWN,
        RunError::Store(_) => FAILED,
    };
    let error = anyhow::Error::from(error);
    let of_database = Failure::of_database(&error, &next);
    of_database.unwrap_or_else(|| Failure { what: format!("{error:#}"), next, code }).into()
}

/// The first Ctrl-C stops after the message in hand, the second at once.
async fn stop_at_ctrl_c(stop: &CancellationToken) -> std::convert::Infallible {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        if stop.is_cancelled() {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("stopping after the message in hand; Ctrl-C again leaves at once");
        stop.cancel();
    }
}
