//! Makes a lone `mongod` the primary of a replica set of one: only replica sets have majority writes with a journal,
//! change streams and transactions, as in production.

use super::wire::{Document, Reply, run};

pub(super) const NAME: &str = "rs0";

/// Error codes of MongoDB's `src/mongo/base/error_codes.yml`.
const INVALID_REPLICA_SET_CONFIG: i32 = 93;
const NOT_YET_INITIALIZED: i32 = 94;

/// One step towards a writable primary; the error says what is still missing. Safe to repeat.
pub(super) async fn advance(port: u16) -> Result<(), String> {
    if ask(port, Document::default().int("hello", 1)).await?.is_true("isWritablePrimary") {
        return Ok(());
    }
    let status = ask(port, Document::default().int("replSetGetStatus", 1)).await?;
    match status.int("code") {
        Some(NOT_YET_INITIALIZED) => accepted(&ask(port, initiate(port)).await?)?,
        // Data from a start on another port: the set knows this server by its old address only.
        Some(INVALID_REPLICA_SET_CONFIG) => accepted(&ask(port, move_here(port)).await?)?,
        _ => {}
    }
    Err("it is not yet primary of its replica set".to_owned())
}

async fn ask(port: u16, command: Document) -> Result<Reply, String> {
    run(port, command).await.map_err(|error| error.to_string())
}

fn accepted(reply: &Reply) -> Result<(), String> {
    reply.text("errmsg").map_or(Ok(()), Err)
}

fn initiate(port: u16) -> Document {
    Document::default().document("replSetInitiate", &configuration(port))
}

/// Forced, because no primary is there to agree.
fn move_here(port: u16) -> Document {
    Document::default().document("replSetReconfig", &configuration(port)).flag("force", true)
}

fn configuration(port: u16) -> Document {
    let member = Document::default().int("_id", 0).text("host", &format!("127.0.0.1:{port}"));
    Document::default().text("_id", NAME).int("version", 1).array_of_one("members", &member)
}
