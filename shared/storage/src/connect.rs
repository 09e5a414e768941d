//! Connecting: durable writes whatever the connection string says, and a server that can keep the promise.

use std::time::Duration;

use mongodb::{
    Client,
    bson::{Document, doc},
    error::ErrorKind,
    event::{EventHandler, command::CommandEvent},
    options::{ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern},
};

use crate::{DatabaseSettings, Store, StoreError, uri};

const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Wire version of MongoDB 6.0.
const WIRE_VERSION_MIN: i32 = 17;

impl Store {
    /// Connects and checks the server. `app_name` shows in the server's logs.
    ///
    /// Every write is `w: majority, j: true`, every read majority-committed from the primary, retries of the driver are
    /// on, but for writes in a group, which go alone after a failure; what the connection string says about these is overruled. A lost connection is made again by the driver.
    ///
    /// # Errors
    /// Settings or servers that cannot be used ([`StoreError::is_lasting`]), or no primary within a few seconds.
    pub async fn connect(settings: &DatabaseSettings, app_name: &str) -> Result<Self, StoreError> {
        let secret = settings.secret_uri()?;
        let options = options(settings, &secret, app_name).await?;
        Self::connect_with(options, settings, &secret).await
    }

    /// As [`Store::connect`], with every command shown to `watch` before it is sent: for tests.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub async fn connect_watched(
        settings: &DatabaseSettings,
        app_name: &str,
        watch: impl Fn(&Document) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let secret = settings.secret_uri()?;
        let mut options = options(settings, &secret, app_name).await?;
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event {
                watch(&started.command);
            }
        }));
        Self::connect_with(options, settings, &secret).await
    }

    async fn connect_with(
        options: ClientOptions,
        settings: &DatabaseSettings,
        secret: &str,
    ) -> Result<Self, StoreError> {
        let shown = uri::redact(secret);
        let unusable = |source| StoreError::Uri(uri::redact_message(&kind(&source), secret));
        let client = Client::with_options(options.clone()).map_err(unusable)?;
        let store = Self::new(&client, &settings.name, Duration::from_millis(settings.timeout_ms));
        match store.hello().await {
            Ok(hello) => check(&hello, shown).map(|()| store),
            Err(error) if is_standalone(options).await => {
                tracing::debug!(%error, "the replica set was not found");
                Err(StoreError::Standalone { uri: shown })
            }
            Err(StoreError::Call { source, .. }) => Err(StoreError::Unreachable { uri: shown, source }),
            Err(error) => Err(error),
        }
    }

    async fn hello(&self) -> Result<Document, StoreError> {
        self.call("hello", self.database.run_command(doc! { "hello": 1 })).await
    }
}

async fn options(
    settings: &DatabaseSettings,
    secret: &str,
    app_name: &str,
) -> Result<ClientOptions, StoreError> {
    let mut options = ClientOptions::parse(secret)
        .await
        .map_err(|source| StoreError::Uri(uri::redact_message(&kind(&source), secret)))?;
    let majority = WriteConcern::builder()
        .w(mongodb::options::Acknowledgment::Majority)
        .journal(true)
        .w_timeout(Duration::from_millis(settings.write_concern_timeout_ms))
        .build();
    options.app_name = Some(app_name.to_owned());
    options.write_concern = Some(majority);
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.retry_writes = Some(true);
    options.retry_reads = Some(true);
    options.max_pool_size = Some(settings.pool_size_max);
    options.server_selection_timeout = Some(SERVER_SELECTION_TIMEOUT);
    options.connect_timeout = Some(CONNECT_TIMEOUT);
    Ok(options)
}

fn check(hello: &Document, uri: String) -> Result<(), StoreError> {
    let is_mongos = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !is_mongos && !hello.contains_key("setName") {
        return Err(StoreError::Standalone { uri });
    }
    let wire_version = hello.get_i32("maxWireVersion").unwrap_or_default();
    if wire_version < WIRE_VERSION_MIN {
        return Err(StoreError::TooOld { uri, wire_version });
    }
    Ok(())
}

/// Whether the first server is a standalone, which the driver never selects where a replica set is asked for.
async fn is_standalone(mut options: ClientOptions) -> bool {
    if options.repl_set_name.take().is_none() {
        return false;
    }
    options.hosts.truncate(1);
    options.direct_connection = Some(true);
    let Ok(client) = Client::with_options(options) else { return false };
    let alone = Store::new(&client, "admin", CONNECT_TIMEOUT);
    alone.hello().await.is_ok_and(|hello| !hello.contains_key("setName") && !hello.contains_key("msg"))
}

fn kind(error: &mongodb::error::Error) -> String {
    match &*error.kind {
        ErrorKind::InvalidArgument { message, .. } => message.clone(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_set_and_a_cluster_will_do_and_a_standalone_or_an_old_server_will_not() {
        let check = |hello| check(&hello, "mongodb://db/".into());
        assert!(check(doc! { "setName": "rs0", "maxWireVersion": 17 }).is_ok());
        assert!(check(doc! { "msg": "isdbgrid", "maxWireVersion": 25 }).is_ok());
        let alone = check(doc! { "maxWireVersion": 17 }).unwrap_err();
        assert!(alone.is_lasting() && alone.to_string().contains("rs.initiate()"), "{alone}");
        let old = check(doc! { "setName": "rs0", "maxWireVersion": 13 }).unwrap_err();
        assert!(old.is_lasting() && old.to_string().contains("6.0"), "{old}");
    }
}
