use std::collections::BTreeMap;
use std::sync::Arc;

use selvedge_protos::kvrwset::{
    KvMetadataEntry, KvMetadataWrite, KvRead, KvReadHash, KvWrite, KvWriteHash, QueryReads,
    QueryReadsMerkleSummary, RangeQueryInfo, range_query_info::ReadsInfo,
};
use selvedge_protos::protos::ChaincodeId;
use selvedge_protos::{Message, sha256, sha256_of_parts};

use super::merkle::ResultsTree;
use super::*;
use crate::rwset::{CollHashedRwSet, NsRwSet};
use crate::verdict::{ParsedTransaction, TransactionKind};

const BLOCK: u64 = 9;
const OLD: Version = Version {
    block_num: 3,
    tx_num: 1,
};

/// Keys by namespace and collection.
#[derive(Default)]
struct State(BTreeMap<(String, Option<String>, Vec<u8>), VersionedValue>);

impl State {
    fn with(keys: &[&str]) -> Self {
        let mut state = Self::default();
        for key in keys {
            state.set(None, key.as_bytes(), "");
        }
        state
    }

    fn set(&mut self, collection: Option<&str>, key: &[u8], metadata: &str) {
        let value = VersionedValue {
            value: Bytes::from_static(b"old"),
            metadata: Bytes::copy_from_slice(metadata.as_bytes()),
            version: OLD,
        };
        let collection = collection.map(str::to_owned);
        self.0.insert(("cc".into(), collection, key.into()), value);
    }
}

impl VersionedState for State {
    fn versioned_value(
        &self,
        namespace: &str,
        collection: Option<&str>,
        key: &[u8],
    ) -> Result<Option<VersionedValue>, SourceError> {
        let key = (namespace.into(), collection.map(str::to_owned), key.into());
        Ok(self.0.get(&key).cloned())
    }

    fn versions_in_range(
        &self,
        namespace: &str,
        from: &str,
        to: Option<&str>,
    ) -> impl Iterator<Item = Result<VersionedKey, SourceError>> {
        self.0
            .iter()
            .filter(move |((name, collection, key), _)| {
                name == namespace
                    && collection.is_none()
                    && &key[..] >= from.as_bytes()
                    && to.is_none_or(|to| &key[..] < to.as_bytes())
            })
            .map(|((_, _, key), value)| Ok((key.clone().into(), value.version)))
    }
}

fn transaction(part: NsRwSet) -> TxVerdict {
    let namespace = NsRwSet {
        namespace: "cc".into(),
        ..part
    };
    let txid: Arc<str> = "id".into();
    TxVerdict {
        code: TxValidationCode::Valid,
        txid: txid.clone(),
        reason: String::new(),
        transaction: Some(ParsedTransaction {
            txid,
            kind: TransactionKind::Endorser {
                chaincode: ChaincodeId::default(),
                event: Bytes::new(),
            },
            rwset: TxRwSet {
                namespaces: vec![namespace],
            },
        }),
    }
}

