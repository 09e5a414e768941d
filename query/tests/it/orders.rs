//! Orders, shown to their account and to nobody else.

use orderfleet_domain::{
    failure::{Failure, FailureClass},
    saga::{
        Cause, CauseClass, DeadLetterQueue, Entry, Expect, Hold, Nonce, Note, Phase, Record, StepResult,
        StepState, StoreReply, Write,
    },
};
use orderfleet_native::Services;
use orderfleet_storage::{DeadLetter, Subject};
use reqwest::{Response, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Service, first, insert, order_id};

async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

async fn started() -> Service {
    let services = Services::from_env_or_start().await.unwrap();
    let mut service = Service::start(services.mongodb_uri()).await;
    service.until_ready_is(StatusCode::OK).await;
    service
}

async fn problem(response: Response, status: StatusCode, kind: &str) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let body = json(response).await;
    assert_eq!(body["type"], format!("/problems/{kind}"));
    body
}

#[tokio::test]
async fn the_owning_account_sees_where_its_order_stands() {
    let service = started().await;
    let store = service.store().await;
    let record = first();
    let id = insert(&store, "a", &record).await;
    let step = record.steps[0].clone();
    let at = 1_800_000_000_000;
    let done = StepResult { step: step.clone(), state: StepState::Done, result: r#"{"id":7}"#.into(), at };
    let next =
        Record { cur: 1, hi: 1, att: 2, rev: 2, nonce: Nonce(2), results: vec![done], ..record.clone() };
    let entry = Entry { at, what: "step_done".into(), step: Some(step), detail: None };
    let expect = Expect { generation: 1, epoch: 1, rev: 1, uncancelled: false };
    let write = Write { expect, next, owes: false, entries: vec![entry] };
    assert_eq!(store.write(&id, &write).await, StoreReply::Applied);
    assert_eq!(store.note(&id, &Note::Cancel).await, StoreReply::Applied);

    let response = service.order(id.as_str(), &service.key).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
    let mut body = json(response).await;
    assert!(!body.to_string().contains("Secret Road") && !body.to_string().contains("A. Person"), "{body}");
    for time in ["created_at", "updated_at"] {
        let text = body[time].take();
        assert!(text.as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{time}: {text}");
    }
    assert_eq!(
        body,
        json!({
            "order_id": id, "status": "RUN", "gen": 1, "final": false, "fingerprint": record.fp,
            "currency": "GBP", "total": "15.301", "lines": 2,
            "steps": [
                {"name": "inventory", "state": "done", "result": {"id": 7}},
                {"name": "fulfilment", "state": "running", "attempts": 2},
                {"name": "accounting", "state": "pending"},
            ],
            "conflicts": 0, "cancel_requested": true, "cancel": "requested",
            "history": [{"at": "2027-01-15T08:00:00Z", "what": "step_done", "step": "inventory"}],
            "accepted_at": "1970-01-01T00:00:00Z", "created_at": null, "updated_at": null,
        })
    );
}

#[tokio::test]
async fn an_order_that_waits_for_a_person_says_so_and_why() {
    let service = started().await;
    let store = service.store().await;
    let step = first().steps[0].clone();
    let hold = Hold { id: "h".into(), step: step.clone(), reason: "shipped: gone".into(), at: 0 };
    let cause = Cause {
        class: CauseClass::Refused,
        step,
        code: Some("out_of_stock".into()),
        message: "none left".into(),
        rev: 3,
    };
    let held = Record { phase: Phase::Comp, hold: Some(hold), cause: Some(cause), ..first() };
    let id = insert(&store, "a", &held).await;
    let body = json(service.order(id.as_str(), &service.key).await).await;
    assert_eq!((&body["status"], &body["steps"][0]["state"]), (&json!("HELD"), &json!("undoing")));
    let hold = json!({"reason": "shipped: gone", "step": "inventory", "at": "1970-01-01T00:00:00Z"});
    assert_eq!(body["hold"], hold);
    assert_eq!(body["cause"]["code"], "out_of_stock");
}

#[tokio::test]
async fn an_order_that_was_parked_before_it_was_stored_waits_for_a_person() {
    let service = started().await;
    let store = service.store().await;
    let order_id = order_id("demo", "a");
    let subject = Subject { order_id: order_id.clone(), account: "demo".parse().unwrap(), generation: 1 };
    let letter = DeadLetter {
        id: "letter".into(),
        queue: DeadLetterQueue::Poison,
        subject: Some(subject),
        kind: "place".into(),
        reason: "crashed workers".into(),
        failure: Failure::new(None, FailureClass::Crashed, None, "crashed workers"),
        build: None,
        trace_id: None,
        attempts: Vec::new(),
        headers: Vec::new(),
        body: b"1 Secret Road".to_vec(),
    };
    assert!(store.park(&letter, 0).await.unwrap());
    let body = json(service.order(order_id.as_str(), &service.key).await).await;
    let hold = json!({"reason": "crashed workers", "at": "1970-01-01T00:00:00Z"});
    assert_eq!(body, json!({"order_id": order_id, "status": "HELD", "hold": hold}));
    problem(service.order(order_id.as_str(), &service.foreign_key).await, StatusCode::NOT_FOUND, "not-found")
        .await;

    insert(&store, "a", &first()).await;
    let body = json(service.order(order_id.as_str(), &service.key).await).await;
    assert_eq!(body["status"], "RUN", "the document alone says where an order stands");
}

#[tokio::test]
async fn what_became_of_a_cancel_is_shown() {
    let service = started().await;
    let store = service.store().await;
    let step = first().steps[0].clone();
    let cause = |class| Some(Cause { class, step: step.clone(), code: None, message: String::new(), rev: 2 });
    let undone = Record { phase: Phase::Undone, is_final: true, ..first() };
    let cases = [
        (first(), Value::Null),
        (Record { cancel: true, ..first() }, json!("requested")),
        (Record { phase: Phase::Comp, cause: cause(CauseClass::Cancelled), ..first() }, json!("cancelled")),
        (
            Record { phase: Phase::Comp, cause: cause(CauseClass::Refused), cancel: true, ..first() },
            json!("requested"),
        ),
        (Record { cause: cause(CauseClass::Cancelled), ..undone.clone() }, json!("cancelled")),
        (Record { cause: cause(CauseClass::Refused), ..undone.clone() }, Value::Null),
        (Record { phase: Phase::Done, cancel: true, ..first() }, json!("too_late")),
        (Record { phase: Phase::Done, ..first() }, Value::Null),
    ];
    for (number, (record, cancel)) in cases.into_iter().enumerate() {
        let id = insert(&store, &number.to_string(), &record).await;
        let body = json(service.order(id.as_str(), &service.key).await).await;
        assert_eq!(
            (&body["cancel"], &body["cancel_requested"]),
            (&cancel, &json!(!cancel.is_null())),
            "{number}"
        );
    }
    let done = insert(&store, "late", &Record { phase: Phase::Done, ..first() }).await;
    assert_eq!(store.note(&done, &Note::CancelTooLate(0)).await, StoreReply::Applied);
    let body = json(service.order(done.as_str(), &service.key).await).await;
    assert_eq!(body["cancel"], "too_late");
}

#[tokio::test]
async fn an_order_of_ones_own_that_is_not_stored_yet_is_worth_asking_for_again() {
    let service = started().await;
    let response = service.order(order_id("demo", "later").as_str(), &service.key).await;
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    problem(response, StatusCode::NOT_FOUND, "not-yet-known").await;
}

#[tokio::test]
async fn orders_of_others_and_malformed_ids_look_alike() {
    let service = started().await;
    let store = service.store().await;
    let id = insert(&store, "a", &first()).await;
    let foreign = order_id("other", "a");
    let upper = id.as_str().to_uppercase();
    let cases = [
        (id.as_str(), &service.foreign_key),
        (foreign.as_str(), &service.key),
        ("x", &service.key),
        ("%FF", &service.key),
        ("a/b", &service.key),
        (&upper, &service.key),
    ];
    let mut bodies = Vec::new();
    for (id, key) in cases {
        let response = service.order(id, key).await;
        assert!(!response.headers().contains_key(header::RETRY_AFTER), "{id}");
        bodies.push(problem(response, StatusCode::NOT_FOUND, "not-found").await);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
}

#[tokio::test]
async fn without_a_valid_key_nothing_is_answered() {
    let service = started().await;
    let id = insert(&service.store().await, "a", &first()).await;
    let wrong = service.key.replace("of_", "of_x");
    for response in [service.order(id.as_str(), &wrong).await, service.get(&format!("/v1/orders/{id}")).await]
    {
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
        problem(response, StatusCode::UNAUTHORIZED, "unauthorized").await;
    }
}

#[tokio::test]
async fn operators_find_health_and_metrics_and_a_clean_end() {
    let mut service = started().await;
    service.order(order_id("demo", "a").as_str(), &service.key).await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(service.get(path).await.status(), StatusCode::OK, "{path}");
        assert_eq!(service.admin(path).await.status(), StatusCode::OK, "{path}");
    }
    let metrics = service.admin("/metrics").await.text().await.unwrap();
    assert!(metrics.contains(r#"orderfleet_order_reads_total{answer="not-yet-known"} 1"#), "{metrics}");
    assert_eq!(service.terminate().await, Some(0));
}
