//! Open orders: whether this build's decoder reads them, its saga core works them, and its settings have their steps.

use std::{collections::BTreeSet, pin::pin};

use futures_util::TryStreamExt as _;
use jiff::Timestamp;
use orderfleet_domain::{
    Command, CommandKind, StepName,
    saga::{
        DOCUMENT_VERSION, DeadLetterQueue, Delivered, Effect, Handling, Input, Lane, Moment, Nonce, Phase,
        Policy, Publication, Record, StoreReply, WorkerId,
    },
};
use orderfleet_storage::{Open, OrderView, StoreError, SurveyedOrder};

use super::{
    Candidate,
    finding::{Kind, Reason, Tally},
};

/// Longest way of the core from a delivery to what it means: claim, read, answer.
const EFFECTS_MAX: usize = 4;

/// Looks at the orders of a kind; `missing` gets the steps of theirs that the settings do not have.
pub(super) async fn examine(
    candidate: &Candidate<'_>,
    open: Open,
    missing: &mut BTreeSet<StepName>,
    tell: &mut impl FnMut(&str, u64),
) -> Kind {
    let name = name(open);
    let mut tally = Tally::new(name);
    let judged = judge_all(candidate, open, missing, &mut tally, |seen| tell(name, seen)).await;
    if let Err(error) = judged {
        tally.unknown(format!("not read to the end: {}", chain(&error)));
    }
    tally.end()
}

async fn judge_all(
    candidate: &Candidate<'_>,
    open: Open,
    missing: &mut BTreeSet<StepName>,
    tally: &mut Tally,
    mut tell: impl FnMut(u64),
) -> Result<(), StoreError> {
    let Candidate { store, policy, documents_max, .. } = *candidate;
    let mut orders = pin!(store.survey_orders(open, documents_max).await?);
    let mut seen = 0;
    while let Some(order) = orders.try_next().await? {
        let reasons = judge(policy, open, &order);
        missing.extend(reasons.iter().filter_map(|reason| match reason {
            Reason::StepMissing(step) => Some(step.clone()),
            _ => None,
        }));
        seen = tally.see(Some(&order.id), reasons);
        tell(seen);
    }
    if seen >= u64::from(documents_max) {
        tally.unknown(format!("the first {seen}; there may be more"));
    }
    for id in store.orders_refused(open, documents_max).await? {
        tally.misfit(Some(&id), Reason::FailsValidation);
    }
    Ok(())
}

fn name(open: Open) -> &'static str {
    match open {
        Open::UnderWay => "orders under way",
        Open::Owing => "orders that owe a publish",
        Open::Again => "orders that may run again",
    }
}

/// Why this build cannot go on with an order.
fn judge(policy: &Policy, open: Open, order: &SurveyedOrder) -> Vec<Reason> {
    if order.version > DOCUMENT_VERSION {
        return vec![Reason::NewerDocument(order.version)];
    }
    let view = match &order.order {
        Ok(view) => view,
        Err(why) => return vec![Reason::UnreadableDocument(why.clone())],
    };
    if let Some(why) = refused(policy, view) {
        return vec![Reason::Refused(why)];
    }
    let needed = steps_needed(open, &view.record);
    needed.into_iter().filter(|step| policy.step(step).is_none()).map(Reason::StepMissing).collect()
}

/// Why the saga core would park a message about it.
fn refused(policy: &Policy, view: &OrderView) -> Option<String> {
    let record = &view.record;
    let lane = match record.phase {
        Phase::Comp if record.is_consistent() => Lane::Compensate(record.failed_step().clone()),
        _ => Lane::Retry,
    };
    let command = Command {
        order_id: view.order_id.clone(),
        account: view.account.clone(),
        generation: record.generation,
        fp: None,
        kind: CommandKind::Resume {},
    };
    let delivered = Delivered { command, redelivered: true, lane };
    let mut handling = Handling::new(delivered, WorkerId("compat".into()));
    let now = Timestamp::now().as_millisecond();
    let moment = Moment { now, nonce: Nonce::default(), blocked: false, draining: false };
    let mut input = Input::Delivered;
    for _ in 0..EFFECTS_MAX {
        input = Input::Store(match handling.on(policy, &moment, input) {
            Effect::Claim(_) if record.phase.is_terminal() || record.hold.is_some() => StoreReply::NoMatch,
            Effect::Claim(_) => StoreReply::Claimed(Box::new(record.clone())),
            Effect::Read => StoreReply::Found(Some(Box::new(record.clone()))),
            Effect::Publish(publications) => return publications.into_iter().find_map(poison),
            _ => return None,
        });
    }
    None
}

fn poison(publication: Publication) -> Option<String> {
    match publication {
        Publication::DeadLetter { queue: DeadLetterQueue::Poison, reason, .. } => Some(reason),
        _ => None,
    }
}

