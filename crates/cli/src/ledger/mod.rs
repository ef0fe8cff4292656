//! `ledger`: work on ledgers without a node.
//!
//! The verbs of `node` that need no node are here too: `rollback`, `reset`, `rebuild-dbs`, `pause`,
//! `resume`.
//!
//! All verbs of `ledger` but `replay` take the directory of `peer.fileSystemPath`, a Go peer's too, and refuse while a peer
//! holds it.

mod dump_state;
mod progress;
mod rebuild;
mod repair;
mod replay;
mod rollback;
mod verify;

use std::path::Path;

use anyhow::anyhow;
use selvedge_ledger::{LedgerManager, Options};
use selvedge_peer::config::{ConfigError, Sources};
use selvedge_validation::StatedVerdicts;

use crate::args::{LedgerCommand, OfflineArgs};
use crate::failure::{Failure, print_note};

pub use rollback::{pause, rebuild_dbs, reset, resume, rollback};

/// Runs one of the verbs.
pub fn run(command: &LedgerCommand) -> Result<(), Failure> {
    match command {
        LedgerCommand::Replay(arguments) => replay::replay(arguments),
        LedgerCommand::Verify(arguments) => verify::verify(arguments),
        LedgerCommand::Repair(arguments) => repair::repair(arguments),
        LedgerCommand::Rebuild(arguments) => rebuild::rebuild(arguments),
        LedgerCommand::DumpState(arguments) => dump_state::dump_state(arguments),
    }
}

/// The verdicts that an operator has stated for a channel, in the core.yaml that a node would read. None
/// without such a file.
fn stated_verdicts(channel: &str) -> Result<StatedVerdicts, Failure> {
    let sources = match Sources::discover() {
        Err(ConfigError::NotFound { .. }) => return Ok(StatedVerdicts::default()),
        sources => sources?,
    };
    let mut stated = sources.stated_verdicts()?.config;
    let stated = stated.remove(channel).unwrap_or_default();
    if !stated.is_empty() {
        print_note(&format!(
            "{channel}: {} verdicts are stated by ledger.statedVerdicts",
            stated.len()
        ));
    }
    Ok(stated)
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
