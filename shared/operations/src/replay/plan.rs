//! The plan of a replay: which dead letters, and what would become of each. Nothing is changed by it.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use orderfleet_domain::{FailureFingerprint, StepName};
use orderfleet_storage::{Letter, LetterFilter, LetterPage, Store, StoreError};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::replay::{Course, judging::Orders};

/// Most dead letters of one plan: narrow the selection, and replay in parts.
const ITEMS_MAX: usize = 100_000;
const LETTERS_PER_CALL: u32 = 500;
/// Messages without an order read at once.
const READS: usize = 16;
const PLAN_ID_BYTES: usize = 5;

/// What a replay would do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Names this plan: another selection, or orders that stand differently by now, give another.
    pub id: String,
    /// What was asked for.
    pub selection: String,
    /// Every dead letter, oldest first.
    pub items: Vec<Planned>,
    /// Ids of those that were selected, too, and that this build cannot read: they stay as they are.
    pub unreadable: Vec<String>,
}

/// One dead letter of a plan.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The dead letter, without its reason, its answer and its attempts: a plan may hold 100,000 of them.
    pub letter: Letter,
    /// What would be done about it.
    pub course: Course,
}

/// Dead letters of a plan that failed in the same way and would be treated in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// How they failed.
    #[serde(rename = "failure_fingerprint")]
    pub fingerprint: FailureFingerprint,
    /// Where they are.
    pub queue: String,
    /// At which step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepName>,
    /// What kind of failure.
    pub class: String,
    /// How many.
    pub count: usize,
    /// What would be done about them, one stable word.
    pub course: &'static str,
    /// The same for people.
    pub what: String,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The database failed.
    #[error("the dead letters cannot be read")]
    Store(#[source] StoreError),
    /// Too many.
    #[error("more than {ITEMS_MAX} dead letters match")]
    TooMany,
}