/// Steps whose service or whose queue of dead letters an order may still come to need.
fn steps_needed(open: Open, record: &Record) -> BTreeSet<StepName> {
    let all = record.steps.iter().cloned();
    match (open, record.phase) {
        (Open::UnderWay, Phase::Comp) => {
            let left = all.take(record.cur as usize + 1);
            left.chain([record.failed_step().clone()]).collect()
        }
        (Open::Owing, Phase::Undone) if !record.is_final => [record.failed_step().clone()].into(),
        (Open::Owing, _) => BTreeSet::new(),
        (Open::UnderWay | Open::Again, _) => all.collect(),
    }
}

/// An error with all its causes, none of which repeats a document.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use orderfleet_domain::{
        Fingerprint, Order, OrderId,
        saga::{Cause, CauseClass, Hold, StepSettings},
    };

    use super::*;

    fn policy() -> Policy {
        Policy::new(StepSettings::defaults(), 0).unwrap()
    }

    fn order(change: impl FnOnce(&mut Record)) -> SurveyedOrder {
        let order: Order = serde_json::from_value(serde_json::json!({
            "channel": "retail", "currency": "GBP", "payment_ref": "p", "ship_to": {},
            "lines": [{"sku": "A", "quantity": 1, "unit_price": "1"}]
        }))
        .unwrap();
        let account: orderfleet_domain::AccountId = "demo".parse().unwrap();
        let order_id = OrderId::derive(&"eu1".parse().unwrap(), &account, &"k".parse().unwrap());
        let steps = ["inventory", "customs", "accounting"].map(|step| step.parse().unwrap());
        let mut record =
            Record::first(Fingerprint::of(&order), steps.to_vec(), WorkerId("w".into()), 0, Nonce(1));
        change(&mut record);
        let at = Timestamp::UNIX_EPOCH;
        let version = record.sv;
        let view = OrderView {
            order_id,
            account,
            order,
            correction: None,
            record,
            history: Vec::new(),
            conflicts: 0,
            accepted_at: at,
            created_at: at,
            updated_at: at,
        };
        SurveyedOrder { id: view.order_id.to_string(), version, order: Ok(Box::new(view)) }
    }

    fn cause(step: &str) -> Option<Cause> {
        let class = CauseClass::AttemptsExhausted;
        Some(Cause { class, step: step.parse().unwrap(), code: None, message: String::new(), rev: 1 })
    }

    fn missing(step: &str) -> Reason {
        Reason::StepMissing(step.parse().unwrap())
    }

    #[test]
    fn a_pinned_step_is_missed_only_where_the_order_may_still_need_it() {
        let judged = |open, change: fn(&mut Record)| judge(&policy(), open, &order(change));
        assert_eq!(judged(Open::UnderWay, |_| {}), [missing("customs")]);
        assert_eq!(judged(Open::Again, |record| record.phase = Phase::Undone), [missing("customs")]);
        let undoing_the_first = |record: &mut Record| {
            (record.phase, record.cause) = (Phase::Comp, cause("inventory"));
        };
        assert_eq!(judged(Open::UnderWay, undoing_the_first), []);
        let after_customs = |record: &mut Record| {
            (record.phase, record.cur, record.hi, record.cause) = (Phase::Comp, 2, 2, cause("accounting"));
        };
        assert_eq!(judged(Open::UnderWay, after_customs), [missing("customs")]);
        let done = |record: &mut Record| (record.phase, record.evp) = (Phase::Done, true);
        assert_eq!(judged(Open::Owing, done), []);
        let failed = |record: &mut Record| {
            (record.phase, record.evp, record.cause) = (Phase::Undone, true, cause("customs"));
        };
        assert_eq!(judged(Open::Owing, failed), [missing("customs")], "its dead letter has no queue");
    }

    #[test]
    fn what_the_decoder_or_the_core_does_not_take_is_told_apart() {
        let newer = order(|record| record.sv = DOCUMENT_VERSION + 1);
        assert_eq!(judge(&policy(), Open::UnderWay, &newer), [Reason::NewerDocument(DOCUMENT_VERSION + 1)]);
        let unreadable = SurveyedOrder { order: Err("at key phase".into()), ..order(|_| {}) };
        let why = Reason::UnreadableDocument("at key phase".into());
        assert_eq!(judge(&policy(), Open::UnderWay, &unreadable), [why]);
        let inconsistent = order(|record| record.cur = 7);
        let judged = judge(&policy(), Open::UnderWay, &inconsistent);
        assert!(matches!(judged[..], [Reason::Refused(_)]), "{judged:?}");
    }

    #[test]
    fn a_held_order_is_no_misfit() {
        let held = order(|record| {
            let (id, step) = ("h".to_owned(), record.steps[0].clone());
            record.hold = Some(Hold { id, step, reason: String::new(), at: 0 });
            record.steps.remove(1);
        });
        assert_eq!(judge(&policy(), Open::UnderWay, &held), []);
    }
}
