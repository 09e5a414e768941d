//! The `orderfleet-bench` binary: what the fleet does in figures, beside what its servers do without it.

#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::process::ExitCode;

use clap::Parser as _;
use orderfleet_tests::bench::{self, Options, Output};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let output = options.output;
    match run(options, output).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("orderfleet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options, output: Output) -> anyhow::Result<ExitCode> {
    let report = bench::run(options).await?;
    match output {
        Output::Text => println!("\n{}", report.text()),
        Output::Json => println!("{}", serde_json::to_string(&report)?),
    }
    Ok(if report.accounts.missing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
