//! The folders of one organisation.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use selvedge_msp::{MspError, SigningIdentity, load_signing_identity};

use super::authority::{Authority, Issued};
use crate::error::{DevnetError, file_error};

/// What an organisation runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ordering nodes.
    Orderer,
    /// Peers.
    Peer,
}

/// What is to be made for one organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specification {
    /// What it runs.
    pub kind: Kind,
    /// Its name in the channel configuration, such as `Org1`.
    pub name: String,
    /// Its MSP id, such as `Org1MSP`.
    pub msp_id: String,
    /// Its domain, such as `org1.example.com`.
    pub domain: String,
    /// Host names of its nodes, without the domain.
    pub hosts: Vec<String>,
    /// Users besides the administrator, named `User1` and so on.
    pub users: u16,
}

/// An organisation whose folders have been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    specification: Specification,
    folder: PathBuf,
}

/// A folder that holds an MSP.
pub type MspFolder = PathBuf;

/// The files of one end of TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFolder {
    /// Certificate, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificate of the organisation's TLS CA, PEM.
    pub authority: PathBuf,
}

impl Specification {
    /// The ordering organisation of a development network, with one node.
    pub fn orderer() -> Self {
        Self {
            kind: Kind::Orderer,
            name: "Orderer".to_owned(),
            msp_id: "OrdererMSP".to_owned(),
            domain: "example.com".to_owned(),
            hosts: vec!["orderer".to_owned()],
            users: 0,
        }
    }

    /// The peer organisation with this number, counted from 1, with one user.
    pub fn peers(number: u16, peers: u16) -> Self {
        Self {
            kind: Kind::Peer,
            name: format!("Org{number}"),
            msp_id: format!("Org{number}MSP"),
            domain: format!("org{number}.example.com"),
            hosts: (0..peers).map(|peer| format!("peer{peer}")).collect(),
            users: 1,
        }
    }
}

impl Organization {
    /// The organisation whose folders were written below `root` earlier.
    pub fn at(root: &Path, specification: Specification) -> Self {
        let folder = root.join(match specification.kind {
            Kind::Orderer => "ordererOrganizations",
            Kind::Peer => "peerOrganizations",
        });
        Self {
            folder: folder.join(&specification.domain),
            specification,
        }
    }

    /// Makes all keys and certificates of an organisation and writes them below `root`, which is
    /// created; existing material is not overwritten but an error.
    pub fn write(root: &Path, specification: Specification) -> Result<Self, DevnetError> {
        let this = Self::at(root, specification);
        let domain = &this.specification.domain;
        let writer = Writer {
            ca: Authority::new(&format!("ca.{domain}"), domain)?,
            tls_ca: Authority::new(&format!("tlsca.{domain}"), domain)?,
            domain,
            valid_for: None,
        };
        writer.authority(&this.folder.join("ca"), "ca", &writer.ca)?;
        writer.authority(&this.folder.join("tlsca"), "tlsca", &writer.tls_ca)?;
        writer.verifying_msp(&this.msp())?;
        for host in &this.specification.hosts {
            this.write_node(&writer, host)?;
        }
        let users =
            (1..=this.specification.users).map(|number| (format!("User{number}"), "client"));
        for (user, role) in std::iter::once(("Admin".to_owned(), "admin")).chain(users) {
            let name = format!("{user}@{domain}");
            writer.member(&this.user_folder(&user), &name, role, &[])?;
        }
        Ok(this)
    }

    /// Makes keys and certificates of one more node, by the authorities that were written earlier. The
    /// certificates end `valid_for` from now, or with the authorities.
    pub fn add_node(&self, host: &str, valid_for: Option<Duration>) -> Result<(), DevnetError> {
        let writer = Writer {
            ca: self.authority("ca")?,
            tls_ca: self.authority("tlsca")?,
            domain: &self.specification.domain,
            valid_for,
        };
        self.write_node(&writer, host)
    }

    fn write_node(&self, writer: &Writer<'_>, host: &str) -> Result<(), DevnetError> {
        let role = match self.specification.kind {
            Kind::Orderer => "orderer",
            Kind::Peer => "peer",
        };
        let name = self.node_name(host);
        writer.member(&self.node_folder(host), &name, role, &[&name, host])
    }

    /// `ca` or `tlsca`.
    fn authority(&self, kind: &str) -> Result<Authority, DevnetError> {
        let name = format!("{kind}.{}", self.specification.domain);
        let read = |file: &str| {
            let path = self.folder.join(kind).join(file);
            fs::read_to_string(&path).map_err(file_error("cannot read", &path))
        };
        let certificate = read(&format!("{name}-cert.pem"))?;
        Authority::from_pem(&name, certificate, read("priv_sk")?)
    }

    /// What it was made from.
    pub fn specification(&self) -> &Specification {
        &self.specification
    }

    /// The MSP that verifies its members; holds no private key.
    pub fn msp(&self) -> MspFolder {
        self.folder.join("msp")
    }

    /// The full name of one of its nodes, such as `peer0.org1.example.com`.
    pub fn node_name(&self, host: &str) -> String {
        format!("{host}.{}", self.specification.domain)
    }

