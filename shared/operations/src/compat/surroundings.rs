//! What a candidate would start in: the collections and the topology that are there, and what its settings leave out.

use std::collections::BTreeSet;

use orderfleet_domain::{StepName, saga::DeadLetterQueue};
use orderfleet_messaging::{Found, Inspector, Looked};
use orderfleet_storage::{SchemaDifference, Store};

use super::{
    finding::{Kind, Reason, Tally},
    orders::chain,
};

/// Collections, validators and indexes. What a start makes or replaces is only noted.
pub(super) async fn collections(store: &Store) -> Kind {
    let mut tally = Tally::new("collections");
    match store.check_schema().await {
        Ok(differences) => {
            let (stopping, others): (Vec<_>, Vec<_>) =
                differences.into_iter().partition(|difference| difference.stops_a_start);
            for SchemaDifference { collection, what, fix, .. } in stopping {
                tally.misfit(None, Reason::DoesNotStart(format!("{collection}: {what}"), fix));
            }
            if !others.is_empty() {
                let count = others.len();
                tally.note(format!(
                    "{count} differences, at which a start does not fail: see orderfleet doctor"
                ));
            }
        }
        Err(error) => tally.unknown(format!("not looked at: {}", chain(&error))),
    }
    tally.end()
}

/// Exchanges and queues, as the settings declare them. What is missing, a start declares.
pub(super) fn topology(looked: &[Looked]) -> Kind {
    let mut tally = Tally::new("topology");
    for Looked { item, found, .. } in looked {
        let reason = match found {
            Found::Equal | Found::Missing => None,
            Found::Different(difference) => {
                let argument = difference.argument.as_deref().unwrap_or("a property");
                let what = format!("{item} is there with another {argument}");
                Some(Reason::DoesNotStart(what, "orderfleet topology plan".to_owned()))
            }
            Found::Unknown(why) => {
                tally.unknown(format!("{item}: {why}"));
                None
            }
        };
        tally.see(None, reason);
    }
    tally.end()
}

/// Queues that the settings do not declare and that hold messages: of further partitions, and of the steps that open orders
/// have pinned and the settings do not have.
pub(super) async fn leftovers(inspector: &Inspector, missing: &BTreeSet<StepName>) -> Kind {
    let mut tally = Tally::new("undeclared queues");
    match inspector.stranded().await {
        Ok(stranded) => {
            for (queue, counts) in stranded {
                if counts.is_none() {
                    tally.unknown(format!("{queue} does not tell what it holds"));
                    continue;
                }
                let setting = "raise broker.partitions so that it is declared";
                tally.see(None, [Reason::Undeclared(queue, setting.to_owned())]);
            }
        }
        Err(error) => tally.unknown(format!("not looked at: {}", chain(&error))),
    }
    for step in missing {
        let queue = inspector.topology().dead_letter_queue(&DeadLetterQueue::Step(step.clone()));
        match inspector.left_in(&queue).await {
            Ok(0) => {}
            Ok(_) => {
                let setting = format!("keep the [[steps]] entry named {step}");
                tally.see(None, [Reason::Undeclared(queue, setting)]);
            }
            Err(error) => tally.unknown(format!("{queue}: {}", chain(&error))),
        }
    }
    tally.end()
}
