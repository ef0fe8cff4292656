//! Which chaincodes a block defines, with the collections that they have from then on.
//!
//! A definition is told by a change of its sequence number, one of the legacy lifecycle by any write to that
//! one's namespace. It is read as it stands after the block (Fabric: `core/ledger/confighistory` and
//! `lifecycle`, `UpdatedChaincodes`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use selvedge_protos::wire::{Field, Fields, Value, WireError, text};

use crate::definition::{
    Collection, Definition, LEGACY_LIFECYCLE, LIFECYCLE, implicit_organization, read_collections,
};
use crate::mvcc::{MvccError, MvccReason, UpdateBatch};
use crate::source::{SourceError, StateReader};
use crate::validator::StatedVerdicts;

/// Stands between the name of a chaincode and what its key in the legacy lifecycle's namespace is about.
const COLLECTIONS_SEPARATOR: char = '~';

/// The explicit collections that a block gives to a chaincode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinedCollections {
    /// The chaincode.
    pub chaincode: String,
    /// The encoded `CollectionConfigPackage` as it stands in the definition. A Go peer keeps it encoded
    /// anew, which is the same for what an honest endorser makes.
    pub package: Bytes,
}

/// The collections of the chaincodes that a block defines or upgrades; one without collections is passed
/// over. `state` is as of the block before. A transaction with a stated verdict may define one that cannot
/// be read; without `stated` all may, since the block is committed already.
///
/// Costs nothing for a block that does not write to the namespace of a lifecycle.
pub fn defined_collections(
    block: u64,
    updates: &UpdateBatch,
    state: &impl StateReader,
    stated: Option<&StatedVerdicts>,
) -> Result<Vec<DefinedCollections>, MvccError> {
    let after = After { updates, state };
    let mut defined = Vec::new();
    for (chaincode, transaction) in changed_chaincodes(updates) {
        let definition = Definition::committed(chaincode, &after);
        let source = |source| MvccError::State { block, source };
        let package = match definition.map_err(source)? {
            Definition::Chaincode(found) => Ok(found.package),
            Definition::Legacy => legacy_package(chaincode, &after).map_err(source)?,
            Definition::Undefined => Err("it is not defined".to_owned()),
            Definition::Unreadable(fault) => Err(fault),
        };
        let fault = match package {
            Ok(package) if has_collections(&package) => {
                defined.push(DefinedCollections {
                    chaincode: chaincode.to_owned(),
                    package,
                });
                continue;
            }
            Ok(_) => continue,
            Err(fault) => fault,
        };
        let transaction = usize::try_from(transaction).unwrap_or(usize::MAX);
        if stated.is_some_and(|stated| !stated.contains_key(&(block, transaction))) {
            let reason = MvccReason::Definition {
                chaincode: chaincode.to_owned(),
                fault,
            };
            return Err(MvccError::Undecidable {
                block,
                transaction,
                reason,
            });
        }
    }
    Ok(defined)
}

/// The chaincodes that a block defines by either lifecycle, each with a transaction that does so. That the
/// chaincode of the legacy lifecycle writes at all takes a definition of it by the other one.
fn changed_chaincodes(updates: &UpdateBatch) -> BTreeMap<&str, u64> {
    let public = |namespace| {
        let namespace = updates.namespaces.get(namespace);
        namespace.into_iter().flat_map(|found| &found.public)
    };
    let sequences = public(LIFECYCLE).filter_map(|(key, update)| {
        let chaincode = defined_chaincode(key)?;
        Some((chaincode, update.version.tx_num))
    });
    let legacy = public(LEGACY_LIFECYCLE).filter_map(|(key, update)| {
        update.value.as_ref()?;
        let key = std::str::from_utf8(key).ok()?;
        let chaincode = key.split(COLLECTIONS_SEPARATOR).next()?;
        Some((chaincode, update.version.tx_num))
    });
    let chaincodes = sequences.chain(legacy);
    // It is always there, whatever stands in the state of it.
    chaincodes.filter(|(name, _)| *name != LIFECYCLE).collect()
}

/// The collections of a chaincode that only the legacy lifecycle knows, or why its definition does not
/// parse (Fabric: `core/scc/lscc`, DeployedCCInfoProvider).
fn legacy_package(
    chaincode: &str,
    state: &impl StateReader,
) -> Result<Result<Bytes, String>, SourceError> {
    let read = |key: &str| {
        let value = state.value(LEGACY_LIFECYCLE, key)?;
        Ok::<_, SourceError>(value.unwrap_or_default())
    };
    if let Err(fault) = check_chaincode_data(&read(chaincode)?) {
        return Ok(Err(fault.to_string()));
    }
    let package = read(&format!("{chaincode}{COLLECTIONS_SEPARATOR}collection"))?;
    Ok(match read_collections(&package) {
        Ok(_) => Ok(package),
        Err(fault) => Err(fault.to_string()),
    })
}

