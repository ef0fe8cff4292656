//! The program `selvedge`: a Hyperledger Fabric peer, its command line and its development
//! networks.
//!
//! Verbs and flags are those of Fabric's `peer`, so a symbolic link named `peer` takes the place
//! of the Go program in scripts. What is ours alone stands beside them: `devnet`, `ledger` and
//! `simulate`.
//!
//! - `args`: what can be said on the command line.
//! - `client`: gRPC clients of a peer and of an ordering node, as the configured identity.
//! - `channel`, `devnet`, `ledger`, `node`, `simulate`, `snapshot`, `version`: the verbs.
//!
//! Results go to standard output, the log and errors to standard error. A failure is one line that
//! begins with `Error: `, and exit status 1, as in Fabric.

mod args;
mod channel;
mod client;
mod devnet;
mod failure;
mod ledger;
mod node;
mod signals;
mod simulate;
mod snapshot;
mod version;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use args::{Command, CommandLine, DevnetCommand, NodeCommand};
use failure::Failure;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let program = program_name(arguments.first());
    let command_line = match parse(program, arguments) {
        Ok(command_line) => command_line,
        Err(error) => return usage(&error),
    };
    match run(command_line.command, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::FAILURE
        }
    }
}

/// `peer` if the program was called by a link of that name, else its own name.
fn program_name(first: Option<&OsString>) -> &'static str {
    match first.map(Path::new).and_then(Path::file_stem) {
        Some(name) if name == "peer" => "peer",
        _ => "selvedge",
    }
}

fn parse(
    program: &'static str,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<CommandLine, clap::Error> {
    let command = CommandLine::command().name(program).bin_name(program);
    command
        .try_get_matches_from(arguments)
        .and_then(|found| CommandLine::from_arg_matches(&found))
}

/// Help goes to standard output with status 0; a wrong command line is an error like any other.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            failure::print_out(&text);
            ExitCode::SUCCESS
        }
        _ => {
            failure::print_error(text.strip_prefix("error: ").unwrap_or(&text));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, program: &'static str) -> Result<(), Failure> {
    match command {
        Command::Version => {
            failure::print_out(&version::text(program));
            Ok(())
        }
        Command::Channel(arguments) => channel::run(*arguments),
        Command::Snapshot(command) => snapshot::run(command),
        Command::Node(NodeCommand::Start { chaincode_dev }) => node::start(chaincode_dev),
        Command::Node(NodeCommand::Rollback {
            channel_id,
            block_number,
        }) => ledger::rollback(&channel_id, block_number),
        Command::Node(NodeCommand::Pause { channel_id }) => ledger::pause(&channel_id),
        Command::Node(NodeCommand::Resume { channel_id }) => ledger::resume(&channel_id),
        Command::Node(NodeCommand::Reset) => ledger::reset(),
        Command::Node(NodeCommand::RebuildDbs) => ledger::rebuild_dbs(),
        Command::Ledger(command) => ledger::run(&command),
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Devnet(DevnetCommand::Up(arguments)) => devnet::up(arguments),
    }
}

#[cfg(test)]
mod tests;
