//! Transactions, and what chaincodes and endorsers put into them and into the state.

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::common::{Block, BlockData, BlockHeader};
use selvedge_protos::kvrwset::Version;
use selvedge_protos::lifecycle::state_data::Type;
use selvedge_protos::lifecycle::{StateData, StateMetadata};
use selvedge_protos::protos::{ChaincodeId, TxValidationCode};
use selvedge_validation::mvcc::{
    self, CommittedTransaction, MvccError, VersionedKey, VersionedState, VersionedValue,
};
use selvedge_validation::{
    Collections, Options, ParsedTransaction, SourceError, StateReader, StatedVerdicts,
    TransactionIds, TransactionKind, TxRwSet, TxVerdict, ValidationError, Validator, block_to_live,
    defined_collections,
};

use crate::channel;

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
