//! The policy language.

use proptest::prelude::*;
use selvedge_protos::Message;
use selvedge_protos::common::implicit_meta_policy::Rule as MetaRule;
use selvedge_protos::common::signature_policy::Type;
use selvedge_protos::common::{MspRole, SignaturePolicy};

use crate::{PolicyError, parse_implicit_meta_policy, parse_policy};

/// A rule with indexes for its principals.
fn describe(rule: &SignaturePolicy) -> String {
    match rule.r#type.as_ref().unwrap() {
        Type::SignedBy(index) => index.to_string(),
        Type::NOutOf(gate) => {
            let rules: Vec<_> = gate.rules.iter().map(describe).collect();
            format!("{}({})", gate.n, rules.join(" "))
        }
    }
}

/// Rules and principals of a policy.
fn parse(text: &str) -> (String, Vec<String>) {
    let policy = parse_policy(text).unwrap();
    assert_eq!(policy.version, 0);
    let principals = policy
        .identities
        .iter()
        .map(|principal| {
            assert_eq!(principal.principal_classification, 0);
            let role = MspRole::decode(principal.principal.as_ref()).unwrap();
            format!("{}.{}", role.msp_identifier, role.role)
        })
        .collect();
    (describe(&policy.rule.unwrap()), principals)
}

fn error(text: &str) -> PolicyError {
    parse_policy(text).unwrap_err()
}

#[test]
fn gates_become_numbers() {
    for (text, expected) in [
        ("AND('A.member', 'B.member')", "2(0 1)"),
        ("OR('A.member', 'B.member')", "1(0 1)"),
        ("OutOf(2, 'A.member', 'B.member', 'C.peer')", "2(0 1 2)"),
        ("OutOf('1', 'A.member', 'B.member')", "1(0 1)"),
        ("OutOf(0, 'A.member', 'B.member')", "0(0 1)"),
        ("OutOf(3, 'A.member', 'B.member')", "3(0 1)"),
        ("AND('A.member')", "1(0)"),
        (" Or ( \"A.member\" ,\n\t`B.member` ) ", "1(0 1)"),
        ("outof(1,'A.member')", "1(0)"),
    ] {
        assert_eq!(parse(text).0, expected, "{text}");
    }
}

#[test]
fn principals_stand_in_fabrics_order() {
    // Inner gates are evaluated before the gate that they stand in.
    let (rule, principals) = parse("OR('A.member', AND('B.member', 'C.member'))");
    assert_eq!(rule, "1(2 2(0 1))");
    assert_eq!(principals, ["B.0", "C.0", "A.0"]);

    let (rule, principals) = parse("OR(AND('A.member', 'B.member'), OR('C.admin', 'D.member'))");
    assert_eq!(rule, "1(2(0 1) 1(2 3))");
    assert_eq!(principals, ["A.0", "B.0", "C.1", "D.0"]);

    let (_, principals) = parse("OR('A.peer', 'B.admin', 'C.orderer', 'D.client', 'A.peer')");
    assert_eq!(principals, ["A.3", "B.1", "C.4", "D.2", "A.3"]);

    let (_, principals) = parse("OR('MSP.WITH.DOTS.member', 'MSP-WITH-DASHES.member')");
    assert_eq!(principals, ["MSP.WITH.DOTS.0", "MSP-WITH-DASHES.0"]);
}

#[test]
fn errors_say_what_and_where() {
    for (text, reason) in [
        ("", "expected AND, OR or OutOf"),
        ("1", "unrecognized token '1'"),
        ("'A.member'", "expected AND, OR or OutOf"),
        ("XOR('A.member')", "unrecognized token 'XOR'"),
        ("OR('A.member', Bmember)", "unrecognized token 'Bmember'"),
        ("OR('A.member', 'Bmember')", "'Bmember' is not a principal"),
        ("OR('A.member', 'B.boss')", "'B.boss' is not a principal"),
        ("OR('A_B.member')", "'A_B.member' is not a principal"),
        ("OR('.member')", "'.member' is not a principal"),
        ("OR('A.member'", "expected ')'"),
        ("OR('A.member)", "a quote is not closed"),
        ("OR('A.member',)", "expected AND, OR or OutOf"),
        ("OR('A.member') OR", "unexpected text"),
        ("OR()", "at least one"),
        ("OutOf(1)", "at least one"),
        ("OutOf(true, 'A.member')", "expected a number"),
        ("OutOf(-1, 'A.member')", "expected a number"),
        ("OutOf(+1, 'A.member')", "expected a number"),
        ("OutOf('+1', 'A.member')", "expected a number"),
        ("OutOf(99999999999, 'A.member')", "expected a number"),
        ("OutOf(4, 'A.member', 'B.member')", "larger than"),
    ] {
        let error = error(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
    assert!(matches!(
        error("OR('A.member', 'B')"),
        PolicyError::Text { position: 15, .. }
    ));
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| format!("{}'A.member'{}", "OR(".repeat(depth), ")".repeat(depth));
    assert!(parse_policy(&nested(32)).is_ok());
    assert!(parse_policy(&nested(33)).is_err());
    assert!(parse_policy(&nested(100_000)).is_err());
}

#[test]
fn implicit_meta_policies() {
    for (text, rule) in [
        ("ANY Readers", MetaRule::Any),
        ("ALL Readers", MetaRule::All),
        ("MAJORITY Readers", MetaRule::Majority),
    ] {
        let policy = parse_implicit_meta_policy(text).unwrap();
        assert_eq!(
            (policy.rule(), policy.sub_policy.as_str()),
            (rule, "Readers")
        );
    }
    for text in [
        "",
        "ANY",
        "any Readers",
        "ANY Readers Writers",
        "MOST Readers",
        "ANY  Readers",
    ] {
        assert!(parse_implicit_meta_policy(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn junk_does_no_harm(text in "(AND|OR|OutOf|\\(|\\)|,|'|A\\.member|[0-9]| |é|\"){0,20}") {
        let _ = parse_policy(&text);
        let _ = parse_implicit_meta_policy(&text);
    }
}
