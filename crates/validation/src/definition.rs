//! Chaincode definitions, as the lifecycle chaincode keeps them in the state.
//!
//! In the namespace `_lifecycle`, `namespaces/metadata/NAME` says that there is a definition, and
//! `namespaces/fields/NAME/FIELD` holds its fields (Fabric: `core/chaincode/lifecycle`, serializer).
//! A definition counts for the blocks after the one that it was committed in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use selvedge_channel::ChannelConfig;
use selvedge_policy::{PolicyError, SignaturePolicy};
use selvedge_protos::Message;
use selvedge_protos::lifecycle::state_data::Type;
use selvedge_protos::lifecycle::{
    ChaincodeEndorsementInfo, ChaincodeValidationInfo, StateData, StateMetadata,
};
use selvedge_protos::schema::{Schema, decode};
use selvedge_protos::wire::{Fields, Value, WireError, text};

use crate::policy::{EndorsementPolicy, check_signature_policy};
use crate::schemas::{ENDORSEMENT_INFO, STATE_DATA, STATE_METADATA, VALIDATION_INFO};
use crate::source::{SourceError, StateReader};

/// The namespace of the lifecycle chaincode.
pub(crate) const LIFECYCLE: &str = "_lifecycle";
/// The namespace of the legacy lifecycle chaincode.
pub(crate) const LEGACY_LIFECYCLE: &str = "lscc";
/// Guards the namespace of the lifecycle chaincode.
const LIFECYCLE_POLICY: &str = "/Channel/Application/LifecycleEndorsement";
/// The data type of a chaincode definition.
const CHAINCODE_DEFINITION: &str = "ChaincodeDefinition";
/// Every organisation has a collection of this name, followed by its MSP's id, in every namespace.
const IMPLICIT_COLLECTION: &str = "_implicit_org_";
/// The validation plugin that every peer has.
const PLUGIN: &str = "vscc";

/// What is known of a namespace.
#[derive(Debug)]
pub(crate) enum Definition {
    /// No chaincode of this name was defined.
    Undefined,
    /// It is there and cannot be read; a Go peer halts at it.
    Unreadable(String),
    /// Only the legacy lifecycle knows the chaincode.
    Legacy,
    /// A chaincode.
    Chaincode(Chaincode),
}

/// The part of a chaincode's definition that validation goes by.
#[derive(Debug)]
pub(crate) struct Chaincode {
    /// The validation plugin.
    pub plugin: String,
    /// `None` if the definition has no policy, which makes it unusable.
    pub policy: Option<EndorsementPolicy>,
    /// The encoded `CollectionConfigPackage`; empty for none.
    pub package: Bytes,
    collections: BTreeMap<String, Collection>,
}

/// A private data collection of a chaincode.
#[derive(Debug)]
pub(crate) struct Collection {
    /// `None` where that of the chaincode counts.
    policy: Option<EndorsementPolicy>,
    /// After how many blocks its keys expire; 0 for never.
    pub block_to_live: u64,
    /// The MSPs whose members may have its data.
    pub members: BTreeSet<String>,
    /// What is wrong with the policy that says who is a member. A definition can be read nevertheless.
    members_fault: Option<String>,
}

/// After how many further blocks what is written to a collection expires, `None` for never (Fabric:
/// `pvtdatapolicy`). The state is as of the block before the one that writes. What it says of collections of
/// the lifecycle chaincode itself, or of implicit ones, does not count.
pub fn block_to_live(
    chaincode: &str,
    collection: &str,
    state: &impl StateReader,
) -> Result<Option<u64>, SourceError> {
    if chaincode == LIFECYCLE || implicit_organization(collection).is_some() {
        return Ok(None);
    }
    let Definition::Chaincode(chaincode) = Definition::committed(chaincode, state)? else {
        return Ok(None);
    };
    let collection = chaincode.collections.get(collection);
    let blocks = collection.map_or(0, |collection| collection.block_to_live);
    Ok((blocks > 0).then_some(blocks))
}

