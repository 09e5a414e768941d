//! Reading orders: one's own, and nobody else's.

use orderfleet_tests::{Fleet, order};

#[tokio::test]
async fn an_order_is_shown_to_its_own_account_alone() {
    let fleet = Fleet::start().await;
    let id = fleet.client.accept("k1", &order()).await;
    fleet.client.until_ended(&id, "DONE").await;

    let foreign = fleet.stranger.order(&id).await;
    assert_eq!((foreign.status, foreign.problem()), (404, "not-found".to_owned()), "{}", foreign.text);
    assert!(!foreign.text.contains("85123A") && foreign.header("retry-after").is_empty(), "{foreign:?}");

    let nobodys = fleet.client.with_key("of_x_y").order(&id).await;
    assert_eq!((nobodys.status, nobodys.problem()), (401, "unauthorized".to_owned()));

    let shown = fleet.client.order(&id).await.text;
    assert!(!shown.contains("A. Person") && !shown.contains("1 Some Road"), "{shown}");
}

#[tokio::test]
async fn an_order_that_is_not_stored_yet_is_not_yet_known() {
    let fleet = Fleet::start().await;
    let id = fleet.client.accept("k1", &order()).await;
    let (first, last) = id.split_at(id.len() - 1);
    let unknown = format!("{first}{}", if last == "a" { 'b' } else { 'a' });
    let answer = fleet.client.order(&unknown).await;
    assert_eq!((answer.status, answer.problem()), (404, "not-yet-known".to_owned()), "{}", answer.text);
    assert_eq!(answer.header("retry-after"), "1");

    let malformed = fleet.client.order("no-id").await;
    assert_eq!((malformed.status, malformed.problem()), (404, "not-found".to_owned()));
}
