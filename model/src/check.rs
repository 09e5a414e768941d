//! What must hold in every state, and in every state in which nothing goes on by itself any more.

use orderfleet_domain::saga::{Lane, Phase, Record};

use crate::{
    Setup, World,
    world::{Asked, Crashed, Letter, Message},
};

/// A safety property of the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Property {
    /// An accepted order is in a queue, in hand, owed, parked, or ended with its event published.
    Custody,
    /// A step of a run takes effect at most once, and is undone at most once.
    EffectOnce,
    /// DONE: every step took effect in the last run alone. UNDONE: the net effect is zero, and stays zero.
    Atomic,
    /// Phases of a run go one way, and `hi` stays at or above every step that a service was asked to do.
    OneWay,
    /// No write succeeds that a newer claim should have fenced.
    Fence,
    /// A delivery is acked only after something was confirmed, or an owed publish committed.
    AckDiscipline,
    /// An event tells of what is committed; no run follows `order.completed` or `order.cancelled`.
    Events,
    /// A step is undone only when all later ones are settled.
    UndoOrder,
    /// A step is called only after a committed write declared it.
    IntentBeforeCall,
    /// One body per key takes effect; another one is a visible conflict.
    OneEffectPerKey,
    /// Left in peace, the order ends, or is held for a person; a cancel that came in time is honoured; nothing is left over.
    Drain,
}

impl Property {
    /// All properties.
    pub const ALL: [Self; 11] = [
        Self::Custody,
        Self::EffectOnce,
        Self::Atomic,
        Self::OneWay,
        Self::Fence,
        Self::AckDiscipline,
        Self::Events,
        Self::UndoOrder,
        Self::IntentBeforeCall,
        Self::OneEffectPerKey,
        Self::Drain,
    ];

    /// Whether a violation of it is damage: an order lost, doubled, half-done or told wrongly. The others are disciplines
    /// that keep it from that.
    #[must_use]
    pub fn is_outcome(self) -> bool {
        match self {
            Self::Custody
            | Self::EffectOnce
            | Self::Atomic
            | Self::Events
            | Self::OneEffectPerKey
            | Self::Drain => true,
            Self::OneWay | Self::Fence | Self::AckDiscipline | Self::UndoOrder | Self::IntentBeforeCall => {
                false
            }
        }
    }

    /// The name shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Custody => "custody",
            Self::EffectOnce => "effect once",
            Self::Atomic => "atomic",
            Self::OneWay => "one-way phases",
            Self::Fence => "fence",
            Self::AckDiscipline => "ack discipline",
            Self::Events => "events",
            Self::UndoOrder => "undo order",
            Self::IntentBeforeCall => "intent before call",
            Self::OneEffectPerKey => "one effect per key",
            Self::Drain => "drain",
        }
    }
}

impl World {
    pub(crate) fn check(&mut self, setup: &Setup) {
        let found = self
            .check_custody(setup)
            .or_else(|| self.check_asked())
            .or_else(|| self.check_effects())
            .or_else(|| self.check_events())
            .or_else(|| if self.is_quiescent(setup) { self.check_rest(setup) } else { None });
        if let Some((property, how)) = found {
            self.violate(property, || how);
        }
    }

    /// Whether nothing goes on by itself any more.
    #[must_use]
    pub fn is_quiescent(&self, setup: &Setup) -> bool {
        if !self.slots.is_empty() || !self.ready.is_empty() {
            return false;
        }
        let mut calm = Vec::new();
        self.calm_actions(setup, &mut calm);
        calm.is_empty()
    }

