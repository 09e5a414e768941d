//! The `orderfleet-bare` binary: the bare server side of the benchmark, so that its processor time is told apart.

use std::process::ExitCode;

use clap::Parser as _;
use orderfleet_tests::bench::Bare;

#[tokio::main]
async fn main() -> ExitCode {
    match Bare::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("orderfleet-bare: {error:#}");
            ExitCode::FAILURE
        }
    }
}
