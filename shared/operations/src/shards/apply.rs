//! Looking at a cluster, and doing what a plan says, recorded in the operator log.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use orderfleet_domain::{AccountId, KeyRange, OrderId, Region};
use orderfleet_storage::{Cluster, SeenFrom, Store, StoreError, ZoneSettings};
use serde::Serialize;

use super::{
    Home, Plan, Step,
    plan::{plan, regions},
};
use crate::{
    log::{Act, LogError, OperatorLog},
    topology::Approval,
};

/// Most zones of a cluster.
const ZONES_MAX: usize = 64;
const LOOKS_AT_ONCE: usize = 8;

/// A cluster and what has to be done about it.
#[derive(Debug, Clone)]
pub struct Look {
    /// The cluster.
    pub cluster: Cluster,
    /// The plan.
    pub plan: Plan,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Applied {
    /// The step.
    #[serde(flatten)]
    pub step: Step,
    /// Whether it was done.
    pub done: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The database does not let this user do it.
    #[serde(skip)]
    pub refused: bool,
}

/// Why a cluster cannot be looked at, or sharded.
#[derive(Debug, thiserror::Error)]
pub enum ShardsError {
    /// The database failed, or does not let this user do it.
    #[error("the cluster cannot be looked at")]
    Store(#[from] StoreError),
    /// The operator log failed, or refused the reason.
    #[error("the operator log has no record of it")]
    Log(#[from] LogError),
    /// The settings contradict themselves.
    #[error("setting database.zones: {0}")]
    BadZones(String),
    /// An account is to have another region than its orders have. Their ids hold it, so the same key would be another order.
    #[error("account {account} has orders in region {stored}, and a key for {wanted}: a region is for life")]
    Moved {
        /// The account.
        account: AccountId,
        /// Where its orders are.
        stored: String,
        /// Where its key says.
        wanted: Region,
    },
    /// Only routers take the commands.
    #[error("a config server takes no such commands")]
    NoRouter,
}

/// Looks at the cluster and plans; changes nothing. `None` on a replica set that is no part of a cluster. `homes` are the accounts
/// that are known, for example from the file of API keys.
///
/// # Errors
/// The settings contradict themselves, the first or the newest order of an account is in another region than `homes` say, or the
/// database failed.
pub async fn look(
    store: &Store,
    zones: &[ZoneSettings],
    homes: &[Home],
) -> Result<Option<Look>, ShardsError> {
    check_zones(zones)?;
    let Some(cluster) = store.cluster().await? else { return Ok(None) };
    let mut with_orders = BTreeSet::new();
    if cluster.seen_from == SeenFrom::Router {
        check_homes(store, homes).await?;
        for region in regions(&cluster, zones, homes).into_keys() {
            if store.has_orders_in(&KeyRange::of_region(&region)).await? {
                with_orders.insert(region);
            }
        }
    }
    let plan = plan(&cluster, zones, homes, &with_orders);
    Ok(Some(Look { cluster, plan }))
}

/// Does what the plan says, step by step, and stops at the first that fails: the others rely on it. Creates the collections first,
/// as the start of a service does. Recorded in the operator log before and after; `tell` gets each step before it is done, with its
/// number from 1.
///
/// A second call finds nothing left to do. A crash leaves some steps done and an act without an end in the log: plan again. What
/// had no answer in time may be done all the same.
///
/// # Errors
/// This is no router, or the beginning could not be recorded: then nothing was done, but that there is an operator log. Or the
/// collections could not be created, or the end not be recorded.
pub async fn init(
    store: &Store,
    look: &Look,
    approval: &Approval,
    log: &OperatorLog,
    mut tell: impl FnMut(usize, &Step),
) -> Result<Vec<Applied>, ShardsError> {
    if look.cluster.seen_from != SeenFrom::Router {
        return Err(ShardsError::NoRouter);
    }
    if look.plan.steps.is_empty() {
        return Ok(Vec::new());
    }
    store.prepare_operator_log().await?;
    let target = format!("plan {}, {} steps", look.plan.id, look.plan.steps.len());
    let (who, why) = (approval.who.clone(), approval.why.clone());
    let act = log.begin(&Act { who, what: "shard.init".into(), why, target }).await?;
    if let Err(error) = store.prepare().await {
        log.end(&act, &format!("no step done; the collections: {}", told(&error))).await?;
        return Err(error.into());
    }
    let mut applied: Vec<Applied> = Vec::new();
    for (number, step) in (1..).zip(&look.plan.steps) {
        let (mut trouble, mut refused) = (None, false);
        if applied.last().is_some_and(|before| !before.done) {
            trouble = Some("not tried: the step before was not done".to_owned());
        } else {
            tell(number, step);
            if let Err(error) = perform(store, step).await {
                (trouble, refused) = (Some(told(&error)), error.is_refusal());
            }
        }
        applied.push(Applied { step: step.clone(), done: trouble.is_none(), trouble, refused });
    }
    log.end(&act, &result(&applied)).await?;
    Ok(applied)
}

async fn perform(store: &Store, step: &Step) -> Result<(), StoreError> {
    let range = |min: &str, max: &str| KeyRange { min: min.to_owned(), max: max.to_owned() };
    match step {
        Step::ZoneShard { shard, zone } => store.add_to_zone(shard, zone).await,
        Step::ZoneRange { collection, min, max, zone } => {
            store.keep_in_zone(collection, &range(min, max), zone).await
        }
        Step::Shard { collection } => store.shard_by_id(collection).await,
        Step::Move { collection, min, max, shard } => {
            store.move_range(collection, &range(min, max), shard).await
        }
    }
}

fn check_zones(zones: &[ZoneSettings]) -> Result<(), ShardsError> {
    let bad = |what: String| Err(ShardsError::BadZones(what));
    if zones.len() > ZONES_MAX {
        return bad(format!("at most {ZONES_MAX} regions"));
    }
    let mut regions = BTreeSet::new();
    for ZoneSettings { region, shards } in zones {
        if !regions.insert(region) {
            return bad(format!("region {region} is there twice"));
        }
        let names: BTreeSet<_> = shards.iter().collect();
        if names.is_empty() || names.len() < shards.len() {
            return bad(format!("region {region} needs the names of its shards, each once"));
        }
    }
    Ok(())
}

async fn check_homes(store: &Store, homes: &[Home]) -> Result<(), ShardsError> {
    let looks = homes.iter().map(|home| async move {
        let ends = store.first_and_newest_order_of(&home.account).await?;
        ends.iter().try_for_each(|order_id| check_home(home, order_id))
    });
    stream::iter(looks.collect::<Vec<_>>()).buffered(LOOKS_AT_ONCE).try_collect().await
}

fn check_home(home: &Home, order_id: &OrderId) -> Result<(), ShardsError> {
    if order_id.may_belong_to(&home.region, &home.account) {
        return Ok(());
    }
    let stored = order_id.as_str().split('-').next().unwrap_or_default().to_owned();
    Err(ShardsError::Moved { account: home.account.clone(), stored, wanted: home.region.clone() })
}

/// With the causes: what the server says is among them.
fn told(error: &StoreError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn result(applied: &[Applied]) -> String {
    let done = applied.iter().filter(|applied| applied.done).count();
    let failed = applied.iter().find_map(|applied| {
        let trouble = applied.trouble.as_ref()?;
        Some(format!("; {} {}: {trouble}", applied.step.verb(), applied.step.subject()))
    });
    format!("{done} of {} steps done{}", applied.len(), failed.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(region: &str, shards: &[&str]) -> ZoneSettings {
        let shards = shards.iter().map(|shard| (*shard).to_owned()).collect();
        ZoneSettings { region: region.parse().unwrap(), shards }
    }

    #[test]
    fn zones_that_contradict_themselves_are_refused() {
        assert!(check_zones(&[zone("eu1", &["a"]), zone("us1", &["a", "b"])]).is_ok());
        for (zones, word) in [
            (vec![zone("eu1", &["a"]), zone("eu1", &["b"])], "twice"),
            (vec![zone("eu1", &[])], "names of its shards"),
            (vec![zone("eu1", &["a", "a"])], "each once"),
        ] {
            assert!(check_zones(&zones).unwrap_err().to_string().contains(word), "{zones:?}");
        }
    }

    #[test]
    fn a_change_of_region_is_refused() {
        let home = |region: &str| Home { region: region.parse().unwrap(), account: "demo".parse().unwrap() };
        let order_id = OrderId::derive(&home("eu1").region, &home("eu1").account, &"a".parse().unwrap());
        assert!(check_home(&home("eu1"), &order_id).is_ok());
        let refused = check_home(&home("us1"), &order_id).unwrap_err().to_string();
        assert!(refused.contains("orders in region eu1, and a key for us1"), "{refused}");
    }
}
