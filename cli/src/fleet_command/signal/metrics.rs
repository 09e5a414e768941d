//! The signal in the Prometheus text format. Each answer is made anew: what is unknown now is absent, whatever was known before.

use metrics::{Unit, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;
use orderfleet_operations::fleet::Tally;
use orderfleet_operations::scaling::{Parts, Signal};

use super::serve::Seen;

/// All of it, by the newest look and count; of a look that is too old nothing is told but that nothing is known.
pub(super) fn text(seen: Option<&Seen>, tally: &Tally) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let seen = seen.filter(|seen| seen.is_fresh());
    with_local_recorder(&recorder, || {
        describe();
        known(seen.map(|seen| &seen.sample.signal), tally);
        if let Some(seen) = seen {
            queues(seen);
            orders(seen, tally);
            scaling(seen);
        }
    });
    recorder.handle().render()
}

fn describe() {
    for (name, unit, what) in [
        ("orderfleet_queue_messages", Unit::Count, "Messages of a queue: ready, or in the hands of workers"),
        (
            "orderfleet_queue_oldest_age_seconds",
            Unit::Seconds,
            "Age of the oldest message of a queue, at least",
        ),
        ("orderfleet_orders_due", Unit::Count, "Orders whose next try comes due within seconds, or just did"),
        ("orderfleet_orders_owing", Unit::Count, "Orders that owe a publish"),
        ("orderfleet_orders_under_way", Unit::Count, "Orders under way, held ones among them"),
        ("orderfleet_orders_held", Unit::Count, "Orders that wait for a person"),
        ("orderfleet_dead_letters_open", Unit::Count, "Dead letters that nobody has dealt with"),
        ("orderfleet_workers_wanted", Unit::Count, "How many workers the fleet needs"),
        ("orderfleet_workers_live", Unit::Count, "Workers that were heard of and take orders"),
        (
            "orderfleet_signal_known",
            Unit::Count,
            "1 where a part of the signal, or a count for people, is known, else 0",
        ),
        (
            "orderfleet_drain_predicted_seconds",
            Unit::Seconds,
            "How long what is ready or in flight would take",
        ),
    ] {
        describe_gauge!(name, unit, what);
    }
}

fn known(signal: Option<&Signal>, tally: &Tally) {
    let of_signal = |part: fn(&Parts) -> bool| signal.is_some_and(|signal| part(&signal.parts));
    for (part, known) in [
        ("ready", of_signal(|parts| parts.ready.is_some())),
        ("in_flight", of_signal(|parts| parts.in_flight.is_some())),
        ("to_park", of_signal(|parts| parts.to_park.is_some())),
        ("due", of_signal(|parts| parts.due.is_some())),
        ("owed", of_signal(|parts| parts.owed.is_some())),
        ("orders_under_way", tally.under_way.is_some()),
        ("orders_held", tally.held.is_some()),
        ("orders_owing", tally.owing.is_some()),
        ("dead_letters_open", tally.open_letters.is_some()),
    ] {
        gauge!("orderfleet_signal_known", "part" => part).set(u8::from(known));
    }
}

fn queues(seen: &Seen) {
    for queue in &seen.sample.status.queues {
        let counts = [("ready", queue.ready.map(u64::from)), ("in_flight", queue.in_hand)];
        for (state, count) in counts {
            if let Some(count) = count {
                let name = queue.queue.clone();
                gauge!("orderfleet_queue_messages", "queue" => name, "state" => state).set(float(count));
            }
        }
    }
    for (queue, age) in &seen.sample.signal.ages {
        if let Some(age) = age {
            gauge!("orderfleet_queue_oldest_age_seconds", "queue" => queue.clone()).set(age.as_secs_f64());
        }
    }
}

fn orders(seen: &Seen, tally: &Tally) {
    for (name, count) in [
        ("orderfleet_orders_due", seen.sample.status.database.coming_due),
        ("orderfleet_orders_owing", tally.owing),
        ("orderfleet_orders_under_way", tally.under_way),
        ("orderfleet_orders_held", tally.held),
    ] {
        if let Some(count) = count {
            gauge!(name).set(float(count));
        }
    }
    for (queue, count) in tally.open_letters.iter().flatten() {
        gauge!("orderfleet_dead_letters_open", "queue" => queue.clone()).set(float(*count));
    }
}

fn scaling(seen: &Seen) {
    if seen.told.valid {
        gauge!("orderfleet_workers_wanted").set(f64::from(seen.told.workers_wanted));
    }
    if let Some(live) = seen.told.workers_live {
        gauge!("orderfleet_workers_live").set(float(live));
    }
    if let Some(seconds) = seen.told.parts.drain_predicted_s {
        gauge!("orderfleet_drain_predicted_seconds").set(seconds);
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows floats alone")]
fn float(count: u64) -> f64 {
    count as f64
}
