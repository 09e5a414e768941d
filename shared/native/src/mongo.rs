//! A MongoDB server of its own: a replica set of one, loopback only. A set of three is in `mongo/set.rs`, a sharded cluster in
//! `mongo/cluster.rs`.

mod cluster;
mod options;
mod program;
mod replica_set;
mod server;
mod set;
mod status;
mod wire;

use std::path::Path;
use std::process::ExitStatus;

use crate::Error;
use crate::process::Signal;
use server::Server;

pub use cluster::{MongoCluster, SHARDS};
pub use options::{MongoOptions, MongoRole, MongoSetOptions};
pub use program::MONGODB_IMAGE_VARIABLE;
pub use set::{Killed, MongoSet, StepDown};
pub use status::{MemberState, MemberStatus};

/// A running MongoDB server. Dropping it kills the server, and so does the end of this process.
#[derive(Debug)]
pub struct Mongo {
    server: Server,
}

impl Mongo {
    /// Starts a server on the data in `dir`, which is made if need be, and waits until it is a writable primary.
    /// Data and port stay in `dir`: a later start continues there. After a crash, journaled writes are recovered.
    ///
    /// # Errors
    /// When `mongod` is not found, another server runs in `dir`, or it ends or is not ready in time; the error
    /// carries its last log lines.
    pub async fn start(dir: &Path, options: MongoOptions) -> Result<Self, Error> {
        let role = options.role;
        let mut server = Server::start(dir, options).await?;
        server.until(|port| replica_set::advance(port, role)).await?;
        Ok(Self { server })
    }

    /// Connection string. The same over restarts.
    pub fn uri(&self) -> String {
        replica_set::uri(&[replica_set::address(self.server.port)], self.server.options.role)
    }

    /// Where the server's output goes.
    pub fn log(&self) -> &Path {
        &self.server.log
    }

    /// Sends the server a signal, such as [`Signal::Stop`] for a hang.
    pub fn signal(&mut self, signal: Signal) {
        self.server.signal(signal);
    }

    /// Waits until the server has ended, whatever the cause. May be dropped and called again.
    ///
    /// # Errors
    /// When the operating system cannot say.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.server.wait().await
    }

    /// Ends the server at once, as a crash would; its data stays for [`Mongo::restart`].
    ///
    /// # Errors
    /// When the operating system cannot say whether it has ended.
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.server.kill().await.map(drop)
    }

    /// Stops the server if it still runs, and starts it again with the same data on the same port.
    ///
    /// # Errors
    /// As [`Mongo::start`]; it may be called again.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.server.restart().await?;
        let role = self.server.options.role;
        self.server.until(|port| replica_set::advance(port, role)).await
    }

    /// Stops the server in order; its data stays. A second call does nothing.
    ///
    /// # Errors
    /// When the operating system cannot say whether it has ended.
    pub async fn stop(&mut self) -> Result<(), Error> {
        self.server.stop().await.map(drop)
    }
}
