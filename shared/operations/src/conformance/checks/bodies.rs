//! Odd requests: what must be accepted all the same, and what must not.

use orderfleet_domain::{LINES_MAX, Order};
use serde_json::{Value, json};

use crate::conformance::{
    answer::{Answer, Meaning},
    call::{Body, Instance},
    case::{Case, Checked, Finding, broken, require},
};

const KEY_CHARS_MAX: usize = 255;

pub(in crate::conformance) async fn unknown_fields(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let mut body = case.body_value(&instance, case.order());
    let unknown = json!({ "of": ["the", "future"] });
    for object in ["", "/order", "/order/ship_to", "/order/lines/0"] {
        if let Some(Value::Object(fields)) = body.pointer_mut(object) {
            fields.insert("a_field_of_the_future".into(), unknown.clone());
        }
    }
    let body = Body::new(&body, "the order, with unknown fields");
    case.result(&case.to_do(&instance).with_body(body)).await?;
    case.sees(&instance, "done").await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn large_order(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let body = case.body(&instance, &large(case.order()), "2,000 lines made of the order's, of quantity 1");
    let call = case.to_do(&instance).with_body(body);
    let answer = case.settle(&call).await?;
    match &answer.meaning {
        Meaning::Result(..) => Ok(Finding::Kept),
        Meaning::Refused(code) => Ok(Finding::Told(format!("refused as {code}"))),
        _ => Err(broken(&call, &answer)),
    }
}

pub(in crate::conformance) async fn malformed_body(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let call = case.to_do(&instance);
    let body = case.body(&instance, case.order(), "the order").cut_off();
    let call = call.with_body(body);
    let answer = case.persist(&call, Answer::is_final).await?;
    require(answer.is_client_error(), || format!("half a body was answered {}, not 4xx", answer.words()))?;
    case.sees(&instance, "none").await?;
    Ok(Finding::Kept)
}

pub(in crate::conformance) async fn wrong_path(case: &Case<'_>) -> Checked {
    let instance = case.instance();
    let call = case.to_do(&instance).astray("no-such-path");
    let answer = case.persist(&call, |answer| answer.status.is_some()).await?;
    require(!answer.is_success(), || format!("a path that is none was answered {}", answer.words()))?;
    if answer.meaning == Meaning::Denied {
        return Ok(Finding::Kept);
    }
    Ok(Finding::Told(format!("{}; 404 would say more", answer.words())))
}

pub(in crate::conformance) async fn bounds(case: &Case<'_>) -> Checked {
    let (highest, lowest) = (case.instance(), case.instance());
    let key = |last: char| longest_key(&highest, last);
    let at_highest = case.to_do(&highest).with_key(key('a')).with_fence(u64::MAX);
    let at_lowest = case.to_do(&lowest).with_key(key('b')).with_fence(u64::MIN);
    let recorded = case.result(&at_highest).await?;
    case.same_result(&at_highest, &recorded).await?;
    case.sees(&lowest, "none").await?;
    let recorded = case.result(&at_lowest).await?;
    case.same_result(&at_lowest, &recorded).await?;
    case.sees(&highest, "done").await?;
    case.sees(&lowest, "done").await?;
    case.result(&case.to_undo(&highest).with_key(key('c')).with_fence(u64::MAX)).await?;
    case.result(&case.to_undo(&lowest).with_key(key('d')).with_fence(u64::MIN)).await?;
    case.sees(&highest, "undone").await?;
    case.sees(&lowest, "undone").await?;
    Ok(Finding::Kept)
}

/// As many lines as an order can have, each of one piece.
fn large(order: &Order) -> Order {
    let mut lines: Vec<_> = order.lines.iter().cycle().take(LINES_MAX).cloned().collect();
    for line in &mut lines {
        line.quantity = 1;
    }
    Order { lines, ..order.clone() }
}

/// A key that no other check uses, with every visible ASCII character in it, and this one at its end.
fn longest_key(instance: &Instance, last: char) -> String {
    let visible = ('!'..='~').cycle();
    let mut key: String = instance.name().chars().chain(visible).take(KEY_CHARS_MAX - 1).collect();
    key.push(last);
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::made_up_order;

    #[test]
    fn a_large_order_is_as_large_as_orders_get_and_still_one() {
        let large = large(&made_up_order());
        let json = serde_json::to_value(&large).unwrap();
        assert_eq!(serde_json::from_value::<Order>(json).unwrap().lines.len(), LINES_MAX);
    }
}
