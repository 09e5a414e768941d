//! What asking the broker for its rights, and a message to a queue of our own, have told.

use orderfleet_messaging::{InspectionError, Looked, Probe, Refusal, Topology};

use super::{Judgement, Subject, chain, queues};

/// Refusals that are named; the others are counted.
const REFUSALS_TOLD: usize = 3;

/// Whether this user may do what the services do with what is declared. The services themselves need no queue of their own.
pub(super) fn permissions(
    looked: &Result<Vec<Looked>, Judgement>,
    refusals: &Result<Result<Vec<Refusal>, InspectionError>, Judgement>,
    probed: &Result<Result<Probe, InspectionError>, Judgement>,
    grant: &str,
) -> Judgement {
    if let Ok(looked) = looked
        && let Some(refused) = queues::refused(looked)
    {
        return Judgement::error(refused, grant);
    }
    if let Ok(Ok(Probe { blocked: Some(_), .. })) = probed {
        let fix = "see the check `broker alarms`";
        return Judgement::unknown("not looked at: the broker blocks publishing", fix);
    }
    match refusals {
        Ok(Ok(refusals)) if !refusals.is_empty() => Judgement::error(told_of(refusals), grant),
        Ok(Ok(_)) => round_trip(probed),
        Ok(Err(error)) => Judgement::unknown(chain(error), "run the doctor again; see the broker's log"),
        Err(late) => late.clone(),
    }
}

/// Where one thing is refused, most are, and in the same words.
fn told_of(refusals: &[Refusal]) -> String {
    let what: Vec<_> = refusals.iter().map(|refusal| refusal.what.as_str()).collect();
    let (first, more) = what.split_at(what.len().min(REFUSALS_TOLD));
    let more = if more.is_empty() { String::new() } else { format!(", and {} more", more.len()) };
    let words = refusals.first().map_or("", |refusal| &refusal.text);
    format!("this user may not {}{more}: {words}", first.join(", "))
}

fn round_trip(probed: &Result<Result<Probe, InspectionError>, Judgement>) -> Judgement {
    let allowed = "to configure, write and read all that is declared is allowed";
    match probed {
        Ok(Ok(Probe { round_trip: Some(took), .. })) => {
            let took = took.as_millis();
            Judgement::ok(format!("{allowed}; a message to a queue of our own came back after {took} ms"))
        }
        Ok(Ok(_)) => Judgement::error(
            "a message to a queue of our own was not confirmed, or did not come back",
            "see the broker's log: `rabbitmqctl eval 'rabbit:log_locations().'` tells where it is",
        ),
        Ok(Err(InspectionError::Refused { .. })) => Judgement::ok(allowed),
        Ok(Err(error)) => Judgement::unknown(chain(error), "run the doctor again; see the broker's log"),
        Err(late) => late.clone(),
    }
}

/// What gives this user every right that the services need.
pub(super) fn grant(subject: &Subject, topology: &Topology) -> String {
    let (vhost, user) = match subject.broker.login() {
        Ok(login) => (login.vhost, login.username),
        Err(_) => ("VHOST".to_owned(), "USER".to_owned()),
    };
    let own = format!("'^{}(\\..*)?$'", topology.own_prefix().replace('.', "\\."));
    format!("rabbitmqctl set_permissions -p '{vhost}' '{user}' {own} {own} {own}, or wider patterns")
}

pub(super) fn alarms(probed: Result<Result<Probe, InspectionError>, Judgement>) -> Judgement {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::Verdict, *};

    type Probed = Result<Result<Probe, InspectionError>, Judgement>;

    fn probe(blocked: Option<&str>, ms: Option<u64>) -> Probed {
        let round_trip = ms.map(Duration::from_millis);
        Ok(Ok(Probe { blocked: blocked.map(str::to_owned), round_trip }))
    }

    #[test]
    fn a_probe_tells_of_an_alarm_and_of_nothing_else() {
        for (probed, alarm, allowed) in [
            (probe(None, Some(3)), Verdict::Ok, Verdict::Ok),
            (probe(Some("low on memory"), Some(3)), Verdict::Error, Verdict::Unknown),
            (probe(Some("low on disk"), None), Verdict::Error, Verdict::Unknown),
            (probe(None, None), Verdict::Unknown, Verdict::Error),
        ] {
            let judged = permissions(&Ok(Vec::new()), &Ok(Ok(Vec::new())), &probed, "grant");
            assert_eq!(judged.verdict, allowed, "{probed:?}");
            assert_eq!(alarms(probed).verdict, alarm);
        }
    }

    #[test]
    fn a_refusal_is_an_error_and_a_queue_of_its_own_is_not_needed() {
        let no_queue: Probed =
            Ok(Err(InspectionError::Refused { what: "take a message".into(), text: "no".into() }));
        let refusal =
            Refusal { what: "publish to exchange orders".into(), text: "ACCESS_REFUSED - …".into() };
        for probed in [probe(None, Some(3)), no_queue] {
            let judge = |refusals| permissions(&Ok(Vec::new()), &Ok(Ok(refusals)), &probed, "grant");
            assert_eq!(judge(Vec::new()).verdict, Verdict::Ok, "{probed:?}");
            let judged = judge(vec![refusal.clone()]);
            assert_eq!((judged.verdict, judged.fix.as_deref()), (Verdict::Error, Some("grant")));
            assert!(judged.found.contains("publish to exchange orders"), "{judged:?}");
        }
    }
}
