//! Fuzz targets: one for each decoder that takes bytes of strangers, and one for the gossip core.
//!
//! Each is a plain function of bytes that must return, whatever they are: no panic, no endless loop,
//! no memory out of proportion. For most the bytes are what a stranger sends, or what a disk may hold. For
//! [`gossip_core()`] they are a script of what happens to a peer. What a crash may leave of a ledger is
//! tried by the tests of `crates/ledger`.
//!
//! The tests of this crate drive all targets with random bytes and with damaged recordings, on any
//! toolchain. To search for inputs by coverage (nightly Rust, a C++ compiler, `cargo install cargo-fuzz`), in
//! this folder:
//!
//! ```text
//! cargo run --example seeds -- corpus
//! cargo +nightly fuzz run --fuzz-dir . --features libfuzzer --sanitizer none TARGET corpus/TARGET -- \
//!     -max_total_time=300 -timeout=25 -rss_limit_mb=2048 -max_len=65536
//! ```
//!
//! The first command makes seeds of the recordings. There is no unsafe code for a sanitizer to watch, and
//! without one the search is twice as fast. An input that was found runs again as `TARGET FILE`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a target fails by a panic"
)]

mod gossip_core;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
pub use gossip_core::gossip_core;
use selvedge_channel::{BlockRef, BlockVerifier, ChannelConfig};
use selvedge_gossip::crypto::{Crypto, Identity, IdentityFacts, IdentitySource, Refusal};
use selvedge_gossip::message;
use selvedge_gossip::types::{OrgId, PkiId};
use selvedge_ledger::state::{Namespace, StateDatabase, StateUpdates};
use selvedge_ledger::store::{Batch, Durability, MAX_KEY_LENGTH, MemoryStore, Store};
use selvedge_ledger::testing::{
    FailingDisk, import_snapshot, open_block_store, read_snapshot_metadata,
};
use selvedge_msp::MspManager;
use selvedge_peer::config::Sources;
use selvedge_peer::logging::LogSpec;
use selvedge_peer::services::proposal::UnpackedProposal;
use selvedge_policy::{SignaturePolicy, parse_implicit_meta_policy, parse_policy};
use selvedge_protos::Message;
use selvedge_protos::common::{Block, BlockData, BlockHeader};
use selvedge_protos::envelope::OpenedEnvelope;
use selvedge_protos::kvrwset::Version;
use selvedge_protos::lifecycle::state_data::Type;
use selvedge_protos::lifecycle::{StateData, StateMetadata};
use selvedge_protos::protos::SignedProposal;
use selvedge_protos::protos::{ChaincodeId, TxValidationCode};
use selvedge_validation::mvcc::{
    self, CommittedTransaction, MvccError, VersionedKey, VersionedState, VersionedValue,
};
use selvedge_validation::{
    Collections, Options, ParsedTransaction, SourceError, StateReader, StatedVerdicts,
    TransactionIds, TransactionKind, TxRwSet, TxVerdict, ValidationError, Validator, block_to_live,
    defined_collections,
};

/// A recorded genesis block of a raft channel, whose configuration the targets work with.
pub const GENESIS: &[u8] = include_bytes!("../../testdata/raft/orderer-blocks/000000.block");

/// A target: its name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("gossip_message", gossip_message),
    ("gossip_core", gossip_core),
    ("block", block),
    ("genesis_block", genesis_block),
    ("envelope", envelope),
    ("transaction", transaction),
    ("committed_transaction", committed_transaction),
    ("read_write_set", read_write_set),
    ("definition", definition),
    ("identity", identity),
    ("signature_policy", signature_policy),
    ("policy_text", policy_text),
    ("proposal", proposal),
    ("core_yaml", core_yaml),
    ("log_spec", log_spec),
    ("block_file", block_file),
    ("state_rows", state_rows),
    ("snapshot", snapshot),
];

/// A frame of a gossip stream: decoding, then verification with every signature accepted, so that
/// what lies behind it is reached.
pub fn gossip_message(bytes: &[u8]) {
    if let Ok(received) = message::decode(Bytes::copy_from_slice(bytes)) {
        // Either verdict will do.
        let _ = message::verify(received, &Gullible, &Gullible);
    }
}

