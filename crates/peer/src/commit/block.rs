//! A block on its way into the ledger.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use selvedge_ledger::state::StateUpdates;
use selvedge_protos::Message;
use selvedge_protos::block::header_hash;
use selvedge_protos::common::{
    Block, BlockMetadataIndex, ChannelHeader, Envelope, Metadata, Payload,
};
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::{TransactionKind, TxVerdict, Validator};

/// The metadata slots of a committed block.
const SLOTS: usize = BlockMetadataIndex::CommitHash as usize + 1;

/// A block with its verdicts, and what it changes. It is the next one of the ledger that judged it.
#[derive(Debug)]
pub struct ValidatedBlock {
    /// With verdicts and commit hash in its metadata.
    pub(super) block: Block,
    pub(super) number: u64,
    pub(super) commit_hash: Option<[u8; 32]>,
    pub(super) updates: StateUpdates,
    /// For the blocks after it, if it brings a configuration.
    pub(super) next: Option<Arc<Validator>>,
    pub(super) transactions: Vec<CommittedTransaction>,
    pub(super) times: CommitTimes,
}

impl ValidatedBlock {
    /// What it became, with the time that it took to write its block and its changes.
    pub(super) fn committed(self, blocks: Duration, state: Duration) -> CommittedBlock {
        let header = self.block.header.unwrap_or_default();
        CommittedBlock {
            number: self.number,
            header_hash: header_hash(&header),
            data_hash: header.data_hash,
            commit_hash: self.commit_hash,
            transactions: self.transactions,
            times: CommitTimes {
                blocks,
                state,
                ..self.times
            },
        }
    }

    /// By what the blocks after it are judged, if it brings a configuration.
    pub fn next_validator(&self) -> Option<&Arc<Validator>> {
        self.next.as_ref()
    }
}

/// What became of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedBlock {
    /// Its number.
    pub number: u64,
    /// SHA-256 of its header.
    pub header_hash: [u8; 32],
    /// The data hash in its header.
    pub data_hash: Bytes,
    /// The commit hash; the first block of a channel has none.
    pub commit_hash: Option<[u8; 32]>,
    /// Its transactions, in order.
    pub transactions: Vec<CommittedTransaction>,
    /// What it took.
    pub times: CommitTimes,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct CommittedTransaction {
    /// The id in its channel header; `None` where that does not parse.
    pub txid: Option<Arc<str>>,
    /// The verdict.
    pub code: TxValidationCode,
    /// What it is. `None` if it was found invalid before versions were compared.
    pub kind: Option<TransactionKind>,
    /// Why it is invalid; empty for conflicts of versions, and if it is valid.
    pub reason: String,
}

impl CommittedTransaction {
    pub(super) fn new(verdict: TxVerdict, code: TxValidationCode, envelope: &Bytes) -> Self {
        Self {
            txid: stated_id(verdict.txid, envelope),
            code,
            kind: verdict.transaction.map(|transaction| transaction.kind),
            reason: verdict.reason,
        }
    }
}

/// What the steps of a commit took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CommitTimes {
    /// Verdicts without versions, on a block that was prepared.
    pub validation: Duration,
    /// Comparing versions and making the update batch.
    pub state_validation: Duration,
    /// Writing and syncing the block files.
    pub blocks: Duration,
    /// Writing the state.
    pub state: Duration,
}

/// The id in a transaction's channel header, which may be empty; `None` if there is no telling.
fn stated_id(found: Arc<str>, envelope: &Bytes) -> Option<Arc<str>> {
    let is_readable = || {
        let envelope = Envelope::decode(envelope.clone()).ok()?;
        let header = Payload::decode(envelope.payload).ok()?.header?;
        ChannelHeader::decode(header.channel_header).ok()
    };
    (!found.is_empty() || is_readable().is_some()).then_some(found)
}

/// Writes the verdicts into a block's metadata.
pub(crate) fn set_verdicts(block: &mut Block, filter: Vec<u8>) {
    set_slot(block, BlockMetadataIndex::TransactionsFilter, filter.into());
}

/// Writes the commit hash into a block's metadata.
pub(super) fn set_commit_hash(block: &mut Block, hash: &[u8; 32]) {
    let message = Metadata {
        value: Bytes::copy_from_slice(hash),
        signatures: Vec::new(),
    };
    let message = message.encode_to_vec().into();
    set_slot(block, BlockMetadataIndex::CommitHash, message);
}

/// Sets one metadata slot; a committed block has all that Fabric knows.
fn set_slot(block: &mut Block, slot: BlockMetadataIndex, bytes: Bytes) {
    let slots = &mut block.metadata.get_or_insert_default().metadata;
    if slots.len() < SLOTS {
        slots.resize(SLOTS, Bytes::new());
    }
    if let Some(slot) = slots.get_mut(slot as usize) {
        *slot = bytes;
    }
}
