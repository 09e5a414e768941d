//! Millions of long random schedules in virtual time. A seed names one schedule: the same seed, the same schedule.

use std::collections::BTreeMap;

use orderfleet_domain::saga::Phase;

use crate::{
    Action, Budget, Fault, Judged, Outcome, Schedule, Scope, Setup, Verdict, World, schedule::settle,
};

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
        for what in verdict.happened.iter().filter_map(|action| aftermath(*action)) {
            *self.faults.entry(what.to_owned()).or_default() += 1;
        }
    }

    /// Kinds of trouble that never happened: their absence from what was found means nothing.
    #[must_use]
    pub fn never_happened(&self) -> Vec<String> {
        let kinds = Fault::ALL.iter().map(|fault| format!("{fault:?}"));
        let kinds = kinds.chain(AFTERMATHS.map(str::to_owned));
        kinds.filter(|kind| !self.faults.contains_key(kind)).collect()
    }
}

/// Trouble that no budget counts: it is the later part of some that one does.
fn aftermath(action: Action) -> Option<&'static str> {
    match action {
        Action::ApplyLate(_) => Some("a late write is applied"),
        Action::CallLate(_) => Some("a late request arrives"),
        Action::Perform { outcome: Outcome::Pending, .. } => Some("a majority lags behind"),
        Action::Park => Some("a message is written off"),
        _ => None,
    }
}

const AFTERMATHS: [&str; 4] = [
    "a late write is applied",
    "a late request arrives",
    "a majority lags behind",
    "a message is written off",
];

/// Plays the schedule of a seed.
#[must_use]
pub fn run(seed: u64, judged: Judged) -> (Schedule, Verdict) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let scope = Scope { judged, ..scope(&mut rng) };
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
    (schedule, Verdict { world, happened, left_out: Vec::new() })
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
        judged: Judged::Everything,
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
