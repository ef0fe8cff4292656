//! Organizational units: required ones, NodeOUs, admins.

use selvedge_protos::msp as pb;

use super::support::{Authority, Definition, MSP, authority_params, params, pem};
use crate::{MspError, MspVersion};

fn unit(name: &str, certificate: &str) -> pb::FabricOuIdentifier {
    pb::FabricOuIdentifier {
        certificate: pem(certificate),
        organizational_unit_identifier: name.to_owned(),
    }
}

fn reason(verdict: Result<(), MspError>) -> &'static str {
    match verdict {
        Err(MspError::OrganizationalUnits { reason, .. }) => reason,
        other => panic!("expected an error about organizational units, got {other:?}"),
    }
}

#[test]
fn members_must_be_exactly_one_of_the_four() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    for role in ["client", "peer", "admin", "orderer"] {
        assert_eq!(root.issue(params("x", &[role])).check(&msp), Ok(()));
        assert_eq!(
            root.issue(params("x", &[role, "sales"])).check(&msp),
            Ok(())
        );
    }
    let none = root.issue(params("x", &["sales"])).check(&msp);
    assert!(reason(none).contains("none of them resolves"));
    let bare = root.issue(params("x", &[])).check(&msp);
    assert!(reason(bare).contains("none of them resolves"));
    let two = root.issue(params("x", &["peer", "client"])).check(&msp);
    assert!(reason(two).contains("not several"));
}

#[test]
fn without_enforcement_units_do_not_matter() {
    let root = Authority::new("ca");
    let admin = root.issue(params("admin", &["whatever"]));
    let definition = Definition::new(&[&root]).with(|config| {
        config.fabric_node_ous.as_mut().unwrap().enable = false;
        config.admins = vec![pem(&admin.pem)];
    });
    assert_eq!(
        root.issue(params("x", &[])).check(&definition.msp()),
        Ok(())
    );
    let none = definition.with(|config| {
        config.fabric_node_ous = Some(pb::FabricNodeOUs {
            enable: true,
            ..Default::default()
        })
    });
    assert_eq!(root.issue(params("x", &[])).check(&none.msp()), Ok(()));
}

#[test]
fn only_the_named_authority_can_make_peers() {
    let first = Authority::new("first");
    let second = Authority::new("second");
    let msp = Definition::new(&[&first, &second])
        .with(|config| {
            let node_ous = config.fabric_node_ous.as_mut().unwrap();
            node_ous.peer_ou_identifier = Some(unit("peer", &first.issued.pem));
        })
        .msp();
    assert_eq!(first.peer().check(&msp), Ok(()));
    assert_eq!(
        reason(second.peer().check(&msp)),
        "certifiersIdentifier does not match"
    );
    assert_eq!(second.issue(params("x", &["client"])).check(&msp), Ok(()));
}

#[test]
fn the_named_authority_may_be_an_intermediate_but_no_stranger() {
    let root = Authority::new("ca");
    let ica = root.intermediate(authority_params("ica"));
    let other = root.intermediate(authority_params("other"));
    let definition = |named: &Authority| {
        let certificate = named.issued.pem.clone();
        Definition::new(&[&root])
            .intermediates(&[&ica, &other])
            .with(|config| {
                let node_ous = config.fabric_node_ous.as_mut().unwrap();
                node_ous.peer_ou_identifier = Some(unit("peer", &certificate));
            })
    };
    let msp = definition(&ica).msp();
    assert_eq!(ica.peer().check(&msp), Ok(()));
    assert!(other.peer().check(&msp).is_err());

    let stranger = root.intermediate(authority_params("stranger"));
    assert!(
        definition(&stranger)
            .refusal(MspVersion::V3_0)
            .contains("not in root or intermediate certs")
    );
}

#[test]
fn required_units_must_be_there_and_from_the_right_authority() {
    let first = Authority::new("first");
    let second = Authority::new("second");
    let msp = Definition::new(&[&first, &second])
        .with(|config| {
            config.organizational_unit_identifiers = vec![unit("sales", &first.issued.pem)];
        })
        .msp();
    let issue = |authority: &Authority, units: &[&str]| authority.issue(params("x", units));
    assert_eq!(issue(&first, &["peer", "sales"]).check(&msp), Ok(()));
    for stranger in [issue(&first, &["peer"]), issue(&second, &["peer", "sales"])] {
        assert!(reason(stranger.check(&msp)).contains("requires"));
    }
}

