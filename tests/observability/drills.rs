//! Each alert is fired by a fault and clears once the fault is gone, and each panel of each dashboard shows something.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use orderfleet_tests::until_within;
use tokio::{task::JoinHandle, time::interval};

use crate::{
    dashboards,
    prometheus::{Api, Rule},
    rig::Rig,
    rules,
};

/// Far beyond what any alert takes with short waits and windows.
const LONGEST_WAIT: Duration = Duration::from_secs(150);
const LOOK_EVERY: Duration = Duration::from_millis(200);
const CLOSINGS: usize = 6;
const PANEL_WINDOW: &str = "20s";

/// When an alert fired after its fault was planted, and cleared after it was taken away.
struct Drilled {
    alert: &'static str,
    fault: &'static str,
    fired_after: Duration,
    cleared_after: Duration,
}

/// Sees from its start on which alerts fire, also while a fault is still being planted.
struct Watch {
    since: Instant,
    /// After how long each was first seen firing.
    seen: Arc<Mutex<BTreeMap<String, Duration>>>,
    looking: JoinHandle<()>,
}

/// An alert, and the fault that is to fire it.
type Expected = (&'static str, &'static str);

const MEMORY_ALARM: &[Expected] = &[
    ("BrokerBlocksPublishing", "memory alarm of the broker"),
    ("OrdersNotAccepted", "memory alarm of the broker"),
    ("OwedPublishesStay", "memory alarm of the broker"),
];
const FROZEN_BROKER: &[Expected] =
    &[("ConfirmSlow", "SIGSTOP for the broker"), ("TargetDown", "SIGSTOP for the broker")];
