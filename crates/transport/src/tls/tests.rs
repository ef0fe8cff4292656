use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::testing::Ca;

fn pem_pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn a_pair_of_files_is_read_and_its_hash_is_that_of_the_der() {
    let (certificate, key) = pem_pair();
    let identity = TlsIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    let der = certificates_from_pem(certificate.as_bytes()).unwrap();
    assert_eq!(identity.certificate()[..], der[0][..]);
    assert_eq!(
        identity.certificate_hash(),
        selvedge_protos::sha256(&der[0])
    );
}

#[test]
fn files_that_do_not_fit_say_what_is_wrong() {
    let (certificate, key) = pem_pair();
    let (_, other_key) = pem_pair();
    let read = |c: &str, k: &str| TlsIdentity::from_pem(c.as_bytes(), k.as_bytes()).unwrap_err();
    assert!(matches!(
        read(&certificate, &other_key),
        TlsError::KeyMismatch
    ));
    assert!(matches!(read(&certificate, "nothing"), TlsError::KeyPem(_)));
    assert!(matches!(
        read(&certificate, &certificate),
        TlsError::KeyPem(_)
    ));
    assert!(matches!(read("nothing", &key), TlsError::NoCertificate));
    assert!(matches!(read(&key, &key), TlsError::NoCertificate));
    let truncated = &certificate[..certificate.len() / 2];
    assert!(matches!(read(truncated, &key), TlsError::CertificatePem(_)));
}

#[test]
fn a_broken_root_does_not_take_the_others_away() {
    let ca = Ca::new("ca");
    let broken = CertificateDer::from(vec![1, 2, 3]);
    assert_eq!(root_store(&[broken, ca.certificate.clone()]).len(), 1);
}

#[test]
fn a_name_that_no_certificate_can_carry_is_refused() {
    let error = ClientTls::new(&[], None, Some("not a name")).unwrap_err();
    assert!(matches!(error, TlsError::ServerName(name) if name == "not a name"));
}
