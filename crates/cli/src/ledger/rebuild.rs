//! `ledger rebuild`: all databases anew from the block files.

use std::path::Path;
use std::time::Instant;

use anyhow::anyhow;
use indicatif::ProgressBar;
use selvedge_ledger::{LedgerError, Options};
use selvedge_peer::commit::replay::replay;
use selvedge_peer::commit::{CommitError, CommitOptions, Committer, LevelObserver};
use selvedge_protos::Message as _;

use super::{channels, open, progress, stated_verdicts};
use crate::args::SnapshotLedgerArgs;
use crate::failure::{Failure, print_note};

/// Builds index, state and history of the channels anew. A chain whose blocks were stored without verdicts
/// is validated anew.
pub fn rebuild(arguments: &SnapshotLedgerArgs) -> Result<(), Failure> {
    let folder = &arguments.ledger.dir;
    let snapshot = arguments.snapshot.as_deref();
    let found = {
        let ledgers = open(folder, Options::default())?;
        channels(&ledgers, &arguments.ledger)?
    };
    for channel in found {
        let started = Instant::now();
        let (height, how) = match from_verdicts(folder, &channel, snapshot)? {
            Ok(height) => (height, "from their verdicts"),
            Err(unvalidated) => {
                print_note(&format!(
                    "{channel}: block {unvalidated} has no verdicts, so the whole chain is validated anew"
                ));
                let height = validate_anew(folder, &channel)?;
                (height, "validated anew")
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        print_note(&format!(
            "{channel}: {height} blocks, {how}, {seconds:.3} seconds"
        ));
    }
    Ok(())
}

/// Gives the height; or, if that cannot be done, the first block without verdicts.
fn from_verdicts(
    folder: &Path,
    channel: &str,
    snapshot: Option<&Path>,
) -> Result<Result<u64, u64>, Failure> {
    let indexing = progress::bytes(0)?.with_message(format!("{channel}: index "));
    let options = {
        let bar = indexing.clone();
        Options {
            rebuild_observer: Some(std::sync::Arc::new(move |progress| {
                bar.set_length(progress.total_bytes);
                bar.set_position(progress.bytes);
            })),
            ..Options::default()
        }
    };
    let ledgers = open(folder, options)?;
    // What cannot be rebuilt is told before anything is removed.
    let first = ledgers.inspect(channel)?.first_block()?;
    match snapshot {
        Some(snapshot) => ledgers.rebuild_from_snapshot(channel, snapshot)?,
        None if first > 0 => {
            return Err(anyhow!(
                "channel {channel} was joined by a snapshot and begins with block {first}, so its databases \
                 cannot be made of its blocks alone: give the folder of that snapshot with --snapshot, or \
                 remove the channel's ledger and join it by a snapshot again"
            )
            .into());
        }
        None => ledgers.remove_databases(channel)?,
    }
    let blocks = ledgers.open_channel(channel);
    indexing.finish_and_clear();
    let blocks = blocks?;
    let state = ledgers.open_state(channel)?;
    let height = blocks.height();
    let applying = progress::blocks(height)?.with_message(format!("{channel}: state "));
    let options = CommitOptions {
        observer: Some(LevelObserver::new({
            let bar: ProgressBar = applying.clone();
            move |progress| bar.set_position(progress.height)
        })),
        ..CommitOptions::default()
    };
    let committer = Committer::open(blocks, state, options);
    applying.finish_and_clear();
    match committer {
        Ok(_) => Ok(Ok(height)),
        Err(CommitError::NoVerdicts { block, .. }) if first == 0 => Ok(Err(block)),
        Err(error) => Err(error.into()),
    }
}

/// Validates a chain into a ledger aside and puts that in the place of the channel's.
fn validate_anew(folder: &Path, channel: &str) -> Result<u64, Failure> {
    let ledgers = open(folder, Options::default())?;
    let inspection = ledgers.inspect(channel)?;
    let bar = progress::bytes(inspection.total_bytes()?)?;
    let bar = bar.with_message(format!("{channel}: validation "));
    let mut stored = inspection.blocks()?;
    let blocks = std::iter::from_fn(|| {
        let block = stored.next_block().transpose()?;
        Some(block.map(|block| {
            bar.inc(block.length());
            block.block.encode_to_vec().into()
        }))
    });
    let aside = selvedge_ledger::LedgerManager::open(&ledgers.rebuilding()?, Options::default())?;
    let validation = selvedge_validation::Options {
        stated: stated_verdicts(channel)?,
        ..selvedge_validation::Options::default()
    };
    let mut height = 0;
    let replayed = replay::<LedgerError>(blocks, &aside, &validation, |_| height += 1);
    bar.finish_and_clear();
    // Everything of it must be closed before it is moved.
    drop(replayed?);
    drop(aside);
    ledgers.replace_chain(channel)?;
    Ok(height)
}
