//! What a check found out, rule by rule.

use serde::Serialize;

use super::rules::Rule;

/// What is told while a check runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A rule is being checked.
    Begins(&'a Rule),
    /// So many rounds of this rule are over.
    Round {
        /// Rounds that are over.
        done: u32,
        /// Rounds in all.
        of: u32,
    },
    /// A rule's verdict is there.
    Judged(&'a RuleReport),
    /// The check was stopped, and this many step instances are being undone.
    Undoing {
        /// How many there are.
        instances: usize,
    },
}

/// Everything a check found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Base URL of the service.
    pub url: String,
    /// The account that the calls named.
    pub account: String,
    /// The step that the calls named.
    pub step: String,
    /// What every order id of this run begins with.
    pub order_ids: String,
    /// How many rules had which verdict.
    pub counts: Counts,
    /// Step instances that were used.
    pub instances: u32,
    /// Calls that were sent.
    pub calls: u64,
    /// Step instances that could not be undone, as far as is known. Empty: all were.
    pub left_behind: Vec<LeftBehind>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// Whether the service could not be reached any more before the end.
    pub unreachable: bool,
    /// Every rule, in the order in which they were checked.
    pub rules: Vec<RuleReport>,
}

/// How many rules had which verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the verdicts name themselves")]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub warnings: u32,
    pub skipped: u32,
}

/// What was found out about one rule.
#[derive(Debug, Clone, Serialize)]
pub struct RuleReport {
    /// The rule's name; it does not change.
    pub rule: &'static str,
    /// What was found out.
    pub verdict: Verdict,
    /// Where docs/DOWNSTREAM.md says so.
    pub section: &'static str,
    /// What was expected.
    pub expected: &'static str,
    /// What was found instead, why it was skipped, or what else is worth knowing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    /// How to mend it, where there is something to mend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<&'static str>,
    /// Calls that were sent for this rule.
    pub calls: u64,
    /// The last of these calls, at most twelve.
    pub exchanges: Vec<Exchange>,
    /// How long it took.
    pub took_ms: u64,
}

/// The verdict on a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The service keeps it, as far as can be seen from outside.
    Passed,
    /// The service breaks it.
    Failed,
    /// The service keeps it, but will not do well in production.
    Warning,
    /// Not checked.
    Skipped,
}

/// A call and its answer. Bodies that were sent are only named.
#[derive(Debug, Clone, Serialize)]
pub struct Exchange {
    /// `PUT` is do, `DELETE` is undo, `GET` is look, and `POST` is a do in a batch.
    pub method: String,
    /// The step instance.
    pub instance: String,
    /// A part that was put into the path before the instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub astray: Option<&'static str>,
    /// The `Idempotency-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The `Orderfleet-Fence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<u64>,
    /// Which body was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<&'static str>,
    /// The answer's status; none: there was no answer.
    pub status: Option<u16>,
    /// The first 200 characters of the answer, on one line, without secrets that were sent; or why there is none.
    pub answer: String,
    /// How long it took.
    pub took_ms: u64,
}

/// A step instance that may still be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftBehind {
    /// The step instance.
    pub instance: String,
    /// What came of undoing it.
    pub why: String,
}

impl Counts {
    pub(super) fn of(rules: &[RuleReport]) -> Self {
        let mut counts = Self::default();
        for rule in rules {
            let count = match rule.verdict {
                Verdict::Passed => &mut counts.passed,
                Verdict::Failed => &mut counts.failed,
                Verdict::Warning => &mut counts.warnings,
                Verdict::Skipped => &mut counts.skipped,
            };
            *count += 1;
        }
        counts
    }
}

impl Verdict {
    /// The word used in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Warning => "warning",
            Self::Skipped => "skipped",
        }
    }
}
