//! Channels that an operator has paused: their ledgers are there and are not opened by a node (Fabric:
//! `peer node pause`, whose mark is in a database of the Go peer that is not read here).
//!
//! A mark is an empty file with the channel's name.

use crate::channel_id::validate_channel_id;
use crate::{LedgerError, LedgerManager};

impl LedgerManager {
    /// Marks a channel as paused; nothing if it is. When this returns, the mark survives a power cut.
    pub fn pause(&self, channel: &str) -> Result<(), LedgerError> {
        self.check_exists(channel)?;
        let folder = self.layout.paused();
        self.disk
            .create_folder(&folder)
            .map_err(LedgerError::io("create", &folder))?;
        let path = folder.join(channel);
        let made = self.disk.open_append(&path).map(drop);
        made.map_err(LedgerError::io("create", &path))?;
        self.sync_folder(&folder)
    }

    /// Takes the mark away; nothing if there is none.
    pub fn resume(&self, channel: &str) -> Result<(), LedgerError> {
        self.check_exists(channel)?;
        if !self.is_paused(channel) {
            return Ok(());
        }
        let folder = self.layout.paused();
        let path = folder.join(channel);
        self.disk
            .remove_file(&path)
            .map_err(LedgerError::io("remove", &path))?;
        self.sync_folder(&folder)
    }

    /// Whether a channel is paused.
    pub fn is_paused(&self, channel: &str) -> bool {
        self.layout.paused().join(channel).exists()
    }

    fn check_exists(&self, channel: &str) -> Result<(), LedgerError> {
        validate_channel_id(channel)?;
        self.inspect(channel).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;
    use crate::test_support::{CHANNEL, chain, scratch};

    #[test]
    fn a_mark_stays_until_it_is_taken_away() {
        let folder = scratch();
        let open = || LedgerManager::open(folder.path(), Options::default()).unwrap();
        let ledgers = open();
        assert!(matches!(
            ledgers.pause(CHANNEL),
            Err(LedgerError::UnknownChannel { .. })
        ));
        assert!(ledgers.pause("../x").is_err());
        drop(ledgers.create_channel(CHANNEL, &chain(1)[0]).unwrap());
        assert!(!ledgers.is_paused(CHANNEL));
        for _ in 0..2 {
            ledgers.pause(CHANNEL).unwrap();
        }
        drop(ledgers);
        let ledgers = open();
        assert!(ledgers.is_paused(CHANNEL));
        assert_eq!(ledgers.channels().unwrap(), [CHANNEL]);
        for _ in 0..2 {
            ledgers.resume(CHANNEL).unwrap();
            assert!(!ledgers.is_paused(CHANNEL));
        }
    }
}
