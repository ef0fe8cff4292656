//! Signature policies.

use selvedge_protos::Message;
use selvedge_protos::common::signature_policy::{NOutOf, Type};
use selvedge_protos::common::{SignaturePolicy as Rule, SignaturePolicyEnvelope};

use super::support::Network;
use crate::{PolicyError, SignaturePolicy, parse_policy, valid_identities};

#[test]
fn gates() {
    let network = Network::new();
    let both = "AND('Org1MSP.member', 'Org2MSP.member')";
    assert!(network.satisfies(both, &["user1.1", "user1.2"]));
    assert!(network.satisfies(both, &["user1.2", "user1.1"]));
    assert!(!network.satisfies(both, &["user1.1"]));
    assert!(!network.satisfies(both, &["user1.1", "user1.3"]));

    let either = "OR('Org1MSP.member', 'Org2MSP.member')";
    assert!(network.satisfies(either, &["user1.2"]));
    assert!(!network.satisfies(either, &["user1.3"]));
    assert!(!network.satisfies(either, &[]));

    let two = "OutOf(2, 'Org1MSP.peer', 'Org2MSP.peer', 'Org3MSP.peer')";
    assert!(network.satisfies(two, &["peer0.1", "peer0.3"]));
    assert!(!network.satisfies(two, &["peer0.1", "peer1.1"]));
    assert!(!network.satisfies(two, &["peer0.1", "admin.3"]));

    let nested = "OR('Org3MSP.admin', AND('Org1MSP.peer', OR('Org2MSP.peer', 'Org2MSP.client')))";
    assert!(network.satisfies(nested, &["admin.3"]));
    assert!(network.satisfies(nested, &["peer0.1", "user1.2"]));
    assert!(!network.satisfies(nested, &["peer0.1", "admin.2"]));

    assert!(network.satisfies("OutOf(0, 'Org1MSP.member')", &[]));
    assert!(!network.satisfies("OutOf(2, 'Org1MSP.member')", &["user1.1", "user2.1"]));
}

#[test]
fn each_identity_counts_once() {
    let network = Network::new();
    let two = "AND('Org1MSP.member', 'Org1MSP.member')";
    assert!(network.satisfies(two, &["user1.1", "user2.1"]));
    assert!(!network.satisfies(two, &["user1.1"]));
    assert!(!network.satisfies(two, &["user1.1", "user1.1"]));
}

#[test]
fn invalid_signatures_are_left_out() {
    let network = Network::new();
    let one = "OR('Org1MSP.member', 'Org1MSP.member')";
    assert!(!network.satisfies(one, &["!user1.1"]));
    // A further, valid signature of the same identity counts.
    assert!(network.satisfies(one, &["!user1.1", "user1.1"]));
    let names = |names: &[&str]| {
        valid_identities(&network.signed(names), &network.msps)
            .iter()
            .map(|identity| identity.serialized().clone())
            .collect::<Vec<_>>()
    };
    let expected = ["user1.2", "user1.1"].map(|name| network.member(name).serialized().clone());
    assert_eq!(
        names(&["!user1.1", "user1.2", "user1.1", "user1.1"]),
        expected
    );
}

#[test]
fn junk_identities_are_left_out() {
    let network = Network::new();
    let mut signed = network.signed(&["user1.1", "user1.2"]);
    signed[0].identity = b"junk".to_vec().into();
    assert_eq!(valid_identities(&signed, &network.msps).len(), 1);
}

#[test]
fn evaluation_is_greedy_as_in_fabric() {
    let network = Network::new();
    // The first principal takes the admin, though a mere member would do and the second needs it.
    let policy = "AND('Org1MSP.member', 'Org1MSP.admin')";
    assert!(!network.satisfies(policy, &["admin.1", "user1.1"]));
    assert!(network.satisfies(policy, &["user1.1", "admin.1"]));
    // An OR is evaluated to its end, and takes more than it needs.
    let policy = "AND(OR('Org1MSP.member', 'Org2MSP.member'), 'Org2MSP.member')";
    assert!(!network.satisfies(policy, &["user1.1", "user1.2"]));
    assert!(network.satisfies(policy, &["user1.1", "user1.2", "user2.2"]));
    // What a gate took that was not satisfied in the end is free again.
    let policy = "OR(AND('Org1MSP.member', 'Org3MSP.member'), 'Org1MSP.member')";
    assert!(network.satisfies(policy, &["user1.1"]));
}

fn signed_by(index: i32) -> Rule {
    Rule {
        r#type: Some(Type::SignedBy(index)),
    }
}

fn out_of(n: i32, rules: Vec<Rule>) -> Rule {
    Rule {
        r#type: Some(Type::NOutOf(NOutOf { n, rules })),
    }
}

fn envelope(rule: Option<Rule>) -> SignaturePolicyEnvelope {
    SignaturePolicyEnvelope {
        rule,
        ..parse_policy("OR('Org1MSP.member')").unwrap()
    }
}

