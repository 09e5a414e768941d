//! Makes one or several `mongod` a replica set: only replica sets have majority writes with a journal, change streams
//! and transactions, as in production.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::MongoRole;
use super::wire::{Document, Reply, run};

/// Error codes of MongoDB's `src/mongo/base/error_codes.yml`.
const ALREADY_INITIALIZED: i32 = 23;
const INVALID_REPLICA_SET_CONFIG: i32 = 93;
const NOT_YET_INITIALIZED: i32 = 94;
/// Heartbeats in one election timeout: a late one alone must not depose a primary.
const HEARTBEATS_PER_ELECTION_TIMEOUT: u32 = 4;

pub(super) fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

pub(super) fn uri(hosts: &[SocketAddr], role: MongoRole) -> String {
    let hosts: Vec<String> = hosts.iter().map(SocketAddr::to_string).collect();
    format!("mongodb://{}/?replicaSet={}", hosts.join(","), role.set_name())
}

/// One step of a lone server towards a writable primary; the error says what is still missing. Safe to repeat.
pub(super) async fn advance(port: u16, role: MongoRole) -> Result<(), String> {
    if ask(port, Document::default().int("hello", 1)).await?.is_true("isWritablePrimary") {
        return Ok(());
    }
    let alone = configuration(&[address(port)], role);
    let status = ask(port, Document::default().int("replSetGetStatus", 1)).await?;
    match status.int("code") {
        Some(NOT_YET_INITIALIZED) => accepted(&ask(port, initiate(&alone)).await?)?,
        // Data from a start on another port: the set knows this server by its old address only.
        Some(INVALID_REPLICA_SET_CONFIG) => accepted(&ask(port, replace(&alone)).await?)?,
        _ => {}
    }
    Err("it is not yet primary of its replica set".to_owned())
}

/// Makes the server at `port` and its peers a set of `hosts`, or changes the addresses of the set that they are.
pub(super) async fn found(port: u16, hosts: &[SocketAddr], election_timeout: Duration) -> Result<(), String> {
    let configuration =
        configuration(hosts, MongoRole::Alone).document("settings", &timing(election_timeout));
    let reply = ask(port, initiate(&configuration)).await?;
    if reply.int("code") == Some(ALREADY_INITIALIZED) {
        return accepted(&ask(port, replace(&configuration)).await?);
    }
    accepted(&reply)
}

/// Runs a command and tells a transport failure in words; what the server thinks of it is in the reply.
pub(super) async fn ask(port: u16, command: Document) -> Result<Reply, String> {
    run(port, command).await.map_err(|error| error.to_string())
}

pub(super) fn accepted(reply: &Reply) -> Result<(), String> {
    reply.text("errmsg").map_or(Ok(()), Err)
}

fn initiate(configuration: &Document) -> Document {
    Document::default().document("replSetInitiate", configuration)
}

/// Forced, because no primary is there to agree.
fn replace(configuration: &Document) -> Document {
    Document::default().document("replSetReconfig", configuration).flag("force", true)
}

fn configuration(hosts: &[SocketAddr], role: MongoRole) -> Document {
    let member =
        |(id, host): (i32, &SocketAddr)| Document::default().int("_id", id).text("host", &host.to_string());
    let members: Vec<Document> = (0..).zip(hosts).map(member).collect();
    let set = Document::default().text("_id", role.set_name()).int("version", 1).array("members", &members);
    if role == MongoRole::ConfigServer { set.flag("configsvr", true) } else { set }
}

fn timing(election_timeout: Duration) -> Document {
    let millis = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    Document::default()
        .int("electionTimeoutMillis", millis(election_timeout))
        .int("heartbeatIntervalMillis", millis(election_timeout / HEARTBEATS_PER_ELECTION_TIMEOUT))
}
