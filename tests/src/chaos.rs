//! Chaos on real parts: a fleet under load, faults with evidence of each, and a checker that judges from outside.

mod bodies;
mod checker;
mod client_log;
mod collect;
mod drain;
mod evidence;
mod fault;
mod links;
mod load;
mod nemesis;
mod operator;
mod report;
mod run;
mod stage;
mod supervised;
mod waste;
mod witness;

pub use checker::{Class, Counts, Verdict, Violation, judge};
pub use client_log::{Answered, Asked, ClientLog, Tally};
pub use collect::{dead_letters, events, holdings, ledgers, left_in_queues, parked, stored};
pub use evidence::{
    Attempt, Calls, Clients, Evidence, Holdings, Identity, Instance, Ledgers, Parked, Published, Requests,
    Stored,
};
pub use fault::{Build, Fault, Harm, Hop, Misbehaviour, Part, Planned, plan, rolling, upgrade};
pub use links::{Hits, Links};
pub use load::{Load, Shop};
pub use nemesis::{Injected, Nemesis};
pub use operator::Operator;
pub use report::{Outcome, Report};
pub use run::{Options, run};
pub use stage::{OtherPrograms, PRODUCERS, Parts, Stage, WORKERS};
pub use supervised::Supervised;
pub use waste::Waste;
pub use witness::Witness;
