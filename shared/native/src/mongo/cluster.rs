//! A sharded cluster on one machine: a config server, two shards, each a replica set of one, and a router where there is one.
//! Without a router it is a real cluster all the same: its metadata, its shards and their migrations are MongoDB's own, and only
//! what a `mongos` does between clients and shards is missing.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::try_join;

use super::program::{Place, Program};
use super::replica_set::{accepted, address, ask};
use super::wire::Document;
use super::{Mongo, MongoOptions, MongoRole};
use crate::process::Process;
use crate::ready::{lock, until, until_ready};
use crate::{Error, Ports};

/// The shards' names, which are also those of their replica sets.
pub const SHARDS: [&str; 2] = ["shard0", "shard1"];
const STOP_GRACE: Duration = Duration::from_secs(20);

/// A running cluster. Dropping it kills its servers, and so does the end of this process.
#[derive(Debug)]
pub struct MongoCluster {
    router: Option<Router>,
    shards: [Mongo; 2],
    config: Mongo,
    took: Duration,
}

#[derive(Debug)]
struct Router {
    process: Process,
    port: u16,
}

impl MongoCluster {
    /// Starts a cluster on the data in `dir`, which is made if need be, with a router if there is one. A later start continues
    /// there.
    ///
    /// # Errors
    /// When `mongod` is not found, `ORDERFLEET_MONGOS` names no file, another server runs in `dir`, or one ends or is not ready in
    /// time; the error carries its last log lines.
    pub async fn start(dir: &Path, options: &MongoOptions) -> Result<Self, Error> {
        let begun = Instant::now();
        let member = |name: &'static str, role| {
            let options = MongoOptions { role, log: None, ..options.clone() };
            async move { Mongo::start(&dir.join(name), options).await }
        };
        let (config, first, second) = try_join!(
            member("config", MongoRole::ConfigServer),
            member(SHARDS[0], MongoRole::Shard(SHARDS[0])),
            member(SHARDS[1], MongoRole::Shard(SHARDS[1])),
        )?;
        let shards = [first, second];
        for (name, shard) in SHARDS.iter().zip(&shards) {
            let add = || add_shard(config.server.port, name, shard.server.port);
            until("the cluster to take a shard", options.start_timeout, add).await?;
        }
        let router = match Program::mongos(options.image.as_deref())? {
            Some(program) => Some(start_router(&program, dir, &config, options).await?),
            None => None,
        };
        Ok(Self { router, shards, config, took: begun.elapsed() })
    }

    /// Whether there is a `mongos`: in the image; without one that named by `ORDERFLEET_MONGOS`, else one on `PATH`.
    ///
    /// # Errors
    /// `ORDERFLEET_MONGOS` names no file, or docker has no such image.
    pub fn has_router(options: &MongoOptions) -> Result<bool, Error> {
        Ok(Program::mongos(options.image.as_deref())?.is_some())
    }

    /// Connection string of the router, if there is one.
    pub fn router_uri(&self) -> Option<String> {
        self.router.as_ref().map(|router| format!("mongodb://{}/", address(router.port)))
    }

    /// Connection string of the config server.
    pub fn config_uri(&self) -> String {
        self.config.uri()
    }

    /// Connection strings of the shards, in the order of [`SHARDS`]: whoever writes there goes past the router.
    pub fn shard_uris(&self) -> [String; 2] {
        self.shards.each_ref().map(Mongo::uri)
    }

    /// How long the start took.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Stops all of it in order; its data stays. A second call does nothing.
    ///
    /// # Errors
    /// When the operating system cannot say whether a server has ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        if let Some(router) = &mut self.router {
            router.process.stop(STOP_GRACE).await?;
        }
        let [first, second] = &mut self.shards;
        try_join!(first.stop(), second.stop())?;
        self.config.stop().await
    }
}

/// What a router asks of the config server for `addShard`. A second call finds the shard there.
async fn add_shard(config_port: u16, name: &str, port: u16) -> Result<(), String> {
    let majority = Document::default().text("w", "majority");
    let add = Document::default()
        .text("_configsvrAddShard", &format!("{name}/{}", address(port)))
        .text("name", name)
        .document("writeConcern", &majority);
    accepted(&ask(config_port, add).await?)
}

async fn start_router(
    program: &Program,
    dir: &Path,
    config: &Mongo,
    options: &MongoOptions,
) -> Result<Router, Error> {
    let dir = dir.join("router");
    std::fs::create_dir_all(&dir).map_err(Error::io(format!("make {}", dir.display())))?;
    let port = Ports::open(&dir.join("ports"))?.take("mongos")?;
    let mut arguments = vec![
        "--bind_ip=127.0.0.1".to_owned(),
        "--nounixsocket".to_owned(),
        "--networkMessageCompressors=disabled".to_owned(),
        format!("--port={port}"),
        format!("--configdb={}/{}", MongoRole::ConfigServer.set_name(), address(config.server.port)),
    ];
    if options.test_commands {
        arguments.extend(["--setParameter".to_owned(), "enableTestCommands=1".to_owned()]);
    }
    let log = dir.join("mongos.log");
    let place = Place {
        name: "mongos",
        dir: &dir,
        log: &log,
        lock: lock(&dir).await?,
        orphan_grace: options.orphan_grace,
    };
    let mut process = program.start(&arguments, place)?;
    until_ready(&mut process, options.start_timeout, || is_router(port)).await?;
    Ok(Router { process, port })
}

async fn is_router(port: u16) -> Result<(), String> {
    let hello = ask(port, Document::default().int("hello", 1)).await?;
    let is_router = hello.text("msg").is_some_and(|text| text == "isdbgrid");
    if is_router { Ok(()) } else { Err("it does not say that it is a router".to_owned()) }
}
