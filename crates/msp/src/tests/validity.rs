//! Chains, revocation, keys: who is a valid member.

use rcgen::{
    BasicConstraints, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair,
    KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256, SanType, SerialNumber, date_time_ymd,
};

use super::support::{Authority, Definition, Issued, MSP, authority_params, params, pem};
use crate::{ChainError, MspError, MspManager, MspVersion};

fn chain_error(verdict: Result<(), MspError>) -> ChainError {
    match verdict {
        Err(MspError::Chain { source, .. }) => source,
        other => panic!("expected an error about the chain, got {other:?}"),
    }
}

#[test]
fn a_member_is_valid_and_keeps_its_bytes() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let peer = root.peer();
    let identity = peer.identity(&msp).unwrap();
    assert_eq!(identity.validate(), Ok(()));
    assert_eq!(identity.msp_id(), MSP);
    assert_eq!(identity.serialized(), &peer.serialized());
    assert_eq!(identity.organizational_units(), ["peer"]);
}

#[test]
fn other_authorities_do_not_count() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    assert_eq!(
        chain_error(Authority::new("other").peer().check(&msp)),
        ChainError::UnknownAuthority
    );
    assert_eq!(
        chain_error(Authority::new("ca").peer().check(&msp)),
        ChainError::NotSignedByAuthority {
            authority: "ca".into()
        }
    );
}

#[test]
fn expired_members_stay_valid() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let mut expired = params("peer0", &["peer"]);
    expired.not_after = date_time_ymd(2020, 1, 2);
    let identity = root.issue(expired).identity(&msp).unwrap();
    assert_eq!(identity.validate(), Ok(()));
    assert_eq!(
        identity.expires_at(),
        std::time::SystemTime::from(date_time_ymd(2020, 1, 2))
    );
}

#[test]
fn expired_authorities_vouch_for_what_they_issued_in_their_time() {
    let mut short = authority_params("ca");
    short.not_after = date_time_ymd(2021, 1, 1);
    let root = Authority::with(short, &rcgen::PKCS_ECDSA_P256_SHA256);
    let msp = Definition::new(&[&root]).msp();
    assert_eq!(root.peer().check(&msp), Ok(()));

    for (from, is_valid) in [(2019, false), (2020, true), (2021, false)] {
        let mut params = params("peer0", &["peer"]);
        params.not_before = date_time_ymd(from, 1, 1);
        let verdict = root.issue(params).check(&msp);
        assert_eq!(verdict.is_ok(), is_valid, "{from}: {verdict:?}");
        if !is_valid {
            assert!(matches!(
                chain_error(verdict),
                ChainError::NotValidAtIssue { .. }
            ));
        }
    }
}

#[test]
fn authorities_are_no_identities() {
    let root = Authority::new("ca");
    let ica = root.intermediate(authority_params("ica"));
    let msp = Definition::new(&[&root]).intermediates(&[&ica]).msp();
    for authority in [&root, &ica] {
        assert_eq!(
            chain_error(authority.issued.check(&msp)),
            ChainError::IsAuthority
        );
    }
}

#[test]
fn a_root_in_the_certificate_pool_needs_the_attributes_of_one() {
    let plain = Authority::with(params("ca", &[]), &rcgen::PKCS_ECDSA_P256_SHA256);
    let refusal = Definition::new(&[&plain]).refusal(MspVersion::V3_0);
    assert!(refusal.contains("length at least 2"), "{refusal}");

    let no_roots = Definition::new(&[]).refusal(MspVersion::V3_0);
    assert!(no_roots.contains("at least one CA certificate"));
}

#[test]
fn with_an_intermediate_its_root_vouches_for_nobody() {
    let root = Authority::new("ca");
    let other = Authority::new("other");
    let ica = root.intermediate(authority_params("ica"));
    let definition = Definition::new(&[&root, &other]);
    assert_eq!(root.peer().check(&definition.msp()), Ok(()));

    let msp = definition.intermediates(&[&ica]).msp();
    assert_eq!(ica.peer().check(&msp), Ok(()));
    assert_eq!(other.peer().check(&msp), Ok(()));
    assert_eq!(
        chain_error(root.peer().check(&msp)),
        ChainError::ParentIsInternal {
            parent: "ca".into()
        }
    );

    let below = ica.intermediate(authority_params("below"));
    let msp = Definition::new(&[&root])
        .intermediates(&[&ica, &below])
        .msp();
    assert_eq!(below.peer().check(&msp), Ok(()));
    assert_eq!(
        chain_error(ica.peer().check(&msp)),
        ChainError::ParentIsInternal {
            parent: "ica".into()
        }
    );
    // The order in which intermediates are given does not matter.
    let msp = Definition::new(&[&root])
        .intermediates(&[&below, &ica])
        .msp();
    assert_eq!(below.peer().check(&msp), Ok(()));
}

