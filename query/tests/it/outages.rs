//! A database that is down makes answers late or 503, never wrong, and the service outlives it.

use orderfleet_native::{Mongo, MongoOptions, TempFolder};
use reqwest::{StatusCode, header};

use crate::support::{Service, first, insert, order_id};

#[tokio::test]
async fn an_outage_is_503_and_unready_and_passes() {
    let folder = TempFolder::new().unwrap();
    let mut server = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    let mut service = Service::start(&server.uri()).await;
    service.until_ready_is(StatusCode::OK).await;
    let id = insert(&service.store().await, "a", &first()).await;

    server.stop().await.unwrap();
    let response = service.order(id.as_str(), &service.key).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    service.until_ready_is(StatusCode::SERVICE_UNAVAILABLE).await;
    assert_eq!(service.admin("/healthz").await.status(), StatusCode::OK);

    server.restart().await.unwrap();
    service.until_ready_is(StatusCode::OK).await;
    assert_eq!(service.order(id.as_str(), &service.key).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_service_that_starts_before_its_database_waits_for_it() {
    let folder = TempFolder::new().unwrap();
    let mut server = Mongo::start(folder.path(), MongoOptions::default()).await.unwrap();
    server.stop().await.unwrap();
    let mut service = Service::start(&server.uri()).await;
    service.until_ready_is(StatusCode::SERVICE_UNAVAILABLE).await;
    let response = service.order(order_id("demo", "a").as_str(), &service.key).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);

    server.restart().await.unwrap();
    service.until_ready_is(StatusCode::OK).await;
}