    /// The MSP of one of its nodes, private key included.
    pub fn node_msp(&self, host: &str) -> MspFolder {
        self.node_folder(host).join("msp")
    }

    /// The signing identity of one of its nodes.
    pub fn node_identity(&self, host: &str) -> Result<SigningIdentity, MspError> {
        load_signing_identity(self.node_msp(host), &self.specification.msp_id)
    }

    /// The TLS files of one of its nodes.
    pub fn node_tls(&self, host: &str) -> TlsFolder {
        TlsFolder::of(&self.node_folder(host).join("tls"), "server")
    }

    /// The MSP of one of its users, `Admin` or `User1` and so on, private key included.
    pub fn user_msp(&self, user: &str) -> MspFolder {
        self.user_folder(user).join("msp")
    }

    /// The signing identity of one of its users.
    pub fn user_identity(&self, user: &str) -> Result<SigningIdentity, MspError> {
        load_signing_identity(self.user_msp(user), &self.specification.msp_id)
    }

    /// The TLS files of one of its users.
    pub fn user_tls(&self, user: &str) -> TlsFolder {
        TlsFolder::of(&self.user_folder(user).join("tls"), "client")
    }

    fn node_folder(&self, host: &str) -> PathBuf {
        let nodes = match self.specification.kind {
            Kind::Orderer => "orderers",
            Kind::Peer => "peers",
        };
        self.folder.join(nodes).join(self.node_name(host))
    }

    fn user_folder(&self, user: &str) -> PathBuf {
        let name = format!("{user}@{}", self.specification.domain);
        self.folder.join("users").join(name)
    }
}

impl TlsFolder {
    fn of(folder: &Path, end: &str) -> Self {
        Self {
            certificate: folder.join(format!("{end}.crt")),
            key: folder.join(format!("{end}.key")),
            authority: folder.join("ca.crt"),
        }
    }
}

struct Writer<'a> {
    ca: Authority,
    tls_ca: Authority,
    domain: &'a str,
    valid_for: Option<Duration>,
}

impl Writer<'_> {
    fn authority(&self, folder: &Path, name: &str, ca: &Authority) -> Result<(), DevnetError> {
        let domain = self.domain;
        let certificate = folder.join(format!("{name}.{domain}-cert.pem"));
        write_file(&certificate, ca.certificate())?;
        write_secret(&folder.join("priv_sk"), ca.key())
    }

    fn verifying_msp(&self, folder: &Path) -> Result<(), DevnetError> {
        let domain = self.domain;
        let ca = format!("cacerts/ca.{domain}-cert.pem");
        let tls_ca = format!("tlscacerts/tlsca.{domain}-cert.pem");
        write_file(&folder.join(&ca), self.ca.certificate())?;
        write_file(&folder.join(tls_ca), self.tls_ca.certificate())?;
        write_file(&folder.join("config.yaml"), &node_ous(&ca))
    }

    fn member(
        &self,
        folder: &Path,
        name: &str,
        role: &str,
        hosts: &[&str],
    ) -> Result<(), DevnetError> {
        let msp = folder.join("msp");
        self.verifying_msp(&msp)?;
        let Issued { certificate, key } = self.ca.issue_identity(name, role, self.valid_for)?;
        let file = format!("{name}-cert.pem");
        write_file(&msp.join("signcerts").join(file), &certificate)?;
        write_secret(&msp.join("keystore").join("priv_sk"), &key)?;

        let end = if hosts.is_empty() { "client" } else { "server" };
        let tls = TlsFolder::of(&folder.join("tls"), end);
        let Issued { certificate, key } = self.tls_ca.issue_tls(name, hosts, self.valid_for)?;
        write_file(&tls.authority, self.tls_ca.certificate())?;
        write_file(&tls.certificate, &certificate)?;
        write_secret(&tls.key, &key)
    }
}

/// An MSP's `config.yaml` that turns the four roles by organisational unit on.
fn node_ous(certificate: &str) -> String {
    let mut text = "NodeOUs:\n    Enable: true\n".to_owned();
    for role in ["client", "peer", "admin", "orderer"] {
        let (first, rest) = role.split_at(1);
        let first = first.to_uppercase();
        text += &format!(
            "    {first}{rest}OUIdentifier:\n        Certificate: {certificate}\n        OrganizationalUnitIdentifier: {role}\n"
        );
    }
    text
}

pub(crate) fn write_file(path: &Path, content: &str) -> Result<(), DevnetError> {
    write_with_mode(path, content, 0o644)
}

fn write_secret(path: &Path, content: &str) -> Result<(), DevnetError> {
    write_with_mode(path, content, 0o600)
}

fn write_with_mode(path: &Path, content: &str, mode: u32) -> Result<(), DevnetError> {
    if let Some(folder) = path.parent() {
        let folder_mode = if mode == 0o600 { 0o700 } else { 0o755 };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(folder_mode);
        builder
            .create(folder)
            .map_err(file_error("cannot create", folder))?;
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(file_error("cannot write", path))
}