#[test]
fn an_intermediate_needs_its_root() {
    let root = Authority::new("ca");
    let ica = root.intermediate(authority_params("ica"));
    let refusal = Definition::new(&[&Authority::new("other")])
        .intermediates(&[&ica])
        .refusal(MspVersion::V3_0);
    assert!(refusal.contains("unknown authority"), "{refusal}");
}

#[test]
fn two_chains_are_one_too_many() {
    let key = KeyPair::generate().unwrap();
    let copy = KeyPair::from_pem(&key.serialize_pem()).unwrap();
    let mut first = authority_params("ca");
    first.serial_number = Some(SerialNumber::from(1u64));
    let mut second = authority_params("ca");
    second.serial_number = Some(SerialNumber::from(2u64));
    let first = Authority::with_key(first, key);
    let second = Authority::with_key(second, copy);

    assert_eq!(
        first.peer().check(&Definition::new(&[&first]).msp()),
        Ok(())
    );
    let both = Definition::new(&[&first, &second]).msp();
    assert_eq!(
        chain_error(first.peer().check(&both)),
        ChainError::NotUnique { count: 2 }
    );
    // The same certificate twice is one.
    assert_eq!(
        first
            .peer()
            .check(&Definition::new(&[&first, &first]).msp()),
        Ok(())
    );
}

#[test]
fn path_lengths_are_kept() {
    let mut none_below = authority_params("ca");
    none_below.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let root = Authority::with(none_below, &rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(root.peer().check(&Definition::new(&[&root]).msp()), Ok(()));

    // The intermediate itself passes, as nothing stands between it and the root.
    let ica = root.intermediate(authority_params("ica"));
    let msp = Definition::new(&[&root]).intermediates(&[&ica]).msp();
    assert_eq!(
        chain_error(ica.peer().check(&msp)),
        ChainError::PathTooLong {
            authority: "ca".into(),
            allowed: 0
        }
    );
}

#[test]
fn authorities_must_be_allowed_to_sign_certificates() {
    let mut wrong_usage = authority_params("ca");
    wrong_usage.key_usages = vec![KeyUsagePurpose::CrlSign];
    let root = Authority::with(wrong_usage, &rcgen::PKCS_ECDSA_P256_SHA256);
    assert!(
        Definition::new(&[&root])
            .refusal(MspVersion::V3_0)
            .contains("length at least 2")
    );

    let mut no_usage = authority_params("ca");
    no_usage.key_usages = Vec::new();
    let root = Authority::with(no_usage, &rcgen::PKCS_ECDSA_P256_SHA256);
    assert_eq!(root.peer().check(&Definition::new(&[&root]).msp()), Ok(()));
}

#[test]
fn extended_key_usages_must_include_a_server() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    for (usages, is_valid) in [
        (vec![], true),
        (vec![ClientAuth], false),
        (vec![ClientAuth, ServerAuth], true),
        (vec![Any], true),
    ] {
        let mut params = params("peer0", &["peer"]);
        params.extended_key_usages = usages.clone();
        let verdict = root.issue(params).check(&msp);
        assert_eq!(verdict.is_ok(), is_valid, "{usages:?}");
        if !is_valid {
            assert!(matches!(chain_error(verdict), ChainError::KeyUsage { .. }));
        }
    }
}

#[test]
fn critical_extensions_must_be_understood() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    for critical in [false, true] {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(critical);
        let mut params = params("peer0", &["peer"]);
        params.custom_extensions = vec![extension];
        assert_eq!(root.issue(params).check(&msp).is_err(), critical);
    }
}

#[test]
fn policies_that_are_required() {
    let extension = |number: u64, content: &[u8]| {
        CustomExtension::from_oid_content(&[2, 5, 29, number], content.to_vec())
    };
    let at_once = || extension(36, &[0x30, 3, 0x80, 1, 0]);
    let later = || extension(36, &[0x30, 3, 0x80, 1, 1]);
    let policies = || extension(32, &[0x30, 6, 0x30, 4, 0x06, 2, 0x2a, 3]);
    // What the root requires does not count.
    let mut strict = authority_params("ca");
    strict.custom_extensions = vec![at_once()];
    let root = Authority::with(strict, &rcgen::PKCS_ECDSA_P256_SHA256);
    let msp = Definition::new(&[&root]).msp();
    let check = |extensions: Vec<CustomExtension>| {
        let mut params = params("peer0", &["peer"]);
        params.custom_extensions = extensions;
        root.issue(params).check(&msp)
    };
    assert_eq!(check(vec![]), Ok(()));
    assert_eq!(check(vec![later()]), Ok(()));
    assert_eq!(check(vec![at_once(), policies()]), Ok(()));
    assert!(matches!(
        chain_error(check(vec![at_once()])),
        ChainError::Policies { .. }
    ));
}

