//! Decisions by looks that are made up.

use std::time::Duration;

use super::ages::Ages;
use super::{AtLeast, Bounds, Decision, Latency, Limit, Parts, Scaler, Signal, Size};
use crate::fleet::{DatabaseStatus, FleetStatus, QueueStatus, Unseen};

pub(super) const SIZE: Size = Size { bounds: Bounds { min: 0, max: 8 }, idle_after: Duration::from_secs(15) };

pub(super) fn queue(name: &str, ready: u32, in_hand: u64) -> QueueStatus {
    QueueStatus {
        queue: name.into(),
        worked: true,
        ready: Some(ready),
        consumers: Some(1),
        in_hand: Some(in_hand),
        per_second: Some(0.0),
        taken_age_ms: None,
        paused: None,
    }
}

/// So much is ready and in flight, so many workers handle so much.
fn signal(ready: u64, in_flight: u64, workers: u64, per_second: f64) -> Signal {
    let parts = Parts {
        ready: Some(ready),
        in_flight: Some(in_flight),
        to_park: Some(0),
        due: Some(0),
        owed: Some(0),
        oldest_age_s: Some(0.0),
        per_second: Some(per_second),
        drain_predicted_s: None,
    };
    Signal { parts, workers_live: Some(workers), ..Signal::default() }
}

fn unknown(mut signal: Signal) -> Signal {
    signal.parts.in_flight = None;
    signal.unknown.push(Unseen { what: "in flight", why: "a worker says nothing".into() });
    signal
}

/// The last decision of a scaler that looks at the same for a while, twice a second.
fn after(seconds: u64, size: Size, signal: &Signal, current: u16) -> Decision {
    let mut scaler = Scaler::new(size);
    let mut decision = Decision { workers: current, reason: String::new() };
    for half in 0..=2 * seconds {
        decision = scaler.decide(Duration::from_millis(500 * half), signal, current);
        if decision.workers != current {
            break;
        }
    }
    decision
}

#[test]
fn the_work_decides() {
    let idle = signal(0, 0, 0, 0.0);
    let owed = |owed| Signal { parts: Parts { owed: Some(owed), ..idle.parts.clone() }, ..idle.clone() };
    let to_park = Signal { parts: Parts { to_park: Some(1), ..idle.parts.clone() }, ..idle.clone() };
    let due = Signal { parts: Parts { due: Some(1), ..idle.parts.clone() }, ..idle.clone() };
    let limited = |limit: Limit, signal: Signal| Signal { limits: vec![limit], ..signal };
    let silent = |ready| {
        let parts = Parts { ready: None, ..idle.parts.clone() };
        let unknown = vec![Unseen { what: "ready", why: "replay does not tell".into() }];
        let at_least = AtLeast { ready, ..AtLeast::default() };
        move |live| Signal {
            parts: parts.clone(),
            at_least,
            unknown: unknown.clone(),
            workers_live: live,
            ..Signal::default()
        }
    };
    let open = || Limit::CircuitOpen("accounting".into());
    // What is seen, how many workers there are, after how many seconds, how many there should be, and a word of the reason.
    let cases = [
        ("one order wakes one worker at once", signal(1, 0, 0, 0.0), 0, 0, 1, "1 ready"),
        ("a burst takes all that are allowed at once", signal(20_000, 0, 0, 0.0), 0, 0, 8, "20000 ready"),
        ("a backlog takes what it needs", signal(1_200, 0, 0, 0.0), 0, 0, 3, "expected of a worker"),
        ("what was seen of workers counts", signal(1_200, 32, 1, 300.0), 1, 0, 3, "ready"),
        ("owed publishes keep a worker for the sweep", owed(3), 0, 0, 1, "3 owed"),
        ("dead letters wait for somebody to park them", to_park, 0, 0, 1, "1 to park"),
        ("a wait that is nearly over is work", due, 0, 0, 1, "1 due"),
        (
            "a backlog that lasts asks for more than there are",
            signal(9, 64, 2, 90.0),
            2,
            6,
            3,
            "64 in flight",
        ),
        ("idle workers stay for a while", idle.clone(), 4, 14, 4, "are waited for"),
        ("then all of them go", idle.clone(), 4, 15, 0, "for 15 s"),
        ("too many go one by one", signal(0, 10, 4, 50.0), 4, 20, 3, "1 were enough"),
        ("unknown is not nothing", unknown(idle.clone()), 3, 60, 3, "in flight is unknown"),
        ("what is known may add some", unknown(signal(20_000, 0, 1, 50.0)), 1, 0, 8, "20000 ready"),
        (
            "queues that tell count beside one that does not",
            silent(20_000)(Some(0)),
            0,
            0,
            8,
            "20000 ready at least",
        ),
        ("also where there are workers", silent(20_000)(Some(1)), 1, 0, 8, "20000 ready at least"),
        (
            "a queue that does not tell may hold something",
            silent(0)(Some(0)),
            0,
            0,
            1,
            "replay does not tell",
        ),
        ("and takes nobody away", silent(0)(Some(1)), 1, 60, 1, "ready is unknown"),
        ("nobody is added blindly", silent(20_000)(None), 0, 60, 0, "ready is unknown"),
        (
            "each worker has places of its own for calls",
            limited(Limit::Crowded("accounting".into()), signal(9_000, 64, 2, 90.0)),
            2,
            0,
            8,
            "9000 ready",
        ),
        (
            "open circuits add none",
            limited(open(), signal(9_000, 64, 2, 9.0)),
            2,
            0,
            2,
            "circuits of accounting",
        ),
        (
            "a downstream is no reason to have nobody",
            limited(open(), signal(9, 0, 0, 0.0)),
            0,
            0,
            1,
            "9 ready",
        ),
    ];
    for (what, signal, current, seconds, workers, word) in cases {
        let decision = after(seconds, SIZE, &signal, current);
        assert!(decision.workers == workers && decision.reason.contains(word), "{what}: {decision:?}");
    }
}