/// Plans the replay of the open dead letters that a filter selects, `limit` at most, oldest first. It takes about a kilobyte of
/// memory for each.
///
/// # Errors
/// The database does not answer, or more than 100,000 match.
pub async fn plan(
    store: &Store,
    filter: &LetterFilter,
    selection: &str,
    limit: Option<usize>,
) -> Result<Plan, PlanError> {
    let limit = limit.unwrap_or(usize::MAX);
    let open = filter.clone().open();
    let (mut items, mut unreadable): (Vec<Planned>, Vec<String>) = Default::default();
    let mut after = None;
    while items.len() < limit {
        let page = store.list_letters(&open, after.as_ref(), LETTERS_PER_CALL).await;
        let LetterPage { mut letters, unreadable: beyond, next } = page.map_err(PlanError::Store)?;
        unreadable.extend(beyond);
        letters.truncate(limit - items.len());
        let orders = Orders::of(store, &letters).await.map_err(PlanError::Store)?;
        let planned = stream::iter(letters).map(|letter| orders.judge(store, slim(letter))).buffered(READS);
        items.extend(planned.try_collect::<Vec<_>>().await.map_err(PlanError::Store)?);
        if items.len() > ITEMS_MAX {
            return Err(PlanError::TooMany);
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    let id = plan_id(&items);
    Ok(Plan { id, selection: selection.to_owned(), items, unreadable })
}

/// What a plan needs to know of a letter.
fn slim(letter: Letter) -> Letter {
    Letter { reason: String::new(), answer: String::new(), attempts: Vec::new(), ..letter }
}

impl Plan {
    /// What would be done, group by group, the largest first.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut groups = BTreeMap::new();
        for Planned { letter, course } in &self.items {
            let key = (letter.fingerprint.clone(), letter.queue_name(), course.to_string());
            let group = groups.entry(key).or_insert_with(|| Group {
                fingerprint: letter.fingerprint.clone(),
                queue: letter.queue_name(),
                step: letter.step.clone(),
                class: letter.class.clone(),
                count: 0,
                course: course.as_str(),
                what: course.to_string(),
            });
            group.count += 1;
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        groups
    }

    /// How many of them would have a message published.
    #[must_use]
    pub fn published(&self) -> usize {
        self.items.iter().filter(|item| item.course.generation().is_some()).count()
    }
}

/// A fresh id for a replay.
///
/// # Errors
/// The operating system has no randomness.
pub fn new_id() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}

/// A few characters over what is planned for which dead letter.
fn plan_id(items: &[Planned]) -> String {
    let mut hash = Sha256::new();
    for Planned { letter, course } in items {
        // The correction's fingerprint is in it, so that another order is another plan.
        hash.update(format!("{}\0{course:?}\0", letter.id));
    }
    data_encoding::HEXLOWER.encode(&hash.finalize()[..PLAN_ID_BYTES])
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::{Fingerprint, Order};

    use super::*;
    use crate::replay::{
        Correction, Settled,
        fixtures::{letter, order},
    };

    fn planned(id: &str, course: Course) -> Planned {
        Planned { letter: Letter { id: id.into(), ..letter("fulfilment") }, course }
    }

    fn plan(items: Vec<Planned>) -> Plan {
        Plan { id: plan_id(&items), selection: "all".into(), items, unreadable: Vec::new() }
    }

    #[test]
    fn letters_that_failed_alike_are_one_group_for_each_thing_that_would_be_done() {
        let release =
            |hold: &str, is_undoing| Course::Release { hold: hold.into(), generation: 1, is_undoing };
        let plan = plan(vec![
            planned("a", Course::Settled(Settled::Done)),
            planned("b", release("h1", true)),
            planned("c", release("h2", true)),
            planned("d", release("h3", false)),
            planned("e", Course::Run { generation: 2, correction: None }),
            planned("f", Course::Run { generation: 2, correction: None }),
            planned("g", Course::Run { generation: 2, correction: None }),
        ]);
        let told: Vec<_> = plan.groups().into_iter().map(|group| (group.count, group.what)).collect();
        assert_eq!(
            told[..2],
            [
                (3, "starts run 2, from the first step".to_owned()),
                (2, "goes on being undone where it stands".to_owned()),
            ]
        );
        assert_eq!((told.len(), plan.published()), (4, 6));
    }

    #[test]
    fn another_letter_or_another_course_is_another_plan() {
        let id = |items: &[(&str, u32)]| {
            let item = |(id, generation): &(&str, u32)| {
                planned(id, Course::Run { generation: *generation, correction: None })
            };
            plan(items.iter().map(item).collect()).id
        };
        let first = id(&[("a", 2), ("b", 2)]);
        assert_eq!(first, id(&[("a", 2), ("b", 2)]));
        for other in [&[("a", 2)][..], &[("a", 2), ("c", 2)], &[("a", 2), ("b", 3)], &[("b", 2), ("a", 2)]] {
            assert_ne!(first, id(other), "{other:?}");
        }
        assert_eq!(first.len(), 2 * PLAN_ID_BYTES);
        let corrected = |order: &Order| {
            let correction = Some(Correction { letter: "a".into(), fp: Fingerprint::of(order) });
            plan(vec![planned("a", Course::Run { generation: 2, correction })]).id
        };
        let otherwise = Order { metadata: [("a".into(), "b".into())].into(), ..order() };
        assert_eq!(corrected(&order()), corrected(&order()));
        assert_ne!(corrected(&order()), corrected(&otherwise), "kept with the same letter");
    }

    #[test]
    fn a_plan_keeps_nothing_of_a_letter_that_grows_with_its_attempts() {
        let whole = letter("fulfilment");
        let slim = slim(whole.clone());
        assert!(!whole.attempts.is_empty() && slim.attempts.is_empty());
        assert!(slim.reason.is_empty() && slim.answer.is_empty());
        assert_eq!((slim.id, slim.step, slim.class), (whole.id, whole.step, whole.class));
    }
}
