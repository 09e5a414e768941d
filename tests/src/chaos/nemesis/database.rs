//! Faults of the replica set.

use std::time::Duration;

use anyhow::Context as _;
use orderfleet_native::{MemberState, MongoSet, Signal};
use tokio::time::sleep;

pub(super) async fn step_down(database: &mut MongoSet) -> anyhow::Result<String> {
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

pub(super) async fn kill_primary(database: &mut MongoSet, hold: Duration) -> anyhow::Result<String> {
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

pub(super) async fn freeze_primary(database: &mut MongoSet, hold: Duration) -> anyhow::Result<String> {
    database.until_whole().await?;
    let primary = database.primary().await.context("there is no primary")?;
    let frozen = database.signal(primary.member, Signal::Stop).await?;
    let elected = database.until_primary_after(primary.term).await?;
    sleep(hold).await;
    let woken = database.signal(primary.member, Signal::Continue).await?;
    Ok(format!(
        "member {} of term {} {}; member {} of term {} took over; afterwards the first is {}",
        primary.member, primary.term, frozen.state, elected.member, elected.term, woken.state
    ))
}

pub(super) async fn freeze_secondaries(database: &mut MongoSet, hold: Duration) -> anyhow::Result<String> {
    let members = database.until_whole().await?;
    let secondaries = members.iter().filter(|member| member.state == MemberState::Secondary);
    let secondaries: Vec<_> = secondaries.map(|member| member.member).collect();
    let mut states = Vec::new();
    for member in &secondaries {
        states.push(database.signal(*member, Signal::Stop).await?.state.to_string());
    }
    sleep(hold).await;
    for member in &secondaries {
        states.push(database.signal(*member, Signal::Continue).await?.state.to_string());
    }
    Ok(format!("members {secondaries:?} for {hold:?}: {}", states.join(", ")))
}

/// Makes all members run.
pub(super) async fn revive(database: &mut MongoSet) -> anyhow::Result<()> {
    for member in database.members().await {
        match member.state {
            MemberState::Down => drop(database.restart(member.member).await?),
            MemberState::Silent => drop(database.signal(member.member, Signal::Continue).await?),
            _ => {}
        }
    }
    Ok(())
}
