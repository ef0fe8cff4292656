use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use selvedge_msp::{Msp, load_signing_identity};
use selvedge_protos::Message;
use selvedge_protos::common::msp_principal::Classification;
use selvedge_protos::common::msp_role::MspRoleType;
use selvedge_protos::common::{MspPrincipal, MspRole};
use selvedge_transport::{TlsIdentity, certificates_from_pem};

use super::*;
use crate::error::DevnetError;

fn role(msp_id: &str, role: MspRoleType) -> MspPrincipal {
    let role = MspRole {
        msp_identifier: msp_id.to_owned(),
        role: role as i32,
    };
    MspPrincipal {
        principal_classification: Classification::Role as i32,
        principal: role.encode_to_vec().into(),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn members_have_the_roles_of_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Organization::write(folder.path(), Specification::peers(1, 2)).unwrap();
    let orderers = Organization::write(folder.path(), Specification::orderer()).unwrap();
    use MspRoleType::{Admin, Client, Member, Orderer, Peer};
    let cases = [
        (&peers, peers.node_msp("peer1"), Peer),
        (&peers, peers.user_msp("Admin"), Admin),
        (&peers, peers.user_msp("User1"), Client),
        (&orderers, orderers.node_msp("orderer"), Orderer),
        (&orderers, orderers.user_msp("Admin"), Admin),
    ];
    for (organization, folder, expected) in cases {
        let msp_id = &organization.specification().msp_id;
        let msp = Msp::from_directory(organization.msp(), msp_id).unwrap();
        let signer = load_signing_identity(&folder, msp_id).unwrap();
        let identity = msp.deserialize(signer.serialized()).unwrap();
        msp.validate(&identity).unwrap();
        msp.satisfies(&identity, &role(msp_id, Member)).unwrap();
        for other in [Admin, Client, Orderer, Peer] {
            let satisfied = msp.satisfies(&identity, &role(msp_id, other)).is_ok();
            assert_eq!(
                satisfied,
                other == expected,
                "{other:?} of {}",
                folder.display()
            );
        }
        let signature = signer.sign(b"message").unwrap();
        identity.verify(b"message", &signature).unwrap();
    }
}

#[test]
fn the_certificate_on_the_wire_is_the_one_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let organization = Organization::write(folder.path(), Specification::peers(1, 1)).unwrap();
    let signer = load_signing_identity(organization.node_msp("peer0"), "Org1MSP").unwrap();
    let file = organization
        .node_msp("peer0")
        .join("signcerts/peer0.org1.example.com-cert.pem");
    let file = certificates_from_pem(&fs::read(file).unwrap()).unwrap();
    assert_eq!(signer.identity().certificate_der(), file[0].as_ref());
}

#[test]
fn tls_files_belong_together() {
    let folder = tempfile::tempdir().unwrap();
    let organization = Organization::write(folder.path(), Specification::peers(1, 1)).unwrap();
    for tls in [
        organization.node_tls("peer0"),
        organization.user_tls("User1"),
    ] {
        let [certificate, key, authority] =
            [tls.certificate, tls.key, tls.authority].map(|path| fs::read(path).unwrap());
        TlsIdentity::from_pem(&certificate, &key).unwrap();
        assert_eq!(certificates_from_pem(&authority).unwrap().len(), 1);
    }
}

#[test]
fn private_keys_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    Organization::write(folder.path(), Specification::peers(1, 2)).unwrap();
    let mut keys = 0;
    for file in files(folder.path()) {
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        let is_key = fs::read_to_string(&file).unwrap().contains("PRIVATE KEY");
        assert_eq!(
            mode & 0o077 == 0,
            is_key,
            "{} has mode {mode:o}",
            file.display()
        );
        keys += usize::from(is_key);
    }
    // Two CAs, and two keys for each of two peers and two users.
    assert_eq!(keys, 10);
}

#[test]
fn the_folders_are_those_of_cryptogen() {
    let folder = tempfile::tempdir().unwrap();
    let specification = Specification {
        users: 0,
        ..Specification::peers(1, 1)
    };
    Organization::write(folder.path(), specification).unwrap();
    let root = folder.path().join("peerOrganizations/org1.example.com");
    let found = files(&root);
    let found = found
        .iter()
        .map(|file| file.strip_prefix(&root).unwrap().to_str().unwrap());
    let verifying = |folder: &str| {
        [
            format!("{folder}/cacerts/ca.org1.example.com-cert.pem"),
            format!("{folder}/config.yaml"),
            format!("{folder}/tlscacerts/tlsca.org1.example.com-cert.pem"),
        ]
    };
    let member = |folder: &str, name: &str, end: &str| {
        let mut files = verifying(&format!("{folder}/{name}/msp")).to_vec();
        files.push(format!("{folder}/{name}/msp/keystore/priv_sk"));
        files.push(format!("{folder}/{name}/msp/signcerts/{name}-cert.pem"));
        let tls = [
            "ca.crt".to_owned(),
            format!("{end}.crt"),
            format!("{end}.key"),
        ];
        files.extend(tls.map(|file| format!("{folder}/{name}/tls/{file}")));
        files
    };
    let mut expected = verifying("msp").to_vec();
    for authority in ["ca", "tlsca"] {
        expected.push(format!("{authority}/{authority}.org1.example.com-cert.pem"));
        expected.push(format!("{authority}/priv_sk"));
    }
    expected.extend(member("peers", "peer0.org1.example.com", "server"));
    expected.extend(member("users", "Admin@org1.example.com", "client"));
    expected.sort();
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn existing_material_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let specification = Specification::peers(1, 1);
    let first = Organization::write(folder.path(), specification.clone()).unwrap();
    let before = fs::read(first.msp().join("cacerts/ca.org1.example.com-cert.pem")).unwrap();
    let error = Organization::write(folder.path(), specification.clone()).unwrap_err();
    assert!(matches!(error, DevnetError::File { .. }), "{error}");
    let after = fs::read(first.msp().join("cacerts/ca.org1.example.com-cert.pem")).unwrap();
    assert_eq!(before, after);
    assert_eq!(Organization::at(folder.path(), specification), first);
}

#[test]
fn a_node_is_added_with_certificates_that_end_early() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Organization::write(folder.path(), Specification::peers(1, 1)).unwrap();
    let hour = Duration::from_secs(3600);
    peers.add_node("late", Some(hour)).unwrap();
    let signer = peers.node_identity("late").unwrap();
    let msp = Msp::from_directory(peers.msp(), "Org1MSP").unwrap();
    let identity = msp.deserialize(signer.serialized()).unwrap();
    msp.validate(&identity).unwrap();
    let end = identity.expires_at();
    let left = end.duration_since(SystemTime::now()).unwrap();
    assert!(left <= hour && left > hour / 2, "{left:?}");
    let tls = peers.node_tls("late");
    let read = |path| fs::read(path).unwrap();
    TlsIdentity::from_pem(&read(tls.certificate), &read(tls.key)).unwrap();
    assert!(peers.add_node("late", None).is_err());
}
