//! Plans for clusters in every state.

use orderfleet_storage::{Balancer, Shard, sharded_collections};

use super::*;

fn shard(name: &str, zones: &[&str]) -> Shard {
    let zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
    Shard { name: name.to_owned(), zones, draining: false }
}

/// A fresh one, with two shards.
fn cluster() -> Cluster {
    let collection = |name| ShardedCollection {
        name,
        key: None,
        as_declared: false,
        balanced: true,
        ranges: Vec::new(),
        zones: Vec::new(),
        violation: None,
        violation_refused: false,
    };
    Cluster {
        database: "shop".into(),
        seen_from: SeenFrom::Router,
        shards: vec![shard("a", &[]), shard("b", &[])],
        primary: Some("a".into()),
        collections: sharded_collections().map(collection).collect(),
        balancer: Balancer::default(),
    }
}

fn zone(region: &str, shards: &[&str]) -> ZoneSettings {
    let shards = shards.iter().map(|shard| (*shard).to_owned()).collect();
    ZoneSettings { region: region.parse().unwrap(), shards }
}

fn home(region: &str, account: &str) -> Home {
    Home { region: region.parse().unwrap(), account: account.parse().unwrap() }
}

fn verbs(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(Step::verb).collect()
}

fn told(plan: &Plan) -> Vec<String> {
    plan.differences.iter().map(|it| format!("{} {}", it.subject, it.what)).collect()
}

/// What the server makes of a step: the ranges, as they were seen on a real config server (6.0.5).
fn perform(cluster: &mut Cluster, step: &Step) {
    let found = |cluster: &mut Cluster, name: &str| {
        cluster.collections.iter().position(|collection| collection.name == name).unwrap()
    };
    match step {
        Step::ZoneShard { shard, zone } => {
            let shard = cluster.shards.iter_mut().find(|found| found.name == *shard).unwrap();
            shard.zones.push(zone.clone());
        }
        Step::ZoneRange { collection, min, max, zone } => {
            let number = found(cluster, collection);
            let (min, max) = (piece_end(min), piece_end(max));
            cluster.collections[number].zones.push(Zoned { min, max, zone: zone.clone() });
        }
        Step::Shard { collection } => {
            let number = found(cluster, collection);
            let collection = &mut cluster.collections[number];
            (collection.key, collection.as_declared) = (Some("{ _id: 1 }".into()), true);
            let whole = Placed { min: Bound::Lowest, max: Bound::Highest, shard: "a".into() };
            collection.ranges = vec![whole];
        }
        Step::Move { collection, min, max, shard } => {
            let number = found(cluster, collection);
            let ranges = &mut cluster.collections[number].ranges;
            let (min, max) = (piece_end(min), piece_end(max));
            let within = ranges.iter().position(|range| range.min <= min && max <= range.max).unwrap();
            let Placed { min: first, max: last, shard: before } = ranges.remove(within);
            let part = |min, max, shard: &String| Placed { min, max, shard: shard.clone() };
            let parts =
                [part(first, min.clone(), &before), part(min, max.clone(), shard), part(max, last, &before)];
            ranges.splice(within..within, parts.into_iter().filter(|part| part.min < part.max));
        }
    }
}

#[test]
fn a_fresh_cluster_is_zoned_then_sharded_then_dealt_out_and_afterwards_nothing_is_left() {
    let zones = [zone("eu1", &["a", "b"]), zone("us1", &["b"])];
    let homes = [home("eu1", "large")];
    let mut cluster = cluster();
    let first = plan(&cluster, &zones, &homes, &BTreeSet::new());
    let verbs = verbs(&first);
    let order: Vec<_> = verbs.chunk_by(|one, other| one == other).map(|same| (same[0], same.len())).collect();
    assert_eq!(order[..3], [("zone shard", 3), ("zone range", 4), ("shard", 3)]);
    assert!(order[3].0 == "move" && order[3].1 >= 16 && order.len() == 4, "{order:?}");
    assert_eq!(told(&first), [""; 0]);
    for step in &first.steps {
        perform(&mut cluster, step);
    }
    let again = plan(&cluster, &zones, &homes, &BTreeSet::new());
    assert_eq!((again.steps, again.differences), (Vec::new(), Vec::new()));
    assert_ne!(first.id, again.id);
    let without_keys = plan(&cluster, &zones, &[], &BTreeSet::new());
    assert_eq!(without_keys.steps, [], "nothing is dealt anew by who does not know the accounts");
}