/// Checks that the bytes parse as Fabric's `ccprovider.ChaincodeData`, in which name, version and both
/// plugins are text.
fn check_chaincode_data(bytes: &[u8]) -> Result<(), WireError> {
    Fields::of(bytes).try_for_each(|field| match field? {
        Field {
            number: 1..=4,
            value: Value::Bytes(bytes),
            ..
        } => text(bytes).map(drop),
        _ => Ok(()),
    })
}

/// The chaincode whose sequence number the key holds.
fn defined_chaincode(key: &[u8]) -> Option<&str> {
    let key = std::str::from_utf8(key).ok()?;
    let name = key.strip_prefix("namespaces/fields/")?;
    let name = name.strip_suffix("/Sequence")?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Whether a package, which parses, has any collection in it.
fn has_collections(package: &[u8]) -> bool {
    let mut fields = Fields::of(package).flatten();
    fields.any(|field| field.number == 1 && matches!(field.value, Value::Bytes(_)))
}

/// What a peer must know of a collection to keep its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionFacts {
    /// The MSPs whose members may have the data.
    pub members: BTreeSet<String>,
    /// After how many further blocks what is written expires, `None` for never.
    pub block_to_live: Option<u64>,
}

/// The collections of a chaincode as one definition has them.
#[derive(Debug, Default)]
pub struct Collections(BTreeMap<String, Collection>);

impl Collections {
    /// Reads an encoded `CollectionConfigPackage`; nothing for a chaincode without collections. One that
    /// does not parse defines none.
    pub fn read(package: &[u8]) -> Self {
        Self(read_collections(package).unwrap_or_default())
    }

    /// A collection; `None` if there is no such. That of an organisation is there without being defined.
    pub fn get(&self, name: &str) -> Option<CollectionFacts> {
        if let Some(organization) = implicit_organization(name) {
            return Some(CollectionFacts {
                members: BTreeSet::from([organization.to_owned()]),
                block_to_live: None,
            });
        }
        let collection = self.0.get(name)?;
        Some(CollectionFacts {
            members: collection.members.clone(),
            block_to_live: Some(collection.block_to_live).filter(|blocks| *blocks > 0),
        })
    }

    /// The names of those that are defined.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The state after a block.
struct After<'a, S> {
    updates: &'a UpdateBatch,
    state: &'a S,
}