#[test]
fn versions_before_v1_4_3_know_clients_and_peers_only() {
    let root = Authority::new("ca");
    let definition = Definition::new(&[&root]);
    for version in [MspVersion::V1_1, MspVersion::V1_3] {
        let msp = definition.set_up(version).unwrap();
        assert_eq!(root.peer().check(&msp), Ok(()));
        assert!(root.issue(params("x", &["orderer"])).check(&msp).is_err());
    }
    let msp = definition.set_up(MspVersion::V1_0).unwrap();
    assert_eq!(root.issue(params("x", &["anything"])).check(&msp), Ok(()));

    let no_client = definition.with(|config| {
        config
            .fabric_node_ous
            .as_mut()
            .unwrap()
            .client_ou_identifier = None;
    });
    assert!(no_client.refusal(MspVersion::V1_3).contains("ClientOU"));
    assert!(no_client.set_up(MspVersion::V1_4_3).is_ok());
}

#[test]
fn there_must_be_a_way_to_be_an_admin() {
    let root = Authority::new("ca");
    let definition = Definition::new(&[&root]).with(|config| {
        config.fabric_node_ous.as_mut().unwrap().admin_ou_identifier = None;
    });
    assert!(
        definition
            .refusal(MspVersion::V1_4_3)
            .contains("administrators must be declared")
    );
    assert!(definition.set_up(MspVersion::V1_3).is_ok());
}

#[test]
fn admins_by_certificate_must_be_clients_or_admins() {
    let root = Authority::new("ca");
    let with_admin = |pem_text: &str| {
        let admin = pem(pem_text);
        Definition::new(&[&root]).with(|config| config.admins = vec![admin])
    };
    for (units, version, is_taken) in [
        (&["client"][..], MspVersion::V1_3, true),
        (&["admin"], MspVersion::V1_3, false),
        (&["client"], MspVersion::V3_0, true),
        (&["admin"], MspVersion::V3_0, true),
        (&["peer"], MspVersion::V3_0, false),
        // From V1_4_3 on only the role is asked for, not that it is the only one.
        (&["client", "peer"], MspVersion::V3_0, true),
        (&["client", "peer"], MspVersion::V1_3, false),
    ] {
        let definition = with_admin(&root.issue(params("admin", units)).pem);
        let verdict = definition.set_up(version);
        assert_eq!(
            verdict.is_ok(),
            is_taken,
            "{units:?} {version:?} {verdict:?}"
        );
    }
    let foreign = Authority::new("x").issue(params("admin", &["client"]));
    assert!(
        with_admin(&foreign.pem)
            .refusal(MspVersion::V3_0)
            .contains("admin 0")
    );
}

#[test]
fn unknown_hash_functions() {
    let root = Authority::new("ca");
    let with_hashes = |family: &str, identifiers: &str| {
        Definition::new(&[&root]).with(|config| {
            config.crypto_config = Some(pb::FabricCryptoConfig {
                signature_hash_family: family.into(),
                identity_identifier_hash_function: identifiers.into(),
            });
        })
    };
    assert!(
        with_hashes("SHA2", "MD5")
            .refusal(MspVersion::V3_0)
            .contains("MD5")
    );
    for identifiers in ["", "SHA256", "SHA384", "SHA3_256", "SHA3_384"] {
        assert_eq!(
            root.peer().check(&with_hashes("SHA3", identifiers).msp()),
            Ok(())
        );
    }
    // Fabric takes the definition, and finds out with each signature.
    let msp = with_hashes("MD5", "").msp();
    let peer = root.peer();
    assert_eq!(peer.check(&msp), Ok(()));
    assert_eq!(
        peer.signing(&msp).sign(b"message"),
        Err(crate::SignatureError::UnknownHash)
    );
    assert_eq!(msp.id(), MSP);
    assert_eq!(msp.definition(), &with_hashes("MD5", "").config().config);
}