#[test]
fn one_region_without_zones_needs_no_settings() {
    let cluster = cluster();
    let known = plan(&cluster, &[], &[home("eu1", "shop")], &BTreeSet::new());
    assert!(verbs(&known).contains(&"move") && !verbs(&known).contains(&"zone range"), "{known:?}");
    let unknown = plan(&cluster, &[], &[], &BTreeSet::new());
    assert_eq!(verbs(&unknown), ["shard"; 3]);
    assert!(unknown.notes[0].contains("--keys"), "{:?}", unknown.notes);
    assert_eq!(unknown.whole.len() + 3, PLACEMENTS.len());
}

#[test]
fn a_region_that_holds_orders_is_left_to_the_balancer() {
    let with_orders = BTreeSet::from(["eu1".parse().unwrap()]);
    let plan = plan(&cluster(), &[], &[home("eu1", "shop")], &with_orders);
    assert!(!verbs(&plan).contains(&"move") && plan.notes[0].contains("eu1"), "{plan:?}");
}

#[test]
fn a_further_shard_of_a_zone_is_put_into_it_and_one_too_many_is_told() {
    let mut cluster = cluster();
    let zones = [zone("eu1", &["a"])];
    for step in plan(&cluster, &zones, &[], &BTreeSet::new()).steps {
        perform(&mut cluster, &step);
    }
    cluster.shards.push(shard("c", &[]));
    let with_orders = BTreeSet::from(["eu1".parse().unwrap()]);
    let grown = plan(&cluster, &[zone("eu1", &["a", "c"])], &[], &with_orders);
    assert_eq!(grown.steps, [Step::ZoneShard { shard: "c".into(), zone: "eu1".into() }]);
    cluster.shards[1].zones.push("eu1".into());
    assert!(told(&plan(&cluster, &zones, &[], &with_orders))[0].starts_with("shard b is in zone eu1"));
}

#[test]
fn what_is_not_as_the_settings_say_is_told_and_left_alone() {
    let mut cluster = cluster();
    cluster.shards[1].draining = true;
    cluster.balancer.stopped = true;
    let orders = &mut cluster.collections[0];
    (orders.key, orders.balanced) = (Some("{ account: 1 }".into()), false);
    let old = KeyRange::of_region(&"eu0".parse().unwrap());
    orders.zones = vec![Zoned { min: piece_end(&old.min), max: piece_end(&old.max), zone: "eu0".into() }];
    orders.violation = Some("zoneViolation".into());
    let plan = plan(&cluster, &[zone("eu1", &["b", "x"])], &[home("ap1", "shop")], &BTreeSet::new());
    let told = told(&plan);
    for word in [
        "shard b is being removed",
        "shard x database.zones names it",
        "region ap1 has accounts and no zone",
        "orders \"eu0-\" to \"eu0.\" is kept in zone eu0",
        "orders is sharded by { account: 1 }",
        "orders the balancer may not move it",
        "zoneViolation",
        "balancer is stopped",
    ] {
        assert!(told.iter().any(|told| told.contains(word)), "{word}: {told:#?}");
    }
    assert!(plan.steps.iter().all(|step| !matches!(step, Step::Move { .. })), "{:?}", plan.steps);
}

#[test]
fn what_a_router_does_not_tell_this_user_is_noted() {
    let mut cluster = cluster();
    let homes = [home("eu1", "shop")];
    assert_eq!(plan(&cluster, &[], &homes, &BTreeSet::new()).notes, [""; 0]);
    cluster.collections[1].violation_refused = true;
    let notes = plan(&cluster, &[], &homes, &BTreeSet::new()).notes;
    assert!(notes.len() == 1 && notes[0].contains("lacks enableSharding"), "{notes:?}");
}

#[test]
fn ranges_on_a_shard_outside_their_zone_are_counted() {
    let mut cluster = cluster();
    let zones = [zone("eu1", &["b"])];
    for step in plan(&cluster, &zones, &[], &BTreeSet::new()).steps {
        perform(&mut cluster, &step);
    }
    let KeyRange { min, max } = KeyRange::of_region(&zones[0].region);
    let range = Placed { min: piece_end(&min), max: piece_end(&max), shard: "a".into() };
    cluster.collections[0].ranges = vec![range];
    let told = told(&plan(&cluster, &zones, &[], &BTreeSet::new()));
    assert_eq!(told, ["orders 1 ranges are on shards outside their zone"]);
}
