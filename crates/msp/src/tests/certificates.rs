//! Certificates in forms that are odd, high in S, or broken.

use bytes::Bytes;
use proptest::prelude::*;

use super::support::{
    Authority, Definition, Issued, MSP, authority_params, other_half, pem, serialize,
};
use crate::certificate::Certificate;
use crate::der::{self, Reader, tag};
use crate::ecdsa::Curve;
use crate::error::CertificateError;
use crate::{MspError, MspVersion, expires_at, is_well_formed};

/// The three parts of a certificate, each with tag and length, and its signature.
fn parts(der: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let mut outer = Reader::new(der).enter(tag::SEQUENCE).unwrap();
    let signed = outer.any().unwrap().whole.to_vec();
    let algorithm = outer.any().unwrap().whole.to_vec();
    (signed, algorithm, outer.bit_string_right_aligned().unwrap())
}

fn assemble(signed: &[u8], algorithm: &[u8], signature: &[u8], after: &[u8]) -> Vec<u8> {
    let mut inside = [signed, algorithm].concat();
    crate::key::write_bit_string(&mut inside, signature);
    inside.extend_from_slice(after);
    let mut out = Vec::new();
    der::write(&mut out, tag::SEQUENCE, &inside);
    out
}

/// The same certificate with the other of the two valid signatures.
fn with_other_half(issued: &Issued) -> Issued {
    let (signed, algorithm, signature) = parts(&issued.der);
    let der = assemble(&signed, &algorithm, &other_half(&signature), &[]);
    from_der(der)
}

fn from_der(der: Vec<u8>) -> Issued {
    Issued {
        pem: crate::pem::encode(crate::pem::CERTIFICATE, &der),
        der,
        key_pem: String::new(),
    }
}

fn is_low(issued: &Issued) -> bool {
    crate::ecdsa::EcdsaSignature::parse_lenient(&parts(&issued.der).2)
        .unwrap()
        .is_low_s(Curve::P256)
}

#[test]
fn both_halves_of_a_signature_make_the_same_identity() {
    let root = Authority::new("ca");
    let low = root.peer();
    let high = with_other_half(&low);
    assert!(is_low(&low) && !is_low(&high));

    let msp = Definition::new(&[&root]).msp();
    let from_low = low.identity(&msp).unwrap();
    let from_high = high.identity(&msp).unwrap();
    assert_eq!(from_low.certificate_der(), &low.der);
    assert_eq!(from_high.certificate_der(), &low.der);
    assert!(from_low.is_same(&from_high));
    assert_eq!(from_high.serialized(), &high.serialized());
    assert_eq!(from_high.validate(), Ok(()));
}

#[test]
fn authorities_are_lowered_too() {
    let mut root = Authority::new("ca");
    let mut ica = root.intermediate(authority_params("ica"));
    let peer = ica.peer();
    let low_root = root.issued.der.clone();
    for authority in [&mut root, &mut ica] {
        authority.issued = with_other_half(&authority.issued);
    }
    let msp = Definition::new(&[&root]).intermediates(&[&ica]).msp();
    assert_eq!(peer.check(&msp), Ok(()));
    assert_eq!(msp.0.authorities.roots[0].der, low_root);

    // Given in both forms, the intermediate has two chains before anything is lowered.
    let refusal = Definition::new(&[&root])
        .with(|config| config.root_certs.push(pem(&from_der(low_root).pem)))
        .intermediates(&[&ica])
        .refusal(MspVersion::V3_0);
    assert!(refusal.contains("got 2"), "{refusal}");
}

#[test]
fn bytes_after_the_signature_inside_the_certificate_pass_as_in_go() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let (signed, algorithm, signature) = parts(&root.peer().der);
    let odd = from_der(assemble(&signed, &algorithm, &signature, &[5, 0]));
    assert_eq!(odd.check(&msp), Ok(()));
}

