//! Millions of long random schedules in virtual time. A seed names one schedule: the same seed, the same schedule.

use std::collections::BTreeMap;

use orderfleet_domain::saga::Phase;

use crate::{Action, Budget, Fault, Outcome, Schedule, Scope, Setup, Verdict, World, schedule::settle};

/// The longest hostile part of a schedule.
const HOSTILE_ACTIONS_MAX: usize = 160;

/// What many schedules came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Schedules played.
    pub sagas: u64,
    /// How they ended.
    pub endings: BTreeMap<&'static str, u64>,
    /// How often each kind of trouble really happened.
    pub faults: BTreeMap<String, u64>,
    /// Actions in all.
    pub actions: u64,
}

impl Tally {
    /// Adds what others found.
    pub fn add(&mut self, other: &Self) {
        self.sagas += other.sagas;
        self.actions += other.actions;
        for (ending, count) in &other.endings {
            *self.endings.entry(ending).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(fault.clone()).or_default() += count;
        }
    }

    /// Counts one schedule.
    pub fn count(&mut self, before: &Budget, verdict: &Verdict) {
        self.sagas += 1;
        self.actions += verdict.happened.len() as u64;
        *self.endings.entry(ending(&verdict.world)).or_default() += 1;
        for fault in Fault::ALL {
            let spent = before.of(*fault) - verdict.world.budget.of(*fault);
            if spent > 0 {
                *self.faults.entry(format!("{fault:?}")).or_default() += u64::from(spent);
            }
        }
    }
}

/// Plays the schedule of a seed.
#[must_use]
pub fn run(seed: u64) -> (Schedule, Verdict) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let scope = scope(&mut rng);
    let setup = Setup::new(scope.clone());
    let mut world = World::new(&setup);
    let mut happened = Vec::with_capacity(128);
    let hostile = rng.usize(20..=HOSTILE_ACTIONS_MAX);
    let trouble = rng.u32(5..50);
    let mut calm = Vec::new();
    for _ in 0..hostile {
        if world.violation().is_some() {
            break;
        }
        calm.clear();
        world.calm_actions(&setup, &mut calm);
        let action = if calm.is_empty() || rng.u32(0..100) < trouble {
            let all = world.actions(&setup);
            if all.is_empty() {
                break;
            }
            all[rng.usize(..all.len())]
        } else {
            calm[rng.usize(..calm.len())]
        };
        world.happen(&setup, action);
        happened.push(action);
    }
    let schedule = Schedule { note: String::new(), scope, actions: happened.clone() };
    settle(&mut world, &setup, &mut happened, |count| rng.usize(..count));
    flush_late(&mut world, &setup, &mut happened);
    let schedule = Schedule { actions: happened.clone(), ..schedule };
    (schedule, Verdict { world, happened })
}

/// Requests and writes that nobody waits for any more may still arrive, long after the order has ended.
fn flush_late(world: &mut World, setup: &Setup, happened: &mut Vec<Action>) {
    while world.violation().is_none() {
        let action = if world.services.late.is_empty() {
            if world.late_writes.is_empty() {
                return;
            }
            Action::ApplyLate(0)
        } else {
            Action::CallLate(0)
        };
        world.happen(setup, action);
        happened.push(action);
        settle(world, setup, happened, |_| 0);
    }
}

fn scope(rng: &mut fastrand::Rng) -> Scope {
    let mut budget = Budget::default();
    for fault in Fault::ALL {
        let most = match fault {
            Fault::UnknownCall => 6,
            Fault::LostAnswer | Fault::LoseChannel | Fault::Crash => 4,
            Fault::Unconfirmed | Fault::Tick | Fault::Drain | Fault::Quarantine | Fault::Decision => 2,
            Fault::Refusal | Fault::UndoRefusal | Fault::NotSent | Fault::Alarm | Fault::Skew => 2,
            Fault::Repost | Fault::NewRun | Fault::Sweep => 2,
            Fault::OtherBody | Fault::Cancel => 1,
        };
        *budget.of_mut(*fault) = if rng.u8(0..3) == 0 { 0 } else { rng.u8(0..=most) };
    }
    Scope {
        steps: rng.u8(1..=4),
        attempts_max: rng.u32(1..=3),
        quick_retries: rng.u32(0..=1),
        slots: rng.u8(1..=3),
        timed: true,
        begun: rng.u8(0..8) == 0,
        budget,
    }
}

/// How a schedule ended, in a word.
fn ending(world: &World) -> &'static str {
    let Some(doc) = &world.doc else { return "lost" };
    match (doc.phase, doc.is_final, doc.generation > 1) {
        (Phase::Done, _, false) => "done",
        (Phase::Done, _, true) => "done in a later run",
        (Phase::Undone, true, _) => "cancelled",
        (Phase::Undone, false, _) => "failed",
        (Phase::Run, ..) => "held going forward",
        (Phase::Comp, ..) => "held being undone",
    }
}

/// Whether a schedule holds trouble of this kind in a way that a budget does not count.
#[must_use]
pub fn is_late(action: Action) -> bool {
    matches!(action, Action::ApplyLate(_) | Action::CallLate(_))
        || matches!(action, Action::Perform { outcome: Outcome::Late, .. })
}
