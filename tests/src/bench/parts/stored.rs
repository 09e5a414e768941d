//! What an order costs once many are stored, compared with what it costs beside 1,000.

use std::{sync::Arc, time::Duration};

use anyhow::ensure;
use futures_util::TryStreamExt as _;
use mongodb::bson::{DateTime, Document, doc};

use super::e2e;
use crate::bench::{Line, Target, run::Bench, stage::Stage, usage::Cost};

const PART: &str = "stored";
const FEW: u32 = 1_000;
const FEW_DATABASE: &str = "stored_few";
const MANY_DATABASE: &str = "stored_many";
/// Whose stored orders are: nobody who posts.
const ACCOUNT: &str = "stored";

const INSERTED_AT_ONCE: u32 = 1_000;
/// Between two stored orders.
const APART: Duration = Duration::from_secs(1);
const SAID_EVERY: u32 = 100_000;
/// Of the cost beside few orders, within.
const COST: (f64, f64) = (0.95, 1.05);

/// Two databases that differ in nothing else.
///
/// # Errors
/// When an order is not worked.
pub(in crate::bench) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let (bodies, workers) = (Arc::clone(&bench.real), bench.options.workers);
    let many = bench.options.stored;
    for (database, stored) in [(FEW_DATABASE, FEW), (MANY_DATABASE, many)] {
        e2e::work_in(bench, database, &bodies, e2e::FIRST, workers, &[]).await?;
        store(bench, database, stored).await?;
    }
    let (mut rates, mut costs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..bench.options.rounds {
        for at in [usize::from(round % 2), 1 - usize::from(round % 2)] {
            let database = [FEW_DATABASE, MANY_DATABASE][at];
            let orders = bench.backlog(bodies.name);
            let drained = e2e::work_in(bench, database, &bodies, orders, workers, &[]).await?.drained;
            bench.say(format!("{PART}: {database} {:.0}/s", drained.rate));
            rates[at].push(drained.rate);
            costs[at].push(drained.cost);
        }
    }
    for database in [FEW_DATABASE, MANY_DATABASE] {
        bench.stage.drop_database(database).await?;
    }
    let total = |costs: &[Cost]| costs.iter().map(|cost| cost.values().sum()).collect::<Vec<f64>>();
    let (few_cost, many_cost) = (total(&costs[0]), total(&costs[1]));
    let what = |text: &str| format!("real orders, {text}, {many} stored (bare: {FEW})");
    bench.line(Line::new(PART, what("worked"), "orders/s", &rates[0], &rates[1]));
    let cost = Line::new(PART, what("CPU per 1,000"), "s", &few_cost, &many_cost);
    bench.line(cost.target(Target::at_least(COST.0).as_ratio()).target(Target::at_most(COST.1).as_ratio()));
    bench.cost(PART, format!("real orders beside {FEW}, worked alone"), &costs[0]);
    bench.cost(PART, format!("real orders beside {many}, worked alone"), &costs[1]);
    Ok(())
}

/// Copies orders that were worked until so many are stored.
async fn store(bench: &Bench, database: &str, stored: u32) -> anyhow::Result<()> {
    let orders = bench.stage.database(database).collection::<Document>("orders");
    let done: Vec<Document> = orders.find(doc! { "phase": "DONE" }).await?.try_collect().await?;
    ensure!(!done.is_empty(), "no order is DONE");
    let now = DateTime::now().timestamp_millis();
    let apart = i64::try_from(APART.as_millis()).unwrap_or(i64::MAX);
    let copy = |number: u32| {
        let mut order = done[number as usize % done.len()].clone();
        let at = DateTime::from_millis(now - i64::from(number) * apart);
        let id = Stage::order_id(&format!("stored-{number}"))?;
        order.extend(
            doc! { "_id": id, "account": ACCOUNT, "created_at": at, "accepted_at": at, "updated_at": at },
        );
        anyhow::Ok(order)
    };
    let mut number = 0;
    while number < stored {
        let until = stored.min(number + INSERTED_AT_ONCE);
        let copies: Vec<_> = (number..until).map(copy).collect::<Result<_, _>>()?;
        orders.insert_many(copies).ordered(false).await?;
        number = until;
        if number % SAID_EVERY == 0 {
            bench.say(format!("{PART}: {number} of {stored} orders are stored in {database}"));
        }
    }
    Ok(())
}
