//! Everything that differs, at once.

use std::collections::BTreeMap;

use orderfleet_messaging::{Binding, Counts, Difference, Found, Inspector, Item, Looked, Topology};
use serde::Serialize;

use super::management::{Management, ManagementError, Observed, ObservedQueue};

/// Everything that differs between the declared topology and the broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// Exchanges and queues that were compared.
    pub compared: usize,
    /// Whether bindings, all arguments of a queue and queues that nobody declares could be seen: only the management API
    /// tells them.
    pub bindings_visible: bool,
    /// What differs: exchanges, queues, bindings, in the order of their declaration.
    pub drifts: Vec<Drift>,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// `exchange`, `queue` or `binding`.
    pub kind: &'static str,
    /// The name; of a binding exchange, queue and routing key.
    pub name: String,
    /// How it differs.
    pub state: DriftState,
    /// The argument that differs. A queue that differs in several has a drift for each, as far as they are visible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// Its declared value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declared: Option<String>,
    /// Its value on the broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Messages it holds: all of them where the management API tells, else those that are ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages: Option<u64>,
    /// Its consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<u32>,
    /// What the broker said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The management API has said how many messages it holds, those on their way elsewhere among them.
    #[serde(skip)]
    pub(super) counted: bool,
}

/// How something differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftState {
    /// Declared, and not there.
    Missing,
    /// There with a property that cannot be changed.
    Different,
    /// There under a name of ours, and not declared. Nothing is done about it.
    Unexpected,
    /// The broker did not say.
    Unknown,
}

impl DriftState {
    /// The word for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Different => "different",
            Self::Unexpected => "unexpected",
            Self::Unknown => "unknown",
        }
    }
}

impl Diff {
    /// Whether everything that could be seen is as declared.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        self.drifts.is_empty()
    }
}

/// Compares everything and changes nothing. Over AMQP alone, each exchange and queue is compared, the first argument that
/// differs is told of each, and bindings are not visible.
///
/// # Errors
/// The management API was named and does not answer. Whatever the broker does not answer over AMQP is a drift of its own.
pub async fn diff(inspector: &Inspector, management: Option<&Management>) -> Result<Diff, ManagementError> {
    let topology = inspector.topology();
    let observed = match management {
        Some(management) => Some(management.observe(topology).await?),
        None => None,
    };
    Ok(compare(topology, inspector.look().await, observed.as_ref()))
}

/// Compares what was seen with what is declared.
pub(crate) fn compare(topology: &Topology, looked: Vec<Looked>, observed: Option<&Observed>) -> Diff {
    let compared = looked.len();
    let mut drifts: Vec<_> = looked
        .into_iter()
        .flat_map(|looked| {
            let observed = observed.and_then(|observed| observed.queues.get(looked.item.name()));
            drifts_of(topology, looked, observed)
        })
        .collect();
    if let Some(observed) = observed {
        drifts.extend(binding_drifts(topology, &observed.bindings));
        drifts.extend(unexpected_queues(topology, &observed.queues));
    }
    Diff { compared, bindings_visible: observed.is_some(), drifts }
}

fn drifts_of(topology: &Topology, looked: Looked, observed: Option<&ObservedQueue>) -> Vec<Drift> {
    let Looked { item, found, counts } = looked;
    // Statistics may still know what the broker has no more.
    let differing = match (&item, observed) {
        (Item::Queue(name), Some(observed)) if found != Found::Missing => {
            differing_arguments(topology, name, observed)
        }
        _ => Vec::new(),
    };
    let state = match &found {
        _ if !differing.is_empty() => DriftState::Different,
        Found::Equal => return Vec::new(),
        Found::Missing => DriftState::Missing,
        Found::Different(_) => DriftState::Different,
        Found::Unknown(_) => DriftState::Unknown,
    };
    let told = Drift { state, ..Drift::of(&item, counts, observed) }.telling(found);
    if differing.is_empty() {
        return vec![told];
    }
    let one = |(argument, declared, current)| Drift {
        argument: Some(argument),
        declared: Some(declared),
        current: Some(current),
        ..told.clone()
    };
    differing.into_iter().map(one).collect()
}

