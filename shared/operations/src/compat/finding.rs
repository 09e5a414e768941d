//! What is told of each kind of thing: how much was seen, and what in it this build cannot go on with.

use orderfleet_domain::{SCHEMA_VERSION, StepName, saga::DOCUMENT_VERSION};
use serde::Serialize;

/// Most examples of a misfit.
const EXAMPLES_MAX: usize = 5;
/// Most misfits of one kind that are told apart; what comes after them counts as one.
const MISFITS_MAX: usize = 20;

/// Whether this build can go on with something; each is worse than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It can.
    Fits,
    /// It was not to be looked at, which says nothing against this build.
    LeftOut,
    /// It was to be looked at and was not, or not all of it.
    Unknown,
    /// It can, once its settings are changed.
    FitsWithSettings,
    /// It cannot.
    DoesNotFit,
}

impl Verdict {
    /// The words for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fits => "fits",
            Self::LeftOut => "left out",
            Self::Unknown => "unknown",
            Self::FitsWithSettings => "fits with other settings",
            Self::DoesNotFit => "does not fit",
        }
    }
}

/// A kind of thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Kind {
    /// Which.
    pub kind: String,
    /// The worst of its parts.
    pub verdict: Verdict,
    /// How many were looked at.
    pub seen: u64,
    /// How many there are, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// What else is to be known, such as what was not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// What in it does not fit.
    pub misfits: Vec<Misfit>,
}

/// Something that this build cannot go on with as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// How bad it is.
    pub verdict: Verdict,
    /// What it is.
    pub what: String,
    /// How many there are of it.
    pub count: u64,
    /// Ids of some: of orders, or of dead letters about none. At most five.
    pub examples: Vec<String>,
    /// What to do about it.
    pub fix: String,
}

/// Why something does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// A document of a newer version.
    NewerDocument(u32),
    /// A document that cannot be read; why.
    UnreadableDocument(String),
    /// The saga core would park its messages; why.
    Refused(String),
    /// The validator of this build would refuse its next write.
    FailsValidation,
    /// A pinned step that the settings do not have.
    StepMissing(StepName),
    /// A message of a newer version.
    NewerMessage(u32),
    /// A message that cannot be read; why.
    UnreadableMessage(String),
    /// A dead letter that cannot be read.
    UnreadableLetter,
    /// A queue that the settings do not declare holds messages; its name, and the setting that brings it back.
    Undeclared(String, String),
    /// A service of this build would refuse to start; at what.
    DoesNotStart(String, String),
}

impl Reason {
    fn verdict(&self) -> Verdict {
        match self {
            Self::StepMissing(_) | Self::Undeclared(..) => Verdict::FitsWithSettings,
            _ => Verdict::DoesNotFit,
        }
    }

    fn what(&self) -> String {
        match self {
            Self::NewerDocument(version) => {
                format!("documents of version {version}; this build works with up to {DOCUMENT_VERSION}")
            }
            Self::UnreadableDocument(why) => format!("documents that this build cannot read: {why}"),
            Self::Refused(why) => format!("this build would park their messages: {why}"),
            Self::FailsValidation => "documents that the validator of this build refuses".to_owned(),
            Self::StepMissing(step) => format!("they need the step {step}, which is not in the settings"),
            Self::NewerMessage(version) => {
                format!("messages of version {version}; this build reads up to {SCHEMA_VERSION}")
            }
            Self::UnreadableMessage(why) => format!("messages that this build cannot read: {why}"),
            Self::UnreadableLetter => "dead letters that this build cannot read".to_owned(),
            Self::Undeclared(queue, _) => format!("{queue} holds messages and is not declared"),
            Self::DoesNotStart(what, _) => what.clone(),
        }
    }

    fn fix(&self) -> String {
        match self {
            Self::NewerDocument(_) | Self::NewerMessage(_) => {
                "nothing is lost: workers of this build leave them to newer ones, two minutes at a time. Keep workers of the \
                 build that wrote them running until they are gone"
                    .to_owned()
            }
            Self::UnreadableDocument(_) | Self::Refused(_) | Self::UnreadableMessage(_) => {
                "do not start workers of this build: they would park these as poison. Look at one with the running build: \
                 orderfleet orders get ID"
                    .to_owned()
            }
            Self::FailsValidation => {
                "do not start this build: its start puts the validator in place, and then no worker can write these orders"
                    .to_owned()
            }
            Self::StepMissing(step) => format!(
                "keep a [[steps]] entry named {step}, with its address, until none of them is open; without it they wait, \
                 and nothing is lost"
            ),
            Self::UnreadableLetter => {
                "deal with them before, with the running build: orderfleet dlq show ID".to_owned()
            }
            Self::Undeclared(_, setting) => format!("{setting} until it is empty"),
            Self::DoesNotStart(_, fix) => fix.clone(),
        }
    }

