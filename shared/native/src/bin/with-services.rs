//! `with-services CMD ARGS…` runs a command with a broker and a database of its own.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use clap::Parser;
use orderfleet_native::{
    AMQP_URL_VARIABLE, MONGODB_IMAGE_VARIABLE, MONGODB_URI_VARIABLE, MongoCluster, MongoOptions, Services,
    TempFolder,
};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

/// Starts RabbitMQ and MongoDB in a temporary folder, runs the command with ORDERFLEET_AMQP_URL and
/// ORDERFLEET_MONGODB_URI set, stops both and exits with the command's status.
///
/// A variable that is set already names a running server, which is used instead.
///
/// Example: with-services cargo test --workspace
#[derive(Parser)]
#[command(verbatim_doc_comment)]
struct Args {
    /// Let the database be a sharded cluster of a config server, two shards and a router, from the Docker image named by
    /// ORDERFLEET_MONGODB_IMAGE if one is. Without a `mongos` in it, on PATH or named by ORDERFLEET_MONGOS the command is
    /// skipped, which is said, and the status is 0
    #[arg(long)]
    sharded: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.sharded {
        return run_sharded(&args.command).await;
    }
    let services = Services::start().await?;
    for line in services.summary() {
        eprintln!("with-services: {line}");
    }
    let status = run(&args.command, &services).await;
    services.stop().await?;
    Ok(exit_code(status?))
}

async fn run_sharded(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let image = std::env::var(MONGODB_IMAGE_VARIABLE).ok().filter(|image| !image.is_empty());
    let options = MongoOptions { image, ..MongoOptions::default() };
    if !MongoCluster::has_router(&options)? {
        let looked = options.image.map_or_else(
            || "on PATH, and none named by ORDERFLEET_MONGOS".to_owned(),
            |image| format!("in the image {image} of {MONGODB_IMAGE_VARIABLE}"),
        );
        eprintln!(
            "with-services: SKIPPED, nothing was run: a sharded cluster needs a router, and there is no mongos {looked}"
        );
        return Ok(ExitCode::SUCCESS);
    }
    let folder = TempFolder::new()?;
    let mut cluster = MongoCluster::start(folder.path(), &options).await?;
    let uri = cluster.router_uri().context("the router was there a moment ago")?;
    eprintln!(
        "with-services: MongoDB cluster: router {uri}, two shards, started in {:.1} s",
        cluster.took().as_secs_f32()
    );
    let services = Services::start_beside(uri, "--sharded").await?;
    let status = run(command, &services).await;
    services.stop().await?;
    cluster.stop().await?;
    Ok(exit_code(status?))
}

async fn run(command: &[OsString], services: &Services) -> anyhow::Result<ExitStatus> {
    let (program, arguments) = command.split_first().context("no command given")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut child = Command::new(program)
        .args(arguments)
        .env(AMQP_URL_VARIABLE, services.amqp_url())
        .env(MONGODB_URI_VARIABLE, services.mongodb_uri())
        .spawn()
        .with_context(|| format!("could not start {}", program.display()))?;
    loop {
        tokio::select! {
            status = child.wait() => return status.context("could not wait for the command"),
            // The terminal sends Ctrl-C to the command as well; its services stay until it has ended.
            _ = interrupt.recv() => {}
            _ = terminate.recv() => pass_on_sigterm(&child).await?,
        }
    }
}

async fn pass_on_sigterm(child: &Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id() {
        Command::new("kill").arg(pid.to_string()).status().await.context("could not run kill")?;
    }
    Ok(())
}

/// As shells do: 128 + n for a command ended by signal n.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}