fn put(key: &str, value: &str) -> KvWrite {
    KvWrite {
        key: key.into(),
        is_delete: false,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn delete(key: &str) -> KvWrite {
    KvWrite {
        key: key.into(),
        is_delete: true,
        value: Bytes::new(),
    }
}

fn writing(writes: &[KvWrite]) -> TxVerdict {
    transaction(NsRwSet {
        writes: writes.to_vec(),
        ..NsRwSet::default()
    })
}

fn setting_metadata(key: &str, names: &[&str], writes: &[KvWrite]) -> TxVerdict {
    let entry = |name: &&str| KvMetadataEntry {
        name: (*name).to_owned(),
        value: Bytes::from_static(b"m"),
    };
    transaction(NsRwSet {
        writes: writes.to_vec(),
        metadata_writes: vec![KvMetadataWrite {
            key: key.into(),
            entries: names.iter().map(entry).collect(),
        }],
        ..NsRwSet::default()
    })
}

fn reading(key: &str, version: Option<Version>) -> TxVerdict {
    transaction(NsRwSet {
        reads: vec![KvRead {
            key: key.into(),
            version,
        }],
        ..NsRwSet::default()
    })
}

fn querying(from: &str, to: &str, exhausted: bool, reads_info: Option<ReadsInfo>) -> TxVerdict {
    transaction(NsRwSet {
        range_queries: vec![RangeQueryInfo {
            start_key: from.into(),
            end_key: to.into(),
            itr_exhausted: exhausted,
            reads_info,
        }],
        ..NsRwSet::default()
    })
}

fn raw(keys: &[&str]) -> Option<ReadsInfo> {
    let read = |key: &&str| KvRead {
        key: (*key).to_owned(),
        version: Some(OLD),
    };
    let kv_reads = keys.iter().map(read).collect();
    Some(ReadsInfo::RawReads(QueryReads { kv_reads }))
}

fn resolve_all(state: &State, transactions: &[TxVerdict]) -> Result<ResolvedBlock, MvccError> {
    resolve(BLOCK, transactions, state, &StatedVerdicts::new())
}

fn codes(state: &State, transactions: &[TxVerdict]) -> Vec<TxValidationCode> {
    resolve_all(state, transactions).unwrap().codes
}

fn code(state: &State, transaction: TxVerdict) -> TxValidationCode {
    codes(state, &[transaction])[0]
}

fn undecidable(state: &State, transactions: &[TxVerdict]) -> MvccReason {
    match resolve_all(state, transactions) {
        Err(MvccError::Undecidable {
            block: BLOCK,
            transaction,
            reason,
        }) if transaction + 1 == transactions.len() => reason,
        other => panic!("{other:?}"),
    }
}

const VALID: TxValidationCode = TxValidationCode::Valid;
const CONFLICT: TxValidationCode = TxValidationCode::MvccReadConflict;
const PHANTOM: TxValidationCode = TxValidationCode::PhantomReadConflict;

#[test]
fn a_read_holds_while_the_version_is_the_same() {
    let state = State::with(&["a"]);
    let newer = Version { tx_num: 2, ..OLD };
    assert_eq!(code(&state, reading("a", Some(OLD))), VALID);
    assert_eq!(code(&state, reading("a", Some(newer))), CONFLICT);
    assert_eq!(code(&state, reading("a", None)), CONFLICT);
    assert_eq!(code(&state, reading("b", None)), VALID);
    assert_eq!(code(&state, reading("b", Some(OLD))), CONFLICT);
}

#[test]
fn what_was_written_earlier_in_the_block_cannot_be_read() {
    let state = State::with(&["a"]);
    let written_now = Version {
        block_num: BLOCK,
        tx_num: 0,
    };
    for write in [put("a", "v"), delete("a"), put("b", "v"), delete("b")] {
        for version in [None, Some(OLD), Some(written_now)] {
            let read = reading(&write.key, version);
            let found = codes(&state, &[writing(std::slice::from_ref(&write)), read]);
            assert_eq!(found, [VALID, CONFLICT], "{write:?} {version:?}");
        }
    }
    // A transaction that fails writes nothing.
    let mut failing = reading("a", None);
    let rwset = &mut failing.transaction.as_mut().unwrap().rwset;
    rwset.namespaces[0].writes = vec![put("b", "v")];
    let found = codes(&state, &[failing, reading("b", None)]);
    assert_eq!(found, [CONFLICT, VALID]);
}

#[test]
fn hashed_reads_are_compared_like_public_ones() {
    let mut state = State::default();
    state.set(Some("c"), b"hash", "");
    let hashed = |version: Option<Version>, writes: Vec<KvWriteHash>| {
        transaction(NsRwSet {
            collections: vec![CollHashedRwSet {
                collection: "c".into(),
                reads: version
                    .map(|version| KvReadHash {
                        key_hash: Bytes::from_static(b"hash"),
                        version: Some(version),
                    })
                    .into_iter()
                    .collect(),
                writes,
                ..CollHashedRwSet::default()
            }],
            ..NsRwSet::default()
        })
    };
    let purge = KvWriteHash {
        key_hash: Bytes::from_static(b"hash"),
        is_delete: true,
        is_purge: true,
        value_hash: Bytes::new(),
    };
    let read = hashed(Some(OLD), Vec::new());
    let found = codes(&state, &[read.clone(), hashed(None, vec![purge]), read]);
    assert_eq!(found, [VALID, VALID, CONFLICT]);
    assert_eq!(code(&state, reading("hash", None)), VALID);
}

#[test]
fn a_range_query_must_give_the_same_again() {
    let state = State::with(&["a", "b", "c", "d"]);
    let query = |reads: &[&str]| querying("a", "d", true, raw(reads));
    assert_eq!(code(&state, query(&["a", "b", "c"])), VALID);
    assert_eq!(code(&state, query(&["a", "b"])), PHANTOM);
    assert_eq!(code(&state, query(&["a", "c"])), PHANTOM);
    assert_eq!(code(&state, query(&["a", "b", "c", "d"])), PHANTOM);
    assert_eq!(code(&state, querying("x", "z", true, None)), VALID);
    assert_eq!(code(&state, querying("a", "z", true, None)), PHANTOM);
    assert_eq!(code(&state, querying("z", "a", true, raw(&[]))), VALID);
    assert_eq!(
        code(&state, querying("c", "", true, raw(&["c", "d"]))),
        VALID
    );
    // Not read to the end: the last key that was read belongs to the range.
    assert_eq!(
        code(&state, querying("a", "b", false, raw(&["a", "b"]))),
        VALID
    );
    assert_eq!(
        code(&state, querying("a", "bb", false, raw(&["a", "b"]))),
        VALID
    );
}

#[test]
fn a_range_query_sees_the_writes_before_it_in_the_block() {
    let state = State::with(&["a", "b", "c"]);
    let after = |write: KvWrite, query: TxVerdict| codes(&state, &[writing(&[write]), query])[1];
    let all = || querying("a", "z", true, raw(&["a", "b", "c"]));
    assert_eq!(after(put("bb", "v"), all()), PHANTOM);
    assert_eq!(after(put("b", "v"), all()), PHANTOM);
    assert_eq!(after(delete("b"), all()), PHANTOM);
    assert_eq!(after(put("z", "v"), all()), VALID);
    assert_eq!(after(delete("bb"), all()), VALID);
    let without_b = || querying("a", "z", true, raw(&["a", "c"]));
    assert_eq!(after(delete("b"), without_b()), VALID);
    let open = || querying("a", "c", false, raw(&["a", "b", "c"]));
    assert_eq!(after(put("c", "v"), open()), PHANTOM);
    assert_eq!(after(delete("c"), open()), PHANTOM);
}

#[test]
fn a_recorded_read_without_version_is_undecidable_only_if_it_is_compared() {
    let state = State::with(&["a", "b"]);
    let reads = |keys: &[&str]| {
        let read = |key: &&str| KvRead {
            key: (*key).to_owned(),
            version: None,
        };
        let kv_reads = keys.iter().map(read).collect();
        querying(
            "a",
            "z",
            true,
            Some(ReadsInfo::RawReads(QueryReads { kv_reads })),
        )
    };
    let reason = undecidable(&state, &[reads(&["a"])]);
    assert!(matches!(reason, MvccReason::ReadWithoutVersion { .. }));
    assert_eq!(code(&state, reads(&["b"])), PHANTOM);
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("key{number:05}")).collect()
}

fn summary(keys: &[String], degree: u32) -> QueryReadsMerkleSummary {
    let mut tree = ResultsTree::new(degree).unwrap();
    for key in keys {
        tree.add(&key.clone().into(), OLD).unwrap();
    }
    tree.finish();
    let (max_level, hashes) = tree.top();
    QueryReadsMerkleSummary {
        max_degree: degree,
        max_level,
        max_level_hashes: hashes.iter().map(|hash| hash.to_vec().into()).collect(),
    }
}

/// The tree as its definition says, level by level.
fn by_definition(keys: &[String], degree: usize) -> (u32, Vec<Bytes>) {
    let leaf = |keys: &[String]| {
        let reads = keys.iter().map(|key| KvRead {
            key: key.clone(),
            version: Some(OLD),
        });
        let kv_reads = reads.collect();
        Bytes::copy_from_slice(&sha256(&QueryReads { kv_reads }.encode_to_vec()))
    };
    let mut nodes: Vec<Bytes> = keys.chunks(degree + 1).map(leaf).collect();
    let mut level = 1;
    while nodes.len() > degree {
        let parent = |nodes: &[Bytes]| match nodes {
            [alone] => alone.clone(),
            nodes => Bytes::copy_from_slice(&sha256_of_parts(nodes.iter().map(|node| &node[..]))),
        };
        nodes = nodes.chunks(degree + 1).map(parent).collect();
        level += 1;
    }
    (level, nodes)
}

#[test]
fn the_tree_that_grows_is_the_tree_by_definition() {
    for degree in 2..5 {
        for count in degree + 1..150 {
            let keys = numbered(count);
            let found = summary(&keys, degree as u32);
            let expected = by_definition(&keys, degree);
            assert_eq!(
                (found.max_level, found.max_level_hashes),
                expected,
                "{degree} {count}"
            );
        }
    }
}

#[test]
fn a_summary_fits_the_same_results_only() {
    let query = |summary| {
        querying(
            "key",
            "kez",
            true,
            Some(ReadsInfo::ReadsMerkleHashes(summary)),
        )
    };
    for count in [6, 7, 13, 36, 37, 100] {
        let keys = numbered(count);
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let state = State::with(&names);
        let recorded = summary(&keys, 5);
        assert_eq!(code(&state, query(recorded.clone())), VALID, "{count}");
        let shorter = State::with(&names[..count - 1]);
        assert_eq!(code(&shorter, query(recorded.clone())), PHANTOM, "{count}");
        for changed in [0, count / 2, count - 1] {
            let write = writing(&[put(names[changed], "v")]);
            let found = codes(&state, &[write, query(recorded.clone())]);
            assert_eq!(found, [VALID, PHANTOM], "{count} {changed}");
        }
        let write = writing(&[put("keyz", "v")]);
        let found = codes(&state, &[write, query(recorded.clone())]);
        assert_eq!(found, [VALID, PHANTOM], "{count}");
    }
    // So few results have no summary.
    let few = State::with(&["key1"]);
    assert_eq!(
        code(
            &few,
            query(QueryReadsMerkleSummary {
                max_degree: 5,
                max_level: 1,
                max_level_hashes: vec![]
            })
        ),
        PHANTOM
    );
}

#[test]
fn summaries_that_end_a_go_peer_are_undecidable() {
    let query = |summary| {
        querying(
            "key",
            "kez",
            true,
            Some(ReadsInfo::ReadsMerkleHashes(summary)),
        )
    };
    let keys = numbered(9);
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    let recorded = summary(&keys[..6], 2);
    assert_eq!(
        (recorded.max_level, recorded.max_level_hashes.len()),
        (1, 2)
    );
    let reason = undecidable(&State::with(&names), &[query(recorded.clone())]);
    assert!(matches!(reason, MvccReason::GrownByLevel { .. }));
    assert_eq!(code(&State::with(&names[..8]), query(recorded)), PHANTOM);
    let flat = QueryReadsMerkleSummary {
        max_degree: 1,
        ..Default::default()
    };
    let reason = undecidable(&State::default(), &[query(flat)]);
    assert!(matches!(reason, MvccReason::Degree { degree: 1, .. }));
}

/// What a block leaves of key `a`: value and metadata; `None` if it does not change it.
fn left(state: &State, transactions: &[TxVerdict]) -> Option<(Option<Bytes>, bool)> {
    let resolved = resolve_all(state, transactions).unwrap();
    let update = resolved.updates.get("cc", None, b"a")?;
    assert_eq!(update.version.tx_num, transactions.len() as u64 - 1);
    Some((update.value.clone(), !update.metadata.is_empty()))
}

#[test]
fn writes_to_a_key_are_added_up_as_in_fabric() {
    let mut state = State::default();
    state.set(None, b"a", "has metadata");
    let empty = State::default();
    let some = |value: &'static str| Some(Bytes::from_static(value.as_bytes()));
    let one = |transaction| [transaction];

    // What is not written stays.
    assert_eq!(
        left(&state, &one(writing(&[put("a", "v")]))),
        Some((some("v"), true))
    );
    assert_eq!(
        left(&empty, &one(writing(&[put("a", "v")]))),
        Some((some("v"), false))
    );
    let metadata = setting_metadata("a", &["m"], &[]);
    assert_eq!(
        left(&state, &one(metadata.clone())),
        Some((some("old"), true))
    );
    assert_eq!(left(&empty, &one(metadata)), None);
    assert_eq!(
        left(&state, &one(setting_metadata("a", &[], &[]))),
        Some((some("old"), false))
    );
    let both = setting_metadata("a", &["m"], &[put("a", "v")]);
    assert_eq!(left(&empty, &one(both)), Some((some("v"), true)));
    let cleared = setting_metadata("a", &[], &[put("a", "v")]);
    assert_eq!(left(&state, &one(cleared)), Some((some("v"), false)));

    // A delete wins; an empty value is one.
    assert_eq!(
        left(&state, &one(writing(&[delete("a")]))),
        Some((None, false))
    );
    assert_eq!(
        left(&empty, &one(writing(&[put("a", "")]))),
        Some((None, false))
    );
    assert_eq!(
        left(&state, &one(writing(&[put("a", "v"), delete("a")]))),
        Some((None, false))
    );
    let deleted = setting_metadata("a", &["m"], &[delete("a")]);
    assert_eq!(left(&state, &one(deleted)), Some((None, false)));

    // Twice the same is something else.
    let twice = [put("a", "v"), put("a", "w")];
    assert_eq!(
        left(&state, &one(writing(&twice))),
        Some((some("old"), false))
    );
    assert_eq!(left(&empty, &one(writing(&twice))), None);
    let thrice = [put("a", "v"), put("a", "w"), put("a", "x")];
    assert_eq!(
        left(&empty, &one(writing(&thrice))),
        Some((some("x"), false))
    );
    let deletes = [delete("a"), delete("a")];
    assert_eq!(
        left(&state, &one(writing(&deletes))),
        Some((some("old"), false))
    );

    // Later transactions build on earlier ones.
    let block = [
        setting_metadata("a", &["m"], &[put("a", "v")]),
        writing(&[put("a", "w")]),
    ];
    assert_eq!(left(&empty, &block), Some((some("w"), true)));
    let block = [writing(&[delete("a")]), writing(&[put("a", "w")])];
    assert_eq!(left(&state, &block), Some((some("w"), false)));
    let block = [
        writing(&[put("a", "v")]),
        setting_metadata("a", &["m"], &[]),
    ];
    assert_eq!(left(&empty, &block), Some((some("v"), true)));
}

#[test]
fn metadata_for_a_key_that_the_block_has_deleted_is_undecidable() {
    let state = State::with(&["a"]);
    let block = [writing(&[delete("a")]), setting_metadata("a", &["m"], &[])];
    assert!(matches!(
        undecidable(&state, &block),
        MvccReason::NoValue { .. }
    ));
    let many = vec![delete("a"); 32];
    assert!(matches!(
        undecidable(&state, &[writing(&many)]),
        MvccReason::NoValue { .. }
    ));
}

#[test]
fn stated_verdicts_are_not_compared_with_the_state() {
    let state = State::with(&["a"]);
    let stated = StatedVerdicts::from([((BLOCK, 0), VALID)]);
    let block = [reading("a", None), reading("a", None)];
    let resolved = resolve(BLOCK, &block, &state, &stated).unwrap();
    assert_eq!(resolved.codes, [VALID, CONFLICT]);
    assert_eq!(resolved.transactions_filter(), [0, 11]);
}

#[test]
fn a_block_collected_by_its_codes_has_the_same_updates() {
    let state = State::with(&["a", "b"]);
    let block = [
        writing(&[put("a", "v")]),
        reading("a", Some(OLD)),
        setting_metadata("a", &["m"], &[]),
        writing(&[delete("b"), put("c", "v")]),
    ];
    let resolved = resolve_all(&state, &block).unwrap();
    assert_eq!(resolved.codes, [VALID, CONFLICT, VALID, VALID]);
    let valid = block
        .iter()
        .enumerate()
        .filter(|(position, _)| *position != 1);
    let valid =
        valid.map(|(position, verdict)| (position, &verdict.transaction.as_ref().unwrap().rwset));
    assert_eq!(collect(BLOCK, valid, &state).unwrap(), resolved.updates);
}
