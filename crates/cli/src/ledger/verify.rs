//! `ledger verify`: a ledger checked against itself.

use anyhow::{Context as _, anyhow};
use indicatif::ProgressBar;
use selvedge_ledger::{LedgerManager, Options};
use selvedge_peer::commit::verify::{Finding, Observer, Verified, verify as verify_ledger};

use super::{LEDGERS, channels, open, progress};
use crate::args::SnapshotLedgerArgs;
use crate::failure::{Failure, print_note, print_out};

/// Prints what is found as it is found.
struct Printer<'a> {
    channel: &'a str,
    bar: ProgressBar,
}

impl Observer for Printer<'_> {
    fn found(&mut self, finding: Finding) {
        let line = match finding {
            Finding::Wrong(part, what) => format!("{}: {part}: {what}\n", self.channel),
            Finding::Unfinished(part, what) => {
                format!("{}: note: {part}: {what}\n", self.channel)
            }
        };
        self.bar.suspend(|| print_out(&line));
    }

    fn verified(&mut self, bytes: u64) {
        self.bar.inc(bytes);
    }
}

/// Checks the ledgers of a data directory. An error if one is not sound.
pub fn verify(arguments: &SnapshotLedgerArgs) -> Result<(), Failure> {
    let ledgers = open(&arguments.ledger.dir, Options::default())?;
    let mut wrong = 0;
    for channel in channels(&ledgers, &arguments.ledger)? {
        wrong += verify_channel(&ledgers, arguments, &channel)?.wrong;
    }
    match wrong {
        0 => Ok(()),
        1 => Err(anyhow!("1 fault was found").into()),
        _ => Err(anyhow!("{wrong} faults were found").into()),
    }
}

fn verify_channel(
    ledgers: &LedgerManager,
    arguments: &SnapshotLedgerArgs,
    channel: &str,
) -> Result<Verified, Failure> {
    let inspection = ledgers.inspect(channel)?;
    // Where there is room for a second state: beside the first.
    let scratch = tempfile::Builder::new()
        .prefix("verify-")
        .tempdir_in(arguments.ledger.dir.join(LEDGERS).join("selvedge"))
        .context("cannot make a folder for the state that follows from the blocks")?;
    let mut printer = Printer {
        channel,
        bar: progress::bytes(inspection.total_bytes()?)?.with_message(format!("{channel} ")),
    };
    let verified = verify_ledger(
        &inspection,
        arguments.snapshot.as_deref(),
        scratch.path(),
        &mut printer,
    );
    printer.bar.finish_and_clear();
    let verified = verified?;
    let Verified {
        blocks,
        transactions,
        entries,
        wrong,
    } = verified;
    let verdict = match wrong {
        0 => "no fault found".to_owned(),
        1 => "1 fault".to_owned(),
        _ => format!("{wrong} faults"),
    };
    print_note(&format!(
        "{channel}: {blocks} blocks, {transactions} transactions, {entries} entries of the state: {verdict}"
    ));
    Ok(verified)
}