/// A snapshot: the bytes as each of its files, the others being as they should.
pub fn snapshot(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let file = [&[1], bytes].concat();
    // Counts that are beyond all that follows.
    let many: &[u8] = b"\x01\xff\xff\x03";
    let rows: [&[u8]; 2] = [
        b"\x01\x01\x02cc\xff\xff\x03",
        b"\x01\x01\x17cc$$h_implicit_org_Org1\xff\xff\x03",
    ];
    let kinds = [
        ("txids", many),
        ("confighistory", many),
        ("public_state", rows[0]),
        ("private_state_hashes", rows[1]),
    ];
    for (index, (name, metadata)) in kinds.into_iter().enumerate() {
        let (data_name, metadata_name) = (format!("{name}.data"), format!("{name}.metadata"));
        for (turn, pair) in [(&*file, metadata), (b"\x01", &*file)]
            .into_iter()
            .enumerate()
        {
            let folder = folder.path().join(format!("{index}{turn}"));
            if std::fs::create_dir(&folder).is_err() {
                return;
            }
            let files = [(&*data_name, pair.0), (&*metadata_name, pair.1)];
            // Any refusal will do.
            let _ = import_snapshot(&folder, &files);
        }
    }
    let _ = read_snapshot_metadata(folder.path(), bytes);
}

/// A block from an ordering node, from a peer, and as a header on a stream of headers.
pub fn block(bytes: &[u8]) {
    let Some(config) = channel() else { return };
    let verifier = BlockVerifier::new(config.clone());
    let bytes = Bytes::copy_from_slice(bytes);
    let previous = BlockRef {
        number: 0,
        header_hash: [0; 32],
    };
    let _ = verifier.verify(bytes.clone());
    let _ = verifier.verify_next(bytes.clone(), &previous);
    let _ = verifier.verify_attestation(bytes, &previous);
}

/// A block to join a channel with, which nothing but its own form vouches for.
pub fn genesis_block(bytes: &[u8]) {
    let _ = BlockVerifier::trust_genesis(Bytes::copy_from_slice(bytes));
}

/// A transaction's layers.
pub fn envelope(bytes: &[u8]) {
    let _ = OpenedEnvelope::decode(Bytes::copy_from_slice(bytes));
}

/// A transaction in a block, which gets a verdict or is said to have none.
pub fn transaction(bytes: &[u8]) {
    let Some(config) = channel() else { return };
    let Ok(validator) = Validator::new(config.clone(), Options::default()) else {
        return;
    };
    let header = BlockHeader {
        number: 1,
        ..BlockHeader::default()
    };
    let data = BlockData {
        data: vec![Bytes::copy_from_slice(bytes)],
    };
    let block = Block {
        header: Some(header),
        data: Some(data),
        metadata: None,
    };
    match validator.validate_block(&block, &Nothing, &Nothing) {
        Ok(verdicts) => assert_eq!(verdicts.len(), 1),
        Err(error) => assert!(matches!(error, ValidationError::Undecidable(_))),
    }
}

/// A transaction of a stored block, as it is read when databases are brought level.
pub fn committed_transaction(bytes: &[u8]) {
    let _ = CommittedTransaction::read(&Bytes::copy_from_slice(bytes));
}

/// What a transaction read and wrote, which a majority of strange endorsers may have made up: twice in one
/// block, on a state without content and on one where every key is.
pub fn read_write_set(bytes: &[u8]) {
    let Ok(rwset) = TxRwSet::decode(Bytes::copy_from_slice(bytes)) else {
        return;
    };
    let verdict = TxVerdict {
        code: TxValidationCode::Valid,
        txid: "".into(),
        reason: String::new(),
        transaction: Some(ParsedTransaction {
            txid: "".into(),
            kind: TransactionKind::Endorser {
                chaincode: ChaincodeId::default(),
                event: Bytes::new(),
            },
            rwset: rwset.clone(),
        }),
    };
    let verdicts = [verdict.clone(), verdict];
    let stated = StatedVerdicts::new();
    resolve(&verdicts, &stated, &Nothing);
    resolve(&verdicts, &stated, &Everything);
    let both = [(0, &rwset), (1, &rwset)];
    let _ = mvcc::collect(2, both, &Everything);
}

