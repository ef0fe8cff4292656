//! How much a channel holds; see [`occupancy`](crate::occupancy).

use super::Channel;
use super::{arriving, block_store, signs, tree};
use crate::config::Config;
use crate::event::Payload;
use crate::occupancy::Tally;
use crate::ordered_buffer::Limits;
use crate::pull::NONCES_OF_A_PEER;
use crate::state_transfer::MAX_REMEMBERED_REQUESTS;

impl<B: Payload> Channel<B> {
    /// Whatever there is one of for each peer is bounded by the identities that may be known.
    pub(super) fn occupancy(&self, config: &Config, tally: &mut Tally) {
        let peers = config.limits.identities;
        // Authors, and our own.
        let authors = config.limits.members.saturating_add(1);
        let buffer = u64::try_from(config.state.block_buffer_size).unwrap_or(u64::MAX);
        let buffered = Limits::for_block_buffer_size(buffer).lookahead_requested;
        let buffered = usize::try_from(buffered).unwrap_or(usize::MAX);
        let kept = usize::try_from(config.max_block_count_to_store).unwrap_or(usize::MAX);
        tally.note("buffered blocks", self.buffer.len(), buffered);
        tally.note("stored blocks", self.blocks.len(), kept.saturating_add(1));
        if self.blocks.len() > 1 {
            let most = block_store::MAX_BYTES;
            tally.note("bytes of stored blocks", self.blocks.bytes(), most);
        }
        tally.note("holders of a block", self.blocks.most_holders(), peers);
        let most = arriving::MAX_NUMBERS;
        tally.note("blocks in verification", self.arriving.len(), most);
        tally.note("StateInfo messages", self.state_infos.len(), authors);
        tally.note("claimed heights", self.state_infos.claimed(), authors);
        tally.note("snapshots answered", self.state_infos.answered(), peers);
        let most = tree::MAX_NEIGHBOURS;
        tally.note("neighbours", self.tree.neighbours().count(), most);
        let most = tree::MAX_ANNOUNCED;
        tally.note("announced blocks", self.tree.expected(), most);
        tally.note("signs of blocks", self.signs.len(), signs::MAX_SIGNS);
        let most = self.initiator.max_exchanges();
        tally.note("block pulls", self.initiator.open_exchanges(), most);
        tally.note("pulled blocks", self.initiator.awaited(), buffered);
        let most = NONCES_OF_A_PEER.saturating_mul(peers);
        tally.note("block pull nonces", self.responder.nonces(), most);
        let most = MAX_REMEMBERED_REQUESTS;
        tally.note("state requests", self.requester.under_way(), most);
        let reads = self.server.reads();
        tally.note("reads for state requests", reads.under_way(), reads.most());
        tally.note("peers that did not deliver", self.backoff.len(), peers);
        tally.note(
            "peers that did not deliver by pull",
            self.pull_backoff.len(),
            peers,
        );
        tally.note("tracked peers", self.tracked.len(), config.limits.members);
        if let Some(election) = &self.election {
            tally.note("candidates", election.candidates(), peers);
            let most = config.limits.members;
            tally.note("leadership messages", election.heard(), most);
        }
    }
}
