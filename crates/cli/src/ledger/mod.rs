//! `ledger`: work on ledgers without a node.
//!
//! All but `replay` take the directory of `peer.fileSystemPath`, a Go peer's too, and refuse while a peer
//! holds it.

mod dump_state;
mod progress;
mod rebuild;
mod replay;
mod verify;

use std::path::Path;

use anyhow::anyhow;
use selvedge_ledger::{LedgerManager, Options};

use crate::args::{LedgerCommand, OfflineArgs};
use crate::failure::Failure;

/// Runs one of the verbs.
pub fn run(command: &LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::Replay(arguments) => replay::replay(arguments),
        LedgerCommand::Verify(arguments) => verify::verify(arguments),
        LedgerCommand::Rebuild(arguments) => rebuild::rebuild(arguments),
        LedgerCommand::DumpState(arguments) => dump_state::dump_state(arguments),
    }
}

/// The folder that holds all ledgers of a peer.
const LEDGERS: &str = "ledgersData";

/// Opens a data directory that is there.
fn open(folder: &Path, options: Options) -> Result<LedgerManager, Failure> {
    if !folder.join(LEDGERS).is_dir() {
        return Err(anyhow!(
            "{} holds no ledgers: there is no folder {LEDGERS} in it; give the directory that \
             peer.fileSystemPath names",
            folder.display()
        )
        .into());
    }
    Ok(LedgerManager::open(folder, options)?)
}

/// The channel that was asked for, or all that there are.
fn channels(ledgers: &LedgerManager, arguments: &OfflineArgs) -> Result<Vec<String>, Failure> {
    if let Some(channel) = &arguments.channel {
        return Ok(vec![channel.clone()]);
    }
    let channels = ledgers.channels()?;
    if channels.is_empty() {
        return Err(anyhow!("no channel has a ledger in {}", arguments.dir.display()).into());
    }
    Ok(channels)
}