    fn check_custody(&self, setup: &Setup) -> Option<(Property, String)> {
        let fp = self.doc.as_ref().map_or(setup.ours.command.fp.as_ref(), |doc| Some(&doc.fp));
        let unacked = self.slots.iter().filter(|slot| slot.owns_delivery).map(|slot| &slot.message);
        let carries = |message: &Message| match Asked::by(&message.command.kind) {
            Asked::Cancel => false,
            Asked::Resolve => true,
            Asked::Work | Asked::Run => message.command.fp.as_ref() == fp,
        };
        let is_other = fp == setup.other.command.fp.as_ref();
        let works = |it: &Crashed| {
            it.asked == Asked::Resolve || (it.asked != Asked::Cancel && it.is_other == is_other)
        };
        let in_queue = || self.ready.iter().chain(unacked.clone()).any(carries);
        let crashed =
            || self.letters.values().any(|letter| matches!(letter, Letter::Crashed(it) if works(it)));
        let parked = |doc: &Record| self.has_parked(|it| works(it) && it.generation == doc.generation);
        let safe = match &self.doc {
            None => in_queue() || crashed(),
            Some(doc) if doc.evp => true,
            Some(doc) if doc.hold.as_ref().is_some_and(|hold| self.letters.contains_key(&hold.id)) => true,
            // Held, with another dead letter than the one the hold names: a person finds both by the order.
            Some(doc) if doc.hold.is_some() && parked(doc) => true,
            Some(doc) if doc.phase.is_terminal() => in_queue() || crashed() || self.has_terminal_event(doc),
            Some(_) => in_queue() || crashed(),
        };
        (!safe).then(|| (Property::Custody, format!("no message, no flag, no dead letter: {:?}", self.doc)))
    }

    /// What people have asked for, and what was accepted, comes to something: it is in a queue, in hand, parked, or has
    /// had its effect, or the order says why it has none.
    fn check_asked(&self) -> Option<(Property, String)> {
        let doc = self.doc.as_ref();
        let cancelled = doc.is_some_and(|doc| doc.cancel || (doc.phase == Phase::Undone && doc.is_final));
        if self.cancel_asked && !cancelled && !self.cancel_too_late && !self.is_kept(Asked::Cancel, |_| true)
        {
            return Some((Property::Custody, format!("a cancel is gone: {doc:?}")));
        }
        let begun = |run| doc.is_some_and(|doc| doc.generation >= run || doc.is_final);
        let run =
            self.runs_asked.iter().find(|run| !begun(**run) && !self.is_kept(Asked::Run, |of| of == **run));
        if let Some(run) = run {
            return Some((Property::Custody, format!("run {run} was asked for and is gone: {doc:?}")));
        }
        let hold = doc.and_then(|doc| doc.hold.as_ref()).filter(|hold| self.holds_decided.contains(&hold.id));
        if hold.is_some() && !self.is_kept(Asked::Resolve, |_| true) {
            return Some((Property::Custody, format!("a decision is gone: {doc:?}")));
        }
        None
    }

    /// Whether a message that asks for this, of such a run, is in a queue, in hand, or among the dead letters.
    fn is_kept(&self, asked: Asked, run: impl Fn(u32) -> bool) -> bool {
        let in_hand = self.slots.iter().filter(|slot| slot.owns_delivery).map(|slot| &slot.message);
        let commands = self.ready.iter().chain(in_hand).map(|message| &message.command);
        let mut waiting = commands.map(|command| (Asked::by(&command.kind), command.generation));
        waiting.any(|(kind, of)| kind == asked && run(of))
            || self.letters.values().any(|letter| {
                matches!(letter, Letter::Crashed(it) | Letter::Parked(it) if it.asked == asked && run(it.generation))
            })
    }

    fn has_parked(&self, such: impl Fn(&Crashed) -> bool) -> bool {
        self.letters.values().any(|letter| matches!(letter, Letter::Parked(crashed) if such(crashed)))
    }

    fn has(&self, wanted: Letter) -> bool {
        self.letters.values().any(|letter| *letter == wanted)
    }

    fn has_terminal_event(&self, doc: &Record) -> bool {
        self.events.iter().any(|(generation, event)| {
            *generation == doc.generation && (*event == 0) == (doc.phase == Phase::Done)
        })
    }

