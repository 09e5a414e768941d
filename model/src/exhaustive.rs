//! Every schedule within small bounds, by breadth-first search (stateright).

use std::time::{Duration, Instant};

use orderfleet_domain::saga::{CauseClass, Ending, Lane, Phase, Record};
use stateright::{Checker, HasDiscoveries, Model, Property as Checked};

use crate::{Action, Budget, Fault, Judged, Property, Schedule, Scope, Setup, World};

/// The world as stateright explores it.
#[derive(Debug, Clone)]
pub struct Exhaustive {
    pub(crate) setup: Setup,
}

/// What a search came to.
#[derive(Debug, Clone)]
pub struct Found {
    /// Different states seen.
    pub states: usize,
    /// States generated, repeats included.
    pub generated: usize,
    /// Longest shortest schedule.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether every state within the bounds was seen.
    pub exhausted: bool,
    /// A schedule that violates a property, where there is one.
    pub counterexample: Option<(Property, Schedule)>,
    /// Goals that no state reached: the search was vacuous in their respect.
    pub unreached: Vec<&'static str>,
}

impl Model for Exhaustive {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(&self.setup)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        actions.extend(world.actions(&self.setup));
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.happen(&self.setup, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Checked<Self>> {
        let mut properties = vec![
            Checked::always(Property::ALL[0].name(), holds::<0>),
            Checked::always(Property::ALL[1].name(), holds::<1>),
            Checked::always(Property::ALL[2].name(), holds::<2>),
            Checked::always(Property::ALL[3].name(), holds::<3>),
            Checked::always(Property::ALL[4].name(), holds::<4>),
            Checked::always(Property::ALL[5].name(), holds::<5>),
            Checked::always(Property::ALL[6].name(), holds::<6>),
            Checked::always(Property::ALL[7].name(), holds::<7>),
            Checked::always(Property::ALL[8].name(), holds::<8>),
            Checked::always(Property::ALL[9].name(), holds::<9>),
            Checked::always(Property::ALL[10].name(), holds::<10>),
        ];
        properties.extend(self.goals().into_iter().map(|(name, goal)| Checked::sometimes(name, goal)));
        properties
    }
}

fn holds<const INDEX: usize>(_: &Exhaustive, world: &World) -> bool {
    world.violation().is_none_or(|(property, _)| *property != Property::ALL[INDEX])
}

/// Whether a state is one that the search must have seen.
pub(crate) type Goal = fn(&Exhaustive, &World) -> bool;

impl Exhaustive {
    /// Makes a scope ready.
    #[must_use]
    pub fn new(scope: Scope) -> Self {
        Self { setup: Setup::new(scope) }
    }

