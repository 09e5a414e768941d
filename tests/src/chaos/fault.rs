//! The kinds of faults, and the seeded plan of when each strikes.

use std::{fmt, ops::Range, time::Duration};

use fastrand::Rng;

/// A kind of process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// A producer.
    Producer,
    /// A worker.
    Worker,
    /// The query service.
    Query,
}

/// One of two builds of the fleet that run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Build {
    /// The one that the run began with.
    Older,
    /// The one that is tested.
    This,
}

/// A kind of network hop; each runs through a fault proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// From the clients to a producer.
    ClientProducer,
    /// From the producers to the broker.
    ProducerBroker,
    /// From the workers to the broker.
    WorkerBroker,
    /// To a member of the database's replica set, also from the other members.
    WorkerDatabase,
    /// From the workers to the shop's services.
    WorkerDownstream,
}

/// What a fault proxy does to a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Connections are reset, also new ones.
    Reset,
    /// Nothing passes, in neither direction.
    BlackHole,
    /// Everything takes longer.
    Delay,
    /// One side is told that the other has said all it had to say.
    HalfClose,
    /// Requests pass, answers do not.
    DropReplies,
}

/// What the shop's services do wrong, for a share of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Misbehaviour {
    /// Answer 500 without effect.
    Errors,
    /// Answer 503 without effect.
    Outage,
    /// Never answer.
    Hang,
    /// Take effect and cut the connection.
    LostReply,
    /// Refuse.
    Refuse,
    /// Take long.
    Latency,
    /// Answer 500 to undos.
    UndoErrors,
    /// Take effect and cut the connection on undos.
    UndoLostReply,
    /// Refuse undos for good: the orders must be held.
    UndoRefused,
}

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL.
    Kill(Part),
    /// SIGSTOP, later SIGCONT.
    Freeze(Part),
    /// SIGTERM, and the program of a build in its place. Only in runs with two builds.
    Replace(Part, Build),
    /// SIGTERM to half of the workers at once, and a new start of each.
    DrainHalf,
    /// A worker is stopped, loses its connections meanwhile, and goes on with what it had in hand.
    Zombie,
    /// A worker's clock is an hour fast or slow.
    ClockStep,
    /// An order over which every worker aborts.
    CrashingBody,
    /// The broker is stopped in order and started again.
    BrokerRestart,
    /// The broker is killed and started again.
    BrokerKill,
    /// The broker is stopped by SIGSTOP, and goes on later.
    FreezeBroker,
    /// The broker blocks publishers.
    MemoryAlarm,
    /// The broker closes every connection.
    CloseConnections,
    /// Fresh orders match no queue.
    DeleteBinding,
    /// The primary steps down.
    StepDown,
    /// The primary is killed and started again.
    KillPrimary,
    /// The primary is stopped by SIGSTOP, another is elected, and the first goes on.
    FreezePrimary,
    /// Both secondaries are stopped: no majority.
    FreezeSecondaries,
    /// A hop is harmed.
    Link(Hop, Harm),
    /// The services misbehave.
    Downstream(Misbehaviour),
    /// Bodies that nobody can read come into a queue of orders.
    Poison,
}

/// A fault of the plan.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Planned {
    /// When it strikes, from the start of the load. Two strike at a time at most: a third waits. So does one that is about
    /// the same thing as another.
    pub at: Duration,
    /// Its kind.
    pub fault: Fault,
    /// How long it lasts.
    pub hold: Duration,
    /// Decides which of several targets is hit.
    pub draw: usize,
}

impl Hop {
    /// All hops.
    pub const ALL: [Self; 5] = [
        Self::ClientProducer,
        Self::ProducerBroker,
        Self::WorkerBroker,
        Self::WorkerDatabase,
        Self::WorkerDownstream,
    ];
}

impl Harm {
    /// All harms.
    pub const ALL: [Self; 5] =
        [Self::Reset, Self::BlackHole, Self::Delay, Self::HalfClose, Self::DropReplies];
}

impl Misbehaviour {
    /// All misbehaviours.
    pub const ALL: [Self; 9] = [
        Self::Errors,
        Self::Outage,
        Self::Hang,
        Self::LostReply,
        Self::Refuse,
        Self::Latency,
        Self::UndoErrors,
        Self::UndoLostReply,
        Self::UndoRefused,
    ];
}

impl Fault {
    /// Kinds that only services with debug assertions can be told to do: others have nothing of it in them.
    pub const OF_DEBUG_BUILDS: [Self; 2] = [Self::ClockStep, Self::CrashingBody];

    /// All kinds that services of this build can be harmed by.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let parts = [Part::Producer, Part::Worker, Part::Query];
        let mut all: Vec<_> =
            parts.into_iter().flat_map(|part| [Self::Kill(part), Self::Freeze(part)]).collect();
        all.extend([
            Self::DrainHalf,
            Self::Zombie,
            Self::BrokerRestart,
            Self::BrokerKill,
            Self::FreezeBroker,
            Self::MemoryAlarm,
            Self::CloseConnections,
            Self::DeleteBinding,
            Self::StepDown,
            Self::KillPrimary,
            Self::FreezePrimary,
            Self::FreezeSecondaries,
            Self::Poison,
        ]);
        all.extend(Hop::ALL.into_iter().flat_map(|hop| Harm::ALL.map(|harm| Self::Link(hop, harm))));
        all.extend(Misbehaviour::ALL.map(Self::Downstream));
        if cfg!(debug_assertions) {
            all.extend(Self::OF_DEBUG_BUILDS);
        }
        all
    }

    /// How long it may last, in milliseconds.
    fn hold_ms(self) -> Range<u64> {
        match self {
            // Also longer than a lease, so that others take over meanwhile.
            Self::Freeze(_) | Self::FreezeBroker => 2_000..8_000,
            Self::Zombie => 6_000..9_000,
            Self::ClockStep => 4_000..8_000,
            Self::MemoryAlarm => 5_000..10_000,
            Self::FreezeSecondaries => 3_000..6_000,
            Self::Downstream(_) => 4_000..9_000,
            _ => 2_000..5_000,
        }
    }
}