#[test]
fn what_go_does_not_parse_is_refused() {
    let root = Authority::new("ca");
    let msp = Definition::new(&[&root]).msp();
    let peer = root.peer();
    let (signed, algorithm, signature) = parts(&peer.der);
    let certificate_error = |der: Vec<u8>| match from_der(der).identity(&msp) {
        Err(MspError::Certificate { source, .. }) => source,
        other => panic!("{other:?}"),
    };

    let mut trailing = peer.der.clone();
    trailing.push(0);
    assert_eq!(certificate_error(trailing), CertificateError::TrailingData);

    let mut long_length = vec![0x30, 0x83, 0];
    long_length.extend(&peer.der[2..]);
    assert_eq!(
        certificate_error(long_length),
        CertificateError::Malformed {
            part: "certificate"
        }
    );

    // ecdsa-with-SHA384 outside, SHA-256 inside.
    let mut other_algorithm = algorithm.clone();
    *other_algorithm.last_mut().unwrap() = 3;
    assert_eq!(
        certificate_error(assemble(&signed, &other_algorithm, &signature, &[])),
        CertificateError::AlgorithmMismatch
    );

    let not_pem = msp
        .deserialize(&serialize(MSP, b"no certificate"))
        .unwrap_err();
    assert!(matches!(
        not_pem,
        MspError::Certificate {
            source: CertificateError::NotPem,
            ..
        }
    ));
    assert!(matches!(
        msp.deserialize(b"\xff\xff"),
        Err(MspError::Decode { .. })
    ));
    assert!(matches!(
        msp.deserialize(&serialize("Org2MSP", peer.pem.as_bytes())),
        Err(MspError::OtherMsp { .. })
    ));
}

#[test]
fn well_formed_identities() {
    let root = Authority::new("ca");
    let peer = root.peer();
    let check = |text: &str| {
        is_well_formed(&selvedge_protos::msp::SerializedIdentity {
            mspid: MSP.into(),
            id_bytes: Bytes::copy_from_slice(text.as_bytes()),
        })
        .is_ok()
    };
    assert!(check(&peer.pem));
    assert!(check(&with_other_half(&peer).pem));
    assert!(!check(&format!("{}x", peer.pem)));
    assert!(!check(&format!("{0}{0}", peer.pem)));
    assert!(!check(&peer.pem.replace("CERTIFICATE", "SOMETHING")));
    assert!(check(&peer.pem.replace("CERTIFICATE", "")));
    assert!(!check("nothing"));

    let (signed, algorithm, mut signature) = parts(&peer.der);
    signature.extend([1, 2]);
    let odd = from_der(assemble(&signed, &algorithm, &signature, &[]));
    assert!(!check(&odd.pem));
}

#[test]
fn expiry_can_be_asked_without_an_msp() {
    let peer = Authority::new("ca").peer();
    assert_eq!(
        expires_at(&peer.serialized()),
        Ok(std::time::SystemTime::from(rcgen::date_time_ymd(
            2040, 1, 1
        )))
    );
    assert!(expires_at(b"junk").is_err());
}

thread_local! {
    static AUTHORITY: Authority = Authority::new("ca");
    static PEER: Issued = AUTHORITY.with(Authority::peer);
}

proptest! {
    #[test]
    fn broken_certificates_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
    ) {
        let mut der = PEER.with(|peer| peer.der.clone());
        for (at, value) in changes {
            let at = at.index(der.len());
            der[at] = value;
        }
        let _ = Certificate::from_der(der.clone().into());
        der.truncate(end.index(der.len()));
        let _ = Certificate::from_der(der.into());
    }

    /// Whatever is changed in a certificate outside its signed part, the identity that comes out of
    /// it is the same or none.
    #[test]
    fn nothing_can_be_changed_without_the_authority(
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let msp = AUTHORITY.with(|root| Definition::new(&[root]).msp());
        let original = PEER.with(|peer| peer.der.clone());
        let mut changed = original.clone();
        let at = at.index(changed.len());
        changed[at] = value;
        if changed != original {
            let accepted = from_der(changed.clone()).check(&msp).is_ok();
            prop_assert!(!accepted, "byte {} as {:02x} in {:02x?}", at, value, original);
        }
    }

    #[test]
    fn broken_lists_do_no_harm(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut list = AUTHORITY.with(|root| root.revocation_list(&[7]).der().to_vec());
        for (at, value) in changes {
            let at = at.index(list.len());
            list[at] = value;
        }
        let _ = crate::crl::RevocationList::from_bytes(&list);
    }
}
