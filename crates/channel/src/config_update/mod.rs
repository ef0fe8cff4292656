//! Changing a channel's configuration: what an ordering node makes of a config update, and how any
//! node checks the result.
//!
//! A `ConfigUpdate` names elements (groups, values, policies) by their path. Its read set states the
//! versions that the author saw; its write set holds the elements as they are to be, with the version
//! raised by one where the element changes. The difference of the two must be allowed by the mod
//! policy that each changed element has *before* the change; elements that did not exist need no
//! policy of their own, since the group that gains them changes as well. What results is the old
//! configuration overlaid with the difference, at the next sequence number (Fabric: common/configtx,
//! `ProposeConfigUpdate` and `Validate`).
//!
//! - [`propose`]: a signed config update becomes the next configuration.
//! - [`check`]: a configuration that someone else proposed is what its update leads to.
//! - [`compute`]: the update that leads from one configuration to another.

mod compute;
mod elements;

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use selvedge_policy::{PolicyError, PolicyManager, SignedData};
use selvedge_protos::common::{
    ChannelHeader, Config, ConfigEnvelope, ConfigUpdate, ConfigUpdateEnvelope, Envelope,
    HeaderType, Payload, SignatureHeader,
};
use selvedge_protos::envelope::{CHANNEL_HEADER, PAYLOAD, SIGNATURE_HEADER};
use selvedge_protos::{DecodeError, schema};

use crate::config::ChannelConfig;
use crate::schemas::decode;

pub use compute::compute;
use elements::{Element, Elements};
pub use elements::{ElementName, check_identifier};

/// Why a config update is refused.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// A message within does not parse.
    #[error("the {what} does not parse: {source}")]
    Malformed {
        /// Which message.
        what: &'static str,
        /// What the decoder says.
        source: DecodeError,
    },
    /// A message that must be there is absent.
    #[error("the {0} is missing")]
    Missing(&'static str),
    /// The envelope holds something else.
    #[error("the envelope is of type {found}, expected CONFIG_UPDATE (2)")]
    WrongType {
        /// Its header type.
        found: i32,
    },
    /// The update is for another channel.
    #[error("the config update is for channel {found:?}, expected {expected:?}")]
    WrongChannel {
        /// The channel at hand.
        expected: String,
        /// The one that the update names.
        found: String,
    },
    /// A key or mod policy cannot be a name.
    #[error("{identifier:?} cannot name a config element: {reason}")]
    IllegalIdentifier {
        /// The name, cut short if long.
        identifier: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The read set names an element that the configuration lacks.
    #[error("the read set contains {0}, which the configuration does not")]
    ReadUnknown(ElementName),
    /// An element has changed since the author of the update read it.
    #[error("the update was made for version {expected} of {element}, which is at version {found}")]
    ReadVersion {
        /// Which element.
        element: ElementName,
        /// The version in the read set.
        expected: u64,
        /// The version in the configuration.
        found: u64,
    },
    /// The write set changes nothing.
    #[error("the update changes nothing")]
    Empty,
    /// A changed element has an unusable mod policy.
    #[error("the mod policy of {element}: {source}")]
    ModPolicy {
        /// Which element.
        element: ElementName,
        /// What is wrong with it.
        source: Box<UpdateError>,
    },
    /// A changed element does not get the version that comes next.
    #[error("the update sets {element} to version {found}, expected {expected}")]
    WriteVersion {
        /// Which element.
        element: ElementName,
        /// The next version: 0 of a new element.
        expected: u64,
        /// The version in the write set.
        found: u64,
    },
    /// The signatures do not allow the change of an element.
    #[error("the change of {element} needs {policy}: {source}")]
    NotAuthorized {
        /// Which element.
        element: ElementName,
        /// The path of its mod policy.
        policy: String,
        /// What the policy says.
        source: PolicyError,
    },
    /// A group lists an element that neither the update nor the configuration holds.
    #[error("the update lists {0}, which neither it nor the configuration contains")]
    Incomplete(ElementName),
    /// A proposed configuration has another number than the one that comes next.
    #[error("the configuration has sequence {found}, expected {expected}")]
    Sequence {
        /// One more than the current.
        expected: u64,
        /// That of the proposal.
        found: u64,
    },
    /// A proposed configuration is not what its update leads to.
    #[error("the configuration is not what its last update leads to")]
    ResultDiffers,
}

/// Applies a signed config update to the current configuration; the result still has to be signed by
/// the ordering node, and must be checked to be a usable configuration
/// ([`ChannelConfig::from_config`], [`ChannelConfig::check_successor`]).
///
/// Cost: one pass over configuration and update, and one evaluation for each mod policy concerned.
pub fn propose(current: &ChannelConfig, update: &Envelope) -> Result<ConfigEnvelope, UpdateError> {
    let signed: ConfigUpdateEnvelope = decode(open(update)?).map_err(malformed("signed update"))?;
    let update_bytes = signed.config_update.clone();
    let proposal: ConfigUpdate = decode(update_bytes).map_err(malformed("config update"))?;
    if proposal.channel_id != current.channel_id() {
        return Err(UpdateError::WrongChannel {
            expected: current.channel_id().to_owned(),
            found: proposal.channel_id,
        });
    }
    let elements = Elements::of(current.config().channel_group.as_ref())?;
    let read_set = Elements::of(proposal.read_set.as_ref())?;
    check_read_set(&elements, &read_set)?;
    let write_set = Elements::of(proposal.write_set.as_ref())?;
    let changes = write_set.changed_since(&read_set);
    check_changes(
        current.policies(),
        &elements,
        &changes,
        &signatures(&signed)?,
    )?;
    let result = elements.overlaid(&changes);
    if let Some(name) = write_set.names().find(|name| !result.contains(name)) {
        return Err(UpdateError::Incomplete(name.clone()));
    }
    Ok(ConfigEnvelope {
        config: Some(Config {
            sequence: current.sequence().saturating_add(1),
            channel_group: Some(result.assemble()?),
        }),
        last_update: Some(update.clone()),
    })
}

/// Checks that a proposed configuration follows the current one by the update that it carries.
pub fn check(current: &ChannelConfig, proposed: &ConfigEnvelope) -> Result<(), UpdateError> {
    let config = proposed.config.as_ref();
    let config = config.ok_or(UpdateError::Missing("configuration"))?;
    let expected = current.sequence().saturating_add(1);
    if config.sequence != expected {
        let found = config.sequence;
        return Err(UpdateError::Sequence { expected, found });
    }
    let update = proposed.last_update.as_ref();
    let update = update.ok_or(UpdateError::Missing("last update"))?;
    if propose(current, update)?.config.as_ref() == Some(config) {
        Ok(())
    } else {
        Err(UpdateError::ResultDiffers)
    }
}

/// The data in the envelope of a config update. Who signed the envelope, and how, is the business of the
/// ordering node that took it: its signature header need not even parse
/// (Fabric: `protoutil.UnmarshalEnvelopeOfType`).
fn open(update: &Envelope) -> Result<Bytes, UpdateError> {
    let payload: Payload =
        schema::decode(update.payload.clone(), &PAYLOAD).map_err(malformed("payload"))?;
    let header = payload.header.ok_or(UpdateError::Missing("header"))?;
    let header: ChannelHeader = schema::decode(header.channel_header, &CHANNEL_HEADER)
        .map_err(malformed("channel header"))?;
    if header.r#type != HeaderType::ConfigUpdate as i32 {
        let found = header.r#type;
        return Err(UpdateError::WrongType { found });
    }
    Ok(payload.data)
}