    /// Those of which only the first has its details told: they are as many as there are things.
    fn is_alike(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::UnreadableDocument(_), Self::UnreadableDocument(_))
            | (Self::UnreadableMessage(_), Self::UnreadableMessage(_)) => true,
            _ => self == other,
        }
    }
}

/// Counts what is seen of a kind.
#[derive(Debug)]
pub(super) struct Tally {
    kind: Kind,
    reasons: Vec<Reason>,
}

impl Tally {
    pub(super) fn new(kind: impl Into<String>) -> Self {
        let kind = Kind {
            kind: kind.into(),
            verdict: Verdict::Fits,
            seen: 0,
            of: None,
            note: None,
            misfits: Vec::new(),
        };
        Self { kind, reasons: Vec::new() }
    }

    /// One more, and why it does not fit, if it does not. Returns how many that makes.
    pub(super) fn see(&mut self, id: Option<&str>, reasons: impl IntoIterator<Item = Reason>) -> u64 {
        self.kind.seen += 1;
        for reason in reasons {
            self.misfit(id, reason);
        }
        self.kind.seen
    }

    /// Notes why something does not fit.
    pub(super) fn misfit(&mut self, id: Option<&str>, reason: Reason) {
        self.worsen(reason.verdict());
        let known = self.reasons.iter().position(|known| known.is_alike(&reason));
        let index = known.unwrap_or_else(|| self.add(reason));
        let misfit = &mut self.kind.misfits[index];
        misfit.count += 1;
        if let Some(id) = id.filter(|_| misfit.examples.len() < EXAMPLES_MAX) {
            misfit.examples.push(id.to_owned());
        }
    }

    /// How many there are.
    pub(super) fn of(&mut self, total: u64) {
        self.kind.of = Some(total);
    }

    /// Notes what has to be known beside it.
    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.kind.note = Some(note.into());
    }

    /// Notes why it was not to be looked at.
    pub(super) fn leave_out(&mut self, why: impl Into<String>) {
        self.worsen(Verdict::LeftOut);
        self.note(why);
    }

    /// Notes why it, or the rest of it, could not be looked at.
    pub(super) fn unknown(&mut self, why: impl Into<String>) {
        self.worsen(Verdict::Unknown);
        self.note(why);
    }

    pub(super) fn end(self) -> Kind {
        self.kind
    }

    fn worsen(&mut self, verdict: Verdict) {
        self.kind.verdict = self.kind.verdict.max(verdict);
    }

    /// Beyond the bound, what is new counts as the last one.
    fn add(&mut self, reason: Reason) -> usize {
        if self.reasons.len() < MISFITS_MAX {
            let (verdict, what, fix) = (reason.verdict(), reason.what(), reason.fix());
            self.kind.misfits.push(Misfit { verdict, what, count: 0, examples: Vec::new(), fix });
            self.reasons.push(reason);
        }
        self.reasons.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_one_misfit_with_few_examples_and_the_worst_verdict_counts() {
        let mut tally = Tally::new("orders");
        let step = Reason::StepMissing("customs".parse().unwrap());
        assert_eq!(tally.see(Some("fine"), []), 1);
        tally.see(Some("a"), [step.clone()]);
        for number in 0..9 {
            let why = format!("no JSON at column {number}");
            tally.see(Some(&number.to_string()), [Reason::UnreadableMessage(why), step.clone()]);
        }
        tally.unknown("not all");
        let kind = tally.end();
        assert_eq!((kind.seen, kind.verdict), (11, Verdict::DoesNotFit));
        let told: Vec<_> =
            kind.misfits.iter().map(|misfit| (misfit.verdict, misfit.count, misfit.examples.len())).collect();
        assert_eq!(told, [(Verdict::FitsWithSettings, 10, 5), (Verdict::DoesNotFit, 9, 5)]);
    }

    #[test]
    fn however_many_things_do_not_fit_few_are_told_apart() {
        let mut tally = Tally::new("orders");
        for version in 0..1_000 {
            tally.see(None, [Reason::NewerDocument(version)]);
        }
        let misfits = tally.end().misfits;
        assert_eq!(misfits.len(), MISFITS_MAX);
        assert_eq!(misfits.iter().map(|misfit| misfit.count).sum::<u64>(), 1_000);
    }
}