#[test]
fn name_constraints_bind_alternative_names_and_host_names() {
    let mut constrained = authority_params("ca");
    constrained.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("example.com".into())],
        excluded_subtrees: vec![GeneralSubtree::DnsName("bad.example.com".into())],
    });
    let root = Authority::with(constrained, &rcgen::PKCS_ECDSA_P256_SHA256);
    let msp = Definition::new(&[&root]).msp();
    let check = |name: &str, alternative: Option<&str>| {
        let mut params = params(name, &["peer"]);
        params.subject_alt_names = alternative
            .map(|name| SanType::DnsName(name.try_into().unwrap()))
            .into_iter()
            .collect();
        root.issue(params).check(&msp)
    };
    assert_eq!(check("peer0", Some("peer0.example.com")), Ok(()));
    for alternative in ["peer0.other.com", "x.bad.example.com"] {
        assert_eq!(
            chain_error(check("peer0", Some(alternative))),
            ChainError::NameConstraints
        );
    }
    assert_eq!(
        chain_error(check("peer0.example.com", None)),
        ChainError::NameConstraints
    );
    assert_eq!(check("User1@example.com", None), Ok(()));
}

#[test]
fn ed25519_members_count_from_v3_0_on() {
    let root = Authority::new("ca");
    let definition = Definition::new(&[&root]);
    let peer = root.issue_for(params("peer0", &["peer"]), &PKCS_ED25519);
    assert_eq!(
        peer.check(&definition.set_up(MspVersion::V1_4_3).unwrap()),
        Err(MspError::KeyAlgorithm {
            msp: MSP.into(),
            algorithm: "Ed25519"
        })
    );
    assert_eq!(peer.check(&definition.msp()), Ok(()));
}

#[test]
fn other_curves_and_authorities_with_other_keys_count() {
    let roots = [
        Authority::with(authority_params("p384"), &PKCS_ECDSA_P384_SHA384),
        Authority::with(authority_params("p521"), &PKCS_ECDSA_P521_SHA512),
        Authority::with(authority_params("ed25519"), &PKCS_ED25519),
        Authority::with(authority_params("rsa"), &PKCS_RSA_SHA256),
    ];
    let msp = Definition::new(&roots.each_ref()).msp();
    for root in &roots {
        assert_eq!(root.peer().check(&msp), Ok(()));
    }
    for algorithm in [&PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512] {
        let peer = roots[0].issue_for(params("peer0", &["peer"]), algorithm);
        assert_eq!(peer.check(&msp), Ok(()));
    }
    let rsa = roots[0].issue_for(params("peer0", &["peer"]), &PKCS_RSA_SHA256);
    assert_eq!(
        rsa.check(&msp),
        Err(MspError::KeyAlgorithm {
            msp: MSP.into(),
            algorithm: "RSA"
        })
    );
    // Without an ECDSA signature to bring into low-S form, a certificate of nobody can be read.
    let foreign = Authority::with(authority_params("x"), &PKCS_ED25519).peer();
    let identity = foreign.identity(&msp).unwrap();
    assert_eq!(
        chain_error(identity.validate()),
        ChainError::UnknownAuthority
    );
}

fn with_serial(root: &Authority, serial: u64) -> Issued {
    let mut params = params("peer0", &["peer"]);
    params.serial_number = Some(SerialNumber::from(serial));
    root.issue(params)
}

#[test]
fn revoked_members_are_not_valid() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root])
        .revocation_list(&root.revoke(&[0x80, 7]))
        .msp();
    assert_eq!(
        with_serial(&root, 0x8007).check(&msp),
        Err(MspError::Revoked {
            msp: MSP.into(),
            serial: "8007".into()
        })
    );
    assert_eq!(with_serial(&root, 0x8008).check(&msp), Ok(()));
}

#[test]
fn only_the_issuer_can_revoke() {
    let root = Authority::new("ca");
    let other = Authority::new("other");
    let ica = root.intermediate(authority_params("ica"));
    let msp = Definition::new(&[&root, &other])
        .intermediates(&[&ica])
        .revocation_list(&other.revoke(&[7]))
        .revocation_list(&root.revoke(&[7]))
        .msp();
    assert_eq!(with_serial(&ica, 7).check(&msp), Ok(()));

    // A list that only claims to be the issuer's: the signature is another's.
    let genuine = root.revocation_list(&[7]).der().to_vec();
    let mut forged = genuine.clone();
    let last = forged.last_mut().unwrap();
    *last ^= 1;
    let definition = Definition::new(&[&root]);
    let with_list = |list: Vec<u8>| {
        definition
            .clone()
            .with(|config| config.revocation_list.push(list.into()))
            .msp()
    };
    assert!(with_serial(&root, 7).check(&with_list(genuine)).is_err());
    assert_eq!(with_serial(&root, 7).check(&with_list(forged)), Ok(()));
}

