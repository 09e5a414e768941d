//! The broker: whether it is there for us, and whether its topology is ours.

use orderfleet_domain::saga::Policy;
use orderfleet_messaging::{ConnectError, Counts, Inspector, Topology};
use orderfleet_storage::{Pause, Store, StoreError};

use super::{
    CHECK_TIMEOUT, Finding, Judgement, Subject, chain, check, not_made,
    probe::{alarms, grant, permissions},
    queues::{self, Seen},
    replicas::replicas,
    version, within,
};
use crate::topology::{Diff, DriftState, Observed, compare};

const APP_NAME: &str = "orderfleet doctor";
/// The first with what the topology needs: at-least-once dead-lettering.
const VERSION_MIN: (u32, u32) = (3, 10);
/// What needs a connection, beside what is seen in a look at every queue.
const NEED_BROKER: [&str; 4] = ["broker version", "broker permissions", "broker alarms", "partitions"];
const SEEN_IN_A_LOOK: [&str; 8] = [
    "queue type",
    "consumers",
    "dead letters",
    "quarantine",
    "queue replicas",
    "topology",
    "bindings",
    "leftovers",
];
/// Of the management API that does not answer us.
pub(super) const MANAGEMENT_FIX: &str =
    "rabbitmq-plugins enable rabbitmq_management; rabbitmqctl set_user_tags USER monitoring";

pub(super) async fn examine(subject: &Subject) -> Vec<Finding> {
    let Ok(policy) = &subject.steps else {
        let names = ["broker"].into_iter().chain(NEED_BROKER).chain(SEEN_IN_A_LOOK);
        return not_made(
            names,
            "not looked at: the steps of the settings are wrong",
            "correct the steps first",
        );
    };
    let settings = &subject.broker;
    let topology =
        Topology::new(&settings.prefix, settings.partitions, settings.new_bytes_max, &policy.step_names());
    let connecting = within(CHECK_TIMEOUT, Inspector::connect(settings, topology, APP_NAME));
    let inspector = match connecting.await {
        Ok(Ok(inspector)) => inspector,
        Ok(Err(error)) => return without_broker(cannot_connect(&error, subject)),
        Err(late) => return without_broker(late),
    };
    let mut findings = vec![connected(subject).of("broker")];
    findings.extend(look_around(subject, policy, &inspector).await);
    inspector.close().await;
    findings
}

async fn look_around(subject: &Subject, policy: &Policy, inspector: &Inspector) -> Vec<Finding> {
    let declared = inspector.topology();
    let (version, probed, refusals, partitions, looked, observed, pauses) = tokio::join!(
        check("broker version", broker_version(inspector)),
        within(CHECK_TIMEOUT, inspector.probe()),
        within(CHECK_TIMEOUT, inspector.refusals()),
        check("partitions", partitions(inspector)),
        within(CHECK_TIMEOUT, inspector.look()),
        observe(subject, declared),
        within(CHECK_TIMEOUT, pauses(subject)),
    );
    let permissions = permissions(&looked, &refusals, &probed, &grant(subject, declared));
    let mut findings = vec![version, permissions.of("broker permissions")];
    findings.extend([alarms(probed).of("broker alarms"), partitions]);
    let looked = match looked {
        Ok(looked) => looked,
        Err(late) => {
            findings.extend(SEEN_IN_A_LOOK.map(|name| late.clone().of(name)));
            return findings;
        }
    };
    // Without the database nobody knows of a pause; the check `database` tells that it is away.
    let pauses = pauses.ok().and_then(Result::ok).unwrap_or_default();
    let seen = Seen { looked: &looked, topology: declared, policy, pauses: &pauses };
    for (name, judge) in queues::CHECKS {
        findings.push(judge(&seen).of(name));
    }
    findings.push(replicas(&observed, declared).of("queue replicas"));
    let diff = compare(declared, looked, observed.as_ref().ok());
    findings.push(topology(&diff).of("topology"));
    findings.push(bindings(&diff, observed.err()).of("bindings"));
    findings.push(leftovers(&diff).of("leftovers"));
    findings
}

/// What the management API tells; or why it does not, as far as one was named.
async fn observe(subject: &Subject, topology: &Topology) -> Result<Observed, Option<String>> {
    let Some(management) = &subject.management else { return Err(None) };
    match within(CHECK_TIMEOUT, management.observe(topology)).await {
        Ok(observed) => observed.map_err(|error| Some(chain(&error))),
        Err(late) => Err(Some(format!("the management API: {}", late.found))),
    }
}

async fn pauses(subject: &Subject) -> Result<Vec<Pause>, StoreError> {
    Store::connect(&subject.database, APP_NAME).await?.pauses((subject.clock)().as_millisecond()).await
}

fn without_broker(broker: Judgement) -> Vec<Finding> {
    let mut findings = vec![broker.of("broker")];
    let names = NEED_BROKER.into_iter().chain(SEEN_IN_A_LOOK);
    findings.extend(not_made(
        names,
        "not looked at: there is no connection to the broker",
        "see the check `broker`",
    ));
    findings
}

