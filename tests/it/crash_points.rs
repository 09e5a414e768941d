//! Processes that end by SIGKILL between an effect and its record, at every such place and on every way an order can
//! take: in the end each order has one ending and the effects that go with it.
//!
//! `ORDERFLEET_CRASH_ROUNDS` says how often each place is to be hit on each way; without it three times.

mod judging;
mod life;
mod posting;
mod run;

use std::collections::BTreeSet;

use orderfleet_runtime::crash;

use life::Life;
use run::crash_everywhere;

#[test]
fn every_crash_point_lies_on_a_way_that_is_tested() {
    let on_a_way: BTreeSet<_> =
        Life::ALL.iter().flat_map(|life| life.points()).map(|(point, _)| point).collect();
    assert_eq!(on_a_way, crash::POINTS.iter().copied().collect());
}

#[tokio::test]
async fn crashes_on_the_way_forward_leave_each_order_done_once() {
    crash_everywhere(Life::Forward).await;
}

#[tokio::test]
async fn crashes_over_a_message_of_a_done_order_change_nothing() {
    crash_everywhere(Life::Finishing).await;
}

#[tokio::test]
async fn crashes_while_an_order_is_deferred_leave_it_done_once() {
    crash_everywhere(Life::Deferring).await;
}

#[tokio::test]
async fn crashes_while_compensating_leave_nothing_of_an_order() {
    crash_everywhere(Life::Compensating).await;
}

#[tokio::test]
async fn crashes_while_giving_up_leave_an_order_undone_and_parked() {
    crash_everywhere(Life::Failing).await;
}

#[tokio::test]
async fn crashes_in_a_further_run_leave_the_order_done_once() {
    crash_everywhere(Life::Replaying).await;
}

#[tokio::test]
async fn crashes_while_draining_leave_each_order_done_once() {
    crash_everywhere(Life::Draining).await;
}

#[tokio::test]
async fn crashes_over_a_cancel_leave_an_order_whole_or_undone() {
    crash_everywhere(Life::Cancelling).await;
}

#[tokio::test]
async fn crashes_over_another_body_leave_a_recorded_conflict() {
    crash_everywhere(Life::Conflicting).await;
}

#[tokio::test]
async fn crashes_while_an_order_is_held_leave_it_held_and_parked() {
    crash_everywhere(Life::Holding).await;
}

#[tokio::test]
async fn crashes_of_the_sweeper_leave_nothing_owed() {
    crash_everywhere(Life::Sweeping).await;
}

#[tokio::test]
async fn crashes_while_parking_leave_one_dead_letter_and_a_held_order() {
    crash_everywhere(Life::Parking).await;
}

#[tokio::test]
async fn crashes_of_a_producer_that_takes_an_order_leave_it_done_once() {
    crash_everywhere(Life::Accepting).await;
}

#[tokio::test]
async fn crashes_of_a_producer_that_takes_a_cancel_lose_none() {
    crash_everywhere(Life::AcceptingCancels).await;
}
