//! Principals of every kind.

use bytes::Bytes;
use selvedge_protos::Message;
use selvedge_protos::common::msp_identity_anonymity::MspIdentityAnonymityType;
use selvedge_protos::common::msp_principal::Classification;
use selvedge_protos::common::msp_role::MspRoleType;
use selvedge_protos::common::{
    CombinedPrincipal, MspIdentityAnonymity, MspPrincipal, MspRole, OrganizationUnit,
};

use super::support::{Authority, Definition, MSP, authority_params, params, pem, serialize};
use crate::{MspError, MspVersion};

fn principal(classification: Classification, message: &impl Message) -> MspPrincipal {
    MspPrincipal {
        principal_classification: classification.into(),
        principal: message.encode_to_vec().into(),
    }
}

pub fn role(msp: &str, role: MspRoleType) -> MspPrincipal {
    let role = MspRole {
        msp_identifier: msp.into(),
        role: role.into(),
    };
    principal(Classification::Role, &role)
}

fn combined(principals: Vec<MspPrincipal>) -> MspPrincipal {
    principal(Classification::Combined, &CombinedPrincipal { principals })
}

fn anonymity(kind: i32) -> MspPrincipal {
    let anonymity = MspIdentityAnonymity {
        anonymity_type: kind,
    };
    principal(Classification::Anonymity, &anonymity)
}

const ROLES: [MspRoleType; 5] = [
    MspRoleType::Member,
    MspRoleType::Admin,
    MspRoleType::Client,
    MspRoleType::Peer,
    MspRoleType::Orderer,
];

#[test]
fn roles_by_node_ou() {
    let root = Authority::new("ca");
    for version in [MspVersion::V1_4_3, MspVersion::V3_0] {
        let msp = Definition::new(&[&root]).set_up(version).unwrap();
        for (unit, own) in [
            ("client", MspRoleType::Client),
            ("peer", MspRoleType::Peer),
            ("admin", MspRoleType::Admin),
            ("orderer", MspRoleType::Orderer),
        ] {
            let identity = root.issue(params("x", &[unit])).identity(&msp).unwrap();
            for asked in ROLES {
                let verdict = identity.satisfies(&role(MSP, asked));
                let expected = asked == MspRoleType::Member || asked == own;
                assert_eq!(verdict.is_ok(), expected, "{unit} {asked:?} {verdict:?}");
                // The second answer comes from memory.
                assert_eq!(identity.satisfies(&role(MSP, asked)), verdict);
                assert_eq!(
                    identity.satisfies(&role("Org2MSP", asked)),
                    Err(MspError::MemberOfOtherMsp {
                        expected: "Org2MSP".into(),
                        found: MSP.into()
                    })
                );
            }
        }
    }
}

#[test]
fn invalid_identities_have_no_role() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let both = root.issue(params("x", &["peer", "admin"]));
    let identity = both.identity(&msp).unwrap();
    for asked in ROLES {
        assert!(identity.satisfies(&role(MSP, asked)).is_err());
    }
}

#[test]
fn admins_by_certificate() {
    let root = Authority::new("ca");
    let admin = root.issue(params("admin", &["client"]));
    for enforced in [true, false] {
        for version in [MspVersion::V1_0, MspVersion::V1_3, MspVersion::V3_0] {
            let msp = Definition::new(&[&root])
                .with(|config| {
                    config.admins = vec![pem(&admin.pem)];
                    config.fabric_node_ous.as_mut().unwrap().enable = enforced;
                })
                .set_up(version)
                .unwrap();
            let is_admin = |issued: &super::support::Issued| {
                issued
                    .identity(&msp)
                    .unwrap()
                    .satisfies(&role(MSP, MspRoleType::Admin))
                    .is_ok()
            };
            assert!(is_admin(&admin));
            assert!(!is_admin(&root.issue(params("admin", &["client"]))));
            let by_unit = enforced && version == MspVersion::V3_0;
            assert_eq!(is_admin(&root.issue(params("x", &["admin"]))), by_unit);
        }
    }
}

#[test]
fn roles_without_node_ous() {
    let root = Authority::new("ca");
    let admin = root.issue(params("admin", &[]));
    let msp = Definition::new(&[&root])
        .with(|config| {
            config.fabric_node_ous = None;
            config.admins = vec![pem(&admin.pem)];
        })
        .msp();
    let peer = root.peer().identity(&msp).unwrap();
    assert_eq!(peer.satisfies(&role(MSP, MspRoleType::Member)), Ok(()));
    assert!(matches!(
        peer.satisfies(&role(MSP, MspRoleType::Peer)),
        Err(MspError::Role { .. })
    ));
    assert!(matches!(
        peer.satisfies(&role(MSP, MspRoleType::Orderer)),
        Err(MspError::Principal { .. })
    ));
}

