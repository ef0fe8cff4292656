//! What the unit tests share.

use std::time::Instant;

use selvedge_protos::Message as _;
use selvedge_protos::gossip::{Envelope, GossipMessage};

/// An instant to count from. The only place of this crate that looks at a clock; what is tested sees
/// differences alone.
pub(crate) fn start() -> Instant {
    Instant::now()
}

/// The messages that Go peers sent in a real network (`testdata/gossip`).
pub(crate) fn recorded() -> impl Iterator<Item = GossipMessage> {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/gossip/messages"
    );
    std::fs::read_dir(folder).unwrap().map(|entry| {
        let frame = std::fs::read(entry.unwrap().path()).unwrap();
        let envelope = Envelope::decode(frame.as_slice()).unwrap();
        GossipMessage::decode(envelope.payload).unwrap()
    })
}