#[test]
fn a_list_that_does_not_say_whose_it_is_makes_all_members_invalid() {
    let root = Authority::new("ca");
    let mut list = root.revocation_list(&[7]).der().to_vec();
    let key_id = [0x06, 3, 0x55, 29, 35];
    let at = list.windows(5).position(|part| part == key_id).unwrap();
    list[at + 4] = 99;
    let msp = Definition::new(&[&root])
        .with(|config| config.revocation_list.push(list.into()))
        .msp();
    assert_eq!(
        root.peer().check(&msp),
        Err(MspError::AnonymousRevocationList { msp: MSP.into() })
    );
}

#[test]
fn revoked_intermediates_stop_the_msp() {
    let root = Authority::new("ca");
    let mut params = authority_params("ica");
    params.serial_number = Some(SerialNumber::from(7u64));
    let ica = root.intermediate(params);
    let refusal = Definition::new(&[&root])
        .intermediates(&[&ica])
        .revocation_list(&root.revoke(&[7]))
        .refusal(MspVersion::V3_0);
    assert!(refusal.contains("revoked"), "{refusal}");
}

#[test]
fn tls_authorities_are_checked_and_handed_out() {
    let root = Authority::new("ca");
    let tls = Authority::new("tlsca");
    let tls_ica = tls.intermediate(authority_params("tlsica"));
    let definition = Definition::new(&[&root]).with(|config| {
        config.tls_root_certs = vec![pem(&tls.issued.pem)];
        config.tls_intermediate_certs = vec![pem(&tls_ica.issued.pem)];
    });
    let msp = definition.msp();
    assert_eq!(msp.tls_root_certs(), [&tls.issued.der[..]]);
    assert_eq!(msp.tls_intermediate_certs(), [&tls_ica.issued.der[..]]);

    let leaf = definition
        .clone()
        .with(|config| config.tls_root_certs.push(pem(&tls.peer().pem)));
    assert!(leaf.refusal(MspVersion::V3_0).contains("CA attribute"));
    let orphan = definition.with(|config| config.tls_root_certs.clear());
    assert!(
        orphan
            .refusal(MspVersion::V3_0)
            .contains("unknown authority")
    );
}

#[test]
fn managers_know_their_msps_and_renew_identities() {
    let root = Authority::new("ca");
    let definition = Definition::new(&[&root]);
    let peer = with_serial(&root, 7);
    let manager = definition.manager();
    let identity = manager
        .deserialize_and_validate(&peer.serialized())
        .unwrap();
    assert_eq!(identity.serialized(), &peer.serialized());
    assert!(manager.msp(MSP).is_some());
    assert!(manager.renew(&identity).unwrap().is_same(&identity));

    let revoked = definition
        .clone()
        .revocation_list(&root.revoke(&[7]))
        .manager();
    assert!(matches!(
        revoked.renew(&identity),
        Err(MspError::Revoked { .. })
    ));
    // What was found under the old MSPs stays as it was.
    assert_eq!(identity.validate(), Ok(()));
    assert_eq!(
        MspManager::new([]).unwrap().renew(&identity).unwrap_err(),
        MspError::UnknownMsp { msp: MSP.into() }
    );
    // An MSP judges by its own definition, whatever the identity was read with.
    assert_eq!(definition.msp().validate(&identity), Ok(()));
    let revoking = definition.revocation_list(&root.revoke(&[7])).msp();
    assert!(revoking.validate(&identity).is_err());
}

#[test]
fn one_id_has_one_definition() {
    let definition = Definition::new(&[&Authority::new("ca")]);
    let other = Definition::new(&[&Authority::new("ca")]);
    assert!(MspManager::new([definition.msp(), definition.msp()]).is_ok());
    assert_eq!(
        MspManager::new([definition.msp(), other.msp()]).unwrap_err(),
        MspError::Redefined { msp: MSP.into() }
    );
}

#[test]
fn idemix_is_refused_by_name() {
    use selvedge_protos::Message;
    let idemix = selvedge_protos::msp::IdemixMspConfig {
        name: "IdemixMSP".into(),
        ..Default::default()
    };
    let config = selvedge_protos::msp::MspConfig {
        r#type: 1,
        config: idemix.encode_to_vec().into(),
    };
    let refusal = crate::Msp::from_config(&config, MspVersion::V1_4_3).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "MSP 'IdemixMSP' is of the unsupported type 1 (Idemix)"
    );
}
