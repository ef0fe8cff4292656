//! The side that has blocks.

use bytes::Bytes;
use selvedge_protos::gossip::gossip_message::{Content, Tag};
use selvedge_protos::gossip::{GossipMessage, Payload, RemoteStateResponse};

use crate::admission::Admission;
use crate::counters::DropReason;
use crate::message::gossip_message;
use crate::types::{ChannelId, PkiId};

/// Requests of one asker that wait for the ledger. A Selvedge peer has two under way, a Go peer one.
const MAX_READS_OF_A_PEER: usize = 4;
/// A response is cut before it grows beyond this, after its first block; the asker asks for the rest.
/// Go peers accept messages of 100 MiB.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// What to do with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admitted {
    /// Read these blocks, both ends included, then answer.
    Read {
        /// First.
        start: u64,
        /// Last.
        end: u64,
    },
    /// There is nothing to read: answer at once, without blocks, so that the asker tries elsewhere.
    Nothing,
}

/// Keeps account of the reads that other peers caused.
#[derive(Debug)]
pub struct Server {
    reads: Admission,
}

impl Server {
    /// At most `channel_size` requests wait for the ledger (Fabric: `peer.gossip.state.channelSize`).
    pub fn new(channel_size: usize) -> Self {
        Self {
            reads: Admission::new(channel_size, MAX_READS_OF_A_PEER),
        }
    }

    /// A request came from a peer that may have the blocks. If it is admitted to read,
    /// [`Server::done`] must follow.
    pub fn admit(
        &mut self,
        from: PkiId,
        start: u64,
        end: u64,
        batch_size: u64,
        height: u64,
    ) -> Result<Admitted, DropReason> {
        if start > end || end - start > batch_size {
            return Err(DropReason::NotEligible);
        }
        if start >= height {
            return Ok(Admitted::Nothing);
        }
        if !self.reads.admit(from) {
            return Err(DropReason::ChannelFull);
        }
        let end = end.min(height - 1);
        Ok(Admitted::Read { start, end })
    }

    /// Reads that were admitted and are not done.
    pub fn reads(&self) -> &Admission {
        &self.reads
    }

    /// The ledger was read for this peer.
    pub fn done(&mut self, to: &PkiId) {
        self.reads.done(to);
    }

    /// The response with these blocks, of which the first has the number `start`.
    pub fn response(
        channel: &ChannelId,
        nonce: u64,
        start: u64,
        blocks: impl IntoIterator<Item = Bytes>,
    ) -> GossipMessage {
        let mut size = 0usize;
        // The blocks come first: without any, `start` is whatever the asker wrote.
        let payloads = blocks
            .into_iter()
            .zip(start..)
            .take_while(|(block, number)| {
                size = size.saturating_add(block.len());
                *number == start || size <= MAX_RESPONSE_BYTES
            })
            .map(|(block, number)| Payload {
                seq_num: number,
                data: block,
                private_data: Vec::new(),
            })
            .collect();
        let content = Content::StateResponse(RemoteStateResponse { payloads });
        gossip_message(Tag::ChanOrOrg, Some(channel), nonce, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: PkiId = PkiId([1; 32]);

    fn admit(start: u64, end: u64) -> Result<Admitted, DropReason> {
        Server::new(100).admit(ASKER, start, end, 10, 20)
    }

    #[test]
    fn ranges_are_bounded_by_batch_size_and_height() {
        let read = |start, end| Ok(Admitted::Read { start, end });
        assert_eq!(admit(5, 15), read(5, 15));
        assert_eq!(admit(5, 16), Err(DropReason::NotEligible));
        assert_eq!(admit(6, 5), Err(DropReason::NotEligible));
        assert_eq!(admit(0, u64::MAX), Err(DropReason::NotEligible));
        assert_eq!(admit(15, 25), read(15, 19));
        assert_eq!(admit(20, 20), Ok(Admitted::Nothing));
    }

    #[test]
    fn reads_under_way_are_bounded() {
        let mut server = Server::new(MAX_READS_OF_A_PEER + 1);
        for _ in 0..MAX_READS_OF_A_PEER {
            server.admit(ASKER, 0, 1, 10, 20).unwrap();
        }
        let full = Err(DropReason::ChannelFull);
        assert_eq!(server.admit(ASKER, 0, 1, 10, 20), full);
        let [second, third] = [2, 3].map(|number| PkiId([number; 32]));
        assert!(server.admit(second, 0, 1, 10, 20).is_ok());
        assert_eq!(server.admit(third, 0, 1, 10, 20), full, "of all together");
        server.done(&ASKER);
        assert!(server.admit(ASKER, 0, 1, 10, 20).is_ok());
    }

    #[test]
    fn responses_are_encoded_as_a_go_peer_does() {
        let mut seen = 0;
        for message in crate::testing::recorded() {
            let Some(Content::StateResponse(response)) = &message.content else {
                continue;
            };
            let payloads = &response.payloads;
            if payloads
                .iter()
                .any(|payload| !payload.private_data.is_empty())
            {
                continue;
            }
            let channel = ChannelId::from(std::str::from_utf8(&message.channel).unwrap());
            let start = payloads.first().map_or(0, |payload| payload.seq_num);
            let blocks = payloads.iter().map(|payload| payload.data.clone());
            let built = Server::response(&channel, message.nonce, start, blocks);
            assert_eq!(built, message);
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn a_response_is_cut_after_its_first_block() {
        let channel = ChannelId::from("c");
        let block = Bytes::from(vec![0; MAX_RESPONSE_BYTES / 2 + 1]);
        let blocks = [block.clone(), block.clone(), block];
        let message = Server::response(&channel, 7, 3, blocks);
        let Some(Content::StateResponse(response)) = message.content else {
            panic!("not a state response");
        };
        assert_eq!(message.nonce, 7);
        assert_eq!(response.payloads.len(), 1);
        assert_eq!(response.payloads[0].seq_num, 3);
    }
}