    /// What the search must have seen for its silence to mean anything, as far as the budget makes it possible.
    fn goals(&self) -> Vec<(&'static str, Goal)> {
        let budget = &self.setup.scope.budget;
        let mut goals: Vec<(&'static str, Goal)> = vec![("done", |_, world| ended(world, Phase::Done, 1))];
        let mut when = |possible: bool, name, goal: Goal| {
            if possible {
                goals.push((name, goal));
            }
        };
        let fails = budget.UnknownCall > 0 && self.setup.scope.attempts_max == 1;
        when(budget.Refusal > 0 || fails, "undone", |_, world| ended(world, Phase::Undone, 1));
        when(budget.NewRun > 0 && fails, "done in a later run", |_, world| ended(world, Phase::Done, 2));
        when(budget.UndoRefusal > 0, "held", |_, world| {
            world.doc.as_ref().is_some_and(|doc| doc.phase == Phase::Comp && doc.hold.is_some())
        });
        when(budget.LoseChannel > 0, "fenced", |_, world| world.is_ending(Ending::Fenced));
        when(budget.LostAnswer > 0, "an unknown write turned out to be applied", |_, world| {
            world.slots.iter().any(|slot| slot.resolved)
        });
        when(budget.Alarm > 0, "owed", |_, world| world.is_ending(Ending::Owed));
        when(budget.OtherBody > 0, "conflict", |_, world| world.is_ending(Ending::Conflict));
        when(budget.Drain > 0, "handed back", |_, world| world.is_ending(Ending::HandedBack));
        when(budget.Quarantine > 0, "quarantined", |_, world| world.has_message_in(&Lane::Quarantine));
        when(budget.Cancel > 0, "cancelled", |_, world| has_cause(world, CauseClass::Cancelled));
        when(
            self.setup.scope.steps > 2,
            "a step called before the one before it was recorded",
            |_, world| {
                let Some(doc) = &world.doc else { return false };
                let is_ahead = |record: &Record| {
                    (record.epoch, record.rev) == (doc.epoch, doc.rev) && record.cur > doc.cur
                };
                world.slots.iter().any(|slot| slot.handling.record().is_some_and(is_ahead))
            },
        );
        let faults = Fault::ALL.iter().filter(|fault| budget.allows(**fault));
        goals.extend(faults.map(|fault| fault.goal()));
        goals
    }

    /// Searches until everything within the bounds is seen, a property is violated, or `states_max` states are.
    #[must_use]
    pub fn search(self, threads: usize, states_max: Option<usize>) -> Found {
        let started = Instant::now();
        let goals = self.goals();
        let (setup, model) = (self.setup.clone(), self);
        let mut builder = model.checker().threads(threads).finish_when(HasDiscoveries::AnyFailures);
        if let Some(most) = states_max {
            builder = builder.target_state_count(most);
        }
        let checker = builder.spawn_bfs().join();
        let discoveries = checker.discoveries();
        let counterexample = Property::ALL.into_iter().find_map(|property| {
            let path = discoveries.get(property.name())?;
            let actions = path.clone().into_actions();
            Some((property, Schedule { note: String::new(), scope: setup.scope.clone(), actions }))
        });
        let unreached =
            goals.into_iter().map(|(name, _)| name).filter(|name| !discoveries.contains_key(name)).collect();
        Found {
            states: checker.unique_state_count(),
            generated: checker.state_count(),
            depth: checker.max_depth(),
            took: started.elapsed(),
            exhausted: checker.is_done() && states_max.is_none_or(|most| checker.state_count() < most),
            counterexample,
            unreached,
        }
    }
}

fn ended(world: &World, phase: Phase, generation: u32) -> bool {
    world.doc.as_ref().is_some_and(|doc| doc.phase == phase && doc.generation == generation)
}

fn has_cause(world: &World, class: CauseClass) -> bool {
    world.doc.as_ref().and_then(|doc| doc.cause.as_ref()).is_some_and(|cause| cause.class == class)
}

/// A named scope: one group of faults together, since all at once cannot be exhausted.
#[derive(Debug, Clone)]
pub struct Named {
    /// What it is about.
    pub name: &'static str,
    /// The bounds.
    pub scope: Scope,
}

/// The scopes that are searched, small enough for every change, or as large as one machine can exhaust.
#[must_use]
pub fn scopes(full: bool) -> Vec<Named> {
    let scope = |steps, attempts_max, slots, budget| Scope {
        steps,
        attempts_max,
        quick_retries: 0,
        slots,
        timed: false,
        begun: false,
        judged: Judged::Everything,
        budget,
    };
    let none = Budget::default();
    // Small bounds for every change, large ones as far as one machine can see every state.
    let either = |small: Budget, large: Budget| if full { large } else { small };
    let named = |name, scope| Named { name, scope };
    // Three steps, of which two may be called on one write.
    let ahead = |name, small, large| named(name, scope(3, 1, 2, either(small, large)));
    vec![
        named(
            "zombies",
            scope(
                2,
                1,
                2,
                either(
                    Budget { LoseChannel: 1, Refusal: 1, ..none },
                    Budget { LoseChannel: 1, Refusal: 1, UnknownCall: 1, Tick: 1, ..none },
                ),
            ),
        ),
        named(
            "crashes",
            scope(
                2,
                1,
                2,
                either(
                    Budget { Crash: 1, Refusal: 1, Repost: 1, ..none },
                    Budget { Crash: 1, Refusal: 1, UnknownCall: 1, Repost: 1, ..none },
                ),
            ),
        ),
        named(
            "lost database answers",
            scope(
                2,
                1,
                2,
                either(
                    Budget { LostAnswer: 1, LoseChannel: 1, ..none },
                    Budget { LostAnswer: 2, LoseChannel: 1, ..none },
                ),
            ),
        ),
        named(
            "late calls",
            scope(
                2,
                1,
                2,
                either(
                    Budget { UnknownCall: 1, LoseChannel: 1, ..none },
                    Budget { UnknownCall: 2, LoseChannel: 1, Tick: 1, ..none },
                ),
            ),
        ),
        named(
            "blocked and unconfirmed publishing",
            scope(
                1,
                1,
                2,
                either(
                    Budget { Alarm: 1, Unconfirmed: 1, Refusal: 1, ..none },
                    Budget { Alarm: 1, Unconfirmed: 1, Refusal: 1, LoseChannel: 1, ..none },
                ),
            ),
        ),
        named(
            "further runs",
            scope(
                1,
                1,
                2,
                either(
                    Budget { NewRun: 1, UnknownCall: 1, Crash: 1, ..none },
                    Budget { NewRun: 2, UnknownCall: 2, Crash: 1, ..none },
                ),
            ),
        ),
        named(
            "holds and decisions",
            scope(
                1,
                1,
                2,
                either(
                    Budget { Refusal: 1, UndoRefusal: 1, Decision: 1, Crash: 1, ..none },
                    Budget { Refusal: 1, UndoRefusal: 1, Decision: 1, Crash: 1, LoseChannel: 1, ..none },
                ),
            ),
        ),
        named(
            "cancels",
            scope(
                2,
                1,
                2,
                either(
                    Budget { Cancel: 1, Crash: 1, ..none },
                    Budget { Cancel: 1, LoseChannel: 1, LostAnswer: 1, ..none },
                ),
            ),
        ),
        named(
            "two bodies under one key",
            scope(
                1,
                1,
                2,
                either(
                    Budget { OtherBody: 1, Crash: 1, ..none },
                    Budget { OtherBody: 1, Repost: 1, LoseChannel: 1, Crash: 1, ..none },
                ),
            ),
        ),
        named(
            "drains and quarantine",
            scope(
                2,
                1,
                2,
                either(
                    Budget { Drain: 1, Crash: 2, Quarantine: 2, ..none },
                    Budget { Drain: 1, Crash: 2, Quarantine: 2, Refusal: 1, ..none },
                ),
            ),
        ),
        named(
            "deferrals and sweeps",
            scope(
                1,
                2,
                2,
                either(
                    Budget { NotSent: 1, UnknownCall: 1, Sweep: 1, ..none },
                    Budget { NotSent: 1, UnknownCall: 1, Sweep: 1, Crash: 1, ..none },
                ),
            ),
        ),
        named(
            "begun by another build",
            Scope {
                begun: true,
                ..scope(
                    2,
                    1,
                    2,
                    either(
                        Budget { Refusal: 1, ..none },
                        Budget { Refusal: 1, UnknownCall: 1, LoseChannel: 1, ..none },
                    ),
                )
            },
        ),
        ahead(
            "several steps ahead: zombies",
            Budget { LoseChannel: 1, Refusal: 1, ..none },
            Budget { LoseChannel: 1, Refusal: 1, UnknownCall: 1, ..none },
        ),
        ahead(
            "several steps ahead: crashes",
            Budget { Crash: 1, Refusal: 1, ..none },
            Budget { Crash: 1, Refusal: 1, UnknownCall: 1, ..none },
        ),
        ahead(
            "several steps ahead: late calls",
            Budget { UnknownCall: 1, LoseChannel: 1, ..none },
            Budget { UnknownCall: 2, LoseChannel: 1, ..none },
        ),
        ahead(
            "several steps ahead: lost database answers",
            Budget { LostAnswer: 1, Crash: 1, ..none },
            Budget { LostAnswer: 1, LoseChannel: 1, Refusal: 1, ..none },
        ),
        named(
            "several steps ahead: deferrals",
            scope(
                3,
                2,
                2,
                either(
                    Budget { NotSent: 1, LoseChannel: 1, Refusal: 1, ..none },
                    Budget { NotSent: 1, UnknownCall: 1, LoseChannel: 1, Refusal: 1, ..none },
                ),
            ),
        ),
        ahead(
            "several steps ahead: cancels",
            Budget { Cancel: 1, Crash: 1, ..none },
            Budget { Cancel: 1, LoseChannel: 1, LostAnswer: 1, ..none },
        ),
        ahead(
            "several steps ahead: drains and quarantine",
            Budget { Drain: 1, Crash: 1, Quarantine: 1, ..none },
            Budget { Drain: 1, Crash: 2, Quarantine: 2, Refusal: 1, ..none },
        ),
    ]
}
