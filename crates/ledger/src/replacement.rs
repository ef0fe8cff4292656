//! A chain in the place of another: for a channel whose blocks were stored without verdicts and are
//! validated anew.
//!
//! The new chain is made in a data directory of its own, `selvedge/rebuilding`, where nothing of it
//! counts. When it is complete, its folder of block files moves to `selvedge/replacements` in one step:
//! from then on it is going to take the place of the old one, whenever the process ends, since opening
//! the data directory completes what was begun.

use std::fs;
use std::path::{Path, PathBuf};

use crate::channel_id::validate_channel_id;
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
            self.sync_folder(folder.parent().unwrap_or(&folder))?;
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
            let channel = name.to_str();
            let Some(channel) = channel.filter(|name| validate_channel_id(name).is_ok()) else {
                continue;
            };
            // The databases first: they are of the old chain.
            self.remove_databases(channel)?;
            let chain = self.layout.chain(channel);
            if chain.exists() {
                self.remove(&chain)?;
            }
            self.rename(&folder.join(channel), &chain)?;
        }
        self.remove(&folder)
    }

    /// Moves a folder; when this returns, it is safe in its new place.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), LedgerError> {
        let parent = to.parent().unwrap_or(to);
        self.disk
            .create_folder(parent)
            .map_err(LedgerError::io("create", parent))?;
        self.disk
            .rename(from, to)
            .map_err(LedgerError::io("move", from))?;
        self.disk
            .sync_folder(parent)
            .map_err(LedgerError::io("sync", parent))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::Options;
    use crate::test_support::{CHANNEL, chain, scratch};
    use crate::testing::FailingDisk;

    fn open(folder: &Path) -> LedgerManager {
        LedgerManager::open(folder, Options::default()).unwrap()
    }

    /// A ledger of two blocks, and a complete one of three that is to take its place.
    fn prepare(folder: &Path) {
        let blocks = chain(3);
        let manager = open(folder);
        let old = manager.create_channel(CHANNEL, &blocks[0]).unwrap();
        old.append(&blocks[1]).unwrap();
        let aside = open(&manager.rebuilding().unwrap());
        let new = aside.create_channel(CHANNEL, &blocks[0]).unwrap();
        new.append_batch(&blocks[1..]).unwrap();
    }

    #[test]
    fn a_chain_takes_the_place_of_another_whenever_the_process_ends() {
        let replace = |folder: &Path, budget| {
            prepare(folder);
            let disk = FailingDisk::by_operation(budget);
            let manager =
                LedgerManager::open_on(folder, Arc::new(disk.clone()), Options::default());
            let replaced = manager.and_then(|manager| manager.replace_chain(CHANNEL));
            disk.cut_power(false);
            (replaced, disk.used())
        };
        let (replaced, steps) = replace(scratch().path(), u64::MAX);
        replaced.unwrap();
        let mut heights = Vec::new();
        for budget in 0..=steps {
            let folder = scratch();
            let (replaced, _) = replace(folder.path(), budget);
            assert_eq!(replaced.is_ok(), budget == steps);
            let manager = open(folder.path());
            assert_eq!(manager.channels().unwrap(), [CHANNEL], "{budget}");
            let store = manager.open_channel(CHANNEL).unwrap();
            assert_eq!(
                store.blocks_from(0).flatten().count() as u64,
                store.height()
            );
            assert!(!manager.layout.replacements().exists());
            heights.push(store.height());
        }
        // First the old one, then the new one, and nothing else.
        assert!(heights.is_sorted());
        assert_eq!((heights.first(), heights.last()), (Some(&2), Some(&3)));
    }

    #[test]
    fn what_is_no_channel_is_not_put_among_the_chains() {
        let folder = scratch();
        let layout = open(folder.path()).layout.clone();
        fs::create_dir_all(layout.replacements().join("No Channel")).unwrap();
        let manager = open(folder.path());
        assert!(!layout.replacements().exists());
        assert!(manager.channels().unwrap().is_empty());
    }
}
