//! Two operators who replay the same dead letters at once.

use std::{collections::BTreeSet, time::Duration};

use mongodb::bson::doc;
use orderfleet_tests::Fleet;
use tokio::{process::Child, time::sleep};

use super::{ACT, CHOSEN, count, fleet_with_letters, in_state, replay_of, results, until_there};
use crate::{
    operator::{JO, Ran, begin, run_as},
    scenarios::long,
};

const SAM: &str = "sam";
const SEED: u64 = 4;
/// Done, or some were left to the other.
const FINE: [Option<i32>; 2] = [Some(0), Some(3)];
/// Of the time from a sign of life to a kill.
const MILLIS_MAX: u64 = 300;

/// How large it is.
struct Size {
    orders: usize,
    kills: usize,
    /// Of each operator.
    rate: &'static str,
}

/// Jo begins, or goes on with what he has begun.
async fn jo(fleet: &Fleet, rate: &str) -> Child {
    let pace = ["--rate", rate];
    match replay_of(fleet, JO).await {
        Some(replay) => begin(fleet, JO, &[&["dlq", "replay", "--resume", &replay][..], &pace].concat()),
        None => begin(fleet, JO, &[&CHOSEN[..], &ACT, &pace].concat()),
    }
}

/// The orders that an operator's replay has brought to their end.
async fn done(fleet: &Fleet, who: &str) -> BTreeSet<String> {
    let replay = replay_of(fleet, who).await.unwrap();
    in_state(&results(fleet, &replay).await, "done").into_iter().collect()
}

#[tokio::test]
async fn two_operators_at_once_bring_each_dead_letter_back_once_however_often_one_is_killed() {
    let size = match long() {
        true => Size { orders: 1_000, kills: 20, rate: "10" },
        false => Size { orders: 80, kills: 4, rate: "5" },
    };
    let (mut case, ids) = fleet_with_letters(size.orders).await;
    let fleet = &case.fleet;
    fleet.sandbox.heal().await;
    let sam = begin(fleet, SAM, &[&CHOSEN[..], &ACT, &["--rate", size.rate]].concat());
    let mut random = fastrand::Rng::with_seed(SEED);
    for kill in 0..size.kills {
        let before = count(fleet, doc! { "ended.by": JO }).await;
        let mut jo = jo(fleet, size.rate).await;
        // Some while it starts, plans or takes stock, the others while it works.
        if kill % 4 > 0 {
            until_there(fleet, doc! { "ended.by": JO }, |closed| closed > before).await;
        }
        // The moment is what is random here.
        sleep(Duration::from_millis(random.u64(..MILLIS_MAX))).await;
        assert_eq!(jo.try_wait().unwrap(), None, "too few dead letters for so many kills");
        jo.kill().await.unwrap();
    }
    let last: Ran = jo(fleet, size.rate).await.wait_with_output().await.unwrap().into();
    assert!(FINE.contains(&last.code), "{}", last.stderr);
    let sam: Ran = sam.wait_with_output().await.unwrap().into();
    assert!(FINE.contains(&sam.code), "{}", sam.stderr);

    assert_eq!(count(fleet, doc! { "ended": null }).await, 0, "none is left");
    let (by_jo, by_sam) = (done(fleet, JO).await, done(fleet, SAM).await);
    assert!(!by_jo.is_empty() && !by_sam.is_empty());
    assert_eq!(by_jo.intersection(&by_sam).count(), 0, "each is brought back by one of them");
    assert_eq!(by_jo.union(&by_sam).cloned().collect::<BTreeSet<_>>(), ids.iter().cloned().collect());
    eprintln!(
        "{} dead letters, {} kills: {} by jo, {} by sam",
        ids.len(),
        size.kills,
        by_jo.len(),
        by_sam.len()
    );
    let again = run_as(fleet, SAM, &[&CHOSEN[..], &ACT].concat()).await;
    assert_eq!(again.code, Some(4), "{}", again.stderr);

    case.asked_to_run(&ids, 2);
    case.assert_kept(size.orders).await;
}
