//! The summary of many range query results (Fabric: `rwsetutil`, RangeQueryResultsHelper).
//!
//! Each `degree + 1` results are hashed together to a node of level 1, each `degree + 1` nodes of a
//! level to one of the next; the summary holds the nodes of the highest level. Up to `degree` results are not
//! summarised at all.

use bytes::Bytes;
use selvedge_protos::kvrwset::{KvRead, Version};
use selvedge_protos::{Message, sha256, sha256_of_parts};

use crate::source::SourceError;

type Hash = [u8; 32];

/// A tree over results as they come.
pub(super) struct ResultsTree {
    degree: usize,
    /// Results that are not hashed yet, encoded as a `QueryReads` message.
    pending: Vec<u8>,
    pending_results: usize,
    /// Nodes that have no parent yet, from level 1 on; there is always the first level.
    levels: Vec<Vec<Hash>>,
}

impl ResultsTree {
    /// `None` for a degree of less than 2.
    pub fn new(degree: u32) -> Option<Self> {
        (degree >= 2).then(|| Self {
            degree: usize::try_from(degree).unwrap_or(usize::MAX),
            pending: Vec::new(),
            pending_results: 0,
            levels: vec![Vec::new()],
        })
    }

    /// The highest level, from 1, and its nodes.
    pub fn top(&self) -> (u32, &[Hash]) {
        let level = u32::try_from(self.levels.len()).unwrap_or(u32::MAX);
        (level, self.levels.last().map_or(&[], Vec::as_slice))
    }

    pub fn add(&mut self, key: &Bytes, version: Version) -> Result<(), SourceError> {
        let read = KvRead {
            key: std::str::from_utf8(key)?.to_owned(),
            version: Some(version),
        };
        self.pending.push(1 << 3 | 2);
        self.pending.extend(read.encode_length_delimited_to_vec());
        self.pending_results += 1;
        if self.pending_results > self.degree {
            self.hash_pending();
            self.raise();
        }
        Ok(())
    }

    /// After the last result: nodes of lower levels are gathered upwards. A node that is alone goes up
    /// as it is.
    pub fn finish(&mut self) {
        if self.levels.iter().all(Vec::is_empty) {
            return;
        }
        if self.pending_results > 0 {
            self.hash_pending();
            self.raise();
        }
        let mut risen: Option<Hash> = None;
        let top = self.levels.len() - 1;
        for (level, nodes) in self.levels.iter_mut().enumerate() {
            nodes.extend(risen.take());
            if level == top {
                break;
            }
            risen = match nodes.as_slice() {
                [] => None,
                [node] => Some(*node),
                nodes => Some(combined(nodes)),
            };
            nodes.clear();
        }
        let last = self.levels.last_mut().map(std::mem::take);
        if let Some(nodes) = last {
            if nodes.len() > self.degree {
                self.levels.push(vec![combined(&nodes)]);
            } else if let Some(level) = self.levels.last_mut() {
                *level = nodes;
            }
        }
    }

    fn hash_pending(&mut self) {
        let hash = sha256(&self.pending);
        self.pending.clear();
        self.pending_results = 0;
        if let Some(leaves) = self.levels.first_mut() {
            leaves.push(hash);
        }
    }

    /// Makes parents of levels that are full, from the first on.
    fn raise(&mut self) {
        let mut level = 0;
        while let Some(nodes) = self.levels.get_mut(level) {
            if nodes.len() <= self.degree {
                return;
            }
            let parent = combined(nodes);
            nodes.clear();
            level += 1;
            match self.levels.get_mut(level) {
                Some(parents) => parents.push(parent),
                None => self.levels.push(vec![parent]),
            }
        }
    }
}

fn combined(nodes: &[Hash]) -> Hash {
    sha256_of_parts(nodes.iter().map(|node| &node[..]))
}
