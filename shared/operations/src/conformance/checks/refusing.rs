//! A business "no".

use orderfleet_domain::Order;

use crate::conformance::{
    answer::Meaning,
    case::{Breach, Case, Checked, Finding, broken},
};

pub(in crate::conformance) async fn refusal(case: &Case<'_>, refused: Option<&Order>) -> Checked {
    let Some(refused) = refused else {
        return Ok(Finding::Skipped("no order was given that this service refuses".into()));
    };
    let instance = case.instance();
    let call = case.to_do(&instance).with_body(case.body(&instance, refused, "the order to be refused"));
    let answer = case.settle(&call).await?;
    let code = match &answer.meaning {
        Meaning::Refused(code) => code,
        Meaning::Result(..) => {
            let found = "the service accepted it; give an order that it refuses, or let it refuse this one";
            return Err(Breach::Broken(found.into()));
        }
        _ => return Err(broken(&call, &answer)),
    };
    case.sees_one_of(&instance, &["none", "refused"]).await?;
    case.result(&case.to_undo(&instance)).await?;
    case.sees(&instance, "undone").await?;
    case.cancelled(&call).await?;
    Ok(Finding::Told(format!("refused as {code}")))
}
