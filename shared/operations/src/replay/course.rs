//! What to do about one dead letter, by how its order stands now. No I/O.

use std::fmt;

use orderfleet_domain::{
    Command, DecodeError, Fingerprint,
    saga::{DeadLetterQueue, Phase, Record},
};
use orderfleet_storage::{Content, Letter};
use serde::Serialize;

/// What a replay does about a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// Asks for this run of the order: everything from the first step, with keys of its own.
    Run {
        /// The run.
        generation: u32,
        /// The person's correction that the run works on.
        correction: Option<Correction>,
    },
    /// Releases this hold: the order goes on where it stands.
    Release {
        /// The hold.
        hold: String,
        /// The run it is in.
        generation: u32,
        /// The order is being undone: that is what goes on.
        is_undoing: bool,
    },
    /// Publishes the message again: it is all that is known of the order.
    Again {
        /// The run it is about.
        generation: u32,
    },
    /// There is nothing left to do: the dead letter is closed.
    Settled(Settled),
    /// Nothing can be done about it now: the dead letter stays.
    Nothing(Nothing),
}

/// An order that a person has corrected, as it is kept with a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// The dead letter: the one to be replayed, or another of the order.
    pub letter: String,
    /// The corrected order's fingerprint.
    pub fp: Fingerprint,
}

/// Why nothing is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// The order is done.
    Done,
    /// The order is undone for good: refused, cancelled or given up.
    Final,
    /// A later run of the order has begun.
    LaterRun,
    /// The order is under way, and nobody holds it.
    UnderWay,
}

/// Why nothing can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Nothing {
    /// Another body under a key that was taken: it is never executed.
    Conflict,
    /// No build can read the message.
    Unreadable,
    /// The message is of a newer build than this one: replay it with that.
    Newer,
    /// The order is not known, and the message cannot bring it about.
    NoOrder,
    /// The message that would be sent names an account, and the dead letter does not.
    NoAccount,
    /// The order's document is of a newer build than this one.
    NewerOrder,
    /// A newer build than this one has kept a correction for its next run, or with the dead letter.
    NewerCorrection,
    /// The message crashed workers, and its order is still under way: it will be held once no worker has it in hand.
    UnderWay,
}

/// The kind of message that a worker judges whatever the order's state.
pub(super) const CANCEL: &str = "cancel";

/// What to do about a dead letter whose order, if it has one in the database, stands so. The message's own bytes are looked at
/// only where there is no such order.
#[must_use]
pub fn course(letter: &Letter, content: Option<&Content>, order: Option<&Record>) -> Course {
    if letter.queue == DeadLetterQueue::Conflict {
        return Course::Nothing(Nothing::Conflict);
    }
    match order {
        None if letter.is_unread() => unread_without_order(letter),
        None => without_order(content),
        // The customer's wish is in no document yet: whatever the order's state, a worker judges it.
        Some(record) if letter.kind == CANCEL => Course::Again { generation: record.generation },
        Some(record) => match with_order(letter, record) {
            Course::Run { .. } | Course::Release { .. } if letter.account.is_none() => {
                Course::Nothing(Nothing::NoAccount)
            }
            course => course,
        },
    }
}

fn without_order(content: Option<&Content>) -> Course {
    let Some(content) = content else { return Course::Nothing(Nothing::NoOrder) };
    match Command::decode(&content.body) {
        Ok(command) if matches!(command.kind.as_str(), "place" | "cancel") => {
            Course::Again { generation: command.generation }
        }
        Ok(_) => Course::Nothing(Nothing::NoOrder),
        Err(DecodeError::Newer(_)) => Course::Nothing(Nothing::Newer),
        Err(DecodeError::Malformed(_)) => Course::Nothing(Nothing::Unreadable),
    }
}

/// The message is not looked into here either.
fn unread_without_order(letter: &Letter) -> Course {
    match letter.kind.as_str() {
        "place" | "cancel" => Course::Again { generation: 1 },
        _ => Course::Nothing(Nothing::NoOrder),
    }
}

