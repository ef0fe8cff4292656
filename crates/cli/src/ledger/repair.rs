//! `ledger repair`: damaged blocks are given up, for others to be fetched.

use std::io::{IsTerminal as _, stdin};

use anyhow::{Context as _, anyhow};
use selvedge_ledger::{Damage, LedgerManager, Options};

use super::{channels, open, progress};
use crate::args::RepairArgs;
use crate::failure::{Failure, print_note, print_out};

/// Looks for damage to the block files of the channels and cuts them off before it.
pub fn repair(arguments: &RepairArgs) -> Result<(), Failure> {
    let ledgers = open(&arguments.ledger.dir, Options::default())?;
    for channel in channels(&ledgers, &arguments.ledger)? {
        repair_channel(&ledgers, &channel, arguments.yes)?;
    }
    Ok(())
}

fn repair_channel(ledgers: &LedgerManager, channel: &str, yes: bool) -> Result<(), Failure> {
    let bar = progress::bytes(0)?.with_message(format!("{channel}: "));
    let damage = ledgers.find_damage(channel, &mut |bytes| {
        bar.inc_length(bytes);
        bar.inc(bytes);
    });
    bar.finish_and_clear();
    let Some(Damage { error, cut }) = damage? else {
        print_note(&format!("{channel}: the block files are sound"));
        return Ok(());
    };
    print_out(&format!("{channel}: {error}\n"));
    ledgers.check_cut(&cut)?;
    let (height, bytes) = (cut.height(), cut.lost_bytes());
    if !yes
        && !confirmed(&format!(
            "{channel}: keep the {height} blocks before it and remove the rest, {bytes} bytes?"
        ))?
    {
        return Err(anyhow!("{channel}: nothing was changed").into());
    }
    ledgers.cut(&cut)?;
    print_note(&format!(
        "{channel}: {height} blocks are kept, {bytes} bytes were removed; the peer fetches block {height} and \
         those after it when it is started"
    ));
    Ok(())
}

fn confirmed(question: &str) -> Result<bool, anyhow::Error> {
    if !stdin().is_terminal() {
        return Err(anyhow!(
            "nobody can be asked whether blocks may be removed: say so with --yes"
        ));
    }
    print_out(&format!("{question} [y/N] "));
    let mut answer = String::new();
    stdin().read_line(&mut answer).context("no answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