#[test]
fn incomplete_policies_are_refused() {
    let error = |rule| SignaturePolicy::from_envelope(&envelope(rule)).unwrap_err();
    assert_eq!(error(None), PolicyError::Empty);
    assert_eq!(error(Some(Rule { r#type: None })), PolicyError::Empty);
    assert_eq!(
        error(Some(out_of(1, vec![Rule { r#type: None }]))),
        PolicyError::Empty
    );
    for index in [-1, 1, i32::MAX] {
        assert_eq!(
            error(Some(out_of(1, vec![signed_by(index)]))),
            PolicyError::PrincipalOutOfRange { index, length: 1 }
        );
    }
}

#[test]
fn only_version_0_is_read_from_bytes() {
    let mut policy = envelope(Some(signed_by(0)));
    assert!(SignaturePolicy::from_bytes(&policy.encode_to_vec()).is_ok());
    policy.version = 1;
    assert_eq!(
        SignaturePolicy::from_bytes(&policy.encode_to_vec()).unwrap_err(),
        PolicyError::Version { found: 1 }
    );
    assert!(SignaturePolicy::from_envelope(&policy).is_ok());
    assert!(matches!(
        SignaturePolicy::from_bytes(b"\xff"),
        Err(PolicyError::Decode { .. })
    ));
}

#[test]
fn odd_thresholds() {
    let network = Network::new();
    let verdict = |rule: Rule, names: &[&str]| {
        SignaturePolicy::from_envelope(&envelope(Some(rule)))
            .unwrap()
            .evaluate(&network.signed(names), &network.msps)
            .is_ok()
    };
    assert!(verdict(out_of(0, vec![]), &[]));
    assert!(!verdict(out_of(1, vec![]), &["user1.1"]));
    assert!(verdict(out_of(-5, vec![signed_by(0)]), &[]));
    assert!(!verdict(out_of(i32::MAX, vec![signed_by(0)]), &["user1.1"]));
    assert!(verdict(signed_by(0), &["user1.1"]));
}

/// `OutOf(1, OutOf(1, ... SignedBy(0)))`, encoded without recursion.
fn nested(gates: usize) -> Vec<u8> {
    let field = |tag: u8, content: &[u8]| {
        let mut field = vec![tag];
        let mut length = content.len();
        while length > 0x7f {
            field.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        [field, content.to_vec()].concat()
    };
    let mut rule = vec![0x08, 0];
    for _ in 0..gates {
        let gate = [vec![0x08, 1], field(0x12, &rule)].concat();
        rule = field(0x12, &gate);
    }
    let principals = parse_policy("OR('Org1MSP.member')").unwrap().identities;
    let principal = principals[0].encode_to_vec();
    [field(0x12, &rule), field(0x1a, &principal)].concat()
}

#[test]
fn policies_may_be_as_deep_as_in_go_and_no_deeper() {
    let network = Network::new();
    for gates in [1, 45, 60, 1000, 4999] {
        let policy = SignaturePolicy::from_bytes(&nested(gates)).unwrap();
        let satisfied = |names: &[&str]| {
            let signed = network.signed(names);
            policy.evaluate(&signed, &network.msps).is_ok()
        };
        assert!(satisfied(&["user1.1"]), "{gates}");
        assert!(!satisfied(&["user1.2"]), "{gates}");
    }
    let too_deep = PolicyError::TooDeep { limit: 10_000 };
    for gates in [5000, 20_000] {
        assert_eq!(
            SignaturePolicy::from_bytes(&nested(gates)).unwrap_err(),
            too_deep
        );
    }
    // Each message around it costs one level.
    assert!(SignaturePolicy::from_unversioned_bytes(&nested(4998), 1).is_ok());
    assert_eq!(
        SignaturePolicy::from_unversioned_bytes(&nested(4999), 1).unwrap_err(),
        too_deep
    );
}

#[test]
fn what_stands_twice_is_merged() {
    let network = Network::new();
    let principals = &parse_policy("AND('Org1MSP.member', 'Org2MSP.member')").unwrap();
    let with = |rule: &Rule| SignaturePolicyEnvelope {
        rule: Some(rule.clone()),
        ..Default::default()
    };
    let satisfied = |parts: &[Rule], names: &[&str]| {
        let rules: Vec<_> = parts
            .iter()
            .map(|rule| with(rule).encode_to_vec())
            .collect();
        let mut bytes = rules.concat();
        let mut rest = principals.clone();
        rest.rule = None;
        bytes.extend(rest.encode_to_vec());
        let policy = SignaturePolicy::from_bytes(&bytes).unwrap();
        let same = SignaturePolicyEnvelope::decode(&bytes[..]).unwrap();
        let same = SignaturePolicy::from_envelope(&same).unwrap();
        let verdict = |policy: &SignaturePolicy| {
            policy
                .evaluate(&network.signed(names), &network.msps)
                .is_ok()
        };
        assert_eq!(verdict(&policy), verdict(&same));
        verdict(&policy)
    };
    let gates = [out_of(1, vec![signed_by(0)]), out_of(2, vec![signed_by(1)])];
    assert!(satisfied(&gates, &["user1.1", "user1.2"]));
    assert!(!satisfied(&gates, &["user1.1"]));
    let replaced = [out_of(9, vec![signed_by(0)]), signed_by(1)];
    assert!(satisfied(&replaced, &["user1.2"]));
    let again = [signed_by(0), out_of(1, vec![signed_by(1)])];
    assert!(!satisfied(&again, &["user1.1"]));
}
