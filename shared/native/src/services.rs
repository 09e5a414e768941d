//! Broker and database for whoever needs both: running ones named by the environment, else own ones.

use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::try_join;

use crate::{Error, Mongo, MongoOptions, RabbitMq, RabbitMqOptions, TempFolder};

/// Names a running RabbitMQ, for example `amqp://user:password@host:5672/%2f`.
pub const AMQP_URL_VARIABLE: &str = "ORDERFLEET_AMQP_URL";
/// Names a running MongoDB, for example `mongodb://host:27017/?replicaSet=rs0`.
pub const MONGODB_URI_VARIABLE: &str = "ORDERFLEET_MONGODB_URI";

static SHARED: OnceCell<Services> = OnceCell::const_new();

/// A broker and a database.
#[derive(Debug)]
pub struct Services {
    broker: Provided<RabbitMq>,
    database: Provided<Mongo>,
    // Last, so that the servers have ended before their folder is removed.
    _folder: Option<TempFolder>,
}

#[derive(Debug)]
enum Provided<T> {
    Named { url: String, by: &'static str },
    Started { server: T, name: String, url: String, took: Duration },
}

impl Services {
    /// The set that this whole process shares: what `ORDERFLEET_AMQP_URL` and `ORDERFLEET_MONGODB_URI` name; what
    /// they do not name is started in a temporary folder at the first call and ends with the process.
    ///
    /// # Errors
    /// When a server cannot be started; the next call tries again.
    pub async fn from_env_or_start() -> Result<&'static Self, Error> {
        SHARED.get_or_try_init(Self::start).await
    }

    /// As [`Services::start`], with a database that the caller has started, named `by` whom.
    ///
    /// # Errors
    /// As [`Services::start`].
    pub async fn start_beside(mongodb_uri: String, by: &'static str) -> Result<Self, Error> {
        let database = Provided::Named { url: mongodb_uri, by };
        if let Some(broker) = named(AMQP_URL_VARIABLE) {
            return Ok(Self { broker, database, _folder: None });
        }
        let folder = TempFolder::new()?;
        Ok(Self { broker: broker(folder.path()).await?, database, _folder: Some(folder) })
    }

    /// As [`Services::from_env_or_start`], but a set of the caller's own, which ends when it is dropped.
    ///
    /// # Errors
    /// When a server cannot be started.
    pub async fn start() -> Result<Self, Error> {
        let (amqp_url, mongodb_uri) = (named(AMQP_URL_VARIABLE), named(MONGODB_URI_VARIABLE));
        if let (Some(broker), Some(database)) = (amqp_url, mongodb_uri) {
            return Ok(Self { broker, database, _folder: None });
        }
        let folder = TempFolder::new()?;
        let (broker, database) = try_join!(broker(folder.path()), database(folder.path()))?;
        Ok(Self { broker, database, _folder: Some(folder) })
    }

    /// Where the broker is.
    pub fn amqp_url(&self) -> &str {
        self.broker.url()
    }

    /// Where the database is.
    pub fn mongodb_uri(&self) -> &str {
        self.database.url()
    }

    /// One line each: what was started where, and how long it took. Free of passwords.
    pub fn summary(&self) -> [String; 2] {
        [self.broker.summary("RabbitMQ"), self.database.summary("MongoDB")]
    }

    /// Stops what was started here, in order. Dropping does the same less politely.
    ///
    /// # Errors
    /// When the operating system cannot say whether a server has ended.
    pub async fn stop(mut self) -> Result<(), Error> {
        let broker = async {
            match &mut self.broker {
                Provided::Started { server, .. } => server.stop().await,
                Provided::Named { .. } => Ok(()),
            }
        };
        let database = async {
            match &mut self.database {
                Provided::Started { server, .. } => server.stop().await,
                Provided::Named { .. } => Ok(()),
            }
        };
        try_join!(broker, database).map(drop)
    }
}

impl<T> Provided<T> {
    fn url(&self) -> &str {
        match self {
            Self::Named { url, .. } | Self::Started { url, .. } => url,
        }
    }

    fn summary(&self, name: &str) -> String {
        match self {
            Self::Named { by, .. } => format!("{name}: the one named by {by}"),
            Self::Started { name, url, took, .. } => {
                let place = url.rsplit('@').next().unwrap_or(url);
                format!("{name}: {place}, started in {:.1} s", took.as_secs_f32())
            }
        }
    }
}

fn named<T>(variable: &'static str) -> Option<Provided<T>> {
    let url = env::var(variable).ok().filter(|url| !url.is_empty())?;
    Some(Provided::Named { url, by: variable })
}

async fn broker(folder: &Path) -> Result<Provided<RabbitMq>, Error> {
    if let Some(named) = named(AMQP_URL_VARIABLE) {
        return Ok(named);
    }
    let begun = Instant::now();
    let server = RabbitMq::start(&folder.join("rabbitmq"), RabbitMqOptions::default()).await?;
    let name = format!("RabbitMQ {}", server.version().await?);
    Ok(Provided::Started { name, url: server.amqp_url(), server, took: begun.elapsed() })
}

async fn database(folder: &Path) -> Result<Provided<Mongo>, Error> {
    if let Some(named) = named(MONGODB_URI_VARIABLE) {
        return Ok(named);
    }
    let begun = Instant::now();
    let server = Mongo::start(&folder.join("mongodb"), MongoOptions::default()).await?;
    let name = "MongoDB".to_owned();
    Ok(Provided::Started { name, url: server.uri(), server, took: begun.elapsed() })
}
