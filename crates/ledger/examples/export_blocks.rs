//! Writes the blocks of a channel's ledger to files, as `selvedge ledger replay` reads them.
//!
//! `cargo run -p selvedge-ledger --example export_blocks DATA CHANNEL DIR`

#![allow(missing_docs)]

use std::error::Error;
use std::fs;
use std::path::Path;

use selvedge_ledger::{LedgerManager, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [data, channel, folder] = &arguments[..] else {
        return Err("give a data directory, a channel and a folder for the blocks".into());
    };
    fs::create_dir_all(folder)?;
    let ledgers = LedgerManager::open(Path::new(data), Options::default())?;
    for block in ledgers.open_channel(channel)?.blocks_from(0) {
        let (number, bytes) = block?;
        fs::write(Path::new(folder).join(format!("{number:06}.block")), bytes)?;
    }
    Ok(())
}
