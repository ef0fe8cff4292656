//! Cutting a chain off: the blocks from some number on are given up, so that the peer fetches them again.
//!
//! For a chain with damaged blocks, of which nothing from the first damaged one on is trusted, and for an
//! operator who wants blocks to be validated anew (Fabric: `peer node rollback`, `peer node reset`).
//!
//! Private data in clear text stays, since it may be nowhere else.
//!
//! Whenever the process ends within a cut, what is left is a chain: the databases go first, since they may
//! have blocks that are given up, then the block files from the last one back. So a chain that begins with a
//! snapshot cannot be cut, since its databases do not follow from its blocks.

use std::path::Path;

use crate::block_files::BlockFiles;
use crate::bootstrap::Bootstrap;
use crate::scanner::Scanner;
use crate::{LedgerError, LedgerManager};

/// A place between two blocks of a chain that nobody has open.
#[derive(Debug)]
pub struct CutPoint {
    channel: String,
    height: u64,
    file: u32,
    offset: u64,
    lost_bytes: u64,
}

impl CutPoint {
    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// The number of blocks before it.
    pub const fn height(&self) -> u64 {
        self.height
    }

    /// The bytes of block files after it.
    pub const fn lost_bytes(&self) -> u64 {
        self.lost_bytes
    }
}

/// Damage to the block files of a channel.
#[derive(Debug)]
pub struct Damage {
    /// What is wrong with the first block that is not trusted.
    pub error: LedgerError,
    /// The end of what is trusted.
    pub cut: CutPoint,
}

/// Told of the bytes of each block that was gone through.
pub type CutProgress<'a> = &'a mut dyn FnMut(u64);

impl LedgerManager {
    /// Goes through the blocks of a channel, which must not be open, up to the first one that is not as it
    /// was written, or that lies in a file that is not there. `None` if there is none; a last block that
    /// was not written completely is no damage.
    pub fn find_damage(
        &self,
        channel: &str,
        progress: CutProgress<'_>,
    ) -> Result<Option<Damage>, LedgerError> {
        let inspection = self.inspect(channel)?;
        let search = Search::new(channel, inspection.files())?;
        match search.run(|_| false, progress)? {
            (Some(error), cut) => Ok(Some(Damage { error, cut })),
            (None, _) => Ok(None),
        }
    }

    /// The place after block `last` of a channel, which must not be open. There are later blocks, and all up
    /// to `last` are sound, or it is an error.
    pub fn cut_after(
        &self,
        channel: &str,
        last: u64,
        progress: CutProgress<'_>,
    ) -> Result<CutPoint, LedgerError> {
        let inspection = self.inspect(channel)?;
        let search = Search::new(channel, inspection.files())?;
        let (error, cut) = search.run(|height| height > last, progress)?;
        match error {
            Some(error) => Err(error),
            None if cut.height > last && cut.lost_bytes > 0 => Ok(cut),
            None => Err(LedgerError::NothingToCut {
                channel: channel.to_owned(),
                last,
                newest: cut.height.saturating_sub(1),
            }),
        }
    }

    /// Whether what lies after a place can be given up; why not.
    pub fn check_cut(&self, cut: &CutPoint) -> Result<(), LedgerError> {
        let inspection = self.inspect(&cut.channel)?;
        let folder = inspection.files().folder();
        if let Some(bootstrap) = Bootstrap::read(folder)? {
            return Err(LedgerError::SnapshotNotCut {
                channel: cut.channel.clone(),
                first: bootstrap.first_block(),
                path: folder.to_owned(),
            });
        }
        if cut.height == 0 {
            return Err(LedgerError::GenesisNotCut {
                channel: cut.channel.clone(),
                path: folder.to_owned(),
            });
        }
        Ok(())
    }

    /// Gives up what lies after a place: the blocks, and all databases, which are made anew of the others.
    /// When this returns, that survives a power cut. The channel must not be open.
    pub fn cut(&self, cut: &CutPoint) -> Result<(), LedgerError> {
        self.check_cut(cut)?;
        let inspection = self.inspect(&cut.channel)?;
        let files = inspection.files();
        self.remove_databases(&cut.channel)?;
        for file in files.numbers()?.into_iter().rev() {
            if file > cut.file {
                self.remove_file(&files.path(file))?;
                // None is to come back without those before it.
                self.sync_folder(files.folder())?;
            }
        }
        let path = files.path(cut.file);
        let mut file = self
            .disk
            .open_append(&path)
            .map_err(LedgerError::io("open", &path))?;
        file.truncate(cut.offset)
            .map_err(LedgerError::io("cut", &path))?;
        self.sync_folder(files.folder())
    }

    fn remove_file(&self, path: &Path) -> Result<(), LedgerError> {
        self.disk
            .remove_file(path)
            .map_err(LedgerError::io("remove", path))
    }
}

/// Going through block files some of which may not be there.
struct Search<'a> {
    channel: &'a str,
    files: &'a BlockFiles,
    numbers: Vec<u32>,
    /// The last file before the first one that is not there.
    last: u32,
}

impl<'a> Search<'a> {
    fn new(channel: &'a str, files: &'a BlockFiles) -> Result<Self, LedgerError> {
        let numbers = files.numbers()?;
        let together = numbers
            .iter()
            .zip(0..)
            .take_while(|(number, expected)| *number == expected);
        let last = together.map(|(number, _)| *number).last();
        Ok(Self {
            channel,
            files,
            last: last.unwrap_or(0),
            numbers,
        })
    }

    /// Ends where `is_end` says so of the height, at the end of the blocks, or at damage.
    fn run(
        &self,
        is_end: impl Fn(u64) -> bool,
        progress: CutProgress<'_>,
    ) -> Result<(Option<LedgerError>, CutPoint), LedgerError> {
        let bootstrap = Bootstrap::read(self.files.folder())?;
        let mut height = bootstrap.as_ref().map_or(0, Bootstrap::first_block);
        let mut scanner = match &bootstrap {
            Some(bootstrap) => Scanner::after_snapshot(self.files, self.last, bootstrap),
            None => Scanner::from_start(self.files, self.last),
        };
        let error = loop {
            if is_end(height) {
                break None;
            }
            match scanner.next_block() {
                Ok(Some(block)) => {
                    height = block.number + 1;
                    progress(block.entry.place.length);
                }
                Ok(None) => break self.missing_file(),
                Err(error @ LedgerError::Corrupt { .. }) => break Some(error),
                Err(error) => return Err(error),
            }
        };
        let (file, offset) = scanner.position();
        Ok((error, self.cut_point(height, file, offset)?))
    }

    fn missing_file(&self) -> Option<LedgerError> {
        let is_more = self.numbers.iter().any(|number| *number > self.last);
        is_more.then(|| LedgerError::MissingFile {
            path: self.files.path(self.last + 1),
        })
    }

    fn cut_point(&self, height: u64, file: u32, offset: u64) -> Result<CutPoint, LedgerError> {
        let mut bytes = 0;
        for number in self.numbers.iter().filter(|number| **number >= file) {
            bytes += self.files.length(*number)?;
        }
        Ok(CutPoint {
            channel: self.channel.to_owned(),
            height,
            file,
            offset,
            lost_bytes: bytes.saturating_sub(offset),
        })
    }
}

#[cfg(test)]
mod tests;
