//! What is published, and what a confirm or its absence leads to.

use crate::saga::{
    Cause, DeadLetterQueue, Effect, Ending, Event, EventType, Handling, Lane, Moment, Note, Phase,
    Publication, Record, StoreReply, Tier, dead_letter_id, event_id,
    handling::{At, Then},
    poison_id,
};

impl Then {
    /// Ack, with the document as read or written to record an owed publish in.
    pub(super) fn recorded(record: &Record, ending: Ending) -> Self {
        // Before that, another worker may have taken the very message that was just confirmed, and ack it in reliance on
        // the flag. What an end or a hold owes is owed once: whoever publishes it settles it for all.
        let settled = record.phase.is_terminal() || record.hold.is_some();
        Self::Recorded { generation: record.generation, rev: record.rev, owed: record.evp, settled, ending }
    }
}

impl Handling {
    fn publish(&mut self, publications: Vec<Publication>, then: Then) -> Effect {
        self.at = At::Publishing { publications: publications.clone(), then };
        Effect::Publish(publications)
    }

    pub(super) fn published(&mut self, then: Then) -> Effect {
        match then {
            Then::Recorded { generation, rev, owed: true, settled: true, ending } => {
                self.note(Note::Owed { generation, rev, owed: false }, Then::End(ending))
            }
            Then::LookAgain { generation, rev } => {
                self.note(Note::Owed { generation, rev, owed: false }, then)
            }
            Then::NoteConflict => match self.delivered.command.fp.clone() {
                Some(fp) => self.note(Note::Conflict(fp), Then::End(Ending::Conflict)),
                None => self.end(Ending::Conflict),
            },
            Then::End(ending) | Then::OrLater(ending) | Then::Recorded { ending, .. } => self.end(ending),
        }
    }

    /// Not confirmed in its time: what is owed goes into the document, where there is one.
    pub(super) fn not_published(&mut self, publications: Vec<Publication>, then: Then) -> Effect {
        match then {
            // Also where the flag was up when the document was read: somebody may have lowered it since.
            Then::Recorded { generation, rev, .. } => {
                self.note(Note::Owed { generation, rev, owed: true }, Then::End(Ending::Owed))
            }
            Then::OrLater(_) | Then::LookAgain { .. } => self.later(),
            Then::End(_) | Then::NoteConflict => self.publish(publications, then),
        }
    }

    pub(super) fn note(&mut self, note: Note, then: Then) -> Effect {
        self.at = At::Noting { note: note.clone(), then };
        Effect::Note(note)
    }

    pub(super) fn noted(&mut self, note: Note, then: Then, reply: StoreReply) -> Effect {
        match (reply, &note, then) {
            (StoreReply::Applied, _, Then::End(ending)) => self.end(ending),
            (StoreReply::Applied | StoreReply::NoMatch, _, Then::LookAgain { .. }) => self.read(0),
            // The document moved on since it was read: look again.
            (StoreReply::NoMatch, Note::Cancel | Note::Owed { owed: true, .. }, _) => self.read(0),
            (StoreReply::Refused(reason), Note::Cancel, _) => self.poison(&reason),
            (StoreReply::Refused(_), Note::Owed { owed: true, .. }, _)
            | (StoreReply::Refused(_), _, Then::LookAgain { .. }) => self.later(),
            (StoreReply::NoMatch | StoreReply::Refused(_), _, Then::End(ending)) => self.end(ending),
            _ => self.note(note, then),
        }
    }

    /// This message again in half a minute: what could be recorded nowhere else.
    fn later(&mut self) -> Effect {
        self.copy(Some(Tier::S30), Then::End(Ending::Deferred))
    }

    /// The run has ended: publish its terminal event, and park what failed for a technical cause.
    pub(super) fn finish(&mut self, moment: &Moment, record: &Record) -> Effect {
        let then = Then::recorded(record, Ending::Finished);
        if moment.blocked {
            return self.not_published(Vec::new(), then);
        }
        let event = EventType::of_end(record.phase, record.is_final);
        let mut publications = Vec::new();
        if event == EventType::Failed {
            publications.push(self.failed(record));
        }
        publications.push(self.event(event, record.generation, record.rev));
        self.publish(publications, then)
    }

