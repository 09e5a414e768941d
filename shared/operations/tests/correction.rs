//! Corrections, with a real database.

#![expect(clippy::unwrap_used, reason = "a broken expectation is a failed test")]

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, Fingerprint, Order, OrderId, ShipTo,
    failure::{Failure, FailureClass},
    saga::{Cause, CauseClass, DeadLetterQueue, Nonce, Phase, Record, StepSettings, StoreReply, WorkerId},
};
use orderfleet_native::Services;
use orderfleet_operations::{
    correction::{CorrectionError, begin, correctable},
    log::{LogRange, OperatorLog},
};
use orderfleet_storage::{DatabaseSettings, DeadLetter, Store, Subject};
use serde_json::json;

async fn store() -> Store {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let uri = Services::from_env_or_start().await.unwrap().mongodb_uri().to_owned();
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("operations_test_correction_{}_{number}", std::process::id());
    let settings = DatabaseSettings { uri, name, ..DatabaseSettings::default() };
    let store = Store::connect(&settings, "operations-test").await.unwrap();
    store.prepare().await.unwrap();
    store
}

fn order() -> Order {
    serde_json::from_value(json!({
        "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": { "country": "IE" },
        "lines": [{ "sku": "85123A", "quantity": 1, "unit_price": "1.00" }],
    }))
    .unwrap()
}

fn corrected() -> Order {
    Order { ship_to: ShipTo::default(), ..order() }
}

fn record(phase: Phase) -> Record {
    let steps: Vec<_> = StepSettings::defaults().into_iter().map(|step| step.name).collect();
    let (class, step) = (CauseClass::AttemptsExhausted, steps[1].clone());
    let cause = Cause { class, step, code: None, message: "500".into(), rev: 4 };
    let first = Record::first(Fingerprint::of(&order()), steps, WorkerId("w".into()), 0, Nonce(1));
    Record { phase, cause: Some(cause), owner: None, rev: 6, ..first }
}

/// A dead letter of an order in this phase.
async fn letter(store: &Store, phase: Phase) -> String {
    let account: orderfleet_domain::AccountId = "demo".parse().unwrap();
    let order_id = OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap());
    let inserted = store.insert(&order_id, &account, &order(), Timestamp::UNIX_EPOCH, &record(phase)).await;
    assert_eq!(inserted, StoreReply::Applied);
    let kind = CommandKind::Place { order: Box::new(order()), accepted_at: Timestamp::UNIX_EPOCH };
    let fp = Some(Fingerprint::of(&order()));
    let body =
        Command { order_id: order_id.clone(), account: account.clone(), generation: 1, fp, kind }.encode();
    let step: orderfleet_domain::StepName = "fulfilment".parse().unwrap();
    let class = FailureClass::Run(CauseClass::AttemptsExhausted);
    let letter = DeadLetter {
        id: "l".into(),
        queue: DeadLetterQueue::Step(step.clone()),
        subject: Some(Subject { order_id: order_id.clone(), account, generation: 1 }),
        kind: "place".into(),
        reason: class.as_str().into(),
        failure: Failure::new(Some(step), class, None, "500"),
        build: None,
        trace_id: None,
        attempts: Vec::new(),
        headers: Vec::new(),
        body,
    };
    assert!(store.park(&letter, 0).await.unwrap());
    format!("{order_id}.l")
}

async fn correct_as_jo(store: &Store, id: &str, why: &str) -> Result<(), CorrectionError> {
    begin(store, id, "jo".parse().unwrap(), why.into()).await?.keep(&corrected()).await
}

#[tokio::test]
async fn a_correction_is_kept_with_the_letter_recorded_and_offered_again() {
    let store = store().await;
    let id = letter(&store, Phase::Undone).await;
    assert_eq!(correctable(&store, &id).await.unwrap().order, order());
    for _ in 0..2 {
        correct_as_jo(&store, &id, "wrong country").await.unwrap();
    }
    let (letter, content) = store.letter(&id).await.unwrap().unwrap();
    assert_eq!(
        (content.correction, letter.lease),
        (Some(corrected()), None),
        "nobody has it in hand afterwards"
    );
    assert_eq!(correctable(&store, &id).await.unwrap().order, corrected());
    let mut entries = OperatorLog::new(store).entries(LogRange::default());
    let mut recorded = Vec::new();
    while let Some(entry) = entries.next().await.unwrap() {
        recorded.push((entry.record.what, entry.record.target));
    }
    assert_eq!(recorded, vec![("dlq.edit".to_owned(), format!("dead letter {id}")); 4]);
}

#[tokio::test]
async fn a_look_that_changes_nothing_is_recorded_before_the_order_can_be_seen() {
    let store = store().await;
    let id = letter(&store, Phase::Undone).await;
    let edit = begin(&store, &id, "jo".parse().unwrap(), "which country?".into()).await.unwrap();
    let log = OperatorLog::new(store.clone());
    assert_eq!(log.verify(None).await.unwrap().open.len(), 1, "while it is looked at");
    assert_eq!(edit.order(), &order());
    edit.leave().await.unwrap();
    let mut entries = log.entries(LogRange { newest_first: true, ..LogRange::default() });
    let last = entries.next().await.unwrap().unwrap().record;
    assert_eq!((last.what.as_str(), last.result.as_deref()), ("dlq.edit", Some("nothing was changed")));
    assert_eq!(store.letter(&id).await.unwrap().unwrap().1.correction, None);
}

#[tokio::test]
async fn only_an_order_that_would_run_again_can_be_corrected() {
    let store = store().await;
    let id = letter(&store, Phase::Done).await;
    assert!(matches!(correctable(&store, &id).await, Err(CorrectionError::NotToRun(_))));
    assert!(matches!(correctable(&store, "absent").await, Err(CorrectionError::Missing(_))));
    assert!(matches!(correct_as_jo(&store, "absent", "x").await, Err(CorrectionError::Missing(_))));
}

#[tokio::test]
async fn what_somebody_else_has_in_hand_is_not_corrected_and_nothing_is_without_a_reason() {
    let store = store().await;
    let id = letter(&store, Phase::Undone).await;
    assert!(matches!(correct_as_jo(&store, &id, " ").await, Err(CorrectionError::Log(_))));
    let now = Timestamp::now().as_millisecond();
    store.lease_letter(&id, "a replay", now, now + 60_000).await.unwrap();
    let refused = correct_as_jo(&store, &id, "wrong country").await;
    assert!(matches!(refused, Err(CorrectionError::InOtherHands(holder)) if holder == "a replay"));
    assert_eq!(store.letter(&id).await.unwrap().unwrap().1.correction, None);
}
