//! One effect, however often it is asked for.

use futures_util::future::join_all;
use orderfleet_domain::{Money, Order};
use serde_json::Value;

use crate::conformance::{
    answer::{Answer, Meaning},
    call::Call,
    case::{Breach, Case, Checked, Finding, broken, require},
};

const AT_ONCE: usize = 8;
/// The same worker again, then two that took charge after it.
const FENCES_OF_REPEATS: [u64; 3] = [1, 2, 7];

pub(in crate::conformance) async fn do_repeated(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let call = case.to_do(&instance);
    let recorded = case.result(&call).await?;
    for fence in FENCES_OF_REPEATS {
        case.same_result(&call.clone().with_fence(fence), &recorded).await?;
    }
    case.sees_done_with(&instance, &recorded).await?;
    Ok(Finding::Kept)
}

/// A body that differs under the same key never comes from orderfleet; here it makes a second effect visible.
pub(in crate::conformance) async fn do_judged_once(case: &Case<'_>) -> Checked {
    let changed = changed(case.order());
    let what = "the order, one quantity changed";
    let (instance, other) = (case.instance(), case.instance());
    let call = case.to_do(&instance);
    let recorded = case.result(&call).await?;

    let of_changed = case.to_do(&other).with_body(case.body(&other, &changed, what));
    match case.settle(&of_changed).await?.meaning {
        Meaning::Result(result, _) if result != recorded => {}
        Meaning::Result(..) => {
            let why = "results are the same whatever is ordered, so a second effect could not be told from the first; \
                       put an id or an amount into them";
            return Ok(Finding::Skipped(why.into()));
        }
        _ => {
            return Ok(Finding::Skipped(
                "the service does not accept the order with a quantity changed".into(),
            ));
        }
    }

    let again = call.clone().with_body(case.body(&instance, &changed, what).odd());
    let answer = case.persist(&again, Answer::is_final).await?;
    match &answer.meaning {
        Meaning::Result(result, _) => require(*result == recorded, || {
            format!("a repeat had another effect: it answered {result}, and the first do {recorded}")
        })?,
        _ if answer.is_client_error() => {}
        _ => return Err(broken(&again, &answer)),
    }
    case.same_result(&call, &recorded).await?;
    case.sees_done_with(&instance, &recorded).await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn do_concurrent(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let recorded = all_the_same(case, &case.to_do(&instance)).await?;
    case.sees_done_with(&instance, &recorded).await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn do_other_key(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let call = case.to_do(&instance);
    let recorded = case.result(&call).await?;
    let other = call.clone().with_another_key();
    let answer = case.settle(&other).await?;
    let said = match &answer.meaning {
        Meaning::KeyMismatch => "answers key_mismatch",
        Meaning::Result(result, _) if *result == recorded => "answers the recorded result",
        Meaning::Result(result, _) => {
            return Err(Breach::Broken(format!("it answered {result}, and the first do {recorded}")));
        }
        _ => return Err(broken(&other, &answer)),
    };
    case.sees_done_with(&instance, &recorded).await?;
    case.same_result(&call, &recorded).await?;
    Ok(Finding::Told(said.into()))
}

pub(in crate::conformance) async fn undo_repeated(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    case.result(&case.to_do(&instance)).await?;
    let call = case.to_undo(&instance);
    let recorded = case.result(&call).await?;
    for fence in FENCES_OF_REPEATS {
        case.same_result(&call.clone().with_fence(fence), &recorded).await?;
    }
    case.sees(&instance, "undone").await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn undo_concurrent(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    case.result(&case.to_do(&instance)).await?;
    all_the_same(case, &case.to_undo(&instance)).await?;
    case.sees(&instance, "undone").await?;
    Ok(Finding::Kept)
}

/// Sends a call several times at once. Whoever has no definite answer asks again; then all must have the same result.
async fn all_the_same(case: &Case<'_>, call: &Call) -> Result<Value, Breach> {
    let answers = join_all((0..AT_ONCE).map(|_| case.send(call))).await;
    let recorded = case.result(call).await?;
    for answer in answers {
        match &answer.meaning {
            Meaning::Result(result, _) => require(*result == recorded, || {
                format!("of {AT_ONCE} at once, one answered {result}, and another {recorded}")
            })?,
            _ if !answer.is_definite() => {}
            _ => return Err(broken(call, &answer)),
        }
    }
    Ok(recorded)
}

/// The same order for one piece more or less of something that has a price.
fn changed(order: &Order) -> Order {
    let mut order = order.clone();
    if let Some(line) = order.lines.iter_mut().find(|line| line.unit_price > Money::ZERO) {
        line.quantity = if line.quantity == 1 { 2 } else { line.quantity - 1 };
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::made_up_order;

    #[test]
    fn a_changed_order_has_another_total() {
        let order = made_up_order();
        assert_ne!(changed(&order).total(), order.total());
    }
}
