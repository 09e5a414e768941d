//! Orders over which every worker aborts, and for how long workers may.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use mongodb::{
    Database,
    bson::{Document, doc},
};
use tokio::{task::JoinSet, time::sleep};

use crate::chaos::{Load, Stage, supervised::Supervised};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long a crashing order may go without another abort: its message may wait for the end of another fault.
const ABORTS_WITHIN: Duration = Duration::from_secs(90);
/// A worker that was stopped with the order in hand, or cut off from the database, may still come to its step after others
/// have held the order. No worker is stopped or cut off for longer.
const LAST_ABORT_WITHIN: Duration = Duration::from_secs(20);

/// Orders that may still crash workers, each with a watch of its own; dropping it ends the watches.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<JoinSet<()>>);

/// An order over which every worker aborts, until it is held. One that ends otherwise, for another fault's sake, is followed
/// by the next. The evidence is aborts. As long as there are more of them, it goes on; whether the order is held at last is
/// for the checker to say.
pub(super) async fn crashing_body(
    stage: &Arc<Stage>,
    load: &Load,
    watches: &Watches,
) -> anyhow::Result<String> {
    let aborts = || stage.parts.workers.iter().map(Supervised::aborts).sum::<u32>();
    let (before, mut last, mut progress) = (aborts(), aborts(), Instant::now());
    let mut id = watches.order(stage, load).await?;
    loop {
        match end_of(stage, &id).await? {
            Some(End::Held(hold)) => {
                let aborted = aborts() - before;
                ensure!(aborted > 0, "no worker aborted over {id}, which is held: {hold}");
                return Ok(format!("{id}: {aborted} workers aborted, then it was held: {hold}"));
            }
            Some(End::Other) => {
                id = watches.order(stage, load).await?;
                progress = Instant::now();
            }
            None => {}
        }
        if aborts() > last {
            (last, progress) = (aborts(), Instant::now());
        }
        if progress.elapsed() > ABORTS_WITHIN {
            ensure!(last > before, "no worker aborted over {id}");
            return Ok(format!("{id}: {} workers aborted, not held yet", last - before));
        }
        sleep(LOOK_EVERY).await;
    }
}

impl Watches {
    /// Posts a crashing order; returns its id once it is accepted. It is watched from before it is sent, as it may be worked
    /// on without having been accepted.
    async fn order(&self, stage: &Arc<Stage>, load: &Load) -> anyhow::Result<String> {
        let order = load.crashing_order();
        let id = order.identity.order_id.clone();
        stage.parts.crashing.fetch_add(1, Ordering::Relaxed);
        let watch = until_harmless(Arc::clone(stage), id.clone());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(watch);
        ensure!(load.place(&order, 0).await, "the order was not accepted");
        Ok(id)
    }
}

/// Workers may abort until the order is at its end: the fault may leave it open, and after its end nobody may. One that is
/// not stored may still come.
async fn until_harmless(stage: Arc<Stage>, id: String) {
    while !matches!(end_of(&stage, &id).await, Ok(Some(_))) {
        sleep(WATCH_EVERY).await;
    }
    sleep(LAST_ABORT_WITHIN).await;
    stage.parts.crashing.fetch_sub(1, Ordering::Relaxed);
}

/// How an order has ended.
enum End {
    Held(String),
    Other,
}

async fn end_of(stage: &Stage, id: &str) -> anyhow::Result<Option<End>> {
    let find = |database: Database| {
        let orders = database.collection::<Document>("orders");
        let filter = doc! { "_id": id };
        async move { orders.find_one(filter).await.context("find the crashing order") }
    };
    let Some(order) = stage.witness.ask(find).await? else { return Ok(None) };
    Ok(match (order.get_document("hold"), order.get_str("phase")) {
        (Ok(hold), _) => Some(End::Held(hold.to_string())),
        (_, Ok("DONE" | "UNDONE")) => Some(End::Other),
        _ => None,
    })
}
