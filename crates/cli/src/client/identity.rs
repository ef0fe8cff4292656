//! Who speaks: the identity in the configured MSP folder.

use std::time::SystemTime;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use prost_types::Timestamp;
use rand::RngCore as _;
use selvedge_msp::{SigningIdentity, load_signing_identity};
use selvedge_peer::config::LocalMspConfig;
use selvedge_protos::Message as _;
use selvedge_protos::common::{
    ChannelHeader, Envelope, Header, HeaderType, Payload, SignatureHeader,
};

/// A signing identity and what every message of it begins with.
#[derive(Debug)]
pub struct Identity(SigningIdentity);

impl Identity {
    /// Reads the MSP folder. The errors have Fabric's words where it checks the same.
    pub fn load(config: &LocalMspConfig) -> anyhow::Result<Self> {
        let folder = &config.config_path;
        let found = std::fs::metadata(folder).map_err(|error| {
            anyhow!(
                "cannot init crypto, specified path \"{}\" does not exist or cannot be accessed: {error}",
                folder.display()
            )
        })?;
        if !found.is_dir() {
            bail!(
                "cannot init crypto, specified path \"{}\" is not a directory",
                folder.display()
            );
        }
        let identity = load_signing_identity(folder, &config.id).map_err(|error| {
            anyhow!(
                "error when setting up MSP of type bccsp from directory {}: {error}",
                folder.display()
            )
        })?;
        Ok(Self(identity))
    }

    /// Creator and a fresh nonce.
    pub fn signature_header(&self) -> SignatureHeader {
        let mut nonce = vec![0; 24];
        rand::rng().fill_bytes(&mut nonce);
        SignatureHeader {
            creator: self.0.serialized().clone(),
            nonce: nonce.into(),
        }
    }

    /// A signature over `message`.
    pub fn sign(&self, message: &[u8]) -> anyhow::Result<Bytes> {
        self.0.sign(message).context("cannot sign")
    }

    /// An envelope with `data` in it, signed.
    pub fn envelope(
        &self,
        channel_header: &ChannelHeader,
        data: Bytes,
    ) -> anyhow::Result<Envelope> {
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: self.signature_header().encode_to_vec().into(),
        };
        let payload = Bytes::from(
            Payload {
                header: Some(header),
                data,
            }
            .encode_to_vec(),
        );
        let signature = self.sign(&payload)?;
        Ok(Envelope { payload, signature })
    }
}

/// A channel header with the present time.
pub fn channel_header(kind: HeaderType, channel_id: &str) -> ChannelHeader {
    ChannelHeader {
        r#type: kind.into(),
        timestamp: Some(Timestamp::from(SystemTime::now())),
        channel_id: channel_id.to_owned(),
        ..ChannelHeader::default()
    }
}
