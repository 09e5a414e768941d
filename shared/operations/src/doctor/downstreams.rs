//! The services of the steps: a look at an instance that nobody knows, which changes nothing (docs/DOWNSTREAM.md).

use std::time::Duration;

use futures_util::future::join_all;
use orderfleet_domain::{
    OrderId, StepName,
    saga::{StepSettings, step_instance},
};
use reqwest::{Client, StatusCode, redirect};
use serde::Deserialize;
use tokio::time::Instant;

use super::{Finding, Judgement, Subject, chain, check};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// No answer to a look is longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a service has for a step instance.
#[derive(Deserialize)]
struct Seen {
    state: String,
}

pub(super) async fn examine(subject: &Subject) -> Vec<Finding> {
    let Ok(policy) = &subject.steps else { return Vec::new() };
    let client = client(policy.steps());
    let looks = policy.steps().iter().map(|step| {
        let client = &client;
        async move {
            let name = format!("downstream {}", step.name);
            let looking = async {
                match client {
                    Ok(client) => look(client, step).await,
                    Err(error) => Judgement::unknown(
                        format!("no HTTP client can be made: {}", chain(error)),
                        "install the CA certificates of this machine: apt install ca-certificates",
                    ),
                }
            };
            check(&name, looking).await
        }
    });
    join_all(looks).await
}

/// As that of the workers.
fn client(steps: &[StepSettings]) -> reqwest::Result<Client> {
    let mut builder =
        Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(redirect::Policy::none()).no_proxy();
    if steps.iter().all(|step| step.url.starts_with("http://")) {
        // Without TLS anywhere, a machine without CA certificates is fine.
        builder = builder.tls_certs_only([]);
    }
    builder.build()
}

async fn look(client: &Client, step: &StepSettings) -> Judgement {
    let Some(instance) = unknown_instance(&step.name) else {
        return Judgement::unknown(
            "no instance could be made up",
            "report this as a mistake of this program",
        );
    };
    let (timeout, base) = (Duration::from_millis(step.timeout_ms), step.url.trim_end_matches('/'));
    let (begun, url) = (Instant::now(), format!("{base}/{instance}"));
    let setting = format!("set the url of [[steps]] {} to where its service is", step.name);
    let answer = match client.get(&url).timeout(timeout).send().await {
        Ok(answer) => answer,
        Err(error) => {
            let what =
                if error.is_timeout() { "does not answer in its timeout_ms" } else { "cannot be reached" };
            let cause = chain(&error.without_url());
            return Judgement::error(
                format!("{base} {what}: {cause}"),
                format!("start the service, or {setting}"),
            );
        }
    };
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let found = format!("{base} answers {}", answer.status().as_u16());
            return Judgement::error(
                found,
                "let the workers' calls in at the service: orderfleet sends no credentials",
            );
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            let found = format!("{base} answers 405 to a look: it can be called, but not asked");
            return Judgement::warning(found, "let the service answer GET as docs/DOWNSTREAM.md says");
        }
        StatusCode::NOT_FOUND => {
            let found = format!("{base} answers 404 to a look: this is not the address of its steps");
            return Judgement::error(found, setting);
        }
        status => {
            let found = format!("{base} answers {} to a look", status.as_u16());
            return Judgement::error(found, "see the service's own log: every order waits for it meanwhile");
        }
    }
    match state(answer).await {
        Some(state) if state == "none" => answered_after(begun.elapsed(), timeout),
        _ => Judgement::error(
            format!("{base} does not answer a look at an unknown instance with state none"),
            format!("{setting}; see docs/DOWNSTREAM.md: `curl {url}`"),
        ),
    }
}

fn answered_after(took: Duration, timeout: Duration) -> Judgement {
    let found = format!("answers after {} ms", took.as_millis());
    if took * 2 < timeout {
        return Judgement::ok(found);
    }
    let fix = "raise timeout_ms of the step, or make the service faster: a call that takes longer has an unknown outcome";
    Judgement::warning(format!("{found}, of the {} ms it has", timeout.as_millis()), fix)
}

async fn state(mut answer: reqwest::Response) -> Option<String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    serde_json::from_slice::<Seen>(&body).ok().map(|seen| seen.state)
}

/// Of an order that nobody is expected to have placed.
fn unknown_instance(step: &StepName) -> Option<String> {
    let order_id = OrderId::derive(&"doctor".parse().ok()?, &"doctor".parse().ok()?, &"look".parse().ok()?);
    Some(step_instance(&order_id, 1, step))
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn an_answer_that_takes_half_of_its_time_is_warned_of() {
        let timeout = Duration::from_millis(1_000);
        assert_eq!(answered_after(Duration::from_millis(499), timeout).verdict, Verdict::Ok);
        assert_eq!(answered_after(Duration::from_millis(500), timeout).verdict, Verdict::Warning);
    }

    #[test]
    fn the_instance_that_is_looked_at_is_well_formed() {
        let instance = unknown_instance(&"inventory".parse().unwrap()).unwrap();
        assert!(instance.starts_with("doctor-") && instance.ends_with(".1.inventory"), "{instance}");
    }
}
