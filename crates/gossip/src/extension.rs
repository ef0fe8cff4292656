//! What peers of this project do among themselves beside Fabric's protocol, and how they know each other.
//!
//! A peer that can do it says so in the `metadata` of the member in its alive messages. Fabric's peers leave
//! that field empty, never look at it, and pass it on with the rest of the signed message; so everybody in
//! the organisation learns of it with the membership, from whomever the message comes, and nobody can say it
//! in another's name. What others may put there begins differently.

use bytes::Bytes;

use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{self, MembershipResponse};

use crate::message::{Envelope, gossip_message};

/// What the metadata begins with. A version and whatever later versions add follow.
const MARK: &[u8] = b"selvedge/";

/// The nonce of a membership response that nobody asked for: its alive messages are passed on, as if each had
/// come by itself. One frame instead of many; see [`emitter`](crate::emitter).
pub const PASSED_ON: u64 = u64::MAX;

/// A frame that passes alive messages on.
pub fn passed_on(alive: Vec<gossip::Envelope>) -> Envelope {
    let content = Content::MemRes(MembershipResponse {
        alive,
        dead: Vec::new(),
    });
    Envelope::unsigned(&gossip_message(Tag::Empty, None, PASSED_ON, content))
}

/// The metadata of a peer of this project.
pub fn metadata() -> Bytes {
    Bytes::from_static(b"selvedge/1")
}

/// Whether a peer with this metadata exchanges blocks along a tree (`channel`'s `tree`) and takes
/// [`passed_on`]. Later versions do so too.
pub fn is_spoken_by(metadata: &[u8]) -> bool {
    let version = metadata.strip_prefix(MARK);
    version.is_some_and(|version| matches!(version, [b'1'..=b'9', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_mark_is_taken_for_it() {
        assert!(is_spoken_by(&metadata()));
        assert!(is_spoken_by(b"selvedge/2;more"));
        for other in [
            &b""[..],
            b"selvedge",
            b"selvedge/",
            b"selvedge/x",
            b"\0selvedge/1",
        ] {
            assert!(!is_spoken_by(other));
        }
    }
}
