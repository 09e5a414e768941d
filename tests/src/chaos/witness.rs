//! The database as the harness sees it: past the proxies, at the members' own ports, and patient through elections.

use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use futures_util::future::{join_all, try_join_all};
use mongodb::{
    Client, Database,
    bson::{Bson, doc},
};
use tokio::time::{Instant, sleep, timeout};

/// As long as an election takes on a busy machine, and longer than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(60);
/// A healthy member says in a millisecond what it is.
const HELLO_WITHIN: Duration = Duration::from_secs(1);
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The database of the fleet, read with majority read concern. No fault but those of the members themselves is in its way.
#[derive(Debug)]
pub struct Witness {
    members: Vec<Database>,
}

impl Witness {
    /// Nothing is connected yet.
    pub(super) async fn new(ports: [u16; 3], database: &str) -> anyhow::Result<Self> {
        let member = |port: u16| async move {
            let uri = format!(
                "mongodb://127.0.0.1:{port}/?directConnection=true&readConcernLevel=majority\
                 &connectTimeoutMS=2000&serverSelectionTimeoutMS=2000"
            );
            anyhow::Ok(Client::with_uri_str(uri).await.context("MongoDB")?.database(database))
        };
        Ok(Self { members: try_join_all(ports.map(member)).await? })
    }

    /// Asks whichever member is primary, and asks again where there is none or the answer is an error.
    ///
    /// # Errors
    /// The last one, when a minute has brought no answer.
    pub async fn ask<T, A>(&self, question: impl Fn(Database) -> A) -> anyhow::Result<T>
    where
        A: Future<Output = anyhow::Result<T>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let error = match self.primary().await {
                None => anyhow!("no member is primary"),
                Some(primary) => match timeout(ANSWER_WITHIN, question(primary)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => error,
                    Err(_) => anyhow!("the primary does not answer"),
                },
            };
            ensure!(Instant::now() < deadline, error.context(format!("not within {} s", PATIENCE.as_secs())));
            sleep(LOOK_EVERY).await;
        }
    }

    /// A deposed primary may not know it yet: the newest election counts.
    async fn primary(&self) -> Option<Database> {
        let hello = |member: &Database| {
            let member = member.clone();
            async move {
                let hello =
                    timeout(HELLO_WITHIN, member.run_command(doc! { "hello": 1 })).await.ok()?.ok()?;
                let is_primary = hello.get_bool("isWritablePrimary").unwrap_or_default();
                let election = hello.get("electionId").and_then(Bson::as_object_id);
                is_primary.then_some((election, member))
            }
        };
        let primaries = join_all(self.members.iter().map(hello)).await;
        primaries.into_iter().flatten().max_by_key(|(election, _)| *election).map(|(_, member)| member)
    }
}