fn resolve(
    verdicts: &[TxVerdict],
    stated: &StatedVerdicts,
    state: &(impl VersionedState + StateReader),
) {
    match mvcc::resolve(2, verdicts, state, stated) {
        Ok(resolved) => {
            assert_eq!(resolved.codes.len(), verdicts.len());
            let filter = resolved.transactions_filter();
            let _ = mvcc::commit_hash(None, &filter, &resolved.updates);
            let _ = defined_collections(2, &resolved.updates, state, Some(stated));
        }
        Err(error) => assert!(matches!(error, MvccError::Undecidable { .. })),
    }
}

/// The collections in a chaincode's definition.
pub fn definition(bytes: &[u8]) {
    let collections = Collections::read(bytes);
    for name in collections.names() {
        assert!(collections.get(name).is_some());
    }
    let _ = block_to_live("cc", "c", &Defined(bytes));
}

/// A serialized identity, held against a channel's MSPs.
pub fn identity(bytes: &[u8]) {
    let Some(config) = channel() else { return };
    let msps: &MspManager = config.msps();
    if let Ok(identity) = msps.deserialize(bytes) {
        let _ = msps.validate(&identity);
        let _ = identity.verify(bytes, bytes);
    }
    let _ = selvedge_protos::identity::pki_id(bytes);
}

/// The bytes of a signature policy.
pub fn signature_policy(bytes: &[u8]) {
    if let Ok(policy) = SignaturePolicy::from_bytes(bytes) {
        let _ = policy.evaluate_identities(&[]);
    }
}

/// A policy as an operator writes it.
pub fn policy_text(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_policy(text);
        let _ = parse_implicit_meta_policy(text);
    }
}

/// A signed proposal to the endorser.
pub fn proposal(bytes: &[u8]) {
    if let Ok(signed) = SignedProposal::decode(bytes) {
        let _ = UnpackedProposal::open(&signed);
    }
}

/// A core.yaml.
pub fn core_yaml(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(sources) = Sources::new(Path::new("core.yaml"), text, []) {
        let _ = sources.peer();
        let _ = sources.client();
    }
}

/// FABRIC_LOGGING_SPEC.
pub fn log_spec(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = text.parse::<LogSpec>();
    }
}

/// A block file, as a disk or a Go peer may have left it: what opens as a chain can be read.
pub fn block_file(bytes: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else {
        return;
    };
    let path = folder.path().join("blockfile_000000");
    if std::fs::write(path, bytes).is_err() {
        return;
    }
    let (disk, index) = (FailingDisk::endless(), Arc::new(MemoryStore::new()));
    let options = selvedge_ledger::Options::default();
    let opened = open_block_store("fuzz", &disk, folder.path(), index, &options);
    if let Ok(store) = opened {
        let _ = store.wait_for_index();
        assert_eq!(
            store.blocks_from(0).flatten().count() as u64,
            store.height()
        );
    }
}

/// A row of the state's database that is not as it was written: the first byte chooses the table, the
/// second the length of the key, which is as long as can be if that is 255.
pub fn state_rows(bytes: &[u8]) {
    let Some((&[table, length], rest)) = bytes.split_first_chunk() else {
        return;
    };
    let Some(table) = StateDatabase::TABLES.get(usize::from(table) % StateDatabase::TABLES.len())
    else {
        return;
    };
    let (key, value) = rest.split_at(rest.len().min(usize::from(length)));
    let mut key = key.to_vec();
    match length {
        0 => return,
        u8::MAX => key.resize(MAX_KEY_LENGTH, 0),
        _ => key.push(0),
    }
    let store = Arc::new(MemoryStore::new());
    let _ = StateDatabase::on(store.clone());
    let mut batch = Batch::default();
    batch.put(*table, key.clone(), value);
    let _ = store.commit(batch, Durability::Process);
    let Ok(state) = StateDatabase::on(store) else {
        return;
    };
    let _ = state.savepoint();
    state.entries().for_each(drop);
    let namespace = Namespace::public("");
    state.range(namespace, &[], None).for_each(drop);
    let _ = state.get(namespace, key.get(1..).unwrap_or_default());
    state.history().places("", "").for_each(drop);
    for block in 0..2 {
        let _ = state.commit(&StateUpdates::new(block), Durability::Process);
    }
}

