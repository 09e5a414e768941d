//! From what is to be and what is there to steps, and to what only people can decide.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use orderfleet_domain::{KeyRange, Region};
use orderfleet_storage::{
    Bound, Cluster, PLACEMENTS, Placed, Placement, RANGES_MAX, SeenFrom, ShardedCollection, ZoneSettings,
    Zoned,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Home, Pieces};

/// Of the hash; two digits each.
const ID_BYTES: usize = 6;
/// The collection whose ranges are dealt out before there are orders: the others are small beside it.
const DEALT: &str = "orders";

/// What has to be done until a cluster is as it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// A hash over its steps: another plan has another id.
    pub id: String,
    /// What `init` does, in this order.
    pub steps: Vec<Step>,
    /// What is not as the settings say, and `init` leaves alone.
    pub differences: Vec<Difference>,
    /// The collections that stay on one shard.
    pub whole: Vec<Whole>,
    /// What to know beside the steps.
    pub notes: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields are named as the server's commands name them")]
pub enum Step {
    /// Put a shard into a zone.
    ZoneShard { shard: String, zone: String },
    /// Keep a range of ids in a zone.
    ZoneRange { collection: String, min: String, max: String, zone: String },
    /// Shard a collection by `{ _id: 1 }`.
    Shard { collection: String },
    /// Move a range of ids that holds no order to a shard.
    Move { collection: String, min: String, max: String, shard: String },
}

/// Something that a person has to decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The collection, shard or zone.
    pub subject: String,
    /// What is not as it is to be.
    pub what: String,
    /// What mends it.
    pub fix: String,
}

/// A collection that is not sharded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Whole {
    /// Its name.
    pub collection: &'static str,
    /// Why.
    pub why: &'static str,
}

impl Step {
    /// The word for people.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::ZoneShard { .. } => "zone shard",
            Self::ZoneRange { .. } => "zone range",
            Self::Shard { .. } => "shard",
            Self::Move { .. } => "move",
        }
    }

    /// What it is done to.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::ZoneShard { shard, .. } => format!("shard {shard}"),
            Self::Shard { collection } => collection.clone(),
            Self::ZoneRange { collection, min, max, .. } | Self::Move { collection, min, max, .. } => {
                format!("{collection} {min} to {max}")
            }
        }
    }

    /// What is done, for people.
    #[must_use]
    pub fn what(&self) -> String {
        match self {
            Self::ZoneShard { zone, .. } => format!("into zone {zone}"),
            Self::ZoneRange { zone, .. } => format!("keep in zone {zone}"),
            Self::Shard { .. } => "by { _id: 1 }".to_owned(),
            Self::Move { shard, .. } => format!("to shard {shard}"),
        }
    }
}

/// Compares a cluster with the settings. `homes` are the known accounts, `with_orders` the regions that hold orders already: their
/// ranges are the balancer's.
#[must_use]
pub fn plan(
    cluster: &Cluster,
    zones: &[ZoneSettings],
    homes: &[Home],
    with_orders: &BTreeSet<Region>,
) -> Plan {
    let mut steps = zone_steps(cluster, zones);
    steps.extend(shard_steps(cluster));
    let fresh = cluster.collections.iter().any(|found| found.name == DEALT && found.key.is_none());
    for (region, shards) in regions(cluster, zones, homes) {
        // Later only for whoever names the accounts: without them the pieces are others, and what is dealt out would be dealt anew.
        let wanted = fresh || homes.iter().any(|home| home.region == region);
        if wanted && !with_orders.contains(&region) && shards.len() > 1 {
            steps.extend(moves(cluster, &Pieces::deal(&region, &shards, homes)));
        }
    }
    let mut differences = zone_differences(cluster, zones, homes);
    differences.extend(foreign_zones(cluster, zones));
    differences.extend(cluster.collections.iter().flat_map(|found| collection_differences(cluster, found)));
    differences.extend(balancer_differences(cluster));
    let notes = notes(cluster, zones, homes, with_orders);
    Plan { id: id(&steps), steps, differences, whole: whole(), notes }
}

