//! Metrics are what docs/METRICS.md says they are, and their number does not grow with orders.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use orderfleet_tests::{Answer, Fleet, Plan, order, order_of, until};
use serde_json::json;

const DOCUMENTED: &str = include_str!("../../docs/METRICS.md");
/// So few may be new after more orders: outcomes and calls that had not happened before.
const NEW_SERIES_MAX: usize = 60;

/// A row of the document.
#[derive(Debug)]
struct Described {
    kind: &'static str,
    /// The values of each label, and whether there may be others.
    labels: BTreeMap<&'static str, (Vec<&'static str>, bool)>,
    services: &'static str,
}

/// One line of `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    name: String,
    labels: BTreeMap<String, String>,
}

/// What a process exports.
#[derive(Debug, Default)]
struct Exported {
    kinds: BTreeMap<String, String>,
    helped: BTreeSet<String>,
    values: BTreeMap<Series, f64>,
}

fn described() -> BTreeMap<&'static str, Described> {
    let rows = DOCUMENTED
        .lines()
        .filter(|line| line.starts_with("| `orderfleet_") || line.starts_with("| `process_"));
    let row = |line: &'static str| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let labels = cells[3].split("), ").filter(|label| !label.is_empty()).map(label).collect();
        (cells[1].trim_matches('`'), Described { kind: cells[2], labels, services: cells[4] })
    };
    rows.map(row).collect()
}

/// `` `name` (value, value, …) ``
fn label(text: &'static str) -> (&'static str, (Vec<&'static str>, bool)) {
    let (name, values) = text.split_once(" (").unwrap();
    let values: Vec<_> = values.trim_end_matches(')').split(", ").collect();
    let is_open = values.contains(&"…");
    (name.trim_matches('`'), (values.into_iter().filter(|value| *value != "…").collect(), is_open))
}

async fn scrape(fleet: &mut Fleet) -> BTreeMap<&'static str, Exported> {
    let addresses = fleet.metrics_addresses();
    let scraped = addresses.into_iter().map(|(service, address)| async move {
        let answer = reqwest::get(format!("http://{address}/metrics")).await.unwrap();
        (service, parse(&Answer::read(answer).await.unwrap().text))
    });
    join_all(scraped).await.into_iter().collect()
}

fn parse(text: &str) -> Exported {
    let mut exported = Exported::default();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            exported.kinds.insert(name.to_owned(), kind.to_owned());
        } else if let Some((name, _)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            exported.helped.insert(name.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            exported.values.insert(parse_series(series), value.parse().unwrap());
        }
    }
    exported
}

fn parse_series(text: &str) -> Series {
    let (name, labels) = text.split_once('{').unwrap_or((text, "}"));
    let labels = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()).map(|label| {
        let (name, value) = label.split_once("=\"").unwrap();
        (name.to_owned(), value.trim_end_matches('"').to_owned())
    });
    Series { name: name.to_owned(), labels: labels.collect() }
}

impl Exported {
    /// The metric that a series belongs to, and the labels that are its own.
    fn metric(&self, series: &Series) -> (String, BTreeMap<String, String>) {
        let mut labels = series.labels.clone();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.name.strip_suffix(end));
        match base.filter(|base| self.kinds.get(*base).is_some_and(|kind| kind == "histogram")) {
            Some(base) => {
                labels.remove("le");
                (base.to_owned(), labels)
            }
            None => (series.name.clone(), labels),
        }
    }

    /// The sum of the series of this name whose labels include these.
    fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |series: &Series| {
            labels.iter().all(|(key, value)| series.labels.get(*key).is_some_and(|v| v == value))
        };
        self.values
            .iter()
            .filter(|(series, _)| series.name == name && has(series))
            .map(|(_, value)| value)
            .sum()
    }
}

/// Takes orders to every kind of end, and reads one.
async fn take_orders(fleet: &mut Fleet, batch: &str, done: usize) -> Vec<String> {
    let keys: Vec<String> = (0..done).map(|n| format!("{batch}-{n}")).collect();
    let clients = [fleet.client.clone(), fleet.stranger.clone()];
    let (first, second) = keys.split_at(done / 2);
    let good = order();
    let mut ids = join_all(first.iter().map(|key| clients[0].accept(key, &good))).await;
    let of_others = join_all(second.iter().map(|key| clients[1].accept(key, &good))).await;
    let refused = clients[0].accept(&format!("{batch}-refused"), &order_of("REFUSED", 1, "1")).await;
    let mut failing = order();
    failing["ship_to"]["country"] = json!("FR");
    let failed = clients[0].accept(&format!("{batch}-failed"), &failing).await;
    clients[0].until_done(&ids).await;
    clients[1].until_done(&of_others).await;
    for id in [&refused, &failed] {
        clients[0].until_ended(id, "UNDONE").await;
    }
    assert_eq!(clients[0].cancel(&failed).await.status, 202);
    assert_eq!(clients[0].cancel("eu1-nobody").await.status, 404);
    assert_eq!(clients[0].post(&format!("{batch}-wrong"), &json!({})).await.status, 422);
    ids.extend(of_others);
    ids.extend([refused, failed]);
    ids
}

