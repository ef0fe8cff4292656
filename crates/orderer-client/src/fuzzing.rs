//! What takes strangers' bytes and is not public, for the fuzz targets.

use bytes::Bytes;

use crate::error::FetchError;

/// Opens a response of an ordering node to a Deliver call.
pub fn response(message: Bytes) -> Result<Bytes, FetchError> {
    crate::deliver::block_in(message, "orderer:7050")
}