#[test]
fn roles_that_do_not_exist() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let peer = root.peer().identity(&msp).unwrap();
    let unknown = MspRole {
        msp_identifier: MSP.into(),
        role: 9,
    };
    assert!(matches!(
        peer.satisfies(&principal(Classification::Role, &unknown)),
        Err(MspError::Principal { .. })
    ));
    for bytes in [&b"junk"[..], &[0xff]] {
        for classification in 0..6 {
            let principal = MspPrincipal {
                principal_classification: classification,
                principal: Bytes::from_static(bytes),
            };
            assert!(peer.satisfies(&principal).is_err());
        }
    }
}

#[test]
fn identities_are_compared_by_certificate() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let peer = root.peer();
    let identity = peer.identity(&msp).unwrap();
    let named = |serialized: Bytes| MspPrincipal {
        principal_classification: Classification::Identity.into(),
        principal: serialized,
    };
    assert_eq!(identity.satisfies(&named(peer.serialized())), Ok(()));
    let wrapped = format!("a comment\n{}", peer.pem.replace("\n-", "\n\n-"));
    let wrapped = serialize(MSP, wrapped.as_bytes());
    assert_eq!(identity.satisfies(&named(wrapped)), Ok(()));
    assert_eq!(
        identity.satisfies(&named(root.peer().serialized())),
        Err(MspError::NoMatch)
    );
    assert!(matches!(
        identity.satisfies(&named(serialize("Org2MSP", peer.pem.as_bytes()))),
        Err(MspError::OtherMsp { .. })
    ));
    let invalid = root.issue(params("x", &[]));
    let verdict = invalid
        .identity(&msp)
        .unwrap()
        .satisfies(&named(invalid.serialized()));
    assert!(matches!(verdict, Err(MspError::OrganizationalUnits { .. })));
}

#[test]
fn organizational_units_count_with_their_certifiers() {
    let root = Authority::new("ca");
    let ica = root.intermediate(authority_params("ica"));
    let msp = Definition::new(&[&root]).intermediates(&[&ica]).msp();
    let identity = ica
        .issue(params("x", &["peer", "sales"]))
        .identity(&msp)
        .unwrap();
    let mut chain = ica.issued.der.clone();
    chain.extend(&root.issued.der);
    let asked = |unit: &str, certifiers: &[u8]| {
        let unit = OrganizationUnit {
            msp_identifier: MSP.into(),
            organizational_unit_identifier: unit.into(),
            certifiers_identifier: selvedge_protos::sha256(certifiers).to_vec().into(),
        };
        identity.satisfies(&principal(Classification::OrganizationUnit, &unit))
    };
    assert_eq!(asked("sales", &chain), Ok(()));
    assert_eq!(asked("sales", &ica.issued.der), Err(MspError::NoMatch));
    assert_eq!(asked("research", &chain), Err(MspError::NoMatch));
}

#[test]
fn nobody_is_anonymous() {
    let root = Authority::new("ca");
    let nominal = anonymity(MspIdentityAnonymityType::Nominal.into());
    let anonymous = anonymity(MspIdentityAnonymityType::Anonymous.into());
    let msp = Definition::new(&[&root]).msp();
    let peer = root.peer().identity(&msp).unwrap();
    assert_eq!(peer.satisfies(&nominal), Ok(()));
    assert_eq!(peer.satisfies(&anonymous), Err(MspError::Anonymous));
    assert!(peer.satisfies(&anonymity(7)).is_err());

    let old = Definition::new(&[&root]).set_up(MspVersion::V1_1).unwrap();
    assert!(
        root.peer()
            .identity(&old)
            .unwrap()
            .satisfies(&nominal)
            .is_err()
    );
}

#[test]
fn combined_principals_must_all_be_satisfied() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let peer = root.peer().identity(&msp).unwrap();
    let (member, is_peer, is_client) = (
        role(MSP, MspRoleType::Member),
        role(MSP, MspRoleType::Peer),
        role(MSP, MspRoleType::Client),
    );
    let good = combined(vec![member.clone(), combined(vec![is_peer.clone()])]);
    assert_eq!(peer.satisfies(&good), Ok(()));
    assert!(
        peer.satisfies(&combined(vec![good.clone(), is_client]))
            .is_err()
    );
    assert!(peer.satisfies(&combined(Vec::new())).is_err());
    let old = Definition::new(&[&root]).set_up(MspVersion::V1_1).unwrap();
    assert!(
        root.peer()
            .identity(&old)
            .unwrap()
            .satisfies(&good)
            .is_err()
    );
}

#[test]
fn combined_principals_may_be_deep_and_wide() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let peer = root.peer().identity(&msp).unwrap();
    for (asked, is_satisfied) in [(MspRoleType::Member, true), (MspRoleType::Client, false)] {
        let mut deep = role(MSP, asked);
        for _ in 0..5_000 {
            deep = combined(vec![deep]);
        }
        assert_eq!(peer.satisfies(&deep).is_ok(), is_satisfied);

        let mut wide = role(MSP, asked);
        for _ in 0..14 {
            wide = combined(vec![wide.clone(), wide]);
        }
        assert_eq!(peer.satisfies(&wide).is_ok(), is_satisfied);
    }
}