fn connected(subject: &Subject) -> Judgement {
    match subject.broker.login() {
        Ok(login) => Judgement::ok(format!("{} lets {} into {}", login.host, login.username, login.vhost)),
        Err(_) => Judgement::ok("it lets us in"),
    }
}

fn cannot_connect(error: &ConnectError, subject: &Subject) -> Judgement {
    let found = error.told_without_secrets(&subject.broker);
    let fix = if error.is_refusal() {
        "set user, password and virtual host of broker.url right; `rabbitmqctl authenticate_user USER PASSWORD` and \
         `rabbitmqctl list_permissions -p VHOST` tell what is"
    } else if error.is_transient() {
        "start the broker, or set broker.url (ORDERFLEET_AMQP_URL) to where it is; `orderfleet up` starts one here"
    } else {
        "correct the named setting"
    };
    Judgement::error(found, fix)
}

async fn broker_version(inspector: &Inspector) -> Judgement {
    match inspector.version().await {
        Ok(text) => match version(&text) {
            Some(found) if found >= VERSION_MIN => Judgement::ok(format!("RabbitMQ {text}")),
            Some(_) => {
                Judgement::error(format!("RabbitMQ {text} is too old"), "update the broker to 3.10 or newer")
            }
            None => Judgement::unknown(format!("a broker of version {text}"), "rabbitmqctl version"),
        },
        Err(error) => Judgement::unknown(chain(&error), "rabbitmqctl version"),
    }
}

/// Orders in partitions that these settings do not have.
async fn partitions(inspector: &Inspector) -> Judgement {
    let declared = inspector.topology().partitions();
    let fix = "rabbitmqctl list_queues name messages consumers";
    let stranded = match inspector.stranded().await {
        Ok(stranded) if stranded.is_empty() => {
            return Judgement::ok(format!("no orders are beyond the {declared} of broker.partitions"));
        }
        Ok(stranded) => stranded,
        Err(error) => {
            return Judgement::unknown(chain(&error), fix);
        }
    };
    let told = |(queue, counts): &(String, Option<Counts>)| match counts {
        Some(Counts { ready, consumers }) => {
            format!("{queue} has {ready} messages and {consumers} consumers")
        }
        None => format!("{queue} does not answer"),
    };
    let told = stranded.iter().map(told).collect::<Vec<_>>().join("; ");
    let found = format!("beyond the {declared} of broker.partitions: {told}");
    if stranded.iter().all(|(_, counts)| counts.is_none()) {
        return Judgement::unknown(found, fix);
    }
    Judgement::error(
        found,
        "put broker.partitions of the workers back to what it was until these queues are empty, then delete them",
    )
}

fn topology(diff: &Diff) -> Judgement {
    let own: Vec<_> = diff
        .drifts
        .iter()
        .filter(|drift| drift.kind != "binding" && drift.state != DriftState::Unexpected)
        .collect();
    if own.is_empty() {
        return Judgement::ok(format!("{} exchanges and queues are as declared", diff.compared));
    }
    let told = own.iter().map(|drift| {
        let argument = drift.argument.as_ref().map(|argument| format!(" in {argument}"));
        format!("{} {} is {}{}", drift.kind, drift.name, drift.state.as_str(), argument.unwrap_or_default())
    });
    let told: Vec<_> = told.collect();
    let fix = "orderfleet topology plan";
    if own.iter().all(|drift| drift.state == DriftState::Unknown) {
        return Judgement::unknown(told.join("; "), fix);
    }
    Judgement::error(told.join("; "), fix)
}

/// `trouble` is why they are not visible, where that is of interest.
fn bindings(diff: &Diff, trouble: Option<Option<String>>) -> Judgement {
    match trouble {
        None => {}
        Some(None) => {
            let fix = "name the management API with --management-url; `orderfleet topology apply --yes --reason TEXT` makes \
                       any that is missing";
            return Judgement::unknown("not visible over AMQP", fix);
        }
        Some(Some(why)) => {
            return Judgement::unknown(why, MANAGEMENT_FIX);
        }
    }
    let missing =
        diff.drifts.iter().filter(|drift| drift.kind == "binding" && drift.state == DriftState::Missing);
    let missing: Vec<_> = missing.map(|drift| drift.name.as_str()).collect();
    if missing.is_empty() {
        return Judgement::ok("all are there");
    }
    Judgement::error(
        format!("missing: {}", missing.join(", ")),
        "orderfleet topology apply --yes --reason TEXT",
    )
}

/// What is under our names and nobody declares: queues of former settings may still hold orders.
fn leftovers(diff: &Diff) -> Judgement {
    if !diff.bindings_visible {
        return Judgement::unknown(
            "not visible over AMQP",
            "rabbitmqctl list_queues name messages consumers",
        );
    }
    let left = diff.drifts.iter().filter(|drift| drift.state == DriftState::Unexpected);
    let left: Vec<_> = left
        .map(|drift| {
            format!("{} {} ({} messages)", drift.kind, drift.name, drift.messages.unwrap_or_default())
        })
        .collect();
    if left.is_empty() {
        return Judgement::ok("none");
    }
    let fix = "put the settings back under which they were declared until they are empty, then delete them";
    Judgement::warning(format!("not declared: {}", left.join(", ")), fix)
}
