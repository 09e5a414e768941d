//! One schedule that was kept: its bounds and what happens in it, in order. What came of it, and what of it matters.

use serde::{Deserialize, Serialize};

use crate::{Action, Property, Scope, Setup, World};

/// Calm actions after which an order that has not come to rest never will.
const CALM_ACTIONS_MAX: usize = 20_000;

/// Deliveries after which an order that is left in peace must have come further.
const HANDLINGS_MAX: usize = 500;

/// A schedule. After its last action everybody is left in peace until nothing goes on by itself any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// What it shows, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Its bounds.
    pub scope: Scope,
    /// What happens, in order.
    pub actions: Vec<Action>,
}

/// What came of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The world at its end.
    pub world: World,
    /// What happened, calm actions included.
    pub happened: Vec<Action>,
    /// Where in the schedule an action was not possible when its turn came, and so was left out. What a schedule shows, it
    /// shows of another world then.
    pub left_out: Vec<usize>,
}

impl Verdict {
    /// The property that was violated, and how.
    #[must_use]
    pub fn violation(&self) -> Option<&(Property, String)> {
        self.world.violation()
    }
}

impl Schedule {
    /// Plays it.
    #[must_use]
    pub fn play(&self) -> Verdict {
        let setup = Setup::new(self.scope.clone());
        let mut world = World::new(&setup);
        let (mut happened, mut left_out) = (Vec::new(), Vec::new());
        for (index, action) in self.actions.iter().enumerate() {
            if world.violation().is_some() {
                break;
            }
            if world.apply(&setup, *action) {
                happened.push(*action);
            } else {
                left_out.push(index);
            }
        }
        settle(&mut world, &setup, &mut happened, |_| 0);
        Verdict { world, happened, left_out }
    }
}

impl Verdict {
    /// What happened, one line per action, with the effect that a worker had in hand.
    #[must_use]
    pub fn story(&self, scope: &Scope) -> Vec<String> {
        let setup = Setup::new(scope.clone());
        let mut world = World::new(&setup);
        let tell = |action: &Action| {
            let in_hand = match action {
                Action::Perform { slot, .. } => world.in_hand(usize::from(*slot)),
                Action::Deliver { message, .. } => world.at_ready(usize::from(*message)),
                _ => String::new(),
            };
            world.apply(&setup, *action);
            format!("{action:?} {in_hand}")
        };
        self.happened.iter().map(tell).collect()
    }
}

/// Leaves everybody in peace until nothing goes on by itself any more.
pub(crate) fn settle(
    world: &mut World,
    setup: &Setup,
    happened: &mut Vec<Action>,
    mut choose: impl FnMut(usize) -> usize,
) {
    if world.blocked && world.violation().is_none() {
        world.happen(setup, Action::Block(false));
        happened.push(Action::Block(false));
    }
    let mut calm = Vec::new();
    let (mut stands, mut handlings) = (world.stands(), 0);
    for _ in 0..CALM_ACTIONS_MAX {
        calm.clear();
        world.calm_actions(setup, &mut calm);
        if calm.is_empty() || world.violation().is_some() {
            return;
        }
        // Whoever has work in hand goes on first: a queue full of copies must not keep a claim from ending.
        let performing = calm.iter().filter(|action| matches!(action, Action::Perform { .. })).count();
        let action = if performing > 0 {
            let mut performs = calm.iter().filter(|action| matches!(action, Action::Perform { .. }));
            performs.nth(choose(performing)).copied()
        } else {
            calm.get(choose(calm.len())).copied()
        };
        let Some(action) = action else { return };
        world.happen(setup, action);
        happened.push(action);
        let stood = std::mem::replace(&mut stands, world.stands());
        handlings = match action {
            _ if stood != stands => 0,
            Action::Deliver { .. } => handlings + 1,
            _ => handlings,
        };
        if handlings > HANDLINGS_MAX {
            let how = || format!("handled {handlings} times, and stands where it stood: {stands:?}");
            return world.violate(Property::Drain, how);
        }
    }
    world.violate(Property::Drain, || format!("does not come to rest within {CALM_ACTIONS_MAX} actions"));
}

/// The smallest schedule found that violates the same property: actions are left out as long as it still does.
#[must_use]
pub fn shrink(schedule: &Schedule) -> Schedule {
    let violated = |schedule: &Schedule| schedule.play().violation().map(|(property, _)| *property);
    let Some(wanted) = violated(schedule) else { return schedule.clone() };
    let mut smallest = schedule.clone();
    let mut size = smallest.actions.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shrunk = false;
        while at < smallest.actions.len() {
            let mut candidate = smallest.clone();
            let end = (at + size).min(candidate.actions.len());
            candidate.actions.drain(at..end);
            if violated(&candidate) == Some(wanted) {
                smallest = candidate;
                shrunk = true;
            } else {
                at += size;
            }
        }
        if size == 1 && !shrunk {
            return smallest;
        }
        if !shrunk {
            size = size.div_ceil(2).max(1);
        }
    }
}