/// Why private writes to a collection cannot be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CollectionFault {
    /// There is no such collection.
    Undefined,
    /// The policy that says who is a member is none.
    Members(String),
}

/// Whose endorsement policy counts for a collection.
pub(crate) enum CollectionPolicy<'a> {
    /// That of the chaincode.
    OfChaincode,
    /// One of the collection's own.
    Own(&'a EndorsementPolicy),
    /// One that follows from the collection's name.
    Implicit(EndorsementPolicy),
    /// There is no such collection, or it is that of an organisation that is not in the channel.
    Undefined,
}

impl Definition {
    /// Reads the definition of a namespace.
    pub fn read(
        namespace: &str,
        config: &ChannelConfig,
        state: &impl StateReader,
    ) -> Result<Self, SourceError> {
        match namespace {
            LIFECYCLE => Ok(Self::Chaincode(lifecycle(config))),
            _ => Self::committed(namespace, state),
        }
    }

    /// Reads the definition of a namespace other than the lifecycle's.
    pub fn committed(namespace: &str, state: &impl StateReader) -> Result<Self, SourceError> {
        let metadata = state.value(LIFECYCLE, &format!("namespaces/metadata/{namespace}"))?;
        let Some(metadata) = metadata else {
            let legacy = state.value(LEGACY_LIFECYCLE, namespace)?;
            return Ok(legacy.map_or(Self::Undefined, |_| Self::Legacy));
        };
        let field = |name: &str| {
            let key = format!("namespaces/fields/{namespace}/{name}");
            let value = state.value(LIFECYCLE, &key)?;
            Ok::<_, SourceError>(Field {
                name: name.to_owned(),
                value: value.unwrap_or_default(),
            })
        };
        let fields = DefinitionFields {
            sequence: field("Sequence")?,
            endorsement_info: field("EndorsementInfo")?,
            validation_info: field("ValidationInfo")?,
            collections: field("Collections")?,
        };
        let chaincode = check_type(metadata).and_then(|()| fields.read());
        Ok(chaincode.map_or_else(Self::Unreadable, Self::Chaincode))
    }
}

impl Chaincode {
    /// Whether validation has to ask a plugin that is not here.
    pub fn has_foreign_plugin(&self) -> bool {
        self.plugin != PLUGIN
    }

    /// Whether keys of the collection can have metadata (Fabric: `AllCollectionsConfigPkg`).
    pub fn has_collection(&self, name: &str, config: &ChannelConfig) -> bool {
        self.collections.contains_key(name)
            || implicit_organization(name)
                .is_some_and(|msp_id| config.application_org(msp_id).is_some())
    }

    /// Whether blocks with private writes to the collection can be committed: Fabric must find its
    /// configuration (`CollectionInfo`: of an implicit one always, even if the channel has no such
    /// organisation), and make a policy of what this says of its members (`core/common/privdata`,
    /// SimpleCollection).
    pub fn check_collection(&self, name: &str) -> Result<(), CollectionFault> {
        if implicit_organization(name).is_some() {
            return Ok(());
        }
        let collection = self.collections.get(name);
        let collection = collection.ok_or(CollectionFault::Undefined)?;
        match &collection.members_fault {
            None => Ok(()),
            Some(fault) => Err(CollectionFault::Members(fault.clone())),
        }
    }