/// The regions that are known, each with the shards that its orders may be on.
pub(super) fn regions(
    cluster: &Cluster,
    zones: &[ZoneSettings],
    homes: &[Home],
) -> BTreeMap<Region, Vec<String>> {
    let usable = |name: &str| cluster.shards.iter().any(|shard| shard.name == name && !shard.draining);
    let everywhere: Vec<_> =
        cluster.shards.iter().filter(|shard| !shard.draining).map(|shard| shard.name.clone()).collect();
    let mut regions: BTreeMap<_, _> =
        homes.iter().map(|home| (home.region.clone(), everywhere.clone())).collect();
    for ZoneSettings { region, shards } in zones {
        let shards = shards.iter().filter(|shard| usable(shard)).cloned().collect();
        regions.insert(region.clone(), shards);
    }
    regions
}

fn zone_steps(cluster: &Cluster, zones: &[ZoneSettings]) -> Vec<Step> {
    let mut steps = Vec::new();
    for ZoneSettings { region, shards } in zones {
        let zone = region.as_str().to_owned();
        let outside = cluster.shards.iter().filter(|shard| !shard.zones.contains(&zone));
        let outside = outside.filter(|shard| shards.contains(&shard.name));
        steps.extend(outside.map(|shard| Step::ZoneShard { shard: shard.name.clone(), zone: zone.clone() }));
    }
    let exists = |name: &String| cluster.shards.iter().any(|shard| shard.name == *name);
    for ZoneSettings { region, .. } in zones.iter().filter(|zone| zone.shards.iter().any(exists)) {
        let KeyRange { min, max } = KeyRange::of_region(region);
        for collection in cluster.collections.iter().filter(|collection| is_zoned(collection.name)) {
            if overlapping(collection, &min, &max).next().is_none() {
                let (collection, zone) = (collection.name.to_owned(), region.to_string());
                steps.push(Step::ZoneRange { collection, min: min.clone(), max: max.clone(), zone });
            }
        }
    }
    steps
}

fn shard_steps(cluster: &Cluster) -> impl Iterator<Item = Step> {
    let missing = cluster.collections.iter().filter(|collection| collection.key.is_none());
    missing.map(|collection| Step::Shard { collection: collection.name.to_owned() })
}

/// What of the pieces lies elsewhere. Before the collection is sharded, nobody knows where it will lie: then all of them; the
/// server does nothing for those that are there already.
fn moves(cluster: &Cluster, pieces: &Pieces) -> Vec<Step> {
    let Some(orders) = cluster.collections.iter().find(|collection| collection.name == DEALT) else {
        return Vec::new();
    };
    let step = |min: &str, max: &str, shard: &str| Step::Move {
        collection: DEALT.to_owned(),
        min: min.to_owned(),
        max: max.to_owned(),
        shard: shard.to_owned(),
    };
    let mut steps = Vec::new();
    for (piece, shard) in &pieces.0 {
        if orders.key.is_none() {
            steps.push(step(&piece.min, &piece.max, shard));
        }
        let elsewhere = orders.ranges.iter().filter(|range| orders.as_declared && range.shard != *shard);
        for Placed { min, max, .. } in elsewhere {
            let (from, to) =
                (min.max(&piece_end(&piece.min)).clone(), max.min(&piece_end(&piece.max)).clone());
            if let (Bound::Id(from), Bound::Id(to)) = (&from, &to)
                && from < to
            {
                steps.push(step(from, to, shard));
            }
        }
    }
    steps
}

fn piece_end(id: &str) -> Bound {
    Bound::Id(id.to_owned())
}

fn is_zoned(collection: &str) -> bool {
    PLACEMENTS.contains(&(collection, Placement::ById { zoned: true }))
}

