//! The broker: what a worker publishes, and where it goes.

use orderfleet_domain::{
    CommandKind,
    saga::{DeadLetterQueue, Effect, Input, Lane, Publication, poison_id},
};

use crate::{
    Fault, Outcome, Property, Setup, World,
    world::{Asked, Crashed, Letter, Message, event_rank},
};

impl World {
    /// Publishes all of a list, or, without a confirm, any part of it.
    pub(crate) fn publish(
        &mut self,
        setup: &Setup,
        slot: usize,
        publications: &[Publication],
        outcome: Outcome,
    ) -> Input {
        let queued = match outcome {
            Outcome::Unconfirmed(bits) => bits,
            _ => u8::MAX,
        };
        for (bit, publication) in publications.iter().enumerate() {
            if queued & (1 << bit) != 0 {
                self.publish_one(setup, slot, publication);
            }
        }
        if outcome == Outcome::Fine {
            self.slots[slot].may_ack = true;
            return Input::Confirmed;
        }
        if !self.blocked {
            self.budget.spend(Fault::Unconfirmed);
        }
        Input::NotConfirmed
    }

    fn publish_one(&mut self, setup: &Setup, slot: usize, publication: &Publication) {
        match publication {
            Publication::Copy { lane, wait } => {
                let command = self.slots[slot].message.command.clone();
                let due = match (setup.scope.timed, wait) {
                    (true, Some(tier)) => self.now + tier.millis(),
                    _ => 0,
                };
                self.enqueue(Message { command, lane: lane.clone(), redelivered: false, wait: *wait, due });
            }
            Publication::Compensate(record) => {
                let lane = Lane::Compensate(record.failed_step().clone());
                let fp = Some(record.fp.clone());
                self.enqueue(setup.message(record.generation, fp, CommandKind::Resume {}, lane));
            }
            Publication::DeadLetter { queue, id, .. } => {
                let generation = self.doc.as_ref().map_or(0, |doc| doc.generation);
                let letter = match queue {
                    DeadLetterQueue::Step(_) => Letter::Step(generation),
                    DeadLetterQueue::Poison => Letter::Poison,
                    DeadLetterQueue::Held => Letter::Held,
                    DeadLetterQueue::Conflict => Letter::Conflict,
                };
                self.letters.insert(id.clone(), letter);
            }
            Publication::Event(event) => {
                let told = self.doc.as_ref().is_some_and(|doc| {
                    doc.generation > event.generation
                        || (doc.generation == event.generation && doc.phase.is_terminal())
                });
                if !told {
                    self.violate(Property::Events, || {
                        format!("{} of run {} before its cause", event.event.as_str(), event.generation)
                    });
                }
                self.events.insert((event.generation, event_rank(event.event)));
            }
        }
    }

    /// The delivery limit of the quarantine lane is reached: the broker moves the message to `dead.poison`.
    pub(crate) fn write_off(&mut self, setup: &Setup, message: &Message) {
        let command = &message.command;
        let reason = format!("{} {:?}", command.kind.as_str(), command.fp);
        let id = poison_id(setup.order_id(), command.generation, &reason);
        let crashed = Crashed {
            generation: command.generation,
            is_other: command.fp == setup.other.command.fp,
            asked: Asked::by(&command.kind),
        };
        self.letters.insert(id, Letter::Crashed(crashed));
    }

    /// Whether a slot is about to end this way.
    pub(crate) fn is_ending(&self, ending: orderfleet_domain::saga::Ending) -> bool {
        self.slots.iter().any(|slot| slot.effect == Effect::Ack(ending))
    }
}
