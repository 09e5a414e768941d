//! The database: whether it can keep the promise, and whether its collections are ours.

use jiff::{SignedDuration, Timestamp};
use orderfleet_storage::{ClusterKind, Member, Resources, ServerState, ShardKey, Store, StoreError};

use super::{CHECK_TIMEOUT, Finding, Judgement, Subject, chain, check, not_made, version, within};

const APP_NAME: &str = "orderfleet doctor";
const VERSION_MIN: (u32, u32) = (6, 0);
/// Clocks that differ by more make leases and deadlines inexact.
const CLOCK_WARNING: SignedDuration = SignedDuration::from_secs(1);
/// Clocks that differ by more make them wrong: a lease is a minute by default.
const CLOCK_ERROR: SignedDuration = SignedDuration::from_secs(30);
/// Of connections, cache and disk.
const SHARE_WARNING: f64 = 0.9;
const NEED_DATABASE: [&str; 7] = [
    "database version",
    "clock",
    "write concern",
    "members",
    "collections",
    "shard key",
    "database resources",
];

pub(super) async fn examine(subject: &Subject) -> Vec<Finding> {
    let connecting = within(CHECK_TIMEOUT, Store::connect(&subject.database, APP_NAME));
    let store = match connecting.await {
        Ok(Ok(store)) => store,
        Ok(Err(error)) => return without_database(cannot_connect(&error)),
        Err(late) => return without_database(late),
    };
    let before = (subject.clock)();
    let state = within(CHECK_TIMEOUT, store.server_state()).await;
    let after = (subject.clock)();
    let state = match state {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => return without_database(cannot_connect(&error)),
        Err(late) => return without_database(late),
    };
    let (written, members, collections, shard_keys, resources) = tokio::join!(
        check("write concern", write_concern(&store)),
        check("members", members(&store, &state.cluster)),
        check("collections", collections(&store)),
        check("shard key", shard_key(&store, &state.cluster)),
        check("database resources", resources(&store)),
    );
    let clock = clock(before, state.local_time, after).of("clock");
    let (version, database) =
        (server_version(&state).of("database version"), connected(&state).of("database"));
    vec![database, version, clock, written, members, collections, shard_keys, resources]
}

fn without_database(database: Judgement) -> Vec<Finding> {
    let mut findings = vec![database.of("database")];
    let why = "not looked at: there is no connection to the database";
    findings.extend(not_made(NEED_DATABASE, why, "see the check `database`"));
    findings
}

fn cannot_connect(error: &StoreError) -> Judgement {
    let fix = match error {
        StoreError::Standalone { .. } => {
            "start mongod with --replSet rs0, and run once: mongosh --eval 'rs.initiate()'"
        }
        StoreError::TooOld { .. } => "update MongoDB to 6.0 or newer",
        StoreError::Uri(_) | StoreError::SecretFile { .. } => "correct the named setting",
        _ => {
            "start the database, or set database.uri (ORDERFLEET_MONGODB_URI) to where it is, with user and password if it \
             asks for them; `orderfleet up` starts one here"
        }
    };
    Judgement::error(chain(error), fix)
}

fn connected(state: &ServerState) -> Judgement {
    Judgement::ok(match &state.cluster {
        ClusterKind::ReplicaSet(name) => format!("the primary of the replica set {name}"),
        ClusterKind::Sharded => "a router of a sharded cluster".to_owned(),
    })
}

fn server_version(state: &ServerState) -> Judgement {
    let text = &state.version;
    match version(text) {
        Some(found) if found >= VERSION_MIN => Judgement::ok(format!("MongoDB {text}")),
        Some(_) => Judgement::error(format!("MongoDB {text} is too old"), "update MongoDB to 6.0 or newer"),
        None => Judgement::unknown(format!("a server of version {text}"), "mongosh --eval 'db.version()'"),
    }
}