#[test]
fn one_queue_that_does_not_tell_hides_no_other() {
    let silent = QueueStatus { ready: None, in_hand: None, ..queue("replay", 0, 0) };
    let status = FleetStatus {
        at: jiff::Timestamp::UNIX_EPOCH,
        queues: vec![silent, queue("new.0", 20_000, 3), queue("dead.poison", 4, 1)],
        workers: Some(Vec::new()),
        downstreams: Vec::new(),
        database: DatabaseStatus { coming_due: Some(0), to_bring_back: Some(0), ..DatabaseStatus::default() },
        dead_letters: None,
        pauses: Some(Vec::new()),
        unseen: Vec::new(),
    };
    let signal = Signal::of(&status, Duration::ZERO, &mut Ages::default());
    assert_eq!((signal.parts.ready, signal.parts.in_flight, signal.parts.to_park), (None, None, Some(5)));
    assert_eq!(signal.at_least, AtLeast { ready: 20_000, in_flight: 3, to_park: 5 });
    assert_eq!((signal.known_work(), signal.unknown.len()), (20_008, 2), "{signal:?}");
}

#[test]
fn bounds_hold_whatever_there_is_to_do() {
    let size = Size { bounds: Bounds { min: 1, max: 4 }, ..SIZE };
    for (signal, current, workers) in [
        (signal(0, 0, 1, 0.0), 1, 1),
        (signal(0, 0, 0, 0.0), 0, 1),
        (signal(50_000, 0, 1, 50.0), 1, 4),
        (signal(50_000, 0, 9, 50.0), 9, 4),
        (unknown(signal(0, 0, 0, 0.0)), 0, 1),
    ] {
        assert_eq!(after(60, size, &signal, current).workers, workers, "{signal:?} with {current}");
    }
}

#[test]
fn without_a_word_from_the_database_nothing_changes() {
    let away = Signal { workers_live: None, ..unknown(signal(9_000, 0, 0, 0.0)) };
    for current in [0, 1, 8] {
        let decision = after(60, SIZE, &away, current);
        assert_eq!(decision.workers, current, "{decision:?}");
    }
}

#[test]
fn workers_that_brought_nothing_while_calls_took_longer_are_followed_by_no_more_for_a_while() {
    let size = Size { bounds: Bounds { min: 0, max: 64 }, ..SIZE };
    let (mut scaler, mut current, mut held) = (Scaler::new(size), 2, Vec::new());
    for second in 0..80 {
        // The service is the limit: with more workers its calls take longer, and the backlog grows all the same.
        let (per_second, millis) = if current == 2 { (20.0, 100) } else { (21.0, 300) };
        let signal = Signal {
            latencies: vec![Latency { step: "fulfilment".into(), millis }],
            ..signal(600 + 50 * second, 64, current.into(), per_second)
        };
        let decision = scaler.decide(Duration::from_secs(second), &signal, current);
        current = decision.workers;
        if decision
            .reason
            .contains("20/s before, 21/s now; calls of fulfilment take 300 ms where they took 100")
        {
            held.push(second);
        }
    }
    let (first, last) = (held.first().copied().unwrap(), held.last().copied().unwrap());
    assert!(first <= 20 && last - first >= 55 && last < 80, "{held:?} with {current}");
}
