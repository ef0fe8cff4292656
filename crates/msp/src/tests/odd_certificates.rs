//! Odd certificates that an authority signed, with the verdicts of Fabric's own `msp` package.

use selvedge_protos::common::msp_role::MspRoleType;

use super::principals::role;
use super::support::{Definition, MSP, serialize, testdata};
use crate::{Msp, MspVersion};

/// The MSP with the authority of the recording for its root.
fn msp(authority: &str) -> Msp {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{authority}\n-----END CERTIFICATE-----\n");
    let definition = Definition::new(&[]).with(|config| config.root_certs = vec![pem.into()]);
    definition.set_up(MspVersion::V3_0).unwrap()
}

/// What the recording has for a certificate: `unreadable`; or the first bytes of the hash of the certificate
/// with its signature in low-S form, and `invalid` or the roles.
fn verdict(msp: &Msp, certificate: &str) -> String {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{certificate}\n-----END CERTIFICATE-----\n");
    let Ok(identity) = msp.deserialize(&serialize(MSP, pem.as_bytes())) else {
        return "unreadable".to_owned();
    };
    let hash = selvedge_protos::sha256(identity.certificate_der());
    let mut words = vec![hex::encode(&hash[..8])];
    if identity.validate().is_err() {
        words.push("invalid".to_owned());
        return words.join(",");
    }
    for (kind, name) in [
        (MspRoleType::Member, "member"),
        (MspRoleType::Admin, "admin"),
        (MspRoleType::Client, "client"),
        (MspRoleType::Peer, "peer"),
        (MspRoleType::Orderer, "orderer"),
    ] {
        if identity.satisfies(&role(MSP, kind)).is_ok() {
            words.push(name.to_owned());
        }
    }
    words.join(",")
}

#[test]
fn verdicts_are_those_of_go() {
    let recorded = std::fs::read_to_string(testdata("forged/certificates.txt")).unwrap();
    let mut lines = recorded.lines().map(|line| line.split_once(' ').unwrap());
    let (_, authority) = lines.next().unwrap();
    let msp = msp(authority);
    let mut count = 0;
    for (expected, certificate) in lines {
        assert_eq!(verdict(&msp, certificate), expected, "{certificate}");
        count += 1;
    }
    assert!(count > 200, "{count}");
}