fn check_read_set(current: &Elements<'_>, read_set: &Elements<'_>) -> Result<(), UpdateError> {
    for (name, read) in read_set.iter() {
        let Some(existing) = current.get(name) else {
            return Err(UpdateError::ReadUnknown(name.clone()));
        };
        if existing.version() != read.version() {
            return Err(UpdateError::ReadVersion {
                element: name.clone(),
                expected: read.version(),
                found: existing.version(),
            });
        }
    }
    Ok(())
}

fn check_changes(
    policies: &PolicyManager,
    current: &Elements<'_>,
    changes: &Elements<'_>,
    signatures: &[SignedData],
) -> Result<(), UpdateError> {
    if changes.is_empty() {
        return Err(UpdateError::Empty);
    }
    // Mod policies are few and elements may be many: each policy is evaluated once.
    let mut satisfied = BTreeSet::new();
    for (name, change) in changes.iter() {
        check_mod_policy(change.mod_policy()).map_err(|source| UpdateError::ModPolicy {
            element: name.clone(),
            source: Box::new(source),
        })?;
        let existing = current.get(name);
        let expected = existing.map_or(Some(0), |existing| existing.version().checked_add(1));
        if Some(change.version()) != expected {
            return Err(UpdateError::WriteVersion {
                element: name.clone(),
                expected: expected.unwrap_or(u64::MAX),
                found: change.version(),
            });
        }
        let Some(existing) = existing else { continue };
        let path = mod_policy_path(name, existing);
        if satisfied.contains(&path) {
            continue;
        }
        if let Err(source) = policies.evaluate(&path, signatures) {
            return Err(UpdateError::NotAuthorized {
                element: name.clone(),
                policy: path,
                source,
            });
        }
        satisfied.insert(path);
    }
    Ok(())
}

/// The absolute path of an existing element's mod policy: a relative one counts from the group
/// itself, or from the group that a value or policy stands in.
fn mod_policy_path(name: &ElementName, element: &Element<'_>) -> String {
    let mod_policy = element.mod_policy();
    if mod_policy.starts_with('/') {
        mod_policy.to_owned()
    } else {
        format!("{}/{mod_policy}", name.group_path())
    }
}

fn check_mod_policy(mod_policy: &str) -> Result<(), UpdateError> {
    let relative = mod_policy.strip_prefix('/').unwrap_or(mod_policy);
    relative.split('/').try_for_each(check_identifier)
}

fn signatures(signed: &ConfigUpdateEnvelope) -> Result<Vec<SignedData>, UpdateError> {
    let of = |signature: &selvedge_protos::common::ConfigSignature| {
        let header: SignatureHeader =
            schema::decode(signature.signature_header.clone(), &SIGNATURE_HEADER)
                .map_err(malformed("signature header of a config signature"))?;
        let (head, body) = (&signature.signature_header, &signed.config_update);
        let mut data = BytesMut::with_capacity(head.len() + body.len());
        data.put_slice(head);
        data.put_slice(body);
        Ok(SignedData {
            data: data.freeze(),
            identity: header.creator,
            signature: signature.signature.clone(),
        })
    };
    signed.signatures.iter().map(of).collect()
}

fn malformed(what: &'static str) -> impl Fn(DecodeError) -> UpdateError {
    move |source| UpdateError::Malformed { what, source }
}
