//! MSP folders.

use std::fs;
use std::path::Path;

use rcgen::date_time_ymd;
use selvedge_protos::{Message, msp as pb};

use super::support::{Authority, Issued, MSP, authority_params, params};
use crate::{Msp, MspError, load_signing_identity, msp_config_from_directory};

const CONFIG: &str = "NodeOUs:
  Enable: true
  ClientOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: client
  PeerOUIdentifier:
    Certificate: cacerts/ca.pem
    OrganizationalUnitIdentifier: peer
  AdminOUIdentifier:
    OrganizationalUnitIdentifier: admin
  OrdererOUIdentifier:
    Certificate: cacerts/missing.pem
    OrganizationalUnitIdentifier: orderer
";

struct Folder {
    path: tempfile::TempDir,
}

impl Folder {
    fn new(root: &Authority) -> Self {
        let folder = Self {
            path: tempfile::tempdir().unwrap(),
        };
        folder.write("cacerts/ca.pem", &root.issued.pem);
        folder.write("config.yaml", CONFIG);
        folder
    }

    fn own(self, issued: &Issued) -> Self {
        self.write("signcerts/cert.pem", &issued.pem);
        self.write("keystore/priv_sk", &issued.key_pem);
        self
    }

    fn path(&self) -> &Path {
        self.path.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn definition(&self) -> pb::FabricMspConfig {
        let config = msp_config_from_directory(self.path(), MSP).unwrap();
        pb::FabricMspConfig::decode(config.config.as_ref()).unwrap()
    }

    fn signing_error(&self) -> String {
        load_signing_identity(self.path(), MSP)
            .unwrap_err()
            .to_string()
    }
}

#[test]
fn all_parts_of_a_folder_are_read() {
    let root = Authority::new("ca");
    let ica = root.intermediate(authority_params("ica"));
    let tls = Authority::new("tlsca");
    let tls_ica = tls.intermediate(authority_params("tlsica"));
    let admin = ica.issue(params("admin", &["client"]));
    let folder = Folder::new(&root);
    folder.write("intermediatecerts/ica.pem", &ica.issued.pem);
    folder.write("admincerts/admin.pem", &admin.pem);
    folder.write("crls/list.pem", &ica.revoke(&[7]));
    folder.write("tlscacerts/tls.pem", &tls.issued.pem);
    folder.write("tlsintermediatecerts/tls.pem", &tls_ica.issued.pem);
    folder.write("cacerts/README", "not PEM");
    folder.write("cacerts/folder/inside.pem", "not looked at");
    folder.write(
        "config.yaml",
        &CONFIG.replace("cacerts/ca.pem", "intermediatecerts/ica.pem"),
    );

    let definition = folder.definition();
    assert_eq!(definition.name, MSP);
    assert_eq!(definition.root_certs, [root.issued.pem.as_bytes()]);
    assert_eq!(definition.intermediate_certs, [ica.issued.pem.as_bytes()]);
    assert_eq!(definition.admins, [admin.pem.as_bytes()]);
    assert_eq!(definition.revocation_list.len(), 1);
    assert_eq!(definition.tls_root_certs, [tls.issued.pem.as_bytes()]);
    assert_eq!(
        definition.tls_intermediate_certs,
        [tls_ica.issued.pem.as_bytes()]
    );
    let node_ous = definition.fabric_node_ous.unwrap();
    let client = node_ous.client_ou_identifier.unwrap();
    assert_eq!(client.certificate, ica.issued.pem.as_bytes());
    assert_eq!(client.organizational_unit_identifier, "client");
    // A certificate that is missing is left out.
    assert!(
        node_ous
            .orderer_ou_identifier
            .unwrap()
            .certificate
            .is_empty()
    );

    let msp = Msp::from_directory(folder.path(), MSP).unwrap();
    assert_eq!(ica.peer().check(&msp), Ok(()));
    assert_eq!(msp.tls_root_certs().len(), 1);
}

#[test]
fn required_units_come_from_the_configuration() {
    let root = Authority::new("ca");
    let folder = Folder::new(&root);
    folder.write(
        "config.yaml",
        "OrganizationalUnitIdentifiers:\n  - Certificate: cacerts/ca.pem\n    OrganizationalUnitIdentifier: sales\n",
    );
    let definition = folder.definition();
    assert_eq!(
        definition.organizational_unit_identifiers[0].organizational_unit_identifier,
        "sales"
    );
    assert!(definition.fabric_node_ous.is_none());

    folder.write(
        "config.yaml",
        "OrganizationalUnitIdentifiers:\n  - Certificate: nowhere.pem\n",
    );
    let error = msp_config_from_directory(folder.path(), MSP).unwrap_err();
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
}

#[test]
fn no_configuration_is_one_without_node_ous() {
    let root = Authority::new("ca");
    let folder = Folder::new(&root);
    for text in [
        "",
        "# nothing\n",
        "NodeOUs:\n  Enable: false\n",
        "Other: 1\n",
    ] {
        folder.write("config.yaml", text);
        assert!(folder.definition().fabric_node_ous.is_none(), "{text}");
    }
    folder.write("config.yaml", "NodeOUs: [");
    let error = msp_config_from_directory(folder.path(), MSP).unwrap_err();
    assert!(error.to_string().contains("config.yaml"), "{error}");
}

#[test]
fn a_folder_without_authorities_is_refused() {
    let empty = tempfile::tempdir().unwrap();
    let error = msp_config_from_directory(empty.path(), MSP).unwrap_err();
    assert!(matches!(error, MspError::Folder { .. }));
    assert!(error.to_string().contains("cacerts"), "{error}");
}

#[test]
fn the_own_identity_signs() {
    let root = Authority::new("ca");
    let peer = root.peer();
    let folder = Folder::new(&root).own(&peer);
    let signing = load_signing_identity(folder.path(), MSP).unwrap();
    assert_eq!(signing.identity().validate(), Ok(()));
    let signature = signing.sign(b"message").unwrap();
    assert_eq!(signing.identity().verify(b"message", &signature), Ok(()));
    let read = signing
        .identity()
        .msp()
        .deserialize(signing.serialized())
        .unwrap();
    assert!(read.is_same(signing.identity()));
}

#[test]
fn sec1_keys_are_read_and_other_files_passed_over() {
    let root = Authority::new("ca");
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ] {
        let peer = root.issue_for(params("peer0", &["peer"]), algorithm);
        let folder = Folder::new(&root).own(&peer);
        // The SEC1 key is what stands in the octet string of the PKCS#8 key, with its curve.
        let pkcs8 = crate::pem::decode(peer.key_pem.as_bytes())
            .unwrap()
            .0
            .contents;
        let mut fields = crate::der::Reader::new(&pkcs8)
            .enter(crate::der::tag::SEQUENCE)
            .unwrap();
        fields.integer().unwrap();
        fields.any().unwrap();
        let sec1 = fields.read(crate::der::tag::OCTET_STRING).unwrap();
        folder.write("keystore/priv_sk", &root.issued.key_pem);
        folder.write("keystore/junk", "no key");
        folder.write(
            "keystore/z_sec1",
            &crate::pem::encode("EC PRIVATE KEY", sec1),
        );
        let signing = load_signing_identity(folder.path(), MSP).unwrap();
        assert!(signing.sign(b"message").is_ok());
    }
}

#[test]
fn missing_expired_and_foreign_keys_are_told_apart() {
    let root = Authority::new("ca");
    assert!(Folder::new(&root).signing_error().contains("signcerts"));

    let folder = Folder::new(&root).own(&root.peer());
    folder.write("keystore/priv_sk", &root.peer().key_pem);
    assert!(folder.signing_error().contains("no private key found"));

    let mut short = params("peer0", &["peer"]);
    short.not_after = date_time_ymd(2020, 1, 2);
    let folder = Folder::new(&root).own(&root.issue(short));
    assert!(folder.signing_error().contains("expired"));

    let folder = Folder::new(&root).own(&Authority::new("other").peer());
    assert!(folder.signing_error().contains("unknown authority"));
}

#[test]
fn ed25519_keys_sign_in_a_local_msp() {
    let root = Authority::new("ca");
    let peer = root.issue_for(params("peer0", &["peer"]), &rcgen::PKCS_ED25519);
    let folder = Folder::new(&root).own(&peer);
    let signing = load_signing_identity(folder.path(), MSP).unwrap();
    assert_eq!(signing.identity().validate(), Ok(()));
    let signature = signing.sign(b"message").unwrap();
    assert_eq!(signing.identity().verify(b"message", &signature), Ok(()));
}
