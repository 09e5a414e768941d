//! `orderfleet`: the operator's and developer's CLI. Each command is one file, registered below in one line.

mod audit;
mod client;
mod compat;
mod craft;
mod dlq;
mod doctor;
mod downstream;
mod endpoints;
mod exit;
mod export;
mod fleet;
mod fleet_command;
mod keys;
mod load;
mod log;
mod orders;
mod output;
mod probe;
mod shard;
mod topology;
mod up;
mod workers;

use std::process::ExitCode;

use clap::Parser as _;

/// Post, follow and operate orders of an orderfleet
#[derive(Debug, clap::Parser)]
#[command(version, after_help = exit::HELP)]
struct Cli {
    /// Form of the result on stdout
    #[arg(long, global = true, value_enum, default_value = "table")]
    output: output::Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Load(load::Args),
    Keys(keys::Args),
    Up(up::Args),
    Orders(orders::Args),
    Log(log::Args),
    Dlq(dlq::Args),
    Audit(audit::Args),
    Fleet(fleet_command::Args),
    Downstream(downstream::Args),
    Topology(topology::Args),
    Shard(shard::Args),
    Compat(compat::Args),
    Doctor(doctor::Args),
    Probe(probe::Args),
    Completions(craft::Completions),
    Man(craft::Man),
    ExitCodes(craft::ExitCodes),
    Environment(craft::Environment),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Cli { output, command } = Cli::parse();
    let result = match command {
        Command::Load(args) => load::run(args, output).await,
        Command::Keys(args) => keys::run(&args, output),
        Command::Up(args) => up::run(args, output).await,
        Command::Orders(args) => orders::run(args, output).await,
        Command::Log(args) => log::run(args, output).await,
        Command::Dlq(args) => dlq::run(args, output).await,
        Command::Audit(args) => audit::run(args, output).await,
        Command::Fleet(args) => fleet_command::run(args, output).await,
        Command::Downstream(args) => downstream::run(args, output).await,
        Command::Topology(args) => topology::run(args, output).await,
        Command::Shard(args) => shard::run(args, output).await,
        Command::Compat(args) => compat::run(args, output).await,
        Command::Doctor(args) => doctor::run(args, output).await,
        Command::Probe(args) => probe::run(args).await,
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(),
        Command::ExitCodes(_) => craft::ExitCodes::run(),
        Command::Environment(_) => craft::Environment::run(),
    };
    result.unwrap_or_else(|error| exit::report(&error))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_has_no_contradictions() {
        super::Cli::command().debug_assert();
    }
}
