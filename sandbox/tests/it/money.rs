//! The books balance to the last decimal.

use serde_json::json;

use crate::support::{Shop, Step};

#[tokio::test]
async fn debits_equal_credits_to_the_last_decimal() {
    let shop = Shop::start().await;
    let tenth_of_a_penny =
        Step::of("accounting", "eu1-a-1").with_lines(&[("PADS", 7, "0.001"), ("85123A", 3, "0.1")]);
    let huge = Step::of("accounting", "eu1-a-2").with_lines(&[("M", 1_000_000, "999999999999999.9999")]);
    let taken_back = Step::of("accounting", "eu1-a-3").with_lines(&[("22423", 1, "12.75")]);

    shop.do_step(&tenth_of_a_penny).await;
    shop.do_step(&huge).await;
    shop.do_step(&taken_back).await;
    let (_, reversed) = shop.undo_step(&taken_back).await;

    assert_eq!(reversed["result"], json!({ "reversed": "12.75", "currency": "GBP" }));
    let debited = "999999999999999999913.0570";
    let balance = "999999999999999999900.3070";
    let accounts = shop.get("/accounting/accounts").await;
    let expected = json!({
        "accounts": [
            { "kind": "receivable", "account": "acme", "currency": "GBP",
              "debits": debited, "credits": "12.75", "balance": balance },
            { "kind": "revenue", "currency": "GBP",
              "debits": "12.75", "credits": debited, "balance": balance },
        ],
        "totals": { "GBP": { "debits": "999999999999999999925.8070", "credits": "999999999999999999925.8070" } },
    });
    assert_eq!(accounts, expected);
    assert_eq!(shop.get("/accounting/summary").await["receivable"], json!({ "GBP": balance }));
}

#[tokio::test]
async fn ten_thousand_small_prices_do_not_drift() {
    let shop = Shop::start().await;
    let lines = vec![("PADS", 1, "0.001"); 2_000];
    for number in 0..5 {
        shop.do_step(&Step::of("accounting", &format!("eu1-a-{number}")).with_lines(&lines)).await;
    }
    assert_eq!(shop.get("/accounting/summary").await["receivable"], json!({ "GBP": "10.000" }));
}