fn with_order(letter: &Letter, record: &Record) -> Course {
    if letter.generation.is_some_and(|generation| generation < record.generation) {
        return Course::Settled(Settled::LaterRun);
    }
    match (&record.hold, record.phase) {
        (Some(hold), phase) => Course::Release {
            hold: hold.id.clone(),
            generation: record.generation,
            is_undoing: phase == Phase::Comp,
        },
        (None, Phase::Done) => Course::Settled(Settled::Done),
        (None, Phase::Undone) if record.is_final => Course::Settled(Settled::Final),
        (None, Phase::Undone) => Course::Run { generation: record.generation + 1, correction: None },
        // It may be the message that the order waits for.
        (None, Phase::Run | Phase::Comp) if letter.is_unread() => {
            Course::Again { generation: record.generation }
        }
        (None, Phase::Run | Phase::Comp) if letter.queue == DeadLetterQueue::Poison => {
            Course::Nothing(Nothing::UnderWay)
        }
        (None, Phase::Run | Phase::Comp) => Course::Settled(Settled::UnderWay),
    }
}

impl Course {
    /// The run whose end shows what became of it; `None` where nothing is published.
    #[must_use]
    pub fn generation(&self) -> Option<u32> {
        match self {
            Self::Run { generation, .. } | Self::Release { generation, .. } | Self::Again { generation } => {
                Some(*generation)
            }
            Self::Settled(_) | Self::Nothing(_) => None,
        }
    }

    /// The dead letter with which the correction is kept that a run works on, if there is one.
    #[must_use]
    pub fn correction(&self) -> Option<&str> {
        match self {
            Self::Run { correction, .. } => correction.as_ref().map(|kept| kept.letter.as_str()),
            _ => None,
        }
    }

    /// A text that is another one for every message that would be published for a dead letter. It begins with the word of
    /// [`Course::as_str`].
    #[must_use]
    pub fn planned(&self) -> String {
        let word = self.as_str();
        match self {
            Self::Run { generation, correction: None } => format!("{word} {generation}"),
            Self::Run { generation, correction: Some(Correction { letter, fp }) } => {
                format!("{word} {generation} on {letter} {fp}")
            }
            Self::Release { hold, .. } => format!("{word} {hold}"),
            Self::Again { .. } | Self::Settled(_) | Self::Nothing(_) => word.to_owned(),
        }
    }

    /// The hold that is released, if one is.
    #[must_use]
    pub fn hold(&self) -> Option<&str> {
        match self {
            Self::Release { hold, .. } => Some(hold),
            _ => None,
        }
    }

    /// Whether an order is released that was being undone, so that UNDONE is where it is to come to.
    #[must_use]
    pub fn is_undoing(&self) -> bool {
        matches!(self, Self::Release { is_undoing: true, .. })
    }

    /// One stable word, for grouping and for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Run { .. } => "run",
            Self::Release { .. } => "release",
            Self::Again { .. } => "again",
            Self::Settled(_) => "settled",
            Self::Nothing(_) => "nothing",
        }
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run { generation, correction: None } => {
                write!(f, "starts run {generation}, from the first step")
            }
            Self::Run { generation, correction: Some(_) } => {
                write!(f, "starts run {generation}, from the first step, on the corrected order")
            }
            Self::Release { is_undoing: true, .. } => f.write_str("goes on being undone where it stands"),
            Self::Release { .. } => f.write_str("goes on where it stands"),
            Self::Again { .. } => f.write_str("its message is published again"),
            Self::Settled(why) => write!(f, "nothing left to do: {why}"),
            Self::Nothing(why) => write!(f, "stays: {why}"),
        }
    }
}

impl fmt::Display for Settled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "the order is done",
            Self::Final => "the order is undone for good",
            Self::LaterRun => "a later run has begun",
            Self::UnderWay => "the order is under way",
        })
    }
}

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conflict => "another body under a key that was taken is never executed; discard it",
            Self::Unreadable => "no build can read the message; discard it",
            Self::Newer => "the message is of a newer build; replay it with that",
            Self::NoOrder => "its order is not known, and the message cannot bring it about",
            Self::NoAccount => {
                "the dead letter names no account, so that no message can be made for its order"
            }
            Self::NewerOrder => "this build cannot read its order; replay it with the newest",
            Self::NewerCorrection => "a correction of it was kept by a newer build; replay it with that",
            Self::UnderWay => "a worker may still have its order in hand; again in a minute",
        })
    }
}

#[cfg(test)]
mod tests;
