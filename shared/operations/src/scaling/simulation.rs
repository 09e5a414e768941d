//! A fleet in virtual time: orders come, workers start, handle, say so every two seconds, and stop; the scaler decides.

use std::collections::VecDeque;
use std::time::Duration;

use super::tests::SIZE;
use super::{Bounds, Parts, Scaler, Signal, Size};

const STEP_MS: u64 = 100;
const LOOK_MS: u64 = 500;
const HEARTBEAT_MS: u64 = 2_000;
/// How long an order is in a worker's hands.
const TAKES_S: f64 = 0.2;
/// What a worker holds at most: its prefetch.
const HOLDS: f64 = 32.0;

/// What a fleet is like.
#[derive(Clone, Copy)]
struct Kind {
    size: Size,
    /// How long a worker takes to start.
    start_ms: u64,
    /// Orders that one worker handles per second.
    per_worker: f64,
    /// Orders that all of them handle per second at most: a service that they share allows no more.
    most: f64,
}

const KIND: Kind = Kind { size: SIZE, start_ms: 500, per_worker: 60.0, most: f64::MAX };

struct World {
    kind: Kind,
    ready: f64,
    /// When each worker is at work, in milliseconds.
    workers: Vec<u64>,
    per_second: f64,
    in_flight: f64,
    /// Handled per second, in flight, and how many workers say so.
    told: (f64, f64, u64),
    served_ms: Option<u64>,
}

/// What became of a run.
#[derive(Debug, Default)]
struct Course {
    /// Every change: when, and to how many.
    changes: Vec<(Duration, u16)>,
    worker_seconds: f64,
    left: f64,
    first_served_ms: Option<u64>,
    /// Looks at which none were added since the last added ones had brought too little.
    held: u32,
}

