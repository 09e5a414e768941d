//! What a replay of a dead letter would come to, as far as that can be told.

use std::fmt;

use orderfleet_domain::StepName;
use orderfleet_storage::Letter;
use serde::Serialize;

/// What would become of a dead letter if it were replayed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Forecast {
    /// Its order would be done, or undone if it was being undone or is cancelled; a cancel would be heard.
    Finish {
        /// Steps whose services do not know the order, and told what they answer to orders in general.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        in_general: Vec<StepName>,
    },
    /// It would fail at the same step, in the same way.
    FailSame(Failing),
    /// It would fail, but at another step or in another way.
    FailOther(Failing),
    /// Services have effects of the order that its document says are taken back: another run would add to them.
    Danger {
        /// The step instances that have them.
        instances: Vec<String>,
    },
    /// It cannot be told.
    CannotSay {
        /// Why.
        why: String,
        /// From which step on.
        #[serde(skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
    },
}

/// How an order would fail: what its failure fingerprint is made of, but for the text of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failing {
    /// At which step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// What kind of failure, in the words of dead letters.
    pub class: &'static str,
    /// The downstream's own word for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Why the forecast of a dead letter ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsure {
    pub(super) why: String,
    pub(super) step: Option<StepName>,
}

impl Forecast {
    /// One stable word, for grouping and for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finish { .. } => "finish",
            Self::FailSame(_) => "fail_same",
            Self::FailOther(_) => "fail_other",
            Self::Danger { .. } => "danger",
            Self::CannotSay { .. } => "cannot_say",
        }
    }
}

impl fmt::Display for Forecast {
    /// Without step instances, so that forecasts alike read alike.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finish { in_general } if in_general.is_empty() => f.write_str("would finish"),
            Self::Finish { in_general } => {
                let steps: Vec<_> = in_general.iter().map(StepName::as_str).collect();
                write!(f, "would finish, as far as {} can tell without the order", steps.join(" and "))
            }
            Self::FailSame(failing) => write!(f, "would fail the same way: {failing}"),
            Self::FailOther(failing) => write!(f, "would fail otherwise: {failing}"),
            Self::Danger { .. } => f.write_str("danger of double effect"),
            Self::CannotSay { why, step: Some(step) } => write!(f, "cannot say from {step} on: {why}"),
            Self::CannotSay { why, step: None } => write!(f, "cannot say: {why}"),
        }
    }
}

impl Failing {
    /// As a forecast for this dead letter.
    pub(super) fn compared(self, letter: &Letter) -> Forecast {
        let same = self.step == letter.step && self.class == letter.class && self.code == letter.code;
        if same { Forecast::FailSame(self) } else { Forecast::FailOther(self) }
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class)?;
        if let Some(code) = &self.code {
            write!(f, " ({code})")?;
        }
        if let Some(step) = &self.step {
            write!(f, " at {step}")?;
        }
        Ok(())
    }
}

impl Unsure {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), step: None }
    }

    pub(super) fn at(step: &StepName, why: impl Into<String>) -> Self {
        Self { why: why.into(), step: Some(step.clone()) }
    }
}

impl From<Unsure> for Forecast {
    fn from(Unsure { why, step }: Unsure) -> Self {
        Self::CannotSay { why, step }
    }
}
