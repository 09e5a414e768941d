//! The broker: whether it is there for us, and whether its topology is ours.

use orderfleet_domain::saga::Policy;
use orderfleet_messaging::{ConnectError, InspectionError, Inspector, Looked, Probe, Topology};

use super::{CHECK_TIMEOUT, Finding, Judgement, Subject, chain, check, not_made, queues, version, within};
use crate::topology::{Diff, DriftState, Observed, compare};

const APP_NAME: &str = "orderfleet doctor";
/// The first with what the topology needs: at-least-once dead-lettering.
const VERSION_MIN: (u32, u32) = (3, 10);
/// What needs a connection, beside what is seen in a look at every queue.
const NEED_BROKER: [&str; 3] = ["broker version", "broker permissions", "broker alarms"];
const SEEN_IN_A_LOOK: [&str; 7] =
    ["queue type", "consumers", "dead letters", "quarantine", "topology", "bindings", "leftovers"];

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
    let (version, probed, looked, observed) = tokio::join!(
        check("broker version", broker_version(inspector)),
        within(CHECK_TIMEOUT, inspector.probe()),
        within(CHECK_TIMEOUT, inspector.look()),
        observe(subject, declared),
    );
    let mut findings = vec![version, permissions(&looked, &probed).of("broker permissions")];
    findings.push(alarms(probed).of("broker alarms"));
    let looked = match looked {
        Ok(looked) => looked,
        Err(late) => {
            findings.extend(SEEN_IN_A_LOOK.map(|name| late.clone().of(name)));
            return findings;
        }
    };
    for (name, judge) in queues::CHECKS {
        findings.push(judge(&looked, declared, policy).of(name));
    }
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

/// Whether this user may ask for the declared names, and use a queue of its own.
fn permissions(
    looked: &Result<Vec<Looked>, Judgement>,
    probed: &Result<Result<Probe, InspectionError>, Judgement>,
) -> Judgement {
    let grant = "rabbitmqctl set_permissions -p VHOST USER '.*' '.*' '.*', or patterns that match every name of the topology";
    if let Ok(looked) = looked
        && let Some(refused) = queues::refused(looked)
    {
        return Judgement::error(refused, grant);
    }
    match probed {
        Ok(Ok(Probe { round_trip: Some(took), .. })) => {
            Judgement::ok(format!("a message to a queue of our own came back after {} ms", took.as_millis()))
        }
        Ok(Ok(Probe { blocked: Some(_), .. })) => {
            Judgement::unknown("not looked at: the broker blocks publishing", "see the check `broker alarms`")
        }
        Ok(Ok(_)) => Judgement::error(
            "a message to a queue of our own was not confirmed, or did not come back",
            "see the broker's log: `rabbitmqctl eval 'rabbit:log_locations().'` tells where it is",
        ),
        Ok(Err(error @ InspectionError::Refused { .. })) => Judgement::unknown(
            format!("this user may not use a queue of its own: {error}"),
            format!("{grant}; the fleet itself needs none of amq.gen-*"),
        ),
        Ok(Err(error)) => Judgement::unknown(chain(error), "run the doctor again; see the broker's log"),
        Err(late) => late.clone(),
    }
}

fn alarms(probed: Result<Result<Probe, InspectionError>, Judgement>) -> Judgement {
    let look = "rabbitmqctl eval 'rabbit_alarm:get_alarms().'";
    match probed {
        Ok(Ok(Probe { blocked: Some(reason), .. })) => Judgement::error(
            format!("the broker blocks publishing: {reason}"),
            format!("give it memory or disk, or let its queues be emptied; {look} tells which alarm it is"),
        ),
        Ok(Ok(Probe { round_trip: Some(_), .. })) => Judgement::ok("none: it takes what is published"),
        Ok(Ok(_)) => Judgement::unknown("the broker told neither an alarm nor a confirm", look),
        Ok(Err(error)) => Judgement::unknown(format!("not looked at: {}", chain(&error)), look),
        Err(late) => late,
    }
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
            let fix =
                "rabbitmq-plugins enable rabbitmq_management; rabbitmqctl set_user_tags USER monitoring";
            return Judgement::unknown(why, fix);
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

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn a_probe_tells_of_an_alarm_and_of_nothing_else() {
        let probe = |blocked: Option<&str>, ms: Option<u64>| {
            Ok(Ok(Probe {
                blocked: blocked.map(str::to_owned),
                round_trip: ms.map(std::time::Duration::from_millis),
            }))
        };
        for (probed, alarm, allowed) in [
            (probe(None, Some(3)), Verdict::Ok, Verdict::Ok),
            (probe(Some("low on memory"), Some(3)), Verdict::Error, Verdict::Ok),
            (probe(Some("low on disk"), None), Verdict::Error, Verdict::Unknown),
            (probe(None, None), Verdict::Unknown, Verdict::Error),
        ] {
            assert_eq!(permissions(&Ok(Vec::new()), &probed).verdict, allowed, "{probed:?}");
            assert_eq!(alarms(probed).verdict, alarm);
        }
    }
}