/// Argument, declared value and present one of each that differs.
fn differing_arguments(
    topology: &Topology,
    name: &str,
    observed: &ObservedQueue,
) -> Vec<(String, String, String)> {
    let declared = topology.queue_arguments(name).unwrap_or_default();
    let mut names: Vec<_> = declared.keys().chain(observed.arguments.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let value = |arguments: &BTreeMap<String, String>, name| {
        arguments.get(name).map_or_else(|| "none".to_owned(), Clone::clone)
    };
    names
        .into_iter()
        .map(|name| (name.clone(), value(&declared, name), value(&observed.arguments, name)))
        .filter(|(_, declared, current)| declared != current)
        .collect()
}

fn binding_drifts(topology: &Topology, present: &[Binding]) -> Vec<Drift> {
    let declared = topology.bindings();
    let missing = declared.iter().filter(|binding| !present.contains(binding));
    let missing = missing.map(|binding| Drift::named("binding", binding_name(binding), DriftState::Missing));
    let unexpected = present.iter().filter(|binding| !declared.contains(binding));
    let unexpected =
        unexpected.map(|binding| Drift::named("binding", binding_name(binding), DriftState::Unexpected));
    missing.chain(unexpected).collect()
}

fn unexpected_queues(topology: &Topology, present: &BTreeMap<String, ObservedQueue>) -> Vec<Drift> {
    let unexpected =
        present.iter().filter(|(name, _)| topology.queue_names().all(|declared| declared != *name));
    let drift = |(name, queue): (&String, &ObservedQueue)| Drift {
        state: DriftState::Unexpected,
        ..Drift::of(&Item::Queue(name.clone()), None, Some(queue))
    };
    unexpected.map(drift).collect()
}

/// As it is shown, and told apart from others by.
pub(super) fn binding_name(Binding { exchange, queue, routing_key }: &Binding) -> String {
    format!("{exchange}>{queue}:{routing_key}")
}

impl Drift {
    fn named(kind: &'static str, name: String, state: DriftState) -> Self {
        Self {
            kind,
            name,
            state,
            argument: None,
            declared: None,
            current: None,
            messages: None,
            consumers: None,
            text: None,
            counted: false,
        }
    }

    fn of(item: &Item, counts: Option<Counts>, observed: Option<&ObservedQueue>) -> Self {
        let total = observed.and_then(|queue| queue.messages);
        // What is ready is told by the queue's leader, the total from statistics that may be some seconds old.
        let ready = counts.map(|counts| u64::from(counts.ready));
        Self {
            messages: total.max(ready),
            consumers: counts.map(|counts| counts.consumers).or(observed.and_then(|queue| queue.consumers)),
            counted: total.is_some(),
            ..Self::named(item.kind(), item.name().to_owned(), DriftState::Unknown)
        }
    }

    fn telling(self, found: Found) -> Self {
        match found {
            Found::Different(Difference { argument, declared, current, text }) => {
                Self { argument, declared, current, text: Some(text), ..self }
            }
            Found::Unknown(text) => Self { text: Some(text), ..self },
            Found::Equal | Found::Missing => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology::new("t.", 1, 1_000, &["inventory".parse().unwrap()])
    }

    fn looked(item: Item, found: Found, counts: Option<Counts>) -> Looked {
        Looked { item, found, counts }
    }

    #[test]
    fn over_amqp_alone_everything_that_differs_is_told_with_its_first_argument() {
        let text = "inequivalent arg 'x-delivery-limit': received '20' but current is '7'".to_owned();
        let difference = Difference {
            argument: Some("x-delivery-limit".into()),
            declared: Some("20".into()),
            current: Some("7".into()),
            text,
        };
        let counts = Some(Counts { ready: 3, consumers: 1 });
        let queue = |name: &str| Item::Queue(name.into());
        let found = compare(
            &topology(),
            vec![
                looked(Item::Exchange("t.orders".into()), Found::Equal, None),
                looked(queue("t.orders.retry"), Found::Different(difference), counts),
                looked(queue("t.orders.replay"), Found::Missing, None),
                looked(queue("t.orders.compensate"), Found::Unknown("no leader".into()), None),
            ],
            None,
        );
        let told: Vec<_> = found.drifts.iter().map(|drift| (drift.name.as_str(), drift.state)).collect();
        assert_eq!(
            told,
            [
                ("t.orders.retry", DriftState::Different),
                ("t.orders.replay", DriftState::Missing),
                ("t.orders.compensate", DriftState::Unknown),
            ]
        );
        let retry = &found.drifts[0];
        assert_eq!(
            (retry.current.as_deref(), retry.messages, retry.consumers),
            (Some("7"), Some(3), Some(1))
        );
        assert!(!found.bindings_visible && found.compared == 4 && !found.is_equal());
    }

    #[test]
    fn with_the_management_api_each_argument_each_binding_and_each_unknown_queue_is_told() {
        let topology = topology();
        let mut arguments = topology.queue_arguments("t.orders.retry").unwrap();
        arguments.insert("x-delivery-limit".into(), "7".into());
        arguments.remove("x-overflow");
        let retry = ObservedQueue { arguments, messages: Some(9), ..ObservedQueue::default() };
        let left = ObservedQueue { messages: Some(2), ..ObservedQueue::default() };
        let mut bindings = topology.bindings().to_vec();
        let gone = bindings.remove(0);
        bindings.push(Binding {
            exchange: "t.orders".into(),
            queue: "t.orders.retry".into(),
            routing_key: "x".into(),
        });
        let observed = Observed {
            queues: [("t.orders.retry".into(), retry), ("t.orders.new.7".into(), left)].into(),
            bindings,
        };
        let item = Item::Queue("t.orders.retry".into());
        let found =
            compare(&topology, vec![looked(item, Found::Equal, Some(Counts::default()))], Some(&observed));
        let told: Vec<_> = found
            .drifts
            .iter()
            .map(|drift| {
                (drift.state.as_str(), drift.name.clone(), drift.argument.as_deref().unwrap_or_default())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("different", "t.orders.retry".to_owned(), "x-delivery-limit"),
                ("different", "t.orders.retry".to_owned(), "x-overflow"),
                ("missing", binding_name(&gone), ""),
                ("unexpected", "t.orders>t.orders.retry:x".to_owned(), ""),
                ("unexpected", "t.orders.new.7".to_owned(), ""),
            ]
        );
        assert_eq!(found.drifts[0].messages, Some(9), "more than what is ready");
    }
}
