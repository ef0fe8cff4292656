//! Identities of the recorded organisations, which can sign.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use selvedge_msp::{Msp, MspManager, SigningIdentity};
use selvedge_protos::Message;
use selvedge_protos::common::policy::PolicyType;
use selvedge_protos::common::{ConfigGroup, ConfigPolicy, Policy};

use crate::{SignaturePolicy, SignedData, parse_implicit_meta_policy, parse_policy};

pub fn testdata(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(path)
}

/// The MSPs of three organisations, and members of them by short names such as `peer0.1`, `admin.2`,
/// `user1.3`.
pub struct Network {
    pub msps: Arc<MspManager>,
    members: BTreeMap<String, SigningIdentity>,
}

impl Network {
    pub fn new() -> Self {
        let mut msps = Vec::new();
        let mut members = BTreeMap::new();
        for number in 1..=3 {
            let organization = format!("org{number}.example.com");
            let folder = testdata(&format!("raft/crypto/peerOrganizations/{organization}"));
            let msp = Msp::from_directory(folder.join("msp"), &format!("Org{number}MSP")).unwrap();
            for (name, path) in [
                ("peer0", format!("peers/peer0.{organization}")),
                ("peer1", format!("peers/peer1.{organization}")),
                ("admin", format!("users/Admin@{organization}")),
                ("user1", format!("users/User1@{organization}")),
                ("user2", format!("users/User2@{organization}")),
            ] {
                let file = |folder_name: &str| {
                    let folder = folder.join(&path).join("msp").join(folder_name);
                    let entry = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
                    fs::read(entry.path()).unwrap()
                };
                let member =
                    SigningIdentity::from_pem(&msp, &file("signcerts"), &file("keystore")).unwrap();
                members.insert(format!("{name}.{number}"), member);
            }
            msps.push(msp);
        }
        Self {
            msps: Arc::new(MspManager::new(msps).unwrap()),
            members,
        }
    }

    pub fn member(&self, name: &str) -> &SigningIdentity {
        &self.members[name]
    }

    /// Signatures of members; a name with `!` in front makes an invalid one.
    pub fn signed(&self, names: &[&str]) -> Vec<SignedData> {
        names
            .iter()
            .map(|name| {
                let (name, data) = match name.strip_prefix('!') {
                    Some(name) => (name, &b"other data"[..]),
                    None => (*name, &b"data"[..]),
                };
                let member = self.member(name);
                SignedData {
                    data: Bytes::from_static(b"data"),
                    identity: member.serialized().clone(),
                    signature: member.sign(data).unwrap(),
                }
            })
            .collect()
    }

    /// Whether the signatures of these members satisfy the policy, as signatures and as identities.
    pub fn satisfies(&self, policy: &str, names: &[&str]) -> bool {
        let policy = SignaturePolicy::from_envelope(&parse_policy(policy).unwrap()).unwrap();
        let signed = self.signed(names);
        let verdict = policy.evaluate(&signed, &self.msps).is_ok();
        let identities = crate::valid_identities(&signed, &self.msps);
        assert_eq!(policy.evaluate_identities(&identities).is_ok(), verdict);
        verdict
    }
}

pub fn signature_policy(text: &str) -> ConfigPolicy {
    config_policy(
        PolicyType::Signature,
        parse_policy(text).unwrap().encode_to_vec(),
    )
}

pub fn implicit_meta_policy(text: &str) -> ConfigPolicy {
    let policy = parse_implicit_meta_policy(text).unwrap();
    config_policy(PolicyType::ImplicitMeta, policy.encode_to_vec())
}

pub fn config_policy(kind: PolicyType, value: Vec<u8>) -> ConfigPolicy {
    ConfigPolicy {
        policy: Some(Policy {
            r#type: kind.into(),
            value: value.into(),
        }),
        ..Default::default()
    }
}

pub fn group(policies: Vec<(&str, ConfigPolicy)>, groups: Vec<(&str, ConfigGroup)>) -> ConfigGroup {
    ConfigGroup {
        policies: policies
            .into_iter()
            .map(|(name, policy)| (name.to_owned(), policy))
            .collect(),
        groups: groups
            .into_iter()
            .map(|(name, group)| (name.to_owned(), group))
            .collect(),
        ..Default::default()
    }
}