#[tokio::test]
async fn what_is_exported_is_what_is_documented_and_does_not_grow_with_orders() {
    let steps = "attempts_max = 1\nquick_retries = 1\nbatch_max = 4";
    let mut fleet = Fleet::start_as(Plan { roles: Plan::ALL_ROLES, steps, ..Plan::default() }).await;
    fleet.sandbox.fault(json!({ "service": "fulfilment", "refuse_sku": "REFUSED" })).await;
    fleet.sandbox.fault(json!({ "service": "accounting", "error_country": "FR" })).await;

    let mut ids = take_orders(&mut fleet, "first", 10).await;
    let before = scrape(&mut fleet).await;
    ids.extend(take_orders(&mut fleet, "second", 40).await);
    // The last delivery may still be measured.
    let exported = until("every end is measured", async || {
        let exported = scrape(&mut fleet).await;
        let ended = exported["worker"].sum("orderfleet_order_seconds_count", &[]);
        if ended >= 54.0 { Ok(exported) } else { Err(ended) }
    })
    .await;

    let described = described();
    for (service, exported) in &exported {
        is_as_described(service, exported, &described);
    }
    measures_what_has_happened(&exported);
    for (service, exported) in &exported {
        let new: Vec<_> =
            exported.values.keys().filter(|series| !before[service].values.contains_key(series)).collect();
        assert!(new.len() <= NEW_SERIES_MAX, "{service}: {new:#?}");
        let secrets = ids.iter().map(String::as_str).chain(["demo", "85123A", "pay_123", "17850", "first-1"]);
        let texts: BTreeSet<_> = exported.values.keys().flat_map(|series| series.labels.values()).collect();
        for secret in secrets {
            assert!(texts.iter().all(|text| !text.contains(secret)), "{service}: a label holds {secret}");
        }
    }
    fleet.settle(&[]).await;
}

fn is_as_described(service: &str, exported: &Exported, described: &BTreeMap<&'static str, Described>) {
    let letter = service[..1].to_uppercase();
    let mut found: BTreeMap<String, Vec<BTreeMap<String, String>>> = BTreeMap::new();
    for series in exported.values.keys() {
        let (name, labels) = exported.metric(series);
        found.entry(name).or_default().push(labels);
    }
    for (name, series) in &found {
        assert!(described.contains_key(name.as_str()), "{service}: {name} is not in docs/METRICS.md");
        let row = &described[name.as_str()];
        assert!(row.services.contains(&letter), "{service}: {name} is of {}", row.services);
        assert_eq!(exported.kinds[name], row.kind, "{service}: {name}");
        assert!(exported.helped.contains(name), "{service}: {name} has no help");
        for labels in series {
            let names: Vec<_> = labels.keys().map(String::as_str).collect();
            assert_eq!(names, row.labels.keys().copied().collect::<Vec<_>>(), "{service}: labels of {name}");
            for (label, value) in labels {
                let (known, is_open) = &row.labels[label.as_str()];
                assert!(*is_open || known.contains(&value.as_str()), "{service}: {name}, {label}={value}");
            }
        }
    }
    for (name, row) in described.iter().filter(|(_, row)| row.services.contains(&letter)) {
        assert!(found.contains_key(*name), "{service} does not export {name}");
        let series = &found[*name];
        if row.kind == "counter" {
            for (label, (values, _)) in &row.labels {
                for value in values {
                    let is_there = series.iter().any(|labels| labels[*label] == *value);
                    assert!(is_there, "{service}: {name} does not begin at 0 for {label}={value}");
                }
            }
        }
    }
}

fn measures_what_has_happened(exported: &BTreeMap<&'static str, Exported>) {
    let [producer, worker, query] = ["producer", "worker", "query"].map(|service| &exported[service]);
    let is = |exported: &Exported, name: &str, labels: &[(&str, &str)], wanted: f64| {
        let sum = exported.sum(name, labels);
        assert!((sum - wanted).abs() < 0.5, "{name} {labels:?}: {sum} instead of {wanted}");
    };
    is(producer, "orderfleet_orders_accepted_total", &[], 54.0);
    is(producer, "orderfleet_orders_refused_total", &[("problem", "invalid-order")], 2.0);
    is(producer, "orderfleet_cancels_accepted_total", &[], 2.0);
    is(producer, "orderfleet_cancels_refused_total", &[("problem", "not-found")], 2.0);
    is(producer, "orderfleet_confirm_seconds_count", &[], 56.0);
    is(producer, "orderfleet_publish_failed_total", &[], 0.0);
    is(
        producer,
        "orderfleet_http_request_seconds_count",
        &[("route", "/v1/orders"), ("status", "202")],
        54.0,
    );
    is(producer, "orderfleet_broker_connections", &[("purpose", "publishing")], 2.0);
    is(worker, "orderfleet_orders_ended_total", &[("outcome", "done")], 50.0);
    is(worker, "orderfleet_orders_ended_total", &[("outcome", "refused")], 2.0);
    is(worker, "orderfleet_orders_ended_total", &[("outcome", "undone")], 2.0);
    is(worker, "orderfleet_order_seconds_count", &[("outcome", "undone")], 2.0);
    is(worker, "orderfleet_compensations_total", &[("step", "fulfilment")], 2.0);
    is(worker, "orderfleet_compensations_total", &[("step", "accounting")], 2.0);
    is(worker, "orderfleet_step_retries_total", &[("step", "accounting"), ("kind", "quick")], 2.0);
    is(worker, "orderfleet_step_seconds_count", &[("step", "accounting"), ("outcome", "unknown")], 4.0);
    is(worker, "orderfleet_queue_wait_seconds_count", &[("lane", "new")], 54.0);
    is(worker, "orderfleet_queue_wait_seconds_count", &[("lane", "compensate")], 4.0);
    is(worker, "orderfleet_broker_connections", &[("purpose", "consuming")], 2.0);
    is(worker, "orderfleet_database_seconds_count", &[("operation", "insert"), ("outcome", "ok")], 54.0);
    is(query, "orderfleet_build_info", &[("service", "orderfleet-query")], 1.0);
    assert!(query.sum("orderfleet_order_reads_total", &[("answer", "found")]) >= 54.0);
}
