//! Collections as they stand in definitions.

use proptest::prelude::*;
use selvedge_policy::parse_policy;
use selvedge_protos::protos::{
    ApplicationPolicy, CollectionConfig, CollectionConfigPackage, StaticCollectionConfig,
    application_policy, collection_config,
};

use super::*;

fn collection(name: &str, policy: Option<ApplicationPolicy>) -> CollectionConfig {
    let config = StaticCollectionConfig {
        name: name.to_owned(),
        endorsement_policy: policy,
        ..StaticCollectionConfig::default()
    };
    CollectionConfig {
        payload: Some(collection_config::Payload::StaticCollectionConfig(config)),
    }
}

fn read(config: Vec<CollectionConfig>) -> BTreeMap<String, Option<EndorsementPolicy>> {
    let package = CollectionConfigPackage { config }.encode_to_vec();
    let collections = read_collections(&package).unwrap().into_iter();
    collections
        .map(|(name, collection)| (name, collection.policy))
        .collect()
}

#[test]
fn collections_with_and_without_a_policy() {
    let own = parse_policy("OR('Org1MSP.member')").unwrap();
    let own = application_policy::Type::SignaturePolicy(own);
    let path = "/Channel/Application/Readers".to_owned();
    let reference = application_policy::Type::ChannelConfigPolicyReference(path.clone());
    let policy = |r#type| Some(ApplicationPolicy { r#type });
    let collections = read(vec![
        collection("plain", None),
        collection("empty", policy(None)),
        collection("own", policy(Some(own))),
        collection("reference", policy(Some(reference))),
        CollectionConfig { payload: None },
    ]);
    assert_eq!(collections.len(), 4);
    assert!(collections["plain"].is_none());
    assert!(collections["empty"].is_none());
    assert!(matches!(
        collections["own"],
        Some(EndorsementPolicy::Signature(_))
    ));
    assert!(matches!(
        &collections["reference"],
        Some(EndorsementPolicy::Reference(found)) if *found == path
    ));
}

#[test]
fn of_two_collections_of_one_name_the_first_counts() {
    let own = parse_policy("OR('Org1MSP.member')").unwrap();
    let own = ApplicationPolicy {
        r#type: Some(application_policy::Type::SignaturePolicy(own)),
    };
    let collections = read(vec![collection("c", None), collection("c", Some(own))]);
    assert_eq!(collections.len(), 1);
    assert!(collections["c"].is_none());
}

#[test]
fn a_collection_that_stands_twice_in_one_entry_is_merged() {
    let encode = |name: &str, policy| {
        let collection = collection(name, policy);
        collection.encode_to_vec()
    };
    let reference = application_policy::Type::ChannelConfigPolicyReference("/p".to_owned());
    let policy = ApplicationPolicy {
        r#type: Some(reference),
    };
    let entry = [encode("first", Some(policy)), encode("second", None)].concat();
    let length = u8::try_from(entry.len()).unwrap();
    let package = [vec![0x0a, length], entry].concat();
    let same = CollectionConfigPackage::decode(&package[..]).unwrap();
    assert_eq!(same.config.len(), 1);
    let collections = read_collections(&package).unwrap();
    assert_eq!(collections.len(), 1);
    assert!(collections["second"].policy.is_some());
}

/// A field of up to 16,383 bytes.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let length = [(length & 0x7f) as u8 | 0x80, (length >> 7) as u8];
    [&[number << 3 | 2][..], &length, content].concat()
}

/// Gates in each other, each of two messages, with a principal in the innermost.
fn nested(gates: usize) -> Vec<u8> {
    // Built from the end, as lengths stand in front.
    let mut bytes = vec![0, 8];
    for _ in 0..2 * gates {
        let mut length = bytes.len();
        let mut prefix = vec![0x12];
        while length >= 0x80 {
            prefix.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        prefix.push(length as u8);
        bytes.extend(prefix.iter().rev());
    }
    bytes.reverse();
    bytes
}

/// As with Go, one policy that does not parse is enough: no collection of the package can be read.
#[test]
fn policies_that_do_not_parse_spoil_the_package() {
    let junk_rule = field(2, b"\x12\x01\xff");
    let junk_principal = field(3, b"\x08");
    let no_rule: Vec<u8> = Vec::new();
    let package = |member: &[u8], own: &[u8]| {
        let members = field(2, &field(1, member));
        let own = field(8, &field(1, own));
        let collection = [field(1, b"c"), members, own].concat();
        field(1, &field(1, &collection))
    };
    assert!(read_collections(&package(&no_rule, &no_rule)).is_ok());
    for junk in [junk_rule, junk_principal] {
        assert!(read_collections(&package(&junk, &no_rule)).is_err());
        assert!(read_collections(&package(&no_rule, &junk)).is_err());
    }
}

#[test]
fn policies_stand_at_the_same_depth_as_in_go() {
    let check = |gates| {
        let mut rule = nested(gates);
        let mut length = rule.len();
        let mut prefix = vec![0x12];
        while length >= 0x80 {
            prefix.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        prefix.push(length as u8);
        prefix.append(&mut rule);
        check_signature_policy(&prefix, AROUND_POLICY).is_ok()
    };
    assert!(check(4997));
    assert!(!check(4998));
}

#[test]
fn implicit_collections_are_told_by_their_names() {
    assert_eq!(
        implicit_organization("_implicit_org_Org1MSP"),
        Some("Org1MSP")
    );
    assert_eq!(implicit_organization("_implicit_org_"), Some(""));
    assert_eq!(implicit_organization("implicit_org_Org1MSP"), None);
}

proptest! {
    /// What prost takes is taken, with the same names.
    #[test]
    fn agrees_with_the_decoder(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
        let read = read_collections(&bytes);
        if let Ok(package) = CollectionConfigPackage::decode(&bytes[..]) {
            let collections = read.unwrap();
            for config in package.config {
                if let Some(collection_config::Payload::StaticCollectionConfig(config)) = config.payload {
                    prop_assert!(collections.contains_key(&config.name));
                }
            }
        }
    }
}

/// What is wrong with the members of a collection, by the bytes of its `CollectionPolicyConfig`s.
fn fault_of_members(policies: &[&[u8]]) -> Option<String> {
    let mut config = field(1, b"c");
    for policy in policies {
        config.extend(field(2, policy));
    }
    let package = field(1, &field(1, &config));
    let mut collections = read_collections(&package).unwrap();
    collections.remove("c").unwrap().members_fault
}

#[test]
fn a_policy_for_members_must_make_sense() {
    let policy = parse_policy("OR('Org1MSP.member')").unwrap();
    let complete = field(1, &policy.encode_to_vec());
    assert_eq!(fault_of_members(&[&complete]), None);
    // One that stands in two parts is put together.
    let rule = policy.rule.as_ref().unwrap().encode_to_vec();
    let principal = policy.identities[0].encode_to_vec();
    let (rule, principal) = (field(2, &rule), field(3, &principal));
    assert_eq!(
        fault_of_members(&[&field(1, &rule), &field(1, &principal)]),
        None
    );
    let absent: &[&[&[u8]]] = &[&[], &[b""], &[&field(9, b"x")]];
    for policies in absent {
        let fault = fault_of_members(policies).unwrap();
        assert_eq!(fault, "it has no policy for its members");
    }
    // No rule, and a rule whose principal is not there.
    assert!(fault_of_members(&[&field(1, b"")]).is_some());
    assert!(fault_of_members(&[&field(1, &principal)]).is_some());
    assert!(fault_of_members(&[&field(1, &rule)]).is_some());
}
