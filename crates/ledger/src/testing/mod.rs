//! Disks and databases that fail, for tests: a power cut at every write of a commit.
//!
//! Behind the feature `testing`, for the tests of other crates.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod disk;
mod snapshot;
mod store;

use std::path::Path;
use std::sync::Arc;

pub use disk::FailingDisk;
pub use snapshot::{import_snapshot, read_snapshot_metadata};
pub use store::{CrashingStore, contents};

use crate::store::Store;
use crate::{BlockStore, LedgerError, Options};

/// [`BlockStore::open`] on a disk and a database of one's own. The folder must be there.
pub fn open_block_store(
    channel: &str,
    disk: &FailingDisk,
    files: &Path,
    index: Arc<dyn Store>,
    options: &Options,
) -> Result<BlockStore, LedgerError> {
    BlockStore::open_on(channel, Arc::new(disk.clone()), files, index, options)
}
