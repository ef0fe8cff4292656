//! What peers of both kinds say of themselves, and waiting for it.

use std::fs;

use selvedge_protos::Message as _;
use selvedge_protos::common::{Block, BlockMetadataIndex};

use super::fabric::run;
use super::network::{At, CHANNEL, Network};
use super::process::{eventually, http_get, sum_of};

impl Network {
    /// A metric of a peer for the channel.
    pub fn metric(&self, at: At, name: &str) -> Result<f64, String> {
        self.labelled_metric(at, name, &[])
    }

    /// The sum of a peer's samples for the channel that have these labels too.
    pub fn labelled_metric(
        &self,
        at: At,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<f64, String> {
        let text = http_get(self.operations_port(at), "/metrics")?;
        let labels = [&[("channel", CHANNEL)], labels].concat();
        sum_of(&text, name, &labels).ok_or_else(|| format!("{at:?} has no {name} {labels:?}"))
    }

    /// Blocks that a peer has committed, the genesis block included.
    pub fn height_of(&self, at: At) -> Result<u64, String> {
        let height = self.metric(at, "ledger_blockchain_height")?;
        Ok(height as u64)
    }

    /// Waits until all these peers have every block, and compares the last one, with the hash of all
    /// verdicts and states up to it.
    #[track_caller]
    pub fn await_all_blocks(&self, peers: &[At]) {
        for at in peers {
            self.await_height(*at, self.height());
        }
        let mut blocks = peers.iter().map(|at| (*at, self.newest(*at)));
        let (first, expected) = blocks.next().expect("a peer to wait for");
        for (at, block) in blocks {
            assert_eq!(block, expected, "{at:?} against {first:?}");
        }
    }

    /// Waits until a peer has so many blocks.
    #[track_caller]
    pub fn await_height(&self, at: At, height: u64) {
        eventually(&format!("{at:?} has {height} blocks"), || {
            match self.height_of(at) {
                Ok(found) if found >= height => Ok(()),
                other => Err(other),
            }
        });
    }

    /// The last block of a peer, without what differs between ordering nodes.
    fn newest(&self, at: At) -> Block {
        let file = self.file("newest.block");
        run(self
            .peer_cli(at)
            .args(["channel", "fetch", "newest"])
            .arg(&file)
            .args(["-c", CHANNEL]));
        comparable(&fs::read(file).unwrap())
    }

    /// Waits until a peer knows so many other peers in the channel.
    #[track_caller]
    pub fn await_known(&self, at: At, others: u32) {
        eventually(&format!("{at:?} knows {others} others"), || {
            match self.metric(at, "gossip_membership_total_peers_known") {
                Ok(known) if known == f64::from(others) => Ok(()),
                other => Err(other),
            }
        });
    }

    /// Waits until a Go peer's discovery service tells of so many peers of each organisation.
    #[track_caller]
    pub fn await_discovery(&self, at: At, expected: &[usize]) {
        eventually(&format!("{at:?} tells of all peers"), || {
            let found = self.discover(at)?;
            let counts: Vec<_> = found.values().map(Vec::len).collect();
            if counts == expected {
                Ok(())
            } else {
                Err(format!("{counts:?}"))
            }
        });
    }

    /// Waits until a peer leads by election, or does not.
    #[track_caller]
    pub fn await_leading(&self, at: At, leads: bool) {
        eventually(&format!("{at:?} leads: {leads}"), || {
            match self.metric(at, "gossip_leader_election_leader") {
                Ok(value) if (value == 1.0) == leads => Ok(()),
                other => Err(other),
            }
        });
    }

    /// Waits until one of these peers leads by election and no other does.
    #[track_caller]
    pub fn await_one_leader(&self, peers: &[At]) {
        eventually("one peer leads", || {
            let leads = |at: &At| self.metric(*at, "gossip_leader_election_leader");
            let leaders: Vec<_> = peers.iter().map(leads).collect::<Result<_, _>>()?;
            match leaders.iter().sum::<f64>() {
                1.0 => Ok(()),
                _ => Err(format!("{leaders:?}")),
            }
        });
    }

    /// Transactions that a peer has found valid since it was started.
    pub fn valid_transactions(&self, at: At) -> f64 {
        let labels = [
            ("transaction_type", "ENDORSER_TRANSACTION"),
            ("validation_code", "VALID"),
        ];
        self.labelled_metric(at, "ledger_transaction_count", &labels)
            .unwrap()
    }

    /// New blocks of our peer that came this way: `orderer`, `push`, `pull` or
    /// `state_transfer`.
    pub fn arrived(&self, at: At, way: &str) -> f64 {
        let name = "selvedge_blocks_received_total";
        // A way that was never taken has no sample.
        self.labelled_metric(at, name, &[("arrival", way)])
            .unwrap_or_default()
    }
}

/// A block without the signatures of the ordering node that it came from.
pub fn comparable(block: &[u8]) -> Block {
    let mut block = Block::decode(block).unwrap();
    let slots = &mut block.metadata.as_mut().unwrap().metadata;
    for (index, slot) in slots.iter_mut().enumerate() {
        let kept = [
            BlockMetadataIndex::TransactionsFilter,
            BlockMetadataIndex::CommitHash,
        ];
        if !kept.iter().any(|kept| *kept as usize == index) {
            slot.clear();
        }
    }
    block
}