/// The server's clock was read at some time between the two looks at our own.
fn clock(before: Timestamp, server: Timestamp, after: Timestamp) -> Judgement {
    let apart = if server < before {
        before.duration_since(server)
    } else if server > after {
        server.duration_since(after)
    } else {
        SignedDuration::ZERO
    };
    let found = format!("{} ms from the database's", apart.as_millis());
    let fix = "let both machines keep their time: timedatectl set-ntp true";
    match apart {
        apart if apart > CLOCK_ERROR => Judgement::error(found, fix),
        apart if apart > CLOCK_WARNING => Judgement::warning(found, fix),
        _ => Judgement::ok(found),
    }
}

async fn write_concern(store: &Store) -> Judgement {
    match store.try_majority_write().await {
        Ok(took) => Judgement::ok(format!("a majority has a write after {} ms", took.as_millis())),
        Err(error) => Judgement::error(
            chain(&error),
            "see the check `members`: a majority of the voting members must be up; the user needs readWrite on the database",
        ),
    }
}

async fn members(store: &Store, cluster: &ClusterKind) -> Judgement {
    let look = "mongosh --eval 'rs.status().members.map(m => [m.name, m.stateStr])'";
    if *cluster == ClusterKind::Sharded {
        return Judgement::unknown("a router does not tell: ask each shard", look);
    }
    match store.members().await {
        Ok(members) => judge_members(&members),
        Err(error) => Judgement::unknown(chain(&error), format!("{look}; the role clusterMonitor may ask")),
    }
}

fn judge_members(members: &[Member]) -> Judgement {
    let voting: Vec<_> = members.iter().filter(|member| member.votes).collect();
    let healthy = voting.iter().filter(|member| member.healthy).count();
    let ill: Vec<_> = members.iter().filter(|member| !member.healthy).collect();
    let ill: Vec<_> = ill.iter().map(|member| format!("{} is {}", member.name, member.state)).collect();
    if healthy * 2 <= voting.len() {
        let found = format!(
            "{healthy} of {} voting members are healthy: no majority; {}",
            voting.len(),
            ill.join(", ")
        );
        return Judgement::error(found, "start the members that are down");
    }
    if !ill.is_empty() {
        let found = format!("{healthy} of {} voting members are healthy; {}", voting.len(), ill.join(", "));
        return Judgement::warning(
            found,
            "start the members that are down; those that recover become secondaries by themselves",
        );
    }
    if voting.len() < 2 {
        let fix = "add two members, rs.add('HOST:PORT') each: with one, the loss of its disk is the loss of every order";
        return Judgement::warning("a replica set of one member", fix);
    }
    Judgement::ok(format!("{healthy} of {} voting members are healthy", voting.len()))
}

async fn collections(store: &Store) -> Judgement {
    let look = "mongosh --eval 'db.getCollectionInfos()'";
    let differences = match store.check_schema().await {
        Ok(differences) => differences,
        Err(error) => return Judgement::unknown(chain(&error), look),
    };
    let Some(first) = differences.first() else {
        return Judgement::ok("collections, validators and indexes are as declared");
    };
    let told: Vec<_> = differences.iter().map(|it| format!("{}: {}", it.collection, it.what)).collect();
    let mut fixes: Vec<_> = differences.iter().map(|it| it.fix.as_str()).collect();
    fixes.dedup();
    let fix = if fixes.len() == 1 { first.fix.clone() } else { fixes.join("; ") };
    Judgement::error(told.join("; "), fix)
}

async fn shard_key(store: &Store, cluster: &ClusterKind) -> Judgement {
    if *cluster != ClusterKind::Sharded {
        return Judgement::ok("not a sharded cluster: there is none");
    }
    match store.shard_keys().await {
        Ok(keys) => judge_shard_keys(&keys),
        Err(error) => Judgement::unknown(chain(&error), "mongosh --eval 'sh.status()'"),
    }
}

fn judge_shard_keys(keys: &[ShardKey]) -> Judgement {
    if let Some(other) = keys.iter().find(|key| key.key.is_some() && !key.as_declared) {
        let found =
            format!("{} is sharded by {}", other.collection, other.key.as_deref().unwrap_or_default());
        let fix = format!("mongosh --eval 'sh.reshardCollection(\"{}\", {{_id: 1}})'", other.collection);
        return Judgement::error(found, fix);
    }
    match keys.iter().find(|key| key.key.is_none()) {
        Some(whole) => {
            let found = format!("{} is not sharded: it lives on one shard alone", whole.collection);
            Judgement::warning(found, "orderfleet shard plan")
        }
        None => Judgement::ok("_id, as declared"),
    }
}