const FROZEN_DATABASE: &[Expected] = &[
    ("DatabaseFails", "SIGSTOP for mongod"),
    ("DatabaseSlow", "SIGSTOP for mongod"),
    ("ConsumerStopped", "SIGSTOP for mongod"),
    ("SignalUnknown", "SIGSTOP for mongod"),
    ("MessagesReturned", "orders.new.0 unbound"),
];
const CLOSED_CONNECTIONS: &[Expected] = &[("SubscriptionsLost", "connections closed six times")];
const SMALL_FAULTS: &[Expected] = &[
    ("CircuitOpen", "fulfilment's process killed"),
    ("StepCannotBeSent", "the same, and 19 waits put into the order"),
    ("UndoKeepsFailing", "inventory answers every undo with 500"),
    ("OrdersHeld", "an order's message among poison"),
    ("DeadLettersGrow", "15 messages that are no orders"),
    ("HoldRefused", "the same, and a validator that refuses it"),
    ("ParkingFails", "a validator that refuses a dead letter"),
    ("NewerMessages", "a message of version 99"),
    ("AcceptanceLogFails", "acceptance log on /dev/full"),
    ("BuildMixLasts", "stand-in that tells another version"),
    ("WorkerPanicked", "stand-in that tells a panic"),
];
const NO_WORKERS: &[Expected] = &[
    ("NoWorker", "SIGTERM for both workers"),
    ("BacklogTooOld", "SIGTERM for both workers"),
    ("BacklogDoesNotDrain", "SIGTERM for both workers"),
    ("QuarantineNotEmpty", "the same, a message in quarantine"),
    ("DeadLettersNotParked", "the same, a dead letter in its queue"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and Debian's Prometheus: make test-observability"]
async fn every_alert_fires_by_its_fault_and_clears_and_every_panel_has_data() {
    let mut rig = Rig::start(&rules::shortened()).await;
    until_none_fires(&rig).await;
    until_panels_have_data(&rig).await;
    let mut drilled = Vec::new();

    let watch = Watch::begin(&rig.prometheus.api);
    rig.alarm_over_orders_under_way().await;
    let fired = watch.until_fired(MEMORY_ALARM).await;
    rig.take_alarm_back().await;
    drilled.extend(until_cleared(&rig, MEMORY_ALARM, fired).await);

    let watch = Watch::begin(&rig.prometheus.api);
    rig.freeze_broker(true);
    let fired = watch.until_fired(FROZEN_BROKER).await;
    rig.freeze_broker(false);
    drilled.extend(until_cleared(&rig, FROZEN_BROKER, fired).await);

    let watch = Watch::begin(&rig.prometheus.api);
    rig.freeze_database_and_unbind().await;
    let fired = watch.until_fired(FROZEN_DATABASE).await;
    rig.thaw_database_and_bind().await;
    drilled.extend(until_cleared(&rig, FROZEN_DATABASE, fired).await);

    let watch = Watch::begin(&rig.prometheus.api);
    rig.close_connections(CLOSINGS).await;
    let fired = watch.until_fired(CLOSED_CONNECTIONS).await;
    drilled.extend(until_cleared(&rig, CLOSED_CONNECTIONS, fired).await);

    let watch = Watch::begin(&rig.prometheus.api);
    let small = rig.plant_small_faults().await;
    let fired = watch.until_fired(SMALL_FAULTS).await;
    rig.take_small_faults_back(small).await;
    drilled.extend(until_cleared(&rig, SMALL_FAULTS, fired).await);

    let watch = Watch::begin(&rig.prometheus.api);
    rig.stop_workers().await;
    let fired = watch.until_fired(NO_WORKERS).await;
    rig.start_workers().await;
    drilled.extend(until_cleared(&rig, NO_WORKERS, fired).await);

    eprintln!("{}", alert_table(&drilled));
    every_alert_was_drilled(&drilled);
    every_panel_has_data(&rig).await;
    the_shipped_rules_evaluate(&rig).await;
}

impl Watch {
    fn begin(api: &Api) -> Self {
        let (since, seen, api) = (Instant::now(), Arc::<Mutex<BTreeMap<_, _>>>::default(), api.clone());
        let noted = Arc::clone(&seen);
        let looking = tokio::spawn(async move {
            let mut every = interval(LOOK_EVERY);
            loop {
                every.tick().await;
                for alert in firing(&api).await {
                    noted.lock().unwrap().entry(alert).or_insert_with(|| since.elapsed());
                }
            }
        });
        Self { since, seen, looking }
    }

    /// Waits until all of these alerts have fired; returns after how long each, and says which others did.
    async fn until_fired(self, expected: &[Expected]) -> BTreeMap<String, Duration> {
        until_within(LONGEST_WAIT, "the alerts fire", async || {
            let seen = self.seen.lock().unwrap();
            let missing: Vec<_> = expected.iter().filter(|(alert, _)| !seen.contains_key(*alert)).collect();
            if missing.is_empty() { Ok(()) } else { Err((self.since.elapsed(), missing, seen.clone())) }
        })
        .await;
        let (fired, others): (BTreeMap<_, _>, BTreeMap<_, _>) = self
            .seen
            .lock()
            .unwrap()
            .clone()
            .into_iter()
            .partition(|(seen, _)| expected.iter().any(|(alert, _)| alert == seen));
        if !others.is_empty() {
            eprintln!("with {} also fired: {:?}", expected[0].1, others.keys());
        }
        fired
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.looking.abort();
    }
}

async fn firing(api: &Api) -> BTreeSet<String> {
    let rules = api.rules().await.into_iter();
    rules.filter_map(|rule| (rule.state == "firing").then_some(rule.name)).collect()
}

async fn until_none_fires(rig: &Rig) {
    until_within(LONGEST_WAIT, "no alert fires before a fault is planted", async || {
        let firing = firing(&rig.prometheus.api).await;
        if firing.is_empty() { Ok(()) } else { Err(firing) }
    })
    .await;
}

/// Waits until no alert fires any more.
async fn until_cleared(rig: &Rig, expected: &[Expected], fired: BTreeMap<String, Duration>) -> Vec<Drilled> {
    let since = Instant::now();
    let mut cleared = BTreeMap::new();
    until_within(LONGEST_WAIT, "all alerts clear", async || {
        let firing = firing(&rig.prometheus.api).await;
        for (alert, _) in expected {
            if firing.contains(*alert) {
                cleared.remove(alert);
            } else {
                cleared.entry(*alert).or_insert_with(|| since.elapsed());
            }
        }
        if firing.is_empty() { Ok(()) } else { Err(firing) }
    })
    .await;
    let drilled = |(alert, fault): &Expected| Drilled {
        alert,
        fault,
        fired_after: fired[*alert],
        cleared_after: cleared[alert],
    };
    let drilled: Vec<_> = expected.iter().map(drilled).collect();
    for one in &drilled {
        eprintln!("{}", line(one));
    }
    drilled
}

fn line(drilled: &Drilled) -> String {
    let Drilled { alert, fault, fired_after, cleared_after } = drilled;
    format!(
        "{alert:<24} {fault:<44} {:>6.1} s {:>6.1} s",
        fired_after.as_secs_f32(),
        cleared_after.as_secs_f32()
    )
}

fn alert_table(drilled: &[Drilled]) -> String {
    let mut table = format!("\n{:<24} {:<44} {:>8} {:>8}\n", "ALERT", "FAULT", "FIRED", "CLEARED");
    for one in drilled {
        let _ = writeln!(table, "{}", line(one));
    }
    table
}

fn every_alert_was_drilled(drilled: &[Drilled]) {
    let drilled: BTreeSet<_> = drilled.iter().map(|one| one.alert.to_owned()).collect();
    assert_eq!(drilled, rules::alerts().into_iter().collect());
}

/// Every panel shows something of a fleet under load to which nothing has happened yet.
async fn until_panels_have_data(rig: &Rig) {
    let nothing = rig.prometheus.api.range("orderfleet_of_which_there_is_none", rig.began).await;
    let no_number = rig.prometheus.api.range("0 * up / 0", rig.began).await;
    assert_eq!((nothing.samples, no_number.samples), (0, 0), "what is not there is told from what is");
    until_within(LONGEST_WAIT, "every panel has data before a fault is planted", async || {
        let empty = panels_without_data(rig).await;
        if empty.is_empty() { Ok(()) } else { Err(empty) }
    })
    .await;
}

async fn every_panel_has_data(rig: &Rig) {
    let empty = panels_without_data(rig).await;
    assert!(empty.is_empty(), "no data for\n{}", empty.join("\n"));
}

/// Evaluates every query over the whole run, as Grafana would.
async fn panels_without_data(rig: &Rig) -> Vec<String> {
    let mut table =
        format!("\n{:<13} {:<42} {:>6} {:>8}  QUERY\n", "DASHBOARD", "PANEL", "SERIES", "SAMPLES");
    let mut empty = Vec::new();
    for query in dashboards::queries(PANEL_WINDOW) {
        let found = rig.prometheus.api.range(&query.expression, rig.began).await;
        let (dashboard, panel, expression) = (query.dashboard, query.panel, query.expression);
        let _ = writeln!(
            table,
            "{dashboard:<13} {panel:<42} {:>6} {:>8}  {expression}",
            found.series, found.samples
        );
        if found.samples == 0 {
            empty.push(format!("{dashboard}: {panel}: {expression}"));
        }
    }
    if empty.is_empty() {
        eprintln!("{table}");
    }
    empty
}

/// Prometheus itself evaluates each rule as it is shipped.
async fn the_shipped_rules_evaluate(rig: &Rig) {
    rig.prometheus.load_rules(&crate::read(rules::SHIPPED)).await;
    let wanted = rules::alerts().len();
    until_within(LONGEST_WAIT, "every shipped rule is evaluated", async || {
        let rules = rig.prometheus.api.rules().await;
        let well = |rule: &&Rule| rule.health == "ok" && rule.last_error.is_empty();
        let evaluated = rules.iter().filter(|rule| !rule.state.is_empty()).filter(well).count();
        let is_shipped = rules.iter().any(|rule| rule.query.contains("[15m]"));
        if is_shipped && evaluated == wanted { Ok(()) } else { Err(rules) }
    })
    .await;
}