    fn check_effects(&self) -> Option<(Property, String)> {
        for ((generation, step), effects) in &self.services.effects {
            if effects.done > 1 || effects.undone > effects.done {
                return Some((Property::EffectOnce, format!("step {step} of run {generation}: {effects:?}")));
            }
        }
        let doc = self.doc.as_ref()?;
        let last = match doc.phase {
            Phase::Done => Some(1),
            Phase::Undone => Some(0),
            Phase::Run | Phase::Comp => None,
        };
        for generation in 1..=doc.generation {
            let expected = if generation == doc.generation { last } else { Some(0) };
            for step in 0..=doc.pivot() {
                let effects = self.services.effects.get(&(generation, step)).copied().unwrap_or_default();
                if expected.is_some_and(|expected| effects.net() != expected) {
                    let how = format!("step {step} of run {generation} has {effects:?}: {doc:?}");
                    return Some((Property::Atomic, how));
                }
            }
        }
        None
    }

    fn check_events(&self) -> Option<(Property, String)> {
        let doc = self.doc.as_ref()?;
        let wrong = self.events.iter().find(|(generation, event)| {
            let is_final = *event != 2;
            // `cancelled` may follow `failed`: a cancel made the run final after it had ended.
            let contradicts = *generation == doc.generation
                && doc.phase.is_terminal()
                && (*event == 0) != (doc.phase == Phase::Done);
            (is_final && *generation != doc.generation) || contradicts
        });
        wrong.map(|event| (Property::Events, format!("event {event:?} beside {doc:?}")))
    }

    /// Nothing goes on any more: is everything as it should end?
    fn check_rest(&self, setup: &Setup) -> Option<(Property, String)> {
        let drain = |how: String| Some((Property::Drain, how));
        let Some(doc) = &self.doc else { return drain("an accepted order has no document".into()) };
        if !doc.phase.is_terminal() && doc.hold.is_none() {
            return drain(format!("neither ended nor held: {doc:?}"));
        }
        if doc.evp {
            return drain(format!("still owed: {doc:?}"));
        }
        let was_ignored = (doc.phase == Phase::Done && self.cancel_in_time)
            || (doc.phase == Phase::Undone
                && self.cancel_asked
                && !doc.is_final
                && !self.has_parked(|it| it.asked == Asked::Cancel));
        if was_ignored {
            return drain(format!("a cancel is not honoured: {doc:?}"));
        }
        if doc.phase.is_terminal() && !self.has_terminal_event(doc) {
            return Some((Property::Events, format!("no terminal event: {doc:?}")));
        }
        if doc.phase == Phase::Undone && doc.is_final && !self.events.contains(&(doc.generation, 1)) {
            return Some((Property::Events, format!("final without order.cancelled: {doc:?}")));
        }
        if doc.phase == Phase::Undone && !doc.is_final && !self.has(Letter::Step(doc.generation)) {
            return drain(format!("a failed order is not parked: {doc:?}"));
        }
        let silent = (1..doc.generation).find(|earlier| !self.events.contains(&(*earlier, 2)));
        // The message that would have told of an earlier run may be among the dead letters.
        if let Some(silent) = silent.filter(|run| !self.has_parked(|it| it.generation == *run)) {
            return Some((Property::Events, format!("run {silent} ended without an event")));
        }
        let is_ours = Some(&doc.fp) == setup.ours.command.fp.as_ref();
        if self.has(Letter::Poison) {
            return drain("a good message was written off".into());
        }
        let is_visible = self.has(Letter::Conflict)
            || self.has_parked(|it| it.asked == Asked::Work && it.is_other == is_ours);
        if self.other_posted && !is_visible {
            let how = "another body was posted, and is neither executed nor a conflict".to_owned();
            return Some((Property::OneEffectPerKey, how));
        }
        None
    }

    /// Whether a lane holds a message; for goals.
    pub(crate) fn has_message_in(&self, lane: &Lane) -> bool {
        self.ready.iter().any(|message| message.lane == *lane)
    }
}
