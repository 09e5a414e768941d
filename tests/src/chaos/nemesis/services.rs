//! Misbehaviour of the shop's services, by rules of the sandbox.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    SERVICES,
    chaos::{Misbehaviour, Stage},
};

/// How much longer than planned a rule is kept that has not fired yet.
const PATIENCE: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn misbehave(
    stage: &Stage,
    misbehaviour: Misbehaviour,
    draw: usize,
    hold: Duration,
) -> anyhow::Result<String> {
    let rule = rule(misbehaviour, SERVICES[draw % SERVICES.len()]);
    stage.misbehave(std::slice::from_ref(&rule)).await?;
    let started = Instant::now();
    sleep(hold).await;
    let mut fired = fired(stage).await;
    // Undos are rare: some have to be waited for.
    while fired == 0 && started.elapsed() < hold + PATIENCE {
        sleep(LOOK_EVERY).await;
        fired = self::fired(stage).await;
    }
    stage.misbehave(&[]).await?;
    anyhow::ensure!(fired > 0, "{rule} never fired");
    Ok(format!("{rule} fired {fired} times in {:.1?}", started.elapsed()))
}

/// How often the last rule has fired.
async fn fired(stage: &Stage) -> u64 {
    let rules = stage.sandbox.get("/faults").await;
    rules.as_array().and_then(|rules| rules.last()?["fired"].as_u64()).unwrap_or_default()
}

/// A rule for a share of calls, so that repeats have a chance.
fn rule(misbehaviour: Misbehaviour, service: &str) -> Value {
    match misbehaviour {
        Misbehaviour::Errors => json!({ "service": "*", "error_rate": 0.4 }),
        Misbehaviour::Outage => json!({ "service": service, "unavailable": true }),
        Misbehaviour::Hang => json!({ "service": "*", "hang": true, "share": 0.2 }),
        Misbehaviour::LostReply => json!({ "service": "*", "lost_reply": true, "share": 0.4 }),
        Misbehaviour::Refuse => json!({ "service": service, "refuse": true, "share": 0.3 }),
        Misbehaviour::Latency => json!({ "service": "*", "latency_ms": 1_400, "share": 0.3, "verb": "both" }),
        Misbehaviour::UndoErrors => json!({ "service": "*", "error_rate": 0.6, "verb": "undo" }),
        Misbehaviour::UndoLostReply => json!({ "service": "*", "lost_reply": true, "verb": "undo" }),
        Misbehaviour::UndoRefused => json!({ "service": "*", "refuse": true, "share": 0.5, "verb": "undo" }),
    }
}
