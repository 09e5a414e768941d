//! What may still go wrong in a schedule. Everything is counted down, so every schedule comes to an end.

use serde::{Deserialize, Serialize};

use crate::exhaustive::Goal;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// One kind of trouble, or of interference by people.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault { $($(#[doc = $doc])* $name),* }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name, and whether it has happened in a world: a goal of the search.
            pub(crate) fn goal(self) -> (&'static str, Goal) {
                match self {
                    $(Fault::$name => (stringify!($name), |model, world| {
                        world.budget.$name < model.setup.scope.budget.$name
                    })),*
                }
            }
        }

        /// How often each kind may still happen.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        #[expect(non_snake_case, missing_docs, reason = "one field per kind, named as it")]
        pub struct Budget { $(#[serde(skip_serializing_if = "is_zero")] pub $name: u8),* }

        impl Budget {
            /// How often a kind may still happen.
            #[must_use]
            pub fn of(&self, fault: Fault) -> u8 {
                match fault { $(Fault::$name => self.$name),* }
            }

            /// The count of a kind, to change it.
            pub fn of_mut(&mut self, fault: Fault) -> &mut u8 {
                match fault { $(Fault::$name => &mut self.$name),* }
            }
        }
    };
}

faults! {
    /// A worker's channel dies: its delivery is requeued, the worker goes on as a zombie.
    LoseChannel,
    /// A worker is killed.
    Crash,
    /// A delivery that was in a crashed worker's hands goes to the quarantine lane, or on from there to `dead.poison`.
    Quarantine,
    /// A worker is told to drain.
    Drain,
    /// A database answer is lost; the operation was applied, is never applied, or is applied later.
    LostAnswer,
    /// A publish is not confirmed; any part of it may be queued all the same.
    Unconfirmed,
    /// The broker blocks publishing for a while.
    Alarm,
    /// A call's outcome is unknown; it had its effect, never has it, or has it later, once or twice.
    UnknownCall,
    /// A call is not sent: no connection, or an open circuit.
    NotSent,
    /// A service refuses a do, and does not record that.
    Refusal,
    /// A service refuses an undo.
    UndoRefusal,
    /// The clock jumps: leases run out, deadlines pass.
    Tick,
    /// A worker's clock is an hour off.
    Skew,
    /// The client posts the same order again.
    Repost,
    /// The client posts another body under the same key.
    OtherBody,
    /// The customer cancels.
    Cancel,
    /// An operator starts another run.
    NewRun,
    /// An operator decides about a hold.
    Decision,
    /// The sweeper looks although nothing is owed to anybody's knowledge.
    Sweep,
}

impl Budget {
    /// Whether a kind may still happen.
    #[must_use]
    pub fn allows(&self, fault: Fault) -> bool {
        self.of(fault) > 0
    }

    /// Spends one.
    pub(crate) fn spend(&mut self, fault: Fault) {
        let left = self.of_mut(fault);
        *left = left.saturating_sub(1);
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(count: &u8) -> bool {
    *count == 0
}