    /// The run has ended UNDONE and not final, owes its event, and is to be followed by another one. Its dead letter is of no
    /// more use: a person has asked for that run.
    pub(super) fn settle_earlier_run(&mut self, record: &Record) -> Effect {
        let event = self.event(EventType::Failed, record.generation, record.rev);
        self.publish(vec![event], Then::LookAgain { generation: record.generation, rev: record.rev })
    }

    fn failed(&self, record: &Record) -> Publication {
        let reason = |cause: &Cause| match &cause.code {
            Some(code) => format!("{}: {code}", cause.class.as_str()),
            None => cause.class.as_str().to_owned(),
        };
        Publication::DeadLetter {
            queue: DeadLetterQueue::Step(record.failed_step().clone()),
            id: dead_letter_id(self.order_id(), record.generation, record.cause_rev()),
            reason: record.cause.as_ref().map_or_else(String::new, reason),
        }
    }

    /// The message is about a run that a later run has followed: it ended UNDONE for a technical cause, or there would
    /// be no later one.
    pub(super) fn finish_earlier_run(&mut self) -> Effect {
        let event = self.event(EventType::Failed, self.delivered.command.generation, 0);
        self.publish(vec![event], Then::OrLater(Ending::Finished))
    }

    fn event(&self, event: EventType, generation: u32, seq: u64) -> Publication {
        Publication::Event(Event { id: event_id(self.order_id(), generation, event), event, generation, seq })
    }

    /// The document is in a phase that another lane works: see that there is a message in that lane. Never "somebody
    /// else has it": whoever wrote the phase may be gone, and its message with it.
    pub(super) fn hand_over(&mut self, record: &Record) -> Effect {
        let publication = match record.phase {
            Phase::Comp => Publication::Compensate(Box::new(record.clone())),
            _ => Publication::Copy { lane: Lane::Retry, wait: None },
        };
        self.publish(vec![publication], Then::recorded(record, Ending::HandedOver))
    }

    pub(super) fn park_held(&mut self, record: &Record) -> Effect {
        let Some(hold) = &record.hold else { return self.end(Ending::NothingToDo) };
        let dead_letter = Publication::DeadLetter {
            queue: DeadLetterQueue::Held,
            id: hold.id.clone(),
            reason: format!("held at {}", hold.step),
        };
        self.publish(vec![dead_letter], Then::recorded(record, Ending::Held))
    }

    pub(super) fn conflict(&mut self) -> Effect {
        let fp = self.delivered.command.fp.as_ref().map_or("", |fp| fp.as_str());
        let dead_letter = Publication::DeadLetter {
            queue: DeadLetterQueue::Conflict,
            id: format!("{}.{fp}", self.order_id()),
            reason: "another body was accepted under this key before; this one was never executed".into(),
        };
        self.publish(vec![dead_letter], Then::NoteConflict)
    }

    pub(super) fn poison(&mut self, reason: &str) -> Effect {
        let command = &self.delivered.command;
        // Two bodies, or two kinds of message, about one order are two dead letters.
        let fp = command.fp.as_ref().map_or("", |fp| fp.as_str());
        let told = format!("{} {fp} {reason}", command.kind.as_str());
        let dead_letter = Publication::DeadLetter {
            queue: DeadLetterQueue::Poison,
            id: poison_id(self.order_id(), command.generation, &told),
            reason: reason.to_owned(),
        };
        self.publish(vec![dead_letter], Then::End(Ending::Poison))
    }

    /// A copy of the message, back into its lane after a wait or at once.
    pub(super) fn copy(&mut self, wait: Option<Tier>, then: Then) -> Effect {
        self.publish(vec![Publication::Copy { lane: self.delivered.lane.re_entry(), wait }], then)
    }
}