impl<S: StateReader> StateReader for After<'_, S> {
    fn value(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        match self.updates.get(namespace, None, key.as_bytes()) {
            Some(update) => Ok(update.value.clone()),
            None => self.state.value(namespace, key),
        }
    }

    fn metadata(&self, namespace: &str, key: &str) -> Result<Option<Bytes>, SourceError> {
        match self.updates.get(namespace, None, key.as_bytes()) {
            Some(update) => Ok(Some(update.metadata.clone())),
            None => self.state.metadata(namespace, key),
        }
    }

    fn hashed_metadata(
        &self,
        namespace: &str,
        collection: &str,
        key_hash: &[u8],
    ) -> Result<Option<Bytes>, SourceError> {
        match self.updates.get(namespace, Some(collection), key_hash) {
            Some(update) => Ok(Some(update.metadata.clone())),
            None => self.state.hashed_metadata(namespace, collection, key_hash),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_number_tells_of_a_definition() {
        let name = |key: &'static str| defined_chaincode(key.as_bytes());
        assert_eq!(name("namespaces/fields/vault/Sequence"), Some("vault"));
        for other in [
            "namespaces/fields//Sequence",
            "namespaces/fields/a/b/Sequence",
            "namespaces/fields/vault/Sequence2",
            "namespaces/fields/Sequence",
            "namespaces/metadata/vault",
            "namespaces/fields/vault/Collections",
            "xnamespaces/fields/vault/Sequence",
        ] {
            assert_eq!(name(other), None, "{other}");
        }
        assert_eq!(defined_chaincode(b"namespaces/fields/\xff/Sequence"), None);
    }

    /// A state that holds nothing.
    struct Empty;

    impl StateReader for Empty {
        fn value(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
            Ok(None)
        }

        fn metadata(&self, _: &str, _: &str) -> Result<Option<Bytes>, SourceError> {
            Ok(None)
        }

        fn hashed_metadata(
            &self,
            _: &str,
            _: &str,
            _: &[u8],
        ) -> Result<Option<Bytes>, SourceError> {
            Ok(None)
        }
    }

    #[test]
    fn what_cannot_be_read_after_the_block_stops_it() {
        use crate::mvcc::Update;
        use selvedge_protos::kvrwset::Version;
        type Write = (&'static str, Option<&'static [u8]>);
        fn check(
            writes: &[Write],
            stated: Option<&StatedVerdicts>,
        ) -> Result<Vec<DefinedCollections>, MvccError> {
            let mut updates = UpdateBatch::default();
            for (key, value) in writes {
                let update = Update {
                    value: value.map(Bytes::from_static),
                    metadata: Bytes::new(),
                    version: Version {
                        block_num: 5,
                        tx_num: 2,
                    },
                };
                updates.set(LIFECYCLE, None, Bytes::from_static(key.as_bytes()), update);
            }
            defined_collections(5, &updates, &Empty, stated)
        }
        let metadata = (
            "namespaces/metadata/cc",
            Some(&b"\x0a\x13ChaincodeDefinition"[..]),
        );
        let sequence = |value: Option<&'static [u8]>| ("namespaces/fields/cc/Sequence", value);
        let nobody = StatedVerdicts::new();
        assert!(check(&[metadata, sequence(Some(b"\x08\x01"))], Some(&nobody)).is_ok());
        // A number that is none; no definition at all; one that is removed.
        for writes in [
            &[metadata, sequence(Some(b"\x12\x01"))][..],
            &[sequence(Some(b"\x08\x01"))],
            &[("namespaces/metadata/cc", None), sequence(None)],
        ] {
            let error = check(writes, Some(&nobody)).unwrap_err();
            assert!(
                matches!(
                    &error,
                    MvccError::Undecidable {
                        block: 5,
                        transaction: 2,
                        reason: MvccReason::Definition { chaincode, .. },
                    } if chaincode == "cc"
                ),
                "{error}"
            );
            let stated = StatedVerdicts::from([((5, 2), Default::default())]);
            assert_eq!(check(writes, Some(&stated)).unwrap(), []);
            assert_eq!(check(writes, None).unwrap(), []);
        }
    }

    #[test]
    fn what_the_legacy_lifecycle_writes_must_parse() {
        use crate::mvcc::Update;
        let check = |writes: &[(&'static str, Option<&'static [u8]>)]| {
            let mut updates = UpdateBatch::default();
            for (key, value) in writes {
                let update = Update {
                    value: value.map(Bytes::from_static),
                    metadata: Bytes::new(),
                    version: Default::default(),
                };
                let key = Bytes::from_static(key.as_bytes());
                updates.set(LEGACY_LIFECYCLE, None, key, update);
            }
            let stated = StatedVerdicts::new();
            let defined = defined_collections(5, &updates, &Empty, Some(&stated));
            let defined = defined.map_err(|error| error.to_string())?;
            Ok::<_, String>(defined.into_iter().map(|found| found.chaincode).collect())
        };
        let (name, collection) = (Some(&b"\x0a\x02cc"[..]), Some(&b"\x0a\x00"[..]));
        let nothing: Vec<String> = Vec::new();
        assert_eq!(check(&[("cc", name)]), Ok(nothing.clone()));
        // Fields of other types or numbers are not looked at, nor is what is deleted.
        assert_eq!(
            check(&[("cc", Some(b"\x08\x01\x2a\x01\xff"))]),
            Ok(nothing.clone())
        );
        assert_eq!(check(&[("cc", None), ("cc~collection", None)]), Ok(nothing));
        let both = [("cc", name), ("cc~collection", collection)];
        assert_eq!(check(&both), Ok(vec!["cc".to_owned()]));
        for (writes, fault) in [
            (&[("cc", Some(&b"\xff"[..]))][..], "cc"),
            (&[("cc", Some(b"\x12\x01\xff"))], "not UTF-8"),
            (&[("cc~collection", collection)], "it is not defined"),
            (&[("cc", name), ("cc~collection", Some(b"\xff"))], "cc"),
        ] {
            let error = check(writes).unwrap_err();
            assert!(error.contains(fault), "{error}");
        }
    }

    #[test]
    fn members_and_lifetimes_are_read() {
        use selvedge_policy::parse_policy;
        use selvedge_protos::Message;
        use selvedge_protos::protos::{
            CollectionConfig, CollectionConfigPackage, CollectionPolicyConfig,
            StaticCollectionConfig, collection_config, collection_policy_config,
        };
        let policy = parse_policy("OR('Org1MSP.member', AND('Org2MSP.peer', 'Org1MSP.admin'))");
        let policy = collection_policy_config::Payload::SignaturePolicy(policy.unwrap());
        let config = StaticCollectionConfig {
            name: "shared".into(),
            member_orgs_policy: Some(CollectionPolicyConfig {
                payload: Some(policy),
            }),
            block_to_live: 5,
            ..StaticCollectionConfig::default()
        };
        let payload = collection_config::Payload::StaticCollectionConfig(config);
        let package = CollectionConfigPackage {
            config: vec![CollectionConfig {
                payload: Some(payload),
            }],
        };
        let collections = Collections::read(&package.encode_to_vec());
        let shared = collections.get("shared").unwrap();
        assert!(shared.members.iter().eq(["Org1MSP", "Org2MSP"]));
        assert_eq!(shared.block_to_live, Some(5));
        assert_eq!(collections.get("other"), None);
        let implicit = collections.get("_implicit_org_Org3MSP").unwrap();
        assert!(implicit.members.iter().eq(["Org3MSP"]));
        assert_eq!(implicit.block_to_live, None);
        assert!(collections.names().eq(["shared"]));
        assert_eq!(Collections::read(b"\xff").names().count(), 0);
    }

    #[test]
    fn a_package_has_collections_if_one_stands_in_it() {
        assert!(!has_collections(b""));
        assert!(!has_collections(&[0x12, 0]));
        assert!(has_collections(&[0x0a, 0]));
    }
}