    /// The policy for writes to a collection (Fabric: `CollectionValidationInfo`).
    pub fn collection_policy(&self, name: &str, config: &ChannelConfig) -> CollectionPolicy<'_> {
        if let Some(msp_id) = implicit_organization(name) {
            let Some(organization) = config.application_org(msp_id) else {
                return CollectionPolicy::Undefined;
            };
            let path = format!("/Channel/Application/{}/Endorsement", organization.name);
            let policy = if config.policies().policy(&path).is_ok() {
                EndorsementPolicy::Reference(path)
            } else {
                EndorsementPolicy::members(1, &[msp_id])
            };
            return CollectionPolicy::Implicit(policy);
        }
        match self.collections.get(name) {
            None => CollectionPolicy::Undefined,
            Some(Collection { policy: None, .. }) => CollectionPolicy::OfChaincode,
            Some(Collection {
                policy: Some(policy),
                ..
            }) => CollectionPolicy::Own(policy),
        }
    }
}

pub(crate) fn implicit_organization(collection: &str) -> Option<&str> {
    collection.strip_prefix(IMPLICIT_COLLECTION)
}

/// The lifecycle chaincode needs no definition. Where the configuration has no policy for it, members
/// of a majority of the organisations have to endorse.
fn lifecycle(config: &ChannelConfig) -> Chaincode {
    let policy = if config.policies().policy(LIFECYCLE_POLICY).is_ok() {
        EndorsementPolicy::Reference(LIFECYCLE_POLICY.to_owned())
    } else {
        let organizations = config.application().organizations().values();
        let msp_ids: Vec<_> = organizations.map(|org| org.msp_id.as_str()).collect();
        let majority = msp_ids.len() / 2 + 1;
        EndorsementPolicy::members(i32::try_from(majority).unwrap_or(i32::MAX), &msp_ids)
    };
    Chaincode {
        plugin: PLUGIN.to_owned(),
        policy: Some(policy),
        package: Bytes::new(),
        collections: BTreeMap::new(),
    }
}

fn check_type(metadata: Bytes) -> Result<(), String> {
    let metadata: StateMetadata =
        decode(metadata, &STATE_METADATA).map_err(|error| format!("metadata: {error}"))?;
    if metadata.datatype == CHAINCODE_DEFINITION {
        Ok(())
    } else {
        Err(format!("not a chaincode type: {}", metadata.datatype))
    }
}

/// The four fields of a definition.
struct DefinitionFields {
    sequence: Field,
    endorsement_info: Field,
    validation_info: Field,
    collections: Field,
}

/// One field of a definition as the state has it; an absent one is as one without a value.
struct Field {
    name: String,
    value: Bytes,
}

impl DefinitionFields {
    /// All fields must be of their types, also those that play no part in validation.
    fn read(self) -> Result<Chaincode, String> {
        self.sequence.number()?;
        let _only_parsed: ChaincodeEndorsementInfo =
            self.endorsement_info.message(&ENDORSEMENT_INFO)?;
        let info: ChaincodeValidationInfo = self.validation_info.message(&VALIDATION_INFO)?;
        let parameter = info.validation_parameter;
        let policy =
            (!parameter.is_empty()).then(|| EndorsementPolicy::from_application_policy(&parameter));
        let malformed = |error| format!("Collections: {error}");
        let package = self.collections.bytes()?;
        Ok(Chaincode {
            plugin: info.validation_plugin,
            policy,
            collections: read_collections(&package).map_err(malformed)?,
            package,
        })
    }
}

