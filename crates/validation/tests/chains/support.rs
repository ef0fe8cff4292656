//! Recorded chains, committed into memory up to the block that a test is about.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use selvedge_channel::ChannelConfig;
use selvedge_protos::Message;
use selvedge_protos::common::Block;
use selvedge_protos::protos::TxValidationCode;
use selvedge_validation::{Options, TransactionKind, TxVerdict, ValidationError, Validator};
use serde_json::Value;

use crate::memory::Memory;

pub fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

/// What a Go peer said of a transaction.
#[derive(Clone, Debug)]
pub struct Expected {
    pub txid: String,
    pub code: TxValidationCode,
    pub label: String,
}

impl Expected {
    /// The code before the state is looked at: conflicts of versions come later.
    pub fn before_mvcc(&self) -> TxValidationCode {
        match self.code {
            TxValidationCode::MvccReadConflict | TxValidationCode::PhantomReadConflict => {
                TxValidationCode::Valid
            }
            code => code,
        }
    }
}

/// The recorded blocks of a chain, and what a Go peer said of them.
pub struct Chain {
    name: &'static str,
    verdicts: Vec<(u64, Vec<Expected>)>,
}

impl Chain {
    pub fn read(name: &'static str) -> Self {
        let text = fs::read_to_string(testdata(&format!("{name}/expected.json"))).unwrap();
        let recorded: Value = serde_json::from_str(&text).unwrap();
        let transaction = |recorded: &Value| Expected {
            txid: recorded["txid"].as_str().unwrap_or_default().to_owned(),
            code: TxValidationCode::from_str_name(recorded["code"].as_str().unwrap()).unwrap(),
            label: recorded["label"].as_str().unwrap_or_default().to_owned(),
        };
        let block = |recorded: &Value| {
            let transactions = recorded["txs"].as_array().unwrap();
            (
                recorded["number"].as_u64().unwrap(),
                transactions.iter().map(transaction).collect(),
            )
        };
        let blocks = recorded["blocks"].as_array().unwrap();
        Self {
            name,
            verdicts: blocks.iter().map(block).collect(),
        }
    }

    pub fn blocks(&self) -> impl Iterator<Item = (Block, &[Expected])> {
        self.verdicts.iter().map(|(number, verdicts)| {
            let path = format!("{}/orderer-blocks/{number:06}.block", self.name);
            let bytes = fs::read(testdata(&path)).unwrap();
            (Block::decode(&bytes[..]).unwrap(), &verdicts[..])
        })
    }
}

/// A peer's view of a channel: its configuration, its state, the ids of its transactions.
#[derive(Clone)]
pub struct Peer {
    pub config: Arc<ChannelConfig>,
    pub memory: Memory,
}

impl Peer {
    pub fn join(genesis: &Block) -> Self {
        Self {
            config: Arc::new(ChannelConfig::from_block(genesis).unwrap()),
            memory: Memory::default(),
        }
    }

    /// A peer of the recorded channel that has all blocks before `height`.
    pub fn at(chain: &Chain, height: u64) -> Self {
        let mut peer = None;
        for (block, expected) in chain.blocks().take(usize::try_from(height).unwrap()) {
            let peer = peer.get_or_insert_with(|| Self::join(&block));
            let verdicts = peer.validate(&block).unwrap();
            peer.commit(&verdicts, expected);
        }
        peer.unwrap()
    }

    pub fn validator(&self, options: Options) -> Validator {
        Validator::new(self.config.clone(), options).unwrap()
    }

    pub fn validate(&self, block: &Block) -> Result<Vec<TxVerdict>, ValidationError> {
        let validator = self.validator(Options::default());
        validator.validate_block(block, &self.memory, &self.memory)
    }

    /// Commits what a Go peer found valid.
    pub fn commit(&mut self, verdicts: &[TxVerdict], expected: &[Expected]) {
        for (verdict, expected) in verdicts.iter().zip(expected) {
            if !expected.txid.is_empty() {
                self.memory.txids.insert(expected.txid.clone());
            }
            if expected.code != TxValidationCode::Valid {
                continue;
            }
            let transaction = verdict.transaction.as_ref().unwrap();
            self.memory.apply(&transaction.rwset);
            if let TransactionKind::Config { envelope } = &transaction.kind {
                let envelope =
                    selvedge_protos::common::ConfigEnvelope::decode(envelope.clone()).unwrap();
                let channel = self.config.channel_id();
                let config = ChannelConfig::from_config(channel, envelope.config.unwrap());
                self.config = Arc::new(config.unwrap());
            }
        }
    }
}
