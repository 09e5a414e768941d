//! What a member of a replica set says of itself when asked at its own port, past any proxy.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use super::replica_set::ask;
use super::wire::{Document, Reply};

/// A healthy member answers in a millisecond; one that is stopped never does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// What `replSetGetStatus` answers in the place of a state when the member does not find itself in the configuration.
const INVALID_REPLICA_SET_CONFIG: i32 = 93;
const REMOVED: i32 = 10;
const NO_STATE_YET: i32 = -1;

/// A member of a [`MongoSet`](super::MongoSet) as it was at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberStatus {
    /// Which member, from 0.
    pub member: usize,
    /// Where it listens itself.
    pub port: u16,
    /// Where drivers and the other members look for it.
    pub advertised: SocketAddr,
    /// What it is.
    pub state: MemberState,
    /// The newest election it knows of; every new primary raises it. 0 without an answer.
    pub term: i64,
    /// The term of the newest write it holds: lower than `term` while it has not caught up with a new primary, from
    /// which it may have to roll back first. 0 without an answer.
    pub written_term: i64,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// It takes writes.
    Primary,
    /// It follows a primary, or waits for one.
    Secondary,
    /// It answers, but is neither: starting, recovering, rolling back, changing its role, or not finding itself in the
    /// configuration (10). The number is that of MongoDB's manual, "Replica Set Member States"; -1 before the set is
    /// initiated.
    Unsettled(i32),
    /// It takes connections, or seems to, and does not answer within a second: stopped, or worse.
    Silent,
    /// Nothing takes connections on its port: it has ended.
    Down,
}

impl fmt::Display for MemberState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::Secondary => f.write_str("secondary"),
            Self::Unsettled(number) => write!(f, "unsettled ({number})"),
            Self::Silent => f.write_str("silent"),
            Self::Down => f.write_str("down"),
        }
    }
}

/// What the member that listens on `port` is. It takes a second when there is no answer.
pub(super) async fn of(member: usize, port: u16, advertised: SocketAddr) -> MemberStatus {
    let without_answer = |state| MemberStatus { member, port, advertised, state, term: 0, written_term: 0 };
    match timeout(ANSWER_TIMEOUT, answers(port)).await {
        Ok(Ok((hello, status))) => MemberStatus {
            term: status.long("term").unwrap_or(0),
            written_term: written_term(&hello).unwrap_or(0),
            ..without_answer(state(&hello, &status))
        },
        Ok(Err(_)) => without_answer(MemberState::Down),
        Err(_) => without_answer(MemberState::Silent),
    }
}

async fn answers(port: u16) -> Result<(Reply, Reply), String> {
    let hello = ask(port, Document::default().int("hello", 1)).await?;
    let status = ask(port, Document::default().int("replSetGetStatus", 1)).await?;
    Ok((hello, status))
}

fn written_term(hello: &Reply) -> Option<i64> {
    hello.inner("lastWrite")?.inner("opTime")?.long("t")
}

/// From `hello`, because a new primary that does not take writes yet already calls itself primary in its status.
fn state(hello: &Reply, status: &Reply) -> MemberState {
    if hello.is_true("isWritablePrimary") {
        MemberState::Primary
    } else if hello.is_true("secondary") {
        MemberState::Secondary
    } else {
        let number = match status.int("code") {
            Some(INVALID_REPLICA_SET_CONFIG) => REMOVED,
            _ => status.int("myState").unwrap_or(NO_STATE_YET),
        };
        MemberState::Unsettled(number)
    }
}
