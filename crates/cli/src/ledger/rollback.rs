//! `node rollback`, `node reset`, `node rebuild-dbs`, `node pause` and `node resume`: Fabric's verbs for the
//! data directory of a peer that does not run. After the first three the next start makes the databases anew
//! and fetches the blocks that are not there.
//!
//! # Differences from Fabric
//!
//! Fabric drops the databases of all channels with either of them, and so refuses where any channel was joined
//! by a snapshot. Here a rollback touches the channel that it names, and only such a channel is refused.
//!
//! Fabric notes how high a chain was, and endorses nothing until it is so high again. Here nothing is noted.

use anyhow::anyhow;
use selvedge_ledger::{LedgerManager, Options};
use selvedge_peer::config::Sources;

use super::open;
use crate::failure::{Failure, print_note};

/// `node rollback`: `last` becomes the last block of the channel.
pub fn rollback(channel: &str, last: u64) -> Result<(), Failure> {
    check_given(channel)?;
    let ledgers = configured()?;
    cut_after(&ledgers, channel, last)?;
    print_note(&format!(
        "The channel [{channel}] has been successfully rolled back to the block number [{last}]"
    ));
    Ok(())
}

/// `node reset`: all channels keep their genesis block only.
pub fn reset() -> Result<(), Failure> {
    let ledgers = configured()?;
    let channels = ledgers.channels()?;
    refuse_snapshots(&ledgers, &channels, "reset channels")?;
    for channel in channels {
        // A channel that has no more already is left alone.
        match cut_after(&ledgers, &channel, 0) {
            Err(selvedge_ledger::LedgerError::NothingToCut { .. }) => {
                ledgers.remove_databases(&channel)?;
            }
            result => result?,
        }
    }
    print_note("All channel ledgers have been successfully reset to the genesis block");
    Ok(())
}

/// `node rebuild-dbs`: the databases of all channels are dropped.
pub fn rebuild_dbs() -> Result<(), Failure> {
    let ledgers = configured()?;
    let channels = ledgers.channels()?;
    refuse_snapshots(&ledgers, &channels, "rebuild databases")?;
    for channel in channels {
        ledgers.remove_databases(&channel)?;
        print_note(&format!(
            "The databases of channel [{channel}] have been dropped"
        ));
    }
    Ok(())
}

/// `node pause`: the next start does not open the channel.
pub fn pause(channel: &str) -> Result<(), Failure> {
    check_given(channel)?;
    configured()?.pause(channel)?;
    print_note(&format!(
        "The channel [{channel}] has been successfully paused"
    ));
    Ok(())
}

/// `node resume`: the next start opens the channel again.
pub fn resume(channel: &str) -> Result<(), Failure> {
    check_given(channel)?;
    configured()?.resume(channel)?;
    print_note(&format!(
        "The channel [{channel}] has been successfully resumed"
    ));
    Ok(())
}

fn check_given(channel: &str) -> Result<(), Failure> {
    match channel {
        "" => Err(anyhow!("Must supply channel ID").into()),
        _ => Ok(()),
    }
}

/// The data directory that core.yaml names.
fn configured() -> Result<LedgerManager, Failure> {
    let configured = Sources::discover().and_then(|sources| sources.file_system_path());
    let configured = configured.map_err(|error| {
        Failure::Setup(format!(
            "Fatal error when initializing core config : {error}"
        ))
    })?;
    open(&configured.config, Options::default())
}

fn cut_after(
    ledgers: &LedgerManager,
    channel: &str,
    last: u64,
) -> Result<(), selvedge_ledger::LedgerError> {
    let cut = ledgers.cut_after(channel, last, &mut |_| {})?;
    ledgers.cut(&cut)
}

/// The words are Fabric's.
fn refuse_snapshots(
    ledgers: &LedgerManager,
    channels: &[String],
    what: &str,
) -> Result<(), Failure> {
    let mut joined = Vec::new();
    for channel in channels {
        if ledgers.inspect(channel)?.first_block()? > 0 {
            joined.push(channel.as_str());
        }
    }
    if joined.is_empty() {
        return Ok(());
    }
    Err(anyhow!(
        "cannot {what} because the peer contains channel(s) [{}] that were bootstrapped from snapshot",
        joined.join(" ")
    )
    .into())
}