impl Field {
    fn data(self) -> Result<Option<Type>, String> {
        let data: StateData =
            decode(self.value, &STATE_DATA).map_err(|error| format!("{}: {error}", self.name))?;
        Ok(data.r#type)
    }

    fn number(self) -> Result<(), String> {
        let name = self.name.clone();
        match self.data()? {
            None | Some(Type::Int64(_)) => Ok(()),
            Some(_) => Err(format!("{name} is no number")),
        }
    }

    fn bytes(self) -> Result<Bytes, String> {
        let name = self.name.clone();
        match self.data()? {
            None => Ok(Bytes::new()),
            Some(Type::Bytes(bytes)) => Ok(bytes),
            Some(_) => Err(format!("{name} holds no bytes")),
        }
    }

    fn message<M: Message + Default>(self, schema: &Schema) -> Result<M, String> {
        let name = self.name.clone();
        decode(self.bytes()?, schema).map_err(|error| format!("{name}: {error}"))
    }
}

/// Why a `CollectionConfigPackage` does not parse.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectionsError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// The messages that a policy of a collection stands in: package, collection, static collection and
/// `CollectionPolicyConfig` or `ApplicationPolicy`.
const AROUND_POLICY: usize = 4;

/// Reads names, lifetimes and endorsement policies of the collections in a `CollectionConfigPackage`; policies
/// may be nested deeper than prost goes, so the layers around them are opened by hand. Of several
/// collections of one name the first counts.
pub(crate) fn read_collections(
    package: &[u8],
) -> Result<BTreeMap<String, Collection>, CollectionsError> {
    let mut collections = BTreeMap::new();
    for config in parts(package, 1)? {
        let mut is_static = false;
        let (mut name, mut policy, mut block_to_live) = (String::new(), None, 0);
        let mut members_policy: Option<Vec<u8>> = None;
        // A message that stands twice is merged.
        for config in parts(config, 1)? {
            is_static = true;
            for field in Fields::of(config) {
                let field = field?;
                match (field.number, field.value) {
                    (1, Value::Bytes(bytes)) => name = text(bytes)?.to_owned(),
                    (2, Value::Bytes(bytes)) => {
                        for policy in parts(bytes, 1)? {
                            check_signature_policy(policy, AROUND_POLICY)?;
                            let merged = members_policy.get_or_insert_default();
                            merged.extend_from_slice(policy);
                        }
                    }
                    (5, Value::Varint(blocks)) => block_to_live = blocks,
                    (8, Value::Bytes(bytes)) => {
                        for policy in parts(bytes, 1)? {
                            check_signature_policy(policy, AROUND_POLICY)?;
                        }
                        for path in parts(bytes, 2)? {
                            text(path)?;
                        }
                        policy.get_or_insert_with(Vec::new).extend_from_slice(bytes);
                    }
                    _ => {}
                }
            }
        }
        if is_static {
            // A policy without content is none (Fabric looks at the length of its encoding).
            let policy = policy.filter(|bytes| !bytes.is_empty());
            let policy = policy.map(|bytes| EndorsementPolicy::from_application_policy(&bytes));
            collections.entry(name).or_insert(Collection {
                policy,
                block_to_live,
                members: organizations(members_policy.as_deref().unwrap_or_default()),
                members_fault: members_fault(members_policy.as_deref()),
            });
        }
    }
    Ok(collections)
}

/// Why no policy can be made of what a collection says of its members.
fn members_fault(policy: Option<&[u8]>) -> Option<String> {
    let Some(policy) = policy else {
        return Some("it has no policy for its members".to_owned());
    };
    let policy = SignaturePolicy::from_unversioned_bytes(policy, AROUND_POLICY);
    policy.err().map(|error| error.to_string())
}

/// The MSPs that the principals of a signature policy name (Fabric: `SimpleCollection.MemberOrgs`). Roles,
/// units and identities all have the name of their MSP first. What does not parse names none: a definition
/// can be read whatever its principals are.
fn organizations(policy: &[u8]) -> BTreeSet<String> {
    let mut organizations = BTreeSet::new();
    for identity in parts(policy, 3).unwrap_or_default() {
        for principal in parts(identity, 2).unwrap_or_default() {
            let name = parts(principal, 1).unwrap_or_default();
            let name = name.last().and_then(|name| text(name).ok());
            organizations.extend(name.map(str::to_owned));
        }
    }
    organizations
}

/// The messages in all fields of one number.
fn parts(message: &[u8], number: u32) -> Result<Vec<&[u8]>, WireError> {
    let mut parts = Vec::new();
    for field in Fields::of(message) {
        let field = field?;
        if let (true, Value::Bytes(part)) = (field.number == number, field.value) {
            parts.push(part);
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests;
