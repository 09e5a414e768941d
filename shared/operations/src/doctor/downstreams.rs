//! The services of the steps: a look at an instance that nobody knows, and a batch of no dos where dos are sent in batches.
//! Neither changes anything (docs/DOWNSTREAM.md).

use std::time::Duration;

use futures_util::future::join_all;
use orderfleet_domain::{
    OrderId, StepName,
    saga::{StepSettings, step_instance},
};
use reqwest::{Client, StatusCode, redirect};
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::json;
use tokio::time::Instant;

use super::{Finding, Judgement, Subject, Verdict, chain, check};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// No answer to such questions is longer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a service has for a step instance.
#[derive(Deserialize)]
struct Seen {
    state: String,
}

/// What the calls of a batch were answered.
#[derive(Deserialize)]
struct Batch {
    answers: Vec<IgnoredAny>,
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
                    Ok(client) => ask(client, step).await,
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

async fn ask(client: &Client, step: &StepSettings) -> Judgement {
    let looked = look(client, step).await;
    // Why not even a look is answered as it must be says more.
    if looked.verdict == Verdict::Error || step.batch_max <= 1 {
        return looked;
    }
    let Err(found) = ask_for_batches(client, step).await else { return looked };
    Judgement::error(
        format!("batch_max is {}, and a batch of no dos {found}", step.batch_max),
        format!(
            "let the service take batches (docs/DOWNSTREAM.md), or set batch_max of [[steps]] {} to 1",
            step.name
        ),
    )
}

/// What is wrong with how a batch is taken.
async fn ask_for_batches(client: &Client, step: &StepSettings) -> Result<(), String> {
    let url = format!("{}/batch", step.url.trim_end_matches('/'));
    let request = client.post(url).timeout(Duration::from_millis(step.timeout_ms));
    let answer = request.json(&json!({ "calls": [] })).send().await;
    let answer = answer.map_err(|error| format!("is not answered: {}", chain(&error.without_url())))?;
    let status = answer.status();
    if !status.is_success() {
        return Err(format!("is answered {}", status.as_u16()));
    }
    match read::<Batch>(answer).await {
        Some(batch) if batch.answers.is_empty() => Ok(()),
        _ => Err("is not answered {\"answers\":[]}".into()),
    }
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
    match read::<Seen>(answer).await {
        Some(seen) if seen.state == "none" => answered_after(begun.elapsed(), timeout),
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

async fn read<T: DeserializeOwned>(mut answer: reqwest::Response) -> Option<T> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return None;
        }
    }
    serde_json::from_slice(&body).ok()
}

/// Of an order that nobody is expected to have placed.
fn unknown_instance(step: &StepName) -> Option<String> {
    let order_id = OrderId::derive(&"doctor".parse().ok()?, &"doctor".parse().ok()?, &"look".parse().ok()?);
    Some(step_instance(&order_id, 1, step))
}

#[cfg(test)]
mod tests {
    use orderfleet_sandbox::{Options, Sandbox};

    use super::*;

    #[tokio::test]
    async fn a_service_is_asked_whether_it_offers_batches() {
        let sandbox = Sandbox::start(Options::on_free_port()).await.unwrap();
        for (path, offers) in [("inventory/steps", true), ("inventory/steps/", true), ("elsewhere", false)] {
            let mut step = StepSettings::defaults().remove(0);
            step.url = format!("http://{}/{path}", sandbox.address());
            let client = client(std::slice::from_ref(&step)).unwrap();
            assert_eq!(ask_for_batches(&client, &step).await.is_ok(), offers, "{path}");
        }
    }

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