async fn resources(store: &Store) -> Judgement {
    match store.resources().await {
        Ok(resources) => judge_resources(&resources),
        Err(error) => Judgement::unknown(
            chain(&error),
            "let the user have the role clusterMonitor, or look at serverStatus yourself",
        ),
    }
}

fn judge_resources(resources: &Resources) -> Judgement {
    let Resources { resident_mib, connections_share, cache_share, disk_share } = *resources;
    let percent =
        |name: &str, share: Option<f64>| share.map(|share| format!("{name} {:.0} %", share * 100.0));
    let told = [
        resident_mib.map(|mib| format!("memory {mib:.0} MiB")),
        percent("connections", connections_share),
        percent("cache", cache_share),
        percent("disk", disk_share),
    ];
    let told = told.into_iter().flatten().collect::<Vec<_>>().join(", ");
    // A cache is there to be full.
    let short = |share: Option<f64>| share.is_some_and(|share| share > SHARE_WARNING);
    match (short(disk_share), short(connections_share)) {
        (true, _) => Judgement::warning(told, "give the database's disk more room before it is full"),
        (false, true) => {
            Judgement::warning(told, "lower database.pool_size_max, or raise net.maxIncomingConnections")
        }
        (false, false) if told.is_empty() => {
            Judgement::unknown("the server does not tell", "mongosh --eval 'db.serverStatus()'")
        }
        (false, false) => Judgement::ok(told),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    fn member(name: &str, healthy: bool, votes: bool) -> Member {
        let state = if healthy { "SECONDARY" } else { "(not reachable/healthy)" };
        Member { name: name.into(), state: state.into(), healthy, votes }
    }

    #[test]
    fn clocks_that_differ_by_a_second_are_warned_of_and_by_half_a_minute_an_error() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        for (server, verdict) in [
            (100, Verdict::Ok),
            (101, Verdict::Ok),
            (103, Verdict::Warning),
            (98, Verdict::Warning),
            (140, Verdict::Error),
            (60, Verdict::Error),
        ] {
            assert_eq!(clock(at(100), at(server), at(101)).verdict, verdict, "{server}");
        }
    }

    #[test]
    fn a_set_of_one_and_a_member_that_is_down_are_warned_of_and_no_majority_is_an_error() {
        let (up, down) = (member("a", true, true), member("b", false, true));
        for (members, verdict) in [
            (vec![up.clone(), up.clone(), up.clone()], Verdict::Ok),
            (vec![up.clone()], Verdict::Warning),
            (vec![up.clone(), up.clone(), down.clone()], Verdict::Warning),
            (vec![up.clone(), up.clone(), up.clone(), member("c", false, false)], Verdict::Warning),
            (vec![up.clone(), down.clone()], Verdict::Error),
        ] {
            assert_eq!(judge_members(&members).verdict, verdict, "{members:?}");
        }
    }

    #[test]
    fn another_shard_key_is_an_error_and_none_is_warned_of() {
        let key = |key: Option<&str>, as_declared| ShardKey {
            collection: "f.orders".into(),
            key: key.map(str::to_owned),
            as_declared,
        };
        assert_eq!(judge_shard_keys(&[key(Some("{ _id: 1 }"), true)]).verdict, Verdict::Ok);
        assert_eq!(judge_shard_keys(&[key(None, false)]).verdict, Verdict::Warning);
        assert_eq!(
            judge_shard_keys(&[key(None, false), key(Some("{ a: 1 }"), false)]).verdict,
            Verdict::Error
        );
    }

    #[test]
    fn a_full_disk_is_warned_of_and_a_full_cache_is_not() {
        let full = Resources { cache_share: Some(1.0), ..Resources::default() };
        assert_eq!(judge_resources(&full).verdict, Verdict::Ok);
        let full = Resources { disk_share: Some(0.95), ..full };
        assert_eq!(judge_resources(&full).verdict, Verdict::Warning);
        assert_eq!(judge_resources(&Resources::default()).verdict, Verdict::Unknown);
    }
}
