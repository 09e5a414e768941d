//! The bare server side: what broker, database and services give to the same crates without any of the fleet's care. One
//! process per measurement, so that its processor time is its own.

mod acks;
mod broker;
mod group;
mod ingest;
mod limits;
mod pipeline;

use std::{future, net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};

pub(super) use broker::{Channels, QUEUE};

const AFTER_HELP: &str = "\
It is started by orderfleet-bench, which also ends it: after a measurement it stays, so that its processor time can be read.

Example: orderfleet-bare publish --amqp-url amqp://guest:guest@127.0.0.1:5672/%2f --bodies bodies.jsonl --seconds 5

Exit codes: 1 failed (stderr says why), 2 wrong usage";

/// What broker, database and services give without the fleet, to compare the fleet with. It promises nothing.
#[derive(Debug, Parser)]
#[command(name = "orderfleet-bare", version, after_help = AFTER_HELP)]
pub struct Bare {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Serves POST /v1/orders: the body into a quorum queue, its confirm, a 202
    Ingest {
        /// Address of the broker
        #[arg(long)]
        amqp_url: String,
        /// Address to listen on
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Publishes to a quorum queue, each message confirmed, and says how many
    Publish {
        /// Address of the broker
        #[arg(long)]
        amqp_url: String,
        /// File with a message per line
        #[arg(long, value_name = "FILE")]
        bodies: PathBuf,
        /// Messages whose confirm is outstanding
        #[arg(long, value_name = "N", default_value_t = 256)]
        outstanding: usize,
        /// How long
        #[arg(long, value_name = "SECONDS")]
        seconds: f64,
    },
    /// Writes documents, majority-committed and journaled, and says how many
    Write {
        /// Address of the database
        #[arg(long)]
        mongodb_uri: String,
        /// Name of the database
        #[arg(long)]
        database: String,
        /// What is written
        #[arg(long, value_enum)]
        kind: Kind,
        /// File with an order per line
        #[arg(long, value_name = "FILE")]
        bodies: PathBuf,
        /// Most writes in one command
        #[arg(long, value_name = "N", default_value_t = 100)]
        group: usize,
        /// Commands at once
        #[arg(long, value_name = "N", default_value_t = 2)]
        flights: usize,
        /// Writes waited for at once
        #[arg(long, value_name = "N", default_value_t = 256)]
        outstanding: usize,
        /// How long
        #[arg(long, value_name = "SECONDS")]
        seconds: f64,
    },
    /// Takes orders from the quorum queue through the three services and the database, and acks many at once
    Pipeline(Pipeline),
}

#[derive(Debug, clap::Args)]
struct Pipeline {
    /// Address of the broker
    #[arg(long)]
    amqp_url: String,
    /// Address of the database
    #[arg(long)]
    mongodb_uri: String,
    /// Name of the database
    #[arg(long)]
    database: String,
    /// Base address of the three services
    #[arg(long)]
    services: String,
    /// Durable writes per order: 1 after the calls, 2 around them, 3 around the last one and before the first, 4 around each
    #[arg(long, value_name = "1-4", default_value_t = 3)]
    writes: u8,
    /// Orders in hand at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    prefetch: u16,
    /// Most writes in one command
    #[arg(long, value_name = "N", default_value_t = 100)]
    group: usize,
    /// Commands of a kind at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    flights: usize,
    /// Where it says how many orders are done, under /metrics
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A new document with an order in it
    Insert,
    /// A few fields of a document that is there
    Update,
}

impl Bare {
    /// Runs until it is killed.
    ///
    /// # Errors
    /// When broker, database or a service does not do what it is asked.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.mode {
            Mode::Ingest { amqp_url, listen } => ingest::serve(&amqp_url, listen).await,
            Mode::Publish { amqp_url, bodies, outstanding, seconds } => {
                tell(limits::publish(&amqp_url, &bodies, outstanding, seconds).await?);
                future::pending().await
            }
            Mode::Write { mongodb_uri, database, kind, bodies, group, flights, outstanding, seconds } => {
                let database = group::database(&mongodb_uri, &database).await?;
                let load = limits::Writes { kind, group, flights, outstanding, seconds };
                tell(limits::write(&database, &bodies, load).await?);
                future::pending().await
            }
            Mode::Pipeline(pipeline) => pipeline.run().await,
        }
    }
}

/// What was done in which time.
#[derive(Debug, serde::Serialize)]
struct Done {
    count: u64,
    seconds: f64,
}

/// A line for whoever has started this process.
fn tell(said: impl serde::Serialize) {
    eprintln!("{}", serde_json::json!(said));
}
