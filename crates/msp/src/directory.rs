//! MSP folders, as cryptogen and fabric-ca-client write them.
//!
//! ```text
//! cacerts/               roots; at least one
//! intermediatecerts/     intermediate certificate authorities
//! admincerts/            admins named by certificate
//! crls/                  revocation lists
//! tlscacerts/            roots of TLS certificates
//! tlsintermediatecerts/  looked at only if there are roots
//! config.yaml            NodeOUs and required organizational units
//! signcerts/, keystore/  the node's own certificate and private key
//! ```
//!
//! As in Fabric, a file without PEM in it is passed over with a warning.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use selvedge_protos::{Message, msp as pb};
use serde::Deserialize;

use crate::error::MspError;
use crate::msp::{Msp, MspVersion};
use crate::pem;

/// No file of an MSP folder is larger than this, revocation lists included.
const MAX_FILE_SIZE: u64 = 16 << 20;

const CONFIG_FILE: &str = "config.yaml";

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Configuration {
    organizational_unit_identifiers: Option<Vec<Unit>>,
    #[serde(rename = "NodeOUs")]
    node_ous: Option<NodeOus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeOus {
    #[serde(rename = "Enable")]
    enable: bool,
    #[serde(rename = "ClientOUIdentifier")]
    client: Option<Unit>,
    #[serde(rename = "PeerOUIdentifier")]
    peer: Option<Unit>,
    #[serde(rename = "AdminOUIdentifier")]
    admin: Option<Unit>,
    #[serde(rename = "OrdererOUIdentifier")]
    orderer: Option<Unit>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Unit {
    certificate: Option<String>,
    organizational_unit_identifier: Option<String>,
}

impl Msp {
    /// Reads an MSP folder and sets up the MSP by the rules of a node's local MSP. Blocking.
    pub fn from_directory(directory: impl AsRef<Path>, msp_id: &str) -> Result<Self, MspError> {
        Self::from_config(
            &msp_config_from_directory(directory, msp_id)?,
            MspVersion::V3_0,
        )
    }
}

/// The definition of an MSP from its folder, as it goes into a channel configuration: without the
/// signing identity. Blocking.
pub fn msp_config_from_directory(
    directory: impl AsRef<Path>,
    msp_id: &str,
) -> Result<pb::MspConfig, MspError> {
    let directory = directory.as_ref();
    let folder = |name: &str| read_pem_folder(&directory.join(name));
    let root_certs = folder("cacerts")?.unwrap_or_default();
    if root_certs.is_empty() {
        return Err(folder_error(
            &directory.join("cacerts"),
            "no ca certificate found",
        ));
    }
    let tls_root_certs = folder("tlscacerts")?.unwrap_or_default();
    let tls_intermediate_certs = if tls_root_certs.is_empty() {
        Vec::new()
    } else {
        folder("tlsintermediatecerts")?.unwrap_or_default()
    };
    let (organizational_unit_identifiers, fabric_node_ous) = read_configuration(directory)?;
    let definition = pb::FabricMspConfig {
        name: msp_id.to_owned(),
        root_certs,
        intermediate_certs: folder("intermediatecerts")?.unwrap_or_default(),
        admins: folder("admincerts")?.unwrap_or_default(),
        revocation_list: folder("crls")?.unwrap_or_default(),
        signing_identity: None,
        organizational_unit_identifiers,
        crypto_config: Some(pb::FabricCryptoConfig {
            signature_hash_family: "SHA2".to_owned(),
            identity_identifier_hash_function: "SHA256".to_owned(),
        }),
        tls_root_certs,
        tls_intermediate_certs,
        fabric_node_ous,
    };
    Ok(pb::MspConfig {
        r#type: 0,
        config: definition.encode_to_vec().into(),
    })
}

/// The files of a folder that hold PEM, by name; `None` if there is no such folder.
pub(crate) fn read_pem_folder(folder: &Path) -> Result<Option<Vec<Bytes>>, MspError> {
    let Some(files) = list_files(folder)? else {
        return Ok(None);
    };
    let mut contents = Vec::new();
    for file in files {
        match read_file(&file) {
            Ok(text) if pem::decode(&text).is_some() => contents.push(text.into()),
            Ok(_) => {
                tracing::warn!(file = %file.display(), "no pem content, file is passed over");
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "unreadable file is passed over");
            }
        }
    }
    Ok(Some(contents))
}

/// The files of a folder in the order of their names; `None` if there is no such folder.
pub(crate) fn list_files(folder: &Path) -> Result<Option<Vec<PathBuf>>, MspError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(folder_error(folder, error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| folder_error(folder, error))?.path();
        // Kubernetes mounts files as links next to a folder.
        if !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(Some(files))
}

pub(crate) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    fs::File::open(path)?
        .take(MAX_FILE_SIZE + 1)
        .read_to_end(&mut contents)?;
    if u64::try_from(contents.len()).is_ok_and(|length| length <= MAX_FILE_SIZE) {
        Ok(contents)
    } else {
        Err(io::Error::other("file is larger than 16 MiB"))
    }
}

pub(crate) fn folder_error(path: &Path, reason: impl ToString) -> MspError {
    MspError::Folder {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

type OrganizationalUnits = (Vec<pb::FabricOuIdentifier>, Option<pb::FabricNodeOUs>);

fn read_configuration(directory: &Path) -> Result<OrganizationalUnits, MspError> {
    let path = directory.join(CONFIG_FILE);
    let text = match read_file(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(folder_error(&path, error)),
    };
    let text = String::from_utf8(text).map_err(|error| folder_error(&path, error))?;
    let configuration = if text.trim().is_empty() {
        Configuration::default()
    } else {
        serde_saphyr::from_str(&text).map_err(|error| folder_error(&path, error))?
    };
    let required = configuration
        .organizational_unit_identifiers
        .unwrap_or_default()
        .into_iter()
        .map(|unit| {
            let path = directory.join(unit.certificate.unwrap_or_default());
            let certificate = read_file(&path).map_err(|error| folder_error(&path, error))?;
            Ok(pb::FabricOuIdentifier {
                certificate: certificate.into(),
                organizational_unit_identifier: unit
                    .organizational_unit_identifier
                    .unwrap_or_default(),
            })
        })
        .collect::<Result<_, MspError>>()?;
    let node_ous = configuration
        .node_ous
        .filter(|node_ous| node_ous.enable)
        .map(|node_ous| pb::FabricNodeOUs {
            enable: true,
            client_ou_identifier: read_node_ou(directory, node_ous.client),
            peer_ou_identifier: read_node_ou(directory, node_ous.peer),
            admin_ou_identifier: read_node_ou(directory, node_ous.admin),
            orderer_ou_identifier: read_node_ou(directory, node_ous.orderer),
        });
    Ok((required, node_ous))
}

/// A certificate that cannot be read is left out with a warning, as in Fabric.
fn read_node_ou(directory: &Path, unit: Option<Unit>) -> Option<pb::FabricOuIdentifier> {
    let unit = unit?;
    let name = unit
        .organizational_unit_identifier
        .filter(|name| !name.is_empty())?;
    let certificate = match unit.certificate.filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = directory.join(path);
            read_file(&path).unwrap_or_else(|error| {
                tracing::warn!(
                    file = %path.display(), %error, unit = name,
                    "Failed loading the certificate of a NodeOU"
                );
                Vec::new()
            })
        }
        None => Vec::new(),
    };
    Some(pb::FabricOuIdentifier {
        certificate: certificate.into(),
        organizational_unit_identifier: name,
    })
}
