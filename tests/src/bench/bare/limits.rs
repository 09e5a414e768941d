//! How fast broker and database are by themselves: one operation, over and over, by many tasks at once.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use mongodb::{
    Database,
    bson::{DateTime, RawDocumentBuf, rawdoc},
};
use tokio::task::JoinSet;

use super::{Done, Kind, broker::Channels, group::Grouped, pipeline};

/// Documents that updates go to, one after the other.
const UPDATED: u64 = 2_000;

/// How documents are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writes {
    pub(super) kind: Kind,
    /// Most in one command.
    pub(super) group: usize,
    /// Commands at once.
    pub(super) flights: usize,
    /// Writes waited for at once.
    pub(super) outstanding: usize,
    pub(super) seconds: f64,
}

/// Publishes for so long.
///
/// # Errors
/// When one is not confirmed.
pub(super) async fn publish(
    amqp_url: &str,
    bodies: &Path,
    outstanding: usize,
    seconds: f64,
) -> anyhow::Result<Done> {
    let channels = Arc::new(Channels::open(amqp_url).await?);
    let bodies = Arc::new(lines(bodies)?);
    repeat(outstanding, seconds, move |number| {
        let (channels, bodies) = (Arc::clone(&channels), Arc::clone(&bodies));
        async move { channels.publish(&format!("publish-{number}"), body(&bodies, number).as_bytes()).await }
    })
    .await
}

/// Writes for so long.
///
/// # Errors
/// When one is not written.
pub(super) async fn write(database: &Database, bodies: &Path, load: Writes) -> anyhow::Result<Done> {
    let orders: Vec<_> = lines(bodies)?.iter().map(|text| pipeline::order(text)).collect::<Result<_, _>>()?;
    let orders = Arc::new(orders);
    let fresh = |number: u64| {
        pipeline::document(&format!("write-{number}"), &orders[index(number, orders.len())], "RUN")
    };
    if load.kind == Kind::Update {
        let inserts = Grouped::start(database, Kind::Insert, 100, 2);
        let mut inserting: JoinSet<anyhow::Result<()>> = JoinSet::new();
        for number in 0..UPDATED {
            let (inserts, document) = (inserts.clone(), fresh(number));
            inserting.spawn(async move { inserts.write(document).await });
        }
        while let Some(inserted) = inserting.join_next().await {
            inserted??;
        }
    }
    let writes = Grouped::start(database, load.kind, load.group, load.flights);
    let orders = Arc::clone(&orders);
    repeat(load.outstanding, load.seconds, move |number| {
        let (writes, orders) = (writes.clone(), Arc::clone(&orders));
        async move {
            let document = match load.kind {
                Kind::Insert => {
                    let order = &orders[index(number, orders.len())];
                    pipeline::document(&format!("write-{number}"), order, "RUN")
                }
                Kind::Update => update(number),
            };
            writes.write(document).await
        }
    })
    .await
}

fn update(number: u64) -> RawDocumentBuf {
    let id = format!("write-{}", number % UPDATED);
    let cur = i64::try_from(number).unwrap_or(i64::MAX);
    rawdoc! {
        "q": { "_id": id },
        "u": { "$set": { "phase": "RUN", "cur": cur, "updated_at": DateTime::now() } },
    }
}

/// Does it again and again in so many tasks, until the time is over; what fails ends all of it.
async fn repeat<F>(
    tasks: usize,
    seconds: f64,
    work: impl Fn(u64) -> F + Clone + Send + 'static,
) -> anyhow::Result<Done>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let (count, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let until = begun + Duration::from_secs_f64(seconds);
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (work, count) = (work.clone(), Arc::clone(&count));
        running.spawn(async move {
            while Instant::now() < until {
                work(count.fetch_add(1, Ordering::Relaxed)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(Done { count: count.load(Ordering::Relaxed), seconds: begun.elapsed().as_secs_f64() })
}

fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    anyhow::ensure!(!lines.is_empty(), "{} is empty", file.display());
    Ok(lines)
}

fn body(bodies: &[String], number: u64) -> &str {
    &bodies[index(number, bodies.len())]
}

fn index(number: u64, len: usize) -> usize {
    usize::try_from(number).unwrap_or(0) % len
}
