//! What takes strangers' bytes and is not public, for the fuzz targets.

use bytes::Bytes;

use crate::TlsPeer;
use crate::gossip::{self, HandshakeFailure, PeerAuthenticator, PeerInfo};

/// Judges the first frame of a gossip stream that came over a connection.
pub fn handshake(
    authenticator: &dyn PeerAuthenticator,
    connection: &TlsPeer,
    frame: Bytes,
) -> Result<PeerInfo, HandshakeFailure> {
    gossip::check_handshake(authenticator, connection, frame)
}
