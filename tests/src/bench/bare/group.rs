//! Group commit: writes of many tasks go out as one command. While a command is on its way the next group gathers.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use mongodb::{
    Client, Database,
    bson::{RawArrayBuf, RawDocument, RawDocumentBuf, rawdoc},
    options::{ClientOptions, WriteConcern},
};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::Kind;

/// The collection of everything bare.
pub(super) const COLLECTION: &str = "orders";

/// A durable write that waits for its group.
#[derive(Debug)]
struct Pending {
    document: RawDocumentBuf,
    written: oneshot::Sender<()>,
}

/// Takes writes of one kind.
#[derive(Debug, Clone)]
pub(super) struct Grouped {
    pending: mpsc::UnboundedSender<Pending>,
}

/// A database whose writes are majority-committed.
pub(super) async fn database(uri: &str, name: &str) -> anyhow::Result<Database> {
    let mut options = ClientOptions::parse(uri).await.context("the database's address")?;
    options.write_concern = Some(WriteConcern::majority());
    Ok(Client::with_options(options)?.database(name))
}

impl Grouped {
    /// Begins to take writes: up to `group_max` in a command, and so many commands at once.
    pub(super) fn start(database: &Database, kind: Kind, group_max: usize, flights: usize) -> Self {
        let (pending, waiting) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..flights {
            tokio::spawn(fly(database.clone(), kind, group_max, Arc::clone(&waiting)));
        }
        Self { pending }
    }

    /// Writes a document, or an update statement, durably.
    ///
    /// # Errors
    /// When its group was not written; stderr says why.
    pub(super) async fn write(&self, document: RawDocumentBuf) -> anyhow::Result<()> {
        let (written, answer) = oneshot::channel();
        let _ = self.pending.send(Pending { document, written });
        answer.await.context("not written")
    }
}

async fn fly(
    database: Database,
    kind: Kind,
    group_max: usize,
    waiting: Arc<Mutex<mpsc::UnboundedReceiver<Pending>>>,
) {
    let mut group = Vec::with_capacity(group_max);
    while waiting.lock().await.recv_many(&mut group, group_max).await > 0 {
        let documents = group.iter().map(|pending| &*pending.document);
        match run(&database, kind, documents).await {
            // Whoever does not wait any more has failed already.
            Ok(()) => group.drain(..).for_each(|pending| _ = pending.written.send(())),
            Err(error) => {
                eprintln!("orderfleet-bare: {error:#}");
                group.clear();
            }
        }
    }
}

async fn run(
    database: &Database,
    kind: Kind,
    documents: impl Iterator<Item = &RawDocument>,
) -> anyhow::Result<()> {
    let (mut list, mut count) = (RawArrayBuf::new(), 0);
    for document in documents {
        list.push(document);
        count += 1;
    }
    let durable = rawdoc! { "w": "majority", "j": true };
    let command = match kind {
        Kind::Insert => {
            rawdoc! { "insert": COLLECTION, "documents": list, "ordered": false, "writeConcern": durable }
        }
        Kind::Update => {
            rawdoc! { "update": COLLECTION, "updates": list, "ordered": false, "writeConcern": durable }
        }
    };
    let answer = database.run_raw_command(command).await?;
    let failed = answer.contains_key("writeErrors") || answer.contains_key("writeConcernError");
    ensure!(!failed && answer.get_i32("n").ok() == Some(count), "not all were written: {answer}");
    Ok(())
}