fn channel() -> Option<&'static Arc<ChannelConfig>> {
    static CONFIG: OnceLock<Option<Arc<ChannelConfig>>> = OnceLock::new();
    let read = || {
        let block = Block::decode(GENESIS).ok()?;
        ChannelConfig::from_block(&block).ok().map(Arc::new)
    };
    CONFIG.get_or_init(read).as_ref()
}

/// Believes everybody.
struct Gullible;

impl Crypto for Gullible {
    fn validate(&self, _: &Bytes) -> Result<IdentityFacts, Refusal> {
        Ok(IdentityFacts {
            org: OrgId::from("Org1MSP"),
            expires_at: None,
        })
    }

    fn verify(&self, _: &Identity, _: &[u8], _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }
}

impl IdentitySource for Gullible {
    fn identity(&self, _: &PkiId) -> Option<Identity> {
        None
    }
}

/// A state with one chaincode, whose definition has these bytes for its collections.
struct Defined<'a>(&'a [u8]);

impl StateReader for Defined<'_> {
    fn value(&self, _: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        let field = |content: Type| StateData {
            r#type: Some(content),
        };
        let value = match key.rsplit('/').next() {
            Some("Sequence") => field(Type::Int64(1)).encode_to_vec(),
            Some("Collections") => {
                field(Type::Bytes(Bytes::copy_from_slice(self.0))).encode_to_vec()
            }
            Some("EndorsementInfo" | "ValidationInfo") => {
                field(Type::Bytes(Bytes::new())).encode_to_vec()
            }
            _ => StateMetadata {
                datatype: "ChaincodeDefinition".to_owned(),
                ..StateMetadata::default()
            }
            .encode_to_vec(),
        };
        Ok(Some(value.into()))
    }

    fn metadata(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    fn hashed_metadata(&self, _: &str, _: &str, _: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }
}

/// A state where every key has a value and metadata, and every range some keys.
struct Everything;

impl StateReader for Everything {
    fn value(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(Some(Bytes::from_static(b"value")))
    }

    fn metadata(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(Some(Bytes::from_static(b"\x12\x00")))
    }

    fn hashed_metadata(&self, _: &str, _: &str, _: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(Some(Bytes::from_static(b"\x12\x00")))
    }
}

impl VersionedState for Everything {
    fn versioned_value(
        &self,
        _: &str,
        _: Option<&str>,
        _: &[u8],
    ) -> Result<Option<VersionedValue>, SourceError> {
        Ok(Some(VersionedValue {
            value: Bytes::from_static(b"value"),
            metadata: Bytes::from_static(b"\x12\x00"),
            version: Version::default(),
        }))
    }

    fn versions_in_range(
        &self,
        _: &str,
        _: &str,
        _: Option<&str>,
    ) -> impl Iterator<Item = Result<VersionedKey, SourceError>> {
        let keys = (0..60_u8).map(|number| Bytes::copy_from_slice(&[b'k', number]));
        keys.map(|key| Ok((key, Version::default())))
    }
}

impl VersionedState for Nothing {
    fn versioned_value(
        &self,
        _: &str,
        _: Option<&str>,
        _: &[u8],
    ) -> Result<Option<VersionedValue>, SourceError> {
        Ok(None)
    }

    fn versions_in_range(
        &self,
        _: &str,
        _: &str,
        _: Option<&str>,
    ) -> impl Iterator<Item = Result<VersionedKey, SourceError>> {
        std::iter::empty()
    }
}

/// A ledger without content.
struct Nothing;

impl StateReader for Nothing {
    fn value(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    fn metadata(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }

    fn hashed_metadata(&self, _: &str, _: &str, _: &[u8]) -> Result<Option<Bytes>, SourceError> {
        Ok(None)
    }
}

impl TransactionIds for Nothing {
    fn contains(&self, _: &str) -> Result<bool, SourceError> {
        Ok(false)
    }
}