/// Draws a plan: every kind once in random order before any comes again, one every `every` on average.
#[must_use]
pub fn plan(seed: u64, duration: Duration, every: Duration, kinds: &[Fault]) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let (mut plan, mut deck) = (Vec::new(), Vec::new());
    let mut at = every / 2;
    while at < duration && !kinds.is_empty() {
        if deck.is_empty() {
            deck.extend_from_slice(kinds);
            rng.shuffle(&mut deck);
        }
        let Some(fault) = deck.pop() else { break };
        let hold = Duration::from_millis(rng.u64(fault.hold_ms()));
        plan.push(Planned { at, fault, hold, draw: rng.usize(..) });
        at += every.mul_f64(0.5 + rng.f64());
    }
    plan
}

/// Half of the workers drain at once, one half after the other, every so often.
#[must_use]
pub fn rolling(duration: Duration, every: Duration) -> Vec<Planned> {
    let planned = |draw| Planned {
        at: every.saturating_mul(u32::try_from(draw).unwrap_or(u32::MAX)),
        fault: Fault::DrainHalf,
        hold: Duration::ZERO,
        draw,
    };
    (1..).map(planned).take_while(|planned| planned.at < duration).collect()
}

/// An upgrade within a time: workers and producers one by one, rolled back half-way, and forward again. The number of the process
/// is drawn already.
#[must_use]
pub fn upgrade(duration: Duration, workers: usize, producers: usize) -> Vec<Planned> {
    let of = |part, numbers: Range<usize>| numbers.map(move |number| (part, number));
    let half: Vec<_> =
        of(Part::Worker, 0..workers / 2 + 1).chain(of(Part::Producer, 0..producers / 2)).collect();
    let all = of(Part::Worker, 0..workers).chain(of(Part::Producer, 0..producers));
    let to = |build| move |(part, number)| (Fault::Replace(part, build), number);
    let back = half.clone().into_iter().rev().map(to(Build::Older));
    let steps: Vec<_> =
        half.into_iter().map(to(Build::This)).chain(back).chain(all.map(to(Build::This))).collect();
    let every = duration / u32::try_from(steps.len() + 1).unwrap_or(u32::MAX);
    let planned = |(number, (fault, draw))| Planned { at: every * number, fault, hold: Duration::ZERO, draw };
    (1..).zip(steps).map(planned).collect()
}

impl fmt::Display for Fault {
    /// Lower-case words, such as `link worker-broker black-hole`; the name in reports.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(hop, harm) => write!(out, "link {} {}", words(hop, "-"), words(harm, "-")),
            Self::Downstream(misbehaviour) => write!(out, "downstream {}", words(misbehaviour, "-")),
            Self::Kill(part) => write!(out, "kill {}", words(part, "-")),
            Self::Replace(part, build) => {
                write!(out, "replace {} by {}", words(part, "-"), words(build, "-"))
            }
            Self::Freeze(part) => write!(out, "freeze {}", words(part, "-")),
            other => out.write_str(&words(other, " ")),
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&words(self, "-"))
    }
}

/// The words of a variant's name.
fn words(variant: &impl fmt::Debug, separator: &str) -> String {
    let mut text = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push_str(separator);
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_plan_comes_again_from_its_seed_and_draws_every_kind() {
        let draw = |seed| plan(seed, Duration::from_secs(400), Duration::from_secs(4), &Fault::all());
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let drawn: BTreeSet<_> = draw(3).iter().map(|planned| planned.fault).collect();
        assert_eq!(drawn.len(), Fault::all().len());
    }

    #[test]
    fn an_upgrade_goes_half_way_back_and_then_forward_with_every_process() {
        let steps = upgrade(Duration::from_secs(60), 3, 2);
        let of = |build| {
            steps.iter().filter(move |step| matches!(step.fault, Fault::Replace(_, by) if by == build))
        };
        assert_eq!((of(Build::This).count(), of(Build::Older).count()), (8, 3));
        assert!(steps[..3].iter().all(|step| matches!(step.fault, Fault::Replace(_, Build::This))));
        assert!(steps[3..6].iter().all(|step| matches!(step.fault, Fault::Replace(_, Build::Older))));
        let last: BTreeSet<_> = steps[6..].iter().map(|step| (step.fault, step.draw)).collect();
        assert_eq!(last.len(), 5, "every process once");
        assert!(steps.is_sorted_by_key(|step| step.at) && steps[10].at < Duration::from_secs(60));
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let names: BTreeSet<_> = Fault::all().iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), Fault::all().len());
        assert!(
            names.contains("link worker-broker black-hole") && names.contains("broker kill"),
            "{names:?}"
        );
    }
}