fn overlapping<'a>(
    collection: &'a ShardedCollection,
    min: &str,
    max: &str,
) -> impl Iterator<Item = &'a Zoned> {
    let (min, max) = (piece_end(min), piece_end(max));
    collection.zones.iter().filter(move |zoned| zoned.min < max && min < zoned.max)
}

fn zone_differences(cluster: &Cluster, zones: &[ZoneSettings], homes: &[Home]) -> Vec<Difference> {
    let mut differences = Vec::new();
    for ZoneSettings { region, shards } in zones {
        for name in shards {
            differences.extend(shard_difference(cluster, region, name));
        }
        let strangers =
            cluster.shards.iter().filter(|shard| shard.zones.iter().any(|zone| *zone == region.as_str()));
        for shard in strangers.filter(|shard| !shards.contains(&shard.name)) {
            let name = &shard.name;
            let what = format!("is in zone {region}, and database.zones does not say so");
            let fix =
                format!("name it in database.zones, or: sh.removeShardFromZone(\"{name}\", \"{region}\")");
            differences.push(difference(format!("shard {name}"), what, fix));
        }
    }
    let regions: BTreeSet<_> = zones.iter().map(|zone| &zone.region).collect();
    let without: BTreeSet<_> =
        homes.iter().map(|home| &home.region).filter(|home| !regions.contains(home)).collect();
    for region in without.into_iter().filter(|_| !zones.is_empty()) {
        let what = "has accounts and no zone: their orders may be on any shard";
        differences.push(difference(
            format!("region {region}"),
            what.into(),
            "name it in database.zones".into(),
        ));
    }
    differences
}

fn shard_difference(cluster: &Cluster, region: &Region, name: &str) -> Option<Difference> {
    let subject = || format!("shard {name}");
    match cluster.shards.iter().find(|shard| shard.name == name) {
        None => {
            let what = format!("database.zones names it for {region}, and the cluster has none of that name");
            Some(difference(subject(), what, "sh.addShard(\"SET/HOST:PORT\"), or correct the name".into()))
        }
        Some(shard) if shard.draining => {
            let what = format!("is being removed, and database.zones names it for {region}");
            Some(difference(subject(), what, "take it out of database.zones".into()))
        }
        Some(_) => None,
    }
}

fn collection_differences(cluster: &Cluster, found: &ShardedCollection) -> Vec<Difference> {
    let name = found.name;
    let mut differences = Vec::new();
    let mut differ = |what: String, fix: String| differences.push(difference(name.to_owned(), what, fix));
    match &found.key {
        Some(key) if !found.as_declared => {
            differ(
                format!("is sharded by {key}"),
                format!("sh.reshardCollection(\"{}.{name}\", {{ _id: 1 }})", cluster.database),
            );
        }
        _ => {}
    }
    if !found.balanced {
        differ(
            "the balancer may not move it".into(),
            format!("sh.enableBalancing(\"{}.{name}\")", cluster.database),
        );
    }
    if found.ranges.len() >= RANGES_MAX as usize {
        differ(format!("has {RANGES_MAX} ranges or more; the rest was not looked at"), "sh.status()".into());
    }
    let misplaced = found.ranges.iter().filter(|range| is_misplaced(cluster, found, range)).count();
    if misplaced > 0 {
        let what = format!("{misplaced} ranges are on shards outside their zone");
        differ(what, "the balancer moves them: see that it runs, and wait".into());
    }
    if let Some(violation) = found.violation.as_deref().filter(|violation| !violation.is_empty()) {
        differ(
            format!("the balancer has not done with it: {violation}"),
            "see that it runs, and wait".into(),
        );
    }
    differences
}