impl World {
    fn new(kind: Kind) -> Self {
        let told = (0.0, 0.0, 0);
        Self { kind, ready: 0.0, workers: Vec::new(), per_second: 0.0, in_flight: 0.0, told, served_ms: None }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of workers")]
    fn step(&mut self, now: u64, arrivals: f64) {
        self.ready += arrivals;
        let at_work = self.workers.iter().filter(|from| **from <= now).count() as f64;
        let Kind { per_worker, most, .. } = self.kind;
        let capacity = (at_work * per_worker).min(most) * STEP_MS as f64 / 1_000.0;
        let handled = self.ready.min(capacity);
        self.ready -= handled;
        self.per_second = handled * 1_000.0 / STEP_MS as f64;
        let is_full = self.ready > 0.0;
        self.in_flight = if is_full { at_work * HOLDS } else { self.per_second * TAKES_S };
        if handled > 0.0 {
            self.served_ms.get_or_insert(now);
        }
        if now.is_multiple_of(HEARTBEAT_MS) {
            self.told = (self.per_second, self.in_flight, at_work as u64);
        }
    }

    fn scale(&mut self, now: u64, wanted: u16) {
        self.workers.truncate(wanted.into());
        self.workers.resize(wanted.into(), now + self.kind.start_ms);
        if self.workers.is_empty() {
            self.told = (0.0, 0.0, 0);
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of messages")]
    fn signal(&self) -> Signal {
        let parts = Parts {
            ready: Some(self.ready.ceil() as u64),
            in_flight: Some(self.told.1.ceil() as u64),
            to_park: Some(0),
            due: Some(0),
            owed: Some(0),
            oldest_age_s: None,
            per_second: Some(self.told.0),
            drain_predicted_s: None,
        };
        Signal { parts, workers_live: Some(self.told.2), ..Signal::default() }
    }
}

/// So many seconds with orders per second as they come.
fn run(seconds: u64, arrivals: impl Fn(u64) -> f64) -> Course {
    run_of(KIND, seconds, arrivals)
}

fn run_of(kind: Kind, seconds: u64, arrivals: impl Fn(u64) -> f64) -> Course {
    let (mut world, mut scaler) = (World::new(kind), Scaler::new(kind.size));
    let (mut course, mut wanted) = (Course::default(), 0);
    for now in (0..seconds * 1_000).step_by(usize::try_from(STEP_MS).unwrap()) {
        world.step(now, arrivals(now / 1_000) * STEP_MS as f64 / 1_000.0);
        course.worker_seconds += f64::from(wanted) * STEP_MS as f64 / 1_000.0;
        if now.is_multiple_of(LOOK_MS) {
            let at = Duration::from_millis(now);
            let decision = scaler.decide(at, &world.signal(), wanted);
            course.held += u32::from(decision.reason.contains("brought too little"));
            if decision.workers != wanted {
                wanted = decision.workers;
                course.changes.push((at, wanted));
                world.scale(now, wanted);
            }
        }
    }
    course.left = world.ready;
    course.first_served_ms = world.served_ms;
    course
}

/// How often it was scaled the other way than before.
fn turns(changes: &[(Duration, u16)]) -> usize {
    let numbers: VecDeque<_> =
        std::iter::once(0).chain(changes.iter().map(|(_, workers)| *workers)).collect();
    let ways: Vec<_> = numbers.iter().zip(numbers.iter().skip(1)).map(|(from, to)| to > from).collect();
    ways.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn a_burst_takes_all_workers_is_drained_and_leaves_none() {
    let course = run(120, |second| if second == 10 { 20_000.0 } else { 0.0 });
    let full = course.changes.iter().find(|(_, workers)| *workers == SIZE.bounds.max);
    assert!(full.is_some_and(|(at, _)| *at <= Duration::from_secs(11)), "{course:?}");
    assert_eq!(course.changes.last().unwrap().1, 0, "{course:?}");
    assert!(course.left < 1.0 && turns(&course.changes) == 1, "{course:?}");
    let fixed = 8.0 * 120.0;
    assert!(course.worker_seconds < fixed * 0.7, "{course:?}");
}

#[test]
fn an_order_now_and_then_is_served_at_once_by_one_worker() {
    let course = run(600, |second| if second % 60 == 0 { 1.0 } else { 0.0 });
    assert!(course.first_served_ms.unwrap() <= LOOK_MS + KIND.start_ms, "{course:?}");
    assert!(course.changes.iter().all(|(_, workers)| *workers <= 1), "{course:?}");
    assert!(course.left < 1.0 && course.worker_seconds < 0.4 * 600.0, "{course:?}");
}

#[test]
fn steady_load_is_met_by_a_number_that_stays() {
    for per_second in [20.0, 55.0, 100.0, 130.0, 250.0, 400.0] {
        let course = run(900, |_| per_second);
        let late: Vec<_> = course.changes.iter().filter(|(at, _)| at.as_secs() > 300).collect();
        assert!(late.len() <= 4, "{per_second}/s goes to and fro: {course:?}");
        assert!(course.left < per_second * 30.0, "{per_second}/s is not met: {course:?}");
    }
}

fn up_to(max: u16) -> Size {
    Size { bounds: Bounds { min: 0, max }, ..SIZE }
}

#[test]
fn workers_that_start_slowly_are_not_judged_before_they_work() {
    let kind = Kind { size: up_to(40), start_ms: 90_000, ..KIND };
    let course = run_of(kind, 1_200, |second| if second > 5 { 900.0 } else { 0.0 });
    assert!(course.held == 0 && course.left < 900.0 * 30.0, "{course:?}");
}

#[test]
fn a_large_fleet_grows_with_what_comes() {
    let kind = Kind { size: up_to(64), start_ms: 5_000, ..KIND };
    // From 20 workers' worth to 50: each adds a few per cent.
    let course = run_of(kind, 1_800, |second| 1_000.0 + second as f64);
    assert!(course.held == 0 && course.left < 2_800.0 * 30.0 && turns(&course.changes) <= 12, "{course:?}");
}

#[test]
fn orders_that_take_long_get_the_workers_they_need() {
    let kind = Kind { size: up_to(64), per_worker: 0.5, ..KIND };
    let course = run_of(kind, 900, |_| 10.0);
    let late: Vec<_> = course.changes.iter().filter(|(at, _)| at.as_secs() > 600).collect();
    assert!(course.left < 10.0 * 30.0 && late.len() <= 8, "{course:?}");
}

#[test]
fn a_service_that_allows_no_more_stops_the_growth() {
    let kind = Kind { size: up_to(64), most: 240.0, ..KIND };
    let course = run_of(kind, 120, |_| 400.0);
    assert!(course.held > 100 && course.changes.iter().all(|(_, workers)| *workers < 64), "{course:?}");
}

#[test]
fn a_day_of_waves_is_followed_without_flapping() {
    let wave = |second: u64| 150.0 + 140.0 * (second as f64 / 600.0 * std::f64::consts::TAU).sin();
    let course = run(3_600, wave);
    // Six waves: out and in again with each.
    assert!(turns(&course.changes) <= 24, "{} turns: {course:?}", turns(&course.changes));
    assert!(course.left < 3_000.0, "{course:?}");
}
