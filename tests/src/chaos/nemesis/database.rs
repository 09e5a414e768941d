//! Faults of the replica set.

use std::time::Duration;

use anyhow::Context as _;
use orderfleet_native::{MemberState, Signal};
use tokio::time::sleep;

use crate::chaos::Stage;

pub(super) async fn step_down(stage: &Stage) -> anyhow::Result<String> {
    let database = stage.database.lock().await;
    database.until_whole().await?;
    let change = database.step_down().await?;
    let (old, new) = (change.old, change.new);
    Ok(format!(
        "member {} of term {} gave way to member {} of term {} within {:.1} s",
        old.member,
        old.term,
        new.member,
        new.term,
        change.took.as_secs_f32()
    ))
}

pub(super) async fn kill_primary(stage: &Stage, hold: Duration) -> anyhow::Result<String> {
    let mut database = stage.database.lock().await;
    database.until_whole().await?;
    let primary = database.primary().await.context("there is no primary")?;
    let killed = database.kill(primary.member).await?;
    let elected = database.until_primary_after(primary.term).await;
    sleep(hold).await;
    database.restart(primary.member).await?;
    let elected = elected?;
    Ok(format!(
        "member {} of term {}: {}; member {} of term {} took over",
        primary.member, primary.term, killed.status, elected.member, elected.term
    ))
}

pub(super) async fn freeze_secondaries(stage: &Stage, hold: Duration) -> anyhow::Result<String> {
    let mut database = stage.database.lock().await;
    let members = database.until_whole().await?;
    let secondaries = members.iter().filter(|member| member.state == MemberState::Secondary);
    let secondaries: Vec<_> = secondaries.map(|member| member.member).collect();
    let mut frozen = Vec::new();
    for member in &secondaries {
        frozen.push(database.signal(*member, Signal::Stop).await);
    }
    sleep(hold).await;
    let mut woken = Vec::new();
    for member in &secondaries {
        woken.push(database.signal(*member, Signal::Continue).await);
    }
    let states = frozen.into_iter().chain(woken).map(|status| status.map(|status| status.state.to_string()));
    let states = states.collect::<Result<Vec<_>, _>>()?;
    Ok(format!("members {secondaries:?} for {hold:?}: {}", states.join(", ")))
}