/// Whether a range lies within one that is kept in a zone, on a shard that is not in it.
fn is_misplaced(cluster: &Cluster, collection: &ShardedCollection, range: &Placed) -> bool {
    let zoned = collection.zones.iter().find(|zoned| zoned.min <= range.min && range.max <= zoned.max);
    let shard = cluster.shards.iter().find(|shard| shard.name == range.shard);
    zoned.zip(shard).is_some_and(|(zoned, shard)| !shard.zones.contains(&zoned.zone))
}

/// Ranges that are kept in other zones than the settings say, of every collection alike.
fn foreign_zones(cluster: &Cluster, zones: &[ZoneSettings]) -> Vec<Difference> {
    let own: BTreeSet<_> = zones
        .iter()
        .map(|zone| (KeyRange::of_region(&zone.region), zone.region.as_str()))
        .map(|(KeyRange { min, max }, zone)| (piece_end(&min), piece_end(&max), zone.to_owned()))
        .collect();
    let mut differences = Vec::new();
    for collection in &cluster.collections {
        for Zoned { min, max, zone } in &collection.zones {
            if !own.contains(&(min.clone(), max.clone(), zone.clone())) {
                let (from, to) = (told(min), told(max));
                let what =
                    format!("{from} to {to} is kept in zone {zone}, and database.zones does not say so");
                let fix = format!(
                    "a region is for life: name it in database.zones as it was; a range that is no region's goes by \
                     sh.removeRangeFromZone(\"{}.{}\", {{ _id: {from} }}, {{ _id: {to} }})",
                    cluster.database, collection.name
                );
                differences.push(difference(collection.name.to_owned(), what, fix));
            }
        }
    }
    differences
}

/// For people, in the shell's words.
fn told(bound: &Bound) -> String {
    match bound {
        Bound::Lowest => "MinKey()".to_owned(),
        Bound::Highest => "MaxKey()".to_owned(),
        Bound::Id(id) => format!("\"{id}\""),
        Bound::Other(other) => other.clone(),
    }
}

fn balancer_differences(cluster: &Cluster) -> Vec<Difference> {
    let stopped = cluster.balancer.stopped.then(|| {
        let what = "is stopped: new shards stay empty, and nothing is moved into its zone";
        difference("balancer".into(), what.into(), "sh.startBalancer()".into())
    });
    stopped.into_iter().collect()
}

fn notes(
    cluster: &Cluster,
    zones: &[ZoneSettings],
    homes: &[Home],
    with_orders: &BTreeSet<Region>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let dealt = cluster.collections.iter().any(|found| found.name == DEALT && found.key.is_some());
    if zones.is_empty() && homes.is_empty() && !dealt {
        notes.push(
            "no region is known, so nothing is dealt out to the shards before there are orders: name the API key file with --keys, \
             or the regions in database.zones"
                .into(),
        );
    }
    for region in with_orders {
        notes.push(format!(
            "region {region} holds orders: the balancer spreads them by their size, nothing is dealt out"
        ));
    }
    if cluster.collections.iter().any(|found| found.violation_refused) {
        notes.push(
            "whether the balancer has ranges left to move is not told: this user lacks enableSharding (role clusterManager)".into(),
        );
    }
    if cluster.seen_from == SeenFrom::ConfigServer {
        notes.push("this is a config server: which regions hold orders is not visible, and nothing can be changed here".into());
    }
    notes
}

fn whole() -> Vec<Whole> {
    let whole = PLACEMENTS.into_iter().filter_map(|(collection, placement)| match placement {
        Placement::Whole { why } => Some(Whole { collection, why }),
        Placement::ById { .. } => None,
    });
    whole.collect()
}

fn difference(subject: String, what: String, fix: String) -> Difference {
    Difference { subject, what, fix }
}

fn id(steps: &[Step]) -> String {
    let mut hash = Sha256::new();
    for step in steps {
        hash.update(format!("{}\n{}\n{}\n", step.verb(), step.subject(), step.what()));
    }
    HEXLOWER.encode(&hash.finalize()[..ID_BYTES])
}

#[cfg(test)]
mod tests;
