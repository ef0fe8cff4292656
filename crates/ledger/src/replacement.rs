//! A chain in the place of another: for a channel whose blocks were stored without verdicts and are
//! validated anew.
//!
//! The new chain is made in a data directory of its own, `selvedge/rebuilding`, where nothing of it
//! counts. When it is complete, its folder of block files moves to `selvedge/replacements` in one step:
//! from then on it is going to take the place of the old one, whenever the process ends, since opening
//! the data directory completes what was begun.

use std::fs;
use std::path::{Path, PathBuf};

use crate::manager::Layout;
use crate::{LedgerError, LedgerManager};

impl LedgerManager {
    /// An empty data directory in this one, to make chains in that [`Self::replace_chain`] takes. What
    /// an earlier attempt has left is removed.
    pub fn rebuilding(&self) -> Result<PathBuf, LedgerError> {
        let folder = self.layout.rebuilding();
        if folder.exists() {
            self.remove(&folder)?;
        }
        self.disk
            .create_folder(&folder)
            .map_err(LedgerError::io("create", &folder))?;
        Ok(folder)
    }

    /// Puts the chain of a channel that was made in [`Self::rebuilding`] in the place of the channel's
    /// own, with the databases that were made of it. Neither may be open.
    pub fn replace_chain(&self, channel: &str) -> Result<(), LedgerError> {
        let rebuilding = self.layout.rebuilding();
        let made = Layout::new(&rebuilding);
        let replacements = self.layout.replacements();
        self.disk
            .create_folder(&replacements)
            .map_err(LedgerError::io("create", &replacements))?;
        self.rename(&made.chain(channel), &replacements.join(channel))?;
        self.sync(&replacements)?;
        self.complete_replacements()?;
        let (from, to) = (made.derived(channel), self.layout.derived(channel));
        if from.exists() {
            self.rename(&from, &to)?;
        }
        self.remove(&rebuilding)
    }

    /// Index and state of a channel, which must not be open, are removed: they are made anew from the
    /// blocks.
    pub fn remove_databases(&self, channel: &str) -> Result<(), LedgerError> {
        let folder = self.layout.derived(channel);
        if folder.exists() {
            self.remove(&folder)?;
        }
        Ok(())
    }

    /// Puts the complete chains in their places.
    pub(crate) fn complete_replacements(&self) -> Result<(), LedgerError> {
        let folder = self.layout.replacements();
        if !folder.exists() {
            return Ok(());
        }
        let listed = || LedgerError::io("list the chains in", &folder);
        for entry in fs::read_dir(&folder).map_err(listed())? {
            let name = entry.map_err(listed())?.file_name();
            let Some(channel) = name.to_str() else {
                continue;
            };
            // The databases first: they are of the old chain.
            self.remove_databases(channel)?;
            let chain = self.layout.chain(channel);
            if chain.exists() {
                self.remove(&chain)?;
            }
            self.rename(&folder.join(channel), &chain)?;
            self.sync_chains()?;
        }
        self.remove(&folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), LedgerError> {
        if let Some(parent) = to.parent() {
            self.disk
                .create_folder(parent)
                .map_err(LedgerError::io("create", parent))?;
        }
        self.disk
            .rename(from, to)
            .map_err(LedgerError::io("move", from))
    }

    fn sync(&self, folder: &Path) -> Result<(), LedgerError> {
        self.disk
            .sync_folder(folder)
            .map_err(LedgerError::io("sync", folder))
    }
}
