//! What takes strangers' bytes, or an operator's text, and is not public, for the fuzz targets.

use selvedge_protos::DecodeError;
use selvedge_protos::common::{Block, Envelope};
use selvedge_protos::protos::FilteredBlock;

use crate::logging::{self, FormatError};
use crate::services;

/// Opens a request of a Deliver client, and finds the blocks that it asks for in a ledger with those from
/// `oldest` on and before `height`.
pub fn seek(envelope: Envelope, oldest: u64, height: u64) -> Option<(u64, u64)> {
    services::deliver::seek(envelope, oldest, height)
}

/// A block as `DeliverFiltered` shows it.
pub fn filter(block: &Block) -> Result<FilteredBlock, DecodeError> {
    services::filter(block)
}

/// A line of the log in a format of the operator's.
pub fn log_line(format: &str) -> Result<String, FormatError> {
    logging::sample(format)
}
